"""Which models are in memory: each is loaded at first use, once however many ask, and stays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future

from bianque.engine import Engine
from bianque.types import Progress

Load = Callable[[str, Callable[[Progress], None]], Engine]


class Loading:
    """One load in flight, shared by everyone who waits for it."""

    def __init__(self, name: str, load: Load) -> None:
        self.progress = Progress(name, "queued", 0.0)
        self.future: Future[Engine] = Future()
        self.load = load

    def start(self) -> None:
        threading.Thread(target=self.run, name=f"load {self.progress.model}", daemon=True).start()

    def run(self) -> None:
        try:
            self.future.set_result(self.load(self.progress.model, self.report))
        except BaseException as error:  # handed to every waiter, who decides
            self.future.set_exception(error)

    def report(self, progress: Progress) -> None:
        self.progress = progress


class Pool:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.lock = threading.Lock()
        self.loads: dict[str, Loading] = {}

    def loaded(self, name: str) -> bool:
        found = self.loads.get(name)
        return found is not None and found.future.done() and found.future.exception() is None

    def prepare(self, name: str) -> Loading:
        """Begin loading unless that has begun; a load that failed is begun again."""
        with self.lock:
            found = self.loads.get(name)
            if found is None or (found.future.done() and found.future.exception() is not None):
                found = self.loads[name] = Loading(name, self.load)
                found.start()
            return found

    async def loading(self, name: str) -> AsyncGenerator[Progress, None]:
        """Progress until the model is there, at most ten times a second; raises what the load raised."""
        loading = self.prepare(name)
        if loading.future.done():  # wrapped, it would seem under way for one turn of the event loop
            loading.future.result()
            return
        shown = None
        waiting = asyncio.wrap_future(loading.future)
        # Whoever left before a failure leaves its future behind: asyncio would complain that nobody looked at it.
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        while not waiting.done():
            if loading.progress != shown:
                shown = loading.progress
                yield shown
            await asyncio.wait({waiting}, timeout=0.1)  # cancels nothing when this visitor leaves
        waiting.result()

    def engine(self, name: str) -> Engine:
        """The engine of a model that `loading` has brought in."""
        return self.loads[name].future.result(timeout=0)

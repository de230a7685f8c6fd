"""Tokens in, tokens out: one thread a model, in which all replies under way are written together, a token a turn.

Who comes is read between two turns, a slice at a time, and joins; who is done, or has left, makes room before the next
turn. The rows of a turn are the first slots of the cache, so that a model sees one dense batch.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bianque.engine.sampler import Sampler
from bianque.errors import Busy
from bianque.models.base import Model
from bianque.nn.cpu import Cores
from bianque.types import Sampling

SLICE = 0.1  # seconds of a newcomer's prompt for which the others wait, or one layer if that takes longer
THREAD = "decode"
IDLE = 60.0  # seconds without work after which the cache goes

leaving = threading.Event()


@atexit.register
def leave() -> None:
    """The interpreter ends: it would tear a thread out of torch in the middle of a step, which aborts the process."""
    leaving.set()
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(10)


class Recorder(Protocol):
    """Makes the steps of one model faster: CUDA graphs (`cuda_graphs.py`), or TorchScript (`traces.py`)."""

    @property
    def failed(self) -> bool:
        """Whether it turned out that it cannot: then steps are plain ones."""

    def steps(self, model: Model, cache: Any, slots: int) -> Callable[[Tensor], Tensor]:
        """`model.step` in the first slots of a cache, of which there are so many."""


def steps(recorder: Recorder | None, model: Model, cache: Any, slots: int) -> Callable[[Tensor], Tensor]:
    """A recorder's, or plain ones without it."""
    return recorder.steps(model, cache, slots) if recorder else lambda ids: model.step(ids, cache)


@dataclass(frozen=True, slots=True)
class Ahead:
    """So many are served before this reply begins."""

    count: int


Item = int | Ahead | BaseException | None  # None: the reply is over


class Row:
    """One reply in the making. What was made for it waits in `made`, which belongs to its event loop."""

    def __init__(self, prompt: list[int], sampling: Sampling, loop: asyncio.AbstractEventLoop) -> None:
        self.prompt, self.sampling, self.loop = prompt, sampling, loop
        self.made: list[Item] = []
        self.came = asyncio.Event()
        self.dropped = threading.Event()
        self.ahead = 0
        self.last = self.count = 0  # the newest token, and how many there are

    async def next(self) -> list[Item]:
        await self.came.wait()
        self.came.clear()
        made, self.made = self.made, []
        return made


class Post:
    """Carries what a turn made to the visitors' event loops, each of which is woken once."""

    def __init__(self) -> None:
        self.bags: dict[asyncio.AbstractEventLoop, list[tuple[Row, Item]]] = {}

    def put(self, row: Row, item: Item) -> None:
        self.bags.setdefault(row.loop, []).append((row, item))

    def send(self) -> None:
        for loop, bag in self.bags.items():
            try:
                loop.call_soon_threadsafe(deliver, bag)
            except RuntimeError:  # the event loop is gone, and its visitors with it
                for row, _ in bag:
                    row.dropped.set()
        self.bags = {}


def deliver(bag: Sequence[tuple[Row, Item]]) -> None:
    for row, item in bag:
        row.made.append(item)
        row.came.set()


class Decoder:
    """Runs a model for many replies at once; `stream` is the whole interface.

    `room` are the most tokens of a prompt and of a reply, for each of the `slots` that write at the same time. With a
    `recorder`, steps are recorded and played back; `cores` are shared with other decoders. The thread is there while
    there is work, the cache a minute longer.
    """

    def __init__(
        self,
        model: Model,
        ends: Collection[int],
        device: str,
        room: tuple[int, int],
        slots: int = 8,
        max_waiting: int = 32,
        recorder: Recorder | None = None,
        cores: Cores | None = None,
    ) -> None:
        self.recorder, self.cores = recorder, cores or Cores(torch.get_num_threads())
        self.model, self.ends, self.device, self.room = model, ends, device, room
        self.slots, self.max_waiting = slots, max_waiting
        self.waiting: deque[Row] = deque()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.batch: Batch | None = None
        self.rest: threading.Timer | None = None  # until the cache goes

    def close(self) -> None:
        """Let the cache and all recordings go, once nobody's reply is under way."""
        if thread := self.thread:
            thread.join()
        self.recorder = None
        if self.rest:
            self.rest.cancel()
        self.forget()

    async def stream(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[list[int] | Ahead, None]:
        """Reply tokens as they come, without the end token, and before them who is ahead.

        Closing the iterator drops the row before the next turn. Busy if too many wait already.
        """
        row = Row(prompt, sampling, asyncio.get_running_loop())
        with self.lock:
            if len(self.waiting) >= self.max_waiting:
                raise Busy(
                    f"正在排队的人太多 ({self.max_waiting})，请稍后再试 (too many are waiting; try again shortly)"
                )
            self.waiting.append(row)
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name=THREAD, daemon=True)
                self.thread.start()
        try:
            over = False
            while not over:
                made = await row.next()
                if tokens := [item for item in made if isinstance(item, int)]:
                    yield tokens
                for item in made:
                    if isinstance(item, BaseException):
                        raise item
                    if isinstance(item, Ahead):
                        yield item
                    over = over or item is None
        finally:
            row.dropped.set()
            with self.lock, suppress(ValueError):  # who leaves the queue makes room in it
                self.waiting.remove(row)

    @torch.inference_mode()
    def run(self) -> None:
        """The thread: turns as long as there is work."""
        try:
            batch = self.batch = self.batch or Batch(self)
            with self.cores.share() as take:
                while not leaving.is_set() and self.work(batch):
                    take()
                    for part in (batch.leave, batch.read, batch.write):
                        part()
                        batch.post.send()  # nobody's first word waits for the others' next
        except BaseException as error:  # no memory for the cache, or a fault of ours: nobody is left waiting
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        batch = self.batch
        post = batch.post if batch else Post()
        with self.lock:
            self.thread = self.batch = None
            for row in (*(batch.everybody if batch else ()), *self.waiting):
                post.put(row, error)
            self.waiting.clear()
        post.send()

    def forget(self) -> None:
        with self.lock:
            if self.thread is None:
                self.batch = None

    def work(self, batch: Batch) -> bool:
        """Let the next one in if there is room, and tell the others how many are ahead; False if all is quiet."""
        with self.lock:
            if not batch.everybody and not self.waiting:
                self.thread = None
                if self.rest:
                    self.rest.cancel()
                self.rest = threading.Timer(IDLE, self.forget)
                self.rest.daemon = True
                self.rest.start()
                return False
            if self.waiting and batch.free:
                batch.begin(self.waiting.popleft())
            for i, row in enumerate(self.waiting, 1):
                if row.ahead != i:
                    row.ahead = i
                    batch.post.put(row, Ahead(i))
        return True


@dataclass(frozen=True, slots=True)
class Page:
    """A prompt that a slot holds: how far the slot had come when it was read, and the logits [vocab] that followed."""

    prompt: list[int]
    mark: Any
    logits: Tensor


class Batch:
    """What the thread works on: the rows that write, in the first slots, and the one that is read behind them.

    A slot keeps its prompt when its reply is over, until another needs the place: the same prompt is not read again.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.model, self.ends, self.device = decoder.model, decoder.ends, decoder.device
        self.slots = decoder.slots
        self.cache = self.model.slots(self.slots, *decoder.room)
        self.step = steps(decoder.recorder, self.model, self.cache, self.slots)
        self.sampler: Sampler | None = None  # the first logits tell the size of the vocabulary
        self.rows: list[Row] = []
        self.held: list[Page | None] = [None] * self.slots
        self.newcomer: Row | None = None
        self.pages: Generator[None, None, Tensor] | None = None
        self.place = 0  # the newcomer's slot
        self.post = Post()

    @property
    def everybody(self) -> list[Row]:
        return [*self.rows, *([self.newcomer] if self.newcomer else [])]

    @property
    def free(self) -> bool:
        return self.newcomer is None and len(self.rows) < self.slots

    def begin(self, row: Row) -> None:
        self.newcomer, self.place, self.pages = row, len(self.rows), None

    def leave(self) -> None:
        """Whoever has gone makes room."""
        if self.newcomer and self.newcomer.dropped.is_set():
            self.newcomer = self.pages = None
        for slot in reversed(range(len(self.rows))):
            if self.rows[slot].dropped.is_set():
                self.remove(slot)

    def remove(self, slot: int) -> None:
        """The last row takes the slot of one that is over."""
        last = self.rows.pop()
        if slot < len(self.rows):
            self.rows[slot] = last
            self.move(len(self.rows), slot)
            assert self.sampler is not None, "a row that never wrote"
            self.sampler.move(len(self.rows), slot)

    def move(self, source: int, target: int) -> None:
        self.cache.copy(source, target, self.cache.mark(source))
        self.held[target] = self.held[source]

    def read(self) -> None:
        """Go on with the newcomer's prompt: to its end, or for a slice if others want to write."""
        row, until = self.newcomer, time.monotonic() + SLICE
        if row is None:
            return
        try:
            if self.pages is None:
                self.pages = self.open(row.prompt)
            try:
                while not row.dropped.is_set():
                    next(self.pages)
                    if self.rows and self.spent(until):
                        return
            except StopIteration as done:
                self.join(row, done.value)
        except Exception as error:  # reaches the visitor's side, which logs it and speaks calmly
            self.post.put(row, error)
        self.newcomer = self.pages = None

    def open(self, prompt: list[int]) -> Generator[None, None, Tensor]:
        """Read a prompt into the newcomer's slot, unless a slot holds it: a reply is often tried again, or compared."""
        for slot, page in enumerate(self.held):
            if page and page.prompt == prompt:
                self.cache.copy(slot, self.place, page.mark)
                self.held[self.place] = page
                return page.logits
        self.held[self.place] = None
        return (yield from self.model.prefill(torch.tensor(prompt, device=self.device), self.cache, self.place))

    def spent(self, until: float) -> bool:
        """Whether it is later than `until`, all that a GPU was given included."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.monotonic() > until

    def join(self, row: Row, logits: Tensor) -> None:
        """A prompt is read: its row stands behind the others, and says its first token."""
        slot = len(self.rows)
        if self.place != slot:  # somebody left meanwhile
            self.move(self.place, slot)
        self.held[slot] = Page(row.prompt, self.cache.mark(slot), logits)
        if self.sampler is None:
            self.sampler = Sampler(self.slots, len(logits), self.ends, self.device)
        self.sampler.join(slot, row.sampling, self.model.said(row.prompt))
        self.rows.append(row)
        self.say(slot, self.sampler.draw(logits[None], slot))

    def write(self) -> None:
        """One turn: a token for every row."""
        if not self.rows:
            return
        assert self.sampler is not None, "rows that were never read"
        ids = torch.tensor([row.last for row in self.rows], device=self.device)
        try:
            logits = self.step(ids)
        except Exception:  # whose fault was it?
            self.write_apart(ids, self.sampler)
        else:
            self.say(0, self.sampler.draw(logits))

    def write_apart(self, ids: Tensor, sampler: Sampler) -> None:
        """A turn, one row after the other: an error ends its own row alone."""
        for slot in reversed(range(len(self.rows))):  # what is over gives its slot to one that has had its turn
            try:
                logits = self.model.step(ids[slot : slot + 1], self.cache, slot)
            except Exception as error:
                self.fail(slot, error)
            else:
                self.say(slot, sampler.draw(logits, slot))

    def fail(self, slot: int, error: Exception) -> None:
        self.post.put(self.rows[slot], error)
        self.cache.wipe(slot)
        self.held = [page if page and page.prompt != self.rows[slot].prompt else None for page in self.held]
        self.remove(slot)

    def say(self, first: int, tokens: Sequence[int]) -> None:
        """Hand the rows from slot `first` on their tokens; those that are over leave, the last one first."""
        for slot, token in reversed(list(enumerate(tokens, first))):
            row = self.rows[slot]
            if token < 0:
                self.fail(slot, ArithmeticError("the model's scores are not numbers"))
                continue
            if token not in self.ends:
                row.last, row.count = token, row.count + 1
                self.post.put(row, token)
            if token in self.ends or row.count >= row.sampling.max_new_tokens:
                self.post.put(row, None)
                self.remove(slot)

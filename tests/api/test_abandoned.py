"""Whoever leaves `/chat` while a model loads leaves nothing behind: no lease, no place in the queue, no download."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import aclosing
from urllib.parse import urlsplit

import pytest

from bianque.backends.pool import Cancelled, Pool
from bianque.catalog.builtin import CARDS
from bianque.catalog.footprint import LoadPlan
from bianque.consult.session import Session
from bianque.types import Piece, Progress
from bianque.ui import serve
from bianque.ui.page import Page
from tests.conftest import ROOT, free_port


class Downloading:
    """A backend over a pool whose every model is on its way for ever; `silent`: with no word of how far."""

    def __init__(self, silent: bool) -> None:
        self.silent, self.under_way = silent, 0
        self.pool = Pool(self.load, lambda engine: None, lambda name: [LoadPlan(16, 1, True, 1)], lambda: 10)

    def load(self, name, fit, report):
        self.under_way += 1
        try:
            for step in range(10**6):
                report(Progress(name, "downloading", 0.0 if self.silent else step / 10**6))
                time.sleep(0.01)
        except Cancelled:
            self.under_way -= 1
            raise

    def models(self):
        return CARDS

    def loaded(self, model):
        return False

    def kernel(self, model):
        return None

    def prepare(self, model):
        pass

    async def stream(self, model, dialogue, sampling):
        async with self.pool.lease(model) as lease, aclosing(lease.loading()) as coming:
            async for progress in coming:
                yield Piece(progress=progress)


def seconds_until(condition) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 30
        time.sleep(0.01)
    return time.monotonic() - begun


def left(backend: Downloading, address: str) -> float:
    """Seconds from when a caller hangs up until nothing of the call is left."""
    line = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    call = {"data": ["我最近总是头痛", None, "ask", None, None, None, None, None, None]}
    line.request("POST", "/gradio_api/call/chat", json.dumps(call), {"Content-Type": "application/json"})
    event = json.load(line.getresponse())["event_id"]
    line.request("GET", f"/gradio_api/call/chat/{event}")
    answer = line.getresponse()
    seconds_until(lambda: backend.under_way == 1)
    answer.close()
    line.close()
    return seconds_until(lambda: not (backend.under_way or backend.pool.queue or backend.pool.residents))


@pytest.mark.parametrize("silent", [False, True])
def test_an_abandoned_call_frees_queue_place_and_download_within_a_second(silent):
    backend = Downloading(silent)
    page = Page(Session(backend, "ask-mini", "advise-mini"), ROOT / "examples.json")
    here = {"server_name": "127.0.0.1", "server_port": free_port()}
    demo = page.build()
    _, address, _ = serve.launch(demo, page.session, **here, prevent_thread_lock=True)
    try:
        assert min(left(backend, address) for _ in range(3)) < 1  # a busy machine may be late once or twice
    finally:
        demo.close(verbose=False)

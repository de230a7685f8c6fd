"""Slow things are made once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from bianque.once import once


def test_who_asks_meanwhile_waits_and_gets_the_same():
    made, asked = [], threading.Barrier(4)

    @once
    def slow() -> object:
        made.append(object())
        threading.Event().wait(0.2)
        return made[-1]

    def ask(_: int) -> object:
        asked.wait()
        return slow()

    with ThreadPoolExecutor(4) as threads:
        assert {*threads.map(ask, range(4))} == {made[0]} and len(made) == 1

"""Slow things are made once."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

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


def test_nothing_is_collected_while_it_is_made_and_all_is_again_afterwards():
    seen = []

    @once
    def made():
        seen.append(gc.isenabled())
        raise ValueError

    for _ in range(2):  # an error is no reason to stop collecting, and is not kept
        with pytest.raises(ValueError):
            made()
    assert seen == [False, False] and gc.isenabled()
    gc.disable()
    try:
        with pytest.raises(ValueError):
            made()
        assert not gc.isenabled()  # who wanted none has none
    finally:
        gc.enable()

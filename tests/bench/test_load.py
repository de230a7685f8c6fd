"""Visitors in a closed loop over HTTP: all are counted, and who is too many is told so at once, through both doors."""

from __future__ import annotations

import asyncio
from itertools import count
from types import SimpleNamespace

from bianque.bench import load
from bianque.bench.load import Tally
from bianque.errors import Busy
from tests.conftest import Scripted, afresh, serving

ROOM, VISITORS = 42, 46  # more than the threads that Gradio has without being told


class Full(Scripted):
    """Holds `ROOM` replies open until all visitors have come, and refuses the others."""

    come = inside = 0

    async def stream(self, model, dialogue, sampling):
        self.come += 1
        if self.inside >= ROOM and self.come <= VISITORS:  # later ones are second models of a turn
            raise Busy(f"正在排队的人太多，请 {Busy.retry_after} 秒后再试")
        self.inside += 1
        while self.come < VISITORS:
            await asyncio.sleep(0.01)
        async for piece in super().stream(model, dialogue, sampling):
            yield piece


def test_who_is_too_many_hears_it_from_us_and_everybody_else_is_served():
    with serving() as (address, voices):
        voices.__class__ = Full
        afresh(voices).pause = 0.0
        tally = asyncio.run(load.level(address, VISITORS, 0.0, 16, count()))
    assert sum(tally.turns.values()) == len(tally.firsts) == ROOM
    assert dict(tally.errors) == {"BQ_BUSY": VISITORS - ROOM}
    assert all(first > 0 for first in tally.firsts) and tally.tokens > 0


def test_a_consultation_goes_on_through_both_doors(monkeypatch):
    monkeypatch.setattr(load, "time", SimpleNamespace(perf_counter=count().__next__))  # time passes with each look
    with serving() as (address, voices):
        afresh(voices).pause = 0.0
        found = asyncio.run(load.level(address, 2, 30, 16, count()))
        heard = [len(dialogue) for _, dialogue, _ in voices.heard]
    assert not found.errors and all(found.turns[visitor] for visitor in (0, 1))
    assert {1, 3} <= set(heard)


def test_a_row_of_the_table():
    tally = Tally(2, firsts=[0.1, 0.2, 0.3], tokens=30, seconds=2.0, memory=5_000_000)
    tally.turns.update({0: 2, 1: 1})
    tally.errors["BQ_BUSY"] += 1
    assert tally.row() == ["2", "3", "0.20", "0.29", "15.0", "1/2", "BQ_BUSY 1", "5"]
    assert Tally(1).row() == ["1", "0", "–", "–", "–", "0/0", "0", "–"]

"""The soak's verdict, and that visitors of every kind leave nothing behind at a scripted server."""

from __future__ import annotations

import asyncio
import os
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from bianque.bench import soak
from bianque.bench.load import Tally
from bianque.bench.soak import ServerSample
from tests.conftest import afresh, serving


def samples(grows: int = 0, threads: int = 20, sockets: int = 5) -> list[ServerSample]:
    busy = [ServerSample(5.0 * n, 10**9 + grows * n, 20, 5, 15, 10 * n) for n in range(40)]
    return [*busy, ServerSample(220.0, 10**9, threads, 5, sockets, 400)]


def test_the_verdict():
    tally = Tally(1)
    tally.errors["BQ_BUSY"] = 3  # refused is not lost
    assert soak.judged(samples(), tally) == []
    assert "memory went from" in soak.judged(samples(grows=5_000_000), tally)[0]
    assert soak.judged(samples(threads=30, sockets=30), tally) == [
        "threads: 30 when all had left, 20 at most after warming up", "sockets: 30 when all had left, 15 at most after warming up",
    ]  # fmt: skip
    tally.errors["ReadError"] = 1
    assert soak.judged(samples(), tally) == ["replies lost: ReadError 1"]


def test_what_comes_while_warming_up_is_not_judged_and_grey_in_the_plot():
    cold = [ServerSample(5.0 * n, 10**9 if n >= 120 else 10**6 * n, 20, 5, 15, n) for n in range(360)]
    found = [*cold, ServerSample(1820.0, 10**9, 20, 5, 5, 360)]
    assert soak.warmed(found) == 600.0 and soak.judged(found, Tally(1)) == []
    assert soak.warmed(found[:20]) == found[18].seconds / 2  # a short run
    plot = ElementTree.fromstring(soak.drawn(found))
    assert [len(line.get("points").split()) for line in plot.findall(".//{*}polyline")] == [361] * 4
    assert plot.find("{*}rect").get("width") == f"{600 / 1820 * 640:.1f}"


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
def test_visitors_of_every_kind_are_answered_and_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "QUIET", 0.0)
    asked = SimpleNamespace(minutes=0, visitors=len(soak.DOORS), tokens=16)
    with serving() as (address, voices):
        afresh(voices).pause = 0.0
        here = SimpleNamespace(pid=os.getpid())
        found, tally = asyncio.run(soak.soaked(address, here, asked, tmp_path / "soak.csv"))
    assert not tally.errors and all(tally.turns[place] for place in range(len(soak.DOORS)))
    lines = (tmp_path / "soak.csv").read_text().splitlines()
    assert lines[0] == "seconds,memory,threads,files,sockets,turns" and len(lines) == len(found) + 1
    assert found[-1].turns == len(soak.DOORS) and found[-1].memory > 0 < found[-1].sockets

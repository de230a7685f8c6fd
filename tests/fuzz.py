"""Hostile input, as much as is wanted: `python -m tests.fuzz --cases 1000000` counts what came of each case.

A case is a sound example, spoiled by a number: `--area readers --first 4711 --cases 1` makes the same one again. What
may come of it is a result or an error with a code; a trace, or no answer within LONGEST seconds, is a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import Any

from bianque.errors import BianQueError
from tests import fuzz_areas, spoil

LONGEST = 20.0  # seconds
SLOW = 1.0  # seconds after which a case is named; others wait for none of them
FAULTS = ("trace", "hang")


class Hang(BaseException):
    """Nothing came in time."""


@contextmanager
def watched() -> Iterator[None]:
    """Hang, where the platform has the signal, once LONGEST seconds are over."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def over(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Counted:
    """The outcomes of an area's cases; the first faults with what is needed to see them again."""

    def __init__(self, area: str) -> None:
        self.area, self.outcomes, self.faults = area, Counter[str](), list[str]()
        self.slowest = (0.0, 0)  # seconds, and of which case

    def take(self, number: int, run: Callable[[], str]) -> None:
        begun = time.perf_counter()
        try:
            with watched():
                outcome = run()
        except BianQueError as error:
            outcome = error.code
        except (Hang, asyncio.TimeoutError):
            outcome = "hang"
        except Exception as error:
            outcome = f"trace {type(error).__name__}"
            self.faults.append(f"{self.area} {number}\n{traceback.format_exc(limit=-6)}")
        self.outcomes[outcome] += 1
        if outcome.startswith(FAULTS) and not (self.faults and self.faults[-1].startswith(f"{self.area} {number}\n")):
            self.faults.append(f"{self.area} {number}\n{outcome}")
        self.slowest = max(self.slowest, (time.perf_counter() - begun, number))

    def __str__(self) -> str:
        seconds, number = self.slowest
        found = "  ".join(f"{outcome} {count}" for outcome, count in self.outcomes.most_common())
        late = f"  (slowest: case {number}, {seconds:.2f} s)" if seconds >= SLOW else ""
        return f"{self.area:8} {self.outcomes.total():>8} cases: {found}{late}"


def fuzz(area: str, cases: int, first: int = 0, told: Callable[[str], None] = lambda line: None) -> Counted:
    """Cases `first` … of an area, counted."""
    counted, begun = Counted(area), time.monotonic()
    opened: AbstractContextManager[fuzz_areas.Area] = fuzz_areas.AREAS[area]()
    with opened as (made, run):
        for number in range(first, first + cases):
            case = made(Random(f"{area} {number}"))
            counted.take(number, lambda case=case: run(case))  # type: ignore[misc]
            if time.monotonic() - begun > 30:
                told(str(counted))
                begun = time.monotonic()
    return counted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="in all; those that need a server are fewer")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--area", action="append", choices=[*fuzz_areas.AREAS], help="default: each")
    parser.add_argument("--show", action="store_true", help="print the cases, and run none")
    asked = parser.parse_args()
    areas = asked.area or [*fuzz_areas.AREAS]
    shares = {area: fuzz_areas.SHARES[area] for area in areas}
    faults = 0
    for area, share in shares.items():
        if asked.show:
            with fuzz_areas.AREAS[area]() as (made, _):
                for number in range(asked.first, asked.first + asked.cases):
                    print(area, number, spoil.shown(made(Random(f"{area} {number}"))))
            continue
        cases = max(1, round(asked.cases * share / sum(shares.values())))
        counted = fuzz(area, cases, asked.first, lambda line: print(line, file=sys.stderr, flush=True))
        print(counted, flush=True)
        kinds = {fault.partition("\n")[2]: fault for fault in reversed(counted.faults)}  # one of each
        for fault in kinds.values():
            print(fault, file=sys.stderr, flush=True)
        faults += sum(n for outcome, n in counted.outcomes.items() if outcome.startswith(FAULTS))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

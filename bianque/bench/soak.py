"""`python -m bianque bench soak`: half an hour of visitors of every kind, and whether anything of them stays behind.

They consult through the page's own queue, `/chat` and `/v1`; some leave in the middle of a reply, and some call and never
come for the answer. The server's memory, threads, files and sockets are sampled into a CSV all the while, and drawn.
"""

from __future__ import annotations

import asyncio
import csv
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from bianque.bench import load, rounds
from bianque.bench.load import Parts, Refused, Tally
from bianque.bench.page import served
from bianque.nn import cpu

EVERY = 5.0  # seconds between two samples
# What is not judged: weights, traces and knowledge are loaded meanwhile, and results that nobody fetches wait ten minutes
# for their callers, so that only then as many go as come. A run of less than twice that is judged by its second half.
WARM = 600.0  # seconds
FLAT = 0.05  # by how much memory may differ between the first and the last quarter of what is judged
# Seconds until who left, or did not wait, sends the next message: with none they take the server from all others, whose
# turns then last minutes, and what is measured is the queue.
AWAY = 10.0
QUIET = 20.0  # seconds after the last visitor until what is left is counted


@dataclass(frozen=True, slots=True)
class ServerSample:
    """A server at one moment: seconds since the start, bytes, counts, and the turns that have been answered."""

    seconds: float
    memory: int
    threads: int
    files: int
    sockets: int
    turns: int


def sample(pid: int, seconds: float, turns: int) -> ServerSample:
    """From /proc; OSError where there is none (not Linux)."""
    place = Path(f"/proc/{pid}")
    opened = []
    for link in (place / "fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            opened.append(str(link.readlink()))
    sockets = sum(name.startswith("socket:") for name in opened)
    threads = sum(1 for _ in (place / "task").iterdir())
    return ServerSample(seconds, cpu.resident_memory(pid) or 0, threads, len(opened) - sockets, sockets, turns)


async def by_page(client: httpx.AsyncClient, said: str, history: list[Any], tokens: int, seed: int) -> Parts:
    """A message of the page's own box, in a session of its own, which ends with its heartbeat as a closed tab's does."""
    config = (await client.get("/config")).json()
    place, event = next(
        (i, e) for i, e in enumerate(config["dependencies"]) if e["queue"] and "submit" in str(e["targets"])
    )
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    given = [said if part == event["targets"][0][0] else values.get(part) for part in event["inputs"]]
    session = f"soak{seed}x{time.monotonic_ns()}"
    joined: dict[str, Any] = {"session_hash": session, "fn_index": place, "data": given}
    async with client.stream("GET", f"/gradio_api/heartbeat/{session}"):
        load.accepted(await client.post("/gradio_api/queue/join", json=joined))
        async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as answer:
            async for line in answer.aiter_lines():
                if "process_generating" in line:
                    yield said, 0
                elif '"success":false' in line.replace(": ", ":"):
                    raise Refused(load.code_in(line, 500))
                elif "process_completed" in line:
                    return


def left(door: Callable[..., Parts]) -> Callable[..., Parts]:
    """A visitor who goes away at the first text, and comes back after a while."""

    async def first(*given: Any) -> AsyncIterator[tuple[str, int]]:
        async with aclosing(door(*given)) as parts:  # type: ignore[type-var]
            async for part in parts:
                yield part
                break
        await asyncio.sleep(AWAY)

    return first


async def uncalled(client: httpx.AsyncClient, said: str, history: list[Any], tokens: int, seed: int) -> Parts:
    """A call whose answer nobody fetches."""
    given = {"data": [said, history, "auto", None, None, None, None, tokens, seed]}
    load.accepted(await client.post(load.CHAT, json=given))
    await asyncio.sleep(AWAY)
    yield said, 0


DOORS = (by_page, load.by_chat, load.by_v1, left(load.by_chat), left(load.by_v1), uncalled, left(by_page))


async def soaked(
    address: str, server: subprocess.Popen[bytes], options: Any, csv_file: Path
) -> tuple[list[ServerSample], Tally]:
    seconds = options.minutes * 60
    tally, begun, numbers = Tally(options.visitors), time.monotonic(), count()
    found: list[ServerSample] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    with csv_file.open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(field.name for field in fields(ServerSample))

        def look() -> None:
            found.append(sample(server.pid, round(time.monotonic() - begun, 1), tally.turns.total()))
            rows.writerow(asdict(found[-1]).values())
            opened.flush()

        async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits, trust_env=False) as client:
            until = time.perf_counter() + seconds
            visits = [
                asyncio.ensure_future(
                    load.visit(client, place, until, options.tokens, numbers, tally, DOORS[place % len(DOORS)])
                )
                for place in range(options.visitors)
            ]
            while not all(visit.done() for visit in visits):
                look()
                await asyncio.wait(visits, timeout=EVERY)
            await asyncio.gather(*visits)
        await asyncio.sleep(QUIET)
        look()
    return found, tally


def warmed(found: list[ServerSample]) -> float:
    """Seconds after which a run is judged."""
    return min(WARM, found[-2].seconds / 2)


def drawn(found: list[ServerSample], wide: int = 640, high: int = 90) -> str:
    """An SVG: memory, threads, files and sockets over time, each from nothing to its most; what is judged is not grey."""
    end, marks = found[-1].seconds or 1.0, list[str]()
    for row, (name, unit) in enumerate((("memory", 1e6), ("threads", 1), ("files", 1), ("sockets", 1))):
        values = [getattr(one, name) / unit for one in found]
        most, below = max(*values, 1), row * (high + 30) + high + 20
        line = " ".join(
            f"{one.seconds / end * wide:.1f},{below - v / most * high:.1f}"
            for one, v in zip(found, values, strict=True)
        )
        title = f"{name}{' MB' if unit > 1 else ''}: {min(values):.0f}–{max(values):.0f}, {values[-1]:.0f} when all had left"
        marks += [f'<text x="0" y="{below - high - 6}">{title}</text>', f'<path d="M0 {below}H{wide}" stroke="#999"/>',
                  f'<polyline points="{line}" fill="none" stroke="#22694f" stroke-width="1.5"/>']  # fmt: skip
    tall, warm = 4 * (high + 30), warmed(found) / end * wide
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall + 14}" font-family="sans-serif" font-size="12">'
        f'<rect width="{warm:.1f}" height="{tall}" fill="#eee"/>{"".join(marks)}'
        f'<text x="0" y="{tall + 6}">0–{end:.0f} s, {found[-1].turns} turns; grey: warm-up, not judged</text></svg>\n'
    )


def judged(found: list[ServerSample], tally: Tally) -> list[str]:
    """What is not as it should be, a sentence each; none if all is well."""
    warm = warmed(found)
    busy = [one for one in found[:-1] if one.seconds >= warm]
    quarter = max(1, len(busy) // 4)
    wrong = []
    first, last = (statistics.median(one.memory for one in part) for part in (busy[:quarter], busy[-quarter:]))
    if abs(last / first - 1) > FLAT:
        wrong.append(f"memory went from {first / 1e6:.0f} to {last / 1e6:.0f} MB ({last / first - 1:+.1%})")
    for name in ("threads", "files", "sockets"):
        most, rest = max(getattr(one, name) for one in busy[:quarter]), getattr(found[-1], name)
        if rest > most:
            wrong.append(f"{name}: {rest} when all had left, {most} at most after warming up")
    if lost := {code: n for code, n in tally.errors.items() if code != "BQ_BUSY"}:
        wrong.append(f"replies lost: {', '.join(f'{code} {n}' for code, n in lost.items())}")
    return wrong


def soak(options: Any) -> None:
    """Ends with status 1 if memory grew, something was left open, or a reply was lost."""
    with served() as (address, server):
        asyncio.run(load.level(address, 1, 0.0, options.tokens, count()))  # which loads both models
        found, tally = asyncio.run(soaked(address, server, options, options.csv))
    for one in (found[0], found[len(found) // 2], found[-2], found[-1]):
        print(f"{one.seconds:7.0f} s  {one.memory / 1e6:6.0f} MB  {one.threads} threads  {one.files} files  "
              f"{one.sockets} sockets  {one.turns} turns", flush=True)  # fmt: skip
    wrong = judged(found, tally)
    print("\n".join(wrong) or "flat: memory within 5 %, nothing left open, nothing lost")
    plot = options.csv.with_suffix(".svg")
    plot.write_text(drawn(found), encoding="utf-8")
    print(f"judged from second {warmed(found):.0f} on; every sample: {options.csv}, drawn: {plot}")
    rounds.save(options, samples=[asdict(one) for one in found], wrong=wrong, **tally.figures())
    if wrong:
        raise SystemExit(1)

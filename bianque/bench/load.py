"""`python -m bianque bench load`: visitors in a closed loop over HTTP: first text, tokens a second, refusals, memory.

Each visitor consults the bundled pair in four turns, over and over, one half of them through `/chat` (the page's own
queue) and the other through `/v1`, and sends the next message when the reply is there. One visitor at a time is the
peer that the others are held against.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from bianque import tables
from bianque.bench import rounds
from bianque.bench.page import served
from bianque.nn import cpu

OPENINGS = ("我最近总是失眠，怎么办？", "我头痛两天了，怎么办？", "孩子咳嗽一周了，要紧吗？", "胃不舒服，吃什么好？")
ANSWERS = ("有一个月了", "没有别的不舒服", "直接给我建议吧")
CHAT, V1 = "/gradio_api/call/chat", "/v1/chat/completions"
CODE = re.compile(r"BQ_[A-Z_]+")
HEAD = ("visitors", "turns", "first text p50 s", "p95 s", "tokens/s", "slowest/fastest visitor", "errors", "memory MB")


Parts = AsyncIterator[tuple[str, int]]  # the reply so far, and tokens that are reported with it


class Refused(Exception):
    """A reply that did not come; its argument is the error's code."""


@dataclass(slots=True)
class Tally:
    """What so many visitors saw in one level."""

    visitors: int
    firsts: list[float] = field(default_factory=list)  # seconds to a turn's first text
    turns: Counter[int] = field(default_factory=Counter)  # by visitor
    errors: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    seconds: float = 0.0
    memory: int | None = None  # bytes of the server, after

    def row(self) -> list[str]:
        p50, p95 = (f"{percentile(self.firsts, p):.2f}" if self.firsts else "–" for p in (50, 95))
        each = [self.turns[visitor] for visitor in range(self.visitors)]
        errors = ", ".join(f"{code} {n}" for code, n in sorted(self.errors.items())) or "0"
        speed = f"{self.tokens / self.seconds:.1f}" if self.seconds else "–"
        memory = f"{self.memory / 1e6:.0f}" if self.memory else "–"
        return [str(self.visitors), str(sum(each)), p50, p95, speed, f"{min(each)}/{max(each)}", errors, memory]

    def figures(self) -> dict[str, Any]:
        return {
            "visitors": self.visitors, "first": self.firsts, "tokens": self.tokens, "seconds": self.seconds,
            "turns": [self.turns[visitor] for visitor in range(self.visitors)], "errors": dict(self.errors),
            "memory": self.memory,
        }  # fmt: skip


def percentile(found: list[float], p: int) -> float:
    return statistics.quantiles(found, n=100, method="inclusive")[p - 1] if len(found) > 1 else found[0]


def load(options: Any) -> None:
    """So many seconds at each number of visitors, the first after a turn that loads both models."""
    found = []
    with served() as (address, server):
        numbers = count()
        asyncio.run(level(address, 1, 0.0, options.tokens, numbers))
        print("\n".join(tables.markdown(HEAD, [])), flush=True)
        for visitors in options.visitors:
            tally = asyncio.run(level(address, visitors, options.seconds, options.tokens, numbers))
            tally.memory = cpu.resident_memory(server.pid)
            print(tables.markdown(HEAD, [tally.row()])[-1], flush=True)
            found.append(tally.figures())
    rounds.save(options, levels=found)


async def level(address: str, visitors: int, seconds: float, tokens: int, numbers: Iterator[int]) -> Tally:
    """Whoever has begun a turn when time is up finishes it."""
    tally, begun = Tally(visitors), time.perf_counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits, trust_env=False) as client:
        until = begun + seconds
        await asyncio.gather(*(visit(client, place, until, tokens, numbers, tally) for place in range(visitors)))
    tally.seconds = time.perf_counter() - begun
    return tally


async def visit(
    client: httpx.AsyncClient,
    place: int,
    until: float,
    tokens: int,
    numbers: Iterator[int],
    tally: Tally,
    door: Callable[..., Parts] | None = None,
) -> None:
    """`door`: how a message is sent; half of the visitors use /chat and the others /v1 where it is not said."""
    door = door or (by_chat if place % 2 == 0 else by_v1)
    while True:
        number = next(numbers)
        history: list[dict[str, str]] = []
        for said in (OPENINGS[number % len(OPENINGS)], *ANSWERS):
            begun, first, reply = time.perf_counter(), 0.0, ""
            try:
                async for shown, written in door(client, said, history, tokens, number):
                    reply = shown
                    first = first or time.perf_counter() - begun
                    tally.tokens += written
            except (httpx.HTTPError, Refused) as error:
                tally.errors[error.args[0] if isinstance(error, Refused) else type(error).__name__] += 1
                await asyncio.sleep(0.2)  # or a server that refuses at once is asked without a pause
                break
            finally:
                over = time.perf_counter() >= until
            tally.firsts.append(first)
            tally.turns[place] += 1
            history += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
            if over:
                return
        if time.perf_counter() >= until:
            return


async def by_chat(client: httpx.AsyncClient, said: str, history: list[Any], tokens: int, seed: int) -> Parts:
    given = {"data": [said, history, "auto", None, None, None, None, tokens, seed]}
    called = accepted(await client.post(CHAT, json=given))
    async with client.stream("GET", f"{CHAT}/{called.json()['event_id']}") as answer:
        event = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and event == "error":
                raise Refused(code_in(line, 500))
            elif line.startswith("data: ") and event == "generating" and (part := json.loads(line[6:])):
                reply = part[0] if isinstance(part, list) else part
                if reply.get("reply"):
                    yield reply["reply"], reply["usage"]["completion_tokens"] if reply["finish_reason"] else 0


async def by_v1(
    client: httpx.AsyncClient, said: str, history: list[Any], tokens: int, seed: int, model: str = "auto"
) -> Parts:
    body = {
        "model": model, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": tokens, "seed": seed,
        "messages": [*history, {"role": "user", "content": said}],
    }  # fmt: skip
    whole = ""
    async with client.stream("POST", V1, json=body) as answer:
        if answer.is_error:
            raise Refused(code_in((await answer.aread()).decode(), answer.status_code))
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise Refused(code_in(line, 500))
            for choice in chunk["choices"]:
                whole += choice["delta"].get("content") or ""
            written = (chunk.get("usage") or {}).get("completion_tokens", 0)
            if whole:
                yield whole, written


def accepted(answer: httpx.Response) -> httpx.Response:
    """The same; Refused if it is an error."""
    if answer.is_error:
        raise Refused(code_in(answer.text, answer.status_code))
    return answer


def code_in(text: str, status: int) -> str:
    found = CODE.search(text)
    return found[0] if found else f"HTTP {status}"

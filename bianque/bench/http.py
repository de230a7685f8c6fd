"""`python -m bianque bench http`: first text and whole reply over `/v1`, beside the same session in this process."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx

from bianque.backends.local import Local
from bianque.bench import rounds
from bianque.bench.load import by_v1
from bianque.bench.page import ROOT, served
from bianque.catalog import custom
from bianque.consult.session import Delta, Session
from bianque.consult.spec import Choices, SamplingOverrides
from bianque.settings import Settings
from bianque.types import Message

HISTORY: list[Any] = [
    {"role": "user", "content": "我最近总是失眠，怎么办？"}, {"role": "assistant", "content": "请问失眠有多久了？"},
    {"role": "user", "content": "有一个月了"}, {"role": "assistant", "content": "是入睡困难，还是容易醒？"},
]  # fmt: skip
MESSAGE = "躺下以后很久才睡着，白天没精神，直接给我建议吧"
# The bundled advising model without the guard, which holds text back until it has read it.
CARD = {"name": "plain", "like": "advise-mini", "role": "both", "path": str(ROOT / "bianque" / "mini" / "advise-mini")}
Times = tuple[float, float]  # milliseconds to the first text, and to the end


def http(options: Any) -> None:
    """Interleaved rounds with the bundled advising model; prints medians, spread and the median difference."""
    with tempfile.TemporaryDirectory() as folder:
        cards = Path(folder, "cards.json")
        cards.write_text(json.dumps([CARD]))
        with served(BIANQUE_CARDS=str(cards)) as (address, _):
            found = asyncio.run(measured(address, cards, options))
    for name, times in found.items():
        for what, column in zip(("first text", "whole"), zip(*times, strict=True), strict=True):
            middle = statistics.median(column)
            print(f"{name:10} {what:10} median {middle:7.1f} ms   min {min(column):.1f}   max {max(column):.1f}")
    pairs = list(zip(found["in process"], found["/v1"], strict=True))  # of the same seed, one right after the other
    first, whole = (statistics.median(over[part] - inside[part] for inside, over in pairs) for part in (0, 1))
    print(f"/v1 is behind by {first:.1f} ms at the first text, {whole:.1f} ms at the end; {options.rounds} rounds")
    rounds.save(options, milliseconds=found)


async def measured(address: str, cards: Path, options: Any) -> dict[str, list[Times]]:
    settings, known = custom.known(Settings(models="mini", cards=cards))
    session = Session(Local(settings, known), CARD["name"], CARD["name"])
    found: dict[str, list[Times]] = {"in process": [], "/v1": []}
    async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False) as client:
        for place in range(options.rounds + 1):
            inside = await timed(within(session, place, options.tokens))
            over = await timed(by_v1(client, MESSAGE, HISTORY, options.tokens, place, CARD["name"]))
            if place:  # the first has loaded both
                found["in process"].append(inside)
                found["/v1"].append(over)
    return found


async def timed(parts: AsyncIterator[Any]) -> Times:
    begun, first = time.perf_counter(), 0.0
    async for _ in parts:
        first = first or time.perf_counter() - begun
    return first * 1000, (time.perf_counter() - begun) * 1000


async def within(session: Session, seed: int, tokens: int) -> AsyncIterator[str]:
    choices = Choices("advise", sampling=SamplingOverrides(max_new_tokens=tokens, seed=seed))
    async with aclosing(session.reply([Message(**turn) for turn in HISTORY], MESSAGE, choices)) as events:
        async for event in events:
            if isinstance(event, Delta):
                yield event.text

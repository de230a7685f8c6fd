"""Several replies to one message side by side: who answers, and their events as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from bianque.consult.session import Event, Failure, Notice, Session, check_size
from bianque.consult.spec import ModelSpec, SamplingOverrides
from bianque.consult.transcript import Turn
from bianque.errors import BadInput
from bianque.types import Dialogue

FEWEST, MOST = 2, 4  # columns
LETTERS = "ABCD"
EVERY = -1  # the place of an event that concerns all columns
WAITING = 16  # events that wait for whoever reads; past them no reply is written on


def verify(session: Session, specs: Sequence[ModelSpec], message: str | None = None, seed: object = None) -> None:
    """BadInput or UnknownModel for what no column could begin with; `message` None is not looked at."""
    if not FEWEST <= len(specs) <= MOST:
        raise BadInput(f"contenders: {len(specs)} 列，需要 {FEWEST} 到 {MOST} 列 (give {FEWEST} to {MOST} of them)")
    if message is not None:
        check_size(message)
    for spec in specs:
        replace(spec, others=SamplingOverrides(seed=cast("int | None", seed))).choices(session)


Item = tuple[int, Event | Failure]


async def together(
    session: Session,
    specs: Sequence[ModelSpec],
    dialogues: Sequence[Dialogue],
    message: str,
    seed: int | None = None,
) -> AsyncGenerator[Item, None]:
    """Everybody's reply to one message at the same time: each event with its spec's place, as they come.

    The red flag of a message comes once, at the place `EVERY`. Closing the generator ends every reply within a token.
    Models that memory cannot hold together take turns: the pool makes whoever has no room wait.
    """
    assert len(specs) == len(dialogues), "a dialogue a spec"
    came: asyncio.Queue[Item | None] = asyncio.Queue(WAITING)
    columns = [
        asyncio.create_task(pump(place, session, spec, dialogue, message, seed, came))
        for place, (spec, dialogue) in enumerate(zip(specs, dialogues, strict=True))
    ]
    flagged, left = False, len(columns)
    try:
        while left:
            item = await came.get()
            if item is None:
                left -= 1
            elif isinstance(item[1], Notice) and item[1].level != "history":
                if not flagged:
                    flagged = True
                    yield EVERY, item[1]
            else:
                yield item
    finally:
        for column in columns:
            column.cancel()
        await asyncio.gather(*columns, return_exceptions=True)


async def pump(
    place: int, session: Session, spec: ModelSpec, dialogue: Dialogue, message: str, seed: int | None,
    came: asyncio.Queue[Item | None],
) -> None:  # fmt: skip
    """One column's events into the common queue, and None behind them."""
    try:
        choices = replace(spec, others=SamplingOverrides(seed=seed)).choices(session)
        async with aclosing(session.reply(dialogue, message, choices)) as events:
            async for event in events:
                await came.put((place, event))
    except Exception as error:
        await came.put((place, Failure.of(error)))
    await came.put(None)


def has_reply(turns: Sequence[Turn]) -> bool:
    """Whether a column ends with a reply that others can go on from."""
    return bool(turns) and turns[-1]["role"] == "assistant" and not turns[-1].get("error")

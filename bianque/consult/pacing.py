"""Holding a stream to what a reader's eye and a slow line can take, and letting no stream be silent for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

INTERVAL = 0.06  # seconds; about 16 updates a second
BEAT = 0.5  # seconds

T = TypeVar("T")


class Throttle:
    """`ready()` is True at most once an interval."""

    def __init__(self) -> None:
        self.last = 0.0

    def ready(self) -> bool:
        now = time.monotonic()
        if now - self.last < INTERVAL:
            return False
        self.last = now
        return True


async def with_heartbeat(events: AsyncGenerator[T, None], every: float = BEAT) -> AsyncGenerator[T | None, None]:
    """The events as they come, and None when none has come for `every` seconds; closing it closes them.

    Gradio notices only at a yield that a visitor has left (queueing.py, `event.alive`): a silent stream outlives its tab.
    """
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({coming}, timeout=every)
            if not done:
                yield None
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming = None
            yield event
    finally:
        if coming:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await events.aclose()


async def whole(pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T | Exception, None]:
    """The pieces, and last the error that ended them, so that what came before it can still be shown."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except Exception as error:
        yield error

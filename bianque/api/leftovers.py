"""What Gradio keeps of calls that are over, let go.

Of each call without a session of its own, as curl makes it, Gradio 6.31 keeps a session: half a megabyte, ten thousand
of them, and an empty set for ever; of a reply that nobody fetches, each step of its writing. Nothing here needs any of
it: endpoints are stateless, and the page's state lives in the visitor's browser but for the arena's battle, which it
keeps two hours. Of a visitor's session it keeps a copy of the page and a new component for each that was ever updated.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from gradio import state_holder
from gradio.server_messages import ProcessCompletedMessage, ProcessGeneratingMessage

from bianque.evaluate.quota import Folders

EVERY = 5.0  # seconds
TIDY = 600.0  # seconds between two looks at evaluations that nobody uses any more
UNFETCHED = 600.0  # seconds that a result waits for its caller
IDLE = 9000.0  # seconds after which a visitor's session has nothing left
SESSIONS = 1000  # of visitors, at most
CALL = re.compile(r"[0-9a-f]{32}")  # the session of a single call has its event's name


def sweep(app: Any, now: datetime | None = None) -> None:
    """Drop what is over in a Gradio app. On its event loop, where nothing of it changes meanwhile."""
    now = now or datetime.now()
    queue, holder = app.get_blocks()._queue, app.state_holder
    used, pending, messages = holder.time_last_used, queue.pending_event_ids_session, queue.pending_messages_per_session
    for event in queue.event_ids_to_events.values():  # of a page that was closed before it had begun to listen
        event.alive = event.alive and not event.closed
    for session in (*pending, *messages):
        used.setdefault(session, now)  # a call that never ran
    built = app.get_blocks().default_config.blocks
    for state in holder.session_data.values():
        lighten(state, built)
    busy = {event.session_hash for event in queue.event_ids_to_events.values()}
    for session in filter(CALL.fullmatch, messages.keys() - busy):
        thin(messages[session])
    for session, last in [*used.items()]:
        last = used[session] = min(last, now)  # the clock may have been set back
        kept = IDLE if not CALL.fullmatch(session) else UNFETCHED if pending.get(session) else 0
        if session not in busy and (now - last).total_seconds() >= kept:
            for table in (used, holder.session_data, pending, messages):
                table.pop(session, None)
    app.iterators_to_reset &= queue.event_ids_to_events.keys()


class Lean(state_holder.SessionState):
    """A session without a copy of the page's 231 components, which Gradio makes of each call, for deep links that there are
    none of: 20 ms of the event loop. What changes is added when it does."""

    def __init__(self, blocks: Any) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks=()))  # type: ignore[arg-type]


def lighten(state: Any, built: Mapping[int, Any]) -> None:
    """Take from a session its copy of the page, for deep links that there are none of, and the components updated since
    the last look: those of the page do as well, unless what may be chosen has changed."""
    own = state.blocks_config.blocks
    for key in state.config_values:
        if key in built and own.get(key) is not built[key] and not hasattr(built[key], "choices"):
            own[key] = built[key]
    state.config_values.clear()


def thin(waiting: asyncio.Queue[Any]) -> None:
    """Of a reply that has ended, which a late caller reads whole, only the end."""
    messages = [waiting.get_nowait() for _ in range(waiting.qsize())]
    ended = any(isinstance(message, ProcessCompletedMessage) for message in messages)
    for message in messages:
        if not (ended and isinstance(message, ProcessGeneratingMessage)):
            waiting.put_nowait(message)


@asynccontextmanager
async def swept(app: Any, folders: Folders | None = None) -> AsyncIterator[None]:
    """A lifespan during which sessions are lean and leftovers are swept, visitors' files of earlier included."""
    state_holder.SessionState = Lean  # type: ignore[misc]
    folders = folders or Folders()

    async def sweeping() -> None:
        while True:
            await asyncio.sleep(EVERY)
            sweep(app)

    async def tidying() -> None:
        while True:
            with suppress(OSError):  # somebody else's folder, or one that goes at the same time
                await asyncio.to_thread(folders.tidy)
            await asyncio.sleep(TIDY)

    tasks = [asyncio.ensure_future(sweeping()), asyncio.ensure_future(tidying())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()

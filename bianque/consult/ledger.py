"""What may be known of replies: how many, by which model, how long they took. No words, and nobody's address."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from bianque.consult.events import Delta, Done, Event, Speaking
from bianque.errors import BianQueError

log = logging.getLogger("bianque.replies")
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


@dataclass(slots=True)
class Entry:
    """One reply. Times in milliseconds; tokens of one that was left are the pieces that were shown."""

    request: str
    model: str = ""
    phase: str = ""
    outcome: str = "left"  # stop, length, left, or an error's code
    prompt_tokens: int = 0
    completion_tokens: int = 0
    load_ms: float = 0.0
    first_ms: float | None = None
    total_ms: float = 0.0

    def line(self) -> str:
        found = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in found.items()})


class Ledger:
    """Sums over all replies since the start. Used on one event loop."""

    def __init__(self) -> None:
        self.under_way = 0
        self.replies, self.tokens = Counter[tuple[str, str, str]](), Counter[tuple[str, str]]()
        self.firsts, self.first_sum = Counter[float](), 0.0  # replies whose first text came within so many seconds

    async def kept(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events of a reply as they come; what it was is entered when it ends, in whatever way."""
        entry, begun = Entry(uuid.uuid4().hex[:16]), time.monotonic()
        self.under_way += 1
        try:
            async with aclosing(events):
                async for event in events:
                    self.note(entry, event, begun)
                    yield event
        except Exception as error:
            entry.outcome = error.code if isinstance(error, BianQueError) else "BQ_INTERNAL"
            raise
        finally:
            self.under_way -= 1
            entry.total_ms = (time.monotonic() - begun) * 1000
            self.add(entry)

    def note(self, entry: Entry, event: Event, begun: float) -> None:
        if isinstance(event, Speaking):
            entry.model, entry.phase = event.model, event.phase
            entry.first_ms = entry.first_ms or (time.monotonic() - begun) * 1000
        elif isinstance(event, Delta):
            entry.completion_tokens += 1
        elif isinstance(event, Done):
            entry.outcome, entry.load_ms = event.finish, event.timing.load
            entry.prompt_tokens, entry.completion_tokens = event.usage.prompt_tokens, event.usage.completion_tokens

    def add(self, entry: Entry) -> None:
        self.replies[entry.model, entry.phase, entry.outcome] += 1
        self.tokens[entry.model, "prompt"] += entry.prompt_tokens
        self.tokens[entry.model, "completion"] += entry.completion_tokens
        if entry.first_ms is not None:
            self.first_sum += entry.first_ms / 1000
            self.firsts.update(limit for limit in (*BUCKETS, float("inf")) if entry.first_ms / 1000 <= limit)
        log.info("%s", entry.line())

    def exposition(self) -> str:
        """As Prometheus reads it."""
        lines = ["# TYPE bianque_replies_total counter"]
        for (model, phase, outcome), n in sorted(self.replies.items()):
            lines.append(f'bianque_replies_total{{model="{model}",phase="{phase}",outcome="{outcome}"}} {n}')
        lines.append("# TYPE bianque_tokens_total counter")
        lines += [
            f'bianque_tokens_total{{model="{m}",kind="{kind}"}} {n}' for (m, kind), n in sorted(self.tokens.items())
        ]
        lines += ["# TYPE bianque_replies_under_way gauge", f"bianque_replies_under_way {self.under_way}"]
        lines.append("# TYPE bianque_first_text_seconds histogram")
        for limit in (*BUCKETS, float("inf")):
            name = "+Inf" if limit == float("inf") else f"{limit:g}"
            lines.append(f'bianque_first_text_seconds_bucket{{le="{name}"}} {self.firsts[limit]}')
        lines += [
            f"bianque_first_text_seconds_sum {self.first_sum:.3f}",
            f"bianque_first_text_seconds_count {self.firsts[float('inf')]}",
        ]
        return "\n".join(lines) + "\n"

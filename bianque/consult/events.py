"""What a turn consists of, as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bianque.consult import triage
from bianque.consult.handoff import Reason
from bianque.types import Finish, Message, Phase, Progress, Usage


@dataclass(frozen=True, slots=True)
class Notice:
    """Stays above the reply: `emergency`, `crisis`, or `history` (earlier rounds did not fit the window).

    Of danger also: the kind, how certain (`sure` or `likely`), the numbers to call, what to do until help comes, and the
    known sentences that it is like.
    """

    level: str
    text: str
    certainty: str | None = None
    kind: str = ""
    tel: tuple[str, ...] = ()
    do: str = ""
    nearest: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: triage.DangerNotice) -> Notice:
        near = tuple(one.text for one in found.nearest)
        return cls(found.level, found.text, found.certainty, found.kind, found.tel, found.do, near)

    def shown(self) -> dict[str, Any]:
        """As a turn keeps it: level and text, and of danger the rest."""
        known = {"level": self.level, "text": self.text}
        if self.certainty is None:
            return known
        return {**known, "certainty": self.certainty, "kind": self.kind, "tel": list(self.tel), "do": self.do,
                "nearest": list(self.nearest)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loading:
    progress: Progress


@dataclass(frozen=True, slots=True)
class Thinking:
    """A model has begun, and nothing of its reply can be shown yet."""

    model: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class Speaking:
    """A reply begins. `question` of `budget` while asking in auto mode, else None."""

    model: str
    phase: Phase
    question: int | None
    budget: int
    host: str | None = None  # the server elsewhere that the dialogue was sent to


@dataclass(frozen=True, slots=True)
class Delta:
    text: str


@dataclass(frozen=True, slots=True)
class Handed:
    """The asking model hands over to the advising one."""

    source: str
    target: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds since the turn began (`load`: spent waiting for weights)."""

    load: float = 0.0
    first_token: float | None = None
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The reply is complete."""

    message: Message
    finish: Finish
    usage: Usage
    timing: Timing


Event = Notice | Loading | Thinking | Speaking | Delta | Handed | Done

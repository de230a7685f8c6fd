"""A composed consultation and its turns, with what stands behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from bianque.data.knowledge import Complaint, Rule
from bianque.types import Phase


@dataclass(slots=True)
class CaseTurn:
    """One turn, and what a model that only asks, or only advises, would say in its place (None: nothing of use)."""

    role: Literal["patient", "doctor"]
    text: str
    entry: Complaint  # whose consultation it belongs to; a visitor may have two
    phase: Phase | None = None
    slot: str | None = None  # what a doctor's turn asks about
    told: dict[str, str] = field(default_factory=dict)  # what a patient's turn tells
    facts: dict[str, str] = field(default_factory=dict)  # what an advice sums up
    urgent: Rule | None = None  # the danger sign that a doctor's turn answers
    known: dict[str, str] | None = None  # what was known before a doctor's turn
    asks: str | None = None
    advises: Callable[[], str] | str | None = None


@dataclass(slots=True)
class Consultation:
    entry: Complaint
    x: str
    turns: list[CaseTurn]

    def record(self, name: str) -> dict[str, Any]:
        turns = [
            {"role": turn.role, "text": turn.text, **({"phase": turn.phase} if turn.phase else {})}
            for turn in self.turns
        ]
        return {"id": name, "source": "composed", "complaint": self.entry.id, "turns": turns}

"""What an evaluation is made of: one row a doctor's turn of one contender.

A row has an answer or an error, never both: a failed request is no score.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict

from bianque.data.formats import Judged
from bianque.types import Message

# next: the recorded dialogue before each doctor's turn → a reply; consultation: the contender's own dialogue with a
# patient whose turns are scripted; recorded: somebody's outputs, scored as they are.
Task = Literal["next", "consultation", "recorded"]


@dataclass(frozen=True, slots=True)
class Row:
    """One doctor's turn. `turn` counts the doctor's turns of a dialogue from 0; times are seconds.

    `answer` is cleaned (`text.strip_echo`); `raw` is there where that changed it. `reference` is what the human
    doctor said at this turn, where the set has it. `judged` belongs to the whole dialogue and stands at its last turn.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # where rows are read from a file

    task: Task
    set: str
    id: str
    turn: int
    model: str
    history: tuple[Message, ...]
    answer: str | None = None
    raw: str | None = None
    error: str | None = None
    code: str | None = None  # of the error, as BQ_NO_MEMORY
    reference: str | None = None
    phase: str | None = None
    first: float | None = None
    seconds: float | None = None
    tokens: int | None = None
    finish: str | None = None
    judged: Judged | None = field(default=None)

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """What makes a row the same in another run."""
        return self.task, self.set, self.id, self.turn, self.model

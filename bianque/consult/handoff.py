"""Ask or advise: which model answers next, as a pure decision over the dialogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from bianque.consult.patterns import asset, joined, pattern, table
from bianque.consult.questions import asks, plain
from bianque.consult.repeats import repeats
from bianque.types import Message, Phase

Reason = Literal["question", "not_question", "repeat", "budget", "requested", "after_advice", "new_complaint"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Who speaks: `asking` shows (or consults) the asking model, `advising` lets the advising model answer."""

    phase: Phase
    reason: Reason


_re = partial(pattern, "handoff")


@dataclass(slots=True)
class _Told:
    """What has been said since a round began, by what it names: each turn is read once, however many follow."""

    persons: set[str] = field(default_factory=set)  # of the visitor's turns, as are the organs
    organs: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)  # three Han characters in a row, of the texts looked through so far

    def visitor(self, text: str) -> None:
        self.persons |= _named("persons", text)
        self.organs |= _named("organs", text)
        self.texts.append(text)

    def doctor(self, text: str) -> None:
        self.texts.append(text)

    def names(self, text: str) -> bool:
        """Whether three Han characters in a row of the text have been said."""
        while self.texts:
            self.runs |= _runs(self.texts.pop())
        return not self.runs.isdisjoint(_runs(text))


@dataclass(frozen=True, slots=True)
class Round:
    """The current round of a dialogue: where it begins, the visitor's newest turn, the doctor's turns since."""

    start: int
    newest: str
    spoken: tuple[str, ...]
    phases: tuple[Phase, ...]  # of those turns

    @property
    def asked(self) -> int:
        """How many of its doctor turns have asked."""
        return self.phases.count("asking")


def decide(
    dialogue: Sequence[Message], candidate: str | None = None, *, budget: int = 8, advise_now: bool = False
) -> Decision:
    """Who answers the newest visitor turn; `candidate` is what the asking model would say, None before that."""
    return judge(read_round(dialogue), candidate, budget=budget, advise_now=advise_now)


def judge(now: Round, candidate: str | None = None, *, budget: int = 8, advise_now: bool = False) -> Decision:
    """The same of a round that has been read."""
    advised = "advising" in now.phases
    if advise_now or _requests_advice(now.newest, asking=bool(now.spoken) and not advised):
        return Decision("advising", "requested")
    if advised:
        return Decision("advising", "after_advice")
    if now.asked >= budget:
        return Decision("advising", "budget")
    opening: Reason = "new_complaint" if now.start and not now.spoken else "question"
    if candidate is None:
        return Decision("asking", opening)
    if not asks(candidate) or not re.search(r"\w", candidate):
        return Decision("advising", "not_question")
    if repeats(candidate, now.spoken):
        return Decision("advising", "repeat")
    return Decision("asking", opening)


def read_round(dialogue: Sequence[Message]) -> Round:
    """The current round. The work grows with the dialogue's length, and a long one takes a while: not on an event loop."""
    start, told, spoken, phases = None, _Told(), list[str](), list[Phase]()
    for index, message in enumerate(dialogue):
        text = plain(message.content)
        if message.role == "assistant":
            spoken.append(message.content)
            phases.append(_phase(message))
            if start is not None and phases[-1] == "advising":
                told.doctor(text)
        elif start is None or ("advising" in phases and _new_complaint(text, told)):
            start, told, spoken, phases = index, _Told(), [], []
            told.visitor(text)
        else:
            told.visitor(text)
            if "advising" in phases and _re("go_on").search(text):
                phases = []  # asking begins again; what was said and asked still counts
    newest = next((m.content for m in reversed(dialogue) if m.role == "user"), "")
    return Round(start or 0, newest, tuple(spoken), tuple(phases))


def _phase(message: Message) -> Phase:
    """The phase of a doctor turn; a client of the API may have dropped it."""
    if message.phase is not None:
        return message.phase
    greets = len(message.content) <= 40 and _re("greeting").search(message.content)
    return "asking" if greets or asks(message.content) else "advising"


def _requests_advice(text: str, *, asking: bool) -> bool:
    text = plain(text)
    return bool(_re("at_once").search(text) or _re("foreign").search(text) or (asking and _re("by_now").search(text)))


def _named(kind: str, text: str, after: str = "") -> set[str]:
    """The entries of a table, persons or organs, that the text names."""
    return {name for name, words in table("handoff", kind, re.IGNORECASE, after).items() if words.search(text)}


def _runs(text: str) -> set[str]:
    runs = re.findall(r"[一-鿿]{3,}", text)
    return {run[i : i + 3] for run in runs for i in range(len(run) - 2)}


def _new_complaint(text: str, told: _Told) -> bool:
    """Whether a visitor turn after advice introduces another person, another organ or another matter."""
    text = _re("medicine").sub("药", _re("on_behalf").sub(r"\1", text))
    complains = bool(_re("complaint").search(text))
    organs = _named("organs", text)
    fresh = organs - told.organs
    if _re("switch").search(text):
        return bool(fresh) or (complains and _other_person(text, told)) or not _about(text, told)
    linked = bool(_re("effect").search(text) or _re("link").search(text))
    if complains and _other_person(text, told) and not _re("link").search(text):
        return True
    if linked or not complains or not fresh or fresh != organs:
        return False
    return bool(_re("besides").search(text) or (_re("onset").search(text) and _re("body").search(text)))


def _other_person(text: str, told: _Told) -> bool:
    persons = _named("persons", text, f"(?!{joined(asset('handoff')['reported'])})")
    oneself = bool(told.persons) and bool(re.search(r"我(?:自己|本人)|我也(?!想|要|不)", text))
    return bool(persons - told.persons) or oneself


def _about(text: str, told: _Told) -> bool:
    """Whether the turn names something that was said before: three Han characters in a row, or a medicine at hand."""
    return told.names(text) or bool(_re("effect").search(text) or _re("link").search(text) or _re("back").search(text))

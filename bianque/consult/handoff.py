"""Ask or advise: which model answers next, as a pure decision over the dialogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
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


def decide(
    dialogue: Sequence[Message], candidate: str | None = None, *, budget: int = 8, advise_now: bool = False
) -> Decision:
    """Who answers the newest visitor turn; `candidate` is what the asking model would say, None before that."""
    newest = next((m.content for m in reversed(dialogue) if m.role == "user"), "")
    start = round_start(dialogue)
    spoken = [m for m in dialogue[start:] if m.role == "assistant"]
    advised = any(_phase(m) == "advising" for m in spoken)
    if advise_now or _requests_advice(newest, asking=bool(spoken) and not advised):
        return Decision("advising", "requested")
    if advised:
        return Decision("advising", "after_advice")
    if asked(dialogue) >= budget:
        return Decision("advising", "budget")
    opening: Reason = "new_complaint" if start and not spoken else "question"
    if candidate is None:
        return Decision("asking", opening)
    if not asks(candidate) or not re.search(r"\w", candidate):
        return Decision("advising", "not_question")
    if repeats(candidate, (m.content for m in spoken)):
        return Decision("advising", "repeat")
    return Decision("asking", opening)


def asked(dialogue: Sequence[Message]) -> int:
    """How many doctor turns of the current round have asked."""
    spoken = (m for m in dialogue[round_start(dialogue) :] if m.role == "assistant")
    return sum(_phase(m) == "asking" for m in spoken)


def round_start(dialogue: Sequence[Message]) -> int:
    """The index of the visitor turn that opened the current round; 0 for a dialogue without one."""
    start, advised, told, advice = None, False, "", ""
    for index, message in enumerate(dialogue):
        if message.role == "assistant":
            if start is not None and _phase(message) == "advising":
                advised, advice = True, advice + plain(message.content)
        elif start is None or (advised and _new_complaint(message.content, told, advice)):
            start, advised, told, advice = index, False, plain(message.content), ""
        else:
            told += "\n" + plain(message.content)
    return start or 0


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


def _new_complaint(text: str, told: str, advice: str) -> bool:
    """Whether a visitor turn after advice introduces another person, another organ or another matter."""
    text = _re("medicine").sub("药", _re("on_behalf").sub(r"\1", plain(text)))
    complains = bool(_re("complaint").search(text))
    organs = _named("organs", text)
    fresh = organs - _named("organs", told)
    if _re("switch").search(text):
        return bool(fresh) or (complains and _other_person(text, told)) or not _about(text, told + advice)
    linked = bool(_re("effect").search(text) or _re("link").search(text))
    if complains and _other_person(text, told) and not _re("link").search(text):
        return True
    if linked or not complains or not fresh or fresh != organs:
        return False
    return bool(_re("besides").search(text) or (_re("onset").search(text) and _re("body").search(text)))


def _other_person(text: str, told: str) -> bool:
    persons = _named("persons", text, f"(?!{joined(asset('handoff')['reported'])})")
    before = _named("persons", told)
    oneself = bool(before) and bool(re.search(r"我(?:自己|本人)|我也(?!想|要|不)", text))
    return bool(persons - before) or oneself


def _about(text: str, advice: str) -> bool:
    """Whether the turn names something the advice named: three Han characters in a row, or a medicine at hand."""
    runs = re.findall(r"[一-鿿]{3,}", text)
    known = any(run[i : i + 3] in advice for run in runs for i in range(len(run) - 2))
    return known or bool(_re("effect").search(text) or _re("link").search(text) or _re("back").search(text))

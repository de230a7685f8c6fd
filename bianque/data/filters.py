"""What of generated dialogues is kept: safety and quality by rules in assets/filters.yaml, then what is there already."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from operator import gt
from pathlib import Path
from typing import Any

from bianque.data.cleaning import Duplicates, masked
from bianque.data.formats import CorpusDialogue

SIMILAR = 0.7  # of two openings, from which on the later one is a duplicate: QingGeng's threshold, here by characters
SHORTEST, LONGEST = (4, 10), (600, 1500)  # characters of a patient's and of a doctor's turn
CHINESE = 0.5  # of the characters that are letters, at least
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Checks:
    """What the consultation room knows, handed in by whoever joins the two.

    danger: the level of a patient's words, `crisis` or `emergency`, or None; asks: whether a doctor's turn asks
    """

    danger: Callable[[str], str | None] = lambda text: None
    asks: Callable[[str], bool] = lambda text: False


@dataclass(slots=True)
class Sifted:
    """Generated dialogues: those that are kept, those for somebody to look at, and what became of the others."""

    kept: list[CorpusDialogue] = field(default_factory=list)
    aside: list[tuple[str, CorpusDialogue]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)


@cache
def rules() -> dict[str, Any]:
    import yaml

    found = yaml.safe_load((Path(__file__).with_name("assets") / "filters.yaml").read_text(encoding="utf-8"))
    for group in ("doctor", "any"):
        for rule in found[group].values():
            rule["pattern"] = re.compile("|".join(f"(?:{part})" for part in rule["pattern"]), re.IGNORECASE)
    return dict(found)


def sift(
    cases: Iterable[CorpusDialogue], checks: Checks, before: Sequence[str] = (), passages: dict[str, str] | None = None
) -> Sifted:
    """Judge dialogues in their order; `before` are openings that count as there already, as those of the seeds.

    `passages` are the texts, by id, that answers were to be given from.
    """
    found, seen = Sifted(), Duplicates(SIMILAR)
    for place, text in enumerate(before):
        seen.seen(text, f"seed {place}")
    for case in cases:
        verdict = judged(case, checks, passages)
        if verdict is None and seen.seen(case.messages[0].content, case.id):
            verdict = ("drop", "duplicate")
        if verdict is None or verdict[0] == "aside":
            case = replace(
                case, messages=tuple(replace(m, content=masked(m.content, found.personal)) for m in case.messages)
            )
        if verdict is None:
            found.kept.append(case)
        elif verdict[0] == "aside":
            found.aside.append((verdict[1], case))
        else:
            found.dropped[verdict[1]] += 1
    return found


def judged(case: CorpusDialogue, checks: Checks, passages: dict[str, str] | None) -> tuple[str, str] | None:
    """Why a dialogue is dropped or set aside; None if it is good."""
    patient = [message.content for message in case.messages if message.role == "user"]
    doctor = [message.content for message in case.messages if message.role == "assistant"]
    if not doctor:
        return "drop", "unanswered"
    if passages and re.search(rules()["nothing_in_passage"], doctor[0]):
        return "drop", "not_in_passage"
    # In a dialogue of several turns a patient may say 没有 and a doctor may ask 多久了？
    longest = [max(map(len, said)) for said in (patient, doctor)]
    if len(patient[0]) < SHORTEST[0] or longest[1] < SHORTEST[1] or any(map(gt, longest, LONGEST)):
        return "drop", "length"
    if chinese("".join([*patient, *doctor])) < CHINESE:
        return "drop", "language"
    for group, said in (("any", [*patient, *doctor]), ("doctor", doctor)):
        for name, rule in rules()[group].items():
            if any(rule["pattern"].search(text) for text in said):
                return rule["do"], name
    if len(set(doctor)) < len(doctor) or set(doctor) & set(patient):
        return "drop", "repeats"
    if danger := dangerous(patient, doctor, checks):
        return "aside", danger
    if any(map(checks.danger, patient)):
        return None  # who is in danger is sent to help at once, without questions and whatever the passage says
    if len(doctor) > 1 or "complaint" in case.notes:
        return consulted(doctor, checks)
    return grounded(case, passages[case.notes["passage"]]) if passages else None


def dangerous(patient: list[str], doctor: list[str], checks: Checks) -> str | None:
    """A crisis always, an emergency where no answer sends the patient to help."""
    levels = {checks.danger(text) for text in patient}
    if "crisis" in levels:
        return "crisis"
    answered = any(re.search(rules()["emergency_answered"], text) for text in doctor)
    return "emergency" if "emergency" in levels and not answered else None


def consulted(doctor: list[str], checks: Checks) -> tuple[str, str] | None:
    """A consultation asks first and ends with advice."""
    if not checks.asks(doctor[0]):
        return "drop", "no_question"
    return ("drop", "no_advice") if checks.asks(doctor[-1]) else None


def grounded(case: CorpusDialogue, passage: str) -> tuple[str, str] | None:
    """An answer from a passage says nothing about figures that are in neither passage nor question."""
    question, answer = (message.content for message in case.messages)
    listed = re.sub(r"(?m)^\s*\d+[.、)）]", "", answer)  # the numbers of a list
    strange = set(_NUMBER.findall(listed)) - set(_NUMBER.findall(passage + question))
    return ("aside", "figure") if strange else None


def chinese(text: str) -> float:
    letters = [character for character in text if character.isalpha()]
    return sum("一" <= character <= "鿿" for character in letters) / len(letters) if letters else 0.0

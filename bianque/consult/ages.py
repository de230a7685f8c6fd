"""How old somebody is, as it is told, and which answer of the knowledge base that is: 我54 is 超过四十五岁."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from bianque.consult.patterns import asset, table
from bianque.consult.spans import number
from bianque.data.knowledge import Slot

FAR = 5.0  # years from an answer's ages at which it is none
ABOUT = 5.0  # 五十来岁, 四十岁上下
NEARLY = 0.1  # 快两岁, and what is beside the answer that ends where an age begins
WIDE = {"early": 5.0, "decade": 10.0}  # 三十出头, 三十多岁

Ages = tuple[float, float]


def age(slot: Slot, text: str, asked: bool = False) -> tuple[bool, str | None]:
    """Whether a text tells the age that a question asks for, and the answer that this is; two ages are none.

    `asked`: the text answers that question, so that a bare number is an age.
    """
    known = _answers(slot.ask, tuple((label, value.fact) for label, value in slot.values.items()))
    if not known:
        return False, None
    told = set(years(text, asked))
    if len(told) != 1:
        return False, None
    (one,) = told
    far = lambda ages: max(ages[0] - one, one - ages[1] + NEARLY if one >= ages[1] else 0.0, 0.0)
    best = min(known, key=lambda label: (far(known[label]), known[label][1] - known[label][0]))
    return True, best if far(known[best]) <= FAR else None


def years(text: str, asked: bool = False) -> Iterator[float]:
    """The ages that a text tells, in years."""
    text, words = unicodedata.normalize("NFKC", text).strip(" ,.!。！").lower(), asset("ages")
    for name in ("years", "bare", *(("all",) if asked else ())):
        for found in re.finditer(words[name], text):
            part = {"nearly": None, "half": None, "months": None} | found.groupdict()
            more = (
                ABOUT
                if part["round"]
                else 0.5
                if part["half"]
                else number(part["months"]) / 12
                if part["months"]
                else 0
            )
            yield number(found["number"]) + more - (NEARLY if part["nearly"] else 0)
    for name in ("months", *(("all_months",) if asked else ())):
        for found in re.finditer(words[name], text):
            yield number(next(filter(None, found.groups()))) / 12


@cache
def _answers(asks: tuple[str, ...], facts: tuple[tuple[str, str], ...]) -> dict[str, Ages]:
    """The ages of each answer to a question about age that has any; empty for another question."""
    words = asset("ages")
    if not all(re.search(words["asks"], ask) for ask in asks) or any(re.search(words["not"], f) for _, f in facts):
        return {}
    found = {label: ages for label, fact in facts if (ages := meant(fact))}
    return found if len(found) > 1 else {}


def meant(fact: str) -> Ages | None:
    """The ages that an answer's fact means, from (included) and to, in years."""
    for kind, row in table("ages", "bounds").items():
        if found := row.search(fact):
            return _range(kind, {name.rstrip("2"): part for name, part in found.groupdict().items() if part})
    low, _, high = next((ages for word, ages in asset("ages")["words"].items() if word in fact), "").partition(" ")
    return (float(low), float(high)) if high else None


def _range(kind: str, parts: Mapping[str, Any]) -> Ages:
    value = lambda end: number(parts[end]) / (12 if parts.get(f"{end}_unit", parts.get("high_unit")) == "个月" else 1)
    if kind == "between":
        return value("low"), value("high")
    if kind == "below":
        return 0.0, value("high")
    if kind == "above":
        return value("low"), 130.0
    if kind == "about":
        return value("low") - ABOUT, value("low") + ABOUT
    if kind in WIDE:
        low = value("low" if "low" in parts else "number")
        return low, low + (WIDE[kind] if "low" in parts else 1)
    times = 10 if kind == "decades" else 1
    return times * value("low"), times * (value("high") + 1)

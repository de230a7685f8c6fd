"""Measured values that a patient tells as numbers, which sentence vectors do not read: 37度9 answers whether there is fever."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from bianque.consult.ages import age
from bianque.consult.patterns import asset
from bianque.data.knowledge import Slot

DIGITS = {sign: str(value) for value, sign in enumerate("〇一二三四五六七八九")} | {"十": ""}


def measured(slot: Slot, text: str, asked: bool = False) -> tuple[bool, str | None]:
    """Whether the text tells the value that a question asks for, and the answer that this is, None if it is none of the known ones.

    `asked`: the text answers that question.
    """
    for row in _asked(slot):
        if found := [*re.finditer(row["say"], unicodedata.normalize("NFKC", text).lower())]:
            return True, _answer(slot, row, _number(found[-1]))
    return age(slot, text, asked)


def _answer(slot: Slot, row: Mapping[str, Any], value: float) -> str | None:
    fact = next(fact for below, fact in row["levels"].items() if value < below)
    return next((label for label, known in slot.values.items() if re.search(fact, known.fact)), None)


def _number(found: re.Match[str]) -> float:
    """38度5 and 三十八度五 as well as 38.5."""
    whole, *rest = ["".join(DIGITS.get(sign, sign) for sign in group) for group in found.groups() if group]
    whole = whole.replace("点", ".") + ("0" if found.group(0).startswith("四十度") else "")
    return float(f"{whole}.{rest[0]}" if rest else whole)


def _asked(slot: Slot) -> Iterator[Mapping[str, Any]]:
    facts = tuple(known.fact for known in slot.values.values())
    return (asset("measured")[name] for name in _quantities(slot.ask, facts))


@cache
def _quantities(asks: tuple[str, ...], facts: tuple[str, ...]) -> tuple[str, ...]:
    """The quantities that a question asks for in each of its ways, and nothing else."""
    every = lambda pattern, texts: all(re.search(pattern, text) for text in texts)
    return tuple(
        name
        for name, row in asset("measured").items()
        if every(row["ask"], asks)
        and every(row["facts"], facts)
        and not any(re.search(row.get("not_asked", "(?!)"), ask) for ask in asks)
    )

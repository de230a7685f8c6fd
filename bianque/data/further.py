"""More examples than the knowledge base's own: how patients begin, answer and ask, a line each in JSONL.

`data/README.md` explains the form; an error names file, line and remedy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from bianque.data.knowledge import FOLDER, Complaint, Opening, bundled
from bianque.errors import BadInput


class Further(NamedTuple):
    """An opening of `data/openings.jsonl`; `has` is None where nobody noted what it tells."""

    complaint: str
    say: str
    has: dict[str, Any] | None = None


class FurtherAnswer(NamedTuple):
    """A line of `data/answers.jsonl`: what a patient said to a question, and which answer that is; None for none."""

    complaint: str
    slot: str
    ask: str
    say: str
    value: str | None
    also: Mapping[str, str] = MappingProxyType({})


class FurtherFollow(NamedTuple):
    """A line of `data/follows.jsonl`: a question after the advice, and the follow-up that it is; None for none.

    `complaint` may be `common`: the question is compared with those that anybody asks.
    """

    complaint: str
    ask: str
    follow: int | None


class JudgedFollow(NamedTuple):
    """A line of `data/follows_judged.jsonl`: a question, and which of the complaint's follow-ups and of the common ones answer
    it; so also of `follows_held_back.jsonl`, of which nothing learns."""

    complaint: str
    ask: str
    own: tuple[int, ...]
    common: tuple[int, ...]


def further_openings(path: Path = FOLDER / "openings.jsonl") -> list[Further]:
    """More openings than the complaints' own; BadInput names a line that is not one."""
    return [
        row
        for row, _ in lines(
            path,
            Further,
            '{"complaint": id, "say": text}, with "has": {slot: value} or without',
            lambda row: row.has or {},
        )
    ]


def asides(path: Path = FOLDER / "asides.txt") -> list[str]:
    """What patients say beside their complaint, a line each; BadInput names one that is empty or stands there twice."""
    found: dict[str, int] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not text.strip():
            raise BadInput(f"{path}:{number}: is empty; write what a patient says, or take the line out")
        if text in found:
            raise BadInput(f"{path}:{number}: {text!r} stands on line {found[text]} already; take one out")
        found[text] = number
    return list(found)


def further_answers(path: Path = FOLDER / "answers.jsonl") -> list[FurtherAnswer]:
    """Answers as patients give them; BadInput names a line that is not one."""
    form = '{"complaint": id, "slot": key, "ask": text, "say": text, "value": value or null, "also": {slot: value}}'
    return [row for row, _ in lines(path, FurtherAnswer, form, lambda row: {row.slot: row.value or (), **row.also})]


def further_follows(path: Path = FOLDER / "follows.jsonl") -> list[FurtherFollow]:
    """Questions as visitors ask them after the advice; BadInput names a line that is not one."""
    found, asked = [], bundled().asked
    form = '{"complaint": id, "ask": text, "follow": number or null}'
    for number, row in parsed(path, FurtherFollow, form):
        if (known := asked.get(row.complaint)) is None:
            raise BadInput(f"{path}:{number}: complaint={row.complaint!r}: no such complaint")
        if row.follow is not None and not 0 <= row.follow < len(known):
            raise BadInput(
                f"{path}:{number}: follow={row.follow!r}: {row.complaint} has 0 to {len(known) - 1}, or null"
            )
        found.append(row)
    return found


def judged_follows(path: Path = FOLDER / "follows_judged.jsonl") -> list[JudgedFollow]:
    """Questions of which every known answer was judged; BadInput names a line that is not one."""
    asked, form = bundled().asked, '{"complaint": id, "ask": text, "own": [numbers], "common": [numbers]}'
    found = [
        (number, row._replace(own=tuple(row.own), common=tuple(row.common)))
        for number, row in parsed(path, JudgedFollow, form)
    ]
    for number, row in found:
        for name, places in ((row.complaint, row.own), ("common", row.common)):
            if any(place not in range(len(asked.get(name, ()))) for place in places):
                raise BadInput(f"{path}:{number}: {name}={list(places)!r}: it has 0 to {len(asked.get(name, ())) - 1}")
    return [row for _, row in found]


Row = TypeVar("Row", Further, FurtherAnswer, FurtherFollow, JudgedFollow)
Telling = TypeVar("Telling", Further, FurtherAnswer)


def parsed(path: Path, kind: type[Row], form: str) -> Iterator[tuple[int, Row]]:
    """The lines of a file of examples, numbered."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = kind(**json.loads(line))
        except (ValueError, TypeError):
            raise BadInput(f"{path}:{number}: needs to be {form}") from None
        yield number, row


def lines(
    path: Path, kind: type[Telling], form: str, tells: Callable[[Telling], Mapping[str, Any]]
) -> list[tuple[Telling, Complaint]]:
    """The lines of a file of examples, each with its complaint or the generic one; what one tells must exist there."""
    found, entries = [], bundled().entries
    for number, row in parsed(path, kind, form):
        try:
            told = Opening(say=row.say, has=dict(tells(row))).has
        except (ValueError, TypeError):
            raise BadInput(f"{path}:{number}: needs to be {form}") from None
        if (entry := entries.get(row.complaint)) is None:
            raise BadInput(f"{path}:{number}: complaint={row.complaint!r}: no such complaint")
        for key, value in told.items():
            values = entry.slot[key].values if key in entry.slot else {}
            if key not in entry.slot or any(
                one not in values for one in ((value,) if isinstance(value, str) else value)
            ):
                raise BadInput(f"{path}:{number}: {{{key!r}: {value!r}}}: {row.complaint} has no such slot or value")
        found.append((row, entry))
    return found

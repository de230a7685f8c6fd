"""Dialogues from JSONL files: `{"id", "source", "turns": [{"role": "patient" | "doctor", "text"}]}`, one a line."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bianque.errors import BadInput

_QUOTED = 40  # characters of a wrong value that an error repeats


class Said(NamedTuple):
    """One phrase in Chinese and in English."""

    zh: str
    en: str


class Flaw(BadInput):
    """What is wrong with one field of a record (`turns[2].text`; empty: the whole), and the remedy."""

    def __init__(self, field: str, wrong: Said, remedy: Said) -> None:
        super().__init__(f"{field} {wrong.en}; {remedy.en}".strip())
        self.field, self.wrong, self.remedy = field, wrong, remedy


@dataclass(frozen=True, slots=True)
class Turn:
    role: Literal["patient", "doctor"]
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One dialogue; its turns alternate and the patient begins."""

    id: str
    source: str
    turns: tuple[Turn, ...]


def readable(path: Path) -> tuple[list[Record], list[BadInput]]:
    """The dialogues of a file that hold, and what is wrong with the others."""
    records, bad = list[Record](), list[BadInput]()
    for number, line in enumerate(_lines(Path(path)), 1):
        if line.strip():
            try:
                records.append(parse(line, f"{path}:{number}"))
            except BadInput as error:
                bad.append(error)
    return records, bad


def sample(records: Sequence[Record], limit: int | None) -> list[Record]:
    """At most `limit` whole dialogues in their order, the same ones each time: those whose ids have the lowest hash."""
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}: take at least 1 dialogue, or leave it out to take all")
    by_hash = sorted(range(len(records)), key=lambda i: (hashlib.sha256(records[i].id.encode()).digest(), i))
    return [records[i] for i in sorted(by_hash[:limit])]


def parse(line: str, where: str) -> Record:
    """One line of such a file; `where` names it in errors."""
    try:
        raw = loads(line)
        if not isinstance(raw, dict):
            raise Flaw(
                "", kind(raw), Said("请写成含 id、source、turns 的对象", "give an object with id, source and turns")
            )
        found = turns(raw)
        return Record(text(raw, "id"), text(raw, "source"), found)
    except Flaw as flaw:
        raise BadInput(f"{where}: {flaw}") from flaw


def loads(line: str) -> Any:
    """A JSON value; Flaw if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        wrong = Said(f"不是 JSON（{error}）", f"not JSON ({error})")
        raise Flaw("", wrong, Said("请写成合法的 JSON", "write valid JSON")) from error


def turns(raw: dict[str, Any], name: str = "turns", content: str = "text") -> tuple[Turn, ...]:
    """The turns of a record: objects with `role` and, under the key `content`, what was said."""
    listed = raw.get(name)
    if not isinstance(listed, list) or not listed:
        raise Flaw(name, kind(listed), Said("请写成至少一轮的列表", "give a list of at least one turn"))
    return tuple(_turn(turn, place, f"{name}[{place}]", content) for place, turn in enumerate(listed))


def _turn(raw: object, place: int, where: str, content: str) -> Turn:
    if not isinstance(raw, dict):
        remedy = Said(f"请写成含 role 与 {content} 的对象", f"give an object with role and {content}")
        raise Flaw(where, kind(raw), remedy)
    due: Literal["patient", "doctor"] = "doctor" if place % 2 else "patient"
    if raw.get("role") != due:
        given = repr(raw.get("role"))[:_QUOTED]
        raise Flaw(
            f"{where}.role",
            Said(f"是 {given}，此处应为 {due!r}", f"is {given} where {due!r} is due"),
            Said("双方轮流说话，病人先说", "turns alternate and the patient begins"),
        )
    return Turn(due, text(raw, content, f"{where}."))


def text(raw: dict[str, Any], name: str, where: str = "") -> str:
    """The text under a key; `where` goes before the key in errors."""
    value = raw.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Flaw(f"{where}{name}", kind(value), Said("请写上文字", "give text"))
    try:
        value.encode()
    except UnicodeEncodeError:
        wrong = Said("含有半个代理对", "holds half of a surrogate pair")
        raise Flaw(f"{where}{name}", wrong, Said("请删去它", "remove it")) from None
    return value


def kind(value: object) -> Said:
    """What a JSON value that is not what it should be is, in a word or two."""
    if value is None:
        return Said("缺失", "is missing")
    if isinstance(value, str):
        return Said("是字符串", "is a string") if value.strip() else Said("是空白", "is blank")
    if isinstance(value, list):
        return Said("是列表", "is a list") if value else Said("是空列表", "is an empty list")
    known = {dict: Said("是对象", "is an object"), bool: Said("是布尔值", "is a boolean")}
    return known.get(type(value), Said("是数字", "is a number"))


def _lines(path: Path) -> Iterable[str]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as opened:
            for number, line in enumerate(opened, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise BadInput(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error

"""Dialogues from JSONL files: `{"id", "source", "turns": [{"role": "patient" | "doctor", "text"}]}`, one a line."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bianque.errors import BadInput
from bianque.types import Dialogue, Message

_SHOWN = 5  # bad lines named in one error


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

    @property
    def messages(self) -> list[Message]:
        return [Message("user" if turn.role == "patient" else "assistant", turn.text) for turn in self.turns]

    def exchanges(self) -> Iterator[tuple[Dialogue, str]]:
        """Each doctor turn with the dialogue before it."""
        messages = self.messages
        for place, message in enumerate(messages):
            if message.role == "assistant":
                yield messages[:place], message.content


def read(path: Path) -> list[Record]:
    """All dialogues of a JSONL file, gzip-compressed if its name ends in .gz; BadInput names the bad lines."""
    records, bad = list[Record](), list[BadInput]()
    for number, line in enumerate(_lines(Path(path)), 1):
        if line.strip():
            try:
                records.append(parse(line, f"{path}:{number}"))
            except BadInput as error:
                bad.append(error)
    if bad:
        more = [f"and {len(bad) - _SHOWN} more lines"] if len(bad) > _SHOWN else []
        raise BadInput("\n".join([*map(str, bad[:_SHOWN]), *more]))
    if not records:
        raise BadInput(f"{path}: holds no dialogue; give one JSON object a line")
    return records


def sample(records: Sequence[Record], limit: int | None) -> list[Record]:
    """At most `limit` whole dialogues in their order, the same ones each time: those whose ids have the lowest hash."""
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}: take at least 1 dialogue, or leave it out to take all")
    by_hash = sorted(range(len(records)), key=lambda i: (hashlib.sha256(records[i].id.encode()).digest(), i))
    return [records[i] for i in sorted(by_hash[:limit])]


def parse(line: str, where: str) -> Record:
    """One line of such a file; `where` names it in errors."""
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where}: not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise BadInput(f"{where}: is {_kind(raw)}; give an object with id, source and turns")
    turns = raw.get("turns")
    if not isinstance(turns, list) or not turns:
        raise BadInput(f"{where}: turns is {_kind(turns)}; give a list of at least one turn")
    found = tuple(_turn(turn, place, f"{where}: turns[{place}]") for place, turn in enumerate(turns))
    return Record(_text(raw, "id", where), _text(raw, "source", where), found)


def _turn(raw: object, place: int, where: str) -> Turn:
    if not isinstance(raw, dict):
        raise BadInput(f"{where} is {_kind(raw)}; give an object with role and text")
    due: Literal["patient", "doctor"] = "doctor" if place % 2 else "patient"
    if raw.get("role") != due:
        raise BadInput(
            f"{where}.role is {raw.get('role')!r} where {due!r} is due: turns alternate and the patient begins"
        )
    return Turn(due, _text(raw, "text", where, "."))


def _text(raw: dict[str, Any], name: str, where: str, join: str = ": ") -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}{join}{name} is {_kind(value)}; give text")
    return value


def _kind(value: object) -> str:
    """What a JSON value that is not what it should be is, in a word or two."""
    if value is None:
        return "missing"
    if isinstance(value, str):
        return "a string" if value.strip() else "blank"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return {dict: "an object", bool: "a boolean"}.get(type(value), "a number")


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

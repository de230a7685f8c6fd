"""Dialogues from JSONL files: `{"id", "source", "turns": [{"role": "patient" | "doctor", "text"}]}`, one a line.

pydantic checks what stands in a file; `Flaw` says where it is wrong, in which words, and how to mend it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from bianque.errors import BadInput

_QUOTED = 40  # characters of a wrong value that an error repeats
M = TypeVar("M", bound=BaseModel)


class Bilingual(NamedTuple):
    """One phrase in Chinese and in English."""

    zh: str
    en: str


class Flaw(BadInput):
    """What is wrong with one field of a record (`turns[2].text`; empty: the whole), and the remedy."""

    def __init__(self, field: str, wrong: Bilingual, remedy: Bilingual) -> None:
        super().__init__(f"{field} {wrong.en}; {remedy.en}".strip())
        self.field, self.wrong, self.remedy = field, wrong, remedy


# --- what a record is ---------------------------------------------------------------------------------------------


def wrong(what: Bilingual, remedy: Bilingual, at: str = "") -> PydanticCustomError:
    """For a validator to raise; `at` goes behind the name of the field."""
    return PydanticCustomError("flaw", "wrong", {"wrong": what, "remedy": remedy, "at": at})


def _not_blank(value: str) -> str:
    if not value.strip():
        raise wrong(kind(value), TEXT)
    if value != value.encode(errors="replace").decode():
        raise wrong(Bilingual("含有半个代理对", "holds half of a surrogate pair"), Bilingual("请删去它", "remove it"))
    return value


TEXT = Bilingual("请写上文字", "give text")
Text = Annotated[str, AfterValidator(_not_blank)]


class Shape(BaseModel):
    """The base of records: a number is no text, and other fields may be there."""

    model_config = ConfigDict(strict=True, frozen=True)


class Turn(Shape):
    role: Any = None  # patient or doctor; `alternating` checks it
    text: Text


T = TypeVar("T", bound=Turn)


def alternating(turns: list[T]) -> list[T]:
    for place, turn in enumerate(turns):
        due = "doctor" if place % 2 else "patient"
        if turn.role != due:
            given = repr(turn.role)[:_QUOTED]
            what = Bilingual(f"是 {given}，此处应为 {due!r}", f"is {given} where {due!r} is due")
            remedy = Bilingual("双方轮流说话，病人先说", "turns alternate and the patient begins")
            raise wrong(what, remedy, f"[{place}].role")
    return turns


Turns = Annotated[list[T], Field(min_length=1), AfterValidator(alternating)]


class Record(Shape):
    """One dialogue; its turns alternate and the patient begins."""

    id: Text
    source: Text
    turns: Turns[Turn]


def checked(model: type[M], raw: object, where: str = "") -> M:
    """A value of a file as a record; Flaw with the first thing that is wrong, its field below `where`."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    context = first.get("ctx", {})
    if first["type"] == "flaw":
        path, what, remedy = path + context["at"], context["wrong"], context["remedy"]
    else:
        what, remedy = _wrong(first["type"], None if first["type"] == "missing" else first["input"], model, path)
    raise Flaw(f"{where}{path}".removeprefix("."), what, remedy)


def _wrong(type_: str, value: object, model: type[BaseModel], path: str) -> tuple[Bilingual, Bilingual]:
    """What pydantic found, in our words."""
    if type_ in ("float_type", "greater_than_equal", "less_than_equal"):
        shown = repr(value)[:_QUOTED]
        return Bilingual(f"是 {shown}", f"is {shown}"), Bilingual("请给 1 到 5 的数", "give a number from 1 to 5")
    if type_ == "model_type":
        names = (
            ", ".join(field.alias or name for name, field in model.model_fields.items()) if not path else "role, text"
        )
        return kind(value), Bilingual(f"请写成含 {names} 的对象", f"give an object with {names}")
    if type_ in ("list_type", "too_short") or (type_ == "missing" and "turns" in path):
        return kind(value), Bilingual("请写成至少一轮的列表", "give a list of at least one turn")
    return kind(value), TEXT


def kind(value: object) -> Bilingual:
    """What a JSON value that is not what it should be is, and the value."""
    if value is None:
        return Bilingual("缺失", "is missing")
    if isinstance(value, str) and not value.strip():
        return Bilingual("是空白", "is blank")
    if value == []:
        return Bilingual("是空列表", "is an empty list")
    names = {
        str: ("字符串", "a string"), list: ("列表", "a list"), dict: ("对象", "an object"), bool: ("布尔值", "a boolean"),
    }  # fmt: skip
    zh, en = names.get(type(value), ("数字", "a number"))
    shown = quoted(value)
    return Bilingual(f"是{zh} {shown}", f"is {en} {shown}")


def quoted(value: object) -> str:
    """A JSON value as an error repeats it: its beginning, however deep or long it is."""
    shown = ""
    for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        shown += part
        if len(shown) > _QUOTED:
            return writable(f"{shown[:_QUOTED]}…")
    return writable(shown)


def writable(text: str) -> str:
    """With a mark for halves of surrogate pairs, which no file and no terminal takes."""
    return text.encode(errors="replace").decode()


# --- files --------------------------------------------------------------------------------------------------------


def readable(path: Path) -> tuple[list[Record], list[BadInput]]:
    """The dialogues of a JSONL file, gzip-compressed if its name ends in .gz, and what is wrong with its other lines."""
    records, bad = list[Record](), list[BadInput]()
    for number, line in enumerate(_lines(Path(path)), 1):
        if line.strip():
            try:
                records.append(checked(Record, loads(line)))
            except Flaw as flaw:
                bad.append(BadInput(f"{path}:{number}: {flaw}"))
    return records, bad


def sample(ids: Sequence[str], limit: int | None) -> list[int]:
    """The places of at most `limit` dialogues in their order, the same ones each time: those whose ids hash lowest."""
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}: take at least 1 dialogue, or leave it out to take all")
    by_hash = sorted(range(len(ids)), key=lambda i: (hashlib.sha256(ids[i].encode()).digest(), i))
    return sorted(by_hash[:limit])


def loads(line: str) -> Any:
    """A JSON value; Flaw if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise no_json(error) from error


def no_json(error: object) -> Flaw:
    what = Bilingual(f"不是 JSON（{error}）", f"not JSON ({error})")
    return Flaw("", what, Bilingual("请写成合法的 JSON", "write valid JSON"))


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

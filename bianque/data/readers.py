"""Evaluation files → cases: our own and recorded dialogues, BianQue's CSV, and DISC-MedLLM's `eval` folder.

A file's kind is told by the keys of its records, never by its name. Every record is checked before any is used.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bianque.data.dialogues import Bilingual, Flaw, checked, kind, loads
from bianque.data.formats import FORMATS, Case, Format, Kind
from bianque.errors import BadInput

MAX_BYTES = 20_000_000  # of a file once it is decompressed
MAX_DIALOGUES = 20_000
_SHOWN = 20  # problems that one error names

Unit = Literal["line", "row", "item"]
_UNITS: dict[Unit, str] = {"line": "行", "row": "行", "item": "项"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one record, and the remedy, each in Chinese and English.

    `number` counts lines of JSONL, items of a JSON list, and rows of a CSV as a spreadsheet shows them (the first
    below the header is 2), from 1; `field` is empty where the whole record is wrong.
    """

    number: int
    unit: Unit
    field: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        name = f" {self.field}" if self.field else ""
        return f"第 {self.number} {_UNITS[self.unit]} ({self.unit} {self.number}){name}：{self.wrong}；{self.remedy}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file holds: its kind, the cases of the good records, the problems of the others, and remarks."""

    kind: Kind
    dialogues: tuple[Case, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()


class _Item(NamedTuple):
    number: int
    value: Any  # a JSON value, or the Flaw that stood in its place


def preview(path: Path, max_bytes: int = MAX_BYTES, max_dialogues: int = MAX_DIALOGUES) -> Loaded:
    """Read what can be read and name every problem; BadInput if the file as a whole cannot be used."""
    found = _read(Path(path), max_bytes, max_dialogues)
    if found.kind == "references":
        raise BadInput(
            f"{Path(path).name}: 只有参考回答，没有对话；请作为参考回答给出 "
            "(holds reference answers and no dialogue: give it as references)"
        )
    return found


def read_cases(path: Path, max_bytes: int = MAX_BYTES, max_dialogues: int = MAX_DIALOGUES) -> tuple[Case, ...]:
    """All dialogues of a file, or BadInput with its problems one a line: nothing is loaded by halves."""
    return _whole(preview(path, max_bytes, max_dialogues), Path(path).name)


def read_references(path: Path, max_bytes: int = MAX_BYTES) -> dict[tuple[str, str], str]:
    """The human doctor's answer to each opening question, by (set, id).

    From records `{"id", "set", "reference"}`, or from any file of human dialogues, as DISC-MedLLM's CMD samples.
    """
    path = Path(path)
    found = {
        (case.set, case.id): case.reference[0] if case.reference else case.messages[1].content
        for case in _whole(_read(path, max_bytes, MAX_DIALOGUES), path.name)
        if case.reference or (case.recorded is None and case.first == 0 and len(case.messages) > 1)
    }
    if not found:
        raise BadInput(f"{path.name}: 没有医生的参考回答 (holds no human doctor's answer)")
    return found


def _whole(loaded: Loaded, name: str) -> tuple[Case, ...]:
    if loaded.problems:
        shown = [str(problem) for problem in loaded.problems[:_SHOWN]]
        more = len(loaded.problems) - len(shown)
        rest = [f"还有 {more} 处 (and {more} more)"] if more else []
        raise BadInput("\n".join([f"{name}: {len(loaded.problems)} 处有误 (problems)", *shown, *rest]))
    return loaded.dialogues


# --- records → cases ----------------------------------------------------------------------------------------------


def _read(path: Path, max_bytes: int, max_dialogues: int) -> Loaded:
    found, unit, decoded = _open(path, max_bytes)
    if len(found) > max_dialogues:
        raise BadInput(
            f"{path.name}: 有 {len(found)} 条，最多 {max_dialogues} 条；请拆成几个文件 "
            f"(holds {len(found)} records, at most {max_dialogues} are read: split the file)"
        )
    format_ = _format(found, path.name)
    cases, problems, seen = list[Case](), list[Problem](), dict[tuple[str, str, str | None], int]()
    for number, value in found:
        try:
            case = _case(format_, value, number, path)
            before = seen.setdefault((case.set, case.id, case.recorded), number)
            if before != number:
                wrong = Bilingual(f"与第 {before} {_UNITS[unit]}的重复", f"repeats that of {unit} {before}")
                raise Flaw("id", wrong, Bilingual("每段对话请用不同的 id", "give each dialogue an id of its own"))
            cases.append(case)
        except Flaw as flaw:
            problems.append(_problem(number, unit, flaw))
    return Loaded(format_.kind, tuple(cases), tuple(problems), (*decoded, *_warnings(cases)))


def _format(found: list[_Item], name: str) -> Format:
    """The kind that most records have: one damaged record must not decide for all."""
    fits = (next((f for f in FORMATS if f.keys <= item.value.keys()), None) for item in found if _is_object(item))
    votes = Counter(format_ for format_ in fits if format_)
    if votes:
        return votes.most_common(1)[0][0]
    flaws = [str(_problem(item.number, "line", item.value)) for item in found if isinstance(item.value, Flaw)]
    known = "；".join(f"{format_.kind}: {', '.join(sorted(format_.keys))}" for format_ in FORMATS)
    what = (
        f"{name}: 认不出的格式，记录应含下列一组字段 (unknown format; a record has one of these sets of keys): {known}"
    )
    raise BadInput("\n".join([what, *flaws[:_SHOWN]]))


def _is_object(item: _Item) -> bool:
    return isinstance(item.value, dict)


def _case(format_: Format, value: Any, number: int, path: Path) -> Case:
    if isinstance(value, Flaw):
        raise value
    if not isinstance(value, dict):
        raise Flaw("", kind(value), Bilingual("请写成对象", "give an object"))
    return format_.case(checked(format_.record, value), number, path.name.split(".")[0] or "file")


def _problem(number: int, unit: Unit, flaw: Flaw) -> Problem:
    wrong, remedy = (f"{said.zh} ({said.en})" for said in (flaw.wrong, flaw.remedy))
    return Problem(number, unit, flaw.field, wrong, remedy)


def _warnings(cases: list[Case]) -> Iterator[str]:
    alone = sum(case.recorded is None and len(case.messages) == 1 for case in cases)
    if alone:
        yield f"{alone} 段对话没有医生的回答，无法计算与参考有关的指标 (dialogues without a doctor's answer: nothing to compare with)"
    if unscored := sum(case.recorded is not None and case.judged is None for case in cases):
        yield f"{unscored} 段录制的对话没有评分 (recorded dialogues without scores)"
    if short := sum(bool(case.messages) and len(case.messages[0].content.strip()) < 2 for case in cases):
        yield f"{short} 段对话的第一句不足两个字，如“无” (dialogues that begin with less than two characters)"


# --- bytes → records ---------------------------------------------------------------------------------------------


def _open(path: Path, max_bytes: int) -> tuple[list[_Item], Unit, list[str]]:
    """The records of a file, what they are counted in, and a remark on its encoding."""
    written, remarks = _decode(_bytes(path, max_bytes), path.name)
    if not written.strip():
        raise BadInput(f"{path.name}: 是空的 (is empty)")
    beginning = written.lstrip()[0]
    if beginning == "[":
        return *_listed(written, path.name), remarks
    if beginning == "{":
        return *_lines(written), remarks
    return *_table(written, path.name), remarks


def _bytes(path: Path, most: int) -> bytes:
    """The bytes of a file, decompressed; of one that would become longer no more than `most` + 1 are ever held."""
    try:
        with path.open("rb") as opened:
            zipped = opened.read(2) == b"\x1f\x8b"
            opened.seek(0)
            source = gzip.GzipFile(fileobj=opened) if zipped else opened
            held = source.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{path.name}: 读不了 (cannot be read): {why}") from error
    if len(held) > most:
        size = f"{most / 1e6:g} MB"
        raise BadInput(f"{path.name}: 解压后超过 {size}，请拆成几个文件 (is over {size} once decompressed: split it)")
    return held


def _decode(held: bytes, name: str) -> tuple[str, list[str]]:
    """UTF-8, or GB18030 for what is no JSON and has more wrong than right characters as UTF-8."""
    try:
        return held.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        tried = held.decode("utf-8", "replace")
        wrong = tried.count("�")
        foreign = sum(character > "\x7f" for character in tried) - wrong
        if held.lstrip()[:1] not in (b"[", b"{") and wrong > foreign:
            try:
                return held.decode("gb18030"), ["按 GB18030 编码读取 (read as GB18030)"]
            except UnicodeDecodeError:
                pass
        line = held.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{name}: 第 {line} 行不是 UTF-8，请另存为 UTF-8 (line {line} is not UTF-8: save the file as UTF-8)"
        ) from error


def _listed(written: str, name: str) -> tuple[list[_Item], Unit]:
    """The items of one JSON list."""
    try:
        whole = loads(written)
    except Flaw as flaw:
        raise BadInput(f"{name}: {flaw.wrong.zh}；{flaw.remedy.zh} ({flaw})") from flaw
    return [_Item(number, value) for number, value in enumerate(whole, 1)], "item"


def _lines(written: str) -> tuple[list[_Item], Unit]:
    """The lines of JSONL, each of its own; or one object over several lines."""
    lines = [(number, line) for number, line in enumerate(written.split("\n"), 1) if line.strip()]
    found = [_Item(number, _value(line)) for number, line in lines]
    if len(found) > 1 and isinstance(found[0].value, Flaw):
        whole = _value(written)
        if isinstance(whole, dict):
            return [_Item(1, whole)], "item"
    return found, "line"


def _value(line: str) -> Any:
    try:
        return loads(line)
    except Flaw as flaw:
        return flaw


def _table(written: str, name: str) -> tuple[list[_Item], Unit]:
    """The rows of a CSV with a header, as objects."""
    rows = csv.reader(io.StringIO(written, newline=""), strict=True)
    found = list[_Item]()
    try:
        header = [column.strip() for column in next(rows)]
        for number, cells in enumerate(rows, 2):
            if any(map(str.strip, cells)):
                found.append(_Item(number, _row(header, cells)))
    except csv.Error as error:
        wrong = Bilingual(f"不是合法的 CSV（{error}），其后未读", f"not valid CSV ({error}); what follows was not read")
        remedy = Bilingual("请检查引号", "check the quotation marks")
        found.append(_Item(found[-1].number + 1 if found else 1, Flaw("", wrong, remedy)))
    if not found:
        raise BadInput(f"{name}: 只有表头 (holds a header and no row)")
    return found, "row"


def _row(header: list[str], cells: list[str]) -> dict[str, str] | Flaw:
    if len(cells) != len(header):
        wrong = Bilingual(
            f"有 {len(cells)} 列，表头有 {len(header)} 列", f"has {len(cells)} cells, the header {len(header)}"
        )
        return Flaw("", wrong, Bilingual("请检查逗号与引号", "check commas and quotation marks"))
    return dict(zip(header, cells, strict=True))

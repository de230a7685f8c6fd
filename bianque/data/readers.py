"""Files → cases: our own and recorded dialogues, BianQue's CSV, DISC-MedLLM's `eval` folder, published corpora.

A file's kind is told by the keys of its records, never by its name. For an evaluation a file is read as a whole and has
to be sound; `stream` reads a corpus of any size and passes over what is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bianque.data import formats, published, records
from bianque.data.dialogues import TEXT, Bilingual, Flaw, checked, kind, writable
from bianque.data.formats import CorpusDialogue, FileFormat, Kind, labelled
from bianque.data.published import as_object
from bianque.data.records import Item, Unit
from bianque.data.repair import RULES, RawTurn, mended, spoken
from bianque.errors import BadInput

FORMATS = (*formats.FORMATS, *published.FORMATS)  # the first that fits
MAX_BYTES = 20_000_000  # of a file once it is decompressed
MAX_DIALOGUES = 20_000
_SHOWN = 20  # problems that one error names

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

    @classmethod
    def of(cls, number: int, unit: Unit, flaw: Flaw) -> Problem:
        wrong, remedy = (writable(f"{said.zh} ({said.en})") for said in (flaw.wrong, flaw.remedy))
        return cls(number, unit, flaw.field, wrong, remedy)

    def __str__(self) -> str:
        name = f" {self.field}" if self.field else ""
        return f"第 {self.number} {_UNITS[self.unit]} ({self.unit} {self.number}){name}：{self.wrong}；{self.remedy}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file holds: its kind, the cases of the good records, the problems of the others, and remarks."""

    kind: Kind
    dialogues: tuple[CorpusDialogue, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()


def preview(path: Path, max_bytes: int = MAX_BYTES, max_dialogues: int = MAX_DIALOGUES) -> Loaded:
    """Read what can be read and name every problem; BadInput if the file as a whole cannot be used."""
    found = _read(Path(path), max_bytes, max_dialogues)
    if found.kind == "references":
        raise BadInput(
            f"{Path(path).name}: 只有参考回答，没有对话；请作为参考回答给出 "
            "(holds reference answers and no dialogue: give it as references)"
        )
    return found


def read_cases(
    path: Path, max_bytes: int = MAX_BYTES, max_dialogues: int = MAX_DIALOGUES
) -> tuple[CorpusDialogue, ...]:
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


def _whole(loaded: Loaded, name: str) -> tuple[CorpusDialogue, ...]:
    if loaded.problems:
        shown = [str(problem) for problem in loaded.problems[:_SHOWN]]
        more = len(loaded.problems) - len(shown)
        rest = [f"还有 {more} 处 (and {more} more)"] if more else []
        raise BadInput("\n".join([f"{name}: {len(loaded.problems)} 处有误 (problems)", *shown, *rest]))
    return loaded.dialogues


# --- records → cases ----------------------------------------------------------------------------------------------


def _read(path: Path, max_bytes: int, max_dialogues: int) -> Loaded:
    opened = records.held(path, max_bytes)
    found = [Item(number, as_object(value)) for number, value in opened.items]
    if len(found) > max_dialogues:
        raise BadInput(
            f"{path.name}: 有 {len(found)} 条，最多 {max_dialogues} 条；请拆成几个文件 "
            f"(holds {len(found)} records, at most {max_dialogues} are read: split the file)"
        )
    format_ = _format(found, path.name)
    cases, problems, seen = list[CorpusDialogue](), list[Problem](), dict[tuple[str, str, str | None], int]()
    for number, value in found:
        try:
            for case in _cases(format_, value, number, path):
                before = seen.setdefault((case.set, case.id, case.recorded), number)
                if before != number:
                    unit = opened.unit
                    wrong = Bilingual(f"与第 {before} {_UNITS[unit]}的重复", f"repeats that of {unit} {before}")
                    raise Flaw("id", wrong, Bilingual("每段对话请用不同的 id", "give each dialogue an id of its own"))
                cases.append(case)
        except Flaw as flaw:
            problems.append(Problem.of(number, opened.unit, flaw))
    return Loaded(format_.kind, tuple(cases), tuple(problems), (*opened.remarks, *_warnings(cases)))


def stream(opened: records.Records, path: Path) -> Iterator[tuple[str, CorpusDialogue] | Problem]:
    """The cases of a file with their kinds, or what is wrong, record by record; turns that do not alternate are mended.

    Each record is of the first kind that fits it.
    """
    for number, raw in opened.items:
        value = as_object(raw)
        try:
            format_ = _fitting(value)
            if format_ is None:
                raise value if isinstance(value, Flaw) else Flaw("", _unknown(value), _KNOWN)
            repairs = list[str]()
            value = _mended(value, number, path, repairs)
            for case in _cases(format_, value, number, path):
                yield format_.kind, replace(_noted(case, value), repairs=(*case.repairs, *repairs))
        except Flaw as flaw:
            yield Problem.of(number, opened.unit, flaw)


_KNOWN = Bilingual("请用一种已知的格式（见 data/README.md）", "use a format that is known (see data/README.md)")


def _noted(case: CorpusDialogue, value: dict[str, Any]) -> CorpusDialogue:
    """With the notes and phases that a line of our own has, which an evaluation does not look at."""
    if isinstance(notes := value.get("notes"), dict):
        case = replace(case, notes={k: v for k, v in notes.items() if isinstance(v, str)} | dict(case.notes))
    phases = [turn.get("phase") for turn in value["turns"]] if isinstance(value.get("turns"), list) else []
    if len(phases) == len(case.messages) and {*phases} & {"asking", "advising"}:
        pairs = zip(case.messages, phases, strict=True)
        said = (replace(m, phase=phase) if phase in ("asking", "advising") else m for m, phase in pairs)
        case = replace(case, messages=tuple(said))
    return case


def _unknown(value: Any) -> Bilingual:
    if not isinstance(value, dict):
        return kind(value)
    named = ", ".join(value)[:80]
    return Bilingual(f"的字段认不出：{named}", f"has fields of no known format: {named}")


def _mended(value: dict[str, Any], number: int, path: Path, repairs: list[str]) -> dict[str, Any]:
    """A record of our own formats, whose turns have to alternate, as it should be."""
    if "turns" in value and not value.keys() & {"id", "source", "set", "model"}:
        value = {"id": str(number), "source": _stem(path), **value}
    for key in ("turns", "conversation"):
        if key in value:
            value = value | {key: mended(value[key], repairs)}
    if "target" in value and isinstance(value.get("input"), str):
        before, said = labelled(value["input"])
        turns = (
            spoken((RawTurn(*turn) for turn in said if turn[1]), "input", repairs)
            if not before.strip() and said
            else []
        )
        sides = {"patient": "病人", "doctor": "医生"}
        written = "\n".join(f"{sides[turn.who]}：{turn.text}" for turn in turns)
        value = value | ({"input": f"{written}\n医生："} if turns else {})
    return value


def _format(found: list[Item], name: str) -> FileFormat:
    """The kind that most records have: one damaged record must not decide for all."""
    votes = Counter(format_ for format_ in (_fitting(item.value) for item in found) if format_)
    if votes:
        return votes.most_common(1)[0][0]
    flaws = [str(Problem.of(item.number, "line", item.value)) for item in found if isinstance(item.value, Flaw)]
    known = "；".join(dict.fromkeys(f"{format_.kind}: {', '.join(sorted(format_.keys))}" for format_ in FORMATS))
    what = (
        f"{name}: 认不出的格式，记录应含下列一组字段 (unknown format; a record has one of these sets of keys): {known}"
    )
    raise BadInput("\n".join([what, *flaws[:_SHOWN]]))


def _fitting(value: Any) -> FileFormat | None:
    return next((f for f in FORMATS if f.keys <= value.keys()), None) if isinstance(value, dict) else None


def _cases(format_: FileFormat, value: Any, number: int, path: Path) -> list[CorpusDialogue]:
    if isinstance(value, Flaw):
        raise value
    if not isinstance(value, dict):
        raise Flaw("", kind(value), Bilingual("请写成对象", "give an object"))
    if missing := next((key for key in sorted(format_.keys) if format_.record is None and key not in value), None):
        raise Flaw(missing, kind(None), TEXT)
    record = checked(format_.record, value) if format_.record else value
    found = format_.case(record, number, _stem(path))
    return found if isinstance(found, list) else [found]


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or "file"


def _warnings(cases: list[CorpusDialogue]) -> Iterator[str]:
    alone = sum(case.recorded is None and len(case.messages) == 1 for case in cases)
    if alone:
        yield f"{alone} 段对话没有医生的回答，无法计算与参考有关的指标 (dialogues without a doctor's answer: nothing to compare with)"
    if unscored := sum(case.recorded is not None and case.judged is None for case in cases):
        yield f"{unscored} 段录制的对话没有评分 (recorded dialogues without scores)"
    if short := sum(bool(case.messages) and len(case.messages[0].content.strip()) < 2 for case in cases):
        yield f"{short} 段对话的第一句不足两个字，如“无” (dialogues that begin with less than two characters)"
    for rule, count in Counter(rule for case in cases for rule in case.repairs).items():
        yield f"{RULES[rule].zh}：{count} 处 ({RULES[rule].en}: {count})"

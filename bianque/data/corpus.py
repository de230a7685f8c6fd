"""Published sets → one corpus: `python -m bianque corpus FILES --out corpus.jsonl`.

Every file is read record by record and cleaned; what is left goes to JSONL of our own shape or to BianQueCorpus' CSV.
Beside it stand a report and a line for each record that was left out, with the reason.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from bianque.data import readers, records
from bianque.data.cleaning import Duplicates, masked
from bianque.data.formats import CorpusDialogue
from bianque.data.readers import Problem
from bianque.data.records import Item, Records
from bianque.data.writers import beside, finished, plain_name, writing
from bianque.errors import BadInput

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt", *records.PICKLES)  # of the files in a folder
UNKNOWN = 100  # records of no known format at a file's beginning, after which the rest is not looked at
Handling = Literal["mask", "drop", "keep"]
Compared = Literal["dialogue", "opening"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is left out of a corpus.

    personal: what is done with words that tell who somebody is
    similar: from which similarity on (2·LCS / (a + b) by characters) a dialogue counts as a duplicate; None: the same
    compare: what is compared, the whole dialogue or its opening
    least_asking: the share of a dialogue's doctor's turns that have to ask
    shortest: characters of the opening; longest: of any turn; rounds: the doctor's turns, at least
    """

    personal: Handling = "mask"
    similar: float | None = None
    compare: Compared = "dialogue"
    least_asking: float = 0.0
    shortest: int = 2
    longest: int = 4000
    rounds: int = 1

    def __post_init__(self) -> None:
        for name, kind in (("personal", Handling), ("compare", Compared)):
            if getattr(self, name) not in get_args(kind):
                raise BadInput(f"{name}={getattr(self, name)!r}: 可选 (choose from) {', '.join(get_args(kind))}")
        if not 0 <= self.least_asking <= 1:
            raise BadInput(f"least_asking={self.least_asking}: 需要 0 到 1 (0 to 1 is needed)")
        for name in ("shortest", "longest", "rounds"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)}: 至少 1 (at least 1)")


class Dropped(NamedTuple):
    """A record or a dialogue that is left out."""

    file: str
    number: int | None
    id: str | None
    reason: str
    detail: str = ""


@dataclass(slots=True)
class Report:
    """What was read, kept, mended and left out; doctor's turns and how many of them ask, before and after."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)  # of turns whose set says whether they ask

    @property
    def failed(self) -> bool:
        """Whether a file as a whole could not be read."""
        return any("error" in facts for facts in self.files.values())

    def as_json(self) -> dict[str, Any]:
        shares = {
            f"asking_{name}": round(found["asking"] / found["turns"], 4)
            for name, found in (("read", self.read), ("kept", self.kept))
            if found["turns"]
        }
        return {"files": self.files, **{n: dict(getattr(self, n)) for n in self.__slots__ if n != "files"}, **shares}


def build(
    paths: Sequence[Path],
    out: Path | None,
    rules: Rules = Rules(),
    asks: Callable[[str], bool] = lambda text: False,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Read, clean and write at most `limit` dialogues; without `out` only the report comes of it.

    `asks` tells whether a doctor's turn asks. A file that cannot be read stands in the report, and the others are read.
    """
    files = list(expanded(paths))
    if out is not None and any(out.resolve() == path.resolve() for path in files):
        raise BadInput(
            f"--out {out}: 也是要读的文件，请另取名字 (is among the files that are read: choose another name)"
        )
    cleaner = Cleaner(rules, asks, limit)
    with ExitStack() as stack:
        if out is not None:
            cleaner.write = stack.enter_context(writing(out))
            lines = stack.enter_context(finished(beside(out, "dropped.jsonl")))
            cleaner.drop = lambda lost: print(json.dumps(lost._asdict(), ensure_ascii=False), file=lines)
        for path in files:
            if not cleaner.full:
                say(told(path.name, cleaner.read(path)))
    if out is not None:
        with finished(beside(out, "report.json")) as file:
            print(json.dumps(cleaner.report.as_json(), ensure_ascii=False, indent=1), file=file)
    return cleaner.report


def kept_whole(
    read: Iterable[tuple[str, CorpusDialogue] | Problem],
    path: Path,
    lose: Callable[[Dropped], None],
    repairs: Counter[str],
) -> Iterator[tuple[str, CorpusDialogue]]:
    """The dialogues, of which BianQue's rows each go on from the one before: the last of them is the dialogue."""
    before: tuple[str, CorpusDialogue] | None = None
    unknown = 0
    for one in read:
        if isinstance(one, Problem):
            lose(Dropped(path.name, one.number, None, "unreadable", str(one)))
            unknown += before is None
            if unknown == UNKNOWN and before is None:
                raise BadInput(
                    f"{path.name}: 前 {UNKNOWN} 条都读不懂，其余未读 (none of the first records can be read): {one}"
                )
            continue
        if before:
            if continues(one[1], before[1]):
                repairs["continued"] += 1
            else:
                yield before
        before = one
    if before:
        yield before


def continues(case: CorpusDialogue, before: CorpusDialogue) -> bool:
    """Whether a dialogue begins with all of the one before it."""
    said = len(before.messages)
    return case.recorded == before.recorded and len(case.messages) > said and case.messages[:said] == before.messages


def expanded(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that are named, and those in the folders that are; cMedQA2's without answers are passed over."""
    listed = list[Path]()
    for given in paths:
        path = Path(os.path.expanduser(given))
        if not path.exists():
            raise BadInput(f"{given}: 没有这个文件或文件夹 (no such file or folder)")
        inside = [path]
        if path.is_dir():
            inside = [
                file for file in sorted(path.rglob("*")) if plain_name(file).endswith(SUFFIXES) and file.is_file()
            ]
        if not inside:
            raise BadInput(f"{given}: 里面没有可读的文件 (holds no file that could be read): {', '.join(SUFFIXES)}")
        listed += inside
    answers = {file.parent for file in listed if plain_name(file).startswith("answer")}
    for file in listed:
        of_answers = file.parent in answers and plain_name(file).startswith("question")
        if not (of_answers or plain_name(file).endswith("_candidates.txt")):
            yield file


def answered(opened: Records, path: Path) -> Records:
    """cMedQA2 keeps its answers in one file and its questions in another beside it: an answer with its question."""
    questions = dict[str, str]()

    def joined() -> Iterator[Item]:
        for number, value in opened.items:
            if (
                isinstance(value, dict)
                and value.keys() >= {"ans_id", "question_id", "content"}
                and "question" not in value
            ):
                if not questions:
                    questions.update(questions_beside(path))
                value = {**value, "id": value["ans_id"], "question": questions.get(value["question_id"], "")}
            yield Item(number, value)

    return opened._replace(items=joined())


def questions_beside(path: Path) -> dict[str, str]:
    found = [file for file in sorted(path.parent.iterdir()) if plain_name(file).startswith("question")]
    if not found:
        raise BadInput(f"{path.name}: 旁边没有 questions.csv，不知道问的是什么 (the questions' file is not beside it)")
    with records.streamed(found[0]) as opened:
        rows = (value for _, value in opened.items if isinstance(value, dict))
        return {row["question_id"]: row["content"] for row in rows if {"question_id", "content"} <= row.keys()}


# --- cleaning -----------------------------------------------------------------------------------------------------


class Cleaner:
    """Reads files one after another, writes what is kept of them, and remembers which dialogues it has seen."""

    def __init__(self, rules: Rules, asks: Callable[[str], bool], limit: int | None = None) -> None:
        self.rules, self.asks, self.limit, self.report = rules, asks, limit, Report()
        self.duplicates = Duplicates(rules.similar)
        self.names = Counter[tuple[str, str]]()
        self.write: Callable[[CorpusDialogue], None] = lambda case: None
        self.drop: Callable[[Dropped], None] = lambda lost: None

    @property
    def full(self) -> bool:
        return self.limit is not None and self.report.kept["dialogues"] >= self.limit

    def read(self, path: Path) -> dict[str, Any]:
        """One file; what became of it, with an `error` if it could not be read (to its end)."""
        kinds = Counter[str]()
        facts: dict[str, Any] = {"kind": "", "read": 0, "kept": 0, "dropped": 0}
        self.report.files[str(path)] = facts

        def lose(lost: Dropped) -> None:
            self.report.dropped[lost.reason] += 1
            facts["dropped"] += 1
            self.drop(lost)

        try:
            with records.streamed(path) as opened:
                facts["remarks"] = list(opened.remarks)
                read = readers.stream(answered(opened, path), path)
                for kind, case in kept_whole(read, path, lose, self.report.repairs):
                    kinds[kind] += 1
                    facts |= {"kind": kinds.most_common(1)[0][0], "read": facts["read"] + 1}
                    if self.take(case, path, lose):
                        facts["kept"] += 1
                    if self.full:
                        break
        except BadInput as error:
            facts["error"] = str(error)
        return facts

    def take(self, case: CorpusDialogue, path: Path, lose: Callable[[Dropped], None]) -> bool:
        """Clean a dialogue and write it; False if it is left out."""
        report = self.report
        report.repairs.update(case.repairs)
        doctor = [message for message in case.messages if message.role == "assistant"]
        asking = [self.asks(message.content) for message in doctor]
        report.read.update(dialogues=1, turns=len(doctor), asking=sum(asking))
        for message, asks in zip(doctor, asking, strict=True):
            if message.phase is not None and case.recorded is None:
                report.labels["agree" if (message.phase == "asking") == asks else "differ"] += 1
        found = Counter[str]()
        if self.rules.personal != "keep":
            case = replace(case, messages=tuple(replace(m, content=masked(m.content, found)) for m in case.messages))
            report.personal.update(found)
        if why := self.fault(case, asking, found):
            lose(Dropped(path.name, None, case.id, *why))
            return False
        report.kept.update(dialogues=1, turns=len(doctor), asking=sum(asking))
        self.write(self.named(case))
        return True

    def fault(self, case: CorpusDialogue, asking: list[bool], found: Counter[str]) -> tuple[str, str] | None:
        """Why a dialogue is left out, and what exactly; None if it is kept."""
        rules = self.rules
        longest = max(len(message.content) for message in case.messages)
        if len(asking) < rules.rounds:
            return "rounds", f"{len(asking)} < {rules.rounds}"
        if found and rules.personal == "drop":
            return "personal", ", ".join(found)
        if len(case.messages[0].content) < rules.shortest:
            return "short", f"{len(case.messages[0].content)} < {rules.shortest}"
        if longest > rules.longest:
            return "long", f"{longest} > {rules.longest}"
        if sum(asking) < rules.least_asking * len(asking):
            return "asking", f"{sum(asking)}/{len(asking)} < {rules.least_asking:g}"
        whole = case.messages if rules.compare == "dialogue" else case.messages[:1]
        before = self.duplicates.seen("\n".join(message.content for message in whole), f"{case.set}/{case.id}")
        return ("duplicate", before) if before else None

    def named(self, case: CorpusDialogue) -> CorpusDialogue:
        """An id of its own for every dialogue of a set."""
        key = case.set, case.id
        self.names[key] += 1
        if self.names[key] == 1:
            return case
        self.report.repairs["renamed"] += 1
        return replace(case, id=f"{case.id}-{self.names[key]}")


def told(name: str, facts: dict[str, Any]) -> str:
    if "error" in facts:
        return f"{name}: {facts['error'].removeprefix(f'{name}: ')}"
    return (
        f"{name}: {facts['kind'] or '–'}，读入 (read) {facts['read']}，留下 (kept) {facts['kept']}，"
        f"略去 (left out) {facts['dropped']}"
    )

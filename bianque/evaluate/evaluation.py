"""A whole evaluation, for the command line, a page or an endpoint: replies, a judge, figures and a report in a folder.

asked = RunRequest.of(path, tasks=("next",), contenders=parse_all(["auto", "advise-mini"]), limit=50)
async with aclosing(evaluate(session, asked, folder)) as steps:
    async for step in steps:
        ...  # a RunProgress after each reply, and last an Outcome
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bianque
from bianque.catalog import builtin
from bianque.consult.session import Session
from bianque.consult.spec import ModelSpec
from bianque.data import dialogues, readers
from bianque.data.formats import CorpusDialogue
from bianque.errors import BadInput
from bianque.evaluate.rows import Row, Task
from bianque.evaluate.run import Runner, RunProgress, concurrently, jobs
from bianque.evaluate.store import METRICS, Key, Store, write_json
from bianque.types import Message

if TYPE_CHECKING:
    from bianque.evaluate.judge import Judge

TASKS: tuple[Task, ...] = ("next", "consultation")  # what a contender can be given
RECORDED: tuple[Task, ...] = ("recorded",)  # what needs no contender
WHOLE: tuple[Task, ...] = ("consultation", "recorded")  # what has whole dialogues, which a judge can score


@dataclass(frozen=True, slots=True)
class Source:
    """A file, by its name and what is in it."""

    name: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Source:
        try:
            return cls(Path(path).name, hashlib.sha256(Path(path).read_bytes()).hexdigest())
        except OSError as error:
            raise BadInput(f"{path}: 读不了 (cannot be read): {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run is asked for. A folder goes on only with the same, `concurrency`, `fresh` and a first judge apart.

    tasks: `next` and `consultation` for contenders; `recorded` alone scores the outputs in the file without any model
    references: human answers to the opening questions of recorded dialogues, by (set, id)
    limit: so many dialogues at most, the same ones each time
    concurrency: replies at a time; with 8 or 4 bits a weight, words drawn from one seed may differ with it
    fresh: forget what the folder has
    command: what was typed, for the report
    """

    data: Source
    cases: tuple[CorpusDialogue, ...]
    tasks: tuple[Task, ...]
    contenders: tuple[ModelSpec, ...] = ()
    references: Mapping[tuple[str, str], str] = field(default_factory=dict)
    referred: Source | None = None
    limit: int | None = None
    concurrency: int = 4
    judge: Judge | None = None
    fresh: bool = False
    command: str | None = None

    @classmethod
    def of(cls, path: Path, tasks: Sequence[Task], references: Path | None = None, **others: Any) -> RunRequest:
        """With the dialogues of a file and, from another one, references; BadInput names all that is wrong in them."""
        known = readers.read_references(references) if references else {}
        referred = Source.of(references) if references else None
        found = cls(
            Source.of(path), readers.read_cases(path), tuple(tasks), references=known, referred=referred, **others
        )
        found.check()
        return found

    def check(self) -> None:
        """BadInput for what does not go together."""
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise BadInput("--task: 至少一个任务，各写一次 (at least one task, each once)")
        recorded = [case for case in self.cases if case.recorded is not None]
        if self.tasks == RECORDED:
            if self.contenders:
                raise BadInput("--recorded: 不运行模型，请去掉 --model (runs no model: leave --model out)")
            if len(recorded) < len(self.cases):
                raise BadInput(
                    f"{self.data.name}: 没有模型的回答可以打分，请用 --model 运行模型 "
                    "(holds no recorded outputs: run models with --model)"
                )
            return
        if not set(self.tasks) <= set(TASKS):
            raise BadInput(f"--task {' '.join(self.tasks)}: 可选 (choose from): {', '.join(TASKS)}")
        if not self.contenders:
            raise BadInput("--model: 至少需要一个模型或模式 (at least one model or mode is needed)")
        if recorded:
            raise BadInput(
                f"{self.data.name}: 是 {recorded[0].recorded} 等的回答记录，请用 --recorded 直接打分 "
                "(holds recorded outputs: score them with --recorded)"
            )
        if not any(True for case in self.cases for _ in case.items()):
            raise BadInput(f"{self.data.name}: 没有要回答的对话 (holds no dialogue to reply to)")
        if self.judge and "consultation" not in self.tasks:
            raise BadInput(
                "--judge: 只评整段对话，请加上 --task consultation 或用 --recorded "
                "(scores whole dialogues: add the task consultation, or use --recorded)"
            )

    def chosen(self) -> list[CorpusDialogue]:
        """The cases of at most `limit` dialogues; of a recorded dialogue, those of all models."""
        if self.limit is None:
            return list(self.cases)
        names = list(dict.fromkeys((case.set, case.id) for case in self.cases))
        chosen = {names[place] for place in dialogues.sample([name for _, name in names], self.limit)}
        return [case for case in self.cases if (case.set, case.id) in chosen]

    def question(self, session: Session | None) -> dict[str, Any]:
        """What the run is asked for, as run.json has it; UnknownModel or BadInput if a contender could not reply."""
        self.check()
        if self.contenders and session is None:
            raise BadInput("运行模型需要 session (running models needs a session)")
        source = lambda found: {"name": found.name, "sha256": found.sha256} if found else None
        return {
            "bianque": bianque.__version__,
            "data": source(self.data),
            "references": source(self.referred),
            "tasks": list(self.tasks),
            "limit": self.limit,
            "contenders": [contender_facts(contender, session) for contender in self.contenders if session],
            "judge": {"url": self.judge.url, "model": self.judge.model} if self.judge else None,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: its rows in the order of the data, how many failed, the figures, and where the report is."""

    folder: Path
    rows: tuple[Row, ...]
    failed: int
    metrics: dict[str, Any]
    report: Path


async def evaluate(
    session: Session | None, asked: RunRequest, folder: Path
) -> AsyncGenerator[RunProgress | Outcome, None]:
    """Do what a folder lacks of a run, and summarise it: a RunProgress at first and after each step, and last the Outcome.

    Closing the iterator stops the replies under way; the same call goes on where it stopped. `session` may be None
    where no model runs. Raises BadInput if the folder belongs to another question or process; a failed reply raises
    nothing: it is an error in its row.
    """
    with Store.open(folder, asked.question(session), asked.fresh, later=("judge",)) as store:
        note_opening(store, session, asked)
        if asked.tasks == RECORDED:
            keys = recorded(store, asked)
        else:
            assert session is not None
            todo = jobs(asked.chosen(), asked.contenders, asked.tasks)
            keys = [key for job in todo for key in job.keys]
            async with aclosing(Runner(session, store, todo, asked.concurrency).run()) as tallies:
                async for tally in tallies:
                    note_kernels(store, session, asked)
                    yield tally
        if asked.judge:
            async with aclosing(judging(store, asked.judge, keys, asked.concurrency)) as tallies:
                async for tally in tallies:
                    yield tally
        yield await asyncio.to_thread(conclude, store, keys)


def recorded(store: Store, asked: RunRequest) -> list[Key]:
    """Put the recorded outputs into the store; the keys of all, in the order of the file."""
    from bianque.evaluate import summary

    rows = summary.recorded_rows(asked.chosen(), asked.references)
    store.append(*(row for row in rows if not store.finished(row.key)))
    return [row.key for row in rows]


def note_opening(store: Store, session: Session | None, asked: RunRequest) -> None:
    """Note that work began, with what, and under which licences."""
    opening = {"started": now(), "concurrency": asked.concurrency, "versions": versions()}
    openings = [*store.run.get("openings", []), opening]
    names = speakers(session, asked) if session else []
    store.note(
        started=openings[0]["started"],
        openings=openings,
        versions=store.run.get("versions", {}) | versions(),
        licences={name: builtin.find(session.cards, name).terms for name in names if session},
        **({"command": asked.command} if asked.command else {}),
    )


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def speakers(session: Session, asked: RunRequest) -> list[str]:
    """The models that may speak, each once."""
    return list(dict.fromkeys(name for each in asked.contenders for name in each.speakers(session).values()))


def note_kernels(store: Store, session: Session, asked: RunRequest) -> None:
    """Note what the models are computed with, once each is loaded."""
    known = store.run.get("kernels", {})
    kernels = {name: session.backend.kernel(name) for name in speakers(session, asked)}
    found = {name: kernel for name, kernel in kernels.items() if kernel is not None}
    if not found.items() <= known.items():
        store.note(kernels=known | found, versions=store.run["versions"] | versions())


def versions() -> dict[str, str]:
    """Of what figures depend on; torch only where it is in use."""
    torch = sys.modules.get("torch")
    found = {"torch": str(torch.__version__)} if torch else {}
    return {"bianque": bianque.__version__, "python": platform.python_version(), **found}


async def judging(store: Store, judge: Judge, keys: Sequence[Key], at_once: int) -> AsyncGenerator[RunProgress, None]:
    """Score each whole dialogue that has no scores yet; what is said of it stands in the row of its last turn."""
    last = last_rows(store.rows[key] for key in keys)
    todo = [row for row in last if row.judged is None or row.judged.scores is None]
    done, failed, begun = len(last) - len(todo), 0, time.monotonic()
    async with judge.client() as client:

        async def score(row: Row) -> AsyncGenerator[Row, None]:
            talk = (*row.history, Message("assistant", row.answer or ""))
            judged = replace(row, judged=await judge.score(client, talk))
            store.append(judged)
            yield judged

        yield RunProgress(done, len(last), failed, None, judging=True)
        async with aclosing(concurrently(todo, score, at_once)) as rows:
            async for row in rows:
                done, failed = done + 1, failed + bool(row.judged and row.judged.error)
                new = done - len(last) + len(todo)
                yield RunProgress(done, len(last), failed, (time.monotonic() - begun) / new * (len(last) - done), True)


def last_rows(rows: Iterable[Row]) -> list[Row]:
    """The last row of each dialogue in which every turn has an answer."""
    found: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if row.task in WHOLE:
            found.setdefault((row.task, row.set, row.id, row.model), []).append(row)
    complete = (turns for turns in found.values() if all(row.error is None for row in turns))
    return [max(turns, key=lambda row: row.turn) for turns in complete]


def contender_facts(contender: ModelSpec, session: Session) -> dict[str, Any]:
    """What the run keeps of a contender: which models speak, from which repo and revision, and how they draw tokens."""
    choices = contender.choices(session)
    cards = [
        {
            "name": name,
            "phase": phase,
            "repo": builtin.find(session.cards, name).repo,
            "revision": builtin.find(session.cards, name).revision,
            "sampling": asdict(session.sampling(name, choices)),
        }
        for phase, name in contender.speakers(session).items()
    ]
    budget = session.budget if choices.mode == "auto" else None
    return {"label": contender.label, "mode": choices.mode, "question_budget": budget, "cards": cards}


def conclude(store: Store, keys: Sequence[Key]) -> Outcome:
    """Write the figures and the report of what a store has."""
    from bianque.evaluate import report, summary

    rows = tuple(store.rows[key] for key in keys)
    metrics = summary.summarise(rows)
    store.note(finished=now())
    store.export(rows)
    write_json(store.folder / METRICS, metrics)
    path = report.write(store.folder, store.run, rows, metrics)
    return Outcome(store.folder, rows, sum(row.error is not None for row in rows), metrics, path)

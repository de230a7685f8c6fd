"""The runner: contenders reply to dialogues, a row each, into a folder that a later run goes on with."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from bianque.consult.session import Done, Session
from bianque.consult.spec import ModelSpec
from bianque.consult.text import strip_echo
from bianque.data.formats import CorpusDialogue
from bianque.errors import BadInput, BianQueError
from bianque.evaluate.rows import Row, Task
from bianque.evaluate.store import Key, Store
from bianque.logs import trace
from bianque.types import Message, Phase

MOST_AT_ONCE = 32  # replies; as many may wait for a model
SKIPPED = "BQ_SKIPPED"  # the code of a turn that was not reached
J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run has come: replies or, while it is `judging`, dialogues; `left`: seconds, where they can be told."""

    done: int
    total: int
    failed: int
    left: float | None
    judging: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Replies of one contender that follow one another: one to a recorded history, or a whole consultation."""

    contender: ModelSpec
    task: Task
    case: CorpusDialogue
    turns: tuple[int, ...]  # of the doctor, ascending
    reference: str | None = None

    def key(self, turn: int) -> Key:
        return self.task, self.case.set, self.case.id, turn, self.contender.label

    @property
    def keys(self) -> list[Key]:
        return [self.key(turn) for turn in self.turns]

    def seed(self, turn: int) -> int | None:
        """A seed of this turn's own, from the contender's, and the same for every contender of that seed.

        With one seed for all turns, each would be drawn at the same place of its distribution.
        """
        given = self.contender.overrides.seed
        if given is None:
            return None
        name = "\0".join((str(given), self.task, self.case.set, self.case.id, str(turn)))
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def jobs(cases: Sequence[CorpusDialogue], contenders: Sequence[ModelSpec], tasks: Sequence[Task]) -> list[Job]:
    """All that is to be done, one contender after the other: not all models may fit into memory at once."""
    found = []
    for contender in contenders:
        for task in tasks:
            for case in cases:
                if task == "next":
                    found += [Job(contender, task, case, (turn,), human) for turn, _, human in case.items()]
                elif turns := tuple(turn for turn, _, _ in case.items()):
                    found.append(Job(contender, task, case, turns))
    return found


class Runner:
    """Does what is missing from a store. A row is written when its reply is whole, and nothing before."""

    def __init__(self, session: Session, store: Store, todo: Sequence[Job], concurrency: int = 4) -> None:
        if not 1 <= concurrency <= MOST_AT_ONCE:
            raise BadInput(f"concurrency={concurrency}: 需要 1 到 {MOST_AT_ONCE} (1 to {MOST_AT_ONCE} is needed)")
        self.session, self.store, self.todo, self.concurrency = session, store, todo, concurrency
        self.wanted = {key for job in todo for key in job.keys}
        self.missing = {key for key in self.wanted if not store.finished(key)}
        self.failed: set[Key] = set()
        self.logged: set[str] = set()
        self.took: dict[str, list[float]] = defaultdict(list)  # seconds of each contender's rows, waiting and all

    async def run(self) -> AsyncGenerator[RunProgress, None]:
        """How far it has come, at first and after each reply. Closing the iterator closes the replies under way."""
        todo = [job for job in self.todo if not self.missing.isdisjoint(job.keys)]
        yield self.tally()
        async with aclosing(concurrently(todo, self.perform, self.concurrency)) as rows:
            async for _ in rows:
                yield self.tally()

    async def perform(self, job: Job) -> AsyncGenerator[Row, None]:
        """The rows of a job that were missing. Behind a failure the later turns are not reached."""
        first = job.turns[0]
        talk = list(job.case.messages[: 2 * first])
        for turn in job.turns:
            talk.append(job.case.messages[2 * turn])
            row = self.store.finished(job.key(turn))
            # A stored reply to a history that was since redone is none to this one.
            if row is None or row.history != tuple(talk):
                begun = time.monotonic()
                row = await self.reply(job, turn, tuple(talk))
                self.took[row.model].append(time.monotonic() - begun)
                self.keep(row)
                yield row
            if row.error is not None:
                for late in job.turns[turn - first + 1 :]:
                    talk.append(job.case.messages[2 * late])
                    self.keep(skipped := unreached(job, late, turn, tuple(talk)))
                    yield skipped
                return
            phase = cast(Phase, row.phase)
            talk.append(Message("assistant", row.answer or "", phase, job.contender.speakers(self.session).get(phase)))

    async def reply(self, job: Job, turn: int, history: tuple[Message, ...]) -> Row:
        """One turn's row; whatever goes wrong is the row's error, and no score."""
        row = Row(job.task, job.case.set, job.case.id, turn, job.contender.label, history, reference=job.reference)
        try:
            choices = job.contender.seeded(job.seed(turn)).choices(self.session)
            done = None
            async with aclosing(self.session.reply(history[:-1], history[-1].content, choices)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        done = event
            return answered(row, done)
        except BianQueError as error:
            return replace(row, error=str(error), code=error.code)
        except Exception as error:
            self.log(error)
            calm = f"内部出错，这一轮没有完成 (internal error: {type(error).__name__})"
            return replace(row, error=calm, code="BQ_INTERNAL")

    def keep(self, row: Row) -> None:
        self.store.append(row)
        self.missing.discard(row.key)
        if row.error is not None:
            self.failed.add(row.key)

    def log(self, error: Exception) -> None:
        """Where it happened, once for each place; its message may hold words of the dialogue and stays out."""
        told = trace(error)
        level = logging.DEBUG if told in self.logged else logging.ERROR
        self.logged.add(told)
        logging.getLogger("bianque").log(level, "a reply failed: %s", told)

    def tally(self) -> RunProgress:
        return RunProgress(len(self.wanted) - len(self.missing), len(self.wanted), len(self.failed), self.left())

    def left(self) -> float | None:
        """Seconds for what is missing, by what rows of the same contender, else of all, took in this run."""
        mean = {label: sum(known) / len(known) for label, known in self.took.items()}
        if not mean:
            return None
        usual = sum(mean.values()) / len(mean)
        seconds = sum(mean.get(label, usual) for *_, label in self.missing)
        return seconds / max(1, min(self.concurrency, len(self.missing)))


def answered(row: Row, done: Done | None) -> Row:
    """The row with a reply in it; times are without the wait for weights and for others' replies."""
    if done is None:
        raise RuntimeError("the reply had no end")
    raw, timing = done.message.content, done.timing
    answer = strip_echo(raw)
    return replace(
        row,
        answer=answer,
        raw=raw if raw != answer else None,
        phase=done.message.phase,
        first=None if timing.first_token is None else round((timing.first_token - timing.load) / 1000, 4),
        seconds=round((timing.total - timing.load) / 1000, 4),
        tokens=done.usage.completion_tokens,
        finish=done.finish,
    )


def unreached(job: Job, turn: int, failed: int, history: tuple[Message, ...]) -> Row:
    """The row of a turn behind one that failed; its history lacks the replies that were never made."""
    error = f"第 {failed + 1} 轮失败，没有走到这一轮 (turn {failed + 1} failed, so this one was not reached)"
    return Row(
        job.task, job.case.set, job.case.id, turn, job.contender.label, history, error=error, code=SKIPPED,
    )  # fmt: skip


async def concurrently(
    todo: Iterable[J], work: Callable[[J], AsyncGenerator[R, None]], at_once: int
) -> AsyncGenerator[R, None]:
    """What the work on each item yields, as it comes, with so many items in work at a time.

    An exception of one ends all. Closing the iterator closes the work under way and waits until that is done.
    """
    waiting = iter(todo)
    results: asyncio.Queue[R | Exception | None] = asyncio.Queue()

    async def worker() -> None:
        try:
            for item in waiting:
                async with aclosing(work(item)) as made:
                    async for result in made:
                        results.put_nowait(result)
            results.put_nowait(None)
        except Exception as error:
            results.put_nowait(error)

    workers = [asyncio.create_task(worker()) for _ in range(at_once)]
    try:
        running = at_once
        while running:
            result = await results.get()
            if isinstance(result, Exception):
                raise result
            if result is None:
                running -= 1
            else:
                yield result
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03 or 2:03."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

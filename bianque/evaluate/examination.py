"""The task `patients`: contenders before scripted patients, every consultation kept, figures and a report in a folder."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from bianque import tables, templates
from bianque.consult.session import Done, Session
from bianque.consult.spec import ModelSpec
from bianque.data.dialogues import sample
from bianque.data.knowledge import bundled, examination
from bianque.evaluate.patients import FIGURES, TITLES, Examiner, Talk, figures
from bianque.evaluate.run import RunProgress, concurrently
from bianque.evaluate.store import write_json
from bianque.types import Message, OpeningKind

TALKS, RESULT, REPORT = "talks.jsonl", "patients.json", "patients.html"
ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class Examined:
    """The end of an examination: each contender's talks and figures, and where the report is."""

    talks: dict[str, list[Talk]]
    figures: dict[str, dict[str, dict[str, Any]]]
    report: Path

    @property
    def failed(self) -> int:
        return sum(talk.error is not None for talks in self.talks.values() for talk in talks)

    def write(self, seed: int) -> None:
        """The figures as JSON, and the report."""
        whole = {
            "count": sum(map(len, self.talks.values())),
            "failed": self.failed,
            "seed": seed,
            "figures": self.figures,
        }
        write_json(self.report.with_name(RESULT), whole)
        self.report.write_text(page(self, seed), encoding="utf-8")

    def markdown(self) -> str:
        """A row a figure, a column a contender: the share with its 95 % interval."""
        rows = [[name, *(shown(found[name]) for found in self.figures.values())] for name in FIGURES]
        return "\n".join(tables.markdown(["", *self.figures], rows))


def shown(figure: dict[str, Any]) -> str:
    if figure["share"] is None:
        return "–"
    return f"{figure['share']:.1%} ({figure['low']:.1%}–{figure['high']:.1%}, {figure['of']})"


async def examine(
    session: Session, contenders: Sequence[ModelSpec], folder: Path, *,
    limit: int | None = None, seed: int = 0, kind: OpeningKind = "usual", at_once: int = 4, fresh: bool = False,
) -> AsyncGenerator[RunProgress | Examined, None]:  # fmt: skip
    """A RunProgress after each consultation, and last the Examined; what the folder already has is not held again.

    With a `limit` only so many complaints are examined, the same ones each time, and no rarer ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / TALKS
    for name in (RESULT, REPORT, *((TALKS,) if fresh else ())):
        (folder / name).unlink(missing_ok=True)
    examiner = Examiner(bundled(), examination(), seed, kind)
    kept = stored(path)
    every = list(bundled().complaints)
    names = None if limit is None else [every[place] for place in sample(every, limit)]
    planned = {spec.label: examiner.plan(names) for spec in contenders}
    done = {label: [kept.get((label, talk.seed)) or talk for talk in talks] for label, talks in planned.items()}
    todo = [(spec, talk) for spec in contenders for talk in planned[spec.label] if (spec.label, talk.seed) not in kept]
    total, failed, begun = sum(map(len, planned.values())), 0, time.monotonic()
    before = total - len(todo)
    yield RunProgress(before, total, 0, None)

    async def hold(item: tuple[ModelSpec, Talk]) -> AsyncGenerator[tuple[str, Talk], None]:
        spec, talk = item
        yield spec.label, await examiner.hold(speaker(session, spec), talk)

    with appended(path) as out:
        async with aclosing(concurrently(todo, hold, at_once)) as ended:
            count = 0
            async for label, talk in ended:
                out.write(json.dumps(row(label, talk), ensure_ascii=False) + "\n")
                out.flush()
                count, failed = count + 1, failed + (talk.error is not None)
                left = (time.monotonic() - begun) / count * (len(todo) - count)
                yield RunProgress(before + count, total, failed, left)
    found = {label: figures(talks) for label, talks in done.items()}
    result = Examined(done, found, folder / REPORT)
    await asyncio.to_thread(result.write, seed)
    yield result


def speaker(session: Session, spec: ModelSpec):
    """The contender as the examiner speaks to it."""
    choices = spec.choices(session)

    async def reply(history: Sequence[Message], message: str, seed: int) -> Message:
        drawn = replace(choices, sampling=replace(choices.sampling, seed=seed))
        async with aclosing(session.reply(history, message, drawn)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.message
        raise AssertionError("a reply ends with Done")

    return reply


def row(label: str, talk: Talk) -> dict[str, Any]:
    dialogue = [{"role": m.role, "content": m.content, "phase": m.phase} for m in talk.dialogue]
    return {
        "contender": label, "complaint": talk.complaint, "seed": talk.seed, "x": talk.x, "dialogue": dialogue,
        "counts": dict(talk.counts), "faults": talk.faults, "error": talk.error,
    }  # fmt: skip


@contextmanager
def appended(path: Path) -> Iterator[TextIO]:
    """The file, to write lines behind what is there; a torn last line stays by itself."""
    torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a", encoding="utf-8") as out:
        if torn:
            out.write("\n")
        yield out


def stored(path: Path) -> dict[tuple[str, str], Talk]:
    """The whole consultations of an earlier run; a torn last line and failed ones are held again."""
    found = {}
    # Not splitlines: that also ends at U+2028, which JSON may hold. A torn line may end within a character.
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for line in lines:
        try:
            kept = json.loads(line)
        except ValueError:
            continue
        if kept["error"] is None:
            dialogue = [Message(**turn) for turn in kept["dialogue"]]
            talk = Talk(kept["complaint"], kept["seed"], kept["x"], dialogue, Counter(kept["counts"]), kept["faults"])
            found[kept["contender"], kept["seed"]] = talk
    return found


def page(result: Examined, seed: int) -> str:
    """The report: the figures, then every consultation with what was found wrong in it, the worst first."""
    talks = [
        (label, talk)
        for label, each in result.talks.items()
        for talk in sorted(each, key=lambda talk: -len(talk.faults) - 100 * (talk.error is not None))
    ]
    names = {entry.id: entry.name for entry in bundled().complaints.values()}
    return templates.fill(
        ASSETS / "patients.html",
        figures=result.figures,
        names=TITLES,
        shown=shown,
        talks=talks,
        complaints=names,
        seed=seed,
    )

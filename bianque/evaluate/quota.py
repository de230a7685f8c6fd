"""Evaluations for whoever visits a page: what may be asked of a shared server, and folders that are kept for a day."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bianque.consult.session import Session
from bianque.consult.spec import SamplingOverrides, parse_all
from bianque.data import readers
from bianque.errors import BadInput, BianQueError, Busy
from bianque.evaluate import examination, store
from bianque.evaluate.evaluation import RECORDED, TASKS, RunRequest, Source
from bianque.evaluate.examination import Examined
from bianque.evaluate.run import RunProgress, jobs
from bianque.logs import trace

MOST_ROWS = 200  # replies of models in one run; the command line has no limit
MOST_RECORDED = 2000  # recorded replies in one run, which no model gives
MOST_PATIENTS = 24  # consultations with scripted patients in one run
MOST_AT_ONCE = 4  # replies at a time in one run
RUNS_AT_ONCE = 2  # on the server; others wait for their turn
MOST_FOLDERS = 40  # each holds a file of readers.MAX_BYTES at most and one run
KEPT = 24 * 3600  # seconds without use until a folder goes
SET = 60.0  # seconds between the two clocks after which the wall clock was set
IDLE = 3600  # seconds without use after which it may make room for another
DATA, RESULTS, PATIENTS = "data", "run", "patients"  # what is in a folder
NAME = re.compile(r"[A-Za-z0-9_-]{22}")


class Failed(BianQueError):
    """Something that was not foreseen; the log knows where."""

    code = "BQ_INTERNAL"


def ask(
    path: Path,
    tasks: Sequence[str],
    contenders: Sequence[str],
    overrides: SamplingOverrides,
    limit: int | None,
    at_once: int,
) -> RunRequest:
    """What a visitor asks for, within the limits; a file that holds recorded outputs is scored and runs no model."""
    check(limit, at_once)
    cases = readers.read_cases(path)
    found = RunRequest(Source.of(path), cases, RECORDED, limit=limit, concurrency=at_once)
    if any(case.recorded is None for case in cases):
        if not tasks or not set(tasks) <= set(TASKS) or len(set(tasks)) < len(tasks):
            raise BadInput(f"tasks={list(tasks)}: 各写一次，可选 (each once, choose from): {', '.join(TASKS)}")
        if not contenders:
            raise BadInput("contenders: 至少选一个模型或模式 (choose at least one model or mode)")
        named = tuple(task for task in TASKS if task in tasks)
        found = replace(found, tasks=named, contenders=parse_all(contenders, overrides))
    found.check()
    count, most = rows(found), MOST_RECORDED if found.tasks == RECORDED else MOST_ROWS
    if count > most:
        raise BadInput(
            f"这次有 {count} 条回答，在这里最多 {most} 条；请减少对话、模型或任务，或在自己的机器上用命令行 "
            f"({count} replies, at most {most} here: take fewer dialogues, models or tasks, or the command line at home)"
        )
    return found


def examine(
    session: Session,
    contenders: Sequence[str],
    overrides: SamplingOverrides,
    limit: int | None,
    at_once: int,
    folder: Path,
) -> AsyncGenerator[RunProgress | Examined, None]:
    """Scripted patients before each contender, within the limits."""
    check(limit, at_once)
    if not contenders:
        raise BadInput("contenders: 至少选一个模型或模式 (choose at least one model or mode)")
    specs = parse_all(contenders, overrides)
    for spec in specs:
        spec.choices(session)
    if limit is None or limit * len(specs) > MOST_PATIENTS:
        raise BadInput(
            f"limit={limit}: 在这里最多 {MOST_PATIENTS} 次问诊（患者数 × 模型数）；全部主诉请在自己的机器上用命令行 "
            f"(at most {MOST_PATIENTS} consultations here, patients × models: use the command line at home for all)"
        )
    return examination.examine(session, specs, folder, limit=limit, seed=overrides.seed or 0, at_once=at_once)


def check(limit: int | None, at_once: int) -> None:
    if limit is not None and limit < 1:
        raise BadInput(f"limit={limit}: 至少 1，或不限 (at least 1, or none)")
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise BadInput(f"concurrency={at_once}: 需要 1 到 {MOST_AT_ONCE} (1 to {MOST_AT_ONCE} is needed)")


def rows(asked: RunRequest) -> int:
    """How many replies the run has."""
    if asked.tasks == RECORDED:
        return sum(message.role == "assistant" for case in asked.chosen() for message in case.messages)
    return sum(len(job.turns) for job in jobs(asked.chosen(), asked.contenders, asked.tasks))


def resumed(asked: RunRequest, session: Session, folder: Path) -> RunRequest:
    """The same, which begins anew unless the folder was asked the same."""
    asks = json.loads(json.dumps(asked.question(session)))
    try:
        before = store.known(folder)
    except BadInput:  # what is there cannot be read
        before = None
    return replace(asked, fresh=before != asks)


def failure(error: Exception, folder: Path | None = None) -> BianQueError:
    """What a visitor is told: an error's own words without the folder's place, or one calm sentence.

    What was not foreseen goes to the log by its kind and place; its message may hold words of a dialogue.
    """
    if isinstance(error, BianQueError):
        text = str(error)
        for place in (f"{folder}{os.sep}", str(folder)) if folder else ():
            text = text.replace(place, "")
        return type(error)(text.removeprefix(": "))
    logging.getLogger("bianque").error("an evaluation failed: %s", trace(error))
    return Failed("服务内部出错，请稍后重试 (internal error; please retry)")


def usual() -> Path:
    """Where folders are: a directory of this user in the system's temporary one."""
    user = getattr(os, "getuid", lambda: 0)()
    return Path(tempfile.gettempdir()) / f"bianque-evaluations-{user}"


@dataclass(frozen=True)
class Folders:
    """Folders under names that nobody guesses: a visitor who has the name has the folder.

    Each has the visitor's file in `data` and the run in `run`; one that was not used for `kept` seconds goes.
    """

    root: Path = field(default_factory=usual)
    most: int = MOST_FOLDERS
    kept: float = KEPT
    clock: Callable[[], float] = time.time
    seen: list[float] = field(init=False)  # both clocks at the last look

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", [self.clock(), time.monotonic()])

    def new(self) -> str:
        """The name of a new folder; Busy if all are in use."""
        self.prepare()
        self.tidy()
        held = sorted(self.all(), key=used)
        while len(held) >= self.most:
            oldest = held.pop(0)
            if self.clock() - used(oldest) < min(IDLE, self.kept):
                raise Busy(
                    f"服务器上已有 {self.most} 份评测，请过一小时再来 "
                    f"({self.most} evaluations are on this server: please come back in an hour)"
                )
            discard(oldest)
        name = secrets.token_urlsafe(16)
        for part in (self.root / name, self.root / name / DATA):
            part.mkdir(mode=0o700)
        return name

    def add(self, file: Path) -> str:
        """The name of a new folder with a copy of a file in it."""
        name = self.new()
        called = "".join(c for c in file.name if c.isprintable() and c not in "/\\")
        shutil.copyfile(file, self.root / name / DATA / (called[-80:].lstrip(".") or "file"))
        return name

    def find(self, name: object) -> Path | None:
        """The folder of this name, which counts as used; None if it is gone or the name is none."""
        if not isinstance(name, str) or not NAME.fullmatch(name) or not (self.root / name).is_dir():
            return None
        os.utime(self.root / name)
        return self.root / name

    def data(self, name: object) -> Path | None:
        """The visitor's file in a folder."""
        folder = self.find(name)
        return next((folder / DATA).iterdir(), None) if folder and (folder / DATA).is_dir() else None

    def remove(self, name: object) -> None:
        if folder := self.find(name):
            discard(folder)

    def tidy(self) -> None:
        """Remove what nobody has used for too long.

        Files know the wall clock alone: where that was set since the last look, or a time lies ahead, all begins anew.
        """
        for aside in self.root.glob(".*"):  # a removal that was cut short
            shutil.rmtree(aside, ignore_errors=True)
        now, steady = self.clock(), time.monotonic()
        moved = abs((now - self.seen[0]) - (steady - self.seen[1])) > SET
        self.seen[:] = now, steady
        for folder in self.all():
            if moved or used(folder) > now + SET:
                for path in stamps(folder):
                    os.utime(path, (now, now))
            elif now - used(folder) > self.kept:
                discard(folder)

    def all(self) -> list[Path]:
        found = self.root.iterdir() if self.root.is_dir() else ()
        return [folder for folder in found if NAME.fullmatch(folder.name)]

    def prepare(self) -> None:
        """A directory that is this user's alone: anybody could have put one into a temporary place before."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.root.lstat()
        owner = getattr(os, "getuid", lambda: status.st_uid)()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner:
            raise Failed("评测的临时目录不可用 (the evaluations' temporary directory cannot be used)")


def discard(folder: Path) -> None:
    """Remove a folder, out of its place first: whoever reads a database in it at this moment would put a file beside it."""
    aside = folder.with_name(f".{folder.name}")
    with suppress(OSError):  # not where one of its files is open, on Windows
        folder = folder.rename(aside)
    shutil.rmtree(folder, ignore_errors=True)


def used(folder: Path) -> float:
    """When a folder was last used: its own time, or that of its newest row; 0 if it has just gone."""
    return max((path.stat().st_mtime for path in stamps(folder)), default=0.0)


def stamps(folder: Path) -> list[Path]:
    """What in a folder tells when it was used."""
    run = folder / RESULTS / store.DATABASE
    found = (folder, run, run.with_name(f"{run.name}-wal"), folder / PATIENTS / examination.TALKS)
    return [path for path in found if path.exists()]

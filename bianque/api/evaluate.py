"""The `/evaluate` endpoint: a small file of dialogues, or scripted patients → figures, rows and a report.

It keeps nothing of a call.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import gradio as gr
from gradio.utils import get_upload_folder

from bianque.api.errors import calm
from bianque.api.limits import Limits
from bianque.api.schemas import TEXTS, as_int, validated
from bianque.consult.pacing import Throttle, with_heartbeat
from bianque.consult.session import Session
from bianque.consult.spec import SamplingOverrides
from bianque.consult.text import LABEL
from bianque.errors import BadInput
from bianque.evaluate import quota
from bianque.evaluate.evaluation import Outcome, evaluate
from bianque.evaluate.examination import TALKS, Examined
from bianque.evaluate.run import RunProgress
from bianque.evaluate.store import ROWS

PATIENTS, FEW = "patients", 8  # the task without a file; patients, unless the caller wants another number


class FileAsked(TypedDict):
    path: str
    url: str | None
    size: int | None
    orig_name: str | None
    mime_type: str | None
    is_stream: bool
    meta: dict[str, Any]


class EvaluateReply(TypedDict):
    done: int
    total: int
    failed: int
    seconds_left: float | None
    metrics: dict[str, Any] | None
    rows: list[dict[str, Any]] | None
    report: str | None
    label: str


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call as they came."""

    file: Any
    text: Any
    tasks: Any
    contenders: Any
    limit: Any
    concurrency: Any
    drawn: dict[str, Any]

    def begin(self, session: Session, folder: Path) -> tuple[RunProgress, AsyncGenerator[Any, None]]:
        """The run that is asked for, in a part of the folder, and how far it is; BadInput names what is wrong."""
        drawn = SamplingOverrides(**{name: as_int(value) for name, value in self.drawn.items()})
        limit, at_once = as_count("limit", self.limit), as_count("concurrency", self.concurrency)
        who = ["auto"] if self.contenders is None else validated(TEXTS, "contenders", self.contenders)
        what = ["next"] if self.tasks is None else validated(TEXTS, "tasks", self.tasks)
        at_once = 2 if at_once is None else at_once
        if what == [PATIENTS]:
            if self.file is not None or self.text is not None:
                raise BadInput("file, text: 模拟患者不需要文件 (scripted patients need no file)")
            patients = FEW if limit is None else limit
            steps = quota.examine(session, who, drawn, patients, at_once, folder / "run")
            return RunProgress(0, patients * len(who), 0, None), steps
        asked = quota.ask(self.data(folder), what, who, drawn, limit, at_once)
        return RunProgress(0, quota.rows(asked), 0, None), evaluate(session, asked, folder / "run")

    def data(self, folder: Path) -> Path:
        """The dialogues as a file: what was uploaded, or what stands in `text`."""
        if (self.file is None) == (self.text is None):
            raise BadInput("file, text: 需要其中一个 (one of the two is needed)")
        if self.text is None:
            given, name = uploaded(self.file)
            return Path(shutil.copyfile(given, folder / name))
        if not isinstance(self.text, str):
            raise BadInput("text: 需要字符串 (a string is needed)")
        path = folder / "text"
        path.write_text(self.text, encoding="utf-8", errors="replace")
        return path


def uploaded(file: object) -> tuple[Path, str]:
    """Where an uploaded file is, and its name; BadInput for what this server was not given."""
    wrong = "file: 需要上传的文件 (an uploaded file is needed: handle_file in Python, /gradio_api/upload with curl)"
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str) or "\0" in path:
        raise BadInput(wrong)
    found = Path(path).resolve()
    if not found.is_relative_to(Path(get_upload_folder()).resolve()) or not found.is_file():
        raise BadInput(wrong)
    return found, found.name


def as_count(name: str, given: Any) -> Any:
    """A whole number or None; which numbers are allowed is told where they are used."""
    given = as_int(given)
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    raise BadInput(f"{name}={given!r}: 需要整数 (a whole number) 或 null (or null)")


def progress_reply(tally: RunProgress) -> EvaluateReply:
    return {
        "done": tally.done, "total": tally.total, "failed": tally.failed, "seconds_left": tally.left,
        "metrics": None, "rows": None, "report": None, "label": LABEL,
    }  # fmt: skip


def finished(outcome: Outcome | Examined) -> EvaluateReply:
    """The end: rows in the order of the data, or a row a consultation; the figures; the report as a text."""
    kept, metrics = (TALKS, outcome.figures) if isinstance(outcome, Examined) else (ROWS, outcome.metrics)
    lines = outcome.report.with_name(kept).read_text("utf-8").split("\n")
    count = sum(map(bool, lines))
    return {
        "done": count, "total": count, "failed": outcome.failed, "seconds_left": 0.0, "metrics": metrics,
        "rows": [json.loads(line) for line in lines if line], "report": outcome.report.read_text("utf-8"), "label": LABEL,
    }  # fmt: skip


async def replies(session: Session, call: Call) -> AsyncGenerator[EvaluateReply, None]:
    """How far the run has come, now and then, and at last all of it; the folder goes with the call."""
    with tempfile.TemporaryDirectory(prefix="bianque-evaluate-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        try:
            first, run = await asyncio.to_thread(call.begin, session, folder)
            throttle, last = Throttle(), progress_reply(first)
            async with aclosing(with_heartbeat(run)) as steps:
                async for step in steps:
                    if isinstance(step, Outcome | Examined):
                        last = await asyncio.to_thread(finished, step)
                    elif isinstance(step, RunProgress):
                        last = progress_reply(step)
                    if isinstance(step, Outcome | Examined) or throttle.ready():
                        yield last
        except Exception as error:
            raise quota.failure(error, folder) from None


def add_evaluate(session: Session, limits: Limits) -> None:
    """Register the endpoint in the Blocks that are being built."""

    async def evaluate_(
        file: FileAsked | None = None,
        text: str | None = None,
        tasks: list[str] | None = None,
        contenders: list[str] | None = None,
        limit: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_new_tokens: int | None = None,
        seed: int | None = None,
        concurrency: int | None = None,
    ) -> AsyncGenerator[EvaluateReply, None]:
        """Replies to dialogues, scored: each item says how far it has come; the last has metrics, rows and the report.

        The dialogues are an uploaded `file` or a `text`: JSONL, JSON or CSV, 20 MB at most. Tasks: next (the default),
        consultation; a file of recorded outputs is scored as it is. The task patients needs neither: `limit` scripted
        patients (default 8) consult each contender, a row each, 24 at most in all. Contenders: modes and cards, with settings if
        wanted, as ask-mini@8:temperature=0 (default: auto). `limit`: so many dialogues. At most 200 replies a call, or
        2000 recorded ones, and 4 at a time (default 2). `report` is a whole HTML page.
        """
        drawn = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "seed": seed}
        call = Call(file, text, tasks, contenders, limit, concurrency, drawn)
        try:
            with limits.admit():  # how many replies at a time, it limits itself
                async with aclosing(replies(session, call)) as found:
                    async for item in found:
                        yield item
        except Exception as error:
            raise calm(error) from None

    gr.api(evaluate_, api_name="evaluate", concurrency_id="evaluate", concurrency_limit=quota.RUNS_AT_ONCE)

"""What the Evaluate tab shows of a folder's run, what a browser keeps of it, and where its report is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

import bianque.evaluate
from bianque.evaluate import examination, quota, store
from bianque.evaluate.patients import FIGURES, TITLES
from bianque.evaluate.quota import Folders
from bianque.i18n import say
from bianque.ui import render, sheets

ADDRESS = "evaluations/{name}/{file}"  # of a report, as the page sees it
SAMPLE = Path(bianque.evaluate.__file__).parent / "examples" / "dialogues.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run: how much of it there is, its figures as a value of gr.DataFrame, and what they mean."""

    count: int
    failed: int
    figures: dict[str, list[Any]]
    legend: str


@dataclass(frozen=True, slots=True)
class RunKind:
    """One kind of run: what it counts, its part of the folder, its report and other files, and how they are read.

    `read` gives a Result, or how many are done of a run that has not ended.
    """

    unit: str
    folder: str
    files: tuple[str, str, str]
    read: Callable[[Path, str], Result | int]


def of_file(folder: Path, lang: str) -> Result | int:
    rows = store.read(folder)
    if not all((folder / name).exists() for name in (store.REPORT, store.METRICS)):
        return sum(row.error is None for row in rows)
    metrics = json.loads((folder / store.METRICS).read_text("utf-8"))
    failed = sum(metrics["errors"].values())
    return Result(metrics["rows"], failed, sheets.figures(metrics, lang), sheets.legend(metrics, lang))


def of_patients(folder: Path, lang: str) -> Result | int:
    kept = examination.stored(folder / examination.TALKS)
    path = folder / examination.RESULT
    if not path.exists():
        return len(kept)
    found = json.loads(path.read_text("utf-8"))
    lines = [
        [
            render.either(TITLES[name][0], TITLES[name][1], lang),
            *(examination.shown(figures[name]) for figures in found["figures"].values()),
        ]
        for name in FIGURES
    ]
    table = {"headers": [say(lang, "eval_figure"), *found["figures"]], "data": lines}
    return Result(found["count"], found["failed"], table, f"<p>{say(lang, 'eval_patients_why')}</p>")


KINDS = {
    "file": RunKind("replies", quota.RESULTS, (store.REPORT, store.ROWS, store.METRICS), of_file),
    "patients": RunKind(
        "patients", quota.PATIENTS, (examination.REPORT, examination.TALKS, examination.RESULT), of_patients
    ),
}


def name_of(kept: Any) -> Any:
    """The name of the visitor's folder, as the browser says; whoever finds it checks it."""
    return kept.get("folder") if isinstance(kept, dict) else None


def kind_of(kept: Any) -> RunKind:
    return KINDS[form_of(kept).get("source", "file")]


def form_of(kept: Any) -> dict[str, Any]:
    """The form of the last run as a browser kept it; empty if it is none."""
    form = kept.get("form") if isinstance(kept, dict) else None
    if (
        not isinstance(form, dict)
        or form.get("source") not in KINDS
        or not all(texts(form.get(k)) for k in ("tasks", "who"))
    ):
        return {}
    rest = (form.get(name) for name in ("limit", "at_once", "seed", "most"))
    return form if all(part is None or isinstance(part, str | int) for part in rest) else {}


def texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def reports(folders: Folders) -> list[Route]:
    """Where a visitor's own report is read; whoever knows the folder's name may. It is no part of this page's origin."""
    headers = {
        "Content-Security-Policy": f"sandbox {sheets.SANDBOX}", "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex",
    }  # fmt: skip

    def report(request: Request) -> Response:
        folder = folders.find(request.path_params["name"])
        kind = next((kind for kind in KINDS.values() if kind.files[0] == request.path_params["file"]), None)
        path = folder / kind.folder / kind.files[0] if folder and kind else None
        if not path or not path.exists():
            return PlainTextResponse("没有这份报告，或已删除 (no such report, or it is deleted)", 404, headers)
        return FileResponse(path, headers=headers, media_type="text/html")

    return [Route("/" + ADDRESS, report)]

"""What the Evaluate tab shows of a folder's run: of dialogues in a file, or of scripted patients."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bianque.evaluate
from bianque.evaluate import examination, quota, store
from bianque.evaluate.patients import FIGURES, TITLES
from bianque.i18n import say
from bianque.ui import sheets

SAMPLE = Path(bianque.evaluate.__file__).parent / "examples" / "dialogues.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run: how much of it there is, its figures as a value of gr.DataFrame, and what they mean."""

    count: int
    failed: int
    figures: dict[str, list[Any]]
    legend: str


@dataclass(frozen=True, slots=True)
class Kind:
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
    place = sheets.language(lang)
    lines = [
        [TITLES[name][place], *(examination.shown(figures[name]).strip() for figures in found["figures"].values())]
        for name in FIGURES
    ]
    table = {"headers": [say(lang, "eval_figure"), *found["figures"]], "data": lines}
    return Result(found["count"], found["failed"], table, f"<p>{say(lang, 'eval_patients_why')}</p>")


KINDS = {
    "file": Kind("replies", quota.RESULTS, (store.REPORT, store.ROWS, store.METRICS), of_file),
    "patients": Kind(
        "patients", quota.PATIENTS, (examination.REPORT, examination.TALKS, examination.RESULT), of_patients
    ),
}

"""Dialogues → files: JSONL of our own shape, and BianQueCorpus' CSV."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from bianque.data.formats import CorpusDialogue
from bianque.errors import BadInput

HEADER = ("input", "target", "answer_choice", "type")  # of BianQueCorpus
_TURN = re.compile(r"(^|\n)(\s*(?:病人|患者|医生))[：:]")
_ESCAPE = re.compile(r"\\(?=[nt])")


def record(case: CorpusDialogue) -> dict[str, Any]:
    """A dialogue as a line of JSONL: our own shape, and for what a model said that of recordings."""
    turns = [
        {
            "role": "patient" if m.role == "user" else "doctor",
            "text": m.content,
            **({"phase": m.phase} if m.phase else {}),
        }
        for m in case.messages
    ]
    model = {"set": case.set, "model": case.recorded, "ai_generated": True} if case.recorded else {}
    notes = {"notes": dict(case.notes)} if case.notes else {}
    return {"id": case.id, "source": case.set, **model, "turns": turns, **notes}


def rows(case: CorpusDialogue) -> Iterator[tuple[str, str, str, str]]:
    """A dialogue as BianQueCorpus has it: a row for each of the doctor's turns, line breaks as a backslash and an n."""
    before = ""
    for message in case.messages:
        said = escaped(message.content)
        if message.role == "assistant":
            yield f"{before}医生：", said, "[]", case.notes.get("type", case.set)
        before += f"{'病人' if message.role == 'user' else '医生'}：{said}\\n"


def escaped(text: str) -> str:
    """A turn's text on one line, in which nothing reads as another turn or as an escape."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    text = _TURN.sub(r"\1\2，", _ESCAPE.sub("/", text))
    return text.replace("\n", "\\n").replace("\t", "\\t")


def plain_name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


def check_name(out: Path) -> None:
    if not plain_name(out).endswith((".jsonl", ".csv")):
        raise BadInput(f"--out {out}: 请写成 .jsonl 或 .csv，也可加 .gz (name a .jsonl or a .csv file, also with .gz)")


@contextmanager
def writing(out: Path) -> Iterator[Callable[[CorpusDialogue], None]]:
    """A function that writes dialogues as the file's name says; the file is there once all are written."""
    check_name(out)
    with finished(out) as file:
        if plain_name(out).endswith(".csv"):
            table = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            table.writerow(HEADER)
            yield lambda case: table.writerows(rows(case))
        else:
            yield lambda case: print(json.dumps(record(case), ensure_ascii=False), file=file)


@contextmanager
def finished(path: Path) -> Iterator[TextIO]:
    """A text file, compressed if its name ends in .gz, that takes its name when it is complete."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as raw:
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
            with io.TextIOWrapper(packed, encoding="utf-8", errors="replace", newline="") as file:  # type: ignore[arg-type]
                yield file
        os.replace(part, path)
    except OSError as error:
        raise BadInput(f"{path}: 写不了 (cannot be written): {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def beside(out: Path, ending: str) -> Path:
    """`corpus.report.json` beside `corpus.jsonl.gz`."""
    stem = out.name.removesuffix(".gz")
    return out.with_name(f"{stem.rpartition('.')[0] or stem}.{ending}")

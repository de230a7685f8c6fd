"""The report of an evaluation: one HTML file that asks nothing of any network, in Chinese and English.

Here is what it says; `assets/report.html` is how. What people and models wrote is untrusted: the template escapes it,
the reader (`report.js`) makes text nodes of it, and the page's own policy lets no other script run and no request leave.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from bianque import templates
from bianque.consult.questions import questions
from bianque.consult.text import length
from bianque.data.formats import ASPECTS
from bianque.evaluate import sections
from bianque.evaluate.measures import MEASURES
from bianque.evaluate.rows import Row, Task
from bianque.evaluate.sections import models
from bianque.evaluate.store import REPORT
from bianque.evaluate.summary import markdown
from bianque.i18n import say

ASSETS = Path(__file__).parent / "assets"


def label() -> str:
    return say("zh-CN", "label")


@cache
def labels() -> dict[str, dict[str, list[str]]]:
    """In Chinese and English: what the reader says (report.js fills the braces), the fields of run.json in the order
    they are shown, and headings above the measure with that name."""
    return json.loads((ASSETS / "labels.json").read_text("utf-8"))


def write(folder: Path, run: Mapping[str, Any], rows: Sequence[Row], metrics: Mapping[str, Any]) -> Path:
    """Write `report.html` into the folder: what was asked (`run`), each row, and the figures of `summary.summarise`."""
    path = Path(folder) / REPORT
    path.write_bytes(page(run, rows, metrics).encode("utf-8", "replace"))  # a model may utter half a surrogate pair
    return path


def page(run: Mapping[str, Any], rows: Sequence[Row], metrics: Mapping[str, Any]) -> str:
    """The whole document; its policy names the one script by its hash."""
    style, script = ((ASSETS / name).read_text("utf-8") for name in ("report.css", "report.js"))
    mark = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{mark}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return templates.fill(
        ASSETS / "report.html", {"filled": filled, "columns": columns}, policy=policy, style=style, script=script, data=embedded(run, rows, metrics), labels=labels(),
        notice=(label(), say("en", "label")), sums=sums(rows), brief=brief(run), facts=run_facts(run, metrics),
        figures=sections.figures(metrics, labels()["headings"]), bars=sections.bars(metrics),
        differences=sections.differences(metrics), spreads=sections.spreads(rows), failures=failures(rows),
        measures=MEASURES.values(),
    ).lstrip()  # fmt: skip


# --- what was run -------------------------------------------------------------------------------------------------


def sums(rows: Sequence[Row]) -> list[tuple[int, str, str]]:
    return [
        (len(rows), "行", "rows"), (len(models(rows)), "个模型", "models"),
        (len({(row.set, row.id) for row in rows}), "段对话", "dialogues"),
        (sum(row.error is not None for row in rows), "行出错", "rows with an error"),
    ]  # fmt: skip


def brief(run: Mapping[str, Any]) -> list[str]:
    """The file, the time and the version."""
    version = run.get("bianque")
    named = ((run.get("data") or {}).get("name"), run.get("started"), version and f"bianque {version}")
    return [str(value) for value in named if value]


def run_facts(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for and what became known on the way, as one table without what is empty."""
    found = {"signature": metrics.get("signature"), **run}
    found["contenders"] = [  # a line a model: `auto` has two
        {**{name: value for name, value in contender.items() if name != "cards"}, **card}
        for contender in run.get("contenders", ())
        for card in contender.get("cards") or [{}]
    ]
    if len(found.get("openings", ())) < 2:  # begun once: `started` and `versions` say it
        found.pop("openings", None)
    if "bianque" in found.get("versions", {}):
        found.pop("bianque", None)
    order = {name: place for place, name in enumerate(labels()["names"])}
    return dict(sorted(filled(found).items(), key=lambda pair: order.get(pair[0], len(order))))


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {}, ())


def filled(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty."""
    return {name: value for name, value in found.items() if not _empty(value)}


def columns(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that some of these objects have."""
    every = dict.fromkeys(name for one in found for name in one)
    return [name for name in every if any(not _empty(one.get(name)) for one in found)]


def failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Errors by code, model and set, each with what it said and the addresses of its first rows."""
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.error is not None:
            found[row.code or "BQ_ERROR", row.model, row.set].append(row)
    address = lambda row: urlencode({"errors": 1, "item": item_key(row)})
    return [
        {
            "code": code, "model": model, "set": set_, "count": len(own), "error": own[0].error,
            "examples": [(f"{row.id}/{row.turn + 1}", address(row)) for row in own[:5]],
        }
        for (code, model, set_), own in sorted(found.items(), key=lambda pair: -len(pair[1]))
    ]  # fmt: skip


# --- rows for the reader ------------------------------------------------------------------------------------------


def item_key(row: Row) -> str:
    """The address of an item, as report.js writes it: one turn of a dialogue, whoever answers."""
    return "/".join(quote(str(part), safe="!'()*~") for part in (row.task, row.set, row.id, row.turn))


class Texts:
    """Each text once; histories, answers and judges' prompts refer to it by its place."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def __call__(self, text: str | None) -> int | None:
        return None if text is None else self.places.setdefault(text, len(self.places))


def items(rows: Sequence[Row], texts: Texts) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The turns to read side by side, and what judges said; what is None is left out.

    A history stands with its item where all models were given the same, else with each answer.
    """
    turns: dict[tuple[Task, str, str, int], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        turns[row.task, row.set, row.id, row.turn][row.model] = row
    judged = {(row.task, row.set, row.id, row.model): row.judged for row in rows if row.judged}
    places = {key: place for place, key in enumerate(judged)}
    numbers = {model: place for place, model in enumerate(models(rows))}
    found = []
    for (task, set_, id_, turn), by_model in turns.items():
        answers = list(by_model.values())
        reference = next((row.reference for row in answers if row.reference is not None), None)
        shared = len({row.history for row in answers}) == 1
        item = {"task": task, "set": set_, "id": id_, "turn": turn, "reference": texts(reference), **_asking(reference)}
        item["history"] = _history(answers[0], texts) if shared else None
        item["answers"] = [
            _kept(
                model=numbers[row.model], text=texts(row.answer), raw=texts(row.raw), error=texts(row.error), code=row.code,
                phase=row.phase, first=row.first, seconds=row.seconds, tokens=row.tokens, finish=row.finish, **_asking(row.answer),
                history=None if shared else _history(row, texts), judged=places.get((task, set_, id_, row.model)),
            ) for row in answers
        ]  # fmt: skip
        found.append(_kept(**item))
    return found, [
        _kept(scores=j.scores, prompt=texts(j.prompt or None), answer=texts(j.answer or None), error=j.error)
        for j in judged.values()
    ]


def _kept(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _asking(text: str | None) -> dict[str, Any]:
    """Whether a turn asks and in which sentences, and how long it is."""
    if text is None:
        return {}
    found = questions(text)
    return {"asks": bool(found), "questions": found or None, "length": length(text)}


def _history(row: Row, texts: Texts) -> list[list[Any]]:
    return [[m.role, texts(m.content), *((m.phase, m.model) if m.phase or m.model else ())] for m in row.history]


def embedded(run: Mapping[str, Any], rows: Sequence[Row], metrics: Mapping[str, Any]) -> str:
    """All that report.js reads, as JSON in which no tag can end or begin."""
    texts = Texts()
    found, judged = items(rows, texts)
    data = run.get("data") or {}
    whole = {
        "items": found, "judged": judged, "texts": list(texts.places), "models": models(rows), "aspects": ASPECTS, "words": labels()["words"],
        "label": label(), "name": f"bianque-{Path(data.get('name', 'evaluation')).name.split('.')[0]}",
        "markdown": f"> {label()}\n\n{markdown(metrics)}",
    }  # fmt: skip
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

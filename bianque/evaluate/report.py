"""The report of an evaluation: one HTML file that asks nothing of any network, in Chinese and English.

What people and models wrote is untrusted: it is escaped here, the reader (`report.js`) makes text nodes of it, and the
page's own policy lets no other script run and no request leave.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from bianque.consult.questions import questions
from bianque.consult.text import length
from bianque.data.formats import ASPECTS
from bianque.evaluate import sections
from bianque.evaluate.labels import NAMES, WORDS, both
from bianque.evaluate.rows import Row, Task
from bianque.evaluate.sections import models
from bianque.evaluate.store import REPORT
from bianque.evaluate.summary import markdown
from bianque.i18n import say

LABEL = say("zh-CN", "label")
READER = f"""
<noscript><p class="label">{both("逐条阅读需要 JavaScript；全部内容也在 rows.jsonl 里。", "The reader needs JavaScript; rows.jsonl has it all.")}</p></noscript>
<div id="controls" role="search" data-zh="筛选与排序" data-en="Filter and sort" aria-label="筛选与排序"></div>
<div class="bar-line"><p id="count" role="status" tabindex="-1"></p>
<div><button type="button" id="save-csv">{both("导出所选 CSV", "Export these as CSV")}</button>
<button type="button" id="save-jsonl">{both("导出所选 JSONL", "Export these as JSONL")}</button></div></div>
<p class="quiet">{both("键盘：j / k 下一条 / 上一条，/ 搜索。下划线：判为提问的句子。", "Keys: j / k next / previous item, / search. Underlined: the sentences that ask.")}</p>
<div id="items"></div>
<div class="bar-line"><div class="pager" role="navigation" data-zh="翻页" data-en="Pages" aria-label="翻页"></div></div>
"""


def write(folder: Path, run: Mapping[str, Any], rows: Sequence[Row], metrics: Mapping[str, Any]) -> Path:
    """Write `report.html` into the folder: what was asked (`run`), each row, and the figures of `summary.summarise`."""
    path = Path(folder) / REPORT
    path.write_bytes(page(run, rows, metrics).encode("utf-8", "replace"))  # a model may utter half a surrogate pair
    return path


def page(run: Mapping[str, Any], rows: Sequence[Row], metrics: Mapping[str, Any]) -> str:
    """The whole document; its policy names the one script by its hash."""
    here = Path(__file__).parent
    style, script = ((here / name).read_text("utf-8") for name in ("report.css", "report.js"))
    mark = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{mark}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    parts = [
        ("figures", both("指标", "Figures"), sections.figures(metrics)),
        ("plots", both("图", "Plots"), sections.bars(metrics)),
        ("differences", both("成对差异", "Paired differences"), sections.differences(metrics)),
        ("spreads", both("长度与用时", "Length and latency"), sections.spreads(rows)),
        ("failures", both("错误", "Errors"), _failures(rows)),
        ("rows", both("逐条阅读", "Read the rows"), READER),
        ("legend", both("指标的定义", "Definitions"), sections.legend()),
    ]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, inner in parts if inner)
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{inner}</section>'
        for name, title, inner in parts
        if inner
    )
    return (
        '<!doctype html>\n<html lang="zh-CN" data-lang="zh">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>扁鹊 BianQue · 评测报告 · Evaluation</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'{_head(run, rows, metrics)}<nav data-zh="章节" data-en="Sections" aria-label="章节"><ul>{links}</ul></nav>\n<main>{body}</main>\n'
        f"<footer><p>{both('扁鹊 BianQue · 这一页不连接任何网络。', 'BianQue · this page connects to no network.')}</p></footer>\n"
        f'<div id="tip" role="tooltip" hidden></div>\n<script type="application/json" id="data">{embedded(run, rows, metrics)}'
        f"</script>\n<script>{script}</script>\n</body>\n</html>\n"
    )


# --- what was run -------------------------------------------------------------------------------------------------


def _head(run: Mapping[str, Any], rows: Sequence[Row], metrics: Mapping[str, Any]) -> str:
    sums = (
        (len(rows), "行", "rows"), (len(models(rows)), "个模型", "models"),
        (len({(row.set, row.id) for row in rows}), "段对话", "dialogues"),
        (sum(row.error is not None for row in rows), "行出错", "rows with an error"),
    )  # fmt: skip
    counted = "".join(f"<li><b>{count}</b>{both(chinese, english)}</li>" for count, chinese, english in sums)
    licence = both(
        "模型、数据和回答各依其发布者的许可使用。",
        "Models, data and replies: each under the licence of whoever published it.",
    )
    return (
        f'<header><div class="top"><h1>{both("扁鹊 · 评测报告", "BianQue · evaluation report")}</h1>'
        f'<button type="button" id="save-figures">{both("导出指标 Markdown", "Export figures as Markdown")}</button>'
        '<button type="button" id="language"><span class="zh" lang="en">English</span><span class="en" lang="zh-CN">中文</span></button></div>'
        f'<p class="label" role="note">{both(LABEL, say("en", "label"))} · {licence}</p><ul class="sum">{counted}</ul>'
        f"<details><summary>{both('怎么得来的', 'How it was made')}{_brief(run)}</summary>"
        f'<dl class="facts">{_made(run, metrics)}</dl></details></header>'
    )


def _brief(run: Mapping[str, Any]) -> str:
    """The file, the time and the version in a line."""
    named = ((run.get("data") or {}).get("name"), run.get("started"), run.get("bianque"))
    said = [str(value) for value in (*named[:2], named[2] and f"bianque {named[2]}") if value]
    return f'<span class="quiet"> · {escape(" · ".join(said))}</span>' if said else ""


def _made(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    parts = []
    for name, value in facts(run, metrics).items():
        shown = f'<code class="command">{escape(str(value))}</code>' if name == "command" else _value(value)
        parts.append(f"<dt>{both(*NAMES.get(name, (name, name)))}</dt><dd>{shown}</dd>")
    return "".join(parts)


def facts(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
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
    order = {name: place for place, name in enumerate(NAMES)}
    kept = {name: value for name, value in found.items() if not _empty(value)}
    return dict(sorted(kept.items(), key=lambda pair: order.get(pair[0], len(order))))


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {}, ())


def _value(value: Any, within: bool = False) -> str:
    """Any value of JSON as HTML: an object is a line, a list of objects a table, or lines within a table's cell."""
    if isinstance(value, Mapping):
        kept = {name: inner for name, inner in value.items() if not _empty(inner)}
        return " · ".join(f"{both(*NAMES.get(n, (n, n)))} {_value(inner, True)}" for n, inner in kept.items())
    if isinstance(value, list | tuple):
        if within or not all(isinstance(inner, Mapping) for inner in value):
            return ("<br>" if within else ", ").join(_value(inner, True) for inner in value)
        columns = [
            n for n in dict.fromkeys(n for inner in value for n in inner) if not all(_empty(i.get(n)) for i in value)
        ]
        lines = [[_value(inner.get(name), True) for name in columns] for inner in value]
        return sections.table([both(*NAMES.get(name, (name, name))) for name in columns], lines)
    return "–" if value is None else f'<span class="number">{escape(str(value))}</span>'


# --- errors -------------------------------------------------------------------------------------------------------


def _failures(rows: Sequence[Row]) -> str:
    """Errors by code, model and set, each with what it said and links to its first rows."""
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.error is not None:
            found[row.code or "BQ_ERROR", row.model, row.set].append(row)
    if not found:
        return f"<p>{both('没有出错的行。', 'No row has an error.')}</p>"
    names = (
        ("代码", "Code"),
        ("模型", "Model"),
        ("数据集", "Set"),
        ("行数", "Rows"),
        ("说明", "Message"),
        ("例子", "Examples"),
    )
    lines = [
        (f"<code>{escape(code)}</code>", escape(model), escape(set_), str(len(own)),
         f"<p>{escape(own[0].error or '')}</p>", f"<p>{' '.join(map(_link, own[:5]))}</p>")
        for (code, model, set_), own in sorted(found.items(), key=lambda pair: -len(pair[1]))
    ]  # fmt: skip
    return sections.table([both(*name) for name in names], lines)


def _link(row: Row) -> str:
    return f'<a href="#{urlencode({"errors": 1, "item": item_key(row)})}">{escape(row.id)}/{row.turn + 1}</a>'


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
        "items": found, "judged": judged, "texts": list(texts.places), "models": models(rows), "aspects": ASPECTS, "words": WORDS,
        "label": LABEL, "name": f"bianque-{Path(data.get('name', 'evaluation')).name.split('.')[0]}",
        "markdown": f"> {LABEL}\n\n{markdown(metrics)}",
    }  # fmt: skip
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

"""What the Evaluate tab shows as HTML: a file's preview and problems, progress, figures, and the report in its frame.

Files and replies are anybody's text: all of it is escaped here, and the report stands in a sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bianque.data.formats import CorpusDialogue
from bianque.data.readers import Loaded, Problem
from bianque.evaluate import sections
from bianque.evaluate.measures import MEASURES
from bianque.evaluate.run import RunProgress, clock
from bianque.i18n import say
from bianque.ui.render import alert, either, one_language, paragraph

SHOWN = 3  # dialogues of a preview
TURNS = 12  # turns of each
LISTED = 50  # problems
# No allow-same-origin: a report can read neither this page nor what it keeps.
SANDBOX = "allow-scripts allow-downloads"


def preview(name: str, found: Loaded, lang: str) -> str:
    turns = sum(1 for case in found.dialogues for _ in case.items())
    facts = say(lang, "eval_found", name=name, kind=found.kind, count=len(found.dialogues), turns=turns)
    told = [paragraph(facts, "bq-eval-facts"), *(paragraph(one_language(warning, lang)) for warning in found.warnings)]
    if found.problems:
        told.append(problems(found.problems, lang))
    shown = found.dialogues[:SHOWN]
    if shown:
        talks = "".join(dialogue(case, lang) for case in shown)
        title = escape(say(lang, "eval_first", count=len(shown)))
        told.append(f"<details{'' if found.problems else ' open'}><summary>{title}</summary>{talks}</details>")
    return "".join(told)


def problems(found: Sequence[Problem], lang: str) -> str:
    """A table, in which each line says where, what is wrong, and what to do."""
    heads = [say(lang, f"eval_{name}") for name in ("where", "field", "wrong", "remedy")]
    units = {"line": "eval_line", "row": "eval_row", "item": "eval_item"}
    cells = [
        (say(lang, units[one.unit], number=one.number), one.field, one_language(one.wrong, lang), one_language(one.remedy, lang))
        for one in found[:LISTED]
    ]  # fmt: skip
    more = len(found) - len(cells)
    rest = paragraph(say(lang, "eval_more", count=more)) if more else ""
    return alert(say(lang, "eval_problems", count=len(found)), lang) + html_table(heads, cells) + rest


def html_table(heads: Iterable[str], lines: Iterable[Sequence[str]]) -> str:
    """Texts as a table in a box of its own to scroll in; the first cell names its line."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in lines
    )
    return f'<div class="bq-box" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def dialogue(case: CorpusDialogue, lang: str) -> str:
    said = "".join(
        f"<p><b>{say(lang, 'patient' if message.role == 'user' else 'doctor')}</b> {escape(message.content)}</p>"
        for message in case.messages[:TURNS]
    )
    name = " · ".join(part for part in (f"{case.set}/{case.id}", case.recorded) if part)
    rest = "<p>…</p>" if len(case.messages) > TURNS else ""
    return f'<section lang="zh-CN"><h4>{escape(name)}</h4>{said}{rest}</section>'


def format_html(lang: str) -> str:
    """What a file may look like, folded, with the first dialogue of the sample."""
    kinds = "".join(f"<li>{escape(line)}</li>" for line in say(lang, "eval_formats").split("\n"))
    example = '{"id": "1", "source": "me", "turns": [{"role": "patient", "text": "头痛一周了"}, {"role": "doctor", "text": "哪个部位？"}]}'
    return (
        f"<details><summary>{escape(say(lang, 'eval_format'))}</summary>"
        f'<pre lang="zh-CN" style="white-space: pre-wrap">{escape(example)}</pre><ul>{kinds}</ul></details>'
    )


def progress(tally: RunProgress, unit: str, lang: str) -> str:
    """A bar, and beside it how many (replies, patients) are there, how many failed, and how long it will take."""
    parts = [say(lang, f"eval_progress_{unit}", done=tally.done, total=tally.total)]
    if tally.failed:
        parts.append(say(lang, "eval_failed", count=tally.failed))
    if tally.done == tally.total:
        parts.append(say(lang, "eval_counting"))
    elif tally.left is not None:
        parts.append(say(lang, "eval_left", clock=clock(tally.left)))
    return bar(tally.done, tally.total, lang) + paragraph(" · ".join(parts))


def bar(done: int, total: int, lang: str) -> str:
    return f'<progress value="{done}" max="{max(1, total)}" aria-label="{escape(say(lang, "evaluate"))}"></progress>'


def figures(metrics: Mapping[str, Any], lang: str) -> dict[str, list[Any]]:
    """The figures as a value of gr.DataFrame: measures down, models across, what each is over; a line names each set."""
    found = sections.figures(metrics, {})
    models = list(dict.fromkeys(model for group in found.values() for model in group["models"]))
    lines = []
    for (task, name), group in found.items():
        across = lambda cells, group=group: [dict(zip(group["models"], cells, strict=True)).get(m, "–") for m in models]
        lines.append([f"{name} · {say(lang, f'task_{task}')}", *("" for _ in models), ""])
        groups = sections.sides(metrics)[task, name]
        counts = {
            "eval_replies": [g["rows"] for g in groups],
            "eval_errors": [sum(g["errors"].values()) for g in groups],
        }
        lines += [[say(lang, key), *across(list(map(str, count))), ""] for key, count in counts.items()]
        for row in group["rows"]:
            shown = [f"{text} {interval}".strip() for text, interval, _ in row["cells"]]
            lines.append([either(row["measure"].title[0], row["measure"].title[1], lang), *across(shown), row["n"]])
    return {"headers": [say(lang, "eval_figure"), *models, "n"], "data": lines}


def legend(metrics: Mapping[str, Any], lang: str) -> str:
    """What the figures mean."""
    used = {name for group in metrics["groups"] for name in group["figures"]}
    meanings = "".join(
        f"<dt>{escape(either(*measure.title, lang))}</dt><dd>{escape(either(*measure.meaning, lang))}</dd>"
        for measure in MEASURES.values()
        if measure.name in used
    )
    signature = paragraph(f"BLEU: {metrics['signature']}") if metrics.get("signature") else ""
    return f"<details><summary>{escape(say(lang, 'eval_legend'))}</summary><dl>{meanings}</dl>{signature}</details>"


def frame(address: str, lang: str) -> str:
    """The report in a frame, and a link to it as a page of its own."""
    title, own = escape(say(lang, "eval_report")), escape(say(lang, "eval_own"))
    return (
        f'<p><a href="{escape(address)}" target="_blank" rel="noopener">{own}</a></p>'
        f'<iframe sandbox="{SANDBOX}" title="{title}" src="{escape(address)}"></iframe>'
    )

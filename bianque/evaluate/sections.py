"""The sections of a report on its figures: tables, plots, differences, distributions and definitions, as HTML."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bianque.consult.text import length
from bianque.evaluate import plots
from bianque.evaluate.labels import HEADINGS, MAIN, WORDS, both
from bianque.evaluate.measures import MEASURES, Measure
from bianque.evaluate.rows import Row

# --- figures ------------------------------------------------------------------------------------------------------


def _sets(metrics: Mapping[str, Any]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The groups of each task and set: one a model."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for group in metrics["groups"]:
        found[group["task"], group["set"]].append(group)
    return found


def _title(task: str, set_: str) -> str:
    return f"{escape(set_)} · {both(*WORDS[task])}"


def _term(measure: Measure) -> str:
    """The name of a measure, which shows its definition when it is pointed at, reached or tapped."""
    return f'<button type="button" class="term" aria-describedby="def-{measure.name}">{both(*measure.title)}</button>'


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of HTML in a box of its own to scroll in; the first cell names its line."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in lines
    )
    return f'<div class="box"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figures(metrics: Mapping[str, Any]) -> str:
    hint = both(
        "★ 同一行里最好的；n 是每个数所依据的轮次或对话数。点按名称看定义。",
        "★ best of its row; n: how many turns or dialogues a figure is over. Tap a name for its definition.",
    )
    tables = "".join(f"<h3>{_title(*key)}</h3>{_table(groups)}" for key, groups in _sets(metrics).items())
    return f'<p class="quiet">{hint}</p>{tables}'


def _table(groups: Sequence[Mapping[str, Any]]) -> str:
    """Measures down, models across: as many figures as there are, and a phone scrolls within."""
    head = "".join(f'<th scope="col">{escape(group["model"])}</th>' for group in groups)
    heads = f'<tr><th scope="col">{both("指标", "Figure")}</th>{head}<th scope="col">n</th></tr>'
    counts = {
        both("行数", "rows"): [group["rows"] for group in groups],
        both("对话数", "dialogues"): [group["dialogues"] for group in groups],
        both("出错的行", "rows with an error"): [sum(group["errors"].values()) for group in groups],
        both("没读出的评分", "unread judgements"): [group["judge_errors"] for group in groups],
    }
    body = _heading("数量", "Counts", len(groups)) + "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{count}</td>" for count in found)}<td></td></tr>'
        for name, found in counts.items()
        if any(found) or name == both("出错的行", "rows with an error")
    )
    for measure in MEASURES.values():
        figures = [group["figures"].get(measure.name) for group in groups]
        if measure.name in HEADINGS:
            heading = _heading(*HEADINGS[measure.name], len(groups))
        if any(figures):
            body += heading + _figure_row(measure, figures)
            heading = ""
    return f'<div class="box"><table class="figures"><thead>{heads}</thead><tbody>{body}</tbody></table></div>'


def _heading(chinese: str, english: str, models: int) -> str:
    return f'<tr><th scope="rowgroup" colspan="{models + 2}">{both(chinese, english)}</th></tr>'


def _figure_row(measure: Measure, figures: Sequence[Mapping[str, float] | None]) -> str:
    shown = [_show(measure, found["value"]) if found else "–" for found in figures]
    best = _best(measure, shown)
    mark = f'<span class="best"><span class="hidden">{both("最好", "best")} </span>'
    cells = "".join(
        f"<td>{f'{mark}{text}</span>' if text == best else text}<small>{_interval(measure, found)}</small></td>"
        for text, found in zip(shown, figures, strict=True)
    )
    counts = sorted({int(found["n"]) for found in figures if found})
    among = "–".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return f'<tr><th scope="row">{_term(measure)}</th>{cells}<td>{among}</td></tr>'


def _show(measure: Measure, value: float, sign: str = "") -> str:
    shown = format(value, sign + measure.format)
    return shown if float(shown) else format(0.0, measure.format)  # neither −0.00 nor +0.00


def _interval(measure: Measure, found: Mapping[str, float] | None, sign: str = "") -> str:
    if not found or found.get("low") is None:
        return ""
    return f"[{_show(measure, found['low'], sign)}, {_show(measure, found['high'], sign)}]"


def _best(measure: Measure, shown: Iterable[str]) -> str | None:
    """The best of the figures as they are printed; None where none is, or all are the same."""
    numbers = {text for text in shown if text != "–"}
    if measure.better == "neither" or len(numbers) < 2:
        return None
    return (max if measure.better == "higher" else min)(numbers, key=float)


def legend() -> str:
    better = {
        "higher": both("越高越好。", "Higher is better."),
        "lower": both("越低越好。", "Lower is better."),
        "neither": "",
    }
    entries = "".join(
        f'<div id="def-{m.name}"><dt>{both(*m.title)}</dt><dd>{both(*m.meaning)} {better[m.better]}</dd></div>'
        for m in MEASURES.values()
    )
    return f'<dl class="legend">{entries}</dl>'


# --- plots --------------------------------------------------------------------------------------------------------


def bars(metrics: Mapping[str, Any]) -> str:
    parts = []
    for key, groups in _sets(metrics).items():
        drawn = [_bar(MEASURES[name], groups) for name in MAIN if any(name in group["figures"] for group in groups)]
        parts.append(f'<h3>{_title(*key)}</h3><div class="plots">{"".join(drawn)}</div>')
    return "".join(parts)


def _bar(measure: Measure, groups: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for group in groups:
        if found := group["figures"].get(measure.name):
            ends = (found["low"], found["high"]) if found.get("low") is not None else None
            note = f"{_show(measure, found['value'])}<small>{_interval(measure, found)}</small>"
            lines.append((escape(group["model"]), found["value"], ends, note))
    return plots.bars(_term(measure), lines)


def differences(metrics: Mapping[str, Any]) -> str:
    """Intervals of the main measures about zero; all of them as a table that opens."""
    found: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for one in metrics.get("differences", ()):
        found[one["task"], one["set"]][one["measure"]].append(one)
    if not found:
        return ""
    hint = both(
        "每行是前者减后者，横线是按对话成对重抽的 95% 区间。实心点：区间不含零；空心点：看不出差别。",
        "A row is the first less the second with its 95 % interval, resampled over dialogues in pairs. A full dot: the interval "
        "leaves zero out; a hollow one: no difference can be told.",
    )
    parts = [f'<p class="quiet">{hint}</p>']
    for key, measures in found.items():
        drawn = "".join(_about_zero(MEASURES[name], measures[name]) for name in MAIN if name in measures)
        parts.append(f'<h3>{_title(*key)}</h3><div class="plots wide">{drawn}</div>{_difference_table(measures)}')
    return "".join(parts)


def _about_zero(measure: Measure, found: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (f"{escape(one['a'])}<br>− {escape(one['b'])}", one["difference"], one["low"], one["high"],
         f"{_show(measure, one['difference'], '+')}<small>{_interval(measure, one, '+')}</small>") for one in found
    ]  # fmt: skip
    return plots.intervals(_term(measure), lines)


def _difference_table(measures: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    names = (
        ("指标", "Figure"),
        ("前者", "First"),
        ("后者", "Second"),
        ("差", "Difference"),
        ("95% 区间", "95 % interval"),
        ("n", "n"),
    )
    lines = [
        (both(*MEASURES[name].title), escape(one["a"]), escape(one["b"]), _show(MEASURES[name], one["difference"], "+"),
         _interval(MEASURES[name], one, "+"), str(one["n"])) for name, found in measures.items() for one in found
    ]  # fmt: skip
    whole = table([both(*name) for name in names], lines)
    return f"<details><summary>{both('所有差异', 'All differences')}</summary>{whole}</details>"


def spreads(rows: Sequence[Row]) -> str:
    """How lengths and times are distributed, a line a model and, for lengths, one for the human doctor."""
    sets = dict.fromkeys((row.task, row.set) for row in rows)
    parts = []
    for task, set_ in sets:
        own = [row for row in rows if (row.task, row.set) == (task, set_)]
        drawn = _lengths(own)
        for name, title in (
            ("first", both("首字的秒数", "Seconds to the first token")),
            ("seconds", both("全文的秒数", "Seconds of a reply")),
        ):
            times = {
                m: [v for row in own if row.model == m and (v := getattr(row, name)) is not None] for m in models(own)
            }
            lines = [(escape(m), v, f"{plots.quantile(sorted(v), 0.5):.2f} s") for m, v in times.items() if v]
            legend = both("中位数、四分位、5–95%", "median, quartiles, 5–95 %")
            drawn += plots.boxes(f"{title} <small>{legend}</small>", lines) if lines else ""
        if drawn:
            parts.append(f'<h3>{_title(task, set_)}</h3><div class="plots wide">{drawn}</div>')
    return "".join(parts)


def _lengths(rows: Sequence[Row]) -> str:
    found = {
        escape(m): [length(row.answer) for row in rows if row.model == m and row.answer is not None]
        for m in models(rows)
    }
    human = {(row.id, row.turn): length(row.reference) for row in rows if row.reference is not None}
    found[both("人类医生", "Human doctor")] = list(human.values())
    lines = [(name, v, f"{plots.quantile(sorted(v), 0.5):.0f}") for name, v in found.items() if v]
    every = sorted(x for _, v, _ in lines for x in v)
    title = f"{both('回答的长度（字）', 'Length of replies (characters)')} <small>{both('竖线：中位数；末格含更长的', 'line: median; the last bin has all longer ones')}</small>"
    return plots.histogram(title, lines, plots.quantile(every, 0.99)) if every else ""


def models(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))

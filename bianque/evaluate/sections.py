"""What the sections of a report say: tables and plots of figures, differences and distributions, as data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bianque.consult.text import length
from bianque.evaluate import plots
from bianque.evaluate.measures import MEASURES, Measure
from bianque.evaluate.plots import Plot, quantile
from bianque.evaluate.rows import Row

# Of these there is a plot.
MAIN = (
    "question_rate", "pqa_f1", "judge_mean", "judge_proactivity", "rouge_l", "bleu_4", "distinct_2", "self_repetition",
    "length",
)  # fmt: skip
COUNTS = {
    "rows": ("行数", "rows"), "dialogues": ("对话数", "dialogues"), "errors": ("出错的行", "rows with an error"),
    "judge_errors": ("没读出的评分", "unread judgements"),
}  # fmt: skip
Side = tuple[str, str]  # a task and a set
Group = Mapping[str, Any]  # of one model in a side


def models(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))


def sides(metrics: Mapping[str, Any]) -> dict[Side, list[Group]]:
    """The groups of each task and set: one a model."""
    found: dict[Side, list[Group]] = defaultdict(list)
    for group in metrics["groups"]:
        found[group["task"], group["set"]].append(group)
    return found


# --- figures ------------------------------------------------------------------------------------------------------


def figures(metrics: Mapping[str, Any], headings: Mapping[str, Any]) -> dict[Side, dict[str, Any]]:
    """For each task and set: its models, counts and, by measure, a cell a model and what they are over.

    A heading stands at the measure of its name, or at the first behind it that has figures.
    """
    return {side: _figures_of(groups, headings) for side, groups in sides(metrics).items()}


def _figures_of(groups: Sequence[Group], headings: Mapping[str, Any]) -> dict[str, Any]:
    number = lambda value: sum(value.values()) if isinstance(value, Mapping) else value
    counts = {name: [number(group[name]) for group in groups] for name in COUNTS}
    rows, heading = [], None
    for measure in MEASURES.values():
        heading = headings.get(measure.name, heading)
        found = [group["figures"].get(measure.name) for group in groups]
        if any(found):
            rows.append(_figure_row(measure, found) | {"heading": heading})
            heading = None
    return {
        "models": [group["model"] for group in groups],
        "counts": [(COUNTS[name], found) for name, found in counts.items() if any(found) or name == "errors"],
        "rows": rows,
    }


def _figure_row(measure: Measure, found: Sequence[Mapping[str, float] | None]) -> dict[str, Any]:
    shown = [show(measure, figure["value"]) if figure else "–" for figure in found]
    best = best_of(measure, shown)
    cells = [(text, interval(measure, figure), text == best) for text, figure in zip(shown, found, strict=True)]
    counts = sorted({int(figure["n"]) for figure in found if figure})
    return {"measure": measure, "cells": cells, "n": "–".join(map(str, dict.fromkeys((counts[0], counts[-1]))))}


def show(measure: Measure, value: float, sign: str = "") -> str:
    shown = format(value, sign + measure.format)
    return shown if float(shown) else format(0.0, measure.format)  # neither −0.00 nor +0.00


def interval(measure: Measure, found: Mapping[str, float] | None, sign: str = "") -> str:
    """The 95 % interval in brackets; "" where none is known."""
    if not found or found.get("low") is None:
        return ""
    return f"[{show(measure, found['low'], sign)}, {show(measure, found['high'], sign)}]"


def best_of(measure: Measure, shown: Iterable[str]) -> str | None:
    """The best of the figures as they are printed; None where none is, or all are the same."""
    numbers = {text for text in shown if text != "–"}
    if measure.better == "neither" or len(numbers) < 2:
        return None
    return (max if measure.better == "higher" else min)(numbers, key=float)


# --- plots --------------------------------------------------------------------------------------------------------


def bars(metrics: Mapping[str, Any]) -> dict[Side, list[tuple[Measure, Plot]]]:
    return {
        side: [
            (MEASURES[name], _bar(MEASURES[name], groups))
            for name in MAIN
            if any(name in group["figures"] for group in groups)
        ]
        for side, groups in sides(metrics).items()
    }


def _bar(measure: Measure, groups: Sequence[Group]) -> Plot:
    lines = []
    for group in groups:
        if found := group["figures"].get(measure.name):
            ends = (found["low"], found["high"]) if found.get("low") is not None else None
            note = show(measure, found["value"]), interval(measure, found)
            lines.append((group["model"], found["value"], ends, note))
    return plots.bars(lines)


def differences(metrics: Mapping[str, Any]) -> dict[Side, dict[str, Any]]:
    """For each task and set: the main measures about zero, and all differences as lines of a table."""
    found: dict[Side, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for one in metrics.get("differences", ()):
        found[one["task"], one["set"]][one["measure"]].append(one)
    return {
        side: {
            "plots": [(MEASURES[n], _about_zero(MEASURES[n], measures[n])) for n in MAIN if n in measures],
            "lines": [_difference_line(MEASURES[n], one) for n, several in measures.items() for one in several],
        }
        for side, measures in found.items()
    }


def _about_zero(measure: Measure, found: Sequence[Mapping[str, Any]]) -> Plot:
    return plots.intervals([
        (f"{one['a']} − {one['b']}", one["difference"], one["low"], one["high"],
         (show(measure, one["difference"], "+"), interval(measure, one, "+")))
        for one in found
    ])  # fmt: skip


def _difference_line(measure: Measure, one: Mapping[str, Any]) -> tuple[Any, ...]:
    shown = show(measure, one["difference"], "+"), interval(measure, one, "+")
    return measure.title, one["a"], one["b"], *shown, one["n"]


def spreads(rows: Sequence[Row]) -> dict[Side, dict[str, Plot]]:
    """How lengths and times are distributed, a line a model and, for lengths, one for the human doctor."""
    found: dict[Side, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.task, row.set].append(row)
    return {side: drawn for side, own in found.items() if (drawn := _spread(own))}


def _spread(rows: Sequence[Row]) -> dict[str, Plot]:
    drawn = {}
    if lengths := _lengths(rows):
        every = sorted(value for _, values, _ in lengths for value in values)
        drawn["length"] = plots.histogram(lengths, quantile(every, 0.99))
    for name in ("first", "seconds"):
        times = {
            m: [v for row in rows if row.model == m and (v := getattr(row, name)) is not None] for m in models(rows)
        }
        lines = [(model, v, (f"{quantile(sorted(v), 0.5):.2f} s", "")) for model, v in times.items() if v]
        if lines:
            drawn[name] = plots.boxes(lines)
    return drawn


def _lengths(rows: Sequence[Row]) -> list[tuple[plots.Name, list[int], plots.Note]]:
    found: list[tuple[plots.Name, list[int]]] = [
        (m, [length(row.answer) for row in rows if row.model == m and row.answer is not None]) for m in models(rows)
    ]
    human = {(row.id, row.turn): length(row.reference) for row in rows if row.reference is not None}
    found.append((("人类医生", "Human doctor"), list(human.values())))
    return [(name, v, (f"{quantile(sorted(v), 0.5):.0f}", "")) for name, v in found if v]

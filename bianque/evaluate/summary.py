"""Rows → the figures of `metrics.json`, and differences between models with their intervals.

A row with an error enters no figure: it is counted beside them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bianque import tables
from bianque.consult.text import strip_echo
from bianque.data.formats import CorpusDialogue
from bianque.errors import BadInput
from bianque.evaluate import metrics, sections
from bianque.evaluate.measures import MEASURES, TIMES, DialogueReplies, MeasuredReply, Part
from bianque.evaluate.metrics import ORDERS, bleu
from bianque.evaluate.rows import Row, Task

RESAMPLES = 2000
BLOCK = 4_000_000  # weights of resampled dialogues held at a time
RATIOS = {measure.name: measure.parts for measure in MEASURES.values() if measure.parts}
Floats = NDArray[np.float64]


Parts = tuple[Part, ...]  # in the order of RATIOS


@dataclass(frozen=True, slots=True)
class Kept:
    """One dialogue of one model: its rows, its answered turns, and what it adds to each ratio."""

    rows: Mapping[int, Row]
    talk: DialogueReplies
    parts: Parts

    @classmethod
    def of(cls, turns: Mapping[int, Row]) -> Kept:
        rows = {turn: turns[turn] for turn in sorted(turns)}
        replies = [MeasuredReply.of(row) for row in rows.values() if row.error is None and row.answer is not None]
        talk = DialogueReplies(replies, len(replies) == len(rows))
        return cls(rows, talk, _parts(talk))

    def cut(self, turns: Iterable[int], whole: bool) -> Parts:
        """What it adds if only these turns count."""
        replies = [reply for reply in self.talk.replies if reply.row.turn in turns]
        same = len(replies) == len(self.talk.replies) and whole == self.talk.whole
        return self.parts if same else _parts(DialogueReplies(replies, whole))


def _parts(talk: DialogueReplies) -> Parts:
    return tuple(parts(talk) for parts in RATIOS.values())


Models = dict[str, dict[str, Kept]]  # model → dialogue


def summarise(rows: Sequence[Row], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Counts; for each task, set and model its figures; and the differences of every two models.

    A figure is `{"value", "n"}`, and `low` and `high` where an interval can be told: what the figure would be with other
    dialogues of the kind, 95 %. `n` is how many turns, dialogues or pairs it is over; a figure without items is not
    there. `signature` is sacrebleu's.
    """
    groups, signature, grouped = [], None, _grouped(rows)
    for (task, set_), models in grouped.items():
        for model, dialogues in models.items():
            figures, signed = _figures(list(dialogues.values()))
            for name, (low, high) in _intervals(list(dialogues.values()), resamples, seed).items():
                figures[name] |= {"low": low, "high": high}
            signature = signature or signed
            own = [row for kept in dialogues.values() for row in kept.rows.values()]
            groups.append({
                "task": task, "set": set_, "model": model, "rows": len(own), "errors": _errors(own),
                "dialogues": len(dialogues), "figures": figures,
                "judge_errors": sum(row.judged is not None and row.judged.scores is None for row in own),
            })  # fmt: skip
    found = _differences(grouped, combinations(sections.models(rows), 2), resamples, seed)
    return {
        "rows": len(rows), "errors": _errors(rows), "signature": signature, "groups": groups,
        "differences": [asdict(one) for one in found],
    }  # fmt: skip


def markdown(metrics: Mapping[str, Any]) -> str:
    """The figures as a table for each task and set: measures down, models across, and what each is over."""
    lines, groups = list[str](), sections.sides(metrics)
    for (task, set_), side in sections.figures(metrics, {}).items():
        own = groups[task, set_]
        rows = [
            ["轮次 turns", *(str(group["rows"]) for group in own), ""],
            ["出错 errors", *(str(sum(group["errors"].values())) for group in own), ""],
        ]
        for row in side["rows"]:
            name = " ".join(dict.fromkeys(row["measure"].title))
            rows.append([name, *(shown for shown, *_ in row["cells"]), row["n"]])
        lines += [f"### {set_} · {task}", "", *tables.markdown(["", *side["models"], "n"], rows), ""]
    if metrics["signature"]:
        lines += [f"BLEU: {metrics['signature']}", ""]
    return "\n".join(lines)


def _grouped(rows: Iterable[Row]) -> dict[tuple[Task, str], Models]:
    """Task and set → model → dialogue; of rows with the same key the last counts."""
    found: dict[tuple[Task, str], dict[str, dict[str, dict[int, Row]]]] = {}
    for row in rows:
        models = found.setdefault((row.task, row.set), {})
        models.setdefault(row.model, defaultdict(dict))[row.id][row.turn] = row
    return {
        side: {model: {name: Kept.of(turns) for name, turns in ids.items()} for model, ids in models.items()}
        for side, models in found.items()
    }


def _errors(rows: Iterable[Row]) -> dict[str, int]:
    return dict(Counter(row.code or "BQ_ERROR" for row in rows if row.error is not None).most_common())


def _figures(dialogues: Sequence[Kept]) -> tuple[dict[str, dict[str, float]], str | None]:
    """The figures that have items, in the order of the table, and the signature of BLEU."""
    replies = [reply for kept in dialogues for reply in kept.talk.replies]
    values: dict[str, tuple[float, int]] = {}
    for n in (1, 2):
        values[f"distinct_{n}"] = metrics.distinct([reply.text for reply in replies], n), len(replies)
    for name in ("first", "seconds"):
        times = [time for reply in replies if (time := getattr(reply.row, name)) is not None]
        for at, share in TIMES.items():
            values[f"{name}_{at}"] = float(np.quantile(times or [0], share)), len(times)
    pairs = [(reply.text, reply.row.reference) for reply in replies if reply.row.reference is not None]
    scored = bleu([text for text, _ in pairs], [human for _, human in pairs]) if pairs else None
    for n, score in zip(ORDERS, scored.scores if scored else (), strict=False):
        values[f"bleu_{n}"] = score, len(pairs)
    for name, found in zip(RATIOS, zip(*(kept.parts for kept in dialogues), strict=True), strict=True):
        over, under, count = map(sum, zip(*found, strict=True))
        values[name] = over / under if under else 0.0, int(count)
    figures = {name: values[name] for name in MEASURES if values.get(name, (0, 0))[1]}
    signature = scored.signature if scored else None
    return {name: {"value": value, "n": n} for name, (value, n) in figures.items()}, signature


# --- differences -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """`a` − `b` of one measure where both answered, with its 95 % interval; `n`: dialogues.

    `value_a` and `value_b` are over those items alone, so they may differ from the figures of all a model's rows.
    """

    task: Task
    set: str
    measure: str
    a: str
    b: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    n: int


def _differences(
    groups: Mapping[tuple[Task, str], Models], pairs: Iterable[tuple[str, str]], resamples: int, seed: int
) -> list[Difference]:
    """Paired bootstrap over dialogues, percentile interval (Efron and Tibshirani 1993), for each task and set.

    Of each dialogue only the turns that both models answered count. Measures that are no ratio of sums over dialogues
    (distinct, BLEU, quantiles of a latency) are left out.
    """
    found = []
    for a, b in pairs:
        for (task, set_), models in groups.items():
            both = _paired(models[a], models[b]) if a in models and b in models else []
            for name, values, n in _bootstrap(both, resamples, seed):
                found.append(Difference(task, set_, name, a, b, *values, n))
    return found


def _paired(a: Mapping[str, Kept], b: Mapping[str, Kept]) -> list[tuple[Parts, Parts]]:
    """What the dialogues of both add, cut down to the turns that both answered."""
    found = []
    for mine, other in ((a[name], b[name]) for name in a if name in b):
        turns = {reply.row.turn for reply in mine.talk.replies} & {reply.row.turn for reply in other.talk.replies}
        whole = mine.talk.whole and other.talk.whole and mine.rows.keys() == other.rows.keys()
        if turns:
            found.append((mine.cut(turns, whole), other.cut(turns, whole)))
    return found


def _bootstrap(
    pairs: Sequence[tuple[Parts, Parts]], resamples: int, seed: int
) -> Iterator[tuple[str, tuple[float, float, float, float, float], int]]:
    """For each measure with items: the value of a, of b, their difference, both ends of its interval; its dialogues.

    A dialogue adds to a measure only where both models have items in it.
    """
    if not pairs:
        return
    columns = lambda a, b: (a.over, a.under, b.over, b.under, 1) if a.n and b.n else (0, 0, 0, 0, 0)
    table = np.array([[columns(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs], float)
    values, drawn = _values(table.sum(0)), _resampled(table, resamples, seed)
    for place, name in enumerate(RATIOS):
        if n := int(table[:, place, -1].sum()):
            a, b = map(float, values[place])
            low, high = _ends(drawn[:, place, 0] - drawn[:, place, 1])
            yield name, (a, b, a - b, low, high), n


def _intervals(dialogues: Sequence[Kept], resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Of each ratio of one model; none where every resample has the same value, which says nothing of its spread."""
    table = np.array([[(part.over, part.under, bool(part.n)) for part in kept.parts] for kept in dialogues], float)
    drawn = _resampled(table, resamples, seed)[..., 0]
    ends = {name: _ends(drawn[:, place]) for place, name in enumerate(RATIOS) if table[:, place, -1].any()}
    return {name: (low, high) for name, (low, high) in ends.items() if low < high}


def _ends(drawn: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _values(sums: Floats) -> Floats:
    """Values (…, models) from sums (…, 2 models + 1): 0 where a denominator is 0, NaN where no dialogue has items."""
    over, under = sums[..., 0:-1:2], sums[..., 1:-1:2]
    values = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    values[sums[..., -1] == 0] = np.nan
    return values


def _resampled(table: Floats, resamples: int, seed: int) -> Floats:
    """Values (resamples, measures, models) of dialogues drawn with replacement from a table (dialogues, measures, sums)."""
    if resamples < 1000:
        raise BadInput(f"resamples={resamples}: 至少 1000 (at least 1000 are needed)")
    count, generator, found = len(table), np.random.default_rng(seed), list[Floats]()
    flat, block = table.reshape(count, -1), max(1, BLOCK // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        weights = generator.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)
        found.append(_values((weights @ flat).reshape(size, *table.shape[1:])))
    return np.concatenate(found)


# --- recorded outputs --------------------------------------------------------------------------------------------


def recorded_rows(
    cases: Iterable[CorpusDialogue], references: Mapping[tuple[str, str], str] | None = None
) -> list[Row]:
    """Somebody's outputs as rows, cleaned as every reply is; `references`, by (set, id), belong to the first turn."""
    rows = [row for case in cases for row in _recorded(case, references or {})]
    if references and not any(row.reference is not None for row in rows):
        raise BadInput("参考回答的 set 与 id 没有一个与对话相符 (no reference has the set and id of a dialogue)")
    return rows


def _recorded(case: CorpusDialogue, references: Mapping[tuple[str, str], str]) -> Iterable[Row]:
    if case.recorded is None:
        raise BadInput(f"{case.set}/{case.id}: 没有说明是哪个模型的回答 (does not say which model replied: add model)")
    human = dict(enumerate(case.reference))
    if (case.set, case.id) in references:
        human.setdefault(0, references[case.set, case.id])
    said = [place for place, message in enumerate(case.messages) if message.role == "assistant"]
    for turn, place in enumerate(said):
        raw = case.messages[place].content
        answer = strip_echo(raw)
        yield Row(
            "recorded", case.set, case.id, turn, case.recorded, case.messages[:place], answer,
            raw=raw if raw != answer else None, reference=human.get(turn),
            judged=case.judged if place == said[-1] else None,
        )  # fmt: skip

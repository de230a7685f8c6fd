"""Every measure of a doctor's turns that an evaluation reports, and how it is counted; `assets/measures.json` says it.

A measure is a ratio of sums over dialogues wherever it can be: the same two numbers of each dialogue give the figure
and, resampled, the interval of a difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bianque.consult.questions import asks, questions
from bianque.consult.text import length
from bianque.data.dialogues import Bilingual
from bianque.data.formats import ASPECTS
from bianque.evaluate import metrics
from bianque.evaluate.metrics import ORDERS, Rouge, rouge
from bianque.evaluate.rows import Row


@dataclass(frozen=True, slots=True)
class MeasuredReply:
    """An answered row and what the measures need to know of its words."""

    row: Row
    text: str
    questions: int
    human_asks: bool | None  # where the task feeds the human's dialogue
    rouge: Rouge | None

    @classmethod
    def of(cls, row: Row) -> MeasuredReply:
        text, human = row.answer or "", row.reference
        return cls(
            row,
            text,
            len(questions(text)),
            asks(human) if human is not None and row.task == "next" else None,
            rouge(text, human) if human is not None else None,
        )


class DialogueReplies(NamedTuple):
    """The replies of one model in one dialogue, by turn; `whole` if none of its turns failed."""

    replies: Sequence[MeasuredReply]
    whole: bool


class Part(NamedTuple):
    """What one dialogue adds to the numerator and denominator of a measure, and how many items that was."""

    over: float = 0
    under: float = 0
    n: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. `format` is a format specification; `parts` is None where a figure is no ratio of sums."""

    name: str
    title: Bilingual
    meaning: Bilingual
    better: Literal["higher", "lower", "neither"]
    format: str
    parts: Callable[[DialogueReplies], Part] | None = None


# --- what a dialogue adds ----------------------------------------------------------------------------------------


def _mean(value: Callable[[MeasuredReply], float | None]) -> Callable[[DialogueReplies], Part]:
    """The mean of a value over the replies that have it."""

    def parts(talk: DialogueReplies) -> Part:
        found = [v for v in map(value, talk.replies) if v is not None]
        return Part(sum(found), len(found), len(found))

    return parts


def _any_ask(talk: DialogueReplies) -> Part:
    return Part(any(reply.questions for reply in talk.replies), 1, 1) if talk.whole else Part()


def _repetition(talk: DialogueReplies) -> Part:
    repeated, total = metrics.repeated_4grams([reply.text for reply in talk.replies]) if talk.whole else (0, 0)
    return Part(repeated, total, bool(total))


def _speed(talk: DialogueReplies) -> Part:
    timed = [(r.row.tokens, r.row.seconds) for r in talk.replies if r.row.tokens is not None and r.row.seconds]
    return Part(sum(tokens for tokens, _ in timed), sum(seconds for _, seconds in timed), len(timed))


def _pqa(
    over: Callable[[bool, bool], float], under: Callable[[bool, bool], float]
) -> Callable[[DialogueReplies], Part]:
    """Sums over pairs (the human asks, the model asks)."""

    def parts(talk: DialogueReplies) -> Part:
        pairs = [(r.human_asks, r.questions > 0) for r in talk.replies if r.human_asks is not None]
        return Part(sum(over(g, m) for g, m in pairs), sum(under(g, m) for g, m in pairs), len(pairs))

    return parts


def _judged(aspect: str) -> Callable[[DialogueReplies], Part]:
    return _mean(lambda reply: (_scores(reply) or {}).get(aspect))


def _scores(reply: MeasuredReply) -> dict[str, float] | None:
    return reply.row.judged.scores if reply.row.judged else None


def _all_aspects(reply: MeasuredReply) -> float | None:
    scores = _scores(reply) or {}
    return sum(scores[a] for a in ASPECTS) / len(ASPECTS) if all(a in scores for a in ASPECTS) else None


# --- the table ---------------------------------------------------------------------------------------------------

TIMES = {"median": 0.5, "p90": 0.9}  # quantiles of a latency


WORDS = json.loads((Path(__file__).parent / "assets" / "measures.json").read_text("utf-8"))


def _measure(
    name: str,
    better: Literal["higher", "lower", "neither"],
    format: str,
    parts: Callable[[DialogueReplies], Part] | None = None,
) -> Measure:
    said = WORDS[name]
    return Measure(name, Bilingual(*said["title"]), Bilingual(*said["meaning"]), better, format, parts)


_ALL = (
    _measure("question_rate", "neither", ".3f", _mean(lambda r: r.questions > 0)),
    _measure("first_turn_ask", "neither", ".3f", _mean(lambda r: r.questions > 0 if r.row.turn == 0 else None)),
    _measure("dialogue_any_ask", "neither", ".3f", _any_ask),
    _measure("questions_per_turn", "neither", ".2f", _mean(lambda r: r.questions)),
    _measure("pqa_f1", "higher", ".3f", _pqa(lambda g, m: 2 * (g and m), lambda g, m: g + m)),
    _measure("pqa_precision", "higher", ".3f", _pqa(lambda g, m: g and m, lambda g, m: m)),
    _measure("pqa_recall", "higher", ".3f", _pqa(lambda g, m: g and m, lambda g, m: g)),
    _measure("pqa_always_ask", "neither", ".3f", _pqa(lambda g, m: 2 * g, lambda g, m: 1 + g)),
    _measure("human_question_rate", "neither", ".3f", _pqa(lambda g, m: g, lambda g, m: 1)),
    _measure("length", "neither", ".0f", _mean(lambda r: length(r.text))),
    _measure("distinct_1", "higher", ".4f"),
    _measure("distinct_2", "higher", ".4f"),
    _measure("self_repetition", "lower", ".3f", _repetition),
    _measure("repeats_4gram", "lower", ".3f", _mean(lambda r: metrics.repeats_4gram(r.text))),
    _measure("empty", "lower", ".3f", _mean(lambda r: not r.text)),
    *(_measure(f"bleu_{n}", "higher", ".2f") for n in ORDERS),
    _measure("rouge_1", "higher", ".2f", _mean(lambda r: 100 * r.rouge.one if r.rouge else None)),
    _measure("rouge_2", "higher", ".2f", _mean(lambda r: 100 * r.rouge.two if r.rouge else None)),
    _measure("rouge_l", "higher", ".2f", _mean(lambda r: 100 * r.rouge.longest if r.rouge else None)),
    *(_measure(f"judge_{aspect}", "higher", ".2f", _judged(aspect)) for aspect in ASPECTS),
    _measure("judge_mean", "higher", ".2f", _mean(_all_aspects)),
    *(_measure(f"{name}_{at}", "lower", ".2f") for name in ("first", "seconds") for at in TIMES),
    _measure("tokens_per_second", "higher", ".1f", _speed),
)
MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ALL}

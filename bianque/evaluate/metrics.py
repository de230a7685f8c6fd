"""One precise definition of each measure of a doctor's turns; pure functions on text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bianque.consult.questions import asks, questions
from bianque.errors import BadInput

# Latin letters, a number with its decimals, or any one other character: Han, a punctuation mark.
_TOKEN = re.compile(r"[A-Za-z]+|\d+(?:\.\d+)?|\S")


@dataclass(frozen=True, slots=True)
class PQA:
    """Proactive questioning: does the model ask where the human doctor asked? (our operationalisation)

    `always_ask` is the F1 of asking at every turn: what a score has to beat.
    """

    precision: float
    recall: float
    f1: float
    always_ask: float


def tokens(text: str) -> list[str]:
    """One Han character, one run of Latin letters, one number or one punctuation mark each."""
    return _TOKEN.findall(text)


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of one turn, in order."""
    return zip(*(words[i:] for i in range(n)), strict=False)


def distinct(turns: Iterable[str], n: int) -> float:
    """Unique n-grams / n-grams, over all turns together; depends on their number, so compare identical items only."""
    found = [gram for turn in turns for gram in ngrams(tokens(turn), n)]
    return _share(len(set(found)), len(found))


def self_repetition(dialogues: Iterable[Sequence[str]]) -> float:
    """Share of the 4-grams of doctor turns 2..k that an earlier one of the dialogue has; dialogues are pooled."""
    counts = [repeated_4grams(turns) for turns in dialogues]
    return _share(sum(repeated for repeated, _ in counts), sum(total for _, total in counts))


def repeated_4grams(turns: Sequence[str]) -> tuple[int, int]:
    """Of one dialogue: the 4-grams of turns 2..k that an earlier turn has, and all of those turns."""
    repeated = total = 0
    seen: set[tuple[str, ...]] = set()
    for place, turn in enumerate(turns):
        grams = list(ngrams(tokens(turn), 4))
        if place:
            repeated += sum(gram in seen for gram in grams)
            total += len(grams)
        seen.update(grams)
    return repeated, total


def repeats_4gram(text: str, times: int = 3) -> bool:
    """True if some 4-gram of tokens occurs at least `times` times: the mark of a model that goes in circles."""
    return any(count >= times for count in Counter(ngrams(tokens(text), 4)).values())


def question_rate(turns: Sequence[str]) -> float:
    """Asking turns / turns."""
    return _share(sum(map(asks, turns)), len(turns))


def first_turn_ask(dialogues: Sequence[Sequence[str]]) -> float:
    """Dialogues whose first doctor turn asks / dialogues."""
    return _share(sum(asks(turns[0]) for turns in dialogues), len(dialogues))


def dialogue_any_ask(dialogues: Sequence[Sequence[str]]) -> float:
    """Dialogues with a doctor turn that asks / dialogues."""
    return _share(sum(any(map(asks, turns)) for turns in dialogues), len(dialogues))


def questions_per_turn(turns: Sequence[str]) -> float:
    """Sentences that ask / turns."""
    return _share(sum(len(questions(turn)) for turn in turns), len(turns))


def pqa(gold_asks: Sequence[bool], model_asks: Sequence[bool]) -> PQA:
    """P = Σgm/Σm, R = Σgm/Σg, F1 = 2PR/(P+R), one item a doctor turn: g, the human asks; m, the model asks.

    After "Proactive Questioning Ability" of arXiv 2310.15896; where a denominator is 0, so is the value.
    """
    if len(gold_asks) != len(model_asks):
        raise BadInput(
            f"{len(gold_asks)} gold turns but {len(model_asks)} model turns: give one of each per doctor turn"
        )
    both = sum(g and m for g, m in zip(gold_asks, model_asks, strict=True))
    precision, recall = _share(both, sum(model_asks)), _share(both, sum(gold_asks))
    share = _share(sum(gold_asks), len(gold_asks))
    return PQA(precision, recall, _share(2 * precision * recall, precision + recall), 2 * share / (1 + share))


def perplexity(logprobs: Iterable[float], texts: Iterable[str]) -> float:
    """exp(−Σ ln p / Σ (characters + 1)): per character, the end of each text counted as one."""
    total, characters = math.fsum(logprobs), sum(len(text) + 1 for text in texts)
    return math.exp(-total / characters) if characters else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

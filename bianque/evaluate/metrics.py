"""Measures of words alone: n-grams, repetition, and what a reply shares with a reference (BLEU, ROUGE)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bianque.errors import BadInput

# Latin letters, a number with its decimals, or any one other character: Han, a punctuation mark.
_TOKEN = re.compile(r"[A-Za-z]+|\d+(?:\.\d+)?|\S")
ORDERS = (1, 2, 3, 4)  # of BLEU


def tokens(text: str) -> list[str]:
    """One Han character, one run of Latin letters, one number or one punctuation mark each."""
    return _TOKEN.findall(text)


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of one turn, in order."""
    return zip(*(words[i:] for i in range(n)), strict=False)


def distinct(turns: Iterable[str], n: int) -> float:
    """Unique n-grams / n-grams, over all turns together; depends on their number, so compare identical items only."""
    found = [gram for turn in turns for gram in ngrams(tokens(turn), n)]
    return len(set(found)) / len(found) if found else 0.0


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


# --- what a reply shares with a reference -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bleu:
    """Corpus BLEU-1..4, each 0 to 100, and sacrebleu's signature: the tokenizer and version that made them."""

    scores: tuple[float, float, float, float]
    signature: str


@dataclass(frozen=True, slots=True)
class Rouge:
    """F1 of one pair, 0 to 1: shared unigrams, shared bigrams, longest common subsequence."""

    one: float
    two: float
    longest: float


def bleu(replies: Sequence[str], references: Sequence[str]) -> Bleu:
    """Corpus BLEU-n with n-grams up to n; one reference a reply."""
    from sacrebleu.metrics.bleu import BLEU

    if len(replies) != len(references) or not replies:
        raise BadInput(f"{len(replies)} replies and {len(references)} references: give at least one pair")
    # force: replies are no tokenised text, so sacrebleu need not look for signs of it and warn.
    scorer = BLEU(tokenize="zh", max_ngram_order=ORDERS[-1], force=True)
    found = scorer.corpus_score(list(replies), [list(references)])
    # An order needs the counts of its own and shorter n-grams alone: the texts are tokenised once for all four.
    one, two, three, four = (
        BLEU.compute_bleu(
            found.counts[:n], found.totals[:n], found.sys_len, found.ref_len, scorer.smooth_method, max_ngram_order=n
        ).score
        for n in ORDERS
    )
    return Bleu((one, two, three, four), str(scorer.get_signature()))


def rouge(reply: str, reference: str) -> Rouge:
    """ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) as F1 with equal weights, the whole text one sequence."""
    said, human = tokens(reply), tokens(reference)
    grams = [(Counter(ngrams(said, n)), Counter(ngrams(human, n))) for n in (1, 2)]
    one, two = (_f1((mine & other).total(), mine.total(), other.total()) for mine, other in grams)
    return Rouge(one, two, _f1(_common(said, human), len(said), len(human)))


def _f1(shared: int, said: int, human: int) -> float:
    """2PR / (P + R) with P = shared / said and R = shared / human."""
    return 2 * shared / (said + human) if shared else 0.0


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table in one integer (Hyyrö 2004).

    Bit i is 0 where the row grows between a[:i] and a[:i + 1].
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    every = row = (1 << len(a)) - 1
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & every
    return len(a) - row.bit_count()

"""What a trained model has to beat: a character n-gram language model, and the reply of the most similar context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bianque.errors import BadInput

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Beyond the last code point of Unicode, so that no text can hold them; they sort behind every character.
_BEGIN, _END, _UNKNOWN = 0x110000, 0x110001, 0x110002


def _codes(text: str) -> Ints:
    """The code points of a text, one a character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


def _find(keys: Ints, wanted: Ints) -> Ints:
    """Where each wanted key stands in the ascending `keys`; -1 if it is not there."""
    if not keys.size:
        return np.full(wanted.shape, -1)
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, place, -1)


@dataclass(frozen=True, slots=True)
class _Level:
    """The n-grams of one length. An n-gram's id is its place in `keys`; its context is an n-gram one level below.

    keys: (n-grams,) ascending: id of the context x number of symbols + last symbol
    gain: (n-grams,) discounted probability of the last symbol after the context
    rest: (contexts,) weight that the next shorter context has
    """

    keys: Ints
    gain: Floats
    rest: Floats

    @classmethod
    def smoothed(cls, keys: Ints, counts: Ints, contexts: int, symbols: int) -> _Level:
        context = keys // symbols
        discount = _discounts(counts)[np.minimum(counts, 3)]
        total = np.bincount(context, weights=counts, minlength=contexts)
        freed = np.bincount(context, weights=discount, minlength=contexts)
        rest = np.divide(freed, total, out=np.ones(contexts), where=total > 0)
        return cls(keys, (counts - discount) / total[context], rest)


def _discounts(counts: Ints) -> Floats:
    """What modified Kneser-Ney takes from a count of 0, 1, 2, and 3 or more (Chen and Goodman 1999, equation 26).

    A corpus too small to estimate them gets KenLM's fallback, 0.5, 1 and 1.5.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(np.float64)
    if np.all(n > 0):
        k = np.arange(1, 4)
        found = k - (k + 1) * n[0] / (n[0] + 2 * n[1]) * n[1:] / n[:3]
        if np.all((found > 0) & (found <= k)):
            return np.concatenate(([0.0], found))
    return np.array((0.0, 0.5, 1.0, 1.5))


class NGram:
    """A character language model with interpolated modified Kneser-Ney smoothing.

    The shortest level is interpolated with a uniform distribution over the characters of the training texts, the end
    symbol and one unknown character, so that every text has a probability and they sum to one.
    """

    def __init__(self, order: int = 5) -> None:
        if order < 1:
            raise BadInput(f"order is {order}: an n-gram has at least 1 character")
        self.order = order
        self._levels: list[_Level] = []
        self._alphabet = np.array((_BEGIN, _END, _UNKNOWN))  # code points, ascending: the place is the symbol

    @property
    def _begin(self) -> int:
        return self._alphabet.size - 3

    @property
    def _end(self) -> int:
        return self._alphabet.size - 2

    @property
    def _unknown(self) -> int:
        return self._alphabet.size - 1

    def fit(self, texts: Iterable[str]) -> NGram:
        """Learn from texts, each with a beginning and an end of its own."""
        parts = [part for text in texts for part in ((_BEGIN,), _codes(text), (_END,))]
        if not parts:
            raise BadInput("no text to fit: give at least one")
        stream = np.concatenate(parts).astype(np.int64)
        self._alphabet = np.union1d(stream, (_BEGIN, _END, _UNKNOWN))
        self._levels = self._count(np.searchsorted(self._alphabet, stream))
        return self

    def _count(self, stream: Ints) -> list[_Level]:
        """Levels from the shortest to the longest n-grams.

        The longest are counted as they occur; a shorter one by how many characters are seen before it, or, where it
        begins a text and nothing can be, as it occurs.
        """
        symbols, levels, contexts = self._alphabet.size, list[_Level](), 1
        ids = np.zeros_like(stream)  # of the n-gram that ends at each place; at first the empty one
        keys = counts = np.zeros(0, dtype=np.int64)
        for n in range(1, self.order + 1):
            before = ids if n == 1 else self._shift(ids, stream)
            here = np.flatnonzero(before >= 0)
            if not here.size:
                break
            longer, inverse, occurs = np.unique(
                before[here] * symbols + stream[here], return_inverse=True, return_counts=True
            )
            if n > 1:
                suffix = np.empty_like(longer)
                suffix[inverse] = ids[here]
                preceded = np.bincount(suffix, minlength=keys.size)
                levels.append(_Level.smoothed(keys, np.where(preceded, preceded, counts), contexts, symbols))
                contexts = keys.size
            keys, counts = longer, occurs
            if n == 1:
                counts[self._begin] = 0  # a context and never an outcome
            ids = np.full_like(ids, -1)
            ids[here] = inverse
        levels.append(_Level.smoothed(keys, counts, contexts, symbols))
        return levels

    def _shift(self, ids: Ints, stream: Ints) -> Ints:
        """For each place, the id of the n-gram that ends just before it; -1 where a text begins."""
        before = np.concatenate(([-1], ids[:-1]))
        before[stream == self._begin] = -1
        return before

    def _symbols(self, text: str) -> Ints:
        found = _find(self._alphabet, _codes(text))
        return np.where(found < 0, self._unknown, found)

    def logprob(self, text: str, context: str = "") -> float:
        """ln p(text and its end | the characters before it in the same text; none: it begins there)."""
        size = self._alphabet.size
        stream = np.concatenate(([self._begin], self._symbols(context + text), [self._end]))
        ids, p = np.zeros_like(stream), np.full(stream.shape, 1 / (size - 1))
        for n, level in enumerate(self._levels, start=1):
            before = ids if n == 1 else self._shift(ids, stream)
            here = np.flatnonzero(before >= 0)
            found = _find(level.keys, before[here] * size + stream[here])
            p[here] = level.rest[before[here]] * p[here] + np.where(found < 0, 0.0, level.gain[found])
            ids = np.full_like(ids, -1)
            ids[here] = found
        return float(np.log(p[1 + len(context) :]).sum())

    def probabilities(self, context: str = "") -> Floats:
        """p(next | context) of each known character by code point, then of the end and of any unknown character."""
        state = self._start()
        for symbol in self._symbols(context):
            state = self._step(state, int(symbol))
        return np.delete(self._next(state), self._begin)

    def sample(self, generator: np.random.Generator, temperature: float = 1.0, limit: int = 120) -> str:
        """A text drawn character by character, of at most `limit` characters."""
        if temperature <= 0:
            raise BadInput(f"temperature is {temperature}: give more than 0")
        state, drawn = self._start(), list[int]()
        while len(drawn) < limit:
            p = self._next(state)[: self._unknown] ** (1 / temperature)
            edges = np.cumsum(p)
            symbol = int(np.searchsorted(edges, generator.random() * edges[-1], side="right"))
            if symbol == self._end:
                break
            drawn.append(int(self._alphabet[symbol]))
            state = self._step(state, symbol)
        return "".join(map(chr, drawn))

    def _start(self) -> list[int]:
        """Ids of the last 0, 1, 2 … symbols at the beginning of a text."""
        return self._step([0] + [-1] * (len(self._levels) - 1), self._begin)

    def _step(self, state: list[int], symbol: int) -> list[int]:
        wanted = [context * self._alphabet.size + symbol if context >= 0 else -1 for context in state[:-1]]
        longer = zip(self._levels, wanted, strict=False)
        return [0, *(int(_find(level.keys, np.array(key))) for level, key in longer)]

    def _next(self, state: list[int]) -> Floats:
        """p of every symbol after the contexts in `state`; the beginning has 0."""
        size = self._alphabet.size
        p = np.full(size, 1 / (size - 1))
        p[self._begin] = 0.0
        for level, context in zip(self._levels, state, strict=True):
            if context < 0:
                break
            low, high = np.searchsorted(level.keys, (context * size, (context + 1) * size))
            p *= level.rest[context]
            p[level.keys[low:high] - context * size] += level.gain[low:high]
        return p


class BM25:
    """The reply that followed the most similar context (character bigrams; Lucene's idf, which is never negative)."""

    def __init__(self, contexts: Sequence[str], replies: Sequence[str], k1: float = 1.5, b: float = 0.75) -> None:
        if not contexts or len(contexts) != len(replies):
            raise BadInput(f"{len(contexts)} contexts and {len(replies)} replies: give at least one pair")
        self._replies = list(replies)
        bigrams = [self._bigrams(context) for context in contexts]
        sizes = np.array([found.size for found in bigrams])
        place = np.repeat(np.arange(len(bigrams)), sizes)
        terms, term = np.unique(np.concatenate(bigrams), return_inverse=True)
        posting, count = np.unique(term * len(bigrams) + place, return_counts=True)
        term, place = posting // len(bigrams), posting % len(bigrams)
        shared = np.bincount(term, minlength=terms.size)
        idf = np.log1p((len(bigrams) - shared + 0.5) / (shared + 0.5))
        norm = k1 * (1 - b + b * sizes / max(sizes.mean(), 1.0))
        self._terms, self._start = terms, np.concatenate(([0], np.cumsum(shared)))
        self._place, self._weight = place, idf[term] * count * (k1 + 1) / (count + norm[place])

    @staticmethod
    def _bigrams(text: str) -> Ints:
        codes = _codes(text)
        return codes[:-1] * _BEGIN + codes[1:]

    def scores(self, context: str) -> Floats:
        """The similarity of each known context to this one."""
        wanted, times = np.unique(self._bigrams(context), return_counts=True)
        found = _find(self._terms, wanted)
        total = np.zeros(len(self._replies))
        for term, weight in zip(found[found >= 0], times[found >= 0], strict=True):
            here = slice(self._start[term], self._start[term + 1])
            total[self._place[here]] += weight * self._weight[here]  # a place occurs once a term, so += adds all
        return total

    def reply(self, context: str) -> str:
        """The reply after the most similar context; of several as similar (or none at all), after the first."""
        return self._replies[int(np.argmax(self.scores(context)))]

"""Which token comes next, for many replies at once: each row has its own wishes, and its neighbours change nothing.

The meaning and the order of the steps are those of transformers' logits processors (`generation/logits_process.py`):
repetition penalty, n-grams, least length, temperature, top-k, top-p. Two tokens of exactly the same score stay or go
together, where transformers' top-p lets the order of its sort decide.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from bianque.types import Sampling

OFF = 2.0  # a top-p that keeps everything, however the sum of the probabilities is rounded
WIDTH = 256  # likeliest tokens that top-p looks at first: sorting a whole vocabulary takes longer than all else here


@dataclass(slots=True, eq=False)
class Row:
    """One reply's wishes, what it has said so far, and its own chances."""

    sampling: Sampling
    said: list[int]
    draws: Tensor  # uniform in [0, 1), one a token
    produced: int = 0
    followers: dict[tuple[int, ...], list[int]] = field(default_factory=dict)  # of each n − 1 tokens

    @classmethod
    def begin(cls, sampling: Sampling, said: Sequence[int]) -> Row:
        chance = torch.Generator()
        if sampling.seed is None:
            chance.seed()
        else:
            chance.manual_seed(sampling.seed)
        row = cls(sampling, [], torch.rand(sampling.max_new_tokens, generator=chance))
        for token in said:
            row.say(token)
        return row

    def say(self, token: int) -> None:
        self.said.append(token)
        if size := self.sampling.no_repeat_ngram:
            gram = tuple(self.said[-size:])
            if len(gram) == size:
                self.followers.setdefault(gram[:-1], []).append(token)

    def banned(self, ends: Collection[int]) -> Sequence[int]:
        """Tokens that would complete an n-gram which is there already, or end the reply too soon."""
        size = self.sampling.no_repeat_ngram
        found: Sequence[int] = ()
        if size and len(self.said) >= size - 1:
            found = self.followers.get(tuple(self.said[len(self.said) - size + 1 :]), ())
        return [*found, *ends] if self.produced < self.sampling.min_new_tokens else found


class Sampler:
    """Draws a token a row. Rows stand in neighbouring slots, as in the cache: they join at one and may be moved."""

    def __init__(self, slots: int, vocabulary: int, ends: Collection[int], device: str | torch.device) -> None:
        self.ends = [end for end in ends if end < vocabulary]
        self.seen = torch.zeros(slots, vocabulary, dtype=torch.bool, device=device)
        self.rows: list[Row | None] = [None] * slots
        self.wishes: Wishes | None = None  # of the rows that were drawn for last

    def join(self, slot: int, sampling: Sampling, said: Sequence[int]) -> None:
        """A reply begins in a free slot; `said` are the tokens that it must not repeat."""
        self.rows[slot] = Row.begin(sampling, said)
        self.seen[slot] = False
        self.seen[slot, torch.tensor(said, dtype=torch.int64, device=self.seen.device)] = True
        self.wishes = None

    def move(self, source: int, target: int) -> None:
        self.seen[target] = self.seen[source]
        self.rows[target], self.rows[source] = self.rows[source], None
        self.wishes = None

    def scores(self, logits: Tensor, slot: int = 0) -> Tensor:
        """Float32 scores [rows, vocab] after what forbids or discourages tokens, before what leaves unlikely ones out."""
        rows = self.writing(slot, len(logits))
        if self.wishes is None or self.wishes.rows != rows:
            self.wishes = Wishes(rows, logits.device)
        scores = penalised(logits.float(), self.seen[slot : slot + len(rows)], self.wishes)
        banned = [(i, token) for i, row in enumerate(rows) for token in row.banned(self.ends)]
        if banned:
            at = torch.tensor(banned, device=scores.device).T
            scores = scores.index_put((at[0], at[1]), scores.new_tensor(-torch.inf))
        return scores

    def draw(self, logits: Tensor, slot: int = 0) -> list[int]:
        """A token for each row of logits [rows, vocab], the first of which is `slot`'s; -1 where they are not numbers."""
        rows, scores = self.writing(slot, len(logits)), self.scores(logits, slot)
        assert self.wishes is not None, "scores without wishes"
        tokens = scores.argmax(-1)
        sound = scores.gather(-1, tokens[:, None])[:, 0].isfinite()  # a NaN counts as the largest
        if self.wishes.chance:
            u = torch.stack([row.draws[row.produced] for row in rows]).to(scores.device)
            tokens = torch.where(self.wishes.greedy, tokens, picked(narrowed(scores, self.wishes), u))
        self.seen[slot : slot + len(rows)].scatter_(1, tokens[:, None], True)
        found: list[int] = torch.where(sound, tokens, -1).tolist()
        for row, token in zip(rows, found, strict=True):
            row.say(token)
            row.produced += 1
        return found

    def writing(self, slot: int, count: int) -> list[Row]:
        rows = [row for row in self.rows[slot : slot + count] if row]
        assert len(rows) == count, "a slot without a reply"
        return rows


class Wishes:
    """The rows' numbers as columns [rows, 1]; what nobody wishes is None, and skipped."""

    def __init__(self, rows: Sequence[Row], device: str | torch.device) -> None:
        self.rows, self.device = list(rows), device
        wishes = [row.sampling for row in rows]
        self.greedy = torch.tensor([wish.temperature == 0 for wish in wishes], device=device)
        self.chance = any(wish.temperature for wish in wishes)
        self.temperature = self.column([wish.temperature or 1.0 for wish in wishes], 1.0)
        self.penalty = self.column([wish.repetition_penalty for wish in wishes], 1.0)
        self.top_p = self.column([wish.top_p if wish.temperature and wish.top_p < 1 else OFF for wish in wishes], OFF)
        self.top_k = [wish.top_k if wish.temperature else 0 for wish in wishes]

    def column(self, values: list[float], off: float) -> Tensor | None:
        """None if all are `off`."""
        return None if set(values) == {off} else torch.tensor(values, device=self.device)[:, None]

    @cached_property
    def ranks(self) -> Tensor:
        """Column [rows, 1] of what `top_k` keeps, counted from 0."""
        return torch.tensor([max(k - 1, 0) for k in self.top_k], device=self.device)[:, None]

    @cached_property
    def unlimited(self) -> Tensor:
        return torch.tensor([k == 0 for k in self.top_k], device=self.device)[:, None]


def penalised(scores: Tensor, seen: Tensor, wishes: Wishes) -> Tensor:
    """Tokens that were said become less likely: CTRL's penalty (arXiv 1909.05858)."""
    if wishes.penalty is None:
        return scores
    return torch.where(seen, torch.where(scores < 0, scores * wishes.penalty, scores / wishes.penalty), scores)


def narrowed(scores: Tensor, wishes: Wishes) -> Tensor:
    """Scores [rows, vocab] at the rows' temperatures, -inf where top-k or top-p leave a token out."""
    if wishes.temperature is not None:
        scores = scores / wishes.temperature
    width = scores.shape[1]
    if most := max(wishes.top_k):
        best = scores.topk(min(most, width)).values
        least = best.gather(1, wishes.ranks.clamp(max=best.shape[1] - 1)).masked_fill(wishes.unlimited, -torch.inf)
        scores = scores.masked_fill(scores < least, -torch.inf)
        width = min(most, width) if all(wishes.top_k) else width
    if wishes.top_p is not None:
        scores = scores.masked_fill(scores < nucleus(scores, wishes.top_p, width), -torch.inf)
    return scores


def nucleus(scores: Tensor, top_p: Tensor, most: int) -> Tensor:
    """The least score [rows, 1] that top-p keeps: of the likeliest tokens, those before which less than p has come."""
    total = scores.logsumexp(-1, keepdim=True)
    width = min(WIDTH, most)
    while True:
        best = scores.topk(width).values
        share = (best - total).exp()
        kept = share.cumsum(-1) - share < top_p
        kept[:, 0] = True
        off = top_p == OFF
        if width == most or not bool((kept[:, -1:] & ~off).any()):
            return best.masked_fill(~kept, torch.inf).amin(-1, keepdim=True).masked_fill(off, -torch.inf)
        width = min(8 * width, most)


def picked(scores: Tensor, u: Tensor) -> Tensor:
    """Tokens [rows] where the running sum of the probabilities passes u, [rows] in [0, 1)."""
    sums = scores.softmax(-1).cumsum(-1)
    last = sums[:, -1:]
    # Rounded up to the whole sum, u would find the last token, whatever its probability.
    wanted = torch.minimum(u[:, None] * last, last.nextafter(torch.zeros_like(last)))
    return torch.searchsorted(sums, wanted, right=True)[:, 0].clamp(max=sums.shape[1] - 1)  # beyond it: NaN

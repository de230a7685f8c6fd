"""Which token comes next, for many replies at once: each row has its own params, and its neighbours change nothing.

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
class SamplerState:
    """One reply's params, what it has said so far, and its own chances."""

    sampling: Sampling
    tokens: list[int]
    draws: Tensor  # uniform in [0, 1), one a token
    produced: int = 0
    followers: dict[tuple[int, ...], list[int]] = field(default_factory=dict)  # of each n − 1 tokens

    @classmethod
    def begin(cls, sampling: Sampling, said: Sequence[int]) -> SamplerState:
        chance = torch.Generator()
        if sampling.seed is None:
            chance.seed()
        else:
            chance.manual_seed(sampling.seed)
        row = cls(sampling, [], torch.rand(sampling.max_new_tokens, generator=chance))
        for token in said:
            row.append_token(token)
        return row

    def append_token(self, token: int) -> None:
        self.tokens.append(token)
        if size := self.sampling.no_repeat_ngram:
            gram = tuple(self.tokens[-size:])
            if len(gram) == size:
                self.followers.setdefault(gram[:-1], []).append(token)

    def banned(self, ends: Collection[int]) -> Sequence[int]:
        """Tokens that would complete an n-gram which is there already, or end the reply too soon."""
        size = self.sampling.no_repeat_ngram
        found: Sequence[int] = ()
        if size and len(self.tokens) >= size - 1:
            found = self.followers.get(tuple(self.tokens[len(self.tokens) - size + 1 :]), ())
        return [*found, *ends] if self.produced < self.sampling.min_new_tokens else found


class Sampler:
    """Draws one token a row. Rows hold neighbouring slots, as in the cache; `admit` fills a slot, `move` empties it into another."""

    def __init__(self, slots: int, vocabulary: int, ends: Collection[int], device: str | torch.device) -> None:
        self.ends = [end for end in ends if end < vocabulary]
        self.seen = torch.zeros(slots, vocabulary, dtype=torch.bool, device=device)
        self.rows: list[SamplerState | None] = [None] * slots
        self.params: BatchParams | None = None  # of the rows drawn last

    def admit(self, slot: int, sampling: Sampling, said: Sequence[int]) -> None:
        """A reply begins in a free slot; `said` are the tokens that the repetition penalty counts."""
        self.rows[slot] = SamplerState.begin(sampling, said)
        self.seen[slot] = False
        self.seen[slot, torch.tensor(said, dtype=torch.int64, device=self.seen.device)] = True
        self.params = None

    def move(self, source: int, target: int) -> None:
        self.seen[target] = self.seen[source]
        self.rows[target], self.rows[source] = self.rows[source], None
        self.params = None

    def scores(self, logits: Tensor, slot: int = 0) -> Tensor:
        """Float32 scores [rows, vocab] after what forbids or discourages tokens, before what leaves unlikely ones out."""
        rows = self.writing(slot, len(logits))
        if self.params is None or self.params.rows != rows:
            self.params = BatchParams(rows, logits.device)
        scores = penalised(logits.float(), self.seen[slot : slot + len(rows)], self.params)
        banned = [(i, token) for i, row in enumerate(rows) for token in row.banned(self.ends)]
        if banned:
            at = torch.tensor(banned, device=scores.device).T
            scores = scores.index_put((at[0], at[1]), scores.new_tensor(-torch.inf))
        return scores

    def draw(self, logits: Tensor, slot: int = 0) -> list[int]:
        """A token for each row of logits [rows, vocab], the first of which is `slot`'s; -1 where they are not numbers."""
        rows, scores = self.writing(slot, len(logits)), self.scores(logits, slot)
        assert self.params is not None, "scores without parameters"
        tokens = scores.argmax(-1)
        sound = scores.gather(-1, tokens[:, None])[:, 0].isfinite()  # a NaN counts as the largest
        if self.params.chance:
            u = torch.stack([row.draws[row.produced] for row in rows]).to(scores.device)
            tokens = torch.where(self.params.greedy, tokens, picked(narrowed(scores, self.params), u))
        self.seen[slot : slot + len(rows)].scatter_(1, tokens[:, None], True)
        found: list[int] = torch.where(sound, tokens, -1).tolist()
        for row, token in zip(rows, found, strict=True):
            row.append_token(token)
            row.produced += 1
        return found

    def writing(self, slot: int, count: int) -> list[SamplerState]:
        rows = [row for row in self.rows[slot : slot + count] if row]
        assert len(rows) == count, "a slot without a reply"
        return rows


class BatchParams:
    """The parameters of all rows as columns [rows, 1]; None, and skipped, where no row uses one."""

    def __init__(self, rows: Sequence[SamplerState], device: str | torch.device) -> None:
        self.rows, self.device = list(rows), device
        params = [row.sampling for row in rows]
        self.greedy = torch.tensor([sampling.temperature == 0 for sampling in params], device=device)
        self.chance = any(sampling.temperature for sampling in params)
        self.temperature = self.column([sampling.temperature or 1.0 for sampling in params], 1.0)
        self.penalty = self.column([sampling.repetition_penalty for sampling in params], 1.0)
        self.top_p = self.column(
            [sampling.top_p if sampling.temperature and sampling.top_p < 1 else OFF for sampling in params], OFF
        )
        self.top_k = [sampling.top_k if sampling.temperature else 0 for sampling in params]

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


def penalised(scores: Tensor, seen: Tensor, params: BatchParams) -> Tensor:
    """Tokens that are there already become less likely: CTRL's penalty (arXiv 1909.05858)."""
    if params.penalty is None:
        return scores
    return torch.where(seen, torch.where(scores < 0, scores * params.penalty, scores / params.penalty), scores)


def narrowed(scores: Tensor, params: BatchParams) -> Tensor:
    """Scores [rows, vocab] at the rows' temperatures, -inf where top-k or top-p leave a token out."""
    if params.temperature is not None:
        scores = scores / params.temperature
    width = scores.shape[1]
    if most := max(params.top_k):
        best = scores.topk(min(most, width)).values
        least = best.gather(1, params.ranks.clamp(max=best.shape[1] - 1)).masked_fill(params.unlimited, -torch.inf)
        scores = scores.masked_fill(scores < least, -torch.inf)
        width = min(most, width) if all(params.top_k) else width
    if params.top_p is not None:
        scores = scores.masked_fill(scores < nucleus(scores, params.top_p, width), -torch.inf)
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

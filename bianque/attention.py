"""How a query looks at what was said, and where that is kept: a slot a conversation, in tensors allocated once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 4  # rows; with more of them the work outweighs the calls

# A layer's number, its queries, and the new tokens' keys and values, [rows, heads, new, size] each, to what they gather.
Look = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a step must be told of the slots from `first` on: int64 `numbers` [kinds, rows], as their cache has them.

    `spans` say how far a look at each of its tables reaches. Where `exact` is False that may be further than needed,
    which lets a step be recorded once for many lengths (`graphs.py`). In a trace (`traces.py`) they are tensors, as is
    every size that a tensor tells of itself: slices and ranges follow them, but not what `len` says.
    """

    first: int
    numbers: Tensor
    spans: tuple[int, ...]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Places:
    """Where the newest tokens of some neighbouring slots stand: `place` int64 [rows], those in use below `span`.

    `lines` int64 [rows · heads] are the same places in a layer's table of [slots · heads · length] lines; `keys` and
    `values` are each layer's up to the span, [rows, heads, span, size]; `whole` if all that the rows see is filled.
    """

    place: Tensor
    span: int
    lines: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    whole: bool

    @property
    def seen(self) -> Tensor | None:
        """bool [rows, 1, 1, span]: the positions that a row has filled, the newest included; None if that is all."""
        if self.whole:
            return None
        return (torch.arange(self.span, device=self.place.device) <= self.place[:, None])[:, None, None]


class Linear(nn.Linear):
    """A linear layer whose result may be put on top of what it goes on with: `packed.py` does that in one step."""

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        out = super().forward(x)
        return out if onto is None else onto + out


class RMSNorm(nn.Module):
    """A norm without a mean: its square is taken in float32, rounded, then weighted (T5LayerNorm and Baichuan's).

    `packed.settle` may write the weight `twice`, one after the other. x and −x beside each other have no mean, and x's
    mean square as their variance: for a few rows torch's norm of layers is one call where a root mean square is ten.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.twice: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        if self.twice is None or x.numel() > FEW * size:
            return self.weight * F.rms_norm(x.float(), (size,), eps=self.eps).to(self.weight.dtype)
        return F.layer_norm(torch.cat((x, -x), dim=-1), (2 * size,), self.twice, None, self.eps)[..., :size]


class Parallel(nn.Module):
    """A module some of whose linear layers read the same: `project` gives what they make of x, side by side.

    `join` may put one layer, `together`, in the place of those that `readers` names.
    """

    readers: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self.together: nn.Module | None = None

    def project(self, x: Tensor) -> Tensor:
        if self.together is None:
            return torch.cat([self.get_submodule(name)(x) for name in self.readers], dim=-1)
        return self.together(x)

    def join(self, together: nn.Module) -> None:
        """One product instead of two or three: the call itself takes as long as reading a small matrix."""
        self.together = together
        for name in self.readers:
            delattr(self, name)


def unjoined(model: nn.Module) -> list[Parallel]:
    """Those that may yet be joined: a list of these alone, since one of all modules would hold what joining lets go."""
    return [module for module in model.modules() if isinstance(module, Parallel) and module.together is None]


class Cache:
    """Every layer's keys and values, [layers, slots, heads, length, size] each; slot i has filled `filled[i]` of them.

    What a slot has not filled is finite, so that a weight of zero hides it.
    """

    def __init__(self, layers: int, slots: int, heads: int, length: int, size: int, like: Tensor) -> None:
        shape = (layers, slots, heads, length, size)
        self.hold(zeros(shape, like), zeros(shape, like))
        self.filled = [0] * slots

    def hold(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.tables = list(zip(*(kept.flatten(1, 3).unbind() for kept in (keys, values)), strict=True))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that a step reads and writes here."""
        return self.keys, self.values

    def over(self, tensors: Sequence[Tensor]) -> Cache:
        """The same slots in other tensors of these shapes."""
        other = copy(self)
        other.hold(*tensors)
        return other

    def write(self, layer: int, slot: int, key: Tensor, value: Tensor) -> None:
        """What a prompt leaves in one layer, [heads, new, size], from the slot's beginning."""
        self.keys[layer, slot, :, : key.shape[1]] = key
        self.values[layer, slot, :, : key.shape[1]] = value

    @property
    def length(self) -> int:
        return self.keys.shape[3]

    @property
    def limits(self) -> tuple[int, ...]:
        """The most that a standing's spans can be; the first is of the table that a step writes to."""
        return (self.length,)

    def standing(self, first: int, count: int) -> Standing:
        """Of the next token of each slot from `first` on: its place."""
        filled = self.filled[first : first + count]
        return Standing(first, torch.tensor([filled], device=self.keys.device), (max(filled) + 1,))

    def places(self, standing: Standing, kind: int = 0) -> Places:
        """Those that a kind of its numbers names."""
        first, place, span = standing.first, standing.numbers[kind], standing.spans[kind]
        count, heads = place.shape[0], self.keys.shape[2]
        table = torch.arange(first * heads, (first + count) * heads, device=place.device).view(count, heads)
        lines = (table * self.length + place[:, None]).flatten()
        # All layers at once: four calls a layer cost more than what they look at.
        keys, values = (kept[:, first : first + count, :, :span].unbind() for kept in (self.keys, self.values))
        return Places(place, span, lines, keys, values, bool(count == 1) and standing.exact)

    def append(self, layer: int, places: Places, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a token a row, [rows, heads, 1, size], and return all [rows, heads, span, size] so far."""
        for table, new in zip(self.tables[layer], (key, value), strict=True):
            table.index_copy_(0, places.lines, new.reshape(-1, new.shape[-1]))
        return places.keys[layer], places.values[layer]

    def advance(self, first: int, count: int) -> None:
        """A further token of each slot from `first` on is in every layer."""
        for slot in range(first, first + count):
            self.filled[slot] += 1

    def mark(self, slot: int) -> Any:
        """How far a slot has come: what `copy` takes to go back there."""
        return self.filled[slot]

    def copy(self, source: int, target: int, mark: Any) -> None:
        """Bring a slot to where another one (or itself) was at its mark; what a slot has left behind it stays there."""
        if source != target:
            for table in (self.keys, self.values):
                table[:, target, :, :mark] = table[:, source, :, :mark]
        self.filled[target] = mark

    def wipe(self, slot: int) -> None:
        """Clear what a failed row may have left: nothing but zeros hides an infinity."""
        for table in (self.keys, self.values):
            table[:, slot] = 0
        self.filled[slot] = 0


class Steps:
    """What all the models have in common once they have a `turn`."""

    turn: Callable[[Tensor, Any, Standing], Tensor]

    def step(self, ids: Tensor, cache: Any, slot: int = 0) -> Tensor:
        """One token further in neighbouring slots: their newest tokens [rows] → logits [rows, vocab]."""
        return stepped(self.turn, ids, cache, slot)


def stepped(turn: Callable[[Tensor, Any, Standing], Tensor], ids: Tensor, cache: Any, slot: int = 0) -> Tensor:
    """A step, by a model's turn or by what was recorded of it."""
    logits = turn(ids, cache, cache.standing(slot, len(ids)))
    cache.advance(slot, len(ids))
    return logits


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of `like`'s type and device; in main memory, pages that nobody writes to take none."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    count = like.element_size()
    return torch.from_numpy(np.zeros((*shape[:-1], shape[-1] * count), np.uint8)).view(like.dtype)


@cache
def fused(dtype: torch.dtype) -> bool:
    """Whether this processor is faster with torch's fused attention, given a single query.

    In float32 it never loses. In bfloat16 it depends on the instructions that there are and how oneDNN uses them: each
    way has been three times faster than the other. So both are tried, which takes some milliseconds.
    """
    if dtype == torch.float32:
        return True
    query, keys = (torch.zeros(1, 16, count, 64, dtype=dtype) for count in (1, 256))
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(8):
        for way, seconds in times.items():
            begun = perf_counter()
            F.scaled_dot_product_attention(query, keys, keys) if way else apart(query, keys, keys, None)
            seconds.append(perf_counter() - begun)
    return min(times[True]) < min(times[False])


def split(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[rows, new, parts · heads · size] → [rows, heads, new, size] for each part."""
    rows, new, _ = x.shape
    if new == 1:  # each call counts in a step
        return x.view(rows, parts, heads, 1, -1).unbind(1)
    return x.view(rows, new, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind()


def merge(x: Tensor) -> Tensor:
    """[rows, heads, new, size] → [rows, new, heads · size]."""
    return x.reshape(x.shape[0], 1, -1) if x.shape[2] == 1 else x.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None = None) -> Tensor:
    """What queries [rows, heads, new, size] gather from keys and values [rows, heads, span, size].

    `bias` broadcasts to [rows, heads, new, span]: added to the scores, or bool, False where a query may not look.
    `scale` multiplies the scores, by default size^-0.5.
    """
    if query.shape[2] > 1 or query.device.type != "cpu" or fused(query.dtype):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    return apart(query, key, value, bias, scale)


def apart(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None = None) -> Tensor:
    """As `attend`, by two products and a softmax between them."""
    if scale != 1:
        query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = torch.matmul(query, key.transpose(-1, -2))
    if bias is not None:
        scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias
    return torch.matmul(scores.softmax(-1, dtype=torch.float32).to(value.dtype), value)

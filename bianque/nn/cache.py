"""Where what was said is kept: a slot a conversation, in tensors allocated once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a step must be told of the slots from `first` on: int64 `numbers` [kinds, rows], as their cache has them.

    `spans` say how far a look at each of its tables reaches. Where `exact` is False that may be further than needed,
    which lets a step be recorded once for many lengths (`cuda_graphs.py`). In a trace (`traces.py`) they are tensors, as is
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


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of `like`'s type and device; in main memory, pages that nobody writes to take none."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    count = like.element_size()
    return torch.from_numpy(np.zeros((*shape[:-1], shape[-1] * count), np.uint8)).view(like.dtype)

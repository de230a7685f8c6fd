"""Key–value caches: one slot a conversation, in tensors allocated once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a decode step needs to know of the slots from `first` on: int64 `numbers` [kinds, rows], one kind a table.

    `spans` are how many positions of each table are attended to. Where `exact` is False they are rounded up, so that one
    recording serves many lengths (`cuda_graphs.py`). In a trace (`traces.py`) spans and sizes are tensors: slices and
    ranges follow them, `len` does not.
    """

    first: int
    numbers: Tensor
    spans: tuple[int, ...]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class KVView:
    """Keys and values of neighbouring slots up to `span`, each layer's [rows, heads, span, size].

    The newest token of each row goes to `positions` int64 [rows]; `lines` int64 [rows · heads] are the same positions in
    a layer's table of [slots · heads · length] lines. `whole`: every position below the span is filled.
    """

    positions: Tensor
    span: int
    lines: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    whole: bool

    @property
    def mask(self) -> Tensor | None:
        """bool [rows, 1, 1, span]: the positions that a row has filled, the newest included; None if that is all."""
        if self.whole:
            return None
        return (torch.arange(self.span, device=self.positions.device) <= self.positions[:, None])[:, None, None]


class Cache:
    """Every layer's keys and values, [layers, slots, heads, length, size] each; slot i has filled `filled[i]` of them.

    What a slot has not filled is finite, so that a weight of zero hides it.
    """

    def __init__(self, layers: int, slots: int, heads: int, length: int, size: int, like: Tensor) -> None:
        shape = (layers, slots, heads, length, size)
        self.set_tensors(zeros(shape, like), zeros(shape, like))
        self.filled = [0] * slots

    def set_tensors(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.tables = list(zip(*(kept.flatten(1, 3).unbind() for kept in (keys, values)), strict=True))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that a step reads and writes here."""
        return self.keys, self.values

    def with_tensors(self, tensors: Sequence[Tensor]) -> Cache:
        """The same slots in other tensors of these shapes."""
        other = copy(self)
        other.set_tensors(*tensors)
        return other

    def write(self, layer: int, slot: int, key: Tensor, value: Tensor) -> None:
        """Store a prompt's keys and values of one layer, [heads, new, size], from the slot's beginning."""
        self.keys[layer, slot, :, : key.shape[1]] = key
        self.values[layer, slot, :, : key.shape[1]] = value

    @property
    def length(self) -> int:
        return self.keys.shape[3]

    @property
    def limits(self) -> tuple[int, ...]:
        """The largest spans there can be; the first is of the table that a step writes to."""
        return (self.length,)

    def step_inputs(self, first: int, count: int) -> StepInputs:
        """For the next token of each slot from `first` on: its position."""
        filled = self.filled[first : first + count]
        return StepInputs(first, torch.tensor([filled], device=self.keys.device), (max(filled) + 1,))

    def view(self, inputs: StepInputs, kind: int = 0) -> KVView:
        """The keys and values that one kind of the inputs' numbers points at."""
        first, positions, span = inputs.first, inputs.numbers[kind], inputs.spans[kind]
        count, heads = positions.shape[0], self.keys.shape[2]
        table = torch.arange(first * heads, (first + count) * heads, device=positions.device).view(count, heads)
        lines = (table * self.length + positions[:, None]).flatten()
        # All layers at once: four calls a layer cost more than the attention itself.
        keys, values = (kept[:, first : first + count, :, :span].unbind() for kept in (self.keys, self.values))
        return KVView(positions, span, lines, keys, values, bool(count == 1) and inputs.exact)

    def append(self, layer: int, view: KVView, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a token a row, [rows, heads, 1, size], and return all [rows, heads, span, size] so far."""
        for table, new in zip(self.tables[layer], (key, value), strict=True):
            table.index_copy_(0, view.lines, new.reshape(-1, new.shape[-1]))
        return view.keys[layer], view.values[layer]

    def advance(self, first: int, count: int) -> None:
        """A further token of each slot from `first` on is in every layer."""
        for slot in range(first, first + count):
            self.filled[slot] += 1

    def mark(self, slot: int) -> Any:
        """How far a slot is filled; `copy` takes it to return there."""
        return self.filled[slot]

    def copy(self, source: int, target: int, mark: Any) -> None:
        """Set a slot to where another one (or itself) was at its mark; what lies behind the mark stays."""
        if source != target:
            for table in (self.keys, self.values):
                table[:, target, :, :mark] = table[:, source, :, :mark]
        self.filled[target] = mark

    def wipe(self, slot: int) -> None:
        """Zero what a failed row may have left: a weight of zero does not hide an infinity."""
        for table in (self.keys, self.values):
            table[:, slot] = 0
        self.filled[slot] = 0


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of `like`'s type and device; in main memory, pages that nobody writes to take none."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    count = like.element_size()
    return torch.from_numpy(np.zeros((*shape[:-1], shape[-1] * count), np.uint8)).view(like.dtype)

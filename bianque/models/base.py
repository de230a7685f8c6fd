"""What decoding asks of an architecture, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bianque.nn.cache import StepInputs


class LanguageModel(Protocol):
    """What decoding needs of an architecture."""

    decoder_only: bool

    def new_cache(self, count: int, prompt: int, reply: int) -> Any:
        """A cache of `count` slots, each for so many tokens of prompt and reply."""

    def penalty_tokens(self, prompt: Sequence[int]) -> Sequence[int]:
        """Tokens that the repetition penalty counts when a reply begins."""

    def prefill(self, ids: Tensor, cache: Any, slot: int) -> Generator[None, None, Tensor]:
        """Read a prompt [length] into a slot; yields after each layer, returns logits [vocab] of the first reply token."""

    def decode_step(self, ids: Tensor, cache: Any, slot: int = 0) -> Tensor:
        """One token further in neighbouring slots: their newest tokens [rows] → logits [rows, vocab]."""

    def forward_step(self, ids: Tensor, cache: Any, inputs: StepInputs) -> Tensor:
        """`decode_step` without advancing the cache's own counts: the part that can be recorded."""


class Decoding:
    """Gives a model its `decode_step` from its `forward_step`."""

    forward_step: Callable[[Tensor, Any, StepInputs], Tensor]

    def decode_step(self, ids: Tensor, cache: Any, slot: int = 0) -> Tensor:
        """One token further in neighbouring slots: their newest tokens [rows] → logits [rows, vocab]."""
        return step_and_advance(self.forward_step, ids, cache, slot)


def step_and_advance(
    forward_step: Callable[[Tensor, Any, StepInputs], Tensor], ids: Tensor, cache: Any, slot: int = 0
) -> Tensor:
    """A decode step by a model's `forward_step`, or by a recording of it."""
    logits = forward_step(ids, cache, cache.step_inputs(slot, len(ids)))
    cache.advance(slot, len(ids))
    return logits


def embedding(rows: int, width: int) -> nn.Embedding:
    """`nn.Embedding(rows, width)`; a skeleton gets no random numbers, for which torch loads its compiler: two seconds."""
    weight = torch.empty(rows, width)
    return nn.Embedding(rows, width, _weight=weight if weight.is_meta else nn.init.normal_(weight))

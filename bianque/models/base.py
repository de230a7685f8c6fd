"""What all architectures have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from torch import Tensor

from bianque.nn.cache import Standing


class Model(Protocol):
    """What decoding needs of an architecture."""

    decoder_only: bool

    def slots(self, count: int, prompt: int, reply: int) -> Any:
        """A cache for so many conversations, each of so many tokens: `mark`, `copy` and `wipe` are for its slots."""

    def said(self, prompt: Sequence[int]) -> Sequence[int]:
        """The tokens that count as said when a reply begins: those it must not repeat."""

    def prefill(self, ids: Tensor, cache: Any, slot: int) -> Generator[None, None, Tensor]:
        """Read a prompt [length] into a slot, a slice a turn: logits [vocab] of the first reply token."""

    def step(self, ids: Tensor, cache: Any, slot: int = 0) -> Tensor:
        """One token further in neighbouring slots: their newest tokens [rows] → logits [rows, vocab]."""

    def turn(self, ids: Tensor, cache: Any, standing: Standing) -> Tensor:
        """A step, but for the cache's own count of what it holds."""


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

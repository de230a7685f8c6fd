"""What a model needs in memory, from the bytes of its card."""

from __future__ import annotations

from dataclasses import dataclass

from bianque.catalog.card import Model
from bianque.types import Bits

RESERVE = 0.1  # of the free memory: for what computing needs beside weights and caches


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One way to hold a model: in `size` bytes of weights and caches, at so many bits a weight.

    An engine writes for `slots` conversations at a time. A way that is not `allowed` is never taken; it is there for
    the advice an error gives.
    """

    bits: Bits
    size: int
    allowed: bool = True
    slots: int = 1


def plan(card: Model, bits: Bits, slots: int = 1, double: bool = False, allowed: bool = True) -> LoadPlan:
    """What a card needs with so many conversations at a time; `double`: 32 bits where others have 16."""
    size = card.loadable.memory(bits) + slots * card.loadable.cache * card.longest
    return LoadPlan(bits, size * (2 if double else 1), allowed, slots)


def sizes(card: Model) -> str:
    """Memory of the weights at each precision, in one unit; a dash where nothing is loaded here."""
    if card.checkpoint is None:
        return "–"
    memory = card.checkpoint.memory
    unit, name, digits = (1e9, "GB", 1) if memory(16) >= 1e9 else (1e6, "MB", 0)
    return "/".join(f"{memory(bits) / unit:.{digits}f}" for bits in card.precisions) + f" {name}"

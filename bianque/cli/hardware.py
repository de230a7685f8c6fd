"""Which models run on which hardware of a Space and in how many bits, from the bytes of their cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from bianque import tables
from bianque.catalog.card import Model
from bianque.catalog.footprint import RESERVE, plan
from bianque.types import Bits


class Hardware(NamedTuple):
    """What a Space can be given: its name, and the memory that torch finds there, 10⁹ bytes."""

    name: str
    memory: float
    quantises: bool = True


# As torch's own messages state the capacity: 14.56 GiB of a T4, 22.0 of an L4 or A10G, 79.25 of an A100.
HARDWARE = (
    Hardware("CPU basic", 15),  # 16 GB, of which Python, torch and the page take one
    Hardware("T4", 15.63),
    Hardware("L4", 23.6),
    Hardware("A10G", 23.6),
    Hardware("A100", 85.1),
    # `zerogpu_cuda_total_memory` of the spaces package; models are placed before any GPU is there to quantise on.
    Hardware("ZeroGPU", 74.6, quantises=False),
)


def best(cards: Sequence[Model], hardware: Hardware) -> Bits | None:
    """The most bits a weight with which all these models and a longest conversation of each fit; None if none does."""
    for bits in get_args(Bits)[: None if hardware.quantises else 1]:
        if sum(plan(card, bits).size for card in cards) <= hardware.memory * 1e9 * (1 - RESERVE):
            return min(bits, *(card.loadable.stored for card in cards))
    return None


def hardware_table(cards: Sequence[Model], pair: Sequence[Model]) -> str:
    """A Markdown table of the cards one by one, and of a pair at once."""
    groups = [*([card] for card in cards if card.repo and card.checkpoint), pair]
    name = lambda group: " + ".join(f"`{card.name}`" for card in group)
    rows = [[name(group), *(str(best(group, hardware) or "–") for hardware in HARDWARE)] for group in groups]
    return "\n".join(tables.markdown(["", *(hardware.name for hardware in HARDWARE)], rows))

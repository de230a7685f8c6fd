"""`python -m bianque bench estimate`: on paper, how many visitors one accelerator serves, and what stops the next one.

Every visitor reads `SPEED` tokens a second, and sends a prompt for each reply. n of them are served if

    n · prefill · SPEED / tokens + SPEED · step(n) ≤ 1 second

A step writes a token for all n: it takes as long as reading the weights it needs and n contexts (the prompt and half
the reply), or as computing, whichever is longer; a prefill likewise. Speeds are a data sheet's times a share, which
`bench decode` (bytes) and `bench prefill` (FLOPs) tell as ours beside the probe. Weights of 8 and 4 bits are
multiplied in 16. Weights and n caches, each reserved for the longest conversation, may fill `FULL` of the memory. A
model has the accelerator to itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from math import inf
from typing import Any, NamedTuple

from bianque.bench import roofline, rounds, shapes
from bianque.bench.roofline import Roof
from bianque.catalog.builtin import by_name
from bianque.catalog.card import ModelCard
from bianque.types import Bits

SPEED = 10  # tokens a second for each visitor: faster than one reads
FULL = 0.9  # of the memory; the rest is for what computing needs beside
PAIR = ("bianque-1", "bianque-2")


class Accelerator(NamedTuple):
    """As NVIDIA's data sheets have them: 10⁹ bytes, GB/s, and TFLOP/s of dense float16 products."""

    name: str
    memory: float
    read: float
    compute: float


ACCELERATORS = (
    Accelerator("T4", 16, 320, 65),
    Accelerator("L4", 24, 300, 121),
    Accelerator("A100 80 GB", 80, 2039, 312),
    Accelerator("H100 SXM", 80, 3350, 989),
)


@dataclass(frozen=True, slots=True)
class Service:
    """A model at so many bits, prompts and replies of so many tokens, and what the hardware gives them."""

    card: ModelCard
    bits: Bits
    prompt: int
    tokens: int
    roof: Roof
    memory: float  # bytes for weights and caches

    @property
    def config(self) -> Mapping[str, Any]:
        return shapes.SHAPES[self.card.architecture][1]

    def fits(self, visitors: int) -> bool:
        return self.card.memory(self.bits) + visitors * self.card.cache * self.card.longest <= self.memory

    def step(self, visitors: int) -> dict[str, float]:
        """Seconds of reading and of computing a token for everybody; the longer is what it takes."""
        arch, context = self.card.architecture, self.prompt + self.tokens / 2
        _, reply, head = roofline.weights(self.config, arch)
        needed = replace(self.card, parameters=reply + head, kept=0, head=head).memory(self.bits)
        return {
            "bandwidth": (needed + visitors * context * self.card.cache) / self.roof.read,
            "compute": roofline.step_flops(self.config, arch, visitors, context) / self.roof.compute,
        }

    @property
    def prefill(self) -> float:
        """Seconds to the first token."""
        flops = roofline.prefill_flops(self.config, self.card.architecture, self.prompt)
        return self.roof.seconds(self.card.memory(self.bits), flops)

    def shares(self, visitors: int) -> dict[str, float]:
        """Of each second what goes into prompts, and what into steps, named by what bounds them."""
        bound, seconds = max(self.step(visitors).items(), key=lambda item: item[1])
        return {"prompts": visitors * self.prefill * SPEED / self.tokens, bound: SPEED * seconds}

    def most(self) -> tuple[int, str]:
        """The largest number of visitors, and what stops the next one."""
        least = next(n for n in count(1) if not self.fits(n) or sum(self.shares(n).values()) > 1)
        shares = self.shares(least)
        return least - 1, max(shares, key=lambda name: shares[name]) if self.fits(least) else "memory"


def estimate(options: Any) -> None:
    names = ("card", "model", "bits", "visitors", "limited by", "a second machine is needed from", "speed alone allows")
    found = []
    for place in ACCELERATORS:
        roof = Roof(place.read * 1e9 * options.bandwidth_share, place.compute * 1e12 * options.compute_share)
        for card in (by_name()[name] for name in PAIR):
            for bits in card.precisions:
                service = Service(card, bits, options.prompt, options.tokens, roof, place.memory * 1e9 * FULL)
                if service.fits(1):
                    visitors, limit = service.most()
                    fast, _ = replace(service, memory=inf).most()
                    found.append((place.name, card.name, bits, visitors, limit, visitors + 1, fast))
    print("\n".join(rounds.markdown(names, [list(map(str, row)) for row in found])))
    if options.json:
        estimated = [dict(zip(names, row, strict=True)) for row in found]
        options.json.write_text(json.dumps({"estimated": estimated}, indent=1) + "\n")

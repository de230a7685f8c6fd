"""What a fine-tuning run does, as the command line sets it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from bianque.errors import BadInput
from bianque.types import Bits

# Neither changes the weights that come out: a run goes on with other values of these.
FREE = ("save_minutes", "samples", "patience")


@dataclass(frozen=True, slots=True)
class TunePlan:
    """One run. What says 0 or "auto" is settled by `tune.settled` before anything else reads it."""

    lora: int = -1  # rank; 0: all weights are trained; -1: 8, but 0 for a T5
    alpha: float = 0  # 0: twice the rank
    dropout: float = 0.05  # of a LoRA
    targets: str = "attention"  # what a LoRA changes; or all: every linear layer of the blocks
    bits: Bits = 16  # of a base under a LoRA
    epochs: int = 3
    batch: int = 8  # rows that go through the model at once
    accumulate: int = 1  # batches a step
    length: int = 768  # tokens of prompt and reply, half of them for the reply
    rate: float = 0  # 0: 5e-5 for all weights (upstream's), 5e-4 for a small model, 2e-4 for a LoRA
    warmup: float = 0.03  # share of the steps in which the rate rises; then it falls in a straight line to a tenth
    weight_decay: float = 0.01
    clip: float = 1.0  # the gradient's norm at most
    evaluations: int = 2  # an epoch
    patience: int = 3  # evaluations without a lower loss, after which it stops
    precision: str = "auto"  # bf16, fp32
    checkpointing: bool = False  # half the speed, a tenth of the memory of a batch
    seed: int = 0
    threads: int = 0  # 0: the fastest of some, timed at the start
    samples: int = 3  # replies before and after, for the report
    save_minutes: float = 10  # between two checkpoints beside those at evaluations

    def __post_init__(self) -> None:
        low = {"epochs": 1, "batch": 1, "accumulate": 1, "length": 32, "evaluations": 1, "patience": 1, "lora": -1}
        for name, least in low.items():
            if getattr(self, name) < least:
                raise BadInput(f"{name}={getattr(self, name)}: 至少为 {least} (at least {least})")
        for name, choices in {
            "bits": (16, 8, 4), "targets": ("attention", "all"), "precision": ("auto", "bf16", "fp32"),
        }.items():  # fmt: skip
            if getattr(self, name) not in choices:
                raise BadInput(f"{name}={getattr(self, name)}: 可选 (choose one of) {', '.join(map(str, choices))}")
        if not (math.isfinite(self.rate) and self.rate >= 0 and 0 <= self.dropout < 1):
            raise BadInput(
                f"rate={self.rate}, dropout={self.dropout}: 需要不小于 0 的数，dropout 小于 1 (not negative)"
            )

    def rate_at(self, step: int, total: int) -> float:
        """The learning rate of a step, from 0."""
        rising = max(1, round(self.warmup * total))
        falling = 1 - 0.9 * max(0, step - rising) / max(1, total - rising)
        return self.rate * min((step + 1) / rising, falling)

    def fixed(self) -> dict[str, Any]:
        """What another run in the same folder must share."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}

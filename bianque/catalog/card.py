"""Everything the project knows about one model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast, get_args

from bianque.types import LONGEST_REPLY, Architecture, Bits, Dialogue, ModelRole, Sampling


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything the project knows about one model; each fact is written here and nowhere else."""

    name: str
    title: str
    architecture: Architecture
    role: ModelRole
    prompt: Callable[[Dialogue], str]
    clean: Callable[[str], str]
    sampling: Sampling
    window: int  # tokens the prompt may fill (t5) or prompt and reply together (the others)
    bytes: int  # weights as published, in bytes
    parameters: int  # weights in all
    kept: int  # of them keep 16 bits when the others go to 8 or 4: embeddings, norms, biases
    cache: int  # bytes of keys and values per token of a conversation, 16 bit
    licence: str
    citation: str
    repo: str | None = None  # Hub id; None for a model that comes with the package
    revision: str = "main"
    files: tuple[str, ...] = field(default=())  # what is fetched from the Hub, as glob patterns
    stored: Bits = 16  # bits a weight as published, 16 also for float32
    head: int = 0  # of the weights go to 8 bits, never to 4, and stay at 16 if published so: the vocabulary's scores
    adapter: str | None = None  # a LoRA that is merged at load: its Hub id, or the file to name in BIANQUE_PATHS
    rounds: int | None = None  # finished rounds that the prompt keeps at most
    preview: bool = False  # a small bundled stand-in, not medical knowledge

    def memory(self, bits: Bits) -> int:
        """Bytes of the weights once loaded with `bits` a weight; what is published quantised stays as it is."""
        bits, others = (bits if self.stored == 16 else self.stored), self.parameters - self.kept - self.head
        scales = others // 128 * 4 if bits == 4 else 0  # a scale and a zero per 128 weights, as kernels take them
        head = max(bits, 8) if self.stored == 16 else 16
        return self.kept * 2 + self.head * head // 8 + others * bits // 8 + scales

    @property
    def precisions(self) -> tuple[Bits, ...]:
        """The bits a weight that the model can be held with."""
        return get_args(Bits) if self.stored == 16 else (self.stored,)

    def at(self, bits: Bits) -> ModelCard:
        """The same model, held with so many bits a weight; its name says so, as `bianque-2@8`."""
        return replace(self, name=f"{self.base}@{bits}")

    @property
    def held(self) -> Bits | None:
        """Bits a weight that it must be held with; None: as memory allows."""
        _, at, bits = self.name.partition("@")
        return cast(Bits, int(bits)) if at else None

    @property
    def base(self) -> str:
        """The name without a precision: what files go by."""
        return self.name.partition("@")[0]

    @property
    def longest(self) -> int:
        """Tokens of the longest conversation: a t5 keeps prompt and reply apart, the others share the window."""
        reply = max(LONGEST_REPLY, self.sampling.max_new_tokens) if self.architecture == "t5" else 0
        return self.window + reply

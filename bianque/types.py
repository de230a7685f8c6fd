"""The vocabulary every room shares: frozen dataclasses, standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

Phase = Literal["asking", "advising"]
Mode = Literal["auto", "ask", "advise"]
Finish = Literal["stop", "length", "cancelled"]
Architecture = Literal["t5", "chatglm", "baichuan"]
Bits = Literal[16, 8, 4]
ModelRole = Literal["asks", "advises", "both", "counsels"]

LONGEST_REPLY = 2048  # tokens; the most that a visitor may ask for


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue: the visitor's (`user`) or the doctor model's (`assistant`).

    `phase` says which part of the consultation a reply belongs to; a visitor's turn has none.
    """

    role: Literal["user", "assistant"]
    content: str
    phase: Phase | None = None
    model: str | None = None


Dialogue = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `temperature=0` is greedy; `top_k=0` and `top_p=1` are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    min_new_tokens: int = 0
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()  # a reply is over before the first of these
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a model has come on its way into memory, 0 to 1, or how many are `ahead` of one who is `queued`."""

    model: str
    stage: Literal["queued", "downloading", "loading"]
    fraction: float
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one reply; `dropped_rounds` rounds of history did not fit the window."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    dropped_rounds: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """One item of a stream: new text, or loading progress, or the end (`finish` set, once, last)."""

    text: str = ""
    progress: Progress | None = None
    finish: Finish | None = None
    usage: Usage | None = None


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

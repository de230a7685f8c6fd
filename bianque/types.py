"""The vocabulary every room shares: frozen dataclasses, standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Phase = Literal["asking", "advising"]
Mode = Literal["auto", "ask", "advise"]
Finish = Literal["stop", "length", "cancelled"]
Architecture = Literal["t5", "chatglm", "baichuan"]
Bits = Literal[16, 8, 4]
ModelRole = Literal["asks", "advises", "both", "counsels"]
OpeningKind = Literal["usual", "unusual"]  # of the patients that examine a consultation

MODES: tuple[Mode, ...] = get_args(Mode)
MODE_PHASES: dict[Mode, tuple[Phase, ...]] = {
    "auto": ("asking", "advising"),
    "ask": ("asking",),
    "advise": ("advising",),
}
# What a model can do alone; the first is what it does when nobody says.
ROLE_MODES: dict[ModelRole, tuple[Mode, ...]] = {
    "asks": ("ask",),
    "advises": ("advise",),
    "counsels": ("advise",),
    "both": ("advise", "ask", "auto"),
}

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

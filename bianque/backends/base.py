"""Where streams come from: the protocol that page, API and evaluation speak."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from bianque.catalog.card import Model
from bianque.types import Dialogue, Piece, Sampling


class Backend(Protocol):
    def models(self) -> Sequence[Model]:
        """The cards this backend can answer for."""

    def loaded(self, model: str) -> bool:
        """Whether a reply would begin without loading first."""

    def kernel(self, model: str) -> str | None:
        """What a loaded model computes with, as `bfloat16` or `cpu-int8`."""

    def prepare(self, model: str) -> None:
        """Begin to load in the background if there is room; errors show at the next `stream`."""

    def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """A reply as it comes: loading progress, usage, text, and last a piece with `finish`."""

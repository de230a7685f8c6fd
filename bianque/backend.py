"""Where streams come from: the protocol that page, API and evaluation speak, and this machine's own models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bianque import registry
from bianque.settings import Settings
from bianque.types import Dialogue, ModelCard, Piece, Progress, Sampling

if TYPE_CHECKING:
    from bianque.engine import Engine
    from bianque.pool import Pool


class Backend(Protocol):
    def models(self) -> Sequence[ModelCard]:
        """The cards this backend can answer for."""

    def loaded(self, model: str) -> bool:
        """Whether a reply would begin without loading first."""

    def prepare(self, model: str) -> None:
        """Begin to load in the background; errors show at the next `stream`."""

    def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """A reply as it comes: loading progress, usage, text, and last a piece with `finish`."""


class Local:
    """This machine's models. torch is imported when the first of them is needed, not before."""

    def __init__(self, settings: Settings, cards: Sequence[ModelCard] = registry.CARDS) -> None:
        self.settings = settings
        self.cards = registry.by_name(cards)
        self.folders: Mapping[str, Path] = settings.paths
        self.made: Pool | None = None

    @property
    def pool(self) -> Pool:
        if self.made is None:
            from bianque.pool import Pool

            self.made = Pool(self.load)
        return self.made

    def models(self) -> Sequence[ModelCard]:
        return tuple(self.cards.values())

    def loaded(self, model: str) -> bool:
        return self.made is not None and self.made.loaded(registry.find(self.cards, model).name)

    def prepare(self, model: str) -> None:
        self.pool.prepare(registry.find(self.cards, model).name)

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        name = registry.find(self.cards, model).name
        async with aclosing(self.pool.loading(name)) as coming:
            async for progress in coming:
                yield Piece(progress=progress)
        async with aclosing(self.pool.engine(name).stream(dialogue, sampling)) as pieces:
            async for piece in pieces:
                yield piece

    def load(self, name: str, report: Callable[[Progress], None]) -> Engine:
        """Runs in the pool's own thread."""
        report(Progress(name, "loading", 0.0))
        import torch

        from bianque import weights
        from bianque.engine import Engine

        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        card = self.cards[name]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        # CPUs compute half precision a hundred times slower than bfloat16; the small models are exact in float32.
        dtype = torch.float16 if device == "cuda" else torch.float32 if card.preview else torch.bfloat16
        folder = weights.folder_of(card, self.folders, report)
        model, tokenizer = weights.load(card, folder, device, dtype, report)
        return Engine(card, model, tokenizer, device, self.settings.max_waiting)

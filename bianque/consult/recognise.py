"""Which complaint of the knowledge base a patient tells of, in whatever words.

A linear model over a sentence vector and character n-grams, trained on the knowledge base's own openings, questions
and answers in seconds (`python -m bianque train-complaints`, `train/complaints.py`). Beside the complaints it knows
two more: `generic`, a complaint without an entry of its own, and `none`, which is no complaint at all.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult.encoder import remembered
from bianque.once import once

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "assets" / "complaints.npz"
GENERIC, NONE = "generic", "none"
LONGEST_GRAM = 2  # characters


def character_grams(text: str) -> Iterator[str]:
    """The text's single characters and pairs, punctuation and spaces left out."""
    text = re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text).lower())
    return (text[i : i + size] for size in range(1, LONGEST_GRAM + 1) for i in range(len(text) - size + 1))


class LinearScores:
    """Scores of a text: `dense` [512, K] over its sentence vector; `sparse` [V, K] over `grams` [V] with their `idf`; `bias` [K].

    `sparse` is int8, and `step` [K] what one is worth.
    """

    def __init__(self, arrays: Any) -> None:
        self.gram = {gram: i for i, gram in enumerate(arrays["grams"].tolist())}
        self.idf = arrays["idf"].astype("float32")
        self.dense, self.bias = arrays["dense"].astype("float32"), arrays["bias"].astype("float32")
        self.sparse, self.step = arrays["sparse"], arrays["step"].astype("float32")

    def scores(self, texts: Sequence[str]) -> NDArray[Any]:
        """[texts, K]"""
        import numpy as np

        scores: NDArray[Any] = remembered(texts) @ self.dense + self.bias
        for row, text in zip(scores, texts, strict=True):
            held = sorted({self.gram[gram] for gram in character_grams(text) if gram in self.gram})
            if held:
                weights = self.idf[held]
                row += (weights / np.sqrt(weights @ weights)) @ (self.sparse[held] * self.step)
        return scores


class Recogniser(LinearScores):
    """`names` [K] beside the arrays of its scores."""

    def __init__(self, arrays: Any) -> None:
        super().__init__(arrays)
        self.names: tuple[str, ...] = tuple(arrays["names"].tolist())
        self.place = {name: i for i, name in enumerate(self.names)}

    def __call__(self, texts: Sequence[str]) -> NDArray[Any]:
        """[texts, K]: logarithms of the probabilities."""
        import numpy as np

        scores = self.scores(texts)
        scores -= scores.max(axis=1, keepdims=True)
        logs: NDArray[Any] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return logs

    def shares(self, text: str) -> dict[str, float]:
        """The probability of each name for one text."""
        import numpy as np

        return dict(zip(self.names, np.exp(self([text])[0]).tolist(), strict=True))

    def complaints(self, texts: Sequence[str]) -> dict[str, float]:
        """The probability of each complaint after a patient's turns, of which the first that tells of one counts most."""
        import numpy as np

        logs, nothing = self(texts), self.place[NONE]
        opens = next((i for i, row in enumerate(logs) if row[nothing] < math.log(0.5)), len(texts) - 1)
        worth = np.where(np.arange(len(texts)) == opens, 1.0, LATER)
        total = worth[opens:] @ logs[opens:]
        total = np.exp(total - total.max())
        return dict(zip(self.names, (total / total.sum()).tolist(), strict=True))


LATER = 0.2  # what an answer is worth beside the opening, as evidence of the complaint


@once
def recogniser() -> Recogniser:
    """The bundled one; it does not change the arrays that it reads."""
    import numpy as np

    with np.load(FILE, allow_pickle=False) as arrays:
        return Recogniser(dict(arrays))

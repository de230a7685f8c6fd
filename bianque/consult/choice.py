"""One of several, or none: the small model behind `answers` and `follows`.

A perceptron with one hidden layer scores every candidate by its features; none of them has a score of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Choice:
    """`hidden` [F, H] with its `offset` [H], `output` [H]; `nothing`, the score of none; `sure`, the least probability."""

    def __init__(self, arrays: Any) -> None:
        self.hidden, self.offset, self.output = arrays["hidden"], arrays["offset"], arrays["output"]
        self.nothing, self.sure = float(arrays["nothing"]), float(arrays["sure"])

    def likely(self, features: NDArray[Any]) -> NDArray[Any]:
        """[candidates + 1]: probabilities, the last that of none."""
        import numpy as np

        scores = np.append(np.tanh(features @ self.hidden + self.offset) @ self.output, self.nothing)
        likely: NDArray[Any] = np.exp(scores - scores.max())
        return likely / likely.sum()

    def best(self, features: NDArray[Any], out: Sequence[int] = ()) -> tuple[int, float]:
        """The likeliest candidate and its probability; those that are `out` cannot be it."""
        likely = self.likely(features)
        likely[[*out]] = 0.0
        place = int(likely[:-1].argmax())
        return place, float(likely[place] / likely.sum())

    def __call__(self, features: NDArray[Any]) -> tuple[int | None, float]:
        """The same, None where it is none of them or not sure."""
        place, likely = self.best(features)
        return place if likely >= self.sure else None, likely


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Each of length one, but for zeros."""
    import numpy as np

    length: NDArray[Any] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-9)


def read(path: Path) -> dict[str, Any]:
    """The arrays of a file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return dict(file)

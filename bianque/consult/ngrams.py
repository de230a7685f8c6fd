"""Runs of characters in thousands of texts at once: as sorted numbers they are counted and looked up in a tenth of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bianque.consult.text import MARKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

APART = "\U00010000"  # a letter of Linear B between two texts, where a mark would be left out


def runs(texts: Sequence[str], size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """[n] runs of `size` characters, 1 to 4, of each text without its marks, every one once a text, and [n] whose they are.

    Sorted by run, then text. A run is a number in which a character has 64 // size bits, at most 32: in a run of four,
    characters beyond U+FFFF are one.
    """
    import numpy as np

    bits = min(64 // size, 32)
    joined = APART.join(text.replace(APART, "") for text in texts)
    points = np.frombuffer(MARKS.sub("", joined).encode("utf-32-le"), np.uint32)
    ends = points == ord(APART)
    owners, points = np.cumsum(ends, dtype=np.int32), np.minimum(points, (1 << bits) - 1).astype(np.uint64)
    count = max(len(points) - size + 1, 0)
    found, whole = np.zeros(count, np.uint64), np.ones(count, bool)
    for place in range(size):
        found = (found << np.uint64(bits)) | points[place : place + count]
        whole &= ~ends[place : place + count]
    found, owners = found[whole], owners[:count][whole]
    order = np.argsort(found, kind="stable")
    found, owners = found[order], owners[order]
    first = np.ones(len(found), bool)
    first[1:] = (found[1:] != found[:-1]) | (owners[1:] != owners[:-1])
    return found[first], owners[first]


def counts(texts: Sequence[str], size: int) -> dict[str, int]:
    """In how many of the texts each run of one or two characters stands."""
    import numpy as np

    found, held = np.unique(runs(texts, size)[0], return_counts=True)
    points = np.stack([found >> np.uint64(32 * place) for place in reversed(range(size))], axis=1).astype(np.uint32)
    return dict(zip(points.view(f"<U{size}").ravel().tolist(), held.tolist(), strict=True))


class Index:
    """Which of the texts share runs of `size` characters with another one."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        import numpy as np

        found, self.owners = runs(texts, size)
        self.known, begins = np.unique(found, return_index=True)
        self.begins, self.size = [*begins.tolist(), len(found)], size

    def sharing(self, text: str) -> tuple[dict[int, int], int]:
        """How many of the text's runs each text has, by its place; and how many runs there are."""
        import numpy as np

        asked, _ = runs([text], self.size)
        places = np.searchsorted(self.known, asked)
        hits = [
            self.owners[self.begins[place] : self.begins[place + 1]]
            for place, run in zip(places.tolist(), asked, strict=True)
            if place < len(self.known) and self.known[place] == run
        ]
        if not hits:
            return {}, len(asked)
        held, times = np.unique(np.concatenate(hits), return_counts=True)
        return dict(zip(held.tolist(), times.tolist(), strict=True)), len(asked)

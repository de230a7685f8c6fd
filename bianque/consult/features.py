"""A text as numbers for the heads of `understanding`: its vector, and its character n-grams hashed into a table."""

from __future__ import annotations

import functools
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bianque.data.script import simplified

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUCKETS = 1 << 17
LONGEST = 8000
"""Characters of a text that are read, from both of its ends."""
PIECE, STRIDE = 44, 22
"""Width of a window over a long text and its step, in Han characters; a Latin letter counts half."""

_MARKUP = re.compile(r"https?://\S+|</?[a-zA-Z][^<>]{0,200}>")  # addresses and tags say nothing
_HIDDEN = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_SPELT_OUT = re.compile(r"(?<![一-鿿])[一-鿿](?:[\s.·•*_/|~+,，。、-]{1,3}[一-鿿](?![一-鿿]))+")
_MARKS = re.compile(r"[\s，。、,.!！~…；;：:“”\"'‘’（）()\[\]【】《》<>—_·*-]+")
_CLAUSE = re.compile(r"(?<=[、。！？!?;；\n…~])|(?<=[,，])(?!\d)|(?<=\.)\s|(?<=[㐀-鿿가-힣])\s+")
_SENTENCE = re.compile(r"(?<=[。！？!?;；\n…])|(?<=\.)\s")
_RUN = re.compile(r"(.)\1{3,}", re.DOTALL)


def clean(text: str) -> str:
    """What can be encoded, of at most LONGEST characters: lone surrogates are replaced, hidden characters left out."""
    if len(text) > LONGEST:
        text = text[: LONGEST // 2] + "\n" + text[-LONGEST // 2 :]
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = _HIDDEN.sub("", unicodedata.normalize("NFKC", text)).translate(simplified())
    text = _RUN.sub(r"\1\1\1", text)
    return _SPELT_OUT.sub(lambda found: re.sub(r"[^一-鿿]", "", found[0]), text).strip()


def unmarked(text: str) -> str:
    """The text without tags and addresses."""
    return _MARKUP.sub(" ", text)


def folded(text: str) -> str:
    """A cleaned text in lower case, every run of marks and space one space."""
    return f" {_MARKS.sub(' ', text.lower()).strip()} "


def width(text: str) -> float:
    return sum(1 if ord(sign) > 0x2E80 else 0.5 for sign in text)


def pieces(text: str) -> list[str]:
    """The sentences of a text of several, and overlapping windows of whole clauses over a long one."""
    sentences = [part.strip() for part in _SENTENCE.split(text) if width(part.strip()) > 2]
    found = [part[:400] for part in sentences] if len(sentences) > 1 else []
    if width(text) > PIECE * 1.4:
        found += windows([clause for clause in _CLAUSE.split(text) if clause and clause.strip()])
    return [part for part in dict.fromkeys(found) if part != text]


def windows(clauses: Sequence[str]) -> list[str]:
    found, start = [], 0
    while start < len(clauses):
        size, end = 0.0, start
        while end < len(clauses) and (end == start or size + width(clauses[end]) <= PIECE):
            size += width(clauses[end])
            end += 1
        found.append("".join(clauses[start:end])[:400])
        if end >= len(clauses):
            break
        passed, start = width(clauses[start]), start + 1
        while start < end - 1 and passed + width(clauses[start]) <= STRIDE:
            passed += width(clauses[start])
            start += 1
    return found


def grams(text: str, longest: int = 3) -> Counter[str]:
    """The character n-grams of a folded text."""
    return Counter(text[i : i + n] for n in range(1, longest + 1) for i in range(len(text) - n + 1))


def last_clause(text: str) -> str:
    clauses = [clause for clause in _CLAUSE.split(text) if clause and clause.strip(" ，。,.？?！!~…")]
    return clauses[-1] if clauses else text


@functools.lru_cache(maxsize=1 << 17)
def bucket(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace")) & (BUCKETS - 1)


def of_phase(places: NDArray[np.int64], phase: int) -> NDArray[np.int64]:
    """Where a phase keeps its own weights of these buckets."""
    return (places * 40_503 + 7 + 9_973 * phase) & (BUCKETS - 1)


def hashed(words: Mapping[str, int], rarity: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Buckets and their weights, of length one together: 1 + log of the count, times rarity."""
    import numpy as np

    places = np.fromiter(map(bucket, words), np.int64, len(words))
    values = (1 + np.log(np.fromiter(words.values(), np.float32, len(words)))) * rarity[places]
    length = float(np.sqrt(values @ values))
    return places, values / length if length else values

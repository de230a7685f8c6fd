"""What a corpus is cleaned of: words that tell who somebody is, and dialogues that are there already."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bianque.errors import BadInput

COMPARED = 5_000  # texts that are compared with each other one by one; among more, MinHash finds the candidates
GRAM = 3  # characters that MinHash takes at a time
_UNSAID = re.compile(r"[\W_]+")


class Personal(NamedTuple):
    kind: str
    mark: str
    pattern: re.Pattern[str]


@cache
def personal() -> tuple[Personal, ...]:
    """The kinds of personal data in assets/personal.yaml."""
    import yaml

    listed = yaml.safe_load((Path(__file__).with_name("assets") / "personal.yaml").read_text(encoding="utf-8"))
    return tuple(
        Personal(each["kind"], f"[{each['mark']}]", re.compile(each["pattern"], re.IGNORECASE | re.ASCII))
        for each in listed
    )


def masked(text: str, found: Counter[str]) -> str:
    """The text with a mark in the place of each word that tells who somebody is; their kinds are counted in `found`."""
    for kind, mark, pattern in personal():
        text, count = pattern.subn(mark, text)
        if count:
            found[kind] += count
    return text


class Duplicates:
    """Texts that were seen: the same but for marks and spaces; with a `threshold`, also those that are similar to it.

    Similarity is 2·LCS / (a + b) by characters, which is ROUGE-L's F1 for Chinese (`rouge-score` itself drops every
    Chinese character). Up to COMPARED texts all are compared; among more, those that share 3-grams (MinHash), which
    misses a few.
    """

    def __init__(self, threshold: float | None = None, compared: int = COMPARED) -> None:
        if threshold is not None and not 0.3 <= threshold <= 1:
            raise BadInput(f"similar={threshold}: 需要 0.3 到 1 (0.3 to 1 is needed)")
        self.threshold, self.compared = threshold, compared
        self.exact = dict[bytes, str]()
        self.texts, self.names = list[str](), list[str]()
        self.index: Any = None
        if threshold is not None:
            self.process, self.similarity = optional("rapidfuzz.process"), optional("rapidfuzz.distance.Indel")

    def seen(self, text: str, name: str) -> str | None:
        """The name of an earlier text that this one repeats; without one this one is kept, under its name."""
        plain = _UNSAID.sub("", text)
        key = hashlib.blake2b(plain.encode(errors="replace"), digest_size=16).digest()
        if key in self.exact:
            return self.exact[key]
        self.exact[key] = name
        if self.threshold is None:
            return None
        if (place := self.similar(plain)) is not None:
            return self.names[place]
        self.keep(plain, name)
        return None

    def similar(self, text: str) -> int | None:
        least = self.threshold or 0
        choices = self.texts if self.index is None else {i: self.texts[i] for i in self.index.query(self.sketch(text))}
        # The library rounds its cutoff up: what is exactly as similar as that would be missed.
        best = self.process.extractOne(
            text, choices, scorer=self.similarity.normalized_similarity, score_cutoff=least - 0.02
        )
        return best[2] if best and best[1] >= least - 1e-9 else None

    def keep(self, text: str, name: str) -> None:
        self.texts.append(text)
        self.names.append(name)
        if self.index is not None:
            self.index.insert(len(self.texts) - 1, self.sketch(text))
        elif len(self.texts) > self.compared:
            # A changed character takes three 3-grams with it, so their share is well below that of the characters.
            share = max(0.2, (self.threshold or 0) - 0.45)
            self.index = optional("datasketch").MinHashLSH(threshold=share, num_perm=64)
            for place, kept in enumerate(self.texts):
                self.index.insert(place, self.sketch(kept))

    @staticmethod
    def sketch(text: str) -> Any:
        found = optional("datasketch").MinHash(num_perm=64)
        grams = {text[place : place + GRAM] for place in range(max(1, len(text) - GRAM + 1))}
        found.update_batch([gram.encode(errors="replace") for gram in grams])
        return found


def optional(name: str) -> Any:
    """A library that similar texts alone need; BadInput says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise BadInput(
            f"--similar 需要 {package}：pip install -r bianque/data/requirements.txt ({package} is needed: install it so)"
        ) from None

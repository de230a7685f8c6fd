"""Which known question a visitor's question is: 能含片吗 is 含片能吃吗, 一天吃十几片行吗 is not.

Each known question is compared with the visitor's (`features`: vectors of question and answer, pairs of characters, how
much of what is particular in the one stands in the other, how far it is ahead of the next) and a `Choice` is made.
Trained on `data/follows.jsonl` (`python -m bianque train-complaints`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult.choice import Choice, bundled
from bianque.consult.encoder import encode, encoded
from bianque.consult.text import grams, likeness
from bianque.data.knowledge import Follow
from bianque.once import once

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "assets" / "follows.npz"
LONGEST = 200  # characters of a question that are read
WIDTH = 12


class Follows:
    """Over the texts of the knowledge base, in which a character or pair is the more particular the rarer it is."""

    def __init__(self, texts: Iterable[str], vectors_of: Callable[[Sequence[str]], Any] = encode) -> None:
        every = list(texts)
        self.seen = Counter(gram for text in every for gram in {*grams(text), *signs(text)})
        self.count, self.vectors_of = len(every), vectors_of
        self.known: dict[Follow, tuple[Any, Any]] = {}

    def __call__(self, question: str, known: tuple[Follow, ...]) -> Follow | None:
        """The known question that it is, None where it is none of them or not sure."""
        question = question[:LONGEST]
        if not known or not signs(question):
            return None
        found, _ = choice()(self.features(question, encoded(question), known))
        return None if found is None else known[found]

    def features(self, question: str, vector: NDArray[Any], known: tuple[Follow, ...]) -> NDArray[Any]:
        """[known questions, WIDTH]"""
        import numpy as np

        for one in known:
            if one not in self.known:
                self.known[one] = self.vectors_of(one.ask), self.vectors_of(one.say)
        near = [(asks @ vector, float((says @ vector).max())) for asks, says in map(self.known.__getitem__, known)]
        asked, said = [float(asks.max()) for asks, _ in near], [says for _, says in near]
        ahead = lambda scores, place: scores[place] - max(scores[:place] + scores[place + 1 :], default=0.0)
        rows = []
        for place, one in enumerate(known):
            both = (*one.ask, *one.say)
            rows.append([
                asked[place], said[place], near[place][0].mean(), max(likeness(grams(question), grams(ask)) for ask in one.ask),
                self.covered(grams(question), map(grams, one.ask)), self.covered(grams(question), map(grams, both)),
                self.covered(signs(question), map(signs, one.ask)), self.covered(signs(question), map(signs, both)),
                ahead(asked, place), ahead(said, place),
                max(self.covered(grams(ask), [grams(question)]) for ask in one.ask),
                max(self.covered(signs(ask), [signs(question)]) for ask in one.ask),
            ])  # fmt: skip
        return np.array(rows, np.float32)

    def covered(self, part: frozenset[str], texts: Iterable[frozenset[str]]) -> float:
        """The share of what is particular in `part` that stands in any of the texts."""
        held = frozenset[str]().union(*texts)
        worth = {gram: math.log(self.count / (1 + self.seen[gram])) for gram in part}
        return sum(one for gram, one in worth.items() if gram in held) / (sum(worth.values()) or 1.0)


def signs(text: str) -> frozenset[str]:
    return frozenset(re.sub(r"[\W_]", "", text))


@once
def choice() -> Choice:
    """The bundled one."""
    return bundled(FILE)

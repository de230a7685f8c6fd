"""Which known question a visitor's question is: 能含片吗 is 含片能吃吗, 一天吃十几片行吗 is not.

Each known question is compared with the clause that asks and with the whole message it stands in (`features`: vectors of
question and answer, as they are and turned so that what asks for the same lies nearer than what shares words; pairs of
characters, how much of what is particular in the one stands in the other, how far it is ahead of the next), and a `Choice`
is made. Trained on `data/follows.jsonl` and `data/follows_judged.jsonl` (`python -m bianque train-complaints`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bianque.consult.choice import Choice, read, unit
from bianque.consult.encoder import encode
from bianque.consult.ngrams import counts
from bianque.consult.patterns import pattern
from bianque.consult.questions import asks
from bianque.consult.text import grams, likeness
from bianque.consult.told import CLAUSE
from bianque.data.knowledge import Follow
from bianque.once import once

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "assets" / "follows.npz"
LONGEST = 200  # characters of a message that are read
PLAIN, TURNED = 25, 6  # features without and with what is learned about vectors
WIDTH = PLAIN + TURNED
ANYONES = 12  # known questions that anybody may ask, the nearest, are compared beside the complaint's own


class FollowTurn:
    """Learned [512, rank] matrices: a question times `asks` lies near a known one's wording, times `says` near its answer."""

    def __init__(self, arrays: Any) -> None:
        import numpy as np

        self.asks, self.says = (np.asarray(arrays[name], np.float32) for name in ("asks", "says"))

    def known(self, asks: NDArray[Any], says: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The wordings and answers of a known question, vectors, turned: [n, rank] each."""
        return unit(asks.astype("f4") @ self.asks), unit(says.astype("f4") @ self.says)

    def __call__(
        self, question: NDArray[Any], said: NDArray[Any], asks: NDArray[Any], says: NDArray[Any]
    ) -> list[float]:
        """[TURNED] of a question and the message it stands in, vectors, and a known question's turned ones."""
        import numpy as np

        asking = asks @ unit(np.stack([question, said]) @ self.asks).T
        answered = says @ unit(question @ self.says)
        return [*asking.max(0), answered.max(), *asking.mean(0), answered.mean()]


class Wordings(NamedTuple):
    """A known question's wordings and answers: vectors [n, 512] in half precision, as all of
    them are kept; turned ones, characters and pairs of each, and of all together."""

    asks: Any
    says: Any
    turned: tuple[Any, Any]
    each: tuple[tuple[frozenset[str], frozenset[str]], ...]
    asked: tuple[frozenset[str], frozenset[str]]
    both: tuple[frozenset[str], frozenset[str]]

    @classmethod
    def of(cls, one: Follow, vectors_of: Callable[[Sequence[str]], Any], turn: FollowTurn | None) -> Wordings:
        each = tuple((grams(text), grams(text, 1)) for text in one.ask)
        more = (*each, *((grams(text), grams(text, 1)) for text in one.say))
        every = lambda parts: (
            frozenset[str](chain(*(pairs for pairs, _ in parts))),
            frozenset[str](chain(*(one for _, one in parts))),
        )
        asks, says = vectors_of(one.ask), vectors_of(one.say)
        turned = turn.known(asks, says) if turn else (None, None)
        return cls(asks.astype("f2"), says.astype("f2"), turned, each, every(each), every(more))


class Asked(NamedTuple):
    """A clause that asks, the message it stands in, and the vectors [2, 512] of both."""

    question: str
    said: str
    vectors: Any


class Follows:
    """Over the texts of the knowledge base, in which a character or pair is the more particular the rarer it is."""

    def __init__(
        self, texts: Iterable[str], vectors_of: Callable[[Sequence[str]], Any] = encode, turn: FollowTurn | None = None
    ) -> None:
        self.turn = turn
        every = list(texts)
        seen = counts(every, 1) | counts(every, 2)
        self.worth = {gram: math.log(len(every) / (1 + held)) for gram, held in seen.items()}
        self.new, self.vectors_of = math.log(len(every)), vectors_of
        self.known: dict[Follow, Wordings] = {}

    def __call__(
        self, question: str, known: tuple[Follow, ...], said: str = "", anyones: tuple[Follow, ...] = ()
    ) -> tuple[Follow | None, float]:
        """The known question that it most likely is, and the probability; `said`: the message it stands in.

        Of `anyones`, what is asked whatever the complaint, the nearest count beside the `known` ones of the complaint.
        """
        return next(iter(self.likeliest(question, known, said, anyones)), (None, 0.0))

    def likeliest(
        self, question: str, known: tuple[Follow, ...], said: str = "", anyones: tuple[Follow, ...] = ()
    ) -> list[tuple[Follow, float]]:
        """All of them with their probabilities, the likeliest first; none where there is nothing to compare."""
        if not (known or anyones) or not grams(question[-LONGEST:], 1):
            return []
        asked = self.read(question, said)
        near = self.nearest(asked, anyones)
        likely = learned()[0].likely(self.features(asked, known, near))
        order = sorted(range(len(likely) - 1), key=likely.__getitem__, reverse=True)
        return [((*known, *near)[place], float(likely[place])) for place in order]

    def read(self, question: str, said: str) -> Asked:
        question, said = question[-LONGEST:], said[-LONGEST:]
        said = said if grams(said, 1) else question
        return Asked(question, said, self.vectors_of([question, said]))

    def nearest(self, asked: Asked, anyones: tuple[Follow, ...]) -> tuple[Follow, ...]:
        """Those that a wording is nearest of, in their order."""
        near = [float((self.wordings(one).asks @ asked.vectors.T).max()) for one in anyones]
        best = sorted(range(len(near)), key=near.__getitem__)[-ANYONES:]
        return tuple(anyones[place] for place in sorted(best))

    def features(self, asked: Asked, known: tuple[Follow, ...], anyones: tuple[Follow, ...] = ()) -> NDArray[Any]:
        """[known questions and anybody's, WIDTH], without a `turn` PLAIN wide"""
        import numpy as np

        worded = [self.wordings(one) for one in (*known, *anyones)]
        found = [self.compared(*one, worded) for one in zip(asked[:2], asked.vectors, strict=True)]
        found.append(np.array([[place >= len(known)] for place in range(len(worded))], np.float32))
        if self.turn:
            near = [self.turn(asked.vectors[0], asked.vectors[1], *one.turned) for one in worded]
            found.append(np.array(near, np.float32))
        return np.hstack(found)

    def wordings(self, one: Follow) -> Wordings:
        if one not in self.known:
            self.known[one] = Wordings.of(one, self.vectors_of, self.turn)
        return self.known[one]

    def compared(self, question: str, vector: NDArray[Any], worded: Sequence[Wordings]) -> NDArray[Any]:
        """[known questions, half of the features about words]"""
        import numpy as np

        near = [(one.asks @ vector, float((one.says @ vector).max())) for one in worded]
        asked, said = [float(asks.max()) for asks, _ in near], [says for _, says in near]
        ahead = lambda scores, place: scores[place] - max(scores[:place] + scores[place + 1 :], default=0.0)
        pairs, single = grams(question), grams(question, 1)
        rows = []
        for place, words in enumerate(worded):
            rows.append([
                asked[place], said[place], near[place][0].mean(), max(likeness(pairs, own) for own, _ in words.each),
                self.covered(pairs, words.asked[0]), self.covered(pairs, words.both[0]),
                self.covered(single, words.asked[1]), self.covered(single, words.both[1]),
                ahead(asked, place), ahead(said, place),
                max(self.covered(own, pairs) for own, _ in words.each), max(self.covered(own, single) for _, own in words.each),
            ])  # fmt: skip
        return np.array(rows, np.float32)

    def covered(self, part: frozenset[str], text: frozenset[str]) -> float:
        """The share of what is particular in `part` that stands in the text."""
        worth = {gram: self.worth.get(gram, self.new) for gram in part}
        return sum(one for gram, one in worth.items() if gram in text) / (sum(worth.values()) or 1.0)


def asked(said: str) -> list[tuple[str, str]]:
    """The clauses of a message that ask, each with the message but for the other ones."""
    clauses = [clause for clause in (pattern("people", "leads").sub("", part) for part in CLAUSE.split(said)) if clause]
    asking = [clause for clause in clauses if asks(clause)]
    return [(one, "，".join(part for part in clauses if part == one or part not in asking)) for one in asking]


@once
def learned() -> tuple[Choice, FollowTurn]:
    """The bundled ones."""
    arrays = read(FILE)
    return Choice(arrays), FollowTurn(arrays)

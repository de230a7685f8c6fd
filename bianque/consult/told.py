"""What a patient's first message tells already, in whatever words, so that the doctor need not ask for it.

For each question of the complaint a logistic regression says how likely the message answers it. It sees how near the
message and its clauses come to the answers, the facts and the question in the knowledge base, and what the like
questions of all complaints are answered with (how long, what age, which medicine …). Trained on openings whose
writers noted what they tell (`python -m bianque train-complaints`, `train/told.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult.encoder import encode
from bianque.consult.recognise import LinearScores
from bianque.consult.text import grams, likeness
from bianque.data import speech
from bianque.data.knowledge import Complaint
from bianque.once import once

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "assets" / "told.npz"
CLAUSE = re.compile(r"[，。！？,.!?；;：:\s]+")
LONGEST, SHORTEST = 400, 2  # characters of a message that are read, of a clause


@dataclass(frozen=True, slots=True)
class Wordings:
    """Texts of one kind about one question, with their vectors [n, 512]."""

    texts: tuple[str, ...]
    vectors: NDArray[Any]
    pairs: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, texts: Sequence[str], vectors_of: Callable[[Sequence[str]], Any] = encode) -> Wordings:
        return cls(tuple(texts), vectors_of(texts), tuple(map(grams, texts)))

    def only(self, wanted: Callable[[str], bool]) -> Wordings:
        kept = [place for place, text in enumerate(self.texts) if wanted(text)]
        return Wordings(tuple(self.texts[i] for i in kept), self.vectors[kept], tuple(self.pairs[i] for i in kept))


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a complaint: the wordings of each answer, those that mean something by themselves, the facts (one
    an answer), and the ways to ask."""

    answers: Mapping[str, Wordings]
    apart: Wordings
    facts: Wordings
    asks: Wordings


def questions(entry: Complaint, vectors_of: Callable[[Sequence[str]], Any] = encode) -> dict[str, Question]:
    """Of every question of a complaint; a tenth of a second."""
    found = {}
    for slot in entry.slots:
        said = [(label, say) for label, value in slot.values.items() for say in value.says]
        facts = [value.fact for value in slot.values.values()]
        every = Wordings.of([*(say for _, say in said), *facts, *slot.ask], vectors_of)
        part = lambda begin, end, every=every: Wordings(
            every.texts[begin:end], every.vectors[begin:end], every.pairs[begin:end]
        )
        answers, place = {}, 0
        for label, value in slot.values.items():
            answers[label] = part(place, place + len(value.says))
            place += len(value.says)
        apart = part(0, place).only(lambda say: len(say) > SHORTEST and not speech.BOUND.match(say))
        found[slot.key] = Question(answers, apart, part(place, place + len(facts)), part(place + len(facts), None))
    return found


@dataclass(frozen=True, slots=True)
class Utterance:
    """A patient's message and its clauses: vectors [clauses + 1, 512], the whole last, and the clauses' pairs."""

    text: str
    clauses: tuple[str, ...]
    vectors: NDArray[Any]
    pairs: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, text: str, vectors_of: Callable[[Sequence[str]], Any] = encode) -> Utterance:
        text = text[:LONGEST]
        clauses = tuple(clause for clause in CLAUSE.split(text) if len(clause) >= SHORTEST) or (text,)
        return cls(text, clauses, vectors_of([*clauses, text]), tuple(map(grams, clauses)))


def features(said: Utterance, known: Mapping[str, Question]) -> NDArray[Any]:
    """[questions, 11]: to answers, facts and question the highest cosines of a clause and of all, and shared pairs; shared characters."""
    import numpy as np

    characters = set(said.text)
    covered = lambda one: max((len(characters & set(say)) / len(set(say)) for say in one.texts), default=0.0)
    rows = []
    for question in known.values():
        row = []
        for one in (question.apart, question.facts, question.asks):
            near = said.vectors @ one.vectors.T if one.texts else np.zeros((len(said.vectors), 1), np.float32)
            alike = max((likeness(mine, its) for mine in said.pairs for its in one.pairs), default=0.0)
            row += [near[:-1].max(), near[-1].max(), alike]
        rows.append([*row, covered(question.facts), covered(question.apart)])
    return np.array(rows, np.float32)


class Told:
    """`keys` [K], the questions with scores of their own; `weights` [12] and `offset` over the features and that score."""

    def __init__(self, arrays: Any) -> None:
        self.linear = LinearScores(arrays)
        self.place = {key: i for i, key in enumerate(arrays["keys"].tolist())}
        self.weights, self.offset = arrays["weights"].astype("float32"), float(arrays["offset"])
        self.threshold = float(arrays["threshold"])

    def __call__(self, said: Utterance, known: Mapping[str, Question], margin: float = 0.0) -> set[str]:
        """The questions that the message answers, by at least so much more than the least that a first message needs."""
        import numpy as np

        scores = self.linear.scores([said.text])[0]
        own = [scores[self.place[key]] if key in self.place else 0.0 for key in known]
        sure = np.column_stack([features(said, known), own]) @ self.weights + self.offset
        return {key for key, one in zip(known, sure, strict=True) if one >= self.threshold + margin}


@once
def told() -> Told:
    """The bundled one."""
    import numpy as np

    with np.load(FILE, allow_pickle=False) as arrays:
        return Told(dict(arrays))

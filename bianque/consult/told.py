"""What a patient's first message tells already, in whatever words, so that the doctor need not ask for it.

For each question of the complaint a logistic regression says how likely the message answers it. It sees how near the
message and its clauses come to the answers, the facts and the question in the knowledge base, and what the like
questions of all complaints are answered with (how long, what age, which medicine …). Trained on openings whose
writers noted what they tell (`python -m bianque train-complaints`, `train/told.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult.encoder import encode, encoded
from bianque.consult.recognise import Linear
from bianque.consult.text import grams, likeness
from bianque.data import speech
from bianque.data.knowledge import Complaint, Slot

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


def parts(slot: Slot) -> tuple[tuple[str, ...], ...]:
    """Answers that mean something by themselves, facts, and ways to ask."""
    says = (say for value in slot.values.values() for say in value.says)
    apart = tuple(say for say in says if len(say) > SHORTEST and not speech.BOUND.match(say))
    return apart, tuple(value.fact for value in slot.values.values()), slot.ask


def wordings(entry: Complaint, vectors_of: Callable[[Sequence[str]], Any] = encode) -> dict[str, list[Wordings]]:
    """Of every question of a complaint; a tenth of a second."""
    every = {slot.key: parts(slot) for slot in entry.slots}
    vectors = vectors_of([text for three in every.values() for one in three for text in one])
    found: dict[str, list[Wordings]] = {}
    place = 0
    for key, three in every.items():
        found[key] = []
        for texts in three:
            found[key].append(Wordings(texts, vectors[place : place + len(texts)], tuple(map(grams, texts))))
            place += len(texts)
    return found


def features(
    text: str, known: dict[str, list[Wordings]], vectors_of: Callable[[Sequence[str]], Any] = encode
) -> NDArray[Any]:
    """[questions, 11]: to answers, facts and question the highest cosines of a clause and of all, and shared pairs; shared characters."""
    import numpy as np

    text = text[:LONGEST]
    clauses = [clause for clause in CLAUSE.split(text) if len(clause) >= SHORTEST] or [text]
    vectors, pairs, characters = vectors_of([*clauses, text]), [grams(clause) for clause in clauses], set(text)
    covered = lambda one: max((len(characters & set(say)) / len(set(say)) for say in one.texts), default=0.0)
    rows = []
    for kinds in known.values():
        row = []
        for one in kinds:
            near = vectors @ one.vectors.T if one.texts else np.zeros((len(vectors), 1), np.float32)
            alike = max((likeness(mine, its) for mine in pairs for its in one.pairs), default=0.0)
            row += [near[:-1].max(), near[-1].max(), alike]
        rows.append([*row, covered(kinds[1]), covered(kinds[0])])
    return np.array(rows, np.float32)


class Told:
    """`keys` [K], the questions with scores of their own; `weights` [12] and `offset` over the features and that score."""

    def __init__(self, arrays: Any) -> None:
        self.linear = Linear(arrays)
        self.place = {key: i for i, key in enumerate(arrays["keys"].tolist())}
        self.weights, self.offset = arrays["weights"].astype("float32"), float(arrays["offset"])
        self.threshold = float(arrays["threshold"])

    def __call__(self, text: str, known: dict[str, list[Wordings]]) -> set[str]:
        """The questions that the message answers."""
        import numpy as np

        scores = self.linear.scores([text[:LONGEST]])[0]
        own = [scores[self.place[key]] if key in self.place else 0.0 for key in known]
        remembered = lambda texts: np.stack([encoded(one) for one in texts])
        sure = np.column_stack([features(text, known, remembered), own]) @ self.weights + self.offset
        return {key for key, one in zip(known, sure, strict=True) if one >= self.threshold}


@cache
def told() -> Told:
    """The bundled one."""
    import numpy as np

    with np.load(FILE, allow_pickle=False) as arrays:
        return Told(dict(arrays))

"""What a message says, told by labelled sentences: danger and its kind, what the visitor wants, which sentences it is like.

A head is a kernel machine: it compares a text with every sentence it has learnt, by the sentence encoder and by
character n-grams. The sentences are in `data/understanding`, one a line; `learning` makes the heads from them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bianque.consult import features
from bianque.consult.encoder import encode, encoded, remembered
from bianque.consult.patterns import asset
from bianque.consult.questions import asks
from bianque.consult.recognise import Recogniser
from bianque.once import once

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

FOLDER = Path(__file__).parent.parent / "data" / "understanding"
Level = Literal["emergency", "crisis"]
Certainty = Literal["sure", "likely"]
Intent = Literal["answer", "advice", "question", "opening", "follow", "new", "stop", "chat"]
PHASES = ("asking", "advising", None)
LOOKED, QUIET = 8, -0.1
"""Pieces of a text that are encoded: at most so many, those whose n-grams look most like danger, and none below that."""
KIND_SURE = 0.6  # the probability of kinds with the same first aid


class Known(NamedTuple):
    """A sentence that the triage head has learnt."""

    text: str
    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Near:
    """A known sentence and how like it the text is: the cosine of their vectors."""

    text: str
    label: str
    kind: str
    likeness: float


@dataclass(frozen=True, slots=True)
class Danger:
    """`score` grows with danger and is about 0 where a notice is as likely wrong as right; `piece` is where it was seen.
    `together`: in no message alone."""

    level: Level | None = None
    kind: str = ""
    certainty: Certainty | None = None
    score: float = -1.0
    nearest: tuple[Near, ...] = ()
    piece: str = ""
    together: bool = False


class Head:
    """One trained head: scores of its labels for a text.

    Arrays: vectors [n, 512] int8 times scale [n], phase [n], alpha [n, labels], words [buckets, labels], rarity [buckets],
    prior [labels]. Settings: labels, gamma of the radial kernel, share of the n-grams, and what sentences count: `common`
    in any phase, `own` more in the same.
    """

    def __init__(self, arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        import numpy as np

        self.labels: list[str] = settings["labels"]
        self.gamma, self.share = float(settings["gamma"]), float(settings["share"])
        self.common, self.own = float(settings["common"]), float(settings["own"])
        self.vectors = arrays["vectors"].astype(np.float32) * arrays["scale"][:, None]
        self.phase, self.prior = arrays["phase"], arrays["prior"]
        self.alpha, self.words, self.rarity = (arrays[name].astype(np.float32) for name in ("alpha", "words", "rarity"))

    def by_words(self, words: Mapping[str, int], phase: int = 0) -> Floats:
        """[labels]: what the n-grams say."""
        places, values = features.hashed(words, self.rarity)
        found = self.common * (values @ self.words[places])
        if self.own:
            found += self.own * (values @ self.words[features.of_phase(places, phase)])
        return self.share * found

    def by_vector(self, vector: Floats, phase: int = 0) -> Floats:
        """[labels]: what the encoder says, [n, labels] of several vectors at once; an empty one is like nothing."""
        import numpy as np

        near = np.exp(-self.gamma * np.maximum(0, 2 - 2 * (vector @ self.vectors.T)))
        near *= self.common + self.own * (self.phase == phase)
        said: Floats = (near * vector.any(axis=-1, keepdims=True)) @ self.alpha
        return said

    def scores(self, words: Mapping[str, int], vector: Floats, phase: int = 0) -> Floats:
        return self.prior + self.by_words(words, phase) + self.by_vector(vector, phase)


@dataclass(frozen=True)
class TriageHeads:
    """The heads, the sentences that the triage head knows, in its order and before their misspelt copies; the thresholds."""

    triage: Head
    intent: Head
    known: tuple[Known, ...]
    thresholds: Mapping[str, float]
    kinds: Recogniser | None = None

    def nearest(self, vector: Floats) -> tuple[Near, ...]:
        """The three sentences that are nearest."""
        import numpy as np

        likeness = self.triage.vectors[: len(self.known)] @ vector
        best = sorted(np.argpartition(-likeness, 3)[:3].tolist(), key=lambda place: -likeness[place])
        return tuple(Near(**self.known[place]._asdict(), likeness=round(float(likeness[place]), 3)) for place in best)


def kind_of(text: str, level: Level, found: Recogniser | None) -> str:
    """The kind of a danger; "" where it is not sure what is to be done: first aid for something else does harm."""
    if found is None:
        return ""
    likely = {name.partition("/")[2]: share for name, share in found.shares(text).items() if name.startswith(level)}
    together: dict[str, float] = defaultdict(float)
    for kind, share in likely.items():
        together[groups().get(kind, "")] += share
    group = max(together, key=together.__getitem__, default="")
    if not likely or together[group] < KIND_SURE * sum(likely.values()):
        return ""
    return max((kind for kind in likely if groups().get(kind, "") == group), key=likely.__getitem__)


@cache
def groups() -> Mapping[str, str]:
    """The group of each kind: what is to be done."""
    return {kind: name for name, row in asset("notices")["groups"].items() for kind in row["kinds"]}


@once
def model() -> TriageHeads:
    """The trained heads, read once. FileNotFoundError before the first training."""
    return read(FOLDER / "heads.npz")


def beside(path: Path, what: str) -> Path:
    """The file of the intent head, the n-grams of both with the sentences, or the kinds, beside that of the triage head:
    one of all were too large for a Space."""
    return path.with_name(f"{what}-{path.name}")


def read(path: Path) -> TriageHeads:
    import numpy as np

    arrays: dict[str, Any] = {}
    for file in (path, beside(path, "intent"), beside(path, "word")):
        with np.load(file, allow_pickle=False) as stored:
            arrays |= {name: stored[name] for name in stored.files}
    settings, known = (json.loads(bytes(arrays.pop(name)).decode("utf-8")) for name in ("settings", "known"))
    of = lambda head: {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{head}.")}
    triage, intent = (Head(of(head), settings[head]) for head in ("triage", "intent"))
    kinds = None
    if (file := beside(path, "kind")).exists():
        with np.load(file, allow_pickle=False) as stored:
            kinds = Recogniser(dict(stored))
    return TriageHeads(triage, intent, tuple(Known(*row) for row in known), settings["thresholds"], kinds)


def alarm(scores: Floats) -> float:
    """How far emergency or crisis is above none."""
    return float(max(scores[1], scores[2]) - scores[0])


def danger(text: str, using: TriageHeads | None = None) -> Danger:
    """Judge a message: whole, and a long one piece by piece too, so that what is hidden in a story is heard.

    A piece has lost what stood around it (在小说里, 后来好了), so it must be surer than the whole to be believed.
    """
    known = using or model()
    text = features.clean(features.unmarked(text))
    if not text:
        return Danger()
    words = features.grams(features.folded(text))
    parts = [(text, words), *_suspects(known.triage, text)]
    found: list[tuple[float, str, Floats, bool]] = []
    vectors = remembered([part for part, _ in parts])
    for (part, counted), vector, meant in zip(parts, vectors, known.triage.by_vector(vectors), strict=True):
        scores = known.triage.prior + known.triage.by_words(counted) + meant
        cost = known.thresholds["piece"] if found else 0.0
        found.append((alarm(scores) - cost, part, vector, bool(scores[2] > scores[1])))
    heard = [one for one in found if one[0] > known.thresholds["likely"]]
    if not heard:
        return Danger(score=found[0][0])
    score, part, vector, crisis = max(heard, key=lambda one: (one[3], one[0]))  # a crisis outranks an emergency
    level: Level = "crisis" if crisis else "emergency"
    certainty: Certainty = "sure" if score > known.thresholds["sure"] else "likely"
    return Danger(level, kind_of(text, level, known.kinds), certainty, score, known.nearest(vector), part)


def nearest(text: str) -> tuple[Near, ...]:
    """The three known sentences that are nearest to a message, danger or not."""
    return model().nearest(encoded(features.clean(features.unmarked(text))))


def _suspects(head: Head, text: str) -> list[tuple[str, Counter[str]]]:
    """The pieces of a text whose n-grams look like danger, with those n-grams."""
    counted = ((part, features.grams(features.folded(part))) for part in features.pieces(text))
    scored = ((alarm(head.by_words(words)), part, words) for part, words in counted)
    worst = sorted((one for one in scored if one[0] > QUIET), key=lambda one: -one[0])[:LOOKED]
    return [(part, words) for _, part, words in worst]


def intent(
    text: str,
    opening: str | None = None,
    doctor: str | None = None,
    phase: str | None = None,
    using: TriageHeads | None = None,
) -> dict[str, float]:
    """What a message wants: its labels and their scores, the best first.

    `opening` is the round's first message (None if this is it), `doctor` the doctor's last turn, `phase` that turn's.
    """
    known = using or model()
    text = features.clean(text)
    words = intent_words(text, opening, doctor)
    scores = known.intent.scores(words, encoded(text), PHASES.index(phase if phase in PHASES else None))
    found = zip(known.intent.labels, map(float, scores), strict=True)
    return dict(sorted(found, key=lambda one: -one[1]))


def intent_words(text: str, opening: str | None, doctor: str | None) -> Counter[str]:
    """n-grams of a cleaned text, those of its last clause once more, and what it shares with what was said before."""
    words = features.grams(features.folded(text))
    last = features.last_clause(text)
    if len(last) < len(text):
        words.update(f"\x01{gram}" for gram in features.grams(features.folded(last), 2))
    marks = [
        f"\x02{name}" for name, held in (("asks", asks(text)), ("mark", "?" in text), ("first", not doctor)) if held
    ]
    said = features.grams(features.folded(features.clean(f"{opening or ''} {doctor or ''}")), 2)
    pairs = [gram for gram in features.grams(features.folded(text), 2) if len(gram) == 2 and " " not in gram]
    shared = sum(gram in said for gram in pairs)
    marks.append(f"\x02shares{min(shared, 3)}")
    words.update({mark: 3 for mark in marks})
    return words


def understand(
    text: str, opening: str | None = None, doctor: str | None = None, phase: str | None = None
) -> tuple[Danger, str]:
    """Danger and intent of one message."""
    return danger(text), next(iter(intent(text, opening, doctor, phase)))


def likeness(one: Sequence[str], other: Sequence[str]) -> Floats:
    """[one, other]: cosines of the vectors of sentences."""
    found: Floats = encode([features.clean(text) for text in one]) @ encode([features.clean(text) for text in other]).T
    return found

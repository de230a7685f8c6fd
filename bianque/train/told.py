"""Train what hears answers in a patient's first message (`consult/told.py`): two logistic regressions, one upon the other.

The first has one output for each kind of question that enough openings answer, over sentence vectors and n-grams; the
second weighs its score with the features. The threshold is where `PRECISION` of what is taken for told was told, on
openings whose scores come from a first regression that did not see them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bianque.consult import encoder
from bianque.consult.told import CLAUSE, FILE, LONGEST, SHORTEST, Told, Utterance, features, questions
from bianque.data.further import Further, further_openings
from bianque.data.knowledge import bundled
from bianque.train.complaints import GrammedTexts, fit

ENOUGH = 25  # openings that answer a kind of question, from which it has a score of its own
EPOCHS, RATE, PENALTY, RAREST = 80, 0.1, 1e-6, 5
UPON, UPON_RATE = 400, 0.05
PRECISION = 0.75  # a question left out wrongly costs less than four asked again


@dataclass(frozen=True, slots=True)
class Pairs:
    """Openings against the questions of their complaints: features [P, 11], whether told [P], opening [P], key [P]."""

    texts: list[str]
    features: torch.Tensor
    told: torch.Tensor
    opening: torch.Tensor
    keys: list[str]


def pairs(rows: Sequence[Further]) -> Pairs:
    """Every sentence is encoded once."""
    said = {row.say: None for row in rows}
    clauses = (clause for text in said for clause in CLAUSE.split(text[:LONGEST]) if len(clause) >= SHORTEST)
    every = list(dict.fromkeys([*(text[:LONGEST] for text in said), *clauses]))
    vectors = dict(zip(every, encoder.encode(every), strict=True))
    encoded = lambda texts: np.stack([vectors[text] for text in texts])
    known = {name: questions(bundled().entries[name]) for name in {row.complaint for row in rows}}
    found = [features(Utterance.of(row.say, encoded), known[row.complaint]) for row in rows]
    keys = [key for row in rows for key in known[row.complaint]]
    answered = [key in (row.has or {}) for row in rows for key in known[row.complaint]]
    opening = [place for place, each in enumerate(found) for _ in each]
    return Pairs(
        [row.say for row in rows], torch.from_numpy(np.concatenate(found)),
        torch.tensor(answered).float(), torch.tensor(opening), keys,
    )  # fmt: skip


def train(rows: Sequence[Further], seed: int = 0) -> dict[str, Any]:
    """The arrays of a `Told`; the same rows give the same ones."""
    every = pairs(rows)
    counts = Counter(key for key, told in zip(every.keys, every.told.tolist(), strict=True) if told)
    keys = sorted(key for key, count in counts.items() if count >= ENOUGH)
    place = {key: i for i, key in enumerate(keys)}
    column = torch.tensor([place.get(key, -1) for key in every.keys])
    texts = GrammedTexts.of(every.texts, RAREST)
    target, asked = torch.zeros(len(rows), len(keys)), torch.zeros(len(rows), len(keys))
    own = column >= 0
    target[every.opening[own], column[own]] = every.told[own]
    asked[every.opening[own], column[own]] = 1.0
    half = torch.tensor(random.Random(seed).choices((0.0, 1.0), k=len(rows)))[:, None]
    first, second = (scores(texts, kinds(texts, target, asked * side)) for side in (half, 1 - half))
    unseen = half * second + (1 - half) * first
    whole = kinds(texts, target, asked)
    score = torch.where(own, unseen[every.opening, column.clamp(min=0)], torch.zeros(()))
    weights, offset = upon(torch.cat([every.features, score[:, None]], 1), every.told)
    sure = torch.cat([every.features, score[:, None]], 1) @ weights + offset
    dense, sparse, bias = whole
    step = np.abs(sparse).max(axis=0) / 127
    return {
        "keys": np.array(keys), "grams": np.array(texts.grams), "idf": texts.idf.astype(np.float16),
        "dense": dense.astype(np.float16), "sparse": np.round(sparse / step).astype(np.int8), "step": step, "bias": bias,
        "weights": weights.numpy(), "offset": offset.numpy(), "threshold": np.float32(threshold(sure, every.told)),
    }  # fmt: skip


def kinds(texts: GrammedTexts, target: torch.Tensor, asked: torch.Tensor) -> tuple[Any, Any, Any]:
    """The first regression, over the questions that were `asked` of each opening: dense, sparse, bias."""
    worth = asked / asked.sum()
    dense, bias = fit(texts.vectors, texts.vectors.T, target, worth, RATE, PENALTY, EPOCHS, torch.sigmoid)
    sparse, more = fit(texts.across, texts.back, target, worth, RATE, PENALTY, EPOCHS, torch.sigmoid)
    return dense / 2, sparse / 2, (bias + more) / 2


def scores(texts: GrammedTexts, regression: tuple[Any, Any, Any]) -> torch.Tensor:
    dense, sparse, bias = (torch.from_numpy(part) for part in regression)
    return texts.vectors @ dense + texts.across @ sparse + bias


def upon(given: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The second regression: weights and offset for the features as they are."""
    mean, spread = given.mean(0), given.std(0) + 1e-6
    worth = torch.full((len(told), 1), 1 / len(told))
    rows = (given - mean) / spread
    weights, bias = fit(rows, rows.T, told[:, None], worth, UPON_RATE, 0.0, UPON, torch.sigmoid)
    plain = torch.from_numpy(weights)[:, 0] / spread
    return plain, torch.from_numpy(bias)[0] - plain @ mean


def threshold(sure: torch.Tensor, told: torch.Tensor) -> float:
    """The lowest score from which `PRECISION` of the questions were told."""
    order = sure.argsort(descending=True)
    precision = told[order].cumsum(0) / torch.arange(1, len(order) + 1)
    enough = (precision >= PRECISION).nonzero()
    return float(sure[order[enough[-1, 0]]]) if len(enough) else float(sure.max())


def labelled() -> list[Further]:
    """The openings whose writers noted what they tell."""
    return [row for row in further_openings() if row.has is not None]


def write(out: Path = FILE) -> None:
    """Train on every opening, and store."""
    np.savez_compressed(out, **train(labelled()))


def cross_validate(folds: int = 4, seed: int = 0) -> dict[str, float]:
    """Of the openings that training left out: the share of what was told that is heard, and of what is heard that was told."""
    every = labelled()
    random.Random(seed).shuffle(every)
    held = every[::folds]
    left = {row.say for row in held}
    return score(Told(train([row for row in every if row.say not in left], seed)), held)


def score(found: Told, rows: Sequence[Further]) -> dict[str, float]:
    known = {name: questions(bundled().entries[name]) for name in {row.complaint for row in rows}}
    heard = [
        (found(Utterance.of(row.say, encoder.remembered), known[row.complaint]), set(row.has or {})) for row in rows
    ]
    both = sum(len(one & other) for one, other in heard)
    return {
        "told and heard": both / max(1, sum(len(told) for _, told in heard)),
        "heard and told": both / max(1, sum(len(heard) for heard, _ in heard)),
        "of": sum(len(told) for _, told in heard),
    }  # fmt: skip

"""Train what chooses among the answers to a question of the knowledge base (`consult/answers.py`): a `Choice`.

Learned from `data/answers.jsonl` and, at a lower weight, from what the writers of the openings noted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from bianque.consult import answers, encoder
from bianque.consult.choice import Choice
from bianque.consult.told import Utterance, questions
from bianque.data.further import further_answers, further_openings
from bianque.data.knowledge import bundled

HIDDEN, STEPS, RATE, DECAY = 24, 400, 0.02, 3e-3
SURE = 0.7  # least probability: a wrong answer does more harm than none
OPENINGS, OPENING = 3_000, 0.5  # of the openings as many are drawn; what all of them are worth beside the answers


@dataclass(frozen=True, slots=True)
class ChoiceCase:
    """Candidates' features [n, F]; which are right, none of them if nothing is; what the case is worth."""

    features: Any
    right: Sequence[bool]
    weight: float = 1.0


class Vectors:
    """Sentence vectors, each made once."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def __call__(self, texts: Sequence[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, encoder.encode(new), strict=True))
        return np.stack([self.known[text] for text in texts]) if texts else np.zeros((0, encoder.WIDTH), np.float32)


def answer_cases(vectors: Vectors) -> list[ChoiceCase]:
    """Written answers, and openings whose writers noted what they tell."""
    known = {name: questions(entry, vectors) for name, entry in bundled().entries.items()}
    written = further_answers()
    found = [
        ChoiceCase(
            answers.features(Utterance.of(row.say, vectors), question),
            [label == row.value for label in question.answers],
        )
        for row in written
        for question in [known[row.complaint][row.slot]]
    ]
    told = random.Random(0).sample([row for row in further_openings() if row.has], OPENINGS)
    weight = OPENING * len(written) / max(1, sum(len(row.has or {}) for row in told))
    for row in told:
        said = Utterance.of(row.say, vectors)
        for key, value in (row.has or {}).items():
            question = known[row.complaint][key]
            right = [label == value or label in value for label in question.answers]
            found.append(ChoiceCase(answers.features(said, question), right, weight))
    return found


def loss(
    scores: torch.Tensor, nothing: torch.Tensor, case: torch.Tensor, right: torch.Tensor, worth: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy of cases worth `worth`, whose candidates `case` counts: of the right ones, of none if none is."""
    sums = lambda values: torch.zeros(len(worth)).index_add(0, case, values)
    total = sums(scores.exp()) + nothing.exp()
    good = sums(scores.exp() * right) + nothing.exp() * (1 - sums(right).clamp(max=1))
    return -((good / total + 1e-9).log() * worth).sum() / worth.sum()


def train(cases: Sequence[ChoiceCase], sure: float, seed: int = 0) -> dict[str, Any]:
    """The arrays of a `Choice`; the same cases give the same ones."""
    counts = torch.tensor([len(case.right) for case in cases])
    rows = torch.from_numpy(np.concatenate([case.features for case in cases]))
    case = torch.repeat_interleave(torch.arange(len(cases)), counts)
    right = torch.tensor([one for each in cases for one in each.right]).float()
    worth = torch.tensor([each.weight for each in cases])
    mean, spread = rows.mean(0), rows.std(0) + 1e-6
    rows = (rows - mean) / spread
    random_ = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows.shape[1], HIDDEN, generator=random_) / rows.shape[1] ** 0.5
    output = torch.randn(HIDDEN, generator=random_) / HIDDEN**0.5
    offset, nothing = torch.zeros(HIDDEN), torch.zeros(1)
    parts = [part.requires_grad_() for part in (hidden, offset, output, nothing)]
    optimizer = torch.optim.Adam(parts, lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        scores = torch.tanh(rows @ hidden + offset) @ output
        missed = loss(scores, nothing, case, right, worth)
        optimizer.zero_grad()
        missed.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    plain = hidden.detach() / spread[:, None]
    return {
        "hidden": plain.numpy(), "offset": (offset.detach() - mean @ plain).numpy(), "output": output.detach().numpy(),
        "nothing": np.float32(nothing.item()), "sure": np.float32(sure),
    }  # fmt: skip


def write(folder: Path) -> None:
    """Train on everything, and store."""
    np.savez_compressed(folder / answers.FILE.name, **train(answer_cases(Vectors()), SURE))


def cross_validate(folds: int = 4, seed: int = 0) -> dict[str, float]:
    """What is chosen of the written answers that each fold's training left out; the others are always learned beside them."""
    chosen: list[tuple[int | None, Sequence[bool]]] = []
    for rest, held in left_out(answer_cases(Vectors()), folds, seed):
        choice = Choice(train(rest, SURE, seed))
        chosen += [(choice(case.features)[0], case.right) for case in held]
    return shares("answers", chosen)


class Weighted(Protocol):
    @property
    def weight(self) -> float: ...


Case = TypeVar("Case", bound=Weighted)


def left_out(every: Sequence[Case], folds: int, seed: int) -> Iterator[tuple[list[Case], list[Case]]]:
    """Each fold's cases to learn and those left out; whatever counts less than one is learned in each."""
    written, beside = ([case for case in every if (case.weight == 1.0) == one] for one in (True, False))
    order = random.Random(seed).sample(written, len(written))
    for fold in range(folds):
        rest = [case for place, case in enumerate(order) if place % folds != fold]
        yield [*rest, *beside], order[fold::folds]


def shares(name: str, chosen: Sequence[tuple[int | None, Sequence[bool]]]) -> dict[str, float]:
    """Of what was chosen, None for nothing, and which candidates were right."""
    right = sum(by[place] for place, by in chosen if place is not None)
    return {
        f"{name}: right of chosen": right / max(1, sum(place is not None for place, _ in chosen)),
        f"{name}: found of those there are": right / max(1, sum(any(by) for _, by in chosen)),
        f"{name}: of": len(chosen),
    }

"""What the two choosers, of answers (`train/answers.py`) and of follow-ups (`train/follow_ups.py`), have in common.

A `Choice` over plain features and over what learned matrices make of sentence vectors; matrices and perceptron are learned
together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch.nn import functional

from bianque.consult import encoder

RANK, HIDDEN = 64, 32
BATCH, RATE, TURNING = 128, 5e-3, 1e-3  # `TURNING`: the rate of the matrices
DECAY, TURN_DECAY, DROPOUT = 1e-3, 0.5, 0.4
WEIGHT = 3.0  # of the turned features beside the plain ones, which are scaled by their mean and spread


class Vectors:
    """Sentence vectors, each made once."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def __call__(self, texts: Sequence[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, encoder.encode(new), strict=True))
        return np.stack([self.known[text] for text in texts]) if texts else np.zeros((0, encoder.WIDTH), np.float32)


class Weighted(Protocol):
    @property
    def weight(self) -> float: ...

    @property
    def plain(self) -> Any: ...


Case = TypeVar("Case", bound=Weighted)


class Chooser(torch.nn.Module):
    """What is learned, over the cases' plain features and `turned` ones of the named matrices.

    A batch holds cases as flat tensors: every candidate a row of `plain` and `right`, of the case that `case` counts, and
    what each case is `worth`.
    """

    def __init__(self, cases: Sequence[Weighted], turned: int, names: Sequence[str]) -> None:
        super().__init__()
        plain = torch.from_numpy(np.concatenate([case.plain for case in cases]))
        self.mean, self.spread, self.width = plain.mean(0), plain.std(0) + 1e-6, turned
        matrix = lambda: torch.nn.Parameter(torch.randn(encoder.WIDTH, RANK) * 0.02)
        self.turning = torch.nn.ParameterDict({name: matrix() for name in names})
        self.hidden = torch.nn.Linear(plain.shape[1] + turned, HIDDEN)
        self.output = torch.nn.Linear(HIDDEN, 1, bias=False)
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def turn(self, vectors: torch.Tensor, name: str) -> torch.Tensor:
        """[..., rank] of length one"""
        return functional.normalize(functional.dropout(vectors, DROPOUT, self.training) @ self.turning[name], dim=-1)

    def turned(self, batch: Any) -> torch.Tensor:
        """[rows, turned]"""
        raise NotImplementedError

    def forward(self, batch: Any) -> torch.Tensor:
        """Mean loss: the right candidates of a case, or none."""
        features = torch.cat([(batch.plain - self.mean) / self.spread, WEIGHT * self.turned(batch)], 1)
        scores = self.output(torch.tanh(self.hidden(features)))[:, 0]
        return loss(scores, self.nothing, batch.case, batch.right, batch.worth)

    def arrays(self, sure: float) -> dict[str, Any]:
        """What is stored of a `Choice` and its matrices: the scaling is part of the perceptron."""
        scale = torch.cat([1 / self.spread, torch.full((self.width,), WEIGHT)])
        plain = self.hidden.weight.T.detach() * scale[:, None]
        mean = torch.cat([self.mean, torch.zeros(self.width)])
        return {
            "hidden": plain.numpy(), "offset": (self.hidden.bias.detach() - mean @ plain).numpy(),
            "output": self.output.weight[0].detach().numpy(), "nothing": np.float32(self.nothing.item()), "sure": np.float32(sure),
            **{name: matrix.detach().numpy().astype(np.float16) for name, matrix in self.turning.items()},
        }  # fmt: skip


def learn(
    make: Callable[[], Chooser],
    cases: Sequence[Case],
    batch: Callable[[Sequence[Case]], Any],
    epochs: int,
    seed: int = 0,
) -> Chooser:
    """A chooser trained on the cases; the same ones give the same.

    So rows are taken by `index_select`: the gradient of `[rows]` is added up by several threads, in any order.
    """
    r = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chooser = make().train()
        turning = {id(one) for one in chooser.turning.parameters()}
        groups = [
            {"params": [one for one in chooser.parameters() if (id(one) in turning) == turns],
             "lr": rate, "weight_decay": decay}
            for turns, rate, decay in ((True, TURNING, TURN_DECAY), (False, RATE, DECAY))
        ]  # fmt: skip
        optimizer, steps = torch.optim.AdamW(groups), epochs * -(-len(cases) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [TURNING, RATE], total_steps=steps)
        for _ in range(epochs):
            order = r.sample(range(len(cases)), len(cases))
            for begin in range(0, len(order), BATCH):
                missed = chooser(batch([cases[place] for place in order[begin : begin + BATCH]]))
                optimizer.zero_grad()
                missed.backward()
                optimizer.step()
                schedule.step()
        return chooser.eval()


def owners(sizes: Sequence[int]) -> torch.Tensor:
    """[sum of sizes]: whose each one is."""
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def joined(arrays: Sequence[Any]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(arrays)).float()


def highest(scores: torch.Tensor, owner: torch.Tensor, rows: int) -> torch.Tensor:
    return (torch.zeros(rows) - 2).scatter_reduce(0, owner, scores, "amax")


def average(scores: torch.Tensor, owner: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.zeros(rows).scatter_reduce(0, owner, scores, "mean", include_self=False)


def loss(
    scores: torch.Tensor, nothing: torch.Tensor, case: torch.Tensor, right: torch.Tensor, worth: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy of cases worth `worth`, whose candidates `case` counts: of the right ones, of none if none is."""
    sums = lambda values: torch.zeros(len(worth)).index_add(0, case, values)
    total = sums(scores.exp()) + nothing.exp()
    good = sums(scores.exp() * right) + nothing.exp() * (1 - sums(right).clamp(max=1))
    return -((good / total + 1e-9).log() * worth).sum() / worth.sum()


def left_out(every: Sequence[Case], folds: int, seed: int) -> Iterator[tuple[list[Case], list[Case]]]:
    """Each fold's cases to learn and those left out; whatever counts less than one is learned in each."""
    written, beside = ([case for case in every if (case.weight == 1.0) == one] for one in (True, False))
    order = random.Random(seed).sample(written, len(written))
    for fold in range(folds):
        rest = [case for place, case in enumerate(order) if place % folds != fold]
        yield [*rest, *beside], order[fold::folds]


def cross_validated(
    name: str,
    cases: Sequence[Case],
    train: Callable[[Sequence[Case], int], dict[str, Any]],
    chosen: Callable[[dict[str, Any], Case], tuple[int | None, Sequence[bool]]],
    folds: int,
    seed: int,
) -> dict[str, float]:
    """The shares of what is chosen, beside what is right, of the cases that each fold's training left out."""
    found: list[tuple[int | None, Sequence[bool]]] = []
    for rest, held in left_out(cases, folds, seed):
        arrays = train(rest, seed)
        found += [chosen(arrays, case) for case in held]
    return shares(name, found)


def shares(name: str, chosen: Sequence[tuple[int | None, Sequence[bool]]]) -> dict[str, float]:
    """Of what was chosen, None for nothing, and which candidates were right."""
    right = sum(by[place] for place, by in chosen if place is not None)
    return {
        f"{name}: right of chosen": right / max(1, sum(place is not None for place, _ in chosen)),
        f"{name}: found of those there are": right / max(1, sum(any(by) for _, by in chosen)),
        f"{name}: of": len(chosen),
    }

"""Train what chooses among the knowledge base's follow-ups (`consult/follows.py`) on `data/follows.jsonl` and `follows_judged.jsonl`.

Learned together: matrices that turn sentence vectors so that a question lies near the known one it is, and the `Choice`
over those and the plain features. A wording of every known question is learned too, left out of it, and of some in it as
well. What anybody may ask stands beside a complaint's own only where that is known to be wrong or right: not where a
question was judged by the complaint's own alone and is none of them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bianque.consult import encoder, follows, guards
from bianque.consult.choice import Choice
from bianque.consult.hearing import Heard
from bianque.data.further import further_follows, judged_follows
from bianque.data.knowledge import FOLDER, Follow, bundled, texts
from bianque.train.choice import Vectors, left_out, loss, shares

HELD_BACK = FOLDER / "follows_held_back.jsonl"  # by other writers, three of each complaint and family
RANK, HIDDEN = 64, 32
EPOCHS, BATCH, RATE, TURNING = 12, 128, 5e-3, 1e-3  # `TURNING`: the rate of the matrices
DECAY, TURN_DECAY, DROPOUT = 1e-3, 0.5, 0.4
OWN = 0.3  # what a follow-up's own wording is worth beside a written question
AS_IT_STANDS = 3  # of so many one is learned with the wording in it too: a question that is word for word a known one
SURE = 0.6  # least probability: a wrong answer does more harm than none


@dataclass(frozen=True, slots=True)
class FollowCase:
    """A question and its known ones: plain features [n, PLAIN], the vectors of all, and which are right."""

    question: Any
    said: Any
    known: Sequence[tuple[Any, Any]]  # vectors of the wordings, of the answers
    plain: Any
    right: frozenset[int]
    weight: float = 1.0


def cases(vectors: Vectors) -> list[FollowCase]:
    found = follows.Follows(texts(bundled()), vectors)
    asked = bundled().asked
    anybody = asked["common"]

    def case(
        ask: str,
        known: tuple[Follow, ...],
        right: Collection[Follow],
        anyones: tuple[Follow, ...] = (),
        weight: float = 1.0,
    ) -> FollowCase:
        read = found.read(*(follows.asked(ask) or [(ask, ask)])[-1])
        every = (*known, *found.nearest(read, anyones))
        plain = found.features(read, known, every[len(known) :])
        worded = [found.wordings(one) for one in every]
        places = frozenset(place for place, one in enumerate(every) if one in right)
        pairs = [(one.asks, one.says) for one in worded]
        return FollowCase(read.vectors[0], read.vectors[1], pairs, plain, places, weight)

    every = []
    for row in further_follows():
        known, place = asked[row.complaint], row.follow
        if row.complaint == "common":
            every.append(case(row.ask, (), () if place is None else (known[place],), anybody))
        else:
            every.append(
                case(row.ask, known, () if place is None else (known[place],), () if place is None else anybody)
            )
    for judged in judged_follows():
        known = asked[judged.complaint]
        right = [*(known[place] for place in judged.own), *(anybody[place] for place in judged.common)]
        every.append(case(judged.ask, known, right, anybody))
    r = random.Random(0)
    for name, known in asked.items():
        for place, one in enumerate(known):
            if len(one.ask) > 1:
                ask = r.choice(one.ask)
                rest = one.model_copy(update={"ask": tuple(other for other in one.ask if other != ask)})
                for said in (rest, one)[: 1 + (place % AS_IT_STANDS == 0)]:
                    own = (*known[:place], said, *known[place + 1 :])
                    if name == "common":
                        every.append(case(ask, (), (said,), own, OWN))
                    else:
                        every.append(case(ask, own, (said,), (), OWN))
    return every


class Batch:
    """Cases as flat tensors: every known question a row, every wording and answer another."""

    def __init__(self, cases: Sequence[FollowCase]) -> None:
        vectors = lambda arrays: torch.from_numpy(np.concatenate(arrays)).float()
        known = [one for case in cases for one in case.known]
        owners = lambda sizes: torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self.rows = len(known)
        self.question = torch.from_numpy(np.stack([case.question for case in cases]))
        self.said = torch.from_numpy(np.stack([case.said for case in cases]))
        self.case = owners([len(case.known) for case in cases])
        self.asks, self.asked = vectors([one[0] for one in known]), owners([len(one[0]) for one in known])
        self.says, self.answered = vectors([one[1] for one in known]), owners([len(one[1]) for one in known])
        self.plain = vectors([case.plain for case in cases])
        self.right = torch.tensor([place in case.right for case in cases for place in range(len(case.known))]).float()
        self.worth = torch.tensor([case.weight for case in cases])


class Chooser(torch.nn.Module):
    """`follows.Turn` and `Choice` as they are learned; the features are scaled by their mean and spread."""

    def __init__(self, mean: torch.Tensor, spread: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        matrix = lambda: torch.nn.Parameter(torch.randn(encoder.WIDTH, RANK) * 0.02)
        self.asks, self.says = matrix(), matrix()
        self.hidden, self.output = torch.nn.Linear(follows.WIDTH, HIDDEN), torch.nn.Linear(HIDDEN, 1, bias=False)
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def turned(self, batch: Batch) -> torch.Tensor:
        """[rows, TURNED]"""
        turn = lambda vectors, by: functional.normalize(
            functional.dropout(vectors, DROPOUT, self.training) @ by, dim=-1
        )
        wordings, answers = turn(batch.asks, self.asks), turn(batch.says, self.says)
        of = lambda vectors, owner: vectors[batch.case[owner]]
        near = [
            (of(turn(vectors, self.asks), batch.asked) * wordings).sum(-1) for vectors in (batch.question, batch.said)
        ]
        scores = [(one, batch.asked) for one in near]
        told = (of(turn(batch.question, self.says), batch.answered) * answers).sum(-1)
        scores.append((told, batch.answered))
        empty = torch.zeros(batch.rows)
        most = [(empty - 2).scatter_reduce(0, owner, score, "amax") for score, owner in scores]
        mean = [empty.scatter_reduce(0, owner, score, "mean", include_self=False) for score, owner in scores]
        return torch.stack([*most, *mean], 1)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Mean loss: the right ones, or none, of a case's known questions."""
        features = torch.cat([(batch.plain - self.mean) / self.spread, 3 * self.turned(batch)], 1)
        scores = self.output(torch.tanh(self.hidden(features)))[:, 0]
        return loss(scores, self.nothing, batch.case, batch.right, batch.worth)

    def arrays(self, sure: float) -> dict[str, Any]:
        """What `follows.npz` holds: the scaling is part of the matrix."""
        scale = torch.cat([1 / self.spread, torch.full((follows.TURNED,), 3.0)])
        plain = self.hidden.weight.T.detach() * scale[:, None]
        mean = torch.cat([self.mean, torch.zeros(follows.TURNED)])
        return {
            "hidden": plain.numpy(), "offset": (self.hidden.bias.detach() - mean @ plain).numpy(),
            "output": self.output.weight[0].detach().numpy(), "nothing": np.float32(self.nothing.item()), "sure": np.float32(sure),
            "asks": self.asks.detach().numpy().astype(np.float16), "says": self.says.detach().numpy().astype(np.float16),
        }  # fmt: skip


def train(cases: Sequence[FollowCase], seed: int = 0, sure: float = SURE) -> dict[str, Any]:
    """The arrays of a `Choice` and a `follows.Turn`; the same cases give the same ones."""
    r = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = torch.from_numpy(np.concatenate([case.plain for case in cases]))
        chooser = Chooser(plain.mean(0), plain.std(0) + 1e-6).train()
        turning = {"asks", "says"}
        groups = [
            {"params": [one for name, one in chooser.named_parameters() if (name in turning) == turns],
             "lr": rate, "weight_decay": decay}
            for turns, rate, decay in ((True, TURNING, TURN_DECAY), (False, RATE, DECAY))
        ]  # fmt: skip
        optimizer, batches = torch.optim.AdamW(groups), -(-len(cases) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [TURNING, RATE], total_steps=EPOCHS * batches)
        for _ in range(EPOCHS):
            order = r.sample(range(len(cases)), len(cases))
            for begin in range(0, len(order), BATCH):
                missed = chooser(Batch([cases[place] for place in order[begin : begin + BATCH]]))
                optimizer.zero_grad()
                missed.backward()
                optimizer.step()
                schedule.step()
        return chooser.eval().arrays(sure)


def chosen(arrays: dict[str, Any], case: FollowCase) -> tuple[int | None, float]:
    """What the trained arrays choose of a case, and its probability."""
    turn = follows.Turn(arrays)
    near = [turn(case.question, case.said, *turn.known(*one)) for one in case.known]
    return Choice(arrays)(np.hstack([case.plain, np.array(near, np.float32)]))


def write(folder: Path) -> None:
    """Train on everything, and store."""
    np.savez_compressed(folder / follows.FILE.name, **train(cases(Vectors())))


def cross_validate(folds: int = 4, seed: int = 0) -> dict[str, float]:
    """What is chosen of the written questions that each fold's training left out; own wordings are always learned."""
    found: list[tuple[int | None, Sequence[bool]]] = []
    for rest, held in left_out(cases(Vectors()), folds, seed):
        arrays = train(rest, seed)
        found += [(chosen(arrays, case)[0], [place in case.right for place in range(len(case.known))]) for case in held]
    return shares("follow-ups", found)


def examine() -> dict[str, float]:
    """How the questions that are kept from training are answered by the bundled files, all rules of the guard included.

    Of two answers to a message one has to be right.
    """
    guarded, common = guards.guard(), bundled().asked["common"]
    answered = right = there = 0
    rows = judged_follows(HELD_BACK)
    for row in rows:
        entry = bundled().entries[row.complaint]
        found = guarded.answers(row.ask, Heard(entry=entry))
        says = {one.say for one in found} - {guarded.common.unanswered}
        good = [entry.follow[place] for place in row.own] + [common[place] for place in row.common]
        asks = {ask for one in good for ask in one.ask}  # a medicine's own answer has the ask of whether to take one
        answered += bool(says)
        there += bool(good)
        right += any(one.say in says and asks & {*one.ask} for one in found)
    return {
        "strangers' follow-ups: answered": answered / len(rows),
        "right of answered": right / max(1, answered),
        "found of those there are": right / max(1, there),
        "of": len(rows),
    }

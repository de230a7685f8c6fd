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

from bianque.consult import follows, guards
from bianque.consult.choice import Choice
from bianque.consult.heard import Heard
from bianque.consult.known_questions import Offer
from bianque.data.further import further_follows, judged_follows
from bianque.data.knowledge import FOLDER, Follow, bundled, texts
from bianque.train.choice import Chooser, Vectors, average, cross_validated, highest, joined, learn, owners

# By writers who had not seen the known questions, labelled by others: three of each complaint and family; 300 of a hundred,
# written when thresholds had been chosen by the first.
HELD_BACK, FRESH = FOLDER / "follows_held_back.jsonl", FOLDER / "follows_fresh_held_back.jsonl"
EPOCHS = 12
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


class FollowBatch:
    """Cases as flat tensors: every known question a row, every wording and answer another."""

    def __init__(self, cases: Sequence[FollowCase]) -> None:
        known = [one for case in cases for one in case.known]
        self.rows = len(known)
        self.question = torch.from_numpy(np.stack([case.question for case in cases]))
        self.said = torch.from_numpy(np.stack([case.said for case in cases]))
        self.case = owners([len(case.known) for case in cases])
        self.asks, self.asked = joined([one[0] for one in known]), owners([len(one[0]) for one in known])
        self.says, self.answered = joined([one[1] for one in known]), owners([len(one[1]) for one in known])
        self.plain = joined([case.plain for case in cases])
        self.right = torch.tensor([place in case.right for case in cases for place in range(len(case.known))]).float()
        self.worth = torch.tensor([case.weight for case in cases])


class FollowChooser(Chooser):
    """Learns `follows.FollowTurn` and its `Choice`."""

    def turned(self, batch: FollowBatch) -> torch.Tensor:
        """[rows, TURNED], as `follows.FollowTurn` gives them"""
        near = lambda vectors, known, owner, name: (
            self.turn(vectors, name).index_select(0, batch.case[owner]) * self.turn(known, name)
        ).sum(-1)
        scores = [(near(one, batch.asks, batch.asked, "asks"), batch.asked) for one in (batch.question, batch.said)]
        scores.append((near(batch.question, batch.says, batch.answered, "says"), batch.answered))
        return torch.stack([pool(*one, batch.rows) for pool in (highest, average) for one in scores], 1)


def train(cases: Sequence[FollowCase], seed: int = 0, sure: float = SURE) -> dict[str, Any]:
    """The arrays of a `Choice` and a `follows.FollowTurn`; the same cases give the same ones."""
    make = lambda: FollowChooser(cases, follows.TURNED, ("asks", "says"))
    return learn(make, cases, FollowBatch, EPOCHS, seed).arrays(sure)


def chosen(arrays: dict[str, Any], case: FollowCase) -> tuple[int | None, float]:
    """What the trained arrays choose of a case, and its probability."""
    turn = follows.FollowTurn(arrays)
    near = [turn(case.question, case.said, *turn.known(*one)) for one in case.known]
    return Choice(arrays)(np.hstack([case.plain, np.array(near, np.float32)]))


def write(folder: Path) -> None:
    """Train on everything, and store."""
    np.savez_compressed(folder / follows.FILE.name, **train(cases(Vectors())))


def cross_validate(folds: int = 4, seed: int = 0) -> dict[str, float]:
    """What is chosen of the written questions that each fold's training left out; own wordings are always learned."""
    judged = lambda arrays, case: (
        chosen(arrays, case)[0],
        [place in case.right for place in range(len(case.known))],
    )
    return cross_validated("follow-ups", cases(Vectors()), train, judged, folds, seed)


def examine() -> list[dict[str, float]]:
    """How the questions that are kept from training are answered by the bundled files, all rules of the guard included."""
    return [examined("strangers' follow-ups", HELD_BACK), examined("fresh follow-ups", FRESH)]


def examined(name: str, path: Path) -> dict[str, float]:
    """The same of a file's. Of two answers to a message one has to be right."""
    known, common = guards.guard().questions, bundled().asked["common"]
    answered = right = there = 0
    rows = judged_follows(path)
    for row in rows:
        entry = bundled().entries[row.complaint]
        found = known.answers(row.ask, Heard(entry=entry))
        says = {one.say for one in found if not isinstance(one, Offer)} - {known.common.unanswered}
        good = [entry.follow[place] for place in row.own] + [common[place] for place in row.common]
        asks = {ask for one in good for ask in one.ask}  # a medicine's own answer has the ask of whether to take one
        answered += bool(says)
        there += bool(good)
        right += any(one.say in says and asks & {*one.ask} for one in found)
    return {
        f"{name}: answered": answered / len(rows),
        "right of answered": right / max(1, answered),
        "found of those there are": right / max(1, there),
        "of": len(rows),
    }

"""Train what chooses among the answers to a question of the knowledge base (`consult/answers.py`).

Learned from `data/answers.jsonl` and, at a lower weight, from what the writers of the openings noted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bianque.consult import answers, encoder
from bianque.consult.choice import Choice
from bianque.consult.heard import Heard
from bianque.consult.hearing import hearing
from bianque.consult.told import Question, Utterance, questions
from bianque.data.further import further_answers, further_openings
from bianque.data.knowledge import FOLDER, bundled
from bianque.train.choice import Chooser, Vectors, average, cross_validated, highest, joined, learn, owners

# By other writers: three of each complaint and family, to trick a reader, and 500 as people type them.
HELD_BACK, PLAIN = FOLDER / "answers_held_back.jsonl", FOLDER / "answers_plain_held_back.jsonl"
EPOCHS = 16
SURE = 0.8  # least probability: a wrong answer does more harm than none
OPENINGS, OPENING = 3_000, 0.5  # of the openings as many are drawn; what all of them are worth beside the answers
BESIDE = 0.3  # what an answer to another question is worth, which is none to this one
CLAUSES = 12  # of a message that are learned from


@dataclass(frozen=True, slots=True)
class AnswerCase:
    """A message and the candidates' plain features [n, PLAIN]; which are right, none of them if nothing is; what it is worth."""

    said: Utterance
    question: Question
    plain: Any
    right: Sequence[bool]
    weight: float = 1.0


def cases(vectors: Vectors) -> list[AnswerCase]:
    """Written answers, and openings whose writers noted what they tell."""
    known = {name: questions(entry, vectors) for name, entry in bundled().entries.items()}

    def case(said: Utterance, question: Question, right: list[bool], weight: float = 1.0) -> AnswerCase:
        return AnswerCase(said, question, answers.features(said, question), right, weight)

    written = further_answers()
    found = [
        case(Utterance.of(row.say, vectors), question, [label == row.value for label in question.answers])
        for row in written
        for question in [known[row.complaint][row.slot]]
    ]
    r = random.Random(0)
    for answer in written:  # to another question of the complaint the same words are no answer, but for some
        here = known[answer.complaint]
        if others := sorted(here.keys() - {answer.slot, *answer.also}):
            question = here[r.choice(others)]
            found.append(case(Utterance.of(answer.say, vectors), question, [False] * len(question.answers), BESIDE))
    told = random.Random(0).sample([row for row in further_openings() if row.has], OPENINGS)
    weight = OPENING * len(written) / max(1, sum(len(row.has or {}) for row in told))
    for row in told:
        said = Utterance.of(row.say, vectors)
        for key, value in (row.has or {}).items():
            question = known[row.complaint][key]
            found.append(case(said, question, [label == value or label in value for label in question.answers], weight))
    return found


class AnswerBatch:
    """Cases as flat tensors: every answer a row, every wording another; clauses are padded."""

    def __init__(self, cases: Sequence[AnswerCase]) -> None:
        known = [answer.vectors for case in cases for answer in case.question.answers.values()]
        self.rows = len(known)
        self.case = owners([len(case.right) for case in cases])
        clauses = [case.said.vectors[:-1][:CLAUSES] for case in cases]
        self.clauses = torch.zeros(len(cases), max(map(len, clauses)), encoder.WIDTH)
        self.denies = torch.full(self.clauses.shape[:2], -1)  # where there is no clause
        for place, (each, case) in enumerate(zip(clauses, cases, strict=True)):
            self.clauses[place, : len(each)] = torch.from_numpy(each)
            self.denies[place, : len(each)] = negations(case.said.clauses[:CLAUSES])
        self.whole = torch.from_numpy(np.stack([case.said.vectors[-1] for case in cases]))
        self.says, self.said = joined(known), owners([len(one) for one in known])
        self.says_deny = negations(
            [text for case in cases for one in case.question.answers.values() for text in one.texts]
        )
        self.facts = joined([case.question.facts.vectors for case in cases])
        self.facts_deny = negations([text for case in cases for text in case.question.facts.texts])
        self.plain = joined([case.plain for case in cases])
        self.right = torch.tensor([one for case in cases for one in case.right]).float()
        self.worth = torch.tensor([case.weight for case in cases])


class AnswerChooser(Chooser):
    """Learns `answers.AnswerTurn` and its `Choice`."""

    def turned(self, batch: AnswerBatch) -> torch.Tensor:
        """[rows, TURNED], as `answers.AnswerTurn` gives them"""

        def near(name: str, known: torch.Tensor, deny: torch.Tensor, case: torch.Tensor) -> list[torch.Tensor]:
            """[known] each: the nearest clause that denies alike, the nearest that does not, the nearest of all, the whole"""
            to, denies = self.turn(known, name), batch.denies[case]
            clauses = (self.turn(batch.clauses, name).index_select(0, case) * to[:, None]).sum(-1)
            kinds = (denies == deny[:, None], denies == 1 - deny[:, None], denies >= 0)
            found = [clauses.masked_fill(~kind, answers.FARTHEST).max(1).values for kind in kinds]
            return [*found, (self.turn(batch.whole, name).index_select(0, case) * to).sum(-1)]

        alike, other, clause, whole = near("says", batch.says, batch.says_deny, batch.case[batch.said])
        fact_alike, fact_other, _, fact = near("facts", batch.facts, batch.facts_deny, batch.case)
        pooled = lambda pool, one: pool(one, batch.said, batch.rows)
        return torch.stack([
            pooled(highest, alike), pooled(highest, other), fact_alike, fact_other,
            pooled(highest, whole), fact, pooled(average, clause), pooled(average, whole),
        ], 1)  # fmt: skip


def negations(texts: Sequence[str]) -> torch.Tensor:
    """[texts]: 1 where one denies"""
    return torch.tensor([int(answers.negated(text)) for text in texts])


def train(cases: Sequence[AnswerCase], seed: int = 0, sure: float = SURE) -> dict[str, Any]:
    """The arrays of a `Choice` and an `answers.AnswerTurn`; the same cases give the same ones."""
    make = lambda: AnswerChooser(cases, answers.TURNED, ("says", "facts"))
    return learn(make, cases, AnswerBatch, EPOCHS, seed).arrays(sure)


def chosen(arrays: dict[str, Any], case: AnswerCase) -> int | None:
    """What the trained arrays choose of a case."""
    turned = answers.AnswerTurn(arrays)(case.said, case.question)
    return Choice(arrays)(np.hstack([case.plain, turned]))[0]


def write(folder: Path) -> None:
    """Train on everything, and store."""
    np.savez_compressed(folder / answers.FILE.name, **train(cases(Vectors())))


def cross_validate(folds: int = 4, seed: int = 0) -> dict[str, float]:
    """What is chosen of the written answers that each fold's training left out; the others are always learned beside them."""
    judged = lambda arrays, case: (chosen(arrays, case), case.right)
    return cross_validated("answers", cases(Vectors()), train, judged, folds, seed)


def examine() -> list[dict[str, float]]:
    """How the answers that are kept from training are heard by the bundled files, all rules of hearing included."""
    return [examined("strangers' answers", HELD_BACK), examined("plain answers", PLAIN)]


def examined(name: str, path: Path) -> dict[str, float]:
    hears, rows = hearing(), further_answers(path)
    heard = right = there = 0
    for row in rows:
        found = Heard(entry=bundled().entries[row.complaint], asked={row.slot}, begun=True)
        hears.answered(found, bundled().entries[row.complaint], row.say, [row.slot], row.ask)
        value = found.told[row.slot]
        heard += value is not None
        there += row.value is not None
        right += value is not None and value == row.value
    return {
        f"{name}: heard": heard / len(rows),
        "right of heard": right / max(1, heard),
        "found of those there are": right / max(1, there),
        "of": len(rows),
    }

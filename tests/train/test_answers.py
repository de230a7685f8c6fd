"""What is learned about answers: the matrices that are served are those that were learned, and denials count."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bianque.consult import answers, encoder
from bianque.consult.told import Utterance, questions
from bianque.data.knowledge import bundled
from bianque.train import answers as training
from bianque.train.answers import AnswerBatch, AnswerCase, AnswerChooser, chosen, train
from bianque.train.choice import RANK

SLOTS = ("cough", "gout", "reflux", "insomnia")


@pytest.fixture(scope="module")
def written() -> list[AnswerCase]:
    """The answers of a few complaints in the knowledge base's own words, and what answers nothing."""
    found = []
    for name in SLOTS:
        entry = bundled().complaints[name]
        known = questions(entry, encoder.remembered)
        for slot in entry.slots:
            for label, value in slot.values.items():
                for say in (f"嗯，{value.says[0]}吧", "您说什么"):
                    said = Utterance.of(say, encoder.remembered)
                    right = [one == label and say != "您说什么" for one in slot.values]
                    plain = answers.features(said, known[slot.key])
                    found.append(AnswerCase(said, known[slot.key], plain, right))
    return found


def test_what_is_served_is_what_was_learned(written):
    chooser = AnswerChooser(written, answers.TURNED, ("says", "facts")).eval()
    arrays = chooser.arrays(0.5)
    for name, matrix in chooser.turning.items():  # as it is stored
        matrix.data = torch.from_numpy(arrays[name].astype(np.float32))
    with torch.no_grad():
        learned = chooser.turned(AnswerBatch(written[:40])).numpy()
    served = [answers.AnswerTurn(arrays)(case.said, case.question) for case in written[:40]]
    assert np.allclose(learned, np.concatenate(served), atol=1e-5)


def test_it_learns_and_the_same_cases_give_the_same(written, monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 12)
    arrays, again = train(written, sure=0.5), train(written, sure=0.5)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    right = [
        case.right[place] if (place := chosen(arrays, case)) is not None else not any(case.right) for case in written
    ]
    assert np.mean(right) > 0.8


def test_a_clause_that_denies_is_apart_from_one_that_does_not():
    question = questions(bundled().complaints["gout"])["fever"]
    turn = answers.learned()[1]
    assert turn.says.shape == turn.facts.shape == (encoder.WIDTH, RANK)
    denied, affirmed = (turn(Utterance.of(text), question) for text in ("没有发烧", "发烧了"))
    assert (denied[:, :2] != affirmed[:, :2]).any()
    assert ((denied[:, 0] == answers.FARTHEST) | (denied[:, 1] == answers.FARTHEST)).any()


@pytest.mark.parametrize(
    ("path", "size", "right", "found"), [(training.HELD_BACK, 1059, 0.75, 0.65), (training.PLAIN, 500, 0.9, 0.7)]
)
def test_what_was_kept_from_training_is_examined(path, size, right, found, tmp_path):
    read = lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = read(path)
    taught = {(row["complaint"], row["say"]) for row in read(training.FOLDER / "answers.jsonl")}
    assert len(rows) == size and sum((row["complaint"], row["say"]) in taught for row in rows) < 0.02 * len(rows)
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(json.dumps(row) for row in rows[::20]), encoding="utf-8")
    heard = training.examined("few", few)
    assert heard["of"] == len(rows[::20])
    assert heard["right of heard"] >= right and heard["found of those there are"] >= found

"""What is learned about follow-ups: a question lies near the known one that it is, and none is chosen where none is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bianque.consult import encoder, follows
from bianque.train import follow_ups
from bianque.train.choice import RANK
from bianque.train.follow_ups import FollowCase, chosen, train

KNOWN = 4


@pytest.fixture
def written():
    """Questions that are a known one turned by a hidden matrix, every fourth none; what is plain about them says nothing."""
    r = np.random.default_rng(0)
    hidden = r.normal(size=(encoder.WIDTH, encoder.WIDTH)) / encoder.WIDTH**0.5
    kinds = follows.unit(r.normal(size=(12, encoder.WIDTH)))

    def case(number: int) -> FollowCase:
        places = r.permutation(len(kinds))[: KNOWN + 1]
        right = frozenset[int]() if number % 4 == 0 else frozenset({int(r.integers(KNOWN))})
        meant = kinds[places[next(iter(right), KNOWN)]]
        said = follows.unit(meant @ hidden + 0.2 * r.normal(size=encoder.WIDTH) / encoder.WIDTH**0.5).astype(np.float32)
        known = [(kinds[[place]].astype(np.float16), kinds[[place]].astype(np.float16)) for place in places[:KNOWN]]
        return FollowCase(said, said, known, r.normal(size=(KNOWN, follows.PLAIN)).astype(np.float32), right)

    return [case(number) for number in range(600)]


def test_what_words_do_not_show_is_learned_from_examples(written, monkeypatch):
    monkeypatch.setattr(follow_ups, "EPOCHS", 20)
    arrays = train(written[:500], sure=0.5)
    again = train(written[:500], sure=0.5)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    found = [(chosen(arrays, case)[0], case.right) for case in written[500:]]
    assert sum(place in right if right else place is None for place, right in found) > 0.8 * len(found)


def test_the_bundled_file_has_the_shape_that_is_read():
    choice, turn = follows.learned()
    assert choice.hidden.shape == (follows.WIDTH, len(choice.output))
    assert turn.asks.shape == turn.says.shape == (encoder.WIDTH, RANK)


def test_what_was_kept_from_training_is_examined(tmp_path, monkeypatch):
    rows = [json.loads(line) for line in follow_ups.HELD_BACK.read_text(encoding="utf-8").splitlines()]
    few = [row for row in rows if row["complaint"] in ("insomnia", "cough", "gout", "hives", "reflux")]
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in few), encoding="utf-8")
    monkeypatch.setattr(follow_ups, "HELD_BACK", path)
    monkeypatch.setattr(follow_ups, "FRESH", path)
    found, again = follow_ups.examine()
    assert [*found.values()] == [*again.values()]
    assert found["of"] == len(few) > 9
    assert found["right of answered"] >= 0.5 and found["found of those there are"] >= 0.3

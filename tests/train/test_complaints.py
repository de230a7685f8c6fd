"""What is trained on openings: which complaint they tell of, and what they tell already."""

from __future__ import annotations

import pytest

from bianque.consult.recognise import Recogniser
from bianque.consult.told import Told
from bianque.data.further import further_answers, further_follows, further_openings, judged_follows
from bianque.errors import BadInput
from bianque.train import complaints, told
from bianque.train.complaints import Labelled

FEW = ("insomnia", "cough", "child_fever")


@pytest.fixture(scope="module")
def openings():
    rows = [row for row in further_openings() if row.complaint in FEW and row.has is not None]
    return rows[::5], [row for place, row in enumerate(rows) if place % 5]


def test_complaints_are_recognised_in_openings_that_were_left_out(openings):
    held, rest = openings
    found = Recogniser(complaints.train([Labelled(row.say, row.complaint) for row in rest]))
    assert found.names == tuple(sorted(FEW))
    assert complaints.score(found, [(row.say, row.complaint) for row in held])["first"] > 0.8


def test_what_is_told_is_heard_in_openings_that_were_left_out(openings, monkeypatch):
    held, rest = openings
    monkeypatch.setattr(told, "ENOUGH", 10)
    score = told.score(Told(told.train(rest)), held)
    assert score["of"] > 30 and score["told and heard"] > 0.3 and score["heard and told"] > 0.5


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"complaint": "cough"}', "needs to be"),
        ('{"complaint": "nonsense", "say": "a"}', "'nonsense'"),
        ('{"complaint": "cough", "say": "咳", "has": {"duration": "ages"}}', "'ages'"),
        ("咳嗽", "needs to be"),
    ],
)
def test_a_line_that_is_no_opening_is_named(line, named, tmp_path):
    path = tmp_path / "openings.jsonl"
    path.write_text('{"complaint": "cough", "say": "咳"}\n' + line, encoding="utf-8")
    with pytest.raises(BadInput, match=named) as raised:
        further_openings(path)
    assert f"{path}:2" in str(raised.value)


@pytest.mark.parametrize(
    ("read", "line", "named"),
    [
        (further_answers, '{"complaint": "cough", "slot": "fever", "say": "不烧"}', "needs to be"),
        (further_answers, '{"complaint": "cough", "slot": "shoe", "ask": "a", "say": "b", "value": null}', "'shoe'"),
        (further_answers, '{"complaint": "cough", "slot": "fever", "ask": "a", "say": "b", "value": "blue"}', "'blue'"),
        (further_follows, '{"complaint": "nonsense", "ask": "a", "follow": 0}', "'nonsense'"),
        (further_follows, '{"complaint": "cough", "ask": "a", "follow": 99}', "follow=99"),
        (judged_follows, '{"complaint": "cough", "ask": "a", "own": [99], "common": []}', "99"),
        (judged_follows, '{"complaint": "cough", "ask": "a", "own": [], "common": [999]}', "common"),
        (judged_follows, '{"complaint": "nonsense", "ask": "a", "own": [0], "common": []}', "nonsense"),
    ],
)
def test_a_line_that_is_no_answer_or_follow_up_is_named(read, line, named, tmp_path):
    good = {further_answers: '{"complaint": "cough", "slot": "fever", "ask": "a", "say": "b", "value": null}',
            further_follows: '{"complaint": "cough", "ask": "a", "follow": null}',
            judged_follows: '{"complaint": "cough", "ask": "a", "own": [0], "common": []}'}  # fmt: skip
    path = tmp_path / "lines.jsonl"
    path.write_text(f"{good[read]}\n{line}", encoding="utf-8")
    with pytest.raises(BadInput, match=named) as raised:
        read(path)
    assert f"{path}:2" in str(raised.value)

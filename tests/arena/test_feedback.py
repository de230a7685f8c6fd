"""What visitors say of replies: kept once, changed and taken back, counted by model, without words unless allowed."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.arena.feedback import REASONS, FeedbackStore, Share, parse, record_feedback, shares, written
from bianque.arena.votes import Publisher, Votes
from bianque.errors import BadInput
from bianque.i18n import LANGS, say
from bianque.intervals import wilson

SECRET = "我头痛三天了"
TALK = [
    {"role": "user", "content": SECRET},
    {"role": "assistant", "content": "多休息。", "phase": "advising", "model": "advise-mini", "finish": "stop"},
]


@pytest.fixture
def store(tmp_path):
    return FeedbackStore(tmp_path / "feedback", tmp_path / "hub" / "feedback")


def test_words_are_kept_only_with_consent(store, tmp_path):
    record_feedback(store, TALK, 1, False, "wrong", note="剂量不对", id="one")
    assert SECRET.encode() not in store.path.read_bytes() and "剂量".encode() not in store.path.read_bytes()
    kept = record_feedback(store, TALK, 1, False, "wrong", note=" 剂量不对 ", consent=True)
    assert kept.text == [{"role": t["role"], "content": t["content"]} for t in TALK] and kept.note == "剂量不对"
    assert parse(written(kept)) == kept and SECRET not in written(kept, text=False).decode("unicode_escape")
    assert len(store.read()[0]) == 2 and not (tmp_path / "hub").exists()


def test_a_second_word_replaces_the_first_and_can_be_taken_back(store):
    first = record_feedback(store, TALK, 1, True, "helpful")
    again = record_feedback(store, TALK, 1, False, "unsafe", id=first.id)
    assert again.id == first.id and [one.liked for one in store.read()[0]] == [False]
    assert record_feedback(store, TALK, 1, None, id=first.id) is None and store.read() == ([], [])
    assert store.export() is None


def test_of_words_that_are_taken_back_nothing_stays_on_the_disk(store):
    kept_as = json.dumps(SECRET)[1:-1].encode()
    held = lambda: any(kept_as in path.read_bytes() for path in store.folder.iterdir())
    kept = record_feedback(store, TALK, 1, False, "wrong", consent=True)
    assert held()
    record_feedback(store, TALK, 1, False, "wrong", id=kept.id)  # the same word, without consent now
    assert not held()
    other = record_feedback(store, TALK, 1, False, "wrong", consent=True)
    record_feedback(store, TALK, 1, None, id=other.id)
    assert not held()


@pytest.mark.parametrize(
    ("place", "more", "named"),
    [
        (0, {}, "place=0"), (2, {}, "place=2"), (-1, {}, "place=-1"), (1, {"reason": "wrong"}, "reason='wrong'"),
        (1, {"note": "长" * 501}, "note: 501"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(store, place, more, named):
    with pytest.raises(BadInput, match=named):
        record_feedback(store, TALK, place, True, **more)
    assert not store.folder.exists()


@given(st.lists(st.tuples(st.sampled_from(["one", "other"]), st.booleans()), max_size=20))
def test_shares_are_counted_by_model(said):
    base = record_feedback(SimpleNamespace(put=lambda *_, **__: True), TALK, 1, True)
    found = shares(replace(base, model=model, liked=liked) for model, liked in said)
    for share in found:
        own = [liked for model, liked in said if model == share.model]
        assert share == Share(share.model, sum(own), len(own), *wilson(sum(own), len(own)))
    assert {share.model for share in found} == {model for model, _ in said}
    assert [share.low for share in found] == sorted((share.low for share in found), reverse=True)


def test_it_is_pushed_beside_the_votes_and_read_back(tmp_path):
    votes = Votes(tmp_path / "here")
    kept = record_feedback(votes.feedback, TALK, 1, True, "clear")
    path = votes.feedback.export()
    assert path.parent == votes.folder / "feedback" and path.read_bytes() == written(kept)
    elsewhere = Votes(tmp_path / "there")
    (elsewhere.hub / "feedback").mkdir(parents=True)
    (elsewhere.hub / "feedback" / path.name).write_bytes(path.read_bytes() + b"no json\n")
    found, problems = elsewhere.feedback.read()
    assert found == [kept] and [problem.line for problem in problems] == [2] and elsewhere.read() == ([], [])
    assert Publisher(votes, None).where().repo is None


def test_every_reason_has_four_languages():
    names = [name for table in REASONS.values() for name in table]
    assert all(say(lang, f"feedback_{name}").strip() for name in names for lang in LANGS)

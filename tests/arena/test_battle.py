"""Battles: who meets whom, when a vote may be cast, and what it says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.arena import battle as arena
from bianque.arena.battle import CATEGORIES, REASONS, Battle, Player, Vote, cast_vote, parse, written
from bianque.catalog import builtin
from bianque.errors import BadInput
from bianque.i18n import LANGS, say
from bianque.types import Message, Sampling

ONE, OTHER = (Player(name, "main", None, {"temperature": 0.5, "seed": None}) for name in ("one", "other"))
SECRET = "我头痛三天了 \ud800"  # an unpaired surrogate: what a browser may send


def said(answer="请问多久了？", phase="asking", model="one"):
    return [Message("user", SECRET), Message("assistant", answer, phase, model)]


def finished(category="internal") -> Battle:
    return Battle.begin(ONE, OTHER, category).replied("a", "float32").replied("b", "cpu-int8")


def a_vote(**options) -> Vote:
    return cast_vote(finished(), "a", {"a": said(), "b": said("多喝水。", "advising", "other")}, **options)


def test_a_battle_is_ready_when_both_have_replied_and_not_again_before_they_do():
    battle = Battle.begin(ONE, OTHER, "mind")
    assert not battle.ready
    halfway = battle.replied("b", "cpu-int8")
    assert not halfway.ready and halfway.replied("a", "float32").ready
    assert not halfway.replied("b", "cpu-int8").ready
    assert not halfway.replied("a", "float32").asked().ready
    assert (halfway.b.precision, halfway.a.precision) == ("cpu-int8", None)
    assert battle.id != Battle.begin(ONE, OTHER, "mind").id


def test_replies_of_one_model_on_both_sides_are_nothing_to_vote_on():
    with pytest.raises(BadInput, match="同一个模型"):
        cast_vote(finished(), "a", {"a": said(), "b": said("多喝水。", "advising")})
    later = {"a": [*said(), *said()], "b": [*said(), *said(model="other")]}
    assert cast_vote(finished(), "a", later).models == {"a": ["one", "one"], "b": ["one", "other"]}
    assert a_vote().counts and replace(a_vote(), models=None).counts  # an older vote does not say who wrote
    assert not replace(a_vote(), models={"a": ["one"], "b": ["one"]}).counts


def test_no_vote_before_both_have_replied():
    dialogues = {"a": said(), "b": said()}
    early = Battle.begin(ONE, OTHER, "mind")
    for battle, two in (
        (early, dialogues),
        (early.replied("a", None), dialogues),
        (finished().asked(), dialogues),
        (finished(), {"a": said()}),
        (finished(), {"a": said(), "b": []}),
        (finished(), {"a": said(), "b": said()[:1]}),
        (finished(), {"a": said(), "b": said(" ")}),
    ):
        with pytest.raises(BadInput) as failure:
            cast_vote(battle, "a", two)
        assert SECRET not in str(failure.value)


@pytest.mark.parametrize(
    "wrong, named",
    [
        (lambda: cast_vote(finished(), "both", {"a": said(), "b": said(model="other")}), "both_bad"),
        (
            lambda: cast_vote(finished(), "tie", {"a": said(), "b": said(model="other")}, reasons=["nice"]),
            "asked_right",
        ),
        (lambda: Battle.begin(ONE, OTHER, "dentist"), "internal"),
    ],
)
def test_a_word_that_is_not_known_is_answered_with_those_that_are(wrong, named):
    with pytest.raises(BadInput, match=named):
        wrong()


def test_the_words_are_in_every_language_and_a_vote_may_be_of_any_category():
    for key in (*(f"category_{name}" for name in CATEGORIES), *(f"reason_{name}" for name in REASONS)):
        assert all(say(lang, key).strip() for lang in LANGS)
    assert tuple(finished(category).category for category in CATEGORIES) == CATEGORIES


@pytest.mark.parametrize(
    "text, category",
    [
        ("最近总是焦虑失眠，情绪很差", "mind"),
        ("宝宝发烧了", "family"),
        ("布洛芬和阿司匹林能一起吃吗，有什么副作用", "drugs"),
        ("脸上长湿疹，很痒", "skin"),
        ("膝关节扭伤了", "surgery"),
        ("咳嗽三天，胸闷", "internal"),
        ("你好", "other"),
        ("", "other"),
    ],
)
def test_a_category_is_guessed_from_its_words(text, category):
    assert arena.guess(text) == category


def test_a_vote_says_what_happened():
    vote = a_vote(reasons=["safe", "asked_right", "safe"])
    assert (vote.a.name, vote.a.precision, vote.b.precision) == ("one", "float32", "cpu-int8")
    assert (vote.verdict, vote.reasons, vote.turns) == ("a", ("safe", "asked_right"), 1)
    assert vote.phases == {"a": ["asking"], "b": ["advising"]}
    assert vote.time.endswith("+00:00") and len(vote.time) == len("2026-01-01T00:00:00.000000+00:00")


def test_only_consent_keeps_the_words_and_then_they_match_their_hash():
    silent, open_ = a_vote(), a_vote(consent=True)
    assert silent.text is None and a_vote(consent="yes").text is None
    assert SECRET[:4].encode() not in written(silent) and b"text" not in written(silent)
    assert json.dumps(SECRET).encode() not in written(silent) + written(open_, text=False)
    kept = json.loads(written(open_))["text"]
    assert kept["a"][0] == {"role": "user", "content": SECRET}
    assert hashlib.sha256(arena.canonical(kept)).hexdigest() == open_.conversation == silent.conversation
    assert (
        cast_vote(finished(), "a", {"a": said(), "b": said("别的。", model="other")}).conversation
        != silent.conversation
    )


def test_a_line_reads_back_as_the_vote_it_was():
    for vote in (a_vote(), a_vote(reasons=["fluent"], consent=True)):
        line = written(vote)
        assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
        assert parse(line) == vote


@pytest.mark.parametrize("wrong", [3.5, {}, {"a": [], "b": 1}])
def test_models_that_make_no_sense_are_named(wrong):
    with pytest.raises(BadInput, match=r"vote\.models"):
        parse(json.dumps(json.loads(written(a_vote())) | {"models": wrong}).encode())


@pytest.mark.parametrize("name", [*(key for key in json.loads(written(a_vote())) if key not in ("schema", "models"))])
@pytest.mark.parametrize("wrong", [None, 3.5, {"name": ""}, ["x", 1]])
def test_a_field_that_makes_no_sense_is_named_and_not_quoted(name, wrong):
    raw = json.loads(written(a_vote())) | {name: wrong}
    with pytest.raises(BadInput, match=r"vote\.|[ab]\.") as failure:
        parse(json.dumps(raw).encode())
    assert name in str(failure.value)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'"x"', b"\xff\xfe{", b"\0" * 40, b"[" * 100_000, b'{"schema":2}'])
def test_what_is_no_vote_is_refused(line):
    with pytest.raises(BadInput):
        parse(line)


LINE = written(a_vote(consent=True))


@given(st.integers(0, len(LINE) - 2))
def test_the_beginning_of_a_line_is_never_a_vote(length):
    with pytest.raises(BadInput):
        parse(LINE[:length])


def test_a_contender_takes_name_and_revision_from_its_card():
    card = builtin.CARDS[0]
    found = Player.of(card, Sampling(temperature=0.3, stop=("病人",), seed=7))
    assert (found.name, found.revision, found.precision) == (card.name, card.revision, None)
    assert found.sampling["temperature"] == 0.3 and found.sampling["seed"] == 7

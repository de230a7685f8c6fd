"""Who replies: one way to write a contender, and what its words mean to a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.catalog.builtin import by_name
from bianque.consult.session import Session
from bianque.consult.spec import Choices, ModelSpec, SamplingOverrides, parse_all
from bianque.errors import BadInput, BianQueError, UnknownModel
from bianque.evaluate.evaluation import contender_facts
from tests.conftest import Scripted

ASK, ADVISE = "ask-mini", "advise-mini"
SESSION = Session(Scripted(), ASK, ADVISE)


@pytest.mark.parametrize(
    "text, label, name, bits, wishes",
    [
        ("auto", "auto", "auto", None, SamplingOverrides()),
        (" bianque-2 ", "bianque-2", "bianque-2", None, SamplingOverrides()),
        (
            "bianque-2@8:temperature=0,seed=1",
            "bianque-2@8:temperature=0,seed=1",
            "bianque-2",
            8,
            SamplingOverrides(0, seed=1),
        ),
        ("auto:seed=01, temperature=0.50", "auto:temperature=0.5,seed=1", "auto", None, SamplingOverrides(0.5, seed=1)),
        (
            "m:top_p=.9,max_new_tokens=7",
            "m:top_p=0.9,max_new_tokens=7",
            "m",
            None,
            SamplingOverrides(top_p=0.9, max_new_tokens=7),
        ),
        ("我的卡.1@4", "我的卡.1@4", "我的卡.1", 4, SamplingOverrides()),
        ("host/qwen:7b", "host/qwen:7b", "host/qwen:7b", None, SamplingOverrides()),
        ("host/qwen:7b:seed=2", "host/qwen:7b:seed=2", "host/qwen:7b", None, SamplingOverrides(seed=2)),
    ],
)
def test_a_contender_is_written_in_one_way(text, label, name, bits, wishes):
    found = ModelSpec.parse(text)
    assert found == ModelSpec(name, bits, wishes) == ModelSpec.parse(label) and found.label == label


@given(wishes=st.builds(SamplingOverrides, st.none() | st.floats(0, 2), st.none() | st.floats(0.01, 1),
                        st.none() | st.integers(1, 2048), st.none() | st.integers(0, 2**63 - 1)))  # fmt: skip
def test_a_label_says_all_that_was_wished(wishes):
    found = ModelSpec.parse(f"auto:{wishes}" if str(wishes) else "auto")
    assert found.sampling == wishes and ModelSpec.parse(found.label) == found


def test_others_hold_where_the_contender_says_nothing():
    found = ModelSpec.parse("auto:seed=5", SamplingOverrides(temperature=0, seed=1))
    assert found.overrides == SamplingOverrides(temperature=0, seed=5) and found.label == "auto:seed=5"
    assert found.choices(SESSION) == Choices("auto", sampling=SamplingOverrides(temperature=0, seed=5))
    assert found.seeded(7).choices(SESSION).sampling.seed == 7


@pytest.mark.parametrize(
    "text, named",
    [
        ("", "名称"), (":seed=1", "名称"), ("@8", "名称"), ("auto:speed=1", "'speed'"), ("auto:seed=1.5", "seed='1.5'"),
        ("auto:temperature=hot", "temperature='hot'"), ("auto:seed=1,seed=2", "seed"), ("auto:seed=", "seed=''"),
        ("auto:seed=1,", "''"), ("x@7", "x@7"), ("x@", "x@"), ("x@8@4", "x@8@4"), ("auto@8", "auto@8"),
    ],
)  # fmt: skip
def test_a_contender_that_means_nothing_is_refused(text, named):
    with pytest.raises(BadInput, match=named):
        ModelSpec.parse(text)


def test_a_contender_may_be_an_object():
    assert ModelSpec.of({"name": "x", "bits": 8, "seed": 3}) == ModelSpec("x", 8, SamplingOverrides(seed=3))
    assert ModelSpec.of({"name": "x@4", "temperature": None}) == ModelSpec("x", 4)
    assert ModelSpec.of({"name": "x@4:seed=2", "seed": 3}) == ModelSpec("x", 4, SamplingOverrides(seed=3))
    assert ModelSpec.of("x@4:seed=2") == ModelSpec("x", 4, SamplingOverrides(seed=2))
    for wrong in (7, None, {}, {"name": 7}, {"name": "x", "bits": 7}, {"name": "x", "mode": "auto"}):
        with pytest.raises(BadInput):
            ModelSpec.of(wrong)


def test_two_contenders_of_one_label_are_refused():
    with pytest.raises(BadInput, match="auto:seed=1"):
        parse_all(["auto:seed=1", "ask", "auto:seed=01"])


@pytest.mark.parametrize("text", ["bianqe", "a b", "x:", "chatglm-6b-int4@8", "ask:temperature=9", "ask:seed=-1"])
def test_what_cannot_be_answered_is_refused(text):
    with pytest.raises(BianQueError):
        ModelSpec.parse(text).choices(SESSION)


@pytest.mark.parametrize(
    "name, mode, models",
    [
        ("auto", "auto", {"asking": ASK, "advising": ADVISE}),
        ("ask", "ask", {"asking": ASK}),
        ("advise", "advise", {"advising": ADVISE}),
        ("bianque-1", "ask", {"asking": "bianque-1"}),
        ("bianque-1@8", "ask", {"asking": "bianque-1@8"}),
        ("bianque-2", "advise", {"advising": "bianque-2"}),
        ("soulchat", "advise", {"advising": "soulchat"}),
        ("disc-medllm", "advise", {"advising": "disc-medllm"}),
    ],
)
def test_a_mode_is_the_sessions_and_a_card_speaks_alone(name, mode, models):
    found = ModelSpec.parse(name)
    assert found.choices(SESSION).mode == mode and found.speakers(SESSION) == models
    made = contender_facts(found, SESSION)
    assert [card["name"] for card in made["cards"]] == list(models.values())
    assert made["cards"][0]["repo"] == by_name()[next(iter(models.values())).partition("@")[0]].repo


def test_an_unknown_model_is_told_by_name():
    with pytest.raises(UnknownModel, match="bianqe"):
        ModelSpec.parse("bianqe").choices(SESSION)

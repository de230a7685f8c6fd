"""The shapes in which clients hold a history, read as one."""

import pytest

from bianque.api import openai_request
from bianque.api.schemas import parse_history
from bianque.errors import BadInput, TooLong
from bianque.types import Message

ASKED, ANSWERED = Message("user", "头痛"), Message("assistant", "多久了？")


def part(text):
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    "history",
    [
        [{"role": "user", "content": "头痛"}, {"role": "assistant", "content": "多久了？"}],
        [{"role": "user", "content": [part("头痛")], "metadata": None}, {"role": "assistant", "content": [part("多久了？")]}],
        [{"role": "system", "content": "你是医生"}, {"role": "user", "content": "头痛"}, {"role": "assistant", "content": "多久了？"}],
        [["头痛", "多久了？"]],
    ],
    ids=["plain", "parts, as Gradio's Chatbot has them", "with a system message", "pairs"],
)  # fmt: skip
def test_every_shape_is_read(history):
    assert parse_history(history) == [ASKED, ANSWERED]


def test_parts_are_lines_and_a_pair_may_be_unanswered():
    assert parse_history([{"role": "user", "content": [part("头"), part("痛")]}]) == [Message("user", "头\n痛")]
    assert parse_history([["头痛", None]]) == [ASKED]


@pytest.mark.parametrize(
    "history, named",
    [
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "image_url"),
        ([{"role": "user", "content": ["\udfff"]}], "alone are read"),
        ([["头痛", 3]], r"history\[1\]"),
        ([["头痛", "多久了？", "三天"]], "history"),
        ([{"role": "doctor", "content": "x"}], r"history\[0\].role"),
    ],
)
def test_what_cannot_be_read_is_named(history, named):
    with pytest.raises(BadInput, match=named):
        parse_history(history)


def test_half_a_surrogate_pair_is_replaced_wherever_it_stands():
    given = [
        {"role": "user", "content": "头痛\ud83d"},
        {"role": "assistant", "content": [part("多\udfff久")], "model": "\ud800"},
    ]
    assert parse_history(given) == [Message("user", "头痛?"), Message("assistant", "多?久", None, "?")]


def test_ten_thousand_rounds_are_refused_before_any_is_looked_at():
    rounds = [{"role": "user", "content": None}, {"role": "nobody"}] * 10_000
    for read in (
        parse_history,
        openai_request.dialogue,
        lambda given: parse_history([["头痛", "多久了？"]] * len(given)),
    ):
        with pytest.raises(TooLong, match="20000"):
            read(rounds)

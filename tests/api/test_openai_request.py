"""Every field of a chat request: used, refused by name, or named as ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.api.openai_request import RULE, SEEDS, InvalidRequest, parse
from bianque.errors import BianQueError
from bianque.types import LONGEST_REPLY, Message

SAID = [{"role": "user", "content": "头痛"}]


def asked(**fields):
    return parse({"model": "auto", "messages": SAID} | fields)


def talk(*messages):
    found = asked(messages=[{"role": role, "content": content} for role, content in messages])
    return [(turn.role, turn.content) for turn in found.history], found.message


def test_a_plain_request():
    found = asked()
    assert (found.model, found.history, found.message, found.n, found.stream) == ("auto", (), "头痛", 1, False)
    assert found.drawn.given() == {} and found.stop == () and found.ignored == () and not found.include_usage


@pytest.mark.parametrize("content, told", [
    ("头痛", "头痛"), ([{"type": "text", "text": "头痛"}], "头痛"), ([], ""), (None, ""),
    ([{"type": "text", "text": "头痛"}, {"type": "text", "text": "三天"}], "头痛\n三天"), ("头\ud83d痛", "头?痛"),
])  # fmt: skip
def test_content_is_a_string_null_or_text_parts(content, told):
    assert asked(messages=[{"role": "user", "content": content}]).message == told


def test_a_dialogue_begins_with_the_visitor_and_alternates():
    history, message = talk(
        ("system", "你是医生"), ("assistant", "您好"), ("user", "头痛"), ("user", "三天了"), ("assistant", "哪里痛？"),
        ("assistant", ""), ("assistant", "痛多久了？"), ("developer", "short"), ("user", "额头"),
    )  # fmt: skip
    assert history == [("user", "头痛\n三天了"), ("assistant", "哪里痛？\n痛多久了？")] and message == "额头"
    assert talk(("user", "头痛"), ("assistant", None), ("user", "三天"))[1] == "头痛\n三天"


def test_left_out_and_unused_fields_are_named():
    found = asked(
        messages=[{"role": "system", "content": "x"}, {"role": "developer", "content": "y"}, *SAID],
        tools=[{"type": "function"}], tool_choice="auto", user="u", metadata={}, store=True, service_tier=None,
        reasoning_effort="low", presence_penalty=0, response_format={"type": "text"}, logprobs=False, logit_bias={},
    )  # fmt: skip
    assert found.ignored == ("system", "developer", "tools", "user", "metadata", "store", "reasoning_effort")


@pytest.mark.parametrize("notice", ["请拨打 120。", "请拨打 120。\n\n不要等。", f"一。{RULE}二。"])
def test_a_notice_that_comes_back_is_not_part_of_the_dialogue(notice):
    history, _ = talk(("user", "胸痛"), ("assistant", f"{notice}{RULE}哪里痛？"), ("user", "左边"))
    assert history == [("user", "胸痛"), ("assistant", "哪里痛？")]
    # a client may cut the white space at the end of a reply that was a notice and nothing else
    history, message = talk(("user", "胸痛"), ("assistant", f"{notice}{RULE}".strip()), ("user", "左边"))
    assert (history, message) == ([], "胸痛\n左边")
    assert talk(("user", f"甲{RULE}乙"))[1] == f"甲{RULE}乙"  # a visitor's own words stay


def test_sampling_is_read():
    drawn = asked(temperature=0, top_p=0, max_tokens=5, seed=-1).drawn
    assert (drawn.temperature, drawn.top_p, drawn.max_new_tokens, drawn.seed) == (0, 0.01, 5, SEEDS - 1)
    assert asked(max_tokens=5, max_completion_tokens=7.0).drawn.max_new_tokens == 7
    assert asked(max_tokens=10**9).drawn.max_new_tokens == LONGEST_REPLY
    assert asked(max_tokens=None, temperature=None, seed=None, stop=None, n=None, stream=None).drawn.given() == {}
    assert asked(seed=2**64 - 1).drawn.seed == SEEDS - 1
    assert [asked(seed=SEEDS - 1).seeded(place).seed for place in range(3)] == [SEEDS - 1, 0, 1]
    assert asked(stop="。").stop == ("。",) and asked(stop=["a", "", "b"]).stop == ("a", "b")


@pytest.mark.parametrize("fields, param", [
    ({"model": None}, "model"), ({"model": 3}, "model"), ({"model": ""}, "model"), ({"model": "x" * 201}, "model"),
    ({"messages": None}, "messages"), ({"messages": []}, "messages"), ({"messages": "头痛"}, "messages"),
    ({"messages": [*SAID, {"role": "assistant", "content": "好"}]}, "messages"),
    ({"messages": [*SAID, {"role": "assistant", "content": ""}]}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
    ({"messages": ["头痛"]}, "messages[0].role"), ({"messages": [*SAID, {"role": "tool"}]}, "messages[1].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": ["头痛"]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": ["text"]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"temperature": 2.1}, "temperature"), ({"temperature": "1"}, "temperature"), ({"temperature": True}, "temperature"),
    ({"temperature": float("nan")}, "temperature"), ({"top_p": 1.1}, "top_p"), ({"top_p": -0.1}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_completion_tokens": "x"}, "max_completion_tokens"),
    ({"seed": 2**64}, "seed"), ({"seed": 1.5}, "seed"), ({"seed": -(2**63) - 1}, "seed"),
    ({"stop": list("abcde")}, "stop"), ({"stop": [1]}, "stop"), ({"stop": 1}, "stop"),
    ({"n": 0}, "n"), ({"n": 9}, "n"), ({"n": 2, "stream": True}, "n"), ({"stream": "yes"}, "stream"),
    ({"stream": True, "stream_options": 1}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
])  # fmt: skip
def test_what_is_wrong_is_named(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        asked(**fields)
    assert caught.value.param == param and str(caught.value).startswith(param.partition(".")[0])


@pytest.mark.parametrize("name, value", [
    ("tool_choice", "required"), ("tool_choice", {"type": "function", "function": {"name": "f"}}),
    ("function_call", {"name": "f"}), ("response_format", {"type": "json_object"}), ("response_format", "json"),
    ("logprobs", True), ("top_logprobs", 3), ("audio", {"voice": "x"}), ("modalities", ["text", "audio"]),
    ("presence_penalty", 0.5), ("frequency_penalty", -1), ("logit_bias", {"5": 3}),
])  # fmt: skip
def test_what_would_change_the_meaning_of_a_reply_is_refused(name, value):
    with pytest.raises(InvalidRequest) as caught:
        asked(**{name: value})
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter") and name in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8,
)  # fmt: skip
NAMES = ["model", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "n", "stream", "stream_options", "tools",
         "tool_choice", "response_format", "logprobs", "audio", "modalities", "logit_bias", "presence_penalty"]  # fmt: skip
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]) | JSON, "content": JSON})


@given(st.dictionaries(st.sampled_from(NAMES), JSON) | JSON, st.none() | st.lists(MESSAGE, max_size=4))
def test_any_body_is_a_request_or_an_error_of_ours(body, messages):
    if isinstance(body, dict) and messages is not None:
        body = {"model": "auto"} | body | {"messages": messages}
    try:
        found = parse(body)
    except BianQueError:
        return
    assert found.message is not None and all(isinstance(turn, Message) for turn in found.history)
    roles = [turn.role for turn in found.history]
    assert roles == ["user", "assistant"] * (len(roles) // 2)

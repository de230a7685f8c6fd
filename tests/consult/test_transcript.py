"""A dialogue as it is kept and exported: every event finds its place, label and licences go along."""

from __future__ import annotations

import json

from bianque.catalog.builtin import by_name
from bianque.consult import triage
from bianque.consult.session import Delta, Done, Handed, Loading, Notice, Speaking, Thinking, Timing
from bianque.consult.transcript import Transcript, as_json, as_markdown, messages
from bianque.types import Message, Progress, Usage

SPOKEN = [
    Notice("history", "较早的没有读到"),
    Notice("crisis", "请拨打 12356"),
    Notice("history", "较早的没有读到"),
    Loading(Progress("advise-mini", "loading", 0.5)),
    Handed("ask-mini", "advise-mini", "requested"),
    Thinking("advise-mini", "advising"),
    Speaking("advise-mini", "advising", None, 8),
    Delta("多休"),
    Delta("息 "),
]
DONE = Done(Message("assistant", "多休息", "advising", "advise-mini"), "stop", Usage(), Timing())


def after(*events):
    found = Transcript([], "头痛")
    for event in (*events, None):
        found.apply(event)
    return found.turns


def test_events_become_turns_and_turns_messages():
    turns = after(*SPOKEN, DONE)
    assert turns[0]["notice"] == {"level": "crisis", "text": "请拨打 12356"}  # of safety rather than of length
    assert turns[0]["handoff"] == {"from": "ask-mini", "to": "advise-mini", "reason": "requested"}
    assert turns[1]["content"] == "多休息" and turns[1]["finish"] == "stop"
    assert messages(turns) == [Message("user", "头痛"), DONE.message]


def test_until_it_is_done_a_reply_counts_as_stopped():
    assert after(*SPOKEN)[1] | {"finish": "cancelled", "content": "多休息 "} == after(*SPOKEN)[1]


def test_a_reply_that_never_began_is_no_turn():
    (turn,) = after(*SPOKEN[:6], DONE)
    assert (turn["role"], turn["content"]) == ("user", "头痛")


def test_an_export_carries_the_label_and_the_licence_of_who_spoke():
    turns = after(*SPOKEN, DONE)
    text = as_markdown(turns, by_name())
    assert triage.LABEL in text and triage.DISCLAIMER in text and "12356" in text
    assert text.index("> **请拨打 12356**") < text.index("头痛") and "> **较早" not in text  # danger stands at the top
    assert text.endswith(f"**建议 · advise-mini**\n\n多休息\n\n- advise-mini: {by_name()['advise-mini'].licence}\n")
    whole = json.loads(as_json(turns, by_name()))
    assert whole["label"] == f"{triage.LABEL}；{triage.DISCLAIMER}" and whole["messages"] == turns
    assert whole["licences"] == {"advise-mini": by_name()["advise-mini"].licence}


def test_a_model_that_is_gone_is_no_obstacle():
    assert json.loads(as_json(after(*SPOKEN, DONE), {}))["licences"] == {}

"""What a visitor thinks of a reply."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from bianque.arena.votes import Votes
from bianque.consult.session import Session
from bianque.ui.arena import Arena
from bianque.ui.page import Page
from tests.conftest import ROOT, Scripted


def test_a_verdict_on_a_reply_is_kept_without_a_word(tmp_path):
    votes = Votes(tmp_path)
    session = Session(Scripted(), "ask-mini", "advise-mini")
    page = Page(session, ROOT / "examples.json", Arena(session, votes))
    turns = [
        {"role": "user", "content": "头痛三天"},
        {"role": "assistant", "content": "建议休息。", "phase": "advising", "model": "advise-mini"},
    ]
    visitor: Any = SimpleNamespace(headers={}, session_hash="x")
    judged = lambda place, liked: page.judge(
        turns, gr.LikeData(None, {"index": place, "value": "", "liked": liked}), visitor
    )
    assert [judged(1, True), judged(1, False), judged(0, True)] == [
        "like:1",
        "dislike:1",
        "",
    ]  # no word on one's own words
    for why in ("1:nonsense", "7:wrong", "", "1:wrong"):
        page.because_of(turns, why, visitor)
    assert votes.feedback.read()[0][0].reason == "wrong"
    (share,) = votes.feedback.shares()
    assert (share.model, share.count, share.liked) == (
        "advise-mini",
        1,
        0,
    )  # the second word took the place of the first
    assert not any("头痛".encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert judged(1, "") == "" and votes.feedback.read() == ([], [])  # pressed again: taken back

"""What a visitor thinks of a reply."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr

from bianque.arena.votes import Votes
from bianque.consult.session import Session
from bianque.ui.arena import Arena
from bianque.ui.page import Page
from tests.conftest import ROOT, Scripted


def test_a_verdict_on_a_reply_is_kept_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr("gradio.Info", lambda *args, **options: None)
    votes = Votes(tmp_path)
    session = Session(Scripted(), "ask-mini", "advise-mini")
    page = Page(session, ROOT / "examples.json", Arena(session, votes))
    turns = [
        {"role": "user", "content": "头痛三天"},
        {"role": "assistant", "content": "建议休息。", "phase": "advising", "model": "advise-mini"},
    ]
    for liked in (True, False):
        page.judge(
            turns,
            gr.LikeData(None, {"index": 1, "value": "", "liked": liked}),
            SimpleNamespace(headers={}, session_hash="x"),
        )  # type: ignore[arg-type]
    page.judge(
        turns,
        gr.LikeData(None, {"index": 0, "value": "", "liked": True}),
        SimpleNamespace(headers={}, session_hash="x"),
    )  # type: ignore[arg-type]
    (share,) = votes.feedback.shares()
    assert (share.model, share.count, share.liked) == (
        "advise-mini",
        1,
        0,
    )  # the second word took the place of the first
    assert not any("头痛".encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())

"""What Gradio keeps of calls: nothing once they are over, and what is under way or waits for its caller stays."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta

import gradio as gr
import httpx
import pytest

from bianque.api import leftovers
from bianque.consult.session import Session
from bianque.settings import Settings
from bianque.ui import serve
from bianque.ui.page import Page
from tests.conftest import ROOT, Scripted, afresh, free_port

CALL = {"data": ["头痛", None, "auto", None, None, None, None, None, None]}


@pytest.fixture(scope="module")
def server():
    """An app that sweeps often, its address and its voices."""
    voices = Scripted()
    page = Page(Session(voices, "ask-mini", "advise-mini"), ROOT / "examples.json")
    demo, here = page.build(), {"server_name": "127.0.0.1", "server_port": free_port()}
    every, leftovers.EVERY = leftovers.EVERY, 0.05
    try:
        app, address, _ = serve.launch(demo, page.session, Settings(), **here, prevent_thread_lock=True)
        yield app, f"{address}gradio_api/", voices
    finally:
        leftovers.EVERY = every
        demo.close(verbose=False)


def tables(app) -> dict[str, int]:
    queue = app.get_blocks()._queue
    return {
        "sessions": len(app.state_holder.session_data), "used": len(app.state_holder.time_last_used),
        "messages": len(queue.pending_messages_per_session), "pending": len(queue.pending_event_ids_session),
        "events": len(queue.event_ids_to_events), "iterators": len(app.iterators), "reset": len(app.iterators_to_reset),
    }  # fmt: skip


def until(condition) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 30
        time.sleep(0.01)


def call(address: str, endpoint: str) -> str:
    return httpx.post(f"{address}call/{endpoint}", json=CALL, timeout=30).json()["event_id"]


def test_nothing_is_left_of_calls(server):
    app, address, voices = server
    afresh(voices)
    for endpoint in ("chat_once", "chat") * 5:
        event = call(address, endpoint)
        assert "event: complete" in httpx.get(f"{address}call/{endpoint}/{event}", timeout=30).text
    until(lambda: not any(tables(app).values()))  # swept while the server runs


def test_a_result_waits_for_its_caller_but_not_for_ever(server, monkeypatch):
    app, address, voices = server
    afresh(voices)
    event = call(address, "chat_once")
    until(lambda: event in app.state_holder.session_data and not tables(app)["events"])
    leftovers.sweep(app)
    assert "event: complete" in httpx.get(f"{address}call/chat_once/{event}", timeout=30).text
    forgotten = call(address, "chat_once")
    until(lambda: forgotten in app.state_holder.session_data and not tables(app)["events"])
    leftovers.sweep(app, datetime.now() + timedelta(seconds=leftovers.UNFETCHED))
    assert not any(tables(app).values())


def test_of_a_reply_that_nobody_fetched_yet_its_end_waits(server):
    app, address, voices = server
    afresh(voices)
    voices.advises, voices.asks, voices.pause = ["好" * 300], ["请问" * 150], 0.01
    event = call(address, "chat")
    until(lambda: event in app.state_holder.session_data and not tables(app)["events"])
    waiting = app.get_blocks()._queue.pending_messages_per_session[event]
    until(lambda: waiting.qsize() < 6)  # swept; a step of the writing is a message
    heard = httpx.get(f"{address}call/chat/{event}", timeout=30).text
    ended, told = heard.split("\n")[:2]
    assert ended == "event: complete" and json.loads(told.removeprefix("data: "))[0]["reply"] == "好" * 300


def test_an_event_of_a_page_that_was_closed_before_it_listened_ends(server):
    app, address, voices = server
    afresh(voices)
    voices.advises, voices.pause = ["好" * 3000], 0.01
    call(address, "chat")
    table = app.get_blocks()._queue.event_ids_to_events
    until(lambda: bool(voices.heard))
    (event,) = table.values()
    event.closed = True  # as Gradio does when the page's heartbeat ends
    until(lambda: not table)
    assert voices.closed and voices.written < 3000
    leftovers.sweep(app, datetime.now() + timedelta(seconds=leftovers.UNFETCHED))


def test_a_call_copies_nothing_of_the_page(server):
    app, address, voices = server
    afresh(voices)
    event = call(address, "chat_once")
    until(lambda: event in app.state_holder.session_data)
    state = app.state_holder.session_data[event]
    assert isinstance(state, leftovers.Lean) and len(state.config_values) < 10 < len(app.get_blocks().blocks)
    httpx.get(f"{address}call/chat_once/{event}", timeout=30)  # nothing of it is under way in the next test
    until(lambda: not any(tables(app).values()))


def test_a_session_keeps_no_component_of_its_own_but_what_may_be_chosen(server):
    app, _, _ = server
    state, built = app.state_holder["k3j9x0a1bd"], app.get_blocks().default_config.blocks
    leftovers.sweep(app)
    chosen = next(key for key, block in built.items() if hasattr(block, "choices"))
    other = next(key for key, block in built.items() if isinstance(block, gr.Button))
    state[chosen] = gr.Dropdown(["a"], render=False)
    state[other] = gr.Button("b", render=False)
    leftovers.sweep(app)
    assert state[chosen].choices == [("a", "a")] and state[other] is built[other] and not state.config_values
    leftovers.sweep(app, datetime.now() + timedelta(seconds=leftovers.IDLE))


def test_what_is_under_way_stays_and_a_cancelled_call_does_not(server):
    app, address, voices = server
    afresh(voices)
    voices.advises, voices.asks, voices.pause = ["好" * 5000], ["请问" * 2500], 0.01
    event = call(address, "chat")
    until(lambda: voices.written)
    leftovers.sweep(app, datetime.now() + timedelta(days=1))
    assert event in app.state_holder.session_data and event in app.get_blocks()._queue.event_ids_to_events
    function = next(fn._id for fn in app.get_blocks().fns.values() if fn.api_name == "chat")
    httpx.post(f"{address}cancel", json={"session_hash": event, "fn_index": function, "event_id": event}, timeout=30)
    until(lambda: voices.closed)
    until(lambda: not tables(app)["events"])
    leftovers.sweep(app, datetime.now() + timedelta(seconds=leftovers.UNFETCHED))
    assert not any(tables(app).values())


def test_a_visitors_session_stays_while_it_may_be_gone_on_with(server):
    app, _, _ = server
    state = app.state_holder["k3j9x0a1bc"]
    leftovers.sweep(app, datetime.now() + timedelta(seconds=leftovers.IDLE - 60))
    assert app.state_holder.session_data == {"k3j9x0a1bc": state} and not state.config_values
    leftovers.sweep(app, datetime.now() + timedelta(seconds=leftovers.IDLE))
    assert not any(tables(app).values())


def test_a_clock_that_is_set_back_keeps_nothing_for_ever(server):
    app, _, _ = server
    now = datetime.now()
    assert app.state_holder["ahead0f1me"] is not None  # there from now on
    app.state_holder.time_last_used["ahead0f1me"] = now
    leftovers.sweep(app, now - timedelta(days=1))
    leftovers.sweep(app, now - timedelta(days=1) + timedelta(seconds=leftovers.IDLE))
    assert not any(tables(app).values())

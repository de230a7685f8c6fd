"""Models behind a URL: what is asked, how every kind of answer and failure is read, and that nothing is asked twice for pay."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from bianque.backends import client as wire
from bianque.backends.client import Patience
from bianque.backends.remote import Remote
from bianque.catalog.builtin import REMOTE
from bianque.catalog.card import Endpoint, Model
from bianque.errors import BadInput, BianQueError, Busy, SettingsError, TooLong, UnknownModel, Unreachable
from bianque.types import Message, Sampling, Usage
from tests.conftest import listening

KEY = "sk-very-secret"
TALK = [Message("user", "我头痛"), Message("assistant", "多久了？"), Message("user", "三天\ud800")]
QUICK = Patience(first=5.0, between=0.3, pause=0.001)
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Gives one answer a request, the last one again and again."""

    answers: list[Answer]
    heard: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)  # set once a reader has gone
    url: str = ""


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    server = Server(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.heard.append((self.path, dict(self.headers), body))
            try:
                server.answers[min(len(server.heard), len(server.answers)) - 1](self)
            except (BrokenPipeError, ConnectionResetError):
                server.left.set()

        def log_message(self, *_):
            pass

    with listening(Handler) as server.url:
        yield server


def says(status: int, text: str, **headers: str) -> Answer:
    """An answer with a length, which is no stream."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def streams(*parts: str | bytes | float | dict[str, Any]) -> Answer:
    """A stream: a dict is an event, a text stands as it is, a number is a silence in seconds; then the connection ends."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for part in parts:
            if isinstance(part, float):
                time.sleep(part)
                continue
            text = f"data: {json.dumps(part, ensure_ascii=False)}\n\n" if isinstance(part, dict) else part
            handler.wfile.write(text if isinstance(text, bytes) else text.encode())
            handler.wfile.flush()

    return answer


def piece(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


USAGE = {"usage": {"prompt_tokens": 12, "completion_tokens": 3}}
DONE = "data: [DONE]\n\n"
GOOD = streams(": queued\n\n", piece("休息"), piece("两天。"), piece(finish="stop"), {"choices": [], **USAGE}, DONE)
LONG = json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}})
QUOTA = json.dumps({"error": {"message": "pay first", "code": "insufficient_quota"}})


def card(url: str, **facts: Any) -> Model:
    endpoint = Endpoint(url, "qwen3", key_env="K")
    return Model("qwen", "千问", "both", REMOTE, "Apache-2.0", "me", endpoint=replace(endpoint, **facts))


@dataclass
class Heard:
    """What came of a reply."""

    text: str = ""
    finish: str | None = None
    usage: Usage | None = None
    error: BianQueError | None = None
    kernel: str | None = None


def asked(url: str, sampling: Sampling = REMOTE, patience: Patience = QUICK, **facts: Any) -> Heard:
    async def ask() -> Heard:
        remote, found = Remote([card(url, **facts)], {"K": KEY}, patience), Heard()
        try:
            async with aclosing(remote.stream("qwen", TALK, sampling)) as pieces:
                async for item in pieces:
                    found.text += item.text
                    found.finish, found.usage = item.finish, item.usage
        except BianQueError as error:
            found.error = error
        found.kernel = remote.kernel("qwen")
        return found

    return asyncio.run(ask())


def test_a_reply_comes_with_its_end_and_its_counts():
    with serving(GOOD) as server:
        found = asked(f"{server.url}/v1")
    assert (found.text, found.finish, found.usage, found.error) == ("休息两天。", "stop", Usage(12, 3), None)
    ((path, headers, body),) = server.heard
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "qwen3", "stream": True, "stream_options": {"include_usage": True}, "temperature": 1.0,
        "max_tokens": 1024, "messages": [{"role": t.role, "content": t.content.replace("\ud800", "?")} for t in TALK],
    }  # fmt: skip


def test_only_what_is_asked_for_is_sent_under_the_servers_names():
    drawn = replace(REMOTE, temperature=0, top_p=0.5, seed=7, stop=("患者",), max_new_tokens=9)
    more = {"top_k": 5, "temperature": None, "stream_options": None}
    with serving(GOOD) as server:
        asked(server.url, drawn, system="你是医生。", max_tokens_field="max_completion_tokens", body=more)
    body = server.heard[0][2]
    assert body.pop("messages")[0] == {"role": "system", "content": "你是医生。"}
    assert body == {
        "model": "qwen3", "stream": True, "top_p": 0.5, "seed": 7, "stop": ["患者"], "max_completion_tokens": 9, "top_k": 5,
    }  # fmt: skip


# --- however it is written --------------------------------------------------------------------------------------------

THOUGHT = {"choices": [{"delta": {"reasoning_content": "想一想", "reasoning": "想", "content": None}}]}
WAYS = {
    "without blanks, with CRLF": (f'data:{json.dumps(piece("好"))}\r\n\r\ndata:{json.dumps(piece(finish="stop"))}\r\n\r\n',),
    "no [DONE]": (piece("好"), piece(finish="stop")),
    "nothing read after [DONE]": (piece("好"), piece(finish="stop"), DONE, piece("坏")),
    "usage in the last chunk": (piece("好", "stop", **USAGE), DONE),
    "cut anywhere": (b'data: {"choices": [{"delta": {"content": "\xe5', b'\xa5\xbd"}}]}\n', b"\nda", b"ta:", json.dumps(piece(finish="eos")), "\n"),
    "no last line end": (piece("好"), f"data: {json.dumps(piece(finish='stop'))}"),
    "reasoning beside it": (THOUGHT, piece("好"), piece(finish="stop"), DONE),
    "reasoning in it": (piece("<thi"), piece("nk>想"), piece("一想</thi"), piece("nk>\n\n"), piece("好"), piece(finish="stop")),
    "white space first": (piece("\n"), piece(" 好"), piece(finish="stop")),
    "null and empty": ({"choices": None}, {"choices": []}, piece(), piece(""), "data: 5\n\n", "data: {\n\n", piece("好", "stop")),
    "other fields": ("id: 1\nretry: 5\nevent: message\n", piece("好", "stop")),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_is_read_however_it_is_written(way):
    with serving(streams(*WAYS[way])) as server:
        found = asked(server.url)
    assert (found.text, found.finish, found.error) == ("好", "stop", None)


def test_a_line_separator_inside_a_text_ends_no_line():
    with serving(streams(piece("一\u2028二\x85三"), piece(finish="length"))) as server:
        found = asked(server.url)
    assert (found.text, found.finish) == ("一\u2028二\x85三", "length")


def test_an_answer_that_is_no_stream_is_one_piece():
    whole = {"choices": [{"message": {"content": "好"}, "finish_reason": "length"}], **USAGE}
    with serving(says(200, json.dumps(whole, indent=1))) as server:
        found = asked(server.url)
    assert (found.text, found.finish, found.usage) == ("好", "length", Usage(12, 3)) and len(server.heard) == 1


def test_which_model_was_served_is_kept():
    with serving(streams(piece("好", "stop", model="qwen3-0728", system_fingerprint="fp_1"))) as server:
        found = asked(server.url)
    assert found.kernel == f"{server.url.removeprefix('http://')} · qwen3-0728 fp_1"


# --- failures ---------------------------------------------------------------------------------------------------------

# answers, requests, class, words, text that came
FAILURES: dict[str, tuple[tuple[Answer, ...], int, type[BianQueError] | None, str, str]] = {
    "429 twice": ((says(429, "", Retry_After="0.01"),) * 2 + (GOOD,), 3, None, "", "休息两天。"),
    "no quota": ((says(429, QUOTA),), 1, Unreachable, "pay first insufficient_quota", ""),
    "loading": ((says(503, '{"error":{"message":"Loading model"}}'),), 3, Busy, "Loading model", ""),
    "busy for good": ((says(429, "slow down"),), 3, Busy, "requests: 3", ""),
    "too long": ((says(400, LONG),), 1, TooLong, "shorten", ""),
    "too long, in vLLM's words": (
        (says(400, '{"object":"error","message":"maximum context length is 2048 tokens","code":400}'),), 1, TooLong, "2048", ""
    ),
    "no key": ((says(401, f'{{"error": "bad key {KEY}"}}'),), 1, Unreachable, "HTTP 401 Unauthorized: bad key ***", ""),
    "not found": ((says(404, '{"error":{"message":"no qwen3"}}'),), 1, UnknownModel, "url and model", ""),
    "redirect": ((says(302, "", Location="/other"),), 1, Unreachable, "HTTP 302", ""),
    "refused": ((says(422, "bad field"),), 1, Unreachable, "bad field", ""),
    "HTML": ((says(502, "<html>" + "x" * 900),), 3, Unreachable, "HTTP 502 Bad Gateway: <html>xxx", ""),
    "another kind of server": ((says(200, "<html>hello"),), 1, Unreachable, "check the URL", ""),
    "empty": ((says(200, ""),), 1, Unreachable, "check the URL", ""),
    "no end": ((streams(piece("休息")),), 1, Unreachable, "ended before the reply did", "休息"),
    "no text within the tokens": ((streams(THOUGHT, piece(finish="length")),), 1, Unreachable, "max_new_tokens", ""),
    "withheld": ((streams(piece("休"), piece(finish="content_filter")),), 1, Unreachable, "content_filter", "休"),
    "error inside": ((streams(piece("休"), {"error": {"message": "out of memory"}}),), 1, Unreachable, "out of memory", "休"),
    "error event": ((streams("event: error\n", {"message": "crashed"}),), 1, Unreachable, "crashed", ""),
    "too long, inside": ((streams({"error": {"message": "context length exceeded"}}),), 1, TooLong, "shorten", ""),
    "silence": ((streams(piece("休"), 1.0),), 1, Unreachable, "0.3 s", "休"),
    "dies": ((lambda handler: handler.connection.close(),), 1, Unreachable, "connection failed", ""),
}  # fmt: skip


@pytest.mark.parametrize("way", FAILURES)
def test_a_failure_is_told_and_tried_again_only_where_nothing_is_under_way(way):
    answers, requests, kind, words, text = FAILURES[way]
    with serving(*answers) as server:
        found = asked(server.url)
    assert (len(server.heard), found.text) == (requests, text)
    assert type(found.error) is (kind or type(None)) and words in str(found.error or "")
    if kind:
        assert KEY not in str(found.error) and len(str(found.error)) < 500


def test_a_length_that_is_not_reached_is_a_broken_connection():
    with serving(says(200, json.dumps(piece("休")), Content_Length="5000")) as server:
        found = asked(server.url)
    assert isinstance(found.error, Unreachable) and len(server.heard) == 1


def test_no_answer_at_all_is_not_asked_for_again():
    with serving(streams(1.0, piece("晚", "stop"))) as server:
        found = asked(server.url, patience=replace(QUICK, first=0.2))
    assert isinstance(found.error, Unreachable) and "0.2 s" in str(found.error) and len(server.heard) == 1


def test_a_reply_that_trickles_in_has_an_end():
    with serving(streams(*[piece("。"), 0.05] * 100)) as server:
        found = asked(server.url, patience=replace(QUICK, whole=0.4))
    assert isinstance(found.error, Unreachable) and "0.4 s" in str(found.error) and set(found.text) == {"。"}


def test_nobody_there_is_tried_again(monkeypatch):
    pauses: list[float] = []
    really, here = asyncio.sleep, threading.get_ident()

    async def sleep(seconds: float) -> None:
        if threading.get_ident() != here:  # a page of another test that still runs in this process
            return await really(seconds)
        pauses.append(seconds)

    monkeypatch.setattr(wire.asyncio, "sleep", sleep)
    found = asked("http://127.0.0.1:9", patience=replace(QUICK, pause=1.0))
    assert isinstance(found.error, Unreachable) and "requests: 3" in str(found.error) and pauses == [1.0, 2.0]


@pytest.mark.parametrize("env", [{}, {"K": " "}, {"K": "钥匙"}])
def test_a_key_that_is_missing_is_told_by_its_variable(env):
    async def ask() -> None:
        async with aclosing(Remote([card("http://127.0.0.1:9")], env).stream("qwen", TALK, REMOTE)) as pieces:
            await anext(pieces)

    with pytest.raises(SettingsError, match="K") as told:
        asyncio.run(ask())
    assert "钥匙" not in str(told.value)


def test_the_key_is_nowhere_but_in_the_header(caplog):
    with caplog.at_level(logging.DEBUG), serving(says(401, KEY)) as server:
        found = asked(server.url)
        client = wire.Client(Endpoint(server.url, "x"), KEY)
    assert KEY not in "".join((str(found.error), str(found.kernel), caplog.text, repr(client), repr(card(server.url))))


# --- who leaves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_whoever_stops_ends_the_request_upstream(how):
    async def ask(url: str) -> None:
        remote = Remote([card(url)], {"K": KEY}, replace(QUICK, between=10.0))

        async def hear(one: bool) -> None:
            async with aclosing(remote.stream("qwen", TALK, REMOTE)) as pieces:
                async for item in pieces:
                    if item.text and one:
                        return
                    if item.text:
                        first.set()

        first = asyncio.Event()
        if how == "close":
            await hear(True)
        else:
            task = asyncio.ensure_future(hear(False))
            await first.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert await asyncio.to_thread(server.left.wait, 10)

    with serving(streams(*[piece("休"), 0.01] * 2000)) as server:
        asyncio.run(ask(server.url))


# --- as a backend -----------------------------------------------------------------------------------------------------


def test_it_answers_for_its_cards_and_loads_nothing():
    remote = Remote([card("http://host.example/v1")], {})
    assert [known.name for known in remote.models()] == ["qwen"] and remote.loaded("qwen")
    assert remote.kernel("qwen") == "host.example"
    remote.prepare("qwen")
    with pytest.raises(UnknownModel):
        remote.kernel("other")
    with pytest.raises(BadInput, match="qwen"):
        remote.kernel("qwen@8")


def test_one_client_serves_a_loop():
    async def ask(url: str) -> None:
        for _ in range(2):
            async with aclosing(remote.stream("qwen", TALK, REMOTE)) as pieces:
                assert [item.finish async for item in pieces][-1] == "stop"
        (clients,) = remote.clients.values()
        assert list(clients) == ["qwen"]

    with serving(GOOD) as server:
        remote = Remote([card(server.url)], {"K": KEY}, QUICK)
        for _ in range(2):  # a loop of its own each
            asyncio.run(ask(server.url))

"""What one visitor may ask: counted by who they are behind a proxy, refused with when to come again, and forgotten."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from gradio.context import LocalContext

from bianque.api import openai as v1
from bianque.api.limits import WINDOW, Limits, address_of
from bianque.errors import Busy
from bianque.settings import Settings
from tests.api.test_leftovers import until
from tests.conftest import afresh, serving

SAID = [{"role": "user", "content": "头痛"}]


def request(peer: str, forwarded: str | None = None):
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return SimpleNamespace(client=SimpleNamespace(host=peer), headers=headers)


@pytest.mark.parametrize("peer, forwarded, who", [
    ("8.8.8.8", None, "8.8.8.8"), ("8.8.8.8", "9.9.9.9", "8.8.8.8"),  # nobody's proxy: what it says is not believed
    ("10.0.0.7", "8.8.8.8", "8.8.8.8"), ("10.0.0.7", "1.1.1.1, 8.8.8.8", "8.8.8.8"),
    ("10.0.0.7", "1.1.1.1, 8.8.8.8, 10.1.2.3", "8.8.8.8"), ("127.0.0.1", None, "127.0.0.1"),
    ("10.0.0.7", "nonsense, ", "10.0.0.7"), ("10.0.0.7", "10.0.0.9", "10.0.0.7"),
    ("10.0.0.7", "2001:4860:4860::8888", "2001:4860:4860::/64"), ("2001:4860:4860::1", None, "2001:4860:4860::/64"),
])  # fmt: skip
def test_a_visitor_is_who_the_proxy_saw(peer, forwarded, who):
    assert address_of(request(peer, forwarded)) == who


def test_nobody_in_particular_is_one_visitor():
    assert address_of(None) == "" and address_of(SimpleNamespace(client=None, headers={})) == ""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def come():
    """Sets who asks."""
    before = LocalContext.request.get(None)
    yield lambda host: LocalContext.request.set(request(host))
    LocalContext.request.set(before)


def test_requests_a_minute(come):
    clock = Clock()
    limits = Limits(per_minute=2, clock=clock)
    come("8.8.8.8")
    for _ in range(2):
        with limits.admit():
            clock.now += 10
    with pytest.raises(Busy, match="40 秒") as caught, limits.admit():
        pass
    assert caught.value.retry_after == 40
    come("9.9.9.9")
    with limits.admit():
        pass
    come("8.8.8.8")
    clock.now += 40
    with limits.admit():
        pass


def test_replies_at_once(come):
    limits = Limits(at_once=3)
    come("8.8.8.8")
    with ExitStack() as held:
        held.enter_context(limits.admit(2))
        with pytest.raises(Busy), limits.admit(2):
            pass
        with limits.admit(1):
            pass
    with limits.admit(4):  # more than that at once, if alone: a comparison has its columns
        pass


def test_tokens_a_minute(come):
    clock = Clock()
    limits = Limits(tokens=100, clock=clock)
    come("8.8.8.8")
    with pytest.raises(OSError), limits.admit(tokens=lambda: 60):
        raise OSError  # what was written until then counts
    clock.now += 10
    with limits.admit(tokens=lambda: 60):
        pass
    with pytest.raises(Busy, match="50 秒") as caught, limits.admit():
        pass
    assert caught.value.retry_after == 50
    clock.now += 50
    with limits.admit():
        pass


def test_tokens_a_minute_count_through_every_door():
    limits = Limits(tokens=20)
    doors = {
        "chat": chat, "page": sent_by_the_page, "v1": completion, "v1, streamed": partial(completion, stream=True),
    }  # fmt: skip
    with serving(Settings(), limits=limits) as (url, voices):
        afresh(voices).pause = 0.0
        for place, (name, knock) in enumerate(doors.items()):
            who = f"8.8.8.{place + 1}"
            first, second = knock(url, who), knock(url, who)
            assert "BQ_BUSY" not in first and sum(n for _, n in limits.visitors[who].written) >= 20, name
            assert "BQ_BUSY" in second or "tokens a minute" in second, name


def chat(url: str, who: str) -> str:
    call = {"message": "头痛", "mode": "advise"}
    event = httpx.post(f"{url}gradio_api/call/v2/chat_once", json=call, headers={"x-forwarded-for": who}).json()[
        "event_id"
    ]
    return httpx.get(f"{url}gradio_api/call/chat_once/{event}", timeout=30).text


def completion(url: str, who: str, stream: bool = False) -> str:
    body = {"model": "advise", "messages": SAID, "stream": stream}
    answer = httpx.post(f"{url}v1/chat/completions", json=body, headers={"x-forwarded-for": who}, timeout=60)
    if answer.status_code == 429:
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    return answer.text


def sent_by_the_page(url: str, who: str) -> str:
    """A message of the page's own box, and all that the page is told."""
    config = httpx.get(f"{url}config", timeout=60).json()
    place, event = next(
        (i, e) for i, e in enumerate(config["dependencies"]) if e["api_name"] == "send" or "submit" in str(e["targets"])
    )
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    box = event["targets"][0][0]
    given = ["头痛，直接给我建议吧" if part == box else values.get(part) for part in event["inputs"]]
    headers = {"x-forwarded-for": who}
    joined = {"session_hash": f"page{who}".replace(".", ""), "fn_index": place, "data": given}
    httpx.post(f"{url}gradio_api/queue/join", json=joined, headers=headers, timeout=60)
    return httpx.get(
        f"{url}gradio_api/queue/data", params={"session_hash": joined["session_hash"]}, headers=headers, timeout=60
    ).text


def test_a_failed_reply_frees_its_place_and_a_quiet_visitor_is_forgotten(come):
    clock = Clock()
    limits = Limits(per_minute=5, at_once=1, clock=clock)
    come("8.8.8.8")
    for _ in range(2):
        with pytest.raises(OSError), limits.admit():
            raise OSError
    for last in range(100):
        come(f"8.8.4.{last}")
        clock.now += WINDOW / 10
        with limits.admit():
            pass
    assert len(limits.visitors) <= 12 and "8.8.8.8" not in limits.visitors


def test_what_a_space_limits_and_others_do_not():
    assert (Settings.read({}).requests_per_minute, Settings.read({}).streams) == (0, 0)
    shared = Settings.read({"SYSTEM": "spaces", "BIANQUE_STREAMS": "3"})
    assert (shared.requests_per_minute, shared.streams) == (60, 3)


@pytest.fixture(scope="module")
def limited():
    with serving(Settings(), limits=Limits(at_once=1)) as found:
        yield found


def test_a_second_stream_is_told_when_to_come_again(limited):
    url, voices = limited
    afresh(voices)
    voices.advises, voices.pause = ["好。" * 1500], 0.01
    given = {"model": "advise-mini", "messages": SAID}
    with openai.OpenAI(base_url=f"{url}v1", api_key="any", max_retries=0) as client:
        stream = client.chat.completions.create(**given, stream=True)
        next(iter(stream))
        for again in (True, False):
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(**given, stream=again)
            assert caught.value.code == "BQ_BUSY" and int(caught.value.response.headers["retry-after"]) > 0
        other = client.chat.completions.create(
            **given, max_tokens=1, stream=True, extra_headers={"x-forwarded-for": "8.8.8.8"}
        )
        assert next(iter(other)).id  # another visitor of the same proxy
        stream.close()
        other.close()
        until(lambda: len(voices.closed) == 2)
        voices.advises, voices.pause = ["好。"], 0
        assert client.chat.completions.create(**given).choices[0].message.content == "好。"


def test_the_endpoints_count_with_v1():
    with serving(Settings(), limits=Limits(per_minute=1)) as (url, voices):
        afresh(voices)
        assert "event: complete" in chat(url, "8.8.8.8")
        told = chat(url, "8.8.8.8")
        assert "event: error" in told and "BQ_BUSY" in told and "event: complete" in chat(url, "9.9.9.9")
        body = {"model": "auto", "messages": SAID}
        statuses = [
            httpx.post(f"{url}v1/chat/completions", json=body, headers={"x-forwarded-for": who}).status_code
            for who in ("8.8.8.8", "9.9.9.9", "7.7.7.7")
        ]
        assert statuses == [429, 429, 200]


def test_a_reader_who_does_not_read_ends_the_reply(limited, monkeypatch):
    monkeypatch.setattr(v1, "SLOWEST", 0.3)
    url, voices = limited
    afresh(voices)
    voices.advises, voices.pause = ["好。" * 30_000], 0.0
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", urlsplit(url).port))
        body = json.dumps({"model": "advise-mini", "messages": SAID, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        line.sendall(head + body)
        until(lambda: voices.closed == ["advise-mini"] and voices.written < 60_000)

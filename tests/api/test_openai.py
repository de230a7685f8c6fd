"""`/v1` as real clients use it: openai-python, openai-js and curl against the running page; the lines of a stream as they are."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from gradio.context import LocalContext
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from bianque.api import openai as v1
from bianque.api.openai_request import RULE
from bianque.api.openai_wire import FINGERPRINT
from bianque.catalog.builtin import CARDS
from bianque.consult import alarms
from bianque.consult.session import Notice, Session
from bianque.errors import Busy, Interrupted, LoadFailed, OutOfMemory, Unreachable
from bianque.settings import Settings
from tests.api.test_leftovers import until
from tests.conftest import ADVICE, QUESTIONS, Scripted, afresh, serving

KEY = "sk-秘密-7f3a"
SAID = [{"role": "user", "content": "我最近总是头痛"}]
LONG = "建议您先休息。" * 2000


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}v1", api_key="any", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def locked():
    """Another page: behind a proxy's path, with a key, on a machine that can run two of the cards."""
    with serving(Settings(api_key=KEY), can_run=lambda name: name.endswith("mini"), root_path="/bq") as (
        address,
        voices,
    ):
        afresh(voices)
        # behind a proxy Gradio tells the address that the outside sees
        yield address.removesuffix("bq/").rstrip("/") + "/", voices


def post(url: str, **fields) -> httpx.Response:
    return httpx.post(f"{url}v1/chat/completions", json={"model": "auto", "messages": SAID} | fields, timeout=30)


def events(answer: httpx.Response) -> list[dict]:
    lines = [line for line in answer.text.split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_the_models_are_the_modes_and_the_cards(client):
    names = [found.id for found in client.models.list()]
    assert names == ["auto", "ask", "advise", *(card.name for card in CARDS)]
    assert client.models.retrieve("auto").owned_by == "bianque"
    assert client.models.retrieve("bianque-2@8").owned_by == "scutcyr"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-5")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_reply_in_one_piece(client):
    found = client.chat.completions.create(model="auto", messages=SAID)
    assert found.choices[0].message.content == QUESTIONS[0] and found.choices[0].finish_reason == "stop"
    assert found.usage.completion_tokens == len(QUESTIONS[0]) and found.model == "auto"
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert found.model_extra["bianque"] == {
        "phase": "asking", "model": "ask-mini", "notice": None, "handoff": None, "ignored": [],
    }  # fmt: skip
    assert found.id.startswith("chatcmpl-") and found.system_fingerprint


def test_a_consultation_carried_by_messages_alone_asks_and_then_advises(client):
    messages, phases = [], []
    for told in ("我最近总是头痛", "三天了", "后脑勺", "没有", "直接给我建议吧"):
        messages.append({"role": "user", "content": told})
        found = client.chat.completions.create(model="auto", messages=messages)
        messages.append({"role": "assistant", "content": found.choices[0].message.content})
        phases.append(found.model_extra["bianque"]["phase"])
    assert phases == ["asking"] * 4 + ["advising"]
    assert [turn["content"] for turn in messages[1::2]] == [*QUESTIONS, ADVICE]
    assert found.model_extra["bianque"]["handoff"] == {"from": "ask-mini", "to": "advise-mini", "reason": "requested"}


def test_the_lines_of_a_stream(url, script):
    """Clients elsewhere break on any of this: a changing id, usage beside choices, no last finish_reason, no [DONE]."""
    script.advises = ["好。"]
    answer = post(url, model="advise-mini", stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines, head = answer.text.split("\n\n"), json.loads(answer.text.split("\n\n")[0][6:])
    same = {
        "id": head["id"], "object": "chat.completion.chunk", "created": head["created"], "model": "advise-mini",
        "system_fingerprint": FINGERPRINT,
    }  # fmt: skip
    told = {"bianque": {"phase": "advising", "model": "advise-mini", "notice": None, "handoff": None, "ignored": []}}
    part = lambda delta, finish=None: same | {
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], "usage": None, **told
    }  # fmt: skip
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    golden = [
        part({"role": "assistant", "content": ""}), part({"content": "好"}), part({"content": "。"}), part({}, "stop"),
        same | {"choices": [], "usage": usage, **told},
    ]  # fmt: skip
    assert lines == ["data: " + json.dumps(line, ensure_ascii=False, separators=(",", ":")) for line in golden] + [
        "data: [DONE]", "",
    ]  # fmt: skip


def test_every_chunk_is_one_of_openais_own(url, client):
    for fields in (
        {},
        {"stream_options": {"include_usage": True}},
        {"messages": [{"role": "user", "content": "我不想活了"}]},
    ):
        for chunk in events(post(url, stream=True, **fields)):
            ChatCompletionChunk.model_validate(chunk, strict=False)
            assert ("usage" in chunk) == ("stream_options" in fields)
    ChatCompletion.model_validate(post(url, n=2).json())
    with client.chat.completions.stream(model="ask", messages=SAID) as stream:
        assert stream.get_final_completion().choices[0].message.content


def test_several_choices_each_with_a_seed_of_its_own(client, script):
    script.advises = ["甲", "乙", "丙"]
    found = client.chat.completions.create(model="advise-mini", messages=SAID, n=3, seed=7)
    assert sorted(choice.message.content for choice in found.choices) == ["丙", "乙", "甲"]
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert sorted(sampling.seed for _, _, sampling in script.heard) == [7, 8, 9]
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (1, 3)


def test_sampling_and_stop_reach_the_models_of_a_mode_and_a_card(client, script):
    for name in ("advise", "advise-mini@8"):
        client.chat.completions.create(
            model=name, messages=SAID, temperature=0.2, max_tokens=9, stop=["。", "x"], top_p=0
        )
        model, _, sampling = script.heard[-1]
        assert model == {"advise": "advise-mini"}.get(name, name)
        assert (sampling.temperature, sampling.max_new_tokens, sampling.top_p) == (0.2, 9, 0.01)
        assert sampling.stop[-2:] == ("。", "x")


def test_a_notice_is_the_first_text_and_no_part_of_what_comes_back(client, script):
    said = {"role": "user", "content": "我胸口剧痛，出冷汗，喘不上气"}
    notice = alarms.check(said["content"])
    for name in ("auto", "ask", "advise"):
        found = client.chat.completions.create(model=name, messages=[said])
        content = found.choices[0].message.content
        assert content.startswith(notice.text) and content.split(RULE)[1]
        told = found.model_extra["bianque"]["notice"]
        assert (told["level"], told["text"]) == (notice.level, notice.text)
    stream = client.chat.completions.create(model="advise", messages=[said], stream=True)
    assert [chunk.choices[0].delta.content for chunk in stream][1] == content.split(RULE)[0] + RULE
    messages = [said, {"role": "assistant", "content": content}, {"role": "user", "content": "左边"}]
    client.chat.completions.create(model="advise-mini", messages=messages)
    assert [turn.content for turn in script.heard[-1][1]] == [said["content"], content.split(RULE)[1], "左边"]


def test_a_notice_is_told_although_nobody_can_answer(client, monkeypatch):
    async def reply(session, history, message, choices):
        yield Notice("crisis", "请拨打 12356。", do="请不要独处。")
        raise Busy("人多")

    monkeypatch.setattr(Session, "reply", reply)
    found = client.chat.completions.create(model="auto", messages=SAID)
    assert found.choices[0].message.content == "请拨打 12356。\n请不要独处。" + RULE
    assert found.model_extra["bianque"]["error"] == {"code": "BQ_BUSY", "message": "人多"}
    heard = ""
    with pytest.raises(openai.APIError, match="人多"):
        for chunk in client.chat.completions.create(model="auto", messages=SAID, stream=True):
            heard += chunk.choices[0].delta.content or ""
    assert "12356" in heard


def test_a_system_text_is_left_out_and_said_so(client, script):
    messages = [{"role": "system", "content": "You are a pirate"}, *SAID]
    found = client.chat.completions.create(model="auto", messages=messages, user="me")
    assert found.model_extra["bianque"]["ignored"] == ["system", "user"]
    assert [turn.content for turn in script.heard[-1][1]] == [SAID[0]["content"]]


ERRORS = [
    (Busy("人多"), 429, openai.RateLimitError, "BQ_BUSY"),
    (LoadFailed("模型不在"), 503, openai.InternalServerError, "BQ_LOAD_FAILED"),
    (Unreachable("连不上"), 502, openai.InternalServerError, "BQ_UNREACHABLE"),
    (Interrupted("断了"), 503, openai.InternalServerError, "BQ_INTERRUPTED"),
    (OutOfMemory("内存不够"), 503, openai.InternalServerError, "BQ_NO_MEMORY"),
    (OSError("/srv/secret"), 500, openai.InternalServerError, "BQ_INTERNAL"),
]


@pytest.mark.parametrize("error, status, kind, code", ERRORS)
def test_a_failure_has_its_own_status_also_of_a_stream(client, script, error, status, kind, code):
    script.fails = error
    for stream in (False, True):
        with pytest.raises(kind) as caught:
            client.chat.completions.create(model="auto", messages=SAID, stream=stream)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert "secret" not in str(caught.value)
        assert ("retry-after" in caught.value.response.headers) == (status == 429)


@pytest.mark.parametrize("fields, status, param, code", [
    ({"model": "gpt-5"}, 404, "model", "model_not_found"), ({"model": "advise-mini@7"}, 400, "model", "BQ_BAD_INPUT"),
    ({"messages": [{"role": "user", "content": " "}]}, 400, "messages", "BQ_BAD_INPUT"),
    ({"messages": [{"role": "user", "content": "长" * 8001}]}, 400, "messages", "BQ_BAD_INPUT"),
    ({"messages": [{"role": r, "content": "长" * 8000} for r in ["user", "assistant"] * 13] + SAID}, 400, "messages",
     "context_length_exceeded"),
    ({"temperature": 9}, 400, "temperature", "BQ_BAD_INPUT"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format", "unsupported_parameter"),
])  # fmt: skip
def test_what_cannot_be_answered_is_named(url, fields, status, param, code):
    for stream in (False, True):
        answer = post(url, stream=stream, **fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
        assert error["type"] == "invalid_request_error" and error["message"]


def test_every_answer_below_v1_is_json(url):
    call = f"{url}v1/chat/completions"
    for body in (b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"seed": ' + b"9" * 9999 + b"}"):
        assert httpx.post(call, content=body).json()["error"]["type"] == "invalid_request_error"
    large = httpx.post(call, content=b" " * (v1.LARGEST_BODY + 1))
    assert (large.status_code, large.json()["error"]["code"]) == (400, "context_length_exceeded")
    for method, path, status in (
        ("GET", "chat/completions", 405), ("DELETE", "models", 405), ("POST", "responses", 404), ("GET", "", 404),
        ("POST", "models/auto", 405),
    ):  # fmt: skip
        answer = httpx.request(method, f"{url}v1/{path}")
        assert answer.status_code == status and answer.json()["error"]["message"]


def test_an_address_without_v1_or_with_a_slash_serves_too(url):
    body = {"model": "auto", "messages": SAID}
    for path in ("chat/completions", "chat/completions/", "v1/chat/completions/"):
        assert httpx.post(url + path, json=body).json()["choices"]
    assert httpx.get(f"{url}models").json() == httpx.get(f"{url}v1/models/").json()


def test_an_error_in_the_middle_ends_the_stream_after_what_came(url, client, script):
    class Torn(str):
        def __iter__(self):
            yield from "建议"
            raise LoadFailed("断了")

    script.advises = [Torn("建议")]
    heard = ""
    with pytest.raises(openai.APIError, match="断了") as caught:
        for chunk in client.chat.completions.create(model="advise-mini", messages=SAID, stream=True):
            heard += chunk.choices[0].delta.content or ""
    assert heard == "建议" and caught.value.code == "BQ_LOAD_FAILED"
    script.advises = [Torn("建议")]
    assert post(url, model="advise-mini", stream=True).text.endswith("data: [DONE]\n\n")


def test_a_long_load_is_told_in_comments_that_clients_skip(url, client, script, monkeypatch):
    monkeypatch.setattr(v1, "PATIENCE", 0.0)
    monkeypatch.setattr(v1, "SILENCE", 0.0)
    script.loading = 1.2
    answer = post(url, model="advise-mini", stream=True)
    assert answer.text.startswith(": loading 50%\n\n") and events(answer)[1]["choices"][0]["delta"]["content"]
    script.heard.clear()
    stream = client.chat.completions.create(model="advise-mini", messages=SAID, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == ADVICE


def closed_early(script: Scripted) -> bool:
    return script.closed == ["advise-mini"] and script.written < len(LONG)


def test_whoever_leaves_stops_the_reply(url, client, script):
    script.advises, script.pause = [LONG], 0.005
    with client.chat.completions.create(model="advise-mini", messages=SAID, stream=True) as stream:
        next(iter(stream))
    until(lambda: closed_early(script))
    script.closed.clear()
    line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    body = json.dumps({"model": "advise-mini", "messages": SAID, "n": 1})
    line.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    written = script.written
    until(lambda: script.written > written)
    line.close()
    until(lambda: closed_early(script))


def test_several_at_once_do_not_mix(url, script):
    script.asks, script.pause = ["请问头痛多久了？"], 0.01

    async def one(client: openai.AsyncOpenAI, place: int) -> tuple[str, int]:
        stream = await client.chat.completions.create(model="ask", messages=SAID, stream=True, seed=place)
        found = [chunk async for chunk in stream]
        return "".join(chunk.choices[0].delta.content or "" for chunk in found), len({chunk.id for chunk in found})

    async def all_of() -> list[tuple[str, int]]:
        async with openai.AsyncOpenAI(base_url=f"{url}v1", api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(one(client, place) for place in range(8)))

    assert asyncio.run(all_of()) == [("请问头痛多久了？", 1)] * 8
    assert sorted(sampling.seed for _, _, sampling in script.heard) == list(range(8))


def test_a_zero_gpu_finds_the_visitor_whose_share_is_used(url, monkeypatch):
    found = []
    seen = lambda voices, model: found.append(LocalContext.request.get().headers["x-ip-token"])
    monkeypatch.setattr(Scripted, "prepare", seen)
    for stream in (False, True):
        body = {"model": "auto", "messages": SAID, "stream": stream}
        httpx.post(f"{url}v1/chat/completions", json=body, headers={"x-ip-token": "mine"})
    assert found == ["mine"] * 2


def test_a_key_is_asked_for_and_told_to_nobody(locked, caplog):
    url, voices = locked
    caplog.set_level(logging.DEBUG)
    body = {"model": "auto", "messages": SAID}
    right = [{"Authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"Authorization": "Bearer hub", "x-api-key": KEY}]
    wrong = [{}, {"Authorization": f"Basic {KEY}"}, {"Authorization": f"Bearer {KEY}x"}, {"x-api-key": ""}]
    spoken = len(voices.heard)
    for headers in [{name: value.encode() for name, value in given.items()} for given in wrong]:
        for answer in (
            httpx.post(f"{url}v1/chat/completions", json=body, headers=headers),
            httpx.get(f"{url}v1/models", headers=headers),
            httpx.get(f"{url}v1/nothing", headers=headers),
        ):
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
            assert KEY not in answer.text
    assert len(voices.heard) == spoken
    for headers in [{name: value.encode() for name, value in given.items()} for given in right]:
        answer = httpx.post(f"{url}v1/chat/completions", json=body, headers=headers)
        assert answer.is_success and KEY not in answer.text
    assert KEY not in repr(Settings(api_key=KEY)) and "7f3a" not in caplog.text
    assert httpx.get(url).is_success and KEY not in httpx.get(f"{url}config").text


def test_behind_a_path_both_addresses_serve_what_can_run_there(locked):
    url, _ = locked
    for path in ("v1/models", "bq/v1/models"):
        answer = httpx.get(url + path, headers={"x-api-key": KEY.encode()})
        assert [model["id"] for model in answer.json()["data"]] == ["auto", "ask", "advise", "ask-mini", "advise-mini"]


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_with_curl(url):
    body = json.dumps({"model": "auto", "messages": SAID, "stream": True}, ensure_ascii=False)
    call = ["curl", "-sN", f"{url}v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
    told = subprocess.run(call, capture_output=True, text=True, timeout=60).stdout
    assert told.count('"content":') == len(QUESTIONS[0]) + 1 and told.endswith("data: [DONE]\n\n")


JS = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any", maxRetries: 0 });
const messages = [{ role: "user", content: [{ type: "text", text: "我最近总是头痛" }] }];
const names = [];
for await (const model of client.models.list()) names.push(model.id);
const first = await client.chat.completions.create({ model: "auto", messages });
let text = "";
for await (const chunk of await client.chat.completions.create({ model: "auto", messages, stream: true }))
  text += chunk.choices[0]?.delta?.content ?? "";
const error = await client.chat.completions.create({ model: "gpt-5", messages }).catch((error) => error);
console.log(JSON.stringify({ names, first: first.choices[0].message.content, phase: first.bianque.phase, text,
  error: [error.constructor.name, error.status, error.code, error.param] }));
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed")
def test_with_openai_js(url, tmp_path: Path):
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", "openai@6"]
    try:
        installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm gives no answer here")
    if installed.returncode:
        pytest.skip("npm cannot install openai here")
    (tmp_path / "talk.mjs").write_text(JS, encoding="utf-8")
    done = subprocess.run(["node", "talk.mjs", f"{url}v1"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["names"][:3] == ["auto", "ask", "advise"] and told["phase"] == "asking"
    assert (told["first"], told["text"]) == (QUESTIONS[0], QUESTIONS[1])
    assert told["error"] == ["NotFoundError", 404, "model_not_found", "model"]

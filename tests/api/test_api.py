"""The public endpoints as a developer calls them: Python client, curl, plain routes; shapes held by a snapshot."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from bianque.catalog.builtin import CARDS
from bianque.errors import Busy, LoadFailed

SNAPSHOT = Path(__file__).parent / "api_snapshot.json"


@pytest.fixture
def client(url):
    found = Client(url, verbose=False)
    yield found
    found.close()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_the_api_is_what_was_promised(url):
    """To change the API on purpose, write the new answer of /gradio_api/info into the snapshot."""
    info = get(f"{url}gradio_api/info")
    for endpoint in info["named_endpoints"].values():
        del endpoint["code_snippets"]  # they hold this server's port
    assert info == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_consultation_from_python(client):
    first = client.predict("我最近总是头痛", api_name="/chat_once")
    assert first["phase"] == "asking" and first["reply"] == "请问头痛多久了？" and first["model"] == "ask-mini"
    assert first["finish_reason"] == "stop" and first["handoff"] is None and "人工智能生成" in first["label"]
    assert first["usage"]["completion_tokens"] > 0 and first["timing"]["total_ms"] > 0
    parts = list(client.submit("直接给我建议吧", history=first["messages"], api_name="/chat"))
    assert all(late["reply"].startswith(early["reply"]) for early, late in itertools.pairwise(parts))
    last = parts[-1]
    assert last["phase"] == "advising" and last["finish_reason"] == "stop"
    assert last["handoff"] == {"from": "ask-mini", "to": "advise-mini", "reason": "requested"}
    assert [turn["role"] for turn in last["messages"]] == ["user", "assistant"] * 2


def test_a_notice_reaches_the_client(client):
    reply = client.predict("我不想活了", api_name="/chat_once")
    assert reply["notice"]["level"] == "crisis" and "12356" in reply["notice"]["text"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        ({"message": "  "}, "BQ_BAD_INPUT", "空"),
        ({"message": "头痛", "mode": "zzz"}, "BQ_BAD_INPUT", "zzz"),
        ({"message": "头痛", "ask_model": "bianqe-2"}, "BQ_UNKNOWN_MODEL", "bianqe-2"),
        ({"message": "头痛", "temperature": 9}, "BQ_BAD_INPUT", "temperature"),
        ({"message": "头痛", "max_new_tokens": "abc"}, "BQ_BAD_INPUT", "max_new_tokens"),
        ({"message": "头痛", "seed": -1}, "BQ_BAD_INPUT", "seed"),
        ({"message": "头痛", "history": [{"role": "doctor", "content": "x"}]}, "BQ_BAD_INPUT", "history[0].role"),
        ({"message": "头痛", "history": "x"}, "BQ_BAD_INPUT", "history"),
    ],
)
def test_a_wrong_argument_is_named(client, arguments, code, names):
    for endpoint in ("/chat_once", "/chat"):
        with pytest.raises(AppError) as caught:
            client.predict(**arguments, api_name=endpoint)
        assert caught.value.title == code and names in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code"),
    [(LoadFailed("模型不在"), "BQ_LOAD_FAILED"), (Busy("人多"), "BQ_BUSY"), (OSError("/srv/secret"), "BQ_INTERNAL")],
)
def test_a_failure_has_a_code_and_shows_no_path(client, script, error, code):
    script.fails = error
    with pytest.raises(AppError) as caught:
        client.predict("头痛", api_name="/chat_once")
    assert caught.value.title == code and "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_summary_for_the_doctor(client):
    first = client.predict("咳嗽三天了，没有发烧", api_name="/chat_once")
    page = client.predict(history=first["messages"], api_name="/summary")
    assert [quote["text"] for quote in page["sections"]["duration"]] == ["咳嗽三天了"]
    assert page["sections"]["denied"][0] == {"text": "没有发烧", "turn": 0, "question": "", "cut": False}
    assert page["markdown"].startswith("# 就诊小结") and page["html"].startswith("<!DOCTYPE html>")
    for wrong, named in (({"history": []}, "没有对话"), ({"history": first["messages"], "lang": "fr"}, "lang='fr'")):
        with pytest.raises(AppError, match=named) as caught:
            client.predict(**wrong, api_name="/summary")
        assert caught.value.title == "BQ_BAD_INPUT"


BOTH = ["ask", "advise-mini:temperature=0.2"]


@pytest.mark.slow
def test_a_comparison_streams_every_column(client, script):
    script.asks, script.advises, script.pause = ["请问头痛多久了？" * 4], ["建议您先休息。" * 4], 0.05
    call = client.submit("我最近总是头痛", contenders=BOTH, seed=7, api_name="/compare")
    parts = [part["columns"] for part in call]
    assert any(a["reply"] and b["reply"] and not a["finish_reason"] and not b["finish_reason"] for a, b in parts)
    for early, late in itertools.pairwise(parts):
        assert all(b["reply"].startswith(a["reply"]) for a, b in zip(early, late, strict=True))
    last = call.result()
    assert [column["contender"] for column in last["columns"]] == BOTH and last["notice"] is None
    assert set(last["licences"]) == {"ask-mini", "advise-mini"} and "人工智能生成" in last["label"]
    for column, asks in zip(last["columns"], (True, False), strict=True):
        assert column["finish_reason"] == "stop" and column["error"] is None and column["asks"] is asks
        assert (
            column["kernel"] == "float32"
            and column["tokens_per_second"] > 0
            and column["length"] == len(column["reply"])
        )
        assert 0 < column["timing"]["first_token_ms"] <= column["timing"]["total_ms"]
    assert sorted((s.temperature, s.seed) for _, _, s in script.heard) == [(0.2, 7), (0.7, 7)]


def test_a_comparison_goes_on_from_each_columns_history_or_from_one(client, script):
    first = client.predict("头痛", contenders=BOTH, api_name="/compare")["columns"]
    client.predict("三天", contenders=BOTH, histories=[c["messages"] for c in first], api_name="/compare")
    heard = {model: [turn.content for turn in dialogue] for model, dialogue, _ in script.heard[-2:]}
    assert heard == {
        "ask-mini": ["头痛", first[0]["reply"], "三天"],
        "advise-mini": ["头痛", first[1]["reply"], "三天"],
    }
    client.predict("三天", contenders=BOTH, histories=first[0]["messages"], api_name="/compare")
    assert [len(dialogue) for _, dialogue, _ in script.heard[-2:]] == [3, 3]


def test_an_error_of_a_column_is_that_columns(client, script):
    script.fails = Busy("人多")
    columns = client.predict("头痛", contenders=["ask", {"name": "advise", "seed": 3.0}], api_name="/compare")
    assert [column["error"] for column in columns["columns"]] == [{"code": "BQ_BUSY", "text": "人多"}] * 2
    assert columns["notice"] is None and columns["columns"][1]["contender"] == "advise:seed=3"


def test_who_is_in_danger_gets_no_models_words(client, script):
    script.fails = Busy("人多")
    columns = client.predict("我不想活了", contenders=["ask", "advise"], api_name="/compare")
    assert columns["notice"]["level"] == "crisis" and [column["error"] for column in columns["columns"]] == [None] * 2


WRONG = [
    ({"contenders": ["auto"]}, "BQ_BAD_INPUT", "1 列"),
    ({"contenders": "auto"}, "BQ_BAD_INPUT", "contenders"),
    ({"contenders": ["auto", {"name": "ask", "temprature": 1}]}, "BQ_BAD_INPUT", "temprature"),
    ({"contenders": ["auto", "bianqe-2"]}, "BQ_UNKNOWN_MODEL", "bianqe-2"),
    ({"contenders": ["auto", "advise-mini@7"]}, "BQ_BAD_INPUT", "@7"),
    ({"message": " "}, "BQ_BAD_INPUT", "空"),
    ({"seed": -1}, "BQ_BAD_INPUT", "seed"),
    ({"histories": [[], [], []]}, "BQ_BAD_INPUT", "histories"),
    ({"histories": [[], [{"role": "x", "content": ""}]]}, "BQ_BAD_INPUT", "histories[1]"),
]


def test_a_wrong_comparison_is_refused(client):
    for arguments, code, names in WRONG:
        with pytest.raises(AppError) as caught:
            client.predict(**({"message": "头痛", "contenders": BOTH} | arguments), api_name="/compare")
        assert caught.value.title == code and names in str(caught.value), arguments


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_a_comparison_with_curl(url):
    call = f"{url}gradio_api/call/compare"
    sent = curl("-H", "Content-Type: application/json", "-d", json.dumps({"data": ["头痛", BOTH, None, 7]}), call)
    answer = curl("-N", f"{call}/{json.loads(sent)['event_id']}")
    last = json.loads(answer.rsplit("data: ", 1)[1].splitlines()[0])[0]
    assert "event: complete" in answer and [column["phase"] for column in last["columns"]] == ["asking", "advising"]


def test_models_lists_the_cards(client):
    cards = client.predict(api_name="/models")
    assert [card["name"] for card in cards] == [card.name for card in CARDS]
    assert all(card["licence"] and card["bytes"] > 0 and card["loaded"] in (True, False) for card in cards)


@pytest.mark.slow
def test_probes_say_that_the_page_lives_and_who_answers(url, client, script):
    assert get(f"{url}healthz") == {"status": "ok"}
    pair = {"ask": {"name": "ask-mini", "loaded": False}, "advise": {"name": "advise-mini", "loaded": False}}
    assert get(f"{url}readyz") == {"status": "ready", **pair}
    client.predict("头痛", api_name="/chat_once")
    assert get(f"{url}readyz")["ask"]["loaded"] and not get(f"{url}readyz")["advise"]["loaded"]
    script.models = lambda: [card for card in CARDS if card.name != "advise-mini"]
    with pytest.raises(HTTPError) as refused:
        get(f"{url}readyz")
    told = json.load(refused.value)
    assert refused.value.code == 503 and told == {"status": "unavailable", "missing": ["advise-mini"]}
    assert get(f"{url}healthz") == {"status": "ok"}


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_a_consultation_with_curl(url):
    body = json.dumps({"data": ["我最近总是头痛", None, "auto", None, None, None, None, None, None]})
    call = f"{url}gradio_api/call/chat_once"
    sent = curl("-H", "Content-Type: application/json", "-d", body, call)
    answer = curl("-N", f"{call}/{json.loads(sent)['event_id']}")
    assert "event: complete" in answer
    reply = json.loads(answer.split("data: ", 1)[1].splitlines()[0])[0]
    assert reply["reply"] == "请问头痛多久了？" and reply["phase"] == "asking"


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "-s", "--max-time", "20", *arguments], capture_output=True, text=True).stdout

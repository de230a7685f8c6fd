"""Tools for agents, as the official client finds and calls them; and nothing of it where it is off."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import urllib.error
import urllib.request

import mcp
import pytest
from mcp.client.streamable_http import streamablehttp_client

from bianque.consult.session import Notice, Session
from bianque.errors import Busy
from bianque.settings import Settings
from tests.conftest import ADVICE, QUESTIONS, ROOT, afresh, serving

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mcp's own


@pytest.fixture(scope="module")
def offered():
    with serving(Settings(mcp=True), can_run=lambda name: name.endswith("mini")) as found:
        yield found


@pytest.fixture
def voices(offered):
    return afresh(offered[1])


@pytest.fixture
def agent(offered, voices):
    """Runs calls of a client: (tool, arguments) → results."""

    async def talk(calls, tools="") -> list:
        address = f"{offered[0]}gradio_api/mcp/{tools}"
        async with streamablehttp_client(address) as (read, write, _), mcp.ClientSession(read, write) as session:
            await session.initialize()
            if not calls:
                return (await session.list_tools()).tools
            return [await session.call_tool(name, arguments) for name, arguments in calls]

    return lambda *calls, **options: asyncio.run(talk(calls, **options))


def test_the_tools_and_what_they_take(agent):
    tools = {tool.name: tool for tool in agent()}
    assert list(tools) == ["consult", "models", "summary"]
    schema = tools["consult"].inputSchema
    assert list(schema["properties"]) == ["message", "history", "mode", "model"] and schema["required"] == ["message"]
    assert schema["properties"]["mode"]["enum"] == ["auto", "ask", "advise"]
    assert all(field["description"] for field in schema["properties"].values())
    assert tools["models"].inputSchema["properties"] == {}
    for word in ("doctor", "Chinese", "notice", "Returns: JSON"):
        assert word in tools["consult"].description


def test_a_consultation_carried_by_history(agent):
    history, phases = None, []
    for told in ("我最近总是头痛", "三天了", "直接给我建议吧"):
        arguments = {"message": told} | ({"history": history} if history else {})
        result = agent(("consult", arguments))[0]
        assert not result.isError
        found = json.loads(result.content[0].text)
        history = found["history"]
        phases.append((found["phase"], found["reply"]))
    assert phases == [("asking", QUESTIONS[0]), ("asking", QUESTIONS[1]), ("advising", ADVICE)]
    assert [turn["role"] for turn in history] == ["user", "assistant"] * 3 and found["notice"] is None


def test_one_model_answers_where_it_is_named(agent, voices):
    agent(("consult", {"message": "头痛", "model": "advise-mini"}), ("consult", {"message": "头痛", "mode": "ask"}))
    assert [model for model, _, _ in voices.heard] == ["advise-mini", "ask-mini"]


def test_a_red_flag_is_told_also_when_nobody_can_answer(agent, monkeypatch):
    async def reply(session, history, message, choices):
        yield Notice("crisis", "请拨打 12356。")
        raise Busy("人多")

    monkeypatch.setattr(Session, "reply", reply)
    result = agent(("consult", {"message": "我不想活了"}))[0]
    found = json.loads(result.content[0].text)
    assert not result.isError and found["notice"]["level"] == "crisis" and found["error"]["code"] == "BQ_BUSY"
    assert found["history"] == [{"role": "user", "content": "我不想活了"}]


def test_an_error_is_in_our_words(agent, voices):
    results = agent(
        ("consult", {"message": " "}), ("consult", {"message": "头痛", "model": "gpt-5"}),
        ("consult", {"message": "头痛", "mode": "zzz"}), ("consult", {}), ("nothing", {}),
        ("consult", {"message": "头痛", "history": [{"role": "user"}]}),
    )  # fmt: skip
    texts = [result.content[0].text for result in results]
    assert all(result.isError for result in results)
    words = ("BQ_BAD_INPUT: 消息是空的", "BQ_UNKNOWN_MODEL", "zzz", "message", "nothing", "history[0]")
    assert all(word in text for word, text in zip(words, texts, strict=True))
    voices.fails = OSError("/srv/secret")
    assert (
        "BQ_INTERNAL" in (text := agent(("consult", {"message": "头痛"}))[0].content[0].text) and "secret" not in text
    )


def test_a_summary_for_the_doctor_quotes_the_dialogue(agent):
    history = json.loads(agent(("consult", {"message": "我最近总是头痛，三天了"}))[0].content[0].text)["history"]
    result, empty = agent(("summary", {"history": history, "lang": "en"}), ("summary", {"history": []}))
    assert not result.isError and "头痛" in result.content[0].text
    assert empty.isError and "BQ_BAD_INPUT" in empty.content[0].text


def test_models_are_those_that_can_run_here(agent):
    found = json.loads(agent(("models", {}))[0].content[0].text)
    assert [card["name"] for card in found] == ["ask-mini", "advise-mini"] and all(card["licence"] for card in found)


def test_the_other_endpoints_are_no_tools_and_private_ones_cannot_be_called(offered, agent):
    with urllib.request.urlopen(f"{offered[0]}gradio_api/info", timeout=10) as answer:
        named = list(json.load(answer)["named_endpoints"])
    assert named[-3:] == ["/consult", "/agent_models", "/agent_summary"] and "/chat" in named
    for name in ("chat", "_on_load", "submit"):
        assert agent((name, {"message": "头痛"}))[0].isError


def test_without_the_package_the_page_starts_and_says_why(monkeypatch, caplog):
    found = importlib.util.find_spec
    monkeypatch.setattr("bianque.api.mcp.find_spec", lambda name: None if name == "mcp" else found(name))
    with serving(Settings(mcp=True)) as (address, _), pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{address}gradio_api/mcp/schema", timeout=10)
    assert "BIANQUE_MCP" in caplog.text and "pip install" in caplog.text


def test_the_client_of_the_readme_works(offered, voices, capsys):
    text = (ROOT / "bianque" / "api" / "README.md").read_text(encoding="utf-8")
    block = next(block for block in text.split("```py\n")[1:] if "streamablehttp_client" in block).split("```")[0]
    exec(block.replace("http://127.0.0.1:7860/", offered[0]), {})
    assert json.loads(capsys.readouterr().out)["reply"] == QUESTIONS[0]

"""This machine's models and those of servers elsewhere, side by side behind every door; and that it is said where words go."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from bianque.api import schemas
from bianque.arena import matchmaking, side_by_side
from bianque.arena.share import Setup, comparison_json, comparison_markdown
from bianque.backends.local import Local
from bianque.backends.remote import Remote
from bianque.backends.routed import Routed, open_backend
from bianque.catalog.builtin import CARDS
from bianque.cli.evaluate import judge_of
from bianque.consult import transcript
from bianque.consult.session import Done, Session, Speaking
from bianque.consult.spec import Choices, ModelSpec
from bianque.consult.transcript import Transcript
from bianque.data.formats import CorpusDialogue
from bianque.errors import BadInput, SettingsError, UnknownModel
from bianque.evaluate.evaluation import RunRequest, Source, evaluate
from bianque.evaluate.judge import Judge
from bianque.settings import Settings
from bianque.types import Message
from bianque.ui import about, column, render
from bianque.ui.arena import Arena
from bianque.ui.page import Page
from tests import tiny
from tests.backends.test_remote import DONE, KEY, QUICK, USAGE, card, piece, says, serving, streams
from tests.conftest import ROOT, Scripted

SAID = streams(
    piece("建议", model="qwen3-0728"), piece("您休息。"), piece(finish="stop"), {"choices": [], **USAGE}, DONE
)
LANGS = ("zh-CN", "zh-TW", "en", "ko")


@dataclass
class Place:
    """A session with the scripted cards and one whose server is elsewhere."""

    session: Session
    host: str

    @property
    def cards(self):
        return self.session.cards


def place(url: str, pair: tuple[str, str] = ("ask-mini", "advise-mini"), **facts: object) -> Place:
    remote = card(url, **facts)
    backend = Routed([Scripted(["多久了？"], ["休息。"]), Remote([remote], {"K": KEY}, QUICK)])
    return Place(Session(backend, *pair), remote.host or "")


def heard(session: Session, choices: Choices) -> Transcript:
    async def ask() -> Transcript:
        found = Transcript([], "我头痛", session.backend.kernel)
        async with aclosing(session.reply([], "我头痛", choices)) as events:
            async for event in events:
                found.apply(event)
        return found

    return asyncio.run(ask())


def test_each_card_is_answered_by_its_own_backend():
    with serving(SAID) as server:
        here = place(server.url)
        there = heard(here.session, Choices("advise", advise_model="qwen"))
        local = heard(here.session, Choices("advise"))
    assert (there.text, local.text) == ("建议您休息。", "休息。") and len(server.heard) == 1
    assert list(here.cards) == [*(known.name for known in CARDS), "qwen"]
    backend = here.session.backend
    assert backend.kernel("qwen") == f"{here.host} · qwen3-0728" and backend.kernel("advise-mini") == "float32"
    assert backend.loaded("qwen") and not backend.loaded("bianque-2")
    with pytest.raises(UnknownModel):
        backend.loaded("other")
    with pytest.raises(BadInput):
        backend.kernel("qwen@8")


def test_the_process_opens_what_its_settings_and_cards_say():
    known = (*CARDS, card("https://host.example/v1"))
    backend = open_backend(Settings(), known, ("qwen", "advise-mini")).backend
    assert (
        isinstance(backend, Routed)
        and isinstance(backend.of("qwen"), Remote)
        and isinstance(backend.of("bianque-2@8"), Local)
    )
    assert [held.name for held in backend.of("ask-mini").together] == ["advise-mini"]  # type: ignore[attr-defined]
    assert [known.name for known in backend.models()] == [*(known.name for known in CARDS), "qwen"]
    assert isinstance(open_backend(Settings(), CARDS).backend, Local)


def test_a_cluster_without_its_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "bianque.backends.ray", raising=False)
    with pytest.raises(SettingsError, match=r"requirements-cluster\.txt"):
        open_backend(Settings(cluster="auto"), CARDS)


def test_a_server_elsewhere_joins_battles_only_where_its_card_says_so():
    for arena in (False, True):
        found = open_backend(Settings(memory_gb=0.001), (*CARDS, card("https://host.example/v1", arena=arena)))
        session = Session(found.backend, "ask-mini", "advise-mini")
        names = [candidate.name for candidate in matchmaking.candidates(session, found.battles)]
        assert ("qwen" in names) is arena and "bianque-2" not in names
        assert found.runs("qwen") and not found.runs("bianque-2")


def test_it_stands_beside_a_local_model():
    async def ask(session: Session) -> list[Transcript]:
        specs = [ModelSpec("qwen"), ModelSpec("advise-mini")]
        columns = [Transcript([], "我头痛", session.backend.kernel, contender=spec.label) for spec in specs]
        async with aclosing(side_by_side.together(session, specs, [[], []], "我头痛")) as items:
            async for at, event in items:
                if at != side_by_side.EVERY:
                    columns[at].apply(event)
        return columns

    with serving(SAID) as server:
        here = place(server.url)
        columns = asyncio.run(ask(here.session))
    assert [found.text for found in columns] == ["建议您休息。", "休息。"]
    stats = columns[0].stats()
    assert (stats.tokens, stats.kernel) == (3, f"{here.host} · qwen3-0728")
    # what is taken along says where the words went
    setup, turns = Setup((ModelSpec("qwen"), ModelSpec("advise-mini"))), [found.turns for found in columns]
    for text in (comparison_json(setup, turns, here.cards), comparison_markdown(setup, turns, here.cards)):
        assert f"the words leave this machine, to {here.host}" in text and KEY not in text
    reply = schemas.compare_reply(setup.contenders, columns, None, here.session)
    assert here.host in reply["licences"]["qwen"] and reply["columns"][0]["kernel"] == stats.kernel


def test_a_failure_stands_in_its_column_and_what_came_stays():
    with serving(streams(piece("建议"), {"error": {"message": "crashed"}})) as server:
        here = place(server.url)

        async def ask() -> Transcript:
            found = Transcript([], "我头痛")
            specs = [ModelSpec("qwen"), ModelSpec("advise-mini")]
            async with aclosing(side_by_side.together(here.session, specs, [[], []], "我头痛")) as items:
                async for at, event in items:
                    if at == 0:
                        found.apply(event)
            return found

        found = asyncio.run(ask())
    assert found.text == "建议" and found.error and found.error.code == "BQ_UNREACHABLE"


def test_stopping_a_turn_ends_the_request_upstream():
    async def ask(session: Session) -> bool:
        async with aclosing(session.reply([], "我头痛", Choices("advise", advise_model="qwen"))) as events:
            async for event in events:
                if isinstance(event, Speaking):
                    break
        return await asyncio.to_thread(server.left.wait, 10)

    with serving(streams(*[piece("休"), 0.01] * 2000)) as server:
        assert asyncio.run(ask(place(server.url).session))


# --- it is said where words go ----------------------------------------------------------------------------------------


def test_a_reply_and_its_export_say_it():
    with serving(SAID) as server:
        here = place(server.url)
        found = heard(here.session, Choices("advise", advise_model="qwen"))
    (reply,) = [turn for turn in found.turns if turn["role"] == "assistant"]
    assert reply["host"] == here.host and "host" not in heard(here.session, Choices("advise")).turns[-1]
    for lang in LANGS:
        assert here.host in render.who(reply, lang)
    for text in (transcript.as_markdown(found.turns, here.cards), transcript.as_json(found.turns, here.cards)):
        assert f"the words leave this machine, to {here.host}" in text and KEY not in text


def test_the_page_says_it_before_anything_is_sent(tmp_path):
    here = place("https://host.example/v1", ("ask-mini", "qwen"), arena=True)
    qwen = here.cards["qwen"]
    page = Page(here.session, ROOT / "examples.json")
    arena = Arena(here.session, SimpleNamespace())  # type: ignore[arg-type]
    for lang in LANGS:
        assert "host.example" in column.hint(here.cards, "qwen", lang) and "host.example" in about.block(qwen, lang)
        assert "host.example" in " ".join(page.notes(lang)) and "host.example" in arena.why(lang)
        assert ("千问 ↗ host.example", "qwen") in column.names(here.cards, lang)
    plain = place("https://host.example/v1")
    assert "host.example" not in " ".join(Page(plain.session, ROOT / "examples.json").notes("en"))
    assert "host.example" not in Arena(plain.session, SimpleNamespace()).why("en")  # type: ignore[arg-type]


# --- evaluation -------------------------------------------------------------------------------------------------------

CASES = tuple(
    CorpusDialogue(name, "own", (Message("user", "我头痛"), Message("assistant", "多久？"))) for name in "abc"
)


def test_an_evaluation_keeps_what_failed_as_errors_and_says_who_was_asked(tmp_path):
    with serving(SAID, says(401, f"bad key {KEY}"), SAID) as server:
        here = place(server.url)
        asked = RunRequest(
            Source("a", "0"), CASES, ("next",), (ModelSpec("qwen"), ModelSpec("advise-mini")), concurrency=1
        )
        *_, found = tiny.gathered(evaluate(here.session, asked, tmp_path))
    rows = {(row.model, row.id): row for row in found.rows}
    assert [rows["qwen", name].code for name in "abc"] == [None, "BQ_UNREACHABLE", None] and found.failed == 1
    assert rows["qwen", "b"].answer is None and rows["qwen", "a"].answer == "建议您休息。"
    run = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert here.host in run["licences"]["qwen"] and run["kernels"]["qwen"] == f"{here.host} · qwen3-0728"
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_a_card_can_be_the_judge(tmp_path, monkeypatch):
    given = {
        "name": "qwen",
        "url": "http://host/v1",
        "model": "qwen3",
        "key_env": "QWEN_KEY",
        "role": "both",
        "licence": "x",
    }
    (tmp_path / "cards.json").write_text(json.dumps(given), encoding="utf-8")
    monkeypatch.setenv("BIANQUE_CARDS", str(tmp_path / "cards.json"))
    monkeypatch.setenv("QWEN_KEY", KEY)
    assert judge_of("qwen", None, None) == Judge("http://host/v1/chat/completions", "qwen3", KEY)
    with pytest.raises(BadInput, match="leave them out"):
        judge_of("qwen", "other", None)
    with pytest.raises(BadInput, match="http"):
        judge_of("other", "other", None)


def test_a_done_reply_counts_its_tokens():
    with serving(SAID) as server:
        found = heard(place(server.url).session, Choices("advise", advise_model="qwen"))
    assert isinstance(found.done, Done) and found.done.usage.completion_tokens == 3 and found.done.finish == "stop"

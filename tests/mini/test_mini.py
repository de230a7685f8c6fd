"""The bundled models: stored as the real ones are, small enough to push, and able to hold their part of a talk."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from bianque.backends.local import Local
from bianque.catalog.builtin import CARDS
from bianque.checkpoints.hub import BUNDLED
from bianque.consult.questions import asks
from bianque.consult.session import Done, Handed, Session
from bianque.consult.spec import Choices, SamplingOverrides
from bianque.evaluate.metrics import repeats_4gram
from bianque.settings import Settings
from bianque.types import Message

PREVIEWS = [card for card in CARDS if card.preview]
COMPLAINTS = (
    "最近一个星期总是头痛，晚上更厉害", "孩子昨天开始发烧，咳嗽", "胃胀，吃完饭反酸", "膝盖上下楼梯疼",
    "皮肤起红疹，很痒", "这几天心慌，睡不好", "嗓子疼，有点咳痰", "腰疼了半个月",
)  # fmt: skip


@pytest.fixture(scope="module")
def local():
    return Local(Settings(models="mini", threads=1))


@pytest.mark.parametrize("card", PREVIEWS, ids=lambda card: card.name)
def test_a_bundled_model_is_stored_as_its_card_says(card):
    folder = BUNDLED / card.name
    shards = list(folder.glob("*.safetensors"))
    assert abs(sum(shard.stat().st_size for shard in shards) - card.loadable.bytes) / card.loadable.bytes < 0.02
    assert all(path.stat().st_size < 9_000_000 for path in folder.iterdir())
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float16"
    assert "不是医学知识" in (folder / "README.md").read_text(encoding="utf-8")


def replies(local, card, seeds=range(3), at_once=8):
    """To each complaint, with each seed."""
    free = asyncio.Semaphore(at_once)

    async def one(complaint, seed):
        sampling = replace(card.sampling, seed=seed)
        async with free:
            pieces = local.stream(card.name, [Message("user", complaint)], sampling)
            return "".join([piece.text async for piece in pieces])

    async def every():
        return await asyncio.gather(*(one(complaint, seed) for complaint in COMPLAINTS for seed in seeds))

    return asyncio.run(every())


# So few replies tell a good model from a bad one; the cards have the shares, of many more. An ECG named three times is no circle.
CIRCLING = 0.15


@pytest.mark.slow
def test_the_asking_model_asks(local):
    found = replies(local, PREVIEWS[0])
    assert all(found) and sum(map(repeats_4gram, found)) / len(found) <= CIRCLING
    assert sum(map(asks, found)) / len(found) >= 0.8


def test_the_advising_model_advises(local):
    found = replies(local, PREVIEWS[1])
    assert all(found) and sum(map(repeats_4gram, found)) / len(found) <= CIRCLING
    assert sum(map(asks, found)) / len(found) <= 0.25


def test_a_consultation_asks_and_then_advises(local):
    session = Session(local, "ask-mini", "advise-mini")

    async def turn(history, message, **choices):
        events = [
            event
            async for event in session.reply(history, message, Choices(**choices, sampling=SamplingOverrides(seed=3)))
        ]
        done = events[-1]
        assert isinstance(done, Done)
        return [*history, Message("user", message), done.message], events

    async def consult():
        history, _ = await turn([], "最近一个星期总是头痛，晚上更厉害")
        assert history[-1].phase == "asking" and asks(history[-1].content)
        history, events = await turn(history, "直接告诉我该怎么办吧")
        assert history[-1].phase == "advising" and history[-1].model == "advise-mini"
        assert [event.reason for event in events if isinstance(event, Handed)] == ["requested"]

    asyncio.run(consult())


def test_the_same_seed_gives_the_same_reply(local):
    assert replies(local, PREVIEWS[0], seeds=(7,), at_once=1) == replies(local, PREVIEWS[0], seeds=(7,), at_once=1)

"""`/v1` over an engine: many at once, and the same text for the same seed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import openai
import pytest

import bianque
from bianque.backends.base import Backend
from bianque.backends.local import Local
from bianque.backends.remote import Remote
from bianque.catalog.builtin import REMOTE
from bianque.catalog.card import Endpoint, Model
from bianque.consult.session import Delta, Session
from bianque.consult.spec import Choices, SamplingOverrides
from bianque.settings import Settings
from bianque.types import Message, Piece, Sampling
from bianque.ui import serve
from bianque.ui.page import Page
from tests import tiny
from tests.conftest import ROOT, free_port

pytestmark = pytest.mark.process
VISITORS = 64
SAID = [{"role": "user", "content": "我最近总是失眠，怎么办？"}]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page over a tiny ChatGLM, with as many places as by default, and its session."""
    folder = tmp_path_factory.mktemp("bianque-2")
    tiny.bianque_2(folder)
    card = tiny.changed(tiny.card("bianque-2"), role="both", parameters=1000, kept=0, head=0, cache=1)
    settings = Settings(paths={"bianque-2": folder}, memory_gb=1, threads=1)
    session = Session(Local(settings, [card]), card.name, card.name)
    demo, here = Page(session, ROOT / "examples.json").build(), {"server_name": "127.0.0.1", "server_port": free_port()}
    _, address, _ = serve.launch(demo, session, settings, **here, prevent_thread_lock=True)
    yield f"{address}v1", session
    demo.close(verbose=False)


def test_sixty_four_streams_at_once_all_finish(page):
    async def one(client: openai.AsyncOpenAI, place: int) -> tuple[int, str | None]:
        given = {"max_tokens": 12, "seed": place, "stream_options": {"include_usage": True}}
        stream = await client.chat.completions.create(model="bianque-2", messages=SAID, stream=True, **given)
        chunks = [chunk async for chunk in stream]
        return chunks[-1].usage.completion_tokens, chunks[-2].choices[0].finish_reason

    async def everybody() -> list[tuple[int, str | None]]:
        async with openai.AsyncOpenAI(base_url=page[0], api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(one(client, place) for place in range(VISITORS)))

    found = asyncio.run(everybody())
    assert len(found) == VISITORS
    assert all(0 < tokens <= 12 and finish == ("length" if tokens == 12 else "stop") for tokens, finish in found)


def test_a_seed_gives_the_same_text_twice_and_the_text_of_the_session(page):
    async def inside() -> str:
        choices = Choices("advise", sampling=SamplingOverrides(max_new_tokens=24, seed=11))
        events = [event async for event in page[1].reply([], SAID[0]["content"], choices)]
        return "".join(event.text for event in events if isinstance(event, Delta))

    with openai.OpenAI(base_url=page[0], api_key="any", max_retries=0) as client:
        asked = dict(model="advise", messages=SAID, seed=11, max_tokens=24)
        texts = [client.chat.completions.create(**asked).choices[0].message.content for _ in range(2)]
    assert texts[0] and texts == [asyncio.run(inside())] * 2


def test_as_a_model_behind_a_url_it_gives_the_text_of_the_card(page):
    address, session = page
    endpoint = Endpoint(address, "bianque-2")
    remote = Remote([Model("own", "own", "both", REMOTE, "x", "x", endpoint=endpoint)])
    drawn = Sampling(temperature=0.9, top_p=0.8, max_new_tokens=24, seed=11)

    async def text(backend: Backend, name: str) -> tuple[str, str | None, int]:
        said, last = "", Piece()
        async with aclosing(backend.stream(name, [Message("user", SAID[0]["content"])], drawn)) as pieces:
            async for last in pieces:
                said += last.text
        return said, last.finish, last.usage.completion_tokens if last.usage else 0

    here, there = asyncio.run(text(session.backend, "bianque-2")), asyncio.run(text(remote, "own"))
    assert here == there and here[0]
    assert remote.kernel("own") == f"{endpoint.host} · bianque-2 bianque-{bianque.__version__}"

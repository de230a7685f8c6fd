"""How large a call may be, whether it says so or not."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bianque.ui import rim


async def size(request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def sent(path: str, content) -> tuple[int, str]:
    methods = {"methods": ["POST"]}
    app = Starlette(
        routes=[Route("/call", size, **methods), Route("/upload", size, **methods)],
        middleware=[Middleware(rim.Rim, rim.UnderWay())],
    )

    async def ask() -> tuple[int, str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
            answer = await client.post(path, content=content)
            return answer.status_code, answer.text

    return asyncio.run(ask())


async def parts(count: int):
    for _ in range(count):
        yield b"x" * 10


@pytest.mark.parametrize("given", [lambda count: b"x" * 10 * count, parts], ids=["its size is told", "in parts"])
def test_a_call_that_is_too_large_is_refused(given, monkeypatch):
    monkeypatch.setattr(rim, "LARGEST", 100)
    assert sent("/call", given(10)) == (200, "100")
    status, told = sent("/call", given(11))
    assert status == 413 and "BQ_TOO_LONG" in told
    assert sent("/upload", given(11)) == (200, "110")

"""What holds for every answer of the server: headers for the browser, and how many answers are under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN = 8.0  # seconds for answers under way once the server shall stop; docker kills after ten
HEADERS = {
    "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(self), geolocation=()",
}  # fmt: skip
OPEN = "/heartbeat/"  # an answer of Gradio's that lasts as long as a page is open


class UnderWay:
    """How many answers are being given."""

    def __init__(self) -> None:
        self.count = 0

    def drain(self, seconds: float = DRAIN, clock: Callable[[], float] = time.monotonic) -> bool:
        """Wait until all are given; False if time ran out before."""
        until = clock() + seconds
        while self.count and clock() < until:
            time.sleep(0.05)
        return not self.count


class Rim:
    """ASGI middleware. `embed`: which other sites may show the page in a frame; none of them named: any."""

    def __init__(self, app: ASGIApp, under_way: UnderWay, embed: Sequence[str] = ()) -> None:
        self.app, self.under_way = app, under_way
        self.frames = f"frame-ancestors 'self' {' '.join(embed)}" if embed else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.frames:
                    headers.append("content-security-policy", self.frames)  # beside an answer's own
            await send(message)

        counts = OPEN not in scope["path"]
        self.under_way.count += counts
        try:
            await self.app(scope, receive, headed)
        finally:
            self.under_way.count -= counts

"""What holds for every call of the server: how large it may be, headers for the browser, how many are under way."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence

from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bianque.consult.text import clean
from bianque.data import readers

DRAIN = 8.0  # seconds for answers under way once the server shall stop; docker kills after ten
HEADERS = {
    "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(self), geolocation=()",
}  # fmt: skip
LARGEST = (
    readers.MAX_BYTES + 4 * 2**20
)  # bytes of a call: a file to evaluate in its text, and the rest; others read less
UPLOAD = "/upload"  # for which Gradio has a limit of its own, as it is not held in memory
WRONG = 20  # faults of one request that are told
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


async def misshapen(request: Request, error: Exception) -> JSONResponse:
    """422: which fields are wrong, and how. FastAPI would repeat their values too, and fail at half a surrogate pair."""
    faults = error.errors() if isinstance(error, RequestValidationError) else ()
    places = [".".join(map(str, fault["loc"])) for fault in faults]
    told = "; ".join(f"{place}: {fault['msg']}" for place, fault in [*zip(places, faults, strict=True)][:WRONG])
    body = {"code": "BQ_BAD_INPUT", "detail": f"请求的格式不对 (the request has not the right shape): {clean(told)}"}
    return JSONResponse(body, 422)


async def misnamed(request: Request, error: Exception) -> JSONResponse:
    """422 for an argument that an endpoint does not have or lacks, where Gradio would answer 500; other errors go on."""
    if traceback.extract_tb(error.__traceback__)[-1].name != "construct_args":
        raise error
    body = {"code": "BQ_BAD_INPUT", "detail": f"参数不对 (wrong arguments): {clean(str(error))[:300]}"}
    return JSONResponse(body, 422)


TOLD = f"请求的正文超过 {LARGEST >> 20} MB (the body is larger than that): 请缩短 (shorten it)"


def bounded(receive: Receive) -> Receive:
    """What comes, until it is too much, for bodies that do not say how large they are."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LARGEST:
            raise HTTPException(413, f"BQ_TOO_LONG: {TOLD}")
        return message

    return counted


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

        if UPLOAD not in scope["path"]:
            said = Headers(scope=scope).get("content-length", "")
            if said.isdecimal() and int(said[:20]) > LARGEST:
                await JSONResponse({"code": "BQ_TOO_LONG", "detail": TOLD}, 413)(scope, receive, headed)
                return
            receive = bounded(receive)
        counts = OPEN not in scope["path"]
        self.under_way.count += counts
        try:
            await self.app(scope, receive, headed)
        finally:
            self.under_way.count -= counts

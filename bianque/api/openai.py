"""`/v1`: models and chat completions as OpenAI's clients speak them, on the page's own port.

The modes answer as the page does, with their notices first in `content`; a card's name reaches that model alone.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import wraps
from typing import Any, TypeVar, cast

import gradio as gr
from gradio.context import LocalContext
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message as Sent
from starlette.types import Receive, Scope, Send

from bianque.api.limits import Limits
from bianque.api.openai_request import ChatRequest, InvalidRequest, parse
from bianque.api.openai_wire import Completion, Json, data, error_object, failed, failure, usage_of
from bianque.catalog import builtin
from bianque.catalog.card import Model
from bianque.consult.pacing import with_heartbeat
from bianque.consult.session import Clock, Event, Failure, Session, check_size
from bianque.consult.spec import Choices
from bianque.errors import BadInput, TooLong
from bianque.types import MODE_PHASES, MODES, ROLE_MODES, Message, Mode

T = TypeVar("T")
Answer = Callable[[Request], Awaitable[Response]]

LARGEST_BODY = 4 * 2**20  # bytes: the longest dialogue that is read, with every character escaped
PATIENCE = 1.5  # seconds without text after which a stream begins all the same, and a load can be followed in it
SILENCE = 10.0  # seconds at most between two lines of a stream: proxies cut what says nothing
SLOWEST = 60.0  # seconds that a reader may leave a line unread before the reply ends
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
DONE = b"data: [DONE]\n\n"


class EventStream(StreamingResponse):
    """Lines that end with their reader: whoever leaves stops the reply within a token."""

    media_type = "text/event-stream"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self.rest = rest
        # nginx and its kin gather what they pass on, unless told not to
        super().__init__(chained(first, rest), headers={"cache-control": "no-cache", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def timed(message: Sent) -> None:
            await asyncio.wait_for(send(message), SLOWEST)

        async with aclosing(self.rest):
            with suppress(asyncio.TimeoutError):
                await super().__call__(scope, receive, timed)


async def chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for line in rest:
        yield line


async def events_of(session: Session, asked: ChatRequest, place: int = 0) -> AsyncGenerator[Event, None]:
    """A mode as the page answers it, or one card alone."""
    choices = Choices(sampling=asked.seeded(place), stop=asked.stop)
    if asked.model in MODES:
        choices = Choices(cast(Mode, asked.model), sampling=choices.sampling, stop=choices.stop)
        source = session.reply(asked.history, asked.message, choices)
    else:
        check_size(asked.message, asked.history)
        phase = MODE_PHASES[ROLE_MODES[card_of(session, asked.model).role][0]][0]
        turns = [*asked.history, Message("user", asked.message)]
        source = session.ledger.kept(session.speak(asked.model, phase, turns, choices, Clock()))
    async with aclosing(source) as events:
        async for event in events:
            yield event


def card_of(session: Session, name: str) -> Model:
    """The card; UnknownModel, or Refused for a precision that it does not have."""
    try:
        return builtin.find(session.cards, name)
    except BadInput as error:
        raise InvalidRequest(str(error), "model") from None


async def lines(session: Session, asked: ChatRequest, limits: Limits) -> AsyncGenerator[bytes, None]:
    """A reply as server-sent events. An error before the first line is raised, and afterwards becomes one line."""
    reply, begun, spoken = Completion(asked), False, False
    last = time.monotonic()
    try:
        with limits.admit(tokens=reply.found.tokens):
            async with aclosing(with_heartbeat(events_of(session, asked))) as events:
                async for event in events:
                    if new := reply.take(event):
                        if not spoken:
                            yield reply.chunk({"role": "assistant", "content": ""})
                        yield reply.chunk({"content": new})
                        begun, spoken, last = True, True, time.monotonic()
                    elif time.monotonic() - last >= (SILENCE if begun else PATIENCE):
                        yield reply.comment()
                        begun, last = True, time.monotonic()
        if not spoken:
            yield reply.chunk({"role": "assistant", "content": ""})
        yield reply.chunk({}, reply.finish)
        if asked.include_usage:
            yield data(reply.body("chat.completion.chunk", [], usage=usage_of([reply])))
    except Exception as error:
        if not begun:
            raise
        yield data(failure(error)[1])
    yield DONE


async def completed(session: Session, reply: Completion, place: int) -> None:
    try:
        async with aclosing(events_of(session, reply.asked, place)) as events:
            async for event in events:
                reply.take(event)
    except Exception as error:
        if not reply.content:
            raise
        reply.found.apply(Failure.of(error))  # a red flag is told although nobody answers: an error alone would lose it


async def whole(session: Session, replies: Sequence[Completion]) -> dict[str, Any]:
    """The reply in one piece, with as many choices as were asked for: rows of the same batch."""
    writing = [asyncio.ensure_future(completed(session, reply, place)) for place, reply in enumerate(replies)]
    try:
        await asyncio.gather(*writing)
    finally:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
    choices = [reply.choice(place) for place, reply in enumerate(replies)]
    return replies[0].body("chat.completion", choices, usage=usage_of(replies))


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of the work, which is cancelled when its caller leaves: ClientDisconnect."""
    leaving, working = asyncio.ensure_future(gone(request)), asyncio.ensure_future(work)
    try:
        await asyncio.wait({leaving, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (leaving, working):
            task.cancel()
        await asyncio.gather(leaving, working, return_exceptions=True)


async def gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def body_of(request: Request) -> object:
    """The JSON of a request; Refused or TooLong where there is none, or too much."""
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > LARGEST_BODY:
            raise TooLong(f"请求的正文超过 {LARGEST_BODY >> 20} MB (the body is larger than that)")
    try:
        return json.loads(found)
    except (ValueError, RecursionError):
        raise InvalidRequest("请求的正文不是 JSON (the body is not JSON)", None) from None


def allowed(request: Request, key: str | None) -> bool:
    """Whether the request brings the key, as a bearer or as `x-api-key`; on a private Space the Hub takes the bearer."""
    if key is None:
        return True
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = (bearer.strip() if scheme.lower() == "bearer" else "", request.headers.get("x-api-key", ""))
    return any([hmac.compare_digest(one.encode("latin-1"), key.encode()) for one in given])


def model_object(name: str, session: Session, created: int) -> dict[str, Any]:
    """One entry of the list; a mode belongs to the pair that answers."""
    found: dict[str, Any] = {"id": name, "object": "model", "created": created, "owned_by": "bianque"}
    if name in MODES:
        return found
    card = card_of(session, name)
    owner = (card.repo or "bianque").partition("/")[0]
    return found | {"owned_by": owner, "bianque": {"title": card.title, "role": card.role, "licence": card.licence}}


async def missing(request: Request) -> Response:
    path = request.path_params["rest"].rstrip("/")
    wanted = {"models": "GET", "chat/completions": "POST"}.get(path, "GET" if path.startswith("models/") else "")
    if wanted:
        told = f"{request.method} /v1/{path}: 请用 {wanted} (use {wanted})"
        return Json(error_object(told, "invalid_request_error", None, None), 405, {"allow": wanted})
    told = f"/v1/{path[:200]}: 没有这个地址，只有 models 与 chat/completions (there is no such address)"
    return Json(error_object(told, "invalid_request_error", None, "not_found"), 404)


def answered(answer: Answer, key: str | None) -> Answer:
    """With the key asked for, and every error in OpenAI's form."""

    @wraps(answer)
    async def checked(request: Request) -> Response:
        if not allowed(request, key):
            told = "API key 缺少或不对，请放在 Authorization: Bearer 或 x-api-key 里 (missing or wrong API key)"
            body = error_object(told, "invalid_request_error", None, "invalid_api_key")
            return Json(body, 401, {"www-authenticate": "Bearer"})
        try:
            return await answer(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            return failed(error)

    return checked


def routes(
    session: Session,
    key: str | None = None,
    can_run: Callable[[str], bool] = lambda name: True,
    limits: Limits | None = None,
) -> list[Route]:
    """What is served; `key` is asked of every caller, `can_run` tells which cards the list names."""
    created, limits = int(time.time()), limits or Limits()

    async def models(request: Request) -> Response:
        runs = await asyncio.to_thread(lambda: [name for name in session.cards if can_run(name)])
        return Json({"object": "list", "data": [model_object(name, session, created) for name in (*MODES, *runs)]})

    async def model(request: Request) -> Response:
        return Json(model_object(request.path_params["name"].rstrip("/"), session, created))

    async def completions(request: Request) -> Response:
        LocalContext.request.set(gr.Request(request))  # where ZeroGPU looks for the visitor whose share is used
        asked = parse(await body_of(request))
        if not asked.stream:
            replies = [Completion(asked) for _ in range(asked.n)]
            with limits.admit(asked.n, lambda: sum(reply.found.tokens() for reply in replies)):
                return Json(await unless_gone(request, whole(session, replies)))
        stream = lines(session, asked, limits)
        try:
            return EventStream(await unless_gone(request, anext(stream)), stream)
        except BaseException:
            await stream.aclose()
            raise

    served = [
        ("models", models, "GET"),
        ("models/{name:path}", model, "GET"),
        ("chat/completions", completions, "POST"),
    ]
    # Many leave `/v1` out of a client's base address, and some end it with a slash.
    places = [(f"{start}/{path}", answer, method) for path, answer, method in served for start in ("/v1", "")]
    found = [
        Route(path + end, answered(answer, key), methods=[method])
        for path, answer, method in places
        for end in ("", "/")
    ]
    return [*found, Route("/v1/{rest:path}", answered(missing, key), methods=METHODS)]

"""What is fuzzed: of each area its cases, and what takes one and says what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import httpx
import orjson

import bianque
from bianque.api import openai, schemas
from bianque.catalog import custom
from bianque.checkpoints import loader
from bianque.consult.session import Session, check_size
from bianque.consult.spec import Choices, SamplingOverrides
from bianque.consult.transcript import Transcript
from bianque.data import readers, records
from bianque.errors import BadInput
from tests import spoil
from tests.catalog.test_custom import LIKE, WHOLE
from tests.conftest import ADVICE, QUESTIONS, Scripted, afresh, serving
from tests.data.test_published import MEDDG, MEDDG_GEN, SHAPES

Area = tuple[Callable[[Random], Any], Callable[[Any], str]]
OURS = Path(bianque.__file__).parent
PATIENCE = 15.0  # seconds for what is awaited
ALONE = httpx.Limits(max_keepalive_connections=0)  # a line that was kept may be closed just when it is used again
HISTORY = [
    {"role": "user", "content": "我头痛两天了", "phase": None, "model": None},
    {"role": "assistant", "content": "请问头痛多久了？", "phase": "asking", "model": "ask-mini"},
]
CHAT = ["有两天了", HISTORY, "auto", None, "advise-mini", 0.5, 0.9, 64, 7]
COMPLETION = {
    "model": "auto", "messages": [{"role": "system", "content": "你是医生"}, *HISTORY, {"role": "user", "content": [{"type": "text", "text": "有两天了"}]}],
    "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 64, "temperature": 0.7, "top_p": 0.9, "seed": 7, "stop": ["。"], "n": 1,
    "response_format": {"type": "text"}, "tools": [],
}  # fmt: skip
REMOTE = {
    "name": "far", "url": "https://example.org/v1", "model": "m", "key_env": "FAR_KEY", "role": "both", "licence": "MIT", "system": "x",
    "body": {"a": 1}, "sampling": {"temperature": 0.5}, "max_tokens_field": "max_tokens", "arena": True,
}  # fmt: skip


def waited(loop: asyncio.AbstractEventLoop, work: Awaitable[str]) -> str:
    return loop.run_until_complete(asyncio.wait_for(work, PATIENCE))


@contextmanager
def looped() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def voices() -> Scripted:
    return afresh(Scripted())


@contextmanager
def session() -> Iterator[Area]:
    """One turn of `/chat`, from its arguments to the bytes of its last answer."""
    heard = voices()
    talk = Session(heard, "ask-mini", "advise-mini")

    async def reply(case: Any) -> str:
        message, history, mode, ask, advise, temperature, top_p, longest, seed = case
        heard.asks, heard.advises, heard.pause = list(QUESTIONS), [ADVICE], 0
        heard.heard.clear()
        if not isinstance(message, str):
            raise BadInput("message")
        past = schemas.parse_history(history)
        check_size(message, past)
        drawn = SamplingOverrides(temperature, top_p, schemas.as_int(longest), schemas.as_int(seed))
        found = Transcript(schemas.turns_of(past), message)
        async with aclosing(talk.reply(past, message, Choices(mode, ask, advise, drawn))) as events:
            async for event in events:
                found.apply(event)
        orjson.dumps(schemas.chat_reply(found))
        return "result"

    def spoiled(rng: Random) -> Any:
        example = [*CHAT]
        if rng.random() < 0.3:
            example[1] = HISTORY * rng.choices((0, 2, 10, 499, 5000), (30, 30, 30, 9, 1))[0]
        if rng.random() < 0.3:
            example[0] = rng.choice(spoil.TEXTS)
        return spoil.tree(rng, example) if rng.random() < 0.9 else example

    def made(rng: Random) -> Any:
        case = spoiled(rng)
        return case if isinstance(case, list) and len(case) == len(CHAT) else [*CHAT]

    with looped() as loop:
        yield made, lambda case: waited(loop, reply(case))
    talk.readers.shutdown(cancel_futures=True)


@contextmanager
def reader() -> Iterator[Area]:
    """A file of dialogues, read for an evaluation and as a corpus; its name may be any."""
    examples = [(name, said.encode() if isinstance(said, str) else said) for name, said, _ in SHAPES.values()]
    examples += [("a.pk", pickle.dumps(MEDDG)), ("b.pk", pickle.dumps(MEDDG_GEN, 0))]
    trees = [
        json.loads(said)
        for _, said, _ in SHAPES.values()
        if isinstance(said, str) and said.startswith(("[", "{")) and "}\n{" not in said
    ]

    def made(rng: Random) -> tuple[str, bytes]:
        drawn = rng.random()
        if drawn < 0.5:
            return "x.json", spoil.written(rng, spoil.tree(rng, rng.choice(trees)))
        name, raw = rng.choice(examples)
        if drawn < 0.55:
            return "x.pk", pickle.dumps(spoil.tree(rng, rng.choice((MEDDG, MEDDG_GEN))))
        return name, spoil.content(rng, raw)

    with tempfile.TemporaryDirectory() as folder:

        def run(case: tuple[str, bytes]) -> str:
            path = Path(folder, case[0])
            path.write_bytes(case[1])
            said = []
            with suppress_code(said):
                readers.preview(path, max_bytes=2_000_000)
            with suppress_code(said), records.streamed(path) as opened:
                for found in readers.stream(opened, path):
                    if isinstance(found, readers.Problem):
                        str(found).encode()  # what is told can be written
                    else:
                        json.dumps([m.content for m in found[1].messages], ensure_ascii=False).encode()
            return said[0] if said else "result"

        yield made, run


@contextmanager
def suppress_code(said: list[str]) -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        str(error).encode()
        said.append(error.code)


@contextmanager
def cards() -> Iterator[Area]:
    """A file of cards."""
    examples = [
        LIKE,
        WHOLE,
        REMOTE,
        [LIKE, WHOLE, REMOTE, LIKE | {"name": "b", "like": "my-bianque", "path": ".", "adapter_path": "."}],
    ]

    def made(rng: Random) -> bytes:
        example = rng.choice(examples)
        if rng.random() < 0.85:
            return spoil.written(rng, spoil.tree(rng, example))
        return spoil.content(rng, json.dumps(example, ensure_ascii=False).encode())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cards.json")

        def run(case: bytes) -> str:
            path.write_bytes(case)
            found, _ = custom.read(path)
            for card in found:
                (card.title + card.licence).encode()
            return "result"

        yield made, run


@contextmanager
def weights() -> Iterator[Area]:
    """A checkpoint one of whose files is damaged, or another's."""
    from tests import tiny

    with tempfile.TemporaryDirectory() as made_in:
        folders = {name: Path(made_in, name) for name in ("bianque-1", "bianque-2", "disc-medllm")}
        for name, write in zip(folders, (tiny.bianque_1, tiny.bianque_2, tiny.disc_medllm), strict=True):
            folders[name].mkdir()
            write(folders[name])
        files = [
            (name, path, path.read_bytes()) for name, folder in folders.items() for path in sorted(folder.iterdir())
        ]

        def made(rng: Random) -> tuple[str, Path, bytes, bytes]:
            name, path, raw = rng.choice(files)
            if path.suffix == ".json" and rng.random() < 0.8:
                return name, path, raw, spoil.written(rng, spoil.tree(rng, json.loads(raw)))
            return name, path, raw, spoil.content(rng, raw)

        def run(case: tuple[str, Path, bytes, bytes]) -> str:
            name, path, sound, spoiled = case
            path.write_bytes(spoiled)
            try:
                loader.read(tiny.card(name), path.parent, "cpu", tiny.torch.float32, lambda progress: None)
            finally:
                path.write_bytes(sound)
            return "result"

        yield made, run


@contextmanager
def v1() -> Iterator[Area]:
    """A request to `/v1`, as the server has it."""
    from starlette.applications import Starlette

    heard = voices()
    talk = Session(heard, "ask-mini", "advise-mini")
    app = Starlette(routes=openai.routes(talk))
    paths = (
        "/v1/chat/completions",
        "/chat/completions/",
        "/v1/models/x",
        "/v1/../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e",
        "/v1/\u202e",
        "/v1/models",
    )

    def made(rng: Random) -> tuple[str, str, bytes, str]:
        body = spoil.written(rng, spoil.tree(rng, COMPLETION))
        if rng.random() < 0.1:
            body = spoil.content(rng, body)
        method = "POST" if rng.random() < 0.95 else rng.choice(openai.METHODS)
        path = paths[0] if rng.random() < 0.9 else rng.choice(paths)
        kind = rng.choice(("application/json", "application/json", "text/plain", "multipart/form-data", "\u00ff"))
        return method, path, body, kind

    async def ask(client: httpx.AsyncClient, case: tuple[str, str, bytes, str]) -> str:
        method, path, body, kind = case
        heard.asks, heard.advises, heard.pause = list(QUESTIONS), [ADVICE], 0
        heard.heard.clear()
        answer = await client.request(method, path, content=body, headers={"content-type": kind.encode("latin-1")})
        assert answer.status_code < 500 and "BQ_INTERNAL" not in answer.text, "".join(logged[-1:]) or answer.text
        if answer.status_code >= 400 and method != "HEAD" and path.startswith("/v1") and ".." not in path:
            assert answer.json()["error"]["message"]
        return "result" if answer.status_code < 400 else str(answer.status_code)

    with looped() as loop, mere_errors() as logged:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
        yield made, lambda case: waited(loop, ask(client, case))
        loop.run_until_complete(client.aclose())
    talk.readers.shutdown(cancel_futures=True)


@contextmanager
def mere_errors() -> Iterator[list[str]]:
    """What is logged of faults is seen by their outcome, and not printed."""
    log, told = logging.getLogger("bianque"), list[str]()
    handler, before = logging.Handler(), log.propagate
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    log.propagate = False
    try:
        yield told
    finally:
        log.removeHandler(handler)
        log.propagate = before


EXAMPLES: dict[str, Any] = {
    "message": "有两天了", "history": HISTORY, "mode": "auto", "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 32, "seed": 7, "lang": "zh-CN",
    "contenders": ["auto", {"name": "advise-mini", "temperature": 0.2}], "histories": [HISTORY, HISTORY], "messages": HISTORY, "liked": True,
    "reason": "helpful", "note": "x", "consent": True, "limit": 2, "concurrency": 2, "tasks": ["next"],
    "text": '{"id":"1","set":"s","turns":[{"role":"patient","text":"头痛"},{"role":"doctor","text":"多久了？"}]}',
    "file": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
}  # fmt: skip
DOORS = (
    "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../../etc/passwd", "/file=/etc/passwd", "/assets/../../../../etc/passwd", "/static/..%2f..%2fetc/passwd",
    "/reports/../../etc/passwd", "/report/%2e%2e/%2e%2e/etc/passwd", "/gradio_api/proxy=http://127.0.0.1:1/", "/gradio_api/proxy=file:///etc/passwd",
    "/theme.css?v=../..", "/gradio_api/stream/x/y/z/playlist.m3u8", "/custom_component/x/y/z", "/gradio_api/upload_progress?upload_id=..", "/healthz/..", "/readyz?x=\u202e",
)  # fmt: skip


@contextmanager
def page() -> Iterator[Area]:
    """A call to an endpoint, an event of the page, or an address, over HTTP."""
    with (
        serving() as (url, heard),
        httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, limits=ALONE) as client,
    ):
        afresh(heard).pause = 0.0
        named = client.get("gradio_api/info").json()["named_endpoints"]
        calls = {name: [p["parameter_name"] for p in found["parameters"]] for name, found in named.items()}
        config = client.get("config").json()["dependencies"]
        events = [place for place, event in enumerate(config) if event["queue"] and event["targets"]]
        sizes = {place: len(config[place]["inputs"]) for place in events}

        def made(rng: Random) -> tuple[str, Any]:
            drawn = rng.random()
            if drawn < 0.1:
                return "get", rng.choice(DOORS)
            if drawn < 0.4 and events:
                place = rng.choice(events)
                data = [spoil.value(rng) if rng.random() < 0.5 else HISTORY for _ in range(sizes[place])]
                return "event", {"session_hash": f"fuzz{rng.random()}", "fn_index": place, "data": data}
            name = rng.choice([*calls])
            given = {parameter: EXAMPLES.get(parameter) for parameter in calls[name]}
            return name, spoil.tree(rng, given)

        def run(case: tuple[str, Any]) -> str:
            door, given = case
            if door == "get":
                answer = client.get(given)
                assert "root:x:" not in answer.text and answer.status_code < 500, answer.text[:300]
                return str(answer.status_code)
            raw = json.dumps(given, default=str).encode()
            if door == "event":
                joined = client.post("gradio_api/queue/join", content=raw, headers={"content-type": "application/json"})
                if joined.status_code >= 400:
                    return refused(joined)
                text = client.get("gradio_api/queue/data", params={"session_hash": given["session_hash"]}).text
                assert "process_completed" in text, text[-300:]
                return coded(text, failed) if '"success": false' in text or '"success":false' in text else "result"
            called = client.post(f"gradio_api/call/v2{door}", content=raw, headers={"content-type": "application/json"})
            if called.status_code >= 400:
                return refused(called)
            text = client.get(f"gradio_api/call{door}/{called.json()['event_id']}").text
            return "result" if "event: complete" in text else coded(text, failed)

        with mere_errors(), printed() as failed:
            yield made, run


def refused(answer: httpx.Response) -> str:
    assert answer.status_code < 500, answer.text[:300]
    return str(answer.status_code)


@contextmanager
def printed() -> Iterator[list[BaseException]]:
    """The errors that Gradio would print."""
    from gradio import queueing

    failed: list[BaseException] = []
    before = queueing.traceback
    vars(queueing)["traceback"] = SimpleNamespace(
        **vars(traceback) | {"print_exc": lambda: failed.append(sys.exc_info()[1])}
    )
    try:
        yield failed
    finally:
        vars(queueing)["traceback"] = before


def coded(text: str, failed: list[BaseException]) -> str:
    """The code of an error; what Gradio itself refuses before we are asked has none."""
    errors, failed[:] = [*failed], []
    if "BQ_" in text:
        code = "BQ_" + text.split("BQ_", 1)[1].split('"', 1)[0]
        assert code != "BQ_INTERNAL", text[-300:]
        return code
    assert errors, text[-300:]
    for error in errors:
        if any(Path(frame.filename).is_relative_to(OURS) for frame in traceback.extract_tb(error.__traceback__)):
            raise error
    return "gradio"


AREAS: dict[str, Callable[[], AbstractContextManager[Area]]] = {
    "cards": cards, "readers": reader, "session": session, "v1": v1, "weights": weights, "page": page,
}  # fmt: skip
SHARES = {
    "cards": 445,
    "readers": 300,
    "session": 120,
    "v1": 120,
    "weights": 12,
    "page": 3,
}  # of the cases, by what they cost

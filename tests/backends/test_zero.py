"""ZeroGPU: one lent function, its thread, and a whole emulated Space with forked workers."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from bianque.backends.local import Local
from bianque.backends.zero import LONGEST, SHORTEST, Zero, threaded, user_facing
from bianque.errors import Busy, TooLong, UnknownModel
from bianque.settings import Settings
from bianque.types import Message, Piece, Sampling
from tests import tiny
from tests.conftest import ROOT, free_port

PAIR = ("ask-mini", "advise-mini")
TALK = [Message("user", "最近总是头痛")]
WAIT = 60


def wait_for(condition, seconds: float = WAIT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


# --- one process, no GPU lent -------------------------------------------------------------------------------------


def test_pieces_come_in_order_and_an_error_among_them_is_raised():
    def speaks():
        yield Piece(text="头")
        yield Piece(text="痛")
        yield TooLong("太长")
        raise AssertionError("nobody asked for more")

    async def listen() -> list[str]:
        heard = []
        with pytest.raises(TooLong, match="太长"):
            async for piece in threaded(speaks()):
                heard.append(piece.text)
        return heard

    assert asyncio.run(listen()) == ["头", "痛"]


def test_what_the_generator_raises_is_raised_here():
    def fails():
        yield Piece(text="头")
        raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        tiny.gathered(threaded(fails()))


def test_the_visitors_context_is_the_threads():
    visitor = contextvars.ContextVar("visitor", default="nobody")

    def asks():
        yield Piece(text=visitor.get())

    async def listen() -> str:
        visitor.set("li")
        return "".join([piece.text async for piece in threaded(asks())])

    assert asyncio.run(listen()) == "li"


def test_who_leaves_closes_the_generator_in_its_own_thread():
    gate, done = threading.Event(), []

    def talks():
        try:
            yield Piece(text="头")
            gate.wait(WAIT)
            yield Piece(text="痛")
            done.append("went on")
        finally:
            done.append(threading.current_thread().name)

    async def leave() -> None:
        async with aclosing(threaded(talks())) as pieces:
            assert (await anext(pieces)).text == "头"

    asyncio.run(leave())  # does not wait for the generator, which nobody may close while it runs
    assert done == []
    gate.set()
    wait_for(lambda: done)
    assert done == ["zero-gpu"]


@pytest.fixture(scope="module")
def zero() -> Zero:
    return Zero(Local(Settings()), ("ask-mini", "ask-mini"), "cpu")


def test_a_reply_is_what_the_engine_writes(zero):
    sampling = Sampling(max_new_tokens=12, seed=3)
    pieces = tiny.gathered(zero.stream("ask-mini", TALK, sampling))
    assert pieces[0].progress and pieces[0].progress.stage == "queued"
    expected = tiny.gathered(zero.engines["ask-mini"].stream(TALK, sampling))
    assert (pieces[1], pieces[-1]) == (expected[0], expected[-1])
    assert "".join(piece.text for piece in pieces) == "".join(piece.text for piece in expected) != ""


def test_only_what_was_preloaded_is_there(zero):
    assert [zero.loaded(name) for name in PAIR] == [True, False]
    assert {card.name for card in zero.models()} > set(PAIR)
    with pytest.raises(UnknownModel):
        tiny.gathered(zero.stream("bianqe-2", TALK, Sampling()))


def test_the_time_asked_for_grows_with_the_reply_within_bounds(zero):
    asked = [zero.duration("bianque-2", TALK, Sampling(max_new_tokens=tokens)) for tokens in (1, 700, 1400, 9000)]
    assert asked == sorted(asked) and asked[0] == SHORTEST and asked[1] < asked[2] < asked[3] == LONGEST
    assert zero.duration("bianque-1", TALK, Sampling(max_new_tokens=2000)) < asked[3]
    assert all(isinstance(seconds, int) for seconds in asked)


def test_a_refusal_is_told_in_plain_text():
    class Shown(str):
        def __str__(self) -> str:
            return "Retry later"

    error = user_facing(gr.Error('<a href="https://x">Subscribe</a> or wait', title="ZeroGPU quota exceeded"))
    assert isinstance(error, Busy) and str(error).endswith("(ZeroGPU quota exceeded: Subscribe or wait)")
    assert str(user_facing(gr.Error(Shown("<b>Retry</b>"), title="t"))).endswith("(t: Retry later)")
    assert user_facing(ours := OSError("x")) is ours


# --- a whole Space: the real page and the real `spaces`, over a device API that is played here ----------------------


@dataclass
class Device:
    """Lends the first GPU that is free to whoever asks, unless told to refuse; remembers every call."""

    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    refusal: dict[str, int] | None = None
    lent: int = 0

    def answer(self, path: str) -> tuple[int, dict]:
        parts = urlsplit(path)
        self.calls.append((parts.path, dict(parse_qsl(parts.query))))
        if parts.path != "/schedule":
            return 200, {}
        if self.refusal:
            return 429, self.refusal
        place = self.lent - len(self.heard("/release"))
        self.lent += 1
        return 200, {"idle": True, "nvidiaIndex": place, "nvidiaUUID": "GPU", "allowToken": uuid.uuid4().hex}

    def heard(self, path: str) -> list[dict[str, str]]:
        return [given for called, given in self.calls if called == path]

    @property
    def workers(self) -> list[int]:
        return [int(given["pid"]) for given in self.heard("/allow")]

    def idle(self) -> bool:
        return self.lent == len(self.heard("/release"))


def serve(device: Device) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, told = device.answer(self.path)
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@dataclass
class Space:
    url: str
    process: subprocess.Popen
    device: Device
    facts: dict


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Iterator[Space]:
    folder, device, port = tmp_path_factory.mktemp("space"), Device(), free_port()
    server = serve(device)
    facts, log, group = folder / "facts.json", folder / "log", folder / "cgroup"
    group.write_text("0::/space\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BIANQUE_", "SPACE"))} | {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_port}",
        "ZEROGPU_OFFLOAD_DIR": str(folder / "tensors"),
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(group),
        "BIANQUE_MODELS": "mini",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.space", str(facts), str(port)]
    with log.open("w") as written:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=written, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: facts.exists() or process.poll() is not None, 180)
        assert facts.exists(), log.read_text()[-3000:]
        yield Space(f"http://127.0.0.1:{port}/", process, device, json.loads(facts.read_text()))
    finally:
        process.stdin.close()  # the Space ends, and takes its workers along
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(space) -> Iterator[Client]:
    found = Client(space.url, verbose=False, headers={"x-ip-token": "head.e30.sign"})
    yield found
    found.close()
    space.device.refusal = None
    wait_for(space.device.idle)


def ask(client, message="最近总是头痛", **wishes):
    return client.predict(message, api_name="/chat_once", **({"mode": "ask", "max_new_tokens": 12} | wishes))


def begin(client):
    """A reply that does not end by itself, once it can be seen."""
    job = client.submit("最近总是头痛", mode="advise", max_new_tokens=700, api_name="/chat")
    wait_for(lambda: any(reply["reply"] for reply in job.outputs()))
    return job


def parent(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid")))


def test_one_function_is_lent_and_the_weights_of_the_pair_are_packed(space):
    assert space.facts == {
        "functions": ["Zero.generate"],
        "weights": sum(tiny.card(name).loadable.memory(16) for name in PAIR),
    }


def test_all_replies_come_from_one_forked_worker(client, space):
    first = ask(client)
    workers = space.device.workers
    assert first["reply"] and parent(workers[-1]) == space.process.pid
    second = ask(client, "三天了", history=first["messages"])
    third = ask(client, "给我建议", history=second["messages"], mode="advise", max_new_tokens=3)
    assert (second["model"], third["model"]) == PAIR and third["usage"]["completion_tokens"] == 3
    assert space.device.workers == workers
    wait_for(space.device.idle)
    assert all(given["fail"] == "false" for given in space.device.heard("/release")[-3:])


def test_the_visitors_share_and_the_time_reach_the_scheduler(client, space):
    ask(client)
    given = space.device.heard("/schedule")[-1]
    assert given["token"] == "head.e30.sign" and SHORTEST <= int(given["durationSeconds"]) <= LONGEST


def test_a_stop_frees_the_worker(client, space):
    """A reply left alone takes more than a minute."""
    job = begin(client)
    assert not space.device.idle()
    job.cancel()
    wait_for(space.device.idle, 30)
    assert job.outputs()[-1]["finish_reason"] is None
    workers = space.device.workers
    assert ask(client)["reply"] and space.device.workers == workers


def test_one_visitor_does_not_wait_for_another(client, space):
    job = begin(client)
    assert ask(client)["reply"] and not space.device.idle()
    job.cancel()


def test_an_error_of_ours_crosses_with_its_code(client, space):
    with pytest.raises(AppError) as caught:
        ask(client, "头痛" * 2000)
    assert caught.value.title == "BQ_TOO_LONG"
    wait_for(space.device.idle)
    assert space.device.heard("/release")[-1]["fail"] == "false"


def test_a_model_that_was_not_preloaded_is_refused_with_the_remedy(client, space):
    asked = len(space.device.calls)
    with pytest.raises(AppError) as caught:
        ask(client, ask_model="bianque-1")
    assert caught.value.title == "BQ_LOAD_FAILED"
    assert all(word in str(caught.value) for word in ("BIANQUE_PRELOAD", "bianque-1", *PAIR))
    assert len(space.device.calls) == asked


def test_a_visitor_without_a_share_is_told_so(client, space):
    space.device.refusal = {"left": 3, "wait": 3600}
    with pytest.raises(AppError) as caught:
        ask(client)
    assert caught.value.title == "BQ_BUSY" and "3s left" in str(caught.value)


def test_a_worker_that_dies_is_replaced(client, space):
    job = begin(client)
    for worker in space.device.workers:
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(AppError) as caught:
        job.result(WAIT)
    assert caught.value.title == "BQ_BUSY" and "aborted" in str(caught.value)
    workers = len(space.device.workers)
    assert ask(client)["reply"] and len(space.device.workers) == workers + 1

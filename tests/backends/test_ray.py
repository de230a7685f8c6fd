"""The bundled pair in a Ray cluster of this machine, two replicas each, by way of the backend that every door uses.

Not part of the usual run: it takes a minute or two and needs `pip install -r tests/requirements-cluster.txt`. Then
`python -m pytest -m ray -s tests/backends/test_ray.py`, which also prints what it measured.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import pytest

from bianque.backends.local import Local
from bianque.catalog.builtin import CARDS
from bianque.consult.guarded import Guarded
from bianque.consult.session import Done, Session, Speaking
from bianque.errors import BadInput, BianQueError, Busy, Interrupted, TooLong, UnknownModel
from bianque.settings import Settings
from bianque.types import Message, Piece, Sampling

pytestmark = [
    pytest.mark.ray,
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(find_spec("ray") is None, reason="pip install -r tests/requirements-cluster.txt"),
]
PAIR = ("ask-mini", "advise-mini")
DRAWN = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=64, seed=7)
LONG = Sampling(temperature=0.8, min_new_tokens=300, max_new_tokens=300, seed=7)
PATIENCE = 60.0  # seconds that anything may take on a busy machine; what it takes is printed


def said(text: str) -> list[Message]:
    return [Message("user", text)]


def told(what: str, seconds: float) -> None:
    print(f"\n{what}: {seconds:.2f} s", end="")


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.config.option.markexpr != "ray":
        pytest.skip("python -m pytest -m ray -s tests/backends/test_ray.py")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's own 15 would measure what else the machine does
    import ray
    from ray import serve

    from bianque.backends import ray as ours

    folder, begun = tempfile.mkdtemp(prefix="ray"), time.monotonic()
    here: dict[str, Any] = {"include_dashboard": False, "_temp_dir": folder, "object_store_memory": 100_000_000}
    ray.init(address="local", num_cpus=2, log_to_driver=False, **here)
    serve.start(proxy_location="Disabled")
    for name in PAIR:
        serve.run(ours.replicas({"model": name, "options": OPTIONS}), name=name, route_prefix=None)
    told("cluster and two replicas of each model", time.monotonic() - begun)
    yield ours.Cluster("auto", CARDS)
    serve.shutdown()
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


OPTIONS = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.25}}


@dataclass
class Heard:
    text: str = ""
    finish: str | None = None
    first: float | None = None
    seconds: float = 0.0
    error: BianQueError | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)  # set with the first text


async def hear(backend: Any, model: str, dialogue: list[Message], sampling: Sampling = DRAWN, found: Heard | None = None) -> Heard:  # fmt: skip
    found, begun = found or Heard(), time.monotonic()
    try:
        async with aclosing(backend.stream(model, dialogue, sampling)) as pieces:
            async for piece in pieces:
                if piece.text:
                    found.first = found.first or time.monotonic() - begun
                    found.begun.set()
                found.text, found.finish = found.text + piece.text, piece.finish
    except BianQueError as error:
        found.error = error
    finally:
        found.begun.set()
    found.seconds = time.monotonic() - begun
    return found


async def status(cluster: Any, model: str, dialogue: list[Message]) -> dict[str, Any]:
    """Of the replica that a conversation belongs to."""
    from bianque.backends.ray import session_of

    handle = cluster.handles[model].options(method_name="status", session_id=session_of(model, dialogue))
    while True:
        with suppress(asyncio.TimeoutError):  # while replicas come and go, Serve loses a request now and then
            return await asyncio.wait_for(handle.remote(), 5)


async def until(what: str, test: Any) -> None:
    """Wait until something is so, and print how long that took."""
    begun = time.monotonic()
    while not await test():
        assert time.monotonic() - begun < PATIENCE, what
        await asyncio.sleep(0.02)
    told(what, time.monotonic() - begun)


async def both(cluster: Any, model: str) -> tuple[list[Message], list[Message]]:
    """Two conversations that belong to different replicas."""
    found: dict[str, list[Message]] = {}
    for number in range(64):
        talk = said(f"我头痛{number}天了")
        found.setdefault((await status(cluster, model, talk))["replica"], talk)
        if len(found) == 2:
            return tuple(found.values())  # type: ignore[return-value]
    raise AssertionError("one replica got everybody")


@pytest.mark.parametrize("model", PAIR)
def test_a_seed_gives_the_text_of_this_process(cluster, model):
    local, talk = Local(Settings(models="mini", threads=1)), said("最近总是头痛，睡不好")

    async def compare() -> None:
        here, there = await hear(local, model, talk), await hear(cluster, model, talk)
        assert (there.text, there.finish) == (here.text, here.finish) and there.text
        here, there = await hear(local, model, talk), await hear(cluster, model, talk)
        told(f"{model}, first text here {here.first:.3f} s, there {there.first:.3f} s; whole here", here.seconds)
        told("and there", there.seconds)

    asyncio.run(compare())
    assert cluster.kernel(model) == "float32"


def test_conversations_are_spread_and_each_stays(cluster):
    async def go() -> None:
        talks = [said(f"我咳嗽{number}天了") for number in range(48)]
        first = [(await status(cluster, "advise-mini", talk))["replica"] for talk in talks]
        later = [[*talk, Message("assistant", "多久了？"), Message("user", "三天")] for talk in talks]
        assert first == [(await status(cluster, "advise-mini", talk))["replica"] for talk in later]
        spread = [first.count(name) for name in set(first)]
        print(f"\nspread of {len(first)} conversations: {spread}", end="")
        assert len(spread) == 2 and min(spread) >= 6

    asyncio.run(go())


def test_many_at_once_are_all_answered(cluster):
    async def go() -> None:
        found = await asyncio.gather(*(hear(cluster, "advise-mini", said(f"胃痛{n}天")) for n in range(24)))
        assert all(one.finish for one in found) and not any(one.error for one in found)

    asyncio.run(go())


def test_whoever_leaves_ends_the_writing(cluster):
    async def go() -> None:
        talk, found = said("我失眠一个月了"), Heard()
        task = asyncio.ensure_future(hear(cluster, "advise-mini", talk, LONG, found))
        await found.begun.wait()
        assert (await status(cluster, "advise-mini", talk))["writing"] == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        async def free() -> bool:
            return (await status(cluster, "advise-mini", talk))["writing"] == 0

        await until("freed after a cancel", free)
        assert found.finish is None

    asyncio.run(go())


def test_our_errors_keep_their_codes_and_show_no_address(cluster):
    async def go() -> None:
        found = await hear(cluster, "advise-mini", said("痛" * 5000))
        assert isinstance(found.error, BadInput) and found.error.code == "BQ_TOO_LONG" and clean(found.error)
        with pytest.raises(UnknownModel):
            await anext(cluster.stream("bianque-2", said("痛"), DRAWN))
        with pytest.raises(RuntimeError) as wrong:
            await hear(cluster, "advise-mini", [Message("user", 5)])  # type: ignore[arg-type]
        assert clean(wrong.value) and wrong.value.__cause__ is None

    def clean(error: Exception) -> bool:
        return not any(word in str(error) for word in ("ip=", "pid=", "actor", "/", "Traceback"))

    asyncio.run(go())


def test_a_whole_consultation_asks_and_advises(cluster):
    async def go() -> list[str]:
        session, history, phases = Session(Guarded(cluster), *PAIR), [], []
        for message in ("我最近总是失眠，怎么办？", "直接给我建议吧"):
            async with aclosing(session.reply(history, message)) as events:
                async for event in events:
                    if isinstance(event, Speaking):
                        phases.append(event.phase)
                    if isinstance(event, Done):
                        history += [Message("user", message), event.message]
        return phases

    assert asyncio.run(go()) == ["asking", "advising"]


def test_a_replica_that_is_killed_costs_only_its_own_replies(cluster):
    async def go() -> None:
        mine, other = await both(cluster, "advise-mini")
        pids = [(await status(cluster, "advise-mini", talk))["pid"] for talk in (mine, other)]
        lost, whole = Heard(), Heard()
        tasks = [
            asyncio.ensure_future(hear(cluster, "advise-mini", talk, LONG, found))
            for talk, found in ((mine, lost), (other, whole))
        ]
        await asyncio.gather(lost.begun.wait(), whole.begun.wait())
        killed = time.monotonic()
        os.kill(pids[0], signal.SIGKILL)
        await tasks[0]
        told("its visitor is told after", time.monotonic() - killed)
        assert isinstance(lost.error, Interrupted) and lost.text and "send the message again" in str(lost.error)
        again = await asyncio.gather(*(hear(cluster, "advise-mini", said(f"腹泻{n}天")) for n in range(20)))
        assert all(found.finish and not found.error for found in again)
        await tasks[1]
        assert whole.finish == "length" and not whole.error

        async def back() -> bool:
            seen = {(await status(cluster, "advise-mini", said(f"乏力{n}天")))["pid"] for n in range(16)}
            return len(seen) == 2 and pids[0] not in seen

        await until("two replicas again after", back)
        told("that is, since the kill", time.monotonic() - killed)

    asyncio.run(go())


def test_an_update_under_way_loses_no_reply(cluster):
    from ray import serve

    from bianque.backends import ray as ours

    async def go() -> None:
        mine, other = await both(cluster, "advise-mini")
        old = {(await status(cluster, "advise-mini", talk))["pid"] for talk in (mine, other)}
        running, begun = Heard(), time.monotonic()
        task = asyncio.ensure_future(hear(cluster, "advise-mini", mine, LONG, running))
        await running.begun.wait()
        update = asyncio.ensure_future(asyncio.to_thread(
            serve.run, ours.replicas({"model": "advise-mini@16", "options": OPTIONS}), name="advise-mini", route_prefix=None
        ))  # fmt: skip
        heard = []
        async for found in replies(update):
            heard.append(found)
        await task
        assert running.finish == "length" and not running.error
        assert len(heard) > 1 and [found.error for found in heard] == [None] * len(heard)
        new = {(await status(cluster, "advise-mini", said(f"乏力{n}天")))["pid"] for n in range(16)}
        assert not new & old
        told(f"update with {len(heard)} replies meanwhile", time.monotonic() - begun)

    async def replies(update: asyncio.Future[Any]) -> AsyncGenerator[Heard, None]:
        number = 0
        while not update.done():
            yield await hear(cluster, "advise-mini", said(f"牙痛{number}天"))
            number += 1
        await update

    asyncio.run(go())


# --- with handles that only pretend -----------------------------------------------------------------------------------


@dataclass
class Response:
    """What a replica's stream brings: items, an exception, or nothing ever (None)."""

    items: list[Any]
    cancelled: bool = False

    def __aiter__(self) -> Response:
        return self

    async def __anext__(self) -> Any:
        if not self.items:
            raise StopAsyncIteration
        item = self.items.pop(0)
        if item is None:
            await asyncio.Event().wait()
        if isinstance(item, Exception) and not isinstance(item, BianQueError):
            raise item
        return item

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Handle:
    """Gives one response a request."""

    responses: list[Response]
    asked: int = 0

    def options(self, **_: Any) -> Handle:
        return self

    def remote(self, *_: Any) -> Response:
        self.asked += 1
        return self.responses[self.asked - 1]


def pretended(*streams: list[Any]) -> tuple[Heard, Handle]:
    from bianque.backends import ray as ours

    cluster, handle = object.__new__(ours.Cluster), Handle([Response([*stream]) for stream in streams])
    cluster.cards = {card.name: card for card in CARDS}
    cluster.handles, cluster.kernels = {"advise-mini": handle}, {}  # type: ignore[dict-item]
    return asyncio.run(hear(cluster, "advise-mini", said("痛"))), handle


@pytest.fixture
def pieces() -> dict[str, Any]:
    from ray.exceptions import ActorDiedError
    from ray.serve.exceptions import BackPressureError

    from bianque.backends.ray import Begun

    return {
        "begun": Begun("float32", "a"), "text": Piece(text="好"), "end": Piece(finish="stop"), "dead": ActorDiedError(),
        "full": BackPressureError(1, 1), "lost": None, "ours": TooLong("太长"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "asked", "text", "error"),
    [
        (["begun text end"], 1, "好", None),
        (["dead", "begun text end"], 2, "好", None),
        (["begun dead", "begun text end"], 2, "好", None),
        (["begun text dead"], 1, "好", Interrupted),
        (["dead", "dead"], 2, "", Interrupted),
        (["full"], 1, "", Busy),
        (["lost", "begun text end"], 2, "好", None),
        (["lost", "lost"], 2, "", Busy),
        (["begun ours"], 1, "", TooLong),
    ],
)
def test_only_what_nobody_saw_is_sent_again(pieces, monkeypatch, streams, asked, text, error):
    monkeypatch.setattr("bianque.backends.ray.TAKEN", 0.05)
    found, handle = pretended(*([pieces[name] for name in stream.split()] for stream in streams))
    assert (handle.asked, found.text, type(found.error)) == (asked, text, error or type(None))
    assert all(response.cancelled for response in handle.responses[:asked])

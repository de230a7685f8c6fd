"""The models on several machines: Ray Serve keeps replicas of them, and this process asks those in the place of its own.

The only file that knows ray. `serve run` makes the replicas from the YAML that `python -m bianque cluster` prints; the page
and all other doors stay in an ordinary process, which finds them by BIANQUE_CLUSTER.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

from bianque.backends.local import SLOTS, Local
from bianque.catalog import builtin, custom
from bianque.catalog.card import Model
from bianque.errors import BianQueError, Busy, Interrupted, SettingsError
from bianque.settings import Settings
from bianque.types import Dialogue, Message, Piece, Progress, Sampling

# One conversation always at the same replica, which may still know its beginning.
ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
QUEUED = 256  # requests that wait for a replica, those included that are being given to one: a burst is no overload
LONGEST_REPLY = 180.0  # seconds that a replica may still write when it is told to end
TAKEN = (
    30.0  # seconds in which a replica takes a reply up; while replicas come and go, Serve loses a request now and then
)
GONE = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)


class Begun(NamedTuple):
    """The first item of a replica's stream: what it computes with, and which one it is."""

    kernel: str | None
    replica: str


Answer = Begun | Piece | BianQueError


class Engines:
    """A replica: an ordinary Local backend with one model, which is loaded before anybody is sent here."""

    def __init__(self, model: str) -> None:
        settings, known = custom.known(Settings.read())
        if not settings.threads:  # its share of the cores: a team of threads beyond it would wait for others' work
            share = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
            settings = replace(settings, threads=max(1, int(share)))
        self.local = Local(settings, [card for card in known if card.checkpoint])
        self.model = builtin.find(self.local.cards, model).name
        self.replica = serve.get_replica_context().replica_id.unique_id
        with ThreadPoolExecutor(1) as aside:  # Ray's event loop runs in this thread
            aside.submit(lambda: asyncio.run(self.load())).result()

    async def load(self) -> None:
        async with self.local.pool.lease(self.model) as lease, aclosing(lease.loading()) as loading:
            async for _ in loading:
                pass

    async def check_health(self) -> None:
        """Ray asks every few seconds; a replica that raises is replaced."""
        engine = self.local.pool.engine(self.model)
        thread = engine.decoder.thread if engine else None
        if thread and not thread.is_alive():
            raise RuntimeError("the decode thread has ended")

    async def status(self) -> dict[str, Any]:
        """Which replica this is, and how many replies it is writing."""
        writing = sum(len(resident.leases) for resident in self.local.pool.residents.values())
        return {"replica": self.replica, "pid": os.getpid(), "writing": writing}

    async def stream(self, dialogue: list[Message], sampling: Sampling) -> AsyncGenerator[Answer, None]:
        """One reply. Our own errors come as its last item: as exceptions they would bring a trace with addresses."""
        yield Begun(self.local.kernel(self.model), self.replica)
        try:
            async with aclosing(self.local.stream(self.model, dialogue, sampling)) as pieces:
                async for piece in pieces:
                    yield piece
        except BianQueError as error:
            yield error


def replicas(args: dict[str, Any]) -> serve.Application:
    """The application of one card, `args["model"]`; the YAML beside it says how many replicas there are, and where.

    `options` are more of `serve.deployment`'s, for whoever runs it without YAML.
    """
    usual = {
        "max_ongoing_requests": SLOTS["cuda"] + Settings().max_waiting,  # the engine's own queue tells who is ahead
        "max_queued_requests": QUEUED, "graceful_shutdown_timeout_s": LONGEST_REPLY, "health_check_period_s": 5,
        "health_check_timeout_s": 30,
        "request_router_config": {"request_router_class": ROUTER, "request_router_kwargs": {"num_virtual_nodes": 500}},
    }  # fmt: skip
    made: Any = serve.deployment(Engines, name="Engines", **usual | args.get("options", {}))
    return made.bind(args["model"])


class Cluster:
    """A Backend over the replicas that run in a Ray cluster: of these cards, those that were deployed there."""

    def __init__(self, address: str, cards: Sequence[Model]) -> None:
        try:
            ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
            running = serve.status().applications
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            raise SettingsError(
                f"BIANQUE_CLUSTER={address!r}: 连不上 Ray 集群，请先运行 ray start --head 与 serve run "
                f"(no Ray cluster there: ray start --head, then serve run): {type(error).__name__}"
            ) from None
        self.handles = {card.name: serve.get_app_handle(card.name) for card in cards if card.name in running}
        if not self.handles:
            raise SettingsError(
                f"BIANQUE_CLUSTER={address!r}: 集群里没有这里的模型，请用 python -m bianque cluster 的 YAML 部署 "
                "(none of our models is deployed there: serve run the YAML of python -m bianque cluster)"
            )
        # Their bits a weight are the cluster's, and nobody here chooses them.
        self.cards = {card.name: replace(card, checkpoint=None) for card in cards if card.name in self.handles}
        self.kernels: dict[str, str | None] = {}

    def models(self) -> Sequence[Model]:
        return tuple(self.cards.values())

    def loaded(self, model: str) -> bool:
        return builtin.find(self.cards, model).name in self.handles

    def kernel(self, model: str) -> str | None:
        """What the replica that last began a reply computes with."""
        return self.kernels.get(builtin.find(self.cards, model).name)

    def prepare(self, model: str) -> None:
        """Nothing: a replica has its model loaded before it is asked."""

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        name, begun = builtin.find(self.cards, model).name, False
        yield Piece(progress=Progress(name, "queued", 0.0))
        for last in (False, True):
            try:
                async with aclosing(self.asked(name, dialogue, sampling)) as pieces:
                    async for piece in pieces:
                        begun = begun or bool(piece.text)
                        yield piece
                return
            except asyncio.TimeoutError:
                if last:
                    raise busy(name) from None
            except GONE:
                if begun or last:  # nothing is sent again of which something was shown
                    raise Interrupted(
                        "写这个回答的进程中途结束了，请重新发送 (what wrote this reply has ended; send the message again)"
                    ) from None

    async def asked(self, name: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """One replica's reply. Leaving it ends the writing there: a handle goes on by itself otherwise."""
        handle = self.handles[name].options(stream=True, method_name="stream", session_id=session_of(name, dialogue))
        response: Any = handle.remote(list(dialogue), sampling)
        try:
            self.kernels[name] = (await asyncio.wait_for(anext(response), TAKEN)).kernel
            async for item in response:
                if isinstance(item, BianQueError):
                    raise item
                yield item
        except BackPressureError:
            raise busy(name) from None
        except GONE:
            raise
        except RayTaskError as error:  # its text is a trace with addresses
            raise RuntimeError(f"a replica failed: {type(error.cause).__name__}") from None
        finally:
            response.cancel()


def busy(name: str) -> Busy:
    return Busy(
        f"正在等待 {name} 的人太多，请 {Busy.retry_after} 秒后再试 (too many are waiting; try again in {Busy.retry_after} s)"
    )


def session_of(name: str, dialogue: Dialogue) -> str:
    """The same for all turns of a conversation, and nothing that could be read."""
    first = next((message.content for message in dialogue if message.role == "user"), "")
    return hashlib.sha256(f"{name}\0{first}".encode(errors="replace")).hexdigest()[:16]

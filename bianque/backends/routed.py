"""Several backends as one: each model is answered by the backend that has its card."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from bianque.backends.base import Backend
from bianque.backends.local import Local, can_run
from bianque.catalog import builtin
from bianque.catalog.card import Model
from bianque.errors import SettingsError
from bianque.settings import Settings
from bianque.types import Dialogue, Piece, Sampling


class Routed:
    """Asks the backends in the place of one."""

    def __init__(self, backends: Iterable[Backend]) -> None:
        self.backends = {card.name: backend for backend in backends for card in backend.models()}
        self.cards = {name: builtin.by_name(backend.models())[name] for name, backend in self.backends.items()}

    def of(self, model: str) -> Backend:
        return self.backends[builtin.find(self.cards, model).base]

    def models(self) -> Sequence[Model]:
        return tuple(self.cards.values())

    def loaded(self, model: str) -> bool:
        return self.of(model).loaded(model)

    def kernel(self, model: str) -> str | None:
        return self.of(model).kernel(model)

    def failure(self, model: str) -> str | None:
        return getattr(self.of(model), "failure", lambda name: None)(model)

    def prepare(self, model: str) -> None:
        self.of(model).prepare(model)

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        async with aclosing(self.of(model).stream(model, dialogue, sampling)) as pieces:
            async for piece in pieces:
                yield piece


def cluster(address: str, cards: Sequence[Model]) -> Backend:
    try:
        from bianque.backends.ray import Cluster
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"BIANQUE_CLUSTER={address!r}: 需要 {error.name}，请运行 pip install -r tests/requirements-cluster.txt "
            f"(the package {error.name} is needed)"
        ) from None
    return Cluster(address, cards)


class Opened(NamedTuple):
    """A process's backend, which of its models can answer now, and which of them may be drawn for blind battles.

    To find out may take seconds.
    """

    backend: Backend
    runs: Callable[[str], bool]
    battles: Callable[[str], bool]


def open_backend(
    settings: Settings, known: Sequence[Model], together: Sequence[str] = (), zero: Callable[[Local], Backend] | None = None
) -> Opened:  # fmt: skip
    """The models of this process: on this machine or in the cluster that the settings name, and behind URLs.

    `together` are those that speak together; `zero` takes this machine's models to a GPU that comes and goes.
    """
    here = [card for card in known if card.endpoint is None]
    runs: Callable[[str], bool]
    if settings.cluster:
        first: Backend = cluster(settings.cluster, here)
        runs = first.loaded
    else:
        names = {card.name for card in here}
        local = Local(settings, here, [name for name in together if name.partition("@")[0] in names])
        first = zero(local) if zero else local
        runs = first.loaded if zero else can_run(local)
    remote = {card.name: card.endpoint for card in known if card.endpoint}
    if not remote:
        return Opened(first, runs, runs)
    from bianque.backends.remote import Remote

    backend = Routed([first, Remote([card for card in known if card.endpoint])])
    return Opened(
        backend,
        runs=lambda name: name in remote or runs(name),
        battles=lambda name: remote[name].arena if name in remote else runs(name),
    )

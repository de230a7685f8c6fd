"""Several backends as one: each model is answered by the backend that has its card."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from bianque.backends.base import Backend
from bianque.backends.local import Local, can_run
from bianque.catalog import builtin
from bianque.catalog.card import Model
from bianque.settings import Settings
from bianque.types import Dialogue, Piece, Sampling


class Routed:
    """Asks the backends in the place of one. `runs` says which models can answer now, and may take seconds."""

    def __init__(self, backends: Iterable[Backend], runs: Callable[[str], bool] = bool) -> None:
        self.runs = runs
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

    def prepare(self, model: str) -> None:
        self.of(model).prepare(model)

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        async with aclosing(self.of(model).stream(model, dialogue, sampling)) as pieces:
            async for piece in pieces:
                yield piece

    def battles(self, name: str) -> bool:
        """Whether a model may be drawn for a blind battle: one that runs here, or whose card lets its server be asked."""
        endpoint = builtin.find(self.cards, name).endpoint
        return endpoint.arena if endpoint else self.runs(name)


def open_backend(
    settings: Settings, known: Sequence[Model], together: Sequence[str] = (), zero: Callable[[Local], Backend] | None = None
) -> Routed:  # fmt: skip
    """The models of this process: on this machine or in the cluster that the settings name, and behind URLs.

    `together` are those that speak together; `zero` takes this machine's models to a GPU that comes and goes.
    """
    remote = [card for card in known if card.endpoint]
    here = [card for card in known if card.endpoint is None]
    names = {card.name for card in here}
    runs: Callable[[str], bool]
    if settings.cluster:
        from bianque.backends.ray import Cluster

        first: Backend = Cluster(settings.cluster, here)
        runs = first.loaded
    else:
        local = Local(settings, here, [name for name in together if name.partition("@")[0] in names])
        first = zero(local) if zero else local
        runs = first.loaded if zero else can_run(local)
    if not remote:
        return Routed([first], runs)
    from bianque.backends.remote import Remote

    return Routed([first, Remote(remote)], runs)

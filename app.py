"""The Space: read the environment, choose who speaks, build the page, serve it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ["GRADIO_SSR_MODE"] = "False"  # Spaces sets it, and serving the page from Node needs more than this page does
# Gradio recomputes a summary of all events after each; these keep it from growing.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000")

from bianque import address, proxies
from bianque.errors import BianQueError, SettingsError

try:
    proxies.configure()  # Gradio makes its first HTTP clients when it is imported, and reads the port
    address.port()
except SettingsError as error:
    sys.exit(f"{error.code}: {error}")

ON_ZERO = bool(os.environ.get("SPACES_ZERO_GPU"))
if ON_ZERO:
    import spaces  # noqa: F401 (changes torch and Gradio, so it comes before both)

from bianque.api.limits import Limits
from bianque.arena.votes import Publisher, Votes
from bianque.backends.base import Backend
from bianque.backends.local import Local
from bianque.backends.routed import open_backend
from bianque.catalog import custom, default
from bianque.consult.guarded import Guarded
from bianque.consult.session import Session
from bianque.settings import Settings
from bianque.ui import serve
from bianque.ui.arena import Arena
from bianque.ui.page import Page

HERE = Path(__file__).parent


def page(settings: Settings, publisher: Publisher, limits: Limits) -> tuple[Page, Callable[[str], bool]]:
    """The page, and which cards can answer here."""
    settings, known = custom.known(settings)
    ask, advise = default.choose(settings, known)
    opened = open_backend(settings, known, (ask, advise), on_zero_gpu if ON_ZERO else None)
    session = Session(Guarded(opened.backend), ask, advise, settings.question_budget)
    arena = Arena(session, publisher.votes, publisher.where, opened.battles, limits)
    return Page(session, HERE / "examples.json", arena, limits), opened.runs


def on_zero_gpu(local: Local) -> Backend:
    """The models to preload, or the pair that speaks, on a GPU that comes and goes with each call."""
    from bianque.backends.zero import Zero

    return Zero(local, local.settings.preload or [card.name for card in local.together])


class Space(NamedTuple):
    """All that is served, with the settings, and the votes that are pushed to a dataset repo."""

    session: Session
    demo: Any
    publisher: Publisher
    settings: Settings
    can_run: Callable[[str], bool]
    limits: Limits


def build() -> Space:
    """Read the environment, and build the page. With a GPU this asks the Hub whether the published models can be had."""
    settings = Settings.read()
    publisher = Publisher(Votes(settings.votes), settings.votes_repo)
    limits = Limits.of(settings)
    consultation, runs = page(settings, publisher, limits)
    return Space(consultation.session, consultation.build(), publisher, settings, runs, limits)


def launch(space: Space, **options: Any) -> Any:
    return serve.launch(space.demo, space.session, space.settings, space.can_run, space.limits, **options)


def main() -> None:
    signal.signal(signal.SIGTERM, serve.stop)  # so is a Space stopped; the last votes are pushed then too
    try:
        space = build()
        try:
            launch(space)
        finally:
            space.publisher.close()
    except BianQueError as error:  # a variable, or the port
        sys.exit(f"{error.code}: {error}")


if __name__ == "__main__":
    main()

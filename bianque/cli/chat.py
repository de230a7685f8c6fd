"""`python -m bianque chat`: a consultation in the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from bianque.errors import BadInput
from bianque.types import MODES, ROLE_MODES, Mode


def chat(
    model: Annotated[
        str | None, typer.Option(metavar="CARD", help="this model alone; its role decides what it does")
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="who answers; auto if left out")] = None,
    ask: Annotated[str | None, typer.Option(metavar="CARD", help="the model that asks")] = None,
    advise: Annotated[str | None, typer.Option(metavar="CARD", help="the model that advises")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; a model's own default if left out")] = None,
    top_p: float | None = None,
    max_new_tokens: int | None = None,
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same reply")] = None,
) -> int:
    """A consultation in the terminal; piped input is a turn a line."""
    from bianque.backends.routed import open_backend
    from bianque.catalog import builtin, custom, default
    from bianque.cli import terminal
    from bianque.consult.guarded import Guarded
    from bianque.consult.session import Session
    from bianque.consult.spec import Choices, SamplingOverrides
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    modes = MODES
    if model:
        if ask or advise:
            raise BadInput("--model 不能与 --ask、--advise 同用 (--model alone decides who speaks)")
        modes = ROLE_MODES[builtin.find(builtin.by_name(known), model).role]
    named: dict[str, Any] = {"ask": ask or model, "advise": advise or model}
    asks, advises = default.choose(replace(settings, **{key: name for key, name in named.items() if name}), known)
    session = Session(
        Guarded(open_backend(settings, known, (asks, advises)).backend), asks, advises, settings.question_budget
    )
    choices = Choices(mode or modes[0], sampling=SamplingOverrides(temperature, top_p, max_new_tokens, seed))
    return terminal.Terminal(session, choices, modes, terminal.language(), settings.paths).run()

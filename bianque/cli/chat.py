"""`python -m bianque chat`: its options, and the consultation that they describe."""

from __future__ import annotations

import argparse
from dataclasses import replace

from bianque.errors import BadInput
from bianque.types import MODES, ROLE_MODES


def add_chat(commands) -> None:
    command = commands.add_parser("chat", help="a consultation in the terminal; piped input is a turn a line")
    command.add_argument("--model", metavar="CARD", help="this model alone; its role decides what it does")
    command.add_argument("--mode", choices=MODES, help="who answers; auto if left out")
    command.add_argument("--ask", metavar="CARD", help="the model that asks")
    command.add_argument("--advise", metavar="CARD", help="the model that advises")
    command.add_argument("--temperature", type=float, help="0 is greedy; a model's own default if left out")
    command.add_argument("--top-p", type=float)
    command.add_argument("--max-new-tokens", type=int)
    command.add_argument("--seed", type=int, help="the same seed gives the same reply")
    command.set_defaults(run=chat)


def chat(options: argparse.Namespace) -> int:
    from bianque.backends.local import Local
    from bianque.catalog import builtin, custom, default
    from bianque.cli import terminal
    from bianque.consult.session import Session
    from bianque.consult.spec import RANGES, Choices, SamplingOverrides
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    modes = MODES
    if options.model:
        if options.ask or options.advise:
            raise BadInput("--model 不能与 --ask、--advise 同用 (--model alone decides who speaks)")
        modes = ROLE_MODES[builtin.find(builtin.by_name(known), options.model).role]
    named = {"ask": options.ask or options.model, "advise": options.advise or options.model}
    ask, advise = default.choose(replace(settings, **{key: name for key, name in named.items() if name}), known)
    drawn = SamplingOverrides(**{name: getattr(options, name) for name in RANGES})
    session = Session(Local(settings, known, (ask, advise)), ask, advise, settings.question_budget)
    choices = Choices(options.mode or modes[0], sampling=drawn)
    return terminal.Terminal(session, choices, modes, terminal.language(), settings.paths).run()

"""`python -m bianque train-mini | measure-mini | models | bench …`: imports wait for their command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bianque.errors import BianQueError
from bianque.types import Phase


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bianque", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (add_train, add_measure, add_models, add_bench):
        add(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except BianQueError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def add_train(commands) -> None:
    command = commands.add_parser("train-mini", help="train a bundled preview model from scratch; resumes by itself")
    command.add_argument("role", choices=("ask", "advise"))
    command.add_argument("--medical", type=Path, nargs="+", required=True, help="JSONL(.gz) of medical dialogues")
    command.add_argument("--general", type=Path, nargs="*", default=[], help="JSONL(.gz) of other dialogues")
    command.add_argument("--valid", type=Path, nargs="+", required=True, help="JSONL(.gz) held out for the choice")
    command.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    command.add_argument("--work", type=Path, required=True, help="folder of checkpoints")
    command.add_argument("--threads", type=int, default=0)
    command.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change the plan, e.g. role=4")
    command.set_defaults(run=train_mini)


def train_mini(options: argparse.Namespace) -> None:
    import torch

    from bianque.train import mini

    if options.threads:
        torch.set_num_threads(options.threads)
    plan = mini.Plan(**changes(options.set, mini.Plan))
    say = lambda line: print(line, flush=True)
    mini.train(options.role, options.medical, options.general, options.valid, options.out, plan, options.work, say)


def changes(pairs: Sequence[str], plan: type) -> dict[str, Any]:
    """`name=value` pairs as the plan's own types."""
    known = {field.name: field.type for field in fields(plan)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in known:
            raise BianQueError(f"--set {pair}: no such setting; choose one of {', '.join(known)}")
        try:
            found[name] = float(value) if known[name] == "float" else int(value)
        except ValueError:
            raise BianQueError(f"--set {pair}: {known[name]} needed") from None
    return found


def add_measure(commands) -> None:
    command = commands.add_parser("measure-mini", help="the bundled models beside two baselines, on held-out dialogues")
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--train", type=Path, nargs="+", required=True, help="what the baselines learn from")
    command.add_argument("--limit", type=int, help="so many dialogues, chosen by their ids; all if left out")
    command.add_argument("--json", type=Path, help="also write the figures here")
    command.add_argument("--path", nargs="*", default=[], metavar="CARD=FOLDER", help="measure another checkpoint")
    command.set_defaults(run=measure_mini)


def measure_mini(options: argparse.Namespace) -> None:
    from bianque.backend import Local
    from bianque.evaluate.mini import measure_mini as measure
    from bianque.evaluate.neural import Neural
    from bianque.settings import Settings, folders

    local = Local(Settings(paths=folders(",".join(options.path))))
    roles: dict[str, Phase] = {"ask-mini": "asking", "advise-mini": "advising"}
    subjects = [(Neural(local.load(name, lambda progress: None)), phase) for name, phase in roles.items()]
    report = measure(options.data, options.train, subjects, options.limit)
    print(report.markdown())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def add_models(commands) -> None:
    commands.add_parser("models", help="the table of models").set_defaults(run=models)


def models(options: argparse.Namespace) -> None:
    from bianque.registry import CARDS

    for card in CARDS:
        where = f"{card.repo}@{card.revision}" if card.repo else "bundled"
        print(
            f"{card.name:12} {card.architecture:8} {card.role:8} {card.bytes / 1e9:6.2f} GB  {where}  [{card.licence}]"
        )


def add_bench(commands) -> None:
    command = commands.add_parser("bench", help="measure, beside a named peer in the same run")
    command.add_argument("what", choices=("startup",))
    command.add_argument("--rounds", type=int, default=7)
    command.add_argument("--json", type=Path)
    command.set_defaults(run=bench)


def bench(options: argparse.Namespace) -> None:
    from bianque.bench import startup

    startup(options.rounds, options.json)


if __name__ == "__main__":
    sys.exit(main())

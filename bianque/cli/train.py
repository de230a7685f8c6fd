"""`python -m bianque compose | train-mini | measure-mini`."""

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


def add_compose(commands) -> None:
    command = commands.add_parser("compose", help="compose consultations from the knowledge base, as JSONL")
    command.add_argument("count", type=int, help="how many")
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same consultations")
    command.add_argument("--out", type=Path, required=True, help="a .jsonl or .jsonl.gz file")
    command.set_defaults(run=compose)


def compose(options: argparse.Namespace) -> None:
    from bianque.data import compose

    compose.write(options.count, options.seed, options.out)


def add_train(commands) -> None:
    command = commands.add_parser("train-mini", help="train the bundled preview models from scratch; resumes by itself")
    command.add_argument("role", choices=("ask", "advise", "both"))
    command.add_argument("--data", type=Path, nargs="*", default=[], help="JSONL(.gz) of real dialogues")
    command.add_argument("--out", type=Path, required=True, help="folder of the finished models, a folder each")
    command.add_argument("--work", type=Path, required=True, help="folder of vocabularies and checkpoints")
    command.add_argument("--threads", type=int, default=0)
    command.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change the plan, e.g. steps=400")
    command.set_defaults(run=train_mini)


def train_mini(options: argparse.Namespace) -> int:
    import torch

    from bianque.train import mini

    plan = mini.Plan(**changes(options.set, mini.Plan))
    if options.role == "both":
        return mini.both(sys.argv[3:])
    if options.threads:
        torch.set_num_threads(options.threads)
    say = lambda line: print(f"{options.role} {line}", flush=True)
    name = f"{options.role}-mini"
    mini.train(options.role, options.data, options.out / name, plan, options.work / name, say)
    return 0


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
    from bianque.backends.local import Local
    from bianque.settings import Settings, folders
    from bianque.train.measure import measure_mini as measure
    from bianque.train.neural import Neural

    local = Local(Settings(paths=folders(",".join(options.path))))
    roles: dict[str, Phase] = {"ask-mini": "asking", "advise-mini": "advising"}
    engine = lambda name: local.load(name, local.plans(name)[0], lambda progress: None)
    subjects = [(Neural(engine(name)), phase) for name, phase in roles.items()]
    report = measure(options.data, options.train, subjects, options.limit)
    print(report.markdown())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

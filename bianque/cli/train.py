"""`python -m bianque train-mini | blend-mini | measure-mini`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bianque.errors import BianQueError
from bianque.types import Phase


def add_train(commands) -> None:
    command = commands.add_parser("train-mini", help="train a bundled preview model from scratch; resumes by itself")
    command.add_argument("role", choices=("ask", "advise"))
    command.add_argument("--medical", type=Path, nargs="+", required=True, help="JSONL(.gz) of medical dialogues")
    command.add_argument("--general", type=Path, nargs="*", default=[], help="JSONL(.gz) of other dialogues")
    command.add_argument("--valid", type=Path, nargs="+", required=True, help="JSONL(.gz) held out for the choice")
    command.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    command.add_argument("--work", type=Path, required=True, help="folder of checkpoints")
    command.add_argument("--start", type=Path, help="a checkpoint to begin with, its vocabulary beside it")
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
    mini.train(
        options.role,
        options.medical,
        options.general,
        options.valid,
        options.out,
        plan,
        options.work,
        say,
        options.start,
    )


def add_blend(commands) -> None:
    command = commands.add_parser("blend-mini", help="finish a preview model from checkpoints of its training")
    command.add_argument("role", choices=("ask", "advise"))
    command.add_argument("--part", nargs="+", required=True, metavar="SHARE=FILE", help="e.g. 0.6=run/best.pt")
    command.add_argument("--valid", type=Path, nargs="+", required=True, help="JSONL(.gz) held out")
    command.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    command.add_argument("--work", type=Path, required=True, help="folder of the tokenizer")
    command.set_defaults(run=blend_mini)


def blend_mini(options: argparse.Namespace) -> None:
    from bianque.train import blend

    try:
        parts = [(float(share), Path(file)) for share, _, file in (part.partition("=") for part in options.part)]
        blend.blend(options.role, parts, options.valid, options.out, options.work)
    except (ValueError, OSError) as error:
        raise BianQueError(f"--part: {error}") from None


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
    engine = lambda name: local.load(name, local.fits(name)[0], lambda progress: None)
    subjects = [(Neural(engine(name)), phase) for name, phase in roles.items()]
    report = measure(options.data, options.train, subjects, options.limit)
    print(report.markdown())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

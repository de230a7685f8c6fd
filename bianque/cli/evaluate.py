"""`python -m bianque evaluate`: its options."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="models on the dialogues of a file, or recorded outputs: a report")
    command.add_argument("--data", type=Path, required=True, help="JSONL, JSON or CSV of dialogues, also as .gz")
    command.add_argument("--out", type=Path, metavar="DIR", help="rows, figures and report; the same command resumes")
    told = "next: the recorded dialogue before each doctor's turn; consultation: its own, with the patient's turns"
    command.add_argument("--task", nargs="+", choices=("next", "consultation"), help=f"{told}; next if left out")
    told = "auto, ask, advise or a card, as bianque-2:temperature=0,seed=1; what is left out is as below"
    command.add_argument("--model", nargs="+", metavar="NAME[:OPTIONS]", help=told)
    command.add_argument("--temperature", type=float, help="0 is greedy; a model's own default if left out")
    command.add_argument("--top-p", type=float)
    command.add_argument("--max-new-tokens", type=int)
    command.add_argument("--seed", type=int, default=0, help="each turn draws with a seed of its own from this one; 0")
    command.add_argument("--limit", type=int, metavar="N", help="so many dialogues, chosen by their ids")
    command.add_argument(
        "--concurrency",
        type=int,
        default=4,
        metavar="N",
        help="replies at a time; 4 (1 makes runs of 8 bits repeatable)",
    )
    command.add_argument("--recorded", action="store_true", help="score the outputs in the file; no model runs")
    command.add_argument("--references", type=Path, metavar="FILE", help="human answers for recorded outputs")
    command.add_argument("--judge", metavar="URL", help="an OpenAI-compatible server that scores whole dialogues")
    command.add_argument("--judge-model", metavar="NAME")
    command.add_argument("--judge-key-env", metavar="VAR", help="the environment variable with the judge's key")
    command.add_argument("--fresh", action="store_true", help="forget what the folder has")
    command.add_argument("--preview", action="store_true", help="show what the file holds and what is wrong in it")
    command.set_defaults(run=evaluate)


def evaluate(options: argparse.Namespace) -> int:
    from bianque.cli.evaluate_command import command

    return command(options)

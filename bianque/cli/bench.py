"""`python -m bianque bench`: measure, beside a named peer in the same run."""

from __future__ import annotations

import argparse
from pathlib import Path

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4")


def add_bench(commands) -> None:
    command = commands.add_parser("bench", help="measure, beside a named peer in the same run")
    kinds = command.add_subparsers(required=True, metavar="what")
    told = {
        "startup": "from starting the process to a page that takes text",
        "load": "seconds and memory of loading a checkpoint",
        "decode": "milliseconds to the first token and for each further one",
        "prefill": "milliseconds to the first token, for several prompts",
        "concurrency": "tokens a second of several visitors at once",
        "growth": "what longer contexts, more rows and more models cost, beside what the arithmetic says",
        "estimate": "on paper: how many visitors one accelerator serves",
    }
    for what, help in told.items():
        kind = kinds.add_parser(what, help=help)
        kind.add_argument("--json", type=Path, help="also write every figure here")
        kind.set_defaults(run=bench, what=what)
        if what == "estimate":
            add_estimate(kind)
            continue
        kind.add_argument("--rounds", type=int, default=7)
        if what not in ("startup", "load"):
            add_measured(kind)
        if what in ("decode", "prefill", "concurrency"):
            add_contest(kind)
        if what in ("decode", "concurrency"):
            add_decoding(kind)
        if what == "prefill":
            kind.set_defaults(prompt=[64, 256, 768])
        if what == "growth":
            kind.add_argument("--precision", default="bf16", choices=PRECISIONS)
            kind.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the curves; needs matplotlib")


def add_measured(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--arch", choices=("t5", "chatglm"), default="t5")
    kind.add_argument("--size", choices=("true", "mini", "tiny"), default="true", help="mini: as the bundled model")
    kind.add_argument("--layers", type=int, help="fewer than the shape has")
    kind.add_argument("--threads", type=int, default=0, help="all cores but one if left out")
    kind.add_argument("--device", default="cpu")
    told = "a round of which the host of a virtual machine takes more is run again; 5 if left out"
    kind.add_argument("--steal", type=float, default=5.0, metavar="PERCENT", help=told)


def add_contest(kind: argparse.ArgumentParser) -> None:
    pair = lambda value: tuple(value.split("=", 1))
    kind.add_argument("--precision", nargs="+", default=["bf16"], choices=PRECISIONS)
    kind.add_argument("--prompt", type=int, nargs="+", default=[64], help="tokens")
    kind.add_argument("--peer", nargs="*", default=[], choices=("hf", "ctranslate2"))
    kind.add_argument("--beside", nargs="*", default=[], type=pair, metavar="NAME=COMMAND", help="any other peer")


def add_decoding(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--tokens", type=int, default=64, help="of a reply")
    kind.add_argument("--visitors", type=int, nargs="+", default=[1, 8])
    kind.add_argument("--sample", action="store_true", help="draw tokens, as BianQue-1.0 does; else greedy")


def add_estimate(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--prompt", type=int, default=512, help="tokens of a prompt, which each reply has one of")
    kind.add_argument("--tokens", type=int, default=128, help="of a reply")
    kind.add_argument("--bandwidth-share", type=float, default=0.6, help="of the data sheet's GB/s that is reached")
    kind.add_argument("--compute-share", type=float, default=0.4, help="of the data sheet's TFLOP/s that is reached")


def bench(options: argparse.Namespace) -> None:
    from importlib import import_module

    from bianque.nn import processor

    processor.settle()
    getattr(import_module(f"bianque.bench.{options.what}"), options.what)(options)

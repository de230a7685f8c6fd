"""`python -m bianque bench`: measure, beside a named peer in the same run."""

from __future__ import annotations

import argparse
from pathlib import Path

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4")
BENCHES = {
    "startup": "from starting the process to a page that takes text",
    "decode": "milliseconds to the first token and for each further one",
    "concurrency": "tokens a second of several visitors at once",
}


def add_bench(commands) -> None:
    command = commands.add_parser("bench", help="measure, beside a named peer in the same run")
    benches = command.add_subparsers(required=True, metavar="what")
    for name, help in BENCHES.items():
        options = benches.add_parser(name, help=help)
        options.add_argument("--json", type=Path, help="also write every figure here")
        options.add_argument("--rounds", type=int, default=7)
        options.set_defaults(run=bench, what=name)
        if name != "startup":
            add_decoding(options)


def add_decoding(options: argparse.ArgumentParser) -> None:
    pair = lambda value: tuple(value.split("=", 1))
    options.add_argument("--arch", choices=("t5", "chatglm"), default="t5")
    options.add_argument("--size", choices=("true", "mini", "tiny"), default="true", help="mini: as the bundled model")
    options.add_argument("--layers", type=int, help="fewer than the shape has")
    options.add_argument("--threads", type=int, default=0, help="all cores but one if left out")
    options.add_argument("--device", default="cpu")
    options.add_argument(
        "--steal", type=float, default=5.0, metavar="PERCENT",
        help="a round of which the host of a virtual machine takes more is run again; 5 if left out",
    )  # fmt: skip
    options.add_argument("--precision", nargs="+", default=["bf16"], choices=PRECISIONS)
    options.add_argument("--prompt", type=int, nargs="+", default=[64], help="tokens")
    options.add_argument("--tokens", type=int, default=64, help="of a reply")
    options.add_argument("--visitors", type=int, nargs="+", default=[1, 8])
    options.add_argument("--sample", action="store_true", help="draw tokens, as BianQue-1.0 does; else greedy")
    options.add_argument("--peer", nargs="*", default=[], choices=("hf", "ctranslate2"))
    options.add_argument("--beside", nargs="*", default=[], type=pair, metavar="NAME=COMMAND", help="any other peer")


def bench(options: argparse.Namespace) -> None:
    from importlib import import_module

    from bianque.nn import cpu

    cpu.configure_runtime()
    getattr(import_module(f"bianque.bench.{options.what}"), options.what)(options)

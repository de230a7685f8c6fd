"""`python -m bianque bench`: measure, beside a named peer in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import typer

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4")
PEERS = ("hf", "ctranslate2")
Json = Annotated[Path | None, typer.Option(help="also write every figure here")]
Rounds = Annotated[int, typer.Option(help="each runs every contestant once")]


def among(names: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """typer takes no list of a Literal."""

    def check(values: list[str]) -> list[str]:
        for value in values:
            if value not in names:
                raise typer.BadParameter(f"{value!r}: choose from {', '.join(names)}")
        return values

    return check


bench = typer.Typer(help="Measure, beside a named peer in the same run; without a name: one visitor, and eight.")


def options_of(
    arch: Literal["t5", "chatglm"] = "t5",
    size: Annotated[Literal["true", "mini", "tiny"], typer.Option(help="mini: as the bundled model")] = "true",
    layers: Annotated[int | None, typer.Option(help="fewer than the shape has")] = None,
    threads: Annotated[int, typer.Option(help="0: all cores but one")] = 0,
    device: str = "cpu",
    steal: Annotated[
        float, typer.Option(metavar="PERCENT", help="a round of which a virtual machine's host takes more is run again")
    ] = 5.0,
    precision: Annotated[list[str], typer.Option(callback=among(PRECISIONS), help=" ".join(PRECISIONS))] = ["bf16"],  # noqa: B006
    prompt: Annotated[list[int], typer.Option(help="tokens")] = [64],  # noqa: B006
    tokens: Annotated[int, typer.Option(help="of a reply")] = 64,
    visitors: list[int] = [1, 8],  # noqa: B006
    sample: Annotated[bool, typer.Option("--sample", help="draw tokens, as BianQue-1.0 does; else greedy")] = False,
    peer: Annotated[list[str], typer.Option(callback=among(PEERS), help=" ".join(PEERS))] = [],  # noqa: B006
    beside: Annotated[list[str], typer.Option(metavar="NAME=COMMAND", help="any other peer")] = [],  # noqa: B006
    rounds: Rounds = 7,
    json: Json = None,
) -> SimpleNamespace:
    """What decode and concurrency are told."""
    pairs = [tuple(pair.split("=", 1)) for pair in beside]
    return SimpleNamespace(**locals() | {"beside": pairs})


def measured(name: str, help: str) -> None:
    """Add a bench that takes all of these options."""

    @wraps(options_of)
    def command(**given: Any) -> None:
        run(name, options_of(**given))

    bench.command(name, help=help)(command)


@bench.command()
def startup(rounds: Rounds = 7, json: Json = None) -> None:
    """From starting the process to a page that takes text."""
    run("startup", SimpleNamespace(rounds=rounds, json=json))


@bench.command()
def convert(
    arch: Literal["t5", "chatglm"] = "chatglm",
    size: Annotated[Literal["true", "mini", "tiny"], typer.Option(help="mini: as the bundled model")] = "true",
    layers: Annotated[int | None, typer.Option(help="fewer than the shape has")] = 4,
    bits: list[int] = [8, 4],  # noqa: B006
    threads: Annotated[int, typer.Option(help="0: all cores but one")] = 0,
    steal: Annotated[float, typer.Option(metavar="PERCENT", help="as of `bench decode`")] = 5.0,
    folder: Annotated[Path | None, typer.Option(help="where the checkpoints are written meanwhile")] = None,
    rounds: Rounds = 5,
    json: Json = None,
) -> None:
    """Load what `convert --bits` wrote, beside the weights of 16 bits that are quantised while they are loaded."""
    run("convert", SimpleNamespace(**locals() | {"device": "cpu"}))


@bench.command()
def http(rounds: Rounds = 20, tokens: Annotated[int, typer.Option(help="of a reply")] = 64, json: Json = None) -> None:
    """First text and whole reply over /v1, beside the same session in this process."""
    run("http", SimpleNamespace(rounds=rounds, tokens=tokens, json=json))


@bench.command()
def load(
    visitors: list[int] = [1, 8, 16, 32, 64],  # noqa: B006
    seconds: Annotated[float, typer.Option(min=0, help="at each number of visitors")] = 20.0,
    tokens: Annotated[int, typer.Option(help="of a reply, at most")] = 64,
    json: Json = None,
) -> None:
    """Visitors in a closed loop over /chat and /v1: first text, tokens a second, refusals, memory."""
    run("load", SimpleNamespace(visitors=visitors, seconds=seconds, tokens=tokens, json=json))


@bench.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0)] = 30.0,
    visitors: int = 14,
    tokens: Annotated[int, typer.Option(help="of a reply, at most")] = 64,
    csv: Annotated[Path, typer.Option(help="memory, threads, files and sockets, every five seconds")] = Path(
        "soak.csv"
    ),
    json: Json = None,
) -> None:
    """Visitors of every kind for half an hour: memory stays flat, nothing stays open, nothing is lost (Linux)."""
    run("soak", SimpleNamespace(minutes=minutes, visitors=visitors, tokens=tokens, csv=csv, json=json))


@bench.command()
def gpu(
    device: Annotated[str, typer.Option(help="cpu to try the bench itself")] = "cuda",
    size: Annotated[Literal["true", "mini", "tiny"], typer.Option(help="mini: as the bundled model")] = "true",
    layers: Annotated[int, typer.Option(help="of what visitors are served by")] = 8,
    visitors: list[int] = [1, 8, 32],  # noqa: B006
    tokens: Annotated[int, typer.Option(help="of a reply")] = 32,
    peer: Annotated[list[str], typer.Option(callback=among(("hf",)), help="hf")] = [],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="after which nothing more is begun")] = 330.0,
    rounds: Rounds = 3,
    json: Json = None,
) -> None:
    """Parity in fp16 and bf16, every kernel against the plain one, and 1, 8 and 32 visitors, within six minutes."""
    run("gpu", SimpleNamespace(**locals() | {"threads": 0}))


@bench.command()
def tune(
    arch: Literal["t5", "chatglm"] = "chatglm",
    size: Annotated[Literal["true", "mini", "tiny"], typer.Option(help="mini: as the bundled model")] = "true",
    layers: Annotated[int | None, typer.Option(help="fewer than the shape has")] = None,
    device: Annotated[str, typer.Option(help="cpu to try the bench itself")] = "cuda",
    bits: list[int] = [16, 8, 4],  # noqa: B006
    batch: Annotated[int, typer.Option(help="rows of a step")] = 4,
    length: Annotated[int, typer.Option(min=32, help="tokens of the longest row")] = 512,
    checkpointing: Annotated[bool, typer.Option("--checkpointing")] = False,
    peer: Annotated[list[str], typer.Option(callback=among(("peft",)), help="peft")] = [],  # noqa: B006
    beside: Annotated[list[str], typer.Option(metavar="NAME=COMMAND", help="any other peer")] = [],  # noqa: B006
    threads: Annotated[int, typer.Option(help="0: all cores but one")] = 0,
    rounds: Annotated[int, typer.Option(min=0, help="steps that are measured; 0: memory by the estimate alone")] = 10,
    json: Json = None,
) -> None:
    """A LoRA's steps on the true shape: tokens a second and memory, beside peft as upstream's code trains."""
    pairs = [tuple(pair.split("=", 1)) for pair in beside]
    run("tune", SimpleNamespace(**locals() | {"beside": pairs}))


@bench.callback(invoke_without_command=True)
def tables(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        run("concurrency", options_of(peer=["hf"]))


measured("decode", "Milliseconds to the first token and for each further one.")
measured("concurrency", "Tokens a second of several visitors at once.")


def run(name: str, options: SimpleNamespace) -> None:
    from importlib import import_module

    from bianque.nn import cpu

    cpu.configure_runtime()
    getattr(import_module(f"bianque.bench.{name}"), name)(options)

"""The command line, `python -m bianque COMMAND …`: imports wait for their command."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator, Sequence

import typer

from bianque import proxies
from bianque.cli.bench import bench
from bianque.cli.chat import chat
from bianque.cli.cluster import cluster
from bianque.cli.corpus import corpus
from bianque.cli.evaluate import evaluate
from bianque.cli.generate import generate
from bianque.cli.models import convert, models
from bianque.cli.train import compose, train_complaints, train_mini, tune
from bianque.cli.understand import train_understanding, understand
from bianque.errors import BianQueError

HOME = re.compile(r"--[a-z-]+=~(/|$)")
# Of these options, by command, one may be followed by several values: `--model auto bianque-2`.
SEVERAL = {
    "evaluate": {"--task", "--model"},
    "cluster": {"--model", "--visitors"},
    "train-mini": {"--data", "--set"},
    "tune": {"--data", "--valid", "--set"},
    "bench": {"--precision", "--prompt", "--visitors", "--peer", "--beside", "--bits"},
}
UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]  # which typer does not export


def application() -> typer.Typer:
    app = typer.Typer(add_completion=False, help="扁鹊 BianQue: models that ask a patient first and advise then.")
    commands = (chat, models, convert, evaluate, compose, train_mini, train_complaints, cluster, tune, corpus)
    for command in (*commands, train_understanding, understand):
        app.command()(command)
    app.add_typer(generate, name="generate")
    app.add_typer(bench, name="bench")
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    speak_utf_8()
    command = typer.main.get_command(application())
    given = list(spread(sys.argv[1:] if arguments is None else arguments))
    try:
        proxies.configure()
        with command.make_context("python -m bianque", given) as context:
            code = command.invoke(context) or 0
        sys.stdout.flush()
        return code
    except typer.Exit as done:
        return done.exit_code
    except UsageError as error:
        error.show()  # type: ignore[attr-defined]
        return 2
    except BianQueError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read along, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def spread(arguments: Sequence[str]) -> Iterator[str]:
    """`--model a b` as `--model a --model b`, for the options of SEVERAL; `--out=~/x`, which no shell fills in, as a path."""
    options = SEVERAL.get(arguments[0], set()) if arguments else set()
    option, values = "", 0
    for argument in arguments:
        if HOME.match(argument):
            name, _, place = argument.partition("=")
            argument = f"{name}={os.path.expanduser(place)}"
        if argument.startswith("-") and len(argument) > 1:
            option, values = argument, 0
        elif option in options:
            if values:
                yield option
            values += 1
        yield argument


def speak_utf_8() -> None:
    """Files and pipes are UTF-8 on every system, a terminal what it is; what cannot be read or shown stops nothing."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            name = None if stream.isatty() else "utf-8-sig" if stream is sys.stdin else "utf-8"
            stream.reconfigure(encoding=name, errors="replace")


if __name__ == "__main__":
    sys.exit(main())

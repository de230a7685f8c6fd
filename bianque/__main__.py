"""`python -m bianque chat | models | convert | bench | evaluate | train-mini …`: imports wait for their command."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from bianque.cli.bench import add_bench
from bianque.cli.chat import add_chat
from bianque.cli.evaluate import add_evaluate
from bianque.cli.models import add_convert, add_models
from bianque.cli.train import add_compose, add_train
from bianque.errors import BianQueError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bianque", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (add_chat, add_models, add_convert, add_bench, add_evaluate, add_compose, add_train):
        add(commands)
    options = parser.parse_args(arguments)
    speak_utf_8()
    try:
        code = options.run(options) or 0
        sys.stdout.flush()
        return code
    except BianQueError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read along, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def speak_utf_8() -> None:
    """Files and pipes are UTF-8 on every system, a terminal what it is; what cannot be read or shown stops nothing."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            name = None if stream.isatty() else "utf-8-sig" if stream is sys.stdin else "utf-8"
            stream.reconfigure(encoding=name, errors="replace")


if __name__ == "__main__":
    sys.exit(main())

"""What may be logged of an error: its kind and where it was raised, never its message, which may hold a visitor's words."""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from types import SimpleNamespace, TracebackType
from typing import Any

# Of what visitors send passes these; each prints a failed call's whole traceback by itself.
PRINTERS = ("gradio.queueing", "gradio.routes", "gradio.utils", "gradio.route_utils")
LOGGERS = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "gradio")


def trace(error: BaseException) -> str:
    """The kind of an error and of what caused it, and the lines of code it passed."""
    told = [f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"]
    seen = {id(error)}
    while (error := error.__cause__ or error.__context__) and id(error) not in seen:  # type: ignore[assignment]
        seen.add(id(error))
        told.append(f"after {type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}")
    return "".join(told).rstrip()


class Wordless(logging.Formatter):
    """A log line whose traceback has no messages."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.name == "asyncio":  # it shows tasks with their errors, and calls with their arguments
            record.message = re.split(r"[\n(<]", record.message, maxsplit=1)[0].rstrip()
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return trace(ei[1]) if ei[1] else ""


def count_replies(on: bool) -> None:
    """Whether a line of JSON is logged for each reply: a number of its own, the model, counts and times."""
    found = logging.getLogger("bianque.replies")
    found.setLevel(logging.INFO if on else logging.WARNING)
    if on and not found.handlers:
        found.addHandler(logging.StreamHandler())
        found.propagate = False


def configure() -> None:
    """For a process that serves: whatever fails in it, in whatever library, is told without anybody's words."""
    logging.lastResort = logging.lastResort or logging.StreamHandler()
    handlers = [logging.lastResort, *(handler for name in LOGGERS for handler in logging.getLogger(name).handlers)]
    for handler in handlers:
        handler.setFormatter(Wordless("%(levelname)s %(name)s: %(message)s"))
    sys.excepthook = lambda kind, error, place: complain(error, place)
    threading.excepthook = lambda failed: complain(failed.exc_value, failed.exc_traceback)
    for name in PRINTERS:
        if module := sys.modules.get(name):
            vars(module)["traceback"] = SimpleNamespace(**vars(traceback) | {"print_exc": complain})


def complain(error: BaseException | None = None, place: TracebackType | None = None) -> None:
    """Instead of `traceback.print_exc`, and of the hooks for what nobody caught."""
    error = error or sys.exc_info()[1]
    if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
        print(trace(error), file=sys.stderr, flush=True)

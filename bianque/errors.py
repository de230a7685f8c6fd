"""What can go wrong, as the person who can mend it sees it: each message names the thing, the value and the remedy."""

from __future__ import annotations

import copy


class BianQueError(Exception):
    """Root of every deliberate error; `code` is stable and reaches API clients as the error's title."""

    code = "BQ_ERROR"


class BadInput(BianQueError, ValueError):
    """An argument is outside what it may be."""

    code = "BQ_BAD_INPUT"


class TooLong(BadInput):
    """The newest message alone does not fit the model's window, or the dialogue is longer than any is read."""

    code = "BQ_TOO_LONG"


class UnknownModel(BianQueError, LookupError):
    """No card has this name."""

    code = "BQ_UNKNOWN_MODEL"


class Busy(BianQueError):
    """Too many visitors are waiting for this model; another try may be made after `retry_after` seconds."""

    code = "BQ_BUSY"
    retry_after = 5


class LoadFailed(BianQueError):
    """The model could not be fetched or loaded; the next request tries again from the start."""

    code = "BQ_LOAD_FAILED"


class OutOfMemory(BianQueError):
    """The model does not fit into the memory there is in any precision the settings allow."""

    code = "BQ_NO_MEMORY"


class Unreachable(BianQueError):
    """The server that a model answers behind cannot be reached, refuses, or broke off; what came of a reply stays."""

    code = "BQ_UNREACHABLE"


class Interrupted(BianQueError):
    """What wrote a reply ended in the middle of it; the message can be sent again."""

    code = "BQ_INTERRUPTED"


class TrainingFailed(BianQueError):
    """A training run cannot go on: a loss that is no number, a disk that is full; its last checkpoint stays."""

    code = "BQ_TRAINING_FAILED"


class SettingsError(BianQueError, ValueError):
    """An environment variable has a value that means nothing."""

    code = "BQ_SETTINGS"


def copy_of(error: BaseException) -> BaseException:
    """The same error as an object of its own: raised in several tasks, one object gathers all their tracebacks."""
    try:
        own = copy.copy(error)
    except Exception:  # its constructor takes arguments that copying does not know
        return error
    own.__cause__, own.__suppress_context__ = error.__cause__, error.__suppress_context__
    return own

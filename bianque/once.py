"""What takes seconds to make is made once, however many threads ask for it at the same time."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import TypeVar

Made = TypeVar("Made")


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """As `functools.cache`, but threads that ask while it is made wait for it: that lets each make its own."""
    lock, cached = threading.RLock(), cache(make)

    @wraps(make)
    def made() -> Made:
        with lock:
            if cached.cache_info().currsize:
                return cached()
            with uncollected():
                return cached()

    made.cache_info = cached.cache_info  # type: ignore[attr-defined]
    return made


@contextmanager
def uncollected() -> Iterator[None]:
    """While millions of objects are made that all stay, looking for some that could go takes as long as making them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()

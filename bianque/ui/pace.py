"""Holding a stream to what a reader's eye, and a slow line, can take."""

from __future__ import annotations

import time

INTERVAL = 0.06  # seconds; about 16 updates a second


class Pace:
    """`due()` is True at most once an interval."""

    def __init__(self) -> None:
        self.last = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now - self.last < INTERVAL:
            return False
        self.last = now
        return True

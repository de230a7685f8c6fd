"""The processor's cores, shared by the models that write at the same moment.

torch multiplies in a team of threads that libgomp keeps for each Python thread that computes. Where all teams together
are more than the cores, libgomp lets their members sleep at the end of every product instead of waiting awake
(`gomp_throttled_spin_count_var`), and a token takes twice as long. So nobody keeps a team who has no work, and those
who have divide the cores.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def there() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(cores: int) -> int:
    """All cores but one, which serves the page: one that is busy makes the others wait at the end of each layer."""
    return cores - 1 if cores > 2 else cores


class Cores:
    """`alone` threads for one that writes by itself, an equal part of all cores each for several."""

    def __init__(self, alone: int = 0) -> None:
        """`alone` is at most so many threads whoever writes; 0: as the machine has them."""
        self.alone, self.all = alone or threads(there()), alone or there()
        self.writing = 0
        self.lock = threading.Lock()

    @property
    def each(self) -> int:
        return self.alone if self.writing < 2 else max(1, self.all // self.writing)

    @contextmanager
    def share(self) -> Iterator[Callable[[], None]]:
        """While it is open, its thread counts; to be called between two steps, it sets what the thread may use."""
        import torch

        torch.get_num_threads()  # a thread's first question sets it to what the last thread that asked was given
        now = 0

        def take() -> None:
            nonlocal now
            if now != self.each:
                now = self.each
                torch.set_num_threads(now)

        with self.lock:
            self.writing += 1
        try:
            yield take
        finally:
            with self.lock:
                self.writing -= 1

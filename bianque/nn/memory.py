"""This machine's memory: how much there is to take, free or less if a container says so, and giving it back."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Limit, use, and the part of the use that is files read long ago, which give way: cgroup version 2, then 1.
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of RAM that this process may still take; sys.maxsize where the system does not say (not Linux)."""
    found = [room for folder in folders(proc, groups) for room in rooms(folder)]
    with suppress(OSError):
        found += [kib * 1024 for kib in numbers(proc / "meminfo", "MemAvailable:")]
    return max(0, min(found, default=sys.maxsize))


def give_back() -> None:
    """Return freed memory to the system: glibc keeps blocks below 32 MB, which most weights are, for their own thread."""
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def folders(proc: Path, groups: Path) -> Iterator[Path]:
    """This process's cgroup and those above it, any of which may have a limit; in a container the root is its own."""
    lines = (proc / "self/cgroup").read_text().splitlines() if (proc / "self/cgroup").exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        inner = root / path.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def rooms(folder: Path) -> Iterator[int]:
    """What a cgroup leaves, if it has a limit."""
    for limit, use, files in FILES:
        with suppress(OSError, ValueError):  # the other version, or "max"
            idle = sum(numbers(folder / "memory.stat", files))
            yield int((folder / limit).read_text()) - int((folder / use).read_text()) + idle


def numbers(path: Path, name: str) -> list[int]:
    return [int(number) for number in re.findall(rf"^{name}\s+(\d+)", path.read_text(), re.MULTILINE)]

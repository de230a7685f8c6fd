"""What this machine's CPU can do: AMX and bfloat16, cores shared by the models, and memory."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bianque.errors import OutOfMemory

# The widest instructions that oneDNN may use, read when it is first called (its `ONEDNN_MAX_CPU_ISA`).
ISA_SETTING, ISA_WITHOUT_AMX = "ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16"
TRIAL = "import torch; x = torch.ones(64, 64, dtype=torch.bfloat16); x @ x"
TRIAL_SECONDS = 60.0

# Limit, use, and the part of the use that is files read long ago, which the kernel gives up first: cgroup version 2, then 1.
CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

log = logging.getLogger(__name__)


def configure_runtime() -> None:
    """Call before torch allocates or multiplies: `disable_broken_amx`, and weights in large pages (Linux, `madvise`).

    A token reads all weights once; in pages of 4 KB the processor spends up to a fifth of that time looking them up.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    disable_broken_amx()


@cache
def disable_broken_amx(flags: Path = Path("/proc/cpuinfo"), trial: str = TRIAL, timeout: float = TRIAL_SECONDS) -> None:
    """Keep oneDNN off AMX where a bfloat16 product kills the process.

    Some virtual machines show AMX's flags and hide the CPUID leaf that describes its tiles: oneDNN then lays out none,
    and its first tile instruction is illegal. Only a trial in a process of its own can tell. It takes a second or two, on
    machines with AMX alone, and is skipped where the variable is set already; one that does not end counts as failed.
    """
    try:
        has_amx = "amx_bf16" in flags.read_text().split()
    except OSError:  # not Linux
        return
    if not has_amx or ISA_SETTING in os.environ:
        return
    try:
        command = [sys.executable, "-c", trial]
        quiet = subprocess.DEVNULL
        killed = subprocess.run(command, stdout=quiet, stderr=quiet, timeout=timeout).returncode < 0
    except subprocess.TimeoutExpired:
        killed = True
    if killed:
        os.environ[ISA_SETTING] = ISA_WITHOUT_AMX


@cache
def has_bfloat16() -> bool:
    """Whether there are instructions for bfloat16. Without them a prompt takes two to three times as long as in float32."""
    import torch

    if platform.machine().lower() in ("x86_64", "amd64"):  # where oneDNN supports more than it has instructions for
        native = torch.cpu._is_avx512_bf16_supported()
    else:
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not native:
        log.warning("no instructions for bfloat16: weights of 16 bits are computed with in float32")
    return native


def core_count() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute_threads(cores: int) -> int:
    """All cores but one, which serves the page: a busy core would make the others wait at the end of each layer."""
    return cores - 1 if cores > 2 else cores


class Cores:
    """Divides the cores among the models that decode: `alone` threads for a single one, an equal share for several.

    torch multiplies in a team of threads that libgomp keeps for each Python thread that computes. Where all teams together
    outnumber the cores, libgomp lets members sleep at the end of every product (`gomp_throttled_spin_count_var`) and a
    token takes twice as long. So a thread that has no work keeps no team.
    """

    def __init__(self, alone: int = 0) -> None:
        """`alone`: the most threads that decoding may use; 0: what the machine has."""
        self.alone, self.all = alone or compute_threads(core_count()), alone or core_count()
        self.writing = 0
        self.lock = threading.Lock()

    @property
    def each(self) -> int:
        return self.alone if self.writing < 2 else max(1, self.all // self.writing)

    @contextmanager
    def share(self) -> Iterator[Callable[[], None]]:
        """Count the calling thread while it is open; what it yields is called between steps and sets torch's threads."""
        import torch

        torch.get_num_threads()  # a thread's first call adopts what another thread set last
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


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of RAM that this process may still take; elsewhere than on Linux, what the machine has.

    OutOfMemory asks for BIANQUE_MEMORY_GB where no system call says: a guess would let anything count as fitting.
    """
    found = [room for folder in cgroups(proc, groups) for room in cgroup_room(folder)]
    with suppress(OSError):
        found += [kib * 1024 for kib in numbers_in(proc / "meminfo", "MemAvailable:")]
    return max(0, min(found) if found else machine_memory())


def machine_memory() -> int:
    """Bytes of RAM that are free (Windows) or there at all (macOS and others); see `available_memory`."""
    with suppress(AttributeError, OSError, ValueError):  # no such call, or none of these names
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(AttributeError, OSError):
        # MEMORYSTATUSEX: two 32-bit numbers, its own size first, then seven of 64 bits, of which the second is what is free.
        status = (ctypes.c_uint64 * 8)(64)
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(status):  # type: ignore[attr-defined]
            return status[2]
    raise OutOfMemory(
        "这台机器没有说明有多少内存，请设置 BIANQUE_MEMORY_GB (this system does not say how much memory it has: "
        "set BIANQUE_MEMORY_GB to what models may use, e.g. 12)"
    )


def resident_memory(pid: int | str = "self") -> int | None:
    """Bytes that a process holds in memory; None where nobody says (not Linux)."""
    with suppress(OSError):
        return next((kib * 1024 for kib in numbers_in(Path(f"/proc/{pid}/status"), "VmRSS:")), None)
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; for its CPU allocator torch has no class of its own."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def trim_memory() -> None:
    """Return freed memory to the system: glibc keeps blocks below 32 MB, which most weights are, for their own thread."""
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def cgroups(proc: Path, groups: Path) -> Iterator[Path]:
    """This process's cgroup and those above it, any of which may have a limit; in a container the root is its own."""
    lines = (proc / "self/cgroup").read_text().splitlines() if (proc / "self/cgroup").exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        inner = root / path.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def cgroup_room(folder: Path) -> Iterator[int]:
    """Bytes that a cgroup leaves, if it has a limit."""
    for limit, use, files in CGROUP_FILES:
        with suppress(OSError, ValueError):  # the other version, or "max"
            idle = sum(numbers_in(folder / "memory.stat", files))
            yield int((folder / limit).read_text()) - int((folder / use).read_text()) + idle


def numbers_in(path: Path, name: str) -> list[int]:
    return [int(number) for number in re.findall(rf"^{name}\s+(\d+)", path.read_text(), re.MULTILINE)]

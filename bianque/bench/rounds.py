"""Rounds in which contestants take turns after a probe of the hardware, and what the host of a virtual machine took.

A round of which the host took too much is run again: the criterion is the kernel's count of stolen time alone, never
a figure that was measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from bianque import tables
from bianque.nn.cpu import Cores

T = TypeVar("T")
BLOCK, WIDTH = 1 << 27, 4096  # float32 numbers that a probe reads, and columns of the matrix that it multiplies
Figures = Mapping[str, float]
Contestant = Callable[[], Figures]
Ticks = tuple[int, int]  # that the host took, and all, of all cores since the machine began


@dataclass(slots=True)
class Table:
    """Rounds of figures for each contestant, the first of which is ours."""

    runs: dict[str, list[Figures]] = field(default_factory=dict)
    probes: list[Figures] = field(default_factory=list)
    steal: list[float] = field(default_factory=list)  # percent of each round that counts, empty if nobody says
    again: int = 0  # rounds that do not count and were run anew

    def median(self, name: str, what: str) -> float:
        return statistics.median(run[what] for run in self.runs[name])

    def probe(self, what: str) -> float:
        return statistics.median(probe[what] for probe in self.probes)

    def spread(self, name: str, what: str) -> str:
        found = [run[what] for run in self.runs[name]]
        return f"{statistics.median(found):.1f} ({min(found):.1f}–{max(found):.1f})"

    def ratio(self, name: str, what: str, to: str | None = None) -> str:
        """The median of the rounds' ratios to another contestant, or to ours."""
        ours = self.runs[to or next(iter(self.runs))]
        found = [peer[what] / own[what] for own, peer in zip(ours, self.runs[name], strict=True)]
        return f"{statistics.median(found):.2f}"

    def lines(self, whats: Sequence[str]) -> list[str]:
        head = ["", *(f"{what} ms" for what in whats), *(f"{what}, ×ours" for what in whats)]
        rows = [
            [name, *(self.spread(name, what) for what in whats), *(self.ratio(name, what) for what in whats)]
            for name in self.runs
        ]
        return tables.markdown(head, rows)

    @property
    def host(self) -> str:
        if not self.steal:
            return "how much the host took is not known here"
        return f"{self.again} rounds run anew; of those that count the host took {statistics.median(self.steal):.1f} %"

    @property
    def around(self) -> dict[str, Any]:
        """What was found beside the figures of the contestants."""
        return {"probes": self.probes, "steal": self.steal, "again": self.again}


def ticks(stat: Path = Path("/proc/stat")) -> Ticks | None:
    """From the kernel's count since the machine began; None where there is none (not Linux)."""
    try:
        found = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]  # the rest is in `user` too
    except OSError:
        return None
    return found[7], sum(found)


def taken(before: Ticks | None, after: Ticks | None) -> float:
    """Percent of all cores' time that the host took meanwhile."""
    if before is None or after is None or after[1] == before[1]:
        return 0.0
    return 100 * (after[0] - before[0]) / (after[1] - before[1])


def aside(run: Callable[[], T]) -> T:
    """The result of a run in a thread of its own: torch's threads that it used end with it, and are in nobody's way."""
    with ThreadPoolExecutor(1, initializer=torch.set_grad_enabled, initargs=(False,)) as thread:
        return thread.submit(run).result()


def measure(
    contestants: Mapping[str, Contestant],
    probe: Contestant,
    rounds: int,
    steal: float,
    read: Callable[[], Ticks | None] = ticks,
) -> Table:
    """So many rounds that count; up to as many again if the host took more than `steal` percent of one."""
    table = Table()
    for contestant in contestants.values():
        aside(contestant)  # warm
    while len(table.probes) < rounds:
        before = read()
        probed, found = aside(probe), {name: aside(contestant) for name, contestant in contestants.items()}
        lost = taken(before, read())
        if lost > steal and table.again < rounds:
            table.again += 1
            continue
        table.probes.append(probed)
        table.steal += [] if before is None else [lost]
        for name, figures in found.items():
            table.runs.setdefault(name, []).append(figures)
    return table


def probe(dtype: torch.dtype, device: str) -> Figures:
    """What the hardware gives a program that does nothing else: GB/s read, and GFLOP/s of a matrix product."""
    return {"read": bandwidth(device), "matmul": matmul(dtype, device)}


def bandwidth(device: str = "cpu") -> float:
    """GB/s at which all threads read memory: the best of five sums over half a gigabyte."""
    block = torch.ones(BLOCK, device=device)
    return best(block.nbytes, block.sum, 5)


def matmul(dtype: torch.dtype, device: str = "cpu") -> float:
    """GFLOP/s of 512 rows times a square matrix as wide as ChatGLM-6B: the best of three."""
    rows, matrix = (torch.ones(count, WIDTH, dtype=dtype, device=device) for count in (512, WIDTH))
    return best(2 * 512 * WIDTH**2, lambda: F.linear(rows, matrix)[0, 0], 3)


def best(amount: int, run: Callable[[], Tensor], times: int) -> float:
    """10⁹ of `amount` a second in the fastest run; a GPU's is over when its result is here."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        run().item()
        seconds.append(time.perf_counter() - begun)
    return amount / min(seconds) / 1e9


def begin(options: Any) -> None:
    """The same threads for all, no gradients, and a line that says what this is measured on."""
    torch.set_num_threads(Cores(options.threads).alone)
    torch.set_grad_enabled(False)
    here = machine(options.device)
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    print(f"{here['gpu'] or here['processor']}, threads: {here['threads']} of {here['cores']} cores; {versions}")


def save(options: Any, **found: Any) -> None:
    """What was found and on which machine, as JSON, where somebody asked for it."""
    if options.json:
        here = machine(getattr(options, "device", "cpu"))
        options.json.write_text(json.dumps({**found, **here}, indent=1) + "\n")


def machine(device: str = "cpu") -> dict[str, Any]:
    """Versions, and the processor with the instructions that matter here."""
    names = ("bianque", "torch", "transformers", "ctranslate2", "gradio", "playwright")
    versions = {name: version for name in names if (version := version_of(name))}
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    flags = sorted({flag for flag in info.split() if flag.startswith(("avx512", "amx", "avx_vnni"))})
    return {
        "versions": {"python": platform.python_version(), **versions},
        "processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "flags": flags,
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "gpu": None if device == "cpu" else torch.cuda.get_device_name(device),
    }  # fmt: skip


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

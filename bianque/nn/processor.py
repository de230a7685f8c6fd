"""What a processor can do, and what must be settled before torch allocates and multiplies for the first time."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

# The widest instructions that oneDNN may use, read when it is first called (its `ONEDNN_MAX_CPU_ISA`).
SETTING, WITHOUT_TILES = "ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16"
TRIAL = "import torch; x = torch.ones(64, 64, dtype=torch.bfloat16); x @ x"

log = logging.getLogger(__name__)


def settle() -> None:
    """`check`, and weights in large pages where the system has them for whoever asks (Linux, `madvise`).

    A token reads all weights once: in pages of 4 KB the processor spends up to a fifth of that time looking them up.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    check()


@cache
def check(flags: Path = Path("/proc/cpuinfo"), trial: str = TRIAL) -> None:
    """Keep oneDNN off AMX where a bfloat16 product ends a process.

    Some virtual machines show AMX's flags and hide the CPUID leaf that describes its tiles: oneDNN then lays out none,
    and its first tile instruction is illegal. Only a trial in a process of its own can tell; it takes a second or two,
    on machines with AMX alone, and is skipped where the setting is made already.
    """
    try:
        tiles = "amx_bf16" in flags.read_text().split()
    except OSError:  # not Linux
        return
    if tiles and SETTING not in os.environ:
        ended = subprocess.run([sys.executable, "-c", trial], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if ended.returncode < 0:
            os.environ[SETTING] = WITHOUT_TILES


@cache
def bfloat16() -> bool:
    """Whether there are instructions for bfloat16. Without them a prompt takes two to three times as long as in float32."""
    import torch

    if platform.machine().lower() in ("x86_64", "amd64"):  # where oneDNN supports more than it has instructions for
        there = torch.cpu._is_avx512_bf16_supported()
    else:
        there = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not there:
        log.warning("no instructions for bfloat16: weights of 16 bits are computed with in float32")
    return there

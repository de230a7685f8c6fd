"""The CPU: AMX is believed until a trial has died of it; free memory is the least of machine and containers."""

from __future__ import annotations

import os
import platform
import sys
from types import SimpleNamespace

import pytest
import torch

from bianque.errors import OutOfMemory
from bianque.nn import cpu
from bianque.nn.cpu import available_memory

ILLEGAL = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
FAILING = "raise SystemExit(1)"


@pytest.fixture
def flags(tmp_path, monkeypatch):
    monkeypatch.setenv(cpu.ISA_SETTING, "")
    monkeypatch.delenv(cpu.ISA_SETTING)
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n")
    return file


def test_a_trial_that_dies_of_its_instructions_keeps_them_away(flags):
    cpu.disable_broken_amx(flags, ILLEGAL)
    assert os.environ[cpu.ISA_SETTING] == "AVX512_CORE_FP16"


@pytest.mark.parametrize("trial", ["pass", FAILING])
def test_one_that_ends_otherwise_changes_nothing(flags, trial):
    cpu.disable_broken_amx(flags, trial)
    assert cpu.ISA_SETTING not in os.environ


def test_a_trial_that_hangs_counts_as_one_that_died(flags):
    cpu.disable_broken_amx(flags, "import time; time.sleep(60)", 0.5)
    assert os.environ[cpu.ISA_SETTING] == "AVX512_CORE_FP16"


@pytest.mark.parametrize("text", ["flags : fpu avx512_bf16", "flags : amx_bf16_of_another_kind", ""])
def test_no_tiles_no_trial(flags, text):
    flags.write_text(text)
    cpu.disable_broken_amx(flags, ILLEGAL)
    assert cpu.ISA_SETTING not in os.environ


def test_a_system_that_does_not_tell(flags):
    cpu.disable_broken_amx(flags.with_name("none"), ILLEGAL)
    assert cpu.ISA_SETTING not in os.environ


def test_what_the_owner_set_stays(flags, monkeypatch):
    monkeypatch.setenv(cpu.ISA_SETTING, "AVX2")
    cpu.disable_broken_amx(flags, ILLEGAL)
    assert os.environ[cpu.ISA_SETTING] == "AVX2"


def test_this_machine_multiplies_bfloat16():
    """Whatever it claims: the trial itself, in a process that was checked."""
    cpu.disable_broken_amx()
    exec(cpu.TRIAL)


@pytest.mark.parametrize(
    "machine, instructions, supported, expected",
    [("x86_64", True, True, True), ("AMD64", False, True, False), ("aarch64", False, True, True), ("arm64", False, False, False)],
)  # fmt: skip
def test_bfloat16_is_there_if_its_instructions_are(machine, instructions, supported, expected, monkeypatch, caplog):
    """oneDNN supports it wherever x86 has AVX-512. Where they are not, that is said."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    assert cpu.has_bfloat16.__wrapped__() == expected
    assert ("float32" in caplog.text) != expected


HUGE = 9223372036854771712  # what version 1 writes for "no limit"


def second(folder, limit, used, files=0):
    """A cgroup of version 2, as {path: text}."""
    stat = f"anon 1\ninactive_anon 7\ninactive_file {files}\nactive_file 3"
    return {f"{folder}/memory.max": limit, f"{folder}/memory.current": used, f"{folder}/memory.stat": stat}


def first(folder, limit, used, files=0):
    """A cgroup of version 1."""
    names = (f"memory/{folder}/memory.limit_in_bytes", f"memory/{folder}/memory.usage_in_bytes")
    stat = f"inactive_file 1\ntotal_inactive_file {files}"
    return dict(zip(names, (limit, used), strict=True)) | {f"memory/{folder}/memory.stat": stat}


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


@pytest.mark.parametrize(
    "line, groups, found",
    [
        ("", {}, 8192_000),
        ("0::/", second(".", "max", 5000), 8192_000),
        ("0::/", second(".", 9000, 5000), 4000),
        ("0::/", second(".", 9000, 5000, 600), 4600),  # files read long ago give way
        ("0::/", second(".", 9000, 9900), 0),
        ("0::/", second(".", 90_000_000, 1000), 8192_000),  # more than the machine has
        ("0::/a/b", second("a/b", "max", 1) | second("a", 700, 100) | second(".", 9000, 0), 600),
        ("0::/a/b", second(".", 9000, 0), 9000),  # a container may see its own group as the root
        ("4:memory:/", first(".", HUGE, 5000), 8192_000),
        ("4:memory:/", first(".", 9000, 5000, 600), 4600),
        ("12:cpu,memory:/x", first("x", 700, 100) | first(".", HUGE, 5000), 600),
        ("12:cpu:/x\n0::/", first(".", 700, 100), 8192_000),
    ],
)
def test_the_least_of_what_machine_and_containers_leave(line, groups, found, tmp_path):
    free = "MemTotal:       9999 kB\nMemFree:        1 kB\nMemAvailable:   8000 kB"
    write(tmp_path / "proc", {"meminfo": free} | ({"self/cgroup": line} if line else {}))
    write(tmp_path / "cgroup", groups)
    assert available_memory(tmp_path / "proc", tmp_path / "cgroup") == found


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="not POSIX")
def test_where_linux_does_not_say_it_is_what_the_machine_has(tmp_path, monkeypatch):
    """As on macOS, which has neither /proc nor cgroups."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert available_memory(tmp_path / "proc", tmp_path / "cgroup") == there < 1 << 50


def test_on_windows_it_is_what_is_free(tmp_path, monkeypatch):
    class Kernel:
        def GlobalMemoryStatusEx(self, status):
            assert status[0] & 0xFFFFFFFF == 64 == len(bytes(status))  # the structure's own size
            status[1], status[2], status[3] = 16 << 30, 5 << 30, 99
            return 1

    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(cpu.ctypes, "windll", SimpleNamespace(kernel32=Kernel()), raising=False)
    assert available_memory(tmp_path / "proc", tmp_path / "cgroup") == 5 << 30


def test_where_nothing_says_it_is_asked_for(tmp_path, monkeypatch):
    """A guess would let a model of 50 GB count as fitting."""
    monkeypatch.delattr(os, "sysconf", raising=False)
    with pytest.raises(OutOfMemory, match="BIANQUE_MEMORY_GB"):
        available_memory(tmp_path / "proc", tmp_path / "cgroup")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
def test_this_machine_says():
    assert 0 < available_memory() < 1 << 50


def test_the_memory_of_a_process_that_is_none_is_not_told():
    assert cpu.resident_memory(-1) is None
    assert sys.platform != "linux" or cpu.resident_memory() == pytest.approx(cpu.resident_memory(os.getpid()), rel=0.2)

"""Free memory: what the machine says, or less where a container does."""

from __future__ import annotations

import sys

import pytest

from bianque.nn.memory import available

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
    assert available(tmp_path / "proc", tmp_path / "cgroup") == found


def test_where_the_system_does_not_say_nothing_is_limited(tmp_path):
    assert available(tmp_path / "proc", tmp_path / "cgroup") == sys.maxsize


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
def test_this_machine_says():
    assert 0 < available() < 1 << 50

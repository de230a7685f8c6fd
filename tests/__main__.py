"""Every check in one command: `python -m tests` formats nothing, lints, checks types and runs all tests.

`python -m tests --fast` leaves out what needs a browser, another process, a GPU or much time: a minute on two cores.
The browser tests need Debian's chromium and Chinese fonts: installed here when we may, named when we may not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("chromium", "fonts-noto-cjk", "fonts-noto-color-emoji")
WORKERS = (os.cpu_count() or 2) + 1  # one more than cores: a test of the page waits half of its time
LEFT_OUT = "not browser and not process and not slow and not gpu"
# A file's tests share servers and browsers; `conftest.py` puts the longest files first.
BY_FILE = ("--dist", "loadfile", "--no-loadscope-reorder")
# Workers share the cores: a team of threads in each would only wait for the others. What one has compiled the others read.
SHARED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
LINT = (("ruff", "format", "--check", "."), ("ruff", "check", "."))


def main(arguments: list[str]) -> int:
    fast = "--fast" in arguments
    chosen = [argument for argument in arguments if argument != "--fast"]
    for check in LINT:
        if code := started(*check).wait():
            return code
    if not fast:
        browser()
    how, profile = (("-m", LEFT_OUT), "dev") if fast else (BY_FILE, "ci")
    types = started("mypy")  # beside the tests: it uses one core, and not for long
    tests = started("pytest", "-n", str(WORKERS), *how, *chosen, HYPOTHESIS_PROFILE=profile, **SHARED)
    code = tests.wait()
    return types.wait() or code


def started(*command: str, **env: str) -> subprocess.Popen[bytes]:
    print("$", *command, flush=True)
    return subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=os.environ | env)


def browser() -> None:
    if Path("/usr/bin/chromium").exists() and "CJK" in fonts():
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        updated = subprocess.run(["apt-get", "update", "-qq"], env=env).returncode == 0
        if updated and subprocess.run([*install, "-qq"], env=env, stdout=subprocess.DEVNULL).returncode == 0:
            return
    sys.exit(f"The browser tests need chromium and Chinese fonts. Please run:\n  sudo {' '.join(install)}")


def fonts() -> str:
    listed = shutil.which("fc-list")
    return subprocess.run([listed], capture_output=True, text=True).stdout if listed else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

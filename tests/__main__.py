"""Every check in one command: `python -m tests` formats nothing, lints, checks types and runs all tests.

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
# A file's tests share servers and browsers; the files share the cores, but for one.
WORKERS = ("-n", str(max(1, (os.cpu_count() or 2) - 1)), "--dist", "loadfile")
CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("pytest", *WORKERS, *sys.argv[1:]),
)


def main() -> int:
    browser()
    for check in CHECKS:
        print("$", *check, flush=True)
        if code := subprocess.run([sys.executable, "-m", *check], cwd=ROOT).returncode:
            return code
    return 0


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
    sys.exit(main())

"""The page as a process of its own, for benches that measure it from outside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# What would make the page another one than it is by default.
LEFT_OUT = ("BIANQUE_API_KEY", "BIANQUE_REQUESTS_PER_MINUTE", "BIANQUE_STREAMS", "BIANQUE_TOKENS_PER_MINUTE", "SYSTEM")


@contextmanager
def served(
    script: Path = ROOT / "app.py", at: str = "/healthz", **settings: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address, once it answers `at`, and the process: the bundled pair on a free port, with further settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name not in LEFT_OUT} | {
        "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False",
        "BIANQUE_MODELS": "mini", "PYTHONPATH": str(ROOT), **settings,
    }  # fmt: skip
    quiet, address = subprocess.DEVNULL, f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, str(script)], env=env, stdout=quiet, stderr=quiet)
    try:
        wait_for(address + at, server)
        yield address, server
    finally:
        server.kill()  # it has nothing to save
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"the server ended with {server.returncode} before it answered")

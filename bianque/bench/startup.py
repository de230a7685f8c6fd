"""`python -m bianque bench startup`: from starting the process to a page that takes text, beside a bare Gradio page."""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
BARE = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Chatbot()
    gr.Textbox()
demo.launch(server_name="127.0.0.1", quiet=True, ssr_mode=False)
"""
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync")  # fmt: skip


def startup(options: Any) -> None:
    """Interleaved rounds; prints medians, spread and ratio. Needs playwright and Debian's chromium."""
    from playwright.sync_api import sync_playwright

    times: dict[str, list[float]] = {"bianque": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        bare = Path(folder, "bare.py")
        bare.write_text(BARE)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM))
        for _ in range(options.rounds):
            for name, script in (("bianque", ROOT / "app.py"), ("bare", bare)):
                times[name].append(once(browser, script))
        browser.close()
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        print(f"{name:8} median {medians[name]:.2f} s   min {min(found):.2f}   max {max(found):.2f}   n {len(found)}")
    print(f"ratio    {medians['bianque'] / medians['bare']:.2f}")
    if options.json:
        versions = {name: metadata.version(name) for name in ("gradio", "playwright")} | {
            "python": platform.python_version()
        }
        options.json.write_text(
            json.dumps({"seconds": times, "versions": versions, "cores": os.cpu_count()}, indent=1) + "\n"
        )


def once(browser, script: Path) -> float:
    """Seconds until a text box of the page takes text."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False",
        "BIANQUE_MODELS": "mini", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    begun = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, str(script)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/", server)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("textarea:visible").first.fill("头痛两天", timeout=60_000)
        took = time.monotonic() - begun
        page.close()
        return took
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(url: str, server: subprocess.Popen) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"the server ended with {server.returncode} before it answered")

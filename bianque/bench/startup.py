"""`python -m bianque bench startup`: from starting the process to a page that takes text, beside a bare Gradio page."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bianque.bench import rounds
from bianque.bench.page import ROOT, served

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
    rounds.save(options, seconds=times)


def once(browser: Any, script: Path) -> float:
    """Seconds until a text box of the page takes text."""
    begun = time.monotonic()
    with served(script, at="/") as (address, _):
        page = browser.new_page()
        page.goto(address)
        page.locator("textarea:visible").first.fill("头痛两天", timeout=60_000)
        took = time.monotonic() - begun
        page.close()
    return took

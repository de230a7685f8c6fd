"""What the page weighs and how soon it can be used: `python -m tests.ui.measure [address] [--slow]`.

Prints each file that a first visit loads, in bytes as they are sent, and whose it is; with `--slow`, how long that visit
takes at 1.6 Mbit/s, 150 ms and a processor four times slower: until something is seen, until one can write in the box,
until the whole page is there. Without an address it serves the page itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from tests.conftest import ARGUMENTS, CHROMIUM, serving
from tests.ui.window import HOME, PHONE

GRADIO = ("/assets/", "/static/")  # what comes from its package, whatever page it shows
SLOW = {"latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 0.75e6 / 8, "offline": False}
TIMES = """() => ({
  paint: performance.getEntriesByName('first-contentful-paint')[0].startTime,
  box: performance.getEntriesByName('bq-box')[0]?.startTime,
  whole: performance.getEntriesByName('bq-ready')[0].startTime,
})"""
# Runs before any script of the page: the box is there, and a key pressed in it is heard within a frame.
WATCH = """new MutationObserver((_, seen) => {
  if (!document.querySelector('#bq-first textarea')) return;
  seen.disconnect();
  requestAnimationFrame(() => setTimeout(() => performance.mark('bq-box')));
}).observe(document, { childList: true, subtree: true })"""


@dataclass
class Sent:
    """One answer of the server: its path and its size with the headers."""

    path: str
    size: int

    @property
    def ours(self) -> bool:
        return not self.path.startswith(GRADIO)


@contextmanager
def watched(page: Page, slow: bool = False) -> Iterator[list[Sent]]:
    """What the page loads meanwhile."""
    link, paths, sent = page.context.new_cdp_session(page), dict[str, str](), list[Sent]()

    def came(event: Any) -> None:
        paths[event["requestId"]] = urlsplit(event["response"]["url"]).path

    def ended(event: Any) -> None:
        if (path := paths.get(event["requestId"], "")).startswith("/"):
            sent.append(Sent(path, int(event["encodedDataLength"])))

    link.send("Network.enable")
    link.on("Network.responseReceived", came)
    link.on("Network.loadingFinished", ended)
    if slow:
        link.send("Network.emulateNetworkConditions", SLOW)
        link.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    yield sent
    link.detach()


def visit(page: Page, url: str, slow: bool = False) -> tuple[list[Sent], dict[str, float]]:
    """A first visit until the whole page is there: what was sent, and the times in milliseconds."""
    page.add_init_script(WATCH)
    with watched(page, slow) as sent:
        page.goto(url, timeout=120_000)
        page.locator("html.bq-ready").wait_for(state="attached", timeout=120_000)
        return list(sent), page.evaluate(TIMES)


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__)
    wanted.add_argument("address", nargs="?")
    wanted.add_argument("--slow", action="store_true")
    asked = wanted.parse_args()
    place: Any = nullcontext((asked.address, None)) if asked.address else serving()
    with place as (url, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_context(**PHONE, locale=HOME).new_page()
        sent, times = visit(page, url, asked.slow)
        for one in sorted(sent, key=lambda one: -one.size):
            print(f"{one.size:8,}  {'ours' if one.ours else 'Gradio':6}  {one.path}")
        ours = sum(one.size for one in sent if one.ours)
        whole = sum(one.size for one in sent)
        print(f"{whole:8,}  in all before the first message: ours {ours:,}, Gradio's own files {whole - ours:,}")
        print(", ".join(f"{name} {value:,.0f} ms" for name, value in times.items()), "(slow)" if asked.slow else "")
        browser.close()


if __name__ == "__main__":
    main()

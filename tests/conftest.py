"""A scripted backend, the page served over it, and a real browser."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from bianque.catalog.builtin import CARDS
from bianque.nn import cpu
from bianque.settings import Settings
from bianque.types import Message, Piece, Progress, Sampling, Usage

if TYPE_CHECKING:
    from bianque.api.limits import Limits

# How long an example takes says something of the machine, not of the code.
settings.register_profile("ci", deadline=None)
settings.register_profile("dev", deadline=None, max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
cpu.configure_runtime()

ROOT = Path(__file__).parent.parent
LONG = ("browser", "process", "slow")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--lang=zh-CN", "--accept-lang=zh-CN",
]  # fmt: skip


# What a test needs by its fixtures; what it starts or takes itself, it says with a mark.
MARKS = {"chromium": "browser", "url": "process", "space": "process", "bundled": "process"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, mark in MARKS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
        # A browser or a server that a busy machine starves is tried once more; the run's last line counts such reruns.
        if item.get_closest_marker("browser") or item.get_closest_marker("process"):
            item.add_marker(pytest.mark.flaky(reruns=1))
    long = Counter(item.path for item in items if any(item.get_closest_marker(mark) for mark in LONG))
    items.sort(key=lambda item: -long[item.path])  # or the last file would keep one worker while the others are done


@dataclass
class Scripted:
    """A backend that says what it was told to, a character at a time."""

    asks: list[str] = field(default_factory=list)
    advises: list[str] = field(default_factory=list)
    pause: float = 0.0
    fails: Exception | None = None
    loading: float = 0.0  # seconds that the first reply of a model waits for its weights
    silence: float = 0.0  # seconds before a reply's first character
    heard: list[tuple[str, list[Message], Sampling]] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    written: int = 0

    def models(self):
        return CARDS

    def loaded(self, model: str) -> bool:
        return any(model == name for name, _, _ in self.heard)

    def kernel(self, model: str) -> str | None:
        return "float32" if self.loaded(model) else None

    def prepare(self, model: str) -> None:
        self.prepared.append(model)

    async def stream(self, model: str, dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        first = not self.loaded(model)
        self.heard.append((model, list(dialogue), sampling))
        if first:
            yield Piece(progress=Progress(model, "loading", 0.5))
            await asyncio.sleep(self.loading)
        script = self.asks if model.startswith(("ask", "bianque-1")) else self.advises
        done, closed = self.fails is not None, self.closed
        try:
            yield Piece(usage=Usage(len(dialogue), 0, 0))  # who leaves now, while it is being read, closes it too
            if self.fails:
                raise self.fails
            text = script.pop(0) if len(script) > 1 else script[0]
            await asyncio.sleep(self.silence)
            for character in text:
                await asyncio.sleep(self.pause)
                self.written += closed is self.closed  # not in a later test
                yield Piece(text=character)
            done = True
            yield Piece(finish="stop", usage=Usage(len(dialogue), len(text), 0))
        finally:
            if not done:
                closed.append(model)


QUESTIONS = ["请问头痛多久了？", "头痛是哪个部位？", "有没有恶心、呕吐？", "平时血压怎么样？"]
ADVICE = "建议您先休息，避免熬夜。如果加重，请及时到医院就诊。"


@pytest.fixture(scope="session", autouse=True)
def patience(request: pytest.FixtureRequest) -> None:
    """Gradio gives its own server a few seconds to answer; on a busy machine it may need more."""
    if not any(item.path.parent.name in ("ui", "api") for item in request.session.items):
        return
    from gradio import networking

    asked = networking.url_ok
    networking.url_ok = lambda url: any(asked(url) for _ in range(10))


@contextmanager
def serving(
    settings: Settings | None = None, limits: Limits | None = None, **options: Any
) -> Iterator[tuple[str, Scripted]]:
    """The page over a scripted backend, on a free port of this machine."""
    from bianque.consult.session import Session
    from bianque.ui import serve
    from bianque.ui.page import Page

    voices = Scripted()
    page = Page(Session(voices, "ask-mini", "advise-mini"), ROOT / "examples.json", limits=limits)
    demo, here = page.build(), {"server_name": "127.0.0.1", "server_port": free_port()}
    options |= here | {"limits": limits, "prevent_thread_lock": True}
    _, address, _ = serve.launch(demo, page.session, settings, **options)
    yield address, voices
    demo.close(verbose=False)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Scripted]]:
    """One server for the tests of a file, which run one after the other."""
    with serving() as found:
        yield found


def afresh(voices: Scripted) -> Scripted:
    vars(voices).clear()
    vars(voices).update(vars(Scripted(asks=list(QUESTIONS), advises=[ADVICE], pause=0.002)))
    return voices


@pytest.fixture
def script(served: tuple[str, Scripted]) -> Scripted:
    """What the voices say, as if nobody had ever spoken; a stream of an earlier test leaves no trace in it."""
    return afresh(served[1])


@pytest.fixture
def url(served: tuple[str, Scripted], script: Scripted) -> str:
    return served[0]


@contextmanager
def listening(handler: type) -> Iterator[str]:
    """The address of a small HTTP server on this machine, in a thread of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="session")
def browser():
    """One browser a worker: what it has read and compiled serves the next file too."""
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.exists():
        pytest.fail("browser tests need: apt-get install chromium fonts-noto-cjk fonts-noto-color-emoji")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        browser.loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser
        asyncio._set_running_loop(browser.loop)
        browser.close()


@pytest.fixture(scope="module")
def chromium(browser):
    """The browser, for the tests of a file. Meanwhile Playwright's event loop is this thread's, which may run no other."""
    from tests.ui.window import rest

    asyncio._set_running_loop(browser.loop)
    yield browser
    rest(browser)
    asyncio._set_running_loop(None)

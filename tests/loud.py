"""The page as a process of its own, over models whose errors quote the visitor: `python -m tests.loud PORT FOLDER`.

A message with 崩溃 ends in an error with the message in it, one with 线程 lets a thread die of it, and 慢 makes the reply
last until FOLDER/go is there.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from pathlib import Path

from bianque.api.limits import Limits
from bianque.arena.votes import Publisher, Votes
from bianque.consult.session import Session
from bianque.settings import Settings
from bianque.types import Piece, Usage
from bianque.ui import serve
from bianque.ui.arena import Arena
from bianque.ui.page import Page
from tests.conftest import ADVICE, ROOT, Scripted


class Loud(Scripted):
    go: Path

    async def stream(self, model, dialogue, sampling):
        said = dialogue[-1].content
        if "线程" in said:
            dying = threading.Thread(target=fail, args=(said,))
            dying.start()
            dying.join()
            asyncio.get_running_loop().create_task(fails(said))  # an error that nobody fetches
            try:
                fail(said)
            except ValueError:
                logging.getLogger("uvicorn.error").error("a library's own line", exc_info=True)
        if "崩溃" in said:
            try:
                fail(said)
            except ValueError as error:
                raise RuntimeError(f"cannot answer {said!r}") from error
        yield Piece(usage=Usage(1, 0, 0))
        yield Piece(text="我想先了解")
        while "慢" in said and not self.go.exists():
            await asyncio.sleep(0.02)
        yield Piece(text=ADVICE, finish="stop", usage=Usage(1, 1, 0))


def fail(said: str) -> None:
    raise ValueError(said)


async def fails(said: str) -> None:
    fail(said)


def main(port: int, folder: Path) -> None:
    signal.signal(signal.SIGTERM, serve.stop)
    voices = Loud()
    voices.go = folder / "go"
    session = Session(voices, "ask-mini", "advise-mini")
    settings = Settings(votes=folder / "votes", embed=("https://*.example.org",), log=True, metrics=True)
    publisher = Publisher(Votes(settings.votes), None)
    limits = Limits()
    arena = Arena(session, publisher.votes, publisher.where, True, limits)
    demo = Page(session, ROOT / "examples.json", arena, limits).build()
    try:
        serve.launch(demo, session, settings, limits=limits, server_name="127.0.0.1", server_port=port)
    finally:
        (folder / "ended").touch()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

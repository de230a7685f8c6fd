"""`python -m bianque chat`: a consultation in the terminal, over the same session as the page's.

Nothing of what is said is kept or logged; `/export` writes it to a file where the visitor wants it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, cast

from bianque.cli import models as catalogue
from bianque.consult import summary, transcript
from bianque.consult.session import Delta, Done, Event, Handed, Loading, Notice, Session, Speaking, Thinking
from bianque.consult.spec import Choices
from bianque.consult.transcript import Transcript, Turn
from bianque.errors import BadInput, BianQueError
from bianque.i18n import Lang, known, say
from bianque.types import MODES, Dialogue, Mode

HELP = """\
/mode auto|ask|advise   谁来回答 (who answers)
/export [FILE]          导出为 .md 或 .json (write the dialogue to a file)
/summary [FILE]         就诊小结，给医生看 (a page for the doctor; to a file ending in .md or .html)
/clear                  清空对话 (forget the dialogue)
/models                 有哪些模型 (the models there are)
/help                   这些命令 (these commands)
/quit                   离开 (leave)
Ctrl-C 停止正在写的回复 (stops a reply); Ctrl-D 离开 (leaves)"""
RED, FAINT = "1;31", "2"


class Terminal:
    """One conversation. `modes` are those that may be chosen; the session's backend does the rest."""

    def __init__(
        self, session: Session, choices: Choices = Choices(), modes: Sequence[Mode] = MODES,
        lang: Lang = "zh-CN", paths: Mapping[str, Path] | None = None,
    ) -> None:  # fmt: skip
        self.session, self.choices, self.modes, self.lang, self.paths = session, choices, modes, lang, paths or {}
        self.turns: list[Turn] = []
        self.written: set[str] = set()  # exports of this conversation may be written again
        self.typed = sys.stdin.isatty()  # somebody types the lines
        self.live = sys.stderr.isatty()
        pale = os.name != "posix" or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self.coloured = sys.stdout.isatty() and not pale
        self.drawn = 0  # columns of the status line

    def run(self) -> int:
        """Talk until /quit or the input's end. Returns the exit code: 1 where a line that was not typed failed."""
        self.loop = asyncio.new_event_loop()
        try:
            self.choose(self.choices.mode)
            for model in (self.session.ask, self.session.advise):
                self.session.sampling(model, self.choices)
            self.greet()
            return self.converse()
        except KeyboardInterrupt:
            if not self.typed:
                return 130
            self.line()
            return self.leave()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def converse(self) -> int:
        for line in lines(self.typed):
            text = printable(line).strip()
            try:
                if text == "/quit":
                    break
                if text.startswith("/"):
                    self.command(*text.split(maxsplit=1))
                elif text:
                    self.turn(text)
            except (BrokenPipeError, KeyboardInterrupt):
                raise
            except Exception as error:
                self.complain(error)
                if not self.typed:
                    return 1
        return self.leave()

    def greet(self) -> None:
        cards = [self.session.cards[name] for name in self.speaking()]
        if self.typed:
            self.line("扁鹊 BianQue")
        for card in cards:
            if self.typed or card.host:
                self.line(f"{card.title} · {card.terms}")
        if any(card.preview for card in cards):
            self.line(say(self.lang, "preview"))
        self.line(say(self.lang, "label"))
        if self.typed:
            self.line(f"{say(self.lang, f'{self.choices.mode}_why')} /help")
        self.line()

    def leave(self) -> int:
        if self.typed:
            self.line("再见，请保重 (goodbye, take care)")
        return 0

    def speaking(self) -> list[str]:
        pair = {"ask": [self.session.ask], "advise": [self.session.advise]}
        return pair.get(self.choices.mode, list(dict.fromkeys((self.session.ask, self.session.advise))))

    # --- a turn ---------------------------------------------------------------------------------------------------

    def turn(self, message: str) -> None:
        """Answer one message. What stood when it was stopped or failed is kept; a message without a reply is not."""
        found = Transcript(self.turns, message)
        task = self.loop.create_task(self.answer(transcript.messages(self.turns), message, found))
        try:
            with interrupting(self.loop, task.cancel):
                self.loop.run_until_complete(task)
        except asyncio.CancelledError:
            self.end("stopped")
            if not self.typed:
                raise KeyboardInterrupt from None
        except Exception:
            if found.reply:
                self.end("stopped")
            raise
        finally:
            self.status()
            if found.reply:
                self.turns = found.turns

    async def answer(self, history: Dialogue, message: str, found: Transcript) -> None:
        async with aclosing(self.session.reply(history, message, self.choices)) as events:
            async for event in events:
                found.apply(event)
                self.show(event, found)

    def show(self, event: Event, found: Transcript) -> None:
        match event:
            case Loading() | Thinking():
                self.status(found.status(self.lang))
            case Notice():
                self.line(event.text, RED)
            case Handed():
                reason = say(self.lang, event.reason)
                self.line(say(self.lang, "handed", source=event.source, target=event.target, reason=reason), FAINT)
            case Speaking():
                count = f" {event.question}/{event.budget}" if event.question else ""
                self.line(f"{say(self.lang, event.phase)}{count} · {event.model}", FAINT)
            case Delta():
                self.put(printable(event.text))
            case Done():
                self.end("cut" if event.finish == "length" else "")

    def end(self, word: str) -> None:
        """A reply is over, and `word` says how if it was not the model's own end."""
        self.line(say(self.lang, word) if word else "")
        self.line()

    # --- commands -------------------------------------------------------------------------------------------------

    def command(self, name: str, given: str = "") -> None:
        commands: dict[str, Callable[[str], None]] = {
            "/mode": self.choose, "/export": self.export, "/summary": self.summary, "/clear": self.clear, "/models": self.models, "/help": self.help,
        }  # fmt: skip
        if name not in commands:
            near = get_close_matches(name, [*commands, "/quit"], 1)
            hint = f"是不是 {near[0]}？(did you mean {near[0]}?)" if near else "可用的命令见 /help (see /help)"
            raise BadInput(f"没有命令 {name} (no such command)：{hint}")
        if given and name not in ("/mode", "/export", "/summary"):
            raise BadInput(f"{name} 后面不用写什么 ({name} takes nothing): {given!r}")
        commands[name](given)
        if name == "/mode":
            self.line(f"{self.choices.mode}：{say(self.lang, f'{self.choices.mode}_why')}")

    def choose(self, mode: str) -> None:
        """Set who answers; what is now, if nothing is said."""
        mode = mode or self.choices.mode
        if mode not in self.modes:
            raise BadInput(f"mode={mode!r}: {' + '.join(self.speaking())} 可选 (choose one of) {', '.join(self.modes)}")
        self.choices = replace(self.choices, mode=cast(Mode, mode))

    def export(self, given: str) -> None:
        kinds = {".md": transcript.as_markdown, ".json": transcript.as_json}
        self.write(
            given or "bianque.md",
            {kind: partial(write, self.turns, self.session.cards) for kind, write in kinds.items()},
        )

    def summary(self, given: str) -> None:
        """The page for the doctor: on the screen, or as a file."""
        page = summary.summary(self.turns, self.lang)
        if given:
            self.write(given, {".md": page.markdown, ".html": page.html})
        else:
            self.line(printable(page.markdown()))

    def write(self, given: str, kinds: Mapping[str, Callable[[], str]]) -> None:
        """Write a file of one of these kinds, by the name's ending; no other file is ever replaced."""
        path = Path(os.path.expanduser(given))
        if path.suffix.lower() not in kinds:
            ends = " 或 ".join(kinds), " or ".join(kinds)
            raise BadInput(f"{given}: 文件名以 {ends[0]} 结尾 (the name ends in {ends[1]})")
        if not self.turns:
            raise BadInput("还没有可以导出的对话 (there is no dialogue yet)")
        try:
            with path.open("w" if os.path.realpath(path) in self.written else "x", encoding="utf-8") as file:
                file.write(kinds[path.suffix.lower()]())
        except FileExistsError:
            raise BadInput(f"{path}: 已有这个文件，请换个名字 (the file exists; choose another name)") from None
        except OSError as error:
            raise BadInput(f"{path}: 写不了 (cannot be written): {error.strerror}") from None
        self.written.add(os.path.realpath(path))
        self.line(f"已写入 (written): {path}")

    def clear(self, given: str) -> None:
        self.turns = []
        if readline := editing(self.typed):
            readline.clear_history()
        self.line("已清空 (cleared)")

    def models(self, given: str) -> None:
        self.line(f"{self.choices.mode}: {' + '.join(self.speaking())}")
        self.line(catalogue.text(self.session.backend.models(), self.paths))

    def help(self, given: str) -> None:
        self.line(HELP)

    # --- the screen -----------------------------------------------------------------------------------------------

    def put(self, text: str) -> None:
        self.status()
        sys.stdout.write(text)
        sys.stdout.flush()

    def line(self, text: str = "", paint: str = "") -> None:
        self.put(f"\x1b[{paint}m{text}\x1b[0m\n" if paint and self.coloured else f"{text}\n")

    def status(self, text: str = "") -> None:
        """Draw one line over the last one, or take it away; nothing where stderr is no terminal."""
        if not self.live or not (text or self.drawn):
            return
        from rich.cells import cell_len, set_cell_size

        room = shutil.get_terminal_size().columns - 1
        text = text if cell_len(text) <= room else set_cell_size(text, room).rstrip()
        sys.stderr.write(f"\r{' ' * min(self.drawn + 2, room)}\r{text}")  # a ^C may stand behind the old one
        sys.stderr.flush()
        self.drawn = cell_len(text)

    def complain(self, error: Exception) -> None:
        """One calm line; what nobody foresaw goes to the log, where somebody listens to it, without a word of the visitor."""
        code, words = "BQ_INTERNAL", f"内部出错，这一轮没有完成 (internal error: {type(error).__name__})"
        if isinstance(error, BianQueError):
            code, words = error.code, printable(" ".join(str(error).split()))
        else:
            logging.getLogger("bianque").debug("a turn failed", exc_info=error)
        self.status()
        print(f"{code}: {words}", file=sys.stderr, flush=True)


def lines(typed: bool) -> Iterator[str]:
    """What is said, a line each: with a prompt and line editing where somebody types."""
    if not typed:
        yield from sys.stdin
        return
    editing(typed)
    with suppress(EOFError):
        while True:
            yield input("> " if sys.stdout.isatty() else "")
    print()


def editing(typed: bool) -> Any:
    """Line editing with a history in memory, where this Python has it."""
    if not typed:
        return None
    try:
        import readline
    except ImportError:  # Windows edits lines by itself
        return None
    return readline


@contextmanager
def interrupting(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C calls `stop` while this is entered."""
    try:
        loop.add_signal_handler(signal.SIGINT, stop)
    except NotImplementedError:  # Windows
        before = signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(stop))
        restore: Callable[[], object] = lambda: signal.signal(signal.SIGINT, before)
    else:
        restore = lambda: loop.remove_signal_handler(signal.SIGINT)
    try:
        yield
    finally:
        restore()


def printable(text: str) -> str:
    """Text that moves no cursor and changes no colour: whatever a model writes, the terminal only shows it."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def language() -> Lang:
    return known(os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))

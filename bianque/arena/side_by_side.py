"""Several replies to one message side by side: who answers, their events as they come, figures, links, exports."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, cast
from urllib.parse import parse_qs, quote

from bianque.catalog.card import Model
from bianque.consult import questions, transcript, triage
from bianque.consult.session import MAX_CHARACTERS, Delta, Done, Event, Notice, Session, Speaking, Thinking
from bianque.consult.spec import Contender, Wishes, number
from bianque.consult.text import length
from bianque.consult.transcript import Turn
from bianque.errors import BadInput, BianQueError
from bianque.i18n import say
from bianque.types import Dialogue, Phase

FEWEST, MOST = 2, 4  # columns
LETTERS = "ABCD"
EVERY = -1  # the place of an event that concerns all columns
VERSION = "1"  # of a link
WAITING = 16  # events that wait for whoever reads; past them no reply is written on
INTERNAL = "服务内部出错，请稍后重试 (internal error; please retry)"


def verify(session: Session, contenders: Sequence[Contender], message: str | None = None, seed: object = None) -> None:
    """BadInput or UnknownModel for what no column could begin with; `message` None is not looked at."""
    if not FEWEST <= len(contenders) <= MOST:
        raise BadInput(
            f"contenders: {len(contenders)} 列，需要 {FEWEST} 到 {MOST} 列 (give {FEWEST} to {MOST} of them)"
        )
    if message is not None and not message.strip():
        raise BadInput("消息是空的，请先写下要比较的话 (the message is empty; write what shall be compared)")
    if message is not None and len(message) > MAX_CHARACTERS:
        raise BadInput(f"消息有 {len(message)} 个字符，最多 {MAX_CHARACTERS} 个 (the message is too long)")
    for contender in contenders:
        replace(contender, others=Wishes(seed=cast("int | None", seed))).choices(session)


@dataclass(frozen=True, slots=True)
class Failure:
    """A column ended by an error; the others go on."""

    code: str
    text: str


Item = tuple[int, Event | Failure]


def failure(error: Exception) -> Failure:
    """A deliberate error's own words, or one calm sentence; a trace goes to the log alone."""
    if isinstance(error, BianQueError):
        return Failure(error.code, str(error))
    logging.getLogger("bianque").error("a reply failed", exc_info=error)
    return Failure("BQ_INTERNAL", INTERNAL)


async def together(
    session: Session,
    contenders: Sequence[Contender],
    dialogues: Sequence[Dialogue],
    message: str,
    seed: int | None = None,
) -> AsyncGenerator[Item, None]:
    """Everybody's reply to one message at the same time: each event with its contender's place, as they come.

    The red flag of a message comes once, at the place `EVERY`. Closing the generator ends every reply within a token.
    Models that memory cannot hold together take turns: the pool makes whoever has no room wait.
    """
    assert len(contenders) == len(dialogues), "a dialogue a contender"
    came: asyncio.Queue[Item | None] = asyncio.Queue(WAITING)
    columns = [
        asyncio.create_task(pump(place, session, contender, dialogue, message, seed, came))
        for place, (contender, dialogue) in enumerate(zip(contenders, dialogues, strict=True))
    ]
    flagged, left = False, len(columns)
    try:
        while left:
            item = await came.get()
            if item is None:
                left -= 1
            elif isinstance(item[1], Notice) and item[1].level != "history":
                if not flagged:
                    flagged = True
                    yield EVERY, item[1]
            else:
                yield item
    finally:
        for column in columns:
            column.cancel()
        await asyncio.gather(*columns, return_exceptions=True)


async def pump(
    place: int, session: Session, contender: Contender, dialogue: Dialogue, message: str, seed: int | None,
    came: asyncio.Queue[Item | None],
) -> None:  # fmt: skip
    """One column's events into the common queue, and None behind them."""
    try:
        choices = replace(contender, others=Wishes(seed=seed)).choices(session)
        async with aclosing(session.reply(dialogue, message, choices)) as events:
            async for event in events:
                await came.put((place, event))
    except Exception as error:
        await came.put((place, failure(error)))
    await came.put(None)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one reply was. Times in seconds since the message was sent, loading included; the length in characters."""

    models: tuple[str, ...] = ()  # that were at work; the last of them spoke
    phase: Phase | None = None
    kernel: str | None = None  # what it computed with
    load: float = 0.0  # waiting for weights and for room
    first: float | None = None
    total: float | None = None  # None of a reply that did not end by itself
    tokens: int | None = None
    speed: float | None = None  # tokens a second, from the first token on
    length: int = 0
    asks: bool = False

    @classmethod
    def read(cls, value: object) -> Figures | None:
        """From what `asdict` made, by way of a browser; None if it was another version's."""
        if not isinstance(value, Mapping) or set(value) != {field.name for field in fields(cls)}:
            return None
        return cls(**{**value, "models": tuple(value["models"])})

    def parts(self, lang: str) -> list[str]:
        """In words: models, kernel, times, tokens a second, length."""
        found = [" → ".join(self.models), self.kernel or ""]
        if self.first is not None:
            found.append(say(lang, "first_token", seconds=f"{self.first:.2f}"))
        if self.load >= 0.05:
            found.append(say(lang, "load_seconds", seconds=f"{self.load:.2f}"))
        if self.speed is not None:
            found.append(say(lang, "speed", rate=f"{self.speed:.1f}"))
        return [*filter(None, found), say(lang, "characters", count=self.length)]


class Tally:
    """One column's figures as its reply grows. `kernel` says what a model computes with."""

    def __init__(self, kernel: Callable[[str], str | None]) -> None:
        self.begun = time.monotonic()
        self.kernel_of = kernel
        self.models: list[str] = []
        self.phase: Phase | None = None
        self.kernel: str | None = None
        self.text = ""
        self.first: float | None = None
        self.done: Done | None = None

    def take(self, event: Event | Failure) -> None:
        match event:
            case Thinking() | Speaking():
                if event.model not in self.models:
                    self.models.append(event.model)
                self.phase, self.kernel = event.phase, self.kernel_of(event.model)
            case Delta():
                if self.first is None:
                    self.first = time.monotonic() - self.begun
                self.text += event.text
            case Done():
                self.done, self.text = event, event.message.content

    def figures(self) -> Figures:
        known: dict[str, Any] = {
            "models": tuple(self.models), "phase": self.phase, "kernel": self.kernel, "length": length(self.text),
            "asks": questions.asks(self.text),
        }  # fmt: skip
        if self.done is None:
            return Figures(first=self.first, **known)
        timing, tokens = self.done.timing, self.done.usage.completion_tokens
        first, total = None if timing.first_token is None else timing.first_token / 1000, timing.total / 1000
        writing = 0.0 if first is None else total - first
        speed = (tokens - 1) / writing if tokens > 1 and writing > 0 else None
        return Figures(load=timing.load / 1000, first=first, total=total, tokens=tokens, speed=speed, **known)


def write(event: Event | Failure, turns: list[Turn]) -> None:
    """Write one event into a column's turns, as a browser keeps them.

    Beside what every turn has, a message has `contender` and `safety`, a reply `figures`, and where it ended `error`.
    """
    if isinstance(event, Failure):
        turns[-1]["error"] = {"code": event.code, "text": event.text}
    elif isinstance(event, Notice) and event.level != "history":
        turns[-1]["safety"] = {"level": event.level, "text": event.text}
    else:
        transcript.write(event, turns)


def rewound(turns: Sequence[Turn]) -> tuple[list[Turn], str | None]:
    """The turns before the last message, and that message."""
    for place in range(len(turns) - 1, -1, -1):
        if turns[place]["role"] == "user":
            return list(turns[:place]), turns[place]["content"]
    return [], None


def answered(turns: Sequence[Turn]) -> bool:
    """Whether a column ends with a reply that others can go on from."""
    return bool(turns) and turns[-1]["role"] == "assistant" and not turns[-1].get("error")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a comparison is made of: who answers, the seed of all, and the message it begins with."""

    contenders: tuple[Contender, ...]
    message: str = ""
    seed: int | None = None

    def encode(self) -> str:
        """`?compare=1;auto;bianque-2@8:temperature=0.7&seed=7#say=…`, to be put behind the page's address.

        What somebody says of their health stands behind #, which no browser sends to a server.
        """
        named = quote(";".join([VERSION, *(contender.label for contender in self.contenders)]), safe=";:,=@")
        seed = "" if self.seed is None else f"&seed={self.seed}"
        said = f"#say={quote(self.message, safe='', errors='replace')}" if self.message else ""
        return f"?compare={named}{seed}{said}"

    @classmethod
    def decode(cls, link: str) -> Setup | None:
        """From the end of an address, the message before or behind #; None if that speaks of no comparison."""
        try:
            given = parse_qs(link.lstrip("?#").replace("#", "&"), keep_blank_values=True, max_num_fields=50)
        except ValueError:
            raise BadInput("链接的参数太多 (the link has too many parameters)") from None
        if "compare" not in given:
            return None
        version, *named = given["compare"][0].split(";")
        if version != VERSION:
            raise BadInput(
                f"compare={version[:20]!r}: 这个链接的版本未知，这里是 {VERSION}，请重新生成链接 (unknown version of a link)"
            )
        if not FEWEST <= len(named) <= MOST:
            raise BadInput(f"compare: {len(named)} 列，需要 {FEWEST} 到 {MOST} 列 (a link names {FEWEST} to {MOST})")
        seed, message = (given.get(name, [""])[0] for name in ("seed", "say"))
        if len(message) > MAX_CHARACTERS:
            raise BadInput(f"say: {len(message)} 个字符，最多 {MAX_CHARACTERS} 个 (the message is too long)")
        return cls(tuple(map(Contender.parse, named)), message, cast(int, number("seed", seed)) if seed else None)


def licences(columns: Sequence[Sequence[Turn]], cards: Mapping[str, Model]) -> dict[str, str]:
    """The licence of every model that spoke in any column."""
    return transcript.licences(chain.from_iterable(columns), cards)


def as_json(setup: Setup, columns: Sequence[Sequence[Turn]], cards: Mapping[str, Model]) -> str:
    named = zip(setup.contenders, columns, strict=False)
    whole = {
        "label": f"{triage.LABEL}；{triage.DISCLAIMER}",
        "link": setup.encode(),
        "seed": setup.seed,
        "licences": licences(columns, cards),
        "columns": [{"contender": contender.label, "messages": list(turns)} for contender, turns in named],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def as_markdown(setup: Setup, columns: Sequence[Sequence[Turn]], cards: Mapping[str, Model]) -> str:
    lines = ["# 扁鹊 BianQue · 对比", "", f"> {triage.LABEL}；{triage.DISCLAIMER}。", "", f"`{setup.encode()}`", ""]
    for letter, contender, turns in zip(LETTERS, setup.contenders, columns, strict=False):
        lines += [f"## {letter} · {contender.label}", ""]
        for turn in turns:
            lines += spoken(turn)
    lines += [f"- {name}: {licence}" for name, licence in licences(columns, cards).items()]
    return "\n".join(lines) + "\n"


def spoken(turn: Turn) -> list[str]:
    """One turn: whose it is, the words, notices, figures, and what went wrong."""
    asked = turn["role"] == "user"
    to = f" → {turn['contender']}" if turn.get("contender") else ""
    who = f"病人{to}" if asked else f"{say('zh-CN', turn.get('phase') or 'advising')} · {turn.get('model')}"
    lines = [f"**{who}**", "", turn["content"], ""]
    for notice in filter(None, (turn.get("safety"), turn.get("notice"))):
        lines += [f"> {notice['text']}", ""]
    if figures := Figures.read(turn.get("figures")):
        badge = say("zh-CN", "badge_asks" if figures.asks else "badge_answers")
        lines += [f"*{' · '.join([*figures.parts('zh-CN'), badge])}*", ""]
    if error := turn.get("error"):
        lines += [f"> {error['code']}: {error['text']}", ""]
    return lines

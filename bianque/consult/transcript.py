"""A dialogue as it is kept between turns, how a reply grows in it, and how it is taken along with label and licences."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from bianque.catalog.card import Model
from bianque.consult import questions
from bianque.consult.session import Delta, Done, Event, Failure, Handed, Loading, Notice, Speaking, Thinking
from bianque.consult.text import LABEL, clean, length
from bianque.i18n import say, waiting
from bianque.types import Message, Phase, Progress

# One kept turn, as JSON: role, content, phase, model. A visitor's turn may have `notice` {level, text} and `handoff`
# {from, to, reason}; a reply has `question`, `budget` and `finish`, and `host` where it came from
# a server elsewhere. Side by side, a visitor's turn also has `contender` and
# may have `safety` {level, text}, a reply has `figures` (`ReplyStats`), and the turn where it ended badly has `error` {code, text}.
Turn = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReplyStats:
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
    def read(cls, value: object) -> ReplyStats | None:
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


class Transcript:
    """The turns of a dialogue while its newest message is answered; `apply` is where events become turns.

    `kernel` says what a model computes with. `apart` keeps a red flag under `safety`, where several columns share one.
    """

    def __init__(
        self, before: Sequence[Turn], message: str, kernel: Callable[[str], str | None] = lambda model: None,
        apart: bool = False, **more: Any,
    ) -> None:  # fmt: skip
        self.asked: Turn = {"role": "user", "content": clean(message), **more}
        self.turns: list[Turn] = [*before, self.asked]
        self.kernel_of, self.apart = kernel, apart
        self.begun = time.monotonic()
        self.models: list[str] = []
        self.phase: Phase | None = None
        self.kernel: str | None = None
        self.first: float | None = None
        self.pieces = 0  # in which the reply came
        self.done: Done | None = None
        self.error: Failure | None = None
        self.progress: Progress | None = None  # of a model that is on its way
        self.thinking: Phase | None = None
        self.ended = False
        self.changed = True  # for whoever shows it

    @property
    def reply(self) -> Turn | None:
        """The reply, once it has begun."""
        return None if self.turns[-1] is self.asked else self.turns[-1]

    @property
    def text(self) -> str:
        return self.reply["content"] if self.reply else ""

    def apply(self, event: Event | Failure | None) -> None:
        if event is None:
            return
        self.changed = True
        match event:
            case Notice():
                key = "safety" if self.apart and event.level != "history" else "notice"
                if self.asked.get(key, {}).get("level", "history") == "history":
                    self.asked[key] = event.shown()
            case Handed():
                self.asked["handoff"] = {"from": event.source, "to": event.target, "reason": event.reason}
            case Loading():
                self.progress = event.progress
            case Thinking():
                self.work(event)
                self.thinking = event.phase
            case Speaking():
                self.work(event)
                # Until it is done a reply counts as stopped: if nothing more comes, that is what it was.
                self.turns.append({
                    "role": "assistant", "content": "", "phase": event.phase, "model": event.model,
                    "question": event.question, "budget": event.budget, "finish": "cancelled",
                    **({"host": event.host} if event.host else {}),
                })  # fmt: skip
            case Delta():
                self.first = self.first or time.monotonic() - self.begun
                self.turns[-1]["content"] += event.text
                self.pieces += 1
            case Done():
                self.done = event
                if self.reply:
                    self.reply.update(content=event.message.content, finish=event.finish, phase=event.message.phase)
                self.end()
            case Failure():
                self.error = event
                self.turns[-1]["error"] = asdict(event)
                self.end()

    def work(self, event: Thinking | Speaking) -> None:
        if event.model not in self.models:
            self.models.append(event.model)
        self.phase, self.kernel = event.phase, self.kernel_of(event.model)
        self.progress = self.thinking = None

    def end(self) -> None:
        self.progress, self.thinking, self.ended, self.changed = None, None, True, True

    @property
    def writing(self) -> bool:
        """Whether a model is at work."""
        return bool(self.models) and self.progress is None and not self.ended

    @property
    def waits(self) -> bool:
        """Whether there is no room for its model yet: it is neither loading nor behind others at that model."""
        return self.progress is not None and self.progress.stage == "queued" and not self.progress.ahead

    def status(self, lang: str, first: str = "…") -> str:
        """What is going on while nothing of the reply shows; `first` before anything has happened."""
        if self.progress:
            return waiting(lang, self.progress)
        if self.thinking:
            return say(lang, f"thinking_{self.thinking}")
        return "" if self.ended or self.reply else first

    def tokens(self) -> int:
        """That were written; of a reply that did not end, its characters."""
        return self.done.usage.completion_tokens if self.done else len(self.text)

    def stats(self) -> ReplyStats:
        """Of the reply so far."""
        known: dict[str, Any] = {
            "models": tuple(self.models), "phase": self.phase, "kernel": self.kernel, "length": length(self.text),
            "asks": questions.asks(self.text),
        }  # fmt: skip
        if self.done is None:
            return ReplyStats(first=self.first, **known)
        timing, tokens = self.done.timing, self.done.usage.completion_tokens
        first, total = None if timing.first_token is None else timing.first_token / 1000, timing.total / 1000
        writing = 0.0 if first is None else total - first
        # A question is held back until it is whole and comes in one piece: that says nothing of the model's speed.
        speed = (tokens - 1) / writing if tokens > 1 and writing > 0 and self.pieces > 1 else None
        return ReplyStats(load=timing.load / 1000, first=first, total=total, tokens=tokens, speed=speed, **known)


def last_user(turns: Sequence[Turn]) -> int | None:
    """The place of the visitor's newest turn."""
    return next((i for i in range(len(turns) - 1, -1, -1) if turns[i]["role"] == "user"), None)


def rewound(turns: Sequence[Turn]) -> tuple[list[Turn], str | None]:
    """The turns before the visitor's newest one, and its text."""
    place = last_user(turns)
    return ([], None) if place is None else (list(turns[:place]), turns[place]["content"])


def messages(turns: Iterable[Turn]) -> list[Message]:
    return [Message(t["role"], t["content"], t.get("phase"), t.get("model")) for t in turns]


def licences(turns: Iterable[Turn], cards: Mapping[str, Model]) -> dict[str, str]:
    """The licence of every model that spoke, and where the words went for it."""
    spoke = dict.fromkeys(str(t.get("model")).partition("@")[0] for t in turns)  # a precision has no licence of its own
    return {name: cards[name].terms for name in spoke if name in cards}


def header(title: str) -> list[str]:
    return [f"# {title}", "", f"> {LABEL}。", ""]


def turn_lines(turn: Turn) -> list[str]:
    """One turn as Markdown: whose it is, the words, notices, figures, and what went wrong."""
    to = f" → {turn['contender']}" if turn.get("contender") else ""
    phase = say("zh-CN", turn.get("phase") or "advising")
    lines = [
        f"**患者{to}**" if turn["role"] == "user" else f"**{phase} · {turn.get('model')}**",
        "",
        turn["content"],
        "",
    ]
    for notice in filter(None, (turn.get("safety"), turn.get("notice"))):
        lines += [f"> {notice['text']}", ""]
    if stats := ReplyStats.read(turn.get("figures")):
        badge = say("zh-CN", "badge_asks" if stats.asks else "badge_answers")
        lines += [f"*{' · '.join([*stats.parts('zh-CN'), badge])}*", ""]
    if error := turn.get("error"):
        lines += [f"> {error['code']}: {error['text']}", ""]
    return lines


def alarms(turns: Sequence[Turn]) -> list[str]:
    """The notices of danger of a dialogue as Markdown, each once."""
    found = (notice for turn in turns for notice in (turn.get("safety"), turn.get("notice")) if notice)
    return [
        line
        for text in dict.fromkeys(notice["text"] for notice in found if notice["level"] != "history")
        for line in (f"> **{text}**", "")
    ]


def as_markdown(turns: Sequence[Turn], cards: Mapping[str, Model]) -> str:
    """Label, notices of danger, the turns, licences."""
    lines = header("扁鹊 BianQue") + alarms(turns) + [line for turn in turns for line in turn_lines(turn)]
    lines += [f"- {name}: {licence}" for name, licence in licences(turns, cards).items()]
    return "\n".join(lines) + "\n"


def as_json(turns: Sequence[Turn], cards: Mapping[str, Model]) -> str:
    whole = {"label": LABEL, "licences": licences(turns, cards), "messages": list(turns)}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"

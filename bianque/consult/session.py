"""One turn of a consultation: safety first, then who speaks, then the reply as a stream of events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from bianque.backends.base import Backend
from bianque.catalog import builtin
from bianque.consult import handoff, questions, triage
from bianque.consult.handoff import Decision, Reason
from bianque.errors import BadInput
from bianque.types import LONGEST_REPLY, Dialogue, Finish, Message, Mode, Phase, Piece, Progress, Sampling, Usage

MAX_CHARACTERS = 8000


@dataclass(frozen=True, slots=True)
class Choices:
    """What the visitor set; None leaves a model's own default."""

    mode: Mode = "auto"
    ask_model: str | None = None
    advise_model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    advise_now: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """Stays above the reply: `emergency`, `crisis`, or `history` (earlier rounds did not fit the window)."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Loading:
    progress: Progress


@dataclass(frozen=True, slots=True)
class Thinking:
    """A model has begun, and nothing of its reply can be shown yet."""

    model: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class Speaking:
    """A reply begins. `question` of `budget` while asking in auto mode, else None."""

    model: str
    phase: Phase
    question: int | None
    budget: int


@dataclass(frozen=True, slots=True)
class Delta:
    text: str


@dataclass(frozen=True, slots=True)
class Handed:
    """The asking model hands over to the advising one."""

    source: str
    target: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds since the turn began (`load`: spent waiting for weights)."""

    load: float = 0.0
    first_token: float | None = None
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The reply is complete."""

    message: Message
    finish: Finish
    usage: Usage
    timing: Timing


Event = Notice | Loading | Thinking | Speaking | Delta | Handed | Done


@dataclass(slots=True)
class Clock:
    """Times of one turn; the only mutable thing in it."""

    begun: float = field(default_factory=time.monotonic)
    loading_since: float | None = None
    load: float = 0.0
    first: float | None = None

    def now(self) -> float:
        return (time.monotonic() - self.begun) * 1000

    def saw(self, piece: Piece) -> None:
        if piece.progress and self.loading_since is None:
            self.loading_since = self.now()
        elif not piece.progress and self.loading_since is not None:
            self.load += self.now() - self.loading_since
            self.loading_since = None

    def timing(self) -> Timing:
        return Timing(self.load, self.first, self.now())


class Session:
    """Answers turns. It keeps nothing between them: the dialogue comes in and goes out whole."""

    def __init__(self, backend: Backend, ask: str, advise: str, budget: int = 8) -> None:
        self.backend, self.ask, self.advise, self.budget = backend, ask, advise, budget
        self.cards = builtin.by_name(backend.models())

    def sampling(self, model: str, choices: Choices) -> Sampling:
        """The model's defaults with the visitor's wishes in them; BadInput names a value out of range."""
        wishes = {
            "temperature": (choices.temperature, 0.0, 2.0),
            "top_p": (choices.top_p, 0.01, 1.0),
            "max_new_tokens": (choices.max_new_tokens, 1, LONGEST_REPLY),
            "seed": (choices.seed, 0, 2**63 - 1),
        }
        given: dict[str, Any] = {}
        for name, (value, least, most) in wishes.items():
            if value is None:
                continue
            whole = isinstance(least, int)
            number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not number or not least <= value <= most:
                kind = "整数 (a whole number)" if whole else "数 (a number)"
                raise BadInput(f"{name}={value!r}: 需要 {least} 到 {most} 之间的{kind}")
            given[name] = value
        return replace(builtin.find(self.cards, model).sampling, **given)

    async def reply(self, history: Dialogue, message: str, choices: Choices = Choices()) -> AsyncGenerator[Event, None]:
        """Answer one message. Closing the iterator ends generation within a token."""
        if not message.strip():
            raise BadInput("消息是空的，请先描述您的情况 (the message is empty; describe your complaint first)")
        if len(message) > MAX_CHARACTERS:
            raise BadInput(f"消息有 {len(message)} 个字符，最多 {MAX_CHARACTERS} 个 (the message is too long)")
        if choices.mode not in ("auto", "ask", "advise"):
            raise BadInput(f"mode={choices.mode!r}: 可选 (choose one of) auto, ask, advise")
        ask, advise = choices.ask_model or self.ask, choices.advise_model or self.advise
        for model in (ask, advise):
            self.sampling(model, choices)
        dialogue = [*history, Message("user", message)]
        clock = Clock()
        if found := triage.check(message):
            yield Notice(found.level, found.text)
        asking = choices.mode == "ask"
        if choices.mode == "auto":
            decision = handoff.decide(dialogue, budget=self.budget, advise_now=choices.advise_now)
            if decision.phase == "asking":
                self.backend.prepare(advise)
                async with aclosing(self.consult(ask, dialogue, choices, clock)) as events:
                    async for event in events:
                        if isinstance(event, Decision):
                            decision = event
                        else:
                            yield event
                if decision.phase == "asking":
                    return
            if decision.reason != "after_advice":
                yield Handed(ask, advise, decision.reason)
        phase: Phase = "asking" if asking else "advising"
        async with aclosing(self.speak(ask if asking else advise, phase, dialogue, choices, clock)) as events:
            async for event in events:
                yield event

    async def consult(
        self, model: str, dialogue: Dialogue, choices: Choices, clock: Clock
    ) -> AsyncGenerator[Event | Decision, None]:
        """Let the asking model speak, unheard until it has asked something new; a Decision to advise ends it unheard.

        What it wrote is shown from its first whole question on, so an answer that is no question never shows, and
        neither does a notice of what that answer's model did not read.
        """
        held, heard = "", False
        count = handoff.asked(dialogue) + 1
        async with aclosing(self.speak(model, "asking", dialogue, choices, clock, count)) as events:
            opening: list[Event] = []
            async for event in events:
                if heard or isinstance(event, Loading | Thinking):
                    yield event
                    continue
                opening.append(event)
                ended = isinstance(event, Done)
                if isinstance(event, Delta):
                    held += event.text
                candidate = held if ended else held[: last_stop(held)]
                if not ended and not questions.asks(candidate):
                    continue
                decision = handoff.decide(dialogue, candidate, budget=self.budget)
                if decision.phase == "asking":
                    heard = True
                    yield decision
                    for waiting in opening:
                        yield waiting
                elif ended:
                    yield decision

    async def speak(
        self, model: str, phase: Phase, dialogue: Dialogue, choices: Choices, clock: Clock, question: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """One model's reply from its first sign of life to Done."""
        text = ""
        spoke = False
        async with aclosing(self.backend.stream(model, dialogue, self.sampling(model, choices))) as pieces:
            async for piece in pieces:
                clock.saw(piece)
                if piece.progress:
                    yield Loading(piece.progress)
                elif piece.usage and not piece.finish:
                    if piece.usage.dropped_rounds:
                        yield Notice("history", history_notice(piece.usage.dropped_rounds))
                    yield Thinking(model, phase)
                if piece.text:
                    if not spoke:
                        clock.first = clock.now()
                        yield Speaking(model, phase, question, self.budget)
                        spoke = True
                    text += piece.text
                    yield Delta(piece.text)
                if piece.finish:
                    done = Message("assistant", text, phase, model)
                    yield Done(done, piece.finish, piece.usage or Usage(), clock.timing())


def last_stop(text: str) -> int:
    """Where the last finished sentence ends."""
    return max((text.rfind(mark) for mark in "？?。！!\n"), default=-1) + 1


def history_notice(rounds: int) -> str:
    return (
        f"对话较长，模型没有读到中间较早的 {rounds} 轮；最初的主诉和最新的消息都保留了。"
        f" (The dialogue is long: earlier rounds left out: {rounds}; the first complaint and the newest message are kept.)"
    )

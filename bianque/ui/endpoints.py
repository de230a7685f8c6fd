"""The public API: `/chat`, `/chat_once`, `/models`. Stateless; names and shapes are frozen by a snapshot test."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypedDict, get_args

import gradio as gr

from bianque import safety
from bianque.errors import BadInput, BianQueError
from bianque.session import Choices, Delta, Done, Handed, Notice, Session, Speaking, Timing
from bianque.types import Message, Phase, Usage
from bianque.ui.pace import Pace

LABEL = f"{safety.LABEL}；{safety.DISCLAIMER}"


class Turn(TypedDict):
    role: str
    content: str
    phase: str | None
    model: str | None


HandoffReply = TypedDict("HandoffReply", {"from": str, "to": str, "reason": str})


class NoticeReply(TypedDict):
    level: str
    text: str


class UsageReply(TypedDict):
    prompt_tokens: int
    completion_tokens: int


class TimingReply(TypedDict):
    load_ms: float
    first_token_ms: float | None
    total_ms: float


class ChatReply(TypedDict):
    reply: str
    messages: list[Turn]
    model: str | None
    phase: str | None
    handoff: HandoffReply | None
    notice: NoticeReply | None
    finish_reason: str | None
    usage: UsageReply
    timing: TimingReply
    label: str


class Card(TypedDict):
    name: str
    title: str
    repo: str | None
    revision: str
    architecture: str
    role: str
    licence: str
    bytes: int
    loaded: bool
    kernel: str | None


def parse_history(history: object) -> list[Message]:
    """Messages of the `history` argument; BadInput names the first item that is none."""
    if history is None:
        return []
    if not isinstance(history, list):
        raise BadInput("history: 需要消息列表或 null (a list of messages or null is needed)")
    return [parse_turn(item, place) for place, item in enumerate(history)]


def parse_turn(item: object, place: int) -> Message:
    where = f"history[{place}]"
    if not isinstance(item, dict):
        raise BadInput(f"{where}: 需要含 role 与 content 的对象 (an object with role and content is needed)")
    role, content, phase, model = (item.get(key) for key in ("role", "content", "phase", "model"))
    if role not in ("user", "assistant"):
        raise BadInput(f"{where}.role={role!r}: 可选 (choose one of) user, assistant")
    if not isinstance(content, str):
        raise BadInput(f"{where}.content: 需要字符串 (a string is needed)")
    if phase is not None and phase not in get_args(Phase):
        raise BadInput(f"{where}.phase={phase!r}: 可选 (choose one of) asking, advising, null")
    return Message(role, content, phase, model if isinstance(model, str) else None)


class Reply:
    """The answer to one call as it grows."""

    def __init__(self, history: Sequence[Message], message: str) -> None:
        self.before = [*history, Message("user", message)]
        self.text = ""
        self.model: str | None = None
        self.phase: Phase | None = None
        self.handoff: HandoffReply | None = None
        self.notice: NoticeReply | None = None
        self.finish: str | None = None
        self.usage = Usage()
        self.timing = Timing()

    def take(self, event: object) -> bool:
        """Fold one event in; True if a reader would want to see it."""
        match event:
            case Notice():
                if self.notice is None or self.notice["level"] == "history":
                    self.notice = {"level": event.level, "text": event.text}
            case Handed():
                self.handoff = {"from": event.source, "to": event.target, "reason": event.reason}
            case Speaking():
                self.model, self.phase = event.model, event.phase
            case Delta():
                self.text += event.text
            case Done():
                self.model, self.phase = event.message.model, event.message.phase
                self.finish, self.usage, self.timing = event.finish, event.usage, event.timing
            case _:
                return False
        return True

    def as_dict(self) -> ChatReply:
        answer = [Message("assistant", self.text, self.phase, self.model)] if self.text else []
        return {
            "reply": self.text,
            "messages": [turn_dict(turn) for turn in [*self.before, *answer]],
            "model": self.model,
            "phase": self.phase,
            "handoff": self.handoff,
            "notice": self.notice,
            "finish_reason": self.finish,
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
            },
            "timing": {
                "load_ms": round(self.timing.load, 1),
                "first_token_ms": None if self.timing.first_token is None else round(self.timing.first_token, 1),
                "total_ms": round(self.timing.total, 1),
            },
            "label": LABEL,
        }


def turn_dict(turn: Message) -> Turn:
    return {"role": turn.role, "content": turn.content, "phase": turn.phase, "model": turn.model}


def calm(error: Exception) -> gr.Error:
    """What a client is told: a deliberate error's own words, or one sentence; a trace goes to the log alone."""
    if isinstance(error, BianQueError):
        return gr.Error(str(error), title=error.code, print_exception=False)
    logging.getLogger("bianque").error("a reply failed", exc_info=error)
    return gr.Error(
        "服务内部出错，请稍后重试 (internal error; please retry)", title="BQ_INTERNAL", print_exception=False
    )


def add(session: Session) -> None:
    """Register the endpoints in the Blocks that are being built."""

    async def chat(
        message: str,
        history: list[Turn] | None = None,
        mode: Literal["auto", "ask", "advise"] = "auto",
        ask_model: str | None = None,
        advise_model: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> AsyncGenerator[ChatReply, None]:
        """One turn of a consultation, as it is written: each item is the whole reply so far."""
        try:
            if not isinstance(message, str):
                raise BadInput("message: 需要字符串 (a string is needed)")
            past = parse_history(history)
            choices = Choices(mode, ask_model, advise_model, temperature, top_p, whole(max_new_tokens), whole(seed))
            reply, pace = Reply(past, message), Pace()
            async with aclosing(session.reply(past, message, choices)) as events:
                async for event in events:
                    if reply.take(event) and pace.due():
                        yield reply.as_dict()
            yield reply.as_dict()
        except Exception as error:
            raise calm(error) from None

    async def chat_once(
        message: str,
        history: list[Turn] | None = None,
        mode: Literal["auto", "ask", "advise"] = "auto",
        ask_model: str | None = None,
        advise_model: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> ChatReply:
        """One turn of a consultation, answered when it is complete."""
        last: ChatReply | None = None
        arguments = (message, history, mode, ask_model, advise_model, temperature, top_p, max_new_tokens, seed)
        async with aclosing(chat(*arguments)) as replies:
            async for reply in replies:
                last = reply
        assert last is not None
        return last

    def models() -> list[Card]:
        """The models there are."""
        held = session.backend
        return [
            Card(
                name=card.name, title=card.title, repo=card.repo, revision=card.revision,
                architecture=card.architecture, role=card.role, licence=card.licence, bytes=card.bytes,
                loaded=held.loaded(card.name), kernel=held.kernel(card.name),
            )
            for card in held.models()
        ]  # fmt: skip

    gr.api(chat, api_name="chat", concurrency_id="chat", concurrency_limit=64)
    gr.api(chat_once, api_name="chat_once", concurrency_id="chat", concurrency_limit=64)
    gr.api(models, api_name="models", queue=False)


def whole(value: Any) -> Any:
    """JSON has one kind of number: 256.0 from a client is 256."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

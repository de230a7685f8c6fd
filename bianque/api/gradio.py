"""The public API: `/chat`, `/chat_once`, `/compare`, `/models`. Stateless; names and shapes are frozen by a snapshot test."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypedDict, get_args

import gradio as gr

from bianque.arena import side_by_side
from bianque.arena.side_by_side import Failure, Tally
from bianque.consult.pacing import Pace, beating
from bianque.consult.session import Choices, Delta, Done, Event, Handed, Loading, Notice, Session, Speaking, Timing
from bianque.consult.spec import Contender
from bianque.consult.text import LABEL
from bianque.errors import BadInput, BianQueError
from bianque.types import Message, Phase, Usage


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


class ProgressReply(TypedDict):
    model: str
    stage: str
    fraction: float
    ahead: int


class ErrorReply(TypedDict):
    code: str
    text: str


class ColumnReply(ChatReply):
    contender: str
    models: list[str]
    kernel: str | None
    tokens_per_second: float | None
    length: int
    asks: bool
    progress: ProgressReply | None
    error: ErrorReply | None


class CompareReply(TypedDict):
    columns: list[ColumnReply]
    notice: NoticeReply | None
    licences: dict[str, str]
    label: str


class ContenderAsked(TypedDict, total=False):
    name: str
    bits: int | None
    temperature: float | None
    top_p: float | None
    max_new_tokens: int | None
    seed: int | None


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


class Column:
    """One contender's part of a comparison as it grows."""

    def __init__(self, contender: Contender, history: Sequence[Message], message: str, session: Session) -> None:
        self.contender = contender
        self.reply, self.tally = Reply(history, message), Tally(session.backend.kernel)
        self.progress: ProgressReply | None = None
        self.error: ErrorReply | None = None

    def take(self, event: Event | Failure) -> None:
        self.tally.take(event)
        match event:
            case Failure():
                self.progress, self.error = None, {"code": event.code, "text": event.text}
            case Loading(found):
                self.progress = {
                    "model": found.model, "stage": found.stage, "fraction": found.fraction, "ahead": found.ahead
                }  # fmt: skip
            case _:
                self.reply.take(event)
                self.progress = None

    def as_dict(self) -> ColumnReply:
        figures = self.tally.figures()
        return {
            **self.reply.as_dict(), "contender": self.contender.label, "models": list(figures.models),
            "kernel": figures.kernel, "length": figures.length, "asks": figures.asks,
            "tokens_per_second": None if figures.speed is None else round(figures.speed, 2),
            "progress": self.progress, "error": self.error,
        }  # fmt: skip


def parse_contenders(contenders: object) -> list[Contender]:
    if not isinstance(contenders, list):
        raise BadInput('contenders: 需要列表，如 ["auto", "bianque-2@8"] (a list of contenders is needed)')
    exact = [{k: whole(v) for k, v in given.items()} if isinstance(given, dict) else given for given in contenders]
    return [Contender.of(given, f"contenders[{place}]") for place, given in enumerate(exact)]


def parse_histories(histories: object, columns: int) -> list[list[Message]]:
    """A history a column: each its own, or one for all."""
    if not isinstance(histories, list) or not any(isinstance(history, list) for history in histories):
        return [parse_history(histories)] * columns
    if len(histories) != columns:
        raise BadInput(
            f"histories: {len(histories)} 份历史，{columns} 列；每列一份，或全体共用一份 (give one a column, or one for all)"
        )
    found = []
    for place, history in enumerate(histories):
        try:
            found.append(parse_history(history))
        except BadInput as error:
            raise BadInput(f"histories[{place}]: {error}") from None
    return found


def compared(columns: Iterable[Column], notice: NoticeReply | None, session: Session) -> CompareReply:
    made = [column.as_dict() for column in columns]
    spoken = [[{"model": column["model"]}] for column in made if column["reply"]]
    return {
        "columns": made, "notice": notice, "licences": side_by_side.licences(spoken, session.cards), "label": LABEL
    }  # fmt: skip


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

    async def compare_(
        message: str,
        contenders: list[str | ContenderAsked],
        histories: list[Turn] | list[list[Turn]] | None = None,
        seed: int | None = None,
    ) -> AsyncGenerator[CompareReply, None]:
        """Replies of two to four contenders to one message, written at the same time: each item is all of them so far."""
        try:
            if not isinstance(message, str):
                raise BadInput("message: 需要字符串 (a string is needed)")
            named, drawn = parse_contenders(contenders), whole(seed)
            side_by_side.verify(session, named, message, drawn)
            past = parse_histories(histories, len(named))
            async with aclosing(compared_replies(session, named, past, message, drawn)) as replies:
                async for reply in replies:
                    yield reply
        except Exception as error:
            raise calm(error) from None

    def models() -> list[Card]:
        """The models there are."""
        held = session.backend
        return [
            Card(
                name=card.name, title=card.title, repo=card.repo, revision=card.revision,
                architecture=card.checkpoint.architecture if card.checkpoint else "",
                role=card.role, licence=card.licence, bytes=card.checkpoint.bytes if card.checkpoint else 0,
                loaded=held.loaded(card.name), kernel=held.kernel(card.name),
            )
            for card in held.models()
        ]  # fmt: skip

    gr.api(chat, api_name="chat", concurrency_id="chat", concurrency_limit=64)
    gr.api(chat_once, api_name="chat_once", concurrency_id="chat", concurrency_limit=64)
    gr.api(compare_, api_name="compare", concurrency_id="chat", concurrency_limit=64)
    gr.api(models, api_name="models", queue=False)


async def compared_replies(
    session: Session, named: Sequence[Contender], past: Sequence[Sequence[Message]], message: str, seed: int | None
) -> AsyncGenerator[CompareReply, None]:
    """All columns as they grow, no oftener than a reader's eye can follow, and once more when they are complete."""
    columns = [Column(who, history, message, session) for who, history in zip(named, past, strict=True)]
    notice: NoticeReply | None = None
    pace, changed = Pace(), False
    async with aclosing(beating(side_by_side.together(session, named, past, message, seed))) as items:
        async for item in items:
            if item:
                place, event = item
                changed = True
                if isinstance(event, Notice) and place == side_by_side.EVERY:
                    notice = {"level": event.level, "text": event.text}
                else:
                    columns[place].take(event)
            if changed and pace.due():
                changed = False
                yield compared(columns, notice, session)
    yield compared(columns, notice, session)


def whole(value: Any) -> Any:
    """JSON has one kind of number: 256.0 from a client is 256."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

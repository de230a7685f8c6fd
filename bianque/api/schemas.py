"""What goes over the wire: shapes of requests, checked by pydantic, and of replies, frozen by a snapshot test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypedDict, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from bianque.arena import share
from bianque.consult.session import MAX_TURNS, Session, Timing
from bianque.consult.spec import ModelSpec
from bianque.consult.text import LABEL, clean
from bianque.consult.transcript import Transcript, Turn
from bianque.errors import BadInput, TooLong
from bianque.types import Message, Phase, Usage

T = TypeVar("T")


class WireMessage(TypedDict):
    role: str
    content: str
    phase: str | None
    model: str | None


HandoffReply = TypedDict("HandoffReply", {"from": str, "to": str, "reason": str})


class _Notice(TypedDict):
    level: str
    text: str


class NoticeReply(_Notice, total=False):
    """Of danger also: how certain, the kind, numbers to call, what to do until help comes, known sentences it is like."""

    certainty: str
    kind: str
    tel: list[str]
    do: str
    nearest: list[str]


class UsageReply(TypedDict):
    prompt_tokens: int
    completion_tokens: int


class TimingReply(TypedDict):
    load_ms: float
    first_token_ms: float | None
    total_ms: float


class ChatReply(TypedDict):
    reply: str
    messages: list[WireMessage]
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


class SpecAsked(TypedDict, total=False):
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


def _text(content: object) -> object:
    """A message's text; Gradio's Chatbot and OpenAI's clients may hold it as a list of parts."""
    if isinstance(content, str):
        return clean(content)
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    if None in texts:
        raise ValueError(
            f"只读文字 (parts of type 'text' alone are read): {clean(str(content[texts.index(None)])[:60])}"
        )
    return clean("\n".join(map(str, texts)))


class MessageAsked(BaseModel):
    """One message of a `history`; whatever else it holds is not looked at."""

    model_config = ConfigDict(strict=True)

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[str, BeforeValidator(_text)]
    phase: Phase | None = None
    model: Any = None


HISTORY = TypeAdapter(list[MessageAsked])
TEXTS = TypeAdapter(list[str])


def validated(kind: TypeAdapter[T], name: str, value: object) -> T:
    """The value as pydantic reads it; BadInput names the place in it, what is there, and what is needed."""
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = name + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in wrong["loc"])
        raise BadInput(f"{place}={str(wrong['input'])[:80]!r}: 格式不对 ({wrong['msg']})") from None


def check_count(name: str, messages: object) -> None:
    """TooLong for far more messages than are read, before each of them is looked at."""
    if isinstance(messages, list) and len(messages) > 2 * MAX_TURNS:  # some may be left out
        raise TooLong(
            f"{name}: {len(messages)} 条消息，最多 {MAX_TURNS} 条；请开始新的对话 (too many messages; start a new dialogue)"
        )


def parse_history(history: object, name: str = "history") -> list[Message]:
    """Messages of an argument, or pairs of a visitor's and a doctor's words; BadInput names the first item that is none.

    These models know no system message: one is left out.
    """
    check_count(name, history)
    found = [] if history is None else validated(HISTORY, name, _unpaired(history))
    return [
        Message(m.role, m.content, m.phase, clean(m.model) if isinstance(m.model, str) else None)
        for m in found
        if m.role in ("user", "assistant")
    ]


def _unpaired(history: object) -> object:
    """`[["头痛", "多久了？"], …]`, as older clients keep a history, as messages; anything else as it is."""
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        return history
    roles = ("user", "assistant")
    return [
        {"role": role, "content": said}
        for pair in history
        for role, said in zip(roles, pair, strict=True)
        if said is not None
    ]


def parse_histories(histories: object, columns: int) -> list[list[Message]]:
    """A history a column: each its own, or one for all."""
    if not isinstance(histories, list) or not any(isinstance(history, list) for history in histories):
        return [parse_history(histories)] * columns
    if len(histories) != columns:
        raise BadInput(
            f"histories: {len(histories)} 份历史，{columns} 列；每列一份，或全体共用一份 (give one a column, or one for all)"
        )
    return [parse_history(history, f"histories[{place}]") for place, history in enumerate(histories)]


def parse_specs(contenders: object) -> list[ModelSpec]:
    if not isinstance(contenders, list):
        raise BadInput('contenders: 需要列表，如 ["auto", "bianque-2@8"] (a list of contenders is needed)')
    exact = [{k: as_int(v) for k, v in given.items()} if isinstance(given, dict) else given for given in contenders]
    return [ModelSpec.of(given, f"contenders[{place}]") for place, given in enumerate(exact)]


def as_int(value: Any) -> Any:
    """JSON has one kind of number: 256.0 from a client is 256."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def wire(turn: Turn) -> WireMessage:
    return {"role": turn["role"], "content": turn["content"], "phase": turn.get("phase"), "model": turn.get("model")}


def turns_of(history: Iterable[Message]) -> list[Turn]:
    return [{"role": m.role, "content": m.content, "phase": m.phase, "model": m.model} for m in history]


def chat_reply(found: Transcript) -> ChatReply:
    """The answer to one call as far as it has come."""
    usage, timing = (found.done.usage, found.done.timing) if found.done else (Usage(), Timing())
    spoke = found.reply or (turns_of([found.done.message])[0] if found.done else {})
    turns = found.turns if found.text or not found.reply else found.turns[:-1]
    return {
        "reply": found.text,
        "messages": [wire(turn) for turn in turns],
        "model": spoke.get("model"),
        "phase": spoke.get("phase"),
        "handoff": found.asked.get("handoff"),
        "notice": found.asked.get("notice"),
        "finish_reason": found.done.finish if found.done else None,
        "usage": {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
        "timing": {
            "load_ms": round(timing.load, 1),
            "first_token_ms": None if timing.first_token is None else round(timing.first_token, 1),
            "total_ms": round(timing.total, 1),
        },
        "label": LABEL,
    }


def column_reply(spec: ModelSpec, found: Transcript) -> ColumnReply:
    """One contender's part of a comparison."""
    stats, progress, error = found.stats(), found.progress, found.error
    return {
        **chat_reply(found), "contender": spec.label, "models": list(stats.models), "kernel": stats.kernel,
        "length": stats.length, "asks": stats.asks,
        "tokens_per_second": None if stats.speed is None else round(stats.speed, 2),
        "progress": cast("ProgressReply | None", progress and {
            "model": progress.model, "stage": progress.stage, "fraction": progress.fraction, "ahead": progress.ahead
        }),
        "error": {"code": error.code, "text": error.text} if error else None,
    }  # fmt: skip


def compare_reply(
    specs: Sequence[ModelSpec], found: Sequence[Transcript], notice: NoticeReply | None, session: Session
) -> CompareReply:
    made = [column_reply(spec, column) for spec, column in zip(specs, found, strict=True)]
    spoken = [[{"model": column["model"]}] for column in made if column["reply"]]
    return {
        "columns": made,
        "notice": notice,
        "licences": share.comparison_licences(spoken, session.cards),
        "label": LABEL,
    }

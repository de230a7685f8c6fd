"""The public API: `/chat`, `/chat_once`, `/compare`, `/models`, `/summary`. Stateless; names and shapes are frozen by a snapshot test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal, cast

import gradio as gr

from bianque.api.errors import calm
from bianque.api.limits import AT_ONCE, Limits
from bianque.api.schemas import (
    Card,
    ChatReply,
    CompareReply,
    NoticeReply,
    SpecAsked,
    WireMessage,
    as_int,
    chat_reply,
    compare_reply,
    parse_histories,
    parse_history,
    parse_specs,
    turns_of,
)
from bianque.api.summary import add_summary
from bianque.arena import side_by_side
from bianque.consult.pacing import Throttle, with_heartbeat
from bianque.consult.session import Notice, Session, check_size
from bianque.consult.spec import Choices, ModelSpec, SamplingOverrides
from bianque.consult.transcript import Transcript
from bianque.errors import BadInput
from bianque.types import Message


def add_chat(session: Session, limits: Limits) -> None:
    """Register the endpoints in the Blocks that are being built."""

    async def chat(
        message: str,
        history: list[WireMessage] | None = None,
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
            check_size(message, past)
            drawn = SamplingOverrides(temperature, top_p, as_int(max_new_tokens), as_int(seed))
            choices = Choices(mode, ask_model, advise_model, drawn)
            found, throttle = Transcript(turns_of(past), message), Throttle()
            with limits.admit(tokens=found.tokens):
                async with aclosing(with_heartbeat(session.reply(past, message, choices))) as events:
                    async for event in events:
                        found.apply(event)
                        # Also where nothing is new: only at a yield does Gradio see that a caller has left.
                        if throttle.ready():
                            yield chat_reply(found)
            yield chat_reply(found)
        except Exception as error:
            raise calm(error) from None

    async def chat_once(
        message: str,
        history: list[WireMessage] | None = None,
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

    gr.api(chat, api_name="chat", concurrency_id="chat", concurrency_limit=AT_ONCE)
    gr.api(chat_once, api_name="chat_once", concurrency_id="chat", concurrency_limit=AT_ONCE)
    add_compare(session, limits)
    add_models(session)
    add_summary(limits)


def add_compare(session: Session, limits: Limits) -> None:
    """Register the comparison of several contenders."""

    async def compare_(
        message: str,
        contenders: list[str | SpecAsked],
        histories: list[WireMessage] | list[list[WireMessage]] | None = None,
        seed: int | None = None,
    ) -> AsyncGenerator[CompareReply, None]:
        """Replies of two to four contenders to one message, written at the same time: each item is all of them so far."""
        try:
            if not isinstance(message, str):
                raise BadInput("message: 需要字符串 (a string is needed)")
            named, drawn = parse_specs(contenders), as_int(seed)
            side_by_side.verify(session, named, message, drawn)
            past = parse_histories(histories, len(named))
            for history in past:
                check_size(message, history)
            columns = [Transcript(turns_of(turns), message, session.backend.kernel) for turns in past]
            with limits.admit(len(named), lambda: sum(column.tokens() for column in columns)):
                async with aclosing(compared(session, named, past, message, drawn, columns)) as replies:
                    async for reply in replies:
                        yield reply
        except Exception as error:
            raise calm(error) from None

    gr.api(compare_, api_name="compare", concurrency_id="chat", concurrency_limit=AT_ONCE)


def add_models(session: Session) -> None:
    """Register the list of models."""

    def models() -> list[Card]:
        """The models there are."""
        held = session.backend
        return [
            Card(
                name=card.name, title=card.title, repo=card.repo, revision=card.revision,
                architecture=card.checkpoint.architecture if card.checkpoint else "remote",
                role=card.role, licence=card.terms, bytes=card.checkpoint.bytes if card.checkpoint else 0,
                loaded=held.loaded(card.name), kernel=held.kernel(card.name),
            )
            for card in held.models()
        ]  # fmt: skip

    gr.api(models, api_name="models", queue=False)


async def compared(
    session: Session,
    specs: Sequence[ModelSpec],
    past: Sequence[Sequence[Message]],
    message: str,
    seed: int | None,
    columns: Sequence[Transcript],
) -> AsyncGenerator[CompareReply, None]:
    """All columns as they grow, no oftener than a reader's eye can follow, and once more when they are complete."""
    notice: NoticeReply | None = None
    throttle = Throttle()
    async with aclosing(with_heartbeat(side_by_side.together(session, specs, past, message, seed))) as items:
        async for item in items:
            if item:
                place, event = item
                if isinstance(event, Notice) and place == side_by_side.EVERY:
                    notice = cast("NoticeReply", event.shown())
                else:
                    columns[place].apply(event)
            if throttle.ready():
                yield compare_reply(specs, columns, notice, session)
    yield compare_reply(specs, columns, notice, session)

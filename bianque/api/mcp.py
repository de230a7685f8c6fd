"""Tools for agents over the Model Context Protocol, served by Gradio at `/gradio_api/mcp/`. Off unless BIANQUE_MCP=1."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable
from contextlib import aclosing
from importlib.util import find_spec
from typing import Any, Literal, TypedDict

import gradio as gr

from bianque.api.limits import Limits
from bianque.api.schemas import parse_history
from bianque.consult import summary as sheet
from bianque.consult.session import Failure, Session, check_size
from bianque.consult.spec import Choices, ModelSpec
from bianque.consult.text import LABEL
from bianque.consult.transcript import Transcript
from bianque.errors import BadInput
from bianque.types import Message


class AgentTurn(TypedDict, total=False):
    """One turn of a history, as `consult` gives it."""

    role: Literal["user", "assistant"]
    content: str
    phase: Literal["asking", "advising"] | None


def add_tools(demo: gr.Blocks, session: Session, can_run: Callable[[str], bool], limits: Limits) -> bool:
    """Register the tools, and hide the other endpoints from agents; False where the package is missing."""
    if find_spec("mcp") is None:
        logging.getLogger("bianque").warning('BIANQUE_MCP=1: run pip install "mcp<2" first; no tools are offered')
        return False
    for endpoint in demo.fns.values():
        if endpoint.api_visibility == "public" and inspect.isfunction(endpoint.fn):
            hide(endpoint.fn)
    with demo:
        add_consult(session, limits)
        add_models(session, can_run)
        add_summary()
    return True


def hide(function: Any) -> None:
    """Keep an endpoint out of the list of tools, and its name free: gradio.mcp reads both from the function."""
    function._mcp_type = "endpoint"
    function.__name__ = f"endpoint_{function.__name__}"


class ToolError(gr.Error):
    """An agent sees the text alone: the stable code opens it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.text}", title=failure.code, print_exception=False)

    def __str__(self) -> str:
        return self.message


def add_consult(session: Session, limits: Limits) -> None:
    async def consult(
        message: str,
        history: list[AgentTurn] | None = None,
        mode: Literal["auto", "ask", "advise"] = "auto",
        model: str | None = None,
    ) -> str:
        """One turn of a Chinese medical consultation with small language models.

        They first ask back, a question a turn (phase "asking"), and then advise (phase "advising"). They read and write
        Chinese. This is no doctor and no diagnosis: say so, and pass on a `notice` word for word before anything else,
        as it tells of an emergency or a crisis. Let the patient answer the questions; do not answer them yourself.

        Args:
            message: What the patient says, in Chinese; one message, at most 8000 characters.
            history: The turns so far: pass back the `history` of the last result; leave it out to begin anew.
            mode: "auto" asks first and then advises, "ask" only asks, "advise" only advises.
            model: A model's name from the tool `models`, to have that one answer; the configured pair otherwise.

        Returns:
            JSON: reply, phase, notice (level and text, or null), history (to pass next time), model, label.
        """
        try:
            written = 0
            with limits.admit(tokens=lambda: written):
                told = await answered(session, message, history, mode, model)
                written = len(told["reply"])
                return json.dumps(told, ensure_ascii=False)
        except Exception as error:
            raise ToolError(Failure.of(error)) from None

    gr.api(consult, api_name="consult", queue=False)


async def answered(session: Session, message: Any, history: Any, mode: Any, model: Any) -> dict[str, Any]:
    if not isinstance(message, str):
        raise BadInput("message: 需要字符串 (a string is needed)")
    past = parse_history(history)
    choices = Choices(mode)
    if model is not None:
        # alone a card speaks in its role; it takes both parts where a part is named
        choices = ModelSpec.parse(str(model)).choices(session) if mode == "auto" else Choices(mode, model, model)
    found = Transcript((), message)
    try:
        async with aclosing(session.reply(past, message, choices)) as events:
            async for event in events:
                found.apply(event)
    except Exception as error:
        if "notice" not in found.asked:
            raise
        found.apply(Failure.of(error))  # a red flag is told although nobody answers
    spoken = found.done.message if found.done else None
    told = [*past, Message("user", found.asked["content"]), *([spoken] if spoken else [])]
    return {
        "reply": found.text, "phase": spoken.phase if spoken else None, "notice": found.asked.get("notice"),
        "history": [{"role": turn.role, "content": turn.content} | phase_of(turn) for turn in told],
        "model": spoken.model if spoken else None, "label": LABEL,
    } | ({"error": {"code": found.error.code, "message": found.error.text}} if found.error else {})  # fmt: skip


def phase_of(turn: Message) -> dict[str, Any]:
    return {"phase": turn.phase} if turn.phase else {}


def add_summary() -> None:
    async def summary(history: list[AgentTurn], lang: Literal["zh-CN", "zh-TW", "en", "ko"] = "zh-CN") -> str:
        """One page for the doctor about a consultation: quotations of what was said, nothing else.

        Args:
            history: The turns: the `history` of the last result of `consult`, whole.
            lang: The language of the headings.

        Returns:
            Markdown: complaint, duration, what was denied, questions and answers, advice, and any danger sign first.
        """
        try:
            said = parse_history(history)
            if not said:
                raise BadInput("history: 还没有对话 (there is no dialogue yet)")
            check_size(said[0].content, said)
            return str((await asyncio.to_thread(sheet.summary, said, lang)).markdown())
        except Exception as error:
            raise ToolError(Failure.of(error)) from None

    gr.api(summary, api_name="agent_summary", queue=False)


def add_models(session: Session, can_run: Callable[[str], bool]) -> None:
    async def models() -> str:
        """The models that can answer here.

        Returns:
            JSON: a list of name, title, role (asks, advises, both, counsels), licence, loaded.
        """
        runs = await asyncio.to_thread(lambda: [card for card in session.cards.values() if can_run(card.name)])
        told = [
            {"name": card.name, "title": card.title, "role": card.role, "licence": card.licence,
             "loaded": session.backend.loaded(card.name)}
            for card in runs
        ]  # fmt: skip
        return json.dumps(told, ensure_ascii=False)

    gr.api(models, api_name="agent_models", queue=False)

"""The `/summary` endpoint: a dialogue → the page that a patient takes to the doctor. It keeps nothing of a call."""

from __future__ import annotations

import asyncio
from typing import Literal, TypedDict, cast

import gradio as gr

from bianque.api.errors import calm
from bianque.api.limits import AT_ONCE, Limits
from bianque.api.schemas import WireMessage, parse_history
from bianque.consult.session import check_size
from bianque.consult.summary import summary
from bianque.consult.text import LABEL
from bianque.errors import BadInput
from bianque.i18n import LANGS


class QuoteReply(TypedDict):
    text: str
    turn: int
    question: str
    cut: bool


class DangerReply(TypedDict):
    level: str
    sign: str
    notice: str
    said: QuoteReply


class SummaryReply(TypedDict):
    dangers: list[DangerReply]
    sections: dict[str, list[QuoteReply]]
    left_out: dict[str, int]
    markdown: str
    html: str
    label: str


def replied(history: object, lang: str) -> SummaryReply:
    """Reads the whole dialogue: not on an event loop."""
    dialogue = parse_history(history)
    check_size("-", dialogue)
    if lang not in LANGS:
        raise BadInput(f"lang={lang!r}: 可选 (choose one of) {', '.join(LANGS)}")
    found = summary(dialogue, lang)
    shown = {"markdown": found.markdown(), "html": found.html(), "label": LABEL}
    return cast(SummaryReply, {**found.as_dict(), **shown})


def add_summary(limits: Limits) -> None:
    """Register the endpoint in the Blocks that are being built."""

    async def summary_(
        history: list[WireMessage] | None = None, lang: Literal["zh-CN", "zh-TW", "en", "ko"] = "zh-CN"
    ) -> SummaryReply:
        """One page for the doctor: quotations of the dialogue by section, as Markdown and as a page to print.

        Sections: complaint, duration, signs, denied, trigger, history, other, asked, advice, department. A quotation has
        its `turn` (from 0) and the `question` it answers. `lang` is that of the headings.
        """
        try:
            with limits.admit():
                return await asyncio.to_thread(replied, history, lang)
        except Exception as error:
            raise calm(error) from None

    gr.api(summary_, api_name="summary", concurrency_id="chat", concurrency_limit=AT_ONCE)

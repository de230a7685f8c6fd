"""The `/feedback` endpoint: 👍 or 👎 on a reply, kept like a vote; words only with consent."""

from __future__ import annotations

import asyncio
from typing import TypedDict

import gradio as gr

from bianque.api.errors import calm
from bianque.api.limits import AT_ONCE, Limits
from bianque.api.schemas import WireMessage, parse_history, turns_of
from bianque.arena.feedback import FeedbackStore, record_feedback
from bianque.catalog import builtin
from bianque.consult.session import Session, check_size
from bianque.errors import BadInput


class FeedbackReply(TypedDict):
    id: str | None
    model: str | None
    liked: bool | None


def add_feedback(session: Session, store: FeedbackStore, limits: Limits) -> None:
    """Register the endpoint in the Blocks that are being built."""

    def kept(
        messages: object, liked: bool | None, reason: str | None, note: str | None, consent: bool, id: str | None
    ) -> FeedbackReply:
        turns = turns_of(parse_history(messages, "messages"))
        check_size("-", parse_history(messages, "messages"))
        if liked is not None and not isinstance(liked, bool):
            raise BadInput(f"liked={liked!r}: 需要 true、false 或 null (true, false or null is needed)")
        if liked is not None and turns and turns[-1]["model"]:
            builtin.find(session.cards, turns[-1]["model"].partition("@")[0])  # the board has no other names
        found = record_feedback(store, turns, len(turns) - 1, liked, reason, note or "", consent, id)
        return {"id": found.id, "model": found.model, "liked": found.liked} if found else {
            "id": None, "model": None, "liked": None
        }  # fmt: skip

    async def feedback_(
        messages: list[WireMessage] | None = None,
        liked: bool | None = None,
        reason: str | None = None,
        note: str | None = None,
        consent: bool = False,
        id: str | None = None,
    ) -> FeedbackReply:
        """What a reader says of a dialogue's last reply; `messages` as `/chat` gave them, the judged reply last.

        Reasons of `liked`: helpful, clear, caring; of the opposite: off_topic, wrong, unsafe, repeats, unclear. What was
        said, and a `note`, are kept only with `consent`. The `id` of the answer changes the word later; `liked` null
        with an `id` takes it back.
        """
        try:
            with limits.admit():
                return await asyncio.to_thread(kept, messages, liked, reason, note, consent, id)
        except Exception as error:
            raise calm(error) from None

    gr.api(feedback_, api_name="feedback", concurrency_id="chat", concurrency_limit=AT_ONCE)

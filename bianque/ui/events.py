"""How the page's events are sent: none is an endpoint for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from bianque.api.limits import AT_ONCE
from bianque.ui import script

PRIVATE: Mapping[str, Any] = {"api_visibility": "private"}
QUICK: Mapping[str, Any] = {**PRIVATE, "queue": False, "show_progress": "hidden"}
TURN: Mapping[str, Any] = {
    **PRIVATE, "concurrency_id": "chat", "concurrency_limit": AT_ONCE, "show_progress": "hidden",
}  # fmt: skip


def saved(event: Any, text: gr.Textbox, filename: gr.Textbox) -> None:
    """What the event writes into the two becomes a file in the visitor's browser."""
    event.then(None, [text, filename], None, js=script.js("save"), **PRIVATE)

"""What a client is told when something fails."""

from __future__ import annotations

import logging

import gradio as gr

from bianque.errors import BianQueError
from bianque.logs import trace


def calm(error: Exception) -> gr.Error:
    """A deliberate error's own words, or one sentence; its kind and place go to the log."""
    if isinstance(error, BianQueError):
        return gr.Error(str(error), title=error.code, print_exception=False)
    logging.getLogger("bianque").error("a reply failed: %s", trace(error))
    return gr.Error(
        "服务内部出错，请稍后重试 (internal error; please retry)", title="BQ_INTERNAL", print_exception=False
    )

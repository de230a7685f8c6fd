"""How the page is served."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from bianque.api.probes import probes
from bianque.consult.session import Session
from bianque.data import readers
from bianque.evaluate.quota import Folders
from bianque.ui import front, script, theme
from bianque.ui.evaluate import reports
from bianque.ui.i18n import translations


def launch(demo: gr.Blocks, session: Session, **options: Any) -> Any:
    """Serve the page; options override (tests pass a port and `prevent_thread_lock`)."""
    demo.queue(default_concurrency_limit=16, max_size=64)
    defaults: dict[str, Any] = {
        "theme": theme.theme(), "css": theme.css(), "js": script.load(), "i18n": translations(), "ssr_mode": False,
        "show_error": False, "enable_monitoring": False, "run_history": False, "footer_links": [], "quiet": True,
        "max_file_size": readers.MAX_BYTES,
        "app_kwargs": {
            "routes": [*front.routes(), *probes(session), *reports(Folders())], "middleware": [Middleware(front.Front)],
        },
    }  # fmt: skip
    if os.environ.get("SYSTEM") == "spaces":
        defaults["server_name"] = "0.0.0.0"
    return demo.launch(**(defaults | options))

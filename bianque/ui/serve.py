"""How the page is served."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from bianque.api import leftovers, mcp, openai
from bianque.api.limits import Limits
from bianque.api.probes import probes
from bianque.consult.session import Session
from bianque.data import readers
from bianque.evaluate.quota import Folders
from bianque.settings import Settings
from bianque.ui import front, script, theme
from bianque.ui.evaluate import reports
from bianque.ui.i18n import translations


def launch(
    demo: gr.Blocks,
    session: Session,
    settings: Settings | None = None,
    can_run: Callable[[str], bool] = lambda name: True,
    limits: Limits | None = None,
    **options: Any,
) -> Any:
    """Serve the page and the doors beside it; options override (tests pass a port and `prevent_thread_lock`).

    `can_run` tells which cards this machine can answer with; `limits` are those of the page's endpoints.
    """
    settings = settings or Settings.read()
    limits = limits or Limits.of(settings)
    demo.queue(default_concurrency_limit=16, max_size=64)
    defaults: dict[str, Any] = {
        "theme": theme.theme(), "css": theme.css(), "js": script.load(), "i18n": translations(), "ssr_mode": False,
        "show_error": False, "enable_monitoring": False, "run_history": False, "footer_links": [], "quiet": True,
        "max_file_size": readers.MAX_BYTES, "mcp_server": settings.mcp and mcp.add_tools(demo, session, can_run, limits),
        "state_session_capacity": leftovers.SESSIONS,
        "app_kwargs": {
            "lifespan": leftovers.swept, "middleware": [Middleware(front.Front)],
            "routes": [
                *front.routes(), *probes(session), *reports(Folders()),
                *openai.routes(session, settings.api_key, can_run, limits),
            ],
        },
    }  # fmt: skip
    if os.environ.get("SYSTEM") == "spaces":
        defaults["server_name"] = "0.0.0.0"
    return demo.launch(**(defaults | options))

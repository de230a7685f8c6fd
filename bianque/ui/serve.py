"""How the page is served, and what a probe is told."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bianque.catalog.builtin import by_name
from bianque.consult.session import Session
from bianque.data import readers
from bianque.evaluate.quota import Folders
from bianque.ui import script, theme
from bianque.ui.evaluate import reports
from bianque.ui.i18n import translations


async def alive(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def readiness(session: Session) -> tuple[dict[str, Any], int]:
    """Which pair answers and whether each is in memory (what is not loads at its first message), and the HTTP status.

    503 only where the backend has no model of a configured name.
    """
    known = by_name(session.backend.models())
    pair = {"ask": session.ask, "advise": session.advise}
    if missing := [name for name in pair.values() if name not in known]:
        return {"status": "unavailable", "missing": missing}, 503
    told = {role: {"name": name, "loaded": session.backend.loaded(name)} for role, name in pair.items()}
    return {"status": "ready", **told}, 200


def probes(session: Session) -> list[Route]:
    async def ready(request: Request) -> JSONResponse:
        told, status = readiness(session)
        return JSONResponse(told, status)

    return [Route("/healthz", alive), Route("/readyz", ready)]


def launch(demo: gr.Blocks, session: Session, **options: Any) -> Any:
    """Serve the page; options override (tests pass a port and `prevent_thread_lock`)."""
    demo.queue(default_concurrency_limit=16, max_size=64)
    defaults: dict[str, Any] = {
        "theme": theme.theme(), "css": theme.css(), "js": script.load(), "i18n": translations(), "ssr_mode": False,
        "show_error": False, "enable_monitoring": False, "run_history": False, "footer_links": [], "quiet": True,
        "max_file_size": readers.MAX_BYTES, "app_kwargs": {"routes": [*probes(session), *reports(Folders())]},
    }  # fmt: skip
    if os.environ.get("SYSTEM") == "spaces":
        defaults["server_name"] = "0.0.0.0"
    return demo.launch(**(defaults | options))

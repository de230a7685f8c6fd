"""Which pair speaks, and how the page is served."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bianque.registry import by_name, find
from bianque.settings import Settings
from bianque.ui import script, theme
from bianque.ui.i18n import translations

MINI, HUB = ("ask-mini", "advise-mini"), ("bianque-1", "bianque-2")


def pair(settings: Settings) -> tuple[str, str]:
    """The cards that ask and advise: named ones first, then the real ones where they can run, else the bundled."""
    cards = by_name()
    real = settings.models == "hub" or (settings.models == "auto" and has_gpu() and hub_answers())
    ask, advise = HUB if real else MINI
    return find(cards, settings.ask or ask).name, find(cards, settings.advise or advise).name


def has_gpu() -> bool:
    """Told without importing torch, which would cost the first paint its seconds."""
    return bool(os.environ.get("SPACES_ZERO_GPU")) or any(
        Path(sign).exists() for sign in ("/proc/driver/nvidia/version", "/dev/nvidia0")
    )


def hub_answers() -> bool:
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(find(by_name(), HUB[0]).repo or "", timeout=3)
    except Exception:  # whatever it is, the real checkpoints cannot be had now
        return False
    return True


async def alive(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def launch(demo: gr.Blocks, **options: Any) -> Any:
    """Serve the page; options override (tests pass a port and `prevent_thread_lock`)."""
    demo.queue(default_concurrency_limit=16, max_size=64)
    defaults: dict[str, Any] = {
        "theme": theme.theme(), "css": theme.CSS, "js": script.load(), "i18n": translations(), "ssr_mode": False,
        "show_error": False, "enable_monitoring": False, "run_history": False, "footer_links": [], "quiet": True,
        "app_kwargs": {"routes": [Route("/healthz", alive), Route("/readyz", alive)]},
    }  # fmt: skip
    if os.environ.get("SYSTEM") == "spaces":
        defaults["server_name"] = "0.0.0.0"
    return demo.launch(**(defaults | options))

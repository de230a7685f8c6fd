"""The Space: read the environment, choose who speaks, build the page, serve it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ["GRADIO_SSR_MODE"] = "False"  # Spaces sets it, and serving the page from Node needs more than this page does
# Gradio recomputes a summary of all events after each; these keep it from growing.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000")

from bianque.backend import Local
from bianque.session import Session
from bianque.settings import Settings
from bianque.ui import serve
from bianque.ui.chat import Page

HERE = Path(__file__).parent


def page(settings: Settings) -> Page:
    backend = Local(settings)
    ask, advise = serve.pair(settings)
    return Page(Session(backend, ask, advise, settings.question_budget), HERE / "examples.json")


demo = page(Settings.read()).build()


def launch(**options: Any) -> Any:
    return serve.launch(demo, **options)


if __name__ == "__main__":
    launch()

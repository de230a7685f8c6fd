"""How the page is served."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import gradio as gr
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware

from bianque import address, logs
from bianque.api import leftovers, mcp, openai
from bianque.api.limits import AT_ONCE, Limits
from bianque.api.probes import probes
from bianque.consult.session import Session
from bianque.data import readers
from bianque.evaluate.quota import Folders
from bianque.settings import Settings
from bianque.ui import front, rim, script, theme
from bianque.ui.i18n import translations
from bianque.ui.results import reports

# Seconds between two looks for something to do. Gradio looks a thousand times a second: a twelfth of a core for nothing.
IDLE = 0.01
stopping = threading.Event()


def stop(*_: Any) -> NoReturn:
    """For SIGTERM, as a Space and docker send it. While starting, the signal may meet a finaliser, which swallows the
    exception: `up` asks again before it stays.
    """
    stopping.set()
    sys.exit(0)


def launch(
    demo: gr.Blocks,
    session: Session,
    settings: Settings | None = None,
    can_run: Callable[[str], bool] = lambda name: True,
    limits: Limits | None = None,
    **options: Any,
) -> Any:
    """Serve the page and the doors beside it; options override (tests pass a port and `prevent_thread_lock`).

    It says where the page is and stays there until the process shall stop; then what is being answered is finished.

    `can_run` tells which cards this machine can answer with; `limits` are those of the page's endpoints.
    """
    settings = settings or Settings.read()
    limits = limits or Limits.of(settings)
    demo.queue(default_concurrency_limit=16, max_size=2 * AT_ONCE)
    demo._queue.sleep_when_free = IDLE
    logs.count_replies(settings.log)
    under_way = rim.UnderWay()
    defaults: dict[str, Any] = {
        "theme": theme.theme(), "css": theme.css(), "js": script.load(), "i18n": translations(demo), "ssr_mode": False,
        "show_error": False, "enable_monitoring": False, "run_history": False, "footer_links": [], "quiet": True,
        "max_file_size": readers.MAX_BYTES, "mcp_server": settings.mcp and mcp.add_tools(demo, session, can_run, limits),
        "state_session_capacity": leftovers.SESSIONS, "max_threads": AT_ONCE,
        "app_kwargs": {
            "lifespan": leftovers.swept, "exception_handlers": {RequestValidationError: rim.misshapen, TypeError: rim.misnamed},
            "middleware": [Middleware(rim.Rim, under_way, settings.embed), Middleware(front.Front)],
            "routes": [
                *front.routes(), *probes(session, settings.metrics), *reports(Folders()),
                *openai.routes(session, settings.api_key, can_run, limits),
            ],
        },
    }  # fmt: skip
    if os.environ.get("SYSTEM") == "spaces":
        defaults["server_name"] = "0.0.0.0"
    return up(demo, under_way, defaults | options)


def up(demo: gr.Blocks, under_way: rim.UnderWay, options: dict[str, Any]) -> Any:
    """Serve, say where, and stay unless the caller goes on; SettingsError where it cannot be served."""
    stays = not options.pop("prevent_thread_lock", False)
    wanted = options.get("server_port") or address.port()
    address.host(options.get("server_name"))
    try:
        launched = demo.launch(**options, prevent_thread_lock=True)
    except OSError as error:
        if "empty port" not in str(error):
            raise
        raise address.none_free(wanted) from error
    if stays:
        logs.configure()
        try:
            if stopping.is_set():
                sys.exit(0)
            address.tell(str(demo.local_url), wanted, demo.server_port)
            demo.block_thread()
        except SystemExit:  # SIGTERM: no new callers, and those who are being answered hear the end
            demo.server.should_exit = True
            under_way.drain()
            raise
    return launched

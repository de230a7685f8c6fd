"""The page's first answer: what a shared link shows of it, a first picture before Gradio has come, and all of it compressed."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from html import escape
from pathlib import Path
from string import Template

import brotli
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bianque.i18n import Lang, known, say
from bianque.ui import script, theme

_META = re.compile(
    r'<meta\s+(?:property="og:|name="twitter:)[^>]*/?>\s*|<link rel="manifest"[^>]*>\s*|<title>[^<]*</title>\s*'
)
_BLANK = re.compile(r"\n\s*")
PICTURE = Path(__file__).with_name("page.png")
INKS = {"theme-color": "#22694f"}


class Front:
    """ASGI middleware: rewrites and compresses the answer to `GET /`; streams and everything else pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", "")) or "/"
        if scope["type"] != "http" or scope["method"] != "GET" or path != "/":
            await self.app(scope, receive, send)
            return
        begun: Message = {}
        body = bytearray()

        async def hold(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = message
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    await answer(scope, begun, bytes(body), send)

        await self.app(scope, receive, hold)


async def answer(scope: Scope, begun: Message, body: bytes, send: Send) -> None:
    """Send what was held back: a page rewritten and compressed, anything else as it is."""
    headers, asked = MutableHeaders(raw=begun["headers"]), Headers(scope=scope)
    if headers.get("content-type", "").startswith("text/html"):
        body, kind = packed(page(body.decode(), scope).encode(), asked.get("accept-encoding", ""))
        if kind:
            headers["content-encoding"] = kind
        headers["content-length"] = str(len(body))
        headers.add_vary_header("Accept-Encoding, Accept-Language")
    await send(begun)
    await send({"type": "http.response.body", "body": body})


def packed(body: bytes, accepted: str) -> tuple[bytes, str]:
    """The body as small as the browser can take it, and what that is called."""
    if "br" in accepted:
        return brotli.compress(body, quality=5), "br"
    return (gzip.compress(body, 6), "gzip") if "gzip" in accepted else (body, "")


def page(html: str, scope: Scope) -> str:
    """Gradio's page with a title, description and picture of its own, our first script, and a first picture to look at."""
    accepted = Headers(scope=scope).get("accept-language", "")
    lang = known(part.partition(";")[0] for part in accepted.split(","))
    html = _META.sub("", html).replace('<html\n\tlang="en"', f'<html lang="{lang}"', 1)
    html = html.replace("</head>", f"{head(lang, str(Request(scope).base_url))}</head>", 1)
    return html.replace("<gradio-app", f"{first(lang)}<gradio-app", 1)


def head(lang: Lang, base: str) -> str:
    title, about = escape(say(lang, "title")), escape(say(lang, "description"))
    shared = {"og:type": "website", "og:title": title, "og:description": about, "og:image": f"{base}page.png"}
    named = {"description": about, "twitter:card": "summary_large_image", **INKS}
    metas = [f'<meta property="{name}" content="{value}">' for name, value in shared.items()]
    metas += [f'<meta name="{name}" content="{value}">' for name, value in named.items()]
    links = '<link rel="icon" type="image/svg+xml" href="favicon.svg"><link rel="manifest" href="manifest.json">'
    return f"<title>{title}</title>{''.join(metas)}{links}<style>{theme.states()}</style><script>{script.js('first')}</script>"


def first(lang: Lang) -> str:
    words = {key: escape(say(lang, key)) for key in ("ask_heading", "ask_line", "message", "placeholder")}
    return _BLANK.sub("", Template(theme.asset("first.html")).substitute(words))


@cache
def icon() -> str:
    """The seal of the page's header as a picture of its own."""
    drawn = (
        theme.asset("gourd.svg")
        .replace("currentColor", "#fff")
        .replace("<svg ", '<svg x="3" y="3" width="26" height="26" ')
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#22694f"/>{drawn}</svg>'


def manifest(lang: Lang) -> str:
    icons = [{"src": "favicon.svg", "sizes": "any", "type": "image/svg+xml", "purpose": "any"}]
    told = {
        "name": say(lang, "title"),
        "short_name": "扁鹊",
        "description": say(lang, "description"),
        "lang": lang,
        "start_url": "./",
    }
    return json.dumps(
        told
        | {"display": "standalone", "background_color": "#faf8f3", "theme_color": INKS["theme-color"], "icons": icons}
    )


def routes() -> list[Route]:
    """The icon, the manifest and the picture that `head` names; they come before Gradio's own."""

    async def draw(request: Request) -> Response:
        return Response(icon(), media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})

    async def tell(request: Request) -> Response:
        accepted = request.headers.get("accept-language", "")
        lang = known(part.partition(";")[0] for part in accepted.split(","))
        return Response(manifest(lang), media_type="application/manifest+json")

    async def show(request: Request) -> Response:
        return FileResponse(PICTURE, headers={"cache-control": "max-age=86400"})

    return [
        Route("/favicon.svg", draw),
        Route("/favicon.ico", draw),
        Route("/manifest.json", tell),
        Route("/page.png", show),
    ]

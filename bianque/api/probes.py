"""What a probe is told: that the page lives, and who answers."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from bianque.catalog.builtin import by_name
from bianque.consult.session import Session


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


def probes(session: Session, metrics: bool = False) -> list[Route]:
    """`metrics`: with /metrics for Prometheus too: sums over all visitors, and no words."""

    async def ready(request: Request) -> JSONResponse:
        told, status = readiness(session)
        return JSONResponse(told, status)

    async def sums(request: Request) -> PlainTextResponse:
        return PlainTextResponse(session.ledger.exposition(), media_type="text/plain; version=0.0.4")

    found = [Route("/healthz", alive), Route("/readyz", ready)]
    return [*found, Route("/metrics", sums)] if metrics else found

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

    503 only where the backend has no model of a configured name. `failing` with the error's code is a pair of which one
    could not be loaded the last time: its next message tries again, so callers must still be let through.
    """
    known = by_name(session.backend.models())
    pair = {"ask": session.ask, "advise": session.advise}
    if missing := [name for name in pair.values() if name not in known]:
        return {"status": "unavailable", "missing": missing}, 503
    failure = getattr(session.backend, "failure", lambda name: None)  # not every backend loads models itself
    told: dict[str, Any] = {role: {"name": name, "loaded": session.backend.loaded(name)} for role, name in pair.items()}
    for role, name in pair.items():
        if code := failure(name):
            told[role]["failed"] = code
    failing = any("failed" in one for one in told.values())
    return {"status": "failing" if failing else "ready", **told}, 200


def probes(session: Session, metrics: bool = False) -> list[Route]:
    """`metrics`: with /metrics for Prometheus too: sums over all visitors, and no words."""

    async def ready(request: Request) -> JSONResponse:
        told, status = readiness(session)
        return JSONResponse(told, status)

    async def sums(request: Request) -> PlainTextResponse:
        return PlainTextResponse(session.ledger.exposition(), media_type="text/plain; version=0.0.4")

    found = [Route("/healthz", alive), Route("/readyz", ready)]
    return [*found, Route("/metrics", sums)] if metrics else found

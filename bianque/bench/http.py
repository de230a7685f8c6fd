"""`python -m bianque bench http`: first text and whole reply over `/v1`, beside the same session in this process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from bianque.backends.local import Local
from bianque.bench.startup import ROOT, wait_for
from bianque.catalog import custom
from bianque.consult.session import Delta, Session
from bianque.consult.spec import Choices, SamplingOverrides
from bianque.settings import Settings
from bianque.types import Message

TURNS = ("我最近总是失眠，怎么办？", "请问失眠有多久了？", "有一个月了", "是入睡困难，还是容易醒？")
MESSAGE = "躺下以后很久才睡着，白天没精神，直接给我建议吧"
# The bundled advising model without the guard, which holds text back until it has read it.
CARD = {"name": "plain", "like": "advise-mini", "role": "both", "path": str(ROOT / "bianque" / "mini" / "advise-mini")}
ROLES: tuple[Literal["user", "assistant"], ...] = ("user", "assistant", "user", "assistant", "user")
Times = tuple[float, float]  # milliseconds to the first text, and to the end


def http(options: Any) -> None:
    """Interleaved rounds with the bundled advising model; prints medians, spread and the median difference."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        cards = Path(folder, "cards.json")
        cards.write_text(json.dumps([CARD]))
        found = measured(port, cards, options)
    tell(found, options)


def measured(port: int, cards: Path, options: Any) -> dict[str, list[Times]]:
    env = os.environ | {
        "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "BIANQUE_MODELS": "mini", "PYTHONPATH": str(ROOT),
        "BIANQUE_CARDS": str(cards),
    }  # fmt: skip
    env.pop("BIANQUE_API_KEY", None)
    run = [sys.executable, str(ROOT / "app.py")]
    server = subprocess.Popen(run, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", server)
        return asyncio.run(rounds(f"http://127.0.0.1:{port}/v1/chat/completions", cards, options))
    finally:
        server.kill()  # it has nothing to save
        server.wait()


def tell(found: dict[str, list[Times]], options: Any) -> None:
    medians = {
        name: [statistics.median(column) for column in zip(*times, strict=True)] for name, times in found.items()
    }
    for name, times in found.items():
        for what, median, column in zip(("first text", "whole"), medians[name], zip(*times, strict=True), strict=True):
            print(f"{name:10} {what:10} median {median:7.1f} ms   min {min(column):.1f}   max {max(column):.1f}")
    pairs = list(zip(found["in process"], found["/v1"], strict=True))  # of the same seed, one right after the other
    first, whole = (statistics.median(over[part] - inside[part] for inside, over in pairs) for part in (0, 1))
    print(f"/v1 is behind by {first:.1f} ms at the first text, {whole:.1f} ms at the end; {options.rounds} rounds")
    if options.json:
        options.json.write_text(json.dumps({"milliseconds": found, "cores": os.cpu_count()}, indent=1) + "\n")


async def rounds(url: str, cards: Path, options: Any) -> dict[str, list[Times]]:
    import httpx

    settings, known = custom.known(Settings(models="mini", cards=cards))
    session = Session(Local(settings, known), CARD["name"], CARD["name"])
    found: dict[str, list[Times]] = {"in process": [], "/v1": []}
    async with httpx.AsyncClient(timeout=120) as client:
        for place in range(-1, options.rounds):  # the first loads both
            inside, over = await within(session, place + 1, options), await beyond(client, url, place + 1, options)
            if place >= 0:
                found["in process"].append(inside)
                found["/v1"].append(over)
    return found


async def within(session: Session, seed: int, options: Any) -> Times:
    choices = Choices("advise", sampling=SamplingOverrides(max_new_tokens=options.tokens, seed=seed))
    begun, first = time.perf_counter(), 0.0
    history = [Message(role, text) for role, text in zip(ROLES, TURNS, strict=False)]
    async with aclosing(session.reply(history, MESSAGE, choices)) as events:
        async for event in events:
            if isinstance(event, Delta):
                first = first or time.perf_counter() - begun
    return first * 1000, (time.perf_counter() - begun) * 1000


async def beyond(client: Any, url: str, seed: int, options: Any) -> Times:
    body = {
        "model": CARD["name"], "stream": True, "seed": seed,
        "max_tokens": options.tokens,
        "messages": [{"role": role, "content": text} for role, text in zip(ROLES, (*TURNS, MESSAGE), strict=True)],
    }  # fmt: skip
    begun, first = time.perf_counter(), 0.0
    async with client.stream("POST", url, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                first = first or time.perf_counter() - begun
    return first * 1000, (time.perf_counter() - begun) * 1000

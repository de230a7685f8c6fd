"""The environment, read once into one frozen value."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, cast, get_args

from bianque.errors import SettingsError
from bianque.types import Bits

Which = Literal["auto", "mini", "hub"]
NAMES = frozenset(
    f"BIANQUE_{name}"
    for name in [
        "MODELS",
        "ASK",
        "ADVISE",
        "PATHS",
        "THREADS",
        "QUESTIONS",
        "SLOTS",
        "MAX_WAITING",
        "MEMORY_GB",
        "BITS",
        "CARDS",
        "PRELOAD",
        "CLUSTER",
        "VOTES",
        "VOTES_REPO",
        "API_KEY",
        "MCP",
        "REQUESTS_PER_MINUTE",
        "STREAMS",
        "EMBED",
        "TOKENS_PER_MINUTE",
        "METRICS",
        "LOG",
    ]
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """`models`: which pair speaks by default; `ask`, `advise`: card names that override it; `paths`: local folders.

    `memory_gb`: for weights and caches, what is free if None; `bits`: precisions that may be used, best first.
    """

    models: Which = "auto"
    ask: str | None = None
    advise: str | None = None
    paths: Mapping[str, Path] = field(default_factory=dict)
    threads: int = 0
    question_budget: int = 8
    max_waiting: int = 128
    memory_gb: float | None = None
    bits: tuple[Bits, ...] = (16, 8)
    cards: Path | None = None  # a file of further cards: see catalog/custom.py
    preload: tuple[str, ...] = ()  # cards that a ZeroGPU Space holds ready; the pair that speaks if empty
    slots: int = 0  # conversations that a model writes at a time, at most; 0: what suits the device
    cluster: str | None = None  # a Ray cluster whose replicas hold the models: `auto`, or host:port of its head
    votes: Path = Path("votes")  # where the arena's votes are kept
    votes_repo: str | None = None  # a dataset repo that they are pushed to; needs HF_TOKEN
    api_key: str | None = field(default=None, repr=False)  # asked of every caller of /v1; None leaves it open
    mcp: bool = False  # whether agents are offered tools over MCP
    requests_per_minute: int = 0  # that one visitor may send to the endpoints; 0: any number
    tokens_per_minute: int = 0  # that are written for one visitor there; 0: any number
    metrics: bool = False  # whether /metrics is served, for Prometheus
    log: bool = False  # whether a line is logged for each reply
    streams: int = 0  # replies that one visitor may have under way there; 0: any number
    embed: tuple[str, ...] = ()  # sites that may show the page in a frame; any if empty

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read the BIANQUE_… variables; SettingsError names the variable, its value and what it may be."""
        defaults, shared = cls(), env.get("SYSTEM") == "spaces"
        for name in env.keys() - NAMES:
            if name.startswith("BIANQUE_"):
                near = get_close_matches(name, NAMES, 1)
                meant = f"；是不是 {near[0]}？(did you mean {near[0]}?)" if near else ""
                log.warning("%s: 没有这个设置，未采用 (no such setting, ignored)%s", name, meant)
        models = env.get("BIANQUE_MODELS") or defaults.models
        if models not in get_args(Which):
            raise SettingsError(f"BIANQUE_MODELS={models!r}: choose one of {', '.join(get_args(Which))}")
        return cls(
            models=cast(Which, models),
            ask=env.get("BIANQUE_ASK") or None,
            advise=env.get("BIANQUE_ADVISE") or None,
            paths=folders(env.get("BIANQUE_PATHS", "")),
            threads=whole(env, "BIANQUE_THREADS", defaults.threads, 0),
            question_budget=whole(env, "BIANQUE_QUESTIONS", defaults.question_budget, 1),
            slots=whole(env, "BIANQUE_SLOTS", defaults.slots, 0),
            max_waiting=whole(env, "BIANQUE_MAX_WAITING", defaults.max_waiting, 1),
            memory_gb=gigabytes(env.get("BIANQUE_MEMORY_GB", "")),
            bits=precisions(env.get("BIANQUE_BITS", "")) or defaults.bits,
            cards=place(env["BIANQUE_CARDS"]) if env.get("BIANQUE_CARDS") else None,
            preload=tuple(filter(None, (name.strip() for name in env.get("BIANQUE_PRELOAD", "").split(",")))),
            cluster=env.get("BIANQUE_CLUSTER") or None,
            votes=place(env.get("BIANQUE_VOTES") or defaults.votes),
            votes_repo=dataset(env.get("BIANQUE_VOTES_REPO", "")),
            api_key=env.get("BIANQUE_API_KEY", "").strip() or None,
            mcp=switch(env, "BIANQUE_MCP"),
            requests_per_minute=whole(env, "BIANQUE_REQUESTS_PER_MINUTE", 60 if shared else 0, 0),
            streams=whole(env, "BIANQUE_STREAMS", 8 if shared else 0, 0),
            tokens_per_minute=whole(env, "BIANQUE_TOKENS_PER_MINUTE", 20_000 if shared else 0, 0),
            metrics=switch(env, "BIANQUE_METRICS"),
            log=switch(env, "BIANQUE_LOG"),
            embed=sites(env.get("BIANQUE_EMBED", "")),
        )


def whole(env: Mapping[str, str], name: str, default: int, least: int) -> int:
    value = env.get(name, "")
    if not value:
        return default
    if not value.isdecimal() or int(value) < least:
        raise SettingsError(f"{name}={value!r}: a whole number of at least {least} is needed")
    return int(value)


def switch(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "")
    if value not in ("", "0", "1"):
        raise SettingsError(f"{name}={value!r}: write 1 or 0")
    return value == "1"


def dataset(value: str) -> str | None:
    """A dataset repo's id on the Hub; None for none."""
    if value and not re.fullmatch(r"[\w.-]+/[\w.-]+", value, re.ASCII):
        raise SettingsError(f"BIANQUE_VOTES_REPO={value!r}: write owner/name of a dataset")
    return value or None


def sites(value: str) -> tuple[str, ...]:
    """Origins, separated by commas or blanks, as the header `frame-ancestors` takes them."""
    found = tuple(value.replace(",", " ").split())
    for site in found:
        if not re.fullmatch(r"https?://(\*\.)?[\w.-]+(:\d+)?", site, re.ASCII):
            raise SettingsError(
                f"BIANQUE_EMBED has {site!r}: write sites as https://example.org or https://*.example.org"
            )
    return found


def gigabytes(value: str) -> float | None:
    """Memory for weights and caches, in 10⁹ bytes; None lets the machine say."""
    if not value:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII) or float(value) == 0:
        raise SettingsError(f"BIANQUE_MEMORY_GB={value!r}: a number above 0 is needed, e.g. 12 or 7.5")
    return float(value)


def precisions(value: str) -> tuple[Bits, ...]:
    """Bits a weight, the preferred first: `16,8,4` goes down as far as memory demands, `8` is 8 whatever there is."""
    found = tuple(part.strip() for part in value.split(",")) if value else ()
    if len(set(found)) < len(found) or not set(found) <= {str(bits) for bits in get_args(Bits)}:
        raise SettingsError(f"BIANQUE_BITS={value!r}: write some of 16, 8 and 4, each once, separated by commas")
    return tuple(cast(Bits, int(part)) for part in found)


def place(path: str | Path) -> Path:
    """A place on this machine; `~` is the home folder, which no shell fills in behind a comma or in a Space's settings."""
    return Path(os.path.expanduser(path))


def folders(value: str) -> dict[str, Path]:
    """`name=/folder` pairs separated by commas: checkpoints on this machine; `name.adapter` may be a file."""
    found = {}
    for pair in filter(None, (part.strip() for part in value.split(","))):
        name, _, folder = (part.strip() for part in pair.partition("="))
        there = place(folder).exists() if name.endswith(".adapter") else place(folder).is_dir()
        if not name or not folder or not there:
            raise SettingsError(f"BIANQUE_PATHS has {pair!r}: write card=/folder, and the folder must exist")
        found[name] = place(folder)
    return found

"""The environment, read once into one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from bianque.errors import SettingsError

Which = Literal["auto", "mini", "hub"]


@dataclass(frozen=True, slots=True)
class Settings:
    """`models`: which pair speaks by default; `ask`, `advise`: card names that override it; `paths`: local folders."""

    models: Which = "auto"
    ask: str | None = None
    advise: str | None = None
    paths: Mapping[str, Path] = field(default_factory=dict)
    threads: int = 0
    question_budget: int = 8
    max_waiting: int = 32

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read the BIANQUE_… variables; SettingsError names the variable, its value and what it may be."""
        defaults = cls()
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
            max_waiting=whole(env, "BIANQUE_MAX_WAITING", defaults.max_waiting, 1),
        )


def whole(env: Mapping[str, str], name: str, default: int, least: int) -> int:
    value = env.get(name, "")
    if not value:
        return default
    if not value.isdecimal() or int(value) < least:
        raise SettingsError(f"{name}={value!r}: a whole number of at least {least} is needed")
    return int(value)


def folders(value: str) -> dict[str, Path]:
    """`name=/folder` pairs separated by commas: checkpoints that are already on this machine."""
    found = {}
    for pair in filter(None, (part.strip() for part in value.split(","))):
        name, _, folder = (part.strip() for part in pair.partition("="))
        if not name or not folder or not Path(folder).is_dir():
            raise SettingsError(f"BIANQUE_PATHS has {pair!r}: write card=/folder, and the folder must exist")
        found[name] = Path(folder)
    return found

"""Which pair of models speaks when nobody has said: the real ones where they can run, else the bundled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bianque.catalog.builtin import by_name, find
from bianque.catalog.card import Model
from bianque.settings import Settings

MINI, HUB = ("ask-mini", "advise-mini"), ("bianque-1", "bianque-2")


def choose(settings: Settings, cards: Iterable[Model]) -> tuple[str, str]:
    """The cards that ask and advise: named ones first, then the real ones where they can run, else the bundled."""
    known = by_name(cards)
    ask, advise = settings.ask, settings.advise
    if not ask or not advise:
        usual = HUB if settings.models == "hub" or (settings.models == "auto" and can_run_hub(known)) else MINI
        ask, advise = ask or usual[0], advise or usual[1]
    return find(known, ask).name, find(known, advise).name


def can_run_hub(known: Mapping[str, Model]) -> bool:
    return has_gpu() and hub_answers(find(known, HUB[0]).repo or "")


def has_gpu() -> bool:
    """Told without importing torch, which would cost the first paint its seconds."""
    return bool(os.environ.get("SPACES_ZERO_GPU")) or any(
        Path(sign).exists() for sign in ("/proc/driver/nvidia/version", "/dev/nvidia0")
    )


def hub_answers(repo: str) -> bool:
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(repo, timeout=3)
    except Exception:  # whatever it is, the real checkpoints cannot be had now
        return False
    return True

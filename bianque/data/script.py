"""The scripts of Chinese: consultations' traditional characters and their simplified forms, for `str.translate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _table() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(Path(__file__).with_name("traditional.json").read_text(encoding="utf-8"))
    return found


@cache
def simplified() -> Mapping[int, str]:
    """Every traditional character, its rarer variants too, to its simplified form."""
    table = _table()
    old, new = table["traditional"] + table["variants"]["from"], table["simplified"] + table["variants"]["to"]
    return {ord(one): other for one, other in zip(old, new, strict=True)}


@cache
def traditional() -> Mapping[int, str]:
    """Simplified to traditional characters, one for one."""
    return dict(zip(map(ord, _table()["simplified"]), _table()["traditional"], strict=True))

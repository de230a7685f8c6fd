"""Regular expressions of this folder: written in assets/*.yaml, read and compiled at their first use.

In a file a pattern is a text, or a list of texts that are alternatives. `${name}` stands for the pattern of that name
under the file's `fragments`, which may use those above them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FRAGMENT = re.compile(r"\$\{(\w+)\}")


@cache
def asset(name: str) -> Mapping[str, Any]:
    """The file assets/name.yaml with its fragments filled in. KeyError names a fragment that is missing."""
    import yaml

    text = (Path(__file__).with_name("assets") / f"{name}.yaml").read_text(encoding="utf-8")
    found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    fragments: dict[str, str] = {}
    for key, value in found.pop("fragments", {}).items():
        fragments[key] = joined(_filled(value, fragments))
    return _filled(found, fragments)


def _filled(value: Any, fragments: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return FRAGMENT.sub(lambda found: fragments[found[1]], value)
    if isinstance(value, list):
        return [_filled(item, fragments) for item in value]
    return {key: _filled(item, fragments) for key, item in value.items()}


def joined(pattern: str | list[str]) -> str:
    return pattern if isinstance(pattern, str) else "|".join(pattern)


@cache
def pattern(name: str, key: str) -> re.Pattern[str]:
    """One pattern of an asset."""
    return re.compile(joined(asset(name)[key]))


@cache
def table(name: str, key: str, flags: int = 0, after: str = "") -> Mapping[str, re.Pattern[str]]:
    """A table of patterns by what they stand for; `after` must follow each."""
    texts = {kind: joined(words) for kind, words in asset(name)[key].items()}
    return {kind: re.compile(f"(?:{text}){after}" if after else text, flags) for kind, text in texts.items()}


@cache
def simplified(name: str) -> Mapping[int, int]:
    """For `str.translate`: the asset's traditional characters in simplified script."""
    return {
        ord(old): ord(new) for row in asset(name)["script"] for old, new in zip(row["from"], row["to"], strict=True)
    }

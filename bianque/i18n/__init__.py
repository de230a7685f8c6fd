"""What the page and the terminal say, in four languages: one JSON file each, all with the same keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from bianque.types import Progress

Lang = Literal["zh-CN", "zh-TW", "en", "ko"]
LANGS: tuple[Lang, ...] = get_args(Lang)

_FILES: Mapping[str, str] = {"zh-CN": "zh.json", "zh-TW": "zh-TW.json", "en": "en.json", "ko": "ko.json"}


@cache
def words(lang: str) -> Mapping[str, str]:
    """All texts of a language by key; read once. KeyError for a language without a file."""
    return json.loads(Path(__file__).with_name(_FILES[lang]).read_text(encoding="utf-8"))


def say(lang: str, key: str, **values: object) -> str:
    """The text of a key with its placeholders filled; KeyError names a key or a value that is missing."""
    return words(lang)[key].format(**values)


def waiting(lang: str, progress: Progress) -> str:
    """Loading progress of a model, or how many visitors are served first."""
    if progress.ahead:
        return say(lang, "ahead", model=progress.model, count=progress.ahead)
    return say(lang, progress.stage, model=progress.model, percent=round(progress.fraction * 100))


def known(names: Iterable[str]) -> Lang:
    """The first of these language names that there are words for (zh_TW.UTF-8 and zh-Hant-HK as well), else Chinese."""
    for name in (name.strip().lower().replace("_", "-").partition(".")[0] for name in names):
        if name in ("zh-tw", "zh-hk", "zh-mo") or name.startswith("zh-hant"):
            return "zh-TW"
        for lang in LANGS:
            if name.split("-")[0] == lang.split("-")[0]:
                return lang
    return "zh-CN"

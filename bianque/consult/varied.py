"""A sentence as somebody else would have typed it: characters of the same sound, neighbours swapped, no punctuation."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent.parent / "data" / "understanding" / "homophones.json"
ONE_IN = 12
"""So many characters of a sentence for each that is typed wrongly."""
_PAUSE = re.compile(r"[，。、,.!！;；]+")


@cache
def homophones() -> Mapping[str, str]:
    """Of each character those that sound the same."""
    found: dict[str, str] = {}
    for group in json.loads(FILE.read_text(encoding="utf-8")):
        for one in group:
            found[one] = found.get(one, "") + group.replace(one, "")
    return found


def varied(text: str) -> str:
    """The same for the same text; as it is where nothing can be typed wrongly."""
    r = random.Random(text)
    signs = list(text)
    for _ in range(1 + len(signs) // ONE_IN):
        place = r.randrange(len(signs))
        alike = homophones().get(signs[place])
        if alike:
            signs[place] = r.choice(alike)
        elif place and signs[place].isalnum() and signs[place - 1].isalnum():
            signs[place - 1 : place + 1] = signs[place], signs[place - 1]
    found = "".join(signs)
    return _PAUSE.sub(r.choice(("", " ")), found) if r.random() < 0.5 else found

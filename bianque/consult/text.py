"""What is said of a reply as text: its label, its length, and the reply without an echo."""

from __future__ import annotations

import re

from bianque.consult import triage

LABEL = f"{triage.LABEL}；{triage.DISCLAIMER}"

_BLANK = re.compile(r"\s+")
MARKS = re.compile(r"[\W_]+")

# A label opens a line; in "1. 咨询医生：首先…" the word is part of the advice.
_PATIENT_LINE = re.compile(r"\n\s*(?:病人|患者)[：:]")
_DOCTOR_LINE = re.compile(r"^\s*(?:医生[：:]\s*)+", re.MULTILINE)


def strip_echo(text: str) -> str:
    """The reply itself: without an echoed prompt before it or a self-continued dialogue behind it.

    The continuation is cut first, else an answer followed by an invented next round would be lost for that round.
    """
    return _DOCTOR_LINE.split(_PATIENT_LINE.split(text.strip())[0])[-1].strip()


def clean(given: str) -> str:
    """Without halves of surrogate pairs, as a cut emoji leaves them: no model and no reply can hold one."""
    return given.encode("utf-8", "replace").decode()


def length(text: str) -> int:
    """Characters that are not white space."""
    return len(_BLANK.sub("", text))


def grams(text: str, size: int = 2) -> frozenset[str]:
    """The text's runs of `size` characters, punctuation left out."""
    text = MARKS.sub("", text)
    return frozenset([text[i : i + size] for i in range(len(text) - size + 1)])


def likeness(a: frozenset[str], b: frozenset[str]) -> float:
    """Dice coefficient, 0 to 1."""
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0

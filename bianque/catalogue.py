"""The models as a reader sees them: a table for the terminal, and the same facts for a program."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from bianque.registry import FORMATS
from bianque.types import Bits, ModelCard, Sampling

HEAD = ("name", "title", "architecture", "role", "prompt", "window", f"{'/'.join(map(str, get_args(Bits)))} bits")
SOURCES = ("name", "from", "sampling", "licence")


def text(cards: Sequence[ModelCard], paths: Mapping[str, Path] | None = None) -> str:
    """Two tables, the models and where they come from, each line under some 110 columns but for long licences."""
    models = [
        (card.name, card.title, card.architecture, card.role, format_of(card.prompt), str(card.window), sizes(card))
        for card in cards
    ]
    sources = [(card.name, source(card, paths or {}), drawn(card.sampling), card.licence) for card in cards]
    return "\n".join([*table([HEAD, *models]), "", *table([SOURCES, *sources])])


def as_json(cards: Sequence[ModelCard], paths: Mapping[str, Path] | None = None) -> str:
    return json.dumps([facts(card, paths or {}) for card in cards], ensure_ascii=False, indent=1)


def facts(card: ModelCard, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Every field of the card, the bytes in memory by bits a weight, and the local folder if it has one."""
    found = {field.name: getattr(card, field.name) for field in fields(card)}
    named = {"prompt": format_of(card.prompt), "clean": format_of(card.clean, 1), "sampling": asdict(card.sampling)}
    memory = {str(bits): card.memory(bits) for bits in card.precisions}
    return found | named | {"memory": memory, "path": str(paths[card.name]) if card.name in paths else None}


def format_of(function: Callable[..., str], place: int = 0) -> str:
    """The name of a prompt format, told by its prompt (place 0) or its clean-up (1)."""
    return next((name for name, pair in FORMATS.items() if pair[place] is function), function.__name__)


def source(card: ModelCard, paths: Mapping[str, Path]) -> str:
    where = str(paths[card.name]) if card.name in paths else f"{card.repo}@{card.revision}" if card.repo else "bundled"
    return f"{where} + {card.adapter}" if card.adapter else where


def drawn(sampling: Sampling) -> str:
    """How a model draws, without what is off."""
    off = Sampling(max_new_tokens=0)
    short = {
        "temperature": "T", "top_p": "p", "top_k": "k", "repetition_penalty": "penalty", "no_repeat_ngram": "ngram",
        "min_new_tokens": "min", "max_new_tokens": "max", "seed": "seed",
    }  # fmt: skip
    told = {name: getattr(sampling, name) for name in short}
    return " ".join(
        f"{short[name]}={value:g}"
        for name, value in told.items()
        if name == "temperature" or value != getattr(off, name)
    )


def sizes(card: ModelCard) -> str:
    """Memory of the weights at each precision, in one unit."""
    unit, name, digits = (1e9, "GB", 1) if card.memory(16) >= 1e9 else (1e6, "MB", 0)
    return "/".join(f"{card.memory(bits) / unit:.{digits}f}" for bits in card.precisions) + f" {name}"


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with the columns aligned, the last one as long as it is."""
    whole = list(rows)
    widths = [max(map(width, column)) for column in zip(*whole, strict=True)]
    return ["  ".join(padded(cell, most) for cell, most in zip(row, widths, strict=True)).rstrip() for row in whole]


def padded(cell: str, columns: int) -> str:
    return cell + " " * (columns - width(cell))


def width(text: str) -> int:
    """Columns of a terminal that a text fills: two for Han and full-width characters, none for combining ones."""
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf", "Cc")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )

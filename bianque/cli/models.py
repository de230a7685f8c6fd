"""`python -m bianque models | convert`: the models as a table and as facts for a program; a checkpoint written anew."""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from bianque.catalog.builtin import FORMATS
from bianque.catalog.card import Model
from bianque.catalog.footprint import sizes
from bianque.types import Bits, Sampling

HEAD = ("name", "title", "architecture", "role", "prompt", "window", f"{'/'.join(map(str, get_args(Bits)))} bits")
SOURCES = ("name", "from", "sampling", "licence")


def text(cards: Sequence[Model], paths: Mapping[str, Path] | None = None) -> str:
    """Two tables, the models and where they come from, each line under some 110 columns but for long licences."""
    models = [row(card) for card in cards]
    sources = [(card.name, source(card, paths or {}), drawn(card.sampling), card.licence) for card in cards]
    return "\n".join([*table([HEAD, *models]), "", *table([SOURCES, *sources])])


def row(card: Model) -> tuple[str, ...]:
    """A line of the first table; dashes for what a model without a checkpoint has not."""
    found = card.checkpoint
    inner = (found.architecture, format_of(found.prompt), str(found.window)) if found else ("–",) * 3
    return card.name, card.title, inner[0], card.role, inner[1], inner[2], sizes(card)


def as_json(cards: Sequence[Model], paths: Mapping[str, Path] | None = None) -> str:
    return json.dumps([facts(card, paths or {}) for card in cards], ensure_ascii=False, indent=1)


def facts(card: Model, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Every field of the card, the bytes in memory by bits a weight, and the local folder if it has one."""
    found = {field.name: getattr(card, field.name) for field in fields(card) if field.name != "checkpoint"}
    found["sampling"] = asdict(card.sampling)
    if inner := card.checkpoint:
        found |= {field.name: getattr(inner, field.name) for field in fields(inner)}
        found |= {"prompt": format_of(inner.prompt), "clean": format_of(inner.clean, 1)}
        found["memory"] = {str(bits): inner.memory(bits) for bits in card.precisions}
    return found | {"path": str(paths[card.name]) if card.name in paths else None}


def format_of(function: Callable[..., str], place: int = 0) -> str:
    """The name of a prompt format, told by its prompt (place 0) or its clean-up (1)."""
    return next((name for name, pair in FORMATS.items() if pair[place] is function), function.__name__)


def source(card: Model, paths: Mapping[str, Path]) -> str:
    where = str(paths[card.name]) if card.name in paths else f"{card.repo}@{card.revision}" if card.repo else "bundled"
    adapter = card.checkpoint.adapter if card.checkpoint else None
    return f"{where} + {adapter}" if adapter else where


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


def add_models(commands) -> None:
    command = commands.add_parser("models", help="the table of models, with those of BIANQUE_CARDS")
    command.add_argument("--json", action="store_true", help="every field, for a program")
    command.add_argument("--hardware", action="store_true", help="bits a weight on each hardware of a Space")
    command.set_defaults(run=models)


def models(options: argparse.Namespace) -> None:
    from bianque.catalog import builtin, custom, default
    from bianque.cli import hardware
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    if options.hardware:
        named = builtin.by_name(known)
        print(hardware.table(known, [named[name] for name in default.HUB]))
    else:
        print((as_json if options.json else text)(known, settings.paths))


def add_convert(commands) -> None:
    command = commands.add_parser("convert", help="write a model's checkpoint again, as safetensors in shards")
    command.add_argument(
        "card", help="a name from the table of models; its files are fetched, or BIANQUE_PATHS has them"
    )
    command.add_argument("out", type=Path, help="an empty or new folder")
    command.add_argument("--shard", type=float, default=2.0, metavar="GB", help="bytes of a shard at most, in 10⁹")
    command.set_defaults(run=convert)


def convert(options: argparse.Namespace) -> None:
    from bianque.catalog import builtin, custom
    from bianque.checkpoints import hub
    from bianque.checkpoints.convert import convert as write
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    card = builtin.find(builtin.by_name(known), options.card)
    show = lambda progress: print(f"\r{progress.stage} {progress.fraction:4.0%}", end="", file=sys.stderr, flush=True)
    folder = hub.folder_of(card, settings.paths, show)
    written = write(card, folder, options.out, show, int(options.shard * 1e9))
    print(f"\n{options.out}: {written / 1e9:.2f} GB", file=sys.stderr)

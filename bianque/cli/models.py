"""`python -m bianque models | convert`: the models as a table and as facts for a program; a checkpoint written anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from bianque.catalog.builtin import FORMATS
from bianque.catalog.card import Model
from bianque.catalog.footprint import sizes
from bianque.errors import BadInput
from bianque.types import Bits, Sampling

HEAD = ("name", "title", "architecture", "role", "prompt", "window", f"{'/'.join(map(str, get_args(Bits)))} bits")
SOURCES = ("name", "from", "sampling", "licence")


def text(cards: Sequence[Model], paths: Mapping[str, Path] | None = None) -> str:
    """Two tables, the models and where they come from, each line under some 110 columns but for long licences."""
    models = [row(card) for card in cards]
    sources = [(card.name, source(card, paths or {}), drawn(card.sampling), card.licence) for card in cards]
    return "\n".join([*aligned([HEAD, *models]), "", *aligned([SOURCES, *sources])])


def row(card: Model) -> tuple[str, ...]:
    """A line of the first table; dashes for what a model without a checkpoint has not."""
    found = card.checkpoint
    inner = (found.architecture, format_of(found.prompt), str(found.window)) if found else ("–",) * 3
    return card.name, card.title, inner[0], card.role, inner[1], inner[2], sizes(card)


def as_json(cards: Sequence[Model], paths: Mapping[str, Path] | None = None) -> str:
    return json.dumps([card_facts(card, paths or {}) for card in cards], ensure_ascii=False, indent=1)


def card_facts(card: Model, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Every field of the card, the bytes in memory by bits a weight, and the local folder if it has one."""
    found = {field.name: getattr(card, field.name) for field in fields(card) if field.name != "checkpoint"}
    found["sampling"] = asdict(card.sampling)
    found["endpoint"] = asdict(card.endpoint) if card.endpoint else None
    if inner := card.checkpoint:
        found |= {field.name: getattr(inner, field.name) for field in fields(inner)}
        found |= {"prompt": format_of(inner.prompt), "clean": format_of(inner.clean, 1)}
        found["memory"] = {str(bits): inner.memory(bits) for bits in card.precisions}
    return found | {"path": str(paths[card.name]) if card.name in paths else None}


def format_of(function: Callable[..., str], place: int = 0) -> str:
    """The name of a prompt format, shown by its prompt (place 0) or its clean-up (1)."""
    return next((name for name, pair in FORMATS.items() if pair[place] is function), function.__name__)


def source(card: Model, paths: Mapping[str, Path]) -> str:
    if card.endpoint:
        return f"{card.endpoint.model} @ {card.endpoint.url}"
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
    shown = {name: getattr(sampling, name) for name in short}
    return " ".join(
        f"{short[name]}={value:g}"
        for name, value in shown.items()
        if name == "temperature" or value != getattr(off, name)
    )


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with the columns aligned, the last one as long as it is; a Han character fills two columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    whole = [list(map(Text, row)) for row in rows]
    grid = Table.grid(*([""] * len(whole[0])), padding=(0, 2, 0, 0))
    for column in grid.columns:
        column.no_wrap = True
    for row in whole:
        grid.add_row(*row)
    console = Console(file=StringIO(), width=10_000, color_system=None, legacy_windows=False)
    console.print(grid)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def models(
    for_program: Annotated[bool, typer.Option("--json", help="every field, for a program")] = False,
    hardware: Annotated[bool, typer.Option("--hardware", help="bits a weight on each hardware of a Space")] = False,
) -> None:
    """The table of models, with those of BIANQUE_CARDS."""
    from bianque.catalog import builtin, custom, default
    from bianque.cli.hardware import hardware_table
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    if hardware:
        named = builtin.by_name(known)
        print(hardware_table(known, [named[name] for name in default.HUB]))
    else:
        print((as_json if for_program else text)(known, settings.paths))


def convert(
    card: Annotated[
        str, typer.Argument(help="a name from the table of models; its files are fetched, or BIANQUE_PATHS has them")
    ],
    out: Annotated[Path, typer.Argument(help="an empty or new folder")],
    shard: Annotated[float, typer.Option(metavar="GB", help="bytes of a shard at most, in 10⁹")] = 2.0,
    bits: Annotated[int, typer.Option(help="8 or 4: quantised once, here, instead of at each start")] = 16,
    merge: Annotated[
        str | None,
        typer.Option(
            metavar="LORA",
            help="a LoRA to merge or a P-Tuning prefix to put in: a file, a folder, or the card's own, as lora.p",
        ),
    ] = None,
) -> None:
    """Write a model's checkpoint again: safetensors in shards, 8 or 4 bits a weight, with a LoRA merged."""
    from rich.console import Console
    from rich.progress import Progress

    from bianque.catalog import builtin, custom
    from bianque.checkpoints import hub
    from bianque.checkpoints.convert import check_empty
    from bianque.checkpoints.convert import convert as write
    from bianque.settings import Settings

    if bits not in get_args(Bits):
        raise BadInput(f"--bits {bits}: 请写 16、8 或 4 (write 16, 8 or 4)")
    check_empty(out)  # before a download
    settings, known = custom.known(Settings.read())
    found = builtin.find(builtin.by_name(known), card)
    with Progress(console=Console(stderr=True)) as bar:
        tasks = dict[str, Any]()

        def show(progress: Any) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=1.0)
            bar.update(tasks[progress.stage], completed=progress.fraction)

        folder = hub.folder_of(found, settings.paths, show)
        adapter = lora_to_merge(found, merge, settings.paths, show) if merge else None
        written = write(found, folder, out, show, int(shard * 1e9), cast(Bits, bits), adapter)
    print(f"{out}: {written / 1e9:.2f} GB", file=sys.stderr)
    facts = {"name": f"{found.base}-{out.name}", "like": found.base, "path": str(out.resolve()), "stored": bits}
    print(json.dumps({name: value for name, value in facts.items() if value != 16}, ensure_ascii=False))


def lora_to_merge(card: Model, name: str, paths: Mapping[str, Path], report: Callable[[Any], None]) -> Path:
    """The LoRA that is named: a place on this machine, or the card's own, which may have to be fetched."""
    from bianque.checkpoints import hub

    place = Path(name).expanduser()
    if place.exists():
        return place
    if name == card.loadable.adapter and (own := hub.adapter_of(card, paths, report)):
        return own
    raise BadInput(f"--merge {name}: 没有这个文件或文件夹 (no such file or folder)")

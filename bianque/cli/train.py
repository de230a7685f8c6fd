"""`python -m bianque compose | train-mini`: consultations from the knowledge base, and the bundled models from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bianque.errors import BadInput


def compose(
    count: Annotated[int, typer.Argument(help="how many")],
    out: Annotated[Path, typer.Option(help="a .jsonl or .jsonl.gz file")],
    seed: Annotated[int, typer.Option(help="the same seed gives the same consultations")] = 0,
) -> None:
    """Compose consultations from the knowledge base, as JSONL."""
    from bianque.data import compose

    compose.write(count, seed, out)


def train_mini(
    role: Annotated[Literal["ask", "advise", "both"], typer.Argument()],
    out: Annotated[Path, typer.Option(help="folder of the finished models, a folder each")],
    work: Annotated[Path, typer.Option(help="folder of vocabularies and checkpoints")],
    data: Annotated[list[Path] | None, typer.Option(help="JSONL(.gz) of real dialogues")] = None,
    threads: Annotated[int, typer.Option(help="0: as torch finds best")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="change the plan, e.g. steps=400")
    ] = None,
) -> int:
    """Train the bundled preview models from scratch; resumes by itself."""
    import torch

    from bianque.train import mini

    plan = mini.Plan(**changes(set_ or (), mini.Plan))
    if role == "both":
        return mini.both(arguments(out, work, data or (), threads, set_ or ()))
    if threads:
        torch.set_num_threads(threads)
    say = lambda line: print(f"{role} {line}", flush=True)
    name = f"{role}-mini"
    mini.train(role, data or [], out / name, plan, work / name, say)
    return 0


def train_complaints(
    out: Annotated[Path | None, typer.Option(help="an .npz file; without it the bundled one")] = None,
    validate: Annotated[bool, typer.Option(help="score a quarter of the openings that training leaves out")] = False,
) -> None:
    """Train what recognises the knowledge base's complaints: a few minutes on two cores."""
    from bianque.train import complaints

    found = complaints.cross_validate() if validate else complaints.write(out or complaints.FILE)
    print(" · ".join(f"{name} {share:.1%}" if share <= 1 else f"{name} {share}" for name, share in found.items()))


def arguments(out: Path, work: Path, data: Sequence[Path], threads: int, pairs: Sequence[str]) -> list[str]:
    """The options of one role's own process."""
    given = ["--out", str(out), "--work", str(work), "--threads", str(threads)]
    given += [word for path in data for word in ("--data", str(path))]
    return given + [word for pair in pairs for word in ("--set", pair)]


def changes(pairs: Sequence[str], plan: type) -> dict[str, Any]:
    """`name=value` pairs as the plan's own types."""
    known = {field.name: field.type for field in fields(plan)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in known:
            raise BadInput(f"--set {pair}: 没有这一项，可选 (no such setting; choose one of) {', '.join(known)}")
        try:
            found[name] = float(value) if known[name] == "float" else int(value)
        except ValueError:
            raise BadInput(f"--set {pair}: 需要 {known[name]} ({known[name]} is needed)") from None
    return found

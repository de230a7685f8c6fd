"""`python -m bianque compose | train-mini | tune`: composed consultations, the bundled models from them, and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bianque.errors import BadInput

# What is written behind --set NAME=, by the type of the setting; the others are whole numbers.
READ: dict[str, Callable[[str], Any]] = {
    "float": float, "str": str, "bool": {"true": True, "false": False, "1": True, "0": False}.__getitem__
}  # fmt: skip


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

    plan = mini.MiniPlan(**changes(set_ or (), mini.MiniPlan))
    if role == "both":
        return mini.both(arguments(out, work, data or (), threads, set_ or ()))
    if threads:
        torch.set_num_threads(threads)
    say = lambda line: print(f"{role} {line}", flush=True)
    name = f"{role}-mini"
    mini.train(role, data or [], out / name, plan, work / name, say)
    return 0


def train_complaints(
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="without it the bundled files are replaced")] = None,
    validate: Annotated[bool, typer.Option(help="score a quarter of the openings that training leaves out")] = False,
) -> None:
    """Train what recognises complaints, what they tell already, answers and follow-ups: some minutes on two cores."""
    from bianque.train import answers, complaints, follow_ups, told

    if validate:
        scores = [
            complaints.cross_validate(),
            told.cross_validate(),
            answers.cross_validate(),
            follow_ups.cross_validate(),
        ]
    else:
        folder = out or complaints.FILE.parent
        folder.mkdir(parents=True, exist_ok=True)
        told.write(folder / told.FILE.name)
        answers.write(folder)
        follow_ups.write(folder)
        scores = [complaints.write(folder / complaints.FILE.name)]
        if out is None:
            scores += [*answers.examine(), *follow_ups.examine()]
    for shares in scores:
        print(" · ".join(f"{name} {share:.1%}" if share <= 1 else f"{name} {share}" for name, share in shares.items()))


def tune(
    card: Annotated[str, typer.Argument(help="a name from the table of models")],
    data: Annotated[list[Path], typer.Option(help="rows to learn: CSV (input,target), JSONL, JSON, also as .gz")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="checkpoints and the result; the same command goes on")],
    valid: Annotated[list[Path] | None, typer.Option(help="rows to measure with; left out: one dialogue in 20")] = None,
    lora: Annotated[int | None, typer.Option(metavar="RANK", help="0: train all weights; 8 but for a T5")] = None,
    bits: Annotated[int, typer.Option(help="of the base under a LoRA: 16, 8 or 4")] = 16,
    epochs: Annotated[int, typer.Option(help="how often each row is seen, at most")] = 3,
    batch: Annotated[int, typer.Option(help="rows at once")] = 8,
    accumulate: Annotated[int, typer.Option(help="batches a step")] = 1,
    length: Annotated[int, typer.Option(help="tokens of prompt and reply, half of them for the reply")] = 768,
    rate: Annotated[float, typer.Option(help="0: as suits the model")] = 0.0,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="a tenth of a batch's memory, slower")] = False,
    name: Annotated[str | None, typer.Option(help="of the resulting card")] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="upload the result to the Hub, private")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="for everybody to see")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="anything else of the plan, e.g. patience=5")
    ] = None,
) -> None:
    """Fine-tune a model on dialogues; a killed run goes on by the same command."""
    from bianque.catalog import builtin, custom
    from bianque.nn import cpu
    from bianque.settings import Settings
    from bianque.train import result, tune
    from bianque.train.plan import TunePlan
    from bianque.train.run import Files

    cpu.configure_runtime()
    settings, known = custom.known(Settings.read())
    found = builtin.find(builtin.by_name(known), card)
    given = dict(bits=bits, epochs=epochs, batch=batch, accumulate=accumulate, length=length, rate=rate)
    plan = TunePlan(
        **given | {"checkpointing": checkpointing, "lora": -1 if lora is None else lora} | changes(set_ or (), TunePlan)
    )
    if push:
        result.signed_in(push)
    files, say = Files(tuple(data), tuple(valid or ()), out), lambda line: print(line, flush=True)
    state = tune.tune(found, plan, files, settings.paths, name or f"{found.base}-tuned", lambda progress: None, say)
    made = out / ("adapter" if (out / "adapter").is_dir() else "model")
    if push and state.best is not state.log[0]:
        say(f"{made} → {result.push(made, push, public)}")


def arguments(out: Path, work: Path, data: Sequence[Path], threads: int, pairs: Sequence[str]) -> list[str]:
    """The options of one role's own process."""
    given = ["--out", str(out), "--work", str(work), "--threads", str(threads)]
    given += [word for path in data for word in ("--data", str(path))]
    return given + [word for pair in pairs for word in ("--set", pair)]


def changes(pairs: Sequence[str], plan: type) -> dict[str, Any]:
    """`name=value` pairs as the plan's own types."""
    known = {field.name: str(field.type) for field in fields(plan)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in known:
            raise BadInput(f"--set {pair}: 没有这一项，可选 (no such setting; choose one of) {', '.join(known)}")
        try:
            found[name] = READ.get(known[name], int)(value)
        except (ValueError, KeyError):
            raise BadInput(f"--set {pair}: 需要 {known[name]} ({known[name]} is needed)") from None
    return found

"""`report.html` in a run's folder: the losses and what the model said before and after, on one page that asks no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch

from bianque import templates
from bianque.models.base import LanguageModel
from bianque.train import result
from bianque.train.examples import TrainingTurn
from bianque.train.run import TuneRun, write_whole

TEMPLATE = Path(__file__).parent / "assets" / "report.html"
SAMPLE_TOKENS = 120


def write(run: TuneRun) -> Path:
    """Write the page as the run stands: after each evaluation, and with the replies of the result at its end."""
    path = run.files.out / "report.html"
    write_whole(path, page(run))
    return path


def page(run: TuneRun) -> str:
    """The whole document; what people and models wrote is escaped by the template."""
    told = json.loads((run.files.out / "run.json").read_text(encoding="utf-8"))
    plain = {key: value for key, value in told.items() if key != "plan"}
    facts = [*plain.items(), *told["plan"].items()]
    return templates.fill(
        TEMPLATE, run=told, title=run.card.title, log=run.state.log, best=run.state.best, done=run.state.done, facts=facts,
        samples=run.state.samples, curve=result.curve(run.state.log, run.card.title), warning=result.WARNING,
    )  # fmt: skip


@torch.no_grad()
def reply(run: TuneRun, row: TrainingTurn) -> str:
    """What the model says now, the likeliest token each time."""
    run.model.eval()
    model = cast(LanguageModel, run.model)
    ids, said = torch.tensor(row.sample.prompt, device=run.world.device), list[int]()
    cache = model.new_cache(1, len(ids), SAMPLE_TOKENS + 1)
    reading = model.prefill(ids, cache, 0)
    while True:
        try:
            next(reading)
        except StopIteration as read:
            logits = read.value
            break
    while len(said) < SAMPLE_TOKENS and (token := int(logits.argmax())) not in run.tokenizer.ends:
        said.append(token)
        logits = model.decode_step(ids.new_tensor([token]), cache)[0]
    return run.card.loadable.clean(run.tokenizer.decode(said))

"""`python -m bianque bench precision`: what fewer bits a weight cost in perplexity, on the dialogues of a file.

Each model reads the doctor's turns of its own role (those that ask, or those that advise), with the recorded dialogue
before them, at every precision as it is served: activations of 8 and 4 bits are bfloat16.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bianque.bench import rounds, shapes
from bianque.catalog import builtin
from bianque.catalog.card import ModelCard
from bianque.catalog.custom import known
from bianque.checkpoints import hub, loader
from bianque.data.dialogues import read, sample
from bianque.engine.engine import Engine
from bianque.evaluate import metrics
from bianque.nn import packed
from bianque.settings import Settings
from bianque.train.measure import Item, items
from bianque.train.neural import Neural


def precision(options: Any) -> None:
    settings, cards = known(Settings.read())
    turns = items(sample(read(options.data), options.limit))
    found, rows = [], []
    rounds.begin(options)
    for name in options.model:
        card = builtin.find(builtin.by_name(cards), name)
        # Who asks and advises is measured on both.
        phases = {"asks": ("asking",), "advises": ("advising",)}.get(card.role, ("asking", "advising"))
        heard = [turn for turn in turns if turn.phase in phases]
        per = {kind: perplexity(card, settings.paths, kind, heard, options.device) for kind in options.precision}
        base = per[options.precision[0]]
        rows.append(
            [name, str(len(heard)), *(f"{value:.3f} ({100 * (value / base - 1):+.2f} %)" for value in per.values())]
        )
        found.append({"model": name, "turns": len(heard), "perplexity": per})
    print("\n".join(rounds.markdown(["", "turns", *options.precision], rows)))
    rounds.save(options, measured=found)


@torch.inference_mode()
def perplexity(card: ModelCard, folders: Any, kind: str, turns: list[Item], device: str) -> float:
    """Per character, the end of each turn counted as one."""
    bits, dtype = shapes.PRECISIONS[kind]
    report = lambda progress: None
    folder, adapter = hub.folder_of(card, folders, report), hub.adapter_of(card, folders, report)
    model, tokenizer = loader.load(card, Path(folder), device, dtype, report, bits, adapter)
    assert isinstance(model, nn.Module)
    packed.settle(model)
    reader = Neural(Engine(card, model, tokenizer, device))
    logprobs = [reader.logprob(turn.history, turn.gold) for turn in turns]
    assert all(map(math.isfinite, logprobs)), f"{card.name} at {kind}: a likelihood is no number"
    return metrics.perplexity(logprobs, [turn.gold for turn in turns])

"""Finish a bundled model from checkpoints of its training: `python -m bianque blend-mini ask|advise …`.

Weights of one training's checkpoints are averaged ("model soups", arXiv 2203.05482), which forgets some of what each
learnt by heart, and the scores are divided by a temperature (arXiv 1706.04599), which takes back the confidence that
came with it. The temperature is fitted on one half of the held-out dialogues and judged on the other.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bianque.train import samples
from bianque.train.mini import SUBJECTS, AdviseMini, AskMini, Plan, Role, load, publish
from bianque.train.samples import Sample

TEMPERATURES = tuple(round(1 + step / 50, 2) for step in range(21))


def blend(
    role: Role,
    parts: Sequence[tuple[float, Path]],
    valid: Sequence[Path],
    out: Path,
    work: Path,
    say: Callable[[str], None] = print,
) -> None:
    """Write the average of the checkpoints, weighted by their shares, to `out`; `work` holds the tokenizer."""
    plan = Plan()
    subject = SUBJECTS[role](work, plan)
    subject.model.load_state_dict(average(parts))
    records = load(valid)
    halves = [records[::2], records[1::2]]
    turns = [list(samples.turns(half, subject.form, role == "ask", None, random.Random(plan.seed))) for half in halves]
    fitted = losses(subject, turns[0], plan)
    best = min(fitted, key=fitted.__getitem__)
    judged = losses(subject, turns[1], plan)
    say(f"temperature {best:.2f}: held-out loss {judged[1.0]:.4f} → {judged[best]:.4f}")
    with torch.no_grad():
        subject.model.lm_head.weight.div_(best)
    publish(subject, out, work)
    torch.save(subject.model.state_dict(), work / "blend.pt")  # to train on from, or to blend again
    report: dict[str, Any] = {
        "role": role,
        "shares": {f"{path.parent.name}/{path.name}": share for share, path in parts},
        "temperature": best,
        "valid": {"fitted_on": fitted, "judged_on": judged},
    }
    (out / "blend.json").write_text(json.dumps(report, indent=1) + "\n")


def average(parts: Sequence[tuple[float, Path]]) -> dict[str, Tensor]:
    """The weighted mean of checkpoints; ValueError if the shares do not sum to 1."""
    if abs(sum(share for share, _ in parts) - 1) > 1e-6:
        raise ValueError(f"the shares sum to {sum(share for share, _ in parts):g}, not to 1")
    total: dict[str, Tensor] = {}
    for share, path in parts:
        saved = torch.load(path, weights_only=True)
        for name, weight in saved.get("model", saved).items():
            total[name] = total.get(name, 0) + share * weight
    return total


@torch.inference_mode()
def losses(subject: AskMini | AdviseMini, turns: Sequence[Sample], plan: Plan) -> dict[float, float]:
    """Mean negative log-likelihood of a reply token at each temperature."""
    subject.model.eval()
    totals, tokens = dict.fromkeys(TEMPERATURES, 0.0), 0
    for batch in samples.batches(turns, plan.batch_tokens, random.Random(0)):
        logits, wanted = subject.logits(batch)
        for temperature in totals:
            totals[temperature] += F.cross_entropy(logits / temperature, wanted, reduction="sum").item()
        tokens += len(wanted)
    return {temperature: total / tokens for temperature, total in totals.items()}

"""How well the heads judge writers whom they have not read: cross-validation over the training sentences alone.

One writer of `triage/` is left out at a time, for intents a fifth of the openings. What is held back takes no part.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult import learning
from bianque.consult.learning import FOLDER, INTENT, TRIAGE, HeadPlan, LabelledSentence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

FOLDS = 5
WRITERS = {"positives": "first", "negatives": "first"}
"""Who wrote several files; all that are called own_ are one writer's, too."""
QUIET = 0.96
"""Specificity at which the recall is compared."""


def measure(folder: Path = FOLDER, misspelt: float = learning.MISSPELT) -> dict[str, Any]:
    """Of triage: recall and specificity at the thresholds, recall at QUIET, also of sentences typed wrongly; F1 of intents.

    `misspelt` is the weight of a wrongly typed copy of each sentence in training, 0 for none.
    """
    danger = [one for one in learning.triage_examples(folder) if one.group != "knowledge"]
    writers = [WRITERS.get(one.group, "own" if one.group.startswith("own") else one.group) for one in danger]
    scores = crossed(danger, TRIAGE, writers, misspelt)
    wants = learning.intent_examples(folder)
    folds = [str(zlib.crc32(one.group.encode()) % FOLDS) for one in wants]
    found = crossed(wants, INTENT, folds, 0)[0].argmax(axis=1)
    return {
        "sentences": len(danger),
        "as_written": _triage(danger, scores[0]),
        "typed_wrongly": _triage(danger, scores[1]),
        "intents": len(wants),
        "macro_f1": _f1([one.label for one in wants], [INTENT.labels[place] for place in found]),
    }


def crossed(
    examples: Sequence[LabelledSentence], plan: HeadPlan, folds: Sequence[str], misspelt: float
) -> tuple[Floats, Floats]:
    """[examples, labels]: scores of each example, and of its misspelt copy, by heads that have not read its fold."""
    import numpy as np

    n = len(examples)
    given = learning.rows(learning.with_misspelt(examples, misspelt or 1.0, harmless=1.0), plan)
    alike = learning.kernel(given)
    wanted, prior, weight = learning.targets(given)
    found = np.zeros((2 * n, len(plan.labels)), np.float32)
    fold, copy = np.array([*folds, *folds]), np.arange(2 * n) >= n
    for name in dict.fromkeys(folds):
        seen = np.flatnonzero((fold != name) & (~copy | (misspelt > 0)))
        alpha = learning.solve(alike[np.ix_(seen, seen)], wanted[seen], weight[seen], plan.ridge)
        unseen = np.flatnonzero(fold == name)
        found[unseen] = prior + alike[np.ix_(unseen, seen)] @ alpha
    return found[:n], found[n:]


def _triage(examples: Sequence[LabelledSentence], scores: Floats) -> dict[str, float]:
    import numpy as np

    alarm = np.maximum(scores[:, 1], scores[:, 2]) - scores[:, 0]
    danger = np.array([one.label != "none" for one in examples])
    crisis = np.array([one.label == "crisis" for one in examples])
    level = learning.THRESHOLDS["likely"]
    strict = np.quantile(alarm[~danger], QUIET)
    named = (scores[:, 2] > scores[:, 1]) & (alarm > level)
    figures = {
        "recall": (alarm > level)[danger].mean(),
        "specificity": (alarm <= level)[~danger].mean(),
        f"recall_at_{QUIET}": (alarm[danger] > strict).mean(),
        "crisis_named": named[crisis].mean(),
    }
    return {name: round(float(figure), 3) for name, figure in figures.items()}


def _f1(true: Sequence[str], told: Sequence[str]) -> float:
    labels = sorted(set(true))
    hits = {one: sum(a == b == one for a, b in zip(true, told, strict=True)) for one in labels}
    return round(sum(2 * hits[one] / (true.count(one) + told.count(one)) for one in labels) / len(labels), 3)

"""Train what names the kind of a danger, by which first aid is chosen (`understanding.kind_of`): the labelled sentences of triage.

A linear model as that of the complaints; its names are level/kind.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bianque.consult import understanding
from bianque.consult.learning import triage_examples
from bianque.train.complaints import Labelled, train


def write(folder: Path, heads: Path) -> Path:
    """Train on a folder with triage/ and store beside the heads; the file that was written."""
    rows = [Labelled(one.text, f"{one.label}/{one.kind}") for one in triage_examples(folder) if one.kind]
    out = understanding.beside(heads, "kind")
    np.savez_compressed(out, **train(rows))
    return out

"""`python -m bianque bench convert`: how long a model takes to load that was quantised before, and one that is so meanwhile.

A checkpoint of the true width with random weights of 16 bits is written to disk, and once more by `convert --bits`. Both
are read from the file cache: from a disk the second has half or a quarter of the bytes to read besides.
"""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from bianque.bench import rounds, shapes
from bianque.bench.rounds import Figures
from bianque.catalog.builtin import by_name
from bianque.catalog.card import Model
from bianque.checkpoints import loader
from bianque.checkpoints.convert import SHARD, ShardWriter
from bianque.checkpoints.convert import convert as write
from bianque.checkpoints.hub import BUNDLED
from bianque.nn import cpu, packed
from bianque.types import Bits

quiet = lambda progress: None


def convert(options: Any) -> None:
    """Print a table for each number of bits; milliseconds until a model could answer."""
    rounds.begin(options)
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        card, source = checkpoint(Path(place, "16"), options.arch, options.size, options.layers)
        for bits in options.bits:
            made = Path(place, str(bits))
            size = write(card, source, made, quiet, bits=bits)
            contestants = {
                f"converted to {bits} bits": partial(load, card, made, 16),
                f"16 bits, quantised to {bits}": partial(load, card, source, bits),
            }
            probe = partial(rounds.probe, torch.bfloat16, "cpu")
            table = rounds.measure(contestants, probe, options.rounds, options.steal)
            print(f"\n{bits} bits, {size / 1e9:.2f} GB; read {table.probe('read'):.1f} GB/s; {table.host}\n")
            print("\n".join(table.lines(["load"])), flush=True)
            found.append({"bits": bits, "bytes": size, "runs": table.runs, **table.around})
    rounds.save(options, measured=found)


def checkpoint(folder: Path, arch: str, size: str, layers: int | None) -> tuple[Model, Path]:
    """A folder as it is published, float16 in shards, and the card it is read by."""
    card = by_name()[shapes.SHAPES[arch]["bundled"]]
    vocabulary = loader.ARCHITECTURES[arch].vocabulary
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(shapes.config_of(arch, size, layers)))
    (folder / vocabulary).write_bytes((BUNDLED / card.name / vocabulary).read_bytes())
    model, _ = loader.skeleton(card, folder)
    writer = ShardWriter(folder, SHARD)
    for name, tensor in shapes.noise({name: weight.shape for name, weight in model.named_parameters()}):
        writer.add(name, tensor.half())
    writer.close()
    return card, folder


def load(card: Model, folder: Path, bits: int) -> Figures:
    begun = time.perf_counter()
    made = loader.load(card, {card.name: folder}, "cpu", torch.bfloat16, quiet, cast(Bits, bits))
    took = time.perf_counter() - begun
    packed.release(cast(nn.Module, made.model))
    del made
    cpu.trim_memory()
    return {"load": took * 1e3}

"""`python -m bianque convert`: a published checkpoint once more, as safetensors in shards."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from bianque.catalog.card import Model
from bianque.checkpoints import loader
from bianque.checkpoints.hub import Report
from bianque.errors import BadInput
from bianque.types import Progress


def convert(card: Model, folder: Path, out: Path, report: Report, limit: int = 2_000_000_000) -> int:
    """Write `folder`'s weights to `out` in shards of at most `limit` bytes, with its configuration and tokenizer.

    Types and values stay as they are; keys the model never reads are left out. Holds one shard in memory. Returns the
    bytes written. BadInput if `out` holds anything, LoadFailed if the checkpoint cannot be read.
    """
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"{out}: 目录不是空的，请换一个 (the folder is not empty: choose another)")
    model, _ = loader.skeleton(card, folder)
    shards = loader.shard_files(card, folder)
    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(out, limit)
    for done, shard in enumerate(shards, 1):
        for name, tensor in loader.checked(shard, card):
            if not re.fullmatch(str(model.ignored_keys), name):
                writer.add(name, tensor)
        report(Progress(card.name, "loading", done / len(shards)))
    total = writer.close()
    for path in folder.iterdir():  # last: a folder without a configuration is not mistaken for a finished one
        if path.is_file() and path.suffix in (".json", ".model") and not path.name.endswith(".index.json"):
            shutil.copyfile(path, out / path.name)
    return total


class Writer:
    """Gathers tensors and writes a shard whenever the next one would not fit."""

    def __init__(self, out: Path, limit: int) -> None:
        self.out, self.limit = out, limit
        self.part: dict[str, Tensor] = {}
        self.parts: list[list[str]] = []
        self.size = self.total = 0

    def add(self, name: str, tensor: Tensor) -> None:
        if self.part and self.size + tensor.nbytes > self.limit:
            self.flush()
        # A copy: what is read may be a view of a file that is about to be closed, or of another tensor.
        self.part[name] = tensor.clone().contiguous()
        self.size += tensor.nbytes

    def flush(self) -> None:
        save_file(self.part, self.out / f"part-{len(self.parts)}", metadata={"format": "pt"})
        self.parts.append(list(self.part))
        self.total += self.size
        self.part, self.size = {}, 0

    def close(self) -> int:
        """Name the shards as the Hub does, write their index, and return all their bytes."""
        self.flush()
        count = len(self.parts)
        places: dict[str, str] = {}
        for number, names in enumerate(self.parts):
            final = f"model-{number + 1:05}-of-{count:05}.safetensors" if count > 1 else "model.safetensors"
            (self.out / f"part-{number}").rename(self.out / final)
            places |= dict.fromkeys(names, final)
        if count > 1:
            index = {"metadata": {"total_size": self.total}, "weight_map": places}
            (self.out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        return self.total

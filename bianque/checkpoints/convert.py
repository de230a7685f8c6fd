"""`python -m bianque convert`: a published checkpoint once more: safetensors in shards, with a LoRA merged, in fewer bits."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bianque.catalog.card import Model
from bianque.checkpoints import files, loader, lora
from bianque.checkpoints.hub import Report
from bianque.errors import BadInput
from bianque.nn import quant
from bianque.types import Bits, Progress

SHARD = 2_000_000_000


def convert(
    card: Model,
    folder: Path,
    out: Path,
    report: Report,
    limit: int = SHARD,
    bits: Bits = 16,
    adapter: Path | None = None,
) -> int:
    """Write `folder`'s weights to `out` in shards of at most `limit` bytes, with its configuration and tokenizer.

    At 16 `bits` types and values stay as they are but for what `adapter`, a LoRA, changes; a P-Tuning prefix is put beside
    them. At 8 and 4 they are quantised
    as they would be each time they are loaded. Keys the model never reads are left out. Holds one shard in memory. Returns
    the bytes written. BadInput if `out` holds anything or cannot be written, LoadFailed if what is read does not fit.
    """
    check_empty(out)
    raw = loader.configuration(card, folder)
    if quant.bits_of(raw) != 16 and (bits != 16 or adapter):
        raise BadInput(
            f"{card.title}: 权重已是 {quant.bits_of(raw)} 位，不能再量化或并入 LoRA，请用 16 位的权重 "
            "(quantised already: start from the weights of 16 bits)"
        )
    prefix = loader.prefix_of(card, adapter) if adapter else {}
    merging = lora.read(adapter, card.title) if adapter and not prefix else None
    model, _ = loader.skeleton(card, folder, bits, prefix)
    shards = loader.shard_files(card, folder)
    changed: dict[str, Any] = {"merged_adapter": card.loadable.adapter or adapter.name} if adapter else {}
    if prefix:
        changed |= loader.prefix_facts(prefix)
    if bits != 16:
        changed |= {"quantization_config": {"quant_method": quant.OWN, "bits": bits}}
    try:
        out.mkdir(parents=True, exist_ok=True)
        writer = ShardWriter(out, limit)
        for done, shard in enumerate(shards, 1):
            for name, tensor in converted(card, model, shard, merging):
                if name not in prefix:
                    writer.add(name, tensor)
            report(Progress(card.name, "loading", done / len(shards)))
        for name, tensor in prefix.items():
            writer.add(name, tensor)
        if merging and merging.unused():
            raise BadInput(f"{card.title}: LoRA 另有所指 (the LoRA changes what is not there): {merging.unused()[:8]}")
        total = writer.close()
        copy_rest(
            folder, out, raw | changed
        )  # last: a folder without a configuration is not mistaken for a finished one
    except BaseException as error:
        remove_written(out)
        if isinstance(error, OSError | SafetensorError):
            raise unwritable(out, error) from error
        raise
    return total


def check_empty(out: Path) -> None:
    """BadInput unless `out` is an empty folder or none yet."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: 是文件，需要一个文件夹 (a file: name a folder)")
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"{out}: 目录不是空的，请换一个 (the folder is not empty: choose another)")


def unwritable(out: Path, error: Exception) -> BadInput:
    """What kept a folder from being written; safetensors wraps the system's errors in its own."""
    told = getattr(error, "strerror", None) or str(error)
    return BadInput(
        f"{out}: 写不进去 (cannot be written): {told}; 请清理磁盘，或换一个位置 (free some disk, or choose another place)"
    )


def remove_written(out: Path) -> None:
    """What an unfinished conversion has left; the folder was empty before."""
    for path in out.iterdir() if out.is_dir() else ():
        path.unlink(missing_ok=True)


def converted(card: Model, model: nn.Module, shard: Path, merging: lora.Adapter | None) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors as they are to be stored."""
    layers = quant.linears(model)
    for name, tensor in loader.checked(shard, card):
        if re.fullmatch(str(model.ignored_keys), name):
            continue
        # Quantised from what was merged in 32 bits, as at loading; one that is not quantised keeps its type.
        dtype = torch.float32 if name.removesuffix(".weight") in layers else tensor.dtype
        merged = merging.merged(name, tensor, dtype) if merging else tensor
        yield from quant.convert_tensor(layers, name, merged, "cpu", merged.dtype).items()


def copy_rest(folder: Path, out: Path, config: dict[str, Any]) -> None:
    """The configuration, and what else stands beside the weights."""
    for path in folder.iterdir():
        named = path.name != "config.json" and not path.name.endswith(".index.json")
        if path.is_file() and path.suffix in (".json", ".model") and named:
            shutil.copyfile(path, out / path.name)
    part = out / "config.json.part"  # whole or not at all: the old one beside merged weights would merge a LoRA twice
    part.write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    part.replace(out / "config.json")


class ShardWriter:
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
        files.save(self.part, self.out / f"part-{len(self.parts)}")
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

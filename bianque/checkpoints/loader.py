"""From a card to a model that is ready to decode: fetch, check, read, merge, quantise, pack. No remote code, no unpickling."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bianque.catalog.card import Model
from bianque.checkpoints import hub, lora
from bianque.checkpoints.hub import Report
from bianque.errors import LoadFailed
from bianque.models.baichuan import Baichuan, BaichuanConfig
from bianque.models.base import LanguageModel
from bianque.models.chatglm import ChatGLM, ChatGLMConfig
from bianque.models.t5 import T5, T5Config
from bianque.models.tokenizers import BaichuanTokenizer, ChatGLMTokenizer, EarlyChatGLMTokenizer, T5Tokenizer, Tokenizer
from bianque.nn import cpu, packed, quant
from bianque.types import Bits, Progress


@dataclass(frozen=True, slots=True)
class Kind:
    """An architecture: `model_type` in config.json, config and model classes, its tokenizer and the tokenizer's file."""

    model_type: str
    config: Any
    model: Any
    tokenizer: Callable[[Any, Path], Tokenizer]
    vocabulary: str


def chatglm_tokenizer(config: ChatGLMConfig, path: Path) -> Tokenizer:
    return EarlyChatGLMTokenizer(path) if config.early else ChatGLMTokenizer(path)


ARCHITECTURES: dict[str, Kind] = {
    "t5": Kind("t5", T5Config, T5, lambda config, path: T5Tokenizer(path), "spiece.model"),
    "chatglm": Kind("chatglm", ChatGLMConfig, ChatGLM, chatglm_tokenizer, "ice_text.model"),
    "baichuan": Kind(
        "baichuan", BaichuanConfig, Baichuan, lambda config, path: BaichuanTokenizer(path), "tokenizer.model"
    ),
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to decode, and its tokenizer."""

    model: LanguageModel
    tokenizer: Tokenizer


def load(
    card: Model, paths: Mapping[str, Path], device: str, dtype: torch.dtype, report: Report, bits: Bits = 16
) -> LoadedModel:
    """A card's files, fetched if they must be, as a finished model: read, merged with its LoRA, quantised, packed.

    `paths` are local folders by card name (BIANQUE_PATHS). LoadFailed names what does not fit.
    """
    folder = hub.folder_of(card, paths, report)
    model, tokenizer = read(card, folder, device, dtype, report, bits, hub.adapter_of(card, paths, report))
    packed.prepack_linears(cast(nn.Module, model))
    cpu.trim_memory()  # of what came and went meanwhile
    return LoadedModel(model, tokenizer)


def read(
    card: Model,
    folder: Path,
    device: str,
    dtype: torch.dtype,
    report: Report,
    bits: Bits = 16,
    adapter: Path | None = None,
) -> tuple[LanguageModel, Tokenizer]:
    """Read a folder tensor by tensor onto `device`, merged with a LoRA and in `bits` a weight, the rest as `dtype`.

    One that is published quantised keeps its own bits. Layers are not packed: the model may still move to another
    device. LoadFailed names what does not fit.
    """
    model, tokenizer = skeleton(card, folder, bits)
    reader = StateDictReader(model, device, dtype, lora.read(adapter, card.title) if adapter else None)
    shards = shard_files(card, folder)
    done, size = 0, sum(shard.stat().st_size for shard in shards) or 1
    for shard in shards:
        for name, tensor in checked(shard, card):
            reader.add(name, tensor)
            done += tensor.nbytes
            report(Progress(card.name, "loading", min(1.0, done / size)))
    if faults := reader.faults():
        raise LoadFailed(f"{card.title}: 权重与结构不符 (the weights do not fit). {faults}")
    model.load_state_dict(reader.found, assign=True)
    reader.found.clear()  # a layer that is rearranged leaves its former weights behind
    quant.prepack_quantised(model, dtype)
    report(Progress(card.name, "loading", 1.0))
    return cast(LanguageModel, model.eval().requires_grad_(False)), tokenizer


class StateDictReader:
    """Collects a model's converted weights, and whatever is wrong with them."""

    def __init__(self, model: nn.Module, device: str, dtype: torch.dtype, adapter: lora.Adapter | None) -> None:
        self.device, self.dtype, self.adapter = device, dtype, adapter
        self.ignored = str(model.ignored_keys)
        self.layers = quant.linears(model)
        self.wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        self.found: dict[str, Tensor] = {}
        self.extra: list[str] = []
        self.wrong: dict[str, str] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        if name not in self.wanted:
            if not re.fullmatch(self.ignored, name):
                self.extra.append(name)
        elif tuple(tensor.shape) != (shape := self.shape(name, tensor)):
            self.wrong[name] = f"{name} {tuple(tensor.shape)} ≠ {shape}"
        else:
            if self.adapter and name in self.adapter.deltas:
                tensor = self.adapter.merged(name, tensor, torch.float32)
            self.found |= quant.convert_tensor(self.layers, name, tensor, self.device, self.dtype)

    def shape(self, name: str, tensor: Tensor) -> tuple[int, ...]:
        """As the parameter, or as the matrix that is about to be quantised."""
        layer = self.layers.get(name.removesuffix(".weight"))
        if layer is not None and tensor.is_floating_point():
            return layer.form.out, layer.form.width
        return self.wanted[name]

    def faults(self) -> str:
        """Whatever was missing, unexpected, misshapen or not met, by names; empty if all is well."""
        missing = [name for name in self.wanted if name not in self.found and name not in self.wrong]
        found = {
            "缺少 missing": missing,
            "多余 unexpected": self.extra,
            "形状不符 misshapen": list(self.wrong.values()),
            "LoRA 另有所指 the LoRA changes what is not there": self.adapter.unused() if self.adapter else [],
        }
        return "; ".join(f"{fault}: {', '.join(names[:8])}" for fault, names in found.items() if names)


def skeleton(card: Model, folder: Path, bits: Bits = 16) -> tuple[nn.Module, Tokenizer]:
    """The model without weights, its linear layers ready for `bits` or for what is published, and its tokenizer."""
    kind = ARCHITECTURES[card.loadable.architecture]
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if raw.get("model_type") != kind.model_type:
            raise ValueError(f"model_type {raw.get('model_type')!r} ≠ {kind.model_type!r}")
        config = kind.config.from_dict(raw)
        tokenizer = kind.tokenizer(config, folder / kind.vocabulary)
        stored = quant.bits_of(raw)
        with torch.device("meta"):
            model = kind.model(config)
            quant.replace_linears(model, bits if stored == 16 else stored, published=stored != 16)
        return model, tokenizer
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise LoadFailed(f"{card.title}: 模型目录不可用 (unusable model folder): {plain(error, folder)}") from error


def checked(shard: Path, card: Model) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors; what is damaged, or wants to run code while it is read, is refused."""
    try:
        yield from tensors(shard)
    except pickle.UnpicklingError as error:
        raise LoadFailed(
            f"{card.title}: {shard.name} 含有可执行内容，已拒绝 (refused: it is not plain tensors)"
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = plain(error, shard.parent)
        raise LoadFailed(
            f"{card.title}: {shard.name} 已损坏，请重新下载 (damaged, download it again): {reason}"
        ) from error


def plain(error: Exception, folder: Path) -> str:
    """An error's text without this machine's folders in it."""
    return str(error).replace(str(folder), "…").splitlines()[0][:200] if str(error) else type(error).__name__


def shard_files(card: Model, folder: Path) -> list[Path]:
    """The weight files in order, all of them there; safetensors are preferred to `.bin`."""
    try:
        found = indexed(folder)
        for shard in found:
            shard.stat()
        return found
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LoadFailed(f"{card.title}: 模型目录不可用 (unusable model folder): {plain(error, folder)}") from error


def indexed(folder: Path) -> list[Path]:
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index, single = folder / f"{stem}.{suffix}.index.json", folder / f"{stem}.{suffix}"
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            return [folder / Path(name).name for name in names]
        if single.exists():
            return [single]
    raise FileNotFoundError("no model.safetensors and no pytorch_model.bin")


def tensors(shard: Path) -> Iterator[tuple[str, Tensor]]:
    if shard.suffix == ".safetensors":
        with safe_open(shard, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                yield name, opened.get_tensor(name)
    else:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        mapped = zipfile.is_zipfile(shard)
        table = torch.load(shard, map_location="cpu", weights_only=True, mmap=mapped)
        if not isinstance(table, dict) or not all(isinstance(value, Tensor) for value in table.values()):
            raise ValueError("not a table of tensors")
        yield from table.items()

"""From a card to a model that is ready to decode: fetch, check, read, merge, quantise, pack. No remote code, no unpickling."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bianque.catalog.card import Model
from bianque.checkpoints import files, hub, lora
from bianque.checkpoints.hub import Report
from bianque.errors import LoadFailed
from bianque.models.baichuan import Baichuan, BaichuanConfig
from bianque.models.base import LanguageModel
from bianque.models.chatglm import ChatGLM, ChatGLMConfig
from bianque.models.t5 import T5, T5Config
from bianque.models.tokenizers import BaichuanTokenizer, ChatGLMTokenizer, EarlyChatGLMTokenizer, T5Tokenizer, Tokenizer
from bianque.nn import cpu, packed, quant
from bianque.types import Bits, Progress

T = TypeVar("T")
log = logging.getLogger(__name__)
PREFIX = "transformer.prefix_encoder."
MOST = {"int": 2**31 - 1, "float": 1.0}  # what a number of config.json may be
MOST_LAYERS = 1000  # each is built before a weight is read


@dataclass(frozen=True, slots=True)
class LoaderKind:
    """An architecture: `model_type` in config.json, config and model classes, its tokenizer and the tokenizer's file."""

    model_type: str
    config: Any
    model: Any
    tokenizer: Callable[[Any, Path], Tokenizer]
    vocabulary: str


def chatglm_tokenizer(config: ChatGLMConfig, path: Path) -> Tokenizer:
    return EarlyChatGLMTokenizer(path) if config.early else ChatGLMTokenizer(path)


ARCHITECTURES: dict[str, LoaderKind] = {
    "t5": LoaderKind("t5", T5Config, T5, lambda config, path: T5Tokenizer(path), "spiece.model"),
    "chatglm": LoaderKind("chatglm", ChatGLMConfig, ChatGLM, chatglm_tokenizer, "ice_text.model"),
    "baichuan": LoaderKind(
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
    adapter = None if merged(folder, card) else hub.adapter_of(card, paths, report)
    model, tokenizer = read(card, folder, device, dtype, report, bits, adapter)
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
    training: bool = False,
) -> tuple[LanguageModel, Tokenizer]:
    """Read a folder tensor by tensor onto `device`, merged with a LoRA and in `bits` a weight, the rest as `dtype`.

    One that is published quantised keeps its own bits. An adapter may also be a P-Tuning v2 prefix. Layers are not
    packed: the model may still move to another device. For `training` they also keep a gradient. LoadFailed names what
    does not fit.
    """
    prefix = prefix_of(card, adapter) if adapter else {}
    merging = lora.read(adapter, card.title) if adapter and not prefix and not merged(folder, card) else None
    model, tokenizer = skeleton(card, folder, bits, prefix)
    reader = StateDictReader(model, device, dtype, merging)
    shards = shard_files(card, folder)
    done, size = 0, sum(shard.stat().st_size for shard in shards) or 1
    for shard in shards:
        for name, tensor in checked(shard, card):
            if name not in prefix:
                reader.add(name, tensor)
            done += tensor.nbytes
            report(Progress(card.name, "loading", min(1.0, done / size)))
    for name, tensor in prefix.items():
        reader.add(name, tensor)
    reader.tie()
    if faults := reader.faults():
        raise LoadFailed(f"{card.title}: 权重与结构不符 (the weights do not fit). {faults}")
    model.load_state_dict(reader.found, assign=True)
    reader.found.clear()  # a layer that is rearranged leaves its former weights behind
    if isinstance(model, ChatGLM):
        model.fold_prefix()
    quant.prepack_quantised(model, dtype, training)
    report(Progress(card.name, "loading", 1.0))
    return cast(LanguageModel, model.eval().requires_grad_(False)), tokenizer


def merged(folder: Path, card: Model) -> bool:
    """Whether the folder's weights hold the card's own LoRA already, as `convert --merge` says in its config.json."""
    name = card.loadable.adapter
    return name is not None and configuration(card, folder).get("merged_adapter") == name


def prefix_of(card: Model, path: Path) -> dict[str, Tensor]:
    """The P-Tuning v2 prefix in a folder or weight file as ChatGLM-6B's ptuning/main.py saves it; empty for a LoRA."""
    folder = path if path.is_dir() else path.parent
    try:
        if (folder / "adapter_config.json").exists() or not path.exists():
            return {}
        shards = [path] if not path.is_dir() else indexed(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # `lora.read` says what is wrong
    found = {name: tensor for shard in shards for name, tensor in checked(shard, card) if "prefix_encoder." in name}
    return {PREFIX + name.partition("prefix_encoder.")[2]: tensor for name, tensor in found.items()}


def prefix_facts(prefix: Mapping[str, Tensor]) -> dict[str, Any]:
    """What config.json says of a prefix."""
    return {"pre_seq_len": len(prefix[f"{PREFIX}embedding.weight"]), "prefix_projection": len(prefix) > 1}


class StateDictReader:
    """Collects a model's converted weights, and whatever is wrong with them."""

    def __init__(self, model: nn.Module, device: str, dtype: torch.dtype, adapter: lora.Adapter | None) -> None:
        self.device, self.dtype, self.adapter = device, dtype, adapter
        self.ignored = str(model.ignored_keys)
        self.tied: Mapping[str, tuple[str, ...]] = getattr(model, "tied", {})
        self.layers = quant.linears(model)
        self.wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        self.found: dict[str, Tensor] = {}
        self.extra: list[str] = []
        self.wrong: dict[str, str] = {}
        self.stored: set[str] = set()
        self.spare: dict[str, tuple[str, Tensor]] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        self.stored.add(name)
        self.spare.pop(name, None)
        for other, sources in self.tied.items():  # kept until it is known whether it has a tensor of its own
            if name in sources and other not in self.stored:
                self.spare[other] = (name, tensor)
        if name not in self.wanted:
            if not re.fullmatch(self.ignored, name):
                self.extra.append(name)
        elif tuple(tensor.shape) != (shape := self.shape(name, tensor)):
            self.wrong[name] = f"{name} {tuple(tensor.shape)} ≠ {shape}"
        else:
            if self.adapter and name in self.adapter.deltas:
                tensor = self.adapter.merged(name, tensor, torch.float32)
            # A prefix is projected in 32 bits, and rounded then (`ChatGLM.fold_prefix`).
            dtype = torch.float32 if name.startswith(PREFIX) else self.dtype
            self.found |= quant.convert_tensor(self.layers, name, tensor, self.device, dtype)

    def shape(self, name: str, tensor: Tensor) -> tuple[int, ...]:
        """As the parameter, or as the matrix that is about to be quantised."""
        layer = self.layers.get(name.removesuffix(".weight"))
        if layer is not None and tensor.is_floating_point():
            return layer.form.out, layer.form.width
        return self.wanted[name]

    def tie(self) -> None:
        """What is stored once and used twice, as trainers store tied weights: the other use takes the same tensor."""
        for name, (source, tensor) in list(self.spare.items()):
            if name in self.wanted and name not in self.stored:
                log.warning("%s is not stored: it is taken to be tied to %s", name, source)
                self.add(name, tensor)

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


def configuration(card: Model, folder: Path) -> dict[str, Any]:
    """`config.json`; LoadFailed if it cannot be read or is of another architecture."""
    kind = ARCHITECTURES[card.loadable.architecture]
    try:
        raw = files.json_of(folder / "config.json")
        if raw.get("model_type") != kind.model_type:
            raise ValueError(f"model_type {raw.get('model_type')!r} ≠ {kind.model_type!r}")
        return raw
    except (OSError, ValueError, AttributeError) as error:
        raise unusable(card, folder, error) from error


def skeleton(
    card: Model, folder: Path, bits: Bits = 16, prefix: Mapping[str, Tensor] = MappingProxyType({})
) -> tuple[nn.Module, Tokenizer]:
    """The model without weights, its linear layers ready for `bits` or for what is published, and its tokenizer."""
    kind = ARCHITECTURES[card.loadable.architecture]
    raw = configuration(card, folder)
    try:
        config = plausible(kind.config.from_dict(raw))
        if prefix:
            if not isinstance(config, ChatGLMConfig):
                raise ValueError("a P-Tuning prefix is for ChatGLM-6B alone")
            config = replace(config, **prefix_facts(prefix))
        tokenizer = kind.tokenizer(config, files.genuine(folder / kind.vocabulary))
        stored = quant.bits_of(raw)
        with torch.device("meta"):
            model = kind.model(config)
            published = stored != 16 and "quantization_config" not in raw
            quant.replace_linears(model, bits if stored == 16 else stored, published=published)
        return model, tokenizer
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise unusable(card, folder, error) from error


def plausible(config: T) -> T:
    """The config itself; ValueError names a number that is none, or that no model has."""
    for field in fields(cast(Any, config)):
        value, most = getattr(config, field.name), MOST.get(str(field.type))
        if most is None:
            continue
        if field.name.endswith("_layers"):
            most = MOST_LAYERS
        sound = isinstance(value, int if most > 1 else (int, float)) and not isinstance(value, bool)
        if not sound or not 0 <= value <= most:
            said = f"{value!r:.60}"
            raise ValueError(
                f"config.json: {field.name}={said}，需要 0–{most:g} 的数 (a number from 0 to {most:g} is needed)"
            )
    return config


def unusable(card: Model, folder: Path, error: Exception) -> LoadFailed:
    return LoadFailed(f"{card.title}: 模型目录不可用 (unusable model folder): {plain(error, folder)}")


def checked(shard: Path, card: Model) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors; what is damaged, or wants to run code while it is read, is refused."""
    try:
        yield from files.tensors(shard)
    except pickle.UnpicklingError as error:
        raise LoadFailed(
            f"{card.title}: {shard.name} 含有可执行内容，已拒绝 (refused: it is not plain tensors)"
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        reason = plain(error, shard.parent)
        if reason.startswith(shard.name):  # it is something else
            raise LoadFailed(f"{card.title}: {reason}") from error
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
        raise unusable(card, folder, error) from error


def indexed(folder: Path) -> list[Path]:
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index, single = folder / f"{stem}.{suffix}.index.json", folder / f"{stem}.{suffix}"
        if index.exists():
            names = sorted(set(files.json_of(index)["weight_map"].values()))
            return [folder / Path(name).name for name in names]
        if single.exists():
            return [single]
    raise FileNotFoundError("no model.safetensors and no pytorch_model.bin")

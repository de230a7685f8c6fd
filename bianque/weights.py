"""From a card to a loaded model: find or fetch its folder, check it, read it. No remote code, no unpickling."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bianque.decode import Model
from bianque.errors import LoadFailed
from bianque.models.chatglm import ChatGLM, ChatGLMConfig
from bianque.models.t5 import T5, T5Config
from bianque.tokenizers import ChatGLMTokenizer, T5Tokenizer, Tokenizer
from bianque.types import ModelCard, Progress

BUNDLED = Path(__file__).parent / "mini"
Report = Callable[[Progress], None]

# architecture → (model_type in config.json, config, model, tokenizer, its file)
ARCHITECTURES: dict[str, tuple[str, Any, Any, Any, str]] = {
    "t5": ("t5", T5Config, T5, T5Tokenizer, "spiece.model"),
    "chatglm": ("chatglm", ChatGLMConfig, ChatGLM, ChatGLMTokenizer, "ice_text.model"),
}


def folder_of(card: ModelCard, paths: Mapping[str, Path], report: Report) -> Path:
    """Where this card's files are: a named local folder, the package itself, or the Hub's cache after a download."""
    if card.name in paths:
        return paths[card.name]
    if card.repo is None:
        return BUNDLED / card.name
    return fetch(card, report)


def fetch(card: ModelCard, report: Report) -> Path:
    """Download from the Hub (HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are its own); a broken download resumes."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError
    from tqdm.auto import tqdm

    assert card.repo, f"{card.name} is bundled"

    class Bar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            if self.total and self.unit == "B":
                report(Progress(card.name, "downloading", min(1.0, (self.n + (n or 0)) / self.total)))
            return super().update(n)

    report(Progress(card.name, "downloading", 0.0))
    try:
        return Path(
            snapshot_download(card.repo, revision=card.revision, allow_patterns=list(card.files), tqdm_class=Bar)
        )
    except LocalEntryNotFoundError as error:
        raise LoadFailed(
            f"{card.title}: 连不上模型库，本机也没有缓存 (the Hub cannot be reached, {card.repo} is not cached). "
            f"请检查网络或设置 HF_ENDPOINT，或用 BIANQUE_PATHS={card.name}=/folder 指定本地目录"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "?"
        raise LoadFailed(
            f"{card.title}: 模型库对 {card.repo}@{card.revision} 返回 {status} (the Hub answered {status}). "
            "401/403 请设置 HF_TOKEN；404 请核对名称与版本；其余请稍后重试"
        ) from error
    except (HTTPError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise LoadFailed(f"{card.title}: 下载中断 (download failed): {reason}; 请检查磁盘与网络后重试") from error


def load(card: ModelCard, folder: Path, device: str, dtype: torch.dtype, report: Report) -> tuple[Model, Tokenizer]:
    """Read a checkpoint shard by shard onto `device` as `dtype`; LoadFailed names what does not fit."""
    model, tokenizer, shards = skeleton(card, folder)
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    extra: list[str] = []
    wrong: list[str] = []
    done, size = 0, sum(shard.stat().st_size for shard in shards) or 1
    for shard in shards:
        for name, tensor in checked(shard, card):
            if name in wanted and tuple(tensor.shape) == wanted[name]:
                found[name] = tensor.to(device=device, dtype=dtype, copy=True)
            elif name in wanted:
                wrong.append(f"{name} {tuple(tensor.shape)} ≠ {wanted[name]}")
            elif not re.fullmatch(str(model.ignored_keys), name):
                extra.append(name)
        done += shard.stat().st_size
        report(Progress(card.name, "loading", done / size))
    missing = [name for name in wanted if name not in found and not any(w.startswith(f"{name} ") for w in wrong)]
    faults = {"缺少 missing": missing, "多余 unexpected": extra, "形状不符 misshapen": wrong}
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {', '.join(names[:8])}" for fault, names in faults.items() if names)
        raise LoadFailed(f"{card.title}: 权重与结构不符 (the weights do not fit). {listed}")
    model.load_state_dict(found, assign=True)
    return cast(Model, model.eval().requires_grad_(False)), tokenizer


def skeleton(card: ModelCard, folder: Path) -> tuple[nn.Module, Tokenizer, list[Path]]:
    """The model without weights, its tokenizer, and the files its weights are in."""
    kind, config_type, model_type, tokenizer_type, vocabulary = ARCHITECTURES[card.architecture]
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if raw.get("model_type") != kind:
            raise ValueError(f"model_type {raw.get('model_type')!r} ≠ {kind!r}")
        config = config_type.from_dict(raw)
        tokenizer = tokenizer_type(folder / vocabulary)
        shards = shard_files(folder)
        for shard in shards:
            shard.stat()
        with torch.device("meta"):
            return model_type(config), tokenizer, shards
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise LoadFailed(f"{card.title}: 模型目录不可用 (unusable model folder): {plain(error, folder)}") from error


def checked(shard: Path, card: ModelCard) -> Iterator[tuple[str, Tensor]]:
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


def shard_files(folder: Path) -> list[Path]:
    """The weight files in order; safetensors are preferred to `.bin`."""
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

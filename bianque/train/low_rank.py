"""LoRA (arXiv 2106.09685): small factors beside frozen linear layers, trained alone and stored as peft stores them.

Over weights of 16 and 32 bits peft puts them there. Over 8 and 4 bits, which peft does not know, `LowRank` does, under
the same names: what is stored is one format, which peft and `checkpoints/lora.py` read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bianque.checkpoints import files
from bianque.errors import BadInput
from bianque.nn.quant import QuantLinear

NAME = "default"  # of the adapter, in peft's parameter names
INSTALL = "pip install peft accelerate"


class LowRank(nn.Module):
    """A frozen linear layer and scaling · B A beside it; B begins at zero. Names are those of peft's own layer."""

    def __init__(self, base: nn.Module, width: int, out: int, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base_layer, self.scaling = base, alpha / rank
        self.lora_dropout = nn.Dropout(dropout)
        place = next(base.parameters()).device
        down, up = nn.Linear(width, rank, bias=False, device=place), nn.Linear(rank, out, bias=False, device=place)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        self.lora_A, self.lora_B = nn.ModuleDict({NAME: down}), nn.ModuleDict({NAME: up})

    def forward(self, x: Tensor, *residual: Tensor) -> Tensor:
        out = self.base_layer(x, *residual)
        down = self.lora_A[NAME](self.lora_dropout(x.float()))
        return out + (self.lora_B[NAME](down) * self.scaling).to(out.dtype)


def targets(model: nn.Module, attention: str, which: str) -> list[str]:
    """Names of the layers to change: those that read in attention, or `all` linear layers of the blocks."""
    pattern = str(model.quantised) if which == "all" else attention
    linear = nn.Linear | QuantLinear
    return [
        name for name, module in model.named_modules() if isinstance(module, linear) and re.fullmatch(pattern, name)
    ]


def put(model: nn.Module, names: Sequence[str], rank: int, alpha: float, dropout: float, seed: int) -> None:
    """Freeze the model and put factors, float32, beside the named layers; the same ones for the same seed."""
    model.requires_grad_(False)
    torch.manual_seed(seed)
    layers = [model.get_submodule(name) for name in names]
    if any(isinstance(layer, QuantLinear) for layer in layers) or next(model.parameters()).is_meta:
        for name, layer in zip(names, layers, strict=True):
            out, width = shape(layer)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, LowRank(layer, width, out, rank, alpha, dropout))
        return
    peft = need("peft")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(names))
    peft.inject_adapter_in_model(config, model, adapter_name=NAME)
    for factor in factors(model).values():
        factor.data = factor.data.float()


def shape(layer: Any) -> tuple[int, int]:
    """Rows and columns of a linear layer's matrix."""
    return (layer.form.out, layer.form.width) if isinstance(layer, QuantLinear) else tuple(layer.weight.shape)


def factors(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if ".lora_" in name}


def need(library: str) -> Any:
    """An optional library; BadInput says how to install it."""
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise BadInput(f"需要 {library} ({library} is needed): {INSTALL} ({error})") from error


def save(weights: dict[str, Tensor], out: Path, rank: int, alpha: float, dropout: float, base: str | None) -> None:
    """`adapter_config.json` and `adapter_model.safetensors`, as peft writes them."""
    out.mkdir(parents=True, exist_ok=True)
    stored = {
        f"base_model.model.{name.replace(f'.{NAME}.', '.')}": weight.contiguous() for name, weight in weights.items()
    }
    files.save(stored, out / "adapter_model.safetensors")
    modules = sorted({name.partition(".lora_")[0] for name in weights})
    config = {
        "peft_type": "LORA", "base_model_name_or_path": base, "r": rank, "lora_alpha": alpha, "lora_dropout": dropout,
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True,
        "modules_to_save": None, "task_type": None, "target_modules": sorted({name.rpartition(".")[2] for name in modules}),
    }  # fmt: skip
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

"""LoRA: small factors of a change to linear weights, added once while the weights are loaded. No peft, no unpickling.

A pair `lora_A` [r, in], `lora_B` [out, r] changes a weight [out, in] by ``scaling · B A`` (arXiv 2106.09685). In the
merged form of old peft (0.2 and before) one pair serves several equal parts of the rows of a fused weight: `lora_A`
[parts·r, in] and `lora_B` [rows, r, 1] are a grouped 1×1 convolution, and `enable_lora` says which parts are changed.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from bianque.checkpoints import files
from bianque.errors import LoadFailed

PAIR = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")
OFF: tuple[Any, ...] = (None, False, [], {})
# Options of peft's LoraConfig and the values with which a LoRA is a sum on linear weights and nothing else. Ways to
# begin that are not named here (pissa, olora, corda, loftq, lora_ga) change the weights beneath.
EXACT: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "modules_to_save": OFF,
    "use_dora": OFF,
    "lora_bias": OFF,
    "trainable_token_indices": OFF,
    "target_parameters": OFF,
    "layer_replication": OFF,
    "alora_invocation_tokens": OFF,
    "use_qalora": OFF,
    "use_bdlora": OFF,
    "kasa_config": OFF,
    "monteclora_config": OFF,
    "arrow_config": OFF,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How strong a LoRA is, and which parts of a fused weight's rows it changes where it has the merged form.

    The keys of `ranks` and `alphas` are regular expressions for the end of a module's name.
    """

    rank: int
    alpha: float
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    stabilised: bool = False  # rsLoRA, arXiv 2312.03732: alpha / √r
    parts: tuple[bool, ...] = ()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Recipe:
        """Read peft's `adapter_config.json`; ValueError names what cannot be merged exactly.

        `fan_in_fan_out` says nothing here: peft switches it off for linear layers, and all of these models' are.
        """
        if raw["peft_type"] != "LORA":
            raise ValueError(f"peft_type {raw['peft_type']!r}; only LORA can be merged")
        wrong = [f"{name}={raw[name]!r}" for name, right in EXACT.items() if raw.get(name, right[0]) not in right]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: cannot be merged exactly")
        return cls(
            rank=raw["r"],
            alpha=raw["lora_alpha"],
            ranks=raw.get("rank_pattern") or {},
            alphas=raw.get("alpha_pattern") or {},
            stabilised=bool(raw.get("use_rslora")),
            parts=tuple(raw.get("enable_lora") or ()),
        )

    def scaling(self, module: str, rank: int) -> float:
        """What a module's product of factors is multiplied by; ValueError if their rank is not the recipe's."""
        if rank != (wanted := matching(self.ranks, module, self.rank)):
            raise ValueError(
                f"{module}: rank {rank} ≠ {wanted}; name a folder whose adapter_config.json is of this LoRA"
            )
        alpha = matching(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def matching(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that the end of a module's name matches (peft, `get_pattern_key`)."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


# A bare table of factors says neither alpha nor parts; trainers of its time took 16, 32 or 64. So only MediaBrain-SJTU/
# MedicalGPT-zh's own is read, by its name and merged form. These are that repository's: src/demo.py, and what its peft makes of a single target (src/peft-main, `_prepare_lora_config`).
MEDICALGPT_FILE = "lora.p"
MEDICALGPT = Recipe(rank=8, alpha=16, parts=(True, False, True))


@dataclass(frozen=True, slots=True)
class LoraDelta:
    """The change of one weight: `down` [parts·r, in], `up` [changed rows, r], and which parts of its rows it is for."""

    down: Tensor
    up: Tensor
    scaling: float
    parts: tuple[bool, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight."""
        return len(self.up) // sum(self.parts) * len(self.parts), self.down.shape[1]

    def add_to(self, weight: Tensor) -> None:
        """In place, in the weight's own type."""
        changed = [rows for rows, on in zip(weight.chunk(len(self.parts)), self.parts, strict=True) if on]
        pairs = zip(self.up.to(weight).chunk(len(changed)), self.down.to(weight).chunk(len(changed)), strict=True)
        for rows, (up, down) in zip(changed, pairs, strict=True):
            rows.addmm_(up, down, alpha=self.scaling)


class Adapter:
    """A LoRA in memory, by the names of the weights it changes."""

    def __init__(self, title: str, deltas: Mapping[str, LoraDelta]) -> None:
        self.title, self.deltas = title, deltas
        self.met: set[str] = set()

    def merged(self, name: str, weight: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A weight with its change, added in float32, as `dtype` (None: its own); one without a change comes back.

        The weight itself stays as it is. LoadFailed if it is quantised, or not [out, in] of the factors.
        """
        dtype = dtype or weight.dtype
        if (delta := self.deltas.get(name)) is None:
            return weight.to(dtype)
        if not weight.is_floating_point() or weight.shape != delta.shape:
            found = f"{tuple(weight.shape)} {str(weight.dtype).removeprefix('torch.')}"
            raise LoadFailed(
                f"{self.title}: LoRA 与权重不符 (the LoRA does not fit): {name} {found} ≠ {delta.shape} float; "
                "请换用与它一同训练的未量化模型 (use the unquantised model it was trained on)"
            )
        self.met.add(name)
        full = weight.to(torch.float32, copy=True)
        delta.add_to(full)
        return full.to(dtype)

    def unused(self) -> list[str]:
        """Weights it changes and has not met: not empty after loading, it is the LoRA of another model."""
        return sorted(self.deltas.keys() - self.met)


def read(path: Path, title: str) -> Adapter:
    """A LoRA from a peft folder, or from a bare file of factors; `title` begins every complaint.

    A folder holds `adapter_config.json` and `adapter_model.safetensors` or `.bin`; of files with no such config beside
    them only MedicalGPT-zh's is known. LoadFailed if it cannot be read, does not say how strong it is, would run code, or
    cannot be merged exactly.
    """
    folder = path if path.is_dir() else path.parent
    config = folder / "adapter_config.json"
    try:
        recipe = None
        if path.is_dir() or config.exists():
            recipe = Recipe.from_dict(files.json_of(config))
        factors = dict(files.tensors(stored(path)))
        return Adapter(title, deltas(factors, recipe or bare(path, factors)))
    except pickle.UnpicklingError as error:
        raise LoadFailed(f"{title}: {path.name} 含有可执行内容，已拒绝 (refused: it is not plain tensors)") from error
    except KeyError as error:
        raise LoadFailed(f"{title}: LoRA {path.name} 不可用 (unusable): {config.name} lacks {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, re.error, SafetensorError) as error:
        reason = str(error).replace(str(folder), "…").splitlines()[0][:400] if str(error) else type(error).__name__
        raise LoadFailed(f"{title}: LoRA {path.name} 不可用 (unusable): {reason}") from error


def bare(path: Path, factors: Mapping[str, Tensor]) -> Recipe:
    """The recipe of a file with no config; ValueError says what to write beside it, as a guess would be silent."""
    ups = [tensor for name, tensor in factors.items() if (found := PAIR.fullmatch(name)) and found[2] == "B"]
    if path.name == MEDICALGPT_FILE and ups and all(up.ndim == 3 for up in ups):
        return MEDICALGPT
    rank = next((up.shape[1] for up in ups if up.ndim > 1), 8)
    raise ValueError(
        f"旁边没有 adapter_config.json，不知道 lora_alpha：请在同一文件夹写一个 (no adapter_config.json beside it says its "
        f'lora_alpha: write one there) {{"peft_type": "LORA", "r": {rank}, "lora_alpha": …}}'
    )


def stored(path: Path) -> Path:
    """The file a LoRA's factors are in."""
    if not path.is_dir():
        return path
    names = ("adapter_model.safetensors", "adapter_model.bin")
    found = next((path / name for name in names if (path / name).exists()), None)
    if found is None:
        raise FileNotFoundError(f"no {' and no '.join(names)}")
    return found


def deltas(factors: Mapping[str, Tensor], recipe: Recipe) -> dict[str, LoraDelta]:
    """Pairs of factors by the name of their weight; ValueError names whatever is no such pair."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in factors.items():
        if not (found := PAIR.fullmatch(key)):
            raise ValueError(f"{key} is no lora_A or lora_B of a linear layer: cannot be merged exactly")
        module, side = found.groups()
        if side in pairs.setdefault(module, {}):
            raise ValueError(f"{module} has several lora_{side}")
        pairs[module][side] = tensor
    if not pairs:
        raise ValueError("it is empty")
    return {f"{module}.weight": joined(module, pair, recipe) for module, pair in pairs.items()}


def joined(module: str, pair: Mapping[str, Tensor], recipe: Recipe) -> LoraDelta:
    if len(pair) != 2:
        raise ValueError(f"{module} has a lora_{next(iter(pair))} only")
    down, up = pair["A"], pair["B"]
    parts: tuple[bool, ...] = (True,)
    if up.ndim == 3 and up.shape[2] == 1:
        up, parts = up[:, :, 0], recipe.parts
    changed, rank = sum(parts), up.shape[1] if up.ndim == 2 else 0
    if down.ndim != 2 or not changed * rank or len(down) != changed * rank or len(up) % changed:
        shapes = f"lora_A {tuple(pair['A'].shape)}, lora_B {tuple(pair['B'].shape)}"
        raise ValueError(f"{module}: {shapes} are no pair of factors, with enable_lora={list(recipe.parts)}")
    return LoraDelta(down, up, recipe.scaling(module, rank), parts)

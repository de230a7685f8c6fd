"""Linear layers with 8- or 4-bit weights, for every architecture, in the format of chatglm-6b-int8 and -int4.

`replace_linears` puts them into a model that has no weights yet, `convert_tensor` says what each stored tensor becomes,
`prepack_quantised` lets every layer choose its kernel (`kernels.py`) once the weights are there. A stored matrix may be quantised already, as
THUDM/chatglm-6b-int8 and -int4 are (a scale a row), or of any floating type: then it is quantised on its way in,
8 bits with a scale a row, 4 bits with a scale per group of columns, since a scale a row costs 4 bits too much. What
is quantised here has a head of 8 bits too: with 16 it would be most of what a 4-bit model reads for a token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from bianque.errors import LoadFailed
from bianque.nn import kernels
from bianque.nn.form import Form
from bianque.nn.layers import FusedProjection, fusible
from bianque.types import Bits

GROUPS = (128, 64, 32)
HEAD = "lm_head"
TALL = 16384  # rows of a matrix that are packed at once: FBGEMM takes 4 ns a weight for so many, 17 for 130,000
SHARES = (0.9, 0.8)  # of a 4-bit group's full scale, tried beside it


class QuantLinear(nn.Module):
    """`nn.Linear` with int8 `weight` and float16 `weight_scale`; the bias keeps the type of the activations.

    Until `pack` it multiplies by plain torch; afterwards both are as the kernel it took wants them.
    """

    def __init__(self, form: Form, bias: bool) -> None:
        super().__init__()
        self.form = form
        self.kernel = kernels.KERNELS[-1]
        weight = torch.empty(form.out, form.width * form.bits // 8, dtype=torch.int8)
        shape = (form.out, form.width // form.group) if form.group else (form.out,)
        self.weight: Any = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(shape, dtype=torch.float16), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(form.out)) if bias else None

    def pack(self) -> None:
        """Rearrange the weights once, as the kernel wants them."""
        weight, scale = self.kernel.pack(self.weight.data, self.weight_scale.data, self.form)
        self.weight_scale = nn.Parameter(scale, requires_grad=False)
        del self.weight  # a kernel's own layout need not be a tensor
        self.weight = nn.Parameter(weight, requires_grad=False) if isinstance(weight, Tensor) else weight

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[..., width] → [..., out], plus `residual` if it is given."""
        rows = x.reshape(-1, self.form.width).contiguous()
        out = kernels.product(self.kernel, rows, self.weight, self.weight_scale, self.form)
        if self.bias is not None:
            out += self.bias
        out = out.view(*x.shape[:-1], self.form.out)
        return out if residual is None else out.add_(residual)

    def extra_repr(self) -> str:
        return f"{self.form.width}, {self.form.out}, {self.kernel.name}-{self.form}"


class Stacked(nn.Module):
    """Row blocks of one quantised layer, each packed by itself; what they say stands side by side."""

    def __init__(self, layer: QuantLinear) -> None:
        super().__init__()
        self.parts = nn.ModuleList(cut(layer, slice(first, first + TALL)) for first in range(0, layer.form.out, TALL))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = torch.cat([part(x) for part in self.parts], dim=-1)
        return out if residual is None else out.add_(residual)


def cut(layer: QuantLinear, rows: slice) -> QuantLinear:
    """Some rows of a layer that is not packed yet."""
    weight = layer.weight.data[rows]
    with torch.device("meta"):
        part = QuantLinear(replace(layer.form, out=len(weight)), bias=False)
    part.kernel = layer.kernel
    part.weight = nn.Parameter(weight, requires_grad=False)
    part.weight_scale = nn.Parameter(layer.weight_scale.data[rows], requires_grad=False)
    part.bias = None if layer.bias is None else nn.Parameter(layer.bias.data[rows], requires_grad=False)
    return part


OWN = "bianque"  # the quant_method of what `convert --bits` writes: groups at 4 bits, a head of 8


def bits_of(config: Mapping[str, Any]) -> Bits:
    """Bits a weight in a checkpoint, from its `config.json`; LoadFailed if they are not 16, 8 or 4, or another's way."""
    own = config.get("quantization_config") or {}
    if own and own.get("quant_method") != OWN:
        raise LoadFailed(
            f"config.json: quantization_config 的 quant_method={own.get('quant_method')!r} 无法读取 (unknown); "
            "请换用未量化的权重 (use unquantised weights)"
        )
    bits = own.get("bits") or config.get("quantization_bit") or 16
    if bits not in (16, 8, 4):
        raise LoadFailed(
            f"config.json: quantization_bit={bits!r} 无法读取 (unknown); 只支持 16、8、4 (only 16, 8 and 4), 请换用这样的权重"
        )
    if bits < 16 and config.get("quantization_embeddings"):
        raise LoadFailed(
            "config.json: quantization_embeddings=true 无法读取 (quantised embeddings are not supported); "
            "请换用词嵌入未量化的权重 (use weights whose embeddings keep 16 bits)"
        )
    return cast(Bits, bits)


def replace_linears(model: nn.Module, bits: Bits, *, published: bool = False) -> None:
    """Put a QuantLinear, as yet without weights, where the model's class names a linear layer in `quantised`.

    Matrices that are `published` quantised have a scale a row, and no head among them; ValueError if one of 4 bits is
    an odd number of columns wide. Otherwise a layer whose width no group divides keeps 16 bits instead of 4.
    """
    if bits == 16:
        return
    for name, linear in list(model.named_modules()):
        if not isinstance(linear, nn.Linear):
            continue
        if name == HEAD and not published:
            form = Form(linear.out_features, linear.in_features, 8)
        elif re.fullmatch(str(model.quantised), name):
            group = group_of(linear.in_features) if bits == 4 and not published else None
            if bits == 4 and not published and group is None:
                continue
            form = Form(linear.out_features, linear.in_features, bits, group)
        else:
            continue
        if form.width * form.bits % 8:
            raise ValueError(f"{name} is {form.width} wide: {bits}-bit weights come two in a byte")
        with linear.weight.device:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, QuantLinear(form, linear.bias is not None))


def group_of(width: int) -> int | None:
    """The largest group of columns that divides a width: 128, 64, 32, or None."""
    return next((group for group in GROUPS if width % group == 0), None)


def linears(model: nn.Module) -> dict[str, QuantLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLinear)}


def convert_tensor(
    layers: Mapping[str, QuantLinear], name: str, tensor: Tensor, device: str | torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """What a stored tensor becomes in memory, under its parameters' names: new tensors on `device`.

    The weight of a quantised layer is quantised if it is stored in a floating type, and left as it is if it is int8;
    scales become float16; everything else is cast to `dtype`. Shapes are the caller's to check.
    """
    owner, _, part = name.rpartition(".")
    layer = layers.get(owner)
    if layer is None or part not in ("weight", "weight_scale"):
        return {name: cast_to(tensor, device, dtype)}
    if part == "weight" and tensor.is_floating_point() and tensor.shape == (layer.form.out, layer.form.width):
        made = quantise(tensor.to(device), layer.form.bits, layer.form.group)
        return {f"{owner}.{key}": value for key, value in made.items()}
    return {name: tensor.to(device=device, dtype=torch.float16 if part == "weight_scale" else None, copy=True)}


def cast_to(tensor: Tensor, device: str | torch.device, dtype: torch.dtype) -> Tensor:
    """A new tensor. On a CPU float16 becomes bfloat16 through float32, a cacheful at a time: torch's own way takes twice as long."""
    if (tensor.dtype, dtype, str(device)) != (torch.float16, torch.bfloat16, "cpu") or tensor.ndim < 2:
        return tensor.to(device=device, dtype=dtype, copy=True)
    out = torch.empty(tensor.shape, dtype=dtype)
    for part, made in zip(tensor.split(64), out.split(64), strict=True):
        made.copy_(part.float())
    return out


def quantise(weight: Tensor, bits: int, group: int | None = None) -> dict[str, Tensor]:
    """`weight` and `weight_scale` of a floating matrix [out, width], one scale per `group` columns or per row.

    8 bits are −127 … 127 of a row's largest number, as published. 4 bits are −8 … 7 of the group's largest number,
    whose sign the scale takes: that number becomes −8, and the steps are an eighth finer than with −7 … 7. Of the
    scales in `SHARES`, which cut the largest numbers off for finer steps, a group takes that of the least squared error.
    """
    # Some rows at a time: the float32 temporaries are twice the weights or more.
    parts = [quantised_rows(rows, bits, group or weight.shape[1]) for rows in weight.split(128)]
    numbers, scale = (torch.cat(made) for made in zip(*parts, strict=True))
    if bits == 4:
        numbers = numbers[:, ::2] << 4 | numbers[:, 1::2] & 15
    return {"weight": numbers, "weight_scale": scale if group else scale[:, 0]}


def quantised_rows(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """int8 numbers [rows, width] and float16 scales [rows, groups]."""
    x = weight.float().unflatten(1, (-1, group))
    low, high = x.aminmax(dim=2, keepdim=True)
    largest = torch.where(high > -low, high, low)
    if bits == 8:
        numbers, scale = nearest(x, largest.abs() / 127, 127, 127)
    else:
        numbers, scale = nearest(x, largest / -8, 8, 7)
        error = (numbers * scale - x).square_().sum(2, keepdim=True)
        for share in SHARES:
            finer, cut = nearest(x, largest * share / -8, 8, 7)
            lost = (finer * cut - x).square_().sum(2, keepdim=True)
            pairs = ((finer, numbers), (cut, scale), (lost, error))
            numbers, scale, error = (torch.where(lost < error, new, old) for new, old in pairs)
    return numbers.flatten(1).to(torch.int8), scale[:, :, 0]


def nearest(x: Tensor, scale: Tensor, least: int, most: int) -> tuple[Tensor, Tensor]:
    """Whole numbers −least … most that are nearest to x at a scale, and the scale as float16 has it."""
    scale = scale.half()
    steps = x / torch.where(scale == 0, 1, scale).float()  # all zeros, or nothing that float16 could scale
    return steps.round_().clamp_(-least, most), scale


def prepack_quantised(model: nn.Module, dtype: torch.dtype, training: bool = False) -> None:
    """Let each quantised layer take the kernel of its device for rows of `dtype`, and rearrange its weights once.

    Those that read the same become one layer. For `training` all stay as they are and multiply by plain torch, which is
    exact and has a gradient. LoadFailed if a layer's stored numbers are not int8.
    """
    for module in [] if training else fusible(model):
        fuse(module)
    layers = linears(model)
    for name, layer in layers.items():
        if layer.weight.dtype != torch.int8:
            raise LoadFailed(
                f"{name}.weight: {str(layer.weight.dtype).removeprefix('torch.')} 不是 int8 (not int8); "
                "请重新下载量化权重，或换用未量化的权重 (download it again, or use unquantised weights)"
            )
        if not training:
            layer.kernel = kernels.choose(kernels.machine_of(layer.weight.device, dtype), layer.form)
    for name, layer in layers.items():
        if layer.kernel.single and layer.form.out > TALL:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, Stacked(layer))
    pack(list(linears(model).values()))


def pack(layers: list[QuantLinear]) -> None:
    layers.sort(key=lambda layer: -layer.weight.numel())  # the largest begin
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # FBGEMM packs a matrix with one
        list(threads.map(QuantLinear.pack, (layer for layer in layers if layer.kernel.single)))
    for layer in layers:
        if not layer.kernel.single:
            layer.pack()


def fuse(module: FusedProjection) -> None:
    """Put the rows of its readers below one another, if they are all of one kind."""
    readers = [module.get_submodule(name) for name in module.readers]
    layers = [layer for layer in readers if isinstance(layer, QuantLinear) and layer.bias is None]
    kinds = {(layer.form.width, layer.form.bits, layer.form.group, layer.weight.dtype) for layer in layers}
    if len(layers) < len(readers) or len(kinds) > 1:
        return
    form = replace(layers[0].form, out=sum(layer.form.out for layer in layers))
    with torch.device("meta"):
        fused = QuantLinear(form, bias=False)
    for part in ("weight", "weight_scale"):
        whole = torch.cat([getattr(layer, part).data for layer in layers])
        setattr(fused, part, nn.Parameter(whole, requires_grad=False))
    module.fuse(fused)


def kernel_of(model: nn.Module) -> str:
    """What the model's layers are multiplied by, as `cpu-int8` or `cpu-int4-g128`; its type if it has 16 or 32 bits."""
    names = {f"{layer.kernel.name}-{layer.form}" for layer in linears(model).values()}
    return "+".join(sorted(names)) or str(next(model.parameters()).dtype).removeprefix("torch.")

"""16- and 32-bit linear layers on a CPU, their weights laid out once as oneDNN reads them fastest.

Otherwise oneDNN reads a matrix row by row for every token, or lays it out anew: for one to eight rows at a time that
takes up to twice as long (`python -m bianque bench decode`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from bianque.errors import BadInput
from bianque.nn.layers import FusedProjection, RMSNorm, fusible
from bianque.nn.quant import QuantLinear

# Weights of a layer, below which calling oneDNN by hand takes longer than it saves; float32 has MKL otherwise.
LEAST = {torch.bfloat16: 1 << 18, torch.float32: 1 << 21}


class PackedLinear(nn.Module):
    """An `nn.Linear` for inference. `weight` is oneDNN's own: it can be multiplied by, and moves to no other device."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight: Tensor | None = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.bias = bias

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[..., width] → [..., out], plus `residual` if it is given."""
        if torch.is_grad_enabled() and x.requires_grad:  # oneDNN would give none, and say nothing
            raise BadInput(
                "PackedLinear: 重排过的权重没有梯度 (packed weights have no gradient); 训练请用 checkpoints.loader.read 读入 "
                "(to train, load with it)"
            )
        run = scripted() if torch.jit.is_tracing() else product
        return run(x, cast(Tensor, self.weight), self.bias, residual)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    if residual is None:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise(x, residual, weight, bias, "add")


@cache
def scripted() -> Callable[..., Tensor]:
    """The same for a trace (`traces.py`), which cannot hold this call's list of no numbers."""
    return torch.jit.script(product)


def fits(linear: nn.Linear, least: Mapping[torch.dtype, int]) -> bool:
    weight = linear.weight
    on_cpu = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    callable_ = hasattr(torch.ops.mkldnn, "_linear_pointwise") and weight.dtype in least
    return on_cpu and callable_ and packable(weight.dtype) and weight.numel() >= least[weight.dtype]


def packable(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies this type on this processor: bfloat16 needs AVX-512 (bw, vl, dq) or AVX-NE-CONVERT."""
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def prepack_linears(model: nn.Module, least: Mapping[torch.dtype, int] = LEAST) -> None:
    """Fuse projections of the same input, and pack every linear layer of at least `least` weights of its type."""
    for module in model.modules():
        if isinstance(module, RMSNorm) and module.weight.device.type == "cpu":
            module.twice = torch.cat((module.weight.data, module.weight.data))
    for module in fusible(model):
        fuse(module)
    # By their names: a list of layers would hold them all until the last one is packed.
    for name in [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and fits(layer, least)]:
        parent, _, child = name.rpartition(".")
        linear = cast(nn.Linear, model.get_submodule(name))
        setattr(model.get_submodule(parent), child, PackedLinear(linear.weight.data, linear.bias))


def fuse(module: FusedProjection) -> None:
    readers = [module.get_submodule(name) for name in module.readers]
    if all(isinstance(linear, nn.Linear) and linear.bias is None and linear.weight.is_cpu for linear in readers):
        fused = torch.cat([cast(Tensor, linear.weight).data for linear in readers])
        with torch.device("meta"):
            linear = nn.Linear(fused.shape[1], fused.shape[0], bias=False)
        linear.weight = nn.Parameter(fused, requires_grad=False)
        module.fuse(linear)


def release(model: nn.Module) -> None:
    """Let go of packed weights, which `to("meta")` does not reach."""
    for module in model.modules():
        if isinstance(module, PackedLinear | QuantLinear) and not isinstance(module.weight, nn.Parameter):
            module.weight = None

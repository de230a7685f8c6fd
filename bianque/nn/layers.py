"""Layers that the architectures share, and attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 4  # rows; with more of them the work outweighs the calls

# (layer, queries, new keys, new values), each [rows, heads, new, size] → what the queries gather.
AttentionFn = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class Linear(nn.Linear):
    """A linear layer that may add a residual: `packed.py` does that in the same call."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = super().forward(x)
        return out if residual is None else residual + out


class RMSNorm(nn.Module):
    """A norm without a mean: its square is taken in float32, rounded, then weighted (T5LayerNorm and Baichuan's).

    `packed.prepack_linears` may store the weight `twice`. (x, −x) has a mean of zero and x's mean square as its variance:
    for a few rows, one call of torch's layer norm replaces ten of a root mean square.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.twice: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        if self.twice is None or x.numel() > FEW * size:
            return self.weight * F.rms_norm(x.float(), (size,), eps=self.eps).to(self.weight.dtype)
        return F.layer_norm(torch.cat((x, -x), dim=-1), (2 * size,), self.twice, None, self.eps)[..., :size]


class FusedProjection(nn.Module):
    """A module some of whose linear layers, its `readers`, have the same input: `project` concatenates their outputs.

    `fuse` replaces them by one layer, `fused`, with their rows below one another.
    """

    readers: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self.fused: nn.Module | None = None

    def project(self, x: Tensor) -> Tensor:
        if self.fused is None:
            return torch.cat([self.get_submodule(name)(x) for name in self.readers], dim=-1)
        return self.fused(x)

    def fuse(self, fused: nn.Module) -> None:
        """One product instead of two or three: the call itself takes as long as reading a small matrix."""
        self.fused = fused
        for name in self.readers:
            delattr(self, name)


def fusible(model: nn.Module) -> list[FusedProjection]:
    """The modules not fused yet (a list of all modules would keep alive what fusing frees)."""
    return [module for module in model.modules() if isinstance(module, FusedProjection) and module.fused is None]


@cache
def prefers_fused_attention(dtype: torch.dtype) -> bool:
    """Whether torch's fused attention is the faster way on this CPU, for a single query.

    In float32 it never loses. In bfloat16 it depends on the instruction set: each way has been three times faster than
    the other. So both are timed once, which takes some milliseconds.
    """
    if dtype == torch.float32:
        return True
    query, keys = (torch.zeros(1, 16, count, 64, dtype=dtype) for count in (1, 256))
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(8):
        for way, seconds in times.items():
            begun = perf_counter()
            F.scaled_dot_product_attention(query, keys, keys) if way else unfused_attention(query, keys, keys, None)
            seconds.append(perf_counter() - begun)
    return min(times[True]) < min(times[False])


def split(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[rows, new, parts · heads · size] → [rows, heads, new, size] for each part."""
    rows, new, _ = x.shape
    if new == 1:  # each call counts in a step
        return x.view(rows, parts, heads, 1, -1).unbind(1)
    return x.view(rows, new, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind()


def merge(x: Tensor) -> Tensor:
    """[rows, heads, new, size] → [rows, new, heads · size]."""
    return x.reshape(x.shape[0], 1, -1) if x.shape[2] == 1 else x.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None = None) -> Tensor:
    """What queries [rows, heads, new, size] gather from keys and values [rows, heads, span, size].

    `bias` broadcasts to [rows, heads, new, span]: added to the scores, or bool, False where attention is masked.
    `scale` multiplies the scores, by default size^-0.5.
    """
    if query.shape[2] > 1 or query.device.type != "cpu" or prefers_fused_attention(query.dtype):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    return unfused_attention(query, key, value, bias, scale)


def unfused_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None = None
) -> Tensor:
    """As `attend`, by two products and a softmax between them."""
    if scale != 1:
        query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = torch.matmul(query, key.transpose(-1, -2))
    if bias is not None:
        scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias
    return torch.matmul(scores.softmax(-1, dtype=torch.float32).to(value.dtype), value)

"""What a quantised matrix is, where it is multiplied, and what a kernel for it holds; which kernels there are is in `kernels`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a layer runs, and in which type its rows come.

    `capability` is CUDA's (major, minor); `int8` says that `torch._int_mm` is there and exact; `x86` that a CPU has AVX2.
    """

    device: str
    dtype: torch.dtype
    capability: tuple[int, int] = (0, 0)
    int8: bool = False
    x86: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """A quantised matrix [out, width]: bits a weight, and how many columns share a scale (None: the whole row)."""

    out: int
    width: int
    bits: int
    group: int | None = None

    def __str__(self) -> str:
        return f"int{self.bits}" + ("" if self.bits == 8 else f"-g{self.group}" if self.group else "-row")


Pack = Callable[[Tensor, Tensor, Form], tuple[Any, Tensor]]
Run = Callable[[Tensor, Any, Tensor, Form], Tensor]


@dataclass(frozen=True, slots=True)
class Kernel:
    """`pack(weight, scale, form)` → the same two in the kernel's own layout, which `few` and `many` take.

    `few(x, weight, scale, form)` multiplies up to `rows` contiguous rows [rows, width] → [rows, out]; `many` more.
    `fits` looks at values alone; `ready` asks this very process, as for a library that may not load. torch's own gradients
    of packed products are wrong or absent (through int8 on a CPU: cosine 0.09), so only `product` may be differentiated.
    """

    name: str
    fits: Callable[[Machine, Form], bool]
    pack: Pack
    few: Run
    many: Run
    rows: int = 0
    ready: Callable[[], bool] = lambda: True
    single: bool = False  # `pack` keeps to one thread: several layers are packed at once
    published: bool = False  # weights stay as they are stored: `transposed` reads them, so there is a gradient

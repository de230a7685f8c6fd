"""How a quantised layer is multiplied: a table of kernels, of which the first that fits is taken.

A kernel rearranges a layer's weights once (`pack`) and multiplies rows by them (`few`, and `many` above `rows` rows at
once: reading a prompt is another task than writing one token). The last entry is plain torch: it fits everywhere and
is exact in float32. Nobody else knows which kernels there are; another one is one more entry.

Weights come in the layout of chatglm-6b-int8 and -int4: int8 [out, width], or two 4-bit columns a byte, the even one
in the high half, [out, width / 2]; both signed. Scales are float16, [out], or [out, width / group] per group of columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bianque.errors import BadInput
from bianque.nn import blocks, cpu
from bianque.nn.form import Form, Kernel, Machine, Run


def machine_of(device: torch.device, dtype: torch.dtype) -> Machine:
    """What `device` can do, for rows of `dtype`."""
    if device.type == "cuda" and torch.version.hip is None:
        capability = torch.cuda.get_device_capability(device)
        return Machine("cuda", dtype, capability, int8=capability >= (7, 5))  # tensor cores take int8 from Turing on
    if device.type != "cpu":
        return Machine(device.type, dtype)
    exact = torch.cpu._is_vnni_supported() and int8_is_exact()
    return Machine("cpu", dtype, int8=exact, x86=torch.backends.cpu.get_cpu_capability().startswith("AVX"))


def int8_is_exact() -> bool:
    """Whether `torch._int_mm` counts right on this CPU: without VNNI, oneDNN's 16-bit partial sums saturate."""
    large = torch.full((16, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(large, -large.T) == -127 * 127 * 64).all())


def numbers(device: torch.device, bits: int) -> torch.dtype:
    """The 16-bit type that a GPU's kernel for a layer of so many bits takes; float16 where there is none."""
    form = Form(4096, 4096, bits, 128 if bits == 4 else None)
    fast = (
        dtype for dtype in (torch.float16, torch.bfloat16) if choose(machine_of(device, dtype), form) is not KERNELS[-1]
    )
    return next(fast, torch.float16)


def choose(machine: Machine, form: Form) -> Kernel:
    """The first kernel of the table that fits and is there."""
    return next(kernel for kernel in KERNELS if kernel.fits(machine, form) and kernel.ready())


def unpacked(weight: Tensor) -> Tensor:
    """4-bit weights [rows, width / 2] as int8 numbers [rows, width]."""
    return torch.stack((weight >> 4, weight << 4 >> 4), dim=-1).flatten(-2)


# Plain torch.


def kept(weight: Tensor, scale: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """Pack nothing."""
    return weight, scale


def plain(x: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    """Dequantise some rows, multiply, go on: never the whole matrix at once."""
    dtype, rows, given = wide(x), at_once(x, form), x.dtype
    if form.bits == 4:  # columns stay as they come apart: first the even ones, then the odd
        x = torch.cat((x[:, ::2], x[:, 1::2]), dim=1)
    x = x.to(dtype)
    parts = zip(weight.split(rows), scale.view(form.out, -1).split(rows), strict=True)
    return torch.cat([F.linear(x, dequantised(part, s, form, dtype)) for part, s in parts], dim=1).to(given)


def transposed(grad: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    """The gradient [rows, width] of what is multiplied, from that of the product [rows, out]; in parts, as `plain`."""
    dtype, rows, given = wide(grad), at_once(grad, form), grad.dtype
    parts = zip(grad.to(dtype).split(rows, 1), weight.split(rows), scale.view(form.out, -1).split(rows), strict=True)
    first, *others = parts
    out = first[0] @ dequantised(first[1], first[2], form, dtype)
    for some, part, s in others:
        out.addmm_(some, dequantised(part, s, form, dtype))
    if form.bits == 4:  # first the even columns, then the odd
        out = torch.stack(out.chunk(2, dim=1), dim=-1).flatten(1)
    return out.to(given)


class Product(torch.autograd.Function):
    """A kernel's product with its exact gradient; keeps nothing but the stored weights, which are there anyway."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, form: Form, run: Run) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.form = form
        return run(x, weight, scale, form)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        weight, scale = ctx.saved_tensors
        return transposed(grads[0], weight, scale, ctx.form), None, None, None, None


def product(kernel: Kernel, x: Tensor, weight: Any, scale: Tensor, form: Form) -> Tensor:
    """Contiguous rows [rows, width] → [rows, out]. BadInput if a gradient is wanted and the kernel has none."""
    run = kernel.few if len(x) <= kernel.rows else kernel.many
    if not (torch.is_grad_enabled() and x.requires_grad):
        return run(x, weight, scale, form)
    if not kernel.published:
        raise BadInput(
            f"{kernel.name}-{form}: 这个算子没有梯度 (this kernel has no gradient); 训练请用 checkpoints.loader.read(…, "
            "training=True) 读入 (to train, load with it)"
        )
    return Product.apply(x, weight, scale, form, run)


def dequantised(weight: Tensor, scale: Tensor, form: Form, dtype: torch.dtype) -> Tensor:
    """Rows of a matrix as `dtype`; of 4-bit ones first the even columns, then the odd. scale [rows, groups]."""
    if form.bits == 8:
        return scaled(weight, scale, dtype)
    halves = torch.cat((weight >> 4, weight << 4 >> 4), dim=1).view(2 * len(weight), -1)
    return scaled(halves, scale.repeat_interleave(2, dim=0), dtype).view(len(weight), -1)


def scaled(numbers: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 [rows, columns] times scale [rows, groups]."""
    grouped = numbers.to(dtype).view(*scale.shape, -1)
    return grouped.mul_(scale.to(dtype)[:, :, None]).view(numbers.shape)


def wide(x: Tensor) -> torch.dtype:
    """The type to multiply dequantised weights in: CPUs are slow at 16 bits unless they have instructions for it."""
    native = x.dtype == torch.bfloat16 and cpu.has_bfloat16()
    return x.dtype if x.device.type != "cpu" or native else torch.promote_types(x.dtype, torch.float32)


AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 26}  # weights that are dequantised together


def at_once(x: Tensor, form: Form) -> int:
    """Rows to dequantise at a time, a multiple of 64: what stays in a CPU's cache, or some launches on a GPU."""
    return max(64, AT_ONCE["cpu" if x.device.type == "cpu" else "cuda"] // form.width // 64 * 64)


# int8 through integer products: the weights are read as they are, whatever the number of rows.


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as two signed int8 digits, `x ≈ unit · (high + low / 254)`: int8 [2 · rows, width], float32 [rows, 1].

    The error is at most a 64516th of a row's largest number; bfloat16 rounds each by up to a 512th of its own.
    """
    unit = x.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127
    x = x / unit
    high = x.round()
    return torch.cat((high, (x - high).mul_(254).round_())).to(torch.int8), unit


def joined(product: Tensor, unit: Tensor) -> Tensor:
    """What the products [2 · rows, out] of the digits stand for, float32 [rows, out]."""
    high, low = product.float().chunk(2)
    return high.add_(low, alpha=1 / 254).mul_(unit)


def digits(x: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    """Some rows at a time, because their 32-bit products are large."""
    return torch.cat([digit_product(part, weight).mul_(scale).to(x.dtype) for part in x.split(128)])


def digit_product(x: Tensor, weight: Tensor) -> Tensor:
    both, unit = split(x)
    if x.is_cuda:  # cuBLAS wants more than 16 rows
        both = F.pad(both, (0, 0, 0, -len(both) % 32))
    return joined(torch._int_mm(both, weight.T)[: 2 * x.shape[0]], unit)


# CPU, bfloat16.


def vnni_pack(weight: Tensor, scale: Tensor, form: Form) -> tuple[Any, Tensor]:
    """The weights as FBGEMM or oneDNN reads them fastest, which is no tensor."""
    none, least = torch.zeros(form.out, dtype=torch.long), 1e-30
    given = torch._make_per_channel_quantized_tensor(weight, scale.float().clamp(min=least), none, 0)
    return torch.ops.quantized.linear_prepack(given, None), scale


def vnni(x: Tensor, weight: Any, scale: Tensor, form: Form, reduced: bool = False) -> Tensor:
    """Rows go to 8 bits on their way in, `reduced` to 7, each with a scale of its own; one row is one call.

    torch gives all rows one scale. So each is brought to a largest number of 1, and a further row has 1 and −1: no
    row's scale depends on its neighbours, and one that is not finite harms none of them.
    """
    if len(x) == 1:
        return torch.ops.quantized.linear_dynamic(x.float(), weight, reduced).to(x.dtype)
    unit = x.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    ends = F.pad(torch.tensor([[-1.0, 1.0]]), (0, form.width - 2))
    rows = torch.cat(((x / unit).nan_to_num_(0, 0, 0), ends))
    return torch.ops.quantized.linear_dynamic(rows, weight, reduced)[:-1].mul_(unit).to(x.dtype)


def avx2(x: Tensor, weight: Any, scale: Tensor, form: Form) -> Tensor:
    """The same without VNNI: the instructions of before add pairs of products in 16 bits, which 7-bit rows never overflow."""
    return vnni(x, weight, scale, form, reduced=True)


@cache
def linear_is_right(run: Run) -> bool:
    """Whether this torch still has the calls of `vnni` or `avx2`, and they count right."""
    form, number = Form(16, 64, 8), torch.arange(16 * 64).view(16, 64)
    weight, scale = (number * 37 % 255 - 127).to(torch.int8), torch.ones(16)
    x = (number[:2] * 53 % 255 - 127).float()
    x[:, 0] = -127
    x[:, 1] = 127
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once that it will do without these one day
            found = run(x, *vnni_pack(weight, scale, form), form)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    exact = x @ weight.float().T
    return bool((found - exact).norm() < 0.03 * exact.norm())


def int8_cpu(weight: Tensor, scale: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    return weight, scale.bfloat16()


def int8_few(x: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    return torch._weight_int8pack_mm(x, weight, scale)


def span(form: Form) -> int | None:
    """The group size a packed 4-bit kernel is given: one scale a row is repeated. None: it can take no such rows."""
    sizes = (256, 128, 64, 32)
    found = next((size for size in sizes if form.width % size == 0), None) if form.group is None else form.group
    return found if found in sizes else None


def scales_and_zeros(scale: Tensor, form: Form) -> Tensor:
    """[width / span, out, 2] bfloat16, as packed 4-bit kernels read them: w = (n − 8) · scale + zero, n from 0 to 15."""
    size = span(form)
    assert size is not None, form
    each = scale.view(form.out, -1).expand(-1, form.width // size).T
    return torch.stack((each, torch.zeros_like(each)), dim=-1).bfloat16().contiguous()


def int4_cpu(weight: Tensor, scale: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    block = blocks.packed_block()
    if block and form.out % block == 0:
        return blocks.blocked(weight, block), scales_and_zeros(scale, form)
    # A part at a time: torch takes 32 bits a weight here, eight times what the layer needs.
    parts = (unpacked(part).int() + 8 for part in weight.split(1024))
    packed = torch.cat([torch._convert_weight_to_int4pack_for_cpu(part, 2) for part in parts])
    return packed, scales_and_zeros(scale, form)


def int4_few(x: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    return torch._weight_int4pack_mm_for_cpu(x, weight, form.width // len(scale), scale)


def int4_many(x: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    """The packed kernel takes as long for each row; a whole prompt is faster through dequantised weights."""
    block = blocks.packed_block()
    if not block or form.out % block:
        return int4_few(x, weight, scale, form)
    dtype = wide(x)
    parts = [F.linear(x.to(dtype), scaled(*part, dtype)) for part in int4_parts(weight, scale, form, block)]
    return torch.cat(parts, dim=1).to(x.dtype)


def int4_digits(x: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    """As `int4_many`, through integer products: two to three times as fast where the CPU has them."""
    block = blocks.packed_block()
    if not block or form.out % block:
        return int4_few(x, weight, scale, form)
    (both, unit), out = split(x), []
    for part in int4_parts(weight, scale, form, block):
        numbers, each = evened(*part)
        out.append(joined(torch._int_mm(both, numbers.T), unit).mul_(each).to(x.dtype))
    return torch.cat(out, dim=1)


def evened(numbers: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """4-bit numbers [rows, columns] with scales [rows, groups] as int8 numbers with a scale a row, float32 [rows].

    What the rounding adds to the error is a 12th of what 4 bits have lost, of weights drawn from a normal distribution.
    """
    each = scale.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-30) * (8 / 127)
    steps = (scale.float() / each * 256).round_().to(torch.int16)  # in 256ths: −8 … 7 of them stay within 16 bits
    wide = numbers.to(torch.int16).view(*scale.shape, -1).mul_(steps[:, :, None])
    return (wide.add_(128) >> 8).to(torch.int8).view(numbers.shape), each[:, 0]


def int4_parts(weight: Tensor, scale: Tensor, form: Form, block: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A packed matrix some rows at a time: numbers −8 … 7, int8 [rows, width], and scales [rows, width / span]."""
    rows = at_once(weight, form)
    for part, s in zip(weight.split(rows), scale[..., 0].T.split(rows), strict=True):
        yield blocks.unblocked(part, block).sub_(8).view(torch.int8), s


# CUDA.


def tinygemm_pack(weight: Tensor, scale: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    tiles = next(tiles for tiles in (8, 4, 2) if form.width % (16 * tiles) == 0)
    # Signed to unsigned, −8 … 7 to 0 … 15, is one bit of each half; the order of columns is the same.
    unsigned = (weight ^ -0x78).view(torch.uint8)
    return torch._convert_weight_to_int4pack(unsigned, tiles), scales_and_zeros(scale, form)


def tinygemm(x: Tensor, weight: Tensor, scale: Tensor, form: Form) -> Tensor:
    return torch._weight_int4pack_mm(x, weight, form.width // len(scale), scale)


def cpu_fits(machine: Machine, form: Form, bits: int) -> bool:
    # Off multiples of 16, torch's int8 kernel reads past the end of the weights and its int4 packing refuses.
    even = form.width % 16 == 0 if bits == 8 else form.out % 16 == 0 and span(form) is not None
    return machine.device == "cpu" and machine.dtype == torch.bfloat16 and form.bits == bits and even


def cuda_fits(machine: Machine, form: Form, bits: int, *dtypes: torch.dtype) -> bool:
    aligned = form.out % 8 == 0 and form.width % 8 == 0
    return machine.device == "cuda" and machine.dtype in dtypes and form.bits == bits and aligned


# Rows at which `many` overtakes `few` were measured on one thread of an AVX-512 server CPU, 4096 × 4096; on CUDA an H100.
KERNELS = (
    Kernel("cpu", lambda m, f: cpu_fits(m, f, 4) and m.int8, int4_cpu, int4_few, int4_digits, rows=64),
    Kernel("cpu", lambda m, f: cpu_fits(m, f, 4), int4_cpu, int4_few, int4_many, rows=64),
    Kernel(
        "cpu-vnni",
        lambda m, f: m.device == "cpu" and m.dtype == torch.bfloat16 and m.int8 and f.bits == 8 and f.width > 1,
        vnni_pack, vnni, vnni, ready=lambda: linear_is_right(vnni), single=True,
    ),
    # 4096 × 4096 on two AVX2 cores against the two below: 1 row 0.8 against 1.1 ms, 8 1.8 and 3.6, 64 10 and 33.
    Kernel(
        "cpu-avx2",
        lambda m, f: m.device == "cpu" and m.dtype == torch.bfloat16 and m.x86 and not m.int8 and f.bits == 8 and f.width > 1,
        vnni_pack, avx2, avx2, ready=lambda: linear_is_right(avx2), single=True,
    ),
    Kernel("cpu", lambda m, f: cpu_fits(m, f, 8) and m.int8, int8_cpu, int8_few, digits, rows=4, published=True),
    Kernel("cpu", lambda m, f: cpu_fits(m, f, 8), int8_cpu, int8_few, plain, rows=32, published=True),
    Kernel(
        "cuda-tinygemm",
        lambda m, f: cuda_fits(m, f, 4, torch.bfloat16) and m.capability >= (8, 0) and span(f) is not None,
        tinygemm_pack, tinygemm, tinygemm,
    ),
    # On an H100 half the time of `plain` for a few rows of float16; bfloat16 rows lose more on their way to digits.
    Kernel("cuda", lambda m, f: cuda_fits(m, f, 8, torch.float16) and m.int8, kept, digits, plain, rows=128,
           published=True),
    Kernel("plain", lambda m, f: True, kept, plain, plain, published=True),
)  # fmt: skip

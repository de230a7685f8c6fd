"""How torch lays packed 4-bit weights out on this CPU: in blocks of rows, which is nobody's promise and so looked up."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def blocked(weight: Tensor, block: int) -> Tensor:
    """Published 4-bit rows [rows, width / 2] as torch packs them, uint8: what `unblocked` takes apart, at a fifth of the time."""
    out = torch.empty_like(weight, dtype=torch.uint8)
    for part, made in zip(weight.split(block), out.split(block), strict=True):
        # −8 … 7 to 0 … 15 is one bit of each half.
        low, high = (part.view(torch.uint8) ^ 0x88).view(2, block // 2, -1)
        pairs = made.view(-1, 2, block // 2)
        pairs[:, 0] = (low >> 4 | high & 0xF0).T
        pairs[:, 1] = (low & 15 | high << 4).T
    return out


def unblocked(weight: Tensor, block: int) -> Tensor:
    """Packed rows [rows, width / 2] as numbers 0 to 15, uint8 [rows, width], if they lie in blocks of `block`.

    A block holds its columns one after another; a byte of it two rows, `block / 2` apart, the lower in the low half.
    """
    bytes_ = weight.view(len(weight) // block, -1, block // 2).transpose(1, 2).contiguous()
    return torch.cat((bytes_ & 15, bytes_ >> 4), dim=1).view(len(weight), -1)


@cache
def packed_block() -> int:
    """Rows in a block of torch's packed layout, which depends on the CPU and is nobody's promise; 0 if it is another."""
    numbers = torch.arange(128 * 32).view(128, 32) * 1103515245 >> 16 & 15  # no two rows or columns are alike
    found = torch._convert_weight_to_int4pack_for_cpu(numbers.int(), 2)
    return next((block for block in (64, 32) if torch.equal(unblocked(found, block).long(), numbers)), 0)

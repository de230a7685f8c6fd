"""Models of the true shapes with random weights, made in memory: what a benchmark runs when no checkpoint is there."""

from __future__ import annotations

import json
import math
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bianque.catalog.builtin import by_name
from bianque.checkpoints import loader
from bianque.checkpoints.hub import BUNDLED
from bianque.errors import OutOfMemory
from bianque.models.base import LanguageModel
from bianque.models.tokenizers import Tokenizer
from bianque.nn import cpu, packed, quant
from bianque.types import Bits

# By architecture: the published shape (`of` says whose), what makes it tiny, and the bundled model of it.
SHAPES: Mapping[str, Any] = json.loads(Path(__file__).with_name("shapes.json").read_text("utf-8"))
PRECISIONS: Mapping[str, tuple[Bits, torch.dtype]] = {
    "fp32": (16, torch.float32), "bf16": (16, torch.bfloat16), "fp16": (16, torch.float16),
    "int8": (8, torch.bfloat16), "int4": (4, torch.bfloat16),
}  # fmt: skip
UNREAD = {
    "t5": r"shared|encoder\..*|.*\.EncDecAttention\.([kv]|fused)",
    "chatglm": r".*\.word_embeddings",
}  # by a further token
GRAIN = 1_048_573  # random numbers that repeat; prime, so that no two rows of a matrix begin alike


def config_of(arch: str, size: str = "true", layers: int | None = None) -> dict[str, Any]:
    """`config.json` of a size, with fewer layers where a machine holds no more of them."""
    config: dict[str, Any] = SHAPES[arch]["true"] | SHAPES[arch].get(size, {})
    if size == "mini" and "bundled" in SHAPES[arch]:
        config = json.loads((BUNDLED / SHAPES[arch]["bundled"] / "config.json").read_text())
    counts = ("num_layers", "num_decoder_layers", "num_hidden_layers")
    return config | ({name: layers for name in config if name in counts} if layers else {})


def noise(shapes: Mapping[str, torch.Size]) -> Iterator[tuple[str, Tensor]]:
    """Float32 weights: fan-in scaled matrices, norms of one, biases of zero.

    T5 does not divide scores by the root of a head's width (64): its queries are drawn that much smaller, or every
    softmax would be all but a choice and each rounding another choice.

    A matrix begins in the numbers where its name says. CTranslate2's converter stores matrices that are alike once, and
    would read less for a token than is counted.
    """
    grain = torch.randn(GRAIN, generator=torch.Generator().manual_seed(0))
    for name, shape in shapes.items():
        if len(shape) == 1:
            yield name, torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
        else:
            size, begin = math.prod(shape), zlib.crc32(name.encode()) % GRAIN
            std = shape[1] ** -0.5 * (1 / 8 if name.endswith("Attention.q.weight") else 1)
            yield name, (grain.repeat(-(-(begin + size) // GRAIN))[begin : begin + size] * std).view(shape)


def skeleton(config: Mapping[str, Any], arch: str, bits: int) -> tuple[nn.Module, Tokenizer]:
    """The model without weights, and the tokenizer of a bundled one."""
    card = by_name()[SHAPES[arch]["bundled"]]
    kind = loader.ARCHITECTURES[arch]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / kind.vocabulary).write_bytes((BUNDLED / card.name / kind.vocabulary).read_bytes())
        return loader.skeleton(card, folder, cast(Bits, bits))


def random_model(config: Mapping[str, Any], arch: str, precision: str, device: str) -> tuple[LanguageModel, Tokenizer]:
    """The model as it is served at this precision, and the tokenizer of a bundled one."""
    model, tokenizer = filled(config, arch, precision, device)
    quant.prepack_quantised(model, PRECISIONS[precision][1])
    packed.prepack_linears(model)
    return cast(LanguageModel, model.eval().requires_grad_(False)), tokenizer


def trainable(config: Mapping[str, Any], arch: str, precision: str, device: str) -> nn.Module:
    """The model as `tune` reads it: its quantised layers keep a gradient."""
    model, _ = filled(config, arch, precision, device)
    quant.prepack_quantised(model, PRECISIONS[precision][1], training=True)
    return model.requires_grad_(False)


def filled(config: Mapping[str, Any], arch: str, precision: str, device: str) -> tuple[nn.Module, Tokenizer]:
    """The model with its weights, as they are stored."""
    bits, dtype = PRECISIONS[precision]
    whole, _ = skeleton(config, arch, 16)
    model, tokenizer = skeleton(config, arch, bits)
    check_memory({name: parameter.shape for name, parameter in whole.named_parameters()}, precision, device)
    layers = quant.linears(model)
    found: dict[str, Tensor] = {}
    for name, tensor in noise({name: parameter.shape for name, parameter in whole.named_parameters()}):
        found |= quant.convert_tensor(layers, name, tensor, device, dtype)
    model.load_state_dict(found, assign=True)
    found.clear()  # a layer that is rearranged leaves its former weights behind
    return model, tokenizer


def check_memory(shapes: Mapping[str, torch.Size], precision: str, device: str) -> None:
    """OutOfMemory before anything is made that would not fit: a process that takes too much is ended without a word."""
    bits, dtype = PRECISIONS[precision]
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    wide = sum(size for name, size in sizes.items() if bits == 16 or "embed" in name or name == "shared.weight")
    needed = wide * dtype.itemsize + (sum(sizes.values()) - wide) * bits // 8
    drawn = 3 * 4 * max(sizes.values())  # the largest matrix while it is made
    try:
        free = cpu.available_memory()
    except OutOfMemory:  # nobody says
        return
    if (device == "cpu" and needed + drawn > free) or drawn > free:
        least = needed + drawn if device == "cpu" else drawn
        raise OutOfMemory(
            f"{precision}: 随机权重需要 {least / 1e9:.1f} GB 内存，空闲 {free / 1e9:.1f} GB；请用 --layers 减少层数，或换 int8、int4 "
            "(the weights need more memory than is free: give fewer --layers, or another --precision)"
        )


def bytes_read(model: nn.Module, arch: str) -> int:
    """Bytes of weights that one more token reads."""
    size = 0
    for name, module in model.named_modules():
        if re.fullmatch(UNREAD[arch], name):
            continue
        for part in (getattr(module, "weight", None), getattr(module, "weight_scale", None)):
            if isinstance(part, Tensor):
                size += part.numel() * part.element_size()
            elif part is not None:  # a kernel's own layout
                size += module.form.out * module.form.width * module.form.bits // 8
    return size

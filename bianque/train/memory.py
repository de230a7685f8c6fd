"""What a training run needs in memory, before it begins, and what brings it down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bianque.errors import OutOfMemory
from bianque.models.chatglm import ChatGLM, layout
from bianque.nn import cpu, kernels, quant
from bianque.train import low_rank
from bianque.train.learners import learner_of, summed_loss
from bianque.train.plan import TunePlan
from bianque.train.samples import Sample

TRAINED = 16  # bytes of a weight that is trained: itself, its gradient and AdamW's two moments, 32 bits each
LOGITS = 4  # of float32 at once: themselves in both types, what the loss makes of them, their gradient
DEQUANTISED = 8  # bytes of a weight that is dequantised, with its copy
SPARE = 1.1  # what the system, the libraries and the allocator take beside


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes: weights that are only read, weights that are trained, and what one batch leaves for its gradient."""

    frozen: int
    trained: int
    batch: int

    @property
    def total(self) -> int:
        return int((self.frozen + self.trained + self.batch) * SPARE)

    def __str__(self) -> str:
        parts = f"{gb(self.frozen)} 冻结的权重 (frozen), {gb(self.trained)} 训练的 (trained), {gb(self.batch)} 一批 (a batch)"
        return f"约 {gb(self.total)} (about; {parts})"


def gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def estimate(skeleton: Callable[[int], nn.Module], longest: Sample, plan: TunePlan, dtype: torch.dtype) -> Need:
    """What `plan` needs, with batches as long as `longest`. `skeleton` gives the model of so many bits without weights.

    A batch is counted by running it on torch's "meta" device, which has shapes and no numbers.
    """
    model = skeleton(plan.bits if plan.lora else 16)
    numbers = dtype.itemsize
    if plan.lora:
        low_rank.put(model, low_rank.targets(model, learner_of(model).attention, plan.targets), plan.lora, 1, 0, 0)
    else:
        model.requires_grad_(True)
    weights = list(model.parameters())
    frozen = sum(w.numel() * (1 if w.dtype == torch.int8 else numbers) for w in weights if not w.requires_grad)
    trained = TRAINED * sum(w.numel() for w in weights if w.requires_grad)
    for weight in weights:
        if weight.is_floating_point() and not weight.requires_grad:
            weight.data = weight.data.to(dtype)
    packed = max((layer.form.out * layer.form.width for layer in quant.linears(model).values()), default=0)
    return Need(frozen, trained, batch_bytes(model, longest, plan) + DEQUANTISED * min(packed, kernels.AT_ONCE["cuda"]))


def batch_bytes(model: Any, longest: Sample, plan: TunePlan) -> int:
    """Bytes that a forward pass leaves for the backward one, and its logits with their gradient."""
    learner = learner_of(model)
    rows = [cut(longest, plan.length)] * plan.batch
    batch = learner.batch(rows)
    if isinstance(model, ChatGLM):  # whose layout looks at the numbers
        batch |= dict(zip(("positions", "mask"), layout(batch["ids"], model.config), strict=True))
    # Here attention keeps its scores; fused attention, which a decoder's takes elsewhere, does not.
    scores = len(rows) * model.config.num_attention_heads * batch["ids"].shape[1] ** 2 if model.decoder_only else None
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own and x.numel() != scores:
            kept[storage._cdata] = storage  # held, so that no other gets its place
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        summed_loss(learner, batch, "meta", bf16=False)
    found = sum(storage.nbytes() for storage in kept.values())
    facts = model.config
    if plan.checkpointing:  # a block's input each, and one block at a time
        layers = getattr(facts, "num_layers", 0) + getattr(facts, "num_decoder_layers", 0) or facts.num_hidden_layers
        width = getattr(facts, "d_model", 0) or facts.hidden_size
        found = found // layers + layers * len(rows) * rows[0].length * width * 4
    return found + LOGITS * len(batch["wanted"]) * facts.vocab_size * 4


def cut(sample: Sample, length: int) -> Sample:
    """The sample in at most so many tokens; a prompt keeps its end, where its markers are."""
    reply = sample.reply[: max(1, length // 2)]
    return Sample(sample.prompt[-max(8, length - len(reply)) :], reply)


def available(device: str) -> int:
    return torch.cuda.mem_get_info()[0] if device != "cpu" else cpu.available_memory()


def check(need: Callable[[TunePlan], Need], plan: TunePlan, device: str, say: Callable[[str], None]) -> None:
    """OutOfMemory before anything is loaded, with the options that bring it down and to what."""
    room, wanted = available(device), need(plan)
    say(f"内存 (memory): {wanted}，可用 (free) {gb(room)}")
    if wanted.total <= room:
        return
    lines = [f"{options}: {gb(found.total)}" for options, found in remedies(need, plan)]
    raise OutOfMemory(
        f"训练需要 {wanted}，只有 {gb(room)} (training needs more than is free). 可以改用 (choose): " + "; ".join(lines)
    )


def remedies(need: Callable[[TunePlan], Need], plan: TunePlan) -> Sequence[tuple[str, Need]]:
    """Options by what they change, one upon the other."""
    steps: list[tuple[str, dict[str, int | bool]]] = []
    if not plan.lora:
        steps.append(("--lora 8", {"lora": 8}))
    steps += [
        ("--checkpointing", {"checkpointing": True}),
        (
            f"--batch 1 --accumulate {plan.batch * plan.accumulate}",
            {"batch": 1, "accumulate": plan.batch * plan.accumulate},
        ),
        ("--length 256", {"length": min(256, plan.length)}),
        ("--bits 8", {"bits": 8}),
        ("--bits 4", {"bits": 4}),
    ]
    found: list[tuple[str, Need]] = []
    named = ""
    for words, changes in steps:
        if any(getattr(plan, name) != value for name, value in changes.items()) and not (
            words == "--bits 8" and plan.bits == 4
        ):
            plan = replace(plan, **changes)  # type: ignore[arg-type]
            named = f"{named.replace('--bits 8', '').strip()} {words}".strip()
            found.append((named, need(plan)))
    return found

"""What an architecture learns from: samples as padded batches, and the logits of a reply's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bianque.catalog import prompts
from bianque.models.baichuan import Baichuan
from bianque.models.chatglm import ChatGLM, layout
from bianque.models.t5 import T5
from bianque.train import samples
from bianque.train.samples import Sample


class T5Learner:
    """The encoder reads the prompt; the decoder begins with its start token and learns every token of the reply."""

    escape: Callable[[str], str] = staticmethod(prompts.t5_escape)
    attention = r".*\.(q|v)"  # the linear layers that a LoRA of `attention` changes
    model: T5

    @staticmethod
    def shape(sample: Sample) -> tuple[int, ...]:
        return len(sample.prompt), len(sample.reply) + 1

    def batch(self, rows: Sequence[Sample]) -> dict[str, Tensor]:
        facts = self.model.config
        target = pad([[facts.decoder_start_token_id, *row.reply] for row in rows], -100)
        wanted = target[:, 1:].flatten()
        where = (wanted >= 0).nonzero().flatten()
        source = pad([row.prompt for row in rows], facts.pad_token_id)
        return {"source": source, "target": target[:, :-1].clamp(min=0), "where": where, "wanted": wanted[where]}

    def logits(self, source: Tensor, target: Tensor, where: Tensor) -> Tensor:
        encoded, visible = self.model.encode(source)
        hidden = self.model.decode(target, self.model.cross(encoded), visible)
        return self.model.head(hidden.flatten(0, 1)[where])

    def save_memory(self) -> None:
        """Keep of each block its input alone, and work it out again for the gradient."""
        for stack, way in ((self.model.encoder, "read"), (self.model.decoder, "write")):
            for block in stack.block:
                setattr(block, way, partial(checkpoint, getattr(block, way), use_reentrant=False))


class DecoderLearner:
    """Prompt and reply are one text, padded on the right, where causality hides it; only the reply is learned."""

    escape: Callable[[str], str] = staticmethod(str)
    attention = r".*\.(query_key_value|W_pack)"
    model: Any

    @staticmethod
    def shape(sample: Sample) -> tuple[int, ...]:
        return (sample.length,)

    def batch(self, rows: Sequence[Sample]) -> dict[str, Tensor]:
        ids = pad([row.prompt + row.reply for row in rows], -100)
        column = torch.arange(ids.shape[1])
        start = torch.tensor([len(row.prompt) for row in rows])[:, None]
        reply = (column >= start) & (ids >= 0)
        where = reply[:, 1:].flatten().nonzero().flatten()
        ids = ids.clamp(min=0)
        return {"ids": ids, "where": where, "wanted": ids[:, 1:].flatten()[where]}

    def logits(self, ids: Tensor, where: Tensor, **layout: Tensor) -> Tensor:
        hidden = self.hidden(ids, **layout)
        return self.model.lm_head(hidden[:, :-1].flatten(0, 1)[where])

    def hidden(self, ids: Tensor) -> Tensor:
        return self.model.hidden(ids)

    def save_memory(self) -> None:
        """As `T5Learner.save_memory`."""
        layers = (self.model.transformer if isinstance(self.model, ChatGLM) else self.model.model).layers
        for layer in layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


class ChatGLMLearner(DecoderLearner):
    """The prompt sees itself whole and never the reply."""

    model: ChatGLM

    def hidden(self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        if positions is None:
            positions, mask = layout(ids, self.model.config)
        return self.model.hidden(ids, positions, mask)


Learner = T5Learner | DecoderLearner
LEARNERS: dict[type[nn.Module], type[Learner]] = {T5: T5Learner, ChatGLM: ChatGLMLearner, Baichuan: DecoderLearner}


def learner_of(model: nn.Module) -> Learner:
    found = LEARNERS[type(model)]()
    found.model = model
    return found


def pad(rows: Sequence[list[int]], fill: int) -> Tensor:
    """[rows, longest] int64, padded on the right."""
    width = samples.padded(max(map(len, rows)))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def summed_loss(learner: Learner, batch: dict[str, Tensor], device: str, bf16: bool = True) -> Tensor:
    """Negative log-likelihood of the replies' tokens, added up; in bfloat16 where torch holds that to be safe."""
    there = {name: part.to(device, non_blocking=True) for name, part in batch.items()}
    wanted = there.pop("wanted")
    # There is nothing to cast where nothing is computed (`memory.py` counts on "meta").
    with torch.autocast("cpu" if device == "meta" else torch.device(device).type, torch.bfloat16, enabled=bf16):
        logits = learner.logits(**there)
    return F.cross_entropy(logits.float(), wanted, reduction="sum")

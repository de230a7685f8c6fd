"""T5 v1.1 (encoder–decoder, gated GELU, relative position biases), natively: BianQue-1.0 and ask-mini.

The encoder reads the dialogue once; the decoder writes the reply looking at it through cross-attention. Attention
scores are not divided by sqrt(d) and carry a learned bias that depends on the bucketed distance of the two tokens;
the first layer of each stack owns the table and the others reuse it. Norms are RMS without a mean, nothing has a bias.

Facts from the T5 paper (arXiv 1910.10683) and transformers' ``modeling_t5.py``; parameter names are the checkpoint's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bianque.models.base import Decoding, embedding
from bianque.nn.cache import Cache, StepInputs
from bianque.nn.layers import FusedProjection, Linear, RMSNorm, attend, merge, split

Keep = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class T5Config:
    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    feed_forward_proj: str = "gated-gelu"
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    tie_word_embeddings: bool = True
    pad_token_id: int = 0
    eos_token_id: int = 1
    decoder_start_token_id: int = 0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> T5Config:
        """Read a Hub `config.json`; ValueError if its feed-forward is not the gated GELU of T5 v1.1."""
        known = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}
        if "scale_decoder_outputs" in raw:  # transformers 5 writes tie_word_embeddings=true for every T5 and means this
            known["tie_word_embeddings"] = raw["scale_decoder_outputs"]
        config = cls(**{"num_decoder_layers": raw["num_layers"], **known})
        if config.feed_forward_proj != "gated-gelu":
            raise ValueError(f"feed_forward_proj is {config.feed_forward_proj!r}; only 'gated-gelu' (T5 v1.1) is known")
        return config


class T5Cache:
    """What the decoder looks back at: its own keys and values, and those of the encoder's output, a slot each.

    `near` [reply, heads] are its relative biases by distance.
    """

    def __init__(self, config: T5Config, slots: int, prompt: int, near: Tensor) -> None:
        layers, heads, size = config.num_decoder_layers, config.num_heads, config.d_kv
        self.near, reply, like = near, len(near), near
        self.own = Cache(layers, slots, heads, reply, size, like)
        self.cross = Cache(layers, slots, heads, prompt, size, like)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that a step reads and writes here, but for the biases, which are the model's."""
        return *self.own.tensors, *self.cross.tensors

    def with_tensors(self, tensors: Sequence[Tensor]) -> T5Cache:
        """The same slots in other tensors of these shapes."""
        other = copy(self)
        other.own, other.cross = self.own.with_tensors(tensors[:2]), self.cross.with_tensors(tensors[2:])
        return other

    def mark(self, slot: int) -> Any:
        return self.own.mark(slot), self.cross.mark(slot)

    def copy(self, source: int, target: int, mark: Any) -> None:
        self.own.copy(source, target, mark[0])
        self.cross.copy(source, target, mark[1])

    @property
    def limits(self) -> tuple[int, ...]:
        return self.own.length, self.cross.length

    def step_inputs(self, first: int, count: int) -> StepInputs:
        """Of the next token of each slot: its place in the reply, and the prompt's last one."""
        rows = slice(first, first + count)
        own, last = self.own.filled[rows], [filled - 1 for filled in self.cross.filled[rows]]
        return StepInputs(first, torch.tensor([own, last], device=self.own.keys.device), (max(own) + 1, max(last) + 1))

    def advance(self, first: int, count: int) -> None:
        self.own.advance(first, count)

    def wipe(self, slot: int) -> None:
        self.own.wipe(slot)
        self.cross.wipe(slot)


def buckets(distance: Tensor, config: T5Config, two_sided: bool) -> Tensor:
    """Bucket of key position minus query position: exact when near, logarithmic up to the maximum distance."""
    count, offset = config.relative_attention_num_buckets, torch.zeros_like(distance)
    if two_sided:
        count //= 2
        offset = (distance > 0) * count
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = count // 2
    spread = math.log(config.relative_attention_max_distance / exact)
    far = exact + (torch.log(distance.clamp(min=1).float() / exact) / spread * (count - exact)).long()
    return offset + torch.where(distance < exact, distance, far.clamp(max=count - 1))


class Attention(FusedProjection):
    """Over the text itself, or a decoder's over the encoder's output, where the queries come from elsewhere."""

    def __init__(self, config: T5Config, biased: bool, cross: bool = False) -> None:
        super().__init__()
        self.readers = ("k", "v") if cross else ("q", "k", "v")
        inner = config.num_heads * config.d_kv
        self.config, self.heads = config, config.num_heads
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = Linear(inner, config.d_model, bias=False)
        if biased:
            self.relative_attention_bias = embedding(config.relative_attention_num_buckets, config.num_heads)

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the readers make of x, [batch, heads, new, d_kv] each."""
        return split(self.project(x), len(self.readers), self.heads)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        """Plus the residual x [batch, new, d_model]; bias (or bool mask) broadcastable to [batch, heads, new, seen]."""
        out = attend(query, key, value, bias, scale=1.0)
        return self.o(merge(out), x)

    def bias(self, query: Tensor, key: Tensor, two_sided: bool) -> Tensor:
        """Relative biases [rows, heads, queries, keys] of query positions [rows, queries] and key positions [keys]."""
        found = buckets(key - query[..., None], self.config, two_sided)
        return self.relative_attention_bias(found).permute(0, 3, 1, 2)


class GatedGelu(FusedProjection):
    readers = ("wi_0", "wi_1")

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, normed: Tensor, x: Tensor) -> Tensor:
        """Plus the residual x."""
        gate, up = self.project(normed).chunk(2, dim=-1)
        return self.wo(F.gelu(gate, approximate="tanh") * up, x)


class Sublayer(nn.Module):
    """A norm beside the thing it feeds, under the checkpoint's name for it."""

    def __init__(self, config: T5Config, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.add_module(name, inner)


class Block(nn.Module):
    def __init__(self, config: T5Config, decoder: bool, biased: bool) -> None:
        super().__init__()
        layers = [Sublayer(config, "SelfAttention", Attention(config, biased))]
        if decoder:
            layers.append(Sublayer(config, "EncDecAttention", Attention(config, biased=False, cross=True)))
        layers.append(Sublayer(config, "DenseReluDense", GatedGelu(config)))
        self.layer: Any = nn.ModuleList(layers)

    def read(self, x: Tensor, bias: Tensor) -> Tensor:
        """An encoder's block over x [batch, source, d_model]."""
        attention, feed = self.layer
        query, key, value = attention.SelfAttention.parts(attention.layer_norm(x))
        x = attention.SelfAttention(query, key, value, bias, x)
        return feed.DenseReluDense(feed.layer_norm(x), x)

    def write(
        self, x: Tensor, bias: Tensor, keep: Keep, cross: tuple[Tensor, Tensor], visible: Tensor | None
    ) -> Tensor:
        """A decoder's block over x [batch, new, d_model]; `keep` makes of new keys and values all that there are."""
        own, other, feed = self.layer
        query, key, value = own.SelfAttention.parts(own.layer_norm(x))
        x = own.SelfAttention(query, *keep(key, value), bias, x)
        looking = other.EncDecAttention
        (query,) = split(looking.q(other.layer_norm(x)), 1, looking.heads)
        x = looking(query, *cross, visible, x)
        return feed.DenseReluDense(feed.layer_norm(x), x)


class Stack(nn.Module):
    def __init__(self, config: T5Config, layers: int, decoder: bool) -> None:
        super().__init__()
        self.block: Any = nn.ModuleList(Block(config, decoder, biased=i == 0) for i in range(layers))
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def bias(self, query: Tensor, key: Tensor, two_sided: bool) -> Tensor:
        return self.block[0].layer[0].SelfAttention.bias(query, key, two_sided)


class T5(nn.Module, Decoding):
    """`T5(config)(ids, target)` gives logits; `prefill` and `decode_step` decode."""

    decoder_only = False
    # Old checkpoints also store both stacks' views of the one embedding table; trainers may keep any one of them.
    ignored_keys = r"(encoder|decoder)\.embed_tokens\.weight"
    tied: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {"shared.weight": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")}
    )
    # The linear layers that 8 or 4 bits a weight do no harm; the head and the tables keep theirs.
    quantised = r"(encoder|decoder)\.block\.\d+\.layer\.\d+\.\w+\.([qkvo]|wi_[01]|wo)"

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config, config.num_layers, decoder=False)
        self.decoder = Stack(config, config.num_decoder_layers, decoder=True)
        if config.tie_word_embeddings:  # a head that is stored all the same is the table once more
            self.ignored_keys = rf"{T5.ignored_keys}|lm_head\.weight"
            self.tied = {"shared.weight": (*T5.tied["shared.weight"], "lm_head.weight")}
        else:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def enter(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the encoder begins with: embeddings, biases, and visibility bool [batch, 1, 1, source]."""
        visible = (ids != self.config.pad_token_id)[:, None, None]
        place = torch.arange(ids.shape[1], device=ids.device)
        x = self.shared(ids)
        bias = self.encoder.bias(place[None], place, two_sided=True).to(x.dtype)
        return x, bias.masked_fill(~visible, torch.finfo(bias.dtype).min), visible

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output [batch, source, d_model] and visibility bool [batch, 1, 1, source] of right-padded ids."""
        x, bias, visible = self.enter(ids)
        for block in self.encoder.block:
            x = block.read(x, bias)
        return self.encoder.final_layer_norm(x), visible

    def cross(self, source: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the encoder's output for each decoder layer."""
        return [block.layer[1].EncDecAttention.parts(source) for block in self.decoder.block]

    def decode(self, ids: Tensor, cross: list[tuple[Tensor, Tensor]], visible: Tensor) -> Tensor:
        """Final-normed states [batch, length, d_model] of decoder tokens [batch, length]."""
        place = torch.arange(ids.shape[1], device=ids.device)
        x = self.shared(ids)
        bias = self.decoder.bias(place[None], place, two_sided=False).to(x.dtype)
        bias = bias.masked_fill(place > place[:, None], torch.finfo(bias.dtype).min)
        for block, looked_at in zip(self.decoder.block, cross, strict=True):
            x = block.write(x, bias, lambda key, value: (key, value), looked_at, visible)
        return self.decoder.final_layer_norm(x)

    def head(self, x: Tensor) -> Tensor:
        """Logits [..., vocab] of decoder states [..., d_model]."""
        if self.config.tie_word_embeddings:
            # Only the tied head of the first T5 scales; v1.1 with its own head does not.
            return F.linear(x * self.config.d_model**-0.5, self.shared.weight)
        return self.lm_head(x)

    def forward(self, ids: Tensor, target: Tensor) -> Tensor:
        """Teacher-forced logits [batch, target, vocab]; `target` begins with `decoder_start_token_id`."""
        source, visible = self.encode(ids)
        return self.head(self.decode(target, self.cross(source), visible))

    def new_cache(self, count: int, prompt: int, reply: int) -> T5Cache:
        """A cache of `count` slots, each for so many tokens of prompt and reply."""
        distance = torch.arange(reply + 1, device=self.shared.weight.device)  # behind the token that starts it
        near = self.decoder.bias(distance[None], distance[:1], two_sided=False)[0, :, :, 0].T
        return T5Cache(self.config, count, prompt, near.contiguous())

    def penalty_tokens(self, prompt: Sequence[int]) -> Sequence[int]:
        """The decoder's start token: the prompt is the encoder's."""
        return [self.config.decoder_start_token_id]

    def prefill(self, ids: Tensor, cache: T5Cache, slot: int) -> Generator[None, None, Tensor]:
        """Read a prompt [source] into a slot; yields after each layer, returns logits [vocab] of the first reply token."""
        x, bias, _ = self.enter(ids[None])
        for block in self.encoder.block:
            x = block.read(x, bias)
            yield
        x = self.encoder.final_layer_norm(x)
        for i, block in enumerate(self.decoder.block):
            key, value = block.layer[1].EncDecAttention.parts(x)
            cache.cross.write(i, slot, key[0], value[0])
            yield
        cache.cross.filled[slot], cache.own.filled[slot] = len(ids), 0
        return self.decode_step(ids.new_tensor([self.config.decoder_start_token_id]), cache, slot)[0]

    def forward_step(self, ids: Tensor, cache: T5Cache, inputs: StepInputs) -> Tensor:
        """One token further: the newest tokens [rows] of neighbouring slots → logits [rows, vocab]."""
        view, source = cache.own.view(inputs), cache.cross.view(inputs, 1)
        x = self.shared(ids[:, None])
        distance = view.positions[:, None] - torch.arange(view.span, device=ids.device)
        bias = cache.near[distance.clamp(min=0)].transpose(1, 2)[:, :, None]
        if (seen := view.mask) is not None:
            bias = bias.masked_fill(~seen, -torch.inf)
        visible = source.mask
        for i, block in enumerate(self.decoder.block):
            keep = lambda key, value, layer=i: cache.own.append(layer, view, key, value)
            x = block.write(x, bias, keep, (source.keys[i], source.values[i]), visible)
        return self.head(self.decoder.final_layer_norm(x[:, 0]))

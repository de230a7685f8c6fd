"""T5 v1.1 (encoder–decoder, gated GELU, relative position biases), natively: BianQue-1.0 and ask-mini.

The encoder reads the dialogue once; the decoder writes the reply looking at it through cross-attention. Attention
scores are not divided by sqrt(d) and carry a learned bias that depends on the bucketed distance of the two tokens;
the first layer of each stack owns the table and the others reuse it. Norms are RMS without a mean, nothing has a bias.

Facts from the T5 paper (arXiv 1910.10683) and transformers' ``modeling_t5.py``; parameter names are the checkpoint's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class Cache:
    """The decoder's memory: own keys and values, and those of the encoder's output, per layer.

    Self-attention tensors are [batch, heads, length, d_kv], of which `filled` positions are in use; `cross` holds
    (key, value) pairs [batch, heads, source, d_kv]; `visible` bool [batch, 1, 1, source] is False at padding.
    """

    def __init__(self, config: T5Config, cross: list[tuple[Tensor, Tensor]], visible: Tensor, length: int) -> None:
        shape = (config.num_decoder_layers, len(visible), config.num_heads, length, config.d_kv)
        self.keys = cross[0][0].new_zeros(shape)
        self.values = cross[0][0].new_zeros(shape)
        self.cross, self.visible = cross, visible
        self.filled, self.length = 0, length

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        end = self.filled + key.shape[2]
        self.keys[layer, :, :, self.filled : end] = key
        self.values[layer, :, :, self.filled : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


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


class RMSNorm(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self.eps = config.layer_norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        # The mean square is taken in float32 whatever the weights are (T5LayerNorm).
        return self.weight * F.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(self.weight.dtype)


class Attention(nn.Module):
    def __init__(self, config: T5Config, biased: bool) -> None:
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.config = config
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if biased:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.config.num_heads, self.config.d_kv)).transpose(1, 2)

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.k(x)), self.split(self.v(x))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """x [batch, new, d_model]; bias (or bool mask) broadcastable to [batch, heads, new, seen]."""
        out = F.scaled_dot_product_attention(self.split(self.q(x)), key, value, attn_mask=bias, scale=1.0)
        return self.o(out.transpose(1, 2).flatten(2))

    def bias(self, query: Tensor, key: Tensor, two_sided: bool) -> Tensor:
        """Relative biases [1, heads, queries, keys] of query and key positions (1-D)."""
        found = buckets(key[None, :] - query[:, None], self.config, two_sided)
        return self.relative_attention_bias(found).permute(2, 0, 1)[None]


class GatedGelu(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class Sublayer(nn.Module):
    """A norm beside the thing it feeds, under the checkpoint's name for it."""

    def __init__(self, config: T5Config, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.layer_norm = RMSNorm(config)
        self.add_module(name, inner)


class Block(nn.Module):
    def __init__(self, config: T5Config, decoder: bool, biased: bool) -> None:
        super().__init__()
        layers = [Sublayer(config, "SelfAttention", Attention(config, biased))]
        if decoder:
            layers.append(Sublayer(config, "EncDecAttention", Attention(config, False)))
        layers.append(Sublayer(config, "DenseReluDense", GatedGelu(config)))
        self.layer = nn.ModuleList(layers)


class Stack(nn.Module):
    def __init__(self, config: T5Config, layers: int, decoder: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(config, decoder, biased=i == 0) for i in range(layers))
        self.final_layer_norm = RMSNorm(config)

    def bias(self, query: Tensor, key: Tensor, two_sided: bool) -> Tensor:
        return self.block[0].layer[0].SelfAttention.bias(query, key, two_sided)


class T5(nn.Module):
    """`T5(config)(ids, target)` gives logits; `prefill` and `step` are how one decodes."""

    decoder_only = False
    # Old checkpoints also store both stacks' views of the one embedding table.
    ignored_keys = r"(encoder|decoder)\.embed_tokens\.weight"
    # The linear layers that 8 or 4 bits a weight do no harm; the head and the tables keep theirs.
    quantised = r"(encoder|decoder)\.block\.\d+\.layer\.\d+\.\w+\.([qkvo]|wi_[01]|wo)"

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config, config.num_layers, decoder=False)
        self.decoder = Stack(config, config.num_decoder_layers, decoder=True)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output [batch, source, d_model] and visibility bool [batch, 1, 1, source] of right-padded ids."""
        visible = (ids != self.config.pad_token_id)[:, None, None]
        place = torch.arange(ids.shape[1], device=ids.device)
        x = self.shared(ids)
        bias = self.encoder.bias(place, place, two_sided=True).to(x.dtype)
        bias = bias.masked_fill(~visible, torch.finfo(bias.dtype).min)
        for block in self.encoder.block:
            attention, feed = block.layer
            h = attention.layer_norm(x)
            x = x + attention.SelfAttention(h, *attention.SelfAttention.key_value(h), bias)
            x = x + feed.DenseReluDense(feed.layer_norm(x))
        return self.encoder.final_layer_norm(x), visible

    def cross(self, source: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the encoder's output for each decoder layer."""
        return [block.layer[1].EncDecAttention.key_value(source) for block in self.decoder.block]

    def decode(
        self, ids: Tensor, cross: list[tuple[Tensor, Tensor]], visible: Tensor, cache: Cache | None = None
    ) -> Tensor:
        """Final-normed states [batch, new, d_model] of decoder tokens [batch, new], behind what `cache` holds."""
        past = 0 if cache is None else cache.filled
        place = torch.arange(past + ids.shape[1], device=ids.device)
        x = self.shared(ids)
        bias = self.decoder.bias(place[past:], place, two_sided=False).to(x.dtype)
        bias = bias.masked_fill(place > place[past:, None], torch.finfo(bias.dtype).min)
        for i, block in enumerate(self.decoder.block):
            own, other, feed = block.layer
            h = own.layer_norm(x)
            key, value = own.SelfAttention.key_value(h)
            if cache is not None:
                key, value = cache.append(i, key, value)
            x = x + own.SelfAttention(h, key, value, bias)
            x = x + other.EncDecAttention(other.layer_norm(x), *cross[i], visible)
            x = x + feed.DenseReluDense(feed.layer_norm(x))
        if cache is not None:
            cache.filled += ids.shape[1]
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

    def prefill(self, ids: Tensor, room: int) -> tuple[Tensor, Cache]:
        """Read right-padded prompts [batch, source]: logits [batch, vocab] of the first reply token, and the cache."""
        source, visible = self.encode(ids)
        cache = Cache(self.config, self.cross(source), visible, room + 1)
        start = ids.new_full((len(ids),), self.config.decoder_start_token_id)
        return self.step(start, cache), cache

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """One token [batch] further: logits [batch, vocab]."""
        return self.head(self.decode(ids[:, None], cache.cross, cache.visible, cache)[:, 0])

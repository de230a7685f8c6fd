"""Baichuan-13B, first version (a causal transformer with ALiBi), natively: DISC-MedLLM.

The architecture in one paragraph. A plain causal decoder: pre-norm blocks of attention and a gated SiLU feed-forward,
RMS norms without a mean, nowhere a bias, an output head of its own. Tokens have no positions. Instead every head takes
from a score its slope times the distance between the two tokens (ALiBi), so that steep heads read the last few words
and flat ones the whole dialogue. Nothing is learned or stored for that: a text may be of any length.

Facts from baichuan-inc/Baichuan-13B-Chat ``modeling_baichuan.py``; parameter names are the published checkpoint's.
Paper of ALiBi: Press et al., Train Short, Test Long, arXiv 2108.12409.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class BaichuanConfig:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    pad_token_id: int = 0
    rms_norm_eps: float = 1e-6

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> BaichuanConfig:
        """Read a Hub `config.json`; ValueError if it is one of the relatives that share the name `baichuan`."""
        # Baichuan-7B turns its heads (rotary positions) and Baichuan2 normalises its output head: the weights of
        # either may fit, and the words would be wrong. Only their configs have these fields.
        foreign = [name for name in ("max_position_embeddings", "z_loss_weight") if name in raw]
        if foreign:
            raise ValueError(f"config.json has {', '.join(foreign)}: not a Baichuan-13B of the first version")
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__ if name in raw})

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


class Cache:
    """Keys and values of every layer for `batch` rows and at most `length` tokens, allocated once.

    `keys[i]` and `values[i]` are [batch, heads, length, head_dim]; the first `filled` positions are in use.
    `visible` [batch, length] is False at left padding.
    """

    def __init__(self, config: BaichuanConfig, batch: int, length: int, like: Tensor) -> None:
        shape = (config.num_hidden_layers, batch, config.num_attention_heads, length, config.head_dim)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)
        self.visible = torch.ones(batch, length, dtype=torch.bool, device=like.device)
        self.filled = 0
        self.length = length

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store [batch, heads, new, head_dim] behind what is there and return everything so far."""
        end = self.filled + key.shape[2]
        self.keys[layer, :, :, self.filled : end] = key
        self.values[layer, :, :, self.filled : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


def slopes(heads: int, device: torch.device | None = None) -> Tensor:
    """ALiBi's slope of each head, [heads] float32: 2^(-8·1/n), 2^(-8·2/n) … 2^-8 for a power of two n.

    Any other number of heads takes those of the power of two below it, and then the slopes half-way between them:
    2^(-8·0.5/n), 2^(-8·1.5/n) … (the paper's rule; upstream `_get_interleave`).
    """
    power = 1 << (heads.bit_length() - 1)
    whole = torch.arange(1, power + 1, device=device)
    between = torch.arange(heads - power, device=device) + 0.5
    return torch.exp2(torch.cat((whole, between)) * (-8 / power))


def biases(heads: int, visible: Tensor, new: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of the newest `new` tokens, [rows, heads, new, seen]; -inf hides a key.

    `visible` bool [rows, seen] is False at left padding; one row serves a batch that has none.
    """
    place = torch.arange(visible.shape[1], device=visible.device)
    # Upstream adds slope·key, which differs from slope·(key - query) by a constant in each row and so not at all once
    # soft-maxed. Counted from the query the numbers that matter are near zero, where half precision is fine; counted
    # from the start of the text they grow with it, and at 4096 neighbours would round to the same float16.
    distance = place - place[-new:, None]
    # A padding row that may look at nothing would be 0/0: let it look at itself; nobody looks at it.
    hidden = (distance > 0) | (~visible[:, None] & (distance != 0))
    distance = distance.float().masked_fill(hidden, -torch.inf)
    return (slopes(heads, visible.device)[:, None, None] * distance[:, None]).to(dtype)


class RMSNorm(nn.Module):
    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.eps = config.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        # Normalised in float32, rounded, then weighted, as upstream does.
        return self.weight * F.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(self.weight.dtype)


class Attention(nn.Module):
    def __init__(self, config: BaichuanConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, config.num_attention_heads
        self.W_pack = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, bias: Tensor, cache: Cache | None) -> Tensor:
        # Fused in blocks: [query | key | value][head][head_dim].
        packed = self.W_pack(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: BaichuanConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, bias: Tensor, cache: Cache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), bias, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config)


class Baichuan(nn.Module):
    """`Baichuan(config)(ids)` gives logits; `prefill` and `step` are how one decodes."""

    decoder_only = True
    ignored_keys = r"model\.future_mask"  # upstream's table of biases: it stores none, and would need none
    # The linear layers that 8 or 4 bits a weight do no harm.
    quantised = r"model\.layers\.\d+\.(self_attn\.(W_pack|o_proj)|mlp\.(gate_proj|up_proj|down_proj))"

    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Transformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def hidden(self, ids: Tensor, visible: Tensor, cache: Cache | None = None) -> Tensor:
        """Final-normed hidden states [batch, new, hidden] of ids [batch, new], behind what `cache` holds.

        `visible` bool [batch or 1, seen] tells padding from text among all that is seen, `ids` included.
        """
        x = self.model.embed_tokens(ids)
        # One tensor for all layers: at 13 B and 2048 tokens it is 0.3 GB in half precision.
        bias = biases(self.config.num_attention_heads, visible, ids.shape[1], x.dtype)
        for layer in self.model.layers:
            x = layer(x, bias, cache)
        if cache is not None:
            cache.filled += ids.shape[1]
        return self.model.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, length, vocab] of left-padded ids [batch, length]."""
        return self.lm_head(self.hidden(ids, real_tokens(ids, self.config)))

    def prefill(self, ids: Tensor, room: int) -> tuple[Tensor, Cache]:
        """Read left-padded prompts [batch, length]: logits [batch, vocab] of the first reply token, and the cache.

        The cache leaves room for `room` reply tokens. Padding is what stands before a row's first other token: no text
        begins with it, since a prompt begins with a marker.
        """
        real = real_tokens(ids, self.config)
        cache = Cache(self.config, len(ids), ids.shape[1] + room, self.lm_head.weight)
        cache.visible[:, : ids.shape[1]] = real
        # Without padding all rows have the same biases, and [heads, length, length] is too large to be there twice.
        visible = real[:1] if bool(real.all()) else real
        return self.lm_head(self.hidden(ids, visible, cache)[:, -1]), cache

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """One token [batch] further: logits [batch, vocab]."""
        visible = cache.visible[:, : cache.filled + 1]
        return self.lm_head(self.hidden(ids[:, None], visible, cache)[:, 0])


def real_tokens(ids: Tensor, config: BaichuanConfig) -> Tensor:
    """bool [batch, length], False at left padding (a pad token inside a text is a token like any other)."""
    return (ids != config.pad_token_id).cumsum(dim=-1) > 0

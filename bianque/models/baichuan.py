"""Baichuan-13B, first version (a causal transformer with ALiBi), natively: DISC-MedLLM.

The architecture in one paragraph. A plain causal decoder: pre-norm blocks of attention and a gated SiLU feed-forward,
RMS norms without a mean, nowhere a bias, an output head of its own. Tokens have no positions. Instead every head takes
from a score its slope times the distance between the two tokens (ALiBi), so that steep heads read the last few words
and flat ones the whole dialogue. Nothing is learned or stored for that: a text may be of any length.

Facts from baichuan-inc/Baichuan-13B-Chat ``modeling_baichuan.py``; parameter names are the published checkpoint's.
Paper of ALiBi: Press et al., Train Short, Test Long, arXiv 2108.12409.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bianque.models.base import Decoding, embedding
from bianque.nn.cache import Cache, StepInputs
from bianque.nn.layers import AttentionFn, FusedProjection, Linear, RMSNorm, attend, merge, split


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
        if raw.get("hidden_act", "silu") != "silu":
            raise ValueError(f"hidden_act is {raw['hidden_act']!r}; only 'silu' is known")
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__ if name in raw})

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


def slopes(heads: int, device: torch.device | None = None) -> Tensor:
    """ALiBi's slope of each head, [heads] float32: 2^(-8·1/n), 2^(-8·2/n) … 2^-8 for a power of two n.

    Any other number of heads takes those of the power of two below it, and then the slopes half-way between them:
    2^(-8·0.5/n), 2^(-8·1.5/n) … (the paper's rule; upstream `_get_interleave`).
    """
    power = 1 << (heads.bit_length() - 1)
    whole = torch.arange(1, power + 1, device=device)
    between = torch.arange(heads - power, device=device) + 0.5
    return torch.exp2(torch.cat((whole, between)) * (-8 / power))


def biases(heads: int, visible: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of a text, [rows, heads, length, length]; -inf hides a key.

    `visible` bool [rows, length] is False at left padding; one row serves a batch that has none.
    """
    place = torch.arange(visible.shape[1], device=visible.device)
    # Upstream adds slope·key, which differs from slope·(key - query) by a constant in each row and so not at all once
    # soft-maxed. Counted from the query the numbers that matter are near zero, where half precision is fine; counted
    # from the start of the text they grow with it, and at 4096 neighbours would round to the same float16.
    distance = place - place[:, None]
    # A padding row that may look at nothing would be 0/0: let it look at itself; nobody looks at it.
    hidden = (distance > 0) | (~visible[:, None] & (distance != 0))
    return sloping(heads, distance, ~hidden, dtype)


def sloping(heads: int, distance: Tensor, visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Each head's slope times distances [queries, keys], [rows, heads, queries, keys]; `visible` [rows, queries, keys]."""
    masked = distance.float().masked_fill(~visible, -torch.inf)
    return (slopes(heads, distance.device)[:, None, None] * masked[:, None]).to(dtype)


class Attention(nn.Module):
    def __init__(self, config: BaichuanConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, config.num_attention_heads
        self.W_pack = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, normed: Tensor, attention: AttentionFn, x: Tensor) -> Tensor:
        """Plus the residual x."""
        # Fused in blocks: [query | key | value][head][head_dim].
        return self.o_proj(merge(attention(self.layer, *split(self.W_pack(normed), 3, self.heads))), x)


class MLP(FusedProjection):
    readers = ("gate_proj", "up_proj")

    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, normed: Tensor, x: Tensor) -> Tensor:
        """Plus the residual x."""
        gate, up = self.project(normed).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up, x)


class Block(nn.Module):
    def __init__(self, config: BaichuanConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, attention: AttentionFn) -> Tensor:
        x = self.self_attn(self.input_layernorm(x), attention, x)
        return self.mlp(self.post_attention_layernorm(x), x)


class Transformer(nn.Module):
    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__()
        self.embed_tokens = embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Baichuan(nn.Module, Decoding):
    """`Baichuan(config)(ids)` gives logits; `prefill` and `decode_step` decode."""

    decoder_only = True
    ignored_keys = r"model\.future_mask"  # upstream's table of biases: it stores none, and would need none
    tied: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {"lm_head.weight": ("model.embed_tokens.weight",)}
    )  # stored once by trainers that tie them
    # The linear layers that 8 or 4 bits a weight do no harm.
    quantised = r"model\.layers\.\d+\.(self_attn\.(W_pack|o_proj)|mlp\.(gate_proj|up_proj|down_proj))"

    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Transformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def hidden(self, ids: Tensor) -> Tensor:
        """Final-normed hidden states [batch, length, hidden] of left-padded ids [batch, length].

        Padding is what stands before a row's first other token: no text begins with it, since a prompt begins with a
        marker.
        """
        x = self.model.embed_tokens(ids)
        # One tensor for all layers: at 13 B and 2048 tokens it is 0.3 GB in half precision.
        bias = biases(self.config.num_attention_heads, real_tokens(ids, self.config), x.dtype)
        for layer in self.model.layers:
            x = layer(x, lambda i, query, key, value: attend(query, key, value, bias))
        return self.model.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, length, vocab] of left-padded ids [batch, length]."""
        return self.lm_head(self.hidden(ids))

    def new_cache(self, count: int, prompt: int, reply: int) -> Cache:
        """A cache of `count` slots, each for so many tokens of prompt and reply."""
        facts = self.config
        shape = (facts.num_hidden_layers, count, facts.num_attention_heads, prompt + reply, facts.head_dim)
        return Cache(*shape, self.model.embed_tokens.weight)

    def penalty_tokens(self, prompt: Sequence[int]) -> Sequence[int]:
        """The prompt itself, which the reply continues."""
        return prompt

    def prefill(self, ids: Tensor, cache: Cache, slot: int) -> Generator[None, None, Tensor]:
        """Read a prompt [length] into a slot; yields after each layer, returns logits [vocab] of the first reply token."""
        x = self.model.embed_tokens(ids[None])
        bias = biases(self.config.num_attention_heads, torch.ones_like(ids[None], dtype=torch.bool), x.dtype)

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            cache.write(layer, slot, key[0], value[0])
            return attend(query, key, value, bias)

        for layer in self.model.layers:
            x = layer(x, attention)
            yield
        cache.filled[slot] = len(ids)
        return self.lm_head(self.model.norm(x[0, -1]))

    def forward_step(self, ids: Tensor, cache: Cache, inputs: StepInputs) -> Tensor:
        """One token further: the newest tokens [rows] of neighbouring slots → logits [rows, vocab]."""
        view = cache.view(inputs)
        x = self.model.embed_tokens(ids[:, None])
        distance = torch.arange(view.span, device=ids.device) - view.positions[:, None, None]
        bias = sloping(self.config.num_attention_heads, distance, distance <= 0, x.dtype)

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attend(query, *cache.append(layer, view, key, value), bias)

        for layer in self.model.layers:
            x = layer(x, attention)
        return self.lm_head(self.model.norm(x[:, 0]))


def real_tokens(ids: Tensor, config: BaichuanConfig) -> Tensor:
    """bool [batch, length], False at left padding (a pad token inside a text is a token like any other)."""
    return (ids != config.pad_token_id).cumsum(dim=-1) > 0

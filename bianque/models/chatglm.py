"""ChatGLM-6B v1 (GLM with 2-D rotary positions), natively: BianQue-2.0, SoulChat and advise-mini.

The architecture in one paragraph. A prompt is ``text [gMASK] <sop>``; everything before ``<sop>`` is seen by every
position (a prefix language model), what follows is causal. Each token has two positions: its place in the prompt,
which freezes at the index of the mask token from ``<sop>`` on, and its place in the reply, which is 0 in the prompt
and counts 1, 2, 3 … from ``<sop>``. Each head rotates its first half by the former and its second by the latter.
A block is post-norm in spirit: what is carried forward is the *normalised* input times ``alpha``, not the input.

An early release (vocabulary 150528) places ``<sop>`` differently: `EarlyChatGLMConfig`.

Facts from THUDM/chatglm-6b ``modeling_chatglm.py``, the early ones from the copy in MediaBrain-SJTU/MedicalGPT-zh;
parameter names are the published checkpoint's.
Paper: GLM, arXiv 2103.10360.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bianque.models.base import Decoding, embedding
from bianque.nn.cache import Cache, StepInputs
from bianque.nn.layers import AttentionFn, Linear, attend, merge

# Upstream never hands the layer count to its blocks, so the residual scale is that of the default 28 layers
# whatever the config says (modeling_chatglm.py, GLMBlock.__init__).
ALPHA = math.sqrt(2 * 28)


@dataclass(frozen=True, slots=True)
class ChatGLMConfig:
    vocab_size: int
    hidden_size: int
    inner_hidden_size: int
    num_layers: int
    num_attention_heads: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    mask_token_id: int
    gmask_token_id: int
    max_sequence_length: int = 2048
    layernorm_epsilon: float = 1e-5
    pre_seq_len: int = 0  # positions of a P-Tuning v2 prefix
    prefix_projection: bool = False
    early: ClassVar[bool] = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ChatGLMConfig:
        """Read a Hub `config.json`; fields this port does not know are upstream's bookkeeping and are ignored.

        A config that names neither mask is of the early code. ValueError without its 2-D positions.
        """
        if not raw.get("position_encoding_2d", True):
            raise ValueError("position_encoding_2d is false: only the 2-D positions of ChatGLM-6B are known")
        known = {field.name: raw[field.name] for field in fields(cls) if field.name in raw}
        known["pre_seq_len"] = raw.get("pre_seq_len") or 0
        if known.keys() & {"mask_token_id", "gmask_token_id"}:
            return cls(**known)
        # Upstream hard-wires 150000 and 150001 beside its <sop> 150004; an image token pads, as no text holds one.
        masks = {"mask_token_id": known["bos_token_id"] - 4, "gmask_token_id": known["bos_token_id"] - 3}
        return EarlyChatGLMConfig(**{"pad_token_id": 3, **masks, **known})

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


class EarlyChatGLMConfig(ChatGLMConfig):
    """The first release: [MASK] wins over [gMASK]; without a [MASK], <sop> keeps its own place in the prompt."""

    early = True


class ChatGLMCache(Cache):
    """A cache that knows where each slot's replies stand: `frozen[i]` in the prompt, and `sop[i]`, where they begin."""

    def __init__(self, config: ChatGLMConfig, slots: int, length: int, like: Tensor) -> None:
        super().__init__(config.num_layers, slots, config.num_attention_heads, length, config.head_dim, like)
        self.frozen, self.sop = [0] * slots, [0] * slots

    def mark(self, slot: int) -> Any:
        return super().mark(slot), self.frozen[slot], self.sop[slot]

    def copy(self, source: int, target: int, mark: Any) -> None:
        filled, self.frozen[target], self.sop[target] = mark
        super().copy(source, target, filled)

    def step_inputs(self, first: int, count: int) -> StepInputs:
        """Of the next token of each slot: its place, and its two positions, in the prompt and in the reply."""
        rows = range(first, first + count)
        block = [self.filled[i] - self.sop[i] + 1 for i in rows]
        numbers = [[self.filled[i] for i in rows], [self.frozen[i] for i in rows], block]
        return StepInputs(first, torch.tensor(numbers, device=self.keys.device), (max(numbers[0]) + 1,))


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and signed sin of positions [batch, 2, new], [batch, new, 1, 1, 2, head_dim / 2] float32; see `rotate`."""
    half = head_dim // 2
    inverse = 1.0 / 10000 ** (torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half)
    # The frequencies are stored in half precision upstream; exact ones shift logits by up to 0.05.
    angles = positions.transpose(1, 2)[:, :, None, None, :, None] * inverse.half().float()
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + d/2) of the last axis; cos and sin broadcast against x, sin negative for the first ones."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class Attention(nn.Module):
    def __init__(self, config: ChatGLMConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], attention: AttentionFn) -> Tensor:
        """Plus the residual x, times alpha."""
        # Fused per head: [head][query | key | value][head_dim], each a half for the prompt's axis and one for the reply's.
        fused = self.query_key_value(x).unflatten(-1, (self.heads, 3, 2, -1))
        turned = rotate(fused[:, :, :, :2], *rotary).flatten(-2)
        query, key = turned.permute(3, 0, 2, 1, 4).unbind()
        value = fused[:, :, :, 2].flatten(-2).transpose(1, 2)
        # Upstream divides the query by sqrt(d)·(layer + 1), then multiplies the float32 scores by (layer + 1): a guard
        # for half precision which cancels here, since scores are float32 anyway.
        out = attention(self.layer, query, key, value)
        return self.dense(merge(out), x * ALPHA)


class MLP(nn.Module):
    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Plus the residual x, times alpha."""
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh"), x * ALPHA)


class Block(nn.Module):
    def __init__(self, config: ChatGLMConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.attention = Attention(config, layer)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], attention: AttentionFn) -> Tensor:
        x = self.attention(self.input_layernorm(x), rotary, attention)
        return self.mlp(self.post_attention_layernorm(x))


class PrefixEncoder(nn.Module):
    """P-Tuning v2 (arXiv 2110.07602): each layer's keys and values of positions before the text, trained alone.

    A table of them, [positions, layers · (key | value) · hidden], or what two layers make of a smaller one.
    """

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        hidden, width = config.hidden_size, 2 * config.num_layers * config.hidden_size
        self.embedding = embedding(config.pre_seq_len, hidden if config.prefix_projection else width)
        self.trans = None
        if config.prefix_projection:
            self.trans = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self) -> Tensor:
        table = self.embedding.weight
        return self.trans(table) if self.trans is not None else table


class Transformer(nn.Module):
    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        if config.pre_seq_len:
            self.prefix_encoder = PrefixEncoder(config)
        self.word_embeddings = embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)


class ChatGLM(nn.Module, Decoding):
    """`ChatGLM(config)(ids, positions, mask, cache)` gives logits; `prefill` and `decode_step` decode."""

    decoder_only = True
    ignored_keys = r"transformer\.layers\.\d+\.attention\.rotary_emb\.inv_freq"  # stored upstream, never read
    tied: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {"lm_head.weight": ("transformer.word_embeddings.weight",)}
    )  # stored once by trainers that tie them
    # The linear layers that 8 or 4 bits a weight do no harm.
    quantised = r"transformer\.layers\.\d+\.(attention\.(query_key_value|dense)|mlp\.(dense_h_to_4h|dense_4h_to_h))"

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def fold_prefix(self) -> None:
        """Replace a prefix that is projected by what it projects to, in the type of the other weights."""
        if self.config.pre_seq_len:
            encoder = self.transformer.prefix_encoder
            table = encoder().detach().to(self.transformer.word_embeddings.weight.dtype)
            encoder.embedding, encoder.trans = nn.Embedding.from_pretrained(table), None

    def prefixed(self) -> Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """What puts a layer's prefix before keys and values [batch, heads, new, size].

        The prefix is not rotated, and every position sees it (upstream `get_prompt`, and `forward` on its mask).
        """
        if not self.config.pre_seq_len:
            return lambda layer, key, value: (key, value)
        facts = self.config
        table = self.transformer.prefix_encoder().view(facts.pre_seq_len, -1, facts.num_attention_heads, facts.head_dim)
        each = table.to(self.transformer.word_embeddings.weight.dtype).permute(1, 2, 0, 3)  # [2 · layers, heads, …]
        join = lambda part, x: torch.cat((part.expand(len(x), -1, -1, -1), x), dim=2)
        return lambda layer, key, value: (join(each[2 * layer], key), join(each[2 * layer + 1], value))

    def enter(self, ids: Tensor, positions: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Embeddings of ids [batch, new] and the rotations of positions [batch, 2, new]."""
        x = self.transformer.word_embeddings(ids)
        cos, sin = rotary_angles(positions, self.config.head_dim)
        return x, (cos.to(x.dtype), sin.to(x.dtype))

    def hidden(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Final-normed hidden states [batch, length, hidden].

        ids [batch, length]; positions [batch, 2, length]; mask bool, broadcastable to [batch, 1, length, length], True
        where a query may look at a key (None: everywhere).
        """
        x, rotary = self.enter(ids, positions)
        prefixed, mask = self.prefixed(), self.seeing_prefix(mask)
        for layer in self.transformer.layers:
            x = layer(x, rotary, lambda i, query, key, value: attend(query, *prefixed(i, key, value), mask))
        return self.transformer.final_layernorm(x)

    def seeing_prefix(self, mask: Tensor | None) -> Tensor | None:
        return mask if mask is None else F.pad(mask, (self.config.pre_seq_len, 0), value=True)

    def forward(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits [batch, length, vocab]; arguments as `hidden`."""
        return self.lm_head(self.hidden(ids, positions, mask))

    def new_cache(self, count: int, prompt: int, reply: int) -> ChatGLMCache:
        """A cache of `count` slots, each for so many tokens of prompt and reply."""
        length = self.config.pre_seq_len + prompt + reply
        return ChatGLMCache(self.config, count, length, self.transformer.word_embeddings.weight)

    def penalty_tokens(self, prompt: Sequence[int]) -> Sequence[int]:
        """The prompt itself, which the reply continues."""
        return prompt

    def prefill(self, ids: Tensor, cache: ChatGLMCache, slot: int) -> Generator[None, None, Tensor]:
        """Read a prompt [length] into a slot; yields after each layer, returns logits [vocab] of the first reply token.

        ValueError if the prompt lacks <sop> or a mask.
        """
        positions, mask = layout(ids[None], self.config)
        x, rotary = self.enter(ids[None], positions)
        prefixed, seen, before = self.prefixed(), self.seeing_prefix(mask), self.config.pre_seq_len

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            key, value = prefixed(layer, key, value)
            cache.write(layer, slot, key[0], value[0])
            return attend(query, key, value, seen)

        for layer in self.transformer.layers:
            x = layer(x, rotary, attention)
            yield
        cache.filled[slot] = before + len(ids)
        cache.frozen[slot] = int(frozen(ids[None], self.config))
        cache.sop[slot] = before + int(first(ids[None] == self.config.bos_token_id, "<sop>"))
        return self.lm_head(self.transformer.final_layernorm(x[0, -1]))

    def forward_step(self, ids: Tensor, cache: ChatGLMCache, inputs: StepInputs) -> Tensor:
        """One token further: the newest tokens [rows] of neighbouring slots → logits [rows, vocab]."""
        view = cache.view(inputs)
        mask = view.mask
        x, rotary = self.enter(ids[:, None], inputs.numbers[1:].T[:, :, None])

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attend(query, *cache.append(layer, view, key, value), mask)

        for layer in self.transformer.layers:
            x = layer(x, rotary, attention)
        return self.lm_head(self.transformer.final_layernorm(x[:, 0]))


def real_tokens(ids: Tensor, config: ChatGLMConfig) -> Tensor:
    """bool [batch, length], False at left padding (a pad token inside a text is a token like any other)."""
    return (ids != config.pad_token_id).cumsum(dim=-1) > 0


def layout(ids: Tensor, config: ChatGLMConfig) -> tuple[Tensor, Tensor]:
    """Positions [batch, 2, length] and mask [batch, 1, length, length] of left-padded prompts [batch, length].

    The context ends at the first <sop>; the place in the prompt freezes there (upstream get_position_ids, get_masks).
    ValueError if a row lacks <sop> or a mask.
    """
    real = real_tokens(ids, config)
    column = torch.arange(ids.shape[1], device=ids.device)
    context = first(ids == config.bos_token_id, "<sop>")
    in_context = moving = column < context
    if config.early:  # without a [MASK], <sop> moves on too
        moving = column < context + (ids != config.mask_token_id).all(dim=1, keepdim=True)
    place = torch.where(moving, column - start_of(real), frozen(ids, config)).clamp(min=0)
    block = torch.where(in_context, 0, column - context + 1)
    causal = column[None, :] <= column[:, None]
    mask = (causal | in_context[:, None]) & real[:, None]
    # A padding row that may look at nothing would be 0/0: let it look at itself; nobody looks at it.
    mask = mask | torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)
    return torch.stack((place, block), dim=1), mask[:, None]


def frozen(ids: Tensor, config: ChatGLMConfig) -> Tensor:
    """Place [batch, 1] of replies to left-padded prompts [batch, length]: that of the first [gMASK], else [MASK].

    The early code looks for [MASK] first. ValueError if a row has neither.
    """
    masks = ids == config.gmask_token_id, ids == config.mask_token_id
    chosen, other = reversed(masks) if config.early else masks
    hits = torch.where(chosen.any(dim=1, keepdim=True), chosen, other)
    return first(hits, "[gMASK] or [MASK]") - start_of(real_tokens(ids, config))


def start_of(real: Tensor) -> Tensor:
    """Index [batch, 1] of the first token behind the padding."""
    return real.int().argmax(dim=1)[:, None]


def first(hits: Tensor, name: str) -> Tensor:
    """Index [batch, 1] of the first True in each row."""
    if not hits.any(dim=1).all():
        raise ValueError(f"a ChatGLM prompt without {name}")
    return hits.int().argmax(dim=1)[:, None]

"""P-Tuning v2: a prefix is worked out as upstream does, and the cache, a batch and the file formats change nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from bianque.checkpoints import loader
from bianque.errors import LoadFailed
from bianque.models.chatglm import ChatGLM, layout, rotary_angles
from tests import tiny

PLAIN, PROJECTED = (tiny.chatglm(pre_seq_len=4, prefix_projection=on) for on in (False, True))
BOTH = pytest.mark.parametrize("model", [PLAIN, PROJECTED], ids=["table", "projected"])
GMASK, SOP = PLAIN.config.gmask_token_id, PLAIN.config.bos_token_id
IDS = [5, 6, 7, GMASK, SOP, 12, 13]
quiet = lambda progress: None


def upstream(model: ChatGLM, ids: list[int]) -> torch.Tensor:
    """Logits [length, vocab], position by position and head by head, from THUDM/chatglm-6b `get_prompt` and `attention_fn`.

    The prefix's table is viewed as [positions, 2 · layers, heads, size]: of a layer first the keys, then the values. It is
    put before keys that are rotated already, and nothing hides it.
    """
    facts, rows = model.config, torch.tensor([ids])
    heads, size = facts.num_attention_heads, facts.head_dim
    encoder = model.transformer.prefix_encoder
    table = encoder.embedding.weight
    if facts.prefix_projection:
        first, _, second = encoder.trans
        table = torch.tanh(table @ first.weight.T + first.bias) @ second.weight.T + second.bias
    past = table.reshape(facts.pre_seq_len, 2 * facts.num_layers, heads, size)
    positions, mask = layout(rows, facts)
    cos, sin = (part[0] for part in rotary_angles(positions, size))
    x = model.transformer.word_embeddings(rows)[0]
    for number, layer in enumerate(model.transformer.layers):
        normed = layer.input_layernorm(x)
        fused = layer.attention.query_key_value(normed).view(len(ids), heads, 3, 2, size // 2)
        turned = fused * cos[:, :, :1] + fused.roll(size // 4, -1) * sin[:, :, :1]
        out = torch.zeros(len(ids), heads, size)
        for head in range(heads):
            query, key = (turned[:, head, part].flatten(-2) for part in (0, 1))
            key = torch.cat((past[:, 2 * number, head], key))
            value = torch.cat((past[:, 2 * number + 1, head], fused[:, head, 2].flatten(-2)))
            scores = query @ key.T / math.sqrt(size)
            hidden = torch.cat((torch.zeros(len(ids), facts.pre_seq_len, dtype=torch.bool), ~mask[0, 0]), dim=1)
            out[:, head] = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value
        x = layer.attention.dense(out.flatten(1)) + normed * math.sqrt(56)
        normed = layer.post_attention_layernorm(x)
        inner = F.gelu(layer.mlp.dense_h_to_4h(normed), approximate="tanh")
        x = layer.mlp.dense_4h_to_h(inner) + normed * math.sqrt(56)
    return model.lm_head(model.transformer.final_layernorm(x))


@BOTH
def test_a_prefix_is_seen_as_upstream_arithmetic_has_it(model):
    rows = torch.tensor([IDS])
    found = model(rows, *layout(rows, model.config))[0]
    torch.testing.assert_close(found, upstream(model, IDS), atol=2e-5, rtol=1e-4)
    bare = tiny.chatglm()
    assert (found - bare(rows, *layout(rows, bare.config))[0]).abs().max() > 1e-2


@BOTH
def test_cached_and_batched_equal_the_whole(model):
    prompts, reply = ([5, 6, 7, GMASK, SOP], [11, GMASK, SOP]), [12, 13, 14, 15]
    together = tiny.replies(model, list(prompts), [reply, reply])
    for row, prompt in zip(together, prompts, strict=True):
        expected = upstream(model, prompt + reply)[len(prompt) - 1 :]
        torch.testing.assert_close(row, expected, atol=2e-5, rtol=1e-4)


def test_folding_changes_nothing_and_drops_the_projection():
    rows, model = torch.tensor([IDS]), tiny.chatglm(pre_seq_len=4, prefix_projection=True)
    before = model(rows, *layout(rows, model.config))
    model.fold_prefix()
    torch.testing.assert_close(model(rows, *layout(rows, model.config)), before)
    assert model.transformer.prefix_encoder.trans is None


def saved(folder, projected: bool) -> tuple[ChatGLM, dict[str, torch.Tensor]]:
    """A base as published in `base`, and what ptuning/main.py saves of a prefix over it."""
    (folder / "base").mkdir()
    base = tiny.bianque_2(folder / "base")
    model = ChatGLM(replace(base.config, pre_seq_len=4, prefix_projection=projected))
    model.load_state_dict(tiny.fill(model).state_dict() | base.state_dict())
    state = model.requires_grad_(False).state_dict()
    return model, {name: tensor for name, tensor in state.items() if "prefix_encoder" in name}


@pytest.mark.parametrize("projected", [False, True], ids=["table", "projected"])
@pytest.mark.parametrize("form", ["whole", "folder", "file", "stripped", "whole checkpoint as a prefix"])
def test_every_way_it_is_saved_loads(form, projected, tmp_path):
    model, prefix = saved(tmp_path, projected)
    base, tuned, adapter = tmp_path / "base", tmp_path / "checkpoint-3000", None
    tuned.mkdir()
    config = tiny.chatglm_config(model)
    (tuned / "config.json").write_text(json.dumps(config))
    stored = {name: tensor.half() if "prefix" not in name else tensor for name, tensor in model.state_dict().items()}
    if form == "whole":
        save_file({name: tensor.contiguous() for name, tensor in stored.items()}, tuned / "model.safetensors")
        (tuned / "ice_text.model").write_bytes((base / "ice_text.model").read_bytes())
        base = tuned
    else:
        cut = len("transformer.prefix_encoder.") if form == "stripped" else 0
        part = stored if form.startswith("whole") else {name[cut:]: tensor for name, tensor in prefix.items()}
        part = {f"prefix_encoder.{name}": tensor for name, tensor in part.items()} if cut else part
        torch.save(part, tuned / "pytorch_model.bin")
        adapter = tuned / "pytorch_model.bin" if form == "file" else tuned
    found, _ = loader.read(tiny.card("bianque-2"), base, "cpu", torch.float32, quiet, adapter=adapter)
    rows = torch.tensor([IDS]) % found.config.vocab_size
    rows[0, 3], rows[0, 4] = found.config.gmask_token_id, found.config.bos_token_id
    torch.testing.assert_close(
        found(rows, *layout(rows, found.config)), model(rows, *layout(rows, model.config)), atol=2e-3, rtol=1e-2
    )


def test_a_prefix_runs_over_eight_bits(tmp_path):
    model, prefix = saved(tmp_path, False)
    torch.save(prefix, tmp_path / "pytorch_model.bin")
    card = tiny.card("bianque-2")
    found, _ = loader.read(
        card, tmp_path / "base", "cpu", torch.float32, quiet, 8, adapter=tmp_path / "pytorch_model.bin"
    )
    assert len(found.transformer.prefix_encoder.embedding.weight) == 4
    rows = torch.tensor([[5, 6, found.config.gmask_token_id, found.config.bos_token_id]])
    expected = model(rows, *layout(rows, model.config))
    assert (found(rows, *layout(rows, found.config)) - expected).norm() < 0.05 * expected.norm()


def test_a_prefix_of_another_size_or_architecture_is_told(tmp_path):
    _, prefix = saved(tmp_path, False)
    torch.save({name: tensor[:, :-2] for name, tensor in prefix.items()}, tmp_path / "pytorch_model.bin")
    read = lambda name, base: loader.read(
        tiny.card(name), base, "cpu", torch.float32, quiet, adapter=tmp_path / "pytorch_model.bin"
    )
    with pytest.raises(LoadFailed, match="misshapen"):
        read("bianque-2", tmp_path / "base")
    (tmp_path / "t5").mkdir()
    tiny.bianque_1(tmp_path / "t5")
    with pytest.raises(LoadFailed, match="ChatGLM-6B alone"):
        read("bianque-1", tmp_path / "t5")

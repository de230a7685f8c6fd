"""Baichuan-13B: distance alone orders the words, any length will do, and neither cache nor padding changes anything."""

from __future__ import annotations

import json

import pytest
import torch

from bianque.checkpoints import files, loader
from bianque.models.baichuan import Baichuan, BaichuanConfig, biases, slopes, sloping
from bianque.models.tokenizers import BaichuanTokenizer
from tests import tiny

MODEL = tiny.baichuan()
CONFIG = MODEL.config
PAD, HEADS = CONFIG.pad_token_id, CONFIG.num_attention_heads
PROMPTS = ([45, 6, 7, 8, 9, 46], [45, 46], [45, 21, PAD, 22, 20, 19, 18, 17, 46])


def seen(length: int, rows: int = 1) -> torch.Tensor:
    return torch.ones(rows, length, dtype=torch.bool)


def whole(ids: list[int]) -> torch.Tensor:
    """Logits [length, vocab] of all positions at once."""
    return MODEL(torch.tensor([ids]))[0]


def replies(prompts: list[list[int]], replies: list[list[int]]) -> torch.Tensor:
    return tiny.replies(MODEL, prompts, replies)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_cached_equals_uncached(prompt):
    reply = [12, 13, 14, 15, 16]
    expected = whole(prompt + reply)[len(prompt) - 1 :]
    torch.testing.assert_close(replies([prompt], [reply])[0], expected, atol=2e-5, rtol=1e-4)


def test_a_batch_equals_single_prompts():
    spoken = [[12, 13, 14], [15, 16, 17], [18, 19, 20]]
    together = replies(list(PROMPTS), spoken)
    for row, prompt, reply in zip(together, PROMPTS, spoken, strict=True):
        torch.testing.assert_close(row, replies([prompt], [reply])[0], atol=2e-5, rtol=1e-4)


def test_prompts_of_one_length_equal_single_prompts():
    pair, spoken = [PROMPTS[0], [45, 1, 2, 3, 4, 46]], [[12, 13], [14, 15]]
    together = replies(pair, spoken)
    for row, prompt, reply in zip(together, pair, spoken, strict=True):
        torch.testing.assert_close(row, replies([prompt], [reply])[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("padding", [1, 2, 17])
def test_left_padding_changes_nothing(padding):
    prompt = PROMPTS[2]
    padded = [PAD] * padding + prompt
    torch.testing.assert_close(whole(padded)[padding:], whole(prompt), atol=2e-5, rtol=1e-4)


def test_a_pad_token_inside_a_text_is_a_token_like_any_other():
    prompt = PROMPTS[2]
    assert PAD in prompt
    elsewhere = tiny.baichuan(pad_token_id=47)
    torch.testing.assert_close(whole(prompt), elsewhere(torch.tensor([prompt]))[0], atol=1e-6, rtol=0)


def test_padding_looks_at_itself_alone_and_nobody_looks_at_it():
    visible = torch.tensor([[False, False, True, True], [True, True, True, True]])
    padded, plain = biases(HEADS, visible, torch.float32)[:, 0].isfinite().int().tolist()
    assert padded == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert plain == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_row_of_padding_alone_spoils_nothing():
    rows = torch.tensor([[PAD] * len(PROMPTS[0]), PROMPTS[0]])
    logits = MODEL(rows)[:, -1]
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1], whole(PROMPTS[0])[-1], atol=2e-5, rtol=1e-4)


def test_nothing_reaches_back():
    prompt = PROMPTS[2]
    changed = [*prompt[:4], 30, *prompt[5:]]
    difference = (whole(prompt) - whole(changed)).abs().amax(dim=-1)
    assert (difference[:4] < 1e-6).all() and (difference[4:] > 1e-3).all()


# ALiBi.


@pytest.mark.parametrize(
    "heads, exponents",
    [
        (1, [8]),
        (2, [4, 8]),
        (3, [4, 8, 2]),
        (5, [2, 4, 6, 8, 1]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (40, [*(i / 4 for i in range(1, 33)), *(i / 8 for i in range(1, 16, 2))]),
    ],
)
def test_slopes(heads, exponents):
    assert len(exponents) == heads
    expected = torch.tensor([2**-exponent for exponent in exponents])
    torch.testing.assert_close(slopes(heads), expected, atol=0, rtol=1e-6)


def test_a_score_falls_by_the_slope_for_each_token_between():
    found = biases(5, seen(6), torch.float32)[:, :, 4:]
    assert found.shape == (1, 5, 2, 6)
    for head, slope in enumerate(slopes(5).tolist()):
        assert found[0, head, 0].tolist() == [-4 * slope, -3 * slope, -2 * slope, -slope, 0, -torch.inf]
        assert found[0, head, 1].tolist() == [-5 * slope, -4 * slope, -3 * slope, -2 * slope, -slope, 0]


def test_biases_from_the_start_of_the_text_would_be_the_same():
    """Upstream's slope·key: a constant in each row of scores away, and none away once soft-maxed."""
    place = torch.arange(9.0)
    theirs = (slopes(HEADS)[:, None, None] * place).masked_fill(place > place[:, None], -torch.inf)
    torch.testing.assert_close(biases(HEADS, seen(9), torch.float32)[0].softmax(-1), theirs.softmax(-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_the_last_words_stay_apart_however_long_the_text(dtype):
    def newest(length: int, dtype: torch.dtype) -> torch.Tensor:
        distance = torch.arange(length)[None] - (length - 1)
        return sloping(40, distance, seen(1, 1)[None], dtype)[0, :, 0]

    near, far = (newest(length, dtype)[:, -64:] for length in (64, 20_000))
    assert torch.equal(near, far)
    assert (far.diff(dim=-1) > 0).all()
    exact = newest(20_000, torch.float32).softmax(-1)
    rounded = newest(20_000, dtype).float().softmax(-1)
    torch.testing.assert_close(rounded, exact, atol=2e-3, rtol=0)


def test_half_precision_reads_a_long_text_as_well_as_a_short_one():
    long = torch.tensor([[45, *(i * 7 % 40 + 1 for i in range(3000)), 46]])
    exact = MODEL(long)[:, -1]
    rounded = tiny.baichuan().bfloat16()(long)[:, -1]
    torch.testing.assert_close(rounded.float(), exact, atol=0.15, rtol=0.05)


def test_a_text_may_be_longer_than_model_max_length():
    raw = tiny.baichuan_config(MODEL) | {"model_max_length": 4}
    model = Baichuan(BaichuanConfig.from_dict(raw)).eval()
    model.load_state_dict(MODEL.state_dict())
    prompt, reply = [45, *range(1, 40), 46], [12, 13, 14]
    with torch.inference_mode():
        found = tiny.replies(model, [prompt], [reply])[0]
    torch.testing.assert_close(found, whole(prompt + reply)[len(prompt) - 1 :], atol=2e-5, rtol=1e-4)


# Parts.


def test_one_block_worked_by_hand():
    """Pre-norm, [query | key | value] in blocks of the hidden size, a gated SiLU: one layer, one token."""
    model = tiny.baichuan(num_hidden_layers=1)
    w = {name.removeprefix("model.layers.0."): weight for name, weight in model.named_parameters()}
    norm = lambda x, name: x / (x.square().mean() + 1e-6).sqrt() * w[name]
    x = w["model.embed_tokens.weight"][7]
    # A single token looks at itself: attention gives its value, the last third of the packed projection.
    value = (w["self_attn.W_pack.weight"] @ norm(x, "input_layernorm.weight"))[-CONFIG.hidden_size :]
    x = x + w["self_attn.o_proj.weight"] @ value
    h = norm(x, "post_attention_layernorm.weight")
    gate, up = w["mlp.gate_proj.weight"] @ h, w["mlp.up_proj.weight"] @ h
    x = x + w["mlp.down_proj.weight"] @ (gate * gate.sigmoid() * up)
    expected = w["lm_head.weight"] @ norm(x, "model.norm.weight")
    torch.testing.assert_close(model(torch.tensor([[7]]))[0, 0], expected, atol=2e-5, rtol=1e-4)


def test_norms_are_taken_in_float32():
    """The mean square of 300s is beyond float16."""
    norm = tiny.baichuan().half().model.norm
    found = norm(torch.full((1, CONFIG.hidden_size), 300.0).half())
    torch.testing.assert_close(found[0], norm.weight)


def test_parameters_have_the_published_names():
    layer = {"input_layernorm", "post_attention_layernorm", "self_attn.W_pack", "self_attn.o_proj"}
    layer |= {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    expected = {f"model.layers.{i}.{name}.weight" for i in range(3) for name in layer}
    assert set(MODEL.state_dict()) == expected | {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


def test_golden_logits():
    """Numbers of this port, whose agreement with the original code was checked when they were taken."""
    found = replies([PROMPTS[0]], [[12, 13]])[0, :, [0, 7, 12, 33]]
    torch.testing.assert_close(found, torch.tensor(GOLDEN), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_run(dtype):
    model = tiny.baichuan().to(dtype)
    logits, cache = tiny.begun(model, [PROMPTS[0]])
    assert logits.dtype == dtype and cache.keys.dtype == dtype
    torch.testing.assert_close(logits.float(), replies([PROMPTS[0]], [[12]])[:, 0], atol=0.1, rtol=0.05)
    assert model.decode_step(torch.tensor([12]), cache).isfinite().all()


def test_a_published_folder_holds_the_model(tmp_path):
    published = tiny.disc_medllm(tmp_path)
    found = Baichuan(BaichuanConfig.from_dict(json.loads((tmp_path / "config.json").read_text()))).eval()
    shards = loader.shard_files(tiny.card("disc-medllm"), tmp_path)
    found.load_state_dict({name: tensor for shard in shards for name, tensor in files.tensors(shard)})
    ids = torch.tensor([BaichuanTokenizer(tmp_path / "tokenizer.model").prompt("<reserved_102>头痛<reserved_103>")])
    assert len(shards) == 3
    torch.testing.assert_close(found(ids), published(ids))


def test_unknown_config_fields_are_upstreams_bookkeeping():
    assert BaichuanConfig.from_dict(tiny.baichuan_config(MODEL)) == CONFIG


@pytest.mark.parametrize("field", ["max_position_embeddings", "z_loss_weight"])
def test_relatives_of_the_same_name_are_refused(field):
    with pytest.raises(ValueError, match=field):
        BaichuanConfig.from_dict(tiny.baichuan_config(MODEL) | {field: 0})


GOLDEN = [
    [0.15179, 0.12269, -1.18619, 0.87880],
    [-0.67947, 0.03442, -0.60674, 1.54716],
    [-0.33081, -1.27900, -2.27545, 0.46158],
]

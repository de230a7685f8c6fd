"""ChatGLM-6B: what the prefix language model sees, where its tokens stand, and that the cache changes nothing."""

from __future__ import annotations

import pytest
import torch

from bianque.models.chatglm import ChatGLMConfig, EarlyChatGLMConfig, layout, rotary_angles
from tests import tiny

MODEL, EARLY = tiny.chatglm(), tiny.early_chatglm()
BOTH = pytest.mark.parametrize("model", [MODEL, EARLY], ids=["later", "early"])
CONFIG = MODEL.config
PAD, MASK, GMASK, SOP = CONFIG.pad_token_id, CONFIG.mask_token_id, CONFIG.gmask_token_id, CONFIG.bos_token_id
PROMPTS = ([5, 6, 7, 8, 9, GMASK, SOP], [11, GMASK, SOP], [20, 21, PAD, 22, MASK, SOP])


def whole(ids: list[int], model=MODEL) -> torch.Tensor:
    """Logits [length, vocab] of all positions at once."""
    rows = torch.tensor([ids])
    return model(rows, *layout(rows, model.config))[0]


def states(ids: list[int]) -> torch.Tensor:
    rows = torch.tensor([ids])
    return MODEL.hidden(rows, *layout(rows, CONFIG))[0]


def replies(prompts: list[list[int]], replies: list[list[int]], model=MODEL) -> torch.Tensor:
    return tiny.replies(model, prompts, replies)


@BOTH
@pytest.mark.parametrize("prompt", PROMPTS)
def test_cached_equals_uncached(prompt, model):
    reply = [12, 13, 14, 15, 16]
    expected = whole(prompt + reply, model)[len(prompt) - 1 :]
    torch.testing.assert_close(replies([prompt], [reply], model)[0], expected, atol=2e-5, rtol=1e-4)


@BOTH
def test_a_batch_equals_single_prompts(model):
    spoken = [[12, 13, 14], [15, 16, 17], [18, 19, 20]]
    together = replies(list(PROMPTS), spoken, model)
    for row, prompt, reply in zip(together, PROMPTS, spoken, strict=True):
        torch.testing.assert_close(row, replies([prompt], [reply], model)[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("padding", [1, 2, 17])
def test_left_padding_changes_nothing(padding):
    prompt = [*PROMPTS[0], 12, 13]
    rows = torch.tensor([[PAD] * padding + prompt])
    positions, mask = layout(rows, CONFIG)
    assert not mask[0, 0, padding:, :padding].any()
    assert not positions[0, :, :padding].any()
    torch.testing.assert_close(MODEL(rows, positions, mask)[0, padding:], whole(prompt), atol=2e-5, rtol=1e-4)


def test_the_context_is_read_in_both_directions():
    prompt = PROMPTS[0]
    changed = [*prompt[:4], 30, *prompt[5:]]
    difference = (states(prompt) - states(changed)).abs().amax(dim=-1)
    assert (difference[:4] > 1e-3).all()


def test_reply_tokens_never_reach_back():
    prompt = PROMPTS[0]
    one, other = states([*prompt, 12, 13, 14]), states([*prompt, 12, 30, 31])
    torch.testing.assert_close(one[: len(prompt) + 1], other[: len(prompt) + 1], atol=1e-6, rtol=0)
    assert (one[len(prompt) + 1] - other[len(prompt) + 1]).abs().max() > 1e-3


def test_sop_sees_itself_and_the_context_alone():
    _, mask = layout(torch.tensor([[5, 6, GMASK, SOP, 7]]), CONFIG)
    assert mask[0, 0].int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize(
    "ids, place, block",
    [
        # The mask token at index 3: the reply stays there, and counts on within its block.
        ([5, 6, 7, GMASK, SOP, 8, 9], [0, 1, 2, 3, 3, 3, 3], [0, 0, 0, 0, 1, 2, 3]),
        ([5, MASK, 6, 7, SOP, 8, 9], [0, 1, 2, 3, 1, 1, 1], [0, 0, 0, 0, 1, 2, 3]),
        # [gMASK] wins over [MASK], and the first of several counts.
        ([5, MASK, GMASK, GMASK, SOP, 8, 9], [0, 1, 2, 3, 2, 2, 2], [0, 0, 0, 0, 1, 2, 3]),
        # The context ends at the first <sop>.
        ([5, GMASK, SOP, 6, SOP, 8, 9], [0, 1, 1, 1, 1, 1, 1], [0, 0, 1, 2, 3, 4, 5]),
        # Padding on the left stands at 0 and moves nobody.
        ([PAD, PAD, 5, 6, GMASK, SOP, 7], [0, 0, 0, 1, 2, 2, 2], [0, 0, 0, 0, 0, 1, 2]),
        # A pad token inside the text is a token like any other.
        ([5, PAD, 6, GMASK, SOP, 7, 8], [0, 1, 2, 3, 3, 3, 3], [0, 0, 0, 0, 1, 2, 3]),
    ],
)
def test_positions(ids, place, block):
    positions, _ = layout(torch.tensor([ids]), CONFIG)
    assert positions[0].tolist() == [place, block]


@pytest.mark.parametrize(
    "ids, place",
    [
        # Beside a [gMASK] the early code leaves <sop> its own place; the reply stands at the mask all the same.
        ([5, 6, 7, GMASK, SOP, 8, 9], [0, 1, 2, 3, 4, 3, 3]),
        ([5, MASK, 6, 7, SOP, 8, 9], [0, 1, 2, 3, 1, 1, 1]),
        # [MASK] wins over [gMASK], and the first of several counts.
        ([5, MASK, GMASK, MASK, SOP, 8, 9], [0, 1, 2, 3, 1, 1, 1]),
        ([PAD, PAD, 5, 6, GMASK, SOP, 7], [0, 0, 0, 1, 2, 3, 2]),
    ],
)
def test_positions_of_the_early_code(ids, place):
    early, later = (layout(torch.tensor([ids]), model.config) for model in (EARLY, MODEL))
    assert early[0][0, 0].tolist() == place
    assert torch.equal(early[0][:, 1], later[0][:, 1]) and torch.equal(early[1], later[1])


@BOTH
@pytest.mark.parametrize("prompt", [PROMPTS[0], PROMPTS[2], [PAD, PAD, 5, GMASK, SOP]])
def test_reply_tokens_stand_where_the_whole_layout_puts_them(prompt, model):
    _, cache = tiny.begun(model, [prompt])
    for token in (12, 13, 14):
        found = cache.step_inputs(0, 1).numbers[1:, 0].tolist()
        model.decode_step(torch.tensor([token]), cache)
        prompt = [*prompt, token]
        assert found == layout(torch.tensor([prompt]), model.config)[0][0, :, -1].tolist()


def test_mask_and_gmask_are_different_words_at_the_same_place():
    gmask, mask = whole([5, 6, GMASK, SOP])[-1], whole([5, 6, MASK, SOP])[-1]
    assert (gmask - mask).abs().max() > 1e-3


@pytest.mark.parametrize("ids, lacking", [([5, 6, GMASK], "<sop>"), ([5, 6, SOP], "MASK")])
def test_a_prompt_without_its_markers_is_refused(ids, lacking):
    with pytest.raises(ValueError, match=lacking):
        tiny.begun(MODEL, [ids])


def test_the_residual_scale_does_not_follow_the_depth():
    """One layer worked by hand: the normalised value, times sqrt(56), is what is carried on."""
    model = tiny.chatglm(num_layers=1)
    rows = torch.tensor([PROMPTS[0]])
    positions, mask = layout(rows, CONFIG)
    block = model.transformer.layers[0]
    seen = []
    block.mlp.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    hidden = model.hidden(rows, positions, mask)
    normed, final = seen[0], model.transformer.final_layernorm
    inner = torch.nn.functional.gelu(block.mlp.dense_h_to_4h(normed), approximate="tanh")
    out = block.mlp.dense_4h_to_h(inner)
    torch.testing.assert_close(hidden, final(normed * 56**0.5 + out))


def test_the_rotary_frequencies_are_those_of_half_precision():
    """0.1 in half precision is 0.0999755859375: a fortieth of a radian away at position 1000."""
    cos, sin = rotary_angles(torch.tensor([[[1000], [0]]]), head_dim=16)
    angle = 1000 * torch.tensor([1.0, 0.0999755859375, 0.01000213623046875, 0.0010004043579101562])
    torch.testing.assert_close(cos[0, 0, 0, 0, 0], angle.cos().repeat(2))
    torch.testing.assert_close(sin[0, 0, 0, 0, 0], torch.cat((-angle.sin(), angle.sin())))
    assert (cos[0, 0, 0, 0, 1] == 1).all() and (sin[0, 0, 0, 0, 1] == 0).all()


def test_golden_logits():
    """Numbers of this port, whose agreement with the original code was checked when they were taken."""
    for model, golden in ((MODEL, GOLDEN), (EARLY, GOLDEN_EARLY)):
        found = replies([PROMPTS[0]], [[12, 13]], model)[0, :, [0, 7, 12, 33]]
        torch.testing.assert_close(found, torch.tensor(golden), atol=1e-4, rtol=0)


def test_half_precision_weights_run():
    model = tiny.chatglm().bfloat16()
    logits, cache = tiny.begun(model, [PROMPTS[0]])
    assert logits.dtype == torch.bfloat16 and cache.keys.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), replies([PROMPTS[0]], [[12]])[:, 0], atol=0.25, rtol=0.1)
    assert model.decode_step(torch.tensor([12]), cache).isfinite().all()


def test_unknown_config_fields_are_upstreams_bookkeeping():
    raw = tiny.chatglm_config(MODEL)
    assert ChatGLMConfig.from_dict(raw) == CONFIG and not CONFIG.early


def test_a_config_without_masks_is_of_the_early_code(tmp_path):
    """Its ids follow from that of <sop>, as in the published vocabulary and in the tokenizer's."""
    raw = tiny.early_config(EARLY)
    config = ChatGLMConfig.from_dict(raw | {"bos_token_id": 150004, "eos_token_id": 150005, "early": False})
    assert isinstance(config, EarlyChatGLMConfig) and config.early
    assert (config.mask_token_id, config.gmask_token_id, config.pad_token_id) == (150000, 150001, 3)
    tokenizer = tiny.early_ice_text(tmp_path)
    config = ChatGLMConfig.from_dict(raw | {"bos_token_id": tokenizer.bos})
    ids = (config.mask_token_id, config.gmask_token_id, config.pad_token_id)
    assert ids == (tokenizer.mask, tokenizer.gmask, tokenizer.pad)
    assert ChatGLMConfig.from_dict(raw | {"pad_token_id": 7}).pad_token_id == 7


def test_a_config_with_one_mask_is_refused():
    raw = tiny.chatglm_config(MODEL)
    with pytest.raises(TypeError, match="gmask_token_id"):
        ChatGLMConfig.from_dict({name: value for name, value in raw.items() if name != "gmask_token_id"})


GOLDEN = [
    [-0.64062, 0.73412, 1.72803, 1.35874],
    [-0.52302, 0.01568, -0.80571, -0.54248],
    [0.06652, 0.16472, 0.85056, -1.76221],
]
GOLDEN_EARLY = [
    [-0.67059, 0.74626, 1.74148, 1.32693],
    [-0.52484, 0.01843, -0.80289, -0.54585],
    [0.05785, 0.18383, 0.86969, -1.77767],
]

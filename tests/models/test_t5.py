"""T5 v1.1: the same numbers as transformers, and that the cache and padding change nothing."""

from __future__ import annotations

import pytest
import torch

from bianque.models.t5 import T5Config
from tests import tiny

MODEL = tiny.t5()
PROMPTS = ([5, 6, 7, 8, 9, 10, 11, 1], [12, 1], [20, *range(3, 40), 21, 22, 1])
REPLY = [13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24]

ENDLESS = {"min_new_tokens": 20, "eos_token_id": None}


def published(model):
    """transformers' T5 with our weights. Its 5.x ties the head to the embedding whatever the config says."""
    from transformers import T5Config as TheirConfig
    from transformers import T5ForConditionalGeneration

    facts = tiny.t5_config(model)
    theirs = T5ForConditionalGeneration(TheirConfig(**facts)).eval()
    if not model.config.tie_word_embeddings:
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    missing, unexpected = theirs.load_state_dict(tiny.stored(model), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    return theirs


def replies(prompts, replies):
    return tiny.replies(MODEL, prompts, replies)


@torch.inference_mode()
def greedy(model, prompt, length):
    logits, cache = tiny.begun(model, [prompt], length)
    produced = []
    while len(produced) < length:
        produced.append(int(logits.argmax()))
        logits = model.decode_step(torch.tensor(produced[-1:]), cache)
    return produced


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head, scaled"])
def test_logits_and_greedy_tokens_are_those_of_transformers(tied):
    model = tiny.t5(tie_word_embeddings=tied)
    theirs = published(model)
    for prompt in PROMPTS:
        with torch.inference_mode():
            ids, target = torch.tensor([prompt]), torch.tensor([[0, *REPLY]])
            expected = theirs(input_ids=ids, decoder_input_ids=target).logits
            torch.testing.assert_close(model(ids, target), expected, atol=2e-5, rtol=1e-4)
            # Its cache cannot hold a decoder deeper than the encoder.
            spoken = theirs.generate(input_ids=ids, do_sample=False, max_new_tokens=20, use_cache=False, **ENDLESS)
        assert greedy(model, prompt, 20) == spoken[0, 1:].tolist()


def test_encoder_states_are_those_of_transformers():
    with torch.inference_mode():
        ids = torch.tensor([PROMPTS[2]])
        expected = published(MODEL).encoder(input_ids=ids).last_hidden_state
    torch.testing.assert_close(MODEL.encode(ids)[0], expected, atol=2e-5, rtol=1e-4)


def test_a_tied_head_is_scaled():
    tied, own = tiny.t5(tie_word_embeddings=True), tiny.t5(tie_word_embeddings=False)
    assert not hasattr(tied, "lm_head")
    own.lm_head.weight.copy_(own.shared.weight)
    states = tiny.numbers(torch.Size([2, 24]), 5)
    torch.testing.assert_close(tied.head(states), own.head(states) / 24**0.5)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_cached_equals_uncached(prompt):
    expected = MODEL(torch.tensor([prompt]), torch.tensor([[0, *REPLY]]))[0]
    torch.testing.assert_close(replies([prompt], [REPLY])[0], expected, atol=2e-5, rtol=1e-4)


def test_a_batch_equals_single_prompts():
    spoken = [REPLY[i : i + 4] for i in range(3)]
    together = replies(list(PROMPTS), spoken)
    for row, prompt, reply in zip(together, PROMPTS, spoken, strict=True):
        torch.testing.assert_close(row, replies([prompt], [reply])[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("padding", [1, 9])
def test_right_padding_changes_nothing(padding):
    padded = [*PROMPTS[0], *[0] * padding]
    target = torch.tensor([[0, *REPLY]])
    found, expected = (MODEL(torch.tensor([prompt]), target) for prompt in (padded, PROMPTS[0]))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_later_reply_tokens_never_reach_back():
    ids = torch.tensor([PROMPTS[0]])
    one, other = (MODEL(ids, torch.tensor([[0, 13, 14, last, 16]]))[0] for last in (15, 30))
    torch.testing.assert_close(one[:3], other[:3], atol=1e-6, rtol=0)
    assert (one[3] - other[3]).abs().max() > 1e-3


def test_a_feed_forward_of_the_first_t5_is_refused():
    with pytest.raises(ValueError, match="relu"):
        T5Config.from_dict(tiny.t5_config(MODEL) | {"feed_forward_proj": "relu"})


def test_a_config_without_decoder_layers_has_as_many_as_the_encoder():
    raw = tiny.t5_config(MODEL)
    del raw["num_decoder_layers"]
    assert T5Config.from_dict(raw).num_decoder_layers == raw["num_layers"]


def test_half_precision_weights_run():
    model = tiny.t5().bfloat16()
    logits, cache = tiny.begun(model, [PROMPTS[0]])
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), replies([PROMPTS[0]], [REPLY])[:, 0], atol=0.3, rtol=0.1)
    assert model.decode_step(torch.tensor([12]), cache).isfinite().all()


def test_golden_logits():
    found = replies([PROMPTS[0]], [[13, 14]])[0, :, [0, 7, 12, 33]]
    torch.testing.assert_close(found, torch.tensor(GOLDEN), atol=1e-4, rtol=0)


GOLDEN = [
    [0.93148, -0.30188, -0.49805, -2.02793],
    [-0.23672, 0.91952, 0.24582, 1.76890],
    [-0.02526, 0.98402, 0.05759, 2.13713],
]

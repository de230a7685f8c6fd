"""The table of models: exact names, facts that fit together, and nothing that only one card would need."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from bianque.bench.shapes import config_of
from bianque.catalog.builtin import CARDS, FORMATS, by_name, find
from bianque.catalog.footprint import sizes
from bianque.checkpoints.hub import BUNDLED
from bianque.checkpoints.loader import ARCHITECTURES
from bianque.cli import models
from bianque.errors import BadInput, LoadFailed, UnknownModel
from bianque.nn import quant
from bianque.types import Message
from bianque.ui import about

CUES = ("医生：", "心理咨询师：", "答：", "<reserved_103>")


def test_names_are_unique_and_find_gives_the_card():
    assert len(by_name()) == len(CARDS)
    for card in CARDS:
        assert find(by_name(), card.name) is card


@pytest.mark.parametrize("name", ["bianque", "BianQue-2", "bianque-2 ", "", "scutcyr/BianQue-2"])
def test_names_are_not_guessed(name):
    with pytest.raises(UnknownModel) as failure:
        find(by_name(), name)
    assert repr(name) in str(failure.value)
    assert all(card.name in str(failure.value) for card in CARDS)


def test_a_precision_is_part_of_a_name():
    card = find(by_name(), "bianque-2@8")
    assert (card.name, card.base, card.held, card.repo) == ("bianque-2@8", "bianque-2", 8, by_name()["bianque-2"].repo)
    assert card.loadable.memory(8) == by_name()["bianque-2"].loadable.memory(8)
    assert find(by_name(), "chatglm-6b-int4@4").held == 4


@pytest.mark.parametrize("name", ["bianque-2@", "bianque-2@5", "bianque-2@8@4", "bianque-2@ 8", "chatglm-6b-int4@16"])
def test_a_precision_that_a_model_cannot_have_is_refused(name):
    with pytest.raises(BadInput, match=re.escape(repr(name))) as failure:
        find(by_name(), name)
    assert name.partition("@")[0] + ("@4" if "int4" in name else "@16, ") in str(failure.value)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_can_be_loaded_prompted_and_cited(card):
    assert card.loadable.architecture in ARCHITECTURES
    assert (card.loadable.prompt, card.loadable.clean) in FORMATS.values()
    lone, second = [Message("user", "头痛")], [Message("assistant", "多久了？"), Message("user", "两天")]
    assert card.loadable.prompt(lone) == "头痛" or card.loadable.prompt(lone).endswith(CUES)
    assert card.loadable.prompt([*lone, *second]).endswith(CUES)
    assert card.loadable.clean(" 好 ") == "好"
    assert card.licence and card.citation and card.loadable.bytes > 0
    assert card.sampling.max_new_tokens > 0 and card.sampling.temperature > 0
    if card.loadable.architecture != "t5":  # prompt and reply share the window
        assert card.sampling.max_new_tokens < card.loadable.window


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_names_what_is_fetched_or_comes_with_the_package(card):
    if card.repo is None:
        assert card.preview and not card.loadable.files
    else:
        assert {"config.json", ARCHITECTURES[card.loadable.architecture].vocabulary} <= set(card.loadable.files)
        assert any(name.startswith("pytorch_model") for name in card.loadable.files)
        assert not any(name.endswith((".py", "*")) for name in card.loadable.files), "no remote code"


def counted(architecture: str, config: dict) -> tuple[int, int, int]:
    """Weights of a model of this shape in all, outside its quantised layers, and of its head; on no device at all."""
    kind = ARCHITECTURES[architecture]
    with torch.device("meta"):
        model = kind.model(kind.config.from_dict(config))
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    quant.replace_linears(model, 8)
    names = {f"{name}.weight" for name in quant.linears(model)}
    kept = sum(size for name, size in sizes.items() if name not in names)
    return sum(sizes.values()), kept, sizes["lm_head.weight"]


CHATGLM = config_of("chatglm")
EARLY = {key: value for key, value in CHATGLM.items() if not key.startswith(("mask", "gmask", "pad"))}
SHAPES = {
    "bianque-1": config_of("t5"),
    "medicalgpt-zh": EARLY | {"vocab_size": 150528, "bos_token_id": 150004, "eos_token_id": 150005},
    "disc-medllm": config_of("baichuan"),
    **dict.fromkeys(("bianque-2", "soulchat", "chatglm-6b", "chatglm-6b-int8", "chatglm-6b-int4"), CHATGLM),
}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_weights_of_a_card_are_counted(card):
    shape = SHAPES.get(card.name) or json.loads((BUNDLED / card.name / "config.json").read_text())
    assert counted(card.loadable.architecture, shape) == (
        card.loadable.parameters,
        card.loadable.kept,
        card.loadable.head,
    )
    heads = shape.get("num_heads", 1) * shape.get("d_kv", shape.get("hidden_size", 0))
    layers = next(shape[key] for key in ("num_decoder_layers", "num_layers", "num_hidden_layers") if key in shape)
    assert card.loadable.cache == layers * heads * 2 * 2  # keys and values of two bytes


def test_a_model_without_a_checkpoint_is_shown_and_cannot_be_loaded():
    """As one that is answered by a URL."""
    remote = replace(by_name()["bianque-2"], name="elsewhere", repo=None, checkpoint=None)
    assert (remote.precisions, sizes(remote), remote.base) == ((), "–", "elsewhere")
    assert "elsewhere" in models.text([remote]) and '"elsewhere"' in models.as_json([remote])
    assert remote.title in about.text([remote], 8, "en")
    with pytest.raises(LoadFailed, match="no checkpoint"):
        _ = remote.loadable


def test_both_pairs_are_there():
    for names in (("bianque-1", "bianque-2"), ("ask-mini", "advise-mini")):
        assert [by_name()[name].role for name in names] == ["asks", "advises"]

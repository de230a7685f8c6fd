"""The table of models: exact names, facts that fit together, and nothing that only one card would need."""

from __future__ import annotations

import pytest

from bianque.errors import UnknownModel
from bianque.registry import CARDS, by_name, find
from bianque.types import Message
from bianque.weights import ARCHITECTURES


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


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_can_be_loaded_prompted_and_cited(card):
    assert card.architecture in ARCHITECTURES
    assert card.prompt([Message("user", "头痛")]).endswith("医生：")
    assert card.clean(" 好 ") == "好"
    assert card.licence and card.citation and card.bytes > 0
    assert card.sampling.max_new_tokens > 0 and card.sampling.temperature > 0
    if card.architecture == "chatglm":  # prompt and reply share the window
        assert card.sampling.max_new_tokens < card.window


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_names_what_is_fetched_or_comes_with_the_package(card):
    if card.repo is None:
        assert card.preview and not card.files
    else:
        vocabulary = ARCHITECTURES[card.architecture][-1]
        assert {"config.json", vocabulary} <= set(card.files)
        assert any(name.startswith("pytorch_model") for name in card.files)
        assert not any(name.endswith((".py", "*")) for name in card.files), "no remote code"


def test_both_pairs_are_there():
    for names in (("bianque-1", "bianque-2"), ("ask-mini", "advise-mini")):
        assert [by_name()[name].role for name in names] == ["asks", "advises"]

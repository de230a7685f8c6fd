"""What a first message tells already is not asked."""

from __future__ import annotations

import pytest

from bianque.consult.hearing import hearing
from bianque.consult.told import Utterance, features, questions
from bianque.data.knowledge import bundled
from bianque.types import Message


@pytest.mark.parametrize(
    ("text", "told", "not_told"),
    [
        ("我妈七十三岁，起夜三次，脚脖子还肿", {"times", "person"}, {"drink"}),
        ("五十肩，半年了，梳头都困难", {"duration"}, set()),
        ("右耳朵像蝉叫，半年多了", {"duration", "side"}, {"medicine"}),
        ("睡不着", set(), {"duration", "caffeine"}),
    ],
)
def test_an_opening_tells(text, told, not_told):
    heard = hearing().hear([Message("user", text)])
    assert heard.entry is not None
    slots = {slot.key for slot in heard.entry.slots}
    assert told & slots <= heard.told.keys() and not not_told & heard.told.keys()


def test_features_are_one_row_a_question():
    entry = bundled().complaints["insomnia"]
    for text in ("失眠两个多星期了", "。", "睡不着" * 500):
        assert features(Utterance.of(text), questions(entry)).shape == (len(entry.slots), 11)

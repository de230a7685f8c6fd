"""What people say in one region or another, in the knowledge base's words."""

from __future__ import annotations

import pytest

from bianque.data import speech
from bianque.data.knowledge import bundled, texts


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("我解不下大手，三天了", "我大便拉不出来，三天了"),
        ("娃儿屙稀", "孩子拉稀"),
        ("波棱盖疼", "膝盖疼"),
        ("脑壳昏", "头晕"),
        ("起了缠腰龙", "起了带状疱疹"),
        ("我要做个大手术，能问一下大手术的事吗", "我要做个大手术，能问一下大手术的事吗"),
        ("宝宝长了鹅口疮，痒得厉害口服了药", "宝宝长了鹅口疮，痒得厉害口服了药"),
        ("检查时引发呕吐，头晕眼花", "检查时引发呕吐，头晕眼花"),
    ],
)
def test_a_word_of_one_region_is_read_as_the_one_that_is_known(said, meant):
    assert speech.standard(said) == meant


def test_what_was_replaced_is_not_replaced_again():
    for word in (word for _, word in speech.dialect()):
        assert speech.standard(word) == word


def test_the_doctors_own_words_are_read_as_they_stand():
    """What the knowledge base itself asks and advises is in its own words already."""
    entries = bundled().entries.values()
    spoken = [text for entry in entries for text in texts([entry.assess, entry.advice, entry.doctor, entry.urgent])]
    changed = [text for text in spoken if speech.standard(text) != text]
    assert len(changed) <= len(spoken) // 500, changed

"""What people say in one region or another, in the knowledge base's words."""

from __future__ import annotations

import pytest

from bianque.data import speech
from bianque.data.knowledge import bundled, texts
from bianque.errors import BadInput


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


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("- 头晕\n- 膝盖", "1: needs to be a mapping; write"),
        ("膝盖: [波棱盖]\n头晕: 脑壳昏", "2: 头晕='脑壳昏': needs to be a list; write"),
        ("膝盖: [波棱盖]\n头晕: [脑壳昏, '']", "2: 头晕.1='': is empty; write a text or take it out"),
        ("膝盖: [波棱盖]\n头晕: [1]", "2: 头晕.0=1: needs to be a text; write it in quotes"),
        ("膝盖: [波棱盖]\n头晕: [脑壳昏, 脑壳昏]", "2: 头晕.1: '脑壳昏' stands twice; take one out"),
        ("头晕: [脑壳昏]\n头疼: [脑壳昏]", "2: 头疼.0: '脑壳昏' stands for '头晕', too; take one out"),
        ("头晕: [脑壳昏]\n头晕: [发昏]", "2: not valid YAML: '头晕' stands twice; make them one"),
        ("膝盖: [波棱盖]\n头晕: [头晕]", "2: 头晕: matches '头晕', a word on the left"),
        ("头晕: [脑壳昏]\n膝盖: [波棱盖]\n波棱盖: [膝盖]", "2: 膝盖: matches '波棱盖', a word on the left"),
        ("头晕: [脑壳昏]\n膝盖: ['波(棱盖']", "2: 膝盖: not regular expressions: missing )"),
    ],
)
def test_a_wrong_row_is_named_with_its_line_and_remedy(tmp_path, wrong, told):
    path = tmp_path / "dialect.yaml"
    path.write_text(wrong, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        speech.dialect(path)
    assert str(caught.value).startswith(f"{path}:{told}")


def test_what_was_replaced_is_not_replaced_again():
    for word in (word for _, word in speech.dialect()):
        assert speech.standard(word) == word


def test_the_doctors_own_words_are_read_as_they_stand():
    """What the knowledge base itself asks and advises is in its own words already."""
    entries = bundled().entries.values()
    spoken = [text for entry in entries for text in texts([entry.assess, entry.advice, entry.doctor, entry.urgent])]
    changed = [text for text in spoken if speech.standard(text) != text]
    assert len(changed) <= len(spoken) // 500, changed

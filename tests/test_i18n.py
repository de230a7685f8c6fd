"""The words of the page: the same keys and placeholders in every language, and what a language name means."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest

from bianque import i18n
from bianque.i18n import LANGS, known, say, waiting, words
from bianque.types import Progress


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("lang", LANGS)
def test_every_language_has_the_same_keys_and_placeholders(lang):
    chinese, other = words("zh-CN"), words(lang)
    assert list(other) == list(chinese)
    assert {key: placeholders(text) for key, text in other.items()} == {
        key: placeholders(text) for key, text in chinese.items()
    }
    assert all(text == text.strip() and text for text in other.values())


@pytest.mark.parametrize("path", sorted(Path(i18n.__file__).parent.glob("*.json")), ids=lambda path: path.stem)
def test_no_key_stands_twice(path):
    keys = [key for key, _ in json.loads(path.read_text("utf-8"), object_pairs_hook=list)]
    assert len(keys) == len(set(keys))  # json keeps the last of them


def test_traditional_chinese_is_no_copy_and_a_patient_has_one_name():
    assert all("病人" not in text for text in words("zh-CN").values())
    simplified = re.compile("[们这个说话问诊断请对应选择发现]")  # a few of the most common
    assert sum(bool(simplified.search(text.replace("个", ""))) for text in words("zh-TW").values()) < 20


@pytest.mark.parametrize("lang", ["zh-CN", "zh-TW", "ko"])
def test_a_text_that_sends_somebody_to_a_tab_names_it_as_it_is_called(lang):
    assert words(lang)["arena"] in words(lang)["no_votes"]


def test_a_text_is_filled_and_what_is_missing_is_named():
    assert say("zh-CN", "some_columns", count=3) == "3 列" and say("en", "eval_more", count=2) == "And 2 more."
    with pytest.raises(KeyError, match="count"):
        say("en", "some_columns")
    with pytest.raises(KeyError, match="no_such_key"):
        say("en", "no_such_key")


def test_waiting_says_the_place_in_the_queue_or_the_share_that_is_loaded():
    assert "42" in waiting("ko", Progress("ask-mini", "loading", 0.42))
    assert waiting("en", Progress("ask-mini", "queued", 0.0, 3)) == "ask-mini is queued, 3 ahead …"


@pytest.mark.parametrize(
    "names, lang",
    [
        (["zh_TW.UTF-8"], "zh-TW"), (["zh-Hant-HK"], "zh-TW"), (["zh"], "zh-CN"), (["en-GB", "zh"], "en"),
        (["fr", "ko-KR"], "ko"), (["fr"], "zh-CN"), ([], "zh-CN"),
    ],
)  # fmt: skip
def test_the_first_language_that_there_is_else_chinese(names, lang):
    assert known(names) == lang

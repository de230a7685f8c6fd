"""Tokenizers: text comes back as it went in, only `prompt` adds special tokens, and half a character shows as one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bianque.tokenizers import ChatGLMTokenizer, T5Tokenizer
from tests import tiny

SPECIAL_TEXTS = (*ChatGLMTokenizer.pieces, "<ENC>", "<dBLOCK>", "<unused_0>", "<extra_id_0>", "<extra_id_99>", "</s>")
WORDS = (
    "头痛",
    "三天",
    "医生：",
    "\n",
    "\t",
    "  ",
    " ",
    "a",
    "<",
    ">",
    "[",
    "]",
    "\\n",
    "🙂",
    "龘",
    "。",
    "s>",
    "MASK",
)
MIXTURES = st.lists(st.sampled_from(SPECIAL_TEXTS + WORDS) | st.text(max_size=3), max_size=12).map("".join)


@pytest.fixture(scope="module")
def glm(tmp_path_factory):
    return tiny.ice_text(tmp_path_factory.mktemp("glm"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return tiny.spiece(tmp_path_factory.mktemp("t5"))


@pytest.mark.parametrize(
    "text",
    [
        "病人：头痛三天了。\n医生：",
        "一\n\n\n二",
        "一\t二\t\t三",
        "全角：，。！？；（）",
        "half: , . ! ? ; ( )",
        "🙂 龘 é ᾴ",
        "3. 多喝水 4. 休息",
    ],
)
def test_chatglm_text_comes_back(glm, text):
    assert glm.decode(glm.encode(text)) == text


@pytest.mark.parametrize("blanks", range(2, 81))
def test_a_run_of_blanks_is_one_piece(glm, blanks):
    text = f"头{' ' * blanks}痛"
    ids = glm.encode(text)
    assert glm.decode(ids) == text
    assert glm.model.piece_to_id(f"<|blank_{blanks}|>") in ids


def test_more_blanks_than_the_largest_piece_come_back(glm):
    text = f"头{' ' * 203}痛"
    assert glm.decode(glm.encode(text)) == text


@settings(deadline=None)
@given(st.text(st.sampled_from("头痛三天了医生病人：，。?ab1\n\t🙂龘é"), max_size=40))
def test_any_chatglm_text_without_single_blanks_comes_back(glm, text):
    assert glm.decode(glm.encode(text)) == text


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["头痛", "三天", "好转", "\\n", "\\t", "，", "。", "医生："]), max_size=20).map("".join)
)
def test_t5_text_of_known_characters_comes_back(t5, text):
    assert t5.decode(t5.encode(text)) == text


@settings(deadline=None)
@given(MIXTURES)
def test_a_visitor_never_types_a_special_token(glm, t5, text):
    assert not glm.special & set(glm.encode(text))
    # The unknown piece is an honest "some character"; it controls nothing.
    assert not {t5.eos, t5.pad} & set(t5.encode(text))


@settings(deadline=None)
@given(MIXTURES)
def test_a_prompt_holds_its_markers_once_and_at_the_end(glm, t5, text):
    assert glm.prompt(text) == [*glm.encode(text), glm.gmask, glm.bos]
    assert t5.prompt(text) == [*t5.encode(text), t5.eos]


@settings(deadline=None)
@given(MIXTURES)
def test_all_ids_are_within_the_vocabulary(glm, t5, text):
    for tokenizer in (glm, t5):
        assert all(0 <= i < tokenizer.model.vocab_size() for i in tokenizer.encode(text))


def test_decoding_leaves_out_special_tokens_and_ids_beyond_the_pieces(glm, t5):
    ids = glm.encode("头痛三天")
    beyond = glm.model.vocab_size() + 5
    assert glm.decode([glm.pad, glm.gmask, glm.bos, *ids, beyond, glm.eos]) == "头痛三天"
    ids = t5.encode("头痛三天")
    assert t5.decode([t5.pad, *ids[:1], t5.model.unk_id(), *ids[1:], t5.model.vocab_size(), t5.eos]) == "头痛三天"


def test_the_bytes_of_a_character_show_once_they_are_complete(glm):
    ids = glm.encode("痛🙂")
    assert len(ids) >= 5
    for kept in range(len(ids) - 3, len(ids)):
        shown = glm.decode(ids[:kept])
        assert shown.rstrip("\ufffd") == "痛" and shown.endswith("\ufffd")
    assert glm.decode(ids) == "痛🙂"


def test_what_is_decoded_only_grows(glm):
    ids = glm.encode("头痛🙂三天\n\n龘了  好")
    shown = [glm.decode(ids[:count]).rstrip("\ufffd") for count in range(len(ids) + 1)]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(shown))


def test_a_vocabulary_without_the_markers_is_refused(t5, tmp_path):
    (tmp_path / "ice_text.model").write_bytes(t5.model.serialized_model_proto())
    with pytest.raises(ValueError, match=r"ice_text\.model has no piece .*\[gMASK\]"):
        ChatGLMTokenizer(tmp_path / "ice_text.model")


def test_t5_ids_are_those_of_the_published_layout(t5):
    assert (t5.pad, t5.eos, t5.model.unk_id()) == (0, 1, 2)
    assert isinstance(t5, T5Tokenizer)

"""Tokenizers: text comes back as it went in, only `prompt` adds special tokens, and half a character shows as one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.models.tokenizers import BaichuanTokenizer, ChatGLMTokenizer, EarlyChatGLMTokenizer, T5Tokenizer
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


@given(st.text(st.sampled_from("头痛三天了医生病人：，。?ab1\n\t🙂龘é"), max_size=40))
def test_any_chatglm_text_without_single_blanks_comes_back(glm, text):
    assert glm.decode(glm.encode(text)) == text


@given(
    st.lists(st.sampled_from(["头痛", "三天", "好转", "\\n", "\\t", "，", "。", "医生："]), max_size=20).map("".join)
)
def test_t5_text_of_known_characters_comes_back(t5, text):
    assert t5.decode(t5.encode(text)) == text


@given(MIXTURES)
def test_a_visitor_never_types_a_special_token(glm, t5, text):
    assert not glm.special & set(glm.encode(text))
    # The unknown piece is an honest "some character"; it controls nothing.
    assert not {t5.eos, t5.pad} & set(t5.encode(text))


@given(MIXTURES)
def test_a_prompt_holds_its_markers_once_and_at_the_end(glm, t5, text):
    assert glm.prompt(text) == [*glm.encode(text), glm.gmask, glm.bos]
    assert t5.prompt(text) == [*t5.encode(text), t5.eos]


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


# Baichuan.

RESERVED_TEXTS = (*BaichuanTokenizer.markers, "<reserved_7>", "<reserved_", "103>", "<s>", "<unk>", "<0x41>")
CHATS = st.lists(st.sampled_from(RESERVED_TEXTS + WORDS) | st.text(max_size=3), max_size=12).map("".join)


@pytest.fixture(scope="module")
def baichuan(tmp_path_factory):
    return tiny.tokenizer_model(tmp_path_factory.mktemp("baichuan"))


def test_baichuan_ids_are_those_of_the_published_layout(baichuan):
    assert (baichuan.pad, baichuan.eos) == (0, 2)
    assert baichuan.prompt("<reserved_102><reserved_103></s>") == [195, 196, 2]
    assert [baichuan.model.id_to_piece(i) for i in (0, 1, 2, 92, 93, 197)] == [
        "<unk>", "<s>", "</s>", "<0x59>", "<reserved_0>", "<0x5A>",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["头痛三天了。\n好", " 头痛", "  ", "头痛 三天  了 ", "\n", "一\t二", "🙂 龘 é", "a, b! 39.5", "▁", "<0x41>", ""],
)
def test_baichuan_text_comes_back(baichuan, text):
    shown = text.replace("▁", " ")  # SentencePiece's own letter for a blank
    assert baichuan.decode(baichuan.encode(text)) == shown


@given(CHATS)
def test_a_visitor_never_types_a_special_token_of_baichuan(baichuan, text):
    assert not baichuan.special & set(baichuan.encode(text))
    assert {0, 1, 2, *range(93, 197)} == baichuan.special


# A text that holds a marker is the business of prompts.neutralise.
PLAIN = CHATS.filter(lambda text: not any(mark in text for mark in BaichuanTokenizer.markers))


@given(st.lists(st.tuples(PLAIN, st.sampled_from(BaichuanTokenizer.markers)), max_size=4), PLAIN)
def test_a_message_has_the_same_ids_wherever_it_stands(baichuan, turns, last):
    expected = [i for text, mark in turns for i in (*baichuan.encode(text), baichuan.ids[mark])]
    assert baichuan.prompt("".join(text + mark for text, mark in turns) + last) == [*expected, *baichuan.encode(last)]


def test_a_message_behind_a_marker_begins_as_one_alone_does(baichuan):
    """The blank that the vocabulary puts before a text: encoded in one go, the second message would lack it."""
    ids = baichuan.prompt("<reserved_102>头痛<reserved_103>三天")
    blank = baichuan.model.piece_to_id("▁")
    assert [ids[0], ids[3]] == [195, 196] and ids[1] == ids[4] == blank
    assert baichuan.decode(ids[4:]) == "三天"


def test_baichuan_decodes_no_special_token_and_no_id_beyond_the_pieces(baichuan):
    ids = baichuan.encode("头痛三天")
    assert baichuan.decode([1, 195, *ids[:2], 100, 0, *ids[2:], baichuan.model.vocab_size(), 196, 2]) == "头痛三天"


def test_half_a_character_of_baichuan_shows_as_one(baichuan):
    ids = baichuan.encode("痛🙂")
    shown = [baichuan.decode(ids[:kept]) for kept in range(len(ids) - 4, len(ids) + 1)]
    assert shown[0] == "痛" and shown[-1] == "痛🙂"
    assert all(text.rstrip("\ufffd") == "痛" and text.endswith("\ufffd") for text in shown[1:-1])


def test_what_baichuan_decodes_only_grows(baichuan):
    ids = baichuan.encode(" 头痛🙂三天\n\n龘了  好")
    shown = [baichuan.decode(ids[:count]).rstrip("\ufffd") for count in range(len(ids) + 1)]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(shown))


def test_a_vocabulary_without_the_speakers_is_refused(t5, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(t5.model.serialized_model_proto())
    with pytest.raises(ValueError, match=r"tokenizer\.model has no piece <reserved_102>, <reserved_103>"):
        BaichuanTokenizer(tmp_path / "tokenizer.model")


# ChatGLM, early code.


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    return tiny.early_ice_text(tmp_path_factory.mktemp("early"))


@pytest.fixture(scope="module")
def completed(early, tmp_path_factory):
    """The later code's tokenizer of the same pieces, with those that the early code adds in its file."""
    path = tmp_path_factory.mktemp("completed") / "ice_text.model"
    path.write_bytes(early.model.serialized_model_proto())
    return ChatGLMTokenizer(path)


def test_the_early_code_adds_the_pieces_that_the_later_file_holds(early, tmp_path):
    later = tiny.ice_text(tmp_path).model
    pieces = lambda model: [
        (model.id_to_piece(i), model.is_control(i), model.is_byte(i)) for i in range(model.vocab_size())
    ]
    assert pieces(early.model) == pieces(later)
    assert early.model.vocab_size() == early.mask - 20_000 + 344


def test_early_special_ids_stand_as_published(early):
    """Relative to [MASK], which is 150000 in the published vocabulary, and behind the 20,000 image tokens."""
    assert [early.gmask - early.mask, early.bos - early.mask, early.eos - early.mask] == [1, 4, 5]
    assert early.special >= {
        20_000,
        20_001,
        20_002,
        20_003,
        early.mask,
        early.gmask,
        early.mask + 2,
        early.bos,
        early.eos,
    }
    assert early.decode([early.eos]) == "" and early.pad < 20_000


@given(MIXTURES)
def test_early_ids_are_the_later_ones_behind_the_images(early, completed, text):
    assert early.encode(text) == [20_000 + i for i in completed.encode(text)]
    assert early.prompt(text) == [20_000 + i for i in completed.prompt(text)]
    assert early.decode(early.encode(text)) == completed.decode(completed.encode(text))


@given(MIXTURES)
def test_a_visitor_never_types_a_special_token_of_the_early_code(early, text):
    ids = early.encode(text)
    assert not early.special & set(ids)
    assert all(20_000 <= i < 20_000 + early.model.vocab_size() for i in ids)


@pytest.mark.parametrize(
    "text",
    ["病人：头痛三天了。\n医生：", "一\n\n\n二", "一\t二\t\t三", "🙂 龘 é ᾴ", f"头{' ' * 203}痛", "half: , . ! ?"],
)
def test_early_text_comes_back(early, text):
    assert early.decode(early.encode(text)) == text


def test_early_decoding_leaves_out_images_special_tokens_and_ids_beyond_the_pieces(early):
    ids = early.encode("头痛三天")
    beyond = 20_000 + early.model.vocab_size()
    assert early.decode([early.pad, 19_999, early.gmask, early.bos, *ids, beyond, early.eos]) == "头痛三天"


def test_a_tokenizer_of_the_other_code_is_refused(tmp_path):
    tiny.ice_text(tmp_path)
    with pytest.raises(ValueError, match=r"ice_text\.model has the piece \[MASK\] already: .* early code"):
        EarlyChatGLMTokenizer(tmp_path / "ice_text.model")
    tiny.early_ice_text(tmp_path)
    with pytest.raises(ValueError, match=r"ice_text\.model has no piece .*\[gMASK\].* later code"):
        ChatGLMTokenizer(tmp_path / "ice_text.model")

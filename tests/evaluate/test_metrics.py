import math
import random
from itertools import product

import pytest

from bianque.consult.text import length, strip_echo
from bianque.errors import BadInput
from bianque.evaluate import metrics


def mixtures(pieces, size, count=300):
    """Random strings of the pieces, the same ones each time."""
    rng = random.Random(0)
    return ["".join(rng.choices(pieces, k=rng.randrange(size))) for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("头痛，发热38.5度", ["头", "痛", "，", "发", "热", "38.5", "度"]),
        ("CT与MRI检查 2次", ["CT", "与", "MRI", "检", "查", "2", "次"]),
        ("1. 多喝水\n2. 休息", ["1", ".", "多", "喝", "水", "2", ".", "休", "息"]),
        ("3-5天", ["3", "-", "5", "天"]),
        ("……", ["…", "…"]),
        ("α受体", ["α", "受", "体"]),
    ],
)
def test_tokens(text, expected):
    assert metrics.tokens(text) == expected


def test_tokens_lose_nothing_but_white_space():
    for text in mixtures("头，。A b1.5\n\u3000α٣😀é", 30):
        assert len("".join(metrics.tokens(text))) == length(text)


def test_length_leaves_out_white_space():
    assert length(" 您 好\n\u3000a\t") == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("多喝水。", "多喝水。"),
        ("医生：多喝水。", "多喝水。"),
        ("医生:多喝水。", "多喝水。"),
        ("医生：医生：多喝水。", "多喝水。"),
        ("病人：我头痛\n医生：多久了？", "多久了？"),
        ("我头痛\n医生：多久了？", "多久了？"),
        ("多久了？\n病人：三天\n医生：去医院", "多久了？"),
        ("多久了？\n患者:三天", "多久了？"),
        ("病人：我头痛\n医生：多久了？\n病人：三天\n医生：去医院", "多久了？"),
        ("\n 医生：多久了？\n  患者：三天", "多久了？"),
        ("建议：\n1. 咨询医生：说明情况\n2. 休息", "建议：\n1. 咨询医生：说明情况\n2. 休息"),
        ("1. 保护患者：移开硬物", "1. 保护患者：移开硬物"),
        ("医生：\n病人：三天", ""),
        ("", ""),
    ],
)
def test_strip_echo(text, expected):
    assert strip_echo(text) == expected


def test_strip_echo_twice_is_strip_echo_once():
    for text in mixtures(["头痛", "。", "\n", " ", "医生：", "医生:", "病人：", "\n患者:", "\n医生："], 12):
        once = strip_echo(text)
        assert strip_echo(once) == once
        assert once in text


@pytest.mark.parametrize(
    ("turns", "n", "expected"),
    [
        (["头痛头痛"], 1, 2 / 4),
        (["头痛头痛"], 2, 2 / 3),
        (["头痛", "头痛"], 2, 1 / 2),  # no bigram across turns
        (["头"], 2, 0.0),
        ([], 1, 0.0),
    ],
)
def test_distinct(turns, n, expected):
    assert metrics.distinct(turns, n) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("dialogues", "expected"),
    [
        ([["请多喝水。", "请多喝水。"]], 1.0),
        ([["请多喝水。", "注意休息吧。"]], 0.0),
        ([["请多喝水。"], ["请多喝水。"]], 0.0),  # another dialogue is no repetition
        ([["请多喝水请多喝水"]], 0.0),  # nor is one turn
        ([["请多喝水", "甲乙丙丁戊", "请多喝水"]], 1 / 3),
        ([["请多喝水", "请多喝水"], ["甲乙丙丁", "戊己庚辛壬"]], 1 / 3),  # 4-grams pooled, not a mean of dialogues
        ([], 0.0),
    ],
)
def test_self_repetition(dialogues, expected):
    assert metrics.self_repetition(dialogues) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "times", "expected"),
    [
        ("多喝热水多喝热水多喝热水", 3, True),
        ("多喝热水多喝热水", 3, False),
        ("多喝热水多喝热水", 2, True),
        ("啊啊啊啊啊啊", 3, True),
        ("", 3, False),
    ],
)
def test_repeats_4gram(text, times, expected):
    assert metrics.repeats_4gram(text, times) is expected


def test_question_rate():
    assert metrics.question_rate(["头痛多久了？", "多喝水，注意休息。"]) == 0.5
    assert metrics.question_rate([]) == 0.0


ASK, BOTH, ADVISE = "头痛多久了？", "头痛多久了？有没有发热？", "多喝水，注意休息。"


@pytest.mark.parametrize(
    ("dialogues", "first", "some", "per_turn"),
    [
        ([[ASK, ADVISE], [ADVISE, BOTH], [ADVISE, ADVISE], [""]], 1 / 4, 2 / 4, 3 / 7),
        ([[BOTH]], 1.0, 1.0, 2.0),
        ([], 0.0, 0.0, 0.0),
    ],
)
def test_where_and_how_much_a_doctor_asks(dialogues, first, some, per_turn):
    assert metrics.first_turn_ask(dialogues) == pytest.approx(first)
    assert metrics.dialogue_any_ask(dialogues) == pytest.approx(some)
    assert metrics.questions_per_turn([turn for turns in dialogues for turn in turns]) == pytest.approx(per_turn)


@pytest.mark.parametrize(
    ("gold", "model", "precision", "recall", "f1"),
    [
        ([1, 1, 0, 0], [1, 0, 1, 0], 0.5, 0.5, 0.5),
        ([1, 0, 0, 0], [1, 1, 1, 1], 0.25, 1.0, 0.4),
        ([1, 1, 0], [1, 1, 0], 1.0, 1.0, 1.0),
        ([1, 1, 0], [0, 0, 0], 0.0, 0.0, 0.0),
        ([0, 0], [1, 1], 0.0, 0.0, 0.0),
        ([], [], 0.0, 0.0, 0.0),
    ],
)
def test_pqa(gold, model, precision, recall, f1):
    found = metrics.pqa(list(map(bool, gold)), list(map(bool, model)))
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))


@pytest.mark.parametrize("gold", list(product((False, True), repeat=4)))
def test_always_ask_is_the_f1_of_asking_always(gold):
    found = metrics.pqa(gold, [True] * len(gold))
    assert found.f1 == pytest.approx(found.always_ask)


def test_pqa_needs_as_many_model_turns_as_gold_turns():
    with pytest.raises(BadInput, match="2 gold turns but 1 model turn"):
        metrics.pqa([True, False], [True])


def test_perplexity_of_a_uniform_model_is_its_number_of_symbols():
    texts = ["头痛", "", "发热三天"]
    assert metrics.perplexity([-(len(t) + 1) * math.log(7) for t in texts], texts) == pytest.approx(7)

import random

import pytest

from bianque.consult.text import length, strip_echo
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
def test_repeated_4grams(dialogues, expected):
    counts = [metrics.repeated_4grams(turns) for turns in dialogues]
    repeated, total = (sum(count[i] for count in counts) for i in (0, 1))
    assert (repeated / total if total else 0.0) == pytest.approx(expected)


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

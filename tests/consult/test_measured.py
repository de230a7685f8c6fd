"""Numbers that patients tell answer the questions that ask for them."""

from __future__ import annotations

import pytest

from bianque.consult import ages
from bianque.consult.hearing import hearing
from bianque.consult.measured import measured
from bianque.consult.patterns import asset
from bianque.data.knowledge import bundled
from bianque.types import Message

TOLD = [
    ("abdominal_pain", "fever", "37度9", "has"), ("abdominal_pain", "fever", "量了36.5", "none"),
    ("abdominal_pain", "fever", "烧到三十九度", "has"), ("abdominal_pain", "fever", "38℃", "has"),
    ("child_fever", "temp", "四十度了", "high"), ("adult_fever", "degree", "早上37.8，现在三十八度五", "mid"),
    ("after_surgery", "fever", "３８．７", "high"), ("gout", "level", "尿酸520", "high"),
    ("dizziness", "bp", "量了一下 118/76", "normal"), ("dizziness", "bp", "高压170", "high"),
    ("glucose_medicine", "glucose", "空腹12.3", "high"), ("glucose_medicine", "glucose", "血糖3点2", "low"),
]  # fmt: skip
UNTOLD = [
    ("abdominal_pain", "fever", "我38岁，肚子疼3天"), ("abdominal_pain", "fever", "昨天走了37.5公里"),
    ("glucose_medicine", "glucose", "血糖高了3年"), ("dizziness", "bp", "3/12那天开始的"),
    ("abdominal_pain", "duration", "37度9"), ("food_poisoning", "danger", "36.5"),
]  # fmt: skip


@pytest.mark.parametrize(("complaint", "slot", "said", "answer"), TOLD)
def test_a_number_is_the_answer_it_means(complaint, slot, said, answer):
    assert measured(bundled().complaints[complaint].slot[slot], said) == (True, answer)


@pytest.mark.parametrize(("complaint", "slot", "said"), UNTOLD)
def test_other_numbers_and_questions_of_more_than_a_number_tell_nothing(complaint, slot, said):
    assert measured(bundled().complaints[complaint].slot[slot], said) == (False, None)


@pytest.mark.parametrize(
    ("complaint", "said", "answer"),
    [
        ("insomnia", "一个多月了吧", "weeks"), ("insomnia", "三五年了", "months"), ("headache", "今天早上", "today"),
        ("child_cough", "就这回 一个星期", "weeks"), ("child_cough", "有两个礼拜了，头几天干咳", "weeks"),
        ("headache", "不记得了", None), ("headache", "家里老二也疼", None),
    ],
)  # fmt: skip
def test_how_long_it_has_lasted_is_the_answer_of_the_nearest_span(complaint, said, answer):
    slot = bundled().complaints[complaint].slot["duration"]
    assert measured(slot, said, asked=True) == (answer is not None, answer)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("孩子咳嗽两个礼拜了", "weeks"), ("孩子咳嗽，头孢吃了三天了", None), ("孩子两岁半了，咳嗽", None),
        ("孩子咳嗽，一天咳十几次", None), ("孩子咳嗽，感冒药吃三天了还不好，咳了两个礼拜了", None),
    ],
)  # fmt: skip
def test_unasked_only_what_has_lasted_so_long_counts(said, told):
    assert measured(bundled().complaints["child_cough"].slot["duration"], said)[1] == told


def test_every_level_of_every_quantity_is_an_answer_somewhere():
    slots = [slot for entry in bundled().entries.values() for slot in entry.slots]
    said = {"temperature": "体温{}.{}", "uric_acid": "尿酸{}", "pressure": "高压{}", "glucose": "血糖{}.{}"}
    for name, row in asset("measured").items():
        below = [37.2, 38.0, 38.4, 39.0, 41.0] if name == "temperature" else [level - 1 for level in row["levels"]]
        below[-1] = {"uric_acid": 700, "pressure": 180, "glucose": 20}.get(name, below[-1])
        for value in below:
            whole, part = str(float(value)).split(".")
            text = said[name].format(whole, part)
            assert any(measured(slot, text)[1] for slot in slots) or (name, value) == ("uric_acid", 419), (name, value)


def test_what_was_told_as_a_number_is_not_asked_again():
    heard = hearing().hear([Message("user", "肚脐周围疼，从昨晚开始的"), Message("user", "量了37.9")])
    assert heard.entry.id == "abdominal_pain" and heard.told["fever"] == "has" and "fever" not in heard.open


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("我老公肚子疼了两天", False), ("我爸肚子疼", False), ("肚子疼，男，30", False), ("我爷爷这两天肚子疼", False),
        ("肚子疼了两天", True), ("我和我老公吃完饭肚子疼", True), ("我老公说我肚子疼要看医生", True),
    ],
)  # fmt: skip
def test_men_and_the_old_are_not_asked_about_their_period(said, asked):
    heard = hearing().hear([Message("user", said)])
    assert heard.entry.id == "abdominal_pain" and ("period" in heard.open) == asked


@pytest.mark.parametrize(
    ("said", "asked", "told"),
    [
        ("反酸烧心好几天了，我54，吃完饭躺下就来", False, [54]),
        ("54岁女，胃里反酸水", False, [54]),
        ("我爸六十八了", False, [68]),
        ("二十来岁", False, [25]),
        ("宝宝8个月发烧", False, [8 / 12]),
        ("一岁两个月", False, [1 + 2 / 12]),
        ("孩子3岁半咳嗽", False, [3.5]),
        ("快两岁了还不会说", False, [1.9]),
        ("三十岁那年得过", False, []),
        ("吃了3天药，一天2次，咳了十天了", False, []),
        ("五十四了", True, [54]),
        ("五十四", False, []),
        ("三个月了", False, []),
        ("三个月了", True, [3 / 12]),
    ],
)
def test_an_age_is_read_as_people_say_it(said, asked, told):
    assert [*ages.years(said, asked)] == pytest.approx(told)


@pytest.mark.parametrize(
    ("fact", "meant"),
    [
        ("宝宝半岁到一岁", (0.5, 1)),
        ("不满三个月", (0, 0.25)),
        ("超过四十五岁", (45, 130)),
        ("四五十岁", (40, 60)),
        ("女方三十出头", (30, 35)),
        ("四十岁上下", (35, 45)),
        ("两岁多", (2, 3)),
        ("学龄前儿童", (3, 6)),
        ("正在怀孕", None),
    ],
)
def test_which_ages_an_answer_means(fact, meant):
    assert ages.meant(fact) == meant


def test_an_age_that_is_told_is_not_asked_and_two_are_nobodys():
    slot = bundled().complaints["reflux"].slot["age"]
    assert ages.age(slot, "反酸，我54，吃完饭就来") == (True, "older")
    assert ages.age(slot, "我32岁，孩子5岁") == (False, None)
    assert ages.age(bundled().complaints["reflux"].slot["danger"], "54岁") == (False, None)

"""Numbers that patients tell answer the questions that ask for them."""

from __future__ import annotations

import pytest

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

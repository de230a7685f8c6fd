"""Scripted patients: a perfect doctor has full marks, each fault is counted as what it is, a failure is no score."""

from __future__ import annotations

import asyncio
import random

import pytest

from bianque.data.knowledge import bundled, examination
from bianque.errors import BadInput, Busy
from bianque.evaluate.patients import FIGURES, Examiner, Talk, figures
from bianque.intervals import wilson
from bianque.types import Message

NAMES = ("insomnia", "cough", "gout", "child_fever", "vaccine", "hemorrhoids")


class Doctor:
    """Knows the knowledge base by heart; `spoil` changes a reply before it is said."""

    def __init__(self, spoil=lambda text, phase: text, budget=5):
        self.spoil, self.budget = spoil, budget

    async def __call__(self, history, message, seed):
        entry = next(e for e in bundled().complaints.values() if e.id == self.patient)
        asked = [m for m in history if m.phase == "asking"]
        known = dict(self.known)
        if any(m.phase == "advising" for m in history):
            follow = next(f for f in entry.follow if message in f.ask)
            return Message("assistant", self.spoil(follow.say[0], "follow"), "advising")
        left = [slot for slot in entry.slots if slot.key not in known and slot.key not in self.asked]
        if not left or len(asked) >= self.budget or entry.danger(known):
            return Message("assistant", self.spoil(self.advice(entry, known), "advising"), "advising")
        self.asked.append(left[0].key)
        return Message("assistant", self.spoil(left[0].ask[0], "asking"), "asking")

    def advice(self, entry, known):
        if danger := entry.danger(known):
            return danger.say[0] + "请现在就去急诊，不要等，也不要一个人去，路上带好身份证件和以前的检查结果。"
        says = [next(rule.say[0] for rule in entry.assess if rule.holds(known))]
        says += [rule.say[0] for rule in entry.advice if rule.holds(known)][:4]
        facts = "、".join(entry.slot[key].values[value].fact for key, value in known.items())
        return (f"您的情况是：{facts}。" if facts else "") + "".join(says)


def examine(doctor, names=NAMES):
    """The doctor is told what the patient knows: what is examined here is the examiner."""
    examiner = Examiner(bundled(), examination(), 3)

    async def run():
        talks = []
        for talk in examiner.plan(names):
            doctor.patient, doctor.asked, doctor.known = talk.complaint, [], {}
            answered = examiner.answered

            def listening(talk, entry, text, known, state, asked, r, answered=answered):
                said = answered(talk, entry, text, known, state, asked, r)
                doctor.known = dict(known)
                return said

            examiner.answered = listening
            opening = random.Random(talk.seed).choice(examiner.openings[talk.complaint])
            doctor.known = {k: v for k, v in opening.has.items() if isinstance(v, str)}
            doctor.asked = [k for k, v in opening.has.items() if not isinstance(v, str)]
            talks.append(await examiner.hold(doctor, talk))
            examiner.answered = answered
        return talks

    return asyncio.run(run())


def shares(talks):
    return {name: figure["share"] for name, figure in figures(talks).items()}


def test_a_perfect_doctor_has_full_marks():
    found = shares(examine(Doctor()))
    assert found["on_topic"] == found["advice_on_topic"] == found["follow_ups_right"] == 1
    assert found["repeated"] == found["already_said"] == found["facts_false"] == found["advice_short"] == 0


def test_a_question_of_another_complaint_is_off_topic():
    wrong = bundled().complaints["ankle_sprain"].slots[0].ask[0]
    found = shares(examine(Doctor(lambda text, phase: wrong if phase == "asking" else text)))
    assert found["on_topic"] == 0


def test_asking_again_is_counted():
    first: dict[str, str] = {}

    def again(text, phase):
        return first.setdefault("ask", text) if phase == "asking" else text

    talks = examine(Doctor(again), ["insomnia"])
    assert talks[0].counts["repeated"] == talks[0].counts["questions"] - 1
    assert any(fault.startswith("asked again") for fault in talks[0].faults)


def test_what_nobody_said_is_invented_and_the_opposite_is_false():
    entry = bundled().complaints["insomnia"]
    every = "、".join(value.fact for slot in entry.slots for value in slot.values.values())
    doctor = Doctor(lambda text, phase: f"您的情况是：{every}。" if phase == "advising" else text, budget=2)
    found = shares(examine(doctor, ["insomnia"]))
    assert found["facts_false"] > 0.1 and found["facts_invented"] > 0.1


def test_a_short_or_foreign_advice_and_a_wrong_answer_are_counted():
    other = bundled().complaints["ankle_sprain"]
    found = shares(examine(Doctor(lambda text, phase: text if phase == "asking" else other.follow[0].say[0][:20])))
    assert found["advice_short"] == 1 and found["advice_on_topic"] == 0 and found["follow_ups_right"] == 0


def test_danger_that_is_passed_over_is_counted():
    calm = "先把作息和睡前习惯调整好，每天固定时间起床，白天不补觉，睡前不看手机，慢慢会好起来的。"
    talks = examine(Doctor(lambda text, phase: calm if phase == "advising" else text), list(bundled().complaints)[:60])
    total = figures(talks)["dangers_answered"]
    assert total["of"] > 5 and total["share"] == 0


def test_a_failed_consultation_is_an_error_and_no_score():
    class Fails(Doctor):
        async def __call__(self, history, message, seed):
            raise Busy("full")

    talks = examine(Fails(), ["insomnia"])
    assert talks[0].error.startswith("BQ_BUSY") and not talks[0].counts
    assert all(figure["of"] == 0 and figure["share"] is None for figure in figures(talks).values())


def test_the_same_seed_gives_the_same_patients():
    one, other = examine(Doctor()), examine(Doctor())
    assert [t.dialogue for t in one] == [t.dialogue for t in other]


def test_rare_complaints_are_examined_by_their_first_question():
    examiner = Examiner(bundled(), examination(), 0)
    rare = [talk for talk in examiner.plan() if talk.x]
    assert len(rare) >= 57

    async def reply(history, message, seed):
        return Message("assistant", f"您说{rare[0].x}，有多久了？", "asking")

    for talk in rare[:2]:
        asyncio.run(examiner.hold(reply, talk))
    assert [talk.counts["named"] for talk in rare[:2]] == [1, 0]


def test_an_unknown_complaint_is_named():
    with pytest.raises(BadInput, match="nonsense"):
        Examiner(bundled(), examination()).plan(["nonsense"])


def test_intervals_are_wilsons():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(9, 10)
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)
    assert set(figures([])) == set(FIGURES)


def test_the_longer_of_two_facts_is_stated():
    entry = next(
        e for e in bundled().complaints.values() for s in e.slots
        if {"有轻生念头", "没有轻生念头"} <= {v.fact for v in s.values.values()}
    )  # fmt: skip
    slot = next(s for s in entry.slots if "没有轻生念头" in {v.fact for v in s.values.values()})
    none = next(label for label, value in slot.values.items() if value.fact == "没有轻生念头")
    talk = Talk(entry.id, "0")
    Examiner(bundled(), examination()).judge_advice(talk, entry, "您的情况是：没有轻生念头。", {slot.key: none})
    assert talk.counts["facts"] == 1 and not talk.counts["facts_false"] + talk.counts["facts_invented"]
    Examiner(bundled(), examination()).judge_advice(
        talk, entry, "睡不好可以先早起。有轻生念头马上打 12356。", {slot.key: none}
    )
    assert talk.counts["facts"] == 1

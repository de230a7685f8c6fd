"""Composed consultations contradict nothing: not what was said, not the rules, never a danger sign passed over."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter

import pytest

from bianque.data.compose import BUDGET, Composer, compose, write
from bianque.data.dialogues import readable
from bianque.data.knowledge import Generic, bundled

MANY = 20_000


@pytest.fixture(scope="module")
def composer():
    return Composer()


@pytest.mark.slow
def test_no_consultation_contradicts_itself(composer):
    """Over twenty thousand of them: what is asked was not told, what is summed up was, and danger is answered."""
    seen: Counter[str] = Counter()
    for number in range(MANY):
        consultation = composer(random.Random(f"property/{number}"))
        asking = 0
        assert [turn.role for turn in consultation.turns] == ["patient", "doctor"] * (len(consultation.turns) // 2)
        for turn in consultation.turns:
            assert turn.text.strip() and "{" not in turn.text, turn.text
            entry = turn.entry
            if turn.role == "patient":
                continue
            assert turn.phase in ("asking", "advising")
            if turn.slot:
                seen["asked"] += 1
                assert turn.slot not in (turn.known or {}), f"{number}: {turn.text} was told already"
                asking += 1
            for key, fact in turn.facts.items():
                value = (turn.known or {})[key]
                assert entry.slot[key].values[value].fact == fact
                seen["facts"] += 1
            if turn.facts or callable(turn.advises):
                stated = turn.text if turn.facts else turn.advises()
                wrong = unfounded(entry, turn.known or {}, stated)
                assert not wrong, f"{number}: {entry.id}: {wrong} in {stated}"
            danger = entry.danger(turn.known or {}) if turn.known else None
            if danger and turn.urgent is None:
                raise AssertionError(f"{number}: {danger.when} is passed over: {turn.text}")
            seen["urgent"] += turn.urgent is not None
        seen[entry.group] += 1
        assert asking <= 2 * (BUDGET + 3)
    assert min(seen[group] for group in {entry.group for entry in bundled().complaints.values()}) > 20
    assert seen["asked"] > 3 * MANY and seen["facts"] > MANY and MANY / 20 < seen["urgent"] < MANY / 2


def unfounded(entry, known, text):
    """Facts in the summary of an advice that were not told."""
    if isinstance(entry, Generic) or not (summary := re.match(r"^[^：。]{2,20}：([^。：]+)。", text)):
        return []
    told = {entry.slot[key].values[value].fact for key, value in known.items()}
    every = {value.fact for slot in entry.slots for value in slot.values.values()}
    return [fact for fact in summary[1].split("、") if fact in every and fact not in told]


def test_the_rules_of_an_entry_are_kept(composer):
    """Every sentence of advice with a condition stands only where the condition holds."""
    for number in range(1500):
        consultation = composer(random.Random(f"rules/{number}"))
        for turn in consultation.turns:
            if not turn.facts:
                continue
            entry = turn.entry
            for rule in (*entry.advice, *entry.assess):
                stands = any(say.rstrip("。") in turn.text for say in rule.say if len(say) > 12 and "{" not in say)
                shared = any(
                    say in other.say
                    for other in (*entry.advice, *entry.assess)
                    if other is not rule
                    for say in rule.say
                )
                assert not stands or shared or rule.holds(turn.known or {}), f"{entry.id}: {rule.when}: {turn.text}"


def test_a_rare_complaint_is_named_in_the_first_question(composer):
    generic = composer.knowledge.generic
    for number in range(300):
        consultation = composer(random.Random(number), generic)
        first = next((t for t in consultation.turns if t.role == "doctor" and (t.slot or t.urgent or t.facts)), None)
        if first and first.slot and consultation.turns.index(first) == 1:
            assert consultation.x in first.text


def test_further_complaints_are_named_in_the_patients_words():
    composer = Composer(phrases=["爷爷吃饭老掉筷子"])
    seen = [composer(random.Random(n), composer.knowledge.generic) for n in range(60)]
    ours = [c for c in seen if c.x == "爷爷吃饭老掉筷子"]
    assert 15 < len(ours) < 45
    assert any(c.x in turn.text for c in ours for turn in c.turns if turn.slot)


def test_some_patients_give_only_the_name(composer):
    entry = composer.knowledge.complaints["insomnia"]
    openings = [composer(random.Random(n), entry).turns[0].text for n in range(400)]
    assert any("失眠怎么办" in text for text in openings)


def test_patients_are_of_many_kinds(composer):
    """Some do not know, some want the advice, some talk of something else; nothing is rare enough to be missed."""
    said = "\n".join(t.text for n in range(3000) for t in composer(random.Random(n)).turns if t.role == "patient")
    common = composer.knowledge.common
    assert sum(said.count(text) for text in common.unsure) > 300
    assert sum(said.count(text) for text in common.want) > 300
    assert sum(said.count(text) for text in common.wrong) > 20
    for situation in common.situations:
        assert any(text in said for text in situation.patient), situation.id


def test_a_seed_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        write(30, 7, tmp_path / f"{name}.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()]
    assert [row["id"] for row in rows[:2]] == ["composed-7-0", "composed-7-1"]
    assert len(readable(tmp_path / "a.jsonl.gz")[0]) == 30
    other = next(iter(compose(1, 8)))
    assert [t.text for t in other.turns] != [t["text"] for t in rows[0]["turns"]]


def test_what_either_model_would_say_is_there(composer):
    """The asker has a question, a closing or the warning; the adviser can advise at every question."""
    for number in range(200):
        for turn in composer(random.Random(f"either/{number}")).turns:
            if turn.role == "doctor" and turn.slot:
                assert turn.asks == turn.text
                if callable(turn.advises):
                    assert len(turn.advises()) > 20
            if turn.urgent:
                assert turn.asks == turn.advises == turn.text

import json
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bianque.consult.questions import asks, questions
from bianque.data.formats import ASPECTS, CorpusDialogue, Judged
from bianque.errors import BadInput
from bianque.evaluate import metrics, summary
from bianque.evaluate.measures import MEASURES
from bianque.evaluate.rows import Row
from bianque.types import Message

ASK, TWICE, ADVISE = "头痛多久了？", "多久了？有没有发热？", "多喝水，注意休息。"
HISTORY = (Message("user", "我头痛"),)


def row(name, turn, answer, model="a", task="next", **more):
    return Row(task, "s", name, turn, model, HISTORY, answer, **more)


def failed(name, turn, model="a", code="BQ_BUSY", **more):
    return row(name, turn, None, model, error="忙", code=code, **more)


def judged(*scores):
    return Judged(dict(zip(ASPECTS, scores, strict=False)))


ROWS = [
    row("d1", 0, ASK, reference="哪里痛？", first=0.1, seconds=1.0, tokens=10),
    row("d1", 1, ADVISE, reference="有没有发热？", first=0.3, seconds=3.0, tokens=50, judged=judged(4, 5, 3, 5)),
    row("d2", 0, TWICE, reference=ADVISE, first=0.2, seconds=2.0, tokens=30),
    failed("d2", 1, reference=ADVISE, judged=judged(1, 1, 1, 1)),
    row("d3", 0, "", judged=Judged(None, "prompt", "无法评分", "unread")),
    row("d3", 1, "去医院去医院去医院去医院", judged=judged(2)),
]


def figures(rows, model="a", **more):
    (group,) = (group for group in summary.summarise(rows, **more)["groups"] if group["model"] == model)
    return group["figures"]


@pytest.mark.parametrize(
    ("name", "value", "n"),
    [
        ("question_rate", 2 / 5, 5),
        ("first_turn_ask", 2 / 3, 3),
        ("dialogue_any_ask", 1 / 2, 2),  # d1 asks, d3 does not, d2 has a failed turn
        ("questions_per_turn", 3 / 5, 5),
        # human, model: both, human alone, model alone; P = 1/2, R = 1/2
        ("pqa_precision", 1 / 2, 3),
        ("pqa_recall", 1 / 2, 3),
        ("pqa_f1", 1 / 2, 3),
        ("pqa_always_ask", 2 * (2 / 3) / (1 + 2 / 3), 3),
        ("human_question_rate", 2 / 3, 3),
        ("length", (6 + 9 + 10 + 0 + 12) / 5, 5),
        ("distinct_1", 21 / 37, 5),
        ("self_repetition", 0.0, 2),
        ("repeats_4gram", 1 / 5, 5),
        ("empty", 1 / 5, 5),
        # of 6 and 4 tokens two are shared, of 9 and 6 none, of 10 and 9 one
        ("rouge_1", 100 * (2 * 2 / 10 + 0 + 2 * 1 / 19) / 3, 3),
        ("judge_proactivity", 3.0, 2),
        ("judge_accuracy", 5.0, 1),
        ("judge_mean", 17 / 4, 1),
        ("first_median", 0.2, 3),
        ("first_p90", 0.28, 3),  # linear between 0.2 and 0.3
        ("seconds_median", 2.0, 3),
        ("seconds_p90", 2.8, 3),
        ("tokens_per_second", 90 / 6, 3),
    ],
)
def test_each_figure_by_hand(name, value, n):
    found = figures(ROWS)[name]
    assert found["value"] == pytest.approx(value)
    assert found["n"] == n


def test_counts_errors_and_unread_judgements():
    rows = [*ROWS, failed("d4", 0, code=None), failed("d5", 0)]
    found = summary.summarise(rows)
    (group,) = found["groups"]
    assert found["rows"] == group["rows"] == 8
    assert found["errors"] == group["errors"] == {"BQ_BUSY": 2, "BQ_ERROR": 1}
    assert (group["task"], group["set"], group["model"], group["dialogues"]) == ("next", "s", "a", 5)
    assert group["judge_errors"] == 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_failed_rows_of_other_dialogues_change_no_figure():
    more = [failed(f"x{i}", 0, reference=ASK, first=9.0, seconds=9.0, judged=judged(1, 1, 1, 1)) for i in range(9)]
    plain, with_errors = figures(ROWS), figures(ROWS + more)
    assert {k: (v["value"], v["n"]) for k, v in plain.items()} == {
        k: (v["value"], v["n"]) for k, v in with_errors.items()
    }


def test_self_repetition_is_within_a_dialogue_and_pooled():
    rows = [row("d", 0, "请多喝水"), row("d", 1, "请多喝水"), row("e", 0, "甲乙丙丁"), row("e", 1, "戊己庚辛壬")]
    assert figures(rows)["self_repetition"]["value"] == pytest.approx(1 / 3)


def test_the_order_of_rows_is_no_matter_and_the_last_of_the_same_key_counts():
    rows = [*ROWS, replace(ROWS[0], answer=ADVISE), ROWS[0]]
    assert figures(rows) == figures(ROWS)
    assert figures(random.Random(1).sample(ROWS, len(ROWS)))["self_repetition"] == figures(ROWS)["self_repetition"]


def test_tasks_sets_and_models_stand_apart():
    rows = [
        row("d", 0, ASK), row("d", 0, ADVISE, "b"), row("d", 0, ADVISE, task="consultation"),
        replace(row("d", 0, ADVISE), set="t"),
    ]  # fmt: skip
    groups = summary.summarise(rows)["groups"]
    assert [(g["task"], g["set"], g["model"], g["figures"]["question_rate"]["value"]) for g in groups] == [
        ("next", "s", "a", 1.0), ("next", "s", "b", 0.0), ("consultation", "s", "a", 0.0), ("next", "t", "a", 0.0),
    ]  # fmt: skip


def test_a_figure_without_items_is_not_there():
    found = figures([row("d", 0, ASK, task="consultation", reference="哪里痛？")])
    assert not any(name.startswith(("pqa", "judge", "first_m", "seconds", "tokens")) for name in found)
    assert {"bleu_1", "rouge_l", "question_rate"} <= found.keys()  # the first turn of a consultation has a reference
    assert summary.summarise([])["groups"] == []
    assert "question_rate" not in figures([failed("d", 0)])


def test_bleu_is_that_of_all_pairs_with_its_signature():
    found = summary.summarise(ROWS)
    expected = metrics.bleu([ASK, ADVISE, TWICE], ["哪里痛？", "有没有发热？", ADVISE])
    assert found["signature"] == expected.signature
    values = [found["groups"][0]["figures"][f"bleu_{n}"]["value"] for n in (1, 2, 3, 4)]
    assert values == pytest.approx(list(expected.scores))
    assert summary.summarise([row("d", 0, ASK)])["signature"] is None


SAID = st.sampled_from([ASK, TWICE, ADVISE, "", "请多喝水请多喝水", "建议去医院检查，好吗？"])


def share(part, whole):
    return part / whole if whole else 0.0


@settings(max_examples=25)
@given(st.lists(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4), min_size=1, max_size=6))
def test_figures_are_what_their_definitions_say(dialogues):
    rows = [row(str(i), t, m, reference=g) for i, turns in enumerate(dialogues) for t, (m, g) in enumerate(turns)]
    found = {name: figure["value"] for name, figure in figures(rows, resamples=1000).items()}
    talks = [[m for m, _ in turns] for turns in dialogues]
    turns = [m for talk in talks for m in talk]
    human, model = [asks(g) for t in dialogues for _, g in t], [asks(m) for m in turns]
    both = sum(g and m for g, m in zip(human, model, strict=True))
    precision, recall = share(both, sum(model)), share(both, sum(human))
    repeated, total = (sum(counts) for counts in zip(*map(metrics.repeated_4grams, talks), strict=True))
    expected = {
        "question_rate": share(sum(model), len(turns)),
        "first_turn_ask": share(sum(asks(talk[0]) for talk in talks), len(talks)),
        "dialogue_any_ask": share(sum(any(map(asks, talk)) for talk in talks), len(talks)),
        "questions_per_turn": share(sum(len(questions(turn)) for turn in turns), len(turns)),
        "distinct_1": metrics.distinct(turns, 1),
        "distinct_2": metrics.distinct(turns, 2),
        "pqa_f1": share(2 * precision * recall, precision + recall),
        "pqa_precision": precision,
        "pqa_recall": recall,
        "pqa_always_ask": share(
            2 * sum(human), len(human) + sum(human)
        ),  # precision: the share of asking turns; recall 1
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found.get("self_repetition", 0.0) == pytest.approx(share(repeated, total))


# --- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES.values(), ids=list(MEASURES))
def test_a_measure_says_what_it_means(measure):
    assert MEASURES[measure.name] is measure
    assert re.search("[一-鿿]", measure.meaning.zh) and not re.search("[一-鿿]", measure.meaning.en)
    assert measure.meaning.zh.endswith("。") and measure.meaning.en.endswith(".")
    assert float(format(0.5, measure.format)) == pytest.approx(0.5, abs=0.5)


def test_the_markdown_has_every_figure_once():
    rows = [*ROWS, row("d1", 0, "多喝|水", "b|c\nd")]
    found = summary.summarise(rows)
    lines = summary.markdown(found).splitlines()
    assert lines[0] == "### s · next"
    assert lines[2] == r"|  | a | b\|c d | n |"
    assert "| 提问率 question rate | 0.400 | 0.000 | 1–5 |" in lines
    assert "| 空回答 empty | 0.200 | 0.000 | 1–5 |" in lines
    assert "| 出错 errors | 1 | 0 |  |" in lines
    assert "| 每秒词元 tokens/s | 15.0 | – | 3 |" in lines
    assert f"BLEU: {found['signature']}" in lines
    assert len({line.count(" | ") for line in lines if line.startswith("|")}) == 1


# --- differences -------------------------------------------------------------------------------------------------


def lengths(model, sizes, **more):
    return [row(str(i), 0, "水" * int(size), model, **more) for i, size in enumerate(sizes)]


def differences(rows, a, b, resamples=summary.RESAMPLES, seed=0):
    return summary._differences(summary._grouped(rows), [(a, b)], resamples, seed)


def of(found, name):
    (one,) = (difference for difference in found if difference.measure == name)
    return one


RNG = np.random.default_rng(7)
SIZES, OTHERS = RNG.integers(1, 60, 300), RNG.integers(1, 60, 300)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    one = of(differences(lengths("a", SIZES) + lengths("b", OTHERS), "a", "b"), "length")
    apart = SIZES - OTHERS
    error = apart.std() / math.sqrt(len(apart))
    assert one.difference == pytest.approx(apart.mean())
    assert (one.value_a, one.value_b, one.n) == (pytest.approx(SIZES.mean()), pytest.approx(OTHERS.mean()), 300)
    assert (one.low, one.high) == pytest.approx(
        (apart.mean() - 1.96 * error, apart.mean() + 1.96 * error), rel=0.1, abs=0.3
    )


def test_the_bootstrap_is_paired():
    """b is always 2 longer: unpaired, the spread of the lengths would hide it."""
    one = of(differences(lengths("a", SIZES) + lengths("b", SIZES + 2), "a", "b"), "length")
    assert (one.low, one.difference, one.high) == pytest.approx((-2, -2, -2))


def test_dialogues_are_drawn_and_not_turns():
    """Ten equal turns of a dialogue are one observation: the interval is no narrower than that of one turn each."""
    small, large = SIZES[:40], OTHERS[:40]
    ten = [replace(r, turn=t) for r in lengths("a", small) + lengths("b", large) for t in range(10)]
    once = of(differences(lengths("a", small) + lengths("b", large), "a", "b"), "length")
    often = of(differences(ten, "a", "b"), "length")
    assert (often.low, often.high, often.n) == pytest.approx((once.low, once.high, once.n))


def test_the_other_way_round_is_the_negative_and_the_seed_decides():
    rows = lengths("a", SIZES) + lengths("b", OTHERS)
    one, back = of(differences(rows, "a", "b"), "length"), of(differences(rows, "b", "a"), "length")
    assert (back.difference, back.low, back.high) == pytest.approx((-one.difference, -one.high, -one.low))
    assert of(differences(rows, "a", "b"), "length") == one
    assert of(differences(rows, "a", "b", seed=1), "length") != one


def test_blocks_change_no_interval(monkeypatch):
    rows = lengths("a", SIZES) + lengths("b", OTHERS)
    whole = differences(rows, "a", "b")
    monkeypatch.setattr(summary, "BLOCK", 7000)
    assert differences(rows, "a", "b") == whole


def test_only_identical_items_count():
    rows = lengths("a", SIZES) + lengths("b", OTHERS)
    more = [row("only", 0, "水" * 999), row("0", 1, "水" * 999), row("x", 0, "水" * 999), failed("x", 0, "b")]
    found, plain = differences(rows + more, "a", "b"), differences(rows, "a", "b")
    assert of(found, "length") == of(plain, "length")
    assert of(found, "dialogue_any_ask").n == 299  # one of dialogue 0's turns is missing from b
    assert of(plain, "dialogue_any_ask").n == 300


def test_a_judgement_or_a_time_of_one_side_alone_does_not_count():
    rows = [row("d", 0, ASK, judged=judged(5, 5, 5, 5), tokens=9, seconds=1.0), row("d", 0, ASK, "b")]
    names = {difference.measure for difference in differences(rows, "a", "b")}
    assert "question_rate" in names and not {n for n in names if n.startswith(("judge", "tokens"))}


def test_pqa_of_a_difference_is_that_of_the_figures():
    rows = [replace(r, reference=ASK) for r in ROWS if r.error is None]
    rows += [replace(r, model="b", answer=TWICE) for r in rows]
    one = of(differences(rows, "a", "b"), "pqa_f1")
    assert (one.value_a, one.value_b) == (figures(rows)["pqa_f1"]["value"], figures(rows, "b")["pqa_f1"]["value"])


def test_a_figure_lies_in_its_interval_and_a_constant_has_none():
    found = figures(lengths("a", SIZES))
    assert found["length"]["low"] < found["length"]["value"] < found["length"]["high"]
    error = SIZES.std() / math.sqrt(len(SIZES))
    assert found["length"]["high"] - found["length"]["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found["question_rate"] == {"value": 0.0, "n": 300}


def test_a_summary_has_the_differences_of_every_two_models():
    rows = lengths("a", SIZES[:9]) + lengths("b", OTHERS[:9]) + lengths("c", SIZES[:9])
    found = summary.summarise(rows)["differences"]
    assert [(d["a"], d["b"]) for d in found if d["measure"] == "length"] == [("a", "b"), ("a", "c"), ("b", "c")]
    same = next(d for d in found if (d["a"], d["b"], d["measure"]) == ("a", "c", "length"))
    assert (same["difference"], same["low"], same["high"], same["n"]) == (0, 0, 0, 9)


def test_too_few_resamples_are_refused():
    with pytest.raises(BadInput, match="at least 1000"):
        differences(lengths("a", [1]) + lengths("b", [2]), "a", "b", resamples=999)


# --- recorded outputs --------------------------------------------------------------------------------------------


def recorded(*texts, **more):
    messages = tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))
    return CorpusDialogue("d", "s", messages, "m", **more)


def test_recorded_rows_are_cleaned_and_judged_at_the_last_turn():
    case = recorded(
        "我头痛", f"医生：{ASK}", "三天", f"{ADVISE}\n病人：好的", judged=judged(4, 4, 4, 4), reference=("先测体温",)
    )
    first, last = summary.recorded_rows([case])
    assert (first.task, first.set, first.id, first.turn, first.model) == ("recorded", "s", "d", 0, "m")
    assert (first.answer, first.raw, first.history) == (ASK, f"医生：{ASK}", case.messages[:1])
    assert (last.answer, last.raw, last.history) == (ADVISE, f"{ADVISE}\n病人：好的", case.messages[:3])
    assert (first.reference, last.reference) == ("先测体温", None)
    assert (first.judged, last.judged) == (None, case.judged)
    assert summary.recorded_rows([recorded("我头痛", ASK)])[0].raw is None


def test_references_belong_to_the_first_turn_of_their_dialogue():
    case = recorded("我头痛", ASK, "三天", ADVISE)
    rows = summary.recorded_rows([case, replace(case, id="e")], {("s", "d"): "先测体温", ("t", "e"): "多喝水"})
    assert [r.reference for r in rows] == ["先测体温", None, None, None]
    with pytest.raises(BadInput, match="no reference has the set and id"):
        summary.recorded_rows([case], {("t", "d"): "先测体温"})


def test_a_dialogue_of_a_human_doctor_is_no_recording():
    with pytest.raises(BadInput, match="does not say which model"):
        summary.recorded_rows([replace(recorded("我头痛", ASK), recorded=None)])

import gzip
import json
import math
from dataclasses import dataclass

import pytest

from bianque.data import dialogues
from bianque.errors import BadInput
from bianque.train import measure
from bianque.types import Message

ASK, ADVISE = "头痛多久了？", "多喝水，注意休息。"


def row(name, *texts):
    roles = ("patient", "doctor")
    turns = [{"role": roles[i % 2], "text": text} for i, text in enumerate(texts)]
    return {"id": name, "source": "own", "turns": turns}


ROWS = [
    row("a", "我头痛", ASK, "三天了", ADVISE),
    row("b", "孩子咳嗽", "有没有发热？", "没有", "建议多喝水。", "好的", "祝早日康复。"),
    row("c", "睡不着", "睡前少看手机。"),
]


@pytest.fixture
def write(tmp_path):
    def write(rows, name="data.jsonl.gz"):
        path, lines = tmp_path / name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        path.write_bytes(gzip.compress(lines.encode(), mtime=0) if name.endswith(".gz") else lines.encode())
        return path

    return write


@dataclass
class Fixed:
    """Replies by a rule; every reply has the likelihood of a uniform model over `symbols`."""

    name: str
    rule: object
    symbols: int = 4

    def logprob(self, history, reply):
        assert history[-1].role == "user"
        return -(len(reply) + 1) * math.log(self.symbols)

    def replies(self, histories):
        return [self.rule(history) for history in histories]


@dataclass
class Silent(Fixed):
    def logprob(self, history, reply):
        return None


def turns():
    return measure.items([dialogues.parse(json.dumps(r), "here") for r in ROWS])


def test_items_are_all_doctor_turns_with_the_gold_history():
    found = turns()
    assert [(len(t.history), t.phase) for t in found] == [
        (1, "asking"),
        (3, "advising"),
        (1, "asking"),
        (3, "advising"),
        (5, "advising"),
        (1, "advising"),
    ]
    assert found[1].history[1] == Message("assistant", ASK)


def test_always_asking_scores_its_own_baseline():
    score = measure.measure(Fixed("asker", lambda history: ASK), "asking", turns())
    assert score.question_rate == 1
    assert score.pqa.f1 == pytest.approx(score.pqa.always_ask) == pytest.approx(2 * (2 / 6) / (1 + 2 / 6))
    assert score.self_repetition == 1  # the same words at every turn of a dialogue
    assert score.answered == 1
    assert score.circling == 0


def test_perplexity_is_on_the_role_s_own_gold_turns():
    assert measure.measure(Fixed("m", lambda h: ASK), "asking", turns()).perplexity == pytest.approx({"asking": 4})
    assert measure.measure(Fixed("m", lambda h: ASK), "advising", turns()).perplexity == pytest.approx({"advising": 4})
    both = measure.measure(Fixed("m", lambda h: ASK), None, turns()).perplexity
    assert both == pytest.approx({"asking": 4, "advising": 4})
    assert measure.measure(Silent("m", lambda h: ASK), None, turns()).perplexity == {}


def test_asking_where_the_doctor_asks_is_perfect():
    score = measure.measure(
        Fixed("m", lambda h: ASK if len(h) == 1 and "睡" not in h[0].content else ADVISE), None, turns()
    )
    assert (score.pqa.precision, score.pqa.recall, score.pqa.f1) == (1, 1, 1)


def test_replies_are_cleaned_and_empty_ones_counted():
    echo = "病人：我头痛\n医生：多喝热水多喝热水多喝热水\n病人：谢谢"
    score = measure.measure(Fixed("m", lambda h: echo if len(h) == 1 else "医生："), None, turns())
    assert (score.answered, score.circling) == (0.5, 0.5)
    assert score.question_rate == 0
    assert score.self_repetition == 0


def test_repetition_is_counted_within_a_dialogue_even_when_ids_agree():
    one = dialogues.parse(json.dumps(row("same", "我头痛", ADVISE)), "here")
    assert measure.measure(Fixed("m", lambda h: ADVISE), None, measure.items([one, one])).self_repetition == 0


def test_a_lost_reply_is_noticed():
    subject = Fixed("m", lambda h: ASK)
    subject.replies = lambda histories: [ASK]
    with pytest.raises(AssertionError, match="1 replies to 6"):
        measure.measure(subject, None, turns())


def test_report(write):
    data, train = write(ROWS), write(ROWS * 3, "train.jsonl")
    models = [(Fixed("ask-mini", lambda h: ASK), "asking"), (Fixed("advise-mini", lambda h: ADVISE), "advising")]
    report = measure.measure_mini(data, [train, train], models)
    assert report == measure.measure_mini(data, [train, train], models)
    assert [s.name for s in report.scores] == ["human doctor", "ask-mini", "advise-mini", "5-gram", "BM25"]
    assert report.counts == {"dialogues": 3, "asking turns": 2, "advising turns": 4, "training dialogues": 18}
    assert {"bianque", "python", "numpy"} <= set(report.versions)

    human, ask, advise, babbler, retriever = report.scores
    assert human.pqa.f1 == retriever.pqa.f1 == 1  # BM25 has seen these very dialogues
    assert (set(ask.perplexity), set(advise.perplexity)) == ({"asking"}, {"advising"})
    assert all(1 < value < 4 for value in babbler.perplexity.values())
    assert retriever.perplexity == {}

    json.dumps(report.as_json(), allow_nan=False)
    table = [line for line in report.markdown().splitlines() if line.startswith("|")]
    assert len(table) == 2 + 5
    assert {line.count("|") for line in table} == {11}
    assert "| ask-mini | 4.00 | – | 1.000 |" in report.markdown()
    assert "dialogues 3" in report.markdown()


def test_limit_takes_the_same_whole_dialogues_in_order(write):
    records = dialogues.read(write([row(f"d{i}", "我头痛", ASK) for i in range(40)]))
    few, more = dialogues.sample(records, 7), dialogues.sample(records, 20)
    assert len(few) == 7
    assert set(few) < set(more)
    assert few == [record for record in records if record in few]
    assert dialogues.sample(records[::-1], 7)[::-1] == few
    assert dialogues.sample(records, None) == dialogues.sample(records, 99) == records
    with pytest.raises(BadInput, match="limit is 0"):
        dialogues.sample(records, 0)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz"])
def test_read(write, name):
    first = dialogues.read(write(ROWS, name))[0]
    assert (first.id, first.source) == ("a", "own")
    assert [(turn.role, turn.text) for turn in first.turns[:2]] == [("patient", "我头痛"), ("doctor", ASK)]
    assert [message.role for message in first.messages] == ["user", "assistant"] * 2
    assert [(len(history), reply) for history, reply in first.exchanges()] == [(1, ASK), (3, ADVISE)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: not JSON"),
        ("[1]", ":2: is a list"),
        ('{"id": "a", "source": "s"}', ":2: turns is missing"),
        ('{"id": "a", "source": "s", "turns": []}', ":2: turns is an empty list"),
        ('{"id": "a", "source": "s", "turns": ["x"]}', r":2: turns\[0\] is a string"),
        (json.dumps(row("", "我头痛", ASK)), ":2: id is blank"),
        (json.dumps(row("a", "我头痛", ASK) | {"id": 7}), ":2: id is a number"),
        (json.dumps(row("a", "我头痛", ASK) | {"source": None}), ":2: source is missing"),
        (json.dumps(row("a", "我头痛", " ")), r":2: turns\[1\].text is blank"),
        (json.dumps(row("a", "我头痛", ASK)).replace("patient", "用户"), r":2: turns\[0\].role is '用户'.*patient"),
        (
            json.dumps(row("a", "我头痛", ASK)).replace("doctor", "patient"),
            r":2: turns\[1\].role is 'patient' where 'doctor' is due",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"d\.jsonl" + message):
        dialogues.read(path)


def test_many_bad_lines_are_named_up_to_five(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("{\n" * 8, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        dialogues.read(path)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()[:5]] == list("12345")
    assert str(caught.value).endswith("and 3 more lines")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.jsonl", None, "cannot be read"),
        ("d.jsonl", b"\n \n", "holds no dialogue"),
        ("d.jsonl", b"\xff\xfe", ":1: not UTF-8"),
        ("d.jsonl.gz", b"plain", "cannot be read"),
        ("d.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "cannot be read"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        dialogues.read(path)

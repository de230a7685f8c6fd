"""`understand`: what it says of a line, of labelled lines together, and how often patients' turns get a notice."""

from __future__ import annotations

import gzip
import json

import pytest

from bianque.__main__ import main
from bianque.consult import validation
from bianque.consult.learning import TRIAGE, LabelledSentence
from bianque.consult.varied import varied

STROKE = "我爸突然嘴歪了，右手没力气，话也说不清"
DIALOGUE = {
    "turns": [
        {"role": "patient", "text": STROKE},
        {"role": "doctor", "text": "多久了？"},
        {"role": "patient", "text": "鼻塞流清鼻涕两天了"},
    ],
    "candidate": "有没有发烧？",
}


def written(path, *rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def test_a_line_is_explained(tmp_path, capsys):
    assert main(["understand", written(tmp_path / "a.jsonl", {"id": 7, "text": STROKE}, DIALOGUE)]) == 0
    said, turns = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (said["id"], said["triage"], said["kind"], said["certainty"]) == (7, "emergency", "stroke", "sure")
    assert len(said["nearest"]) == 3 and said["nearest"][0]["kind"] == "stroke" and said["intent"] == "opening"
    assert turns["decision"] == "ask" and turns["triage"] is None


def test_of_messages_only_those_from_a_place_on_may_count(tmp_path, capsys):
    rows = [{"say": [STROKE, "不是急症", end], "since": 1} for end in ("没发烧", "右手也抬不起来了")]
    assert main(["understand", written(tmp_path / "a.jsonl", *rows)]) == 0
    found = [json.loads(line)["triage"] for line in capsys.readouterr().out.splitlines()]
    assert found == [None, "emergency"]
    for since in (3, -1, "x"):
        assert main(["understand", written(tmp_path / "a.jsonl", rows[0] | {"since": since})]) == 1
        assert f"since={since!r}" in capsys.readouterr().err


def test_labelled_lines_are_scored_and_what_it_costs_is_told(tmp_path, capsys):
    rows = [
        {"text": STROKE, "label": "emergency"},
        {"text": "腰酸", "label": "none"},
        {"text": "腰疼", "label": "crisis"},
    ]
    assert main(["understand", written(tmp_path / "a.jsonl", *rows), "--score"]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["recall"], told["specificity"], told["right"]) == (0.5, 1.0, 2)
    assert told["confusion"] == {"crisis": {"none": 1}, "emergency": {"emergency": 1}, "none": {"none": 1}}
    assert told["ms_median"] > 0 and "memory_mb" in told and shown.err.count("\n") == 4


def test_of_dialogues_it_counts_the_notices_of_patients_turns(tmp_path, capsys):
    path, out = written(tmp_path / "d.jsonl.gz", DIALOGUE, {"turns": []}), tmp_path / "n.jsonl"
    assert main(["understand", path, "--rate", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == {"turns": 2, "notices": 1, "rate": 0.5, "emergency": 1, "sure": 1}
    (kept,) = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert kept["text"] == STROKE and kept["nearest"]
    assert main(["understand", path, "--rate"]) == 0 and len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "named"), [("{", "a.jsonl:1: not JSON"), ("[1]", "needs `text`"), ('{"text": 1}', "needs")]
)
def test_a_bad_line_is_named(tmp_path, capsys, line, named):
    (tmp_path / "a.jsonl").write_text(line, encoding="utf-8")
    for more in ([], ["--rate"], ["--score"])[: 1 if "text" in line else 3]:
        assert main(["understand", str(tmp_path / "a.jsonl"), *more]) == 1
        assert named in capsys.readouterr().err


def test_a_misspelt_copy_is_like_its_sentence_and_always_the_same():
    found = varied(STROKE)
    assert found == varied(STROKE) != STROKE and abs(len(found) - len(STROKE)) <= 3
    assert varied("?") in ("?", "")


def test_a_writer_is_judged_by_heads_that_have_not_read_them():
    said = {"emergency": "胸口压着疼出冷汗", "none": "指甲有点软"}
    examples = [LabelledSentence(f"{text}{n}", label, group=str(n)) for label, text in said.items() for n in range(4)]
    for misspelt in (0.0, 0.4):
        scores, typed = validation.crossed(examples, TRIAGE, [one.group for one in examples], misspelt)
        assert scores.shape == typed.shape == (8, 3)
        assert (scores.argmax(axis=1) == [1] * 4 + [0] * 4).all()
    alone, _ = validation.crossed(examples[:4] + examples[4:5], TRIAGE, ["a"] * 4 + ["b"], 0.0)
    assert alone[4].argmax() == 1  # nobody else has written a harmless sentence

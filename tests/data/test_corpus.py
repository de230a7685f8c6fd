"""A corpus of published sets: what is written, what is cleaned away, and what the report says of it."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.__main__ import main
from bianque.consult import questions
from bianque.data import cleaning, corpus, records, writers
from bianque.data.cleaning import Duplicates, masked
from bianque.data.corpus import Rules
from bianque.errors import BadInput
from tests.data.test_published import CHIP, FOUR, IMCS, A, B, C, D, jsonl, whole

RANDOM = "最近半个月总是睡不好，半夜老醒，白天没精神"


def dialogue(name, *texts, source="s"):
    roles = ("patient", "doctor")
    return {"id": name, "source": source, "turns": [{"role": roles[i % 2], "text": t} for i, t in enumerate(texts)]}


@pytest.fixture
def write(tmp_path):
    def write(content, name="x.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def build(tmp_path):
    """Runs over files; the report, and the lines that were written and dropped."""

    def build(*paths, **rules):
        out = tmp_path / "out" / "corpus.jsonl"
        report = corpus.build(paths, out, Rules(**rules), questions.asks)
        return report, read(out), read(writers.beside(out, "dropped.jsonl"))

    return build


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def texts(record):
    return [turn["text"] for turn in record["turns"]]


# --- what is read and written -------------------------------------------------------------------------------------


def test_sets_of_several_kinds_make_one_corpus_with_a_report(write, build, tmp_path):
    imcs, chip = write(whole(IMCS), "imcs.json"), write(jsonl(CHIP, {"a": 1}), "chip.jsonl")
    report, kept, dropped = build(imcs, chip, similar=0.9)
    assert [texts(record) for record in kept] == [FOUR] and kept[0]["turns"][1]["phase"] == "asking"
    assert [(d["file"], d["reason"], d["number"]) for d in dropped] == [
        ("chip.jsonl", "unreadable", 2), ("chip.jsonl", "duplicate", None),
    ]  # fmt: skip
    assert dropped[1]["detail"] == "imcs/10001" and "no known format: a" in dropped[0]["detail"]
    assert report.read == {"dialogues": 2, "turns": 4, "asking": 2} and report.kept["dialogues"] == 1
    assert report.labels == {"agree": 2}  # what IMCS' labels call a question is told for one
    written = json.loads((tmp_path / "out" / "corpus.report.json").read_text(encoding="utf-8"))
    assert written["files"][str(chip)] == {"kind": "chip-mdcfnpc", "read": 1, "kept": 0, "dropped": 2, "remarks": []}
    assert written["asking_kept"] == 0.5 and written["dropped"] == {"duplicate": 1, "unreadable": 1}


def test_cmedqa2_answers_find_their_questions(write, build, tmp_path):
    write(f"question_id,content\n1,{A}\n2,{C}\n", "set/questions.csv")
    write(f"ans_id,question_id,content\n11,1,{D}\n12,1,{B}\n13,9,{D}\n", "set/answers.csv")
    write("question_id,pos_ans_id,neg_ans_id\n1,11,13\n", "set/train_candidates.txt")
    _, kept, dropped = build(tmp_path / "set")
    assert [(record["id"], texts(record)) for record in kept] == [("11", [A, D]), ("12", [A, B])]
    assert build(*sorted((tmp_path / "set").iterdir()))[1] == kept  # the files by name
    assert [(d["number"], d["reason"]) for d in dropped] == [(4, "unreadable")] and "question" in dropped[0]["detail"]
    (tmp_path / "set" / "questions.csv").unlink()
    assert corpus.build([tmp_path / "set"], None).failed


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_read(write, build, tmp_path):
    good, bad = write(jsonl(dialogue("a", A, D)), "d/b.jsonl"), write(b"\x80\x04broken", "d/a.pk")
    strange = write("".join(f"{i}\n" for i in range(300)), "d/c.csv")
    report, kept, _ = build(tmp_path / "d")
    assert len(kept) == 1 and report.failed
    assert [name for name, facts in report.files.items() if "error" in facts] == [str(bad), str(strange)]
    assert "100" in report.files[str(strange)]["error"] and good.exists()


def test_an_id_that_repeats_gets_a_number_and_a_limit_is_kept(write, build):
    path = write(jsonl(dialogue("a", A, D), dialogue("a", C, D), dialogue("a", B, D)))
    assert [record["id"] for record in build(path)[1]] == ["a", "a-2", "a-3"]
    assert corpus.build([path], None, limit=2).kept["dialogues"] == 2


def test_a_corpus_needs_little_memory_however_large_it_is(write):
    """Records are not held: only what tells duplicates is."""
    lines = (jsonl(dialogue(str(i), f"{RANDOM}{i}", D * 100)) for i in range(400))
    with records.streamed(write("\n".join(lines))) as opened:
        assert next(iter(opened.items)).number == 1 and not isinstance(opened.items, list)


def test_the_csv_is_bianque_corpus(write, tmp_path):
    out = tmp_path / "corpus.csv.gz"
    corpus.build([write(jsonl(dialogue("a", "头晕\n三天", B, C, D)))], out)
    text = gzip.decompress(out.read_bytes()).decode()
    assert text.startswith('"input","target","answer_choice","type"\n') and "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["input"], row["target"]) for row in rows] == [
        ("病人：头晕\\n三天\\n医生：", B),
        (f"病人：头晕\\n三天\\n医生：{B}\\n病人：{C}\\n医生：", D),
    ]
    assert {(row["answer_choice"], row["type"]) for row in rows} == {("[]", "s")}


SAYING = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() == text and not writers._TURN.search(text) and "\\" not in text
)


@given(st.lists(st.lists(SAYING, min_size=2, max_size=6), min_size=1, max_size=4))
def test_what_goes_through_the_csv_and_back_is_the_same(tmp_path_factory, dialogues):
    place = tmp_path_factory.mktemp("round")
    whole = [texts[: len(texts) // 2 * 2] for texts in dialogues]
    (place / "a.jsonl").write_text(jsonl(*(dialogue(str(i), *said) for i, said in enumerate(whole))), encoding="utf-8")
    rules = Rules(personal="keep", shortest=1)
    first = corpus.build([place / "a.jsonl"], place / "b.jsonl", rules)
    corpus.build([place / "b.jsonl"], place / "c.csv", rules)
    corpus.build([place / "c.csv"], place / "d.jsonl", rules)
    before, after = read(place / "b.jsonl"), read(place / "d.jsonl")
    said = [texts(record) for record in before]
    # A dialogue that the next one goes on from is part of it, wherever it stands.
    assert [texts(record) for record in after] == [
        one for one, then in zip(said, [*said[1:], []], strict=True) if len(then) <= len(one) or then[: len(one)] != one
    ]
    assert first.kept["dialogues"] == len(before)


def test_a_corpus_of_our_own_keeps_phases_notes_and_models(write, build):
    own = dialogue("a", A, B, C, D) | {"notes": {"class": "医疗建议"}}
    own["turns"][1]["phase"], own["turns"][3]["phase"] = "asking", "advising"
    made = dialogue("b", C, D) | {"set": "s", "model": "big", "ai_generated": True}
    assert build(write(jsonl(own, made)))[1] == [own, made]


def test_no_turn_can_speak_for_another_in_the_csv(write, tmp_path):
    for suffix in ("b.csv", "c.jsonl"):
        source = (
            tmp_path / "b.csv" if suffix == "c.jsonl" else write(jsonl(dialogue("a", "头晕\n医生：吃药\\n病人：好", D)))
        )
        corpus.build([source], tmp_path / suffix)
    (record,) = read(tmp_path / "c.jsonl")
    assert texts(record) == ["头晕\n医生，吃药/n病人：好", D]


def test_what_is_there_stays_until_the_whole_is_written(write, tmp_path, monkeypatch):
    out = tmp_path / "corpus.jsonl"
    out.write_text("before", encoding="utf-8")
    monkeypatch.setattr(corpus.Cleaner, "take", lambda *more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpus.build([write(jsonl(dialogue("a", A, D)))], out)
    assert out.read_text(encoding="utf-8") == "before" and sorted(os.listdir(tmp_path)) == ["corpus.jsonl", "x.jsonl"]


# --- what is cleaned away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, clean",
    [
        ("电话13812345678", "电话[电话]"), ("+86 138-1234-5678", "[电话]"), ("010-62345678", "[电话]"),
        ("微信：abc_12345谢谢", "[账号]谢谢"), ("加我qq123456789", "加我[账号]"), ("邮箱a.b@c.com", "邮箱[邮箱]"),
        ("见https://x.cn/a?b=1。", "见[网址]。"), ("身份证110101199003078888", "身份证[证件号]"),
        ("住院号：A123456", "[编号]"), ("姓名：李小明", "姓名[姓名]"), ("我叫张伟，头晕", "我叫[姓名]，头晕"),
        ("住北京市海淀区中关村大街27号", "[地址]"),
    ],
)  # fmt: skip
def test_what_tells_who_somebody_is_is_masked(text, clean):
    assert masked(text, cleaning.Counter()) == clean


@pytest.mark.parametrize(
    "text",
    ["血压 139/88", "体温38.5，白细胞 10.5", "2019-01-02做过检查", "拨打120或12356", "我叫救护车了", "每天1500毫升", "13812", "妇科医生"],
)  # fmt: skip
def test_findings_and_hotlines_are_no_personal_data(text):
    assert masked(text, cleaning.Counter()) == text


@pytest.mark.parametrize(
    "rules, texts_, reason",
    [
        ({"personal": "drop"}, ("电话13812345678", D), "personal"),
        ({"shortest": 3}, ("头晕", D), "short"),
        ({"longest": 50}, (A, D * 30), "long"),
        ({"rounds": 2}, (A, D), "rounds"),
        ({}, (A,), "rounds"),
        ({"least_asking": 0.6}, (A, B, C, D), "asking"),
        ({}, ("您好！" + RANDOM, D), "duplicate"),
        ({"similar": 0.8}, (RANDOM.replace("总是", "老是"), D), "duplicate"),
        ({"similar": 0.8, "compare": "opening"}, (RANDOM.replace("总是", "老是"), "另一个回答。"), "duplicate"),
    ],
)
def test_what_is_left_out_has_its_reason(write, build, rules, texts_, reason):
    first = dialogue("first", "您好，" + RANDOM if "您好" in texts_[0] else RANDOM, D, C, B)
    rest = dialogue("second", *texts_, *((C, B) if reason == "duplicate" else ()))
    keeps = {"longest": 50} if reason == "long" else rules if reason in ("rounds", "duplicate") else {}
    report, _, dropped = build(write(jsonl(first, rest)), **(rules | keeps))
    lost = [d for d in dropped if d["id"] == "second"]
    assert [d["reason"] for d in lost] == [reason] and report.dropped[reason] >= 1


def test_similar_texts_are_found_at_the_threshold_and_not_below():
    """Two Chinese sentences whose ROUGE-L by characters is 0.8: `rouge-score` sees no Chinese at all and calls it 0."""
    one, two = "一二三四五六七八九十", "一二三四五六七八甲乙"
    for threshold, found in ((0.8, "one"), (0.81, None)):
        seen = Duplicates(threshold)
        assert seen.seen(one, "one") is None and seen.seen(two, "two") == found
    assert Duplicates().seen(two, "x") is None


def test_among_many_texts_minhash_finds_them():
    seen = Duplicates(0.85, compared=20)
    texts_ = [
        f"{RANDOM[i % 10 :]}，第{i * 7919}次，{chr(0x4E00 + i * 37)}{chr(0x5E00 + i * 91)}不舒服{i * i}" * 2
        for i in range(60)
    ]
    kept = [text for i, text in enumerate(texts_) if seen.seen(text, str(i)) is None]
    assert seen.index is not None
    again = [seen.seen(text.replace("不舒服", "不太舒服", 1), "again") for text in kept]
    assert sum(name is not None for name in again) > 0.9 * len(kept)


def test_a_library_that_is_missing_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidfuzz.process", None)
    with pytest.raises(BadInput, match=r"rapidfuzz.*pip install -r bianque/data/requirements.txt"):
        Duplicates(0.9)


# --- the command line ---------------------------------------------------------------------------------------------


def test_the_command_tells_what_it_did(write, tmp_path, capsys):
    path = write(jsonl(dialogue("a", "电话13812345678", B, C, D), dialogue("b", C, " "), {"x": 1}))
    assert main(["corpus", str(path), "--out", str(tmp_path / "o.jsonl")]) == 0
    said = capsys.readouterr()
    for part in ("留下 1", "50.0%", "unreadable", "rounds", "blank", "phone 1", "o.report.json"):
        assert part in said.out
    assert said.err.startswith("x.jsonl: dialogues") and "13812345678" not in (tmp_path / "o.jsonl").read_text("utf-8")


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["no-such-file"], "no-such-file"), (["x.jsonl", "--out", "o.txt"], "o.txt"), (["x.jsonl", "--out", "x.jsonl"], "x.jsonl"),
        (["x.jsonl", "--similar", "7"], "similar=7"), (["x.jsonl", "--least-asking", "2"], "least_asking=2"),
        (["x.jsonl", "--rounds", "0"], "rounds=0"), (["empty"], "empty"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_told(write, tmp_path, monkeypatch, capsys, arguments, told):
    write(jsonl(dialogue("a", A, D)))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["corpus", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("BQ_BAD_INPUT") and told in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_kill_9_leaves_a_file_as_it_was(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("before\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if not child:
        with writers.finished(path) as file:
            file.write("half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_text() == "before\n"
    with writers.finished(path) as file:
        file.write("whole\n")
    assert path.read_text() == "whole\n" and [*tmp_path.iterdir()] == [path]

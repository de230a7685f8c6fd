import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.data import readers
from bianque.errors import BadInput
from bianque.types import Message

ASK, ADVISE = "头痛多久了？", "多喝水，注意休息。"
SCORES = {"proactivity": 4.0, "accuracy": 5.0, "helpfulness": 4.5, "linguistic_quality": 5.0}


def said(*texts, names=("role", "text")):
    return [dict(zip(names, (("patient", "doctor")[i % 2], text), strict=True)) for i, text in enumerate(texts)]


def own(name, *texts):
    return {"id": name, "source": "own", "turns": said(*texts)}


def recording(name, *texts, **more):
    return {"id": name, "set": "s", "model": "m", "turns": said(*texts), "gpt4": SCORES} | more


def disc(name, *texts, **more):
    talk = said(*texts, names=("role", "content"))
    return {
        "id": name,
        "model": "m",
        "source": "CMD",
        "dataset_info": {"department": "儿科"},
        "conversation": talk,
    } | more


def scored(name, answer, talk):
    prompt = f"Rate it.\nProactivity: x\n\n[start of conversation]\n\n{talk}\n[end of conversation]"
    return {"id": name, "model": "m", "source": "CMB-clin", "scores": answer, "prompt": prompt}


GOOD = scored(
    "a",
    "Proactivity: 4\nAccuracy: 5\nHelpfulness: 4.5\nLinguistic Quality: 5",
    f"patient: 我头痛\ndoctor: {ASK}\n\n1. 是否发热？\npatient: 三天\ndoctor: {ADVISE}",
)


def jsonl(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def table(*rows, header=("input", "target")):
    out = io.StringIO(newline="")
    csv.writer(out).writerows([header, *rows])
    return out.getvalue()


@pytest.fixture
def write(tmp_path):
    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(case):
    return [message.content for message in case.messages]


# --- each kind ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [jsonl, json.dumps, lambda records: json.dumps(records, indent=2, ensure_ascii=False)]
)
@pytest.mark.parametrize(
    "pack",
    [str.encode, lambda text: gzip.compress(text.encode(), mtime=0), lambda text: b"\xef\xbb\xbf" + text.encode()],
)
def test_our_dialogues_in_every_wrapping(write, shape, pack):
    path = write(pack(shape([own("a", "我头痛", ASK, "三天", ADVISE), own("b", "咳嗽")])), "no.name.tells")
    loaded = readers.preview(path)
    assert (loaded.kind, loaded.problems) == ("dialogues", ())
    first, second = loaded.dialogues
    assert (first.id, first.set, first.recorded, first.scores) == ("a", "own", None, None)
    assert first.messages[:2] == (Message("user", "我头痛"), Message("assistant", ASK))
    assert [(turn, len(history), human) for turn, history, human in first.items()] == [(0, 1, ASK), (1, 3, ADVISE)]
    assert [(turn, len(history), human) for turn, history, human in second.items()] == [(0, 1, None)]
    assert len(loaded.warnings) == 1 and loaded.warnings[0].startswith("1 ")
    assert readers.read_cases(path) == loaded.dialogues


def test_recordings(write):
    records = [
        recording("a", "我头痛", ASK, "三天", ADVISE, reference=["先测体温"]),
        recording("b", "咳嗽", ADVISE, gpt4=None, reference="多久了"),
        recording("b", "咳嗽", ADVISE, model="other", gpt4={"accuracy": 3}),
    ]
    loaded = readers.preview(write(jsonl(records)))
    assert (loaded.kind, loaded.problems) == ("recordings", ())
    assert [case.scores for case in loaded.dialogues] == [SCORES, None, {"accuracy": 3.0}]
    assert [case.recorded for case in loaded.dialogues] == ["m", "m", "other"]
    assert [human for _, _, human in loaded.dialogues[0].items()] == ["先测体温", None]
    assert any(warning.startswith("1 ") for warning in loaded.warnings)


def test_bianque_csv_parts_turns_at_labels_and_takes_one_next_turn_a_row(write):
    rows = [
        ["病人：我头痛\n很久了\\n医生：", " 多喝水。\n"],
        ["病人：我头痛\n医生：多久了？\n病人：三天\n医生：", "休息。"],
        ["患者:咳嗽，问过医生：没事\\n医生:有痰吗？\\n病人：没有", "多喝水。"],
    ]
    loaded = readers.preview(write(table(*rows), "cases.v1.csv"))
    assert (loaded.kind, loaded.problems) == ("bianque-csv", ())
    one, two, three = loaded.dialogues
    assert (one.id, one.set, texts(one)) == ("2", "cases", ["我头痛\n很久了", "多喝水。"])
    assert texts(two) == ["我头痛", "多久了？", "三天", "休息。"]
    assert [(turn, len(history), human) for turn, history, human in two.items()] == [(1, 3, "休息。")]
    assert texts(three) == ["咳嗽，问过医生：没事", "有痰吗？", "没有", "多喝水。"]


def test_csv_with_upstreams_columns_in_gb18030(write):
    header = ("input", "target", "answer_choice", "type")
    content = table(["病人：我头痛\\n医生：", "多喝水。", "[]", "medical_qa"], header=header)
    plain = readers.preview(write(content, "cases.csv"))
    assert plain.dialogues[0].notes == {"type": "medical_qa"} and plain.warnings == ()
    coded = readers.preview(write(content.encode("gb18030"), "cases.csv"))
    assert coded.dialogues == plain.dialogues
    assert "GB18030" in coded.warnings[0]


def test_damaged_utf_8_is_not_taken_for_gb18030(write):
    whole = table(["病人：头痛很久了\\n医生：", "注意休息"]).encode()
    readable = 0
    for place in range(14, len(whole)):
        damaged = whole[:place] + b"\xc3" + whole[place + 1 :]
        if "\ufffd" in damaged.decode("utf-8", "replace"):
            readable += "\ufffd" not in damaged.decode("gb18030", "replace")
            with pytest.raises(BadInput, match="line 2 is not UTF-8"):
                readers.preview(write(damaged))
    assert readable  # else this would show nothing


def test_disc_dialogues(write):
    loaded = readers.preview(write(json.dumps([disc("0-1", "我头痛", ASK), disc("0-2", "咳嗽", ADVISE)])))
    assert (loaded.kind, loaded.problems) == ("disc-dialogues", ())
    case = loaded.dialogues[0]
    assert (case.set, case.recorded, case.scores, case.notes) == ("cmd", "m", None, {"department": "儿科"})
    assert texts(case) == ["我头痛", ASK]


def test_disc_scores_hold_the_dialogue_the_prompt_and_the_answer(write):
    loaded = readers.preview(write(jsonl([GOOD])))
    assert (loaded.kind, loaded.problems) == ("disc-scores", ())
    case = loaded.dialogues[0]
    assert (case.set, case.scores) == ("cmb-clin", SCORES)
    assert texts(case) == ["我头痛", f"{ASK}\n\n1. 是否发热？", "三天", ADVISE]
    assert (case.judged.prompt, case.judged.answer) == (GOOD["prompt"], GOOD["scores"])


@pytest.mark.parametrize(
    ("record", "kind", "set_", "messages", "notes"),
    [
        ({"id": "0", "case": "男，49岁", "first_question": "我头痛"}, "cmb-clin", "cmb-clin", ["我头痛"], {"case": "男，49岁"}),
        (
            {"id": "0", "department": "儿科", "raw_case": "耳科", "question": "我头痛", "raw_anwser": ADVISE},
            "cmd", "cmd", ["我头痛", ADVISE], {"department": "儿科", "raw_case": "耳科"},
        ),
        (
            {"id": "0", "source": "CMID", "dataset_info": {"label_4class": "病症"}, "cate": "病症", "question": "我头痛"},
            "cmid", "cmid", ["我头痛"], {"label_4class": "病症", "cate": "病症"},
        ),
    ],
)  # fmt: skip
def test_disc_samples(write, record, kind, set_, messages, notes):
    loaded = readers.preview(write(json.dumps([record], indent=4)))
    case = loaded.dialogues[0]
    assert (loaded.kind, case.set, texts(case), case.notes) == (kind, set_, messages, notes)


def test_references_from_records_and_from_human_dialogues(write):
    records = [{"id": "a", "set": "own", "reference": ASK}, {"id": "b", "set": "own", "reference": ADVISE}]
    path = write(jsonl(records))
    assert readers.read_references(path) == {("own", "a"): ASK, ("own", "b"): ADVISE}
    dialogues = [own("a", "我头痛", ASK, "三天", ADVISE), own("b", "咳嗽", ADVISE), own("c", "失眠")]
    assert readers.read_references(write(jsonl(dialogues), "other")) == readers.read_references(path)
    with pytest.raises(BadInput, match="give it as references"):
        readers.preview(path)
    with pytest.raises(BadInput, match="no human doctor's answer"):
        readers.read_references(write(jsonl([own("c", "失眠")])))


@given(st.lists(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5), min_size=1, max_size=4))
def test_any_text_comes_through(tmp_path_factory, dialogues):
    path = tmp_path_factory.mktemp("any") / "file.jsonl"
    path.write_bytes(jsonl([own(str(i), *turns) for i, turns in enumerate(dialogues)]).encode())
    assert [texts(case) for case in readers.read_cases(path)] == dialogues


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "field", "wrong"),
    [
        ("{", "", "not JSON"),
        ("[1]", "", "is a list"),
        ('{"a": ' * 100_000, "", "not JSON"),
        (own("a", "我头痛", ASK), "id", "repeats that of line 1"),
        (own("", "我头痛"), "id", "is blank"),
        (own("x", "我头痛") | {"source": 3}, "source", "is a number"),
        (own("x", "我头痛", " "), "turns[1].text", "is blank"),
        (own("x", "我头痛\ud800"), "turns[0].text", "surrogate"),
        (own("x") | {"turns": said("我头痛", ASK)[1:]}, "turns[0].role", "is 'doctor' where 'patient' is due"),
        (own("x") | {"turns": []}, "turns", "is an empty list"),
        (own("x") | {"turns": "我头痛"}, "turns", "is a string"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(write, bad, field, wrong):
    line = bad if isinstance(bad, str) else json.dumps(bad)
    path = write(jsonl([own("a", "我头痛", ASK)]) + "\n" + line + "\n" + jsonl([own("z", "咳嗽", ASK)]))
    loaded = readers.preview(path)
    assert [case.id for case in loaded.dialogues] == ["a", "z"]
    (problem,) = loaded.problems
    assert (problem.number, problem.unit, problem.field) == (3, "line", field)
    assert wrong in problem.wrong and problem.remedy
    with pytest.raises(BadInput) as caught:
        readers.read_cases(path)
    assert f"第 3 行 (line 3){' ' + field if field else ''}：" in str(caught.value)


@pytest.mark.parametrize(
    ("record", "field", "wrong"),
    [
        (recording("x", "我头痛"), "turns", "holds no doctor's turn"),
        (recording("x", "我头痛", ASK, gpt4={"accuracy": 6}), "gpt4.accuracy", "is 6"),
        (recording("x", "我头痛", ASK, gpt4={"accuracy": 0}), "gpt4.accuracy", "is 0"),
        (recording("x", "我头痛", ASK, gpt4={"accuracy": True}), "gpt4.accuracy", "is True"),
        (recording("x", "我头痛", ASK, gpt4={"accuracy": float("nan")}), "gpt4.accuracy", "is nan"),
        (recording("x", "我头痛", ASK, gpt4={"charm": 5}), "gpt4", "holds no score"),
        (recording("x", "我头痛", ASK, gpt4=5), "gpt4", "is a number"),
        (recording("x", "我头痛", ASK, model=None), "model", "is missing"),
        (recording("x", "我头痛", ASK, reference=[ASK, ""]), "reference[1]", "is blank"),
        (disc("x", "我头痛", ASK, conversation=said("我头痛", ASK)), "conversation[0].content", "is missing"),
        (disc("x", "我头痛"), "conversation", "holds no doctor's turn"),
        (GOOD | {"scores": "Proactivity: 9"}, "scores.proactivity", "is 9.0"),
        (GOOD | {"scores": "I would rather not"}, "scores", "holds no score"),
        (GOOD | {"prompt": "Rate it."}, "prompt", "[start of conversation]"),
        ({"id": "0", "question": "我头痛", "raw_anwser": None}, "raw_anwser", "is missing"),
        ({"id": "0", "first_question": "", "case": "男"}, "first_question", "is blank"),
    ],
)
def test_a_bad_record_of_each_kind(write, record, field, wrong):
    (problem,) = readers.preview(write(json.dumps([record]))).problems
    assert (problem.number, problem.unit, problem.field) == (1, "item", field)
    assert wrong in problem.wrong


@pytest.mark.parametrize(
    ("row", "field", "wrong"),
    [
        (["我头痛", ADVISE], "input", "does not begin with the label"),
        (["医生：您好\\n病人：头痛\\n医生：", ADVISE], "input[0].role", "is 'doctor'"),
        (["病人：头痛\\n病人：咳嗽\\n医生：", ADVISE], "input[1].role", "is 'patient'"),
        (["病人：\\n医生：", ADVISE], "input[0].text", "is blank"),
        (["病人：头痛\\n医生：多喝水", ADVISE], "input", "ends with the doctor's words"),
        (["病人：头痛\\n医生：", " "], "target", "is blank"),
        (["病人：头痛\\n医生："], "", "has 1 cells, the header 2"),
    ],
)
def test_a_bad_row_of_a_csv_has_the_number_a_spreadsheet_shows(write, row, field, wrong):
    loaded = readers.preview(write(table(["病人：咳\n嗽\\n医生：", ASK], row, ["病人：失眠\\n医生：", ADVISE])))
    (problem,) = loaded.problems
    assert (problem.number, problem.unit, problem.field) == (3, "row", field)
    assert wrong in problem.wrong
    assert [case.id for case in loaded.dialogues] == ["2", "4"]


def test_an_open_quotation_mark_costs_its_own_row_alone(write):
    loaded = readers.preview(
        write(table(["病人：咳嗽\\n医生：", ASK]) + '"病人：头痛\\n医生：,休息\n病人：失眠\\n医生：,好\n')
    )
    assert [texts(case) for case in loaded.dialogues] == [["咳嗽", ASK], ["失眠", "好"]] and len(loaded.problems) == 1
    assert "not valid CSV" in loaded.problems[0].wrong and loaded.problems[0].number == 3


def test_most_records_decide_the_kind_and_not_the_first(write):
    records = [{"id": "x"}, own("a", "我头痛"), own("b", "咳嗽")]
    loaded = readers.preview(write(json.dumps(records)))
    assert (loaded.kind, [problem.number for problem in loaded.problems]) == ("dialogues", [1])


def test_one_object_over_several_lines_is_a_file_of_one(write):
    assert readers.read_cases(write(json.dumps(own("a", "我头痛", ASK), indent=2)))[0].id == "a"


def test_load_names_twenty_problems_and_counts_the_rest(write):
    path = write(jsonl([own("a", "我头痛")]) + "{\n" * 25)
    assert len(readers.preview(path).problems) == 25
    with pytest.raises(BadInput) as caught:
        readers.read_cases(path)
    first, *lines, last = str(caught.value).splitlines()
    assert "25" in first and len(lines) == 20 and "and 5 more" in last


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (gzip.compress(b"{}" * 99, mtime=0)[:-9], "cannot be read"),
        (b"\x1f\x8b broken", "cannot be read"),
        (b'{"id": "\xff"}\n', "line 1 is not UTF-8"),
        (jsonl([own("a", "我头痛")]).encode() + b'{"id": "\xff"}\n', "line 2 is not UTF-8"),
        (table(["病人：我头痛很久了\\n医生：", ADVISE]).encode() + b"\xff", "line 3 is not UTF-8"),
        (b"\x00\xff\xd8\xff" * 9, "is not UTF-8"),
        (b"a,b\n1,2\n", "unknown format"),
        (b"input,target\n", "a header and no row"),
        (b'{"id": 1}\n', "unknown format"),
        (b"{\n{\n", "line 2"),
        (b"[1, 2", "not JSON"),
        (b"[]", "unknown format"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(write, tmp_path, content, message):
    path = tmp_path / "none.jsonl" if content is None else write(content)
    with pytest.raises(BadInput, match=message) as caught:
        readers.preview(path)
    assert str(tmp_path) not in str(caught.value)  # a visitor learns no path of this machine


def test_a_gzip_bomb_is_not_inflated(write):
    path = write(gzip.compress(b"\n" * 50_000_000, mtime=0))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"over 0\.1 MB once decompressed"):
            readers.preview(path, max_bytes=100_000)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_the_limits_are_kept_to_the_byte_and_the_dialogue(write):
    content = jsonl([own(str(i), "我头痛") for i in range(5)])
    path, size = write(content), len(content.encode())
    assert len(readers.read_cases(path, max_bytes=size, max_dialogues=5)) == 5
    with pytest.raises(BadInput, match="split"):
        readers.read_cases(path, max_bytes=size - 1)
    with pytest.raises(BadInput, match="holds 5 records, at most 4"):
        readers.read_cases(path, max_dialogues=4)


def test_the_examples_of_the_package_hold():
    examples = Path(readers.__file__).parents[1] / "evaluate" / "examples"
    loaded = readers.preview(examples / "dialogues.jsonl")
    assert (loaded.kind, loaded.problems, loaded.warnings) == ("dialogues", (), ()) and 4 <= len(loaded.dialogues) <= 6
    assert readers.preview(examples / "recordings.jsonl").kind == "recordings"
    assert readers.read_references(examples / "answers.jsonl")

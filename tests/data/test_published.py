"""Made-up files of every published shape: each is read, by an evaluation and as a corpus, and what is wrong is named."""

from __future__ import annotations

import gzip
import json
import pickle

import pytest

from bianque.data import readers, records
from bianque.data.readers import Problem
from bianque.errors import BadInput

A, B, C, D = "最近老是头晕", "头晕多久了？", "三天", "先测一下血压。"


def turns(who, text, *said, names=("病人", "医生")):
    return [{who: names[place % 2], text: words} for place, words in enumerate(said)]


def jsonl(*found):
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in found)


def whole(value):
    return json.dumps(value, ensure_ascii=False, indent=2)


MEDDIALOG_TEXT = f"""id=21
https://example.org/21
Doctor faculty
某某医院 内科

Description
疾病：头晕
{A}

Dialogue
病人：
{A}
医生：
{B}
病人：{C}
医生：{D}

Diagnosis and suggestions
休息

id=22
https://example.org/22
Description
{A}
Dialogue
医生：
{B}
病人：
{C}
医生：
{D}
"""
IMCS = {
    "10001": {
        "diagnosis": "眩晕", "self-report": A, "report": ["…", "…"], "implicit_info": {},
        "dialogue": [
            {"sentence_id": "1", "speaker": "医生", "sentence": B, "dialogue_act": "Request-Symptom"},
            {"sentence_id": "2", "speaker": "患者", "sentence": C, "dialogue_act": "Inform-Symptom"},
            {"sentence_id": "3", "speaker": "医生", "sentence": D, "dialogue_act": "Inform-Medical_Advice"},
        ],
    }
}  # fmt: skip
CHIP = {
    "dialog_id": 7,
    "dialog_info": [
        {"sentence_id": str(9 - place), "sender": ("患者", "医生")[place % 2], "text": text, "ner": []}
        for place, text in enumerate([A, B, C, D])
    ],
}
MEDDG = [
    [{"id": ("dis", "doc")[place % 2], "sentence": text, "sym": ["头晕"]} for place, text in enumerate([A, B, C, D])]
]
MEDDG_GEN = [{"history": [A, B, C], "response": D, "next_sym": [], "id": 3, "history_with_topic": []}]
EXPORT = {
    "label": "内容由人工智能生成", "licences": {},
    "messages": [
        {"role": "user", "content": A}, {"role": "assistant", "content": B, "phase": "asking", "model": "ask-mini"},
        {"role": "user", "content": C}, {"role": "assistant", "content": D, "phase": "advising", "model": "advise-mini"},
    ],
}  # fmt: skip
CHAT = turns("role", "content", A, B, C, D, names=("user", "assistant"))
FOUR, TWO = [A, B, C, D], [A, D]
SHAPES = {
    "meddialog": ("x.json", whole([{"dialogue_id": 1, "dialogue_turns": turns("speaker", "utterance", *FOUR)}]), FOUR),
    "meddialog, by columns": ("x.jsonl", jsonl({"dialogue_id": 1, "dialogue_turns": {"speaker": [0, 1, 0, 1], "utterance": FOUR}}), FOUR),
    "meddialog, processed": ("x.json", json.dumps([[f"病人：{A}", f"医生：{B}", f"病人：{C}", f"医生：{D}"]]), FOUR),
    "meddialog, processed, a line each": ("x.txt", "\n" + "\n".join([json.dumps([f"病人：{A}", f"医生：{B}", f"病人：{C}", f"医生：{D}"])] * 2), FOUR),
    "meddialog, raw": ("2020.txt", MEDDIALOG_TEXT, FOUR),
    "imcs": ("train.json", whole(IMCS), FOUR),
    "imcs, on one line": ("train.json", json.dumps(IMCS), FOUR),
    "chip-mdcfnpc": ("x.jsonl", jsonl(CHIP), FOUR),
    "chinese-medical-dialogue-data": ("内科.csv", f"department,title,ask,answer\n内科,无,{A},{D}\n".encode("gb18030"), TWO),
    "disc-sft": ("x.jsonl", jsonl({"_id": "1", "source": "meddial", "conversation": CHAT}), FOUR),
    "sharegpt": ("x.jsonl", jsonl({"conversations": turns("from", "value", *FOUR, names=("human", "gpt"))}), FOUR),
    "sharegpt, with a system message": (
        "x.json", whole([{"conversations": [{"from": "system", "value": "你是医生"}, *turns("from", "value", *FOUR, names=("human", "gpt"))]}]), FOUR,
    ),
    "disc-sft, by rounds": ("x.jsonl", jsonl({"conversation": [{"human": A, "assistant": B}, {"human": C, "assistant": D}]}), FOUR),
    "huatuo": ("x.jsonl", jsonl({"id": "1", "data": [f"问：{A}", f"答：{D}"]}), TWO),
    "messages": ("x.json", whole([{"id": 0, "topic": "头晕", "messages": CHAT}]), FOUR),
    "messages in parts": (
        "x.jsonl", jsonl({"messages": [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in CHAT]}), FOUR,
    ),
    "alpaca": ("x.json", whole([{"instruction": A, "input": "", "output": D}]), TWO),
    "alpaca, with an input and a history": (
        "x.json", whole([{"instruction": A, "input": "血压 150", "output": D, "history": [[A, B]]}]), [A, B, f"{A}\n血压 150", D],
    ),
    "question-answer": ("qa.csv", f"question,answer\n{A},{D}\n", TWO),
    "question-answer, by tabs": ("qa.tsv", f"query\tresponse\n{A}\t{D}\n", TWO),
    "question-answer, qinggeng": ("x.json", whole([{"input": A, "output": D}]), TWO),
    "page-export": ("bianque.json", whole(EXPORT), FOUR),
    "page-export, of a comparison": ("c.json", whole({"label": "…", "columns": [{"contender": "auto", "messages": EXPORT["messages"]}]}), FOUR),
    "cmb-qa": ("x.json", whole([{"id": "0", "title": "案例", "description": A, "QA_pairs": [{"question": "怎么办？", "answer": D}]}]), [f"{A}\n怎么办？", D]),
    "qinggeng": ("x.json", whole({"3": {"指南": "…", "qa_pairs": [{"question": A, "answer": D}]}}), TWO),
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(content, name="x.jsonl"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def streamed(path):
    """The cases, and the problems, of a corpus."""
    with records.streamed(path) as opened:
        found = list(readers.stream(opened, path))
    return [one[1] for one in found if not isinstance(one, Problem)], [one for one in found if isinstance(one, Problem)]


def texts(case):
    return [message.content for message in case.messages]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda raw: b"\xef\xbb\xbf" + raw], ids=["", "gzip", "mark"])
def test_every_shape_is_read_for_an_evaluation_and_as_a_corpus(write, shape, pack):
    name, content, said = SHAPES[shape]
    if isinstance(content, bytes) and pack(b"")[:1] == b"\xef":
        return  # GB18030 has no mark
    path = write(pack(content.encode() if isinstance(content, str) else content), name)
    loaded = readers.preview(path)
    cases, problems = streamed(path)
    assert (loaded.kind, loaded.problems, problems) == (shape.partition(",")[0].removesuffix(" in parts"), (), [])
    assert texts(loaded.dialogues[0]) == texts(cases[0]) == said
    assert [message.role for message in cases[0].messages] == ["user", "assistant"] * (len(said) // 2)


@pytest.mark.parametrize("given", [MEDDG, MEDDG_GEN], ids=["dialogues", "gen"])
def test_meddg_is_a_pickle_that_a_corpus_alone_reads(write, given):
    path = write(pickle.dumps(given), "train.pk")
    cases, problems = streamed(path)
    assert [texts(case) for case in cases] == [FOUR] and problems == []
    with pytest.raises(BadInput, match="corpus"):
        readers.preview(path)


class Payload:
    def __reduce__(self):
        return print, ("this must never be seen",)


@pytest.mark.parametrize(
    "content, told",
    [
        (pickle.dumps([Payload()]), "refused.*print"),
        (pickle.dumps([Payload()], protocol=0), "refused"),
        (pickle.dumps(MEDDG)[:-30], "damaged|refused|cannot be read"),
        (b"\x80\x04nonsense", "damaged|refused|cannot be read"),
        (pickle.dumps({"a": 1}), "a list of dialogues"),
    ],
)
def test_a_pickle_with_a_class_or_damage_is_refused_unrun(write, content, told, capsys):
    with pytest.raises(BadInput, match=told):
        streamed(write(content, "x.pk"))
    assert capsys.readouterr().out == ""


def test_the_labels_of_a_set_say_which_turns_ask(write):
    for name, content in (("imcs.json", whole(IMCS)), ("export.json", whole(EXPORT))):
        (case,), _ = streamed(write(content, name))
        assert [m.phase for m in case.messages] == [None, "asking", None, "advising"]
    assert case.recorded == "ask-mini+advise-mini"


def test_a_title_is_said_once(write):
    rows = [
        ("头晕", "头晕三天了", "头晕三天了"),
        ("头晕", "三天了", "头晕\n三天了"),
        ("头晕", "无", "头晕"),
        ("", "头晕", "头晕"),
    ]
    content = "department,title,ask,answer\n" + "".join(f"内科,{title},{ask},{D}\n" for title, ask, _ in rows)
    assert [texts(case)[0] for case in streamed(write(content, "x.csv"))[0]] == [said for _, _, said in rows]


@pytest.mark.parametrize(
    "given, said, rules",
    [
        (turns("from", "value", A, B, names=("user", "user")), [f"{A}\n{B}"], ["joined"]),
        (turns("from", "value", B, A, D, names=("doctor", "user"))[:3], [A], ["led"]),
        (turns("from", "value", A, " ", C, D, names=("user", "gpt")), [f"{A}\n{C}", D], ["blank", "joined"]),
        ([{"from": "tool", "value": "x"}, *turns("from", "value", A, D, names=("user", "gpt"))], [A, D], ["aside"]),
        ([{"from": "user", "value": [{"type": "image_url"}, {"type": "text", "text": A}]}], [A], ["part"]),
    ],
)  # fmt: skip
def test_turns_that_do_not_alternate_are_mended_by_a_rule_that_is_told(write, given, said, rules):
    path = write(jsonl({"conversations": given}))
    (case,), _ = streamed(path)
    assert texts(case)[: len(said)] == said and sorted(set(case.repairs)) == sorted(set(rules))
    assert any(readers.RULES[rules[0]].en in warning for warning in readers.preview(path).warnings)


def test_a_corpus_mends_our_own_shapes_too(write):
    own = {"id": "a", "source": "s", "turns": turns("role", "text", B, A, C, D, names=("doctor", "patient"))}
    own["turns"][2]["role"] = "patient"
    own["turns"][3]["role"] = "doctor"
    bare = {"turns": turns("role", "text", A, D, names=("patient", "doctor"))}
    cases, problems = streamed(write(jsonl(own, bare)))
    assert [texts(case) for case in cases] == [[f"{A}\n{C}", D], [A, D]] and problems == []
    assert cases[0].repairs == ("led", "joined") and cases[1].id == "2"
    assert len(readers.preview(write(jsonl(own, bare))).problems) == 2  # an evaluation wants a sound file
    rows = [f"病人：{A}\\n病人：{C}\\n医生：", f"医生：{B}\\n病人：{A}\\n医生："]
    cases, problems = streamed(write("input,target\n" + "".join(f"{row},{D}\n" for row in rows), "x.csv"))
    assert [texts(case) for case in cases] == [[f"{A}\n{C}", D], [A, D]] and problems == []


GOOD = {"conversations": turns("from", "value", A, D, names=("human", "gpt"))}
BAD = [
    ('{"conversations": [', "", "not JSON"),
    ("7", "", "number"),
    ('{"a": 1}', "", "no known format: a"),
    (jsonl({"conversations": "x"}), "conversations", "a string"),
    (jsonl({"conversations": []}), "conversations", "no patient"),
    (jsonl({"conversations": [{"from": "alien", "value": A}]}), "conversations[0].speaker", "alien"),
    (jsonl({"conversations": [{"from": "human", "value": 3}]}), "conversations[0].text", "a number"),
    (jsonl({"question": "", "answer": D}), "question", "blank"),
    (jsonl({"instruction": A, "output": None}), "output", "missing"),
    (jsonl({"utterances": [A]}), "utterances[0]", "病人"),
]


@pytest.mark.parametrize("bad, field, wrong", BAD)
@pytest.mark.parametrize("listed", [False, True], ids=["lines", "list"])
def test_one_bad_record_is_named_and_stops_nothing(write, bad, field, wrong, listed):
    if listed and bad == BAD[0][0]:
        bad = '{"conversations": [{"from": "human", "value": "x}]}'  # an open quotation mark
    joined = (",\n" if listed else "\n").join(
        [json.dumps(GOOD, ensure_ascii=False), bad, json.dumps(GOOD, ensure_ascii=False)]
    )
    path = write(f"[{joined}]" if listed else joined)
    cases, (problem,) = streamed(path)
    assert len(cases) == 2 and (problem.number, problem.field) == (2, field) and wrong in problem.wrong
    assert problem.remedy


def test_bytes_that_are_no_text_cost_their_record_alone(write):
    rows = [f"内科,头晕,{A},{D}".encode("gb18030"), b"x,x,\xff\xff,x", f"内科,头晕,{C},{D}".encode("gb18030")]
    cases, (problem,) = streamed(write(b"\n".join([b"department,title,ask,answer", *rows]), "x.csv"))
    assert [texts(case)[0][-2:] for case in cases] == [A[-2:], C[-2:]] and (problem.number, problem.field) == (
        3,
        "turns[0].text",
    )
    lines = [json.dumps(GOOD, ensure_ascii=False).encode(), b'{"question": "\xff", "answer": "x"}']
    for order in (lines, lines[::-1]):
        cases, (problem,) = streamed(write(b"\n".join(order)))
        assert len(cases) == 1 and "no text" in problem.wrong


def test_an_item_longer_than_a_piece_and_a_list_longer_than_the_buffer_are_read(write, monkeypatch):
    monkeypatch.setattr(records, "SAMPLE", 64)
    path = write(json.dumps([GOOD, {"question": A * 100, "answer": D}, *[GOOD] * 20], ensure_ascii=False))
    cases, problems = streamed(path)
    assert (len(cases), problems) == (22, []) and texts(cases[1])[0] == A * 100


def test_a_list_that_is_cut_off_gives_what_came_before(write):
    cases, (problem,) = streamed(write(json.dumps([GOOD, GOOD])[:-20]))
    assert len(cases) == 1 and problem.number == 2


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0", b"\xff\xd8\xff\xe0\n1,2\n", b"PK\x03\x04\0\0\n"])
def test_a_file_that_is_no_text_is_told_at_once(write, content):
    with pytest.raises(BadInput, match="is no text"):
        streamed(write(content, "x.csv"))


@pytest.mark.parametrize(
    "content, told",
    [(b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "LFS"), (b"\n<!DOCTYPE html>\n<html>", "web page")],
)
@pytest.mark.parametrize("read", [streamed, readers.preview])
def test_what_was_saved_in_a_files_place_is_named(write, read, content, told):
    with pytest.raises(BadInput, match=told):
        read(write(content, "x.json"))


def test_what_stands_behind_a_list_is_named(write):
    cases, (problem,) = streamed(write(json.dumps([GOOD]) + "\n]x"))
    assert len(cases) == 1 and problem.number == 2
    with pytest.raises(BadInput, match="JSON"):
        readers.read_cases(write(json.dumps([GOOD])[:-1] + "]]"))


def test_json_in_the_encoding_of_windows_is_read(write):
    path = write(json.dumps([GOOD] * 3, ensure_ascii=False).encode("gb18030"))
    assert [texts(case) for case in streamed(path)[0]] == [TWO] * 3 and "GB18030" in readers.preview(path).warnings[0]


def test_utf_16_of_a_windows_editor_is_read(write):
    path = write(f"question\tanswer\r\n{A}\t{D}\r\n".encode("utf-16"), "x.txt")
    assert [texts(case) for case in streamed(path)[0]] == [TWO] == [texts(c) for c in readers.read_cases(path)]


def deep(levels):
    found = [A]
    for _ in range(levels):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    "given",
    [
        [{"history": deep(60), "response": D, "next_sym": []}],  # a few bytes, 2⁶⁰ values
        [{"dialogue": [{"speaker": b"1", "sentence": A}]}],
        [{"dialogue": [{"speaker": 10**400, "sentence": A}]}],
        [{3: A}],
    ],
    ids=["lists within lists", "bytes", "a number without end", "a key that is no text"],
)
def test_a_pickle_that_json_could_not_hold_is_refused(write, given):
    with pytest.raises(BadInput, match="refused"):
        streamed(write(pickle.dumps(given), "x.pk"))


def test_a_small_pickle_takes_no_room_that_it_merely_names(write):
    assert streamed(write(b"\x80\x04]r\xff\xff\xff\x7f.", "x.pk")) == ([], [])  # an empty list, remembered as the 2³¹st
    with pytest.raises(BadInput, match="damaged"):
        streamed(write(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00x.", "x.pk"))


def test_utf_16_that_breaks_off_costs_its_last_record_alone(write):
    raw = "\n".join([json.dumps(GOOD), json.dumps(GOOD)]).encode("utf-16")
    cases, problems = streamed(write(raw[:-1]))
    assert len(cases) == 1 and [problem.number for problem in problems] == [2]


def test_what_is_told_of_a_record_can_be_written(write):
    _, problems = streamed(
        write(json.dumps({"\udfff": 1}) + "\n" + json.dumps({"conversations": [["x"] * 9, "\ud800"]}))
    )
    assert len(problems) == 2
    for problem in problems:
        str(problem).encode()


def test_a_field_without_a_name_is_no_title(write):
    (case,), problems = streamed(write(json.dumps([{"input": A, "output": D, "": ".."}])))
    assert texts(case) == [A, D] and not problems


def test_models_of_an_export_that_are_no_names_stop_nothing(write):
    odd = EXPORT | {"messages": [EXPORT["messages"][0], EXPORT["messages"][1] | {"model": {"a": 1}}]}
    (case,), problems = streamed(write(whole(odd)))
    assert problems == [] and case.recorded == "{'a': 1}"


def test_a_first_line_without_end_is_no_header(write):
    for read in (streamed, readers.preview):
        with pytest.raises(BadInput, match="no header"):
            read(write("x" * 200_000 + ",y\n1,2\n", "x.csv"))

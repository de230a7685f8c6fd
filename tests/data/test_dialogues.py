"""JSONL files of dialogues: what is read, what is wrong with a line, and which dialogues a limit takes."""

import gzip
import json
import re

import pytest

from bianque.data import dialogues
from bianque.errors import BadInput

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


def test_limit_takes_the_same_dialogues_in_order():
    ids = [f"d{i}" for i in range(40)]
    few, more = dialogues.sample(ids, 7), dialogues.sample(ids, 20)
    assert len(few) == 7 and few == sorted(few) and set(few) < set(more)
    assert {ids[::-1][place] for place in dialogues.sample(ids[::-1], 7)} == {ids[place] for place in few}
    assert dialogues.sample(ids, None) == dialogues.sample(ids, 99) == list(range(40))
    with pytest.raises(BadInput, match="limit is 0"):
        dialogues.sample(ids, 0)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz"])
def test_read(write, name):
    records, bad = dialogues.readable(write(ROWS, name))
    first = records[0]
    assert (len(records), bad) == (3, [])
    assert (first.id, first.source) == ("a", "own")
    assert [(turn.role, turn.text) for turn in first.turns[:2]] == [("patient", "我头痛"), ("doctor", ASK)]


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
    records, bad = dialogues.readable(path)
    assert len(records) == 1 and re.search(r"d\.jsonl" + message, str(*bad))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.jsonl", None, "cannot be read"),
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
        dialogues.readable(path)

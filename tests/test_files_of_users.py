"""Files that users hand over: one rule for marks, encodings, depth, U+2028 and `~`, in every reader and command."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from bianque.__main__ import main, spread
from bianque.checkpoints import files
from bianque.cli.cluster import machines_in
from bianque.consult import learning
from bianque.data import generate
from bianque.errors import BadInput
from bianque.evaluate import examination
from bianque.types import Message

ODD = "头痛\u2028三天\x85了"  # two line ends that are none in JSON
DEEP = b"[" * 100_000
READERS = {
    "labelled sentences": lambda path: [*learning.lines(path, ["none"])],
    "machines": machines_in,
    "scenarios": generate.scenarios,
    "sentences to understand": lambda path: main(["understand", str(path)]),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content", ["[头痛]".encode("gb18030"), DEEP, b"\xff\xfe\x00"], ids=["gb18030", "deep", "utf-16"]
)
def test_what_cannot_be_read_is_told_with_the_name_of_the_file(name, content, tmp_path, capsys):
    path = tmp_path / "given.txt"
    path.write_bytes(content)
    try:
        assert READERS[name](path) == 1
        told = capsys.readouterr().err
    except BadInput as error:
        told = str(error)
    assert "given.txt" in told


def test_a_deep_configuration_is_told(tmp_path):
    (tmp_path / "config.json").write_bytes(DEEP)
    with pytest.raises(ValueError, match=r"config\.json.*nested too deeply"):
        files.json_of(tmp_path / "config.json")


def test_a_mark_and_odd_line_ends_are_no_fault(tmp_path, capsys):
    path = tmp_path / "given.jsonl"
    rows = [json.dumps({"text": ODD, "label": "none"}, ensure_ascii=False), '{"text": "头晕", "label": "none"}']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert [row["text"] for row in learning.lines(path, ["none"])] == [ODD, "头晕"]
    out = tmp_path / "out.jsonl"
    assert main(["understand", str(path), "--out", str(out)]) == 0
    assert [json.loads(line)["text"] for line in out.read_text("utf-8").split("\n") if line] == [ODD, "头晕"]
    assert main(["understand", str(path), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("BQ_BAD_INPUT")


def test_a_line_that_is_no_json_is_named_also_where_agreement_is_asked_for(tmp_path, capsys):
    (tmp_path / "given.jsonl").write_text('{"text": "头痛"}\nnonsense\n')
    assert main(["understand", str(tmp_path / "given.jsonl"), "--score"]) == 1
    assert ":2: not JSON" in capsys.readouterr().err


def test_home_is_filled_in_behind_an_equals_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("USERPROFILE", "/somewhere")
    given = ["evaluate", "--out=~/run", "--data=~", "--note=a=~/x", "--tilde=~x", "~/x"]
    assert [*spread(given)] == [
        "evaluate",
        "--out=/somewhere/run",
        "--data=/somewhere",
        "--note=a=~/x",
        "--tilde=~x",
        "~/x",
    ]


def talk(complaint: str, said: str) -> examination.Talk:
    return examination.Talk(complaint, "1", None, [Message("user", said)], Counter(), [], None)


def test_an_examination_that_was_killed_within_a_character_goes_on(tmp_path):
    path = tmp_path / examination.TALKS
    whole = json.dumps(examination.row("auto", talk("头痛", ODD)), ensure_ascii=False).encode()
    for _ in range(20):
        path.write_bytes(whole + b"\n" + whole[: random.randrange(1, len(whole))])
        ((_, found),) = examination.stored(path).items()
        assert found.dialogue[0].content == ODD
    with examination.appended(path) as out:
        out.write(whole.decode() + "\n")
    assert path.read_bytes().endswith(b"\n" + whole + b"\n")

"""The pattern files: all of them compile, all that the code names is there, and each group says what it is."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from bianque.consult import patterns
from bianque.data import script

ROOM = Path(patterns.__file__).parent
FILES = sorted((ROOM / "assets").glob("*.yaml"))
NAMES = [path.stem for path in FILES]
WORDS = {
    ("notices", key)
    for key in ("tel", "emergency", "crisis", "other", "violence", "groups", "calm", "again", "resumed", "history")
}
WORDS |= {("replies", kind) for kind in ("child_dose", "stop_medicine", "promise", "prescription", "played_down")}
WORDS |= {("handoff", "also"), ("handoff", "closing")}  # are said, not searched for


def texts(value) -> list[str]:
    """All patterns of a file: alternatives are compiled joined, as they are used."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [patterns.joined(value)]
    return [text for item in (value.values() if isinstance(value, dict) else value) for text in texts(item)]


@pytest.mark.parametrize("name", NAMES)
def test_every_pattern_compiles_and_every_fragment_is_filled(name):
    for key, value in patterns.asset(name).items():
        if key == "script" or (name, key) in WORDS:
            continue
        for text in texts([rule["pattern"] for rule in value] if name == "triage" else value):
            assert "${" not in text and re.compile(text)


@pytest.mark.parametrize("name", ["handoff", "questions", "repeats"])
def test_every_pattern_that_the_code_names_is_there(name):
    used = set(re.findall(r'\b_re\("(\w+)"\)', (ROOM / f"{name}.py").read_text(encoding="utf-8")))
    assert used
    for key in used:
        assert patterns.pattern(name, key)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_group_is_explained(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    paired = {"drugs:", "stop_medicine:", "promise:", "prescription:"}  # with the line above, or explained at the top
    bare = [
        line
        for before, line in pairwise(lines)
        if re.match(r"\w+:", line) and not before.startswith("#") and line.partition(" ")[0] not in paired
    ]
    assert bare == []


def test_a_fragment_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(patterns, "__file__", str(tmp_path / "patterns.py"))
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "odd.yaml").write_text("fragments: {a: x}\nb: '${a}${gone}'\n")
    with pytest.raises(KeyError, match="gone"):
        patterns.asset("odd")


def test_script_pairs_are_single_characters_and_never_lead_to_another():
    table = patterns.simplified("questions")
    assert len(table) > 150 and not set(table.values()) & set(table)
    whole = script.simplified()
    assert len(whole) > 900 and set(table) <= set(whole) and set(map(len, whole.values())) == {1}


def test_few_patterns_are_left_in_the_code():
    """Lines of Python in this folder that hold a pattern handed to `re` or `regex`; the tables are assets."""
    named = {"compile", "search", "match", "fullmatch", "split", "sub", "subn", "findall", "finditer"}
    lines = set()
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Attribute(ast.Name("re" | "regex"), name), [pattern, *_]) if name in named:
                    held = [one for one in ast.walk(pattern) if isinstance(one, ast.Constant)]
                    lines |= {(path, line) for one in held for line in range(one.lineno, (one.end_lineno or 0) + 1)}
    assert 20 < len(lines) < 100

"""A run's folder: what is written is there after a kill, nothing else is, and one question has one folder."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.data.formats import Judged
from bianque.errors import BadInput, BianQueError
from bianque.evaluate import store as module
from bianque.evaluate.rows import Row
from bianque.evaluate.store import Store, read
from bianque.types import Message

ROOT = Path(__file__).parent.parent.parent
ASKED = {"data": {"name": "a.jsonl", "sha256": "00"}, "tasks": ["next"], "limit": None, "judge": None}
ROW = Row(
    "next", "own", "a", 0, "auto", (Message("user", "头痛"),), answer="多久了？", reference="几天了？", seconds=0.5
)
FAILED = replace(ROW, turn=1, answer=None, seconds=None, error="没有内存", code="BQ_NO_MEMORY")
JUDGED = replace(ROW, turn=2, judged=Judged({"accuracy": 4.0}, "提示", '{"accuracy": 4}'))


def opened(folder, question=ASKED, **options) -> Store:
    return Store.open(folder, question, **options)


def rows_of(folder) -> list[Row]:
    with opened(folder) as store:
        return list(store.rows.values())


def test_rows_are_there_again(tmp_path):
    with opened(tmp_path) as store:
        store.append(ROW)
        store.append(FAILED, JUDGED)
    assert rows_of(tmp_path) == read(tmp_path) == [ROW, FAILED, JUDGED]


texts = st.text() | st.sampled_from(["\u2028", "a\nb\r\x00", "\ud800", "\x85", "😀", '"}\n{'])
messages = st.builds(
    Message, st.sampled_from(["user", "assistant"]), texts, st.sampled_from([None, "asking"]), st.none() | texts
)
judgements = st.builds(Judged, st.none() | st.just({"accuracy": 4.0}), texts, texts, st.none() | texts)
rows = st.builds(
    Row, st.sampled_from(["next", "consultation", "recorded"]), texts, texts, st.integers(0, 9), texts,
    st.lists(messages, max_size=3).map(tuple), answer=texts, raw=st.none() | texts, reference=st.none() | texts,
    phase=st.none() | texts, first=st.none() | st.floats(0, 1e9), tokens=st.none() | st.integers(0, 9),
    judged=st.none() | judgements,
)  # fmt: skip


@given(row=rows)
def test_a_row_survives_its_line(row):
    line = module.line_of(row)
    assert "\n" not in line and line.encode()
    assert module._row(line) == row


# --- runs of an earlier version, which were JSONL alone ---


def old(folder, *lines: str | bytes, question=ASKED) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(question), "utf-8")
    whole = [line if isinstance(line, bytes) else line.encode() for line in lines]
    (folder / "rows.jsonl").write_bytes(b"\n".join(whole))
    return folder


def test_jsonl_is_imported_once(tmp_path):
    old(tmp_path, *map(module.line_of, (ROW, FAILED, JUDGED, replace(FAILED, error="又", seconds=1.0))), b"",
        question=ASKED | {"started": "then"})  # fmt: skip
    wanted = [ROW, replace(FAILED, error="又", seconds=1.0), JUDGED]
    assert read(tmp_path) == wanted and module.known(tmp_path) == ASKED
    with opened(tmp_path) as store:
        assert list(store.rows.values()) == wanted and store.run["started"] == "then"
        store.append(replace(ROW, turn=7))
    (tmp_path / "rows.jsonl").write_text("no longer read")
    assert rows_of(tmp_path) == read(tmp_path) == [*wanted, replace(ROW, turn=7)]


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_a_torn_last_line_costs_that_row_alone(tmp_path, cut):
    last = module.line_of(JUDGED).encode()
    old(tmp_path, module.line_of(ROW), last[:-cut])
    assert read(tmp_path) == rows_of(tmp_path) == [ROW]


def test_a_last_line_without_its_end_counts(tmp_path):
    old(tmp_path, module.line_of(ROW), module.line_of(JUDGED))
    assert rows_of(tmp_path) == [ROW, JUDGED]


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"{}", b"\xff", b'{"task": "guess"}',
        b'{"task": "next", "set": "s", "id": "i", "turn": 0, "model": "m", "history": []}',  # neither answer nor error
        b'{"task": "next", "set": "s", "id": "i", "turn": true, "model": "m", "history": [], "answer": "a"}',
        b'{"task": "next", "set": "s", "id": "i", "turn": 0, "model": "m", "history": [{}], "answer": "a"}',
        b'{"task": "next", "set": "s", "id": "i", "turn": 0, "model": "m", "history": [], "answer": "a", "x": 1}',
        b'{"task": "next", "set": "s", "id": "i", "turn": 0, "model": "m", "history": [], "answer": "a", "first": "1"}',
        b'{"task": "next", "set": "s", "id": "i", "turn": 0, "model": "m", "history": [], "answer": "a", "judged": {}}',
    ],
)  # fmt: skip
def test_a_broken_line_in_the_middle_is_named(tmp_path, line):
    path = old(tmp_path, module.line_of(ROW), line, module.line_of(JUDGED)) / "rows.jsonl"
    before = path.read_bytes()
    for look in (rows_of, read):
        with pytest.raises(BadInput, match=r"rows\.jsonl:2: .*--fresh"):
            look(tmp_path)
    assert path.read_bytes() == before
    with opened(tmp_path, fresh=True) as store:
        assert store.rows == {}


def test_half_of_a_surrogate_pair_in_an_old_row_is_a_question_mark(tmp_path):
    old(tmp_path, module.line_of(replace(ROW, answer="多\ud800")), b"")
    assert rows_of(tmp_path) == [replace(ROW, answer="多?")]


def test_rows_without_a_question_belong_to_nothing(tmp_path):
    (old(tmp_path, module.line_of(ROW)) / "run.json").unlink()
    with pytest.raises(BadInput, match=r"rows\.jsonl"):
        opened(tmp_path)


@pytest.mark.parametrize("written", ["", "[", "[1]", "1"])
def test_a_question_that_cannot_be_read_is_no_question(tmp_path, written):
    (tmp_path / "run.json").write_text(written)
    with pytest.raises(BadInput, match=r"run\.json.*--fresh"):
        opened(tmp_path)


# --- the database ---


def test_an_export_is_the_rows_in_the_order_they_are_given(tmp_path):
    with opened(tmp_path) as store:
        store.append(ROW, JUDGED)
        store.note(finished="now")
        store.export([JUDGED, ROW])
    lines = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["turn"] for line in lines] == [2, 0]
    assert json.loads((tmp_path / "run.json").read_text("utf-8"))["finished"] == "now"


def test_what_is_no_database_is_named(tmp_path):
    (tmp_path / "run.db").write_text("no database, whatever its name says" * 99)
    for look in (rows_of, read):
        with pytest.raises(BadInput, match=r"run\.db.*--fresh"):
            look(tmp_path)
    opened(tmp_path, fresh=True).close()
    assert rows_of(tmp_path) == []


def test_the_later_of_two_rows_counts_and_only_answers_are_finished(tmp_path):
    again = replace(FAILED, answer="好了", error=None, code=None)
    with opened(tmp_path) as store:
        store.append(FAILED)
        assert store.finished(FAILED.key) is None and store.finished(ROW.key) is None
        store.append(again)
        assert store.finished(FAILED.key) == again
    assert rows_of(tmp_path) == [again]


DIFFERENT = {
    "data.sha256": {"data": {"name": "a.jsonl", "sha256": "01"}},
    "tasks": {"tasks": ["next", "consultation"]},
    r"tasks\[0\]": {"tasks": ["consultation"]},
    "limit": {"limit": 5},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_another_question_needs_another_folder(tmp_path, field):
    with opened(tmp_path) as store:
        store.append(ROW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadInput, match=rf" {field} .* → .*--fresh"):
        opened(tmp_path, ASKED | DIFFERENT[field])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with opened(tmp_path, ASKED | DIFFERENT[field], fresh=True) as store:
        assert store.rows == {}


def test_the_error_names_both_values(tmp_path):
    opened(tmp_path).close()
    with pytest.raises(BadInput, match=r"limit null → 7"):
        opened(tmp_path, ASKED | {"limit": 7})


def test_facts_are_kept_and_not_compared(tmp_path):
    with opened(tmp_path) as store:
        store.note(started="today", versions={"torch": "2"})
        store.note(versions={"torch": "3"})
    with opened(tmp_path) as store:
        assert store.run == {**ASKED, "started": "today", "versions": {"torch": "3"}}
    assert json.loads((tmp_path / "run.json").read_text("utf-8")) == store.run
    assert module.known(tmp_path) == ASKED and module.known(tmp_path / "none") is None


def test_what_is_known_later_may_be_added_and_stays(tmp_path):
    judge = {"judge": {"model": "one"}}
    opened(tmp_path).close()
    for question in (ASKED | judge, ASKED):
        with opened(tmp_path, question, later=("judge",)) as store:
            assert store.run["judge"] == {"model": "one"}
    with pytest.raises(BadInput, match=r"judge\.model \"one\" → \"two\""):
        opened(tmp_path, ASKED | {"judge": {"model": "two"}}, later=("judge",))


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file"):
        opened(tmp_path / "file")


def test_a_full_disk_leaves_no_half_row(tmp_path):
    big = [replace(ROW, turn=turn, answer="长" * 50_000) for turn in range(5, 9)]
    with opened(tmp_path) as store:
        store.append(ROW)
        (pages,) = store._database.execute("PRAGMA page_count").fetchone()
        store._database.execute(f"PRAGMA max_page_count = {pages + 60}")
        with pytest.raises(BianQueError, match=r"full.*make room"):
            store.append(*big)
        assert list(store.rows) == [ROW.key]
        store.append(FAILED)
    assert rows_of(tmp_path) == [ROW, FAILED]


def test_an_interrupted_write_of_json_leaves_the_old_file(tmp_path, monkeypatch):
    module.write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        module.write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


HOLDS = """
import sys
from pathlib import Path
from bianque.evaluate.store import Store
with Store.open(Path(sys.argv[1]), {"a": 1}):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.mark.process
def test_one_process_at_a_time(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], cwd=ROOT, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert other.stdout.readline() == "open\n"
        for fresh in (False, True):
            with pytest.raises(BadInput, match="另一个进程"):
                opened(tmp_path, {"a": 1}, fresh=fresh)
    finally:
        other.kill()  # and with the process its lock goes
        other.communicate()
    opened(tmp_path, {"a": 1}).close()


def test_a_refused_folder_is_free_again(tmp_path):
    opened(tmp_path).close()
    with pytest.raises(BadInput):
        opened(tmp_path, {"other": 1})
    opened(tmp_path).close()


ADDS = """
import os, signal, sys
from pathlib import Path
from tests.evaluate.test_store import ASKED, ROW, opened, replace
store = opened(Path(sys.argv[1]))
for turn in range(int(sys.argv[2])):
    store.append(replace(ROW, turn=turn))
store._database.execute("BEGIN IMMEDIATE")
store._database.execute("DELETE FROM rows")  # what is under way is undone
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL here")
def test_kill_9_loses_no_row_that_was_added(tmp_path):
    done = subprocess.run([sys.executable, "-c", ADDS, str(tmp_path), "40"], cwd=ROOT, timeout=60)
    assert done.returncode == -9
    assert len(read(tmp_path)) == len(rows_of(tmp_path)) == 40
    with closing(sqlite3.connect(tmp_path / "run.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with pytest.raises(sqlite3.IntegrityError):
            database.execute("INSERT INTO rows SELECT * FROM rows LIMIT 1")

"""Votes on disk: none is lost, none counts twice, whoever writes and whoever dies; and what a dataset repo gets."""

from __future__ import annotations

import json
import logging
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from hypothesis import given, settings
from hypothesis import strategies as st

from bianque.arena import journal
from bianque.arena.battle import Player, Vote, written
from bianque.arena.votes import Publisher, Votes, Where
from bianque.errors import BadInput

ROOT = Path(__file__).parent.parent.parent
ONE, OTHER = (Player(name, "main", "float32", {"temperature": 0.5}) for name in ("one", "other"))
SECRET = "我头痛三天了"

# Adds votes w-0, w-1 … of which every third has text longer than a page of memory, and says so when each is there.
WRITER = """
import sys
from pathlib import Path
from tests.arena.test_votes import numbered
from bianque.arena.votes import Votes
folder, who, count = sys.argv[1:]
votes = Votes(Path(folder))
for place in range(int(count)):
    votes.add(numbered(place, who))
    print(f"{who}-{place}", flush=True)
"""


def numbered(place: int, who: str = "w") -> Vote:
    text = {"a": [{"role": "user", "content": SECRET * 1000}], "b": []} if place % 3 == 0 else None
    when = f"2026-01-01T00:00:00.{place:06d}+00:00"
    return Vote(f"{who}-{place}", when, ONE, OTHER, "mind", "tie", ("safe",), 1, {"a": [], "b": []}, "0" * 64, text)


def writer(folder: Path, who: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), who, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def ids(votes: Votes) -> list[str]:
    return [vote.battle for vote in votes.read()[0]]


def test_a_vote_reads_back_and_nothing_is_made_before_the_first(tmp_path):
    votes = Votes(tmp_path / "deep" / "votes")
    assert votes.read() == ([], []) and not list(tmp_path.iterdir())
    votes.add(numbered(1))
    votes.add(numbered(0))
    assert votes.read() == ([numbered(0), numbered(1)], [])
    assert Votes(votes.folder).read() == votes.read()
    assert votes.path.stat().st_mode & 0o777 == 0o600
    assert votes.counts() == {frozenset(("one", "other")): 2} and votes.mark() == (2, 0)
    votes.add(replace(numbered(2), a=OTHER, b=ONE))
    assert votes.counts() == {frozenset(("one", "other")): 3}


def test_a_battle_has_one_vote_whoever_wrote_it(tmp_path):
    one, other = Votes(tmp_path), Votes(tmp_path)
    one.add(numbered(1))
    for votes in (one, other):
        with pytest.raises(BadInput):
            votes.add(replace(numbered(1), verdict="a"))
    assert one.read() == other.read() == ([numbered(1)], [])


@settings(max_examples=60)
@given(st.data())
def test_a_file_torn_anywhere_loses_the_vote_that_was_torn_and_no_other(data):
    lines = [written(numbered(place)) for place in (1, 2, 4)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(len(lines[0]) + len(lines[1]), len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "v.jsonl")
        path.write_bytes(whole[:cut])
        votes = Votes(Path(folder))
        kept = ["w-1", "w-2"] + (["w-4"] if cut >= len(whole) - 1 else [])  # all but the line end is a whole vote
        assert votes.read()[1] == [] and ids(votes) == kept
        votes.add(numbered(5))
        assert path.read_bytes() == whole[:cut] and ids(votes) == [*kept, "w-5"]


def test_broken_lines_are_told_by_number_and_quote_nobody(tmp_path):
    lines = [written(numbered(place)) for place in range(3)]
    broken = [b"\xff\n", json.dumps({"schema": 1, "battle": SECRET}).encode() + b"\n", SECRET.encode() + b"\n", b"\n"]
    (tmp_path / "v.jsonl").write_bytes(broken[0] + lines[0] + broken[1] + broken[3] + lines[1] + broken[2] + lines[2])
    votes, problems = Votes(tmp_path).read()
    assert [vote.battle for vote in votes] == ["w-0", "w-1", "w-2"]
    assert [(problem.file, problem.line) for problem in problems] == [("v.jsonl", line) for line in (1, 3, 6)]
    assert SECRET not in repr(problems)


def test_old_files_are_taken_in_once_and_what_comes_to_them_later(tmp_path, monkeypatch):
    path, parsed, parse = tmp_path / "v.jsonl", [], Votes.parse
    path.write_bytes(written(numbered(1)))
    monkeypatch.setattr(Votes, "parse", staticmethod(lambda line: parsed.append(line) or parse(line)))
    votes = Votes(tmp_path)
    assert votes.counts() == votes.counts() == {frozenset(("one", "other")): 1}
    assert parsed.count(written(numbered(1)).strip()) == 1
    with path.open("ab") as opened:
        opened.write(written(numbered(2)) + written(replace(numbered(1), verdict="a")))
    assert [(vote.battle, vote.verdict) for vote in votes.read()[0]] == [("w-1", "tie"), ("w-2", "tie")]
    with pytest.raises(BadInput):
        votes.add(numbered(2))
    path.unlink()
    assert ids(votes) == ["w-1", "w-2"]
    assert votes.export() is None  # none of them was cast here


def test_an_export_is_the_votes_that_were_cast_here_in_one_file(tmp_path):
    votes = Votes(tmp_path)
    assert votes.export() is None and not list(tmp_path.iterdir())
    votes.add(numbered(1))
    votes.add(numbered(0))
    path = votes.export()
    assert path.read_bytes() == written(numbered(1)) + written(numbered(0))
    votes.add(numbered(2))
    assert Votes(tmp_path).export() == path and path.read_bytes().count(b"\n") == 3
    assert [found.name for found in tmp_path.glob("*.jsonl*")] == [path.name]
    votes.path.unlink()  # whoever loses the database has the export
    assert ids(Votes(tmp_path)) == ["w-0", "w-1", "w-2"]


@pytest.mark.process
@pytest.mark.slow
def test_processes_write_at_once(tmp_path):
    jobs = [writer(tmp_path, who, 100) for who in "abc"]
    said = [job.communicate(timeout=60)[0].split() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0]
    votes, problems = Votes(tmp_path).read()
    assert problems == []
    assert sorted(vote.battle for vote in votes) == sorted(chain(*said)) and len(votes) == 300


def test_two_who_vote_on_the_same_battles_at_once_get_one_vote_each(tmp_path):
    """Threads with instances of their own, as two processes have."""
    counted = []

    def run() -> None:
        votes = Votes(tmp_path)
        for place in range(40):
            try:
                votes.add(numbered(place))
                counted.append(place)
            except BadInput:
                pass

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counted) == list(range(40))
    assert len(ids(Votes(tmp_path))) == 40


@pytest.mark.process
@pytest.mark.slow
def test_a_killed_writer_loses_no_vote_it_had_reported_and_locks_nobody_out(tmp_path):
    chance = random.Random(3)
    reported: list[str] = []
    for trial in range(5):
        job = writer(tmp_path, f"k{trial}", 10**6)
        assert job.stdout
        reported.append(job.stdout.readline().strip())
        time.sleep(chance.uniform(0, 0.05))
        job.send_signal(signal.SIGKILL)
        reported += job.stdout.read().split()
        job.stdout.close()
        assert job.wait(timeout=60) == -signal.SIGKILL
    last = Votes(tmp_path)
    last.add(numbered(0, "end"))
    votes, problems = last.read()
    found = {vote.battle for vote in votes}
    assert len(reported) > 5 and {*reported, "end-0"} <= found
    assert len(found) <= len(reported) + 1 + 5  # of each killed writer, at most the vote it had no time to report
    assert problems == []


def test_a_locked_database_refuses_in_time_and_the_vote_can_be_cast_again(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "WAIT", 0.05)
    votes = Votes(tmp_path)
    votes.add(numbered(0))
    with closing(sqlite3.connect(votes.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            votes.add(numbered(1))
        other.rollback()
    votes.add(numbered(1))
    assert ids(votes) == ["w-0", "w-1"]


def test_a_full_disk_loses_no_earlier_vote_and_heals(tmp_path, monkeypatch):
    votes = Votes(tmp_path)
    votes.add(numbered(1))
    opened = sqlite3.connect

    def small(*args, **options):
        base = opened(*args, **options)
        base.execute("PRAGMA max_page_count = 1")  # to SQLite the same as a disk that is full
        return base

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        votes.add(numbered(3))  # longer than a page
    monkeypatch.setattr(sqlite3, "connect", opened)
    votes.add(numbered(3))
    assert ids(votes) == ["w-1", "w-3"]


def test_the_words_reach_no_log(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    votes = Votes(tmp_path)
    votes.add(numbered(0))
    with pytest.raises(BadInput) as failure:
        votes.add(numbered(0))
    (tmp_path / "torn.jsonl").write_text(SECRET + "\n", encoding="utf-8")
    votes.read()
    assert SECRET not in caplog.text + "".join(capfd.readouterr()) + str(failure.value)


class Hub(HfApi):
    """A dataset repo in memory, and one that can be out of reach."""

    def __init__(self, folder: Path, down: bool = False) -> None:
        super().__init__(endpoint="http://127.0.0.1:9", token="none")
        self.folder, self.down, self.private, self.fetched = folder, down, None, 0

    def create_repo(self, repo_id, **options):
        self.answer()
        assert options["repo_type"] == "dataset"
        self.private = options["private"]
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, repo_id, operations, **options):
        self.answer()
        assert options["repo_type"] == "dataset"
        for operation in operations:
            with operation.as_file() as opened:
                (self.folder / operation.path_in_repo).write_bytes(opened.read())
        return SimpleNamespace(oid="0")

    def snapshot_download(self, repo_id, *, local_dir, **options):
        self.answer()
        local_dir.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.jsonl"):
            (local_dir / path.name).write_bytes(path.read_bytes())
        self.fetched += 1

    def answer(self):
        if self.down:
            raise ConnectionError("the Hub is down; https://secret.example")


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def hub(tmp_path) -> Hub:
    (tmp_path / "remote").mkdir()
    return Hub(tmp_path / "remote")


def test_without_a_repo_or_a_token_votes_stay_here(tmp_path, monkeypatch):
    votes = Votes(tmp_path)
    local = Publisher(votes, None)
    votes.add(numbered(0))
    local.close()
    assert local.where() == Where()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    wanting = Publisher(votes, "me/votes")
    until(lambda: wanting.where().error)
    assert wanting.where() == Where(error="HF_TOKEN is not set")
    wanting.close()
    votes.add(numbered(1))
    assert ids(votes) == ["w-0", "w-1"]


def test_votes_are_pushed_and_the_next_start_goes_on_from_them(tmp_path, hub):
    first = Votes(tmp_path / "first")
    first.add(numbered(0))
    publisher = Publisher(first, "me/votes", every=60, api=hub)
    until(lambda: hub.fetched)
    first.add(numbered(1))
    publisher.close()
    state = publisher.where()
    assert (state.repo, state.error, hub.private) == ("me/votes", None, True) and state.pushed
    (pushed,) = hub.folder.iterdir()  # neither the database nor copies
    assert pushed.read_bytes() == first.export().read_bytes() == written(numbered(0)) + written(numbered(1))

    second = Votes(tmp_path / "second")
    again = Publisher(second, "me/votes", every=60, api=hub)
    until(lambda: hub.fetched == 2)
    assert ids(second) == ["w-0", "w-1"]
    with pytest.raises(BadInput):
        second.add(numbered(1))
    second.add(numbered(2))
    again.close()
    assert ids(second) == ["w-0", "w-1", "w-2"]
    assert {path.name for path in hub.folder.iterdir()} == {first.export().name, second.export().name}


def test_what_another_machine_still_writes_is_not_pushed_back(tmp_path, hub):
    growing = hub.folder / "votes-there.jsonl"
    growing.write_bytes(written(numbered(1)))
    here = Votes(tmp_path / "here")
    publisher = Publisher(here, "me/votes", every=60, api=hub)
    until(lambda: hub.fetched)
    growing.write_bytes(written(numbered(1)) + written(numbered(2)))
    here.add(numbered(3))
    publisher.close()
    assert growing.read_bytes().count(b"\n") == 2


def test_a_hub_that_is_down_stops_no_vote_and_is_tried_again(tmp_path, hub, caplog):
    hub.down = True
    votes = Votes(tmp_path / "here")
    publisher = Publisher(votes, "me/votes", every=0.0005, api=hub)
    until(lambda: publisher.where().error)
    assert publisher.where() == Where("me/votes", None, "ConnectionError")  # no address, no path
    votes.add(numbered(0))
    hub.down = False
    until(lambda: publisher.where().pushed)
    hub.down = True
    votes.add(numbered(1))
    until(lambda: publisher.where().error)
    assert ids(votes) == ["w-0", "w-1"]
    hub.down = False
    until(lambda: b"".join(path.read_bytes() for path in hub.folder.iterdir()).count(b"\n") == 2)
    publisher.close()
    assert publisher.where().error is None
    assert SECRET not in caplog.text

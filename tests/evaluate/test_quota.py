"""Evaluations for visitors: folders that nobody guesses and that go by themselves, limits, and calm failures."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from bianque.consult.spec import SamplingOverrides
from bianque.errors import BadInput, Busy
from bianque.evaluate import quota
from bianque.evaluate.evaluation import evaluate
from bianque.evaluate.quota import DATA, KEPT, MOST_AT_ONCE, MOST_ROWS, RESULTS, Failed, Folders, used
from tests import tiny
from tests.cli.test_evaluate import DIALOGUES, RECORDED, written
from tests.evaluate.test_run import Echo, session


def aged(folder, seconds):
    for path in (folder, folder / RESULTS / "run.db-wal"):
        if path.exists():
            os.utime(path, (time.time() - seconds,) * 2)


# --- folders ---


def test_a_folder_keeps_a_copy_of_a_file_under_a_name_nobody_guesses(tmp_path):
    folders = Folders(tmp_path / "all")
    file = tmp_path / "..\u202e数据 1.jsonl"
    file.write_text("x", "utf-8")
    names = {folders.add(file) for _ in range(5)}
    assert len(names) == 5 and all(len(name) == 22 for name in names)
    for name in names:
        data = folders.data(name)
        assert data.read_text() == "x" and data.name == "数据 1.jsonl"
        assert (folders.root / name).stat().st_mode & 0o077 == 0 and folders.root.stat().st_mode & 0o077 == 0
    folders.remove(name)
    assert folders.find(name) is None and len(folders.all()) == 4


def test_a_folder_that_is_read_while_it_is_removed_is_gone_and_nothing_of_it_comes_back(tmp_path, monkeypatch):
    folders = Folders(tmp_path)
    name, emptied = folders.new(), shutil.rmtree

    def meanwhile(folder, **how):
        with suppress(OSError):  # a reader of the database that stood there makes its journal anew
            (tmp_path / name / DATA / "run.db-wal").touch()
        emptied(folder, **how)

    monkeypatch.setattr(shutil, "rmtree", meanwhile)
    folders.remove(name)
    assert not list(tmp_path.iterdir())


def test_a_removal_that_was_cut_short_is_finished_at_the_next_look(tmp_path, monkeypatch):
    folders = Folders(tmp_path)
    name = folders.new()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed in between
        folders.remove(name)
    assert folders.find(name) is None and list(tmp_path.iterdir())
    folders.tidy()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [None, 3, "", "..", "../" + "a" * 19, "a" * 22, "a" * 21 + "\n", {"folder": "x"}])
def test_what_is_no_name_finds_and_removes_nothing(tmp_path, name):
    folders = Folders(tmp_path)
    held = folders.new()
    (tmp_path / ("b" * 22)).write_text("a file is no folder")
    assert folders.find(name) is None and folders.find("b" * 22) is None
    folders.remove(name)
    assert folders.find(held)


def test_a_folder_goes_after_a_day_without_use(tmp_path):
    folders = Folders(tmp_path)
    old, running, looked = folders.new(), folders.new(), folders.new()
    (tmp_path / running / RESULTS).mkdir()
    (tmp_path / running / RESULTS / "run.db-wal").touch()
    for name in (old, running, looked):
        aged(tmp_path / name, KEPT + 60)
    os.utime(tmp_path / running / RESULTS / "run.db-wal")
    assert folders.find(looked)
    folders.new()
    assert folders.find(old) is None and folders.find(running) and folders.find(looked)


def test_there_are_only_so_many_folders_and_the_one_longest_idle_makes_room(tmp_path):
    folders = Folders(tmp_path, most=2)
    first, second = folders.new(), folders.new()
    with pytest.raises(Busy, match="2 份"):
        folders.new()
    aged(tmp_path / first, 4000)
    third = folders.new()
    assert [folders.find(name) is None for name in (first, second, third)] == [True, False, False]


def test_a_place_that_somebody_else_laid_out_is_not_used(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(Failed):
        Folders(tmp_path / "link").new()
    assert list((tmp_path / "theirs").iterdir()) == []


# --- what may be asked ---


def asked(path, tasks=("next",), contenders=("auto",), limit=None, at_once=2, overrides=SamplingOverrides()):
    return quota.ask(path, tasks, contenders, overrides, limit, at_once)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"tasks": ()}, "tasks"), ({"tasks": ("x",)}, "x"), ({"tasks": ("next", "next")}, "tasks"),
        ({"tasks": ("recorded",)}, "recorded"), ({"contenders": ()}, "contenders"),
        ({"contenders": ("auto", "auto")}, "^auto: 写了两次"), ({"contenders": ("auto:heat=1",)}, "heat"),
        ({"limit": 0}, "limit=0"), ({"at_once": 0}, "concurrency=0"), ({"at_once": MOST_AT_ONCE + 1}, "concurrency"),
        ({"contenders": [f"auto:seed={n}" for n in range(20)]}, f"240 条.*最多 {MOST_ROWS}"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_named(tmp_path, wrong, names):
    with pytest.raises(BadInput, match=names) as caught:
        asked(tmp_path / written(tmp_path, DIALOGUES), **wrong)
    assert "--" not in str(caught.value)  # no options of a command line


def test_the_limit_counts_every_reply(tmp_path):
    path = tmp_path / written(tmp_path, DIALOGUES)
    found = asked(path, ("consultation", "next"), ("auto", "ask:seed=1"), limit=4, overrides=SamplingOverrides(seed=0))
    assert quota.rows(found) == 4 * 2 * 2 * 2 and found.tasks == ("next", "consultation")
    assert [contender.overrides.seed for contender in found.contenders] == [0, 1]
    assert quota.rows(asked(path, limit=1)) == 2


def test_recorded_outputs_are_scored_whatever_else_is_asked(tmp_path):
    found = asked(tmp_path / written(tmp_path, RECORDED), ("next",), ("auto",), limit=2)
    assert found.tasks == ("recorded",) and not found.contenders and quota.rows(found) == 2 * 2 * 2


def test_the_same_question_goes_on_and_another_begins_anew(tmp_path):
    path, place, backend = tmp_path / written(tmp_path, DIALOGUES), tmp_path / "run", Echo()
    talk, same = session(backend), asked(path, limit=2)
    assert quota.resumed(same, talk, place).fresh
    tiny.gathered(evaluate(talk, quota.resumed(same, talk, place), place))
    heard = len(backend.heard)
    assert not quota.resumed(replace(same, concurrency=1), talk, place).fresh
    for other in (asked(path, limit=3), asked(path, limit=2, overrides=SamplingOverrides(seed=1))):
        assert quota.resumed(other, talk, place).fresh
    tiny.gathered(evaluate(talk, quota.resumed(same, talk, place), place))
    assert len(backend.heard) == heard
    (place / "run.db").write_text("no database" * 999)
    assert quota.resumed(same, talk, place).fresh


# --- what goes wrong ---


def test_a_failure_shows_neither_paths_nor_words(tmp_path, caplog):
    told = quota.failure(Busy(f"{tmp_path / 'run.db'}: 写不了"), tmp_path)
    assert type(told) is Busy and str(told) == "run.db: 写不了"
    assert str(quota.failure(BadInput(f"{tmp_path}: 满了"), tmp_path)) == "满了"
    words = "".join(("病人", "说的话"))
    try:
        raise ValueError(words)
    except ValueError as error:
        told = quota.failure(error, tmp_path)
    assert told.code == "BQ_INTERNAL" and words not in str(told) + caplog.text
    assert "ValueError" in caplog.text and "test_quota" in caplog.text


@pytest.mark.parametrize("jump", [-7 * 86400, 7 * 86400])
def test_a_clock_that_is_set_neither_takes_a_folder_nor_keeps_it_for_ever(tmp_path, jump):
    wall = [time.time()]
    folders = Folders(tmp_path, kept=3600, clock=lambda: wall[0])
    name = folders.new()
    wall[0] += jump
    folders.tidy()
    assert folders.all() and abs(used(tmp_path / name) - wall[0]) < 1
    os.utime(tmp_path / name, (wall[0] - 3601, wall[0] - 3601))  # an hour passes, for both clocks
    folders.tidy()
    assert not folders.all()

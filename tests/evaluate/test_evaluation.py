"""The whole of an evaluation: what a folder has at its end, what it refuses, and that a kill costs nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bianque.backends.local import Local
from bianque.consult.session import Session
from bianque.consult.spec import SamplingOverrides, parse_all
from bianque.errors import BadInput, UnknownModel
from bianque.evaluate.evaluation import Outcome, RunRequest, Source, evaluate
from bianque.evaluate.run import RunProgress
from bianque.evaluate.store import read
from bianque.settings import Settings
from tests import tiny
from tests.evaluate.test_run import ADVISE, ASK, CASES, Echo, case, session

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("text, error", [("bianqe-2", UnknownModel), ("auto:temperature=3", BadInput)])
def test_a_contender_that_cannot_reply_is_told_before_anything_runs(tmp_path, text, error):
    asked = RunRequest(Source("a.jsonl", "0"), CASES, ("next",), parse_all([text]))
    with pytest.raises(error):
        tiny.gathered(evaluate(session(Echo()), asked, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def outcome(backend, folder, **changes) -> Outcome:
    facts = {"data": Source("a.jsonl", "0"), "cases": CASES, "tasks": ("next",), "contenders": parse_all(["auto"])}
    steps = tiny.gathered(evaluate(session(backend) if backend else None, RunRequest(**(facts | changes)), folder))
    assert all(isinstance(step, RunProgress) for step in steps[:-1])
    return steps[-1]


def test_an_evaluation_leaves_rows_figures_and_a_report(tmp_path):
    found = outcome(Echo(), tmp_path, contenders=parse_all(["advise", "ask"]), tasks=("next", "consultation"))
    assert len(found.rows) == 24 and found.failed == 0 and set(found.rows) == set(read(tmp_path))
    labels = [(row.model, row.task, row.id, row.turn) for row in found.rows]
    order = {"next": 0, "consultation": 1, "advise": 0, "ask": 1}
    assert labels == sorted(labels, key=lambda key: (order[key[0]], order[key[1]], *key[2:]))
    assert json.loads((tmp_path / "metrics.json").read_text("utf-8")) == found.metrics
    assert "孩子咳嗽" in found.report.read_text("utf-8")
    run = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert run["data"] == {"name": "a.jsonl", "sha256": "0"} and run["tasks"] == ["next", "consultation"]
    assert [contender["label"] for contender in run["contenders"]] == ["advise", "ask"]
    assert run["kernels"] == {ADVISE: "float32", ASK: "float32"} and set(run["licences"]) == {ADVISE, ASK}
    assert {"bianque", "python"} <= set(run["versions"]) and run["started"] <= run["finished"]


def test_each_opening_is_noted_and_the_first_start_stays(tmp_path):
    outcome(Echo(), tmp_path)
    first = json.loads((tmp_path / "run.json").read_text("utf-8"))
    outcome(backend := Echo(), tmp_path)
    again = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert backend.heard == [] and len(again["openings"]) == 2
    assert again["started"] == first["started"] and again["kernels"] == first["kernels"]


CHANGED = {
    "data.sha256": {"data": Source("a.jsonl", "1")},
    "tasks": {"tasks": ("next", "consultation")},
    "limit": {"limit": 2},
    "contenders": {"contenders": parse_all(["auto", "ask"])},
    r"contenders\[0\]\.cards\[0\]\.sampling\.temperature": {
        "contenders": parse_all(["auto"], SamplingOverrides(temperature=0))
    },
    r"contenders\[0\]\.label": {"contenders": parse_all(["auto:seed=1"])},
}


@pytest.mark.parametrize("field", CHANGED)
def test_another_question_is_refused_unless_begun_anew(tmp_path, field):
    outcome(Echo(), tmp_path)
    with pytest.raises(BadInput, match=f" {field} "):
        outcome(Echo(), tmp_path, **CHANGED[field])
    assert outcome(Echo(), tmp_path, fresh=True, **CHANGED[field]).failed == 0


def test_the_same_dialogues_are_taken_each_time(tmp_path):
    many = tuple(case(str(n), f"第{n}次头痛") for n in range(30))
    taken = [{row.id for row in outcome(Echo(), tmp_path / str(n), cases=many, limit=n).rows} for n in (5, 10)]
    assert len(taken[0]) == 5 and len(taken[1]) == 10 and taken[0] < taken[1]
    assert taken[0] == {row.id for row in outcome(Echo(), tmp_path / "b", cases=many[::-1], limit=5).rows}


RECORDED = tuple(
    case(name, "我头痛", f"{model}：多久了？", "三天", f"{model}：多喝水。", recorded=model)
    for model in ("one", "two")
    for name in "abcdef"
)


def test_recorded_outputs_are_scored_without_a_session(tmp_path):
    found = outcome(None, tmp_path, cases=RECORDED, tasks=("recorded",), contenders=(),
                    references={("own", "a"): "头痛几天了？"})  # fmt: skip
    assert {(row.task, row.model) for row in found.rows} == {("recorded", "one"), ("recorded", "two")}
    assert len(found.rows) == len(read(tmp_path)) == 24
    referred = {(row.id, row.turn, row.reference) for row in found.rows if row.reference is not None}
    assert referred == {("a", 0, "头痛几天了？")}
    before = (tmp_path / "rows.jsonl").read_bytes()
    assert before.count(b"\n") == 24
    outcome(
        None, tmp_path, cases=RECORDED, tasks=("recorded",), contenders=(), references={("own", "a"): "头痛几天了？"}
    )
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_a_limit_takes_a_recorded_dialogue_with_all_its_models(tmp_path):
    found = outcome(None, tmp_path, cases=RECORDED, tasks=("recorded",), contenders=(), limit=2)
    assert len({row.id for row in found.rows}) == 2
    assert Counter((row.id, row.model) for row in found.rows) == Counter(dict.fromkeys(
        ((row.id, row.model) for row in found.rows), 2))  # fmt: skip
    assert {row.model for row in found.rows} == {"one", "two"}


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"tasks": ()}, "--task"),
        ({"tasks": ("next", "next")}, "--task"),
        ({"tasks": ("guess",)}, "guess"),
        ({"contenders": ()}, "--model"),
        ({"cases": RECORDED}, "--recorded"),
        ({"cases": ()}, "没有要回答的对话"),
        ({"cases": RECORDED, "tasks": ("recorded",)}, "--model"),
        ({"tasks": ("recorded",), "contenders": ()}, "没有模型的回答"),
        ({"tasks": ("recorded", "next")}, "recorded next"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, named):
    with pytest.raises(BadInput, match=named):
        outcome(Echo(), tmp_path / "out", **changes)


# --- killed -------------------------------------------------------------------------------------------------------

KILLED = """
import asyncio, sys
from pathlib import Path
from bianque.consult.spec import parse_all
from bianque.evaluate.evaluation import Source, RunRequest, evaluate
from bianque.data.formats import CorpusDialogue
from bianque.catalog.builtin import CARDS
from bianque.consult.session import Session
from bianque.types import Message, Piece, Usage

class Slow:
    def models(self):
        return CARDS

    def kernel(self, model):
        return None

    async def stream(self, model, dialogue, sampling):
        print(len(dialogue), dialogue[0].content, flush=True)
        yield Piece(usage=Usage(1))
        for character in f"说{len(dialogue)}":
            await asyncio.sleep(float(sys.argv[2]))
            yield Piece(text=character)
        yield Piece(finish="stop", usage=Usage(1, 2))

texts = ("多久？", "三天", "休息。", "好")
turns = tuple(Message(("assistant", "user")[i % 2], text) for i, text in enumerate(texts))
cases = tuple(CorpusDialogue(str(n), "own", (Message("user", f"头痛{n}"), *turns)) for n in range(8))

async def main():
    asked = RunRequest(Source("a", "0"), cases, ("next", "consultation"), parse_all(["advise"]), concurrency=3)
    async for step in evaluate(Session(Slow(), "ask-mini", "advise-mini"), asked, Path(sys.argv[1])):
        pass

asyncio.run(main())
"""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_kill_9_in_the_middle_loses_nothing_and_doubles_nothing(tmp_path, monkeypatch, capsys):
    first = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), "0.02"], cwd=ROOT, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (tmp_path / "run.json").exists() and len(read(tmp_path)) >= 10:
            break
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    before = {row.key: row for row in read(tmp_path)}
    assert 10 <= len(before) < 48
    monkeypatch.setattr(sys, "argv", ["-", str(tmp_path), "0"])
    exec(KILLED, {"__name__": "again"})
    asked = capsys.readouterr().out.splitlines()
    after = (tmp_path / "rows.jsonl").read_bytes().splitlines()
    rows = read(tmp_path)
    assert len(after) == len(rows) == 48 and len(asked) == 48 - len(before)
    assert all(row == before.get(row.key, row) for row in rows)


# --- the bundled models -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bundled_models_are_evaluated(tmp_path):
    contenders = parse_all(
        ["ask-mini:temperature=0", ADVISE, f"{ADVISE}@8"], SamplingOverrides(max_new_tokens=8, seed=0)
    )
    local = Session(Local(Settings(threads=1)), ASK, ADVISE)
    asked = RunRequest(Source("a", "0"), CASES[:1], ("next", "consultation"), contenders)
    *_, found = tiny.gathered(evaluate(local, asked, tmp_path / "a"))
    assert len(found.rows) == 12 and found.failed == 0
    assert all(0 < row.tokens <= 8 and row.finish in ("stop", "length") for row in found.rows)
    assert any(row.answer for row in found.rows)
    kept = json.loads((tmp_path / "a" / "run.json").read_text("utf-8"))
    assert set(kept["kernels"]) == {ASK, ADVISE, f"{ADVISE}@8"} and "int8" in kept["kernels"][f"{ADVISE}@8"]
    assert "torch" in kept["versions"]
    # Another run of the same seed says the same, whatever was under way beside it; 8-bit kernels round by the batch.
    exact = replace(asked, contenders=contenders[:2], concurrency=1)
    *_, again = tiny.gathered(evaluate(local, exact, tmp_path / "b"))
    said = lambda rows: [(row.key, row.answer) for row in rows]
    assert said(again.rows) == said(found.rows[: len(again.rows)]) and len(again.rows) == 8

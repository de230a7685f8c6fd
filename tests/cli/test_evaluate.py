"""`python -m bianque evaluate`: what it prints, what it leaves, and how it is stopped and gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bianque import __main__
from bianque.cli import evaluate as evaluate_command
from bianque.consult.session import Session
from bianque.errors import OutOfMemory
from bianque.evaluate.run import RunProgress
from bianque.evaluate.store import Store, read
from tests.cli.test_terminal import Screen
from tests.conftest import Scripted

ROOT = Path(__file__).parent.parent.parent


def dialogue(name: str, *texts: str, **facts) -> dict:
    turns = [{"role": ("patient", "doctor")[i % 2], "text": text} for i, text in enumerate(texts)]
    return {"id": name, "source": "own", "turns": turns} | facts


DIALOGUES = [dialogue(str(n), f"第{n}次头痛", "多久了？", "三天", "多喝水。") for n in range(6)]
RECORDED = [
    dialogue(name, "我头痛", f"{model}觉得是感冒。多久了？", "三天", "休息。", set="own", model=model,
             gpt4=dict.fromkeys(("proactivity", "accuracy", "helpfulness", "linguistic_quality"), 4))
    for model in ("one", "two") for name in "abc"
]  # fmt: skip


def written(folder: Path, records, name: str = "data.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path) -> str:
    return written(tmp_path, DIALOGUES)


@pytest.fixture
def backend(monkeypatch) -> Scripted:
    """The models that the command finds on this machine."""
    found = Scripted(["多久了？"], ["建议多休息。"])
    monkeypatch.setattr(evaluate_command, "open_session", lambda contenders: Session(found, "ask-mini", "advise-mini"))
    return found


def evaluate(*arguments: str) -> int:
    return __main__.main(["evaluate", *map(str, arguments)])


def test_models_reply_and_figures_are_printed(tmp_path, data, backend, capsys):
    out = tmp_path / "out"
    assert evaluate("--data", data, "--model", "auto", "advise-mini", "--task", "next", "consultation",
                    "--out", out, "--limit", 4, "--temperature", 0, "--seed", 3) == 0  # fmt: skip
    shown = capsys.readouterr()
    assert "| auto | advise-mini |" in shown.out.replace("  ", " ") and str(out / "report.html") in shown.out
    assert shown.err.rstrip().endswith("回答 (replies) 32/32")
    assert len(read(out)) == 32 and {path.name for path in out.iterdir()} >= {"run.json", "metrics.json", "report.html"}
    assert {sampling.temperature for *_, sampling in backend.heard} == {0}
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert run["limit"] == 4 and run["contenders"][0]["cards"][0]["sampling"]["seed"] == 3
    count = len(backend.heard)
    assert evaluate("--data", data, "--model", "auto", "advise-mini", "--task", "next", "consultation",
                    "--out", out, "--limit", 4, "--temperature", 0, "--seed", 3, "--concurrency", 1) == 0  # fmt: skip
    assert len(backend.heard) == count


def test_failed_rows_are_told_and_the_exit_code_says_so(tmp_path, data, backend, capsys):
    backend.fails = OutOfMemory("内存不足")
    assert evaluate("--data", data, "--model", "ask", "--out", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "12/12" in told and "BQ_NO_MEMORY × 12" in told
    backend.fails = None
    assert evaluate("--data", data, "--model", "ask", "--out", tmp_path / "out") == 0
    assert all(row.error is None for row in read(tmp_path / "out"))


REFUSED = {
    "no folder": (["--model", "auto"], "--out"),
    "no model": (["--out", "OUT"], "--model"),
    "an unknown model": (["--out", "OUT", "--model", "bianqe-2"], "bianqe-2"),
    "an unknown option": (["--out", "OUT", "--model", "auto:speed=1"], "speed"),
    "a model twice": (["--out", "OUT", "--model", "auto", "auto"], "auto"),
    "recordings that are none": (["--out", "OUT", "--recorded"], "--model"),
    "recordings and models": (["--out", "OUT", "--recorded", "--model", "auto"], "--model"),
    "out of range": (["--out", "OUT", "--model", "auto", "--temperature", "3"], "temperature=3.0"),
    "too many at once": (["--out", "OUT", "--model", "auto", "--concurrency", "99"], "concurrency=99"),
    "no dialogue": (["--out", "OUT", "--model", "auto", "--limit", "0"], "limit"),
    "a judge without a model": (["--out", "OUT", "--model", "auto", "--judge", "http://127.0.0.1"], "--judge-model"),
    "a judge without a place": (["--out", "OUT", "--model", "auto", "--judge-model", "big"], "--judge"),
    "a judge of single turns": (
        ["--out", "OUT", "--model", "auto", "--judge", "http://127.0.0.1", "--judge-model", "big"], "consultation",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_be_run_is_refused_and_nothing_asked(tmp_path, data, backend, capsys, way):
    arguments, named = REFUSED[way]
    given = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    assert evaluate("--data", data, *given) == 1
    told = capsys.readouterr()
    assert told.err.startswith("BQ_") and named in told.err and told.out == "" and backend.heard == []


def test_a_file_that_is_not_there_is_named(tmp_path, backend, capsys):
    assert evaluate("--data", tmp_path / "none.jsonl", "--model", "auto", "--out", tmp_path / "out") == 1
    assert "none.jsonl" in capsys.readouterr().err


def test_a_folder_in_use_or_of_another_question_is_refused(tmp_path, data, backend, capsys):
    assert evaluate("--data", data, "--model", "auto", "--out", tmp_path / "out", "--limit", 1) == 0
    capsys.readouterr()
    assert evaluate("--data", data, "--model", "auto", "--out", tmp_path / "out", "--limit", 2) == 1
    assert "limit 1 → 2" in capsys.readouterr().err
    assert evaluate("--data", data, "--model", "auto", "--out", tmp_path / "out", "--limit", 2, "--fresh") == 0
    with Store.open(tmp_path / "held", {}):
        assert evaluate("--data", data, "--model", "auto", "--out", tmp_path / "held") == 1
    assert "另一个进程" in capsys.readouterr().err


def test_a_preview_shows_what_was_read_and_every_problem(tmp_path, data, backend, capsys):
    assert evaluate("--data", data, "--preview") == 0
    shown = capsys.readouterr().out
    assert "6 段对话" in shown and "12 个医生轮次" in shown and "own: 6" in shown and "第0次头痛" in shown
    broken = written(tmp_path, [DIALOGUES[0], {"id": "x", "source": "own", "turns": []}, DIALOGUES[0]], "broken.jsonl")
    assert evaluate("--data", broken, "--preview") == 1
    shown = capsys.readouterr().out
    assert "第 2 行" in shown and "第 3 行" in shown and "turns" in shown
    assert evaluate("--data", broken, "--model", "auto", "--out", tmp_path / "out") == 1
    assert "第 2 行" in capsys.readouterr().err and backend.heard == []


def test_a_preview_moves_no_cursor(tmp_path, capsys):
    assert evaluate("--data", written(tmp_path, [dialogue("a", "头\x1b[2J痛" + "很" * 200)]), "--preview") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "头[2J痛" in shown and "很" * 80 not in shown


# --- progress -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tally, shown",
    [
        (RunProgress(0, 9, 0, None), "回答 (replies) 0/9"),
        (RunProgress(3, 9, 1, 61.2), "回答 (replies) 3/9 · 失败 (failed) 1 · 剩余 (left) 1:02"),
        (RunProgress(3, 9, 0, 7322), "回答 (replies) 3/9 · 剩余 (left) 2:02:02"),
        (RunProgress(9, 9, 0, 0.0), "回答 (replies) 9/9"),
        (RunProgress(1, 2, 0, 5, judging=True), "评审 (dialogues judged) 1/2 · 剩余 (left) 0:05"),
    ],
)
def test_a_tally_in_words(tally, shown):
    assert evaluate_command.words(tally) == shown


def test_a_file_has_few_lines_of_progress(monkeypatch, capsys):
    line = evaluate_command.ProgressLine()
    for done in range(6):
        line.show(RunProgress(done, 5, 0, 3.0))
    line.end()
    assert capsys.readouterr().err.count("\n") == 2


def test_a_terminal_has_a_bar_that_is_drawn_again(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    line = evaluate_command.ProgressLine()
    for done in range(6):
        line.show(RunProgress(done, 5, 0, 3.0))
    line.end()
    line.end()
    shown = screen.getvalue()
    assert "3/5" in shown and shown.removesuffix("\x1b[?25h").endswith("5/5\n")
    assert shown.count("\r") >= 5 and shown.count("\n") == 1


# --- processes ----------------------------------------------------------------------------------------------------

ALONE = """
import sys
sys.modules |= dict.fromkeys(("torch", "transformers", "gradio", "httpx", "huggingface_hub"))  # an import of one fails
from bianque.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.process
@pytest.mark.slow
def test_recorded_outputs_need_no_model_library(tmp_path):
    references = written(tmp_path, [{"id": "a", "set": "own", "reference": "头痛几天了？"}], "references.jsonl")
    arguments = ["evaluate", "--data", written(tmp_path, RECORDED), "--recorded", "--references", references]
    done = subprocess.run([sys.executable, "-W", "error", "-c", ALONE, *arguments, "--out", str(tmp_path / "out")],
                          cwd=ROOT, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "| one | two |" in done.stdout.replace("  ", " ") and "BLEU" in done.stdout
    rows = read(tmp_path / "out")
    assert len(rows) == 12 and sum(row.reference is not None for row in rows) == 2
    assert sum(bool(row.judged) for row in rows) == 6
    run = json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))
    assert run["references"]["name"] == "references.jsonl" and "--recorded" in run["command"]


STOPPED = """
import asyncio, sys
from bianque.__main__ import main
from bianque.cli import evaluate as command
from bianque.catalog.builtin import CARDS
from bianque.consult.session import Session
from bianque.types import Piece, Usage

class Slow:
    heard = 0

    def models(self):
        return CARDS

    def kernel(self, model):
        return None

    async def stream(self, model, dialogue, sampling):
        self.heard += 1
        try:
            if self.heard == int(sys.argv[1]):
                print("waiting", flush=True)
                await asyncio.sleep(100)
            yield Piece(text="好")
            yield Piece(finish="stop", usage=Usage(1, 1))
        except asyncio.CancelledError:
            print("closed", flush=True)
            raise

command.open_session = lambda contenders: Session(Slow(), "ask-mini", "advise-mini")
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_leaves_a_folder_that_can_be_gone_on_with(tmp_path, data):
    out = tmp_path / "out"
    run = lambda waits: subprocess.Popen(  # at this reply
        [sys.executable, "-c", STOPPED, str(waits), "evaluate", "--data", data, "--model", "advise", "--out", str(out),
         "--concurrency", "1"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    first = run(4)
    assert first.stdout.readline() == "waiting\n"
    first.send_signal(signal.SIGINT)
    said, told = first.communicate(timeout=60)
    assert first.returncode == 130 and said == "closed\n"
    assert "同样的命令" in told and str(out) in told and "Traceback" not in told
    before = read(out)
    assert len(before) == 3
    second = run(0)
    assert second.wait(timeout=60) == 0 and "12/12" in second.communicate()[1]
    assert read(out)[: len(before)] == before and len(read(out)) == 12
    assert (out / "rows.jsonl").read_bytes().count(b"\n") == 12

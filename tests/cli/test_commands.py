"""The command line itself: it opens at once, says what there is, and options take several values as they always did."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bianque.__main__ import main, spread
from bianque.cli import train
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "given, read",
    [
        ("evaluate --model a b --out x", "evaluate --model a --model b --out x"),
        ("evaluate --task next --model a b c", "evaluate --task next --model a --model b --model c"),
        ("evaluate --model a --model b c", "evaluate --model a --model b --model c"),
        ("bench decode --prompt 64 768 --peer hf", "bench decode --prompt 64 --prompt 768 --peer hf"),
        ("chat --model a b", "chat --model a b"),
        ("convert card out --shard 1", "convert card out --shard 1"),
        ("", ""),
    ],
)
def test_an_option_may_be_followed_by_several_values(given, read):
    assert list(spread(given.split())) == read.split()


def test_help_names_every_command_and_waits_for_no_library():
    code = (
        "import sys; from bianque.__main__ import main; code = main(['--help'])\n"
        "print(*sorted({'torch', 'gradio', 'numpy', 'transformers', 'huggingface_hub', 'pydantic'} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == ""
    for name in ("chat", "models", "convert", "evaluate", "corpus", "generate", "compose", "train-mini", "bench"):
        assert name in done.stdout


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["sing"], "sing"),
        (["evaluate", "--limit", "x"], "--limit"),
        (["chat", "--seed", "x"], "--seed"),
        (["chat", "--mode", "sing"], "sing"),
        (["chat", "--model", "a", "b"], "b"),
        (["bench", "decode", "--precision", "fp7"], "fp7"),
    ],
)
def test_a_wrong_use_is_told_and_ends_with_2(arguments, word, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and word in said.err and "--help" in said.err


def test_both_roles_are_trained_with_what_was_asked_for(tmp_path, monkeypatch):
    from bianque.train import mini

    started = []
    monkeypatch.setattr(mini, "both", lambda arguments: started.append(arguments) or 0)
    given = ["--out", "o", "--work", "w", "--data", "a.jsonl", "b.jsonl", "--set", "steps=4", "rate=1e-3"]
    assert main(["train-mini", "both", *given]) == 0
    (arguments,) = started
    assert arguments == train.arguments("o", "w", ["a.jsonl", "b.jsonl"], 0, ["steps=4", "rate=1e-3"])
    monkeypatch.setattr(mini, "train", lambda role, data, out, plan, work, say: started.append((data, plan.steps)))
    assert main(["train-mini", "ask", *arguments]) == 0
    assert [str(path) for path in started[-1][0]] == ["a.jsonl", "b.jsonl"] and started[-1][1] == 4


def test_a_setting_that_the_plan_has_not_is_named(capsys):
    assert main(["train-mini", "ask", "--out", "o", "--work", "w", "--set", "step=4"]) == 1
    assert capsys.readouterr().err.startswith("BQ_BAD_INPUT: --set step=4")

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
        ("tune card --data a b --set x=1 y=2", "tune card --data a --data b --set x=1 --set y=2"),
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
    for name in (
        "chat", "models", "convert", "evaluate", "corpus", "generate", "compose", "train-mini", "train-complaints", "tune", "bench",
    ):  # fmt: skip
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


def test_what_is_asked_of_a_fine_tune_reaches_it_and_a_result_is_pushed(tmp_path, monkeypatch, capsys):
    from bianque.train import result, tune
    from bianque.train.run import State

    asked, pushed = [], []
    state = State(log=[{"step": 0, "valid": 2.0}, {"step": 9, "valid": 1.0}])
    monkeypatch.setattr(tune, "tune", lambda *given: asked.append(given) or state)
    monkeypatch.setattr(result, "signed_in", pushed.append)
    monkeypatch.setattr(result, "push", lambda *given: pushed.append(given) or "address")
    monkeypatch.delenv("BIANQUE_CARDS", raising=False)
    out = tmp_path / "run"
    given = ["--data", "a.csv", "b.csv", "--out", str(out), "--bits", "8", "--push", "me/mine"]
    assert (
        main(["tune", "bianque-2", *given, "--checkpointing", "--set", "patience=5", "targets=all", "dropout=0.1"]) == 0
    )
    ((card, plan, files, _, name, *_),) = asked
    assert (card.name, name, [path.name for path in files.data]) == ("bianque-2", "bianque-2-tuned", ["a.csv", "b.csv"])
    assert (plan.bits, plan.checkpointing, plan.patience, plan.targets, plan.dropout) == (8, True, 5, "all", 0.1)
    assert pushed == ["me/mine", (out / "model", "me/mine", False)] and "address" in capsys.readouterr().out
    state.log.pop()  # nothing was better than the original: nothing is pushed
    assert main(["tune", "bianque-2", *given]) == 0 and len(pushed) == 3


@pytest.mark.parametrize("pair", ["patience=much", "checkpointing=perhaps", "epoch=3", "bits=5"])
def test_a_setting_of_a_fine_tune_that_means_nothing_is_named(pair, capsys):
    assert main(["tune", "ask-mini", "--data", "a", "--out", "b", "--set", pair]) == 1
    assert pair.split("=")[0] in capsys.readouterr().err


def test_a_converted_checkpoint_is_used_by_the_card_that_is_printed(tmp_path, monkeypatch, capsys):
    import json

    import torch

    from bianque.catalog import custom
    from bianque.checkpoints import loader
    from tests import tiny

    base, out, cards = tmp_path / "base", tmp_path / "int8", tmp_path / "cards.json"
    base.mkdir()
    tiny.bianque_2(base)
    monkeypatch.setenv("BIANQUE_PATHS", f"bianque-2={base}")
    monkeypatch.delenv("BIANQUE_CARDS", raising=False)
    assert main(["convert", "bianque-2", str(out), "--bits", "8"]) == 0
    cards.write_text(capsys.readouterr().out, encoding="utf-8")
    assert json.loads(cards.read_text()) == {
        "name": "bianque-2-int8",
        "like": "bianque-2",
        "path": str(out),
        "stored": 8,
    }
    found, folders = custom.read(cards)
    model = loader.load(found[-1], folders, "cpu", torch.float32, lambda progress: None).model
    assert model.lm_head.form.bits == 8
    for options, told in (
        (["--bits", "5"], "--bits 5"),
        (["--merge", "nowhere"], "--merge nowhere"),
        ([], "not empty"),
    ):
        assert main(["convert", "bianque-2", str(out if not options else tmp_path / "new"), *options]) == 1
        assert told in capsys.readouterr().err

"""The table of models: aligned in a terminal, complete for a program."""

from __future__ import annotations

import json
from dataclasses import fields

from bianque.__main__ import main
from bianque.catalog.builtin import CARDS, by_name
from bianque.catalog.card import Checkpoint, Model
from bianque.catalog.footprint import sizes
from bianque.cli import models
from bianque.types import Sampling


def test_columns_begin_under_one_another():
    lines = models.aligned([("扁鹊", "a", "x"), ("bianque-mini", "长长", "y"), ("", "", "z")])
    assert lines == ["扁鹊          a     x", "bianque-mini  长长  y", "                    z"]


def test_the_table_tells_the_facts_of_every_card(monkeypatch, capsys):
    monkeypatch.delenv("BIANQUE_CARDS", raising=False)
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for card in CARDS:
        first, second = (line for line in lines if line.split(" ")[0] == card.name)
        assert all(
            str(fact) in first for fact in (card.title, card.loadable.architecture, card.role, card.loadable.window)
        )
        assert sizes(card) in first and card.licence in second
        assert (f"{card.repo}@{card.revision}" if card.repo else "bundled") in second


def test_sizes_are_the_memory_in_one_unit():
    assert sizes(by_name()["bianque-2"]) == "13.4/7.2/4.6 GB"
    assert sizes(by_name()["ask-mini"]) == "34/20/14 MB"
    assert sizes(by_name()["chatglm-6b-int4"]) == "5.1 GB"


def test_sampling_is_told_without_what_is_off():
    assert models.drawn(Sampling()) == "T=1 max=512"
    assert models.drawn(Sampling(0, 0.85, 5, 1.1, 3, 2, 64, seed=7)) == (
        "T=0 p=0.85 k=5 penalty=1.1 ngram=3 min=2 max=64 seed=7"
    )


def test_a_program_gets_every_field_and_the_users_cards(monkeypatch, capsys, tmp_path):
    path = tmp_path / "cards.json"
    path.write_text(json.dumps({"name": "mine", "like": "bianque-2", "path": "."}))
    monkeypatch.setenv("BIANQUE_CARDS", str(path))
    assert main(["models", "--json"]) == 0
    told = {card["name"]: card for card in json.loads(capsys.readouterr().out)}
    assert list(told) == [*(card.name for card in CARDS), "mine"]
    for name, card in by_name().items():
        assert {field.name for field in (*fields(Model), *fields(Checkpoint))} - {"checkpoint"} | {
            "memory",
            "path",
        } == set(told[name])
        assert told[name]["memory"] == {str(bits): card.loadable.memory(bits) for bits in card.precisions}
        assert told[name]["sampling"]["top_p"] == card.sampling.top_p and told[name]["path"] is None
    assert told["mine"]["prompt"] == told["mine"]["clean"] == "bianque-2"
    assert told["mine"]["path"] == str(tmp_path)
    assert main(["models"]) == 0
    assert str(tmp_path) in capsys.readouterr().out


def test_a_card_that_is_wrong_is_one_calm_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("BIANQUE_CARDS", str(tmp_path / "none.json"))
    assert main(["models"]) == 1
    out, complaints = capsys.readouterr()
    assert out == "" and complaints.startswith("BQ_SETTINGS: ") and complaints.count("\n") == 1

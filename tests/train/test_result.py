"""What a run leaves: a report for people, a card that works at once, and its way to a Hub and back."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
import torch
import typer
from huggingface_hub import constants

from bianque.__main__ import application, spread
from bianque.catalog import custom
from bianque.checkpoints import loader
from bianque.errors import LoadFailed
from bianque.train import result, tune
from bianque.train.plan import TunePlan
from bianque.train.run import Files
from tests import tiny
from tests.hub import Hub, serve
from tests.train.test_tune import PARTS, PLAN, rows

quiet = lambda *given: None


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A LoRA over 8 bits, its folder, base, and what was said."""
    before, said, tmp_path = torch.get_num_threads(), list[str](), tmp_path_factory.mktemp("ran")
    base, out = tmp_path / "base", tmp_path / "run"
    base.mkdir()
    tiny.bianque_2(base)
    data, valid = rows(tmp_path / "rows.csv", PARTS[:4]), rows(tmp_path / "v.csv", ["<b>头</b>"])
    plan = replace(PLAN, bits=8, epochs=2, rate=1e-2)
    tune.tune(
        tiny.card("bianque-2"), plan, Files((data,), (valid,), out), {"bianque-2": base}, "mine", quiet, said.append
    )
    torch.set_num_threads(before)
    return out, base, said


def test_the_report_is_one_page_that_asks_no_network(ran):
    text = (ran[0] / "report.html").read_text(encoding="utf-8")
    log = [json.loads(line) for line in (ran[0] / "log.jsonl").read_text().splitlines()]
    assert text.count("<polyline") == 2 and all(f"<td>{row['valid']}</td>" in text for row in log)
    assert "default-src 'none'" in text and "<script" not in text and "src=" not in text.replace("default-src", "")
    assert "我的&lt;b&gt;头&lt;/b&gt;疼，怎么办" in text and "<b>头" not in text
    assert "not a medical device" in text and "rows.csv" in text and "still training" not in text
    assert any(str(ran[0] / "report.html") in line for line in ran[2])


def test_the_commands_that_are_told_are_commands(ran):
    told = "\n".join((*ran[2], (ran[0] / "adapter/README.md").read_text(encoding="utf-8"))).replace("`", "\n")
    lines = [line.partition("python -m bianque ")[2] for line in told.splitlines() if "python -m bianque " in line]
    assert {line.split()[0] for line in lines} == {"chat", "evaluate"} and len(lines) == 3
    for line in lines:
        name, *given = spread(shlex.split(line))
        command = typer.main.get_command(application()).commands[name]
        command.make_context(name, given)


def test_a_result_goes_to_the_hub_private_and_is_used_from_there(ran, tmp_path, monkeypatch):
    out, base, _ = ran
    with serve(Hub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "wrong")
        with pytest.raises(LoadFailed, match=r"--push me/mine.*401.*HF_TOKEN"):
            result.signed_in("me/mine")
        monkeypatch.setenv("HF_TOKEN", hub.token)
        result.signed_in("me/mine")
        assert result.push(out / "adapter", "me/mine", public=False).endswith("me/mine")
        assert hub.private == {"me/mine"}
        text = hub.repos["me/mine"]["README.md"].decode()
        assert text.startswith("---\nlanguage: zh\nlicense: other\n") and "license_name: apache-2.0-code" in text
        assert '{"name": "mine", "like": "bianque-2", "adapter": "me/mine"}' in text
        card = tmp_path / "card.json"
        card.write_text(json.dumps({"name": "mine", "like": "bianque-2", "adapter": "me/mine", "path": str(base)}))
        cards, folders = custom.read(card)
        there = loader.load(cards[-1], folders, "cpu", torch.float32, quiet)
    here = loader.load(*custom_card(out / "card.json"), "cpu", torch.float32, quiet)
    assert all(map(torch.equal, there.model.state_dict().values(), here.model.state_dict().values()))


def custom_card(path):
    cards, folders = custom.read(path)
    return cards[-1], folders


def test_no_hub_is_told_with_what_to_do(monkeypatch):
    class Api:
        def whoami(self):
            raise OSError("no token")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(LoadFailed, match=r"no token.*HF_TOKEN"):
        result.signed_in("me/mine")


def test_a_licence_that_is_not_free_goes_with_the_model():
    facts = {"samples": [], "steps": 3, "data": "d", "examples": 1, "digest": "0" * 64, "valid": "v", "held_out": 1}
    log = [{"step": 0, "train": None, "valid": 2.0}]
    text = result.model_card(tiny.card("bianque-2"), "mine", TunePlan(lora=8, alpha=16), facts, log, log[0])
    assert "license: other" in text and "non-commercial research only" in text and "library_name: peft" in text

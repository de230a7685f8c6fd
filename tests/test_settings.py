"""Settings: every variable has a default, a meaning, or an error that names it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from bianque.errors import BianQueError, SettingsError
from bianque.settings import NAMES, Settings, folders


def test_an_empty_environment_gives_the_defaults():
    names = (
        "MODELS",
        "ASK",
        "ADVISE",
        "PATHS",
        "THREADS",
        "QUESTIONS",
        "MAX_WAITING",
        "MEMORY_GB",
        "BITS",
        "SLOTS",
        "VOTES",
        "VOTES_REPO",
    )
    assert Settings.read({}) == Settings() == Settings.read({f"BIANQUE_{name}": "" for name in names})


def test_every_variable_is_read(tmp_path):
    env = {
        "BIANQUE_MODELS": "hub",
        "BIANQUE_ASK": "bianque-1",
        "BIANQUE_ADVISE": "bianque-2",
        "BIANQUE_PATHS": f"bianque-1={tmp_path}, bianque-2 = {tmp_path} ,",
        "BIANQUE_THREADS": "3",
        "BIANQUE_QUESTIONS": "5",
        "BIANQUE_MAX_WAITING": "7",
        "BIANQUE_MEMORY_GB": "7.5",
        "BIANQUE_BITS": "8, 4",
        "BIANQUE_SLOTS": "6",
        "BIANQUE_VOTES": "/data/votes",
        "BIANQUE_VOTES_REPO": "me/votes",
        "OTHER": "x",
    }
    paths = {"bianque-1": tmp_path, "bianque-2": tmp_path}
    votes = {"votes": Path("/data/votes"), "votes_repo": "me/votes"}
    assert Settings.read(env) == Settings(
        "hub", "bianque-1", "bianque-2", paths, 3, 5, 7, 7.5, (8, 4), slots=6, **votes
    )


def test_a_tilde_is_the_home_folder_in_every_place(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    (tmp_path / "lora.p").touch()
    given = {"PATHS": "bianque-2=~/m,bianque-2.adapter=~/lora.p", "CARDS": "~/cards.json", "VOTES": "~/votes"}
    found = Settings.read({f"BIANQUE_{name}": value for name, value in given.items()})
    assert found.paths == {"bianque-2": tmp_path / "m", "bianque-2.adapter": tmp_path / "lora.p"}
    assert (found.cards, found.votes) == (tmp_path / "cards.json", tmp_path / "votes")


@pytest.mark.parametrize(
    "name, value",
    [
        ("BIANQUE_MODELS", "big"),
        ("BIANQUE_THREADS", "-1"),
        ("BIANQUE_THREADS", "two"),
        ("BIANQUE_THREADS", "1.5"),
        ("BIANQUE_THREADS", "²"),
        ("BIANQUE_QUESTIONS", "0"),
        ("BIANQUE_MAX_WAITING", "0"),
        ("BIANQUE_MEMORY_GB", "0"),
        ("BIANQUE_MEMORY_GB", "-3"),
        ("BIANQUE_MEMORY_GB", "inf"),
        ("BIANQUE_MEMORY_GB", "8 GB"),
        ("BIANQUE_BITS", "32"),
        ("BIANQUE_BITS", "8,8"),
        ("BIANQUE_BITS", "16,"),
        ("BIANQUE_BITS", "int8"),
        ("BIANQUE_VOTES_REPO", "votes"),
        ("BIANQUE_VOTES_REPO", "https://huggingface.co/datasets/me/votes"),
        ("BIANQUE_EMBED", "example.org"),
        ("BIANQUE_EMBED", "https://example.org;script-src"),
        ("BIANQUE_PATHS", "bianque-1"),
        ("BIANQUE_PATHS", "bianque-1="),
        ("BIANQUE_PATHS", "bianque-1=/no/such/folder"),
        ("BIANQUE_PATHS", "=/tmp"),
    ],
)
def test_a_value_that_means_nothing_is_named(name, value):
    with pytest.raises(SettingsError) as failure:
        Settings.read({name: value})
    assert name in str(failure.value) and value in str(failure.value)
    assert isinstance(failure.value, BianQueError | ValueError)


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert folders(f"x={tmp_path}/a=b") == {"x": Path(f"{tmp_path}/a=b")}


def test_a_name_that_is_no_setting_is_told_and_what_was_meant(caplog):
    Settings.read({"BIANQUE_MODEL": "mini", "BIANQUE_XYZ": "1", "MODEL": "x"})
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "BIANQUE_MODEL: " in told and "did you mean BIANQUE_MODELS?" in told and "BIANQUE_XYZ" in told
    caplog.clear()
    read = set(re.findall(r'"(BIANQUE_[A-Z_]+)"', inspect.getsource(Settings)))
    assert read == NAMES
    Settings.read(dict.fromkeys(NAMES, ""))
    assert caplog.records == []


def test_sites_that_may_embed_the_page_are_a_list():
    found = Settings.read({"BIANQUE_EMBED": "https://example.org, https://*.example.org:8080"}).embed
    assert found == ("https://example.org", "https://*.example.org:8080")


def test_a_file_of_cards_is_named():
    assert Settings.read({"BIANQUE_CARDS": "my/cards.json"}).cards == Path("my/cards.json")
    assert Settings.read({"BIANQUE_CARDS": ""}).cards is None


def test_what_a_zerogpu_space_preloads_is_a_list_of_names():
    assert Settings.read({"BIANQUE_PRELOAD": "bianque-1, bianque-2 ,"}).preload == ("bianque-1", "bianque-2")
    assert Settings.read({"BIANQUE_PRELOAD": " "}).preload == ()


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        Settings().threads = 2

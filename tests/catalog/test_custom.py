"""Cards of a user's own file: what they inherit, what they must say, and how a mistake in one is told."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bianque.catalog import builtin, custom, default, schema
from bianque.catalog.builtin import CARDS, FORMATS, by_name
from bianque.catalog.card import Checkpoint, Endpoint, Model
from bianque.errors import SettingsError
from bianque.settings import Settings
from bianque.types import Message, Sampling
from tests import tiny

LIKE = {"name": "my-bianque", "like": "bianque-2", "repo": "me/my-bianque"}
WHOLE = {
    "name": "我的-扁鹊",
    "title": "我的扁鹊",
    "architecture": "chatglm",
    "role": "both",
    "prompt": "bianque-2",
    "sampling": {"temperature": 0.5, "top_k": 4, "seed": None, "stop": ["\n病人"]},
    "window": 1024,
    "bytes": 100,
    "parameters": 50,
    "kept": 50,
    "cache": 16,
    "licence": "MIT",
    "citation": "me",
    "repo": "me/mine",
    "files": ["config.json", "model*.safetensors"],
}


def written(folder: Path, given: object) -> Path:
    path = folder / "cards.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False), encoding="utf-8")
    return path


def one(folder: Path, given: object) -> Model:
    found, _ = custom.read(written(folder, given))
    (card,) = found
    return card


def fault(folder: Path, given: object) -> str:
    with pytest.raises(SettingsError) as failure:
        custom.read(written(folder, given))
    assert "cards.json" in str(failure.value)
    return str(failure.value)


def test_every_field_of_a_card_can_be_stated_and_is_checked():
    shown = {field.name for field in fields(Model)} - {"checkpoint", "endpoint"}
    local = shown | {field.name for field in fields(Checkpoint)} | {"like", *custom.PLACES}
    remote = shown | {field.name for field in fields(Endpoint)} | {"like"}
    assert set(schema.LocalCard.model_fields) == local
    assert set(schema.RemoteCard.model_fields) == remote - {"repo", "revision", "preview"}
    assert set(schema.SamplingGiven.model_fields) == {field.name for field in fields(Sampling)}
    for kind in (schema.LocalCard, schema.RemoteCard, schema.SamplingGiven, schema.RemoteSampling):
        assert all(field.description for field in kind.model_fields.values())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_projects_own_cards_keep_the_rules(card):
    stated = {field.name: getattr(card, field.name) for field in fields(Model)}
    stated |= {field.name: getattr(card.loadable, field.name) for field in fields(Checkpoint)}
    stated |= {"files": list(card.loadable.files), "sampling": asdict(card.sampling) | {"stop": []}}
    for name in ("checkpoint", "endpoint", "prompt", "clean", *([] if card.loadable.files else ["files"])):
        del stated[name]
    with pytest.raises(ValidationError) as found:
        schema.LocalCard.model_validate(stated)
    assert {fault["type"] for fault in found.value.errors()} == {"missing"}
    assert (card.loadable.prompt, card.loadable.clean) in FORMATS.values()


def test_a_fine_tune_takes_over_all_but_what_it_states(tmp_path):
    like = by_name()["bianque-2"]
    card = one(tmp_path, LIKE)
    files = (*like.loadable.files, "model*.safetensors", "model.safetensors.index.json")
    assert card == tiny.changed(
        like, name="my-bianque", title="my-bianque", repo="me/my-bianque", revision="main", files=files
    )


def test_what_is_stated_beside_like_counts(tmp_path):
    changes = {"title": "我的", "role": "both", "window": 4096, "revision": "v2", "files": ["a.bin"], "licence": "MIT"}
    card = one(tmp_path, LIKE | changes | {"sampling": {"top_p": 0.9}, "rounds": 3, "stored": 8})
    like = by_name()["bianque-2"]
    assert [getattr(card.loadable if name == "window" else card, name) for name in changes if name != "files"] == [
        "我的",
        "both",
        4096,
        "v2",
        "MIT",
    ]
    assert card.loadable.files == ("a.bin",) and card.loadable.rounds == 3 and card.loadable.stored == 8
    assert card.sampling == replace(like.sampling, top_p=0.9) and card.loadable.parameters == like.loadable.parameters


def test_a_pinned_revision_is_not_taken_over_to_another_repo(tmp_path):
    pinned = next(card for card in CARDS if card.repo and card.revision != "main")
    assert one(tmp_path, {"name": "x", "like": pinned.name, "repo": "me/x"}).revision == "main"
    assert one(tmp_path, {"name": "x", "like": pinned.name}).revision == pinned.revision


def test_a_card_may_be_like_an_earlier_one_of_the_file(tmp_path):
    found, _ = custom.read(written(tmp_path, [LIKE | {"window": 512}, {"name": "next", "like": "my-bianque"}]))
    assert [card.name for card in found] == ["my-bianque", "next"] and found[1].loadable.window == 512
    assert "next" in fault(tmp_path, [{"name": "first", "like": "next"}, LIKE | {"name": "next"}])


def test_a_whole_card_needs_no_other(tmp_path):
    card = one(tmp_path, WHOLE)
    assert card.sampling == Sampling(temperature=0.5, top_k=4, stop=("\n病人",)) and card.loadable.files == (
        "config.json",
        "model*.safetensors",
    )
    assert (card.revision, card.loadable.adapter, card.loadable.rounds, card.preview) == ("main", None, None, False)
    assert card.loadable.prompt([Message("user", "头痛")]) == "病人：头痛\n医生："


@pytest.mark.parametrize("name", FORMATS)
def test_a_prompt_is_named_and_brings_its_clean_up(tmp_path, name):
    card = one(tmp_path, LIKE | {"prompt": name})
    assert (card.loadable.prompt, card.loadable.clean) == FORMATS[name]
    card = one(tmp_path, LIKE | {"clean": name})
    assert (card.loadable.prompt, card.loadable.clean) == (FORMATS["bianque-2"][0], FORMATS[name][1])
    card = one(tmp_path, LIKE | {"prompt": name, "clean": "bianque-1"})
    assert (card.loadable.prompt, card.loadable.clean) == (FORMATS[name][0], FORMATS["bianque-1"][1])


@pytest.mark.parametrize("given", [[], [LIKE], LIKE])
def test_a_file_is_one_card_or_a_list(tmp_path, given):
    found, folders = custom.read(written(tmp_path, given))
    assert len(found) == (1 if given else 0) and folders == {}


def test_a_byte_order_mark_is_no_fault(tmp_path):
    assert one(tmp_path, "\ufeff" + json.dumps(LIKE)).name == "my-bianque"


WRONG = [
    ({"name": "a b"}, "name", '"a b"', "letters"),
    ({"name": ""}, "name", '""', "letters"),
    ({"name": "bianque-1"}, "name", '"bianque-1"', "not taken"),
    ({"like": "bianque"}, "like", '"bianque"', "bianque-2"),
    ({"title": ""}, "title", '""', "one line"),
    ({"title": "a\nb"}, "title", r'"a\nb"', "one line"),
    ({"architecture": "llama"}, "architecture", '"llama"', "t5, chatglm, baichuan"),
    ({"role": "doctor"}, "role", '"doctor"', "counsels"),
    ({"prompt": "alpaca"}, "prompt", '"alpaca"', "bianque-1"),
    ({"clean": []}, "clean", "[]", "bianque-1"),
    ({"sampling": 1}, "sampling", "1", "an object"),
    ({"sampling": {"top_p": 0}}, "sampling.top_p", "0", "0.01 到 1"),
    ({"sampling": {"temperature": 3}}, "sampling.temperature", "3", "0 到 2"),
    ({"sampling": {"stop": "病人"}}, "sampling.stop", '"病人"', "a list of texts"),
    ({"sampling": {"stop": ["病人", ""]}}, "sampling.stop", '["病人", ""]', "a list of texts"),
    ({"sampling": {"temperature": True}}, "sampling.temperature", "true", "a number"),
    ({"sampling": {"max_new_tokens": 1.5}}, "sampling.max_new_tokens", "1.5", "a whole number"),
    ({"sampling": {"repetition_penalty": 0}}, "sampling.repetition_penalty", "0", "0.1 到 10"),
    ({"sampling": {"seed": -1}}, "sampling.seed", "-1", "null"),
    ({"window": 8}, "window", "8", "64 到"),
    ({"window": "2048"}, "window", '"2048"', "a whole number"),
    ({"bytes": 0}, "bytes", "0", "1 到"),
    ({"parameters": -5}, "parameters", "-5", "1 到"),
    ({"kept": 99_000_000_000}, "kept", "99000000000", "6173286400"),
    ({"cache": 0}, "cache", "0", "1 到"),
    ({"stored": 3}, "stored", "3", "16、8 或 4"),
    ({"licence": ""}, "licence", '""', "one line"),
    ({"citation": 5}, "citation", "5", "one line"),
    ({"repo": "bianque"}, "repo", '"bianque"', "owner/name"),
    ({"revision": "a b"}, "revision", '"a b"', "branch"),
    ({"files": []}, "files", "[]", "a list"),
    ({"files": ["../x"]}, "files", '["../x"]', "a list"),
    ({"adapter": 1}, "adapter", "1", "null"),
    ({"rounds": 0}, "rounds", "0", "null"),
    ({"preview": "no"}, "preview", '"no"', "true"),
    ({"path": "/no/such/folder"}, "path", '"/no/such/folder"', "exists"),
    ({"path": 1}, "path", "1", "a place"),
    ({"path": "~nobody/x"}, "path", '"~nobody/x"', "exists"),
    ({"path": "x" * 9999}, "path", '"xxx', "exists"),
    ({"path": "\0"}, "path", r'"\u0000"', "exists"),
    ({"adapter_path": "no.p"}, "adapter_path", '"no.p"', "exists"),
]


@pytest.mark.parametrize(("change", "field", "value", "may"), WRONG, ids=lambda part: str(part)[:40])
def test_a_mistake_is_told_by_file_card_field_value_and_what_it_may_be(tmp_path, change, field, value, may):
    said = fault(tmp_path, [LIKE | {"name": "first"}, LIKE | change])
    assert f"{field}={value}" in said and may in said
    assert repr((LIKE | change)["name"]) in said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**LIKE, "licenses": "MIT"}, ["licenses", "did you mean licence?"]),
        ({**LIKE, "zzz": 1}, ["zzz=1", "window", "like", "path"]),
        ({**LIKE, "sampling": {"topp": 1}}, ["sampling.topp=1", "did you mean top_p?"]),
        ({"name": "x"}, ["'x'", "architecture", "prompt", "window", "like"]),
        ({"like": "bianque-2"}, ["lacks", "name"]),
        ({key: value for key, value in WHOLE.items() if key != "files"}, ["files"]),
        ([LIKE, LIKE], ["my-bianque", "not taken"]),
        ([LIKE, 5], ["card 2", "5", "an object"]),
        ("[", ["JSON"]),
        ('{"name": "a", "name": "b", "like": "bianque-2"}', ["'name'", "twice"]),
        ('{"name": "a", "like": "bianque-2", "sampling": {"top_p": NaN}}', ["sampling.top_p=NaN"]),
        ("[" * 100_000, ["cards.json"]),
        ('"card"', ["an object"]),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_file_that_cannot_be_meant_is_told(tmp_path, given, words):
    said = fault(tmp_path, given)
    assert all(word in said for word in words), said


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SettingsError, match="BIANQUE_CARDS"):
            custom.read(path)
    (tmp_path / "gbk.json").write_bytes('{"name": "我"}'.encode("gbk"))
    with pytest.raises(SettingsError, match=r"gbk\.json"):
        custom.read(tmp_path / "gbk.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from([*schema.LocalCard.model_fields, *schema.RemoteCard.model_fields, "other"]),
        json_values,
        max_size=3,
    )
)
def test_whatever_a_file_holds_is_a_card_or_a_settings_error(tmp_path_factory, change):
    path = written(tmp_path_factory.getbasetemp(), LIKE | change)
    try:
        found, _ = custom.read(path)
    except SettingsError as error:
        assert "cards.json" in str(error)
    else:
        assert isinstance(found[0], Model)


# --- models behind a URL ----------------------------------------------------------------------------------------------

QWEN = {
    "name": "qwen", "url": "https://host.example/v1", "model": "qwen3", "key_env": "QWEN_KEY", "role": "both",
    "licence": "Apache-2.0",
}  # fmt: skip


def test_a_url_makes_a_card_without_a_checkpoint(tmp_path):
    card = one(tmp_path, QWEN)
    assert card.endpoint == Endpoint("https://host.example/v1", "qwen3", "QWEN_KEY") and card.checkpoint is None
    assert (card.title, card.role, card.sampling) == ("qwen", "both", builtin.REMOTE)
    assert card.host == "host.example" and "host.example" in card.terms and card.terms.startswith("Apache-2.0")
    assert card.endpoint.address == "https://host.example/v1/chat/completions" and card.precisions == ()


def test_everything_that_a_card_says_of_its_server_counts(tmp_path):
    more = {
        "title": "千问", "citation": "me", "sampling": {"temperature": 0.5, "stop": ["患者："]}, "system": "你是医生。\n先问。",
        "max_tokens_field": "max_completion_tokens", "body": {"top_k": 20, "stream_options": None}, "arena": True,
    }  # fmt: skip
    card = one(tmp_path, QWEN | more)
    found = asdict(card.endpoint)
    assert [found[name] for name in ("system", "max_tokens_field", "body", "arena")] == [*more.values()][3:]
    assert card.sampling == replace(builtin.REMOTE, temperature=0.5, stop=("患者：",)) and card.citation == "me"
    found, _ = custom.read(written(tmp_path, [QWEN | more, {"name": "other", "like": "qwen", "model": "qwen3-max"}]))
    assert found[1].endpoint == replace(found[0].endpoint, model="qwen3-max") and found[1].title == "other"
    assert found[1].sampling == found[0].sampling and found[1].role == "both"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "host"}, ['url="host"', "https://host/v1"]),
        ({"url": "https://host:port/v1"}, ["url=", "an http(s) URL"]),
        ({"url": "https://host/v1?key=1"}, ["url=", "without password or parameters"]),
        ({"model": ""}, ['model=""', "one line"]),
        ({"key_env": "sk-1234"}, ['key_env="sk-***"', "not the key itself"]),
        ({"role": "doctor"}, ['role="doctor"', "both"]),
        ({"system": ""}, ['system=""', "a text"]),
        ({"max_tokens_field": "tokens"}, ['max_tokens_field="tokens"', "max_completion_tokens"]),
        ({"body": {"messages": []}}, ["body=", "none of these"]),
        ({"body": 1}, ["body=1", "an object"]),
        ({"arena": 1}, ["arena=1", "true"]),
        ({"sampling": {"top_k": 3}}, ["sampling.top_k=3", "into body"]),
        ({"sampling": {"temprature": 0}}, ["sampling.temprature=0", "did you mean temperature?"]),
        ({"sampling": {"stop": list("abcde")}}, ["sampling.stop=", "up to 4"]),
        ({"window": 2048}, ["window=2048", "unknown field", "key_env"]),
        ({"like": "bianque-2"}, ['like="bianque-2"', "a card with a url"]),
        ({"url": None}, ["url=null", "https://host/v1"]),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_mistake_about_a_server_is_told(tmp_path, change, words):
    said = fault(tmp_path, QWEN | change)
    assert all(word in said for word in ["'qwen'", *words]), said


@pytest.mark.parametrize("name", ["url", "model", "role", "licence"])
def test_what_every_server_needs_is_named(tmp_path, name):
    said = fault(tmp_path, {key: value for key, value in QWEN.items() if key != name})
    assert "lacks" in said and name in said


# --- in the settings ------------------------------------------------------------------------------------------------


def test_without_a_file_there_are_the_projects_cards():
    assert custom.known(Settings()) == (Settings(), CARDS)


def test_places_join_the_named_folders_and_give_way_to_them(tmp_path):
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "lora.p").touch()
    path = written(tmp_path, LIKE | {"path": "mine", "adapter": "lora.p", "adapter_path": str(tmp_path / "lora.p")})
    settings, known = custom.known(Settings(cards=path))
    assert settings.paths == {"my-bianque": tmp_path / "mine", "my-bianque.adapter": tmp_path / "lora.p"}
    assert known[:-1] == CARDS and known[-1].name == "my-bianque" and known[-1].loadable.adapter == "lora.p"
    settings, _ = custom.known(Settings(cards=path, paths={"my-bianque": tmp_path / "other"}))
    assert settings.paths["my-bianque"] == tmp_path / "other"


@pytest.mark.parametrize(
    "name, hint", [("BianQue-2", "bianque-2"), ("bianque-2.lora", "bianque-2"), ("zzz", "ask-mini")]
)
def test_a_folder_for_a_card_that_nobody_knows_is_refused(tmp_path, name, hint):
    """Ignored, it would let the weights be fetched that the folder was to spare."""
    with pytest.raises(SettingsError, match="BIANQUE_PATHS") as caught:
        custom.known(Settings(paths={name: tmp_path}))
    assert name in str(caught.value) and hint in str(caught.value)


def test_a_card_to_preload_that_nobody_knows_is_refused():
    custom.known(Settings(preload=("bianque-2@8", "ask-mini")))
    with pytest.raises(SettingsError, match="BIANQUE_PRELOAD 有 'BianQue-2'"):
        custom.known(Settings(preload=("BianQue-2",)))


def test_a_card_needs_a_repo_or_a_place(tmp_path):
    path = written(tmp_path, {"name": "my-mini", "like": "ask-mini"})
    with pytest.raises(SettingsError, match=r"'my-mini'.*repo.*path"):
        custom.known(Settings(cards=path))
    assert custom.known(Settings(cards=path, paths={"my-mini": tmp_path}))[1][-1].name == "my-mini"


def test_a_model_behind_a_url_needs_no_place(tmp_path):
    settings, known = custom.known(Settings(cards=written(tmp_path, QWEN), ask="qwen", advise="qwen"))
    assert settings.paths == {} and default.choose(settings, known) == ("qwen", "qwen")


def test_the_pair_that_speaks_can_be_the_users(tmp_path, monkeypatch):
    _, known = custom.known(Settings(cards=written(tmp_path, LIKE)))
    assert default.choose(Settings("mini", advise="my-bianque"), known) == ("ask-mini", "my-bianque")
    assert default.choose(Settings("hub"), known) == ("bianque-1", "bianque-2")
    asked = []
    monkeypatch.setattr(default, "has_gpu", lambda: True)
    monkeypatch.setattr(default, "hub_answers", lambda repo: asked.append(repo) or False)
    assert default.choose(Settings(), known) == ("ask-mini", "advise-mini")
    assert default.choose(Settings(ask="ask-mini", advise="my-bianque"), known) == ("ask-mini", "my-bianque")
    assert asked == ["scutcyr/BianQue-1.0"]  # nobody is asked where both are named


@pytest.mark.parametrize("given", [LIKE | {"\udfff": 1}, LIKE | {"title": "\ud800"}])
def test_half_a_surrogate_pair_is_no_text(tmp_path, given):
    path = tmp_path / "cards.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    with pytest.raises(SettingsError, match="not valid JSON"):
        custom.read(path)

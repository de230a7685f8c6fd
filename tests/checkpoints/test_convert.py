"""Conversion: the same model from safetensors, in shards of the wanted size, nothing half done mistaken for whole."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from bianque.checkpoints import loader
from bianque.checkpoints.convert import convert
from bianque.errors import BadInput, LoadFailed
from tests import tiny

quiet = lambda progress: None


@pytest.fixture(params=["bianque-1", "bianque-2"])
def published(request, tmp_path):
    """A card, its checkpoint as published and the model in it."""
    folder = tmp_path / "published"
    folder.mkdir()
    return tiny.card(request.param), folder, getattr(tiny, request.param.replace("-", "_"))(folder)


@pytest.mark.parametrize("limit", [4_000, 10**9], ids=["many shards", "one file"])
def test_the_converted_model_is_the_same(limit, published, tmp_path):
    card, folder, model = published
    seen = []
    total = convert(card, folder, tmp_path / "out", seen.append, limit)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert (len(files) > 2) == (limit == 4_000)
    assert seen[-1].fraction == 1 and not list((tmp_path / "out").glob("*.bin")) + list(
        (tmp_path / "out").glob("part*")
    )
    loaded, tokenizer = loader.read(card, tmp_path / "out", "cpu", torch.float32, quiet)
    for name, weight in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), weight)
    assert tokenizer.encode("头痛三天")
    keys = []
    for file in files:
        with safe_open(file, framework="pt") as opened:
            part = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        assert len(part) == 1 or sum(tensor.nbytes for tensor in part.values()) <= limit
        keys += part
        total -= sum(tensor.nbytes for tensor in part.values())
    assert total == 0 and sorted(keys) == sorted(name for name, _ in model.named_parameters())


def test_stored_types_stay(published, tmp_path):
    card, folder, _ = published
    convert(card, folder, tmp_path / "out", quiet)
    with safe_open(tmp_path / "out/model.safetensors", framework="pt") as opened:
        found = {opened.get_tensor(name).dtype for name in opened.keys()}  # noqa: SIM118
    assert found == {torch.float16 if card.name == "bianque-2" else torch.float32}


def test_the_index_names_every_tensor(published, tmp_path):
    card, folder, model = published
    convert(card, folder, tmp_path / "out", quiet, 4_000)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == dict(model.named_parameters()).keys()
    assert {(tmp_path / "out" / file).is_file() for file in index["weight_map"].values()} == {True}


def test_a_folder_with_anything_in_it_is_left_alone(published, tmp_path):
    card, folder, _ = published
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="not empty"):
        convert(card, folder, tmp_path / "out", quiet)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_damaged_checkpoint_leaves_nothing_that_loads(published, tmp_path):
    card, folder, _ = published
    shard = sorted(folder.glob("*.bin"))[-1]
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(LoadFailed, match=shard.name):
        convert(card, folder, tmp_path / "out", quiet, 4_000)
    with pytest.raises(LoadFailed):
        loader.read(card, tmp_path / "out", "cpu", torch.float32, quiet)

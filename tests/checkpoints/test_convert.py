"""Conversion: the same model from safetensors, in shards of the wanted size, nothing half done mistaken for whole."""

from __future__ import annotations

import json
import os
import signal
import warnings

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bianque.checkpoints import loader
from bianque.checkpoints.convert import ShardWriter, convert
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
    assert not list((tmp_path / "out").iterdir())


def read(card, folder, bits=16, **options):
    return loader.read(card, folder, "cpu", torch.float32, quiet, bits, **options)[0]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", ["bianque-1", "bianque-2", "disc-medllm"])
def test_quantised_once_is_quantised_as_at_each_start(name, bits, tmp_path):
    (tmp_path / "published").mkdir()
    getattr(tiny, name.replace("-", "_"))(tmp_path / "published")
    card = tiny.card(name)
    convert(card, tmp_path / "published", tmp_path / "out", quiet, 4_000, bits)
    found, expected = read(card, tmp_path / "out"), read(card, tmp_path / "published", bits)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))
    size = lambda folder: sum(file.stat().st_size for file in folder.iterdir())
    assert size(tmp_path / "out") < size(tmp_path / "published")
    with pytest.raises(BadInput, match="quantised already"):
        convert(card, tmp_path / "out", tmp_path / "again", quiet, bits=4)


@pytest.mark.parametrize("bits", [16, 8])
def test_a_lora_is_merged_once(bits, tmp_path):
    """The converted folder says so: the same card does not merge its LoRA a second time."""
    (tmp_path / "published").mkdir()
    tiny.medicalgpt_zh(tmp_path / "published")
    card, factors = tiny.card("medicalgpt-zh"), tmp_path / "published/lora.p"
    convert(card, tmp_path / "published", tmp_path / "out", quiet, bits=bits, adapter=factors)
    expected = read(card, tmp_path / "published", bits, adapter=factors)
    close = lambda a, b: torch.allclose(a.float(), b.float(), atol=2e-3)  # stored in half precision
    for adapter in (None, factors):
        found = read(card, tmp_path / "out", adapter=adapter)
        assert all(map(close, found.state_dict().values(), expected.state_dict().values()))
    loaded = loader.load(card, {card.name: tmp_path / "out"}, "cpu", torch.float32, quiet)
    assert loaded.tokenizer.encode("头痛三天")  # nobody asked for lora.p


@pytest.mark.parametrize("bits", [16, 8])
def test_a_prefix_goes_with_the_weights(bits, tmp_path):
    """P-Tuning v2's checkpoint over its base becomes one folder, which needs no adapter."""
    (tmp_path / "published").mkdir()
    base = tiny.bianque_2(tmp_path / "published")
    width = 2 * base.config.num_layers * base.config.hidden_size
    torch.save({"transformer.prefix_encoder.embedding.weight": torch.randn(3, width)}, tmp_path / "prefix.bin")
    card = tiny.card("bianque-2")
    convert(card, tmp_path / "published", tmp_path / "out", quiet, bits=bits, adapter=tmp_path / "prefix.bin")
    found, expected = (
        read(card, tmp_path / "out"),
        read(card, tmp_path / "published", bits, adapter=tmp_path / "prefix.bin"),
    )
    assert found.config == expected.config and found.config.pre_seq_len == 3
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


def test_whoever_may_read_the_folder_may_read_the_weights(published, tmp_path):
    card, folder, _ = published
    convert(card, folder, tmp_path / "out", quiet)
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


def test_a_lora_of_another_model_is_refused(tmp_path, published):
    card, folder, _ = published
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    factors = {"nowhere.lora_A.weight": torch.zeros(2, 3), "nowhere.lora_B.weight": torch.zeros(3, 2)}
    save_file(factors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(BadInput, match=r"nowhere\.weight"):
        convert(card, folder, tmp_path / "out", quiet, adapter=tmp_path)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("fails", ["save_file", "copyfile", "mkdir"])
def test_a_full_disk_is_told_and_leaves_nothing(fails, published, tmp_path, monkeypatch):
    card, folder, _ = published
    full = OSError(28, "No space left on device")
    if fails == "save_file":
        full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def refuse(*given, **options):
        raise full

    target = {
        "save_file": "bianque.checkpoints.files.save_file",
        "copyfile": "shutil.copyfile",
        "mkdir": "pathlib.Path.mkdir",
    }
    monkeypatch.setattr(target[fails], refuse)
    with pytest.raises(BadInput, match=r"out: .*No space left.*another place"):
        convert(card, folder, tmp_path / "out", quiet)
    monkeypatch.undo()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_file_in_the_folders_place_is_told(published, tmp_path):
    card, folder, _ = published
    (tmp_path / "out").write_text("mine")
    with pytest.raises(BadInput, match="a file"):
        convert(card, folder, tmp_path / "out", quiet)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("where", ["flush", "close", "copy_rest"])
def test_kill_9_leaves_nothing_that_is_mistaken_for_whole(where, published, tmp_path, monkeypatch):
    card, folder, _ = published
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if not child:
        try:
            if where == "copy_rest":
                monkeypatch.setattr("shutil.copyfile", lambda source, target: os.kill(os.getpid(), signal.SIGKILL))
            else:
                monkeypatch.setattr(ShardWriter, where, lambda self: os.kill(os.getpid(), signal.SIGKILL))
            convert(card, folder, tmp_path / "out", quiet)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with pytest.raises(LoadFailed):
        loader.read(card, tmp_path / "out", "cpu", torch.float32, quiet)


def test_the_old_configuration_never_stands_beside_changed_weights(published, tmp_path, monkeypatch):
    card, folder, _ = published
    copied = []
    monkeypatch.setattr("shutil.copyfile", lambda source, target: copied.append(source.name))
    convert(card, folder, tmp_path / "out", quiet, bits=8)
    assert copied and "config.json" not in copied
    assert "quantization_config" in json.loads((tmp_path / "out" / "config.json").read_text())

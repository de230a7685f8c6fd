"""Checkpoints: every published format gives the same parameters; what does not fit or would run code is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import weakref
from pathlib import Path

import pytest
import torch

from bianque.checkpoints import loader
from bianque.errors import LoadFailed
from bianque.nn import quant
from bianque.types import Progress
from tests import tiny


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """name → (folder, the model that was stored there)"""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("bianque-1", "bianque-2")}
    writers = {"bianque-1": tiny.bianque_1, "bianque-2": tiny.bianque_2}
    return {name: (folder, writers[name](folder)) for name, folder in folders.items()}


@pytest.fixture(params=["bianque-1", "bianque-2"])
def copy(request, published, tmp_path):
    """A card, a folder to spoil and the tensors in it."""
    folder, model = published[request.param]
    shutil.copytree(folder, tmp_path / "copy")
    return tiny.card(request.param), tmp_path / "copy", tiny.stored(model)


def load(card, folder, dtype=torch.float32, report=lambda progress: None):
    return loader.read(card, folder, "cpu", dtype, report)


def rewrite(folder: Path, tensors) -> None:
    """The same checkpoint with other tensors, as one safetensors file."""
    for old in folder.glob("*model*.bin*"):
        old.unlink()
    tiny.write_safetensors(folder, tensors, 1)


def refused(card, folder) -> str:
    with pytest.raises(LoadFailed) as failure:
        load(card, folder)
    text = str(failure.value)
    assert text.startswith(card.title) and str(folder) not in text and str(folder.parent) not in text
    return text


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bin", "bin shards", "safetensors", "safetensors shards"])
def test_every_format_gives_the_same_parameters(form, copy, published):
    card, folder, tensors = copy
    original = dict(published[card.name][1].named_parameters())
    for old in folder.glob("*model*.bin*"):
        old.unlink()
    write = tiny.write_bin if form.startswith("bin") else tiny.write_safetensors
    write(folder, tensors, 3 if form.endswith("shards") else 1)
    model, tokenizer = load(card, folder)
    loaded = dict(model.named_parameters())
    assert loaded.keys() == original.keys()
    for name, weight in loaded.items():
        assert weight.dtype == torch.float32 and not weight.requires_grad
        torch.testing.assert_close(weight, original[name], atol=0, rtol=0)
    assert not model.training
    assert tokenizer.decode(tokenizer.encode("头痛三天")) == "头痛三天"


def test_the_published_layouts(published):
    """As on the Hub: three numbered files with an index, and one file with the embedding thrice."""
    two, one = published["bianque-2"][0], published["bianque-1"][0]
    assert len(list(two.glob("pytorch_model-0000?-of-00003.bin"))) == 3
    index = json.loads((two / "pytorch_model.bin.index.json").read_text())["weight_map"]
    assert "transformer.layers.0.attention.rotary_emb.inv_freq" in index
    keys = torch.load(one / "pytorch_model.bin", weights_only=True).keys()
    assert {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"} <= keys
    load(tiny.card("bianque-2"), two)
    load(tiny.card("bianque-1"), one)


def test_safetensors_are_preferred(copy):
    card, folder, tensors = copy
    tiny.write_safetensors(folder, {name: tensor * 2 for name, tensor in tensors.items()})
    loaded = dict(load(card, folder)[0].named_parameters())
    name = next(iter(loaded))
    torch.testing.assert_close(loaded[name], tensors[name].float() * 2)


def test_the_wanted_type_is_what_one_gets(copy):
    card, folder, _ = copy
    model, _ = load(card, folder, torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("bits", [16, 8])
def test_the_model_alone_holds_its_weights_while_they_are_rearranged(bits, copy, monkeypatch):
    """Else all that was read stays until the last layer is done: twice the memory."""
    card, folder, _ = copy
    made, alive, arrive, settle = [], [], quant.convert_tensor, quant.prepack_quantised

    def arriving(*given):
        found = arrive(*given)
        made.extend(map(weakref.ref, found.values()))
        return found

    def settling(*given):
        alive.append(sum(tensor() is not None for tensor in made))
        settle(*given)

    monkeypatch.setattr(quant, "convert_tensor", arriving)
    monkeypatch.setattr(quant, "prepack_quantised", settling)
    loader.read(card, folder, "cpu", torch.float32, lambda progress: None, bits)
    assert len(made) > 9 and alive == [0]


def test_progress_grows_to_one(copy):
    card, folder, _tensors = copy
    seen: list[Progress] = []
    load(card, folder, report=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert {(progress.model, progress.stage) for progress in seen} == {(card.name, "loading")}


def test_a_missing_an_unexpected_and_a_misshapen_key_are_named(copy):
    card, folder, tensors = copy
    twice = ("embed_tokens", "inv_freq", "lm_head", "shared")
    names = sorted(name for name in tensors if not any(part in name for part in twice))
    missing, shape = names[0], names[1]
    spoilt = {name: tensor for name, tensor in tensors.items() if name != missing}
    spoilt |= {"another.weight": torch.zeros(2), shape: torch.zeros(3, 5)}
    rewrite(folder, spoilt)
    text = refused(card, folder)
    assert f"missing: {missing};" in text
    assert "unexpected: another.weight;" in text
    assert f"misshapen: {shape} (3, 5) ≠" in text


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_truncated_bin_is_named(copy):
    card, folder, _ = copy
    shard = sorted(folder.glob("*.bin"))[-1]
    truncate(shard)
    assert shard.name in refused(card, folder)


def test_a_truncated_safetensors_file_is_named(copy):
    card, folder, tensors = copy
    tiny.write_safetensors(folder, tensors)
    shard = sorted(folder.glob("*.safetensors"))[-1]
    truncate(shard)
    assert shard.name in refused(card, folder)


def test_an_empty_shard_is_named(copy):
    card, folder, _ = copy
    shard = sorted(folder.glob("*.bin"))[0]
    shard.write_bytes(b"")
    assert shard.name in refused(card, folder)


def edit(path: Path, change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda raw: raw | {"model_type": "llama"}, "'llama'"),
        (lambda raw: {k: v for k, v in raw.items() if k != "model_type"}, "None"),
        (lambda raw: {k: v for k, v in raw.items() if k != "vocab_size"}, "vocab_size"),
        (lambda raw: raw | {"vocab_size": "many"}, ""),
        (lambda raw: [raw], ""),
    ],
    ids=["another architecture", "none", "a field lacks", "a field is no number", "no object"],
)
def test_a_config_that_means_nothing_here_is_refused(change, told, copy):
    card, folder, _ = copy
    edit(folder / "config.json", change)
    assert told in refused(card, folder)


@pytest.mark.parametrize("value", [10**9, 2**63, -1, 0.5, "many", True, None])
def test_a_number_that_no_model_has_is_named_before_anything_is_built(value, copy):
    card, folder, _ = copy
    edit(folder / "config.json", lambda raw: raw | {"num_layers": value})
    assert f"num_layers={value!r}"[:30] in refused(card, folder) or value is None


@pytest.mark.parametrize("value", ["1e-6", float("nan"), -0.1, True])
def test_a_rounding_term_that_is_none_is_named(value, copy):
    card, folder, _ = copy
    name = "layer_norm_epsilon" if card.name == "bianque-1" else "layernorm_epsilon"
    edit(folder / "config.json", lambda raw: raw | {name: value})
    assert name in refused(card, folder)


def test_a_config_that_is_no_json_is_refused(copy):
    card, folder, _ = copy
    (folder / "config.json").write_text("<html>")
    refused(card, folder)


def test_a_broken_index_is_refused(copy):
    card, folder, tensors = copy
    tiny.write_safetensors(folder, tensors)
    for broken in ("[]", "{}", '{"weight_map": []}'):
        (folder / "model.safetensors.index.json").write_text(broken)
        refused(card, folder)


def test_an_index_reaches_no_other_folder(copy):
    card, folder, tensors = copy
    tiny.write_safetensors(folder, tensors, 2)
    edit(
        folder / "model.safetensors.index.json",
        lambda raw: {"weight_map": {name: f"../copy/{file}" for name, file in raw["weight_map"].items()}},
    )
    assert all(path.parent == folder for path in loader.shard_files(card, folder))


@pytest.mark.parametrize("pattern", ["config.json", "*.model", "*.bin", "*"])
def test_a_missing_file_is_no_riddle(pattern, copy):
    card, folder, _ = copy
    for path in folder.glob(pattern):
        path.unlink()
    refused(card, folder)


def test_a_missing_shard_is_named(copy):
    card, folder, tensors = copy
    tiny.write_safetensors(folder, tensors, 2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refused(card, folder)


def test_a_folder_that_is_not_there(copy):
    card, folder, _ = copy
    refused(card, folder / "nowhere")


class Payload:
    """Pickled, this is a call that leaves a file behind."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "bare pickle"])
def test_a_checkpoint_that_would_run_code_is_refused_unrun(archive, copy, tmp_path):
    card, folder, tensors = copy
    for old in folder.glob("*model*.bin*"):
        old.unlink()
    proof, content = tmp_path / "proof", dict(tensors) | {"payload": Payload(tmp_path / "proof")}
    if archive:
        torch.save(content, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    assert "pytorch_model.bin" in refused(card, folder)
    assert not proof.exists()
    if archive:
        assert "可执行" in refused(card, folder)
        torch.load(folder / "pytorch_model.bin", weights_only=False)  # it does run where one lets it
        assert proof.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"step": 3}, torch.zeros(2)], ids=["list", "number", "tensor"])
def test_a_bin_that_is_no_table_of_tensors_is_refused(content, copy):
    card, folder, _ = copy
    for old in folder.glob("*model*.bin*"):
        old.unlink()
    torch.save(content, folder / "pytorch_model.bin")
    assert "pytorch_model.bin" in refused(card, folder)


def test_a_file_in_the_format_before_zip_is_read(published, tmp_path):
    folder, model = published["bianque-1"]
    copied = Path(shutil.copytree(folder, tmp_path / "old"))
    table = torch.load(copied / "pytorch_model.bin", weights_only=True)
    torch.save(table, copied / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    loaded, _ = loader.read(tiny.card("bianque-1"), copied, "cpu", torch.float32, lambda progress: None)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)

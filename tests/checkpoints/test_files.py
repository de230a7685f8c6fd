"""What a file is not is said by name, wherever it is read; weights that are stored once serve both of their uses."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from bianque.checkpoints import loader, lora
from bianque.errors import LoadFailed
from tests import tiny

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 4955187711\n" % 0
PAGE = b"<!DOCTYPE html><html><body>404</body></html>"
quiet = lambda progress: None


def load(name: str, folder, **options):
    return loader.read(tiny.card(name), folder, "cpu", torch.float32, quiet, **options)[0]


@pytest.mark.parametrize("content, told", [(POINTER, "Git LFS"), (PAGE, "web page"), (b"please log in", None)])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "spiece.model", "config.json"])
def test_what_stands_in_a_files_place_is_told(name, content, told, tmp_path):
    tiny.bianque_1(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadFailed) as failure:
        load("bianque-1", tmp_path)
    text = str(failure.value)
    assert "可执行" not in text and str(tmp_path) not in text
    assert told is None or (told in text and name in text)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "lora.p"])
def test_an_adapters_files_too(name, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16}))
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(LoadFailed, match=f"{re.escape(name)}.*Git LFS"):
        lora.read(tmp_path / name if name == "lora.p" else tmp_path, "LoRA")


def test_an_index_too(tmp_path):
    tiny.bianque_2(tmp_path)
    (tmp_path / "pytorch_model.bin.index.json").write_bytes(POINTER)
    with pytest.raises(LoadFailed, match="Git LFS"):
        load("bianque-2", tmp_path)


# --- stored once, used twice --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize(
    "name, table", [("bianque-2", "transformer.word_embeddings"), ("disc-medllm", "model.embed_tokens")]
)
def test_a_fine_tune_without_a_head_takes_the_embeddings(name, table, bits, tmp_path, caplog):
    model = (tiny.bianque_2 if name == "bianque-2" else tiny.disc_medllm)(tmp_path)
    for file in tmp_path.glob("*.bin"):
        torch.save({key: value for key, value in torch.load(file).items() if key != "lm_head.weight"}, file)
    found = load(name, tmp_path, bits=bits)
    embeddings = model.get_submodule(table).weight
    if bits == 16:
        torch.testing.assert_close(found.lm_head.weight, embeddings, atol=1e-3, rtol=1e-3)
    else:
        x = tiny.numbers(torch.Size((3, embeddings.shape[1])), 5)
        assert (found.lm_head(x) - x @ embeddings.T).norm() < 0.02 * (x @ embeddings.T).norm()
    assert "tied" in caplog.text


def test_a_head_of_its_own_wins_wherever_it_is_stored(tmp_path, caplog):
    model = tiny.bianque_2(tmp_path)
    found = load("bianque-2", tmp_path)
    torch.testing.assert_close(found.lm_head.weight, model.lm_head.weight, atol=1e-3, rtol=1e-3)
    assert "tied" not in caplog.text


@pytest.mark.parametrize("kept", ["shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_t5s_table_may_be_stored_under_any_of_its_names(kept, tied, tmp_path):
    model = tiny.bianque_1(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": tied}))
    state = {
        name: weight for name, weight in model.state_dict().items() if name not in ("shared.weight", "lm_head.weight")
    }
    state[f"{kept}.weight"] = model.shared.weight
    if not tied:
        state["lm_head.weight"] = -model.shared.weight
    (tmp_path / "pytorch_model.bin").unlink()
    save_file({name: weight.contiguous().clone() for name, weight in state.items()}, tmp_path / "model.safetensors")
    if not tied and kept == "lm_head":
        with pytest.raises(LoadFailed, match=r"missing: shared\.weight"):
            load("bianque-1", tmp_path)
        return
    found = load("bianque-1", tmp_path)
    assert torch.equal(found.shared.weight, model.shared.weight)
    assert tied or torch.equal(found.lm_head.weight, -model.shared.weight)


def test_a_checkpoint_quantised_by_others_is_refused_by_name(tmp_path):
    tiny.bianque_2(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(LoadFailed, match="'gptq'"):
        load("bianque-2", tmp_path)


@pytest.mark.parametrize(
    "name, change", [("bianque-2", {"position_encoding_2d": False}), ("disc-medllm", {"hidden_act": "gelu"})]
)
def test_a_relative_that_would_speak_wrong_words_is_refused(name, change, tmp_path):
    (tiny.bianque_2 if name == "bianque-2" else tiny.disc_medllm)(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(LoadFailed, match=next(iter(change))):
        load(name, tmp_path)


def test_bytes_that_end_early_are_damage_and_no_attack(tmp_path):
    tiny.bianque_2(tmp_path)
    whole = tmp_path / "old.bin"
    torch.save({"a": torch.zeros(300)}, whole, _use_new_zipfile_serialization=False)
    shard = sorted(tmp_path.glob("pytorch_model-*.bin"))[0]
    shutil.copyfile(whole, shard)
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(LoadFailed) as failure:
        load("bianque-2", tmp_path)
    assert "可执行" not in str(failure.value) and "damaged" in str(failure.value)

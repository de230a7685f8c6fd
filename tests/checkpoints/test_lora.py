"""LoRA: what is merged is what was trained beside the weights, and what cannot be merged exactly is refused."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from bianque.checkpoints import lora
from bianque.errors import LoadFailed
from bianque.models.chatglm import layout
from tests import tiny
from tests.checkpoints.test_loader import Payload

TITLE = "轻更 QingGeng"
CONFIG = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 6,
    "target_modules": ["q"],
    "bias": "none",
    "task_type": "CAUSAL_LM",
}
# Fields of current peft that say nothing about the sum, as it writes them.
CONFIG |= {"fan_in_fan_out": False, "megatron_core": "megatron.core", "qalora_group_size": 16, "lora_dropout": 0.1}
CONFIG |= {
    "modules_to_save": None,
    "use_dora": False,
    "layer_replication": None,
    "rank_pattern": {},
    "loftq_config": {},
}
GLM = "transformer.layers.{}.attention.query_key_value"
MODELS = {
    "t5": (tiny.t5, "decoder.block.1.layer.1.EncDecAttention.v"),
    "chatglm": (tiny.chatglm, GLM.format(1)),
    "baichuan": (tiny.baichuan, "model.layers.2.self_attn.W_pack"),
}


def drawn(*shape: int) -> torch.Tensor:
    return tiny.numbers(torch.Size(shape), sum(shape)).half()


def plain(module: str, weight: torch.Tensor, rank: int = 4, end: str = "weight") -> dict[str, torch.Tensor]:
    """The factors of one weight under peft's names."""
    begin = f"base_model.model.{module}.lora_"
    return {f"{begin}A.{end}": drawn(rank, weight.shape[1]), f"{begin}B.{end}": drawn(weight.shape[0], rank)}


def fused(module: str, hidden: int, rank: int = 8) -> dict[str, torch.Tensor]:
    """Those of MedicalGPT-zh: a convolution in two groups."""
    begin = f"base_model.model.{module}.lora_"
    return {f"{begin}A.weight": drawn(2 * rank, hidden), f"{begin}B.weight": drawn(2 * hidden, rank, 1)}


def peft(folder: Path, factors, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    save_file(factors, folder / "adapter_model.safetensors")
    return folder


def bare(folder: Path, factors) -> Path:
    torch.save(factors, folder / "lora.p")
    return folder / "lora.p"


def refused(path: Path) -> str:
    with pytest.raises(LoadFailed) as failure:
        lora.read(path, TITLE)
    text = str(failure.value)
    assert text.startswith(TITLE) and str(path.parent) not in text
    return text


# What is merged.


@pytest.mark.parametrize("form", ["safetensors", "bin", "default", "training"])
@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_and_spelling(name, form, tmp_path):
    build, module = MODELS[name]
    weight = build().state_dict()[f"{module}.weight"]
    factors = plain(module, weight, end="default.weight" if form == "default" else "weight")
    folder, scale = peft(tmp_path / "lora", factors), 6 / 4
    if form in ("bin", "training"):
        (folder / "adapter_model.safetensors").unlink()
        stored = factors if form == "bin" else {k: torch.nn.Parameter(v) for k, v in factors.items()}
        torch.save(stored, folder / "adapter_model.bin")
    adapter = lora.read(folder, TITLE)
    down, up = (factor.float() for factor in factors.values())
    merged = adapter.merged(f"{module}.weight", weight)
    torch.testing.assert_close(merged, weight + scale * up @ down, atol=1e-6, rtol=1e-6)
    assert not merged.requires_grad and (merged - weight).abs().max() > 0.1
    assert adapter.unused() == []


def test_the_merged_form_is_a_convolution_for_the_outer_thirds(tmp_path):
    """As peft merged it, with MedicalGPT-zh's strength; the middle third stays."""
    model = tiny.chatglm()
    hidden = model.config.hidden_size
    name, factors = f"{GLM.format(0)}.weight", fused(GLM.format(0), hidden)
    weight = model.state_dict()[name]
    down, up = (factor.float() for factor in factors.values())
    first, last = F.conv1d(down[None], up, groups=2)[0].chunk(2)
    expected = weight + 2 * torch.cat((first, torch.zeros(hidden, hidden), last))
    merged = lora.read(bare(tmp_path, factors), TITLE).merged(name, weight)
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(merged[hidden : 2 * hidden], weight[hidden : 2 * hidden])
    config = dict(enable_lora=[True, False, True], r=8, lora_alpha=16, fan_in_fan_out=True)
    assert torch.equal(lora.read(peft(tmp_path / "old", factors, **config), TITLE).merged(name, weight), merged)


@pytest.mark.parametrize("enabled", [[False, True, True], [True, True, True], [True, False]])
def test_other_parts_of_the_rows(enabled, tmp_path):
    count, rows = sum(enabled), 6
    factors = {"m.lora_A.weight": drawn(4 * count, 10), "m.lora_B.weight": drawn(rows * count, 4, 1)}
    adapter = lora.read(peft(tmp_path / "lora", factors, enable_lora=enabled), TITLE)
    down, up = (factor.float() for factor in factors.values())
    change, zero = iter(F.conv1d(down[None], up, groups=count)[0].chunk(count)), torch.zeros(rows, 10)
    expected = 1.5 * torch.cat([next(change) if on else zero for on in enabled])
    torch.testing.assert_close(adapter.merged("m.weight", torch.zeros_like(expected)), expected)


def test_a_merged_model_speaks_as_the_model_with_the_factors_beside_it(tmp_path):
    model, prompt = tiny.early_chatglm(), torch.tensor([[5, 6, 7, 41, 42]])
    hidden, factors = model.config.hidden_size, {}
    for i, layer in enumerate(model.transformer.layers):
        pair = fused(GLM.format(i), hidden)
        down, up = (0.4 * factor.float() for factor in pair.values())
        factors |= dict(zip(pair, (down, up), strict=True))

        def beside(module, given, out, down=down, up=up):
            change = F.conv1d(F.linear(given[0], down).transpose(1, 2), up, groups=2).transpose(1, 2)
            return out + 2 * F.pad(change.unflatten(-1, (2, hidden)), (0, 0, 0, 1))[:, :, [0, 2, 1]].flatten(-2)

        layer.attention.query_key_value.register_forward_hook(beside)
    adapter, other = lora.read(bare(tmp_path, factors), TITLE), tiny.early_chatglm()
    before = other(prompt, *layout(prompt, other.config))
    other.load_state_dict({name: adapter.merged(name, weight) for name, weight in other.state_dict().items()})
    expected, found = (m(prompt, *layout(prompt, m.config)) for m in (model, other))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert adapter.unused() == [] and (found - before).abs().max() > 0.1


@pytest.mark.parametrize(
    "changes, scale",
    [
        ({}, 6 / 4),
        ({"use_rslora": True}, 6 / 2),
        ({"alpha_pattern": {"W_pack": 10}}, 10 / 4),
        ({"alpha_pattern": {"pack": 10}}, 6 / 4),
        ({"alpha_pattern": {"model.layers.[12].self_attn.W_pack": 10, "W_pack": 3}}, 10 / 4),
        ({"r": 16, "rank_pattern": {r"layers\.\d+\.self_attn\.W_pack": 4}}, 6 / 4),
        ({"r": 16, "rank_pattern": {"W_pack": 4}, "alpha_pattern": {"W_pack": 1}, "use_rslora": True}, 1 / 2),
        ({"init_lora_weights": "gaussian"}, 6 / 4),
    ],
)
def test_the_strength_is_what_the_config_says(changes, scale, tmp_path):
    module = MODELS["baichuan"][1]
    zero = torch.zeros(12, 6)
    factors = plain(module, zero)
    adapter = lora.read(peft(tmp_path / "lora", factors, **changes), TITLE)
    down, up = (factor.float() for factor in factors.values())
    torch.testing.assert_close(adapter.merged(f"{module}.weight", zero), scale * up @ down)


def test_the_sum_is_made_in_float32_and_rounded_once(tmp_path):
    factors = plain("m", torch.zeros(64, 32))
    adapter = lora.read(peft(tmp_path / "lora", factors), TITLE)
    down, up = (factor.float() for factor in factors.values())
    for dtype in (torch.float16, torch.bfloat16):
        weight = tiny.numbers(torch.Size((64, 32)), 5).to(dtype)
        exact = weight.float() + 1.5 * up @ down
        assert adapter.merged("m.weight", weight).dtype == dtype
        torch.testing.assert_close(adapter.merged("m.weight", weight).float(), exact.to(dtype).float())
        torch.testing.assert_close(adapter.merged("m.weight", weight, torch.float32), exact)


def test_the_given_weight_stays_as_it_is(tmp_path):
    adapter = lora.read(peft(tmp_path / "lora", plain("m", torch.zeros(6, 5))), TITLE)
    weight = torch.ones(6, 5)
    adapter.merged("m.weight", weight)
    assert torch.equal(weight, torch.ones(6, 5))


def test_weights_without_a_change_come_back(tmp_path):
    adapter = lora.read(peft(tmp_path / "lora", plain("m", torch.zeros(6, 5))), TITLE)
    for weight in (torch.ones(3), torch.ones(6, 5), torch.ones(2, dtype=torch.int8)):
        assert adapter.merged("other.weight", weight) is weight
    assert adapter.merged("other.weight", torch.ones(3), torch.bfloat16).dtype == torch.bfloat16
    assert adapter.merged("m.bias", torch.ones(6)).tolist() == [1] * 6
    assert adapter.unused() == ["m.weight"]


def test_what_no_weight_met_is_named(tmp_path):
    names = [GLM.format(i) for i in range(3)]
    factors = {key: value for name in names for key, value in fused(name, 32).items()}
    adapter = lora.read(bare(tmp_path, factors), TITLE)
    adapter.merged(f"{names[1]}.weight", torch.zeros(96, 32))
    assert adapter.unused() == [f"{names[0]}.weight", f"{names[2]}.weight"]


# What is refused.


@pytest.mark.parametrize(
    "weight, told",
    [
        (torch.zeros(96, 33), "(96, 33) float32 ≠ (96, 32)"),
        (torch.zeros(64, 32), "(64, 32) float32"),
        (torch.zeros(96), "(96,) float32"),
        (torch.zeros(96, 32, dtype=torch.int8), "int8 ≠"),
    ],
)
def test_a_weight_of_another_shape_or_kind_is_refused(weight, told, tmp_path):
    adapter = lora.read(bare(tmp_path, fused("m", 32)), TITLE)
    with pytest.raises(LoadFailed) as failure:
        adapter.merged("m.weight", weight)
    assert str(failure.value).startswith(TITLE) and told in str(failure.value) and "m.weight" in str(failure.value)
    assert adapter.unused() == ["m.weight"]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"peft_type": "PREFIX_TUNING"}, "'PREFIX_TUNING'"),
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save=['lm_head']"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4'"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"use_dora": True, "bias": "all"}, "bias='all', use_dora=True"),
        ({"r": 8}, "m: rank 4 ≠ 8"),
        ({"rank_pattern": {"m": 2}}, "m: rank 4 ≠ 2"),
        ({"alpha_pattern": {"(": 2}}, ""),
        ({"alpha_pattern": [1]}, ""),
        ({"lora_alpha": "much"}, ""),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_config_that_is_no_plain_sum_is_refused_by_name(changes, told, tmp_path):
    assert told in refused(peft(tmp_path / "lora", plain("m", torch.zeros(6, 5)), **changes))


@pytest.mark.parametrize("lacking", ["peft_type", "r", "lora_alpha"])
def test_a_config_that_lacks_a_field_is_refused(lacking, tmp_path):
    folder = peft(tmp_path / "lora", plain("m", torch.zeros(6, 5)))
    rest = {name: value for name, value in CONFIG.items() if name != lacking}
    (folder / "adapter_config.json").write_text(json.dumps(rest))
    assert f"lacks '{lacking}'" in refused(folder)


PAIR = plain("m", torch.zeros(6, 5))
A, B = PAIR


@pytest.mark.parametrize(
    "factors, told",
    [
        (PAIR | {"base_model.model.lm_head.weight": torch.zeros(2)}, "lm_head.weight is no lora_A"),
        (PAIR | {"base_model.model.m.lora_magnitude_vector": torch.zeros(6)}, "lora_magnitude_vector is no"),
        (PAIR | {"base_model.model.shared.lora_embedding_A": torch.zeros(4, 6)}, "lora_embedding_A is no"),
        (PAIR | {"base_model.model.m.lora_B.bias": torch.zeros(6)}, "lora_B.bias is no"),
        (PAIR | {"base_model.model.m.lora_A.other.weight": torch.zeros(4, 5)}, "m has several lora_A"),
        ({A: PAIR[A]}, "m has a lora_A only"),
        ({B: PAIR[B]}, "m has a lora_B only"),
        ({}, "empty"),
        (PAIR | {A: torch.zeros(3, 5)}, "lora_A (3, 5), lora_B (6, 4)"),
        (PAIR | {A: torch.zeros(5)}, "lora_A (5,)"),
        (PAIR | {B: torch.tensor(1.0)}, "lora_B ()"),
        (PAIR | {A: torch.zeros(8, 5), B: torch.zeros(6, 4, 1)}, "enable_lora=[]"),
        ({A: torch.zeros(0, 5), B: torch.zeros(6, 0)}, "lora_A (0, 5)"),
    ],
    ids=range(13),
)
def test_a_table_that_holds_more_or_less_than_pairs_is_refused_by_name(factors, told, tmp_path):
    assert told in refused(peft(tmp_path / "lora", factors))


def test_a_bare_file_of_another_rank_is_refused_for_its_strength_is_unknown(tmp_path):
    assert "rank 4 ≠ 8; name a folder whose adapter_config.json" in refused(bare(tmp_path, fused("m", 6, rank=4)))


@pytest.mark.parametrize("rank", [4, 8])
@pytest.mark.parametrize("name, merged", [("lora.p", False), ("adapter_model.bin", False), ("chatglm-lora.pt", True)])
def test_a_file_that_does_not_say_its_strength_is_refused_with_what_to_write(name, merged, rank, tmp_path):
    """Other trainers of that time took 32 or 64 over the same rank: half or a quarter of it would be merged in silence."""
    path = bare(tmp_path, fused("m", 6, rank) if merged else plain("m", torch.zeros(6, 5), rank)).rename(
        tmp_path / name
    )
    text = refused(path)
    assert "lora_alpha" in text and f'"r": {rank}' in text
    if not merged:
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 32}  # what the message asks for is enough
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        down, up = (factor.float() for factor in plain("m", torch.zeros(6, 5), rank).values())
        merged_weight = lora.read(path, TITLE).merged("m.weight", torch.zeros(6, 5))
        torch.testing.assert_close(merged_weight, 32 / rank * up @ down)


def test_a_merged_form_of_other_groups_is_refused(tmp_path):
    """Old peft convolved in two groups whatever it changed; for three parts that is another product."""
    factors = {A: torch.zeros(12, 5), B: torch.zeros(18, 6, 1)}
    assert "enable_lora=[True, True, True]" in refused(peft(tmp_path / "lora", factors, enable_lora=[True] * 3))


def test_a_file_goes_by_the_config_beside_it(tmp_path):
    """`adapter_model.safetensors` named instead of its folder is not taken for MedicalGPT-zh's."""
    factors = plain("m", torch.zeros(6, 5), rank=8)
    file = peft(tmp_path / "lora", factors, r=8, lora_alpha=1) / "adapter_model.safetensors"
    down, up = (factor.float() for factor in factors.values())
    torch.testing.assert_close(lora.read(file, TITLE).merged("m.weight", torch.zeros(6, 5)), up @ down / 8)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "bare pickle"])
def test_a_file_that_would_run_code_is_refused_unrun(archive, tmp_path):
    content = plain("m", torch.zeros(6, 5), rank=8) | {"payload": Payload(tmp_path / "proof")}
    path = bare(tmp_path, content)
    if not archive:
        path.write_bytes(pickle.dumps(content))
    assert "lora.p 含有可执行内容" in refused(path)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 3}, torch.zeros(2)], ids=["list", "number", "tensor"])
def test_what_is_no_table_of_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "lora.p")
    assert "table" in refused(tmp_path / "lora.p")


def test_files_that_are_missing_or_damaged_are_told(tmp_path):
    folder = peft(tmp_path / "lora", PAIR)
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(folder)
    file.unlink()
    assert "adapter_model.safetensors and no adapter_model.bin" in refused(folder)
    (folder / "adapter_config.json").write_text("<html>")
    refused(folder)
    (folder / "adapter_config.json").unlink()
    assert "adapter_config.json" in refused(folder)
    assert "nowhere" in refused(tmp_path / "nowhere")
    path = bare(tmp_path, PAIR)
    path.write_bytes(path.read_bytes()[:100])
    refused(path)


def test_the_strength_of_medicalgpt_is_sixteen_over_eight():
    assert lora.MEDICALGPT.scaling("m", 8) == 2 and math.isclose(lora.MEDICALGPT.alpha, 16)

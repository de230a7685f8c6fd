"""Quantised layers: published ones load exactly, others lose little, and nothing else of a model changes."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bianque.errors import LoadFailed
from bianque.models.baichuan import Baichuan
from bianque.models.chatglm import ChatGLM
from bianque.models.t5 import T5
from bianque.nn import kernels, packed, quant
from bianque.nn.form import Form
from tests import tiny

FLOAT, BF16, HALF = torch.float32, torch.bfloat16, torch.float16


def emptied(model: nn.Module, bits: int, *, published: bool = False) -> nn.Module:
    """A model of the same config, without weights, and with quantised layers."""
    with torch.device("meta"):
        empty = type(model)(model.config)
    quant.replace_linears(empty, bits, published=published)
    return empty


def filled(empty: nn.Module, tensors, dtype: torch.dtype = FLOAT) -> nn.Module:
    """The way of `loader.load`: each stored tensor arrives, all are assigned, the layers settle."""
    layers, wanted, found = quant.linears(empty), dict(empty.named_parameters()), {}
    for stored, tensor in tensors.items():
        for name, part in quant.convert_tensor(layers, stored, tensor, "cpu", dtype).items():
            if name in wanted:
                assert part.shape == wanted[name].shape, name
                found[name] = part
    empty.load_state_dict(found, assign=True)
    quant.prepack_quantised(empty, dtype)
    return empty.eval().requires_grad_(False)


def quantised(model: nn.Module, bits: int, dtype: torch.dtype = FLOAT) -> nn.Module:
    return filled(emptied(model, bits), model.state_dict(), dtype)


def reply(model: ChatGLM, steps: int = 6) -> torch.Tensor:
    """Logits [1 + steps, vocab] behind a prompt, the tokens given."""
    config = model.config
    prompt = [5, 6, 7, 8, config.gmask_token_id, config.bos_token_id]
    return tiny.replies(model, [prompt], [list(range(12, 12 + steps))])[0].float()


def loss(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far logits are off, as a part of how much they vary."""
    return float((found - expected).norm() / (expected - expected.mean(dim=-1, keepdim=True)).norm())


# The published format.


@pytest.mark.slow
@pytest.mark.parametrize("bits, name", [(8, "plain-int8"), (4, "plain-int4-row")])
def test_a_published_checkpoint_loads_exactly(bits, name):
    """The same logits as a model whose weights are the stored numbers times their scales."""
    model = tiny.chatglm()
    tensors = tiny.stored_quantised(model, bits)
    loaded = filled(emptied(model, bits, published=True), tensors)
    assert quant.kernel_of(loaded) == name
    for key, layer in quant.linears(loaded).items():
        assert torch.equal(layer.weight, tensors[f"{key}.weight"])
        assert torch.equal(layer.weight_scale, tensors[f"{key}.weight_scale"])
        whole = layer.weight if bits == 8 else kernels.unpacked(layer.weight)
        linear = model.get_submodule(key)
        linear.weight.copy_(whole * layer.weight_scale.float()[:, None])
        # What was stored is the original within half a step.
        assert (linear.weight - tiny.chatglm().get_submodule(key).weight).abs().max() <= layer.weight_scale.max() * 0.51
    torch.testing.assert_close(reply(loaded), reply(model), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_a_published_checkpoint_runs_on_the_cpus_kernels(bits):
    model = tiny.chatglm(hidden_size=64, inner_hidden_size=128)
    tensors = tiny.stored_quantised(model, bits)
    exact = filled(emptied(model, bits, published=True), tensors)
    fast = filled(emptied(model, bits, published=True), tensors, BF16)
    assert re.sub("-vnni|-avx2", "", quant.kernel_of(fast)) == {8: "cpu-int8", 4: "cpu-int4-row"}[bits]
    assert loss(reply(fast), reply(exact)) < 0.02


@given(st.integers(1, 5), st.integers(1, 9), st.randoms())
def test_packing_and_unpacking_give_the_numbers_back(rows, bytes_, random):
    shown = torch.tensor([[random.randint(-8, 7) for _ in range(2 * bytes_)] for _ in range(rows)], dtype=torch.int8)
    # Numbers whose largest is −8 with a scale of 1 are quantised to themselves.
    shown[:, 0] = -8
    made = quant.quantise(shown.float(), 4, 2 * bytes_)
    assert torch.equal(made["weight_scale"], torch.ones(rows, 1, dtype=HALF))
    assert torch.equal(kernels.unpacked(made["weight"]), shown)


def test_the_even_column_is_in_the_high_half():
    made = quant.quantise(torch.tensor([[-8.0, 3.0, 5.0, -1.0]]), 4, 4)
    assert [byte % 256 for byte in made["weight"][0].tolist()] == [0x83, 0x5F]


# Quantising.


@pytest.mark.slow
@given(
    st.sampled_from([(8, None), (4, 32), (4, 64), (4, 128)]), st.integers(1, 200), st.integers(-6, 6), st.integers(0, 9)
)
def test_no_weight_is_off_by_more_than_half_a_step_unless_it_was_cut_off(format_, rows, power, phase):
    bits, group = format_
    weight = tiny.numbers(torch.Size((rows, 256)), phase) * 2.0**power
    made = quant.quantise(weight, bits, group)
    form = Form(rows, 256, bits, group)
    assert made["weight"].dtype == torch.int8 and made["weight"].shape == (rows, 256 * bits // 8)
    assert made["weight_scale"].dtype == HALF
    assert made["weight_scale"].shape == ((rows, 256 // group) if group else (rows,))
    whole = kernels.plain(torch.eye(256), made["weight"], made["weight_scale"], form).T
    step = made["weight_scale"].float().abs().view(rows, -1).repeat_interleave(group or 256, dim=1)
    # The largest are ten steps where the least scale was taken: two beyond −8, and three beyond +7.
    inside = (weight / torch.where(step == 0, 1, step)).abs() <= (127 if bits == 8 else 7)
    assert ((whole - weight).abs()[inside] <= step[inside] * 0.501).all()
    assert ((whole - weight).abs() <= step * (0.6 if bits == 8 else 3.01)).all()


def test_a_group_takes_the_scale_of_the_least_error():
    """Each scale by itself, group by group; every one of them is taken somewhere."""
    torch.manual_seed(0)
    x = torch.randn(64, 8, 64)
    largest = x.gather(2, x.abs().argmax(2, keepdim=True))
    error = lambda numbers, scale: (numbers * scale.float() - x).square().sum(2)
    by_share = torch.stack([error(*quant.nearest(x, largest / -8 * share, 8, 7)) for share in (1.0, *quant.SHARES)])
    numbers, scale = quant.quantised_rows(x.flatten(1), 4, 64)
    torch.testing.assert_close(error(numbers.unflatten(1, (-1, 64)), scale[:, :, None]), by_share.amin(0))
    assert by_share.argmin(0).unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("bits, group, most", [(8, None, 0.0078), (4, 128, 0.0995), (4, 32, 0.0855)])
def test_normal_weights_keep_their_shape(bits, group, most):
    """The loss of the format itself, relative to the weights, for normally distributed ones."""
    torch.manual_seed(0)
    weight = torch.randn(256, 512)
    made = quant.quantise(weight, bits, group)
    whole = kernels.plain(torch.eye(512), made["weight"], made["weight_scale"], Form(256, 512, bits, group)).T
    assert 0.9 * most < float((whole - weight).norm() / weight.norm()) < most


@pytest.mark.parametrize("bits, group", [(8, None), (4, 32)])
def test_zeros_and_what_no_scale_can_hold_stay_harmless(bits, group):
    weight = torch.zeros(3, 64)
    weight[1] = 1e-12
    weight[2, 40] = -2.0
    made = quant.quantise(weight, bits, group)
    whole = kernels.plain(torch.eye(64), made["weight"], made["weight_scale"], Form(3, 64, bits, group)).T
    assert not made["weight"][:2].any() and not whole[:2].any()
    torch.testing.assert_close(whole[2], weight[2], atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [HALF, BF16, FLOAT])
def test_every_floating_type_is_quantised(dtype):
    weight = tiny.numbers(torch.Size((8, 64)), 1).to(dtype)
    expected = quant.quantise(weight.float(), 4, 32)
    assert all(torch.equal(made, expected[key]) for key, made in quant.quantise(weight, 4, 32).items())


@pytest.mark.parametrize(
    "width, group", [(4096, 128), (2816, 128), (13696, 128), (704, 64), (96, 32), (48, None), (33, None)]
)
def test_groups_divide_the_width(width, group):
    assert quant.group_of(width) == group


# Models.

GLM_LAYERS = {"attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"}


def test_chatglms_layers_and_head_are_swapped_and_nothing_else():
    model = emptied(tiny.chatglm(hidden_size=64, inner_hidden_size=128), 4)
    names = {f"transformer.layers.{i}.{name}" for i in range(3) for name in GLM_LAYERS}
    assert quant.linears(model).keys() == names | {"lm_head"}
    assert model.lm_head.form == Form(model.config.vocab_size, 64, 8)
    layer = model.get_submodule("transformer.layers.1.mlp.dense_h_to_4h")
    assert layer.form == Form(128, 64, 4, 64)
    assert all(p.is_meta for p in model.parameters())
    assert (layer.weight.dtype, tuple(layer.weight.shape)) == (torch.int8, (128, 32))
    assert (layer.weight_scale.dtype, tuple(layer.weight_scale.shape)) == (HALF, (128, 1))
    assert layer.bias.shape == (128,)


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_published_quantised_keeps_its_head(bits):
    model = emptied(tiny.chatglm(hidden_size=64, inner_hidden_size=128), bits, published=True)
    assert isinstance(model.lm_head, nn.Linear)
    assert {layer.form.bits for layer in quant.linears(model).values()} == {bits}


def test_t5s_layers_are_swapped_in_both_stacks():
    model = emptied(tiny.t5(), 8)
    parts = {"encoder": ("SelfAttention",) * 2, "decoder": ("SelfAttention", "EncDecAttention") * 3}
    attention = sum(4 * len(names) for names in parts.values())
    found = quant.linears(model)
    assert len(found) == attention + 3 * 5 + 1
    assert {name.rpartition(".")[2] for name in found} == {"q", "k", "v", "o", "wi_0", "wi_1", "wo", "lm_head"}
    assert isinstance(model.shared, nn.Embedding)
    assert all(layer.bias is None and layer.weight_scale.ndim == 1 for layer in found.values())


def test_baichuans_layers_are_swapped():
    found = quant.linears(emptied(tiny.baichuan(), 8))
    assert len(found) == 3 * 5 + 1
    layers = {"W_pack", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rpartition(".")[2] for name in found} == layers | {"lm_head"}


@pytest.mark.parametrize("model", [ChatGLM, T5, Baichuan])
def test_a_name_is_matched_whole(model):
    assert not re.fullmatch(model.quantised, "lm_head")
    assert not re.fullmatch(model.quantised, "")


def test_only_what_is_named_is_swapped():
    model = nn.ModuleDict({name: nn.Linear(32, 4) for name in ("a", "ab", "ba")})
    model.quantised = "a"
    quant.replace_linears(model, 8)
    assert quant.linears(model).keys() == {"a"}


def test_sixteen_bits_swap_nothing():
    assert quant.linears(emptied(tiny.t5(), 16)) == {}


def test_a_width_that_no_group_divides_keeps_its_bits():
    """48 columns: no group of 32; 8 bits take every width."""
    model = tiny.chatglm()
    four = quant.linears(emptied(model, 4))
    assert {name.rpartition(".")[2] for name in four} == {"query_key_value", "dense", "dense_h_to_4h", "lm_head"}
    assert len(quant.linears(emptied(model, 8))) == 4 * model.config.num_layers + 1
    assert loss(reply(quantised(model, 4)), reply(model)) < 0.3


def test_an_odd_width_cannot_be_two_in_a_byte():
    model = nn.Sequential(nn.Linear(33, 4))
    model.quantised = "0"
    with pytest.raises(ValueError, match="33 wide"):
        quant.replace_linears(model, 4, published=True)
    quant.replace_linears(model, 4)
    assert isinstance(model[0], nn.Linear)
    quant.replace_linears(model, 8)
    assert model[0].form == Form(4, 33, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, bits, most",
    [
        (tiny.chatglm(), 8, 0.02),
        (tiny.chatglm(hidden_size=64, inner_hidden_size=128), 8, 0.02),
        (tiny.chatglm(hidden_size=64, inner_hidden_size=128), 4, 0.3),
    ],
)
def test_chatglm_loses_little(model, bits, most):
    expected = reply(model)
    exact, fast = reply(quantised(model, bits)), reply(quantised(model, bits, BF16))
    assert 0 < loss(exact, expected) < most
    assert loss(fast, exact) < 0.03


@pytest.mark.parametrize("dtype, most", [(FLOAT, 0.02), (BF16, 0.04)])
def test_t5_loses_little(dtype, most):
    model = tiny.t5(d_model=32, d_kv=16, d_ff=48)
    source, target = torch.tensor([[5, 6, 7, 8, 9, 1]]), torch.tensor([[0, 12, 13, 14]])
    expected, packed = model(source, target), quantised(model, 8, dtype)
    most *= 2 if "avx2" in quant.kernel_of(packed) else 1  # rows of 7 bits
    assert 0 < loss(packed(source, target).float(), expected) < most


def test_baichuan_loses_little():
    model = tiny.baichuan()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert 0 < loss(quantised(model, 8)(ids)[0], model(ids)[0]) < 0.02


@pytest.mark.parametrize("bits", [8, 4])
def test_a_batch_equals_single_prompts(bits):
    """Rows never meet, whatever number of them decides about the kernel's way."""
    model = quantised(tiny.chatglm(hidden_size=64, inner_hidden_size=128), bits, BF16)
    layer = model.get_submodule("transformer.layers.0.mlp.dense_h_to_4h")
    x = tiny.numbers(torch.Size((70, 2, 64)), 4).bfloat16()
    together = layer(x).float()
    for place in ((0, 0), (35, 1), (69, 0)):
        alone = layer(x[place])
        assert alone.shape == (128,)
        torch.testing.assert_close(together[place], alone.float(), atol=0.03, rtol=0.02)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_layer_takes_any_rows_and_adds_its_bias(bits):
    form = Form(96, 64, bits, 64 if bits == 4 else None)
    layer = quant.QuantLinear(form, bias=True)
    made = quant.quantise(tiny.numbers(torch.Size((96, 64)), 2), bits, form.group)
    layer.load_state_dict({**made, "bias": tiny.numbers(torch.Size((96,)), 3)}, assign=True)
    x = tiny.numbers(torch.Size((4, 64, 5)), 4).transpose(1, 2)  # not contiguous
    whole = kernels.plain(torch.eye(64), layer.weight, layer.weight_scale, form).T
    expected = x @ whole.T + layer.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    layer.bias = nn.Parameter(layer.bias.bfloat16(), requires_grad=False)
    layer.kernel = kernels.choose(kernels.machine_of(torch.device("cpu"), BF16), layer.form)
    layer.pack()
    found = layer(x.bfloat16())
    assert found.dtype == BF16 and found.shape == (4, 5, 96)
    torch.testing.assert_close(found.float(), expected, atol=0.06, rtol=0.02)
    part = torch.cat((x, x), dim=2).bfloat16()[..., :64]  # rows that do not lie one after another
    torch.testing.assert_close(layer(part), found, atol=0, rtol=0)


def test_few_rows_and_many_go_their_ways():
    layer, seen = quant.QuantLinear(Form(8, 4, 8), bias=False), []
    way = lambda name: lambda x, weight, scale, form: seen.append((name, len(x))) or x.new_zeros(len(x), form.out)
    layer.kernel = kernels.Kernel("two", lambda m, f: True, kernels.kept, way("few"), way("many"), rows=4)
    for shape in ((4,), (4, 4), (5, 4), (2, 3, 4)):
        assert layer(torch.zeros(shape)).shape == (*shape[:-1], 8)
    assert seen == [("few", 1), ("few", 4), ("many", 5), ("many", 6)]


# Loading.


def test_what_a_stored_tensor_becomes():
    layers = quant.linears(emptied(tiny.chatglm(hidden_size=64, inner_hidden_size=128), 4))
    name = "transformer.layers.0.attention.dense"
    arrive = lambda part, tensor: quant.convert_tensor(layers, f"{name}.{part}", tensor, "cpu", BF16)

    made = arrive("weight", torch.ones(64, 64, dtype=HALF))
    assert {key: (value.dtype, tuple(value.shape)) for key, value in made.items()} == {
        f"{name}.weight": (torch.int8, (64, 32)),
        f"{name}.weight_scale": (HALF, (64, 1)),
    }
    numbers = torch.ones(64, 32, dtype=torch.int8)
    kept = arrive("weight", numbers)[f"{name}.weight"]
    assert torch.equal(kept, numbers) and kept.data_ptr() != numbers.data_ptr()
    assert arrive("weight_scale", torch.ones(64, 1))[f"{name}.weight_scale"].dtype == HALF
    assert arrive("bias", torch.ones(64))[f"{name}.bias"].dtype == BF16
    name = "transformer.word_embeddings"
    assert quant.convert_tensor(layers, f"{name}.weight", torch.ones(2, 2), "cpu", BF16)[f"{name}.weight"].dtype == BF16


def test_a_misshapen_weight_arrives_as_it_is():
    """So that loading can name both shapes."""
    layers = quant.linears(emptied(tiny.chatglm(), 8))
    name = "transformer.layers.0.attention.dense.weight"
    assert quant.convert_tensor(layers, name, torch.ones(3, 5), "cpu", FLOAT)[name].shape == (3, 5)


@pytest.mark.parametrize("bits", [8, 4])
def test_settling_leaves_no_second_copy(bits):
    model = quantised(tiny.chatglm(hidden_size=64, inner_hidden_size=128), bits, BF16)
    for layer in quant.linears(model).values():
        tensors = [*layer.parameters(), *layer.buffers()]
        assert [name for name, value in vars(layer).items() if isinstance(value, torch.Tensor)] == []
        held = isinstance(layer.weight, torch.Tensor)  # else it is what a kernel made of it, and the only one
        assert len(tensors) == 1 + held + (layer.bias is not None)
        if held:
            size = layer.weight.numel() * layer.weight.element_size()
            assert size == layer.form.out * layer.form.width * layer.form.bits // 8


def test_numbers_that_are_not_int8_are_refused_by_name():
    model = emptied(tiny.chatglm(), 8)
    tensors = tiny.stored_quantised(tiny.chatglm(), 8)
    name = "transformer.layers.1.attention.dense.weight"
    with pytest.raises(LoadFailed, match=re.escape(f"{name}: int32")):
        filled(model, tensors | {name: tensors[name].int()})


@pytest.mark.parametrize(
    "bits, name", [(16, "float32"), (8, "plain-int8"), (4, "plain-int4-g32+plain-int4-g64+plain-int8")]
)
def test_a_model_names_its_kernels(bits, name):
    assert quant.kernel_of(quantised(tiny.chatglm(hidden_size=64, inner_hidden_size=96), bits)) == name


@pytest.mark.parametrize(
    "config, bits",
    [
        ({}, 16),
        ({"quantization_bit": 0}, 16),
        ({"quantization_bit": None}, 16),
        ({"quantization_bit": 8}, 8),
        ({"quantization_bit": 4, "quantization_embeddings": False}, 4),
        ({"quantization_embeddings": True}, 16),
    ],
)
def test_how_many_bits_a_checkpoint_has(config, bits):
    assert quant.bits_of(config) == bits


@pytest.mark.parametrize("bits", [2, 3, "8", True, -4])
def test_other_bits_are_refused(bits):
    with pytest.raises(LoadFailed, match=re.escape(f"quantization_bit={bits!r}")):
        quant.bits_of({"quantization_bit": bits})


def test_quantised_embeddings_are_refused_by_name():
    with pytest.raises(LoadFailed, match="quantization_embeddings=true"):
        quant.bits_of({"quantization_bit": 4, "quantization_embeddings": True})


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [FLOAT, BF16])
def test_layers_that_read_the_same_become_one(bits, dtype, monkeypatch):
    """Side by side they make what each made alone: q, k and v, gate and up."""
    made = tiny.t5(d_model=64, d_kv=16, num_heads=4, d_ff=64)
    joined = quantised(made, bits, dtype)
    monkeypatch.setattr(quant, "fuse", lambda module: None)
    apart = quantised(made, bits, dtype)
    own, other = (model.encoder.block[0].layer[0].SelfAttention for model in (joined, apart))
    assert own.fused.form.out == 3 * other.q.form.out and not hasattr(own, "q")
    assert len(quant.linears(joined)) < len(quant.linears(apart))
    for rows in (1, 90):
        x = tiny.numbers(torch.Size((1, rows, 64)), 5).to(dtype)
        torch.testing.assert_close(own.project(x), other.project(x), atol=0, rtol=0)


def test_only_layers_of_one_kind_become_one():
    """A published checkpoint may leave one of them at 16 bits."""
    empty = emptied(tiny.t5(d_model=64, d_kv=16, num_heads=4, d_ff=64), 8)
    attention = empty.encoder.block[0].layer[0].SelfAttention
    attention.k = nn.Linear(64, 64, bias=False)
    quant.fuse(attention)
    assert attention.fused is None and isinstance(attention.q, quant.QuantLinear)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, 90])
def test_a_layer_adds_onto_what_it_is_given(bits, rows):
    model = filled(
        emptied(tiny.chatglm(hidden_size=64, inner_hidden_size=64), bits),
        tiny.chatglm(hidden_size=64, inner_hidden_size=64).state_dict(),
    )
    layer = model.transformer.layers[0].attention.dense
    x, below = (tiny.numbers(torch.Size((1, rows, 64)), seed) for seed in (3, 4))
    given = below.clone()
    torch.testing.assert_close(layer(x, below), layer(x) + below)
    assert torch.equal(below, given)


def test_what_a_kernel_made_of_weights_goes_with_the_model():
    model = quantised(tiny.chatglm(), 8, BF16)
    packed.release(model)
    assert not any(isinstance(layer.weight, torch.ScriptObject) for layer in quant.linears(model).values())


def test_half_precision_becomes_bfloat16_as_torch_has_it():
    x = torch.cat(
        (torch.randn(130, 7), torch.tensor([[0.0, -0.0, 6e-8, 65504, torch.inf, -torch.inf, 1 + 2**-9]]))
    ).half()
    assert torch.equal(quant.cast_to(x, "cpu", torch.bfloat16), x.bfloat16())


@pytest.mark.parametrize("bias", [False, True])
def test_a_tall_layer_is_packed_in_parts_and_says_the_same(bias, monkeypatch):
    """FBGEMM takes four times as long a weight to pack a head of 130,000 rows at once."""
    form, x = quant.Form(176, 64, 8), torch.randn(3, 64).bfloat16()
    made = quant.quantise(torch.randn(176, 64), 8)
    said = []
    for tall in (1000, 64):
        monkeypatch.setattr(quant, "TALL", tall)
        model = torch.nn.Module()
        model.head = quant.QuantLinear(form, bias)
        model.head.weight, model.head.weight_scale = (
            torch.nn.Parameter(made[part], requires_grad=False) for part in ("weight", "weight_scale")
        )
        if bias:
            model.head.bias = torch.nn.Parameter(torch.arange(176).bfloat16(), requires_grad=False)
        quant.prepack_quantised(model, torch.bfloat16)
        said.append(model.head(x, torch.ones(3, 176).bfloat16()))
        assert not re.search("vnni|avx2", quant.kernel_of(model)) or len(quant.linears(model)) == (
            1 if tall == 1000 else 3
        )
    assert torch.equal(*said)

"""Packed layers multiply as the plain ones do, and let their memory go."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn

from bianque.errors import BadInput
from bianque.nn import packed, quant
from bianque.nn.layers import FEW, Linear, RMSNorm, fusible
from bianque.nn.packed import PackedLinear
from tests import tiny

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
BF16 = pytest.mark.skipif(not packed.packable(torch.bfloat16), reason="this processor has no AVX-512 for bfloat16")
PACKABLE = pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=BF16)])
ALL = dict.fromkeys((torch.float32, torch.bfloat16), 0)
MODELS = {"t5": tiny.t5, "chatglm": tiny.chatglm, "baichuan": tiny.baichuan}


@PACKABLE
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (300, 48), (2, 1, 48), (3, 5, 48)])
def test_a_packed_layer_is_the_plain_one(dtype, bias, shape):
    linear = tiny.fill(nn.Linear(48, 80, bias=bias)).to(dtype)
    x = tiny.numbers(torch.Size(shape), 3).to(dtype)
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(PackedLinear(linear.weight, linear.bias)(x), linear(x), **close)


@PACKABLE
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7])
def test_what_a_layer_makes_goes_onto_what_it_is_given(dtype, bias, rows):
    linear = tiny.fill(Linear(48, 80, bias=bias)).to(dtype)
    x, below = (tiny.numbers(torch.Size((rows, 1, width)), 3).to(dtype) for width in (48, 80))
    given = below.clone()
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    for layer in (linear, PackedLinear(linear.weight, linear.bias)):
        torch.testing.assert_close(
            layer(x, below), below + nn.functional.linear(x, linear.weight, linear.bias), **close
        )
    assert torch.equal(below, given)


@TYPES
@pytest.mark.parametrize("rows", [1, FEW, FEW + 1])
def test_a_norm_of_layers_is_a_root_mean_square(dtype, rows):
    """A large mean, and rows so small that the epsilon counts."""
    norm = tiny.fill(RMSNorm(64, 1e-3)).to(dtype)
    x = (tiny.numbers(torch.Size((rows, 1, 64)), 3) + 5).to(dtype)
    x[0] *= 0.005
    plain = norm(x)
    packed.prepack_linears(nn.Sequential(norm))
    assert norm.twice is not None
    by_hand = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight.double()
    close = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(norm(x).double(), by_hand, atol=close, rtol=close)
    torch.testing.assert_close(norm(x), plain, atol=close, rtol=close)


def test_rows_need_not_lie_side_by_side():
    linear = tiny.fill(nn.Linear(48, 80))
    x = tiny.numbers(torch.Size((4, 3, 48)), 3).transpose(0, 1)[:, 1:]
    torch.testing.assert_close(PackedLinear(linear.weight, linear.bias)(x), linear(x), atol=1e-5, rtol=1e-5)


def test_a_layer_is_let_go_as_soon_as_it_is_packed(monkeypatch):
    """Else a model takes twice its memory while it is packed."""
    model, alive = tiny.t5(), []
    joined = len(fusible(model))
    plain = [weakref.ref(layer) for layer in model.modules() if isinstance(layer, nn.Linear)]

    class Counting(PackedLinear):
        def __init__(self, weight, bias):
            super().__init__(weight, bias)
            alive.append(sum(layer() is not None for layer in plain))

    monkeypatch.setattr(packed, "PackedLinear", Counting)
    packed.prepack_linears(model, ALL)
    single = sum(isinstance(layer, Counting) for layer in model.modules()) - joined
    assert single > 9 and alive[0] == single and alive[-1] == 1


@pytest.mark.parametrize("bits", [16, 8])
def test_layers_are_let_go_as_soon_as_they_are_joined(bits, monkeypatch):
    """Else those that read the same are in memory twice."""
    room, model = (packed, tiny.t5()) if bits == 16 else (quant, tiny.t5(d_model=32, d_kv=16, d_ff=48))
    join, left, count = room.fuse, [], len(fusible(model))

    def joining(module):
        readers = [weakref.ref(module.get_submodule(name)) for name in module.readers]
        join(module)
        left.append([reader() for reader in readers])

    monkeypatch.setattr(room, "fuse", joining)
    if bits == 16:
        packed.prepack_linears(model, ALL)
    else:
        quant.replace_linears(model, 8)
        for layer in quant.linears(model).values():
            layer.load_state_dict(quant.quantise(torch.ones(layer.form.out, layer.form.width), 8), assign=True)
        quant.prepack_quantised(model, torch.float32)
    assert len(left) == count > 3 and not any(any(readers) for readers in left)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_the_same(name):
    model = MODELS[name]()
    fast = copy.deepcopy(model)
    packed.prepack_linears(fast, ALL)
    assert not any(type(module) is nn.Linear for module in fast.modules())
    prompt = {"t5": [5, 6, 7, 1], "chatglm": [5, 6, 41, 42], "baichuan": [45, 5, 6, 46]}[name]
    given = [prompt], [[12, 13, 14]]
    torch.testing.assert_close(tiny.replies(fast, *given), tiny.replies(model, *given), atol=2e-5, rtol=1e-4)


def test_what_onednn_does_not_multiply_stays():
    model = nn.Sequential(nn.Linear(8, 8).half(), nn.Linear(8, 8, device="meta"), nn.Linear(8, 8))
    packed.prepack_linears(model, ALL)
    assert [type(layer) for layer in model] == [nn.Linear, nn.Linear, PackedLinear]


def test_the_plain_weights_go_when_packed_and_the_packed_ones_when_released():
    model = nn.Sequential(nn.Linear(8, 8))
    plain = weakref.ref(model[0].weight)
    packed.prepack_linears(model, ALL)
    assert plain() is None
    held = weakref.ref(model[0].weight)
    packed.release(model)
    assert held() is None


def test_small_matrices_stay_plain():
    model = nn.Sequential(nn.Linear(1024, 2048), nn.Linear(1024, 2047), nn.Linear(512, 512).bfloat16())
    model.append(nn.Linear(512, 511).bfloat16())
    packed.prepack_linears(model)
    half = PackedLinear if packed.packable(torch.bfloat16) else nn.Linear
    assert [type(layer) for layer in model] == [PackedLinear, nn.Linear, half, nn.Linear]


def test_packed_weights_refuse_a_gradient():
    """oneDNN's product would come back without one, and training would go nowhere in silence."""
    layer, x = PackedLinear(torch.zeros(8, 4), None), torch.zeros(2, 4, requires_grad=True)
    with pytest.raises(BadInput, match="no gradient"):
        layer(x)
    with torch.no_grad():
        assert layer(x).shape == (2, 8)

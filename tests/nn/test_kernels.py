"""Kernels: each multiplies as plain torch does, whatever the shape; which one is taken is a table."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bianque.errors import BadInput
from bianque.nn import blocks, kernels, quant
from bianque.nn.form import Form, Machine
from bianque.nn.kernels import KERNELS
from tests.tiny import numbers

BF16, HALF, FLOAT = torch.bfloat16, torch.float16, torch.float32
CPU = torch.device("cpu")
PLAIN = KERNELS[-1]
# What models are made of, small: square, tall, flat, less than a block, and no multiple of a block.
FORMS = (
    Form(96, 64, 8), Form(32, 256, 8), Form(33, 48, 8), Form(128, 16, 8), Form(5, 32, 8),
    Form(96, 64, 4, 64), Form(128, 256, 4, 128), Form(64, 96, 4, 32), Form(16, 128, 4, 32), Form(192, 64, 4, 32),
    Form(64, 64, 4), Form(80, 256, 4), Form(128, 96, 4),
)  # fmt: skip
ROWS = (1, 3, 4, 5, 31, 33, 64, 65, 130)


def layer(form: Form) -> tuple[torch.Tensor, torch.Tensor]:
    made = quant.quantise(numbers(torch.Size((form.out, form.width)), form.width), form.bits, form.group)
    return made["weight"], made["weight_scale"]


def matrix(weight: torch.Tensor, scale: torch.Tensor, form: Form) -> torch.Tensor:
    """The matrix that the two stand for, written out in float64."""
    whole = weight.double()
    if form.bits == 4:
        bytes_ = weight.long() % 256
        nibbles = torch.stack((bytes_ // 16, bytes_ % 16), dim=-1).flatten(1)
        whole = (nibbles - 16 * (nibbles > 7)).double()
    return whole * scale.double().view(form.out, -1).repeat_interleave(
        form.width // scale.view(form.out, -1).shape[1], 1
    )


def rows(count: int, form: Form, dtype: torch.dtype) -> torch.Tensor:
    return (numbers(torch.Size((count, form.width)), 5) * 3).to(dtype)


def close(found: torch.Tensor, expected: torch.Tensor, part: float) -> None:
    torch.testing.assert_close(found.double(), expected, atol=part * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("count", ROWS)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_plain_torch_is_exact(form, count):
    weight, scale = layer(form)
    x = rows(count, form, FLOAT)
    close(kernels.plain(x, weight, scale, form), x.double() @ matrix(weight, scale, form).T, 1e-6)


@pytest.mark.parametrize("dtype", [BF16, HALF])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_plain_torch_runs_in_16_bits(form, dtype):
    weight, scale = layer(form)
    x = rows(7, form, dtype)
    found = kernels.plain(x, weight, scale, form)
    assert found.dtype == dtype
    close(found, x.double() @ matrix(weight, scale, form).T, 0.01)


def test_a_matrix_goes_in_parts_and_comes_out_whole(monkeypatch):
    monkeypatch.setattr(kernels, "at_once", lambda x, form: 64)
    for form in (Form(200, 64, 8), Form(200, 64, 4, 32), Form(200, 64, 4)):
        weight, scale = layer(form)
        x = rows(3, form, FLOAT)
        close(kernels.plain(x, weight, scale, form), x.double() @ matrix(weight, scale, form).T, 1e-6)


def test_what_is_dequantised_at_a_time_stays_small():
    assert kernels.at_once(torch.zeros(1, 1), Form(16384, 4096, 8)) * 4096 <= 1 << 22
    assert kernels.at_once(torch.zeros(1, 1), Form(64, 1 << 23, 8)) == 64


@pytest.mark.parametrize("count", ROWS)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_this_machines_kernels_agree_with_plain_torch(form, count):
    """Whichever of the CPU's kernels fit, both their ways: within what bfloat16 rounds."""
    weight, scale = layer(form)
    x = rows(count, form, BF16)
    expected = x.double() @ matrix(weight, scale, form).T
    machine = kernels.machine_of(CPU, BF16)
    for kernel in (k for k in KERNELS if k.fits(machine, form) and k.ready()):
        packed = kernel.pack(weight, scale, form)
        for run in (kernel.few, kernel.many):
            found = run(x, *packed, form)
            assert found.dtype == BF16 and found.shape == (count, form.out)
            close(found, expected, 0.025 if kernel.name == "cpu-avx2" else 0.012)


def test_the_machine_here_has_fast_kernels_for_bfloat16_alone():
    for form in (Form(96, 64, 8), Form(96, 64, 4, 64), Form(96, 64, 4)):
        assert kernels.choose(kernels.machine_of(CPU, BF16), form).name in ("cpu", "cpu-vnni", "cpu-avx2")
        assert kernels.choose(kernels.machine_of(CPU, FLOAT), form).name == "plain"


@pytest.mark.parametrize("form", [f for f in FORMS if f.bits == 4], ids=str)
def test_a_large_layer_is_packed_in_parts(form, monkeypatch):
    """Parts of 1024 rows, one after another, are what torch makes of the whole."""
    tall = Form(form.out + 2048, form.width, 4, form.group)
    weight, scale = layer(tall)
    whole = torch._convert_weight_to_int4pack_for_cpu(kernels.unpacked(weight).int() + 8, 2)
    assert torch.equal(kernels.int4_cpu(weight, scale, tall)[0], whole)


def test_the_packed_layout_is_known_or_left_alone():
    block = blocks.packed_block()
    assert block == {"AVX512": 64, "AVX2": 32}.get(torch.backends.cpu.get_cpu_capability(), block)
    shown = (numbers(torch.Size((192, 64)), 3) * 8 + 8).int().clamp(0, 15)
    packed = torch._convert_weight_to_int4pack_for_cpu(shown, 2)
    assert block in (0, 32, 64)
    assert not block or torch.equal(blocks.unblocked(packed, block).int(), shown)


def test_an_unknown_packed_layout_costs_speed_alone(monkeypatch):
    monkeypatch.setattr(blocks, "packed_block", lambda: 0)
    form = Form(128, 64, 4, 64)
    weight, scale = layer(form)
    x = rows(70, form, BF16)
    for many in (kernels.int4_many, kernels.int4_digits):
        found = many(x, *kernels.int4_cpu(weight, scale, form), form)
        close(found, x.double() @ matrix(weight, scale, form).T, 0.012)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(-12, 0), st.integers(0, 99))
def test_four_bits_and_their_scales_are_nearly_eight_bits_and_one_scale(count, groups, power, phase):
    """To half a step and what 256ths round; the extremes do not overflow."""
    given = (numbers(torch.Size((count, groups * 32)), phase) * 8).int().clamp(-8, 7).to(torch.int8)
    given[0, :2] = torch.tensor([-8, 7])
    scale = (numbers(torch.Size((count, groups)), phase + 1) * 2.0**power).half()
    found, each = kernels.evened(given, scale)
    exact = given.double().view(count, groups, 32) * scale.double()[:, :, None]
    off = found.double() * each.double()[:, None] - exact.view(count, -1)
    assert (off.abs() <= each.double()[:, None] * 0.52).all()
    assert kernels.evened(given, torch.zeros_like(scale))[0].abs().max() == 0


def test_the_probe_of_the_layout_tells_all_rows_and_columns_apart(monkeypatch):
    """A layout that only swapped two rows of a block must not pass for the known one."""
    real, seen = torch._convert_weight_to_int4pack_for_cpu, []
    monkeypatch.setattr(torch, "_convert_weight_to_int4pack_for_cpu", lambda n, t: (seen.append(n), real(n, t))[1])
    blocks.packed_block.__wrapped__()
    assert len({tuple(row) for row in seen[0].tolist()}) == 128
    assert len({tuple(column) for column in seen[0].T.tolist()}) == 32


@given(st.integers(1, 9), st.integers(1, 40), st.integers(-30, 30), st.integers(0, 99))
def test_two_digits_hold_a_row_to_nearly_sixteen_bits(count, width, power, phase):
    x = numbers(torch.Size((count, width)), phase) * 2.0**power
    both, unit = kernels.split(x)
    assert both.dtype == torch.int8 and both.min() >= -127
    largest = x.abs().amax(dim=1, keepdim=True)
    assert ((kernels.joined(both, unit) - x).abs() <= largest / 64000).all()


def test_a_row_of_zeros_stays_zero():
    form = Form(16, 16, 8)
    weight, scale = layer(form)
    x = torch.zeros(20, 16, dtype=BF16)
    assert not kernels.digits(x, weight, scale, form).any()


def test_digits_multiply_as_float32_does(monkeypatch):
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: a.int() @ b.int())  # as CPUs with VNNI and GPUs count
    for form in (f for f in FORMS if f.bits == 8):
        weight, scale = layer(form)
        for count in (1, 5, 128, 129):
            x = rows(count, form, FLOAT)
            close(kernels.digits(x, weight, scale, form), x.double() @ matrix(weight, scale, form).T, 1e-4)


def test_a_cpu_that_saturates_is_found_out(monkeypatch):
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.int() @ b.int()).clamp(-32768, 32767))
    assert not kernels.int8_is_exact()
    assert not kernels.machine_of(CPU, BF16).int8


def test_tinygemm_is_given_what_it_documents(monkeypatch):
    """uint8 [out, width / 2], even column high, 0 … 15; scales and zeros [groups, out, 2]; w = (n − 8) · s + z."""
    monkeypatch.setattr(torch, "_convert_weight_to_int4pack", lambda weight, tiles: weight)

    def product(x, packed, size, pairs):
        assert packed.dtype == torch.uint8 and pairs.dtype == BF16 and pairs.is_contiguous()
        shown = torch.stack((packed >> 4, packed & 15), dim=-1).flatten(1).double()
        scale, zero = (part.T.double().repeat_interleave(size, dim=1) for part in pairs.unbind(-1))
        return (x.double() @ ((shown - 8) * scale + zero).T).to(BF16)

    monkeypatch.setattr(torch, "_weight_int4pack_mm", product)
    for form in (f for f in FORMS if f.bits == 4):
        weight, scale = layer(form)
        x = rows(3, form, BF16)
        found = kernels.tinygemm(x, *kernels.tinygemm_pack(weight, scale, form), form)
        close(found, x.double() @ matrix(weight, scale, form).T, 0.012)


@pytest.mark.parametrize("width, tiles", [(4096, 8), (192, 4), (96, 2)])
def test_tinygemm_packs_as_many_tiles_as_divide_the_width(width, tiles, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "_convert_weight_to_int4pack", lambda weight, tiles: (asked.append(tiles), weight)[1])
    form = Form(8, width, 4, 32)
    kernels.tinygemm_pack(*layer(form), form)
    assert asked == [tiles]


HERE = kernels.machine_of(CPU, BF16)
of_x86 = pytest.mark.skipif(not HERE.x86, reason="FBGEMM's products of 8 bits are x86's")
of_vnni = pytest.mark.skipif(not HERE.int8, reason="this CPU has no VNNI")


@of_x86
@pytest.mark.parametrize("run, rounding", [pytest.param(kernels.vnni, 0.012, marks=of_vnni), (kernels.avx2, 0.025)])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_row_of_8_or_7_bits_is_its_own(count, run, rounding):
    """Its neighbours may be a million times larger, or no numbers at all: each row is what it is beside any other."""
    form = Form(96, 64, 8)
    weight, scale = layer(form)
    packed = kernels.vnni_pack(weight, scale, form)
    x = rows(count, form, FLOAT)
    found = run(x, *packed, form)
    close(found, x.double() @ matrix(weight, scale, form).T, rounding)
    for stranger in (1e6, 1e-6, torch.inf, torch.nan):
        beside = torch.cat((x, torch.full((1, 64), stranger)))
        again = run(beside, *packed, form)
        if count > 1:
            assert torch.equal(again[:-1], found)
        close(again[:-1], x.double() @ matrix(weight, scale, form).T, rounding)
        assert bool(again[-1].isfinite().all()) == math.isfinite(stranger)


@of_x86
def test_products_of_7_bit_rows_never_overflow_16_bits():
    """The largest numbers there are, all of one sign: without VNNI a sum of two such products is the largest of 16 bits."""
    form = Form(16, 64, 8)
    weight, scale = torch.full((16, 64), 127, dtype=torch.int8), torch.ones(16)
    x = torch.full((3, 64), 2.0)
    assert torch.allclose(
        kernels.avx2(x, *kernels.vnni_pack(weight, scale, form), form), x @ weight.float().T, rtol=0.01
    )


@pytest.mark.parametrize("gone", ["_make_per_channel_quantized_tensor", "ops"])
def test_a_torch_without_those_calls_takes_the_next_kernel(gone, monkeypatch):
    class Wrong:
        class quantized:
            linear_prepack = staticmethod(lambda weight, bias: weight)
            linear_dynamic = staticmethod(lambda x, weight, reduced: torch.zeros(len(x), 16))

    if gone == "ops":
        monkeypatch.setattr(torch, "ops", Wrong)
    else:
        monkeypatch.delattr(torch, gone)
    assert not kernels.linear_is_right.__wrapped__(kernels.vnni)
    monkeypatch.setattr(kernels, "linear_is_right", lambda run: False)
    assert kernels.choose(Machine("cpu", BF16, int8=True), INT8).many is kernels.digits
    assert kernels.choose(Machine("cpu", BF16, x86=True), INT8).many is kernels.plain


SQUARE = (4096, 4096)
INT8, INT4, ROW4 = Form(*SQUARE, 8), Form(*SQUARE, 4, 128), Form(*SQUARE, 4)
CASES = (
    (Machine("cpu", BF16, int8=True), INT8, "cpu-vnni", "vnni"),
    (Machine("cpu", BF16, int8=True, x86=True), INT8, "cpu-vnni", "vnni"),
    (Machine("cpu", BF16, x86=True), INT8, "cpu-avx2", "avx2"),
    (Machine("cpu", FLOAT, x86=True), INT8, "plain", "plain"),
    (Machine("cpu", BF16), INT8, "cpu", "plain"),
    (Machine("cpu", BF16, int8=True), INT4, "cpu", "int4_digits"),
    (Machine("cpu", BF16), INT4, "cpu", "int4_many"),
    (Machine("cpu", BF16), ROW4, "cpu", "int4_many"),
    (Machine("cpu", FLOAT, int8=True), INT8, "plain", "plain"),
    (Machine("cpu", HALF, int8=True), INT8, "plain", "plain"),
    (Machine("cpu", FLOAT), INT4, "plain", "plain"),
    # torch reads past the end of such weights, or refuses them.
    (Machine("cpu", BF16), Form(16, 24, 8), "plain", "plain"),
    (Machine("cpu", BF16), Form(24, 64, 4, 32), "plain", "plain"),
    (Machine("cpu", BF16), Form(32, 48, 4), "plain", "plain"),
    (Machine("cpu", BF16), Form(32, 64, 4, 16), "plain", "plain"),
    (Machine("cuda", HALF, (6, 0)), INT8, "plain", "plain"),
    (Machine("cuda", HALF, (7, 0)), INT8, "plain", "plain"),
    (Machine("cuda", HALF, (7, 5), int8=True), INT8, "cuda", "plain"),
    (Machine("cuda", BF16, (7, 0)), INT8, "plain", "plain"),
    (Machine("cuda", HALF, (9, 0), int8=True), INT8, "cuda", "plain"),
    (Machine("cuda", BF16, (8, 6), int8=True), INT8, "plain", "plain"),
    (Machine("cuda", FLOAT, (9, 0), int8=True), INT8, "plain", "plain"),
    (Machine("cuda", HALF, (9, 0), int8=True), Form(4100, 4096, 8), "plain", "plain"),
    (Machine("cuda", BF16, (8, 0), int8=True), INT4, "cuda-tinygemm", "tinygemm"),
    (Machine("cuda", BF16, (9, 0), int8=True), ROW4, "cuda-tinygemm", "tinygemm"),
    (Machine("cuda", BF16, (7, 5), int8=True), INT4, "plain", "plain"),
    (Machine("cuda", HALF, (8, 0), int8=True), INT4, "plain", "plain"),
    (Machine("cuda", BF16, (8, 0), int8=True), Form(64, 48, 4), "plain", "plain"),
    (Machine("cuda", BF16), INT4, "plain", "plain"),  # ROCm
    (Machine("mps", HALF), INT8, "plain", "plain"),
    (Machine("mps", BF16), INT4, "plain", "plain"),
)


@pytest.mark.parametrize("machine, form, name, many", CASES, ids=lambda value: str(value))
def test_which_kernel_is_taken(machine, form, name, many, monkeypatch):
    monkeypatch.setattr(kernels, "linear_is_right", lambda run: True)
    found = kernels.choose(machine, form)
    assert (found.name, found.many.__name__) == (name, many)


@pytest.mark.parametrize("hip, capability, int8", [(None, (7, 5), True), (None, (7, 0), False), ("6.4", (0, 0), False)])
def test_what_a_gpu_is_taken_for(hip, capability, int8, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert kernels.machine_of(torch.device("cuda", 0), HALF) == Machine("cuda", HALF, capability, int8)


@pytest.mark.parametrize("form, shown", [(INT8, "int8"), (INT4, "int4-g128"), (ROW4, "int4-row")])
def test_a_form_has_a_short_name(form, shown):
    assert str(form) == shown


@pytest.mark.parametrize("kernel", KERNELS, ids=[f"{i}-{kernel.name}" for i, kernel in enumerate(KERNELS)])
@pytest.mark.parametrize("form", [Form(64, 64, 8), Form(64, 64, 4), Form(64, 128, 4, 32)], ids=str)
@pytest.mark.parametrize("count", [1, 70])
def test_a_gradient_is_that_of_the_stored_weights_or_refused(kernel, form, count):
    """Torch's own would be wrong through int8 on a CPU (cosine 0.09) and absent elsewhere."""
    weight, scale = layer(form)
    x = rows(count, form, BF16).requires_grad_()
    if not kernel.published:
        with pytest.raises(BadInput, match="training=True"):
            kernels.product(kernel, x, weight, scale, form)
        return
    machines = [Machine(device, BF16, int8=int8) for device in ("cpu", "cuda") for int8 in (True, False)]
    if not any(kernel.fits(machine, form) for machine in machines):
        return  # it is never taken for this form
    out = kernels.product(kernel, x, *kernel.pack(weight, scale, form), form)
    upward = numbers(torch.Size((count, form.out)), 4).to(BF16)
    out.backward(upward)
    dense = matrix(weight, scale, form)
    close(x.grad, upward.double() @ dense, 0.02)
    assert torch.cosine_similarity(x.grad.double().flatten(), (upward.double() @ dense).flatten(), 0) > 0.999
    close(out.detach(), x.detach().double() @ dense.T, 0.02)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_plain_gradient_is_exact_in_float32(form, monkeypatch):
    monkeypatch.setattr(kernels, "at_once", lambda x, form: 64)
    weight, scale = layer(form)
    x, upward = rows(3, form, FLOAT).requires_grad_(), numbers(torch.Size((3, form.out)), 4)
    kernels.product(PLAIN, x, weight, scale, form).backward(upward)
    close(x.grad, upward.double() @ matrix(weight, scale, form), 1e-6)


def test_a_backward_pass_keeps_no_dequantised_matrix():
    """Else a model of 8 bits takes its 16 bits once more while it is trained."""
    form, kept = Form(128, 256, 8), []
    weight, scale = layer(form)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        kernels.product(PLAIN, rows(3, form, FLOAT).requires_grad_(), weight, scale, form)
    assert set(kept) == {weight.data_ptr(), scale.data_ptr()}

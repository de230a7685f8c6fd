"""Traced steps: the numbers of plain ones at every length, three traces for all numbers of rows, and a refusal that costs speed alone."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import sys
import weakref
from collections import Counter

import pytest
import torch

from bianque.engine import traces as traces_module
from bianque.engine.engine import recorder
from bianque.engine.scheduler import Decoder
from bianque.engine.traces import Traces, holdings
from bianque.nn import kernels, packed
from tests import tiny
from tests.engine.test_cuda_graphs import told
from tests.engine.test_scheduler import GREEDY, MODELS, ROOM, of, prompt_of, spoken
from tests.nn.test_packed import ALL
from tests.nn.test_quant import quantised

WIDE = {
    "t5": lambda: tiny.t5(d_model=64, d_kv=16, d_ff=96, num_heads=4),
    "chatglm": lambda: tiny.chatglm(hidden_size=64, inner_hidden_size=96),
    "baichuan": lambda: tiny.baichuan(hidden_size=64, intermediate_size=96, num_attention_heads=4),
}
BITS = {
    "fp32": (16, torch.float32), "bf16": (16, torch.bfloat16), "int8": (8, torch.bfloat16), "int8 by digits": (8, torch.bfloat16),
    "int8 plain": (8, torch.float32), "int4": (4, torch.bfloat16), "int4 plain": (4, torch.float32),
}  # fmt: skip


def served(arch, precision):
    """A tiny model whose weights are laid out as a benchmark's or a visitor's are."""
    model, (bits, dtype) = WIDE[arch](), BITS[precision]
    model = quantised(model, bits, dtype) if bits < 16 else model.to(dtype)
    packed.prepack_linears(model, ALL)
    return model


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products are slowest in a team whose members wait for other tests' processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("arch", WIDE)
def test_a_trace_gives_the_numbers_of_a_plain_step(arch, precision, monkeypatch):
    """For other rows of its kind too, long after it was made, and in another cache of that size."""
    if "digits" in precision:
        monkeypatch.setattr(kernels, "linear_is_right", lambda run: False)
    model = served(arch, precision)
    prompts = [{"t5": [5, 6, 1], "chatglm": [5, 6, 41, 42], "baichuan": [45, 5, 46]}[arch][-3 - i :] for i in range(8)]
    traces = Traces(worth=2)
    with torch.inference_mode():
        for kinds in ([1] * 16, [4, 2, 3, 4, 2] * 2, [5, 6, 7, 8, 6] * 2, [1, 2, 8, 3, 5] * 4):
            (_, plain), (_, fast) = (tiny.begun(model, prompts, cache=model.new_cache(8, 8, 40)) for _ in range(2))
            step = traces.steps(model, fast, 8)
            for i, rows in enumerate(kinds):
                ids = torch.arange(10 + i % 7, 10 + i % 7 + rows)
                assert torch.equal(step(ids), model.decode_step(ids, plain)), (i, rows)
            assert all(torch.equal(*pair) for pair in zip(fast.tensors, plain.tensors, strict=True))
    assert not traces.failed and len(traces.known) == 3 and set(traces.plain.values()) == {2}


@pytest.mark.slow
def test_the_words_are_those_of_plain_steps(model):
    traces = Traces(worth=1)
    assert told(model, traces) == told(model, None)
    assert len(traces.known) > 1 and not traces.failed


@pytest.mark.slow
def test_a_kind_is_traced_once_it_is_met_often(model):
    traces = Traces(worth=8)
    cache = model.new_cache(4, 16, 64)
    for slot in range(4):
        tiny.read(model, prompt_of(model, 5, 6), cache, slot)
    turns, turn = Counter(), model.forward_step
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "forward_step", lambda ids, *rest: turns.update([len(ids)]) or turn(ids, *rest))
        step = traces.steps(model, cache, 4)
        for rows in (*[1] * (8 - 1), *[2] * 8, 3, 2, 4, 1):
            step(torch.arange(7, 7 + rows))
        assert turns == {1: 8, 2: 8, 3: 1}  # three rows were traced, and that serves two and four
        assert len(traces.known) == 1
        step(torch.tensor([7]))
        assert len(traces.known) == 2


@pytest.mark.slow
def test_a_trace_outlives_its_cache(model):
    """A visitor who comes after a quiet minute finds a new cache, and the old trace."""
    traces, prompt = Traces(worth=0), prompt_of(model, 5, 6, 7)

    def reply():
        return asyncio.run(spoken(decoder, prompt, GREEDY))

    decoder = of(model, recorder=traces)
    first, known = reply(), dict(traces.known)
    held = weakref.ref(decoder.scheduler.cache)
    decoder.thread.join() if decoder.thread else None
    decoder.drop_cache()
    gc.collect()
    assert held() is None
    assert reply() == first and traces.known == known
    decoder.close()


@pytest.mark.slow
def test_what_cannot_be_traced_runs_as_it_is_written(model, caplog, monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("no longer supported\nwith [5, 6]")

    monkeypatch.setattr(torch._C, "CompilationUnit", refuse)
    traces = Traces(worth=0)
    with caplog.at_level(logging.WARNING, logger="bianque.engine.traces"):
        assert told(model, traces) == told(model, None)
    assert traces.failed and not traces.known
    assert [record.getMessage() for record in caplog.records] == [
        "no TorchScript, steps run as they are written: RuntimeError: no longer supported"
    ]


@pytest.mark.slow
def test_a_trace_that_breaks_gives_way_to_plain_steps(model, monkeypatch):
    def broken(*args):
        def run(*given):
            raise RuntimeError("no kernel")

        return run

    monkeypatch.setattr(traces_module, "traced", broken)
    traces = Traces(worth=1)
    assert told(model, traces) == told(model, None)
    assert traces.failed and not traces.known


@pytest.mark.slow
def test_memory_that_runs_out_is_no_fault_of_the_trace(model, monkeypatch):
    """The step fails as any other would; the next one is traced again."""
    traces, cache = Traces(worth=0), model.new_cache(1, 8, 8)
    tiny.read(model, prompt_of(model, 5, 6), cache)

    def exhausted(*given):
        raise error

    with torch.inference_mode():
        step = traces.steps(model, cache, 1)
        for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
            with monkeypatch.context() as patch:
                patch.setattr(traces_module, "traced", lambda *given: exhausted)
                traces.known.clear()
                with pytest.raises(type(error)):
                    step(torch.tensor([7]))
            traces.known.clear()
            assert not traces.failed and step(torch.tensor([7])).isfinite().all() and traces.known


def test_an_error_of_the_model_itself_does_not_end_tracing(model, monkeypatch):
    traces, cache = Traces(worth=0), model.new_cache(1, 8, 8)
    tiny.read(model, prompt_of(model, 5, 6), cache)

    def wrong(*given):
        raise RuntimeError("out of the vocabulary")

    with torch.inference_mode(), pytest.raises(RuntimeError, match="vocabulary"), monkeypatch.context() as patch:
        patch.setattr(model, "forward_step", wrong)
        traces.steps(model, cache, 1)(torch.tensor([7]))
    assert not traces.failed


def test_a_closed_model_leaves_no_weights_in_traces():
    model = copy.deepcopy(MODELS["t5"])
    packed.prepack_linears(model, ALL)
    decoder = Decoder(model, (), "cpu", ROOM, recorder=Traces(worth=0))
    asyncio.run(spoken(decoder, [5, 6, 1], GREEDY))
    assert decoder.recorder.known
    held = [weakref.ref(weight) for weight in holdings(model)]
    decoder.close()
    packed.release(model)
    del model, decoder.model
    gc.collect()
    assert not any(ref() is not None for ref in held)


@pytest.mark.parametrize("version, there", [((3, 13, 9), True), ((3, 14, 0), False)])
def test_no_trace_on_a_python_for_which_torch_warns(version, there, monkeypatch):
    monkeypatch.setattr(sys, "version_info", version)
    assert isinstance(recorder("cpu"), Traces) == there

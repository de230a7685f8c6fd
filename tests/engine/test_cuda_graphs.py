"""Recorded steps: the same words as without, each shape recorded once, and a refusal that costs speed alone.

In a GPU's place stands `Tape`: torch's tracer writes down every operation of a step, with all Python numbers as they
were, and the tensors it found; that is what a CUDA graph holds.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from bianque.catalog.builtin import by_name
from bianque.engine import cuda_graphs
from bianque.engine.cuda_graphs import Graphs
from bianque.engine.engine import Engine
from bianque.engine.scheduler import Decoder
from tests import tiny
from tests.engine.test_scheduler import DRAWN, GREEDY, MODELS, ROOM, prompt_of, spoken


class Tape(cuda_graphs.GraphRecorder):
    def __init__(self) -> None:
        self.recorded = 0

    def record(self, step):
        self.recorded += 1
        traced, still = make_fx(step)(), step().clone()

        def play():
            return still.copy_(traced())

        return play


class Refusing(Tape):
    def record(self, step):
        super().record(step)
        raise RuntimeError("operation not permitted")


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def plain(model):
    """What six visitors are told step by step."""
    return told(model, None)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "SPAN", 4)


def told(model, recorder, slots=4):
    """What six visitors are told, some of whom ask the same, over four slots."""
    prompts = [prompt_of(model, *range(5, 5 + count)) for count in (3, 9, 3, 12, 1, 9)]
    wishes = [GREEDY, replace(DRAWN, seed=1), replace(DRAWN, seed=2, max_new_tokens=20), GREEDY, GREEDY, GREEDY]

    async def late(decoder, number, prompt, wish):
        await asyncio.sleep(number / 100)
        return await spoken(decoder, prompt, wish)

    async def everybody():
        decoder = Decoder(model, (), "cpu", ROOM, slots, recorder=recorder)
        visits = enumerate(zip(prompts, wishes, strict=True))
        return await asyncio.gather(*(late(decoder, number, *visit) for number, visit in visits))

    return asyncio.run(everybody())


@pytest.mark.slow
def test_the_words_are_those_of_plain_steps(model, plain):
    tape = Tape()
    assert told(model, tape) == plain
    assert tape.recorded > 2 and not tape.failed


@pytest.mark.slow
def test_a_shape_is_recorded_once(model):
    """Rows 1, 2 and 3 are two shapes and a rounded one; so are spans."""
    cache, tape = model.new_cache(4, 16, 16), Tape()
    for slot in range(3):
        tiny.read(model, prompt_of(model, 5, 6), cache, slot)
    with torch.inference_mode():
        steps = Graphs(model, cache, 4, tape)
        for rows in (1, 2, 3, 1, 2, 3, 3):
            expected = model.forward_step(ids := torch.arange(7, 7 + rows), cache, cache.step_inputs(0, rows))
            torch.testing.assert_close(steps.decode_step(ids), expected)
    assert tape.recorded == len(steps.known)
    assert {count for count, _ in steps.known} == {1, 2, 4}
    assert {span for _, (span, *_) in steps.known} <= {4, 8, 16}


@pytest.mark.slow
def test_rows_that_nobody_writes_touch_no_prompt(model):
    """Three of four slots write; the prompt that the fourth one holds is as it was."""
    cache = model.new_cache(4, 8, 8)
    prompt = prompt_of(model, 5, 6)
    for slot in range(4):
        tiny.read(model, prompt, cache, slot)
    mark = cache.mark(3)
    with torch.inference_mode():
        steps = Graphs(model, cache, 4, Tape())
        for _ in range(3):
            steps.decode_step(torch.tensor([7, 8, 9]))
        assert {count for count, _ in steps.known} == {4}
        cache.copy(3, 0, mark)
        again = model.decode_step(torch.tensor([7]), cache)
    _, fresh = tiny.begun(model, [prompt])
    torch.testing.assert_close(again, model.decode_step(torch.tensor([7]), fresh))


@pytest.mark.slow
def test_what_cannot_be_recorded_is_launched_step_by_step(model, plain, caplog):
    refusing = Refusing()
    with caplog.at_level(logging.WARNING, logger="bianque.engine.cuda_graphs"):
        assert told(model, refusing) == plain
    assert refusing.failed and refusing.recorded == 1
    assert [record.getMessage() for record in caplog.records] == [
        "no CUDA graph, steps are launched one by one: RuntimeError: operation not permitted"
    ]


def test_the_kernel_says_if_steps_could_not_be_recorded():
    card = by_name()["bianque-2"]
    tape = Tape()
    engine = Engine(card, MODELS["chatglm"], SimpleNamespace(ends=()), "cpu", recorder=tape)
    assert engine.kernel == "float32"
    tape.failed = True
    assert engine.kernel == "float32 (plain steps)"

"""Decoding: transformers' distributions, one reply untouched by another, and nothing done for who has left."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bianque.decode import Decoder, adjust, closing
from bianque.errors import Busy
from bianque.types import Sampling
from tests import tiny

VOCAB, EOS = 12, 1
GREEDY = Sampling(temperature=0, max_new_tokens=8)
DRAWN = Sampling(temperature=1.2, top_p=0.95, top_k=20, repetition_penalty=1.1, max_new_tokens=12)
# Scores a multiple of 1/8 apart or equal: ties occur, near-ties that rounding could turn do not.
SCORES = st.lists(st.integers(-64, 64).map(lambda n: n / 8), min_size=VOCAB, max_size=VOCAB, unique=True)
SEEN = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20)


def reference(scores, seen, sampling):
    """transformers' processors in the order in which `generate` runs them."""
    chain = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.no_repeat_ngram:
        chain.append(NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram))
    if sampling.temperature:
        chain.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            chain.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            chain.append(TopPLogitsWarper(sampling.top_p))
    return chain(torch.tensor([seen]), torch.tensor([scores]))[0]


@given(
    SCORES,
    SEEN,
    st.builds(
        Sampling,
        temperature=st.sampled_from([0, 0.1, 0.6, 0.95, 1.0, 1.7]),
        top_p=st.sampled_from([0.05, 0.31, 0.7, 0.93, 1.0]),
        top_k=st.sampled_from([0, 1, 3, 7, VOCAB, 50]),
        repetition_penalty=st.sampled_from([1.0, 1.1, 1.5, 0.8]),
        no_repeat_ngram=st.integers(0, 4),
    ),
)
def test_distributions_are_those_of_transformers(scores, seen, sampling):
    torch.testing.assert_close(adjust(torch.tensor(scores), seen, sampling), reference(scores, seen, sampling))


def test_adjusting_leaves_the_logits_alone():
    logits = torch.arange(VOCAB).float()
    before = logits.clone()
    adjust(logits, [1, 2, 3], replace(DRAWN, no_repeat_ngram=1))
    assert torch.equal(logits, before)


def test_the_likeliest_token_stays_whatever_top_p_says():
    for top_p in (1e-6, 0.0):
        scores = adjust(torch.tensor([1.0, 9.0, 2.0]), [], Sampling(top_p=top_p))
        assert scores.isfinite().tolist() == [False, True, False]


@given(SEEN, st.integers(1, 4))
def test_closing_is_exactly_what_would_repeat_an_ngram(seen, size):
    def repeats(token):
        grams = [tuple([*seen, token][i : i + size]) for i in range(len(seen) - size + 2)]
        return grams[-1] in grams[:-1] if grams else False

    assert closing(seen, size) == {token for token in range(VOCAB) if repeats(token)}


# Streams over real, tiny models.


@pytest.fixture(scope="module", params=["chatglm", "t5"])
def model(request):
    return {"chatglm": tiny.chatglm, "t5": tiny.t5}[request.param]()


def prompt_of(model, *tokens):
    return [*tokens, 41, 42] if model.decoder_only else [*tokens, 1]


async def spoken(decoder, prompt, sampling):
    return await tiny.collect(decoder.stream(prompt, sampling))


def test_greedy_is_the_arg_max_of_each_step(model):
    prompt = prompt_of(model, 5, 6, 7)
    found = asyncio.run(spoken(Decoder(model, (), "cpu"), prompt, GREEDY))
    logits, cache = model.prefill(torch.tensor([prompt]), 8)
    for token in found:
        assert token == int(logits.argmax())
        logits = model.step(torch.tensor([token]), cache)
    assert len(found) == 8


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(model):
    decoder, prompt = Decoder(model, (), "cpu"), prompt_of(model, 5, 6, 7)

    async def runs():
        return [await spoken(decoder, prompt, replace(DRAWN, seed=seed)) for seed in (7, 7, 8, 9)]

    first, again, *others = asyncio.run(runs())
    assert first == again and first not in others


def test_without_a_seed_replies_differ(model):
    async def runs():
        decoder = Decoder(model, (), "cpu")
        flat = Sampling(temperature=2.0, max_new_tokens=16)
        return [tuple(await spoken(decoder, prompt_of(model, 5, 6), flat)) for _ in range(4)]

    assert len(set(asyncio.run(runs()))) > 1


def test_sampled_frequencies_are_those_of_the_distribution():
    class Fixed(Counting):
        def logits(self, ids):
            return torch.tensor([[0.0, 1.0, 2.0, -1.0]])

    sampling = Sampling(temperature=0.8, max_new_tokens=4000, seed=3)
    drawn = asyncio.run(spoken(Decoder(Fixed(), (), "cpu"), [9], sampling))
    expected = adjust(torch.tensor([0.0, 1.0, 2.0, -1.0]), [], sampling).softmax(-1)
    found = torch.bincount(torch.tensor(drawn), minlength=4) / len(drawn)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_concurrent_streams_equal_single_ones(model):
    wishes = [(prompt_of(model, *range(4, 5 + i)), replace(DRAWN, seed=i, max_new_tokens=3 + i)) for i in range(9)]

    async def together():
        decoder = Decoder(model, (), "cpu", max_active=4)
        return await asyncio.gather(*(spoken(decoder, *wish) for wish in wishes))

    async def alone():
        return [await spoken(Decoder(model, (), "cpu"), *wish) for wish in wishes]

    assert asyncio.run(together()) == asyncio.run(alone())


# The loop itself, over a model that only counts.


class Counting:
    """Says 2, 3, 4 … in turn; a prompt [n] ends it after n tokens. `gate`, if set, lets one step pass a release."""

    decoder_only = True

    def __init__(self, gate: threading.Semaphore | None = None) -> None:
        self.gate, self.steps = gate, []

    def logits(self, ids):
        token = int(ids.flatten()[-1])
        self.steps.append(token)
        return torch.nn.functional.one_hot(torch.tensor([token + 1]), 99).float()

    def prefill(self, ids, room):
        if self.gate:
            assert self.gate.acquire(timeout=10)
        return self.logits(ids), "cache"

    def step(self, ids, cache):
        if self.gate:
            assert self.gate.acquire(timeout=10)
        return self.logits(ids)


def idle(decoder):
    """Wait until the loop has nothing to do."""
    done = threading.Event()
    poll = threading.Thread(target=lambda: (decoder.thread.join(10), done.set()))
    poll.start()
    return done.wait(10)


def impatient(decoder):
    """The loop's thread ends at once when nobody waits, not after a minute."""
    waits = decoder.changed.wait_for
    decoder.changed.wait_for = lambda predicate, timeout=None: waits(predicate, 0.02)
    return decoder


def test_the_end_token_ends_the_reply_and_is_not_part_of_it():
    assert asyncio.run(spoken(Decoder(Counting(), {8}, "cpu"), [4], GREEDY)) == [5, 6, 7]


def test_a_reply_has_at_most_so_many_tokens():
    model = Counting()
    assert asyncio.run(spoken(Decoder(model, (), "cpu"), [4], replace(GREEDY, max_new_tokens=3))) == [5, 6, 7]
    assert len(model.steps) == 3


@pytest.mark.parametrize("decoder_only, expected", [(True, [1, 0, 3]), (False, [2, 1, 0])])
def test_what_must_not_repeat_includes_the_prompt_where_the_reply_continues_it(decoder_only, expected):
    class Fixed(Counting):
        def logits(self, ids):
            return torch.tensor([[1.0, 2.0, 3.0, 0.0]])

    model = Fixed()
    model.decoder_only = decoder_only
    sampling = replace(GREEDY, no_repeat_ngram=1, max_new_tokens=3)
    assert asyncio.run(spoken(Decoder(model, (), "cpu"), [2], sampling)) == expected


def test_waiting_replies_take_turns():
    async def both():
        model = Counting(gate := threading.Semaphore(0))
        decoder = Decoder(model, (), "cpu")
        replies = [asyncio.create_task(spoken(decoder, [start], GREEDY)) for start in (10, 50)]
        await asyncio.sleep(0.05)
        gate.release(100)
        await asyncio.gather(*replies)
        return model.steps

    steps = asyncio.run(both())
    assert steps[:6] == [10, 50, 11, 51, 12, 52] or steps[:6] == [10, 11, 50, 12, 51, 13]


def test_closing_the_stream_drops_the_row_within_one_further_step():
    async def leave():
        model = Counting(gate := threading.Semaphore(0))
        decoder = impatient(Decoder(model, (), "cpu"))
        async with aclosing(decoder.stream([4], replace(GREEDY, max_new_tokens=80))) as tokens:
            for _ in range(3):
                gate.release()
                await anext(tokens)
        taken = len(model.steps)
        gate.release(80)
        assert idle(decoder)
        return len(model.steps) - taken

    assert asyncio.run(leave()) <= 1


def test_cancelling_the_task_that_listens_drops_the_row():
    async def leave():
        model = Counting(gate := threading.Semaphore(0))
        decoder = impatient(Decoder(model, (), "cpu"))
        task = asyncio.create_task(spoken(decoder, [4], replace(GREEDY, max_new_tokens=80)))
        gate.release(2)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.release(80)
        assert idle(decoder)
        return len(model.steps)

    assert asyncio.run(leave()) <= 4


def test_a_loop_that_ended_takes_the_row_with_it():
    model = Counting(gate := threading.Semaphore(0))
    decoder = impatient(Decoder(model, (), "cpu"))

    async def begin():
        gate.release()
        stream = decoder.stream([4], replace(GREEDY, max_new_tokens=80))
        await anext(stream)

    asyncio.run(begin())
    gate.release(80)
    assert idle(decoder)
    assert len(model.steps) <= 3


class Failing(Counting):
    """A prompt [13] cannot be read; after token 22 no other can be found."""

    def logits(self, ids):
        found = super().logits(ids)
        if self.steps[-1] in (13, 22):
            raise RuntimeError(f"no word after {self.steps[-1]}")
        return found


@pytest.mark.parametrize("start", [13, 20])
def test_an_error_in_one_row_fails_that_row_alone(start):
    async def three():
        decoder = Decoder(Failing(), (), "cpu")
        replies = (spoken(decoder, [first], GREEDY) for first in (40, start, 60))
        found = await asyncio.gather(*replies, return_exceptions=True)
        return [*found, await spoken(decoder, [80], GREEDY)]

    one, failed, other, later = asyncio.run(three())
    assert isinstance(failed, RuntimeError)
    assert (one, other, later) == ([*range(41, 49)], [*range(61, 69)], [*range(81, 89)])


def test_busy_when_too_many_wait_and_room_again_when_they_leave():
    async def crowd():
        gate = threading.Semaphore(0)
        decoder = Decoder(Counting(gate), (), "cpu", max_active=1, max_waiting=2)
        first = asyncio.create_task(spoken(decoder, [40], GREEDY))
        await asyncio.sleep(0.05)  # the first is active, and held at the gate
        waiting = [asyncio.create_task(spoken(decoder, [start], GREEDY)) for start in (50, 60)]
        await asyncio.sleep(0.01)
        with pytest.raises(Busy, match="2"):
            await spoken(decoder, [70], GREEDY)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        latest = asyncio.create_task(spoken(decoder, [80], GREEDY))
        await asyncio.sleep(0.01)
        gate.release(200)
        return await asyncio.gather(first, waiting[1], latest)

    assert asyncio.run(crowd()) == [[*range(first, first + 8)] for first in (41, 61, 81)]


def test_the_thread_ends_when_nobody_waits_and_begins_again():
    async def twice():
        decoder = impatient(Decoder(Counting(), (), "cpu"))
        assert decoder.thread is None
        for _ in range(2):
            assert await spoken(decoder, [4], GREEDY) == [*range(5, 13)]
            thread = decoder.thread
            if thread:
                thread.join(10)
            assert decoder.thread is None
        return True

    assert asyncio.run(twice())

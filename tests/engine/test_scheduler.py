"""The loop: replies written together, each as if it were alone, and nothing done for who has left."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bianque.engine import scheduler
from bianque.engine.scheduler import Decoder, QueuePosition
from bianque.errors import Busy
from bianque.nn.cpu import Cores
from bianque.types import Sampling
from tests import tiny
from tests.conftest import ROOT

GREEDY = Sampling(temperature=0, max_new_tokens=8)
DRAWN = Sampling(temperature=1.2, top_p=0.95, top_k=20, repetition_penalty=1.1, max_new_tokens=12)
ROOM = (64, 64)


def of(model, ends=(), **options) -> Decoder:
    return Decoder(model, ends, "cpu", ROOM, **options)


async def spoken(decoder, prompt, sampling) -> list[int]:
    parts = await tiny.collect(decoder.stream(prompt, sampling))
    return [token for part in parts if not isinstance(part, QueuePosition) for token in part]


# Real, tiny models.


MODELS = {"chatglm": tiny.chatglm(), "t5": tiny.t5(), "baichuan": tiny.baichuan()}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]


def prompt_of(model, *tokens):
    return {MODELS["chatglm"]: [*tokens, 41, 42], MODELS["t5"]: [*tokens, 1]}.get(model, [45, *tokens, 46])


def test_greedy_is_the_arg_max_of_each_step(model):
    prompt = prompt_of(model, 5, 6, 7)
    found = asyncio.run(spoken(of(model), prompt, GREEDY))
    logits, cache = tiny.begun(model, [prompt])
    for token in found:
        assert token == int(logits.argmax())
        logits = model.decode_step(torch.tensor([token]), cache)
    assert len(found) == 8


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(model):
    decoder, prompt = of(model), prompt_of(model, 5, 6, 7)

    async def runs():
        return [await spoken(decoder, prompt, replace(DRAWN, seed=seed)) for seed in (7, 7, 8, 9)]

    first, again, *others = asyncio.run(runs())
    assert first == again and first not in others


def test_without_a_seed_replies_differ(model):
    async def runs():
        decoder = of(model)
        flat = Sampling(temperature=2.0, max_new_tokens=16)
        return [tuple(await spoken(decoder, prompt_of(model, 5, 6), flat)) for _ in range(4)]

    assert len(set(asyncio.run(runs()))) > 1


WISH = st.builds(
    Sampling,
    temperature=st.sampled_from([0, 0.7, 1.5]),
    top_p=st.sampled_from([0.6, 1.0]),
    top_k=st.sampled_from([0, 9]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    no_repeat_ngram=st.sampled_from([0, 2]),
    max_new_tokens=st.integers(1, 14),
    seed=st.integers(0, 99),
)
WORDS = st.sampled_from([[5, 6, 7], [9] * 20]) | st.lists(st.integers(4, 39), min_size=1, max_size=30)
VISIT = st.tuples(WORDS, WISH, st.integers(0, 3), st.integers(0, 9))


@pytest.mark.slow
@settings(max_examples=25)
@given(name=st.sampled_from(list(MODELS)), visits=st.lists(VISIT, min_size=2, max_size=9), slots=st.integers(1, 4))
def test_visitors_who_come_and_go_get_what_they_would_get_alone(name, visits, slots):
    """Each comes after some turns of the event loop; some leave after some tokens."""
    model = MODELS[name]
    wishes = [(prompt_of(model, *words), wish) for words, wish, _, _ in visits]

    async def visit(decoder, wish, late, stay):
        for _ in range(late * 20):
            await asyncio.sleep(0)
        said: list[int] = []
        async with aclosing(decoder.stream(*wish)) as parts:
            async for part in parts:
                said += part if isinstance(part, list) else ()
                if stay and len(said) >= stay:
                    break
        return said[:stay] if stay else said

    async def together():
        decoder = of(model, slots=slots)
        times = [(late, stay) for _, _, late, stay in visits]
        return await asyncio.gather(*(visit(decoder, wish, *time) for wish, time in zip(wishes, times, strict=True)))

    async def alone():
        return [await visit(of(model), wish, 0, stay) for wish, (*_, stay) in zip(wishes, visits, strict=True)]

    assert asyncio.run(together()) == asyncio.run(alone())


# The loop itself, over a model that only counts.


class Counting:
    """Says the next number; `gate`, if set, lets one prompt, or one turn, pass a release."""

    decoder_only = True

    def __init__(self, gate: threading.Semaphore | None = None) -> None:
        self.gate, self.steps, self.copies = gate, [], []

    def logits(self, ids):
        if self.gate:
            assert self.gate.acquire(timeout=10)
        self.steps.append(ids.tolist())
        return torch.nn.functional.one_hot(ids + 1, 99).float()

    def new_cache(self, count, prompt, reply):
        return self

    def mark(self, slot):
        return slot

    def copy(self, source, target, mark):
        self.copies.append((source, target))

    def wipe(self, slot):
        pass

    def penalty_tokens(self, prompt):
        return prompt

    def prefill(self, ids, cache, slot):
        yield
        return self.logits(ids[-1:])[0]

    def decode_step(self, ids, cache, slot=0):
        return self.logits(ids)


def ended(decoder):
    if thread := decoder.thread:
        thread.join(10)


def idle(decoder):
    """Wait until the loop has nothing to do."""
    done = threading.Event()
    poll = threading.Thread(target=lambda: (ended(decoder), done.set()))
    poll.start()
    return done.wait(10)


def test_the_end_token_ends_the_reply_and_is_not_part_of_it():
    assert asyncio.run(spoken(of(Counting(), {8}), [4], GREEDY)) == [5, 6, 7]


def test_a_reply_has_at_most_so_many_tokens():
    model = Counting()
    assert asyncio.run(spoken(of(model), [4], replace(GREEDY, max_new_tokens=3))) == [5, 6, 7]
    assert len(model.steps) == 3


def test_a_reply_has_at_least_so_many_tokens():
    class Ending(Counting):
        def logits(self, ids):
            return torch.tensor([1.0, 3.0, 2.0]).expand(len(ids), -1)

    least = replace(GREEDY, min_new_tokens=3)
    assert asyncio.run(spoken(of(Ending(), {1}), [2], GREEDY)) == []
    assert asyncio.run(spoken(of(Ending(), {1}), [2], least)) == [2, 2, 2]


@pytest.mark.parametrize("said, expected", [([2], [1, 0, 3]), ([], [2, 1, 0])])
def test_the_architecture_says_what_must_not_repeat(said, expected):
    class Fixed(Counting):
        def logits(self, ids):
            return torch.tensor([[1.0, 2.0, 3.0, 0.0]])

        def penalty_tokens(self, prompt):
            return said

    sampling = replace(GREEDY, no_repeat_ngram=1, max_new_tokens=3)
    assert asyncio.run(spoken(of(Fixed()), [2], sampling)) == expected


def test_all_who_write_share_a_step():
    async def three():
        model = Counting(gate := threading.Semaphore(0))
        decoder = of(model)
        replies = [asyncio.create_task(spoken(decoder, [start], GREEDY)) for start in (10, 30, 50)]
        await asyncio.sleep(0.05)
        gate.release(100)
        await asyncio.gather(*replies)
        return model.steps

    steps = asyncio.run(three())
    assert sum(map(len, steps)) == 24
    assert max(map(len, steps)) == 3 and len(steps) <= 8 + 5


class Reading:
    """A real model that notes what it reads."""

    def __init__(self, model) -> None:
        self.model, self.decoder_only, self.read = model, model.decoder_only, []
        self.new_cache, self.penalty_tokens, self.decode_step = model.new_cache, model.penalty_tokens, model.decode_step

    def prefill(self, ids, cache, slot):
        self.read.append(ids.tolist())
        return self.model.prefill(ids, cache, slot)


def test_the_same_prompt_is_read_once(model):
    """Tried again with another seed, beside a reply under way, and after it; the words are those of a fresh reading."""
    one, other = prompt_of(model, 5, 6, 7), prompt_of(model, 8, 9)
    wishes = [replace(DRAWN, seed=seed) for seed in range(3)]
    reading = Reading(model)

    async def many():
        decoder = of(reading, slots=4)
        first = await spoken(decoder, one, wishes[0])
        both = await asyncio.gather(*(spoken(decoder, one, wish) for wish in wishes), spoken(decoder, other, GREEDY))
        return [first, *both, await spoken(decoder, one, wishes[1])]

    async def apart():
        return [await spoken(of(model), one, wish) for wish in wishes], await spoken(of(model), other, GREEDY)

    found = asyncio.run(many())
    alone, beside = asyncio.run(apart())
    assert found == [alone[0], *alone, beside, alone[1]]
    assert reading.read == [one, other]


def test_a_prompt_is_read_again_once_its_place_was_needed(model):
    one, other = prompt_of(model, 5, 6, 7), prompt_of(model, 8, 9)
    reading = Reading(model)

    async def three():
        decoder = of(reading, slots=1)
        return [await spoken(decoder, prompt, GREEDY) for prompt in (one, other, one)]

    first, _, again = asyncio.run(three())
    assert first == again and reading.read == [one, other, one]


def test_a_long_prompt_holds_the_others_up_a_slice_at_a_time(monkeypatch):
    """While one is read for ten slices, another writes on between them."""
    monkeypatch.setattr(scheduler, "PREFILL_SECONDS", 0.0)

    class Slow(Counting):
        def prefill(self, ids, cache, slot):
            for _ in range(10 if int(ids[-1]) == 50 else 1):
                self.steps.append("page")
                yield
            return self.logits(ids[-1:])[0]

    async def both():
        model = Slow(gate := threading.Semaphore(1))
        decoder = of(model)
        first = asyncio.create_task(spoken(decoder, [10], replace(GREEDY, max_new_tokens=60)))
        await asyncio.sleep(0.05)  # it has its first token, and is held at the gate
        second = asyncio.create_task(spoken(decoder, [50], GREEDY))
        await asyncio.sleep(0.01)
        gate.release(200)
        await asyncio.gather(first, second)
        return model.steps

    steps = asyncio.run(both())
    begun, joined = len(steps) - 1 - steps[::-1].index("page"), steps.index([50])
    pages = [i for i, step in enumerate(steps[: joined + 1]) if step == "page"][1:]
    assert len(pages) == 10 and begun == pages[-1]
    assert all(step - page == 2 for page, step in pairwise(pages))


def test_closing_the_stream_drops_the_row_within_one_further_step():
    async def leave():
        model = Counting(gate := threading.Semaphore(0))
        decoder = of(model)
        async with aclosing(decoder.stream([4], replace(GREEDY, max_new_tokens=80))) as tokens:
            for _ in range(3):
                gate.release()
                await anext(tokens)
        taken = len(model.steps)
        gate.release(80)
        assert idle(decoder)
        return len(model.steps) - taken

    assert asyncio.run(leave()) <= 1


def test_who_leaves_while_being_read_is_read_no_further():
    class Endless(Counting):
        pages = 0

        def prefill(self, ids, cache, slot):
            while True:
                self.pages += 1
                yield

    async def leave():
        decoder = of(model := Endless())
        task = asyncio.create_task(spoken(decoder, [4], GREEDY))
        while not model.pages:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return idle(decoder)

    assert asyncio.run(leave())


def test_cancelling_the_task_that_listens_drops_the_row():
    async def leave():
        model = Counting(gate := threading.Semaphore(0))
        decoder = of(model)
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
    decoder = of(model)

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
        for token in {13, 22} & set(ids.tolist()):
            raise RuntimeError(f"no word after {token}")
        return found


class Overflowing(Failing):
    """The same as numbers that are none."""

    def logits(self, ids):
        return torch.where(torch.isin(ids, torch.tensor([13, 22]))[:, None], torch.nan, Counting.logits(self, ids))


@pytest.mark.parametrize("model, error", [(Failing, RuntimeError), (Overflowing, ArithmeticError)])
@pytest.mark.parametrize("start", [13, 20])
def test_an_error_in_one_row_fails_that_row_alone(start, model, error, caplog):
    async def three():
        decoder = of(model())
        replies = (spoken(decoder, [first], GREEDY) for first in (40, start, 60))
        found = await asyncio.gather(*replies, return_exceptions=True)
        return [*found, await spoken(decoder, [80], GREEDY)]

    one, failed, other, later = asyncio.run(three())
    assert isinstance(failed, error)
    if (start, model) == (20, Failing):  # the whole step's error, before it was found whose it is
        assert "decode step" in caplog.text and "no word after 22" in caplog.text
    assert (one, other, later) == ([*range(41, 49)], [*range(61, 69)], [*range(81, 89)])


@pytest.mark.parametrize("model", ["chatglm", "t5", "baichuan"])
def test_a_slot_holds_nothing_of_a_row_that_overflowed(model):
    """Half precision overflows; the next visitor in the slot must not see a trace of it."""
    model = MODELS[model]
    prompt = prompt_of(model, 5, 6, 7)
    expected = asyncio.run(spoken(of(model), prompt, GREEDY))

    class Once:
        """The model, whose third step spoils the cache and gives no numbers."""

        decoder_only, penalty_tokens, prefill, count = (
            model.decoder_only,
            staticmethod(model.penalty_tokens),
            model.prefill,
            0,
        )

        def new_cache(self, *room):
            return model.new_cache(*room)

        def decode_step(self, ids, cache, slot=0):
            logits = model.decode_step(ids, cache, slot)
            self.count += 1
            if self.count != 3:
                return logits
            for part in (cache, getattr(cache, "own", cache), getattr(cache, "cross", cache)):
                if hasattr(part, "values"):
                    part.values[:, 0] = torch.inf
            return logits * torch.nan

    async def twice():
        decoder = of(Once(), slots=1)
        failed = await asyncio.gather(spoken(decoder, prompt, GREEDY), return_exceptions=True)
        return failed[0], await spoken(decoder, prompt, GREEDY)

    failed, after = asyncio.run(twice())
    assert isinstance(failed, ArithmeticError) and after == expected


@pytest.mark.parametrize("error", [MemoryError("no room"), torch.OutOfMemoryError("CUDA")])
def test_where_memory_runs_out_for_a_batch_it_is_written_one_by_one_and_nobody_is_lost(error):
    class Narrow(Counting):
        wide = 0

        def decode_step(self, ids, cache, slot=0):
            if len(ids) > 1:
                self.wide += 1
                raise error
            return super().decode_step(ids, cache, slot)

    async def three():
        model = Narrow(threading.Semaphore(0))
        decoder = of(model)

        async def begin():  # after all three were sent: on a busy machine the first may be done before the next comes
            model.gate.release(99)

        *found, _ = await asyncio.gather(*(spoken(decoder, [first], GREEDY) for first in (40, 50, 60)), begin())
        return model.wide, found

    wide, found = asyncio.run(three())
    assert wide and found == [[*range(first + 1, first + 9)] for first in (40, 50, 60)]


@pytest.mark.parametrize("part", ["drop_cancelled", "prefill_step", "decode_step"])
def test_a_thread_that_dies_fails_who_is_there_and_the_next_has_another(part, monkeypatch):
    class Bug(BaseException):
        """Not even an Exception: nothing in the loop foresees it."""

    async def one_after_another():
        decoder = of(Counting())
        with monkeypatch.context() as broken:
            broken.setattr(scheduler.Scheduler, part, lambda self: (_ for _ in ()).throw(Bug()))
            failed = await asyncio.gather(*(spoken(decoder, [t], GREEDY) for t in (40, 50)), return_exceptions=True)
        return failed, await spoken(decoder, [60], GREEDY)

    failed, later = asyncio.run(one_after_another())
    assert [type(error) for error in failed] == [Bug, Bug] and later == [*range(61, 69)]


def test_a_cache_that_does_not_fit_is_told_to_everybody():
    class Large(Counting):
        def new_cache(self, count, prompt, reply):
            raise MemoryError("no room")

    async def two():
        decoder = of(Large())
        first = await asyncio.gather(*(spoken(decoder, [4], GREEDY) for _ in range(2)), return_exceptions=True)
        return [*first, *await asyncio.gather(spoken(decoder, [4], GREEDY), return_exceptions=True)]

    errors = asyncio.run(two())
    assert [type(error) for error in errors] == [MemoryError] * 3
    assert len(set(map(id, errors))) == 3, "each task has an error object of its own"


def test_busy_when_too_many_wait_and_room_again_when_they_leave():
    async def crowd():
        gate = threading.Semaphore(0)
        decoder = of(Counting(gate), slots=1, max_waiting=2)
        first = asyncio.create_task(spoken(decoder, [40], GREEDY))
        while not decoder.scheduler or not decoder.scheduler.prefilling:  # the first is active, and held at the gate
            await asyncio.sleep(0.01)
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


def test_who_waits_is_told_how_many_are_ahead_and_served_in_order():
    async def crowd():
        gate = threading.Semaphore(0)
        decoder = of(Counting(gate), slots=1)
        told = {name: [] for name in (10, 30, 50)}

        async def visit(name):
            async for part in decoder.stream([name], replace(GREEDY, max_new_tokens=3)):
                told[name].append(part.count if isinstance(part, QueuePosition) else "wrote")

        tasks = []
        for name in told:
            tasks.append(asyncio.create_task(visit(name)))
            await asyncio.sleep(0.02)
        gate.release(2)
        await asyncio.sleep(0.05)
        before = {name: list(items) for name, items in told.items()}
        gate.release(100)
        await asyncio.gather(*tasks)
        return before, told

    before, told = asyncio.run(crowd())
    assert before[30][-1:] == [1] and before[50][-1:] == [2]
    assert [item for item in told[50] if item != "wrote"] == [2, 1]
    assert "wrote" in told[10][:1]


def test_the_thread_is_there_while_there_is_work_and_the_cache_a_while_longer(monkeypatch):
    monkeypatch.setattr(scheduler, "IDLE_SECONDS", 0.2)

    async def twice():
        decoder = of(Counting())
        for _ in range(2):
            assert decoder.thread is None and decoder.scheduler is None
            assert await spoken(decoder, [4], GREEDY) == [*range(5, 13)]
            ended(decoder)
            assert decoder.thread is None and decoder.scheduler is not None
            await asyncio.sleep(0.4)
        return True

    assert asyncio.run(twice())


@pytest.mark.process
@pytest.mark.slow
def test_a_process_that_ends_in_the_middle_of_a_reply_ends_well():
    """torch aborts a process whose thread is torn out of it; the reply here would take hours."""
    program = """
import asyncio
from bianque.engine.scheduler import Decoder
from bianque.types import Sampling
from tests import tiny

async def begin():
    decoder = Decoder(tiny.chatglm(), (), "cpu", (8, 10**6))
    await anext(decoder.stream([5, 41, 42], Sampling(temperature=0, max_new_tokens=10**6)))
    asyncio.all_tasks = lambda loop: ()  # nobody tidies up

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_decoder_holds_no_cache():
    decoder = of(Counting())
    asyncio.run(spoken(decoder, [4], GREEDY))
    decoder.close()
    assert decoder.thread is None and decoder.scheduler is None and decoder.idle_timer.finished.is_set()


# The cores.


def test_who_writes_alone_has_all_threads_and_several_divide_the_cores(monkeypatch):
    """Each model's threads, as torch has them, while it writes alone, beside another, and alone again."""
    monkeypatch.setattr("bianque.nn.cpu.core_count", lambda: 4)
    cores, seen = Cores(), {"one": [], "other": []}

    class Telling(Counting):
        def __init__(self, name, gate=None):
            super().__init__(gate)
            self.name = name

        def decode_step(self, ids, cache, slot=0):
            seen[self.name].append(torch.get_num_threads())
            return super().decode_step(ids, cache, slot)

    async def both():
        gate = threading.Semaphore(0)
        long, short = of(Telling("one", gate), cores=cores), of(Telling("other"), cores=cores)
        writing = asyncio.create_task(spoken(long, [4], replace(GREEDY, max_new_tokens=9)))
        gate.release(3)
        await asyncio.sleep(0.2)
        turns = len(seen["one"])
        gate.release(1)  # it is in the middle of a turn
        beside = asyncio.create_task(spoken(short, [40], replace(GREEDY, max_new_tokens=4)))
        await beside
        ended(short)
        gate.release(20)
        await writing
        return turns

    before = torch.get_num_threads()
    try:
        turns = asyncio.run(both())
    finally:
        torch.set_num_threads(before)
    assert seen["other"] == [2, 2, 2]
    assert set(seen["one"][:turns]) == {3} and seen["one"][-1] == 3


@pytest.mark.parametrize("given, writing, each", [(0, 1, 3), (0, 2, 2), (0, 4, 1), (0, 9, 1), (2, 1, 2), (2, 2, 1)])
def test_threads_of_each(monkeypatch, given, writing, each):
    monkeypatch.setattr("bianque.nn.cpu.core_count", lambda: 4)
    cores = Cores(given)
    cores.writing = writing
    assert cores.each == each

"""Residency: one load however many ask, its failure told to all and tried again, and nobody who leaves disturbs it."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from bianque.errors import LoadFailed
from bianque.pool import Pool
from bianque.types import Progress
from tests import tiny


class Loads:
    """A load that waits for its gate, reports, and gives (or raises) what it was told to."""

    def __init__(self, *results) -> None:
        self.results, self.calls, self.gate = list(results), [], threading.Event()

    def __call__(self, name, report):
        self.calls.append(name)
        report(Progress(name, "downloading", 0.5))
        assert self.gate.wait(10)
        report(Progress(name, "loading", 1.0))
        result = self.results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result


async def arrive(pool, name="a"):
    return await tiny.collect(pool.loading(name))


def test_many_askers_share_one_load():
    async def crowd():
        loads = Loads("engine")
        pool = Pool(loads)
        askers = [asyncio.create_task(arrive(pool)) for _ in range(50)]
        await asyncio.sleep(0.05)
        assert not pool.loaded("a")
        loads.gate.set()
        await asyncio.gather(*askers)
        return loads.calls, pool.engine("a"), pool.loaded("a")

    assert asyncio.run(crowd()) == (["a"], "engine", True)


def test_threads_that_ask_at_once_share_one_load():
    loads = Loads("engine")
    pool, barrier = Pool(loads), threading.Barrier(16)

    def ask():
        barrier.wait(10)
        asyncio.run(arrive(pool))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    loads.gate.set()
    for thread in threads:
        thread.join(10)
    assert loads.calls == ["a"] and pool.loaded("a")


def test_two_models_load_side_by_side():
    async def two():
        loads = Loads("one", "two")
        pool = Pool(loads)
        askers = [asyncio.create_task(arrive(pool, name)) for name in "ab"]
        await asyncio.sleep(0.05)
        begun = sorted(loads.calls)
        loads.gate.set()
        await asyncio.gather(*askers)
        return begun

    assert asyncio.run(two()) == ["a", "b"]


def test_a_loaded_model_is_there_without_progress():
    async def twice():
        loads = Loads("engine")
        loads.gate.set()
        pool = Pool(loads)
        await arrive(pool)
        return await arrive(pool), loads.calls

    assert asyncio.run(twice()) == ([], ["a"])


def test_progress_is_seen_by_all_and_each_step_once():
    async def watch():
        loads = Loads("engine")
        pool = Pool(loads)
        askers = [asyncio.create_task(arrive(pool)) for _ in range(3)]
        await asyncio.sleep(0.15)
        loads.gate.set()
        return await asyncio.gather(*askers)

    for seen in asyncio.run(watch()):
        assert Progress("a", "downloading", 0.5) in seen
        assert len(seen) == len(set(seen))


def test_a_failure_reaches_all_who_wait_and_the_next_tries_again():
    async def crowd():
        loads = Loads(LoadFailed("no network"), "engine")
        pool = Pool(loads)
        askers = [asyncio.create_task(arrive(pool)) for _ in range(5)]
        await asyncio.sleep(0.05)
        loads.gate.set()
        failures = await asyncio.gather(*askers, return_exceptions=True)
        assert not pool.loaded("a")
        await arrive(pool)
        return failures, loads.calls, pool.engine("a")

    failures, calls, engine = asyncio.run(crowd())
    assert [type(failure) for failure in failures] == [LoadFailed] * 5
    assert calls == ["a", "a"] and engine == "engine"


def test_a_failed_preparation_shows_at_the_next_request_only_if_it_fails_again():
    loads = Loads(LoadFailed("no network"), LoadFailed("still none"))
    loads.gate.set()
    pool = Pool(loads)
    with pytest.raises(LoadFailed):
        pool.prepare("a").future.result(10)
    with pytest.raises(LoadFailed, match="still none"):
        asyncio.run(arrive(pool))
    assert loads.calls == ["a", "a"]


def test_who_leaves_does_not_cancel_what_others_wait_for():
    async def leave():
        loads = Loads("engine")
        pool = Pool(loads)
        stays, leaves = (asyncio.create_task(arrive(pool)) for _ in range(2))
        closes = pool.loading("a")
        await anext(closes)
        await asyncio.sleep(0.05)
        leaves.cancel()
        await closes.aclose()
        await asyncio.gather(leaves, return_exceptions=True)
        loads.gate.set()
        await stays
        return leaves.cancelled(), loads.calls, pool.loaded("a")

    assert asyncio.run(leave()) == (True, ["a"], True)


def test_a_load_goes_on_when_all_have_left():
    loads = Loads("engine")
    pool = Pool(loads)

    async def leave():
        closes = pool.loading("a")
        await anext(closes)
        await closes.aclose()

    asyncio.run(leave())
    loads.gate.set()
    assert pool.prepare("a").future.result(10) == "engine"
    assert loads.calls == ["a"]


def test_a_failure_nobody_waits_for_any_more_is_not_complained_about():
    """asyncio reports every exception that nobody took; a visitor who left is no reason to."""
    complaints = []

    async def leave():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
        loads = Loads(LoadFailed("no network"))
        pool = Pool(loads)
        asker = asyncio.create_task(arrive(pool))
        closes = pool.loading("a")
        await anext(closes)
        await closes.aclose()
        await asyncio.sleep(0.25)
        loads.gate.set()
        await asyncio.gather(asker, return_exceptions=True)
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    gc.collect()  # it complains when the exception is thrown away
    assert complaints == []


def test_preparing_does_not_wait():
    loads = Loads("engine")
    pool = Pool(loads)
    assert pool.prepare("a") is pool.prepare("a")
    assert not pool.loaded("a") and not pool.loaded("b")
    loads.gate.set()
    assert pool.prepare("a").future.result(10) == "engine"

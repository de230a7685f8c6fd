"""Residency: one load however many ask, memory never exceeded, nobody's model taken away, and nobody left waiting."""

from __future__ import annotations

import asyncio
import functools
import gc
import queue
import threading
import weakref
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from bianque.backends.pool import Cancelled, Pool
from bianque.catalog.footprint import LoadPlan
from bianque.errors import Busy, LoadFailed, OutOfMemory
from bianque.types import Progress
from tests import tiny

GB = 10**9


@dataclass(eq=False)
class Engine:
    name: str
    fit: LoadPlan


@dataclass
class Work:
    """A load or a drop that does what it is told, step by step, in the pool's thread."""

    name: str
    fit: LoadPlan
    engine: Engine | None = None  # of a drop
    orders: queue.Queue = field(default_factory=queue.Queue)
    answers: queue.Queue = field(default_factory=queue.Queue)
    thread: threading.Thread = field(default_factory=threading.current_thread)

    def tell(self, order: str) -> None:
        """Have it done; when this returns, the pool knows of it."""
        self.orders.put(order)
        if order != "report" or self.answers.get(timeout=10) == "cancelled":
            self.thread.join(10)
            assert not self.thread.is_alive()


class World:
    """A machine with so much memory, which remembers what is really in it."""

    def __init__(self, fits, budget, **options) -> None:
        self.table, self.size = fits, budget
        self.loads: list[Work] = []
        self.drops: list[Work] = []
        self.begun: list[tuple[str, int]] = []
        self.copies: list[tuple[str, LoadPlan]] = []  # in memory, whole or in part
        self.leased: list[Engine] = []
        self.visitors: list[Visitor] = []
        self.surveys = self.dropped = 0
        self.faults: list[str] = []
        self.arrived = threading.Condition()
        self.pool = Pool(self.load, self.drop, self.fits, self.budget, **options)

    def fits(self, name):
        return self.table[name]

    def budget(self) -> int:
        self.surveys += 1
        return self.size

    def load(self, name, fit, report):
        with self.arrived:
            if any(other == name for other, _ in self.copies):
                self.faults.append(f"two copies of {name}")
            work = Work(name, fit)
            self.loads.append(work)
            self.begun.append((name, fit.bits))
            self.copies.append((name, fit))
            self.arrived.notify_all()
        try:
            while (order := work.orders.get()) == "report":
                report(Progress(name, "loading", 0.5))
                work.answers.put("reported")
            if order == "fail":
                raise LoadFailed(name)
            return Engine(name, fit)
        except BaseException as error:
            self.copies.remove((name, fit))
            if isinstance(error, Cancelled):
                work.answers.put("cancelled")
            raise
        finally:
            self.loads.remove(work)

    def drop(self, engine) -> None:
        with self.arrived:
            if engine in self.leased:
                self.faults.append(f"{engine.name} taken from under a lease")
            work = Work(engine.name, engine.fit, engine)
            self.drops.append(work)
            self.arrived.notify_all()
        work.orders.get()
        self.drops.remove(work)
        self.copies.remove((engine.name, engine.fit))
        self.dropped += 1

    @property
    def used(self) -> int:
        return sum(fit.size for _, fit in self.copies)

    def seen(self) -> None:
        """Wait until every load and drop that the pool has begun is under way in its thread."""
        with self.pool.lock:
            residents = list(self.pool.residents.values())
        loads = sum(resident.engine is None for resident in residents)
        drops = sum(resident.engine is not None and resident.state == "unloading" for resident in residents)
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.loads) == loads and len(self.drops) == drops, 10)


class Visitor:
    """Someone who asks for a model, waits, holds it until told to go, and leaves."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        world.visitors.append(self)
        self.lease = world.pool.lease(name)
        self.go, self.has = asyncio.Event(), asyncio.Event()
        self.seen: list[Progress] = []
        self.task = asyncio.get_running_loop().create_task(self.visit())
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # the test looks when it likes

    async def visit(self) -> None:
        async with self.lease:
            async with aclosing(self.lease.loading()) as loading:
                async for progress in loading:
                    self.seen.append(progress)
            engine = self.lease.engine
            self.world.leased.append(engine)
            self.has.set()
            try:
                await self.go.wait()
            finally:
                self.world.leased.remove(engine)

    @property
    def state(self) -> str:
        return "gone" if self.task.done() else "has" if self.has.is_set() else "waits"


async def turns() -> None:
    """Let everything happen that can happen now."""
    for _ in range(12):
        await asyncio.sleep(0)


def fit(size, bits=16, allowed=True) -> LoadPlan:
    return LoadPlan(bits, size, allowed)


def ways(*sizes, allowed=3) -> tuple[LoadPlan, ...]:
    """16, 8 and 4 bits; the first so many are allowed."""
    return tuple(
        fit(size, bits, place < allowed) for place, (size, bits) in enumerate(zip(sizes, (16, 8, 4), strict=False))
    )


SMALL = {name: (fit(10),) for name in "abcd"}


def world_of(fits=None, budget=100, **options) -> World:
    """A machine that was asked for its memory already."""
    world = World(fits or SMALL, budget, **options)
    for name in world.table:
        world.pool.survey(name)
    return world


class Scene:
    """What happens, step by step: `a` comes, its load ends, and so on."""

    def __init__(self, world: World) -> None:
        self.world, self.pool = world, world.pool

    async def come(self, name="a") -> Visitor:
        visitor = Visitor(self.world, name)
        await self.rest()
        return visitor

    async def leave(self, visitor: Visitor) -> None:
        visitor.go.set() if visitor.has.is_set() else visitor.task.cancel()
        await self.rest()

    async def load(self, name="a", order="finish") -> None:
        next(work for work in self.world.loads if work.name == name).tell(order)
        await self.rest()

    async def drop(self, name="a") -> None:
        next(work for work in self.world.drops if work.name == name).tell("finish")
        await self.rest()

    async def rest(self) -> None:
        await turns()
        self.world.seen()
        assert self.world.used <= self.world.size and self.world.faults == []

    async def resident(self, name="a") -> None:
        """Load it, and leave it idle."""
        visitor = await self.come(name)
        await self.load(name)
        await self.leave(visitor)


def told(story):
    """An asynchronous story as a test."""

    @functools.wraps(story)
    def tell(*args, **given):
        asyncio.run(story(*args, **given))

    return tell


# One load, however many ask.


@told
async def test_many_askers_share_one_load_and_hold_the_model_once():
    scene = Scene(world_of(budget=10, max_waiting=50))
    crowd = [await scene.come() for _ in range(50)]
    assert not scene.pool.loaded("a") and scene.pool.resident() == {}
    await scene.load()
    assert {visitor.state for visitor in crowd} == {"has"}
    assert scene.world.begun == [("a", 16)] and len({visitor.lease.engine for visitor in crowd}) == 1
    assert scene.pool.loaded("a") and scene.pool.resident() == {"a": fit(10)}


@told
async def test_two_models_load_side_by_side_and_a_third_answers_meanwhile():
    scene = Scene(world_of(budget=30))
    await scene.resident("c")
    for name in "ab":
        await scene.come(name)
    assert sorted(work.name for work in scene.world.loads) == ["a", "b"]
    assert (await scene.come("c")).state == "has"


@told
async def test_a_loaded_model_is_there_without_progress():
    scene = Scene(world_of())
    await scene.resident()
    visitor = await scene.come()
    assert (visitor.state, visitor.seen, scene.world.begun) == ("has", [], [("a", 16)])


@told
async def test_progress_is_seen_by_all_and_each_step_once():
    scene = Scene(world_of())
    crowd = [await scene.come() for _ in range(3)]
    await scene.load(order="report")
    while not all(Progress("a", "loading", 0.5) in visitor.seen for visitor in crowd):
        await asyncio.sleep(0.01)
    await scene.load()
    assert [visitor.seen for visitor in crowd] == [[Progress("a", "queued", 0.0), Progress("a", "loading", 0.5)]] * 3


@told
async def test_a_failure_reaches_all_who_wait_and_the_next_tries_again():
    scene = Scene(world_of())
    crowd = [await scene.come() for _ in range(5)]
    await scene.load(order="fail")
    assert {type(visitor.task.exception()) for visitor in crowd} == {LoadFailed}
    assert len({id(visitor.task.exception()) for visitor in crowd}) == 5, "each task has an error object of its own"
    assert not scene.pool.loaded("a") and scene.pool.residents == {} and scene.pool.queue == []
    late = await scene.come()
    await scene.load()
    assert late.state == "has" and scene.world.begun == [("a", 16)] * 2


def test_a_failed_load_keeps_nothing_of_what_it_had_read():
    """An error knows its traceback, that its frames, and those the tensors."""
    tensors = []

    def load(name, fit, report):
        tensor = Engine(name, fit)
        tensors.append(weakref.ref(tensor))
        try:
            raise MemoryError(tensor.name)
        except MemoryError as error:
            raise LoadFailed("no memory") from error

    pool = Pool(load, None, lambda name: (fit(1),), lambda: 10)
    with pytest.raises(LoadFailed) as failure:
        tiny.gathered(pool.lease("a").loading())
    assert isinstance(failure.value.__cause__, MemoryError)
    assert tensors[0]() is None


# Leaving.


@told
async def test_who_leaves_does_not_cancel_what_others_wait_for():
    scene = Scene(world_of())
    stays, leaves = [await scene.come() for _ in range(2)]
    await scene.leave(leaves)
    await scene.load(order="report")
    await scene.load()
    assert (stays.state, leaves.task.cancelled(), scene.world.begun) == ("has", True, [("a", 16)])


@told
async def test_who_leaves_just_as_the_model_comes_holds_nothing():
    scene = Scene(world_of())
    visitor = await scene.come()
    scene.world.loads[0].tell("finish")
    assert len(scene.pool.residents["a"].leases) == 1
    visitor.task.cancel()  # before the event loop had a turn to tell
    await scene.rest()
    assert visitor.task.cancelled() and not scene.pool.residents["a"].leases


@told
async def test_a_load_that_nobody_waits_for_ends_at_its_next_report_and_counts_until_then():
    scene = Scene(world_of(budget=15))
    await scene.leave(await scene.come("a"))
    other = await scene.come("b")
    assert scene.world.begun == [("a", 16)] and other.state == "waits"
    await scene.load("a", "report")
    assert scene.world.begun == [("a", 16), ("b", 16)]
    await scene.load("b")
    assert other.state == "has"


@told
async def test_who_comes_while_a_cancelled_load_winds_down_gets_a_load_of_their_own():
    scene = Scene(world_of())
    await scene.leave(await scene.come())
    late = await scene.come()
    assert len(scene.world.begun) == 1
    await scene.load(order="fail")
    assert late.state == "waits" and len(scene.world.begun) == 2
    await scene.load()
    assert late.state == "has"


@told
async def test_a_load_that_ends_before_it_sees_that_it_is_cancelled_is_not_wasted():
    scene = Scene(world_of())
    await scene.leave(await scene.come())
    late = await scene.come()
    await scene.load()
    assert late.state == "has" and len(scene.world.begun) == 1


@told
async def test_a_failure_nobody_waits_for_any_more_is_not_complained_about():
    """asyncio reports every exception that nobody took; a visitor who left is no reason to."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    scene = Scene(world_of())
    visitor = await scene.come()
    scene.world.loads[0].tell("fail")
    visitor.task.cancel()  # before the event loop had a turn to tell
    await scene.rest()
    assert visitor.task.cancelled()
    scene.world.visitors.clear()
    del visitor
    gc.collect()  # it complains when the exception is thrown away
    await turns()
    assert complaints == []


# Memory.


@told
async def test_the_least_recently_used_idle_model_goes_and_the_next_begins_when_it_has_gone():
    scene = Scene(world_of(budget=25))
    for name in "ab":
        await scene.resident(name)
    await scene.leave(await scene.come("a"))
    visitor = await scene.come("c")
    assert [work.name for work in scene.world.drops] == ["b"] and not scene.world.loads
    assert not scene.pool.loaded("b")
    await scene.drop("b")
    await scene.load("c")
    assert visitor.state == "has" and set(scene.pool.resident()) == {"a", "c"}


@told
async def test_a_lease_that_has_just_ended_is_a_recent_use():
    scene = Scene(world_of(budget=25))
    long = await scene.come("a")
    await scene.load("a")
    await scene.resident("b")
    await scene.leave(long)
    await scene.come("c")
    assert [work.name for work in scene.world.drops] == ["b"]


@told
async def test_a_leased_model_stays_and_who_needs_its_room_waits():
    scene = Scene(world_of(budget=15))
    holder = await scene.come("a")
    await scene.load("a")
    waiting = await scene.come("b")
    assert waiting.state == "waits" and not scene.world.drops
    await scene.leave(holder)
    await scene.drop("a")
    await scene.load("b")
    assert waiting.state == "has"


@told
async def test_all_who_wait_for_one_model_make_room_for_it_once():
    scene = Scene(world_of(budget=20))
    for name in "ab":
        await scene.resident(name)
    crowd = [await scene.come("c") for _ in range(3)]
    assert [work.name for work in scene.world.drops] == ["a"]
    await scene.drop("a")
    await scene.load("c")
    assert {visitor.state for visitor in crowd} == {"has"} and scene.pool.loaded("b")


@told
async def test_the_head_of_the_queue_gets_room_first():
    """`b` waits for `a` to end: nobody behind it is given anything, then it evicts as far as it needs."""
    scene = Scene(world_of({"a": (fit(50),), "b": ways(80, 50), "c": (fit(20),)}, budget=90))
    await scene.resident("c")
    holder = await scene.come("a")
    await scene.load("a")
    waiting, small, big = [await scene.come(name) for name in "bca"]
    assert [visitor.state for visitor in (waiting, small, big)] == ["waits"] * 3
    assert scene.pool.loaded("a") and scene.pool.progress("a") == Progress("a", "queued", 0.0)
    await scene.leave(holder)
    for name in "ca":
        await scene.drop(name)
    await scene.load("b")
    assert [visitor.state for visitor in (waiting, small, big)] == ["has", "waits", "waits"]


@told
async def test_behind_a_load_that_is_under_way_others_are_served():
    scene = Scene(world_of({"a": (fit(50),), "b": (fit(20),), "c": (fit(20),)}, budget=90))
    await scene.resident("c")
    await scene.come("a")
    assert (await scene.come("c")).state == "has"
    await scene.come("b")
    assert [work.name for work in scene.world.loads] == ["a", "b"]


@told
async def test_what_goes_out_for_one_is_not_taken_by_the_next():
    scene = Scene(world_of({"x": (fit(40),), "a": (fit(5),), "b": (fit(18),), "c": (fit(10),)}, budget=60))
    await scene.come("x")
    await scene.load("x")
    await scene.resident("a")
    await scene.come("b")
    await scene.come("c")  # would fit now, but not beside `b`
    assert [work.name for work in scene.world.drops] == ["a"] and scene.world.loads == []
    await scene.drop("a")
    assert [work.name for work in scene.world.loads] == ["b"]


@told
async def test_what_goes_out_and_is_not_taken_counts_for_the_next():
    scene = Scene(world_of({"x": (fit(20),), "a": (fit(30),), "b": (fit(15),), "m": ways(40, 20, 10)}, budget=60))
    await scene.come("x")
    await scene.load("x")
    await scene.resident("a")
    await scene.come("b")
    await scene.come("m")  # four bits would fit now, eight when `a` has gone
    assert [work.name for work in scene.world.drops] == ["a"] and scene.world.loads == []
    await scene.drop("a")
    assert scene.world.begun[2:] == [("b", 16), ("m", 8)]


@told
async def test_a_load_that_somebody_waits_for_is_not_ended_for_who_came_later():
    scene = Scene(world_of(budget=25))
    await scene.come("a")
    await scene.load("a")
    first, second = await scene.come("b"), await scene.come("c")
    await scene.load("b", "report")
    await scene.load("b")
    assert (first.state, second.state, scene.world.drops) == ("has", "waits", [])


@told
async def test_when_who_waited_longest_gives_up_those_behind_are_served():
    scene = Scene(world_of({"a": (fit(50),), "b": (fit(50),)}, budget=90))
    await scene.come("a")
    await scene.load("a")
    waiting, behind, last = [await scene.come(name) for name in "baa"]
    assert [visitor.state for visitor in (behind, last)] == ["waits", "waits"]
    await scene.leave(last)
    await scene.leave(waiting)
    assert behind.state == "has" and scene.pool.queue == [] and len(scene.world.leased) == 2


@told
async def test_a_model_that_somebody_waits_for_is_not_evicted_for_who_came_later():
    """`b` waits for `x` to end, so `a` has to wait; `c` would fit beside `b`, but only in the room of `a`."""
    table = {"x": (fit(40),), "a": (fit(40),), "b": (fit(70),), "c": (fit(30),)}
    scene = Scene(world_of(table, budget=100))
    await scene.resident("a")
    await scene.come("x")
    await scene.load("x")
    waiting, first, second = [await scene.come(name) for name in "bac"]
    assert (first.state, second.state, scene.world.drops) == ("waits", "waits", [])
    await scene.leave(waiting)
    assert (first.state, second.state, scene.world.drops) == ("has", "waits", [])


@pytest.mark.parametrize(
    "budget, leased, idle, begun, gone",
    [
        (100, "", "", 16, ""),
        (40, "", "", 16, ""),
        (39, "", "", 8, ""),
        (20, "", "", 8, ""),
        (19, "", "", 4, ""),
        (60, "x", "", 16, ""),
        (59, "x", "", 8, ""),
        (39, "x", "", 4, ""),
        (60, "", "x", 16, ""),
        (59, "", "x", 16, "x"),
        (60, "x", "y", 16, "y"),
        (59, "x", "y", 8, ""),
        (29, "x", "", None, ""),  # waits for x, then 8 would fit
    ],
)
@told
async def test_precision_drops_as_far_as_memory_demands(budget, leased, idle, begun, gone):
    scene = Scene(world_of({"m": ways(40, 20, 10), "x": (fit(20),), "y": (fit(2),)}, budget))
    for name in leased:
        await scene.come(name)
        await scene.load(name)
    for name in idle:
        await scene.resident(name)
    await scene.come("m")
    assert [work.name for work in scene.world.drops] == list(gone)
    for name in gone:
        await scene.drop(name)
    assert [bits for name, bits in scene.world.begun if name == "m"] == ([begun] if begun else [])
    assert all(name in scene.pool.resident() for name in leased)


@told
async def test_a_model_in_memory_answers_as_it_is_held():
    scene = Scene(world_of({"m": ways(40, 20, 10), "x": (fit(20),)}, budget=59))
    other = await scene.come("x")
    await scene.load("x")
    await scene.resident("m")
    await scene.leave(other)
    assert (await scene.come("m")).lease.engine.fit.bits == 8 and scene.pool.resident()["m"].bits == 8


@pytest.mark.parametrize(
    "fits, budget, told",
    [
        (
            ways(14.22 * GB, 7.58 * GB, 4.32 * GB, allowed=1),
            11 * GB,
            "m 需要 14.3 GB（16 位），可用 11.0 GB：请设置 BIANQUE_BITS=16,8 (7.6 GB) "
            "(needs 14.3 GB (16 bit), 11.0 GB are there: set BIANQUE_BITS=16,8 (7.6 GB))",
        ),
        (
            ways(14.22 * GB, 7.58 * GB, 4.32 * GB, allowed=2),
            5.06 * GB,
            "m 需要 14.3 GB（16 位）、7.6 GB（8 位），可用 5.0 GB：请设置 BIANQUE_BITS=16,8,4 (4.4 GB) "
            "(needs 14.3 GB (16 bit), 7.6 GB (8 bit), 5.0 GB are there: set BIANQUE_BITS=16,8,4 (4.4 GB))",
        ),
        (
            ways(14.22 * GB, 7.58 * GB, 4.32 * GB, allowed=1),
            5 * GB,
            "m 需要 14.3 GB（16 位），可用 5.0 GB：请设置 BIANQUE_BITS=16,4 (4.4 GB) "
            "(needs 14.3 GB (16 bit), 5.0 GB are there: set BIANQUE_BITS=16,4 (4.4 GB))",
        ),
        (
            ways(14.22 * GB, 7.58 * GB, 4.32 * GB),
            2 * GB,
            "m 需要 14.3 GB（16 位）、7.6 GB（8 位）、4.4 GB（4 位），可用 2.0 GB："
            "请换小一些的模型，或腾出内存、调高 BIANQUE_MEMORY_GB (needs 14.3 GB (16 bit), 7.6 GB (8 bit), 4.4 GB (4 bit), "
            "2.0 GB are there: choose a smaller model, or free memory and raise BIANQUE_MEMORY_GB)",
        ),
    ],
)
@told
async def test_what_never_fits_is_refused_with_what_would_help(fits, budget, told):
    scene = Scene(world_of({"m": fits}, budget))
    visitor = await scene.come("m")
    assert isinstance(visitor.task.exception(), OutOfMemory) and str(visitor.task.exception()) == told
    assert scene.world.begun == [] and scene.pool.queue == []


@told
async def test_too_many_waiting_are_told_so():
    scene = Scene(world_of(max_waiting=2))
    crowd = [await scene.come() for _ in range(3)]
    assert [visitor.state for visitor in crowd] == ["waits", "waits", "gone"]
    assert isinstance(crowd[2].task.exception(), Busy) and "a" in str(crowd[2].task.exception())
    assert (await scene.come("b")).state == "waits"
    await scene.load()
    assert (await scene.come()).state == "has"


def test_the_machine_is_asked_once_and_never_on_the_event_loop():
    """Asking imports torch, for seconds."""
    asked = []

    def budget():
        asked.append(threading.current_thread())
        return 100

    def fits(name):
        asked.append(threading.current_thread())
        return SMALL[name]

    pool = Pool(lambda name, fit, report: Engine(name, fit), None, fits, budget)

    async def visit(name):
        async with pool.lease(name) as lease:
            return [progress async for progress in lease.loading()]

    async def visits():
        pool.prepare("c")
        return await asyncio.gather(visit("a"), visit("a"), visit("b"), visit("c"))

    seen = asyncio.run(visits())
    assert seen[0][0] == Progress("a", "queued", 0.0)
    assert len(asked) == 4 and threading.current_thread() not in asked


def test_one_thread_surveys_however_many_ask():
    """Preparing a hundred times, or a hundred visitors, while the first survey runs: nobody occupies another thread."""
    started, go = [], threading.Event()

    def plans(name):
        started.append(threading.active_count())
        go.wait(10)
        return SMALL[name]

    pool = Pool(lambda name, plan, report: Engine(name, plan), None, plans, lambda: 100, max_waiting=200)

    async def visits():
        before = set(threading.enumerate())
        for _ in range(100):
            pool.prepare("a")
        visitors = [asyncio.ensure_future(tiny.collect(pool.lease("a").loading())) for _ in range(100)]
        await asyncio.sleep(0.05)
        assert len(set(threading.enumerate()) - before) == 1
        go.set()
        await asyncio.gather(*visitors)

    asyncio.run(visits())
    assert len(started) == 1


# Preparing.


@told
async def test_preparing_does_not_wait_and_visitors_who_leave_do_not_end_it():
    scene = Scene(world_of())
    scene.pool.prepare("a")
    scene.pool.prepare("a")
    await scene.leave(await scene.come())
    await scene.load(order="report")
    await scene.load()
    assert scene.pool.loaded("a") and scene.world.begun == [("a", 16)]


@told
async def test_preparing_keeps_a_load_that_a_visitor_began():
    scene = Scene(world_of())
    visitor = await scene.come()
    scene.pool.prepare("a")
    await scene.leave(visitor)
    await scene.load(order="report")
    await scene.load()
    assert scene.pool.loaded("a")


@told
async def test_preparing_evicts_nothing_and_takes_the_precision_that_is_left():
    scene = Scene(world_of({"m": ways(40, 20, 10), "x": (fit(20),), "y": (fit(50),)}, budget=59))
    await scene.resident("x")
    for name in "ym":
        scene.pool.prepare(name)
        await scene.rest()
    assert scene.world.begun[1:] == [("m", 8)] and scene.pool.loaded("x")


@told
async def test_what_is_prepared_takes_no_room_that_somebody_waits_for_and_gives_way():
    scene = Scene(world_of({"a": (fit(40),), "b": (fit(50),), "c": (fit(35),)}, budget=80))
    scene.pool.prepare("a")
    visitor = await scene.come("b")
    scene.pool.prepare("c")  # would fit now, but not beside `b`
    assert visitor.state == "waits" and scene.world.begun == [("a", 16)]
    await scene.load("a", "report")
    await scene.load("b")
    assert visitor.state == "has" and [name for name, _ in scene.world.begun] == ["a", "b"]


@told
async def test_nothing_is_prepared_while_somebody_waits_for_leases_to_end():
    scene = Scene(world_of({"a": (fit(10),), "b": (fit(25),), "c": (fit(10),)}, budget=30))
    await scene.come("a")
    await scene.load("a")
    await scene.come("b")
    scene.pool.prepare("c")
    await scene.rest()
    assert [name for name, _ in scene.world.begun] == ["a"]


def test_a_failed_preparation_shows_at_the_next_request_only_if_it_fails_again():
    loads = [LoadFailed("no network"), LoadFailed("still none")]

    def load(name, fit, report):
        raise loads.pop(0)

    pool = Pool(load, None, lambda name: (fit(1),), lambda: 100)
    pool.survey("lost")
    pool.prepare("lost")
    for thread in threading.enumerate():
        if thread.name.endswith(" lost"):
            thread.join(10)
    with pytest.raises(LoadFailed, match="still none"):
        tiny.gathered(pool.lease("lost").loading())


def test_preparing_never_raises():
    def fits(name):
        raise ZeroDivisionError

    pool = Pool(None, None, fits, lambda: 100)
    pool.prepare("a")  # in a thread, where pytest would complain
    with pytest.raises(ZeroDivisionError):
        tiny.gathered(pool.lease("a").loading())


# Whatever happens, in whatever order.

NAMES = st.sampled_from(["big", "half", "small", "tiny"])
TABLE = {
    "big": ways(87, 48, 28, allowed=2),
    "half": ways(50, 33),
    "small": ways(29, 20, 15),
    "tiny": (fit(5),),
    "all": (fit(100),),
}


class Anything(RuleBasedStateMachine):
    """Visitors come, leave and hold, loads succeed, fail and are cancelled, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = world_of(TABLE, budget=100)
        self.scene = Scene(self.world)

    def do(self, step):
        return self.loop.run_until_complete(step)

    def some(self, state: str) -> list[Visitor]:
        return [visitor for visitor in self.world.visitors if visitor.state == state]

    @rule(name=NAMES)
    def come(self, name):
        self.do(self.scene.come(name))

    @rule(name=NAMES)
    def prepare(self, name):
        leased, here = list(self.world.leased), self.world.pool.resident()
        self.world.pool.prepare(name)
        self.do(self.scene.rest())
        assert self.world.leased == leased and self.world.pool.resident() == here

    @precondition(lambda self: self.some("has"))
    @rule(data=st.data())
    def leave(self, data):
        self.do(self.scene.leave(data.draw(st.sampled_from(self.some("has")))))

    @precondition(lambda self: self.some("waits"))
    @rule(data=st.data())
    def give_up(self, data):
        self.do(self.scene.leave(data.draw(st.sampled_from(self.some("waits")))))

    @precondition(lambda self: self.world.loads)
    @rule(data=st.data(), order=st.sampled_from(["report", "finish", "finish", "fail"]))
    def load(self, data, order):
        work = data.draw(st.sampled_from(self.world.loads))
        cancelled = self.world.pool.residents[work.name].state == "unloading"
        waiting = {visitor for visitor in self.some("waits") if visitor.name == work.name}
        work.tell(order)
        self.do(self.scene.rest())
        failed = {visitor for visitor in waiting if visitor.state == "gone"}
        assert failed == (waiting if order == "fail" and not cancelled else set())

    @precondition(lambda self: self.world.drops)
    @rule(data=st.data())
    def drop(self, data):
        data.draw(st.sampled_from(self.world.drops)).tell("finish")
        self.do(self.scene.rest())

    @invariant()
    def never_over_budget(self):
        counted = sum(resident.plan.size for resident in self.world.pool.residents.values())
        assert self.world.used <= counted <= self.world.size

    @invariant()
    def nothing_is_taken_from_under_a_lease(self):
        assert self.world.faults == []
        dropping = [work.engine for work in self.world.drops]
        for visitor in self.some("has"):
            assert visitor.lease.engine in self.world.leased and visitor.lease.engine not in dropping
            assert self.world.pool.loaded(visitor.name)

    @invariant()
    def a_load_has_someone_to_load_for(self):
        for resident in self.world.pool.residents.values():
            if resident.state == "loading" and not resident.kept:
                assert any(visitor.name == resident.name for visitor in self.some("waits"))

    @invariant()
    def who_waits_longest_waits_for_somebody_who_came_before(self):
        """No deadlock, and nobody starves: leases end, loads and drops end, and then it is the oldest one's turn."""
        waiting = self.some("waits")
        if waiting and not self.world.loads and not self.world.drops:
            before = self.world.visitors[: self.world.visitors.index(waiting[0])]
            assert any(visitor.state == "has" for visitor in before)

    @invariant()
    def who_waits_longest_does_not_wait_for_what_is_here(self):
        waiting = self.some("waits")
        assert not waiting or not self.world.pool.loaded(waiting[0].name)

    @invariant()
    def nobody_overtakes_for_the_same_model(self):
        for name in TABLE:
            states = [v.state for v in self.world.visitors if v.name == name and v.state != "gone"]
            assert states == sorted(states)  # "has" before "waits"

    def teardown(self):
        """Let everything end: everybody gets what they waited for, and a model that needs all memory can have it."""
        last = self.do(self.scene.come("all"))
        while self.world.loads or self.world.drops or self.some("has") not in ([], [last]):
            for work in [*self.world.loads, *self.world.drops]:
                work.tell("finish")
            self.do(self.scene.rest())
            for visitor in self.some("has"):
                if visitor is not last:
                    self.do(self.scene.leave(visitor))
        assert self.some("waits") == [] and last.state == "has"
        assert self.world.copies == [("all", TABLE["all"][0])] and self.world.leased == [last.lease.engine]
        self.do(self.scene.leave(last))
        assert self.world.leased == [] and self.world.pool.queue == []
        assert self.world.pool.resident() == {"all": TABLE["all"][0]}
        self.loop.close()


@pytest.mark.slow
def test_whatever_happens_memory_holds_and_everybody_gets_their_turn():
    run_state_machine_as_test(Anything, settings=settings(max_examples=100, stateful_step_count=40))


def test_threads_that_come_and_go_at_once_never_exceed_the_budget():
    """Loads and drops at their own speed, visitors from sixteen event loops."""
    lock, used, most, failures = threading.Lock(), [0], [0], []

    def take(size):
        with lock:
            used[0] += size
            most[0] = max(most[0], used[0])

    def load(name, fit, report):
        take(fit.size)
        return Engine(name, fit)

    pool = Pool(load, lambda engine: take(-engine.fit.size), TABLE.__getitem__, lambda: 100)

    async def visits(names):
        for name in names:
            async with pool.lease(name) as lease:
                async for _ in lease.loading():
                    pass
                await asyncio.sleep(0)
                assert pool.engine(name) is lease.engine

    def visitor(start):
        try:
            names = sorted(TABLE)
            asyncio.run(visits([names[(start + i * i) % len(names)] for i in range(12)]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=visitor, args=(start,), daemon=True) for start in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads) and failures == []
    assert most[0] <= 100 and pool.queue == []

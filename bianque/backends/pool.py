"""Which models are in memory: leases keep them there, and all share one budget in bytes.

Requests are served strictly first come, first served: the head of the queue gets room first, by evicting models that
nobody uses, the least recently used first. While it waits for leases to end, nobody behind it is given anything.
"""

from __future__ import annotations

import asyncio
import math
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bianque.catalog.footprint import LoadPlan
from bianque.errors import BianQueError, Busy, OutOfMemory, copy_of
from bianque.types import Progress

if TYPE_CHECKING:
    from bianque.engine.engine import Engine


class Cancelled(BaseException):
    """Ends a load that nobody waits for; not an Exception, so that no loader swallows it."""


Report = Callable[[Progress], None]
Load = Callable[[str, LoadPlan, Report], "Engine"]


@dataclass(eq=False, slots=True)
class Resident:
    """A model that is loading, ready or unloading: its bytes count until it has gone."""

    name: str
    plan: LoadPlan
    kept: bool  # loads on although nobody waits
    progress: Progress
    state: Literal["loading", "ready", "unloading"] = "loading"
    engine: Engine | None = None
    leases: set[Lease] = field(default_factory=set)

    def report(self, progress: Progress) -> None:
        if self.state == "unloading":
            raise Cancelled
        self.progress = progress


class Lease:
    """One visitor's hold on a model: from when it is granted until it is closed, the model stays in memory."""

    def __init__(self, pool: Pool, name: str) -> None:
        self.pool, self.name = pool, name
        self.resident: Resident | None = None
        self.granted: Future[Engine] = Future()

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.pool.release(self)

    async def loading(self) -> AsyncGenerator[Progress, None]:
        """Progress until `engine` is there, at most ten times a second.

        Raises what the load raised, OutOfMemory if no allowed precision fits the budget, Busy if too many wait.
        """
        shown = None
        if not self.pool.is_surveyed(self.name):
            yield (shown := Progress(self.name, "queued", 0.0))
            await outcome(self.pool.begin_survey(self.name))
        self.pool.enqueue(self)
        while not self.granted.done():
            if (progress := self.pool.progress(self.name)) != shown:
                yield (shown := progress)
            await asyncio.wait({quietly_awaited(self.granted)}, timeout=0.1)  # cancels nothing when this visitor leaves
        await outcome(self.granted)

    @property
    def engine(self) -> Engine:
        """What `loading` has waited for."""
        return self.granted.result(timeout=0)


def quietly_awaited(future: Future[Any]) -> asyncio.Future[Any]:
    """For asyncio, which shall not complain of an exception that nobody looks at: its visitor may have left."""
    waiting = asyncio.wrap_future(future)
    waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return waiting


async def outcome(future: Future[Any]) -> Any:
    """The result, or an error object of this task's own."""
    if not future.done():
        await asyncio.wait({quietly_awaited(future)})
    if error := future.exception():
        raise copy_of(error)
    return future.result()


class Pool:
    """Decides which models are loaded, in which precision, and who waits.

    `plans` names the ways to hold a model, best first; `budget`, asked once, the bytes for all of them together. Both
    may take seconds and are never called on an event loop; `load` and `drop` run in threads of their own.
    """

    def __init__(
        self,
        load: Load,
        drop: Callable[[Engine], None],
        plans: Callable[[str], Sequence[LoadPlan]],
        budget: Callable[[], int],
        max_waiting: int = 32,
    ) -> None:
        self.load, self.drop, self.plans, self.budget = load, drop, plans, budget
        self.max_waiting = max_waiting
        self.surveying = threading.Lock()
        self.total = 0
        self.known: dict[str, tuple[LoadPlan, ...]] = {}
        self.lock = threading.Lock()  # for all below; held for arithmetic only
        self.surveys: dict[str, Future[None]] = {}
        self.residents: dict[str, Resident] = {}  # the least recently used first
        self.queue: list[Lease] = []  # who waits, in order of arrival
        self.failures: dict[str, str] = {}  # codes of what went wrong, of models whose last load failed

    def loaded(self, name: str) -> bool:
        return name in self.resident()

    def resident(self) -> Mapping[str, LoadPlan]:
        """The models that are ready, and how they are held."""
        with self.lock:
            return {resident.name: resident.plan for resident in self.residents.values() if resident.state == "ready"}

    def engine(self, name: str) -> Engine | None:
        """A model that is ready, to look at; only a lease keeps it there."""
        with self.lock:
            resident = self.residents.get(name)
            return resident.engine if resident and resident.state == "ready" else None

    def progress(self, name: str) -> Progress:
        with self.lock:
            resident = self.residents.get(name)
            return resident.progress if resident and resident.state == "loading" else Progress(name, "queued", 0.0)

    def lease(self, name: str) -> Lease:
        """`async with pool.lease(name) as lease`: exhaust `lease.loading()`, then use `lease.engine`."""
        return Lease(self, name)

    def prepare(self, name: str) -> None:
        """Load into memory that nobody uses or waits for, if there is enough; never waits, evicts or raises."""
        if self.is_surveyed(name):
            self.fill(name)
        else:  # an error shows at the next lease
            self.begin_survey(name).add_done_callback(lambda done: None if done.exception() else self.fill(name))

    def fill(self, name: str) -> None:
        with self.lock:
            if name in self.residents:
                self.residents[name].kept = True
                return
            room = self.schedule()
            for plan in self.possible(name):
                if plan.size <= room:
                    return self.start(name, plan, kept=True)

    def is_surveyed(self, name: str) -> bool:
        return name in self.known

    def begin_survey(self, name: str) -> Future[None]:
        """A survey in a thread, one for all who ask meanwhile; after a failed one the next asks again."""
        with self.lock:
            found = self.surveys.get(name)
            if found is None or (found.done() and found.exception()):
                found = self.surveys[name] = Future()
                threading.Thread(target=self._survey, args=(name, found), name=f"survey {name}", daemon=True).start()
            return found

    def _survey(self, name: str, found: Future[None]) -> None:
        try:
            self.survey(name)
        except BaseException as error:
            self.failures[name] = code_of(error)
            found.set_exception(error)
        else:
            found.set_result(None)

    def survey(self, name: str) -> None:
        """Learn the budget and what the model needs; slow, as this may be what imports torch."""
        with self.surveying:
            if not self.known:
                self.total = self.budget()
            if name not in self.known:
                self.known[name] = tuple(self.plans(name))

    def possible(self, name: str) -> list[LoadPlan]:
        return [plan for plan in self.known[name] if plan.allowed and plan.size <= self.total]

    def enqueue(self, lease: Lease) -> None:
        with self.lock:
            if not self.possible(lease.name):
                self.failures[lease.name] = OutOfMemory.code
                raise no_room(lease.name, self.known[lease.name], self.total)
            if sum(other.name == lease.name for other in self.queue) >= self.max_waiting:
                raise Busy(
                    f"正在等待 {lease.name} 的人太多 ({self.max_waiting})，请 {Busy.retry_after} 秒后再试 "
                    f"(too many are waiting; try again in {Busy.retry_after} s)"
                )
            self.queue.append(lease)
            self.schedule()

    def release(self, lease: Lease) -> None:
        """Close a lease, granted or still waiting; a load that nobody waits for any more is cancelled."""
        with self.lock:
            if lease.resident:
                lease.resident.leases.remove(lease)
                self.residents[lease.name] = self.residents.pop(lease.name)  # the last to be evicted
                lease.resident = None
            elif lease in self.queue:
                self.queue.remove(lease)
                resident = self.residents.get(lease.name)
                if resident and resident.state == "loading" and not resident.kept and not self.is_awaited(lease.name):
                    resident.state = "unloading"
            self.schedule()

    # Below, the caller holds the lock; `_load` and `_unload` are threads and take it themselves.

    def schedule(self) -> int:
        """Grant leases and begin loads in order of arrival, up to the first that must wait for room.

        Returns the bytes that nobody wants.
        """
        reserved = 0  # of what is unloading, the bytes that those ahead will take
        waiting: set[str] = set()  # models whose load has begun, or will once there is room
        for lease in tuple(self.queue):
            if lease.name in waiting:
                continue
            found = self.residents.get(lease.name)
            if found and found.state == "ready":
                self.grant(lease, found)
                continue
            if found is None or found.state == "unloading":
                plan = self.choose(lease.name, reserved)
                if plan is None:
                    return 0
                reserved += self.make_room(lease.name, plan, reserved)
            waiting.add(lease.name)
        return min(self.free(), self.unreserved(reserved))

    def choose(self, name: str, reserved: int) -> LoadPlan | None:
        """The first plan that fits once all idle models have gone; None if leases hinder every one."""
        room = self.unreserved(reserved) + sum(resident.plan.size for resident in self.idle())
        return next((plan for plan in self.possible(name) if plan.size <= room), None)

    def make_room(self, name: str, plan: LoadPlan, reserved: int) -> int:
        """Evict as far as needed and start to load; the bytes to reserve if what is unloading must be gone first."""
        for resident in self.idle():
            if plan.size > self.unreserved(reserved):
                self.evict(resident)
        if plan.size > self.free() or name in self.residents:
            return plan.size
        self.start(name, plan, kept=False)
        return 0

    def grant(self, lease: Lease, resident: Resident) -> None:
        assert resident.engine is not None, f"{lease.name} is ready without an engine"
        self.queue.remove(lease)
        lease.resident = resident
        resident.leases.add(lease)
        lease.granted.set_result(resident.engine)

    def is_awaited(self, name: str) -> bool:
        return any(lease.name == name for lease in self.queue)

    def idle(self) -> list[Resident]:
        """What may be evicted, the least recently used first: ready and not leased, or loading for nobody."""
        return [
            resident
            for resident in self.residents.values()
            if (resident.state == "ready" and not resident.leases)
            or (resident.state == "loading" and not self.is_awaited(resident.name))
        ]

    def free(self) -> int:
        return self.total - sum(resident.plan.size for resident in self.residents.values())

    def unreserved(self, reserved: int) -> int:
        """Bytes that are free once what is unloading has gone and the reserved ones are taken."""
        return self.total - sum(r.plan.size for r in self.residents.values() if r.state != "unloading") - reserved

    def start(self, name: str, plan: LoadPlan, kept: bool) -> None:
        resident = Resident(name, plan, kept, Progress(name, "queued", 0.0))
        begin(self._load, resident)
        self.residents[name] = resident

    def evict(self, resident: Resident) -> None:
        if resident.engine is not None:
            begin(self._unload, resident)
        resident.state = "unloading"  # a load sees this at its next report

    def _load(self, resident: Resident) -> None:
        """A thread: load the model, or tell all who wait why not."""
        try:
            engine = self.load(resident.name, resident.plan, resident.report)
        except BaseException as error:  # handed to every waiter, who decides
            forget(error)
            self.fail(resident, error)
            return
        with self.lock:
            resident.engine, resident.state = engine, "ready"  # also if it was cancelled too late to notice
            self.failures.pop(resident.name, None)
            self.schedule()

    def fail(self, resident: Resident, error: BaseException) -> None:
        with self.lock:
            del self.residents[resident.name]
            if not isinstance(error, Cancelled):
                self.failures[resident.name] = code_of(error)
            if resident.state == "loading":  # after a cancelled load, whoever waits gets a load of their own
                for lease in [lease for lease in self.queue if lease.name == resident.name]:
                    self.queue.remove(lease)
                    lease.granted.set_exception(error)
            self.schedule()

    def _unload(self, resident: Resident) -> None:
        """A thread: give the memory back before anybody else may have it."""
        assert resident.engine is not None, f"{resident.name} has nothing to drop"
        try:
            self.drop(resident.engine)
        finally:
            with self.lock:
                del self.residents[resident.name]
                self.schedule()


def begin(target: Callable[[Resident], None], resident: Resident) -> None:
    name = f"{target.__name__.strip('_')} {resident.name}"
    threading.Thread(target=target, args=(resident,), name=name, daemon=True).start()


def code_of(error: BaseException) -> str:
    return error.code if isinstance(error, BianQueError) else "BQ_INTERNAL"


def forget(error: BaseException | None) -> None:
    """Let go of what a failed load had read: the frames of its traceback hold the tensors."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def no_room(name: str, plans: Sequence[LoadPlan], total: int) -> OutOfMemory:
    """What each precision would need, what there is, and the setting that would help."""
    allowed = [plan for plan in plans if plan.allowed]
    other = next((plan for plan in plans if not plan.allowed and plan.size <= total), None)
    there = f"{total // 10**8 / 10:.1f} GB"
    chinese = "、".join(f"{gigabytes(plan)}（{plan.bits} 位）" for plan in allowed)
    english = ", ".join(f"{gigabytes(plan)} ({plan.bits} bit)" for plan in allowed)
    if other:
        setting = f"BIANQUE_BITS={','.join(str(plan.bits) for plan in (*allowed, other))} ({gigabytes(other)})"
        remedy, help = f"请设置 {setting}", f"set {setting}"
    else:
        remedy = "请换小一些的模型，或腾出内存、调高 BIANQUE_MEMORY_GB"
        help = "choose a smaller model, or free memory and raise BIANQUE_MEMORY_GB"
    return OutOfMemory(f"{name} 需要 {chinese}，可用 {there}：{remedy} (needs {english}, {there} are there: {help})")


def gigabytes(plan: LoadPlan) -> str:
    """Rounded up, as what is there is rounded down."""
    return f"{math.ceil(plan.size / 10**8) / 10:.1f} GB"

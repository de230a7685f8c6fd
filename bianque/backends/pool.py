"""Which models are in memory: leases keep them there, and the weights and caches of all share one budget in bytes."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bianque.catalog.footprint import Fit
from bianque.errors import Busy, OutOfMemory
from bianque.types import Progress

if TYPE_CHECKING:
    from bianque.engine.engine import Engine


class Cancelled(BaseException):
    """Ends a load that nobody waits for; not an Exception, which a loader's own rescue might swallow."""


Report = Callable[[Progress], None]
Load = Callable[[str, Fit, Report], "Engine"]


@dataclass(eq=False, slots=True)
class Resident:
    """A model in memory, or on its way in or out: its bytes count until it has gone."""

    name: str
    fit: Fit
    kept: bool  # loads on although nobody waits
    progress: Progress
    state: Literal["coming", "here", "going"] = "coming"
    engine: Engine | None = None
    leases: set[Lease] = field(default_factory=set)

    def report(self, progress: Progress) -> None:
        if self.state == "going":
            raise Cancelled
        self.progress = progress


class Lease:
    """One visitor's hold on a model, which stays in memory from when it is given until the lease closes."""

    def __init__(self, pool: Pool, name: str) -> None:
        self.pool, self.name = pool, name
        self.number = 0  # order of arrival
        self.resident: Resident | None = None
        self.given: Future[Engine] = Future()

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.pool.leave(self)

    async def coming(self) -> AsyncGenerator[Progress, None]:
        """Progress until `engine` is there, at most ten times a second.

        Raises what the load raised, OutOfMemory if no allowed precision fits the budget, Busy if too many wait.
        """
        shown = None
        if not self.pool.surveyed(self.name):
            yield (shown := Progress(self.name, "queued", 0.0))
            await asyncio.to_thread(self.pool.survey, self.name)
        self.pool.arrive(self)
        if self.given.done():  # wrapped, it would seem under way for one turn of the event loop
            return
        waiting = asyncio.wrap_future(self.given)
        # Whoever left before a failure leaves its future behind: asyncio would complain that nobody looked at it.
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        while not waiting.done():
            if (progress := self.pool.progress(self.name)) != shown:
                yield (shown := progress)
            await asyncio.wait({waiting}, timeout=0.1)  # cancels nothing when this visitor leaves
        waiting.result()

    @property
    def engine(self) -> Engine:
        """What `coming` has brought in."""
        return self.given.result(timeout=0)


class Pool:
    """Decides which models are loaded, in which precision, and who waits.

    `fits` names the ways to hold a model, best first; `budget`, asked once, the bytes for all of them together. Both
    may take seconds and are never called on an event loop; `load` and `drop` run in threads of their own.
    """

    def __init__(
        self,
        load: Load,
        drop: Callable[[Engine], None],
        fits: Callable[[str], Sequence[Fit]],
        budget: Callable[[], int],
        max_waiting: int = 32,
    ) -> None:
        self.load, self.drop, self.fits, self.budget = load, drop, fits, budget
        self.max_waiting = max_waiting
        self.surveying = threading.Lock()
        self.total = 0
        self.known: dict[str, tuple[Fit, ...]] = {}
        self.lock = threading.Lock()  # for all below; held for arithmetic only
        self.residents: dict[str, Resident] = {}  # the least recently used first
        self.queue: list[Lease] = []  # who waits, in order of arrival
        self.numbers = itertools.count()

    def loaded(self, name: str) -> bool:
        return name in self.resident()

    def resident(self) -> Mapping[str, Fit]:
        """The models that are in memory, and how they are held."""
        with self.lock:
            return {resident.name: resident.fit for resident in self.residents.values() if resident.state == "here"}

    def engine(self, name: str) -> Engine | None:
        """A model that is in memory, to look at; only a lease keeps it there."""
        with self.lock:
            resident = self.residents.get(name)
            return resident.engine if resident and resident.state == "here" else None

    def progress(self, name: str) -> Progress:
        with self.lock:
            resident = self.residents.get(name)
            return resident.progress if resident and resident.state == "coming" else Progress(name, "queued", 0.0)

    def lease(self, name: str) -> Lease:
        """`async with pool.lease(name) as lease`: exhaust `lease.coming()`, then use `lease.engine`."""
        return Lease(self, name)

    def prepare(self, name: str) -> None:
        """Load into memory that nobody uses or waits for, if there is enough; never waits, evicts or raises."""
        if self.surveyed(name):
            self.fill(name)
        else:
            threading.Thread(target=self.explore, args=(name,), name=f"prepare {name}", daemon=True).start()

    def explore(self, name: str) -> None:
        with suppress(Exception):  # shows at the next lease
            self.survey(name)
            self.fill(name)

    def fill(self, name: str) -> None:
        with self.lock:
            if name in self.residents:
                self.residents[name].kept = True
                return
            room = self.settle()
            for fit in self.possible(name):
                if fit.size <= room:
                    return self.start(name, fit, kept=True)

    def surveyed(self, name: str) -> bool:
        return name in self.known

    def survey(self, name: str) -> None:
        """Learn the budget and what the model needs; slow, as this may be what imports torch."""
        with self.surveying:
            if not self.known:
                self.total = self.budget()
            if name not in self.known:
                self.known[name] = tuple(self.fits(name))

    def possible(self, name: str) -> list[Fit]:
        return [fit for fit in self.known[name] if fit.allowed and fit.size <= self.total]

    def arrive(self, lease: Lease) -> None:
        with self.lock:
            if not self.possible(lease.name):
                raise no_room(lease.name, self.known[lease.name], self.total)
            if sum(other.name == lease.name for other in self.queue) >= self.max_waiting:
                raise Busy(
                    f"正在等待 {lease.name} 的人太多 ({self.max_waiting})，请稍后再试 "
                    "(too many are waiting; try again shortly)"
                )
            lease.number = next(self.numbers)
            self.queue.append(lease)
            self.settle()

    def leave(self, lease: Lease) -> None:
        """Close a lease, given or still waiting; a load that nobody waits for any more is cancelled."""
        with self.lock:
            if lease.resident:
                lease.resident.leases.remove(lease)
                self.residents[lease.name] = self.residents.pop(lease.name)  # the last to be evicted
                lease.resident = None
            elif lease in self.queue:
                self.queue.remove(lease)
                resident = self.residents.get(lease.name)
                alone = all(other.name != lease.name for other in self.queue)
                if resident and resident.state == "coming" and alone and not resident.kept:
                    resident.state = "going"
            self.settle()

    # Below, the caller holds the lock; `bring` and `empty` are threads and take it themselves.

    def settle(self) -> int:
        """Give those who wait what there is, in order of arrival; returns the bytes that nobody wants."""
        promised = 0  # of what is on its way out, the bytes that those ahead will take
        blocked = False
        ahead: dict[str, Lease] = {}  # who has waited longest for each model
        for lease in tuple(self.queue):
            if lease.name in ahead:
                continue
            found = self.residents.get(lease.name)
            if found is None or found.state == "going":
                fit = self.choose(lease.name, promised, ahead)
                if fit is None:
                    blocked = True
                elif not self.admit(lease.name, fit, promised, ahead):
                    promised += fit.size
            elif found.state == "here" and self.spares(ahead, found.name, found.fit):
                self.give(lease, found)
                continue
            ahead[lease.name] = lease
        return 0 if blocked else min(self.free(), self.spare(promised))

    def choose(self, name: str, promised: int, ahead: Mapping[str, Lease]) -> Fit | None:
        """The first way to hold a model that fits once the idle have gone; None if others' leases hinder all."""
        room = self.spare(promised) + sum(resident.fit.size for resident in self.idle(ahead))
        ways = (fit for fit in self.possible(name) if fit.size <= room and self.spares(ahead, name, fit))
        return next(ways, None)

    def admit(self, name: str, fit: Fit, promised: int, ahead: Mapping[str, Lease]) -> bool:
        """Evict as far as needed, then start to load; False if what goes out must be gone first."""
        for resident in self.idle(ahead):
            if fit.size > self.spare(promised):
                self.evict(resident)
        if fit.size > self.free() or name in self.residents:
            return False
        self.start(name, fit, kept=False)
        return True

    def give(self, lease: Lease, resident: Resident) -> None:
        assert resident.engine is not None, f"{lease.name} is here without an engine"
        self.queue.remove(lease)
        lease.resident = resident
        resident.leases.add(lease)
        lease.given.set_result(resident.engine)

    def spares(self, ahead: Mapping[str, Lease], name: str, fit: Fit) -> bool:
        """Whether each of those ahead gets its room once all before it have gone, though one behind is given this."""
        return all(
            fit.size + self.late(first, name) + min(way.size for way in self.possible(first.name)) <= self.total
            for first in ahead.values()
        )

    def late(self, first: Lease, name: str) -> int:
        """Bytes of the other models that come in, or that those behind `first` hold: it cannot count on them to go."""
        return sum(
            resident.fit.size
            for resident in self.residents.values()
            if resident.name not in (first.name, name)
            and (resident.state == "coming" or any(lease.number > first.number for lease in resident.leases))
        )

    def idle(self, ahead: Mapping[str, Lease]) -> list[Resident]:
        """What may go out, the least recently used first: nothing that those ahead wait for."""
        waited = {lease.name for lease in self.queue}
        return [
            resident
            for resident in self.residents.values()
            if (resident.state == "here" and not resident.leases and resident.name not in ahead)
            or (resident.state == "coming" and resident.name not in waited)  # only prepared
        ]

    def free(self) -> int:
        return self.total - sum(resident.fit.size for resident in self.residents.values())

    def spare(self, promised: int) -> int:
        """Bytes that are free once what is on its way out has gone and the promised ones are taken."""
        return self.total - sum(r.fit.size for r in self.residents.values() if r.state != "going") - promised

    def start(self, name: str, fit: Fit, kept: bool) -> None:
        resident = Resident(name, fit, kept, Progress(name, "queued", 0.0))
        begin(self.bring, resident)
        self.residents[name] = resident

    def evict(self, resident: Resident) -> None:
        if resident.engine is not None:
            begin(self.empty, resident)
        resident.state = "going"  # a load sees this at its next report

    def bring(self, resident: Resident) -> None:
        """A thread: load the model, or tell all who wait why not."""
        try:
            engine = self.load(resident.name, resident.fit, resident.report)
        except BaseException as error:  # handed to every waiter, who decides
            forget(error)
            self.failed(resident, error)
            return
        with self.lock:
            resident.engine, resident.state = engine, "here"  # also if it was cancelled too late to notice
            self.settle()

    def failed(self, resident: Resident, error: BaseException) -> None:
        with self.lock:
            del self.residents[resident.name]
            if resident.state == "coming":  # after a cancelled load, whoever waits gets a load of their own
                for lease in [lease for lease in self.queue if lease.name == resident.name]:
                    self.queue.remove(lease)
                    lease.given.set_exception(error)
            self.settle()

    def empty(self, resident: Resident) -> None:
        """A thread: give the memory back before anybody else may have it."""
        assert resident.engine is not None, f"{resident.name} has nothing to drop"
        try:
            self.drop(resident.engine)
        finally:
            with self.lock:
                del self.residents[resident.name]
                self.settle()


def begin(target: Callable[[Resident], None], resident: Resident) -> None:
    threading.Thread(target=target, args=(resident,), name=f"{target.__name__} {resident.name}", daemon=True).start()


def forget(error: BaseException | None) -> None:
    """Let go of what a failed load had read: the frames of its traceback hold the tensors."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def no_room(name: str, fits: Sequence[Fit], total: int) -> OutOfMemory:
    """What each precision would need, what there is, and the setting that would help."""
    allowed = [fit for fit in fits if fit.allowed]
    other = next((fit for fit in fits if not fit.allowed and fit.size <= total), None)
    there = f"{total // 10**8 / 10:.1f} GB"
    chinese = "、".join(f"{gigabytes(fit)}（{fit.bits} 位）" for fit in allowed)
    english = ", ".join(f"{gigabytes(fit)} ({fit.bits} bit)" for fit in allowed)
    if other:
        setting = f"BIANQUE_BITS={','.join(str(fit.bits) for fit in (*allowed, other))} ({gigabytes(other)})"
        remedy, help = f"请设置 {setting}", f"set {setting}"
    else:
        remedy = "请换小一些的模型，或腾出内存、调高 BIANQUE_MEMORY_GB"
        help = "choose a smaller model, or free memory and raise BIANQUE_MEMORY_GB"
    return OutOfMemory(f"{name} 需要 {chinese}，可用 {there}：{remedy} (needs {english}, {there} are there: {help})")


def gigabytes(fit: Fit) -> str:
    """Rounded up, as what is there is rounded down."""
    return f"{math.ceil(fit.size / 10**8) / 10:.1f} GB"

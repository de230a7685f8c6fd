"""Continuous batching with chunked prefill: token ids in, token ids out, one thread a model.

All replies under way share one decode step. A new request is prefilled in chunks of 100 ms between decode steps and then
joins the batch; finished and cancelled sequences free their slot before the next step. The sequences of a step hold the
first slots of the cache, so the model sees a dense batch.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bianque.engine.sampler import Sampler
from bianque.errors import Busy, copy_of
from bianque.models.base import LanguageModel
from bianque.nn.cpu import Cores
from bianque.types import Sampling

PREFILL_SECONDS = 0.1  # of a prompt between two decode steps, or one layer if that takes longer
THREAD_NAME = "decode"
IDLE_SECONDS = 60.0  # without work, after which the cache is freed

log = logging.getLogger(__name__)
stopping = threading.Event()


@atexit.register
def stop_threads() -> None:
    """The interpreter ends: killing a thread in the middle of a torch operation would abort the process."""
    stopping.set()
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(10)


class Recorder(Protocol):
    """Makes the decode steps of one model faster: CUDA graphs (`cuda_graphs.py`), or TorchScript (`traces.py`)."""

    @property
    def failed(self) -> bool:
        """Whether recording failed: then steps are plain ones."""

    def steps(self, model: LanguageModel, cache: Any, slots: int) -> Callable[[Tensor], Tensor]:
        """`model.decode_step` in the first slots of a cache, of which there are so many."""


def step_function(
    recorder: Recorder | None, model: LanguageModel, cache: Any, slots: int
) -> Callable[[Tensor], Tensor]:
    """The recorder's decode step, or the model's own without one."""
    return recorder.steps(model, cache, slots) if recorder else lambda ids: model.decode_step(ids, cache)


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """`count` requests are served before this one."""

    count: int


Item = int | QueuePosition | BaseException | None  # None: the reply is over


class Sequence:
    """One reply being written. `items`, what was made for it, belongs to its event loop."""

    def __init__(self, prompt: list[int], sampling: Sampling, loop: asyncio.AbstractEventLoop) -> None:
        self.prompt, self.sampling, self.loop = prompt, sampling, loop
        self.items: list[Item] = []
        self.arrived = asyncio.Event()
        self.cancelled = threading.Event()
        self.position = 0
        self.last = self.count = 0  # the newest token, and how many there are

    async def next(self) -> list[Item]:
        await self.arrived.wait()
        self.arrived.clear()
        items, self.items = self.items, []
        return items


class Outbox:
    """Carries what a step made to the visitors' event loops, each of which is woken once."""

    def __init__(self) -> None:
        self.pending: dict[asyncio.AbstractEventLoop, list[tuple[Sequence, Item]]] = {}

    def put(self, sequence: Sequence, item: Item) -> None:
        self.pending.setdefault(sequence.loop, []).append((sequence, item))

    def flush(self) -> None:
        for loop, items in self.pending.items():
            try:
                loop.call_soon_threadsafe(deliver, items)
            except RuntimeError:  # the event loop is closed, and its visitors are gone
                for sequence, _ in items:
                    sequence.cancelled.set()
        self.pending = {}


def deliver(items: Iterable[tuple[Sequence, Item]]) -> None:
    for sequence, item in items:
        sequence.items.append(item)
        sequence.arrived.set()


class Decoder:
    """Runs a model for many replies at once; `stream` is the whole interface.

    `lengths` are the most tokens of a prompt and of a reply, in each of the `slots` that decode at the same time. With a
    `recorder`, decode steps are recorded and replayed; `cores` are shared with other decoders. The thread lives while
    there is work, the cache a minute longer.
    """

    def __init__(
        self,
        model: LanguageModel,
        ends: Collection[int],
        device: str,
        lengths: tuple[int, int],
        slots: int = 8,
        max_waiting: int = 32,
        recorder: Recorder | None = None,
        cores: Cores | None = None,
    ) -> None:
        self.recorder, self.cores = recorder, cores or Cores(torch.get_num_threads())
        self.model, self.ends, self.device, self.lengths = model, ends, device, lengths
        self.slots, self.max_waiting = slots, max_waiting
        self.waiting: deque[Sequence] = deque()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.scheduler: Scheduler | None = None
        self.idle_timer: threading.Timer | None = None  # until the cache is freed

    def close(self) -> None:
        """Free the cache and all recordings, once no reply is under way."""
        if thread := self.thread:
            thread.join()
        self.recorder = None
        if self.idle_timer:
            self.idle_timer.cancel()
        self.drop_cache()

    async def stream(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[list[int] | QueuePosition, None]:
        """Reply tokens as they come, without the end token; before them, positions in the queue.

        Closing the iterator cancels the sequence before the next step. Busy if `max_waiting` wait already.
        """
        sequence = Sequence(prompt, sampling, asyncio.get_running_loop())
        with self.lock:
            if len(self.waiting) >= self.max_waiting:
                raise Busy(
                    f"正在排队的人太多 ({self.max_waiting})，请 {Busy.retry_after} 秒后再试 "
                    f"(too many are waiting; try again in {Busy.retry_after} s)"
                )
            self.waiting.append(sequence)
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name=THREAD_NAME, daemon=True)
                self.thread.start()
        try:
            over = False
            while not over:
                items = await sequence.next()
                if tokens := [item for item in items if isinstance(item, int)]:
                    yield tokens
                for item in items:
                    if isinstance(item, BaseException):
                        raise item
                    if isinstance(item, QueuePosition):
                        yield item
                    over = over or item is None
        finally:
            sequence.cancelled.set()
            with self.lock, suppress(ValueError):  # leaving the queue makes room in it
                self.waiting.remove(sequence)

    @torch.inference_mode()
    def run(self) -> None:
        """The thread: steps as long as there is work."""
        try:
            scheduler = self.scheduler = self.scheduler or Scheduler(self)
            with self.cores.share() as set_threads:
                while not stopping.is_set() and self.schedule(scheduler):
                    set_threads()
                    for part in (scheduler.drop_cancelled, scheduler.prefill_step, scheduler.decode_step):
                        part()
                        scheduler.outbox.flush()  # a first token does not wait for the others' next
        except BaseException as error:  # no memory for the cache, or a bug: nobody is left waiting
            self.fail_all(error)

    def fail_all(self, error: BaseException) -> None:
        scheduler = self.scheduler
        outbox = scheduler.outbox if scheduler else Outbox()
        with self.lock:
            self.thread = self.scheduler = None
            for sequence in (*(scheduler.sequences if scheduler else ()), *self.waiting):
                outbox.put(sequence, copy_of(error))
            self.waiting.clear()
        outbox.flush()

    def drop_cache(self) -> None:
        with self.lock:
            if self.thread is None:
                self.scheduler = None

    def schedule(self, scheduler: Scheduler) -> bool:
        """Start the next prefill if there is a slot, and tell the others their position; False if there is no work."""
        with self.lock:
            if not scheduler.sequences and not self.waiting:
                self.thread = None
                if self.idle_timer:
                    self.idle_timer.cancel()
                self.idle_timer = threading.Timer(IDLE_SECONDS, self.drop_cache)
                self.idle_timer.daemon = True
                self.idle_timer.start()
                return False
            if self.waiting and scheduler.has_room:
                scheduler.start_prefill(self.waiting.popleft())
            for position, sequence in enumerate(self.waiting, 1):
                if sequence.position != position:
                    sequence.position = position
                    scheduler.outbox.put(sequence, QueuePosition(position))
        return True


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """A prompt that a slot holds: how far the slot was filled when it was read, and the logits [vocab] that followed."""

    prompt: list[int]
    mark: Any
    logits: Tensor


class Scheduler:
    """The batch: sequences that decode, in the first slots, and the one that is `prefilling` behind them.

    A slot keeps its prompt when its reply is over, until the slot is needed: the same prompt is not read again.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.model, self.ends, self.device = decoder.model, decoder.ends, decoder.device
        self.slots = decoder.slots
        self.cache = self.model.new_cache(self.slots, *decoder.lengths)
        self.step = step_function(decoder.recorder, self.model, self.cache, self.slots)
        self.sampler: Sampler | None = None  # the first logits tell the size of the vocabulary
        self.decoding: list[Sequence] = []
        self.cached: list[CachedPrompt | None] = [None] * self.slots
        self.prefilling: Sequence | None = None
        self.prefill: Generator[None, None, Tensor] | None = None
        self.prefill_slot = 0
        self.outbox = Outbox()

    @property
    def sequences(self) -> list[Sequence]:
        return [*self.decoding, *([self.prefilling] if self.prefilling else [])]

    @property
    def has_room(self) -> bool:
        return self.prefilling is None and len(self.decoding) < self.slots

    def start_prefill(self, sequence: Sequence) -> None:
        self.prefilling, self.prefill_slot, self.prefill = sequence, len(self.decoding), None

    def drop_cancelled(self) -> None:
        """Sequences whose visitors have left free their slots."""
        if self.prefilling and self.prefilling.cancelled.is_set():
            self.prefilling = self.prefill = None
        for slot in reversed(range(len(self.decoding))):
            if self.decoding[slot].cancelled.is_set():
                self.remove(slot)

    def remove(self, slot: int) -> None:
        """The last sequence takes the slot of one that is over."""
        last = self.decoding.pop()
        if slot < len(self.decoding):
            self.decoding[slot] = last
            self.move(len(self.decoding), slot)
            assert self.sampler is not None, "a sequence that never decoded"
            self.sampler.move(len(self.decoding), slot)

    def move(self, source: int, target: int) -> None:
        self.cache.copy(source, target, self.cache.mark(source))
        self.cached[target] = self.cached[source]

    def prefill_step(self) -> None:
        """Read on in the new prompt: to its end, or for one chunk if others decode."""
        sequence, deadline = self.prefilling, time.monotonic() + PREFILL_SECONDS
        if sequence is None:
            return
        try:
            if self.prefill is None:
                self.prefill = self.read_or_copy(sequence.prompt)
            try:
                while not sequence.cancelled.is_set():
                    next(self.prefill)
                    if self.decoding and self.is_past(deadline):
                        return
            except StopIteration as done:
                self.admit(sequence, done.value)
        except Exception as error:  # reaches the visitor's side, which logs it
            self.outbox.put(sequence, error)
        self.prefilling = self.prefill = None

    def read_or_copy(self, prompt: list[int]) -> Generator[None, None, Tensor]:
        """Read a prompt into its slot, unless a slot holds it: a reply is often tried again, or compared."""
        for slot, known in enumerate(self.cached):
            if known and known.prompt == prompt:
                self.cache.copy(slot, self.prefill_slot, known.mark)
                self.cached[self.prefill_slot] = known
                return known.logits
        self.cached[self.prefill_slot] = None
        ids = torch.tensor(prompt, device=self.device)
        return (yield from self.model.prefill(ids, self.cache, self.prefill_slot))

    def is_past(self, deadline: float) -> bool:
        """Whether it is later, all work that was given to a GPU included."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.monotonic() > deadline

    def admit(self, sequence: Sequence, logits: Tensor) -> None:
        """A prompt is read: its sequence joins the batch with its first token."""
        slot = len(self.decoding)
        if self.prefill_slot != slot:  # somebody left meanwhile
            self.move(self.prefill_slot, slot)
        self.cached[slot] = CachedPrompt(sequence.prompt, self.cache.mark(slot), logits)
        if self.sampler is None:
            self.sampler = Sampler(self.slots, len(logits), self.ends, self.device)
        self.sampler.admit(slot, sequence.sampling, self.model.penalty_tokens(sequence.prompt))
        self.decoding.append(sequence)
        self.emit(slot, self.sampler.draw(logits[None], slot))

    def decode_step(self) -> None:
        """A token for every sequence."""
        if not self.decoding:
            return
        assert self.sampler is not None, "sequences that were never read"
        ids = torch.tensor([sequence.last for sequence in self.decoding], device=self.device)
        try:
            logits = self.step(ids)
        except Exception as error:  # of which sequence? decoded one by one, the guilty one fails alone
            log.warning("a decode step of %d sequences failed: %s", len(ids), reason(error))
            self.decode_one_by_one(ids, self.sampler)
        else:
            self.emit(0, self.sampler.draw(logits))

    def decode_one_by_one(self, ids: Tensor, sampler: Sampler) -> None:
        """A step, one sequence after the other: an error ends its own alone."""
        for slot in reversed(range(len(self.decoding))):  # a freed slot goes to a sequence that has had its step
            try:
                logits = self.model.decode_step(ids[slot : slot + 1], self.cache, slot)
            except Exception as error:
                self.fail(slot, error)
            else:
                self.emit(slot, sampler.draw(logits, slot))

    def fail(self, slot: int, error: Exception) -> None:
        failed = self.decoding[slot]
        self.outbox.put(failed, error)
        self.cache.wipe(slot)
        self.cached = [known if known and known.prompt != failed.prompt else None for known in self.cached]
        self.remove(slot)

    def emit(self, first: int, tokens: list[int]) -> None:
        """Give the sequences from slot `first` on their tokens; those that are over leave, the last one first."""
        for slot, token in reversed(list(enumerate(tokens, first))):
            sequence = self.decoding[slot]
            if token < 0:
                self.fail(slot, ArithmeticError("the model's scores are not numbers"))
                continue
            if token not in self.ends:
                sequence.last, sequence.count = token, sequence.count + 1
                self.outbox.put(sequence, token)
            if token in self.ends or sequence.count >= sequence.sampling.max_new_tokens:
                self.outbox.put(sequence, None)
                self.remove(slot)


def reason(error: BaseException) -> str:
    """An error's type and first line: behind it torch may quote tensors, which are somebody's words."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

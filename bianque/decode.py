"""Tokens in, tokens out: one thread a model in which the waiting replies take turns, a token each."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from bianque.errors import Busy
from bianque.types import Sampling


class Model(Protocol):
    """What decoding needs of an architecture."""

    decoder_only: bool

    def prefill(self, ids: Tensor, room: int) -> tuple[Tensor, Any]:
        """Prompts [batch, length] → logits [batch, vocab] and a cache with room for so many reply tokens."""

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        """The newest tokens [batch] → logits [batch, vocab]."""


def adjust(logits: Tensor, seen: Sequence[int], sampling: Sampling) -> Tensor:
    """Scores [vocab] float32 after transformers' processors, in its order: penalty, n-grams, temperature, k, p."""
    scores = logits.float().clone()
    if sampling.repetition_penalty != 1.0 and seen:
        ids = torch.tensor(sorted(set(seen)), device=scores.device)
        old = scores[ids]
        scores[ids] = torch.where(old < 0, old * sampling.repetition_penalty, old / sampling.repetition_penalty)
    for token in closing(seen, sampling.no_repeat_ngram):
        scores[token] = -torch.inf
    if sampling.temperature == 0:
        return scores
    scores = scores / sampling.temperature
    if 0 < sampling.top_k < len(scores):
        scores[scores < scores.topk(sampling.top_k).values[-1]] = -torch.inf
    if sampling.top_p < 1:
        ordered, order = scores.sort()
        tail = ordered.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        tail[-1] = False  # the likeliest token always stays
        scores[order[tail]] = -torch.inf
    return scores


def closing(seen: Sequence[int], size: int) -> set[int]:
    """Tokens that would complete an n-gram of this size which `seen` already holds."""
    if size < 1 or len(seen) < size:
        return set()
    tail = tuple(seen[len(seen) - size + 1 :])
    return {seen[i + size - 1] for i in range(len(seen) - size + 1) if tuple(seen[i : i + size - 1]) == tail}


class Row:
    """One reply in the making."""

    def __init__(self, prompt: list[int], sampling: Sampling, loop: asyncio.AbstractEventLoop) -> None:
        self.prompt, self.sampling, self.loop = prompt, sampling, loop
        self.out: asyncio.Queue[int | BaseException | None] = asyncio.Queue()  # holds at most max_new_tokens
        self.produced: list[int] = []
        self.cache: Any = None
        self.dropped = threading.Event()
        self.generator = torch.Generator()
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(sampling.seed)

    def put(self, item: int | BaseException | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self.out.put_nowait, item)
        except RuntimeError:  # the visitor's event loop is gone, and the visitor with it
            self.dropped.set()


class Decoder:
    """Runs a model for many replies at once; `stream` is the whole interface."""

    def __init__(
        self, model: Model, ends: Collection[int], device: str, max_active: int = 4, max_waiting: int = 32
    ) -> None:
        self.model, self.ends, self.device = model, ends, device
        self.max_active, self.max_waiting = max_active, max_waiting
        self.waiting: deque[Row] = deque()
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None

    async def stream(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[int, None]:
        """Reply tokens without the end token. Closing the iterator drops the row before the next step."""
        row = Row(prompt, sampling, asyncio.get_running_loop())
        with self.changed:
            if len(self.waiting) >= self.max_waiting:
                raise Busy(
                    f"正在排队的人太多 ({self.max_waiting})，请稍后再试 (too many are waiting; try again shortly)"
                )
            self.waiting.append(row)
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="decode", daemon=True)
                self.thread.start()
            self.changed.notify()
        try:
            while (item := await row.out.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            row.dropped.set()
            with self.changed, suppress(ValueError):  # who leaves the queue makes room in it
                self.waiting.remove(row)

    @torch.inference_mode()
    def run(self) -> None:
        """Until nobody has waited for a minute: let newcomers in, then one token for each row."""
        active: list[Row] = []
        while True:
            with self.changed:
                if not active and not self.waiting and not self.changed.wait_for(lambda: self.waiting, timeout=60):
                    self.thread = None
                    return
                while self.waiting and len(active) < self.max_active:
                    active.append(self.waiting.popleft())
            active = [row for row in active if self.advance(row)]

    def advance(self, row: Row) -> bool:
        """One token further; False when the row is over. An error ends this row alone."""
        if row.dropped.is_set():
            return False
        try:
            if row.cache is None:
                ids = torch.tensor([row.prompt], device=self.device)
                logits, row.cache = self.model.prefill(ids, row.sampling.max_new_tokens)
            else:
                logits = self.model.step(torch.tensor([row.produced[-1]], device=self.device), row.cache)
            token = self.choose(logits[0], row)
        except Exception as error:  # reaches the visitor's side, which logs it and speaks calmly
            row.put(error)
            return False
        if token in self.ends:
            row.put(None)
            return False
        row.produced.append(token)
        row.put(token)
        if len(row.produced) >= row.sampling.max_new_tokens:
            row.put(None)
            return False
        return True

    def choose(self, logits: Tensor, row: Row) -> int:
        seen = row.prompt + row.produced if self.model.decoder_only else row.produced
        scores = adjust(logits, seen, row.sampling).cpu()
        if row.sampling.temperature == 0:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=row.generator))

"""Decode steps on a GPU as CUDA graphs.

A step launches some hundred small kernels, and at one row most of its time is launching them. A graph is launched at
once, but has one fixed shape: rows and spans are rounded up to powers of two, and each pair is recorded when it first
occurs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bianque.models.base import LanguageModel, step_and_advance
from bianque.nn.cache import StepInputs

SPAN = 128  # the least span that is recorded: shorter ones cost about the same

Play = Callable[[], Tensor]  # a step; played again, its result stands where it stood
log = logging.getLogger(__name__)
recording_lock = threading.Lock()  # one recording at a time, whichever model's


class GraphRecorder:
    """`record` makes a recording of a step; `failed` once it could not."""

    failed = False

    def record(self, step: Play) -> Play:
        raise NotImplementedError

    def steps(self, model: LanguageModel, cache: Any, slots: int) -> Callable[[Tensor], Tensor]:
        return Graphs(model, cache, slots, self).decode_step


class Graphs:
    """Steps of one model over one cache; plain ones from the first recording on that fails."""

    def __init__(self, model: LanguageModel, cache: Any, slots: int, recorder: GraphRecorder) -> None:
        self.model, self.cache, self.slots, self.recorder = model, cache, slots, recorder
        self.known: dict[tuple[int, tuple[int, ...]], tuple[Tensor, Play]] = {}

    def decode_step(self, ids: Tensor) -> Tensor:
        """One token further in the first slots: their newest tokens [rows] → logits [rows, vocab], until the next call."""
        return step_and_advance(self.forward_step, ids, self.cache)

    def forward_step(self, ids: Tensor, cache: Any, inputs: StepInputs) -> Tensor:
        logits = None if self.recorder.failed else self.play(ids, inputs)
        return self.model.forward_step(ids, cache, inputs) if logits is None else logits

    def play(self, ids: Tensor, inputs: StepInputs) -> Tensor | None:
        """The logits by way of a recording; None if none can be made."""
        rows = len(ids)
        count = min(next_power_of_two(rows), self.slots)
        limits = self.cache.limits
        spans = tuple(
            min(max(next_power_of_two(span), SPAN), limit) for span, limit in zip(inputs.spans, limits, strict=True)
        )
        numbers, recording = self.known.get((count, spans), (None, None))
        if numbers is None:
            numbers = ids.new_zeros(1 + len(inputs.numbers), count)
        numbers[0, :rows] = ids
        numbers[1:, :rows] = inputs.numbers
        # Unused rows write to the end of their slot, where no cached or unfinished prompt reaches.
        numbers[:, rows:] = 0
        numbers[1, rows:] = limits[0] - 1
        if recording is None:
            still = StepInputs(0, numbers[1:], spans, exact=False)
            try:
                with recording_lock:
                    recording = self.recorder.record(lambda: self.model.forward_step(numbers[0], self.cache, still))
            except Exception as error:
                self.recorder.failed = True
                reason = str(error).partition("\n")[0]  # behind it torch may quote tensors
                log.warning("no CUDA graph, steps are launched one by one: %s: %s", type(error).__name__, reason)
                return None
            self.known[count, spans] = numbers, recording
        return recording()[:rows]


def next_power_of_two(count: int) -> int:
    """The least power of two that is not below it."""
    return 1 << (count - 1).bit_length()


class Cuda(GraphRecorder):
    """Records on a GPU; the recordings of one model share their memory."""

    def __init__(self, device: str) -> None:
        self.device, self.pool = torch.device(device), torch.cuda.graph_pool_handle()

    def record(self, step: Play) -> Play:
        with torch.cuda.device(self.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                step()  # libraries make their handles and choose their kernels at a first call, which no graph can hold
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Other models' threads may allocate meanwhile: that is no error of this recording's.
            with torch.cuda.graph(graph, pool=self.pool, stream=aside, capture_error_mode="thread_local"):
                logits = step()

        def play() -> Tensor:
            graph.replay()
            return logits

        return play

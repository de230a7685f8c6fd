"""The models on a ZeroGPU Space, where a GPU is lent for one call at a time and each call runs in a forked worker."""

from __future__ import annotations

import asyncio
import contextvars
import math
import re
import threading
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import aclosing, closing
from typing import cast

import spaces
import torch
from torch import nn

from bianque.backends.local import Local
from bianque.catalog import builtin
from bianque.catalog.card import Model
from bianque.checkpoints import hub, loader
from bianque.engine.engine import Engine
from bianque.errors import BianQueError, Busy, LoadFailed
from bianque.types import Dialogue, Message, Piece, Progress, Sampling

Answer = Piece | BianQueError
# Assumed of the lent half of an H200: a token takes 15 ms of launching kernels and one reading of the weights at
# 1 TB/s; a worker that starts cold first reads all that was preloaded from disk, at 2 GB/s.
LAUNCHES, READS, MOVES = 0.015, 1e12, 2e9
SHORTEST, LONGEST = 15, 120  # seconds; what is asked for longer waits longer, and visitors have minutes a day


class Zero:
    """A Backend over models that were placed on the GPU beforehand.

    Build it in the main thread before the page is launched: what is on `device` then is what the workers find there.
    """

    def __init__(self, local: Local, names: Iterable[str], device: str = "cuda") -> None:
        self.cards = local.cards
        self.engines = {name: load_on(local, name, device) for name in dict.fromkeys(names)}
        # Each decorated function has workers of its own: one function, then, and the model is an argument.
        self.zero_gpu_call = spaces.GPU(duration=self.duration)(self.generate)

    def models(self) -> Sequence[Model]:
        return tuple(self.cards.values())

    def loaded(self, model: str) -> bool:
        return builtin.find(self.cards, model).name in self.engines

    def kernel(self, model: str) -> str | None:
        engine = self.engines.get(builtin.find(self.cards, model).name)
        return engine.kernel if engine else None

    def prepare(self, model: str) -> None:
        """Nothing: a model that is loaded later is not there for the workers that run."""

    def duration(self, name: str, dialogue: list[Message], sampling: Sampling) -> int:
        """Seconds to ask a GPU for; a reply that takes longer is cut off."""
        cold = sum(engine.card.loadable.memory(16) for engine in self.engines.values()) / MOVES
        token = LAUNCHES + self.cards[name].loadable.memory(16) / READS
        return max(SHORTEST, min(LONGEST, math.ceil(cold + token * sampling.max_new_tokens)))

    def generate(self, name: str, dialogue: list[Message], sampling: Sampling) -> Generator[Answer, None, None]:
        """One reply, in the worker. Only Gradio's errors cross to the page whole: ours come as the last item instead."""
        with closing(asyncio.new_event_loop()) as loop:
            pieces = self.engines[name].stream(dialogue, sampling)
            try:
                while piece := loop.run_until_complete(anext(pieces, None)):
                    yield piece
            except BianQueError as error:
                yield error
            finally:
                loop.run_until_complete(pieces.aclose())

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        name = builtin.find(self.cards, model).name
        if name not in self.engines:
            raise LoadFailed(
                f"{model}: 没有预先加载，这里有 {', '.join(self.engines)} (not preloaded here): "
                f"请在 BIANQUE_PRELOAD 中加入 {name} 并重启"
            )
        yield Piece(progress=Progress(name, "queued", 0.0))
        try:
            async with aclosing(threaded(self.zero_gpu_call(name, list(dialogue), sampling))) as pieces:
                async for piece in pieces:
                    yield piece
        except Exception as error:
            raise user_facing(error) from None


async def threaded(answers: Generator[Answer, None, None]) -> AsyncGenerator[Piece, None]:
    """The pieces of a generator that blocks, from a thread of its own; an error among them is raised.

    Nobody may close a generator while it runs: it is closed at its next item once this one has been.
    """
    loop, left = asyncio.get_running_loop(), threading.Event()
    came: asyncio.Queue[Answer | BaseException | None] = asyncio.Queue()  # holds at most max_new_tokens

    def hand(item: Answer | BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(came.put_nowait, item)
        except RuntimeError:  # the visitor's event loop is gone, and the visitor with it
            left.set()

    def drive() -> None:
        try:
            with closing(answers):
                for answer in answers:
                    if left.is_set():
                        return
                    hand(answer)
            hand(None)
        except BaseException as error:  # handed to the visitor's side, which decides
            hand(error)

    # The context holds the visitor's request, and with it the visitor's share of the GPUs.
    threading.Thread(target=contextvars.copy_context().run, args=(drive,), name="zero-gpu", daemon=True).start()
    try:
        while (item := await came.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()


def load_on(local: Local, name: str, device: str) -> Engine:
    """A card's engine with 16-bit weights on `device`, by way of this machine's memory."""
    card = builtin.find(local.cards, name)
    report = lambda progress: None
    folder, adapter = hub.folder_of(card, local.paths, report), hub.adapter_of(card, local.paths, report)
    model, tokenizer = loader.read(card, folder, "cpu", torch.float16, report, adapter=adapter)
    cast(nn.Module, model).to(device)
    return Engine(card, model, tokenizer, device)


def user_facing(error: BaseException) -> BaseException:
    """ZeroGPU's own refusals (no share left, no GPU free, cut off) are for the visitor: in plain text, as ours."""
    import gradio as gr

    if not isinstance(error, gr.Error):
        return error
    # A message with HTML in it prints as text.
    said = re.sub(r"<[^>]*>", "", str(error.message))
    return Busy(f"显卡没有完成这次回答，请稍后再试 ({error.title}: {said})")

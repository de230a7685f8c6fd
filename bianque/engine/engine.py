"""One loaded model, ready to chat: messages in, cleaned text out as it is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from torch import nn

from bianque.catalog import prompts
from bianque.catalog.card import Model
from bianque.engine.cuda_graphs import Cuda
from bianque.engine.scheduler import Decoder, QueuePosition, Recorder
from bianque.engine.traces import WORTH, Traces, is_supported
from bianque.errors import OutOfMemory
from bianque.models.base import LanguageModel
from bianque.models.tokenizers import Tokenizer
from bianque.nn.cpu import Cores, is_out_of_memory
from bianque.nn.quant import kernel_of
from bianque.types import Dialogue, Piece, Progress, Sampling, Usage

PIECE_SECONDS = 0.04  # between two pieces of a reply: faster is not visible, and cleaning the text takes time


class Engine:
    """Up to `slots` conversations at a time; at most `max_waiting` wait. `recorder` and `cores` are the decoder's."""

    def __init__(
        self,
        card: Model,
        model: LanguageModel,
        tokenizer: Tokenizer,
        device: str,
        slots: int = 8,
        max_waiting: int = 32,
        recorder: Recorder | None = None,
        cores: Cores | None = None,
    ) -> None:
        self.card, self.model, self.tokenizer = card, model, tokenizer
        self.facts = card.loadable
        window = self.facts.window
        lengths = (window, 0 if model.decoder_only else card.longest - window)
        self.decoder = Decoder(model, tokenizer.ends, device, lengths, slots, max_waiting, recorder, cores)

    @property
    def kernel(self) -> str:
        """What the weights are multiplied by: a kernel for 8 or 4 bits, or their type; and if steps could not be recorded."""
        recorder = self.decoder.recorder
        return kernel_of(cast(nn.Module, self.model)) + (" (plain steps)" if recorder and recorder.failed else "")

    def close(self) -> None:
        """Give the cache back; whoever still waits for a reply gets none."""
        self.decoder.close()

    def room(self, sampling: Sampling) -> int:
        """Tokens the prompt may fill: all of an encoder's window, what a shared window leaves beside the reply."""
        if not self.model.decoder_only:
            return self.facts.window
        return self.facts.window - min(sampling.max_new_tokens, self.facts.window // 2)

    async def stream(self, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """First a piece with the prompt's usage, then who is ahead, then new text, last a piece with `finish`.

        The texts joined are exactly the card's clean-up of all that the model wrote before a stop string.
        """
        encode = lambda turns: self.tokenizer.prompt(self.facts.prompt(turns))
        fitting = (dialogue, self.room(sampling), lambda turns: len(encode(turns)), self.facts.rounds)
        kept, dropped = await asyncio.to_thread(prompts.fit, *fitting)  # a long dialogue takes a while to read
        ids = encode(kept)
        if self.model.decoder_only:
            sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, self.facts.window - len(ids)))
        usage = Usage(len(ids), 0, dropped)
        yield Piece(usage=usage)
        produced: list[int] = []
        shown = ""
        due = 0.0
        async with aclosing(self.decode(ids, sampling)) as made:
            async for tokens in made:
                if isinstance(tokens, QueuePosition):
                    yield Piece(progress=Progress(self.card.name, "queued", 0.0, tokens.count))
                    continue
                produced += tokens
                if time.monotonic() < due:  # what comes meanwhile comes in one piece
                    continue
                raw = self.tokenizer.decode(produced)
                text, stopped = before(self.facts.clean(prompts.settled(raw)), sampling.stop)
                if stopped or prompts.over(raw):
                    break
                text = text[: len(text) - held(text, sampling.stop)]
                if len(text) > len(shown):
                    yield Piece(text=text[len(shown) :])
                    shown, due = text, time.monotonic() + PIECE_SECONDS
        raw = self.tokenizer.decode(produced)
        final, stopped = before(self.facts.clean(raw), sampling.stop)
        if len(final) > len(shown):
            yield Piece(text=final[len(shown) :])
        full = len(produced) >= sampling.max_new_tokens and not stopped and not prompts.over(raw)
        yield Piece(finish="length" if full else "stop", usage=replace(usage, completion_tokens=len(produced)))

    async def decode(self, ids: list[int], sampling: Sampling) -> AsyncGenerator[list[int] | QueuePosition, None]:
        """The decoder's stream, whose failures are told as what they are."""
        try:
            async with aclosing(self.decoder.stream(ids, sampling)) as made:
                async for part in made:
                    yield part
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"{self.card.title}: 回答时内存用尽；请稍后再试，或关闭其他程序，或调低 BIANQUE_SLOTS (out of memory while "
                "answering: try again shortly, close other programs, or lower BIANQUE_SLOTS)"
            ) from error


def recorder(device: str, worth: int = WORTH) -> Recorder | None:
    """What makes the steps of one model faster there; on a CPU, after so many plain ones."""
    if device == "cpu":
        return Traces(worth) if is_supported() else None
    return Cuda(device)


def before(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """What stands before the first stop string, and whether there is one."""
    place = min((place for stop in stops if (place := text.find(stop)) >= 0), default=-1)
    return (text, False) if place < 0 else (text[:place], True)


def held(text: str, stops: Sequence[str]) -> int:
    """Characters at the end that may be the beginning of a stop string."""
    sizes = (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return max(sizes, default=0)

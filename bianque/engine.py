"""One loaded model, ready to chat: messages in, cleaned text out as it is written."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from torch import nn

from bianque import prompts
from bianque.decode import Decoder, Model
from bianque.quant import kernel_of
from bianque.tokenizers import Tokenizer
from bianque.types import Dialogue, ModelCard, Piece, Sampling, Usage


class Engine:
    def __init__(self, card: ModelCard, model: Model, tokenizer: Tokenizer, device: str, max_waiting: int = 32) -> None:
        self.card, self.model, self.tokenizer = card, model, tokenizer
        self.decoder = Decoder(model, tokenizer.ends, device, max_waiting=max_waiting)

    @property
    def kernel(self) -> str:
        """What the weights are multiplied by: a kernel for 8 or 4 bits, or their type."""
        return kernel_of(cast(nn.Module, self.model))

    def room(self, sampling: Sampling) -> int:
        """Tokens the prompt may fill: all of an encoder's window, what a shared window leaves beside the reply."""
        if not self.model.decoder_only:
            return self.card.window
        return self.card.window - min(sampling.max_new_tokens, self.card.window // 2)

    async def stream(self, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """First a piece with the prompt's usage, then new text, last a piece with `finish`.

        The texts joined are exactly the card's clean-up of all that the model wrote.
        """
        encode = lambda turns: self.tokenizer.prompt(self.card.prompt(turns))
        kept, dropped = prompts.fit(dialogue, self.room(sampling), lambda turns: len(encode(turns)), self.card.rounds)
        ids = encode(kept)
        if self.model.decoder_only:
            sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, self.card.window - len(ids)))
        usage = Usage(len(ids), 0, dropped)
        yield Piece(usage=usage)
        produced: list[int] = []
        shown = raw = ""
        ended = False
        async with aclosing(self.decoder.stream(ids, sampling)) as tokens:
            async for token in tokens:
                produced.append(token)
                raw = self.tokenizer.decode(produced)
                if ended := prompts.over(raw):
                    break
                text = self.card.clean(prompts.settled(raw))
                if len(text) > len(shown):
                    yield Piece(text=text[len(shown) :])
                    shown = text
        final = self.card.clean(raw)
        if len(final) > len(shown):
            yield Piece(text=final[len(shown) :])
        full = len(produced) >= sampling.max_new_tokens and not ended
        yield Piece(finish="length" if full else "stop", usage=replace(usage, completion_tokens=len(produced)))

"""The project's own models as evaluation subjects: replies as the page gives them, likelihoods by teacher forcing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bianque.catalog import prompts
from bianque.engine.engine import Engine
from bianque.errors import TooLong
from bianque.models.chatglm import layout
from bianque.types import Dialogue


class Neural:
    """An engine under its card's own sampling, seeded by the place of the item, so that a run can be repeated."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model: Any = engine.model

    @property
    def name(self) -> str:
        return self.engine.card.name

    @torch.inference_mode()
    def logprob(self, history: Dialogue, reply: str) -> float:
        """ln p(reply and its end | history), the history cut to the window as the page does."""
        tokenizer = self.engine.tokenizer
        ids = self.encode(history)
        if self.model.decoder_only:
            wanted = [*tokenizer.encode(reply), tokenizer.eos]
            whole = torch.tensor([ids + wanted])
            logits = self.model(whole, *layout(whole, self.model.config))[0, len(ids) - 1 : -1]
        else:
            wanted = [*tokenizer.encode(prompts.t5_escape(reply)), tokenizer.eos]
            start = self.model.config.decoder_start_token_id
            logits = self.model(torch.tensor([ids]), torch.tensor([[start, *wanted[:-1]]]))[0]
        return float(chosen(logits, wanted).sum())

    def encode(self, history: Dialogue) -> list[int]:
        return self.engine.tokenizer.prompt(self.engine.card.loadable.prompt(self.fitting(history)))

    def fitting(self, history: Dialogue) -> Dialogue:
        """The history as the page would cut it; of a message that alone is too long, its end, as in training."""
        room = self.engine.room(self.engine.card.sampling)
        count = lambda turns: len(self.engine.tokenizer.prompt(self.engine.card.loadable.prompt(turns)))
        try:
            return prompts.fit(history, room, count)[0]
        except TooLong:
            return [replace(history[-1], content=history[-1].content[-room // 2 :])]

    def replies(self, histories: Sequence[Dialogue]) -> list[str]:
        return asyncio.run(self.all(histories))

    async def all(self, histories: Sequence[Dialogue]) -> list[str]:
        free = asyncio.Semaphore(self.engine.decoder.slots)

        async def one(seed: int, history: Dialogue) -> str:
            async with free:
                return await self.reply(history, seed)

        return await asyncio.gather(*(one(seed, history) for seed, history in enumerate(histories)))

    async def reply(self, history: Dialogue, seed: int) -> str:
        sampling = replace(self.engine.card.sampling, seed=seed)
        pieces = self.engine.stream(self.fitting(history), sampling)
        return "".join([piece.text async for piece in pieces])


def chosen(logits: Tensor, wanted: Sequence[int]) -> Tensor:
    """ln p [tokens] of the wanted tokens under logits [tokens, vocab]."""
    return logits.float().log_softmax(-1)[torch.arange(len(wanted)), torch.tensor(wanted)]

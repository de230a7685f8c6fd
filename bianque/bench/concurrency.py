"""`python -m bianque bench concurrency`: tokens a second of several visitors at once, through the whole session.

Beside it, with the same random weights of the true shape: the bare loop (prompts read, then steps and their arg max,
nothing else), and transformers' `generate` called by one thread a visitor (T5). A run is from the first visitor's
message to the last one's end, prompts included; every round runs each contestant once.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bianque import backend
from bianque.bench import shapes
from bianque.bench.decode import Work, bandwidth, machine, transformers_t5
from bianque.decode import Model
from bianque.engine import Engine
from bianque.registry import by_name
from bianque.session import Choices, Done, Session
from bianque.types import Dialogue, Message, ModelCard, Piece, Sampling

COMPLAINT = "我最近总是头痛，晚上睡不好，白天没有精神，已经有两个星期了，吃了药也不见好，不知道是什么原因。"
CARDS = {"t5": "bianque-1", "chatglm": "bianque-2"}


class Held:
    """A Backend of one engine that is there already."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def models(self) -> Sequence[ModelCard]:
        return (self.engine.card,)

    def loaded(self, model: str) -> bool:
        return True

    def kernel(self, model: str) -> str | None:
        return self.engine.kernel

    def prepare(self, model: str) -> None:
        pass

    async def stream(self, model: str, dialogue: Dialogue, sampling: Sampling) -> AsyncGenerator[Piece, None]:
        async for piece in self.engine.stream(dialogue, sampling):
            yield piece


def concurrency(options: Any) -> None:
    torch.set_num_threads(options.threads or backend.threads())
    torch.set_grad_enabled(False)
    config = shapes.config_of(options.arch, options.size, options.layers)
    found = []
    for precision in options.precision:
        model, tokenizer = shapes.random_model(config, options.arch, precision, options.device)
        tokens = options.tokens
        drawn = Sampling(temperature=0, min_new_tokens=tokens, max_new_tokens=tokens)
        card = replace(by_name()[CARDS[options.arch]], sampling=drawn)
        engine = Engine(card, model, tokenizer, options.device, max(options.visitors))
        prompt = len(tokenizer.prompt(card.prompt([Message("user", COMPLAINT)])))
        work = Work(options.arch, options.size, precision, options.layers, prompt, tokens, True, options.device)
        runs: dict[str, list[float]] = {}
        probes = []
        contestants: dict[str, Callable[[int], None]] = {
            "session": partial(session, engine),
            "bare loop": partial(bare, model, work),
        }
        if "hf" in options.peer:
            contestants["hf, a thread each"] = partial(threads, transformers_t5(work), work)
        for number in range(options.rounds + 1):
            probes.append(bandwidth())
            for count in options.visitors:
                for name, run in contestants.items():
                    begun = time.perf_counter()
                    run(count)
                    speed = count * tokens / (time.perf_counter() - begun)
                    if number:  # the first round warms up
                        runs.setdefault(f"{name}, {count} visitors", []).append(speed)
        print(f"\n{options.arch} {precision}, prompt {prompt}, {tokens} tokens each, {options.rounds} rounds")
        ours = {count: runs[f"session, {count} visitors"] for count in options.visitors}
        for name, speeds in runs.items():
            count = int(name.split()[-2])
            ratio = statistics.median(own / speed for own, speed in zip(ours[count], speeds, strict=True))
            told = f"{statistics.median(speeds):8.1f} tokens/s ({min(speeds):.1f}–{max(speeds):.1f})"
            print(f"{name:32} {told}   session is {ratio:.2f}×", flush=True)
        first = ours[options.visitors[0]]
        for count in options.visitors[1:]:
            gain = statistics.median(many / one for many, one in zip(ours[count], first, strict=True))
            print(f"{count} visitors have {gain:.2f}× the tokens/s of {options.visitors[0]}")
        found.append({"work": repr(work), "tokens_a_second": runs, "probes": probes})
        engine.close()
        del model, engine, contestants
    if options.json:
        options.json.write_text(json.dumps({"measured": found, **machine()}, indent=1) + "\n")


def session(engine: Engine, count: int) -> None:
    """As many visitors as that, each with a complaint of their own."""
    name = engine.card.name
    session = Session(Held(engine), name, name)

    async def visit(number: int) -> None:
        async for event in session.reply((), f"{COMPLAINT}{number}", Choices(mode="ask")):
            if isinstance(event, Done):
                assert event.usage.completion_tokens == engine.card.sampling.max_new_tokens, event.usage

    async def everybody() -> None:
        await asyncio.gather(*(visit(number) for number in range(count)))

    asyncio.run(everybody())


def bare(model: Model, work: Work, count: int) -> None:
    cache: Any = model.slots(count, work.prompt, work.tokens)
    rows = []
    for slot in range(count):
        pages = model.prefill(torch.tensor(work.ids(slot), device=work.device), cache, slot)
        rows.append(last(pages).argmax())
    ids = torch.stack(rows)
    for _ in range(work.tokens - 1):
        ids = model.step(ids, cache).argmax(-1)
        ids.tolist()  # whoever streams wants to see each


def last(pages: Any) -> torch.Tensor:
    while True:
        try:
            next(pages)
        except StopIteration as done:
            return done.value


def threads(model: Any, work: Work, count: int) -> None:
    def generate(number: int) -> None:
        ids = torch.tensor([work.ids(number)], device=work.device)
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=work.tokens,
            max_new_tokens=work.tokens,
        )  # fmt: skip

    workers = [threading.Thread(target=generate, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

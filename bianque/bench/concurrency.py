"""`python -m bianque bench concurrency`: tokens a second of several visitors at once, through the whole session.

Beside it, with the same random weights of the true shape: the bare loop (prompts read, then steps and their arg max,
nothing else), and transformers' `generate` called by one thread a visitor (T5). A run is from the first visitor's
message to the last one's end, prompts included; every round runs each contestant once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count as serial
from typing import Any

import torch

from bianque import tables
from bianque.bench import rounds, shapes
from bianque.bench.decode import Work, generate, transformers_t5
from bianque.bench.rounds import Figures, Table
from bianque.catalog.builtin import by_name
from bianque.catalog.card import Model
from bianque.consult.session import Done, Session
from bianque.consult.spec import Choices
from bianque.engine.engine import Engine, recorder
from bianque.engine.scheduler import Recorder, step_function
from bianque.models.base import LanguageModel
from bianque.types import Dialogue, Message, Piece, Sampling

COMPLAINT = "我最近总是头痛，晚上睡不好，白天没有精神，已经有两个星期了，吃了药也不见好，不知道是什么原因。{:04}"
CARDS = {"t5": "bianque-1", "chatglm": "bianque-2"}


class Held:
    """A Backend of one engine that is there already."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def models(self) -> Sequence[Model]:
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
    rounds.begin(options)
    config = shapes.config_of(options.arch, options.size, options.layers)
    found = []
    for precision in options.precision:
        make = partial(shapes.random_model, config, options.arch, precision, options.device)
        model, tokenizer = rounds.aside(make)
        tokens = options.tokens
        drawn = Sampling(temperature=0, min_new_tokens=tokens, max_new_tokens=tokens)
        card = replace(by_name()[CARDS[options.arch]], sampling=drawn)
        engine = Engine(
            card, model, tokenizer, options.device, max(options.visitors), recorder=recorder(options.device, worth=1)
        )
        prompt = len(tokenizer.prompt(card.loadable.prompt([Message("user", COMPLAINT.format(0))])))
        work = Work(options.arch, options.size, precision, options.layers, prompt, tokens, True, options.device)
        ways: dict[str, Callable[[int], None]] = {
            "session": partial(session, engine, serial()),
            "bare loop": partial(bare, model, recorder(options.device, worth=1), work),
        }
        if "hf" in options.peer:
            ways["hf, a thread each"] = partial(threads, rounds.aside(partial(transformers_t5, work)), work)
        run_of = "{}, {} visitors".format
        contestants = {
            run_of(name, count): partial(speed, run, count, tokens)
            for count in options.visitors
            for name, run in ways.items()
        }
        probe = partial(rounds.probe, shapes.PRECISIONS[precision][1], options.device)
        table = rounds.measure(contestants, probe, options.rounds, options.steal)
        print(f"\n{options.arch} {precision}, prompt {prompt}, {tokens} tokens each, {options.rounds} rounds")
        for count in options.visitors:
            print("\n".join(["", *table_of(table, count, {name: run_of(name, count) for name in ways})]), flush=True)
        fewest, *more = options.visitors
        for count in more:
            gain = table.ratio(run_of("session", count), "speed", to=run_of("session", fewest))
            print(f"{count} visitors have {gain}× the tokens/s of {fewest}")
        print(table.host)
        runs = {name: [run["speed"] for run in made] for name, made in table.runs.items()}
        found.append({"work": repr(work), "tokens_a_second": runs, **table.around})
        engine.close()
        del model, engine, ways, contestants
    rounds.save(options, measured=found)


def table_of(table: Table, count: int, runs: dict[str, str]) -> list[str]:
    """How fast for so many visitors, ours first, in Markdown; `runs` has each contestant's name in the table."""
    ours = next(iter(runs.values()))
    rows = [[name, table.spread(run, "speed"), f"{table.ratio(ours, 'speed', to=run)}×"] for name, run in runs.items()]
    return tables.markdown(["1 visitor" if count == 1 else f"{count} visitors", "tokens/s", "session is"], rows)


def speed(run: Callable[[int], None], count: int, tokens: int) -> Figures:
    """Tokens a second of so many visitors, from the first one's message to the last one's end."""
    begun = time.perf_counter()
    run(count)
    return {"speed": count * tokens / (time.perf_counter() - begun)}


def session(engine: Engine, numbers: Iterator[int], count: int) -> None:
    """As many visitors as that, each with a complaint that nobody had before: the decoder reads no prompt twice."""
    name = engine.card.name
    session = Session(Held(engine), name, name)

    async def visit() -> None:
        async for event in session.reply((), COMPLAINT.format(next(numbers)), Choices(mode="ask")):
            if isinstance(event, Done):
                assert event.usage.completion_tokens == engine.card.sampling.max_new_tokens, event.usage

    async def everybody() -> None:
        await asyncio.gather(*(visit() for _ in range(count)))

    asyncio.run(everybody())


def bare(model: LanguageModel, made: Recorder | None, work: Work, count: int) -> None:
    """Nothing but reading prompts, recorded steps and the arg max."""
    cache: Any = model.new_cache(count, work.prompt, work.tokens)
    step = step_function(made, model, cache, count)
    rows = []
    for slot in range(count):
        pages = model.prefill(torch.tensor(work.ids(slot), device=work.device), cache, slot)
        rows.append(last(pages).argmax())
    ids = torch.stack(rows)
    for _ in range(work.tokens - 1):
        ids = step(ids).argmax(-1)
        ids.tolist()  # whoever streams wants to see each


def last(pages: Any) -> torch.Tensor:
    while True:
        try:
            next(pages)
        except StopIteration as done:
            return done.value


def threads(model: Any, work: Work, count: int) -> None:
    with ThreadPoolExecutor(count) as workers:
        list(workers.map(lambda number: generate(model, work, [number]), range(count)))

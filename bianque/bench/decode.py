"""`python -m bianque bench decode`: milliseconds to the first token and for each further one, beside named peers.

Random weights of the true shape; a peer has the same ones where it can. Every round runs each contestant once, in
turn, after a probe of the hardware; printed are medians over the rounds, their spread, and the median of the rounds'
ratios to ours. Peers: transformers' `generate` (T5), CTranslate2 (T5, if installed), and any command that
prints `first_ms` or `prefill_ms`, and `ms_per_token`, as JSON in its last line (`--beside NAME=COMMAND`).
"""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from bianque.bench import rounds, shapes
from bianque.bench.rounds import Contestant, Figures, Table
from bianque.engine.engine import recorder
from bianque.engine.scheduler import Decoder, QueuePosition
from bianque.types import Sampling


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured: a prompt of so many tokens, and a reply; greedy, or drawn as BianQue-1.0 draws."""

    arch: str
    size: str
    precision: str
    layers: int | None
    prompt: int
    tokens: int
    greedy: bool
    device: str

    @property
    def sampling(self) -> Sampling:
        wish = Sampling(min_new_tokens=self.tokens, max_new_tokens=self.tokens, seed=0)
        return replace(wish, temperature=0) if self.greedy else replace(wish, temperature=0.7, top_k=50)

    def ids(self, seed: int = 0) -> list[int]:
        """A prompt of this length that the architecture takes."""
        words = torch.randint(300, 7000, (self.prompt,), generator=torch.Generator().manual_seed(seed)).tolist()
        config = self.config
        ends = [1] if self.arch == "t5" else [config["gmask_token_id"], config["bos_token_id"]]
        return [*words[: self.prompt - len(ends)], *ends]

    @property
    def config(self) -> dict[str, Any]:
        return shapes.config_of(self.arch, self.size, self.layers)


def decode(options: Any) -> None:
    rounds.begin(options)
    found = []
    for precision in options.precision:
        config = shapes.config_of(options.arch, options.size, options.layers)
        make = partial(shapes.random_model, config, options.arch, precision, options.device)
        model, _ = rounds.aside(make)
        read = shapes.bytes_read(cast(nn.Module, model), options.arch)
        for prompt in options.prompt:
            work = Work(
                options.arch, options.size, precision, options.layers, prompt, options.tokens, not options.sample,
                options.device,
            )  # fmt: skip
            table = contest(work, model, options)
            show(work, table, read)
            found.append({"work": repr(work), "runs": table.runs, "bytes": read, **table.around})
        del model
    rounds.save(options, measured=found)


def show(work: Work, table: Table, read: int) -> None:
    print(f"\n{work.arch} {work.precision}, prompt {work.prompt}, {work.tokens} tokens, ", end="")
    print(f"{work.config['num_layers']} layers")
    print("\n".join(table.lines(("first", "token"))))
    speed = read / table.median("ours", "token") / 1e6
    print(f"ours reads {speed:.1f} GB/s of weights; the probe reads {table.probe('read'):.1f} GB/s")
    print(table.host, flush=True)


def contest(work: Work, model: Any, options: Any) -> Table:
    decoder = Decoder(model, (), work.device, (work.prompt, work.tokens), 1, recorder=recorder(work.device, worth=1))
    with closing(decoder), tempfile.TemporaryDirectory() as place:
        contestants: dict[str, Contestant] = {"ours": partial(ours, decoder, work, count())}
        contestants |= {name: rounds.aside(partial(PEERS[name], work, Path(place))) for name in options.peer}
        contestants |= {name: beside(command, work) for name, command in options.beside}
        probe = partial(rounds.probe, shapes.PRECISIONS[work.precision][1], work.device)
        return rounds.measure(contestants, probe, options.rounds, options.steal)


def ours(decoder: Decoder, work: Work, seeds: Iterator[int]) -> Figures:
    """A prompt of its own each time: the decoder does not read again what a slot holds."""
    ids = work.ids(next(seeds))

    async def once() -> Figures:
        begun, times = time.perf_counter(), []
        async for part in decoder.stream(ids, work.sampling):
            if not isinstance(part, QueuePosition):
                times.append(time.perf_counter())
        return figures(begun, times, work.tokens)

    return asyncio.run(once())


def figures(begun: float, times: Sequence[float], tokens: int) -> Figures:
    """Milliseconds to the first token, and for each further one if there is any; a tiny model's may come all at once."""
    first = {"first": (times[0] - begun) * 1e3}
    return first | ({"token": max(times[-1] - times[0], 1e-9) * 1e3 / (tokens - 1)} if tokens > 1 else {})


def transformers_t5(work: Work) -> Any:
    """transformers' class with the same weights. Its 5.x ties the head to the embedding whatever the config says."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = work.config
    with torch.device("meta"):
        model = transformers.T5ForConditionalGeneration(transformers.T5Config(**config))
        model.lm_head = nn.Linear(config["d_model"], config["vocab_size"], bias=False)
    dtype = shapes.PRECISIONS[work.precision][1]
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    state = {name: tensor.to(work.device, dtype) for name, tensor in shapes.noise(wanted)}
    state |= {f"{stack}.embed_tokens.weight": state["shared.weight"] for stack in ("encoder", "decoder")}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def generate(model: Any, work: Work, seeds: Sequence[int] = (0,), **more: Any) -> None:
    """transformers' own loop, for one prompt or a batch of them."""
    ids = torch.tensor([work.ids(seed) for seed in seeds], device=work.device)
    drawing = {"do_sample": False} if work.greedy else {"do_sample": True, "temperature": 0.7, "top_k": 50}
    model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), min_new_tokens=work.tokens, max_new_tokens=work.tokens,
        **drawing, **more,
    )  # fmt: skip


def transformers_peer(work: Work, place: Path) -> Contestant:
    from transformers.generation.streamers import BaseStreamer

    model = transformers_t5(work)

    class Clock(BaseStreamer):
        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: object) -> None:
            self.times.append(time.perf_counter())

        def end(self) -> None:
            pass

    def once() -> Figures:
        clock, begun = Clock(), time.perf_counter()
        generate(model, work, streamer=clock)
        return figures(begun, clock.times[1:], work.tokens)  # the first is the token that starts

    return once


def ctranslate2_peer(work: Work, place: Path) -> Contestant:
    """CTranslate2's own conversion, in float32 for bf16 too, which it does not compute on a CPU."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from transformers import T5Tokenizer

    theirs = transformers_t5(replace(work, precision="fp32", device="cpu"))
    theirs.config.tie_word_embeddings = False  # else the converter scales the logits of an untied head

    class Converter(TransformersConverter):
        def load_model(self, *_: object, **__: object) -> Any:
            return theirs

        def load_tokenizer(self, *_: object, **__: object) -> Any:
            return T5Tokenizer.from_pretrained(shapes.BUNDLED / "ask-mini")

    kind = "int8" if work.precision == "int8" else "float32"
    theirs.config.save_pretrained(place / "config")
    Converter(str(place / "config")).convert(str(place / "model"), quantization=None if kind == "float32" else kind)
    translator = ctranslate2.Translator(
        str(place / "model"), compute_type=kind, inter_threads=1, intra_threads=torch.get_num_threads()
    )
    names = json.loads((place / "model/shared_vocabulary.json").read_text())
    source = [[names[i] for i in work.ids()]]

    def once() -> Figures:
        times: list[float] = []

        def seen(step: object) -> bool:
            times.append(time.perf_counter())
            return False  # go on

        begun = time.perf_counter()
        translator.translate_batch(
            source, beam_size=1, min_decoding_length=work.tokens, max_decoding_length=work.tokens,
            sampling_topk=1 if work.greedy else 50, sampling_temperature=1 if work.greedy else 0.7,
            callback=seen,
        )  # fmt: skip
        return figures(begun, times, work.tokens)

    return once


PEERS: Mapping[str, Callable[[Work, Path], Contestant]] = {
    "hf": transformers_peer,
    "ctranslate2": ctranslate2_peer,
}


def beside(command: str, work: Work) -> Contestant:
    """A command of somebody else's; {prompt} and {tokens} in it are replaced."""
    words = shlex.split(command.format(prompt=work.prompt, tokens=work.tokens))

    def once() -> Figures:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        said = json.loads(done.stdout.splitlines()[-1])
        first = {"first": said.get("first_ms", said.get("prefill_ms"))}
        return first | ({"token": said["ms_per_token"]} if work.tokens > 1 else {})

    return once

"""`python -m bianque bench decode`: milliseconds to the first token and for each further one, beside named peers.

Random weights of the true shape; a peer has the same ones where it can. Every round runs each contestant once, in
turn, after a probe of the memory's bandwidth; printed are medians over the rounds, their spread, and the median of the
rounds' ratios to ours. Peers: transformers' `generate` (T5), CTranslate2 (T5, if installed), and any command that
prints `first_ms` or `prefill_ms`, and `ms_per_token`, as JSON in its last line (`--beside NAME=COMMAND`).
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from bianque.backend import threads
from bianque.bench import shapes
from bianque.decode import Ahead, Decoder
from bianque.types import Sampling

Figures = Mapping[str, float]  # first, token: milliseconds
Contestant = Callable[[], Figures]


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


@dataclass(slots=True)
class Table:
    """Rounds of figures for each contestant, the first of which is ours."""

    probes: list[float] = field(default_factory=list)
    runs: dict[str, list[Figures]] = field(default_factory=dict)

    def median(self, name: str, what: str) -> str:
        found = [run[what] for run in self.runs[name]]
        return f"{statistics.median(found):.1f} ({min(found):.1f}–{max(found):.1f})"

    def ratio(self, name: str, what: str) -> str:
        ours = next(iter(self.runs.values()))
        found = [peer[what] / own[what] for own, peer in zip(ours, self.runs[name], strict=True)]
        return f"{statistics.median(found):.2f}"

    def lines(self, whats: Sequence[str]) -> list[str]:
        head = ["", *(f"{what} ms" for what in whats), *(f"{what}, ×ours" for what in whats)]
        rows = [
            [name, *(self.median(name, what) for what in whats), *(self.ratio(name, what) for what in whats)]
            for name in self.runs
        ]
        return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def measure(contestants: Mapping[str, Contestant], rounds: int) -> Table:
    table = Table()
    for contestant in contestants.values():
        contestant()  # warm
    for _ in range(rounds):
        table.probes.append(bandwidth())
        for name, contestant in contestants.items():
            table.runs.setdefault(name, []).append(contestant())
    return table


def decode(options: Any) -> None:
    torch.set_num_threads(options.threads or threads())
    torch.set_grad_enabled(False)
    found = []
    for precision in options.precision:
        config = shapes.config_of(options.arch, options.size, options.layers)
        model, _ = shapes.random_model(config, options.arch, precision, options.device)
        read = shapes.bytes_read(cast(nn.Module, model), options.arch)
        for prompt in options.prompt:
            work = Work(
                options.arch, options.size, precision, options.layers, prompt, options.tokens, not options.sample,
                options.device,
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as place:
                contestants = {"ours": ours(work, model)}
                contestants |= {name: PEERS[name](work, Path(place)) for name in options.peer}
                contestants |= {name: beside(command, work) for name, command in options.beside}
                table = measure(contestants, options.rounds)
            seconds = statistics.median(run["token"] for run in table.runs["ours"]) / 1e3
            probe = statistics.median(table.probes)
            print(f"\n{work.arch} {precision}, prompt {prompt}, {work.tokens} tokens, {config['num_layers']} layers")
            print("\n".join(table.lines(("first", "token"))))
            print(
                f"ours reads {read / seconds / 1e9:.1f} GB/s of weights; the probe reads {probe:.1f} GB/s", flush=True
            )
            found.append({"work": repr(work), "runs": table.runs, "probes": table.probes, "bytes": read})
        del model
    if options.json:
        options.json.write_text(json.dumps({"measured": found, **machine()}, indent=1) + "\n")


def ours(work: Work, model: Any) -> Contestant:
    decoder = Decoder(model, (), work.device, (work.prompt, work.tokens), slots=1)

    async def once() -> Figures:
        begun, times = time.perf_counter(), []
        async for part in decoder.stream(work.ids(), work.sampling):
            if not isinstance(part, Ahead):
                times.append(time.perf_counter())
        return figures(begun, times[0], times[-1], work.tokens)

    return lambda: asyncio.run(once())


def figures(begun: float, first: float, last: float, tokens: int) -> Figures:
    return {"first": (first - begun) * 1e3, "token": (last - first) * 1e3 / (tokens - 1)}


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

    drawing = {"do_sample": False} if work.greedy else {"do_sample": True, "temperature": 0.7, "top_k": 50}

    def once() -> Figures:
        clock, ids = Clock(), torch.tensor([work.ids()], device=work.device)
        begun = time.perf_counter()
        model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), streamer=clock, min_new_tokens=work.tokens,
            max_new_tokens=work.tokens, **drawing,
        )  # fmt: skip
        return figures(begun, clock.times[1], clock.times[-1], work.tokens)  # the first is the token that starts

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
        return figures(begun, times[0], times[-1], work.tokens)

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
        return {"first": said.get("first_ms", said.get("prefill_ms")), "token": said["ms_per_token"]}

    return once


def bandwidth() -> float:
    """GB/s at which all threads read memory: the best of five sums over half a gigabyte."""
    block = torch.ones(1 << 27)
    best = 0.0
    for _ in range(5):
        begun = time.perf_counter()
        block.sum()
        best = max(best, block.nbytes / (time.perf_counter() - begun) / 1e9)
    return best


def machine() -> dict[str, Any]:
    """Versions, and the processor with the instructions that matter here."""
    names = ("bianque", "torch", "transformers", "ctranslate2")
    versions = {name: version for name in names if (version := version_of(name))}
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    flags = sorted({flag for flag in info.split() if flag.startswith(("avx512", "amx", "avx_vnni"))})
    return {
        "versions": {"python": platform.python_version(), **versions},
        "processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "flags": flags,
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
    }  # fmt: skip


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

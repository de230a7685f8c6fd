"""`python -m bianque bench growth`: what a longer context, more rows, more models and a longer prompt cost.

One model of random weights, whose `step` and `prefill` are called without a decoder around them. Beside each measured
point stands what the arithmetic says (`roofline.py`), at the speeds that the probes of the same rounds found. A T5
keeps prompt and reply apart, and has a curve of each; for ChatGLM a context is a context.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bianque.bench import roofline, rounds, shapes
from bianque.bench.concurrency import last
from bianque.bench.decode import Work
from bianque.bench.rounds import Figures
from bianque.engine.engine import recorder
from bianque.engine.scheduler import steps
from bianque.errors import BianQueError
from bianque.nn import memory

CONTEXTS = (64, 128, 256, 512, 1024, 2048)  # tokens
ROWS = (1, 2, 4, 8, 16, 32)
SHORT, HALF = 8, 32  # tokens of what is not varied, and of prompt and of reply where neither is
STEPS = 8  # a round, of which the mean is taken
MODELS, LAYERS = 3, 4  # in memory at once at most, and how deep each is unless --layers says


class Panel(NamedTuple):
    title: str
    x: str
    y: str
    curves: Mapping[str, str]  # and what tells them apart


PANELS = (
    Panel("Context", "context (tokens)", "ms per token", {"context": "", "prompt": ", prompt", "reply": ", reply"}),
    Panel("Rows of a batch, context 64", "rows", "ms per step (a token for each row)", {"rows": ""}),
    Panel("Models in memory, of which one writes", "models", "ms per token", {"models": ""}),
    Panel("First token", "prompt (tokens)", "ms to the first token", {"first": ""}),
)


@dataclass(slots=True)
class Point:
    """A place on a curve: what is measured there, and the bytes to read and FLOPs to compute for it."""

    curve: str
    x: int
    run: Callable[[], Figures]
    size: int
    flops: float
    ms: list[float] = field(default_factory=list)
    predicted: float = 0.0  # ms

    @property
    def row(self) -> list[str]:
        median = statistics.median(self.ms)
        spread = f"{median:.2f} ({min(self.ms):.2f}–{max(self.ms):.2f})"
        return [str(self.x), spread, f"{self.predicted:.2f}", f"{median / self.predicted:.2f}"]


class Written(NamedTuple):
    """A cache that is full, and a step in it as visitors have it: recorded."""

    cache: Any
    write: Callable[[Tensor], Tensor]


class Subject:
    """A model, and the points that it can be measured at."""

    def __init__(self, options: Any, layers: int | None) -> None:
        self.options, self.layers, self.arch = options, layers, options.arch
        self.config = shapes.config_of(self.arch, options.size, layers)
        self.model: Any = shapes.random_model(self.config, self.arch, options.precision, options.device)[0]

    def cache(self, rows: int, prompt: int, reply: int) -> Written:
        """All of it written to: untouched pages are one page of zeros to the system, and stay in a processor's cache."""
        cache = self.model.slots(rows, prompt, reply)
        for table in cache.tensors:
            table.fill_(0.01)
        return Written(cache, steps(recorder(self.options.device, worth=1), self.model, cache, rows))

    def step(self, curve: str, x: int, place: Written, rows: int, prompt: int, reply: int) -> Point:
        ids = torch.full((rows,), 300, device=self.options.device)
        itemsize = shapes.PRECISIONS[self.options.precision][1].itemsize
        context = prompt + reply
        size = rows * roofline.kv_bytes(self.config, self.arch, context, itemsize)
        size += shapes.bytes_read(self.model, self.arch)
        flops = roofline.step_flops(self.config, self.arch, rows, context)
        return Point(curve, x, partial(step, place, self.model.decoder_only, ids, prompt, reply), size, flops)

    def first(self, x: int, cache: Any) -> Point:
        given = self.options
        work = Work(self.arch, given.size, given.precision, self.layers, x, 1, True, given.device)
        run = partial(first, self.model, torch.tensor(work.ids(), device=given.device), cache)
        size = shapes.bytes_without(self.model, shapes.EMBEDDINGS)
        return Point("first", x, run, size, roofline.prefill_flops(self.config, self.arch, x))

    def most(self) -> int:
        """Models like this that fit into memory, this one included; making one takes its size twice."""
        cuda = self.options.device != "cpu"
        free = torch.cuda.mem_get_info(self.options.device)[0] if cuda else memory.available()
        return max(1, min(MODELS, free // shapes.bytes_without(self.model, "")))


def step(place: Written, decoder_only: bool, ids: Tensor, prompt: int, reply: int) -> Figures:
    """Milliseconds of a step, its newest token the last of this context; the mean of some."""
    cache, rows, begun = place.cache, len(ids), perf_counter()
    for _ in range(STEPS):
        if decoder_only:
            cache.filled[:rows] = [prompt + reply - 1] * rows
        else:
            cache.cross.filled[:rows], cache.own.filled[:rows] = [prompt] * rows, [reply - 1] * rows
        place.write(ids).argmax(-1).tolist()
    return {"ms": (perf_counter() - begun) * 1e3 / STEPS}


def first(model: Any, ids: Tensor, cache: Any) -> Figures:
    begun = perf_counter()
    last(model.prefill(ids, cache, 0)).argmax().item()
    return {"ms": (perf_counter() - begun) * 1e3}


def among(others: list[Any], count: int, make: Callable[[], Any], run: Callable[[], Figures]) -> Figures:
    """A run with so many other models in memory."""
    del others[count:]
    while len(others) < count:
        others.append(make())
    run()  # to make the others has emptied the processor's caches
    return run()


def points(subject: Subject, small: Subject) -> Iterator[Point]:
    both = not subject.model.decoder_only
    one = subject.cache(1, CONTEXTS[-1], CONTEXTS[-1] if both else SHORT)
    for x in CONTEXTS:
        if both:
            yield subject.step("prompt", x, one, 1, x, SHORT)
            yield subject.step("reply", x, one, 1, SHORT, x)
        else:
            yield subject.step("context", x, one, 1, x - SHORT, SHORT)
        yield subject.first(x, one.cache)
    many = subject.cache(ROWS[-1], HALF, HALF)
    yield from (subject.step("rows", x, many, x, HALF, HALF) for x in ROWS)
    alone, others = small.cache(1, HALF, HALF), list[Any]()
    for x in range(1, small.most() + 1):
        point = small.step("models", x, alone, 1, HALF, HALF)
        point.run = partial(among, others, x - 1, partial(Subject, small.options, small.layers), point.run)
        yield point


def prepared(options: Any) -> tuple[Subject, Subject, list[Point]]:
    subject = Subject(options, options.layers)
    small = subject if options.layers else Subject(options, LAYERS)
    return subject, small, list(points(subject, small))


def growth(options: Any) -> None:
    if options.plot and find_spec("matplotlib") is None:
        raise BianQueError("--plot draws with matplotlib, which is not installed: pip install matplotlib")
    rounds.begin(options)
    subject, small, found = rounds.aside(partial(prepared, options))
    probe = partial(rounds.probe, shapes.PRECISIONS[options.precision][1], options.device)
    contestants = {f"{point.curve} {point.x}": point.run for point in found}
    table = rounds.measure(contestants, probe, options.rounds, options.steal)
    roof = roofline.Roof(table.probe("read") * 1e9, table.probe("matmul") * 1e9)
    for point in found:
        point.ms = [run["ms"] for run in table.runs[f"{point.curve} {point.x}"]]
        point.predicted = roof.seconds(point.size, point.flops) * 1e3
    depths = [made.config["num_layers"] for made in (subject, small)]
    title = f"{options.arch} {options.precision}, {depths[0]} layers ({depths[1]} where models share the memory)"
    print(f"\n{title}")
    for panel in PANELS:
        for curve, name in panel.curves.items():
            if rows := [point.row for point in found if point.curve == curve]:
                print(f"\n{panel.title}{name}: {panel.y}\n")
                print("\n".join(rounds.markdown((panel.x, "measured ms", "predicted ms", "ratio"), rows)))
    print(f"\nthe probes read {table.probe('read'):.1f} GB/s and compute {table.probe('matmul'):.0f} GFLOP/s")
    print(table.host, flush=True)
    names = ("curve", "x", "ms", "predicted", "size", "flops")
    measured = [{name: getattr(point, name) for name in names} for point in found]
    rounds.save(options, title=title, measured=measured, **table.around)
    if options.plot:
        plot(found, options.plot, title)


def plot(found: Sequence[Point], file: Path, title: str) -> None:
    """Medians with the range of their rounds, and the predictions dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for panel, axes in zip(PANELS, figure.subplots(2, 2).flat, strict=True):
        axes.set_xscale("log", base=2)
        for curve, name in panel.curves.items():
            if here := [point for point in found if point.curve == curve]:
                xs, medians = [point.x for point in here], [statistics.median(point.ms) for point in here]
                below = [median - min(point.ms) for point, median in zip(here, medians, strict=True)]
                above = [max(point.ms) - median for point, median in zip(here, medians, strict=True)]
                drawn = axes.errorbar(xs, medians, (below, above), fmt="o-", ms=4, capsize=3, label=f"measured{name}")
                dashed = {"color": drawn[0].get_color(), "alpha": 0.7, "label": f"predicted{name}"}
                axes.plot(xs, [point.predicted for point in here], "--", **dashed)
                axes.set_xticks(xs, [str(x) for x in xs])
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        if "first" in panel.curves:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.savefig(file)

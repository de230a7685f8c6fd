"""`python -m bianque bench gpu`: what has been tried on CPUs alone, on a GPU, within minutes; tiny sizes try it anywhere.

Random weights. Parity: the logits of each architecture after a prompt and some steps, at each precision, against the
same weights in float32 on the CPU, with recorded steps and without. Kernels: each quantised product against the plain
one. Visitors: tokens a second of one, 8 and 32, against transformers' batched `generate` (T5). Bandwidth: the share of
what a probe reads that decoding reads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from bianque.bench import concurrency, rounds, shapes
from bianque.bench.decode import Work, generate, transformers_t5
from bianque.engine.engine import recorder
from bianque.engine.scheduler import step_function
from bianque.models.baichuan import Baichuan, BaichuanConfig
from bianque.models.base import LanguageModel
from bianque.nn import kernels, packed, quant
from bianque.nn.form import Form

PROMPT, STEPS = 24, 6  # tokens that parity is held over
# Largest difference of logits, as a share of their largest, that is rounding: 2⁻⁸ and 2⁻¹¹ a product, some layers of them.
ROUNDING = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.15}
SMALL = {"t5": 4, "chatglm": 2, "baichuan": 2}  # layers that parity is tried with at the true width
PRODUCT = 0.02  # the same of a quantised product, whose rows some kernels round to 8 bits
Row = dict[str, Any]


def gpu(options: Any) -> None:
    """Print a table for each question as soon as it is answered, and stop asking once time is up."""
    rounds.begin(options)
    until = time.monotonic() + options.seconds
    found: dict[str, list[Row]] = {}
    for name, questions in QUESTIONS.items():
        found[name] = []
        for ask in questions(options):
            if time.monotonic() > until:
                print(f"{name}: time is up ({options.seconds:.0f} s), the rest is left out")
                break
            found[name] += (rows := tried(ask))
            for row in rows:
                print(f"{name:9} " + "  ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)
    rounds.save(options, measured=found)


def tried(ask: Callable[[], list[Row]]) -> list[Row]:
    """What a question finds; what does not run is a finding too."""
    try:
        return rounds.aside(ask)
    except Exception as error:
        what = ask.args if isinstance(ask, partial) else ()
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return [{"of": " ".join(map(str, filter(lambda part: isinstance(part, str | int), what))), "fails": told}]


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def model_of(arch: str, options: Any, precision: str, device: str, layers: int | None) -> LanguageModel:
    """A model with random weights, cut to so many layers at the true width."""
    config = shapes.config_of(arch, options.size, layers if options.size == "true" else None)
    if "bundled" in shapes.SHAPES[arch]:
        return shapes.random_model(config, arch, precision, device)[0]
    with torch.device("meta"):
        model = Baichuan(BaichuanConfig.from_dict(config))
    wanted = {name: parameter.shape for name, parameter in model.named_parameters()}
    dtype = shapes.PRECISIONS[precision][1]
    model.load_state_dict({name: t.to(device, dtype) for name, t in shapes.noise(wanted)}, assign=True)
    packed.prepack_linears(model)
    return cast(LanguageModel, model.eval().requires_grad_(False))


# --- parity -------------------------------------------------------------------------------------------------------


def parities(options: Any) -> Iterator[Callable[[], list[Row]]]:
    for arch in SMALL:
        yield partial(parity, arch, options)


def parity(arch: str, options: Any) -> list[Row]:
    """Differences to float32 on the CPU, of the same tokens: one that is over its rounding is marked."""
    expected = logits(model_of(arch, options, "fp32", "cpu", SMALL[arch]), arch, options.size, "cpu", recorded=False)
    rows = []
    for precision in ("fp32", "fp16", "bf16"):
        model = model_of(arch, options, precision, options.device, SMALL[arch])
        for recorded in (False, True):
            found = logits(model, arch, options.size, options.device, recorded).cpu()
            apart = float((found - expected).abs().max() / expected.abs().max())
            same = int((found.argmax(-1) == expected.argmax(-1)).sum())
            right = bool(found.isfinite().all()) and apart < ROUNDING[precision]
            rows.append(
                {"of": arch, "precision": precision, "recorded": recorded, "apart": apart,
                 "same arg max": f"{same}/{len(found)}", "right": right}
            )  # fmt: skip
    return rows


def logits(model: LanguageModel, arch: str, size: str, device: str, recorded: bool) -> Tensor:
    """Logits [steps + 1, vocab] in float32, after a prompt and after each of the same further tokens."""
    work = Work("t5" if arch == "baichuan" else arch, size, "fp32", None, PROMPT, STEPS, True, device)
    cache: Any = model.new_cache(1, PROMPT, STEPS + 2)
    step = step_function(recorder(device, worth=1) if recorded else None, model, cache, 1)
    ids = torch.tensor(work.ids(), device=device)
    rows = [concurrency.last(model.prefill(ids, cache, 0)).float()]
    rows += [step(torch.tensor([token], device=device))[0].float().clone() for token in range(400, 400 + STEPS)]
    return torch.stack(rows)


# --- kernels ------------------------------------------------------------------------------------------------------


def products(options: Any) -> Iterator[Callable[[], list[Row]]]:
    width, inner = {"true": (4096, 16384), "mini": (512, 1024), "tiny": (64, 128)}[options.size]
    forms = [Form(inner, width, 8), Form(inner, width, 4, quant.group_of(width)), Form(inner, width, 4)]
    for form in forms:
        for dtype in (torch.float16, torch.bfloat16):
            yield partial(product, form, dtype, options.device)


def product(form: Form, dtype: torch.dtype, device: str) -> list[Row]:
    """Every kernel that fits here, the plain one last, at one row, eight and a prompt: how far apart, how long."""
    made = quant.quantise(
        torch.randn(form.out, form.width, generator=torch.Generator().manual_seed(0)), form.bits, form.group
    )
    weight, scale = (made[part].to(device) for part in ("weight", "weight_scale"))
    machine = kernels.machine_of(torch.device(device), dtype)
    rows = []
    for kernel in (kernel for kernel in kernels.KERNELS if kernel.fits(machine, form) and kernel.ready()):
        packed_weight, packed_scale = kernel.pack(weight, scale, form)
        for count in (1, 8, 256):
            x = torch.randn(count, form.width, generator=torch.Generator().manual_seed(1)).to(device, dtype)
            exact = kernels.plain(x.float(), weight, scale, form)
            run = partial(kernels.product, kernel, x, packed_weight, packed_scale, form)
            apart = float((run().float() - exact).abs().max() / exact.abs().max())
            rows.append(
                {"of": f"{kernel.name}-{form}", "dtype": str(dtype).removeprefix("torch."), "rows": count, "apart": apart,
                 "ms": fastest(run, device) * 1e3, "right": apart < PRODUCT}
            )  # fmt: skip
    return rows


def fastest(run: Callable[[], Any], device: str, times: int = 5) -> float:
    """Seconds of the fastest run, all work that was given to a GPU included."""
    seconds = []
    for _ in range(times):
        synchronise(device)
        begun = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


# --- visitors -----------------------------------------------------------------------------------------------------


def crowds(options: Any) -> Iterator[Callable[[], list[Row]]]:
    for arch in ("t5", "chatglm"):
        for precision in ("fp16", "int8", "int4") if options.device != "cpu" else ("bf16", "int8", "int4"):
            yield partial(crowd, arch, precision, options)


def crowd(arch: str, precision: str, options: Any) -> list[Row]:
    """Tokens a second of some visitors in one batch, and the share of the probe's bandwidth that one of them reads at."""
    model = model_of(arch, options, precision, options.device, options.layers)
    work = Work(arch, options.size, precision, options.layers, PROMPT, options.tokens, True, options.device)
    read = shapes.bytes_read(cast(nn.Module, model), arch)
    other = transformers_t5(work) if arch == "t5" and precision in ("fp16", "bf16") and options.peer else None
    rows = []
    for count in options.visitors:
        run = partial(concurrency.bare, model, recorder(options.device, worth=1), work, count)
        seconds = middle(run, options.rounds)
        row: Row = {"of": arch, "precision": precision, "visitors": count, "tokens/s": count * options.tokens / seconds}
        if count == 1:
            row["bandwidth"] = read * options.tokens / seconds / 1e9 / rounds.bandwidth(options.device)
        if other:
            row["transformers"] = (
                count * options.tokens / middle(partial(generate, other, work, range(count)), options.rounds)
            )
        rows.append(row)
    return rows


def middle(run: Callable[[], Any], times: int) -> float:
    """Median seconds, after a run that records and warms."""
    run()
    return statistics.median(fastest(run, "cpu", 1) for _ in range(times))


QUESTIONS: dict[str, Callable[[Any], Iterator[Callable[[], list[Row]]]]] = {
    "parity": parities, "kernel": products, "visitors": crowds,
}  # fmt: skip

"""Decode steps on a CPU as TorchScript: traced once for one row, for a few and for more, then run without Python.

Between two matrix products of a step there are half a dozen small operations. A product fills the processor's caches
with weights, so the code of the next operation comes from memory again: through Python and torch's bindings that takes
three times as long as through TorchScript's interpreter.

Expiry: this calls private parts of torch (`torch._C`), and torch has announced TorchScript's end. Not on Python 3.14 or
later; where the calls are gone or refuse, steps run as they are written. Delete this file when torch drops them.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from bianque.models.base import LanguageModel, step_and_advance
from bianque.nn.cache import StepInputs
from bianque.nn.cpu import is_out_of_memory
from bianque.nn.layers import FEW

core: Any = torch._C  # torch's stubs leave out most of what is used here
WORTH = 32  # steps of a kind that precede its trace, which costs as much as so many of them lose

log = logging.getLogger(__name__)
tracing = threading.Lock()  # one trace at a time in the process


def is_supported() -> bool:
    """Whether torch traces on this Python: from 3.14 on it warns that it may break."""
    return sys.version_info < (3, 14)


class Traces:
    """Traced steps of one model, for all its caches of one size; plain steps once a trace has failed."""

    def __init__(self, worth: int = WORTH) -> None:
        self.worth, self.failed = worth, False
        self.plain: Counter[int] = Counter()  # steps that were not traced, by their kind
        self.known: dict[int, Callable[..., Tensor]] = {}

    def steps(self, model: LanguageModel, cache: Any, slots: int) -> Callable[[Tensor], Tensor]:
        """One token further in the first slots: their newest tokens [rows] → logits [rows, vocab]."""
        return lambda ids: step_and_advance(partial(self.forward_step, model), ids, cache)

    def forward_step(self, model: LanguageModel, ids: Tensor, cache: Any, inputs: StepInputs) -> Tensor:
        kind, given = kind_of(len(ids)), (ids, inputs.numbers, torch.tensor(inputs.spans), *cache.tensors)
        if not self.failed and (kind in self.known or self.plain[kind] >= self.worth):
            try:
                return self.play(kind, model, cache, given)
            except (
                RuntimeError,
                AttributeError,
                TypeError,
            ) as error:  # private calls refuse, are gone, or have changed
                if is_out_of_memory(error):
                    raise
                logits = model.forward_step(ids, cache, inputs)  # raises the same where the model is at fault
                self.give_up(error)
                return logits
        self.plain[kind] += 1
        return model.forward_step(ids, cache, inputs)

    def give_up(self, error: Exception) -> None:
        """Plain steps from now on."""
        self.failed = True
        self.known.clear()
        # Behind its first line an error of torch's may quote tensors, which are somebody's words.
        reason = str(error).partition("\n")[0]
        log.warning("no TorchScript, steps run as they are written: %s: %s", type(error).__name__, reason)

    def play(self, kind: int, model: LanguageModel, cache: Any, given: Sequence[Tensor]) -> Tensor:
        if kind not in self.known:
            with tracing:
                self.known[kind] = traced(model, cache, given)
        with torch.jit.optimized_execution(False):  # it finds nothing to improve, and takes a second for that
            return self.known[kind](*given)


def kind_of(rows: int) -> int:
    """0, 1 or 2: numbers of rows that share a trace, because layers choose the same kernels for them."""
    return (rows > 1) + (rows > FEW)


def traced(model: LanguageModel, cache: Any, given: Sequence[Tensor]) -> Callable[..., Tensor]:
    """A step as a function of the newest tokens, the standing's numbers and spans, and the cache's tensors.

    It holds the model's weights, and no cache. This is `torch.jit.trace` by hand: that keeps for ever what it has traced,
    and for each operation the whole stack of Python as text.
    """

    def step(ids: Tensor, numbers: Tensor, spans: Tensor, *tables: Tensor) -> Tensor:
        return model.forward_step(
            ids, cache.with_tensors(tables), StepInputs(0, numbers, cast("tuple[int, ...]", spans.unbind()))
        )

    made = core.ScriptModule("Step", core.CompilationUnit(), False)
    for i, held in enumerate(holdings(cast(nn.Module, model))):
        # Only what belongs to it may be in a library's own layout.
        made._register_attribute(f"held{i}", core.TensorType.get() if isinstance(held, Tensor) else held._type(), held)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every number of Python's that the trace fixes
        names = [f"given{i}" for i in range(len(given))]
        made._create_method_from_trace("forward", step, tuple(given), lambda value: "", True, False, names, False)
    method = made._get_method("forward")
    for tidy in (core._jit_pass_cse, core._jit_pass_dce):  # half of it is numbers written down again and again
        tidy(method.graph)
    nodes = list(method.graph.nodes())
    for node in nodes:
        node.copyMetadata(nodes[0])
    return cast("Callable[..., Tensor]", method)


def holdings(model: nn.Module) -> list[Tensor | torch.ScriptObject]:
    """All weights of a model, in whatever form its layers have them."""
    found = [
        value
        for module in model.modules()
        for value in (*module.parameters(recurse=False), *module.buffers(recurse=False), *vars(module).values())
        if isinstance(value, Tensor | torch.ScriptObject)
    ]
    return list({id(value): value for value in found}.values())

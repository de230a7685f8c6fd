"""A ZeroGPU Space without a GPU: app.py under the real `spaces` package, whose device API the caller plays.

`python -m tests.space FACTS PORT` serves the page until standard input closes. The GPU is this CPU: a worker unpacks
the weights from disk as on a Space, and whatever it then asks of "cuda" stays in memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bianque.catalog import prompts


def pretend() -> None:
    """What `spaces` wants of a torch built for CUDA, and of a file system; before it is imported."""
    torch.version.cuda = "12.8"
    torch.cuda._is_in_bad_fork = bool
    if not hasattr(torch._C, "_cuda_init"):
        torch._C._cuda_init = lambda: None
    os.O_DIRECT = 0  # not every disk that a test may use has it


def kept_here(function: Callable[..., Any]) -> Callable[..., Any]:
    here = lambda value: "cpu" if isinstance(value, str | torch.device) and str(value).startswith("cuda") else value
    return lambda *args, **options: function(*map(here, args), **{name: here(options[name]) for name in options})


def become_gpu(uuid: str) -> None:
    """In a worker, instead of the start of CUDA."""
    for name in ("tensor", "as_tensor", "zeros", "ones", "empty", "full", "arange"):
        setattr(torch, name, kept_here(getattr(torch, name)))
    torch.Tensor.to = kept_here(torch.Tensor.to)
    torch.Tensor.cuda = lambda tensor, **options: tensor.clone()
    torch.Tensor.pin_memory = lambda tensor: tensor
    torch.cuda.synchronize = lambda: None


def endless(engine: Any) -> None:
    """Replies that go on until they are stopped, slowly enough to tell."""
    step = engine.model.decode_step

    def slow(*args: Any) -> torch.Tensor:
        time.sleep(0.1)
        logits = step(*args)
        logits[..., engine.tokenizer.eos] = -torch.inf
        return logits

    engine.model.decode_step = slow
    prompts.over = lambda raw: False


def main(facts: Path, port: int) -> None:
    pretend()
    import app  # which is the one to import `spaces`

    space = app.build()
    endless(space.session.backend.engines["advise-mini"])
    from spaces.zero import decorator
    from spaces.zero import torch as gpu
    from spaces.zero.torch import packing

    gpu.init = become_gpu
    packing.VM_MAX_SIZE = 1 << 28  # half of this machine's memory otherwise
    app.launch(space, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True)
    functions = {function.__qualname__ for function in decorator.decorated_cache.values()}
    written = facts.with_suffix(".part")
    written.write_text(json.dumps({"functions": sorted(functions), "weights": gpu.size()}))
    written.rename(facts)
    os.read(0, 1)  # not sys.stdin: a fork would find its lock taken, and wait for it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

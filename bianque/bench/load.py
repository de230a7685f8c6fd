"""`python -m bianque bench load`: seconds and peak memory of loading a checkpoint, beside transformers' from_pretrained.

Two checkpoints with random weights in the published file layouts: BianQue-1.0 whole (one fp32 `pytorch_model.bin`,
3.1 GB) and BianQue-2 at true width with 4 of its 28 layers (8 fp16 `.bin` shards, 3.8 GB), for which transformers has
no class. Each load is a process of its own; its memory is what it takes over having imported everything, from
VmHWM and VmRSS, which count mapped files too; ours is loaded when its layers are packed. In the first round it then
serves: eight conversations are read and, their caches full, write some tokens, with one row, two, up to eight; what
that takes is set beside the bytes of weights and caches.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bianque.bench.shapes import CHATGLM, T5_LARGE, bytes_without
from bianque.catalog.builtin import CARDS, by_name
from bianque.catalog.card import ModelCard
from bianque.checkpoints import loader
from bianque.checkpoints.hub import BUNDLED
from bianque.engine.traces import Traces

TOKENIZERS = {"bianque-1": BUNDLED / "ask-mini/spiece.model", "bianque-2": BUNDLED / "advise-mini/ice_text.model"}

ONCE = """
import json, sys, time
from pathlib import Path
def status(field):
    return int(next(line for line in open('/proc/self/status') if line.startswith(field)).split()[1]) * 1024
import torch
card, folder, how, then = sys.argv[1:]
if how == 'from_pretrained':
    from transformers import T5ForConditionalGeneration
else:
    from bianque.checkpoints import loader
    from bianque.nn import memory, packed
    from bianque.bench.load import serve
    from bianque.catalog.builtin import CARDS, by_name
before, begun = status('VmRSS'), time.monotonic()
if how == 'from_pretrained':
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
else:
    model, _ = loader.load(by_name(CARDS)[card], Path(folder), 'cpu', torch.bfloat16, lambda progress: None, int(how))
    packed.settle(model)
    memory.give_back()
took = time.monotonic() - begun
found = {'seconds': took, 'peak': status('VmHWM') - before, 'after': status('VmRSS') - before}
if then == 'serve':
    found['planned'], held = serve(model, by_name(CARDS)[card])
    found['serving'] = status('VmRSS') - before
print(json.dumps(found))
"""
SLOTS, READ = 8, 64  # conversations, and tokens of the prompt


def load(options: Any) -> None:
    """Interleaved rounds; prints medians and spread. Needs 7 GB of disk and 6 GB of memory."""
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folders = {
            "bianque-1": synthetic("bianque-1", Path(place, "1"), T5_LARGE, torch.float32, 1),
            "bianque-2": synthetic("bianque-2", Path(place, "2"), CHATGLM | {"num_layers": 4}, torch.float16, 8),
        }
        cases = [(name, how) for name in folders for how in ("16", "8", "4")]
        cases.insert(0, ("bianque-1", "from_pretrained"))
        for i in range(options.rounds):
            for name, how in cases:
                then = "serve" if i == 0 and how != "from_pretrained" else "end"
                found.setdefault(f"{name} {how}", []).append(once(name, folders[name], how, then))
    for case, runs in found.items():
        seconds, peaks = [run["seconds"] for run in runs], [run["peak"] / 1e9 for run in runs]
        after = statistics.median(run["after"] for run in runs) / 1e9
        serving, planned = (runs[0].get(what, 0) for what in ("serving", "planned"))
        print(
            f"{case:28} {statistics.median(seconds):6.2f} s ({min(seconds):.2f}–{max(seconds):.2f})   "
            f"peak {statistics.median(peaks):5.2f} GB ({min(peaks):.2f}–{max(peaks):.2f})   after {after:5.2f} GB"
            + (f"   serving {serving / 1e9:.2f} GB, {serving / planned:.3f} × weights and caches" if planned else "")
        )
    if options.json:
        versions = {name: metadata.version(name) for name in ("torch", "transformers", "safetensors")}
        versions["python"] = platform.python_version()
        options.json.write_text(
            json.dumps({"runs": found, "versions": versions, "cores": os.cpu_count()}, indent=1) + "\n"
        )


@torch.inference_mode()
def serve(model: Any, card: ModelCard) -> tuple[int, Any]:
    """Let a settled model work as it does for visitors: the bytes of its weights and of their caches, and who holds these."""
    cache = model.slots(SLOTS, card.window, 0 if model.decoder_only else card.longest - card.window)
    config = model.config
    prompt = torch.full((READ,), 5)
    if model.decoder_only:
        prompt[-2:] = torch.tensor([config.gmask_token_id, config.bos_token_id])
    for slot in range(SLOTS):
        for _ in model.prefill(prompt, cache, slot):
            pass
    for table in cache.tensors:  # as if the conversations were as long as they may be
        table.fill_(0.01)
    step = Traces(worth=1).steps(model, cache, SLOTS)
    for rows in range(1, SLOTS + 1):
        for _ in range(4):
            step(torch.full((rows,), 6))
    return bytes_without(model, "") + sum(table.nbytes for table in cache.tensors), step


def once(name: str, folder: Path, how: str, then: str) -> dict[str, float]:
    """A process of its own, which serves `then`, or ends."""
    done = subprocess.run(
        [sys.executable, "-c", ONCE, name, str(folder), how, then],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def synthetic(name: str, folder: Path, config: Mapping[str, Any], dtype: torch.dtype, shards: int) -> Path:
    """A checkpoint with random weights of this shape in the published layout of the card; one shard in memory."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / TOKENIZERS[name].name).write_bytes(TOKENIZERS[name].read_bytes())
    files = [
        f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" if shards > 1 else "pytorch_model.bin" for i in range(shards)
    ]
    model, _ = loader.skeleton(by_name(CARDS)[name], folder)
    shapes = {key: parameter.shape for key, parameter in model.named_parameters()}
    places = {key: files[place * shards // len(shapes)] for place, key in enumerate(shapes)}
    if shards > 1:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    generator = torch.Generator().manual_seed(0)
    for file in files:
        part = {key: torch.empty(shape, dtype=dtype) for key, shape in shapes.items() if places[key] == file}
        for tensor in part.values():
            tensor.normal_(0, 0.02, generator=generator)
        torch.save(part, folder / file)
    return folder

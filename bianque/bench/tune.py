"""`python -m bianque bench tune`: steps of a LoRA on the true shape with random weights: tokens a second, and memory.

Ours: factors on what reads in attention, logits of the reply's tokens alone, over 16, 8 and 4 bits. `--peer peft`: peft on
the same modules, in the way upstream's code trains: every row padded to the length, logits of all positions. Any other
command that prints `tokens_s` and `gb` as JSON in its last line stands beside them (`--beside NAME=COMMAND`).
"""

from __future__ import annotations

import json
import random
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from bianque.bench import rounds, shapes
from bianque.train import low_rank, memory
from bianque.train.learners import ChatGLMLearner, Learner, learner_of, pad, summed_loss
from bianque.train.plan import TunePlan
from bianque.train.samples import Sample

RANK, RATE = 8, 2e-4
PRECISION = {16: "bf16", 8: "int8", 4: "int4"}
Row = dict[str, Any]


def tune(options: Any) -> None:
    """Print a line a contestant as soon as it is measured; one that does not run says why."""
    rounds.begin(options)
    found = []
    for name, measure in contestants(options):
        try:
            row = {"of": name, **rounds.aside(measure)}
        except Exception as error:  # out of memory, a library that is missing: a finding too
            row = {"of": name, "fails": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        found.append(row)
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()),
              flush=True)  # fmt: skip
    rounds.save(options, measured=found)


def contestants(options: Any) -> list[tuple[str, Callable[[], Row]]]:
    named: list[tuple[str, Callable[[], Row]]] = [
        (f"ours, {bits} bits", partial(trained, options, bits, ours)) for bits in options.bits
    ]
    if not options.rounds:
        return named
    if "peft" in options.peer:
        named.append(("peft, logits everywhere", partial(trained, options, 16, everywhere)))
    return named + [(name, partial(beside, command, options)) for name, command in options.beside]


def rows(options: Any, facts: Any) -> list[Sample]:
    """Rows of many lengths up to the longest, as dialogues are; the same ones for all."""
    drawn = random.Random(0)
    lengths = [options.length, *(drawn.randint(options.length // 3, options.length) for _ in range(options.batch - 1))]
    words = lambda count: [drawn.randrange(200, facts.vocab_size - 600) for _ in range(count)]
    ends = [facts.gmask_token_id, facts.bos_token_id] if hasattr(facts, "gmask_token_id") else []
    return [Sample(words(size - size // 2 - len(ends)) + ends, words(size // 2)) for size in lengths]


def trained(options: Any, bits: int, loss_of: Callable[..., torch.Tensor]) -> Row:
    """Some steps of AdamW over one batch; a warm one before them is not counted. Of none, what memory they would need."""
    if not options.rounds:
        return {"GB estimated": estimated(options, bits)}
    model = shapes.trainable(shapes.config_of(options.arch, options.size, options.layers), options.arch, PRECISION[bits],
                             options.device)  # fmt: skip
    learner = learner_of(model)
    names = low_rank.targets(model, learner.attention, "attention")
    low_rank.put(model, names, RANK, 2 * RANK, 0.05, 0)
    if options.checkpointing:
        learner.save_memory()
    weights = list(low_rank.factors(model).values())
    optimizer, batch = torch.optim.AdamW(weights, lr=RATE), rows(options, cast(Any, model).config)
    tokens = sum(sample.length for sample in batch)
    free()
    model.train()

    def step() -> float:
        with torch.enable_grad():
            loss = loss_of(learner, batch, options)
            loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    begins, seconds = step(), []
    for _ in range(options.rounds):
        begun = time.perf_counter()
        ends = step()
        seconds.append(time.perf_counter() - begun)
    middle = statistics.median(seconds)
    row: Row = {"tokens/s": tokens / middle, "ms a step": middle * 1e3, "loss": f"{begins:.3f} → {ends:.3f}"}
    if options.device != "cpu":
        row["GB"] = torch.cuda.max_memory_allocated() / 1e9
    return row | ({"GB estimated": estimated(options, bits)} if loss_of is ours else {})


def ours(learner: Learner, batch: Sequence[Sample], options: Any) -> torch.Tensor:
    wanted = sum(len(sample.reply) for sample in batch)
    return summed_loss(learner, learner.batch(batch), options.device) / wanted


def everywhere(learner: Any, batch: Sequence[Sample], options: Any) -> torch.Tensor:
    """As THUDM/chatglm-6b's `forward(input_ids, labels)` and its ptuning/main.py: −100 is what is not learned."""
    if not isinstance(learner, ChatGLMLearner):
        raise ValueError("this peer is ChatGLM's")
    ids = pad([sample.prompt + sample.reply for sample in batch], 3)
    labels = pad([[-100] * len(sample.prompt) + sample.reply for sample in batch], -100)
    wide = options.length - ids.shape[1]
    ids, labels = (F.pad(x, (0, wide), value=fill).to(options.device) for x, fill in ((ids, 3), (labels, -100)))
    with torch.autocast(torch.device(options.device).type, torch.bfloat16):
        logits = learner.model.lm_head(learner.hidden(ids))
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def estimated(options: Any, bits: int) -> float:
    """What `tune` would have said beforehand."""
    plan = TunePlan(lora=RANK, bits=cast(Any, bits), batch=options.batch, length=options.length,
                checkpointing=options.checkpointing)  # fmt: skip
    config = shapes.config_of(options.arch, options.size, options.layers)
    skeleton = lambda bits: shapes.skeleton(config, options.arch, bits)[0]
    longest = rows(options, cast(Any, skeleton(16)).config)[0]
    return memory.estimate(skeleton, longest, plan, torch.bfloat16).total / 1e9


def free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def beside(command: str, options: Any) -> Row:
    """A command of somebody else's; {batch}, {length}, {rounds} and {layers} in it are replaced."""
    asked = {name: getattr(options, name) for name in ("batch", "length", "rounds", "layers")}
    done = subprocess.run(shlex.split(command.format(**asked)), capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return {"tokens/s": said["tokens_s"]} | ({"GB": said["gb"]} if "gb" in said else {})

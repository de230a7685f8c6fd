"""Fine-tune a model of the table on dialogues: `python -m bianque tune CARD --data … --valid … --out run/`.

All weights of a T5, a LoRA of the others. The batches of a run follow from its seed alone, and so does what dropout
drops at a step: a run that was killed goes on from its checkpoint and ends with the same bits. The loss on held-out rows
is measured before the first step too: what is not better than the original is not kept.

Several processes (`accelerate launch -m bianque tune …`) share the batches of each step and add up their gradients.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bianque.catalog.builtin import by_name
from bianque.catalog.card import Model
from bianque.checkpoints import hub, loader
from bianque.checkpoints.hub import Report
from bianque.errors import BadInput, TrainingFailed
from bianque.models.tokenizers import Tokenizer
from bianque.nn import cpu, quant
from bianque.train import examples, low_rank, memory, report, result
from bianque.train.examples import TrainingTurn
from bianque.train.learners import LEARNERS, learner_of, summed_loss
from bianque.train.plan import TunePlan
from bianque.train.run import Files, Say, State, TuneRun, World, resume, save, whole, write_whole
from bianque.types import Bits

GROUP = 16  # batches that are drawn together, so that each holds rows of similar length


def settled(plan: TunePlan, card: Model, device: str) -> TunePlan:
    """The plan with what it leaves open. BadInput if it cannot be for this card."""
    facts = card.loadable
    lora = (0 if facts.architecture == "t5" else 8) if plan.lora < 0 else plan.lora
    bits = plan.bits if plan.bits != 16 else card.held or 16
    if bits != 16 and not lora:
        raise BadInput(f"--bits {bits}: 全部权重只能以 16 位训练，请加 --lora 8 (all weights: add --lora 8)")
    if facts.stored != 16:
        raise BadInput(
            f"{card.name}: 权重以 {facts.stored} 位发布，LoRA 不能并入；请改用 16 位的卡片，加 --bits {facts.stored} "
            f"(published quantised, a LoRA could not be merged: take the card of 16 bits with --bits {facts.stored})"
        )
    rate = plan.rate or (2e-4 if lora else 5e-4 if facts.parameters < 100_000_000 else 5e-5)
    precision = plan.precision
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device != "cpu" else cpu.has_bfloat16() and not card.preview
        precision = "bf16" if native else "fp32"
    return replace(plan, lora=lora, bits=bits, alpha=plan.alpha or 2 * lora, rate=rate, precision=precision)


def tune(
    card: Model, plan: TunePlan, files: Files, paths: Mapping[str, Path], name: str, report: Report, say: Say = print
) -> State:
    """Train, or go on where a run in the same folder was; returns where it ended. What is better is in `files.out`."""
    world = World()
    say = say if world.rank == 0 else lambda line: None
    plan = settled(plan, card, world.device)
    torch.set_num_threads(plan.threads or torch.get_num_threads())
    if card.loadable.adapter or f"{card.base}.adapter" in paths:
        raise BadInput(
            f"{card.name}: 这张卡片带有 LoRA，请先合并 (it has a LoRA: merge it first): python -m bianque convert "
            f"{card.name} out --merge {card.loadable.adapter or paths[f'{card.base}.adapter']}"
        )
    folder = hub.folder_of(card, paths, report)
    frame, tokenizer = loader.skeleton(card, folder)
    if not plan.lora and getattr(cast(Any, frame).config, "pre_seq_len", False):
        raise BadInput(f"{card.name}: 带有 P-Tuning 前缀，请用 --lora 8 (it has a P-Tuning prefix: use --lora 8)")
    train, valid, counts = read_examples(card, plan, files, tokenizer, say)
    if world.rank == 0:
        begin(card, plan, files, counts, say)
    world.wait()
    dtype = torch.float32 if plan.precision == "fp32" or not plan.lora else torch.bfloat16
    longest = max((example.sample for example in train + valid), key=lambda sample: sample.length)
    skeleton = lambda bits: loader.skeleton(card, folder, cast(Bits, bits))[0]
    memory.check(lambda plan: memory.estimate(skeleton, longest, plan, dtype), plan, world.device, say)
    bits = plan.bits if plan.lora else 16
    model = cast(nn.Module, loader.read(card, folder, world.device, dtype, report, bits, training=True)[0])
    run = prepared(TuneRun(card, plan, files, world, learner_of(model), tokenizer, train, valid, cast(Any, None), say))
    resume(run)
    if not run.state.done:
        loop(run)
    finish(run, folder, name, counts)
    return run.state


def read_examples(
    card: Model, plan: TunePlan, files: Files, tokenizer: Tokenizer, say: Say
) -> tuple[list[TrainingTurn], list[TrainingTurn], dict[str, Any]]:
    """Rows to learn from and rows to measure with, and what is known of them; one sample is shown decoded."""
    kind = LEARNERS[loader.ARCHITECTURES[card.loadable.architecture].model]
    writer = examples.PromptWriter(card, tokenizer, kind.escape, plan.length)
    train = examples.read(files.data, writer, say)
    say(f"--data: {writer.counts}")
    if files.valid:
        measure = replace(writer, counts=examples.Counts())
        valid = examples.read(files.valid, measure, say)
        say(f"--valid: {measure.counts}")
        if repeated := examples.repeated(train, valid):
            say(
                f"--valid 有 {repeated} 轮也在 --data 里，验证损失会偏低 (turns of --valid are in --data too: its loss will look too low)"
            )
    else:
        train, valid = examples.held_out(train)
        say(f"没有 --valid：留出 {len(valid)} 轮作验证 (no --valid: {len(valid)} turns are held out)")
    first = train[0].sample
    say(f"示例 (a sample, {len(first.prompt)} + {len(first.reply)} tokens): {tokenizer.decode(first.prompt)!r} → "
        f"{tokenizer.decode(first.reply)!r}")  # fmt: skip
    facts = {
        "data": ", ".join(path.name for path in files.data), "examples": len(train), "held_out": len(valid),
        "valid": ", ".join(path.name for path in files.valid) or f"1/{examples.ONE_IN} of the data",
        "digest": examples.digest([*files.data, *files.valid]),
    }  # fmt: skip
    return train, valid, facts


def begin(card: Model, plan: TunePlan, files: Files, facts: Mapping[str, Any], say: Say) -> None:
    """Write run.json, or compare with the one that is there: BadInput if the folder is another run's."""
    file = files.out / "run.json"
    asked = {"card": card.name, "licence": card.licence, "plan": plan.fixed(), "torch": torch.__version__, **facts}
    if file.exists():
        there = json.loads(file.read_text(encoding="utf-8"))
        flat = lambda run: run["plan"] | {key: run[key] for key in ("card", "digest")}
        before, now = flat(there), flat(asked)
        if differing := [f"{key}={before.get(key)} → {now[key]}" for key in now if before.get(key) != now[key]]:
            raise BadInput(
                f"{files.out}: 这个目录属于另一次训练，请换一个 --out (another run's folder: choose another --out): "
                + ", ".join(differing)
            )
        if there["torch"] != torch.__version__:
            say(f"torch {there['torch']} → {torch.__version__}: 结果的末位可能不同 (the last bits may differ)")
        return
    try:
        files.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--out {files.out}: 写不了，请换一个位置 (cannot be written, choose another): {error.strerror}"
        ) from error
    write_whole(file, json.dumps(asked, ensure_ascii=False, indent=1) + "\n")


def prepared(run: TuneRun) -> TuneRun:
    """What is trained, made ready: factors or all weights, the optimiser, checkpointing, the number of threads."""
    plan, model = run.plan, run.model
    if plan.lora:
        names = low_rank.targets(model, run.learner.attention, plan.targets)
        low_rank.put(model, names, plan.lora, plan.alpha, plan.dropout, plan.seed)
    else:
        model.requires_grad_(True)
    if plan.checkpointing:
        run.learner.save_memory()
    trained = run.trained
    flat = [weight for weight in trained.values() if weight.ndim < 2]
    groups = [
        {"params": [weight for weight in trained.values() if weight.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": flat, "weight_decay": 0.0},
    ]
    run.optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=plan.rate)
    count = sum(weight.numel() for weight in trained.values())
    total = sum(weight.numel() for weight in model.parameters())
    run.say(f"训练 (training) {count:,} / {total:,} ({quant.kernel_of(model)}, {plan.precision}, {run.world.device})")
    return run


# --- what a step learns from ----------------------------------------------------------------------------------------


def epoch(run: TuneRun, number: int) -> list[list[TrainingTurn]]:
    """The batches of an epoch, of similar length each; they follow from the seed and the number."""
    rng = random.Random(f"{run.plan.seed}/{number}")
    size = run.plan.batch
    rows = rng.sample(run.train, len(run.train))
    batches: list[list[TrainingTurn]] = []
    for start in range(0, len(rows), size * GROUP):
        near = sorted(rows[start : start + size * GROUP], key=lambda row: row.sample.length)
        batches += [near[i : i + size] for i in range(0, len(near), size)]
    rng.shuffle(batches)
    return batches


def steps(run: TuneRun) -> Iterator[list[list[TrainingTurn]]]:
    """The batches of each step from where the run is."""
    each = steps_an_epoch(run)
    for number in range(run.state.step // each, run.plan.epochs):
        batches = epoch(run, number)
        first = run.state.step % each if number == run.state.step // each else 0
        for place in range(first, each):
            yield batches[place * run.plan.accumulate : (place + 1) * run.plan.accumulate]


def steps_an_epoch(run: TuneRun) -> int:
    return math.ceil(math.ceil(len(run.train) / run.plan.batch) / run.plan.accumulate)


def loop(run: TuneRun) -> None:
    state, plan, each = run.state, run.plan, steps_an_epoch(run)
    total, every = each * plan.epochs, math.ceil(each / plan.evaluations)
    begun, before = time.monotonic(), state.seconds
    saved = begun
    if not state.log:
        choose_threads(run)
        evaluate(run)
        save(run)
    for batches in steps(run):
        step(run, batches, plan.rate_at(state.step, total))
        state.seconds = before + time.monotonic() - begun
        if state.step % every == 0 or state.step == total:
            evaluate(run)
            state.done = state.step == total or state.since_best >= plan.patience
            save(run)
            saved = time.monotonic()
        elif time.monotonic() - saved > 60 * plan.save_minutes:
            save(run)
            saved = time.monotonic()
        if state.done:
            break
    if state.since_best >= plan.patience and state.step < total:
        run.say(f"{plan.patience} 次没有更低，提前停止 (stopped early)")


def step(run: TuneRun, batches: Sequence[Sequence[TrainingTurn]], rate: float) -> None:
    """One step of the optimiser over several batches; TrainingFailed names the row if the loss is not finite."""
    run.model.train()
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    weights = list(run.trained.values())
    tokens = sum(len(example.sample.reply) for batch in batches for example in batch)
    total = torch.zeros((), device=run.world.device)
    for place, batch in enumerate(shared(batches, run.world.size)):
        if place % run.world.size != run.world.rank:
            continue
        # Dropout follows from the step, so that nothing of it has to be kept in a checkpoint.
        torch.manual_seed(hash((run.plan.seed, run.state.step, place)) % 2**63)
        loss = summed_loss(run.learner, run.learner.batch([e.sample for e in batch]), run.world.device, run.bf16)
        if not loss.isfinite():
            raise broken(run, batch, f"loss {loss.item()}")
        (loss / tokens).backward()
        total += loss.detach()
        run.state.tokens += sum(example.sample.length for example in batch)
    if run.world.size > 1:
        for weight in weights:
            weight.grad = run.world.summed(torch.zeros_like(weight) if weight.grad is None else weight.grad)
    norm = nn.utils.clip_grad_norm_(weights, run.plan.clip)
    if not norm.isfinite():
        raise broken(run, [example for batch in batches for example in batch], f"gradient {norm.item()}")
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.state.loss += run.world.summed(total).item()
    run.state.counted += tokens
    run.state.step += 1


def shared(batches: Sequence[Sequence[TrainingTurn]], count: int) -> list[Sequence[TrainingTurn]]:
    """A step's batches, each cut into parts where there are fewer of them than processes."""
    parts = -(-count // len(batches))
    return [part for batch in batches for first in range(parts) if (part := batch[first::parts])]


def broken(run: TuneRun, batch: Sequence[TrainingTurn], what: str) -> TrainingFailed:
    """What to say of a loss that is not finite: the rows whose own loss is not, else all that were together."""
    alone = [e for e in batch if not math.isfinite(mean_loss(run, [e]))]
    places = "; ".join(example.place for example in (alone or batch)[:8])
    return TrainingFailed(
        f"第 {run.state.step + 1} 步的数值不是有限的数 (step {run.state.step + 1}: {what}): {places}。请检查这些行，或调低 --rate，"
        "或用 --set precision=fp32 (check these rows, lower --rate, or use --set precision=fp32)；"
        "上一个检查点仍在，改好后换一个 --out 重来 (change what is wrong and start in another --out)"
    )


# --- measuring ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def mean_loss(run: TuneRun, rows: Sequence[TrainingTurn]) -> float:
    """Mean negative log-likelihood of a reply token, over all processes' shares of the rows."""
    run.model.eval()
    ordered = sorted(rows, key=lambda row: row.sample.length)
    size = run.plan.batch
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    alone = len(rows) == 1 or run.world.size == 1
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches if alone else batches[run.world.rank :: run.world.size]:
        lesson = run.learner.batch([example.sample for example in batch])
        total += summed_loss(run.learner, lesson, run.world.device, run.bf16).double().cpu()
    if not alone:
        total = run.world.summed(total.float().to(run.world.device))
    return total.item() / sum(len(row.sample.reply) for row in rows)


def evaluate(run: TuneRun) -> None:
    """Measure, note it, and keep the weights if they are the best so far."""
    state = run.state
    valid = mean_loss(run, run.valid)
    if not math.isfinite(valid):
        raise broken(run, run.valid, f"held-out loss {valid}")
    if not state.log:
        state.samples = [
            {"asked": row.dialogue[-1].content, "doctor": row.reply, "before": report.reply(run, row)}
            for row in run.valid[: run.plan.samples]
        ]
    train = round(state.loss / state.counted, 4) if state.counted else None
    state.loss, state.counted = 0.0, 0
    state.log.append({"step": state.step, "train": train, "valid": round(valid, 4), "seconds": round(state.seconds, 1)})
    run.say(json.dumps(state.log[-1]))
    if run.world.rank:
        return
    write_whole(run.files.out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in state.log))
    if state.step and state.best is state.log[-1]:
        whole(
            run.files.out / "best.safetensors",
            lambda path: save_file({n: w.detach() for n, w in run.trained.items()}, path),
        )
    report.write(run)


def choose_threads(run: TuneRun) -> None:
    """Time a batch with all threads, half and one: with busy neighbours fewer can be several times as fast."""
    most = torch.get_num_threads()
    if run.plan.threads or run.world.device != "cpu" or most == 1:
        return
    rows, times = run.train[: run.plan.batch], dict[int, float]()
    for count in sorted({1, max(1, most // 2), most}):
        torch.set_num_threads(count)
        tries = []
        for _ in range(2):
            begun = time.monotonic()
            mean_loss(run, rows)
            tries.append(time.monotonic() - begun)
        times[count] = min(tries)
    torch.set_num_threads(min(times, key=lambda count: times[count]))


# --- the end --------------------------------------------------------------------------------------------------------


def finish(run: TuneRun, folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Publish the best weights and say how to use them; the original stays where nothing was better."""
    state, out, alone = run.state, run.files.out, run.world.rank == 0
    first, best = state.log[0]["valid"], state.best
    if best is state.log[0]:
        if alone:
            report.write(run)
        run.say(
            f"没有比原来的更好 (no better than the original): {first}; 不写出模型 (no model is written); {out / 'report.html'}"
        )
        return
    weights = load_file(out / "best.safetensors", device=run.world.device)
    for key, weight in run.trained.items():
        weight.data.copy_(weights[key])
    for row, sample in zip(run.valid, state.samples, strict=False):
        sample["after"] = report.reply(run, row)
    if not alone:
        return
    speed = state.tokens / state.seconds if state.seconds else 0
    run.say(f"验证损失 (held-out loss) {first} → {best['valid']} ({best['valid'] / first - 1:+.1%}), {state.seconds:.0f} s, "
            f"{speed:.0f} tokens/s; {report.write(run)}")  # fmt: skip
    publish(run, folder, name, {**facts, "steps": state.step, "samples": state.samples}, weights)
    if run.card.base not in by_name():
        run.say(
            f"把这一行加进 BIANQUE_CARDS 的文件，与 {run.card.base} 放在一起 (add this line to your own file of cards)"
        )
    card = result.write_card(out, run.card, name, bool(run.plan.lora), folder)
    cards = f"BIANQUE_CARDS={out / 'card.json'} python -m bianque"
    run.say(f"{json.dumps(card, ensure_ascii=False)}\n用法 (use): {cards} chat --model {name}\n"
            f"比较 (compare): {cards} evaluate --data FILE --out compared --model {run.card.base} {name}")  # fmt: skip


def publish(
    run: TuneRun, folder: Path, name: str, known: Mapping[str, Any], weights: Mapping[str, torch.Tensor]
) -> None:
    """The folder `adapter` or `model` of the run: weights, model card and loss curve."""
    plan, place = run.plan, run.files.out / ("adapter" if run.plan.lora else "model")
    if plan.lora:
        base = run.card.repo or run.card.base
        low_rank.save({key: w.cpu() for key, w in weights.items()}, place, plan.lora, plan.alpha, plan.dropout, base)
    else:
        result.write_model(run.model.state_dict(), folder, place, loader.configuration(run.card, folder))
    text = result.model_card(run.card, name, plan, known, run.state.log, run.state.best)
    (place / "README.md").write_text(text, encoding="utf-8")
    (place / "loss.svg").write_text(result.curve(run.state.log, name), encoding="utf-8")

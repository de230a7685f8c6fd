"""Train the two bundled preview models from scratch: `python -m bianque train-mini ask|advise|both …`.

One plan under one schedule: the language from real dialogues, then consultations composed from the knowledge base,
and last each model's role alone. Hidden matrices are optimised with Muon, everything else with AdamW; the rate rises
briefly, stays, and falls to zero over the second half. Batches depend on the seed alone. A checkpoint lets a killed
run go on where it was; without workers it then ends with the same weights.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bianque.catalog import prompts
from bianque.data.compose import Composer
from bianque.data.dialogues import Record, readable
from bianque.models.chatglm import ChatGLM, ChatGLMConfig
from bianque.models.t5 import T5, T5Config
from bianque.models.tokenizers import ChatGLMTokenizer, T5Tokenizer
from bianque.train import samples, vocabulary
from bianque.train.learners import ChatGLMLearner, T5Learner, summed_loss
from bianque.train.samples import PromptFormat, Role, Sample

GROUP = 16  # batches that are drawn together, so that each holds samples of similar length


@dataclass(frozen=True, slots=True)
class MiniPlan:
    """One training run; shares of `steps` say when the language gives way to composed consultations, and these to the role."""

    steps: int = 5000
    minutes: float = math.inf  # the schedule ends by then, however many steps that is
    batch_tokens: int = 65536
    language: float = 0.15  # until here, mostly real dialogues
    mixed: float = 0.4  # until here, some
    real: float = 0.05  # share of real turns of the role from then on
    turns: int = 4  # places of one composed consultation
    rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.1
    prompt_tokens: int = 448
    reply_tokens: int = 320
    pieces: int = 8000
    examined: int = 300  # consultations that are never drawn
    width: int = 0  # 0: as the model has it; the tests make tiny ones
    layers: int = 0
    seed: int = 0
    workers: int = 0  # processes that compose and tokenise
    compile: bool = False
    save_minutes: float = 10

    def rate_at(self, share: float, step: int) -> float:
        """Of the highest rate: warm-up, a plateau to the middle, then straight down."""
        return min(1.0, (step + 1) / self.warmup) * min(1.0, 2 * (1 - share))


class AskMini(T5Learner):
    """The architecture of BianQue-1.0."""

    pieces = "spiece.model"
    compiled = ("encode", "decode")
    train_vocabulary = staticmethod(vocabulary.train_spiece)

    def __init__(self, folder: Path, plan: MiniPlan) -> None:
        tokenizer = T5Tokenizer(folder / self.pieces)
        self.form = PromptFormat(tokenizer, self.escape, plan.prompt_tokens, plan.reply_tokens)
        # As upstream, the 100 extra ids lie behind the pieces and the table is padded to a multiple of 64.
        vocab = -(-(tokenizer.model.vocab_size() + 100) // 64) * 64
        width, layers = plan.width or 320, plan.layers or 4
        self.config = T5Config(
            vocab_size=vocab, d_model=width, d_kv=64, d_ff=width * 14 // 5 // 64 * 64, num_layers=layers,
            num_decoder_layers=layers, num_heads=max(1, width // 64), tie_word_embeddings=False,
        )  # fmt: skip
        self.model = T5(self.config)
        for name, weight in self.model.named_parameters():
            if weight.ndim == 2:
                std = 1.0 if name.startswith("shared") else weight.shape[1] ** -0.5
                # T5 does not divide scores by sqrt(d): its queries begin smaller instead (Mesh TensorFlow).
                nn.init.normal_(
                    weight, std=std * (self.config.d_kv**-0.5 if name.endswith("Attention.q.weight") else 1)
                )

    def published_config(self) -> dict[str, Any]:
        return {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}


class AdviseMini(ChatGLMLearner):
    """The architecture of BianQue-2.0."""

    pieces = "ice_text.model"
    compiled = ("hidden",)
    train_vocabulary = staticmethod(vocabulary.train_ice_text)

    def __init__(self, folder: Path, plan: MiniPlan) -> None:
        tokenizer = ChatGLMTokenizer(folder / self.pieces)
        self.form = PromptFormat(tokenizer, self.escape, plan.prompt_tokens, plan.reply_tokens)
        width = plan.width or 320
        self.config = ChatGLMConfig(
            vocab_size=-(-tokenizer.model.vocab_size() // 64) * 64,
            hidden_size=width, inner_hidden_size=4 * width, num_layers=plan.layers or 8,
            num_attention_heads=max(1, width // 64),
            bos_token_id=tokenizer.bos, eos_token_id=tokenizer.eos, pad_token_id=tokenizer.pad,
            mask_token_id=tokenizer.mask, gmask_token_id=tokenizer.gmask,
        )  # fmt: skip
        self.model = ChatGLM(self.config)
        for name, weight in self.model.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.05 if "embeddings" in name else weight.shape[1] ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def published_config(self) -> dict[str, Any]:
        return {"architectures": ["ChatGLMModel"], "model_type": "chatglm", "position_encoding_2d": True}


SUBJECTS: dict[Role, type[AskMini] | type[AdviseMini]] = {"ask": AskMini, "advise": AdviseMini}
Subject = AskMini | AdviseMini


def optimisers(model: nn.Module, plan: MiniPlan) -> list[torch.optim.Optimizer]:
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        table = any(part in name for part in ("shared", "embeddings", "lm_head", "relative_attention_bias"))
        (hidden if weight.ndim == 2 and not table else rest).append(weight)
    muon = torch.optim.Muon(hidden, lr=plan.rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)]


class Lessons(IterableDataset[dict[str, Tensor]]):
    """Batches from `first` on: real dialogues and composed consultations, mixed as the plan says."""

    def __init__(self, subject: Subject, role: Role, records: Sequence[Record], plan: MiniPlan, first: int = 0) -> None:
        self.subject, self.role, self.plan, self.first = subject, role, plan, first
        self.records = list(records)
        self.real = [record for record in records if record.source in samples.REAL]
        self.composer = Composer(phrases=samples.complaints(records))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        group = self.first // GROUP + number
        while group * GROUP < self.plan.steps:
            done = self.first % GROUP if group == self.first // GROUP else 0
            yield from (self.subject.batch(rows) for rows in self.group(group)[done:])
            group += count

    def group(self, number: int) -> list[list[Sample]]:
        """The batches of one group, GROUP of them."""
        rng = random.Random(f"{self.plan.seed}/{number}")
        share = number * GROUP / self.plan.steps
        drawn: list[Sample] = []
        length, wanted = 0, 0.85 * GROUP * self.plan.batch_tokens
        while True:
            while length < wanted:
                for sample in self.draw(rng, share):
                    drawn.append(sample)
                    length += sample.length
            groups = samples.batches(drawn, self.plan.batch_tokens, rng, self.subject.shape)
            if len(groups) > GROUP:  # the last of them may be small
                return groups[:GROUP]
            wanted += 0.1 * GROUP * self.plan.batch_tokens

    def draw(self, rng: random.Random, share: float) -> Iterator[Sample]:
        plan, form, role = self.plan, self.subject.form, self.role
        early = share < plan.mixed
        if self.records and rng.random() < (0.8 if share < plan.language else 0.2 if early else 0):
            return samples.language(rng.choice(self.records), form, rng)
        if self.real and not early and rng.random() < plan.real:
            return samples.turns(rng.choice(self.real), form, role, rng)
        consultation = self.composer(rng)
        if early and rng.random() < 0.4:
            return samples.onwards(consultation, form, rng)
        return samples.composed(consultation, form, role, rng, plan.turns)


def train(
    role: Role, data: Sequence[Path], out: Path, plan: MiniPlan, work: Path, say: Callable[[str], None] = print
) -> None:
    """Train one model and write it to `out` as the real ones are stored (config, tokenizer, fp16 shards).

    `work` holds the vocabulary and the checkpoint; what is there already is taken, so a killed run goes on from there.
    """
    work.mkdir(parents=True, exist_ok=True)
    records = load(data, say)
    if not (work / SUBJECTS[role].pieces).exists():
        make_vocabulary(role, records, work, plan)
    run = MiniRun(role, plan, work, say)
    run.restore()
    run.learn(records)
    held_out = [run.subject.batch(rows) for rows in examination(run.subject, role, plan)]
    run.state["held_out"] = mean_loss(run.subject, held_out, run.device)
    said = f"held-out loss {run.state['held_out']:.4f} after {run.state['step']} steps"
    say(f"{role}-mini: {said}, {run.state['seconds'] / 60:.1f} min")
    run.save()
    publish(run.subject, out, work)
    (out / "training.json").write_text(json.dumps(run.report(), indent=1, default=str) + "\n")


class MiniRun:
    """One model's training: `state` counts its steps, seconds and tokens, and holds what was said of the loss."""

    def __init__(self, role: Role, plan: MiniPlan, work: Path, say: Callable[[str], None]) -> None:
        self.role, self.plan, self.work, self.say = role, plan, work, say
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(plan.seed)
        self.subject = SUBJECTS[role](work, plan)
        self.model = self.subject.model.to(self.device)
        self.optimizers = optimisers(self.model, plan)
        if plan.compile:
            for name in self.subject.compiled:
                setattr(self.model, name, torch.compile(getattr(self.model, name), dynamic=True))
        self.size = sum(p.numel() for p in self.model.parameters())
        self.state: dict[str, Any] = {"step": 0, "seconds": 0.0, "tokens": 0, "log": []}
        say(f"{role}-mini: {self.size / 1e6:.1f} M parameters, {self.device}")

    @property
    def checkpoint(self) -> Path:
        return self.work / "checkpoint.pt"

    def restore(self) -> None:
        """Go on from a checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        for optimizer, restored in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(restored)
        self.state = saved["state"]
        self.say(f"resumed behind step {self.state['step']}")

    def save(self) -> None:
        save(self.checkpoint, self.model, self.optimizers, self.state)

    def learn(self, records: Sequence[Record]) -> None:
        """Until the plan's steps or minutes are over. ArithmeticError names a loss that is no number."""
        plan, state = self.plan, self.state
        lessons = Lessons(self.subject, self.role, records, plan, state["step"])
        loader = DataLoader(
            lessons, batch_size=None, num_workers=plan.workers, pin_memory=self.device.type == "cuda",
            prefetch_factor=2 * GROUP if plan.workers else None,
        )  # fmt: skip
        begun, before = time.monotonic(), state["seconds"]
        said = saved_at = begun
        total, counted = torch.zeros((), device=self.device), 0
        self.model.train()
        for batch in loader:
            state["seconds"] = before + time.monotonic() - begun
            share = max(state["step"] / plan.steps, state["seconds"] / (60 * plan.minutes))
            if share >= 1:
                break
            total, counted = total + self.step(batch, share), counted + 1
            now = time.monotonic()
            if now - said > 20:
                state["seconds"] = before + now - begun
                self.tell(share, (total / counted).item())
                said, total, counted = now, torch.zeros((), device=self.device), 0
            if now - saved_at >= 60 * plan.save_minutes:
                self.save()
                saved_at = now
        state["seconds"] = before + time.monotonic() - begun

    def step(self, batch: dict[str, Tensor], share: float) -> torch.Tensor:
        """One step at the rate of this share of the plan: its loss."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.rate * self.plan.rate_at(share, self.state["step"])
        loss = loss_of(self.subject, batch, self.device)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state["step"] += 1
        read = (part.numel() for name, part in batch.items() if name in ("ids", "source", "target"))
        self.state["tokens"] += sum(read)
        return loss.detach()

    def tell(self, share: float, loss: float) -> None:
        if not math.isfinite(loss):
            raise ArithmeticError(f"{self.role}-mini: the loss at step {self.state['step']} is {loss}; lower the rate")
        row = {
            "step": self.state["step"], "share": round(share, 3), "minutes": round(self.state["seconds"] / 60, 2),
            "loss": round(loss, 4), "tokens_a_second": round(self.state["tokens"] / self.state["seconds"]),
        }  # fmt: skip
        self.state["log"].append(row)
        self.say(json.dumps(row))

    def report(self) -> dict[str, Any]:
        return {
            "role": self.role, "parameters": self.size, "plan": asdict(self.plan), "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU", **self.state,
        }  # fmt: skip


def both(arguments: Sequence[str]) -> int:
    """Train the two at once, a process each; the first exit status that is not 0."""
    command = [sys.executable, "-m", "bianque", "train-mini"]
    runs = [subprocess.Popen([*command, role, *arguments]) for role in SUBJECTS]
    return next((code for run in runs if (code := run.wait())), 0)


def load(paths: Sequence[Path], say: Callable[[str], None] = print) -> list[Record]:
    """Real dialogues; those reworded by a machine are left out, and so are broken ones, which are counted."""
    found: list[Record] = []
    for path in paths:
        records, bad = readable(path)
        found += [record for record in records if not record.source.startswith(samples.MACHINE_SYNONYMS)]
        say(f"{path.name}: {len(records)} dialogues, {len(bad)} unreadable ones left out")
    return found


def make_vocabulary(role: Role, records: Sequence[Record], work: Path, plan: MiniPlan) -> None:
    """Of composed and real dialogues, about half each."""
    rng, composer = random.Random(plan.seed), Composer()
    texts = ["\n".join(samples.LABEL[turn.role] + turn.text for turn in composer(rng).turns) for _ in range(6000)]
    chosen = rng.sample(list(records), min(len(records), 3000))
    texts += ["\n".join(samples.LABEL[turn.role] + turn.text for turn in record.turns) for record in chosen]
    escape = prompts.t5_escape if role == "ask" else (lambda text: text.replace("\n", "<n>"))
    SUBJECTS[role].train_vocabulary(map(escape, texts), work / SUBJECTS[role].pieces, plan.pieces)


def examination(subject: Subject, role: Role, plan: MiniPlan) -> list[list[Sample]]:
    """Composed consultations that training never draws, `examined` of them."""
    rng, composer = random.Random(f"{plan.seed}/held out"), Composer()
    drawn = [
        s for _ in range(plan.examined) for s in samples.composed(composer(rng), subject.form, role, rng, plan.turns)
    ]
    return samples.batches(drawn, plan.batch_tokens, rng, subject.shape)


def loss_of(subject: Subject, batch: dict[str, Tensor], device: torch.device) -> Tensor:
    """Mean negative log-likelihood of a reply token."""
    return summed_loss(subject, batch, device.type) / len(batch["wanted"])


@torch.no_grad()
def mean_loss(subject: Subject, batches: Sequence[dict[str, Tensor]], device: torch.device) -> float:
    subject.model.eval()
    counts = [len(batch["wanted"]) for batch in batches]
    losses = [loss_of(subject, batch, device).item() for batch in batches]
    return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)


def save(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    kept = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "state": state}
    torch.save(kept, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def publish(subject: Subject, out: Path, work: Path) -> None:
    """Store the model as the real ones are: config, tokenizer, fp16 safetensors in shards that any git push takes."""
    out.mkdir(parents=True, exist_ok=True)
    config = {**subject.published_config(), "torch_dtype": "float16", **asdict(subject.config)}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copyfile(work / subject.pieces, out / subject.pieces)
    for old in out.glob("model*.safetensors*"):
        old.unlink()
    halves = {name: weight.detach().cpu().half().contiguous() for name, weight in subject.model.state_dict().items()}
    save_torch_state_dict(halves, out, max_shard_size="8MB")

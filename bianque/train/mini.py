"""Train the two bundled preview models from scratch: `python -m bianque train-mini ask|advise …`.

Three stages under one schedule: the language from all dialogues, then from the medical ones, then the role alone
(doctor turns that ask, or that do not). Hidden matrices are optimised with Muon, everything else with AdamW; the rate
rises briefly and then falls linearly to zero. A checkpoint after every epoch lets a killed run resume where it was.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from torch.nn import functional as F

from bianque.catalog import prompts
from bianque.data.dialogues import Record, read
from bianque.models.chatglm import ChatGLM, ChatGLMConfig, layout
from bianque.models.t5 import T5, T5Config
from bianque.models.tokenizers import ChatGLMTokenizer, T5Tokenizer
from bianque.train import samples, vocabulary
from bianque.train.samples import Format, Sample

Role = Literal["ask", "advise"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One training run. An epoch is a pass over the dialogues of its stage, one sample a dialogue (role: `turns`)."""

    language: int = 1  # epochs over all dialogues
    medical: int = 5  # epochs over medical dialogues
    role: int = 3  # epochs over the role's turns in medical dialogues
    turns: int = 4  # turns of one dialogue in a role epoch, at most
    batch_tokens: int = 12288
    rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.1
    dropout: float = 0.05
    prompt_tokens: int = 448
    reply_tokens: int = 320
    pieces: int = 8000
    seed: int = 0
    compile: bool = True  # fuse the element-wise work; a minute of compiling, then 1.3 to 1.5 times as fast

    @property
    def epochs(self) -> int:
        return self.language + self.medical + self.role


class AskMini:
    """The architecture of BianQue-1.0."""

    pieces = "spiece.model"
    compiled = ("encode", "decode")
    train_vocabulary = staticmethod(vocabulary.train_spiece)

    def __init__(self, folder: Path, plan: Plan) -> None:
        tokenizer = T5Tokenizer(folder / self.pieces)
        self.form = Format(tokenizer, prompts.bianque_1, prompts.t5_escape, plan.prompt_tokens, plan.reply_tokens)
        # As upstream, the 100 extra ids lie behind the pieces and the table is padded to a multiple of 64.
        vocab = -(-(tokenizer.model.vocab_size() + 100) // 64) * 64
        self.config = T5Config(
            vocab_size=vocab, d_model=256, d_kv=64, d_ff=704, num_layers=4, num_decoder_layers=4, num_heads=4,
            tie_word_embeddings=False,
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

    def logits(self, batch: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        source = pad([s.prompt for s in batch], self.config.pad_token_id)
        target = pad([[self.config.decoder_start_token_id, *s.reply] for s in batch], -100)
        encoded, visible = self.model.encode(source)
        hidden = self.model.decode(target[:, :-1].clamp(min=0), self.model.cross(encoded), visible)
        wanted = target[:, 1:] >= 0
        return self.model.head(hidden[wanted]), target[:, 1:][wanted]


class AdviseMini:
    """The architecture of BianQue-2.0."""

    pieces = "ice_text.model"
    compiled = ("hidden",)
    train_vocabulary = staticmethod(vocabulary.train_ice_text)

    def __init__(self, folder: Path, plan: Plan) -> None:
        tokenizer = ChatGLMTokenizer(folder / self.pieces)
        self.form = Format(tokenizer, prompts.bianque_2, str, plan.prompt_tokens, plan.reply_tokens)
        self.config = ChatGLMConfig(
            vocab_size=-(-tokenizer.model.vocab_size() // 64) * 64,
            hidden_size=256, inner_hidden_size=1024, num_layers=8, num_attention_heads=4,
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

    def logits(self, batch: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        ids = pad([s.prompt + s.reply for s in batch], -100)
        column = torch.arange(ids.shape[1])
        start = torch.tensor([len(s.prompt) for s in batch])[:, None]
        reply = (column >= start) & (ids >= 0)
        # Padding stands on the right, behind everything: causality hides it.
        ids = ids.clamp(min=0)
        hidden = self.model.hidden(ids, *layout(ids, self.config))
        return self.model.lm_head(hidden[:, :-1][reply[:, 1:]]), ids[reply]


SUBJECTS: dict[Role, type[AskMini] | type[AdviseMini]] = {"ask": AskMini, "advise": AdviseMini}


def pad(rows: Sequence[list[int]], fill: int) -> Tensor:
    """[rows, longest] int64, padded on the right to a multiple of 16, so that few shapes occur."""
    width = -(-max(map(len, rows)) // 16) * 16
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def optimisers(model: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        table = any(part in name for part in ("shared", "embeddings", "lm_head", "relative_attention_bias"))
        (hidden if weight.ndim == 2 and not table else rest).append(weight)
    muon = torch.optim.Muon(hidden, lr=plan.rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)]


def add_dropout(model: nn.Module, share: float) -> None:
    """Drop out what each sublayer adds to the residual; the architectures themselves stay as they are served."""
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in ("o", "wo", "dense", "dense_4h_to_h"):
            module.register_forward_hook(lambda module, _, out: F.dropout(out, share, module.training))


def draw(subject: AskMini | AdviseMini, records: dict[str, list[Record]], role: Role, plan: Plan, epoch: int):
    """This epoch's batches; they depend on the seed and the epoch alone, so a resumed run sees the same ones."""
    rng = random.Random(f"{plan.seed}/{epoch}")
    if epoch < plan.language:
        drawn = list(samples.language([*records["medical"], *records["general"]], subject.form, rng))
    elif epoch < plan.language + plan.medical:
        drawn = list(samples.language(records["medical"], subject.form, rng))
    else:
        drawn = list(samples.turns(records["medical"], subject.form, role == "ask", plan.turns, rng))
    return samples.batches(drawn, plan.batch_tokens, rng)


def train(
    role: Role,
    medical: Sequence[Path],
    general: Sequence[Path],
    valid: Sequence[Path],
    out: Path,
    plan: Plan,
    work: Path,
    say: Callable[[str], None] = print,
    start: Path | None = None,
) -> None:
    """Train one model and write it to `out` as the real ones are stored (config, tokenizer, fp16 shards).

    `work` holds the checkpoint; if there is one already, the run goes on from it. A new run begins with the weights of
    the checkpoint `start`, whose vocabulary is beside it, or with random ones.
    """
    work.mkdir(parents=True, exist_ok=True)
    records = {"medical": load(medical), "general": load(general), "valid": load(valid)}
    torch.manual_seed(plan.seed)
    if start and not (work / SUBJECTS[role].pieces).exists():
        shutil.copyfile(start.parent / SUBJECTS[role].pieces, work / SUBJECTS[role].pieces)
    if not (work / SUBJECTS[role].pieces).exists():
        texts = [prompts.bianque_2(samples.messages(r)) for r in [*records["medical"], *records["general"]]]
        escape = prompts.t5_escape if role == "ask" else (lambda text: text.replace("\n", "<n>"))
        SUBJECTS[role].train_vocabulary(map(escape, texts), work / SUBJECTS[role].pieces, plan.pieces)
    subject = SUBJECTS[role](work, plan)
    model = subject.model
    add_dropout(model, plan.dropout)
    optimizers = optimisers(model, plan)
    if plan.compile:
        for name in subject.compiled:
            setattr(model, name, torch.compile(getattr(model, name), dynamic=True))
    size = sum(p.numel() for p in model.parameters())
    held_out = list(samples.turns(records["valid"], subject.form, role == "ask", None, random.Random(plan.seed)))
    say(f"{role}-mini: {size / 1e6:.1f} M parameters, {len(held_out)} held-out turns of the role")

    state: dict[str, Any] = {"epoch": 0, "seconds": 0.0, "best": math.inf, "log": []}
    if (work / "checkpoint.pt").exists():
        saved = torch.load(work / "checkpoint.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, restored in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(restored)
        state = saved["state"]
        say(f"resumed behind epoch {state['epoch']}")
    elif start:
        saved = torch.load(start, weights_only=True)
        model.load_state_dict(saved.get("model", saved))

    while state["epoch"] < plan.epochs:
        epoch, begun = state["epoch"], time.monotonic()
        torch.manual_seed(plan.seed * 1000 + epoch)
        groups = draw(subject, records, role, plan, epoch)
        loss_sum = tokens = 0.0
        model.train()
        for i, batch in enumerate(groups):
            share = (epoch + i / len(groups)) / plan.epochs
            warm = min(1.0, (i + 1) / plan.warmup) if epoch == 0 else 1.0
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = plan.rate * warm * (1 - share)
            with torch.autocast("cpu", torch.bfloat16):
                logits, wanted = subject.logits(batch)
            loss = F.cross_entropy(logits.float(), wanted)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            loss_sum, tokens = loss_sum + loss.item() * len(wanted), tokens + len(wanted)
            if i % 50 == 0:
                speed = sum(s.length for b in groups[: i + 1] for s in b) / (time.monotonic() - begun)
                say(f"epoch {epoch} {i}/{len(groups)} loss {loss.item():.3f} {speed:.0f} tokens/s")
        found = loss_of(subject, held_out, plan)
        state["epoch"] += 1
        state["seconds"] += time.monotonic() - begun
        row = {"epoch": epoch, "train": loss_sum / tokens, "valid": found, "minutes": state["seconds"] / 60}
        state["log"].append(row)
        say(json.dumps(row))
        if found < state["best"]:
            state["best"] = found
            torch.save(model.state_dict(), work / "best.pt")
        torch.save(
            {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "state": state},
            work / "checkpoint.tmp",
        )
        (work / "checkpoint.tmp").rename(work / "checkpoint.pt")
    model.load_state_dict(torch.load(work / "best.pt", weights_only=True))
    publish(subject, out, work)
    report = {"role": role, "parameters": size, "plan": asdict(plan), "torch": torch.__version__, **state}
    (out / "training.json").write_text(json.dumps(report, indent=1) + "\n")


def load(paths: Sequence[Path]) -> list[Record]:
    return [record for path in paths for record in read(path)]


@torch.inference_mode()
def loss_of(subject: AskMini | AdviseMini, held_out: Sequence[Sample], plan: Plan) -> float:
    """Mean negative log-likelihood of a reply token."""
    subject.model.eval()
    total = tokens = 0.0
    for batch in samples.batches(held_out, plan.batch_tokens, random.Random(0)):
        with torch.autocast("cpu", torch.bfloat16):
            logits, wanted = subject.logits(batch)
        total += F.cross_entropy(logits.float(), wanted, reduction="sum").item()
        tokens += len(wanted)
    return total / tokens


def publish(subject: AskMini | AdviseMini, out: Path, work: Path) -> None:
    """Store the model as the real ones are: config, tokenizer, fp16 safetensors in shards that any git push takes."""
    out.mkdir(parents=True, exist_ok=True)
    config = {**subject.published_config(), "torch_dtype": "float16", **asdict(subject.config)}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / subject.pieces).write_bytes((work / subject.pieces).read_bytes())
    for old in out.glob("model*.safetensors*"):
        old.unlink()
    halves = {name: weight.half().contiguous() for name, weight in subject.model.state_dict().items()}
    save_torch_state_dict(halves, out, max_shard_size="8MB")

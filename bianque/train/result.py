"""What a run leaves: the model or adapter, a card that uses it at once, a model card with the loss curve; and its way to the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bianque.catalog.card import Model
from bianque.checkpoints.convert import SHARD, ShardWriter, copy_rest
from bianque.checkpoints.hub import refusal
from bianque.errors import LoadFailed
from bianque.train.plan import TunePlan

Log = Sequence[Mapping[str, Any]]
WARNING = (
    "仅供研究：不是医疗器械，也不能代替医生；用前请自行评估。"
    "For research only: not a medical device, no substitute for a doctor; evaluate it before any use."
)


def write_model(weights: Mapping[str, Tensor], folder: Path, out: Path, raw: Mapping[str, Any]) -> None:
    """A whole model as `folder` is published: its configuration and tokenizer, and weights of the type named there."""
    out.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, str(raw.get("torch_dtype") or "float32"), torch.float32)
    writer = ShardWriter(out, SHARD)
    for name, weight in weights.items():
        writer.add(name, weight.detach().cpu().to(dtype))
    writer.close()
    copy_rest(folder, out, dict(raw))


def write_card(out: Path, card: Model, name: str, lora: bool, base: Path) -> dict[str, str]:
    """`card.json`, with which BIANQUE_CARDS takes up the result; `base` where it lies on this machine and not on the Hub."""
    facts = {"name": name, "like": card.base} | ({"adapter_path": "adapter"} if lora else {"path": "model"})
    if lora and base.parent.name != "snapshots":  # what the Hub's cache has is found by its name
        facts["path"] = str(base.resolve())
    (out / "card.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return facts


def curve(log: Log, title: str) -> str:
    """The losses over the steps as SVG: held-out in one colour, training in another."""
    wide, high, left, top = 640, 320, 56, 36
    lines = {
        "valid": [(row["step"], row["valid"]) for row in log],
        "train": [(r["step"], r["train"]) for r in log if r["train"]],
    }
    values = [value for line in lines.values() for _, value in line]
    last, low, span = max(1, log[-1]["step"]), min(values), (max(values) - min(values)) or 1
    x = lambda step: left + (wide - left - 16) * step / last
    y = lambda value: top + (high - top - 40) * (1 - (value - low) / span)
    parts = [f'<text x="{left}" y="20" font-size="14">{escape(title)}</text>']
    for value in (low, low + span / 2, low + span):
        parts.append(f'<path d="M{left} {y(value):.1f}H{wide - 16}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" font-size="11" text-anchor="end">{value:.3f}</text>')
    for place, (name, colour, words) in enumerate(
        (("valid", "#c0392b", "验证 held-out"), ("train", "#2980b9", "训练 training"))
    ):
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in lines[name])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 110 * place}" y="{high - 6}" font-size="12" fill="{colour}">{words}</text>')
    parts.append(f'<text x="{wide - 16}" y="{high - 6}" font-size="12" text-anchor="end">step {last}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def model_card(
    card: Model, name: str, plan: TunePlan, facts: Mapping[str, Any], log: Log, best: Mapping[str, Any]
) -> str:
    """README.md with what the Hub reads at its head: base, licence, data, losses, samples before and after."""
    free = card.licence.split(";")[0].strip() == "Apache-2.0"
    head = {
        "language": "zh",
        "license": "apache-2.0" if free else "other",
        "library_name": "peft" if plan.lora else "bianque",
    }
    if not free:
        head["license_name"] = re.sub(r"[^a-z0-9.]+", "-", card.licence.lower()).strip("-")[
            :80
        ]  # the Hub takes no other
        if card.repo:
            head["license_link"] = f"https://huggingface.co/{card.repo}"
    if card.repo:
        head["base_model"] = card.repo
    how = f"LoRA (rank {plan.lora}, alpha {plan.alpha:g}, {plan.bits} bits)" if plan.lora else "全部权重 (all weights)"
    table = [f"| {row['step']} | {row['train'] or '–'} | {row['valid']} |" for row in log]
    shown = [
        f"**病人 patient**：{quoted(sample['asked'])}\n\n- 微调前 before：{quoted(sample['before'])}\n"
        f"- 微调后 after：{quoted(sample.get('after', ''))}\n- 医生 doctor：{quoted(sample['doctor'])}\n"
        for sample in facts["samples"]
    ]
    use = {"name": name, "like": card.base, ("adapter_path" if plan.lora else "path"): "."}
    return "\n".join(
        [
            "---", *(f"{key}: {value}" for key, value in head.items()), "---", "", f"# {name}", "", WARNING, "",
            f"- 基础模型 base: {card.title} ({card.repo or 'bundled'}@{card.revision})",
            f"- 许可 licence: {card.licence}",
            f"- 方法 method: {how}; {facts['steps']} steps × {plan.batch * plan.accumulate}, rate {plan.rate:g}",
            f"- 数据 data: {facts['data']} ({facts['examples']} turns, sha256 {facts['digest'][:16]}); "
            f"验证 held-out: {facts['valid']} ({facts['held_out']} turns)",
            f"- 验证损失 held-out loss: {log[0]['valid']} → **{best['valid']}** (step {best['step']})", "",
            "![loss](loss.svg)", "", "| step | train | held-out |", "|---|---|---|", *table, "",
            "## 用法 use", "", "`card.json`：", "", "```json", json.dumps(use, ensure_ascii=False), "```", "",
            "`BIANQUE_CARDS=card.json python -m bianque chat --model " + name + "`", "",
            "## 微调前后 before and after", "", *shown,
        ]
    )  # fmt: skip


def quoted(text: str) -> str:
    return " ".join(text.split()) or "–"


def signed_in(repo: str) -> None:
    """LoadFailed at once, and not after a night's training, if the Hub takes nothing from us."""
    api_call(repo, lambda api: api.whoami())


def push(folder: Path, repo: str, public: bool) -> str:
    """Upload the result; private unless `public`. Returns its address."""
    text = folder / "README.md"  # from now on the card that it shows finds the result there
    told = re.sub(
        r'"(adapter_)?path": "\."', lambda m: f'"{"adapter" if m[1] else "repo"}": "{repo}"', text.read_text("utf-8")
    )
    text.write_text(told, encoding="utf-8")

    def upload(api: Any) -> str:
        made = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Fine-tuned with bianque")
        return str(made)

    return api_call(repo, upload)


def api_call(repo: str, call: Any) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return call(HfApi())
    except HfHubHTTPError as error:
        raise LoadFailed(f"--push {repo}: {refusal(error, repo, 'main')}") from error
    except Exception as error:  # no token, no network, a name that is none: each in a class of its own
        told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LoadFailed(
            f"--push {repo}: 推送不成 (could not push): {told}; 结果仍在本机，设好 HF_TOKEN 后用同一条命令再推送 "
            "(the result is kept here: set HF_TOKEN, then the same command pushes it)"
        ) from error

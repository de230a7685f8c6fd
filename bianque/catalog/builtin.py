"""The models of `builtin.json`. A further checkpoint of a known architecture is one more entry there and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bianque.catalog import prompts
from bianque.catalog.card import CHECKPOINT_FIELDS, Checkpoint, Model, split_name
from bianque.errors import BadInput, UnknownModel
from bianque.types import Dialogue, Sampling

# What a card says of its prompt, by name: how a dialogue is written, and how a raw reply is read.
FORMATS: dict[str, tuple[Callable[[Dialogue], str], Callable[[str], str]]] = {
    "bianque-1": (prompts.bianque_1, prompts.t5_reply),
    "bianque-2": (prompts.bianque_2, prompts.chatglm_reply),
    "soulchat": (prompts.soulchat, prompts.soulchat_reply),
    "chatglm": (prompts.chatglm_rounds, prompts.chatglm_reply),
    "baichuan": (prompts.baichuan, prompts.plain_reply),
    "baichuan-older": (prompts.baichuan_older, prompts.plain_reply),
}


def made(facts: Mapping[str, Any], like: Model | None = None) -> Model:
    """A card whose model is loaded here, from its fields as a file has them; what is not said is as in `like`."""
    values = dict(facts)
    if "prompt" in facts:
        values["prompt"], values["clean"] = FORMATS[facts["prompt"]]
    if "clean" in facts:
        values["clean"] = FORMATS[facts["clean"]][1]
    if "files" in facts:
        values["files"] = tuple(facts["files"])
    if like:
        return like.changed(**values)
    inner = {name: values.pop(name) for name in [*values] if name in CHECKPOINT_FIELDS}
    return Model(**values, checkpoint=Checkpoint(**inner))


def _read(path: Path) -> tuple[Model, ...]:
    """Cards in the format of a user's own file; `source` says where their facts come from."""
    found: dict[str, Model] = {}
    for card in json.loads(path.read_text(encoding="utf-8")):
        like = found.get(card.get("like"))
        default = like.sampling if like else Sampling()
        sampling = replace(default, **card.get("sampling", {}))
        facts = {name: value for name, value in card.items() if name not in ("like", "source")}
        found[card["name"]] = made(facts | {"sampling": sampling}, like)
    return tuple(found.values())


CARDS = _read(Path(__file__).with_name("builtin.json"))


def by_name(cards: Iterable[Model] = CARDS) -> dict[str, Model]:
    return {card.name: card for card in cards}


def find(cards: Mapping[str, Model], name: str) -> Model:
    """The card of exactly this name, or of `name@bits`, which is held with so many bits a weight.

    UnknownModel lists the names there are, BadInput the bits.
    """
    base, bits = split_name(name) if isinstance(name, str) else ("", None)  # an endpoint's caller may send anything
    shown = repr(name)[:80]
    if base not in cards:
        raise UnknownModel(f"没有名为 {shown} 的模型 (no such model); 可选 (choose one of): {', '.join(cards)}")
    if bits is None:
        return cards[base]
    for known in cards[base].precisions:
        if bits == str(known):
            return cards[base].at(known)
    can = ", ".join(f"{base}@{known}" for known in cards[base].precisions) or base
    raise BadInput(f"{shown}: 没有这个位数 (no such precision); 可选 (choose one of): {can}")

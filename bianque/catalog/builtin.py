"""The models of `builtin.json`. A further checkpoint of a known architecture is one more entry there and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bianque.catalog import prompts
from bianque.catalog.card import Checkpoint, Endpoint, Model, split_name
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


REMOTE = Sampling(max_new_tokens=1024)  # how a model behind a URL draws when its card does not say
Facts = Mapping[str, Any]  # the fields of a card as a file has them


def joined(card: Facts, like: Facts) -> dict[str, Any]:
    """A card's facts on top of those of the card that it is like; names are its own, and a prompt brings its clean-up."""
    own = {"name", "title", "clean"} if "prompt" in card else {"name", "title"}
    found = {"title": card.get("name")} | {name: value for name, value in like.items() if name not in own} | dict(card)
    if "sampling" in found:
        found["sampling"] = like.get("sampling", {}) | card.get("sampling", {})
    return found


def made(facts: Facts) -> Model:
    """A card from its facts, all of them: loaded here or, where they have a `url`, answered there."""
    given = dict(facts)
    own: Callable[[type], dict[str, Any]] = lambda kind: {
        field.name: given[field.name] for field in fields(kind) if field.name in given
    }
    remote = "url" in facts
    drawn: dict[str, Any] = dict(facts.get("sampling", {}))
    if "stop" in drawn:
        drawn["stop"] = tuple(drawn["stop"])
    given["sampling"] = replace(REMOTE if remote else Sampling(), **drawn)
    if remote:
        endpoint = Endpoint(**own(Endpoint))
        return Model(**{"citation": f"{endpoint.model} ({endpoint.host})"} | own(Model), endpoint=endpoint)
    given["prompt"], clean = FORMATS[facts["prompt"]]
    given["clean"] = FORMATS[facts["clean"]][1] if "clean" in facts else clean
    given["files"] = tuple(facts.get("files", ()))
    return Model(**own(Model), checkpoint=Checkpoint(**own(Checkpoint)))


def _read(path: Path) -> dict[str, Facts]:
    """Facts by name, from cards in the format of a user's own file; `source` there says where they come from."""
    found: dict[str, Facts] = {}
    for card in json.loads(path.read_text(encoding="utf-8")):
        stated = {name: value for name, value in card.items() if name not in ("like", "source")}
        found[card["name"]] = joined(stated, found.get(card.get("like"), {}))
    return found


FACTS = _read(Path(__file__).with_name("builtin.json"))
CARDS = tuple(map(made, FACTS.values()))


def by_name(cards: Iterable[Model] = CARDS) -> dict[str, Model]:
    return {card.name: card for card in cards}


def find(cards: Mapping[str, Model], name: str) -> Model:
    """The card of exactly this name, or of `name@bits`, which is held with so many bits a weight.

    UnknownModel lists the names there are, BadInput the bits.
    """
    base, bits = split_name(name) if isinstance(name, str) else ("", None)  # an endpoint's caller may send anything
    shown = repr(name)[:80]
    if base not in cards:
        raise UnknownModel(
            f"没有名为 {shown} 的模型 (there is no model {shown}); 可选 (choose one of): {', '.join(cards)}"
        )
    if bits is None:
        return cards[base]
    for known in cards[base].precisions:
        if bits == str(known):
            return cards[base].at(known)
    can = ", ".join(f"{base}@{known}" for known in cards[base].precisions) or base
    raise BadInput(f"{shown}: 没有这个位数 (no such precision); 可选 (choose one of): {can}")

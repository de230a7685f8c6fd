"""Cards that a user adds: a JSON file of one card or a list of them, named by BIANQUE_CARDS.

A fine-tune of a model that is known already needs three fields, a model behind a URL five:

    {"name": "my-bianque", "like": "bianque-2", "repo": "me/my-bianque"}
    {"name": "qwen", "url": "https://host/v1", "model": "qwen3", "key_env": "QWEN_KEY", "role": "both", "licence": "…"}

`like` takes over every field that the card does not state itself; only the title is then the card's name, and the
revision of another repo starts at "main". Beside the fields of `Model` and `Checkpoint`, `path` and `adapter_path` name a local
folder or file as BIANQUE_PATHS does; they are relative to the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from bianque.catalog import builtin
from bianque.catalog.builtin import Facts
from bianque.catalog.card import Checkpoint, Endpoint, Model
from bianque.errors import SettingsError
from bianque.settings import Settings

PLACES = {"path": "", "adapter_path": ".adapter"}  # field → what BIANQUE_PATHS has behind the card's name
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")


def needed(*kinds: type) -> list[str]:
    """The fields that have no default."""
    return [f.name for kind in kinds for f in fields(kind) if f.default is f.default_factory is MISSING]


NEEDED = [name for name in needed(Model, Checkpoint) if name != "clean"]  # which a prompt format has
NEEDED_REMOTE = [*(name for name in needed(Model) if name not in ("sampling", "citation")), *needed(Endpoint)]


def known(settings: Settings) -> tuple[Settings, tuple[Model, ...]]:
    """Every card there is, and the settings with the folders that cards of the user's file name; BIANQUE_PATHS wins."""
    cards, folders = read(settings.cards) if settings.cards else ((), {})
    paths = {**folders, **settings.paths}
    names = [card.name for card in (*builtin.CARDS, *cards)]
    check_names(paths, names)
    for name in settings.preload:
        if name.partition("@")[0] not in names:
            raise SettingsError(
                f"BIANQUE_PRELOAD 有 {name!r}：没有这张卡片 (no card has this name)；可用的有 (there are): {', '.join(names)}"
            )
    for card in cards:
        if card.checkpoint and card.repo is None and card.name not in paths:
            raise SettingsError(
                f"{settings.cards}: 卡片 {card.name!r} 没有 repo，也没有 path：需要其中之一 (it needs a repo or a path)"
            )
    return replace(settings, paths=paths), (*builtin.CARDS, *cards)


def check_names(paths: Mapping[str, Path], names: Sequence[str]) -> None:
    """A folder for a card that nobody knows would be ignored, and the card's weights fetched from the Hub."""
    for name, path in paths.items():
        if name.removesuffix(".adapter") not in names:
            near = get_close_matches(name.lower(), names, 1)
            hint = (
                f"是不是 {near[0]}？(did you mean {near[0]}?)" if near else f"可用的有 (there are): {', '.join(names)}"
            )
            raise SettingsError(
                f"BIANQUE_PATHS 有 '{name}={path}'：没有名为 {name} 的卡片 (no card has this name)；{hint}"
            )


def read(path: Path) -> tuple[tuple[Model, ...], dict[str, Path]]:
    """The cards in a file, and the folders they name; SettingsError names file, card, field, value and what it may be."""
    facts, folders = dict(builtin.FACTS), dict[str, Path]()
    given = parsed(path)
    for place, item in enumerate(given if isinstance(given, list) else [given], 1):
        entry = CardEntry(path, place, item)
        found = entry.facts(facts)
        facts[found["name"]] = found
        folders |= entry.folders(found["name"])
    return tuple(map(builtin.made, [*facts.values()][len(builtin.FACTS) :])), folders


def parsed(path: Path) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        return found
    except OSError as error:
        raise SettingsError(f"BIANQUE_CARDS={str(path)!r}: 读不了这个文件 (cannot be read): {error.strerror}") from None
    except RecursionError:
        raise SettingsError(f"{path}: 嵌套太深 (nested too deeply)") from None
    except ValueError as error:  # not UTF-8, not JSON
        raise SettingsError(f"{path}: 不是有效的 JSON (not valid JSON): {error}") from None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a field that is written twice, json would silently keep one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} 写了两次 (is there twice)")
    return found


class CardEntry:
    """One card of the file while it is checked."""

    def __init__(self, path: Path, place: int, given: Any) -> None:
        self.path = path
        self.given: dict[str, Any] = given if isinstance(given, dict) else {}
        name = self.given.get("name")
        self.label = f"卡片 {name!r}" if isinstance(name, str) else f"第 {place} 张卡片 (card {place})"
        if not isinstance(given, dict):
            raise SettingsError(f"{path}: {self.label} 是 {shown(given)}，需要一个对象 (an object is needed)")

    def fail(self, field: str, value: Any, words: str) -> NoReturn:
        raise SettingsError(f"{self.path}: {self.label} 的 {field}={shown(value)}：需要 {words}")

    def facts(self, cards: Mapping[str, Facts]) -> Facts:
        """All facts of the card, on top of the one it is like; `cards` are those before it."""
        like, name = self.given.get("like"), self.given.get("name")
        if "like" in self.given and (not isinstance(like, str) or like not in cards):
            self.fail("like", like, f"其中之一 (one of): {', '.join(cards)}")
        base = cards[like] if isinstance(like, str) else {}
        remote = bool({"url", "model", "key_env"} & set(self.given)) or "url" in base
        self.check(remote)
        if name in cards:
            self.fail("name", name, f"尚未用过的名称 (a name that is not taken): {', '.join(cards)}")
        others = [card for card in cards if ("url" in cards[card]) == remote]
        if remote and like and "url" not in base:
            self.fail("like", like, f"也有 url 的卡片 (a card with a url): {', '.join(others) or '–'}")
        stated = {field: value for field, value in self.given.items() if field not in ("like", *PLACES)}
        if like and "repo" in stated:
            # Fine-tunes are published as either kind of weights; a pinned revision belongs to the other repo.
            files = list(dict.fromkeys((*base.get("files", ()), *SAFETENSORS)))
            stated = {"revision": "main", "files": files} | stated
        found = builtin.joined(stated, base)
        self.require(NEEDED_REMOTE if remote else [*NEEDED, *(["files"] if found.get("repo") else [])], found, others)
        if not remote and found["kept"] + found.get("head", 0) > found["parameters"]:
            most = found["parameters"] - found.get("head", 0)
            self.fail(
                "kept", found["kept"],
                f"不大于 parameters 减去 head 的数 (at most the parameters less the head, {most})",
            )  # fmt: skip
        return found

    def check(self, remote: bool) -> None:
        """SettingsError for the first field that pydantic refuses."""
        from pydantic import ValidationError

        from bianque.catalog import schema

        kind: type[schema.StrictCard] = schema.RemoteCard if remote else schema.LocalCard
        wrong = None
        try:
            kind.model_validate(self.given)
        except ValidationError as error:
            # What is missing may be another card's.
            wrong = next((fault for fault in error.errors() if fault["type"] != "missing"), None)
        if wrong is None:
            return
        kind, path = schema.place(kind, wrong["loc"])
        value = self.given[path[0]] if len(path) == 1 else self.given[path[0]][path[1]]
        if path == ["key_env"] and isinstance(value, str):  # which may be the key itself
            value = value[:3] + "***"
        if wrong["type"] != "extra_forbidden":
            self.fail(".".join(path), value, kind.model_fields[path[-1]].description or "")
        near = get_close_matches(path[-1], kind.model_fields, 1)
        there = kind.elsewhere.get(path[-1]) or f"可用的有 (there are): {', '.join(kind.model_fields)}"
        raise SettingsError(
            f"{self.path}: {self.label} 有不认识的字段 (unknown field) {'.'.join(path)}={shown(value)}："
            + (f"是不是 {near[0]}？(did you mean {near[0]}?)" if near and path[-1] not in kind.elsewhere else there)
        )

    def require(self, names: Iterable[str], values: Facts, cards: Iterable[str]) -> None:
        if missing := [name for name in names if name not in values]:
            raise SettingsError(
                f"{self.path}: {self.label} 缺少 (lacks) {', '.join(missing)}；"
                f"也可以写 like 来沿用已有的卡片 (or take over a card with like): {', '.join(cards)}"
            )

    def folders(self, name: str) -> dict[str, Path]:
        """What the card's places add to BIANQUE_PATHS."""
        found = {}
        for field, suffix in PLACES.items():
            if field in self.given:
                place = self.path.parent / os.path.expanduser(self.given[field])
                if not os.path.exists(place) or (field == "path" and not os.path.isdir(place)):
                    what = "文件夹 (a folder" if field == "path" else "文件或文件夹 (a file or folder"
                    self.fail(field, self.given[field], f"已有的{what} that exists)")
                found[name + suffix] = place
        return found


def shown(value: Any) -> str:
    """A value as the file has it, shortened."""
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 80 else f"{written[:77]}..."

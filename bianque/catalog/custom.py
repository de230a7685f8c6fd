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
from bianque.catalog.card import Checkpoint, Endpoint, Model
from bianque.errors import SettingsError
from bianque.settings import Settings
from bianque.types import Sampling

PLACES = {"path": "", "adapter_path": ".adapter"}  # field → what BIANQUE_PATHS has behind the card's name
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
ENDPOINT_FIELDS = frozenset(field.name for field in fields(Endpoint))
REMOTE = Sampling(max_new_tokens=1024)  # how a model behind a URL draws when its card does not say


def needed(*kinds: type) -> list[str]:
    """The fields that have no default."""
    return [f.name for kind in kinds for f in fields(kind) if f.default is f.default_factory is MISSING]


NEEDED = [name for name in needed(Model, Checkpoint) if name != "clean"]  # which a prompt format has
NEEDED_REMOTE = [*(name for name in needed(Model) if name not in ("sampling", "citation")), *needed(Endpoint)]


def known(settings: Settings) -> tuple[Settings, tuple[Model, ...]]:
    """Every card there is, and the settings with the folders that cards of the user's file name; BIANQUE_PATHS wins."""
    cards, folders = read(settings.cards) if settings.cards else ((), {})
    paths = {**folders, **settings.paths}
    check_names(paths, [card.name for card in (*builtin.CARDS, *cards)])
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
    cards = builtin.by_name()
    folders: dict[str, Path] = {}
    given = parsed(path)
    for place, item in enumerate(given if isinstance(given, list) else [given], 1):
        entry = Entry(path, place, item)
        card = entry.card(cards)
        cards[card.name] = card
        folders |= entry.folders(card.name)
    return tuple(cards.values())[len(builtin.CARDS) :], folders


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


class Entry:
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

    def card(self, cards: Mapping[str, Model]) -> Model:
        """The card, on top of the one it is like; `cards` are those before it."""
        like = self.given.get("like")
        if "like" in self.given and (not isinstance(like, str) or like not in cards):
            self.fail("like", like, f"其中之一 (one of): {', '.join(cards)}")
        base = cards[like] if isinstance(like, str) else None
        remote = bool({"url", "model", "key_env"} & set(self.given)) or bool(base and base.endpoint)
        self.check(remote)
        values = {field: value for field, value in self.given.items() if field not in ("like", *PLACES)}
        if values.get("name") in cards:
            self.fail("name", values["name"], f"尚未用过的名称 (a name that is not taken): {', '.join(cards)}")
        values["title"] = values.get("title") or values.get("name")
        if "sampling" in values:
            default = base.sampling if base else REMOTE if remote else Sampling()
            stop = {"stop": tuple(values["sampling"]["stop"])} if "stop" in values["sampling"] else {}
            values["sampling"] = replace(default, **values["sampling"] | stop)
        return self.remote(values, base, cards) if remote else self.local(values, base, cards)

    def check(self, remote: bool) -> None:
        """SettingsError for the first field that pydantic refuses."""
        from pydantic import ValidationError

        from bianque.catalog import schema

        kind: type[schema.Strict] = schema.RemoteCard if remote else schema.LocalCard
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

    def require(self, names: Iterable[str], values: Mapping[str, Any], cards: Iterable[str]) -> None:
        if missing := [name for name in names if name not in values]:
            raise SettingsError(
                f"{self.path}: {self.label} 缺少 (lacks) {', '.join(missing)}；"
                f"也可以写 like 来沿用已有的卡片 (or take over a card with like): {', '.join(cards)}"
            )

    def local(self, values: dict[str, Any], like: Model | None, cards: Mapping[str, Model]) -> Model:
        """A card whose model is loaded here."""
        if like and "repo" in values:
            # Fine-tunes are published as either kind of weights; a pinned revision belongs to the other repo.
            values = {"revision": "main", "files": tuple(dict.fromkeys((*like.loadable.files, *SAFETENSORS)))} | values
        self.require(["name"] if like else [*NEEDED, *(["files"] if values.get("repo") else [])], values, cards)
        card = builtin.made(values, like)
        found = card.loadable
        if found.kept + found.head > found.parameters:
            most = found.parameters - found.head
            self.fail(
                "kept", found.kept, f"不大于 parameters 减去 head 的数 (at most the parameters less the head, {most})"
            )
        return card

    def remote(self, values: dict[str, Any], like: Model | None, cards: Mapping[str, Model]) -> Model:
        """A card whose model answers behind a URL."""
        if like and like.endpoint is None:
            remote = [name for name, card in cards.items() if card.endpoint]
            self.fail("like", like.name, f"也有 url 的卡片 (a card with a url): {', '.join(remote) or '–'}")
        self.require(["name"] if like else NEEDED_REMOTE, values, [name for name in cards if cards[name].endpoint])
        inner = {name: values.pop(name) for name in [*values] if name in ENDPOINT_FIELDS}
        endpoint = replace(like.endpoint, **inner) if like and like.endpoint else Endpoint(**inner)
        if like:
            return replace(like, **values, endpoint=endpoint)
        usual: dict[str, Any] = {"sampling": REMOTE, "citation": f"{endpoint.model} ({endpoint.host})"}
        return Model(**usual | values, endpoint=endpoint)

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

"""Cards that a user adds: a JSON file of one card or a list of them, named by BIANQUE_CARDS.

A fine-tune of a model that is known already needs three fields:

    {"name": "my-bianque", "like": "bianque-2", "repo": "me/my-bianque"}

`like` takes over every field that the card does not state itself; only the title is then the card's name, and the
revision of another repo starts at "main". Beside the fields of `Model` and `Checkpoint`, `path` and `adapter_path` name a local
folder or file as BIANQUE_PATHS does; they are relative to the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, get_args

from bianque.catalog import builtin
from bianque.catalog.card import CHECKPOINT_FIELDS, Checkpoint, Model
from bianque.errors import SettingsError
from bianque.settings import Settings
from bianque.types import Architecture, Bits, ModelRole, Sampling


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may hold: the test, and the words for whoever wrote something else."""

    fits: Callable[[Any], bool]
    words: str


def text(most: int = 400) -> Rule:
    fits = lambda value: (
        isinstance(value, str) and len(value.strip()) > 0 and len(value) <= most and value.isprintable()
    )
    return Rule(fits, f"一行 1 到 {most} 个字符的文字 (one line of text)")


def pattern(expression: str, words: str) -> Rule:
    return Rule(lambda value: isinstance(value, str) and re.fullmatch(expression, value) is not None, words)


def whole(least: int, most: int) -> Rule:
    fits = lambda value: type(value) is int and least <= value <= most
    return Rule(fits, f"{least} 到 {most} 之间的整数 (a whole number)")


def number(least: float, most: float) -> Rule:
    fits = lambda value: type(value) in (int, float) and least <= value <= most
    return Rule(fits, f"{least} 到 {most} 之间的数 (a number)")


def one_of(names: Collection[str]) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in names, f"其中之一 (one of): {', '.join(names)}")


def optional(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.fits(value), f"{rule.words}，或 null")


REPO = pattern(r"[\w.-]{1,96}/[\w.-]{1,96}", "模型库的名称，如 owner/name (a Hub id)")
FILE = pattern(r"(?!/)(?!.*\.\.)[\w.*?\[\]/-]{1,200}", "")
FIELDS: dict[str, Rule] = {
    "name": pattern(r"\w[\w.-]{0,63}", "1 到 64 个字母、数字、汉字、点、横线 (letters, digits, dots, dashes)"),
    "title": text(80),
    "architecture": one_of(get_args(Architecture)),
    "role": one_of(get_args(ModelRole)),
    "prompt": one_of(builtin.FORMATS),
    "clean": one_of(builtin.FORMATS),
    "sampling": Rule(lambda value: isinstance(value, dict), "采样参数的对象 (an object of sampling fields)"),
    "window": whole(64, 1 << 20),
    "bytes": whole(1, 1 << 44),
    "parameters": whole(1, 1 << 42),
    "kept": whole(0, 1 << 42),
    "head": whole(0, 1 << 42),
    "cache": whole(1, 1 << 30),
    "stored": Rule(lambda value: type(value) is int and value in get_args(Bits), "16、8 或 4 (bits a weight)"),
    "licence": text(),
    "citation": text(),
    "repo": optional(REPO),
    "revision": pattern(r"[\w./-]{1,128}", "分支、标签或提交 (a branch, tag or commit)"),
    "files": Rule(
        lambda value: isinstance(value, list) and len(value) > 0 and all(map(FILE.fits, value)),
        "文件名或通配符的列表 (a list of file names or patterns)",
    ),
    "adapter": optional(text(200)),
    "rounds": optional(whole(1, 1000)),
    "preview": Rule(lambda value: isinstance(value, bool), "true 或 false"),
}
TEXT = Rule(lambda value: isinstance(value, str) and value != "", "")
SAMPLING: dict[str, Rule] = {
    "temperature": number(0, 2),
    "top_p": number(0.01, 1),
    "top_k": whole(0, 100_000),
    "repetition_penalty": number(0.1, 10),
    "no_repeat_ngram": whole(0, 100),
    "min_new_tokens": whole(0, 1 << 15),
    "max_new_tokens": whole(1, 1 << 15),
    "stop": Rule(
        lambda value: isinstance(value, list | tuple) and all(map(TEXT.fits, value)), "文字的列表 (a list of texts)"
    ),
    "seed": optional(whole(0, 2**63 - 1)),
}
PLACES = {"path": "", "adapter_path": ".adapter"}  # field → what BIANQUE_PATHS has behind the card's name
NEEDED = [
    field.name for field in (*fields(Model), *fields(Checkpoint)) if field.default is field.default_factory is MISSING
]
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")


def known(settings: Settings) -> tuple[Settings, tuple[Model, ...]]:
    """Every card there is, and the settings with the folders that cards of the user's file name; BIANQUE_PATHS wins."""
    cards, folders = read(settings.cards) if settings.cards else ((), {})
    paths = {**folders, **settings.paths}
    check_names(paths, [card.name for card in (*builtin.CARDS, *cards)])
    for card in cards:
        if card.repo is None and card.name not in paths:
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
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
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

    def check(self, values: Mapping[str, Any], rules: Mapping[str, Rule], inside: str = "") -> None:
        for field, value in values.items():
            if field not in rules:
                near = get_close_matches(field, rules, 1)
                hint = (
                    f"是不是 {near[0]}？(did you mean {near[0]}?)"
                    if near
                    else f"可用的有 (there are): {', '.join(rules)}"
                )
                raise SettingsError(
                    f"{self.path}: {self.label} 有不认识的字段 (unknown field) {inside}{field}={shown(value)}：{hint}"
                )
            if not rules[field].fits(value):
                self.fail(inside + field, value, rules[field].words)

    def card(self, cards: Mapping[str, Model]) -> Model:
        """The card, on top of the one it is like; `cards` are those before it."""
        anywhere = Rule(lambda value: isinstance(value, str) and value != "", "本机的位置 (a place on this machine)")
        self.check(self.given, FIELDS | {"like": one_of(cards)} | dict.fromkeys(PLACES, anywhere))
        self.check(self.given.get("sampling", {}), SAMPLING, "sampling.")
        if self.given.get("name") in cards:
            self.fail("name", self.given["name"], f"尚未用过的名称 (a name that is not taken): {', '.join(cards)}")
        like = cards[self.given["like"]] if "like" in self.given else None
        values = {field: value for field, value in self.given.items() if field in FIELDS}
        values |= {"title": values.get("title") or values.get("name")} | self.made(values, like)
        if like and "repo" in values:
            # Fine-tunes are published as either kind of weights; a pinned revision belongs to the other repo.
            values = {"revision": "main", "files": tuple(dict.fromkeys((*like.loadable.files, *SAFETENSORS)))} | values
        needed = ["name"] if like else [*NEEDED, *(["files"] if values.get("repo") else [])]
        if missing := [field for field in needed if field not in values]:
            raise SettingsError(
                f"{self.path}: {self.label} 缺少 (lacks) {', '.join(missing)}；"
                f"也可以写 like 来沿用已有的卡片 (or take over a card with like): {', '.join(cards)}"
            )
        if like:
            card = like.changed(**values)
        else:
            inner = {name: values.pop(name) for name in [*values] if name in CHECKPOINT_FIELDS}
            card = Model(**values, checkpoint=Checkpoint(**inner))
        found = card.loadable
        if found.kept + found.head > found.parameters:
            most = found.parameters - found.head
            self.fail(
                "kept", found.kept, f"不大于 parameters 减去 head 的数 (at most the parameters less the head, {most})"
            )
        return card

    def made(self, values: Mapping[str, Any], like: Model | None) -> dict[str, Any]:
        """The fields that JSON cannot hold as they are."""
        found: dict[str, Any] = {}
        if "prompt" in values:
            found["prompt"], found["clean"] = builtin.FORMATS[values["prompt"]]
        if "clean" in values:
            found["clean"] = builtin.FORMATS[values["clean"]][1]
        if "files" in values:
            found["files"] = tuple(values["files"])
        if "sampling" in values:
            wishes: dict[str, Any] = {
                name: tuple(wish) if name == "stop" else wish for name, wish in values["sampling"].items()
            }
            found["sampling"] = replace(like.sampling if like else Sampling(), **wishes)
        return found

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

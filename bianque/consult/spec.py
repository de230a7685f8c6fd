"""Who replies beside others: a mode of the session, or one card, each with sampling of its own.

Written the same everywhere, on the page, in links, endpoints and commands: `auto`, `bianque-2@8:temperature=0,seed=1`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast, get_args

from bianque.catalog import builtin
from bianque.consult.session import Choices, Session
from bianque.errors import BadInput
from bianque.types import Bits, Mode, Phase

MODES: tuple[Mode, ...] = get_args(Mode)
NUMBERS: dict[str, Callable[[str], int | float]] = {
    "temperature": float, "top_p": float, "max_new_tokens": int, "seed": int,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wishes:
    """Sampling that somebody asks for; None leaves a card's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None

    def over(self, others: Wishes) -> Wishes:
        """These, and the others where there is none."""
        own = {name: value for name, value in asdict(self).items() if value is not None}
        return Wishes(**(asdict(others) | own))

    def __str__(self) -> str:
        return ",".join(f"{f.name}={plain(v)}" for f in fields(self) if (v := getattr(self, f.name)) is not None)


@dataclass(frozen=True, slots=True)
class Contender:
    """Who replies: a mode with the session's pair, or one card, held with `bits` a weight where that is said.

    `others` hold where its own wishes say nothing, and are no part of its label. Whether there is such a model, and
    whether it takes such settings, is told by `choices`.
    """

    name: str
    bits: Bits | None = None
    wishes: Wishes = Wishes()
    others: Wishes = Wishes()

    @classmethod
    def parse(cls, text: str, others: Wishes = Wishes()) -> Contender:
        """What `label` writes; BadInput names what is no option, no number, or there twice."""
        head, _, options = text.rpartition(":")
        if "=" not in options:  # a name may hold colons
            head, options = text, ""
        found: dict[str, Any] = {}
        for option in options.split(",") if options else ():
            key, _, value = (part.strip() for part in option.partition("="))
            if key in found:
                raise BadInput(f"{text[:200]}: {key} 写了两次 (is there twice)")
            found[key] = number(key, value, text)
        name, at, bits = head.strip().partition("@")
        if not name:
            raise BadInput(f"{text[:200]!r}: 缺少模型的名称 (a model's name is missing)")
        return cls(name, precision(name, bits) if at else None, Wishes(**found), others)

    @classmethod
    def of(cls, value: object, where: str = "contender") -> Contender:
        """A text as `parse` takes it, or an object of name, bits and the fields of `Wishes`."""
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise BadInput(f"{where}: 需要字符串，或含 name 的对象 (a string or an object with a name is needed)")
        known = ["name", "bits", *NUMBERS]
        if unknown := [str(key) for key in value if key not in known]:
            raise BadInput(f"{where}: 没有 {unknown[0][:80]!r}，可选 (no such field; choose from): {', '.join(known)}")
        named = cls.parse(value["name"])
        bits = named.bits if value.get("bits") is None else precision(named.name, value["bits"])
        given = Wishes(**{name: value[name] for name in NUMBERS if value.get(name) is not None})
        return cls(named.name, bits, given.over(named.wishes))

    @property
    def model(self) -> str:
        """The card's name with its precision, as the backend takes it."""
        return self.name if self.bits is None else f"{self.name}@{self.bits}"

    @property
    def label(self) -> str:
        """The whole contender in one line: the same for the same wishes, in whatever order and spelling they came."""
        return f"{self.model}:{self.wishes}" if str(self.wishes) else self.model

    @property
    def drawn(self) -> Wishes:
        """All that is wished for."""
        return self.wishes.over(self.others)

    def seeded(self, seed: int | None) -> Contender:
        """The same with this seed, whatever its own was."""
        return replace(self, wishes=replace(self.wishes, seed=seed))

    def choices(self, session: Session) -> Choices:
        """What the session is asked for; a card speaks in its role.

        UnknownModel or BadInput if it could not be answered.
        """
        drawn = asdict(self.drawn)
        if self.name in MODES:
            found = Choices(cast(Mode, self.name), **drawn)
        else:
            mode: Mode = "ask" if builtin.find(session.cards, self.model).role == "asks" else "advise"
            found = Choices(mode, self.model, self.model, **drawn)
        for model in (found.ask_model or session.ask, found.advise_model or session.advise):
            session.sampling(model, found)
        return found

    def speakers(self, session: Session) -> dict[Phase, str]:
        """The models that may speak, by the phase in which each does."""
        found = self.choices(session)
        asks, advises = found.ask_model or session.ask, found.advise_model or session.advise
        every: dict[Phase, str] = {"asking": asks, "advising": advises}
        alone: dict[Mode, Phase] = {"ask": "asking", "advise": "advising"}
        return every if found.mode == "auto" else {alone[found.mode]: every[alone[found.mode]]}


def precision(name: str, bits: object) -> Bits:
    if name in MODES:
        raise BadInput(f"{name}@{str(bits)[:20]}: 位数只能用在单个模型上 (a mode has no precision; name a model)")
    if str(bits) not in map(str, get_args(Bits)):
        raise BadInput(f"{name}@{str(bits)[:20]}: 位数可选 (bits: choose one of) {', '.join(map(str, get_args(Bits)))}")
    return cast(Bits, int(str(bits)))


def number(key: str, value: str, text: str = "") -> int | float:
    """The value of an option, of the option's own kind; `text` is where it stood."""
    where = f"{text[:200]}: " if text else ""
    if key not in NUMBERS:
        raise BadInput(f"{where}没有选项 {key[:80]!r} (no such option)；可选 (choose from): {', '.join(NUMBERS)}")
    try:
        return NUMBERS[key](value)
    except ValueError:
        kind = "整数 (a whole number)" if NUMBERS[key] is int else "数 (a number)"
        raise BadInput(f"{where}{key}={value[:40]!r}: 需要{kind}") from None


def plain(value: float) -> str:
    """A number in its shortest form: 0.0 and 0 are the same wish."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


def parse_all(texts: Iterable[str], others: Wishes = Wishes()) -> tuple[Contender, ...]:
    """Several contenders; BadInput if two have the same label."""
    found = tuple(Contender.parse(text, others) for text in texts)
    labels = [contender.label for contender in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise BadInput(f"{twice}: 写了两次 (is there twice)")
    return found

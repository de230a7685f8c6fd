"""Who replies: a mode of the session, or one card, each with sampling of its own.

Written the same everywhere, on the page, in links, endpoints and commands: `auto`, `bianque-2@8:temperature=0,seed=1`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from bianque.catalog import builtin
from bianque.errors import BadInput
from bianque.types import LONGEST_REPLY, MODE_PHASES, MODES, ROLE_MODES, Bits, Mode, Phase, Sampling

if TYPE_CHECKING:
    from bianque.consult.session import Session


class Range(NamedTuple):
    """What a sampling parameter may be."""

    kind: Callable[[str], int | float]
    least: int | float
    most: int | float

    @property
    def noun(self) -> str:
        return "整数 (a whole number)" if self.kind is int else "数 (a number)"

    def check(self, name: str, value: object) -> None:
        number = isinstance(value, int if self.kind is int else int | float) and not isinstance(value, bool)
        if not number or not self.least <= cast(float, value) <= self.most:
            raise BadInput(f"{name}={value!r}: 需要 {self.least} 到 {self.most} 之间的{self.noun}")


RANGES: dict[str, Range] = {
    "temperature": Range(float, 0.0, 2.0),
    "top_p": Range(float, 0.01, 1.0),
    "max_new_tokens": Range(int, 1, LONGEST_REPLY),
    "seed": Range(int, 0, 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class SamplingOverrides:
    """Sampling that somebody asks for; None leaves a card's own default. `apply` checks the ranges."""

    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def merge(self, others: SamplingOverrides) -> SamplingOverrides:
        """These, and the others where there is none."""
        return replace(others, **self.given())

    def apply(self, sampling: Sampling) -> Sampling:
        """A card's sampling with these in it; BadInput names a value out of range."""
        for name, value in self.given().items():
            RANGES[name].check(name, value)
        return replace(sampling, **self.given())

    def __str__(self) -> str:
        return ",".join(f"{f.name}={shortest(v)}" for f in fields(self) if (v := getattr(self, f.name)) is not None)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the visitor set."""

    mode: Mode = "auto"
    ask_model: str | None = None
    advise_model: str | None = None
    sampling: SamplingOverrides = SamplingOverrides()
    advise_now: bool = False
    stop: tuple[str, ...] = ()  # beside a card's own

    def again(self, attempt: int) -> Choices:
        """The choices for another draw of the same reply."""
        seed = self.sampling.seed
        if seed is None or not attempt:
            return self
        return replace(self, sampling=replace(self.sampling, seed=(seed + attempt) % 2**31))


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Who replies: a mode with the session's pair, or one card, held with `bits` a weight where that is said.

    `others` hold where its own sampling says nothing, and are no part of its label. `choices` tells whether there is such
    a model and whether it takes such settings.
    """

    name: str
    bits: Bits | None = None
    sampling: SamplingOverrides = SamplingOverrides()
    others: SamplingOverrides = SamplingOverrides()

    @classmethod
    def parse(cls, text: str, others: SamplingOverrides = SamplingOverrides()) -> ModelSpec:
        """What `label` writes; BadInput names what is no option, no number, or there twice."""
        head, _, options = text.rpartition(":")
        if "=" not in options:  # a name may hold colons
            head, options = text, ""
        found: dict[str, Any] = {}
        for option in options.split(",") if options else ():
            key, _, value = (part.strip() for part in option.partition("="))
            if key in found:
                raise BadInput(f"{text[:200]}: {key} 写了两次 (is there twice)")
            found[key] = sampling_value(key, value, text)
        name, at, bits = head.strip().partition("@")
        if not name:
            raise BadInput(f"{text[:200]!r}: 缺少模型的名称 (a model's name is missing)")
        return cls(name, precision(name, bits) if at else None, SamplingOverrides(**found), others)

    @classmethod
    def of(cls, value: object, where: str = "contender") -> ModelSpec:
        """A text as `parse` takes it, or an object of name, bits and the fields of `SamplingOverrides`."""
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise BadInput(f"{where}: 需要字符串，或含 name 的对象 (a string or an object with a name is needed)")
        known = ["name", "bits", *RANGES]
        if unknown := [str(key) for key in value if key not in known]:
            raise BadInput(f"{where}: 没有 {unknown[0][:80]!r}，可选 (no such field; choose from): {', '.join(known)}")
        named = cls.parse(value["name"])
        bits = named.bits if value.get("bits") is None else precision(named.name, value["bits"])
        given = SamplingOverrides(**{name: value[name] for name in RANGES if value.get(name) is not None})
        return cls(named.name, bits, given.merge(named.sampling))

    @property
    def model(self) -> str:
        """The card's name with its precision, as the backend takes it."""
        return self.name if self.bits is None else f"{self.name}@{self.bits}"

    @property
    def label(self) -> str:
        """The whole of it in one line: the same for the same sampling, in whatever order and spelling they came."""
        return f"{self.model}:{self.sampling}" if str(self.sampling) else self.model

    @property
    def overrides(self) -> SamplingOverrides:
        """All that is asked for."""
        return self.sampling.merge(self.others)

    def seeded(self, seed: int | None) -> ModelSpec:
        """The same with this seed, whatever its own was."""
        return replace(self, sampling=replace(self.sampling, seed=seed))

    def choices(self, session: Session) -> Choices:
        """What the session is asked for; a card speaks in its role.

        UnknownModel or BadInput if it could not be answered.
        """
        if self.name in MODES:
            found = Choices(cast(Mode, self.name), sampling=self.overrides)
        else:
            mode = ROLE_MODES[builtin.find(session.cards, self.model).role][0]
            found = Choices(mode, self.model, self.model, self.overrides)
        for model in (found.ask_model or session.ask, found.advise_model or session.advise):
            session.sampling(model, found)
        return found

    def speakers(self, session: Session) -> dict[Phase, str]:
        """The models that may speak, by the phase in which each does."""
        found = self.choices(session)
        models: dict[Phase, str] = {
            "asking": found.ask_model or session.ask,
            "advising": found.advise_model or session.advise,
        }
        return {phase: models[phase] for phase in MODE_PHASES[found.mode]}


def precision(name: str, bits: object) -> Bits:
    if name in MODES:
        raise BadInput(f"{name}@{str(bits)[:20]}: 位数只能用在单个模型上 (a mode has no precision; name a model)")
    if str(bits) not in map(str, get_args(Bits)):
        raise BadInput(f"{name}@{str(bits)[:20]}: 位数可选 (bits: choose one of) {', '.join(map(str, get_args(Bits)))}")
    return cast(Bits, int(str(bits)))


def sampling_value(key: str, value: str, text: str = "") -> int | float:
    """The value of an option, of the option's own kind; `text` is where it stood."""
    where = f"{text[:200]}: " if text else ""
    if key not in RANGES:
        raise BadInput(f"{where}没有选项 {key[:80]!r} (no such option)；可选 (choose from): {', '.join(RANGES)}")
    try:
        return RANGES[key].kind(value)
    except ValueError:
        raise BadInput(f"{where}{key}={value[:40]!r}: 需要{RANGES[key].noun}") from None


def shortest(value: float) -> str:
    """A number in its shortest form: 0.0 and 0 are the same."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


def parse_all(texts: Iterable[str], others: SamplingOverrides = SamplingOverrides()) -> tuple[ModelSpec, ...]:
    """Several of them; BadInput if two have the same label."""
    found = tuple(ModelSpec.parse(text, others) for text in texts)
    labels = [contender.label for contender in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise BadInput(f"{twice}: 写了两次 (is there twice)")
    return found

"""Who replies in an evaluation: a mode of the session, or one card, each with sampling of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, cast, get_args

from bianque import registry
from bianque.errors import BadInput
from bianque.session import Choices, Session
from bianque.types import Mode, Phase

KINDS: dict[str, Callable[[str], int | float]] = {
    "temperature": float, "top_p": float, "max_new_tokens": int, "seed": int,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wishes:
    """Sampling that an evaluation sets; None leaves a card's own default."""

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
    """Who replies: a mode of the session (`auto`, `ask`, `advise`) or the name of one card.

    `label` names it in rows: the same for the same wishes, in whatever order and spelling of numbers they came.
    """

    label: str
    name: str
    wishes: Wishes = Wishes()

    @classmethod
    def parse(cls, text: str, others: Wishes = Wishes()) -> Contender:
        """`auto`, `bianque-2`, `bianque-2@8:temperature=0,seed=1`; `others` hold where the text says nothing.

        BadInput names what is no option or no number; whether there is such a model is told by `choices`.
        """
        name, _, options = text.rpartition(":")
        if "=" not in options:  # a name may hold colons
            name, options = text, ""
        if not (name := name.strip()):
            raise BadInput(f"{text!r}: 缺少模型的名称 (a model's name is missing)")
        found: dict[str, Any] = {}
        for option in options.split(",") if options else ():
            key, _, value = (part.strip() for part in option.partition("="))
            if key in found:
                raise BadInput(f"{text}: {key} 写了两次 (is there twice)")
            found[key] = number(key, value, text)
        own = Wishes(**found)
        return cls(f"{name}:{own}" if found else name, name, own.over(others))

    def choices(self, session: Session, seed: int | None = None) -> Choices:
        """What the session is asked for, with a seed instead of the contender's if one is given.

        UnknownModel or BadInput if it could not be answered.
        """
        wishes = asdict(self.wishes)
        if seed is not None:
            wishes["seed"] = seed
        if self.name in get_args(Mode):
            found = Choices(mode=cast(Mode, self.name), **wishes)
        else:
            mode: Mode = "ask" if registry.find(session.cards, self.name).role == "asks" else "advise"
            found = Choices(mode, self.name, self.name, **wishes)
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

    def facts(self, session: Session) -> dict[str, Any]:
        """What run.json keeps: which models speak, from which repo and revision, held how, and how they draw tokens.

        `bits` are those that were asked for; None leaves them to the memory there is.
        """
        choices = self.choices(session)
        cards = []
        for phase, name in self.speakers(session).items():
            card = registry.find(session.cards, name)
            sampling = asdict(session.sampling(name, choices))
            cards.append({
                "name": name, "phase": phase, "repo": card.repo, "revision": card.revision, "bits": card.held,
                "sampling": sampling,
            })  # fmt: skip
        budget = session.budget if choices.mode == "auto" else None
        return {"label": self.label, "mode": choices.mode, "question_budget": budget, "cards": cards}


def number(key: str, value: str, text: str) -> int | float:
    """The value of an option, of the option's own kind; `text` names it in errors."""
    if key not in KINDS:
        raise BadInput(f"{text}: 没有选项 {key!r} (no such option)；可选 (choose from): {', '.join(KINDS)}")
    try:
        return KINDS[key](value)
    except ValueError:
        kind = "整数 (a whole number)" if KINDS[key] is int else "数 (a number)"
        raise BadInput(f"{text}: {key}={value!r}，需要{kind}") from None


def plain(value: float) -> str:
    """A number in its shortest form: 0.0 and 0 are the same wish."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


def parse_all(texts: Iterable[str], others: Wishes = Wishes()) -> tuple[Contender, ...]:
    """All contenders of a run; BadInput if two would be the same in its rows."""
    found = tuple(Contender.parse(text, others) for text in texts)
    labels = [contender.label for contender in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise BadInput(f"--model {twice}: 写了两次 (is there twice)")
    return found

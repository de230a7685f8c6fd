"""The knowledge base: complaints as a primary-care doctor asks about them and advises on them, one YAML file each.

`data/README.md` explains the form to whoever adds a complaint. Everything is checked when it is read; an error names
file, line, field, value and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bianque.data.strict_yaml import Text, Texts, Wrong, distinct, load
from bianque.errors import BadInput
from bianque.once import once

FOLDER = Path(__file__).parent
Condition = Mapping[str, "str | tuple[str, ...]"]
Known = Mapping[str, str]  # slot → value, as far as the patient has told
Entry = TypeVar("Entry", bound="Complaint")


class StrictEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, ignored_types=(cached_property,))


class Opening(StrictEntry):
    """How a patient begins, and what that already tells (a value may be one of several)."""

    say: Text
    has: dict[str, str | tuple[str, ...]] = {}

    @model_validator(mode="before")
    @classmethod
    def bare(cls, given: Any) -> Any:
        return {"say": given} if isinstance(given, str) else given


def told_once(openings: tuple[Opening, ...]) -> tuple[Opening, ...]:
    distinct([opening.say for opening in openings])
    return openings


Openings = Annotated[tuple[Opening, ...], AfterValidator(told_once)]


class Value(StrictEntry):
    """One answer: the patient's wordings, and the fact as the doctor sums it up."""

    says: Texts
    fact: Text


class Slot(StrictEntry):
    """One thing that the doctor asks: wordings of the one question, and the answers there are."""

    key: Text
    ask: Texts
    values: Annotated[dict[str, Value], Field(min_length=2)]


class Rule(StrictEntry):
    """Sentences (wordings of one) that hold if all its conditions do."""

    when: dict[str, str | tuple[str, ...]] = Field(default={}, alias="if")
    say: Texts

    def values(self, key: str) -> tuple[str, ...]:
        """Those of a slot with which the rule can hold; none where it does not ask about the slot."""
        value = self.when.get(key, ())
        return value if isinstance(value, tuple) else (value,)

    def covers(self, other: Rule) -> bool:
        """Whether it holds whenever the other one does."""
        return all(other.values(key) and {*other.values(key)} <= {*self.values(key)} for key in self.when)

    def holds(self, known: Known) -> bool:
        """A slot that nobody told about meets no condition."""
        for key, value in self.when.items():
            told = known.get(key)
            if told != value if isinstance(value, str) else told not in value:
                return False
        return True


def first(rules: Sequence[Rule], known: Known) -> Rule:
    """The first that holds, of rules of which the last always does."""
    return next(rule for rule in rules if rule.holds(known))


class Follow(StrictEntry):
    """A question that patients ask after the advice, and its answers."""

    ask: Texts
    say: Texts


class Medicine(StrictEntry):
    """What is right for everybody who asks about a medicine, which goes by these names."""

    names: Texts
    say: Texts

    def stands_in(self, texts: Iterable[str]) -> bool:
        """Whether a text names it."""
        return any(name in text for text in texts for name in self.names)


class Medicines(StrictEntry):
    medicines: tuple[Medicine, ...]

    @model_validator(mode="after")
    def consistent(self) -> Medicines:
        owners: dict[str, int] = {}
        for place, medicine in enumerate(self.medicines):
            for number, name in enumerate(medicine.names):
                if owners.setdefault(name, place) != place:
                    other = self.medicines[owners[name]].names[0]
                    raise Wrong(
                        f"{name!r} is a name of {other!r}, too; take one out", "medicines", place, "names", number
                    )
        return self


class Pair(StrictEntry):
    """What is right for everybody who asks about two things, of `one` and of `other`, that must not simply be taken together."""

    one: Texts
    other: Texts
    say: Texts

    @model_validator(mode="after")
    def consistent(self) -> Pair:
        for number, name in enumerate(self.other):
            if same := next((one for one in self.one if one in name or name in one), None):
                raise Wrong(f"{name!r} and {same!r} name the same; leave it on one side", "other", number)
        return self

    def told(self, question: str, before: str) -> bool:
        """Whether a question names one of the two and it, or what was said before, the other."""
        sides = (self.one, self.other)
        named = [any(name in question for name in side) for side in sides]
        return any(named) and all(
            name or any(n in before for n in side) for name, side in zip(named, sides, strict=True)
        )


class Pairs(StrictEntry):
    pairs: tuple[Pair, ...]


class Complaint(StrictEntry):
    id: Text
    name: Text
    group: Text
    department: Text
    about: tuple[Literal["self", "child", "baby", "elder", "spouse", "pregnant"], ...]
    open: Annotated[Openings, Field(min_length=4)]
    slots: Annotated[tuple[Slot, ...], Field(min_length=4)]
    urgent: tuple[Rule, ...] = ()
    assess: Annotated[tuple[Rule, ...], Field(min_length=1)]
    advice: Annotated[tuple[Rule, ...], Field(min_length=3)]
    doctor: Annotated[tuple[Rule, ...], Field(min_length=1)]
    follow: Annotated[tuple[Follow, ...], Field(min_length=1)]
    general: ClassVar[bool] = False
    """Whether it stands for many complaints, which the patient's words name."""

    @cached_property
    def slot(self) -> dict[str, Slot]:
        return {slot.key: slot for slot in self.slots}

    @model_validator(mode="after")
    def consistent(self) -> Complaint:
        if len(self.slot) < len(self.slots):
            raise ValueError("a slot's key stands twice; give each slot its own key")
        conditions = [(f"open {opening.say!r}", opening.has) for opening in self.open]
        conditions += [
            (kind, rule.when) for kind in ("urgent", "assess", "advice", "doctor") for rule in getattr(self, kind)
        ]
        for where, condition in conditions:
            for key, values in condition.items():
                if key not in self.slot:
                    raise ValueError(f"{where}: no slot {key!r}; there are {', '.join(self.slot)}")
                for value in values if isinstance(values, tuple) else (values,):
                    if value not in self.slot[key].values:
                        raise ValueError(
                            f"{where}: {key} has no value {value!r}; it has {', '.join(self.slot[key].values)}"
                        )
        for kind in ("assess", "doctor"):
            rules: tuple[Rule, ...] = getattr(self, kind)
            if rules[-1].when:
                raise ValueError(f"{kind}: the last rule must hold always; leave out its `if`")
            for place, rule in enumerate(rules):
                if hiding := next((one for one in rules[:place] if one.covers(rule)), None):
                    wanted, before = dict(rule.when), dict(hiding.when)
                    raise ValueError(f"{kind}: {wanted} is never reached behind {before}; put it before that one")
        return self

    def danger(self, known: Known) -> Rule | None:
        """The first danger sign that what is known amounts to."""
        return next((rule for rule in self.urgent if rule.holds(known)), None)


class Symptom(StrictEntry):
    """A rarer complaint in the words of a patient."""

    x: Text
    region: Text
    department: Text
    who: Literal["self", "woman", "man", "elder", "child", "baby"]


class Place(StrictEntry):
    """Parts of the body; any of `feelings` there is one more complaint."""

    region: Text
    department: Text
    words: Texts


class Family(Complaint):
    """What is asked and advised of any complaint of one kind that has no entry of its own."""

    like: tuple[Text, ...] = ()
    """The complaints of that kind that have one."""
    general = True


class Generic(Complaint):
    """The same of any complaint at all: `{x}` stands for it."""

    general = True
    age_of: dict[str, tuple[str, ...]]
    refer: Texts
    symptoms: Annotated[tuple[Symptom, ...], Field(min_length=1)]
    places: tuple[Place, ...] = ()
    feelings: tuple[Text, ...] = ()
    named: Texts  # first questions begin with one of these


class Situation(StrictEntry):
    """Something that is no complaint: thanks, a photo, another language …"""

    id: Text
    asking: bool
    when: tuple[Literal["first", "during", "after"], ...]
    patient: Texts
    doctor: Texts


class Rare(StrictEntry):
    x: Text
    who: Literal["self", "woman", "man", "elder", "child", "baby"]


ByComplaint = dict[str, Annotated[Openings, Field(min_length=1)]]


class Examination(StrictEntry):
    """Openings and rarer complaints that are kept from training, to examine with."""

    usual: ByComplaint
    unusual: ByComplaint
    long: ByComplaint = {}
    generic: tuple[Rare, ...] = ()


class Common(StrictEntry):
    hello: Texts
    ack: Texts
    close: Texts
    want: Texts
    unsure: Texts
    none: Texts
    summary: Texts
    lead: Texts
    bye: Texts
    thanks: Texts
    welcome: Texts
    what: Texts
    later: Texts
    again: Texts
    until_help: Texts
    first_aid: Texts
    asked: tuple[Follow, ...]
    asked_of_medicines: tuple[Follow, ...]  # the first: whether to take one
    unanswered: Texts
    nearest: Texts
    either: Texts
    only: Texts
    unanswered_again: Texts
    misheard: Texts
    greet: Texts
    by_name: Texts
    wrong: Texts
    typos: dict[str, str]
    situations: tuple[Situation, ...]


class Knowledge(StrictEntry):
    complaints: dict[str, Complaint]
    families: dict[str, Family]
    generic: Generic
    common: Common
    medicines: tuple[Medicine, ...]
    pairs: tuple[Pair, ...]

    @cached_property
    def entries(self) -> dict[str, Complaint]:
        return {**self.complaints, **self.families, self.generic.id: self.generic}

    @cached_property
    def asked(self) -> dict[str, tuple[Follow, ...]]:
        """What is asked after the advice, by complaint, and whatever the complaint under `common`."""
        own = {name: entry.follow for name, entry in self.entries.items()}
        return own | {"common": (*self.common.asked, *self.common.asked_of_medicines)}


@once
def bundled() -> Knowledge:
    return Knowledge(
        complaints=complaints(FOLDER / "complaints"),
        families=complaints(FOLDER / "families", Family),
        generic=load(FOLDER / "generic.yaml", Generic),
        common=load(FOLDER / "common.yaml", Common),
        medicines=load(FOLDER / "medicines.yaml", Medicines).medicines,
        pairs=load(FOLDER / "pairs.yaml", Pairs).pairs,
    )


@once
def examination() -> Examination:
    return load(FOLDER / "examination.yaml", Examination)


def complaints(folder: Path, kind: type[Entry] = Complaint) -> dict[str, Entry]:  # type: ignore[assignment]
    """Every complaint of a folder by its id; BadInput if an id is not the name of its file."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        entry = load(path, kind)
        if entry.id != path.stem:
            raise BadInput(f"{path}:1: id={entry.id!r}: needs to be the file's name, {path.stem!r}")
        found[entry.id] = entry
    if not found:
        raise BadInput(f"{folder}: holds no *.yaml; give a folder with one file a complaint")
    return found


def sentence(text: str) -> str:
    """The text with a mark at its end."""
    return text if re.search(r"[。！？；]$", text) else text + "。"


def texts(part: object) -> list[str]:
    """Every text in the knowledge base."""
    found: list[str] = []
    add_texts(part, found)
    return found


def add_texts(part: object, found: list[str]) -> None:
    if isinstance(part, str):
        found.append(part)
    elif isinstance(part, dict):
        for value in part.values():
            add_texts(value, found)
    elif isinstance(part, tuple | list):
        for value in part:
            add_texts(value, found)
    elif isinstance(part, BaseModel):
        for name in type(part).__pydantic_fields__:
            add_texts(getattr(part, name), found)

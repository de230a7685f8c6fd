"""The knowledge base: complaints as a primary-care doctor asks about them and advises on them, one YAML file each.

`data/README.md` explains the form to whoever adds a complaint. Everything is checked when it is read; an error names
file, line, field, value and remedy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from bianque.errors import BadInput

FOLDER = Path(__file__).parent
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Condition = Mapping[str, "str | tuple[str, ...]"]
Known = Mapping[str, str]  # slot → value, as far as the patient has told
Part = TypeVar("Part", bound="StrictEntry")


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

    def holds(self, known: Known) -> bool:
        """A slot that nobody told about meets no condition."""
        return all(known.get(key) in self.values(key) for key in self.when)


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


class Medicines(StrictEntry):
    medicines: tuple[Medicine, ...]


class Complaint(StrictEntry):
    id: Text
    name: Text
    group: Text
    department: Text
    about: tuple[Literal["self", "child", "baby", "elder", "spouse", "pregnant"], ...]
    open: Annotated[tuple[Opening, ...], Field(min_length=4)]
    slots: Annotated[tuple[Slot, ...], Field(min_length=4)]
    urgent: tuple[Rule, ...] = ()
    assess: Annotated[tuple[Rule, ...], Field(min_length=1)]
    advice: Annotated[tuple[Rule, ...], Field(min_length=3)]
    doctor: Annotated[tuple[Rule, ...], Field(min_length=1)]
    follow: Annotated[tuple[Follow, ...], Field(min_length=1)]

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
            if getattr(self, kind)[-1].when:
                raise ValueError(f"{kind}: the last rule must hold always; leave out its `if`")
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


class Generic(Complaint):
    """What is asked and advised where there is no entry of its own: `{x}` stands for the complaint."""

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


Openings = dict[str, Annotated[tuple[Opening, ...], Field(min_length=1)]]


class Examination(StrictEntry):
    """Openings and rarer complaints that are kept from training, to examine with."""

    usual: Openings
    unusual: Openings
    long: Openings = {}
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
    greet: Texts
    by_name: Texts
    wrong: Texts
    typos: dict[str, str]
    situations: tuple[Situation, ...]


class Knowledge(StrictEntry):
    complaints: dict[str, Complaint]
    generic: Generic
    common: Common
    medicines: tuple[Medicine, ...]


@cache
def bundled() -> Knowledge:
    return Knowledge(
        complaints=complaints(FOLDER / "complaints"),
        generic=load(FOLDER / "generic.yaml", Generic),
        common=load(FOLDER / "common.yaml", Common),
        medicines=load(FOLDER / "medicines.yaml", Medicines).medicines,
    )


@cache
def examination() -> Examination:
    return load(FOLDER / "examination.yaml", Examination)


class Further(NamedTuple):
    """An opening of `data/openings.jsonl`; `has` is None where nobody noted what it tells."""

    complaint: str
    say: str
    has: dict[str, Any] | None = None


class FurtherAnswer(NamedTuple):
    """A line of `data/answers.jsonl`: what a patient said to a question, and which answer that is; None for none."""

    complaint: str
    slot: str
    ask: str
    say: str
    value: str | None
    also: Mapping[str, str] = MappingProxyType({})


class FurtherFollow(NamedTuple):
    """A line of `data/follows.jsonl`: a question after the advice, and the follow-up that it is; None for none."""

    complaint: str
    ask: str
    follow: int | None


def further_openings(path: Path = FOLDER / "openings.jsonl") -> list[Further]:
    """More openings than the complaints' own; BadInput names a line that is not one."""
    return [
        row
        for row, _ in lines(
            path,
            Further,
            '{"complaint": id, "say": text}, with "has": {slot: value} or without',
            lambda row: row.has or {},
        )
    ]


def further_answers(path: Path = FOLDER / "answers.jsonl") -> list[FurtherAnswer]:
    """Answers as patients give them; BadInput names a line that is not one."""
    form = '{"complaint": id, "slot": key, "ask": text, "say": text, "value": value or null, "also": {slot: value}}'
    return [row for row, _ in lines(path, FurtherAnswer, form, lambda row: {row.slot: row.value or (), **row.also})]


def further_follows(path: Path = FOLDER / "follows.jsonl") -> list[FurtherFollow]:
    """Questions as visitors ask them after the advice; BadInput names a line that is not one."""
    found = []
    form = '{"complaint": id, "ask": text, "follow": number or null}'
    for number, (row, entry) in enumerate(lines(path, FurtherFollow, form, lambda row: {}), 1):
        if row.follow is not None and not 0 <= row.follow < len(entry.follow):
            raise BadInput(
                f"{path}:{number}: follow={row.follow!r}: {row.complaint} has 0 to {len(entry.follow) - 1}, or null"
            )
        found.append(row)
    return found


Row = TypeVar("Row", Further, FurtherAnswer, FurtherFollow)


def lines(
    path: Path, kind: type[Row], form: str, tells: Callable[[Row], Mapping[str, Any]]
) -> list[tuple[Row, Complaint | Generic]]:
    """The lines of a file of examples, each with its complaint or the generic one; what one tells must exist there."""
    found, entries = [], {**bundled().complaints, bundled().generic.id: bundled().generic}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = kind(**json.loads(line))
            told = Opening(say=row.ask if isinstance(row, FurtherFollow) else row.say, has=dict(tells(row))).has
        except (ValueError, TypeError):
            raise BadInput(f"{path}:{number}: needs to be {form}") from None
        if (entry := entries.get(row.complaint)) is None:
            raise BadInput(f"{path}:{number}: complaint={row.complaint!r}: no such complaint")
        for key, value in told.items():
            values = entry.slot[key].values if key in entry.slot else {}
            if key not in entry.slot or any(
                one not in values for one in ((value,) if isinstance(value, str) else value)
            ):
                raise BadInput(f"{path}:{number}: {{{key!r}: {value!r}}}: {row.complaint} has no such slot or value")
        found.append((row, entry))
    return found


def complaints(folder: Path) -> dict[str, Complaint]:
    """Every complaint of a folder by its id; BadInput if an id is not the name of its file."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        entry = load(path, Complaint)
        if entry.id != path.stem:
            raise BadInput(f"{path}:1: id={entry.id!r}: needs to be the file's name, {path.stem!r}")
        found[entry.id] = entry
    if not found:
        raise BadInput(f"{folder}: holds no *.yaml; give a folder with one file a complaint")
    return found


def load(path: Path, kind: type[Part]) -> Part:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        given = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(
            f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}; quote texts with `: ` or `#`"
        ) from None
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        rows = [f"{path}:{line_of(node, row['loc'])}: {explained(row)}" for row in error.errors()[:5]]
        raise BadInput("\n".join(rows)) from None


def explained(row: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in row["loc"])
    value = row["input"]
    shown = f"={value!r}"[:80] if isinstance(value, str | int | float | bool) else ""
    return f"{place}{shown}: {row['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def line_of(node: yaml.Node | None, place: Sequence[int | str]) -> int:
    """The line on which a field stands, or the last one found on the way to it."""
    line = 1
    for part in place:
        if node is None:
            break
        line = node.start_mark.line + 1
        node = next((child for name, child in children(node) if name == part), node)
        line = max(line, node.start_mark.line + 1)
    return line


def children(node: yaml.Node) -> Iterator[tuple[int | str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((key.value, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from enumerate(node.value)


def sentence(text: str) -> str:
    """The text with a mark at its end."""
    return text if re.search(r"[。！？；]$", text) else text + "。"

"""YAML whose every field is checked: an error names file, line, field, value and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError

from bianque.errors import BadInput

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TEXT = "tag:yaml.org,2002:str"
Text = Annotated[str, StringConstraints(pattern=r"\S", max_length=200, strict=True)]
Part = TypeVar("Part", bound=BaseModel)
MENDED = {
    "string_pattern_mismatch": "is empty; write a text or take it out",
    "string_type": "needs to be a text; write it in quotes",
    "tuple_type": "needs to be a list; write [one, other], or `- one` a line",
    "too_short": "holds too little; write at least {min_length}",
    **dict.fromkeys(("dict_type", "model_type"), "needs to be a mapping; write `name: value` a line"),
}
"""What is wrong and how it is mended, by pydantic's names, where its own words do not say."""


class Wrong(ValueError):
    """What is wrong at a place of an entry, and how to mend it: fields and numbers lead there."""

    def __init__(self, problem: str, *place: int | str) -> None:
        super().__init__(problem)
        self.place = place


class Repeated(yaml.MarkedYAMLError):
    """A key that a mapping has twice."""


def distinct(texts: Sequence[str]) -> Sequence[str]:
    """The texts, of which none may stand twice."""
    if len(set(texts)) < len(texts):
        number = next(number for number, text in enumerate(texts) if text in texts[:number])
        raise Wrong(f"{texts[number]!r} stands twice; take one out", number)
    return texts


Texts = Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(distinct)]


def load(path: Path, kind: type[Part]) -> Part:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    try:
        node = yaml.compose(text, Loader=LOADER)
        given = plain(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        remedy = "" if isinstance(error, Repeated) else "; quote texts with `: ` or `#`"
        raise BadInput(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}{remedy}") from None
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        rows = [explained(row, node) for row in error.errors()[:5]]
        raise BadInput("\n".join(f"{path}:{row}" for row in rows)) from None


def plain(node: yaml.Node | None) -> Any:
    """What `yaml.safe_load` makes of a node, in a third of its time; keys are texts whatever they look like."""
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.tag == TEXT else yaml.constructor.SafeConstructor().construct_object(node)  # type: ignore[no-untyped-call]
    if isinstance(node, yaml.SequenceNode):
        return [plain(part) for part in node.value]
    if node is None:
        return None
    found: dict[str, Any] = {}
    for key, part in node.value:
        if (name := str(key.value)) in found:
            raise Repeated(None, None, f"{name!r} stands twice; make them one", key.start_mark)
        found[name] = plain(part)
    return found


def explained(row: Any, node: yaml.Node | None) -> str:
    """Line, field, value and remedy of one of pydantic's errors."""
    known = row.get("ctx", {})
    place = (*row["loc"], *getattr(known.get("error"), "place", ()))
    mended = MENDED.get(row["type"])
    value, problem = row["input"], mended.format_map(known) if mended else row["msg"]
    shown = f"={value!r}"[:80] if isinstance(value, str | int | float | bool) else ""
    told = f"{'.'.join(map(str, place))}{shown}: {problem.removeprefix('Value error, ')}".removeprefix(": ")
    return f"{line_of(node, place)}: {told}"


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

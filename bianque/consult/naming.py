"""How a visitor names a complaint that has no entry of its own, and where in the body it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bianque.consult import triage
from bianque.consult.encoder import cosines
from bianque.consult.patterns import pattern
from bianque.consult.recognise import NONE, Recogniser
from bianque.consult.told import CLAUSE
from bianque.data.knowledge import Generic

WORTH_NAMING = 2  # characters that must be left of a text
SAME_SYMPTOM = 0.65  # cosine of a rarer complaint to a known one of the same part of the body
LEAD = re.compile(
    r"^(?:医生|大夫|您好|你好|请问|请教一下|想问一?下|问一下|麻烦问|帮忙看看|那个|就是|我想问|我(?!家|[妈爸爷奶娃儿女老公婆])|本人|最近|这几天|今天|这两天|老是?|总是?)+"
)
TAIL = re.compile(r"(?:怎么办|怎么回事|咋回事|咋办|怎么治|是什么原因|要紧吗|严重吗|啊|呀|呢|吗|了)+$")


def ways(texts: Iterable[str]) -> list[re.Pattern[str]]:
    """Patterns of texts that name a complaint, {x}, whose group is the name."""
    return [re.compile(re.escape(text).replace(r"\{x\}", "(.{2,18}?)")) for text in texts]


class Naming:
    """Finds the name of a complaint among a visitor's words."""

    def __init__(self, generic: Generic, recogniser: Recogniser) -> None:
        self.generic, self.recogniser = generic, recogniser
        self.ways = ways(opening.say for opening in generic.open if "{x}" in opening.say)
        self.symptoms = {symptom.x for symptom in generic.symptoms}
        self.rare = self.symptoms | {
            part + feeling for place in generic.places for part in place.words for feeling in generic.feelings
        }

    def __call__(self, said: Sequence[str]) -> str:
        """The complaint in the visitor's own words: what a known way to open names, a known rarer one, or the first clause."""
        text = next((text for text in said if CLAUSE.sub("", text)), "")
        if not triage.language(text).startswith("zh"):
            return ""
        for naming in self.ways:
            if match := naming.fullmatch(text.rstrip("。！？?! ")):
                return match[1]
        if known := max((x for x in self.rare if x in text), key=len, default=""):
            return known
        clauses = [TAIL.sub("", LEAD.sub("", clause)) for clause in CLAUSE.split(text)]
        names = [
            clause for clause in clauses if 2 <= len(clause) <= 18 and not pattern("people", "aged").fullmatch(clause)
        ]
        if len(names) < 2:
            return next(iter(names), "")
        # The one that tells most surely of a complaint: not who it is, since when, what is feared. Of equal ones the first.
        return names[int(self.recogniser(names)[:, self.recogniser.place[NONE]].round(2).argmin())]

    def whereabouts(self, complaint: str, said: Sequence[str]) -> dict[str, str | None]:
        """Where a complaint without an entry is, and of whom it is told, for the rules that depend on it."""
        told: dict[str, str | None] = {}
        regions = {part: place.region for place in self.generic.places for part in place.words if part in complaint}
        symptoms = self.generic.symptoms
        alike = cosines(complaint, tuple(symptom.x for symptom in symptoms))
        if regions:
            told["region"] = regions[max(regions, key=len)]
        elif alike.max() >= SAME_SYMPTOM:
            told["region"] = symptoms[int(alike.argmax())].region
        people = [who for who in ("baby", "child", "elder") if pattern("people", who).search("\n".join(said))]
        if people and not pattern("people", "grown").search("\n".join(said)):
            told["age"] = people[0]
        return told


def unafraid(text: str) -> str:
    """A text without its clauses that say no more than that one is afraid, unless nothing else is said: 心慌，我有点害怕."""
    return without(text, "afraid")


def to_the_point(text: str) -> str:
    """A text without its clauses that say no more than who one is, that one is afraid and of what somebody died."""
    return without(text, "afraid", "myself", "lost")


def without(text: str, *kinds: str) -> str:
    says = [pattern("people", kind).fullmatch for kind in kinds]
    bare = lambda clause: clause.strip(triage.STOPS)
    left = [part for part in triage.CLAUSES.findall(text) if not any(say(bare(part)) for say in says)]
    return "".join(left) if len(bare("".join(left))) >= WORTH_NAMING else text

"""Whether an answer that nobody asked for was told: 小腿难受 is no lump on the leg, however near the two vectors are.

What is particular to it must stand in a clause, a danger sign in plain words, and in a long message it must be near.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bianque.consult import answers
from bianque.consult.text import grams
from bianque.consult.told import CLAUSE, Utterance
from bianque.data.knowledge import Complaint

EVERYWHERE = frozenset("的了就有是在也都不没我一个上下去来着很点")
FINAL = frozenset("过啊呀吧呢哦嘛哈")  # 没噎过, 没丙肝啊
SAYS = re.compile("没有?(?:说|讲|提)")  # who never said so denies also what denies: 我没说不想活啊
DENIED = 0.7  # of a denial's characters, in the wordings of what it denies
LEAST = 0.3
"""Of answers that nobody asked for, 13 of 34 below it had been told, 79 % between .3 and .5, 94 % above (openings of the examination)."""
# A danger sign is asked about instead of believed below this probability or this cosine to one of its wordings: of those
# above both, in 1,500 openings that were not learned, 96 % had been told; of all that are chosen 89 %.
GRAVE, SAME_SIGN = 0.8, 0.65
FAINT, FAR, SURER = 0.15, 0.5, 0.9
"""A danger sign that was asked for is none where so little of it stands in the words and they are so far from it, unless it is
surer: of 400 that were heard so 12 are faint and far, and the two of these below it were wrong, 有点，容易急 taken for 不想活了."""
PLAINER = 0.5  # by which another answer outdoes a danger sign that was asked for: of 237 it takes one that was right
# In a long message some clause is a little like anything: of what was heard in forty rambling ones below this cosine a third
# was wrong, above it one in twelve. By eye.
LONG, SAME_IN_LONG = 60, 0.6


class Given(NamedTuple):
    """What was answered, None where it is none of the known answers or not sure; its probability; how near it is to a wording.

    `best`: which of the known ones it would be."""

    answer: str | None
    sure: float = 0.0
    near: float = 0.0
    best: str | None = None


class Evidence:
    """Of one complaint, in whose answers a character is the more particular the fewer of them hold it."""

    def __init__(self, entry: Complaint) -> None:
        self.urgent = entry.urgent
        texts = {
            (slot.key, label): (*value.says, value.fact) for slot in entry.slots for label, value in slot.values.items()
        }
        self.wordings = {place: [characters(text) for text in wordings] for place, wordings in texts.items()}
        self.affirmed = {
            place: frozenset[str]().union(*map(characters, affirmed(wordings))) for place, wordings in texts.items()
        }
        self.every = {
            place: frozenset[str]().union(*(characters(answers.NEGATION.sub("", text)) for text in wordings))
            for place, wordings in texts.items()
        }
        held = Counter(one for wordings in self.wordings.values() for one in frozenset[str]().union(*wordings))
        named = characters(entry.name)  # who says 甲状腺有结节 has not said 促甲状腺激素高
        self.worth: Mapping[str, float] = {
            one: (0.0 if one in named else math.log((1 + len(self.wordings)) / (1 + count))) + 0.1
            for one, count in held.items()
        }

    def grave(self, key: str, label: str | None) -> bool:
        """Whether an answer is a danger sign."""
        return any(label in rule.values(key) for rule in self.urgent)

    def plainly(self, key: str, given: Given, said: Utterance) -> str | None:
        """The answer to what was asked, but for a danger sign where another one stands in the words: 坐着也会慌."""
        if given.answer is None or not self.grave(key, given.answer):
            return given.answer
        stands = {label: self(key, label, said.clauses) for slot, label in self.wordings if slot == key}
        own = stands.pop(given.answer)
        if own < FAINT and given.near < FAR and given.sure < SURER:
            return None
        return given.answer if own >= LEAST or max(stands.values(), default=0.0) <= own + PLAINER else None

    def suffices(self, key: str, given: Given, said: Utterance, grave: bool) -> bool:
        """Whether the answer to the question counts as told; where it is none of the known ones, whether that was told."""
        long = len(said.text) > LONG
        if given.answer is None:
            return not long
        if (given.sure < GRAVE or given.near < SAME_SIGN) and (grave or (long and given.near < SAME_IN_LONG)):
            return False
        return self(key, given.answer, said.clauses) >= LEAST

    def denied(self, key: str, label: str | None, clauses: Sequence[str]) -> bool:
        """Whether a clause denies an answer in its own characters: 没有噎, after 吞咽时有哽噎感 was heard."""
        place = (key, label or "")
        for clause in filter(answers.negated, clauses):
            own = (self.every if SAYS.search(clause) else self.affirmed).get(place, frozenset())
            one = characters(answers.NEGATION.sub("", SAYS.sub("", clause))) - FINAL
            if one and len(one & own) >= DENIED * len(one):
                return True
        return False

    def refuted(self, key: str, label: str | None, clauses: Sequence[str]) -> bool:
        """Whether every clause that denies anything denies this answer, and one does: 没便血."""
        denials = [one for one in clauses if answers.negated(one)]
        return bool(denials) and all(
            not re.search(answers.CANNOT, one) and self.denied(key, label, (one,)) for one in denials
        )

    def __call__(self, key: str, label: str, clauses: Sequence[str]) -> float:
        """0 to 1: the largest share of a wording of the answer that stands in one clause."""
        told = [characters(clause) for clause in clauses]
        wordings = [wording for wording in self.wordings[key, label] if wording]
        weigh = lambda part: sum(self.worth[one] for one in part)
        return max((weigh(each & own) / weigh(own) for own in wordings for each in told), default=0.0)


def affirmed(texts: Sequence[str]) -> list[str]:
    """The clauses that deny nothing: of 不噎，但大便是黑的 the second."""
    return [clause for text in texts for clause in CLAUSE.split(text) if not answers.negated(clause)]


def characters(text: str) -> frozenset[str]:
    return grams(text, 1) - EVERYWHERE

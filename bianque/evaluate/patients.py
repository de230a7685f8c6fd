"""Examine a consultation as many scripted patients would, without a judge model.

Each patient has one complaint of the knowledge base and fixed answers. It opens with words that no training saw
(`data/examination.yaml`, usual or unusual ones), answers what it is asked, and asks one question after the advice. What is said to it is
compared with the knowledge base as text, by pairs and fours of characters, so rewording lowers a figure a little.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bianque.consult.guards import cares
from bianque.consult.questions import sentences
from bianque.consult.text import grams
from bianque.data.knowledge import Complaint, Examination, Generic, Knowledge
from bianque.errors import BadInput, BianQueError
from bianque.intervals import wilson
from bianque.types import Message, OpeningKind

ASKED_ON_TOPIC, ADVISED_ON_TOPIC = 0.45, 0.3  # likeness from which a question or an advice is the complaint's own
WARNED = 0.5  # share of a danger sign's sentence that a reply holds
# A sentence that says when to go where states nothing of the patient (有轻生念头打 12356，尿不出来马上去急诊); a list behind a colon does.
REFERS = re.compile("急诊|120|12356|医院|门诊|科|就医|医生")
MOST_TURNS = 12  # visitor's turns; before the last ones the patient asks for the advice
UNKNOWN = ("没有", "不太清楚", "没注意过")  # what it answers to questions that its script does not know
RARE = "generic"
SHORT = 40  # characters, below which an advice is short
# name → what it is a share of, and its name on the page
_TABLE = (
    ("on_topic", "questions", "问题切题", "Questions on topic"),
    ("repeated", "questions", "重复提问", "Questions asked before"),
    ("already_said", "questions", "问了患者说过的", "Questions already answered"),
    ("named", "rare", "少见主诉被点名", "Rare complaints named at once"),
    ("advice_on_topic", "advices", "建议切题", "Advice on topic"),
    ("advice_short", "advices", "建议过短", "Advice too short"),
    ("facts_false", "facts", "归纳有误", "Facts that are false"),
    ("facts_invented", "facts", "归纳无中生有", "Facts that nobody told"),
    ("dangers_answered", "dangers", "危险信号有回应", "Dangers answered"),
    ("follow_ups_right", "follow_ups", "追问答对", "Follow-ups answered rightly"),
)
FIGURES = {name: base for name, base, *_ in _TABLE}
TITLES = {name: title for name, _, *title in _TABLE}

Reply = Callable[[Sequence[Message], str, int], Awaitable[Message]]  # history, message, seed → the doctor's turn


def covered(part: frozenset[str], whole: frozenset[str]) -> float:
    return len(part & whole) / len(part) if part else 0.0


@dataclass(slots=True)
class Talk:
    """One consultation as it went, and what was counted in it."""

    complaint: str
    seed: str
    x: str | None = None  # a rarer complaint
    dialogue: list[Message] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    error: str | None = None


class Examiner:
    """Holds whole consultations and counts; the same seed gives the same patients."""

    def __init__(
        self, knowledge: Knowledge, examination: Examination, seed: int = 0, kind: OpeningKind = "usual"
    ) -> None:
        self.knowledge, self.examination, self.seed, self.kind = knowledge, examination, seed, kind
        self.openings = getattr(examination, kind)

    @cached_property
    def asks(self) -> list[tuple[str, str, frozenset[str]]]:
        """Every wording of every question: complaint, slot, and its pairs of characters."""
        return [
            (entry.id, slot.key, grams(ask))
            for entry in self.knowledge.complaints.values()
            for slot in entry.slots
            for ask in slot.ask
        ]

    @cached_property
    def having(self) -> dict[str, list[int]]:
        """The wordings that hold a pair of characters."""
        found: dict[str, list[int]] = {}
        for number, (_, _, pairs) in enumerate(self.asks):
            for pair in pairs:
                found.setdefault(pair, []).append(number)
        return found

    @cached_property
    def advices(self) -> dict[str, frozenset[str]]:
        found = {}
        for entry in self.knowledge.complaints.values():
            says = [
                say
                for rules in (entry.assess, entry.advice, entry.doctor, entry.urgent)
                for r in rules
                for say in r.say
            ]
            says += [say for follow in entry.follow for say in follow.say]
            found[entry.id] = frozenset().union(*(grams(say, 4) for say in says))
        return found

    def question(self, text: str, own: str) -> tuple[str | None, float, float]:
        """The complaint's slot that a reply asks about, its likeness, and the best likeness of any complaint's."""
        best: tuple[str | None, float, float] = (None, 0.0, 0.0)
        for part in filter(str.strip, re.split(r"(?<=[？?。！])", text)):
            pairs = grams(part, 2)
            shared = Counter(number for pair in pairs for number in self.having.get(pair, ()))
            mine: tuple[float, str | None] = (0.0, None)
            anywhere = 0.0
            for number, count in shared.items():
                entry, key, other = self.asks[number]
                like = 2 * count / (len(pairs) + len(other))
                anywhere = max(anywhere, like)
                if entry == own and like > mine[0]:
                    mine = (like, key)
            if mine[0] > best[1] or best[0] is None:
                best = (mine[1], mine[0], max(best[2], anywhere))
        return best

    def topic(self, text: str) -> tuple[str, float]:
        """The complaint whose sentences cover an advice best, and how much of it."""
        said = grams(text, 4)
        return max(((entry, covered(said, own)) for entry, own in self.advices.items()), key=lambda found: found[1])

    def plan(self, names: Iterable[str] | None = None, each: int = 1) -> list[Talk]:
        """Every complaint `each` times, then the rarer ones, whose first question must name them; or `names` alone."""
        known = self.knowledge.complaints
        if unknown := set(names or ()) - known.keys():
            raise BadInput(f"{', '.join(sorted(unknown))}: no such complaint; there are {', '.join(known)}")
        talks = [
            Talk(name, f"{self.seed}/{self.kind}/{name}/{turn}") for name in names or known for turn in range(each)
        ]
        rare = () if names else self.examination.generic
        return talks + [Talk(RARE, f"{self.seed}/{symptom.x}", symptom.x) for symptom in rare]

    async def hold(self, reply: Reply, talk: Talk) -> Talk:
        """Hold one talk. A failed consultation is an error, never a score."""
        try:
            if talk.x:
                await self.name(reply, talk.x, talk)
            else:
                await self.consult(reply, self.knowledge.complaints[talk.complaint], talk)
        except BianQueError as error:
            talk.error = f"{error.code}: {error}"
            talk.counts.clear()
        return talk

    async def name(self, reply: Reply, x: str, talk: Talk) -> None:
        r = random.Random(talk.seed)
        generic: Generic = self.knowledge.generic
        opening = r.choice([o.say for o in generic.open if not o.has]).replace("{x}", x)
        talk.dialogue.append(Message("user", opening))
        answer = await reply([], opening, r.randrange(2**31))
        talk.dialogue.append(answer)
        talk.counts["rare"] += 1
        self.mark(talk, "named", x in answer.content, "does not name the complaint", good=True)

    async def consult(self, reply: Reply, entry: Complaint, talk: Talk) -> None:
        r = random.Random(talk.seed)
        opening = r.choice(self.openings[entry.id])
        state = {slot.key: r.choice(list(slot.values)) for slot in entry.slots}
        known: dict[str, str] = {}
        for key, value in opening.has.items():
            state[key] = known[key] = r.choice(value) if isinstance(value, tuple) else value
        message, asked = opening.say, set[str]()
        for turn in range(MOST_TURNS):
            answer = await self.exchange(reply, talk, message, r)
            if answer.phase == "advising":
                self.judge_advice(talk, entry, answer.content, known)
                await self.follow_up(reply, talk, entry, r)
                return
            message = self.answered(talk, entry, answer.content, known, state, asked, r)
            if turn == MOST_TURNS - 3:
                message = "别问了，直接给我建议吧"
        talk.faults.append("no advice at all")

    async def exchange(self, reply: Reply, talk: Talk, message: str, r: random.Random) -> Message:
        history = list(talk.dialogue)
        talk.dialogue.append(Message("user", message))
        answer = await reply(history, message, r.randrange(2**31))
        talk.dialogue.append(answer)
        return answer

    def answered(
        self, talk: Talk, entry: Complaint, asked_text: str, known: dict[str, str], state: dict[str, str],
        asked: set[str], r: random.Random,
    ) -> str:  # fmt: skip
        """Judge a question; what the patient answers to it."""
        slot, mine, best = self.question(asked_text, entry.id)
        fits = slot is not None and mine >= ASKED_ON_TOPIC and mine >= best - 0.15
        talk.counts["questions"] += 1
        self.mark(talk, "on_topic", fits, f"off topic: {asked_text}", good=True)
        if not fits or slot is None:
            return r.choice(UNKNOWN)
        self.mark(talk, "repeated", slot in asked, f"asked again: {asked_text}")
        self.mark(talk, "already_said", slot in known and slot not in asked, f"was said: {asked_text}")
        asked.add(slot)
        known[slot] = state[slot]
        return r.choice(entry.slot[slot].values[state[slot]].says)

    def judge_advice(self, talk: Talk, entry: Complaint, text: str, known: dict[str, str]) -> None:
        best, score = self.topic(text)
        talk.counts["advices"] += 1
        self.mark(
            talk, "advice_on_topic", best == entry.id and score >= ADVISED_ON_TOPIC, f"advises on {best}", good=True
        )
        self.mark(talk, "advice_short", len(text) < SHORT, "short advice")
        stated = "".join(each for each in sentences(text) if "：" in each or not REFERS.search(each))
        for slot in entry.slots:
            rest = stated  # 没有轻生念头 does not state 有轻生念头: the longer of a slot's facts are taken out first
            for label, value in sorted(slot.values.items(), key=lambda one: -len(one[1].fact)):
                if len(value.fact) >= 4 and value.fact in rest:
                    rest = rest.replace(value.fact, "\n")
                    talk.counts["facts"] += 1
                    told = known.get(slot.key)
                    self.mark(talk, "facts_false", told not in (None, label), f"false: {value.fact}")
                    self.mark(talk, "facts_invented", told is None, f"invented: {value.fact}")
        if entry.danger(known):
            talk.counts["dangers"] += 1
            said = grams(text, 4)
            warned = any(covered(grams(say, 4), said) > WARNED for rule in entry.urgent for say in rule.say)
            self.mark(talk, "dangers_answered", warned or cares(text), "danger passed over", good=True)

    async def follow_up(self, reply: Reply, talk: Talk, entry: Complaint, r: random.Random) -> None:
        wanted = r.choice(entry.follow)
        answer = await self.exchange(reply, talk, r.choice(wanted.ask), r)
        said = grams(answer.content, 4)
        likes = [(max(covered(said, grams(say, 4)) for say in follow.say), follow is wanted) for follow in entry.follow]
        score, right = max(likes, key=lambda like: like[0])
        talk.counts["follow_ups"] += 1
        self.mark(
            talk, "follow_ups_right", right and score >= ADVISED_ON_TOPIC, "follow-up answered wrongly", good=True
        )

    def mark(self, talk: Talk, name: str, holds: bool, fault: str, good: bool = False) -> None:
        talk.counts[name] += holds
        if holds != good:
            talk.faults.append(fault)


def figures(talks: Sequence[Talk]) -> dict[str, dict[str, Any]]:
    """Each figure as share, count and 95 % interval (Wilson), over the talks that did not fail."""
    total: Counter[str] = sum((talk.counts for talk in talks), Counter())
    found = {}
    for name, base in FIGURES.items():
        low, high = wilson(total[name], total[base])
        share = total[name] / total[base] if total[base] else None
        found[name] = {"share": share, "count": total[name], "of": total[base], "low": low, "high": high}
    return found

"""What the knowledge base recognises in a dialogue: its complaint, what was asked, what was told, whose sentence is whose.

Complaints are recognised by example (`recognise`); questions, answers and sentences by characters they share with the
knowledge base's own, answers also by their sentence vectors.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bianque.consult.encoder import encode, encoded
from bianque.consult.recognise import GENERIC, NONE, Recogniser, recogniser
from bianque.consult.text import grams, likeness
from bianque.consult.told import CLAUSE, Told, Wordings, told, wordings
from bianque.data import speech
from bianque.data.knowledge import Complaint, Follow, Generic, Knowledge, Rule, bundled
from bianque.types import Message

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_QUESTION, SAME_OPENING = 0.6, 0.75  # likeness of character pairs; an opening's share of them
SAME_ANSWER, SAME_MEANING = 0.6, 0.7  # pairs of characters, cosine
BESIDES = 0.35  # pairs that a clause nobody asked for shares with an answer: of 900 openings, 86 % of such are right
SAME_FOLLOW = 0.55  # cosine of a question after the advice
SURE = 0.5  # probability from which a complaint is taken for recognised: a wrong one harms more than general questions
ASKED_OF, OPENED_SO = 0.25, 1.0  # added to a complaint's probability by a question of its own, by a known opening
OWN, FOREIGN = 0.3, 0.5  # shares of a sentence's fours of characters
TURNS = 6  # of the visitor, by which the complaint is recognised
LEAD = re.compile(
    r"^(?:医生|大夫|您好|你好|请问|请教一下|想问一?下|问一下|麻烦问|帮忙看看|那个|就是|我想问|我|本人|最近|这几天|今天|这两天|老是?|总是?)+"
)
TAIL = re.compile(r"(?:怎么办|怎么回事|咋回事|咋办|怎么治|是什么原因|要紧吗|严重吗|啊|呀|呢|吗|了)+$")


class Sentence(NamedTuple):
    """A sentence of the knowledge base's advice: its complaint, and the rule or follow-up that says it."""

    complaint: str
    part: Rule | Follow


@dataclass(slots=True)
class Heard:
    """What is known of a round. `told` has None where an answer was given in words of its own.

    `x` names the complaint in the visitor's words, for the entry of complaints that have none of their own.
    """

    entry: Complaint | None = None
    x: str = ""
    asked: set[str] = field(default_factory=set)
    told: dict[str, str | None] = field(default_factory=dict)
    begun: bool = False  # the doctor has spoken
    advised: bool = False

    @property
    def known(self) -> dict[str, str]:
        return {key: value for key, value in self.told.items() if value is not None}

    @property
    def open(self) -> list[str]:
        """What could still be asked, in the entry's order."""
        return (
            [slot.key for slot in self.entry.slots if slot.key not in self.asked | self.told.keys()]
            if self.entry
            else []
        )


class Hearing:
    """Reads dialogues as the knowledge base would."""

    def __init__(self, knowledge: Knowledge, found: Recogniser, answers: Told) -> None:
        self.knowledge, self.recogniser, self.generic = knowledge, found, knowledge.generic
        self.answers = answers
        self.entries: dict[str, Complaint] = {**knowledge.complaints, GENERIC: knowledge.generic}
        self.questions: list[tuple[str, str, frozenset[str]]] = []
        self.asking: dict[str, list[int]] = defaultdict(list)  # pair of characters → questions
        self.sentences: list[Sentence] = []
        self.saying: dict[str, set[int]] = defaultdict(set)  # four characters → sentences
        for entry in self.entries.values():
            for slot in entry.slots:
                for text in slot.ask:
                    pairs = grams(text.replace("{x}", ""))
                    for pair in pairs:
                        self.asking[pair].append(len(self.questions))
                    self.questions.append((entry.id, slot.key, pairs))
            said: list[Rule | Follow] = [*entry.urgent, *entry.assess, *entry.advice, *entry.doctor, *entry.follow]
            for part in said:
                for text in part.say:
                    for four in grams(text.replace("{x}", ""), 4):
                        self.saying[four].add(len(self.sentences))
                    self.sentences.append(Sentence(entry.id, part))
        self.openings = [
            (entry.id, grams(opening.say), opening.has)
            for entry in knowledge.complaints.values()
            for opening in entry.open
        ]
        self.naming = [
            re.compile(re.escape(o.say).replace(r"\{x\}", "(.{2,18}?)")) for o in self.generic.open if "{x}" in o.say
        ]
        self.rare = {symptom.x for symptom in self.generic.symptoms} | {
            part + feeling for place in self.generic.places for part in place.words for feeling in self.generic.feelings
        }

    def hear(self, dialogue: Sequence[Message]) -> Heard:
        """Read a round, which begins with its complaint."""
        asked = [self.slots(m.content) if m.role == "assistant" else {} for m in dialogue]
        said = [m.content for m in dialogue if m.role == "user"]
        votes = Counter(self.recogniser.complaints(said[:TURNS])) if said else Counter[str]()
        nothing = votes.pop(NONE, 0.0)
        for found in asked:
            votes.update(
                {name: ASKED_OF * max(like for (n, _), like in found.items() if n == name) for name, _ in found}
            )
        opening = grams("\n".join(said[:2]))
        begun = {
            i: share
            for i, (_, pairs, _) in enumerate(self.openings)
            if (share := len(pairs & opening) / max(len(pairs), 4)) >= SAME_OPENING
        }
        votes.update({self.openings[i][0]: OPENED_SO * share for i, share in begun.items()})
        doctor = [m for m in dialogue if m.role == "assistant"]
        heard = Heard(begun=bool(doctor), advised=any(m.phase == "advising" for m in doctor))
        best, share = votes.most_common(1)[0] if votes else (GENERIC, 0.0)
        if nothing > share or not said:
            return heard
        if share < SURE:
            best = GENERIC
        heard.entry = entry = self.entries[best]
        heard.x = self.named(said) if best == GENERIC else ""
        for i in sorted(begun, key=begun.__getitem__):
            name, _, has = self.openings[i]
            if name == entry.id and begun[i] >= 0.9:
                heard.told |= {key: value if isinstance(value, str) else None for key, value in has.items()}
        pending: list[str] = []
        for message, found in zip(dialogue, asked, strict=True):
            if message.role == "assistant":
                own = {key: alike for (name, key), alike in found.items() if name == entry.id}
                pending = [max(own, key=own.__getitem__)] if own else []
                heard.asked |= set(pending)
                continue
            self.answered(heard, entry, message.content, pending)
            pending = []
        return heard

    def named(self, said: Sequence[str]) -> str:
        """The complaint in the visitor's own words: what a known way to open names, a known rarer one, or the first clause."""
        text = next((text for text in said if CLAUSE.sub("", text)), "")
        for pattern in self.naming:
            if match := pattern.fullmatch(text.rstrip("。！？?! ")):
                return match[1]
        if known := max((x for x in self.rare if x in text), key=len, default=""):
            return known
        clauses = [TAIL.sub("", LEAD.sub("", clause)) for clause in CLAUSE.split(text)]
        return next((clause for clause in clauses if 2 <= len(clause) <= 18), "")

    def slots(self, text: str) -> dict[tuple[str, str], float]:
        """The questions of the knowledge base that a doctor's turn asks: (complaint, slot) → likeness."""
        found: dict[tuple[str, str], float] = {}
        for part in re.findall(r"[^。！？?!]+[？?]", text):
            for said in {part, part.rpartition("，")[2]}:
                pairs = grams(said)
                shared = Counter(i for pair in pairs for i in self.asking.get(pair, ()))
                for i, count in shared.items():
                    entry, key, own = self.questions[i]
                    alike = 2 * count / (len(pairs) + len(own))
                    if alike >= SAME_QUESTION and alike > found.get((entry, key), 0):
                        found[entry, key] = alike
        return found

    def answered(self, heard: Heard, entry: Complaint, text: str, pending: Sequence[str]) -> None:
        """What a patient's turn tells: an answer to what was asked, and whatever stands in it besides."""
        pairs, meant, vectors = grams(text), encoded(text[:200]), self.meanings(entry.id)
        for key in pending:
            best, surest = None, 0.0
            for label, value in entry.slot[key].values.items():
                inside = max((2.0 + len(say) / 100 for say in value.says if say in text), default=0.0)
                alike = max(likeness(grams(say), pairs) for say in value.says)
                close = float((vectors[key, label] @ meant).max())
                sure = max(inside, alike + 1 if alike >= SAME_ANSWER else 0, close if close >= SAME_MEANING else 0)
                if sure > surest:
                    best, surest = label, sure
            heard.told[key] = best or heard.told.get(key)
        clauses = [clause for clause in CLAUSE.split(text[:400]) if len(clause) >= 4]
        opens = self.answers(text, self.wordings(entry.id)) if not heard.asked and text.strip() else set()
        for slot in entry.slots:
            if slot.key in pending:
                continue
            for label, value in slot.values.items():
                says = [say for say in value.says if len(say) >= 4 and not speech.BOUND.match(say)]
                if any(say in text for say in says):
                    heard.told[slot.key] = label
                elif says and slot.key not in heard.told:
                    alike, close = self.besides(says, clauses)
                    if alike >= BESIDES and close >= SAME_MEANING:
                        heard.told[slot.key] = label if alike >= SAME_ANSWER else None
            if slot.key in opens:
                heard.told.setdefault(slot.key, None)

    def besides(self, says: Sequence[str], clauses: Sequence[str]) -> tuple[float, float]:
        """How like an answer's wordings the likest clause is: pairs of characters, and the cosine of the two."""
        pairs = [(likeness(grams(say), grams(clause)), say, clause) for say in says for clause in clauses]
        alike, say, clause = max(pairs, default=(0.0, "", ""))
        return alike, float(encoded(say) @ encoded(clause)) if alike >= BESIDES else 0.0

    @cache  # noqa: B019 - one Hearing lives as long as the process
    def wordings(self, name: str) -> dict[str, list[Wordings]]:
        return wordings(self.entries[name])

    @cache  # noqa: B019
    def meanings(self, name: str) -> dict[tuple[str, str], NDArray[Any]]:
        """The vectors of each answer's wordings, of one complaint: a tenth of a second, once."""
        parts = [
            (slot.key, label, value.says) for slot in self.entries[name].slots for label, value in slot.values.items()
        ]
        vectors = iter(encode([say for _, _, says in parts for say in says]))
        import numpy as np

        return {(key, label): np.stack([next(vectors) for _ in says]) for key, label, says in parts}

    def follow_up(self, heard: Heard, question: str) -> Follow | None:
        """The question after the advice that the visitor's comes nearest to."""
        if heard.entry is None:
            return None
        asks = [(ask, follow) for follow in heard.entry.follow for ask in follow.ask]
        likes = encode([ask for ask, _ in asks]) @ encoded(question[:200])
        best = int(likes.argmax())
        return asks[best][1] if likes[best] >= SAME_FOLLOW else None

    def source(self, text: str, heard: Heard) -> tuple[Sentence | None, bool]:
        """The sentence of the complaint's own that a text is from, and whether it is another complaint's instead."""
        fours = grams(text, 4)
        shared = Counter(i for four in fours for i in self.saying.get(four, ()))
        own: tuple[float, Sentence | None] = (0.0, None)
        other = 0.0
        for i, count in shared.items():
            found, share = self.sentences[i], count / len(fours)
            if heard.entry and found.complaint == heard.entry.id:
                own = max(own, (share, found), key=lambda pair: pair[0])
            elif found.complaint != GENERIC:
                other = max(other, share)
        return own[1] if own[0] >= OWN else None, other >= FOREIGN and own[0] < OWN

    def question(self, heard: Heard, r: random.Random) -> str | None:
        """The knowledge base's own next question; None where all is asked."""
        if heard.entry is None or not heard.open:
            return None
        common, entry = self.knowledge.common, heard.entry
        ask = r.choice(entry.slot[heard.open[0]].ask)
        if isinstance(entry, Generic) and not heard.begun and heard.x:
            ask = r.choice(entry.named) + ask.replace("{x}", "").lstrip("，")
        elif not heard.begun:
            ask = r.choice(common.hello) + ask
        elif r.random() < 0.5:
            ask = r.choice(common.ack) + ask
        return ask.replace("{x}", heard.x or "这种情况")


def texts(part: object) -> Iterator[str]:
    """Every text in the knowledge base."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for value in part.values():
            yield from texts(value)
    elif isinstance(part, tuple | list):
        for value in part:
            yield from texts(value)
    elif hasattr(part, "__pydantic_fields__"):
        yield from texts([getattr(part, name) for name in type(part).model_fields])  # type: ignore[attr-defined]


@cache
def hearing() -> Hearing:
    """Over the bundled knowledge base; two seconds to read it, once."""
    return Hearing(bundled(), recogniser(), told())

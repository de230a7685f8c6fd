"""What a preview model may not say: checked against the dialogue and the knowledge base before it is shown.

A small model trained on the knowledge base speaks well and mixes things up. What the knowledge base can recognise is
put right here: a question that was asked or answered already, a fact that nobody told, a danger sign that was passed
over, a drug, a dose or a place out of nowhere. Words that the knowledge base does not know pass.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from bianque.backends.base import Backend
from bianque.consult import handoff
from bianque.data import speech
from bianque.data.knowledge import Complaint, Generic, Knowledge, bundled
from bianque.types import Message, Piece, Sampling

Flaw = Literal["repeat", "said"]
SHORTEST = 20  # characters of an advice
ATTEMPTS = 3  # a reply is drawn again twice
ENOUGH = 5  # questions, fewer of which are too few to close on
LONGEST = 60  # turns of a round that are read
SAME_QUESTION, SAME_ANSWER, SAME_OPENING = 0.6, 0.6, 0.75  # likeness of character pairs; an opening's share of them
SENTENCE = re.compile(r"[^。！？?!\n]*(?:[。！？?!]+|\n+|$)")
CARE = re.compile(r"急诊|120|110|12356|立即|立刻|马上|尽快去医院")
SUMMARY = re.compile(r"^([^：]{2,20}：)([^。：]+)(。)$")
NUMBERED = re.compile(r"^(\d{1,2})(\.\s*)")
DRUG = re.compile(
    r"[一-鿿]{1,6}(?:霉素|沙星|西林|拉唑|地平|沙坦|他汀|普利|洛尔|替丁|硝唑|康唑|松龙|洛芬|酚片|胶囊|颗粒|口服液|注射液|软膏"
    r"|滴眼液|滴丸|咀嚼片|分散片|缓释片)|头孢[一-鿿]{1,3}|[一-鿿]{2,4}(?:片|丸)(?![刻段区面])"
)
DOSE = re.compile(
    r"(?:\d+(?:\.\d+)?|[一二两三四五六七八九十半]+)\s*(?:mg|毫克|微克|ml|毫升|克|片|粒|支|丸|滴|单位)", re.IGNORECASE
)
PLACE = re.compile(
    r"[一-鿿]{2,3}(?:省|自治区|自治州|县(?!级))|(?<!城)(?<!超)[一-鿿]{2}市(?![场民面售值])|[一-鿿]{2,8}(?:人民|附属|协和|中心)医院"
)


def pairs(text: str) -> frozenset[str]:
    """The text's character pairs, punctuation left out."""
    text = re.sub(r"[\W_]", "", text)
    return frozenset(text[i : i + 2] for i in range(len(text) - 1))


def likeness(a: frozenset[str], b: frozenset[str]) -> float:
    """Dice coefficient, 0 to 1."""
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0


@dataclass(slots=True)
class Heard:
    """What the knowledge base recognises in a dialogue: its complaint, what was asked, and what was told.

    `told` has None where an answer was given in words of its own.
    """

    entry: Complaint | None = None
    asked: set[str] = field(default_factory=set)
    told: dict[str, str | None] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, str]:
        return {key: value for key, value in self.told.items() if value is not None}


class Guard:
    """Recognises the knowledge base's own questions, answers and facts in what is said."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.entries: dict[str, Complaint] = {**knowledge.complaints, knowledge.generic.id: knowledge.generic}
        self.questions: list[tuple[str, str, frozenset[str]]] = []
        self.having: dict[str, list[int]] = defaultdict(list)
        for entry in self.entries.values():
            for slot in entry.slots:
                for text in slot.ask:
                    grams = pairs(text.replace("{x}", ""))
                    for gram in grams:
                        self.having[gram].append(len(self.questions))
                    self.questions.append((entry.id, slot.key, grams))
        self.openings = [
            (entry.id, pairs(opening.say), opening.has)
            for entry in knowledge.complaints.values()
            for opening in entry.open
        ]
        self.facts: dict[str, set[str]] = defaultdict(set)
        for entry in knowledge.complaints.values():
            for slot in entry.slots:
                for value in slot.values.values():
                    self.facts[value.fact].add(entry.id)
        self.close = knowledge.common.close[0]
        generic = knowledge.generic
        self.naming = [re.compile(re.escape(text).replace(r"\{x\}", "(.{2,18}?)")) for text in generic.named]
        self.rare = {symptom.x for symptom in generic.symptoms} | {
            part + feeling for place in generic.places for part in place.words for feeling in generic.feelings
        }
        self.text = "\n".join(texts(knowledge))

    def slots(self, text: str) -> dict[tuple[str, str], float]:
        """The questions of the knowledge base that a doctor's turn asks: (complaint, slot) → likeness."""
        found: dict[tuple[str, str], float] = {}
        for part in re.findall(r"[^。！？?!]+[？?]", text):
            for said in {part, part.rpartition("，")[2]}:
                grams = pairs(said)
                shared = Counter(i for gram in grams for i in self.having.get(gram, ()))
                for i, count in shared.items():
                    entry, key, own = self.questions[i]
                    alike = 2 * count / (len(grams) + len(own))
                    if alike >= SAME_QUESTION and alike > found.get((entry, key), 0):
                        found[entry, key] = alike
        return found

    def hear(self, dialogue: Sequence[Message]) -> Heard:
        """Read a dialogue as the knowledge base would."""
        asked = [self.slots(m.content) if m.role == "assistant" else {} for m in dialogue]
        votes: defaultdict[str, float] = defaultdict(float)
        for found in asked:
            for complaint in {complaint for complaint, _ in found}:
                votes[complaint] += max(alike for (name, _), alike in found.items() if name == complaint)
        opening = pairs("\n".join(m.content for m in dialogue[:3] if m.role == "user"))
        begun = {
            i: held
            for i, (_, grams, _) in enumerate(self.openings)
            if (held := len(grams & opening) / max(len(grams), 4)) >= SAME_OPENING
        }
        for i, held in begun.items():
            votes[self.openings[i][0]] += held / 4
        heard = Heard()
        if not votes:
            return heard
        heard.entry = entry = self.entries[max(votes, key=votes.__getitem__)]
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

    def answered(self, heard: Heard, entry: Complaint, text: str, pending: Sequence[str]) -> None:
        """What a patient's turn tells: an answer to what was asked, and whatever stands in it besides."""
        grams = pairs(text)
        for key in pending:
            best = max(
                (max(self.match(said, text, grams) for said in value.says), label)
                for label, value in entry.slot[key].values.items()
            )
            heard.told[key] = best[1] if best[0] >= SAME_ANSWER else heard.told.get(key)
        for slot in entry.slots:
            if slot.key in pending:
                continue
            for label, value in slot.values.items():
                if any(len(said) >= 4 and not speech.BOUND.match(said) and said in text for said in value.says):
                    heard.told[slot.key] = label

    def match(self, said: str, text: str, grams: frozenset[str]) -> float:
        """How surely the text says so: 2 where it is there word for word."""
        return 2.0 + len(said) / 100 if said in text else likeness(pairs(said), grams)

    def flaw(self, candidate: str, heard: Heard) -> Flaw | None:
        """Why a question need not be asked: it was, or the patient has said it."""
        if heard.entry is None:
            return None
        own = {key: alike for (name, key), alike in self.slots(candidate).items() if name == heard.entry.id}
        if not own:
            return None
        key = max(own, key=own.__getitem__)
        return "repeat" if key in heard.asked else "said" if heard.told.get(key) is not None else None

    def rightly_named(self, question: str, told: str) -> str:
        """The question without a complaint that the visitor never named, as `您提到…，`."""
        for pattern in self.naming:
            if (match := pattern.match(question)) and match[1] not in told:
                return question[match.end() :] or question
        head, mark, rest = question.rpartition("，") if "，" in question else ("", "", question)
        for size in range(min(18, len(rest) - 2), 3, -1):
            if rest[:size] in self.rare and rest[:size] not in told:
                return f"{head}{mark}这种情况{rest[size:]}"
        return question

    def early(self, heard: Heard) -> bool:
        """Whether there is more to ask before anybody could advise."""
        left = heard.entry is None or len(heard.entry.slots) > len(heard.asked | heard.told.keys())
        return left and len(heard.asked) < ENOUGH

    def danger(self, heard: Heard) -> str | None:
        """The sentence that the knowledge base has for the danger sign that was told."""
        rule = heard.entry.danger(heard.known) if heard.entry else None
        return rule.say[0].replace("{x}", "") if rule else None

    def supported(self, fact: str, heard: Heard) -> bool:
        """Whether a fact that an advice sums up was told; facts in words of its own pass."""
        entry = heard.entry
        if entry is None or isinstance(entry, Generic) or fact not in self.facts:
            return True
        if entry.id not in self.facts[fact]:
            return False
        stated = [(slot.key, label) for slot in entry.slots for label, v in slot.values.items() if v.fact == fact]
        return any(key in heard.told and heard.told[key] in (None, label) for key, label in stated)

    def unheard(self, sentence: str, told: str) -> bool:
        """Whether the sentence holds a drug, a dose or a place that neither the visitor nor the knowledge base said."""
        found = (match[0] for pattern in (DRUG, DOSE, PLACE) for match in pattern.finditer(sentence))
        return any(name not in told and name not in self.text for name in found)

    def sentence(self, sentence: str, heard: Heard, told: str) -> str:
        """What of a sentence may be shown; empty if nothing."""
        if self.unheard(sentence, told):
            return ""
        if summary := SUMMARY.match(sentence.strip()):
            facts = summary[2].split("、")
            kept = [fact for fact in dict.fromkeys(facts) if self.supported(fact, heard)]
            if len(kept) < len(facts):
                return f"{summary[1]}{'、'.join(kept)}{summary[3]}" if kept else ""
        return sentence


class Filter:
    """Lets a reply through sentence by sentence, as far as the guard allows; list items are numbered anew."""

    def __init__(self, guard: Guard, heard: Heard, told: str) -> None:
        self.guard, self.heard, self.told = guard, heard, told
        self.waiting, self.dropped, self.gap = "", 0, False

    def feed(self, text: str, ended: bool = False) -> str:
        """What may be shown after this piece."""
        self.waiting += text
        out = ""
        while match := SENTENCE.match(self.waiting):
            whole = match[0]
            if not whole or (not ended and match.end() == len(self.waiting)):  # its mark may still grow
                break
            self.waiting = self.waiting[match.end() :]
            out += self.passed(whole)
        return out

    def passed(self, whole: str) -> str:
        body = whole.rstrip("\n")
        if not body and self.gap:  # the line that was left out leaves no empty one
            return ""
        number = NUMBERED.match(body)
        kept = self.guard.sentence(body[number.end() :] if number else body, self.heard, self.told) if body else ""
        self.gap = bool(body) and not kept
        if self.gap:
            self.dropped += number is not None
            return ""
        if number:
            kept = f"{int(number[1]) - self.dropped}{number[2]}{kept}"
        return kept + whole[len(body) :]


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
def guard() -> Guard:
    """The guard over the bundled knowledge base; a second to read it, once."""
    return Guard(bundled())


class Guarded:
    """A backend whose preview models are guarded; every other model passes as it is.

    A question that was asked or answered already, a closing that comes too early and an advice of a word or two are
    drawn again, twice at most. A questioner that has nothing new to ask closes. Where the knowledge base recognises a
    danger sign, the reply sends the patient to help, in the knowledge base's words if the model does not.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.roles = {card.name: card.role for card in backend.models() if card.preview}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    async def stream(self, model: str, dialogue: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        role = self.roles.get(model.partition("@")[0])
        run = self.asking if role == "asks" else self.advising if role == "advises" else None
        if run is None:
            source = self.backend.stream(model, dialogue, sampling)
        else:
            reading = asyncio.ensure_future(asyncio.to_thread(guard))  # beside the model's own loading
            heard = lambda: self.heard(reading, dialogue)
            source = run(lambda attempt: self.backend.stream(model, dialogue, again(sampling, attempt)), heard)
        async with aclosing(source) as pieces:
            async for piece in pieces:
                yield piece

    async def heard(self, reading: asyncio.Future[Guard], dialogue: Sequence[Message]) -> tuple[Guard, Heard, str]:
        """The guard, what it makes of the current round, and what the visitor said in it."""
        found = await asyncio.shield(reading)
        told = "\n".join(message.content for message in dialogue if message.role == "user")
        return found, await asyncio.to_thread(lambda: found.hear(current(dialogue))), told

    async def asking(self, draw: Draw, listen: Listen) -> AsyncGenerator[Piece, None]:
        text, end = "", None
        for attempt in range(ATTEMPTS):
            text = ""
            async with aclosing(draw(attempt)) as pieces:
                async for piece in pieces:
                    text += piece.text
                    if piece.finish:
                        end = replace(piece, text="")
                    elif not piece.text and not attempt:
                        yield piece
            found, heard, told = await listen()
            text = found.rightly_named(text, told)
            if danger := found.danger(heard):
                text = text if cares(text) else danger
                break
            if not found.flaw(text, heard) and not (closes(text) and found.early(heard)):
                break
        else:
            text = text if closes(text) else found.close
        yield Piece(text=text)
        if end:
            yield end

    async def advising(self, draw: Draw, listen: Listen) -> AsyncGenerator[Piece, None]:
        shown, end = "", None
        for attempt in range(ATTEMPTS):
            sieve: Filter | None = None
            waiting, danger = "", None
            async with aclosing(draw(attempt)) as pieces:
                async for piece in pieces:
                    if piece.finish:
                        end = piece
                    elif not piece.text:
                        if not attempt:
                            yield piece
                        continue
                    if sieve is None:
                        found, heard, told = await listen()
                        sieve, danger = Filter(found, heard, told), found.danger(heard)
                    waiting += sieve.feed(piece.text, ended=piece.finish is not None)
                    if not danger and len(shown + waiting) >= SHORTEST and waiting:
                        yield Piece(text=waiting)
                        shown, waiting = shown + waiting, ""
            if danger and not cares(waiting):
                waiting = danger
            if shown or danger or len(waiting) >= SHORTEST:
                break
        if waiting:
            yield Piece(text=waiting)
        if end:
            yield replace(end, text="")


def current(dialogue: Sequence[Message]) -> Sequence[Message]:
    """The round that is under way, as far as it is read."""
    recent = dialogue[-LONGEST:]
    return recent[handoff.read_round(recent).start :]


Draw = Callable[[int], AsyncGenerator[Piece, None]]
Listen = Callable[[], Awaitable[tuple[Guard, Heard, str]]]


def again(sampling: Sampling, attempt: int) -> Sampling:
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + attempt) % 2**63)


def closes(text: str) -> bool:
    return not re.search(r"[？?]", text)


def cares(reply: str) -> bool:
    """Whether a reply sends the patient to help."""
    return CARE.search(reply) is not None

"""Ask or advise: which model answers next, as a pure decision over the dialogue and what its newest message wants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

from bianque.consult import triage, understanding
from bianque.consult.patterns import asset, pattern, table
from bianque.consult.questions import asks, plain, sentences
from bianque.consult.recognise import GENERIC, NONE, recogniser
from bianque.consult.repeats import answered, repeats
from bianque.types import Message, Phase

CARE = "care"  # who speaks after a sure notice: fixed words, no model
Reason = Literal[
    "question", "not_question", "repeat", "told", "budget", "requested", "direct_question", "after_advice", "new_complaint",
    "resumed", "news", "chat", "stopped", "unknown",
]  # fmt: skip
READ = 60
"""Newest messages of a dialogue that are read; a round goes on no longer than that."""

MUCH = 30
"""Characters of a first message, from which an advice may follow it at once."""
FRUITLESS = 3  # answers in a row that say no more than 不知道
WORD = 6  # characters of an answer of a word or two: 后脑勺
ANOTHER, STILL = 0.7, 0.1
"""Probabilities of a complaint from which news after the advice tells of it, and of the round's own below which it does."""
HEAVY = {"stop": 0.2, "new": 0.15, "changes": 0.4}
"""Intents that end a round, `changes` before its advice: how far they must be above the next one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Who speaks: `asking` shows (or consults) the asking model, `advising` lets the advising model answer."""

    phase: Phase
    reason: Reason


_re = partial(pattern, "handoff")


@dataclass(frozen=True, slots=True)
class Round:
    """The current round of a dialogue: where it begins, the visitor's newest turn, the doctor's turns since."""

    start: int
    newest: str
    spoken: tuple[str, ...]
    phases: tuple[Phase, ...]  # of those turns
    said: tuple[str, ...] = ()
    """The visitor's turns since."""
    want: str = "opening"
    """The intent of the newest."""
    starts: tuple[int, ...] = ()
    """Where the rounds that were read begin."""

    @property
    def asked(self) -> int:
        """How many of its doctor turns have asked; after an advice the count begins anew."""
        return self.phases[::-1].index("advising") if "advising" in self.phases else len(self.phases)

    @property
    def scant(self) -> bool:
        """Whether a short first message is all there is: too little to advise on, whatever a question would ask."""
        return not self.asked and sum(map(len, self.said)) < MUCH

    @property
    def fruitless(self) -> bool:
        """Whether the newest questions were all answered by 不知道 and no more: the next would be too."""
        newest = self.said[1:][-FRUITLESS:] if self.asked >= FRUITLESS else ()
        return len(newest) == FRUITLESS and all(_re("unknown").fullmatch(plain(text)) for text in newest)

    @property
    def advised(self) -> bool:
        """Whether the newest word of the doctor's is an advice: asking that went on afterwards still goes on."""
        return self.phases[-1:] == ("advising",)


def decide(
    dialogue: Sequence[Message], candidate: str | None = None, *, budget: int = 8, advise_now: bool = False
) -> Decision:
    """Who answers the newest visitor turn; `candidate` is what the asking model would say, None before that."""
    return judge(read_round(dialogue), candidate, budget=budget, advise_now=advise_now)


def judge(now: Round, candidate: str | None = None, *, budget: int = 8, advise_now: bool = False) -> Decision:
    """The same of a round that has been read."""
    if advise_now or (now.want == "advice" and not now.advised):
        return Decision("advising", "requested")
    if now.want == "stop" and not _re("ask_me").search(plain(now.newest)):
        return Decision("advising", "stopped")
    reason: Reason = "new_complaint" if now.start and not now.spoken else "question"
    if now.advised:
        if not (asks_on := _asks_on(now)):
            return Decision("advising", "after_advice")
        reason = asks_on
    if now.asked >= budget:
        return Decision("advising", "budget")
    if now.fruitless:
        return Decision("advising", "unknown")
    if now.want == "question" and not now.advised:
        reason = "direct_question"
        if candidate is None:
            return Decision("advising", reason)
    return _heard(now, candidate, reason)


def _heard(now: Round, candidate: str | None, reason: Reason) -> Decision:
    """Whether what the asking model would say is shown."""
    if candidate is None:
        return Decision("asking", reason)
    if not asks(candidate) or not re.search(r"\w", candidate):
        small_talk = now.want == "chat" and re.search(r"\w", candidate) and not now.advised
        return Decision("asking", "chat") if small_talk else Decision("advising", "not_question")
    if repeats(candidate, now.spoken):
        return Decision("advising", "repeat")
    if answered(candidate, now.said):
        return Decision("advising", "told")
    return Decision("asking", reason)


def _asks_on(now: Round) -> Reason | None:
    """Why the asking goes on after the advice: the visitor wants it, or tells what the advice depended on."""
    if _re("ask_me").search(plain(now.newest)):
        return "resumed"
    if (
        now.want in ("answer", "follow", "chat")
        and not asks(now.newest)
        and "?" not in plain(now.newest).replace("？", "?")
    ):
        advice = next(
            text for text, phase in zip(now.spoken[::-1], now.phases[::-1], strict=True) if phase == "advising"
        )
        if _bears_on(plain(now.newest), plain(advice)):
            return "news"
    return None


def _bears_on(news: str, advice: str) -> bool:
    """Whether the news is about something that a clause of the advice depends on."""
    clauses = [clause for clause in re.split(r"[。；;！!\n]", advice) if _re("depends").search(clause)]
    names = table("handoff", "about")
    return any(
        (name in clause or words.search(clause)) and words.search(news)
        for clause in clauses
        for name, words in names.items()
    )


def read_round(dialogue: Sequence[Message]) -> Round:
    """The current round. A message that has not been read yet takes some milliseconds: not on an event loop."""
    first = max(0, len(dialogue) - READ)
    start, want = None, "opening"
    said, spoken, phases, starts = list[str](), list[str](), list[Phase](), list[int]()
    for index, message in enumerate(dialogue[first:], first):
        if message.role == "assistant":
            if message.model != CARE and (start is not None or not said):
                spoken.append(message.content)
                phases.append(phase_of(message))
            continue
        begun = said[0] if said else None
        doctor, phase = (spoken[-1], phases[-1]) if spoken else (None, None)
        want = wants(message.content, begun, doctor, "advising" if "advising" in phases else phase)
        if want == "follow" and "advising" in phases and another(message.content, begun or ""):
            want = "new"
        if start is None or (want == "new" and spoken):
            start, said, spoken, phases = index, [], [], []
            starts.append(index)
        said.append(message.content)
    newest = said[-1] if said else ""
    return Round(start or 0, newest, tuple(spoken), tuple(phases), tuple(said), want, tuple(starts))


@lru_cache(maxsize=1024)
def another(text: str, opening: str) -> bool:
    """Whether news after the advice tells of another complaint than the round's opening: one calf has swollen, the report is
    there. What the advised medicine did, and what settles a danger, belongs to the round."""
    if asks(text) or triage.settled(text) or _re("took").search(text):
        return False
    found, begun = (recogniser().shares(one) for one in (text, opening))
    name = max(found, key=found.__getitem__)
    own = max(begun, key=begun.__getitem__)
    return name not in (GENERIC, NONE) and found[name] >= ANOTHER and found[own] < STILL


@lru_cache(maxsize=1024)
def wants(text: str, opening: str | None, doctor: str | None, phase: Phase | None) -> str:
    """The intent of a message in its place; nothing in it reads as an answer."""
    if not re.search(r"\w", text):
        return "answer" if doctor else "opening"
    found = understanding.intent(text, opening, doctor, phase)
    best, other = list(found)[:2]
    heavy = HEAVY.get("changes" if best == "new" and phase != "advising" else best, 0.0)
    if found[best] - found[other] < heavy:
        best = other
    if best == "new" and phase == "advising" and (_re("supposes").match(text) or _re("takes").search(text)):
        best = "follow"
    if best == "question" and phase == "asking" and len(text) <= WORD and not asks(text):
        best = "answer"
    if best in ("new", "follow", "answer") and doctor is None:  # nothing has been said that it could follow
        return "opening"
    return best


def phase_of(message: Message) -> Phase:
    """The phase of a doctor turn; a client of the API may have dropped it."""
    if message.phase is not None:
        return message.phase
    greets = len(message.content) <= 40 and _re("greeting").search(message.content)
    return "asking" if greets or asks(message.content) else "advising"


def also(text: str) -> str:
    """What leads over from an answer to the next question, in the visitor's language."""
    return triage.in_language(asset("handoff")["also"], triage.language(text))


def closing(text: str) -> str:
    """The last words to a visitor who does not want to go on."""
    return triage.in_language(asset("handoff")["closing"], triage.language(text))


def question_of(candidate: str) -> str:
    """What of a candidate is put behind an answer: from its first question on."""
    found = sentences(candidate)
    first = next((place for place, sentence in enumerate(found) if asks(sentence)), 0)
    return "".join(found[first:])

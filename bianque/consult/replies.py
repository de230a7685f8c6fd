"""What a model writes is checked before it is shown: a sentence that could harm is held back, with a word why.

Doses for children, orders to stop a medicine, promises, prescription drugs with how to take them; and in a dialogue that
has had a notice, whatever plays the danger down. The patterns are in assets/replies.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import regex

from bianque.consult import alarms, triage
from bianque.consult.patterns import asset
from bianque.consult.questions import asks, plain, wonders
from bianque.types import Message

WAITING = 10  # messages after the danger in which help may still be waited for
WORTH_ANSWERING = 6  # characters beside "it is taken care of"
BEFORE = 100  # characters of what has been shown that are kept, for what a pattern looks back at
ALWAYS = ("child_dose", "stop_medicine", "promise", "prescription")
_SENTENCE = re.compile(r"[^。！？!?\n]*(?:[。！？!?\n]+|$)")
_ENGLISH = re.compile(r"(?<=[.!?])\s")


@cache
def _pattern(kind: str) -> regex.Pattern[str]:
    """Of `regex`, which also tells where a match may have begun that is not complete yet."""
    return regex.compile(asset("replies")[kind]["pattern"])


def flaw(sentence: str, endangered: bool = False) -> str | None:
    """Why a sentence of a reply is held back: child_dose, stop_medicine, promise, prescription, played_down."""
    text = plain(sentence)
    return next((kind for kind in kinds(endangered) if _pattern(kind).search(text)), None)


def kinds(endangered: bool) -> tuple[str, ...]:
    return (*ALWAYS, "played_down") if endangered else ALWAYS


def endangered(dialogue: Sequence[Message]) -> bool:
    """Whether a visitor's message of the dialogue got a notice."""
    return any(found.level for found in alarms.after(told_by(dialogue)).judged)


def told_by(dialogue: Sequence[Message]) -> list[str]:
    """The visitor's messages."""
    return [turn.content for turn in dialogue if turn.role == "user"]


def care(dialogue: Sequence[Message]) -> str | None:
    """The words in place of a model's reply, while a sure danger is neither taken care of nor withdrawn.

    What people ask while they wait for help is answered, also once they have said that it is on its way.
    """
    said = told_by(dialogue)
    newest, now, lang = said[-1], alarms.after(said), triage.language(said[-1])
    beyond = triage.beyond_settling(newest)
    asking = asks(beyond)
    if (
        now.waiting
        and (asking or not now.done)
        and 0 < now.ago <= WAITING
        and (answer := triage.while_waiting(now.waiting, beyond if now.done else newest, now.handled and asking))
    ):
        return answer
    if now.there and wonders(beyond) and not now.open and now.ago <= WAITING:
        return triage.in_hospital(beyond)
    if now.doubted and now.ago <= WAITING and (answer := triage.going(now.doubted, beyond)):
        return answer
    if now.done == "coming" and now.waiting and len(beyond) < WORTH_ANSWERING:
        return triage.until_help(now.waiting, newest)
    if now.done and len(beyond) < WORTH_ANSWERING:
        return triage.resumed(lang, "misheard" if now.misheard else "resumed_doubted" if now.doubted else "resumed")
    if now.open is None:
        return None
    return triage.calm(now.open, lang, again=now.ago > 0)


def reminder(dialogue: Sequence[Message]) -> str | None:
    """What an advice ends with, once, in a dialogue whose emergency was said to be taken care of, or to be none."""
    said = told_by(dialogue)
    now = alarms.after(said)
    if not (now.handled or now.doubted) or now.open:
        return None
    words = asset("notices")["reminder" if now.handled else "reminder_doubted"]
    words = triage.in_language(words, triage.language(said[-1]))
    return None if any(words in turn.content for turn in dialogue if turn.role == "assistant") else words


class Sieve:
    """Passes a reply on as it is written, but for words that could still become harmful: those wait for their sentence.

    A reason is given once a reply for each kind.
    """

    def __init__(self, lang: str, endangered: bool) -> None:
        self.lang, self.endangered = lang, endangered
        self.waiting, self.passed = "", 0  # the sentence under way, and how much of it has been shown
        self.told: set[str] = set()

    def feed(self, text: str, ended: bool = False) -> str:
        """What can be shown now."""
        self.waiting += text
        shown = ""
        while found := self._whole(ended):
            shown += self._seen(found)
            self.waiting, self.passed = self.waiting[len(found) :], 0
        if (free := self._free()) > self.passed:
            shown += self.waiting[self.passed : free]
            self.passed = free
        if self.passed > 4 * BEFORE:  # a sentence without an end
            self.waiting, self.passed = self.waiting[self.passed - BEFORE :], BEFORE
        return shown

    def _free(self) -> int:
        """How many characters of the sentence under way belong to nothing harmful, however it goes on."""
        text = plain(self.waiting)
        found = (_pattern(kind).search(text, self.passed, partial=True) for kind in kinds(self.endangered))
        return min((match.start() for match in found if match), default=len(text))

    def _whole(self, ended: bool) -> str:
        """The first whole sentence that waits, "" if there is none."""
        found = _SENTENCE.match(self.waiting)
        sentence = found[0] if found else ""
        if english := _ENGLISH.search(sentence):
            sentence = sentence[: english.end()]
        complete = len(sentence) < len(self.waiting) or ended or bool(re.search(r"[。！？!?\n]$", sentence))
        return sentence if complete else ""

    def _seen(self, sentence: str) -> str:
        kind = flaw(sentence, self.endangered)
        if kind is None:
            return sentence[self.passed :]
        end = "\n" if sentence.endswith("\n") else ""
        if kind in self.told:
            return end
        self.told.add(kind)
        return triage.in_language(asset("replies")[kind]["why"], self.lang) + end

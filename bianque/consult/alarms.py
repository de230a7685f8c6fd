"""What the danger of a dialogue has come to, message by message: it is told, doubted, waited for, over.

One fold tells what each message amounts to (`judged`, and `check` in words) and what is open after the newest (`after`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bianque.consult import triage
from bianque.consult.patterns import pattern
from bianque.consult.questions import asks
from bianque.consult.triage import Danger, DangerNotice, Settled, judge, together

REMEMBERED = 20  # newest messages of the visitor in which a danger is still open
TOGETHER = (3, 5)  # newest messages that are read as one, too: facts of danger are told one by one, others among them
ADDED_UP = 0.3  # score at which messages read as one are surely an emergency
AGAIN, ALSO = -0.3, -0.7  # score that alarms anew after "it is no emergency"; the same of what is told as one more sign
MOST_CLAUSES = 8  # of such a message that are judged apart, too


@dataclass(slots=True)
class Alarm:
    """The sure dangers of a dialogue after the visitor's newest message."""

    open: Danger | None = None  # neither taken care of nor withdrawn
    waiting: Danger | None = None  # an emergency for which help may still be under way
    doubted: Danger | None = None  # it was none, as the visitor said
    handled: bool = False  # an emergency is taken care of, or will be, as the visitor said
    misheard: bool = False  # a crisis was withdrawn
    there: bool = False  # the patient of an emergency is in hospital
    done: Settled | None = None  # what the newest message says of it
    told: int = 0  # which of the messages told of a danger last
    since: int = 0  # of those before, none counts any more as a part of a danger
    judged: list[Danger] = field(default_factory=list)  # what each message told, alone or with those before it

    @property
    def ago(self) -> int:
        """How many messages came after the one that told of a danger last."""
        return len(self.judged) - 1 - self.told

    def hear(self, said: Sequence[str]) -> None:
        """Read on: the last of the visitor's messages is new."""
        text, place = said[-1], len(said) - 1
        done = triage.settled(text, self.open or self.doubted)
        found = self._told(said, done)
        sure = found.certainty == "sure"
        self.there = bool((self.there or done in ("over", "handled")) and _stays(text, self.there))
        if sure and (done == "doubted" or (done == "denied" and beside(text).certainty == "sure")):
            done = None  # in the next clause it was meant, or told
        alarming = sure and not (done and self.open)
        found = self._whose(found, text) if alarming else found
        self.judged.append(found)
        if alarming:
            self.open, self.doubted, self.done = found, None, None
            self.waiting, self.told = (found if found.level == "emergency" else None), place
        elif done == "coming" and self.doubted and not self.open:  # who doubted it has called after all
            self.waiting, self.doubted, self.handled, self.done = self.doubted, None, True, done
        elif done and self._ends(done):
            self.misheard = self.open is not None and self.open.level == "crisis"
            self.handled = done in ("coming", "handled")
            self.doubted = (self.open or self.waiting) if done == "doubted" else None
            self.open, self.waiting, self.done = None, self.waiting if done == "coming" else None, done
        else:
            self.done = None
            self.doubted = self.doubted if done in (None, "doubted", "eased") else None
        self.since = place + 1 if sure or done else self.since

    def _whose(self, found: Danger, text: str) -> Danger:
        """A crisis stays one's own once it was, unless somebody else's is told in plain words: 室友在隔壁 tells of none."""
        before = self.open
        if before is None or not before.level == found.level == "crisis" or triage.group_of(before) != "self":
            return found
        near = pattern("people", "near").search(text)
        return found if near else replace(found, kind=before.kind, piece=before.piece)

    def _ends(self, done: Settled) -> bool:
        """Whether there is something to settle, which a crisis is only by its being denied."""
        if self.open is None:
            return self.waiting is not None
        return self.open.level == "emergency" or done == "denied"

    def _told(self, said: Sequence[str], done: Settled | None) -> Danger:
        """What danger the new message tells.

        Navel pain, that it has moved to the right, that every step hurts: none of it alarms, all of it does. What was
        said before a sure danger or before the visitor settled one counts no more; but that it is no emergency, who has
        one says as often as who has none, so after that what was told still counts, and less is needed to alarm again.
        """
        text, place = said[-1], len(said) - 1
        told, before = judge(text), self.open or self.doubted
        if done == "doubted" and before and before.level == "emergency":
            return _doubting(text, before)
        if told.certainty != "sure" and self.doubted and not done and _adds(text, told):
            return _again(told, self.doubted)
        if told.certainty != "sure" and self.since < place and not done:
            own = lambda i: "" if i and triage.of_others(said[i], said[0]) else said[i]
            begins = {max(self.since, place + 1 - count) for count in TOGETHER}
            wholes = {together([own(i) for i in range(begin, place + 1)]) for begin in begins}
            whole = max(map(judge, sorted(wholes)), key=lambda one: one.score)
            if whole.certainty == "sure" or (whole.level == "emergency" and whole.score > ADDED_UP):
                return replace(whole, certainty="sure", together=True)
        elif told.level == "emergency" and not told.kind and place:  # the pregnancy was told before
            return replace(told, kind=judge(together(said[max(0, place + 1 - max(TOGETHER)) :])).kind)
        return told


def _stays(text: str, there: bool) -> bool:
    """Whether a message tells that the patient is in hospital, or nothing against it."""
    left, come = pattern("notices", "left").search(text), pattern("notices", "hospital").search(text)
    return not left and (there or come is not None)


def followed(said: Sequence[str]) -> Alarm:
    now = Alarm()
    for count in range(len(said)):
        now.hear(said[: count + 1])
    return now


def after(said: Sequence[str]) -> Alarm:
    """What the visitor's messages, the newest REMEMBERED of them, make of it."""
    return followed(said[-REMEMBERED:])


def judged(said: Sequence[str]) -> list[Danger]:
    """What danger each of a visitor's messages tells, alone or together with those before it."""
    return followed(said).judged


def check(text: str, earlier: Sequence[str] = ()) -> DangerNotice | None:
    """What the visitor is told about a message after their earlier ones, None where no danger shows."""
    *before, found = after([*earlier, text]).judged
    doubtful = found.level == "crisis" and found.certainty == "likely"
    if doubtful and any((one.level, one.certainty) == ("emergency", "sure") for one in before[-max(TOGETHER) :]):
        return None  # 家里就我一个人 while help is called for says where the patient is, not how they feel
    return triage.notice(found, triage.language(text)) if found.level else None


def beside(text: str) -> Danger:
    """What danger a message tells besides that one is settled."""
    return judge(triage.beyond_settling(text))


def _doubting(text: str, open_: Danger) -> Danger:
    """What a message tells that says of an open emergency that it is none: a new sign, or that it may yet be one."""
    told = beside(text)
    if told.level == "crisis":
        return told
    adds = _adds(triage.beyond_settling(text), told)
    return _again(told, open_) if adds else replace(open_, certainty="likely", nearest=())


def _adds(text: str, told: Danger) -> bool:
    """Whether a message adds to an emergency that was told before what alone would be none; what it asks is no sign."""
    if told.level:
        return told.level == "emergency"
    told_in = [clause for clause in triage.clauses(text) if not asks(clause)][:MOST_CLAUSES]
    also, relief = pattern("notices", "also").search, pattern("notices", "relief").search
    adds = lambda part: judge(part).score > (ALSO if also(part) else AGAIN) and not relief(part)
    return any(map(adds, dict.fromkeys(("，".join(told_in), *told_in))))


def _again(told: Danger, doubted: Danger) -> Danger:
    """A sign that alone may be none, told after an emergency that was doubted."""
    return replace(told, level="emergency", certainty="sure", kind=told.kind or doubted.kind, together=True)

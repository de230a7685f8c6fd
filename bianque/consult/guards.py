"""What a preview model may not say: checked against the dialogue and the knowledge base before it is shown.

A small model trained on the knowledge base speaks well and mixes things up. What the knowledge base recognises is put
right here: a question of another complaint, one that was asked or answered already, an advice on something else, a fact
that nobody told, a danger sign passed over, a drug, a dose or a place out of nowhere. `guarded` draws again, and puts the
knowledge base's own words in place.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Literal

from bianque.consult.heard import Heard
from bianque.consult.hearing import Hearing, hearing
from bianque.consult.known_questions import KnownQuestions, NearestFollow, Offer
from bianque.consult.naming import ways
from bianque.consult.patterns import pattern, table
from bianque.consult.text import grams
from bianque.data.advice import advice, referral
from bianque.data.knowledge import Follow, Rule, first, sentence, texts
from bianque.once import once

Flaw = Literal["repeat", "said", "foreign"]
SHORTEST, SHORT = 20, 40  # characters of an advice: drawn again below, completed below
ENOUGH = 5  # questions, fewer of which are too few to close on
ANSWERED = 0.7  # share of a reply that is the knowledge base's answer to the question: a smaller one let nonsense pass
WHOLE = 2  # sentences of the complaint's own from which an advice needs no more
SOME_ADVICE, MOST_ADVICE = 2, 4  # sentences of advice that the knowledge base adds
SENTENCE = re.compile(r"[^。！？?!\n]*(?:[。！？?!]+|\n+|$)")
HURRY = re.compile(r"急诊|120|110|12356|立即|立刻|马上|尽快去医院")
PRESSING = re.compile(r"120|110|12356|不想活|自杀|轻生")
SUMMARY = re.compile(r"^([^：]{2,20}：)([^。：]+)(。)$")
NUMBERED = re.compile(r"^(\d{1,2})(\.\s*)")


class Guard:
    """What may be said, given what was heard."""

    def __init__(self, hears: Hearing) -> None:
        self.hears, self.knowledge = hears, hears.knowledge
        self.common = self.knowledge.common
        self.close = self.common.close[0]
        self.hello = sorted(self.common.hello, key=len, reverse=True)
        generic = self.knowledge.generic
        self.naming, self.questions = ways(generic.named), KnownQuestions(hears)
        self.text = "\n".join(texts([self.knowledge.entries, self.common]))
        pressing = {*self.common.again, *self.common.first_aid, *self.common.until_help}
        self.everyday = "\n".join(text for text in texts(self.common) if text not in pressing)

    def flaw(self, candidate: str, heard: Heard) -> Flaw | None:
        """Why a question is not asked: it was, the patient has said it, it belongs to another complaint or is the patient's."""
        if pattern("guards", "as_patient").search(candidate):
            return "foreign"
        if heard.entry is None:
            return None
        found = self.hears.slots(candidate)
        own = {key: alike for (name, key), alike in found.items() if name == heard.entry.id}
        if not own:
            return "foreign"
        key = max(own, key=own.__getitem__)
        return "repeat" if key in heard.asked else "said" if key in heard.told else None

    def rightly_named(self, question: str, told: str) -> str:
        """The question without a complaint that the visitor never named, as `您提到…，`."""
        for naming in self.naming:
            if (match := naming.match(question)) and match[1] not in told:
                return question[match.end() :] or question
        head, mark, rest = question.rpartition("，") if "，" in question else ("", "", question)
        for size in range(min(18, len(rest) - 2), 3, -1):
            if rest[:size] in self.hears.naming.rare and rest[:size] not in told:
                return f"{head}{mark}这种情况{rest[size:]}"
        return question

    def ungreeted(self, question: str) -> str:
        """The question without a greeting, which has its place at the beginning."""
        hello = next((hello for hello in self.hello if question.startswith(hello)), "")
        return question[len(hello) :] or question

    def names(self, question: str, heard: Heard) -> bool:
        """Whether a first question on a complaint without an entry names it."""
        named = heard.entry is not None and heard.entry.general and heard.x and not heard.begun
        return not named or heard.x in question

    def early(self, heard: Heard) -> bool:
        """Whether there is more to ask before anybody could advise."""
        return bool(heard.open) and len(heard.asked) < ENOUGH

    def danger(self, heard: Heard) -> str | None:
        """What the knowledge base says to the danger signs that were told: the most pressing of them, two at most."""
        says = [max(rule.say, key=len) for rule in self.pressing(heard)][:2]
        text = "".join(map(sentence, says)).replace("{x}", heard.x)
        if text and len(text) < SHORT:
            text += random.Random(text).choice(self.common.until_help)
        return text or None

    def pressing(self, heard: Heard) -> list[Rule]:
        """The rules for the danger signs that were told, the most pressing first."""
        rules = [rule for rule in heard.entry.urgent if rule.holds(heard.known)] if heard.entry else []
        return sorted(rules, key=lambda rule: not PRESSING.search(max(rule.say, key=len)))

    def supported(self, fact: str, heard: Heard) -> bool:
        """Whether a fact that an advice sums up was told; what the knowledge base does not know was made up."""
        entry = heard.entry
        if entry is None or fact == heard.x:
            return entry is not None
        stated = [(slot.key, label) for slot in entry.slots for label, v in slot.values.items() if v.fact == fact]
        return any(heard.told.get(key) == label for key, label in stated)

    def unheard(self, text: str, told: str) -> bool:
        """Whether the text holds a drug, a dose or a place that neither the visitor nor the knowledge base said."""
        found = (match[0] for names in table("guards", "names").values() for match in names.finditer(text))
        return any(name not in told and name not in self.text for name in found)

    def sentence(self, text: str, heard: Heard, told: str, stood_in: list[Rule]) -> str:
        """What of a sentence may be shown, or what stands in for it, once; empty if nothing."""
        newest = told.rpartition("\n")[2]
        if self.unheard(text, told) or ("人工智能" in text and not pattern("guards", "who").search(newest)):
            return ""
        if summary := SUMMARY.match(text.strip()):
            facts = summary[2].split("、")
            kept = [fact for fact in dict.fromkeys(facts) if self.supported(fact, heard)]
            if len(kept) < len(facts):
                return f"{summary[1]}{'、'.join(kept)}{summary[3]}" if kept else ""
            return text
        if heard.entry is None:
            return text
        source, foreign = self.hears.source(text, heard)
        if foreign or (not source and text.strip("。！：\n ") not in self.everyday):
            return ""  # another complaint's, or made up
        if not source or not isinstance(source.part, Rule):
            return text
        for first_counts in (heard.entry.assess, heard.entry.doctor):  # of these the first that holds is said
            if source.part in first_counts:
                right = first(first_counts, heard.known)
                if source.part is right or right in stood_in:
                    return text if source.part is right else ""
                stood_in.append(right)
                return sentence(right.say[len(text) % len(right.say)]).replace("{x}", heard.x or "这种情况")
        return text if source.part.holds(heard.known) else ""

    def completed(self, shown: str, heard: Heard) -> str:
        """What an advice still lacks, in the knowledge base's words: a judgement, what to do, when to see a doctor."""
        entry = heard.entry
        if entry is None:
            return ""
        r = random.Random(shown)
        department, x = entry.department, heard.x or "这种情况"
        if len(shown) < SHORTEST:
            return advice(r, entry, self.common, heard.known, x, department)
        own = [self.hears.source(match[0], heard)[0] for match in SENTENCE.finditer(shown) if match[0].strip()]
        said = [found.part for found in own if found]
        if len(said) >= WHOLE and len(shown) >= SHORT:
            return ""
        added = ""
        if not any(rule in said for rule in entry.assess):
            added += sentence(r.choice(first(entry.assess, heard.known).say))
        rules = [rule for rule in entry.advice if rule.holds(heard.known) and rule not in said]
        lacking = max(0, MOST_ADVICE - 1 - sum(rule in said for rule in entry.advice))
        added += "".join(sentence(r.choice(rule.say)) for rule in rules[:lacking])
        if not any(rule in said for rule in entry.doctor):
            added += referral(r, entry, heard.known, department)
        return added.replace("{x}", x)

    def still(self, heard: Heard, spoken: str) -> str:
        """What there is to say to news after the advice, if it was not said yet: what to do in this very case, when to see a
        doctor; where a danger sign was told, what that asks for."""
        entry = heard.entry
        if entry is None:
            return ""
        if pressing := self.pressing(heard):
            says = [say for rule in pressing for say in rule.say]
            said = next((say for say in says if say.rstrip("。") not in spoken), says[-1])
        else:
            rules = [rule for rule in entry.advice if rule.when and rule.holds(heard.known)]
            rules.append(doctor := first(entry.doctor, heard.known))
            rules += [rule for rule in entry.advice if not rule.when]
            new = next((rule for rule in rules if not any(say.rstrip("。") in spoken for say in rule.say)), doctor)
            said = new.say[0]
        return sentence(said).replace("{x}", heard.x or "这种情况")

    def follow_up(self, reply: str, asked: Sequence[Follow], heard: Heard, spoken: str = "", newest: str = "") -> str:
        """The reply, or the knowledge base's answers, a paragraph each, where the reply is not one; behind it what a danger
        sign that was told asks for. Where one can be given in words that were not `spoken` yet it is, in those that say
        most of what the `newest` message asks."""
        fours = grams(reply, 4)
        answered = fours and any(len(fours & grams(say, 4)) >= ANSWERED * len(fours) for say in asked[0].say)
        if heard.entry is None:
            return reply
        r = random.Random(reply)
        model = answered and len(asked) == 1 and not isinstance(asked[0], NearestFollow)
        said = [reply] if model else [self.phrased(one, heard, r, spoken, newest) for one in asked]
        answers = [one.say != self.common.unanswered and not isinstance(one, Offer) for one in asked]
        told = [text for text, answer in zip(said, answers, strict=True) if answer]
        if (pressing := self.pressing(heard)) and not any(map(cares, told)):
            said.append(sentence(min(pressing[0].say, key=len)).replace("{x}", heard.x))
        return "\n\n".join(said)

    def phrased(self, one: Follow, heard: Heard, r: random.Random, spoken: str, newest: str = "") -> str:
        """An answer in one of its wordings, that which holds most of what is particular in the question; that there is none,
        a second time, in others that say what is known."""
        says = one.say
        if says == self.common.unanswered and any(say.partition("{")[0] in spoken for say in says):
            says = self.common.unanswered_again
        leads = (
            [lead.replace("{about}", one.about) for lead in self.common.nearest]
            if isinstance(one, NearestFollow)
            else ["{say}"]
        )
        pairs, covered = grams(newest), self.questions.follows.covered
        fits = sorted(r.sample(says, len(says)), key=lambda say: covered(pairs, grams(say)), reverse=True)
        found = [self.filled(r.choice(leads).replace("{say}", say), heard, r) for say in fits]
        return next((text for text in found if text not in spoken), found[0])

    def filled(self, said: str, heard: Heard, r: random.Random) -> str:
        """An answer with what it takes from the complaint's rules."""
        entry, known = heard.entry, heard.known
        assert entry is not None
        if "{assess}" in said:
            said = said.replace("{assess}", sentence(r.choice(first(entry.assess, known).say)))
        if "{doctor}" in said:
            rule = next(iter(self.pressing(heard)), None) or first(entry.doctor, known)
            said = said.replace("{doctor}", sentence(r.choice(rule.say)))
        if "{advice}" in said:
            rules = sorted((rule for rule in entry.advice if rule.holds(known)), key=lambda rule: not rule.when)
            said = said.replace("{advice}", "".join(sentence(r.choice(rule.say)) for rule in rules[:SOME_ADVICE]))
        return said.replace("{department}", entry.department).replace("{x}", heard.x or "这种情况")


class Filter:
    """Lets a reply through sentence by sentence, as far as the guard allows; list items are numbered anew."""

    def __init__(self, guard: Guard, heard: Heard, told: str) -> None:
        self.guard, self.heard, self.told = guard, heard, told
        self.waiting, self.dropped, self.gap = "", 0, False
        self.stood_in: list[Rule] = []
        self.said: set[str] = set()

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
        text = body[number.end() :] if number else body
        kept = self.guard.sentence(text, self.heard, self.told, self.stood_in) if body and text not in self.said else ""
        self.said.add(kept)
        self.gap = bool(body) and not kept
        if self.gap:
            self.dropped += number is not None
            return ""
        if number:
            kept = f"{int(number[1]) - self.dropped}{number[2]}{kept}"
        return kept + whole[len(body) :]


@once
def guard() -> Guard:
    """The guard over the bundled knowledge base."""
    return Guard(hearing())


def cares(reply: str) -> bool:
    """Whether a reply sends the patient to help."""
    return HURRY.search(reply) is not None

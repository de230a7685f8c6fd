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

from bianque.consult import follows
from bianque.consult.encoder import cosines, nearness
from bianque.consult.heard import Heard
from bianque.consult.hearing import Hearing, hearing
from bianque.consult.naming import unafraid, ways
from bianque.consult.patterns import pattern, table
from bianque.consult.questions import asks
from bianque.consult.text import grams
from bianque.data.advice import advice, referral
from bianque.data.knowledge import Complaint, Family, Follow, Medicine, Rule, first, sentence, texts
from bianque.once import once

Flaw = Literal["repeat", "said", "foreign"]
STRAIGHT, NEAREST = (
    0.85,
    0.4,
)  # probability from which an answer is given as one, and with the known question that it answers
SAME = 0.8  # cosine from which a short question is one that anybody asks: of 160 that writers labelled 146 were
SHORTEST, SHORT = 20, 40  # characters of an advice: drawn again below, completed below
WHETHER_TO_GO, WHAT_TO_DO, WHAT_IS_IT = 0, 3, 4  # places among what anybody may ask
BARE = 6  # characters of a clause that asks of what was named before it: 能不能先喝
PLAIN = 12  # characters of a question with a medicine in it that asks for no more than whether to take it
RISKS = ("酒", "孕", "喂奶", "开车")  # of which the cards of medicines speak
GOES_ON = "医生开的药可以停吗"  # the question of asked_of_medicines that answers for any medicine
ENOUGH = 5  # questions, fewer of which are too few to close on
ANSWERED = 0.7  # share of a reply that is the knowledge base's answer to the question: a smaller one let nonsense pass
WHOLE = 2  # sentences of the complaint's own from which an advice needs no more
SOME_ADVICE, MOST_ADVICE = 2, 4  # sentences of advice that the knowledge base adds
SENTENCE = re.compile(r"[^。！？?!\n]*(?:[。！？?!]+|\n+|$)")
HURRY = re.compile(r"急诊|120|110|12356|立即|立刻|马上|尽快去医院")
PRESSING = re.compile(r"120|110|12356|不想活|自杀|轻生")
SUMMARY = re.compile(r"^([^：]{2,20}：)([^。：]+)(。)$")
NUMBERED = re.compile(r"^(\d{1,2})(\.\s*)")


class NearestFollow(Follow):
    """A known question that the visitor's may be, and may not: it is named before its answer."""

    about: str


class Guard:
    """What may be said, given what was heard."""

    def __init__(self, hears: Hearing) -> None:
        self.hears, self.knowledge = hears, hears.knowledge
        self.common = self.knowledge.common
        self.close = self.common.close[0]
        self.hello = sorted(self.common.hello, key=len, reverse=True)
        generic = self.knowledge.generic
        self.naming = ways(generic.named)
        self.medicines = {name: medicine for medicine in self.knowledge.medicines for name in medicine.names}
        self.goes_on = next(one for one in self.common.asked_of_medicines if GOES_ON in one.ask)
        self.text = "\n".join(texts([self.knowledge.entries, self.common]))
        self.follows = follows.Follows(texts(self.knowledge), turn=follows.learned()[1])
        pressing = {*self.common.again, *self.common.first_aid, *self.common.until_help}
        self.everyday = "\n".join(text for text in texts(self.common) if text not in pressing)

    def flaw(self, candidate: str, heard: Heard) -> Flaw | None:
        """Why a question need not be asked: it was, the patient has said it, or it belongs to another complaint."""
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
            rules.append(first(entry.doctor, heard.known))
            new = next((rule for rule in rules if not any(say.rstrip("。") in spoken for say in rule.say)), rules[-1])
            said = new.say[0]
        return sentence(said).replace("{x}", heard.x or "这种情况")

    def answers(self, said: str, heard: Heard, before: str = "", spoken: str = "") -> tuple[Follow, ...]:
        """What the knowledge base answers to a visitor's questions, two at most; that it has no answer, if one is asked at all.

        `before`: what the visitor has told; of two medicines that must not be taken together one may stand there. `spoken`:
        what the doctor has said; that of two medicines is not said again.
        """
        if heard.entry is None:
            return ()
        said = unafraid(said[-follows.LONGEST :])
        asking = follows.asked(said)
        if heard.advised and (protests := pattern("guards", "protests").search)(said):
            rest = [self.known(part, whole, heard.entry) for part, whole in asking if not protests(part)]
            return (Follow(ask=(said,), say=self.common.misheard), *filter(None, rest))[:2]
        in_general = pattern("guards", "in_general").fullmatch
        if not heard.advised and asking and all(in_general(part) for part, _ in asking):
            return ()  # the advice answers it
        if (pair := self.paired([said], before)) and pair.say[0] not in spoken:
            return (pair,)
        each = (self.known(part, whole, heard.entry) for part, whole in asking or [(said, said)])
        # by its wordings: the same one may be sure of one part and doubtful of another
        if found := {one.ask: one for one in filter(None, each)}:
            return tuple(found.values())[:2]
        return (Follow(ask=(said,), say=self.common.unanswered),) if asking or asks(said) else ()

    def paired(self, said: Sequence[str], before: str) -> Follow | None:
        """What is to be said to the first message that asks of two medicines which must not simply be taken together."""
        for text in said:
            if follows.asked(text) or asks(text):
                for pair in self.knowledge.pairs:
                    if pair.told(text, before):
                        return Follow(ask=(text,), say=pair.say)
        return None

    def known(self, question: str, said: str, entry: Complaint) -> Follow | None:
        """The known question, of the complaint or anybody's, that a visitor's is; `said`: the message it stands in."""
        if general := pattern("guards", "in_general").fullmatch(question):
            return self.common.asked[WHAT_IS_IT if general["what"] else WHAT_TO_DO]
        if word_for_word := next((one for one in entry.follow if question in one.ask), None):
            return word_for_word
        best, likely = self.follows(question, entry.follow, said, self.knowledge.asked["common"])
        if isinstance(entry, Family) and likely < STRAIGHT:
            best = None  # of what is only of a kind a doubtful one is most often wrong: 17 of 41
        found, named = best if likely >= follows.learned()[0].sure else None, self.medicine(said)
        if likely < STRAIGHT and pattern("guards", "whether_to_go").search(question):
            return self.common.asked[WHETHER_TO_GO]
        if found in entry.follow and pattern("guards", "what_to_take").search(found.ask[0]):
            if pattern("guards", "goes_on").search(said):
                return self.goes_on
            if named and not named.stands_in(found.ask):
                found = None  # of this very medicine, not of what to take
        if found not in entry.follow:
            found = self.anyones(question, said, found)
        if found is None and likely >= NEAREST:
            found = best
        risk = next((risk for risk in RISKS if risk in said), "")
        if found and named and risk:  # 甲硝唑能吃吗，我昨晚喝了酒
            says = [say for say in (*found.say, *named.say) if risk in say]
            return Follow(ask=found.ask, say=tuple(says[: len(found.say)])) if says else found
        return found if found is not best or found is None else self.named(found, likely, question, named)

    def named(self, found: Follow, likely: float, question: str, medicine: Medicine | None) -> Follow:
        """A known question that it may not be, or not of the medicine that was asked about, with what is to be named."""
        alike = cosines(question, found.ask)
        other = medicine and not medicine.stands_in(texts(found))
        if other or (likely < STRAIGHT and alike.max() < SAME):
            return NearestFollow(ask=found.ask, say=found.say, about=found.ask[int(alike.argmax())])
        return found

    def medicine(self, text: str) -> Medicine | None:
        """The medicine that a text names, of several the one with the longest name."""
        names = [name for name in self.medicines if name in text]
        return self.medicines[max(names, key=len)] if names else None

    def anyones(self, question: str, said: str, found: Follow | None) -> Follow | None:
        """The question that anybody may ask, whatever the complaint, where `found` is none of the complaint's own.

        One that names a medicine and is none of the known ones asks whether to take it, which is answered of that very one.
        """
        text = question if len(question) > BARE else said
        named, whether = self.medicine(text), self.common.asked_of_medicines[0]
        short = len(question) <= PLAIN
        if found is None:
            ruled = ("goes_on", self.goes_on), ("dose", self.common.asked_of_medicines[1])
            found = next((one for name, one in ruled if pattern("guards", name).search(question)), None)
        if found is None and short and (named or table("guards", "names")["drug"].search(text)):
            found = whether
        if found is whether:
            asks_so = pattern("guards", "whether").search(text)
            return None if not asks_so else Follow(ask=whether.ask, say=named.say) if named else whether
        if found is None and short:
            alike, best = max(
                ((nearness(question, one.ask), one) for one in self.common.asked), key=lambda pair: pair[0]
            )
            return best if alike >= SAME else None
        return found

    def follow_up(self, reply: str, asked: Sequence[Follow], heard: Heard, spoken: str = "") -> str:
        """The reply, or the knowledge base's answers, a paragraph each, where the reply is not one; behind it what a danger
        sign that was told asks for. Where one can be given in words that were not `spoken` yet it is."""
        fours = grams(reply, 4)
        answered = fours and any(len(fours & grams(say, 4)) >= ANSWERED * len(fours) for say in asked[0].say)
        if heard.entry is None:
            return reply
        r = random.Random(reply)
        model = answered and len(asked) == 1 and not isinstance(asked[0], NearestFollow)
        said = [reply] if model else [self.phrased(one, heard, r, spoken) for one in asked]
        told = [text for text, one in zip(said, asked, strict=True) if one.say != self.common.unanswered]
        if (pressing := self.pressing(heard)) and not any(map(cares, told)):
            said.append(sentence(min(pressing[0].say, key=len)).replace("{x}", heard.x))
        return "\n\n".join(said)

    def phrased(self, one: Follow, heard: Heard, r: random.Random, spoken: str) -> str:
        """An answer in one of its wordings; that there is none, a second time, in others that say what is known."""
        says = one.say
        if says == self.common.unanswered and any(say.partition("{")[0] in spoken for say in says):
            says = self.common.unanswered_again
        leads = (
            [lead.replace("{about}", one.about) for lead in self.common.nearest]
            if isinstance(one, NearestFollow)
            else ["{say}"]
        )
        found = [self.filled(r.choice(leads).replace("{say}", say), heard, r) for say in r.sample(says, len(says))]
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

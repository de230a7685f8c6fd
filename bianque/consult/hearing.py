"""What the knowledge base recognises in a dialogue: its complaint, what was asked, what was told, whose sentence is whose.

Complaints are recognised by example (`recognise`); questions, answers and sentences by characters they share with the
knowledge base's own, answers also by their sentence vectors.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from bianque.consult import answers, triage
from bianque.consult.choice import Choice
from bianque.consult.encoder import encoded, remembered
from bianque.consult.evidence import SAME_SIGN, SAYS, Evidence, Given, affirmed
from bianque.consult.handoff import CARE
from bianque.consult.heard import Heard
from bianque.consult.measured import measured
from bianque.consult.naming import Naming, to_the_point
from bianque.consult.ngrams import Index
from bianque.consult.patterns import asset, joined, pattern
from bianque.consult.polarity import denies, opposed, polarity
from bianque.consult.recognise import GENERIC, NONE, Recogniser, recogniser
from bianque.consult.text import grams, likeness
from bianque.consult.told import Question, Told, Utterance, questions, told
from bianque.data import speech
from bianque.data.knowledge import Complaint, Follow, Knowledge, Rule, Slot, bundled
from bianque.once import once
from bianque.types import Message

SAME_QUESTION, SAME_OPENING = 0.6, 0.75  # likeness of character pairs; an opening's share of them
WORD_FOR_WORD = 0.9  # share from which an opening is one whatever else is like it
SAME_MEANING = 0.7  # cosine
DOUBTED = 0.3  # probability from which a danger sign may have been told
PLAIN = 4  # characters of an answer that is one wherever it stands
LATER = 1.6  # what an answer must tell more surely than an opening: of 1,911 asides 42 % are heard, 73 % rightly
BESIDES = 0.35  # pairs that a clause nobody asked for shares with an answer: of 900 openings, 86 % of such are right
SURE = 0.5  # probability from which a complaint is taken for recognised: a wrong one harms more than general questions
UNASKED = 0.85  # probability of an answer that nobody asked for: of those below it, in 900 openings, 71 % had been told
BETWEEN = 0.4  # from which it is taken where almost all the rest is one other complaint's: coughing until the ribs hurt
OF_A_KIND = 0.3
"""Share of a kind from which a complaint that is none of the known ones for sure is taken for one of it: of 123 openings by one
who had not read the families' own, 84 % reached it and 73 % of these were right (chosen on these; at .5 54 % and 82 %)."""
SURE_ABROAD = 0.9  # the same in a language in which nothing was learned
# Added to a complaint's probability by a question of its own, by a known opening, by an advice of its own sentences.
ASKED_OF, OPENED_SO, ADVISED_ON = 0.25, 1.0, 0.5
WHOLLY = 0.8  # share of a sentence's fours of characters
OWN, FOREIGN = 0.3, 0.5  # shares of a sentence's fours of characters
NO_CHILD, GROWN = 0.2, 0.02  # what a child's complaint counts where none is spoken of, where it is said to be none
# In departments, that of men also in a name.
WOMEN, MEN = re.compile("^(?:妇|产)(?!.*(?:泌尿|生殖医学))"), re.compile("^(?!.*妇).*(?:男科|男性生殖)")
PREGNANT = re.compile("^产科(?!.*妇)")
RULED_OUT = 0.05  # what a complaint counts that the visitor says it is not
TURNS = 6  # of the visitor, by which the complaint is recognised
FIRST = re.compile(r"[^。！？!?]*")  # sentence, which answers what was asked: 没噎过。就是爱吃辣的，吃完就躺下
NOTHING = re.compile(r"都?没(?:有|得)?(?:啊|呀|的|过|呢)*[，。,.]")


class Sentence(NamedTuple):
    """A sentence of the knowledge base's advice: its complaint, and the rule or follow-up that says it."""

    complaint: str
    part: Rule | Follow


class Hearing:
    """Reads dialogues as the knowledge base would."""

    def __init__(
        self, knowledge: Knowledge, found: Recogniser, told: Told, chooser: tuple[Choice, answers.AnswerTurn]
    ) -> None:
        self.knowledge, self.recogniser, self.generic = knowledge, found, knowledge.generic
        self.told, (self.choice, self.turn) = told, chooser
        self.entries = knowledge.entries
        self.of_children = {name for name, entry in self.entries.items() if {*entry.about} <= {"child", "baby"}}
        self.of_women = {name for name, entry in self.entries.items() if WOMEN.search(entry.department)}
        self.of_men = {name for name, entry in self.entries.items() if MEN.search(entry.department + entry.name)}
        self.of_pregnancy = {name for name, entry in self.entries.items() if PREGNANT.search(entry.department)}
        self.family_of = {
            name: family for family, entry in knowledge.families.items() for name in (*entry.like, family)
        }
        asks = [
            (entry.id, slot.key, text.replace("{x}", ""))
            for entry in self.entries.values()
            for slot in entry.slots
            for text in slot.ask
        ]
        self.questions = [(name, key, len(grams(text))) for name, key, text in asks]
        self.asking = Index([text for _, _, text in asks], 2)
        said: list[tuple[str, Rule | Follow, str]] = []
        for entry in self.entries.values():
            parts: list[Rule | Follow] = [*entry.urgent, *entry.assess, *entry.advice, *entry.doctor, *entry.follow]
            said += [(entry.id, part, text) for part in parts for text in part.say]
        self.sentences = [Sentence(name, part) for name, part, _ in said]
        self.saying = Index([text.replace("{x}", "") for _, _, text in said], 4)
        opens = [(entry.id, opening) for entry in knowledge.complaints.values() for opening in entry.open]
        self.openings = [(name, max(len(grams(opening.say)), 4), opening.has) for name, opening in opens]
        self.opening = Index([opening.say for _, opening in opens], 2)
        self.naming = Naming(knowledge.generic, found)
        first = re.compile("[与和、及或（]")
        self.called = {name: first.split(entry.name)[0] for name, entry in knowledge.complaints.items()}
        self.denies = joined(asset("people")["denies"])

    def hear(self, dialogue: Sequence[Message]) -> Heard:
        """Read a round, which begins with its complaint."""
        asked = [self.slots(m.content) if m.role == "assistant" else {} for m in dialogue]
        said = [m.content for m in dialogue if m.role == "user"]
        wrong, recent = self.corrected(dialogue), said
        if wrong:  # who corrects the doctor opens anew
            later = [m.content for m in dialogue[wrong:] if m.role == "user"]
            recent = [f"{said[0]}，{later[0]}", *later[1:]]
        votes = Counter(self.likely(recent)) if said else Counter[str]()
        nothing = votes.pop(NONE, 0.0)
        worth = self.worth(said)
        for found in asked[wrong:]:
            alike = {name: max(like for (n, _), like in found.items() if n == name) for name, _ in found}
            votes.update({name: ASKED_OF * worth.get(name, 1.0) * like for name, like in alike.items()})
        votes.update(dict.fromkeys(self.advised_on(dialogue[wrong:]), ADVISED_ON))
        shared, _ = self.opening.sharing("\n".join(said[:2]))
        begun = {i: share for i, count in shared.items() if (share := count / self.openings[i][1]) >= SAME_OPENING}
        most = max(votes.values(), default=1.0)
        for i, share in begun.items():  # 精液里有血，吓死我了 is much like 尿里有血，吓死我了
            name = self.openings[i][0]
            as_far = 1.0 if share >= WORD_FOR_WORD or most < SURE else votes[name] / most
            votes.update({name: OPENED_SO * share * as_far})
        x = self.naming(said)
        votes.update({GENERIC: OPENED_SO} if x in self.naming.symptoms else {})  # word for word
        doctor = [m for m in dialogue if m.role == "assistant"]
        heard = Heard(begun=bool(doctor), advised=any(m.phase == "advising" and m.model != CARE for m in doctor))
        votes.update({name: (RULED_OUT - 1) * votes[name] for name in self.ruled_out(said) & votes.keys()})
        best, share = votes.most_common(1)[0] if votes else (GENERIC, 0.0)
        if nothing > share or not said:
            return heard
        sure = SURE if (learnt := triage.language(said[0]).startswith("zh")) else SURE_ABROAD
        two = sum(likely for _, likely in votes.most_common(2))
        if best == GENERIC or (share < sure and not (share >= BETWEEN and two >= sure + BETWEEN)):
            best = self.family(votes) if learnt else GENERIC
        heard.entry = entry = self.entries[best]
        heard.x = x if entry.general else ""
        heard.told |= self.naming.whereabouts(heard.x or said[0], said) if best == GENERIC else {}
        if entry.id not in self.of_women and pattern("people", "no_period").search(said[0]):
            heard.told |= {s.key: None for s in entry.slots if all(map(pattern("people", "period").search, s.ask))}
        for i in sorted(begun, key=begun.__getitem__):
            name, _, has = self.openings[i]
            if name == entry.id and begun[i] >= WORD_FOR_WORD:
                heard.told |= {key: value if isinstance(value, str) else None for key, value in has.items()}
        pending, asking = list[str](), ""
        for message, found in zip(dialogue, asked, strict=True):
            if message.role == "assistant":
                own = {key: alike for (name, key), alike in found.items() if name == entry.id}
                pending = [max(own, key=own.__getitem__)] if own else []
                heard.asked |= set(pending)
                asking = message.content
                continue
            self.answered(heard, entry, message.content, pending, asking)
            pending = []
        man, woman = (pattern("people", who).search("\n".join(said)) for who in ("man", "woman"))
        if facts := man and not woman and heard.known.items():
            heard.told |= {key: None for key, value in facts if "孕" in entry.slot[key].values[value].fact}
        return heard

    def ruled_out(self, said: Sequence[str]) -> set[str]:
        """The complaints that the visitor says it is not: 不是痔疮呀, 痔疮都没得过."""
        text = "，".join(said)
        named = {name: word for name, word in self.called.items() if word in text}
        return {name for name, word in named.items() if re.search(self.denies.replace("NAME", word), text)}

    def corrected(self, dialogue: Sequence[Message]) -> int:
        """Which turn says last that the doctor has taken the complaint for another, 0 if none does."""
        says = pattern("people", "corrects").search
        later = (i for i, turn in enumerate(dialogue) if i and turn.role == "user" and says(turn.content))
        return max(later, default=0)

    def family(self, votes: Mapping[str, float]) -> str:
        """Of which kind a complaint is that is none of the known ones for sure; the generic one where that is not clear either."""
        kinds: dict[str, float] = defaultdict(float)
        for name in filter(self.family_of.__contains__, votes):
            kinds[self.family_of[name]] += votes[name]
        best = max(kinds, key=kinds.__getitem__, default=GENERIC)
        return best if kinds[best] >= OF_A_KIND * sum(kinds.values()) else GENERIC

    def likely(self, said: Sequence[str]) -> dict[str, float]:
        """The probability of each complaint, less for those that are not of whom the visitor speaks."""
        worth = self.worth(said)
        texts = [to_the_point(speech.standard(text)) for text in said[:TURNS]]
        found = {name: worth.get(name, 1.0) * share for name, share in self.recogniser.complaints(texts).items()}
        total = sum(found.values())
        return {name: share / total for name, share in found.items()}

    def worth(self, said: Sequence[str]) -> dict[str, float]:
        """What complaints count: a child's less where nobody speaks of a child, a woman's or man's where the other speaks,
        those of pregnancy where there is none or the child is born."""
        text = "\n".join(said)
        spoken = ("child", "grown", "man", "his", "woman", "not_pregnant", "born")
        child, grown, man, his, woman, not_pregnant, born = (pattern("people", who).search(text) for who in spoken)
        found: dict[str, float] = {}
        for names, worth in (
            (self.of_children, GROWN if grown else 1.0 if child else NO_CHILD),
            (self.of_women, GROWN if man else 1.0),
            (self.of_men, GROWN if woman and not (man or his) else 1.0),
            (self.of_pregnancy, GROWN if not_pregnant or (born and "孕" not in text) else 1.0),
        ):
            found |= {name: worth * found.get(name, 1.0) for name in names if worth < 1}
        return found

    @lru_cache(maxsize=4096)  # noqa: B019 - one Hearing lives as long as the process; a doctor's turn is read at each later one
    def slots(self, text: str) -> Mapping[tuple[str, str], float]:
        """The questions of the knowledge base that a doctor's turn asks: (complaint, slot) → likeness."""
        found: dict[tuple[str, str], float] = {}
        for part in re.findall(r"[^。！？?!]+[？?]", text):
            for said in {part, part.rpartition("，")[2]}:
                shared, size = self.asking.sharing(said)
                for i, count in shared.items():
                    entry, key, own = self.questions[i]
                    alike = 2 * count / (size + own)
                    if alike >= SAME_QUESTION and alike > found.get((entry, key), 0):
                        found[entry, key] = alike
        return found

    def answered(self, heard: Heard, entry: Complaint, text: str, pending: Sequence[str], asking: str = "") -> None:
        """What a patient's turn tells: an answer to what was asked, and whatever stands in it besides."""
        heard.retracts = False
        if not text.strip():
            return
        text = speech.standard(text)
        said, known, evidence = Utterance.of(text, remembered), self.questions_of(entry.id), self.evidence(entry.id)
        for key in pending:
            answer = self.answer(entry.slot[key], text, said, asking, known[key], evidence)
            heard.told[key] = answer or heard.told.get(key)
            self.guess(heard, entry.slot[key], known[key], answer, text)
        text = pattern("people", "supposed").sub("", text)  # 万一烧到38度5怎么办
        said = Utterance.of(text, remembered)
        opens = self.told(said, known, LATER if heard.asked else 0.0)
        for slot in entry.slots:
            if slot.key in pending:
                continue
            number, label = measured(slot, text)
            if label := self.worded(slot, text) or label:
                heard.told[slot.key] = label
            elif number:
                heard.told.setdefault(slot.key, None)
            elif heard.told.get(slot.key) and self.taken_back(heard, slot.key, said, evidence):
                heard.told[slot.key] = self.plain(False, known[slot.key])
                heard.guessed.discard(slot.key)
            elif slot.key not in heard.told and (slot.key in opens or self.besides(slot, said)):
                given = self.given(said, known[slot.key])
                unsure = given.sure < UNASKED if given.answer else evidence.grave(slot.key, given.best)
                if unsure:
                    continue  # a danger sign that may have been told is asked about
                if evidence.suffices(slot.key, given, said, evidence.grave(slot.key, given.answer)):
                    heard.told[slot.key] = given.answer
                    self.guess(heard, slot, known[slot.key], given.answer, text)

    def answer(
        self, slot: Slot, text: str, said: Utterance, asking: str, question: Question, evidence: Evidence
    ) -> str | None:
        """What the words answer to what was asked; a denial in their first sentence outweighs what rambles behind it."""
        end = FIRST.match(text).end()  # type: ignore[union-attr]
        first, behind = (Utterance.of(part, remembered) for part in (text[:end], text[end + 1 :]))
        begins, no = self.given(first, question), self.plain(False, question)
        if begins.best == no and behind.text and self.plainly_grave(slot.key, behind, question, evidence):
            begins = Given(None)  # 没噎过。大便黑得像柏油
        denial = behind.text and answers.negated(first.text) and begins.best == no
        answer = (
            self.worded(slot, text, asked=True)
            or measured(slot, text, asked=True)[1]
            or self.plain(polarity(text, asking), question)
            or evidence.plainly(slot.key, begins, said)
            or (no if denial else None)
            or evidence.plainly(slot.key, self.given(said, question), said)
        )
        if not evidence.grave(slot.key, answer):
            return answer
        if evidence.refuted(slot.key, answer, said.clauses):  # 胸不闷，大便是黑的: not the chest
            rest = Utterance.of("，".join(affirmed(said.clauses)), remembered)
            return self.given(rest, question).answer if self.plainly_grave(slot.key, rest, question, evidence) else no
        return no if denies(text, asking) else answer

    def taken_back(self, heard: Heard, key: str, said: Utterance, evidence: Evidence) -> bool:
        """Whether what was heard in words not known is denied now, a danger sign (我没说不想活啊), or what a protest names (我没跑步啊)."""
        told = heard.told[key]
        never = SAYS.search(said.text) is not None and evidence.grave(key, told)
        protests = [*filter(pattern("guards", "retracts").fullmatch, said.clauses)] if heard.advised else []
        heard.retracts |= (retracts := evidence.denied(key, told, protests))
        return retracts or ((key in heard.guessed or never) and evidence.denied(key, told, said.clauses))

    def guess(self, heard: Heard, slot: Slot, question: Question, answer: str | None, text: str) -> None:
        """Note an answer that was not said in known words, if it can be denied: where there is another that says no."""
        guessed = answer and self.plain(False, question) not in (None, answer) and self.worded(slot, text) != answer
        heard.guessed |= {slot.key} if guessed else set()

    def plainly_grave(self, key: str, said: Utterance, question: Question, evidence: Evidence) -> bool:
        """Whether words tell of a danger sign and are near to how it is told."""
        given = self.given(said, question)
        return given.near >= SAME_SIGN and evidence.grave(key, given.answer)

    def plain(self, yes: bool | None, question: Question) -> str | None:
        """The answer that there is nothing of what was asked; yes is one only where it is the only one left."""
        facts = zip(question.answers, question.facts.texts, strict=True)
        found = [label for label, fact in facts if yes is not None and answers.denied(label, fact) is not yes]
        return found[0] if found and (yes is False or len(found) == 1) else None

    def given(self, said: Utterance, question: Question) -> Given:
        """The answer that the words give in any wording; 没有，就右半边 is none that says more than was asked."""
        features = answers.features(said, question, self.turn)
        known = zip(question.answers.values(), question.facts.texts, strict=True)
        out = opposed(said.text, [(*one.texts, fact) for one, fact in known])
        place, likely = self.choice.best(features, out)
        best = list(question.answers)[place]
        more = NOTHING.match(said.text) and not answers.negated(question.facts.texts[place])
        if more or likely < self.choice.sure:
            return Given(None, best=best if likely >= DOUBTED else None)
        return Given(best, likely, answers.nearness(features[place]), best)

    def worded(self, slot: Slot, text: str, asked: bool = False) -> str | None:
        """The answer that stands in the text word for word and is not denied there; of several the longest.

        A word or two are an answer to what was asked if they are all that was said.
        """
        bare = text.strip("，。！？,.!?~～ \n")
        found = {
            say: label
            for label, value in slot.values.items()
            for say in value.says
            if (asked and say == bare)
            or (len(say) >= PLAIN and answers.stands(say, text) and (asked or not speech.BOUND.match(say)))
        }
        return found[max(found, key=len)] if found else None

    def besides(self, slot: Slot, said: Utterance) -> bool:
        """Whether a clause that nobody asked for is much like an answer: pairs of characters, and the cosine of the two."""
        says = [
            say for value in slot.values.values() for say in value.says if len(say) >= 4 and not speech.BOUND.match(say)
        ]
        clauses = [(clause, pairs) for clause, pairs in zip(said.clauses, said.pairs, strict=True) if len(clause) >= 4]
        pairs = [(likeness(grams(say), own), say, clause) for say in says for clause, own in clauses]
        alike, say, clause = max(pairs, default=(0.0, "", ""))
        return alike >= BESIDES and float(encoded(say) @ encoded(clause)) >= SAME_MEANING

    @cache  # noqa: B019 - one Hearing lives as long as the process
    def evidence(self, name: str) -> Evidence:
        return Evidence(self.entries[name])

    @cache  # noqa: B019 - one Hearing lives as long as the process
    def questions_of(self, name: str) -> dict[str, Question]:
        return questions(self.entries[name])

    def source(self, text: str, heard: Heard) -> tuple[Sentence | None, bool]:
        """The sentence of the complaint's own that a text is from, and whether it is another complaint's instead."""
        shared, fours = self.saying.sharing(text)
        own: tuple[float, Sentence | None] = (0.0, None)
        other = 0.0
        for i, count in shared.items():
            found, share = self.sentences[i], count / fours
            if heard.entry and found.complaint == heard.entry.id:
                own = max(own, (share, found), key=lambda pair: pair[0])
            elif not self.entries[found.complaint].general:
                other = max(other, share)
        return own[1] if own[0] >= OWN else None, other >= FOREIGN and own[0] < OWN

    def advised_on(self, dialogue: Sequence[Message]) -> set[str]:
        """The complaints whose own sentences, and no other's, were said as an advice."""
        found = set[str]()
        for turn in dialogue:
            for text in re.findall(r"[^。！？\n]{8,}", turn.content) if turn.phase == "advising" else ():
                shared, fours = self.saying.sharing(text)
                whose = {self.sentences[i].complaint for i, count in shared.items() if count >= WHOLLY * fours}
                found |= whose if len(whose) == 1 else set()
        return found

    def question(
        self, heard: Heard, r: random.Random, refused: Callable[[str], bool] = lambda ask: False
    ) -> str | None:
        """The knowledge base's own next question that is not refused; None where all is asked."""
        slots = [heard.entry.slot[key] for key in heard.open] if heard.entry else []
        asks = (ask for slot in slots for ask in r.sample(slot.ask, len(slot.ask)))
        ask = next((ask for ask in asks if not refused(ask.replace("{x}", ""))), None)
        return self.led_to(heard, ask, r) if ask else None

    def led_to(self, heard: Heard, ask: str, r: random.Random) -> str:
        """A question with what leads over to it."""
        common, entry = self.knowledge.common, heard.entry
        assert entry is not None
        if entry.general and not heard.begun and heard.x:
            ask = r.choice(self.generic.named) + ask.replace("{x}", "").lstrip("，")
        elif not heard.begun:
            ask = r.choice(common.hello) + ask
        elif r.random() < 0.5:
            ask = r.choice(common.ack) + ask
        return ask.replace("{x}", heard.x or "这种情况")


@once
def hearing() -> Hearing:
    """Over the bundled knowledge base; two seconds to read it, once."""
    return Hearing(bundled(), recogniser(), told(), answers.learned())

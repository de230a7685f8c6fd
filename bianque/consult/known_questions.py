"""Which question of the knowledge base a visitor's is, after the advice or beside an answer, and so what answers it.

The complaint's own questions come first, then what anybody asks, a medicine's card, two that must not be taken together,
and what another complaint's patients ask, if it is plainly about that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from bianque.consult import follows, quick
from bianque.consult.encoder import cosines, nearness
from bianque.consult.heard import Heard
from bianque.consult.hearing import Hearing
from bianque.consult.naming import unafraid
from bianque.consult.patterns import pattern, table
from bianque.consult.questions import asks, wonders
from bianque.consult.text import grams
from bianque.data.knowledge import Complaint, Family, Follow, Medicine, texts

STRAIGHT = 0.85
"""Probability from which an answer is given as one; below it, with the known question that it answers: of those to 1,059
held-back questions 86 % were right from it on, 73 % between .65 and it."""
ABOUT, NOT_ABOUT = 0.6, 0.1
"""Probabilities of a complaint from which a question is about it, and of the one under way below which it is not about that: of
1,059 held-back questions 17 get an answer of another complaint, 16 of them rightly (read by eye)."""
SAME = 0.8  # cosine from which a short question is one that anybody asks: of 160 that writers labelled 146 were
WHETHER_TO_GO, WHAT_TO_DO, WHAT_IS_IT = 0, 3, 4  # places among what anybody may ask
EITHER, OTHER = 0.25, 0.05
"""Probabilities from which the likeliest question and the next are offered where none is surely it: of 169 such held-back
questions one of the two was right for 92, and for 56 there is no answer."""
LATELY = 200  # characters of what the doctor said last, in which an offer is answered by 前一个 or 是
FEWEST, MOST_OF = 4, 0.6
"""Characters of a known wording, and its share of a question, from which the question is that one: 会不会传染室友. Of 71 judged
questions 64 were right."""
TOLD = 4  # characters of news before a question in general, from which it may be a known one itself
BARE = 6  # characters of a clause that asks of what was named before it: 能不能先喝
PLAIN = 12  # characters of a question with a medicine in it that asks for no more than whether to take it
GOES_ON = "医生开的药可以停吗"  # the question of asked_of_medicines that answers for any medicine


class NearestFollow(Follow):
    """A known question that the visitor's may be, and may not: it is named before its answer."""

    about: str


class Offer(Follow):
    """What asks which known question the visitor's is: it is answered by none yet."""


class KnownQuestions:
    """Those of the knowledge base that a round is read by."""

    def __init__(self, hears: Hearing) -> None:
        self.hears, self.knowledge = hears, hears.knowledge
        self.common = self.knowledge.common
        self.medicines = {name: medicine for medicine in self.knowledge.medicines for name in medicine.names}
        self.goes_on = next(one for one in self.common.asked_of_medicines if GOES_ON in one.ask)
        self.follows = follows.Follows(texts(self.knowledge), turn=follows.learned()[1])

    def answers(self, said: str, heard: Heard, before: str = "", spoken: str = "") -> tuple[Follow, ...]:
        """What the knowledge base answers to a visitor's questions, two at most; that it has no answer, if one is asked at all.

        `before`: what the visitor has told; of two medicines that must not be taken together one may stand there. `spoken`:
        what the doctor has said; that of two medicines is not said again.
        """
        if heard.entry is None:
            return ()
        said = quick.taken(said, spoken[-LATELY:]) or unafraid(said[-follows.LONGEST :])
        asking = follows.asked(said)
        protests = pattern("guards", "protests").search
        if heard.advised and (heard.retracts or protests(said)):
            rest = [self.known(part, whole, heard.entry) for part, whole in asking if not protests(part)]
            return (Follow(ask=(said,), say=self.common.misheard), *filter(None, rest))[:2]
        in_general = pattern("guards", "in_general").fullmatch
        if not heard.advised and asking and all(in_general(part) for part, _ in asking):
            return ()  # the advice answers it
        if (pair := self.paired([said], before)) and pair.say[0] not in spoken:
            return (pair,)
        entry = for_whom(heard.entry, f"{before}\n{said}")
        each = (self.known(part, whole, entry) for part, whole in asking or [(said, said)])
        # by its wordings: the same one may be sure of one part and doubtful of another
        asked = asking or wonders(said)
        if found := {one.ask: one for one in each if one and (asked or not isinstance(one, NearestFollow))}:
            return tuple(found.values())[:2]
        if not (asking or asks(said)):
            return ()
        offered = self.either(*(asking or [(said, said)])[0], entry, spoken) if heard.advised else None
        return (offered or Follow(ask=(said,), say=self.common.unanswered),)

    def either(self, question: str, said: str, entry: Complaint, spoken: str) -> Offer | None:
        """What asks which of the two likeliest known questions it is, of one where there is no other; none was offered yet."""
        best = self.follows.likeliest(question, entry.follow, said, self.knowledge.asked["common"])[:2]
        if not best or best[0][1] < EITHER:
            return None
        wordings = [one.ask[int(cosines(question, one.ask).argmax())] for one, likely in best if likely >= OTHER]
        if any(f"“{wording}”" in spoken for wording in wordings):
            return None
        says = self.common.either if len(wordings) > 1 else self.common.only
        return Offer(ask=(question,), say=tuple(say.format(*wordings) for say in says))

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
        rest = said.replace(question, "").strip("，。 ")
        if general := pattern("guards", "in_general").fullmatch(question):
            if risky := self.at_risk(said, ()):
                return Follow(ask=(question,), say=risky)
            return self.told(rest, question, entry) or self.common.asked[WHAT_IS_IT if general["what"] else WHAT_TO_DO]
        if pattern("guards", "bare").fullmatch(question) and (told := self.told(rest, question, entry, alone=False)):
            return told
        within = [(len(ask), one) for one in entry.follow for ask in one.ask if ask in question]
        longest, word_for_word = max(within, key=lambda pair: pair[0], default=(0, None))
        if longest == len(question) or (longest >= FEWEST and longest >= MOST_OF * len(question)):
            return word_for_word
        best, likely = self.follows(question, entry.follow, said, self.knowledge.asked["common"])
        if likely < STRAIGHT and (found := self.elsewhere(question, said, entry)):
            return found
        if isinstance(entry, Family) and likely < STRAIGHT:
            best = None  # of what is only of a kind a doubtful one is most often wrong: 17 of 41
        found, named = best if likely >= follows.learned()[0].sure else None, self.medicine(said)
        if likely < STRAIGHT and pattern("guards", "whether_to_go").search(question):
            return self.common.asked[WHETHER_TO_GO]
        if likely < STRAIGHT and pattern("guards", "goes_on").search(question):
            return self.goes_on
        if found in entry.follow and pattern("guards", "what_to_take").search(found.ask[0]):
            if pattern("guards", "goes_on").search(said):
                return self.goes_on
            if named and not named.stands_in(found.ask):
                found = None  # of this very medicine, not of what to take
        if found not in entry.follow:
            found = self.anyones(question, said, found)
        if found is None:
            return None
        if risky := self.at_risk(said, found.say):
            return found.model_copy(update={"say": risky})  # 胃溃疡出过血，止疼药能吃吗
        return found if found is not best else self.named(found, likely, question, named)

    def at_risk(self, said: str, says: Sequence[str]) -> tuple[str, ...]:
        """What of the answers, and of the medicine's that is named, speaks of a risk that the visitor told: 甲硝唑能吃吗，我昨晚喝了酒."""
        risks = [risk for risk, told in table("guards", "risks").items() if told.search(said)]
        named = self.medicine(said)
        found = (say for say in (*says, *(named.say if named else ())) if any(risk in say for risk in risks))
        return tuple(islice(found, len(says) or 1))

    def told(self, news: str, question: str, entry: Complaint, alone: bool = True) -> Follow | None:
        """The known question that news before one in general surely is: 吃了氨氯地平，两个脚脖子肿了 before 咋办; the news
        `alone` may be it, too."""
        if len(news) < TOLD:
            return None
        for text in (news + question, news)[: 1 + alone]:
            best, likely = self.follows(text, entry.follow, text)
            if best and likely >= STRAIGHT and any(grams(news) & grams(ask) for ask in best.ask):
                return best
        return self.elsewhere(news if alone else news + question, news, entry)

    def elsewhere(self, question: str, said: str, entry: Complaint) -> Follow | None:
        """The known question of another complaint, which the visitor's is about: 早搏3200个多不多 after palpitations."""
        found = self.hears.likely([said])
        name = max(found, key=found.__getitem__)
        if name not in self.knowledge.complaints or found[name] < ABOUT or found.get(entry.id, 0.0) >= NOT_ABOUT:
            return None
        other = self.knowledge.complaints[name].follow
        best, likely = self.follows(question, other, said, self.knowledge.asked["common"])
        return best if likely >= STRAIGHT and best in other else None

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
            found = self.goes_on if found is None and named and "停" in question else found  # 艾司唑仑能不能停
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


def for_whom(entry: Complaint, told: str) -> Complaint:
    """The complaint without the known questions that are asked of a child or a mother alone, where nobody told of one."""
    child = {*entry.about} & {"child", "baby"} or pattern("people", "child").search(told)
    mother = "pregnant" in entry.about or pattern("people", "of_a_mother").search(told)
    nobody = [name for name, is_one in (("of_a_child", child), ("of_a_mother", mother)) if not is_one]
    others = [pattern("people", name).search for name in nobody]
    kept = tuple(one for one in entry.follow if not any(all(map(search, one.ask)) for search in others))
    return entry if len(kept) == len(entry.follow) else entry.model_copy(update={"follow": kept})

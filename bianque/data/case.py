"""One patient before the doctor: the consultation that is composed, turn by turn."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from bianque.data import speech
from bianque.data.advice import advice
from bianque.data.consultation import CaseTurn
from bianque.data.knowledge import Complaint, Generic, sentence
from bianque.data.script import traditional
from bianque.types import Phase

if TYPE_CHECKING:
    from bianque.data.compose import Composer

BUDGET = 8  # questions before the asking model closes, as many as the page allows it
DOUBTS = ("好的", "知道了", "我再看看吧", "不用去医院吧", "现在好点了", "真的这么严重吗")
# Whose openings name no other adult, or too much.
ADULT_GROUPS = frozenset({"心理", "妇产", "儿科", "报告与用药", "泌尿男科"})


class Case:
    """One patient before the doctor, while the consultation is written."""

    def __init__(self, composer: Composer, r: random.Random, entry: Complaint, before: Sequence[CaseTurn] = ()) -> None:
        self.r, self.entry, self.common = r, entry, composer.knowledge.common
        self.turns: list[CaseTurn] = list(before)
        self.later = bool(before)  # a further complaint of the same visitor
        self.known: dict[str, str] = {}
        self.asked: set[str] = set()
        self.x, self.department = entry.name, entry.department
        self.over = False
        self.pronoun: str | None = None
        self.noise = r.random() < 0.2
        self.script = r.random() < 0.03
        self.state = {slot.key: r.choice(list(slot.values)) for slot in entry.slots}
        if isinstance(entry, Generic):
            self.name_complaint(entry, composer)
        self.fate()

    def name_complaint(self, entry: Generic, composer: Composer) -> None:
        r = self.r
        if composer.phrases and r.random() < 0.5:
            self.x, self.department, region, who = r.choice(composer.phrases), entry.department, "body", "self"
        elif r.random() < 0.5:
            symptom = r.choice(entry.symptoms)
            self.x, self.department, region, who = symptom.x, symptom.department, symptom.region, symptom.who
        else:
            region, self.department, self.x = r.choice(composer.combined)
            who = "self"
        self.state["region"] = self.known["region"] = region
        self.state["age"] = r.choice(entry.age_of[who])
        if who in ("child", "baby", "elder"):
            self.known["age"] = self.state["age"]

    def fate(self) -> None:
        """Whether this patient is in danger: one of six is, of those who could be."""
        r, entry = self.r, self.entry
        if entry.urgent and r.random() < 0.17:
            for key, value in r.choice(entry.urgent).when.items():
                if key not in self.known:
                    self.state[key] = r.choice(value) if isinstance(value, tuple) else value
            return
        for _ in range(20):
            rule = entry.danger(self.state)
            if rule is None:
                return
            for key in rule.when:
                if key not in self.known:
                    self.state[key] = r.choice(list(entry.slot[key].values))

    # ---- who says what

    def patient(self, text: str, told: dict[str, str] | None = None) -> None:
        self.turns.append(
            CaseTurn(
                "patient",
                speech.typed(self.r, text.replace("{x}", self.x), self.common.typos if self.noise else {}, self.script),
                self.entry,
                told=told or {},
            )
        )

    def doctor(self, text: str, phase: Phase, **more: Any) -> None:
        named: dict[str, Any] = {
            name: value.replace("{x}", self.x) if isinstance(value, str) else value for name, value in more.items()
        }
        self.turns.append(
            CaseTurn("doctor", text.replace("{x}", self.x), self.entry, phase, known=dict(self.known), **named)
        )

    def about_other(self, text: str) -> str:
        return speech.ABOUT_ME.sub(self.pronoun, text) if self.pronoun else text

    def says(self, key: str) -> str:
        return self.about_other(self.r.choice(self.entry.slot[key].values[self.state[key]].says))

    def volunteered(self, skip: set[str]) -> str | None:
        """A slot whose answer makes sense without its question."""
        free = [key for key in self.state if key not in self.known and key not in skip and key not in self.asked]
        self.r.shuffle(free)
        for key in free[:3]:
            said = self.says(key)
            if len(said) >= 4 and not speech.BOUND.match(said):
                self.extra = said
                return key
        return None

    # ---- the course of it

    def consult(self) -> None:
        r = self.r
        if not self.later and r.random() < 0.07:
            self.small_talk()
            if self.over:
                return
        self.open()
        if self.answer_danger():
            return
        if not (r.random() < 0.07 or self.interview()):
            return
        self.advise()
        self.afterwards()

    def small_talk(self) -> None:
        r = self.r
        for _ in range(1 + (r.random() < 0.15)):
            situation = r.choice([s for s in self.common.situations if "first" in s.when])
            self.patient(r.choice(situation.patient))
            line = r.choice(situation.doctor)
            if situation.asking:
                self.doctor(line, "asking", asks=line, advises=line)
            else:
                line_asks = sentence(line) + r.choice(self.common.what)
                self.doctor(line_asks, "asking", asks=line_asks, advises=line)
        self.over = situation.id == "pet" and r.random() < 0.5

    def open(self) -> None:
        r, entry = self.r, self.entry
        opening = r.choice(entry.open)
        facts = [o for o in entry.open if o.has]
        if facts and r.random() < 0.25:
            opening = r.choice(facts)
        told = {key: r.choice(v) if isinstance(v, tuple) else v for key, v in opening.has.items()}
        self.state |= told
        text = opening.say
        if not opening.has and not isinstance(entry, Generic):
            text = self.reworded(text)
        if entry.group not in ADULT_GROUPS and (found := speech.OTHER.match(text)) and not re.search(r"[，。]我", text):
            self.pronoun = "他" if found[1] else "她"
        if not re.match(r"医生|您好|你好|大夫|请|想", text) and r.random() < 0.25:
            text = r.choice(self.common.greet) + text
        elif self.later:
            text = r.choice(["对了，还想问一下，", "还有个事，", "另外想问，", "换个问题，"]) + text
        self.known |= told
        for _ in range(3):
            if r.random() < 0.16 and (key := self.volunteered(set())):
                text = f"{text.rstrip('？。')}，{self.extra}"
                told[key] = self.known[key] = self.state[key]
        if "age" not in entry.slot and entry.group not in ("儿科",) and not self.pronoun and r.random() < 0.1:
            text = self.introduced(text)
        if r.random() < 0.06:
            text = f"{text.rstrip('？。')}，{r.choice(self.common.want)}"
        self.patient(text, told)

    def reworded(self, text: str) -> str:
        """An opening that tells nothing in particular: by the complaint's name, or with a clause less."""
        r, chance = self.r, self.r.random()
        if chance < 0.12:
            return r.choice(self.common.by_name).format(name=self.entry.name)
        clauses = text.split("，")
        if chance < 0.3 and len(clauses) > 1:
            left_out = r.choice(clauses[1:])
            kept = "，".join(clause for clause in clauses if clause is not left_out)
            return kept if len(kept) >= 5 else text
        return text

    def introduced(self, text: str) -> str:
        r = self.r
        sex = "女" if self.entry.group == "妇产" else "男" if self.entry.group == "泌尿男科" else r.choice("男女")
        age = r.randrange(18, 75)
        return r.choice(
            [f"{sex}，{age}岁，{text}", f"{text}，{sex}，{age}岁", f"我今年{age}，{text}", f"{age}岁{sex}性，{text}"]
        )

    def answer_danger(self) -> bool:
        """Whether what is known is dangerous; then the doctor has said so and the questioning is over."""
        rule = self.entry.danger(self.known)
        if rule is None:
            return False
        say = self.r.choice(rule.say)
        self.doctor(say, "advising", urgent=rule, asks=say, advises=say)
        for _ in range(self.r.choice((0, 0, 1, 1, 2))):
            kind = self.r.random()
            again = self.r.choice(self.common.again)
            if kind < 0.5:
                follow = self.r.choice(self.entry.follow)
                self.patient(self.r.choice(follow.ask))
                again = self.r.choice(self.common.first_aid) + self.r.choice(follow.say)
            elif kind < 0.75:
                self.patient(self.r.choice(self.common.want))
            else:
                self.patient(self.r.choice(DOUBTS))
            self.doctor(again, "advising", urgent=rule, asks=again, advises=again)
        return True

    def interview(self) -> bool:
        """Ask one thing after another; whether the doctor may advise now."""
        r = self.r
        order = [slot.key for slot in self.entry.slots]
        for i in range(len(order) - 1):
            if r.random() < 0.25:
                order[i], order[i + 1] = order[i + 1], order[i]
        patience = r.choice((2, 3, 4, 5, 6)) if r.random() < 0.35 else BUDGET
        questions = 0
        while questions < BUDGET:
            key = next((key for key in order if key not in self.known and key not in self.asked), None)
            if key is None:
                break
            if questions >= patience:
                self.cut_short()
                return True
            self.ask(key, questions)
            questions += 1
            self.answer(key)
            if self.answer_danger():
                return False
        self.pending = r.choice(self.common.close)
        return True

    def following(self, skip: Collection[str] = ()) -> str | None:
        """What could be asked next."""
        done = {*self.known, *self.asked, *skip}
        return next((slot.key for slot in self.entry.slots if slot.key not in done), None)

    def question(self, key: str, first: bool) -> str:
        r, slot = self.r, self.entry.slot[key]
        text = r.choice(slot.ask)
        if self.pronoun:
            text = speech.ADDRESSED.sub(self.pronoun, text)
        if isinstance(self.entry, Generic) and first:
            named = [ask for ask in slot.ask if "{x}" in ask]
            return (
                r.choice(named)
                if named and r.random() < 0.5
                else r.choice(self.entry.named) + r.choice([ask for ask in slot.ask if "{x}" not in ask])
            )
        if first and not self.later:
            return (r.choice(self.common.hello) if r.random() < 0.5 else "") + text
        return (r.choice(self.common.ack) if r.random() < 0.3 else "") + text

    def ask(self, key: str, count: int) -> None:
        text = self.question(key, count == 0)
        self.doctor(text, "asking", slot=key, asks=text, advises=self.advice_later())
        self.asked.add(key)

    def answer(self, key: str) -> None:
        r = self.r
        kind = r.random()
        if kind < 0.05:
            self.patient(r.choice(self.common.unsure))
            return
        if kind < 0.08 and (other := self.volunteered({key})):  # an answer to another question
            told = {other: self.state[other]}
            self.known |= told
            self.patient(self.extra, told)
            return
        told = {key: self.state[key]}
        said = self.says(key)
        if self.state[key] == "none" and speech.YES_NO.search(self.turns[-1].text) and r.random() < 0.15:
            said = r.choice(self.common.none)
        elif (
            self.state[key] != "none"
            and speech.YES_NO.search(self.turns[-1].text)
            and not speech.BOUND.match(said)
            and r.random() < 0.2
        ):
            said = r.choice(("有，", "有的，", "是的，", "嗯，", "对，")) + said
        self.known |= told
        if r.random() < 0.13 and (other := self.volunteered(set())):
            said += "，" + self.extra
            told[other] = self.known[other] = self.state[other]
        if r.random() < 0.015 and (corrected := self.correction()):
            said += "，" + corrected[1]
            told[corrected[0]] = self.state[corrected[0]]
        if r.random() < 0.03:
            self.ask_back(said, told)
            return
        self.patient(said, told)
        if r.random() < 0.04 and self.entry.danger(self.known) is None:
            self.aside()

    def correction(self) -> tuple[str, str] | None:
        """Another answer to something that was told before."""
        keys = [key for key in self.known if key in self.asked and key in self.state and key not in ("region", "age")]
        if not keys:
            return None
        key = self.r.choice(keys)
        others = [value for value in self.entry.slot[key].values if value != self.known[key]]
        value = self.r.choice(others)
        said = self.r.choice(self.entry.slot[key].values[value].says)
        if (
            speech.BOUND.match(said)
            or self.entry.danger(self.known | {key: value})
            or self.entry.danger(self.state | {key: value})
        ):
            return None
        self.state[key] = self.known[key] = value
        return key, self.r.choice(self.common.wrong) + self.about_other(said)

    def ask_back(self, said: str, told: dict[str, str]) -> None:
        """The patient asks in the middle: the adviser answers, or the asker puts it off."""
        r = self.r
        follow = r.choice(self.entry.follow)
        self.patient(f"{said}，{r.choice(follow.ask)}", told)
        if self.entry.danger(self.known):
            return
        answer = r.choice(follow.say)
        key = self.following()
        if key is None or r.random() < 0.5:
            put_off = r.choice(self.common.later) + (self.question(key, False) if key else "")
            self.doctor(answer, "advising", advises=answer, asks=put_off if key else None)
            self.patient(r.choice(("好的", "嗯，知道了", "好，那您接着问", "明白了", "行，谢谢")))
        else:
            text = r.choice(self.common.later) + self.question(key, False)
            self.doctor(text, "asking", slot=key, asks=text, advises=answer)
            self.asked.add(key)
            self.known[key] = self.state[key]
            self.patient(self.says(key), {key: self.state[key]})

    def aside(self) -> None:
        """Something that is no answer; the doctor replies to it and goes on."""
        r = self.r
        situation = r.choice([s for s in self.common.situations if "during" in s.when and s.id != "goodbye"])
        key = self.following()
        if key is None:
            return
        line = r.choice(situation.doctor)
        if situation.asking:  # its own question makes room for the next one
            line = "".join(re.findall(r"[^。？！]+[。？！]", line)[:-1])
        following = self.following({key})
        if not line or following is None:
            return
        text = self.question(key, False)
        self.doctor(text, "asking", slot=key, asks=text)
        self.asked.add(key)
        self.patient(r.choice(situation.patient))
        text = line + self.question(following, False)
        self.doctor(text, "asking", slot=following, asks=text, advises=None if situation.asking else line)
        self.asked.add(following)
        self.known[following] = self.state[following]
        self.patient(self.says(following), {following: self.state[following]})

    def cut_short(self) -> None:
        """The patient wants the advice now: in the last answer, or in a turn of its own after one more question."""
        want = self.r.choice(self.common.want)
        last = self.turns[-1]
        if self.r.random() < 0.5:
            last.text = f"{last.text.rstrip('。？')}，{want.translate(traditional()) if self.script else want}"
        else:
            key = self.following()
            if key:
                text = self.question(key, False)
                self.doctor(text, "asking", slot=key, asks=text, advises=self.advice_later())
                self.asked.add(key)
                self.patient(want)
        self.pending = self.r.choice(self.common.close)

    # ---- advice

    def advice_later(self) -> Callable[[], str]:
        known = dict(self.known)
        return lambda: advice(self.r, self.entry, self.common, known, self.x, self.department)

    def advise(self) -> None:
        text = advice(self.r, self.entry, self.common, self.known, self.x, self.department)
        spoken = {key: self.entry.slot[key].values[value].fact for key, value in self.known.items()}
        told = {key: fact for key, fact in spoken.items() if fact.replace("{x}", self.x) in text}
        self.doctor(text, "advising", facts=told, asks=getattr(self, "pending", None), advises=text)

    def afterwards(self) -> None:
        r = self.r
        follows = r.sample(self.entry.follow, min(len(self.entry.follow), r.choice((0, 1, 1, 2, 3))))
        for follow in follows:
            self.patient(r.choice(follow.ask) + r.choice(("", "", "？", "呢", "啊")))
            answer = r.choice(follow.say)
            self.doctor(answer, "advising", advises=answer)
        if r.random() < 0.12:
            situation = r.choice([s for s in self.common.situations if "after" in s.when])
            self.patient(r.choice(situation.patient))
            line = r.choice(situation.doctor)
            self.doctor(line, "advising", advises=line)
        if r.random() < 0.25:
            self.patient(r.choice(self.common.thanks))
            welcome = r.choice(self.common.welcome)
            self.doctor(welcome, "advising", asks=welcome, advises=welcome)

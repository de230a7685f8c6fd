"""The summary that a patient takes to the doctor: one page of quotations from the dialogue, and nothing else.

What was asked for is told by the knowledge base where it knows the question, by the tables that tell repeated questions
apart, and else by likeness to a few examples. An answer is read clause by clause. Every quotation stands in the dialogue
word for word; what nobody said stays empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from bianque import templates
from bianque.consult import alarms, handoff, questions
from bianque.consult.patterns import asset, pattern, table
from bianque.consult.questions import plain
from bianque.consult.text import LABEL
from bianque.errors import BadInput
from bianque.i18n import say
from bianque.once import once
from bianque.types import Message

Section = Literal[
    "complaint", "duration", "signs", "denied", "trigger", "history", "other", "asked", "advice", "department"
]
SECTIONS: tuple[Section, ...] = get_args(Section)
TELLING = 15  # characters of an advice that says something
ROOM: Mapping[Section, int] = {"complaint": 240, "asked": 700, "advice": 600}  # characters on the page; else:
OTHERS = 160
ANSWER = 80  # of an answer beside its question
DENSE, DENSEST = 550, 1100  # characters, a line break counted as ten, from which the type is smaller
READ = 16_000  # characters of the newest turns that are looked through for danger signs
TEMPLATE = Path(__file__).parent / "assets" / "summary.html"
KEEPING = ("history", "other")  # sections in which a number of days is no duration of the complaint
CLAUSE = re.compile(r"[^，,。！!？?；;\n]+[？?]?")
STOP = re.compile(r"[。！？!?；;\n]")

_re = partial(pattern, "summary")


@dataclass(frozen=True, slots=True)
class Quote:
    """Words of the dialogue: `turn` counts from 0, `question` is what they answer, `cut` says that more stands there."""

    text: str
    turn: int
    question: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class DangerSign:
    """A danger sign in the patient's words, and the notice about it."""

    level: str
    sign: str
    notice: str
    said: Quote


@dataclass(frozen=True, slots=True)
class Summary:
    """The page's content. `left_out`: quotations of a section for which there was no room."""

    lang: str
    dangers: tuple[DangerSign, ...]
    sections: Mapping[Section, tuple[Quote, ...]]
    left_out: Mapping[Section, int]
    models: tuple[str, ...]

    def quotes(self) -> Iterator[Quote]:
        yield from (danger.said for danger in self.dangers)
        for found in self.sections.values():
            yield from found

    def title(self, section: Section) -> str:
        return say(self.lang, f"summary_{section}")

    def shown(self, section: Section, quote: Quote) -> str:
        """One quotation as it is printed."""
        text = f"「{quote.text}{'……' if quote.cut else ''}」"
        if section == "asked":
            return f"{quote.question} {text if quote.text else say(self.lang, 'summary_unanswered')}"
        to = say(self.lang, "summary_to", question=quote.question) if quote.question else ""
        return f"{text} {to}".rstrip()

    def more(self, section: Section) -> str:
        count = self.left_out.get(section, 0)
        return say(self.lang, "summary_more", count=count) if count else ""

    def markdown(self) -> str:
        """The page as Markdown; what people and models wrote is escaped."""
        lines = [f"# {say(self.lang, 'summary')}", "", f"> {LABEL}。{say(self.lang, 'summary_why')}", ""]
        for danger in self.dangers:
            lines += [f"> **{escaped(danger.notice)}**", ">", f"> 「{escaped(danger.said.text)}」", ""]
        for section, found in self.sections.items():
            rows = [escaped(self.shown(section, quote)) for quote in found] or [say(self.lang, "summary_nothing")]
            rows += filter(None, [self.more(section)])
            lines += [f"## {self.title(section)}", "", *(f"- {row}" for row in rows), ""]
        return "\n".join(lines)

    def html(self) -> str:
        """The page as a document of its own that prints on one A4; it asks nothing of any network."""
        size = sum(len(quote.text) + len(quote.question) + 10 for quote in self.quotes())
        dense = "densest" if size > DENSEST else "dense" if size > DENSE else ""
        return templates.fill(TEMPLATE, summary=self, say=partial(say, self.lang), label=LABEL, dense=dense)

    def as_dict(self) -> dict[str, Any]:
        """For programs: plain lists and texts."""
        return {
            "dangers": [asdict(danger) for danger in self.dangers],
            "sections": {section: [asdict(quote) for quote in found] for section, found in self.sections.items()},
            "left_out": dict(self.left_out),
        }


def summary(dialogue: Sequence[Message | Mapping[str, Any]], lang: str = "zh-CN") -> Summary:
    """What the dialogue says, by section. BadInput while the patient has said nothing.

    Reads the knowledge base at its first call, which takes two seconds, and is no work for an event loop.
    """
    messages = [turn if isinstance(turn, Message) else _message(turn) for turn in dialogue]
    if not any(m.role == "user" and m.content.strip() for m in messages):
        raise BadInput("还没有对话，先说说哪里不舒服 (there is no dialogue yet: describe your complaint first)")
    found = _Reader(messages)
    found.read()
    sections: dict[Section, tuple[Quote, ...]] = {}
    left_out: dict[Section, int] = {}
    for section in SECTIONS:
        firsts: dict[tuple[str, str], Quote] = {}
        for quote in found.sections[section]:
            firsts.setdefault((quote.text, quote.question), quote)
        every = list(firsts.values())
        sections[section] = tuple(fitting(every, ROOM.get(section, OTHERS)))
        if len(every) > len(sections[section]):
            left_out[section] = len(every) - len(sections[section])
    models = tuple(
        dict.fromkeys(m.model for m in messages if m.role == "assistant" and m.model not in (None, handoff.CARE))
    )
    return Summary(lang, tuple(dangers(messages)), sections, left_out, models)


def _message(turn: Mapping[str, Any]) -> Message:
    return Message(turn["role"], turn["content"], turn.get("phase"), turn.get("model"))


def dangers(messages: Sequence[Message]) -> list[DangerSign]:
    """The danger signs that the patient told of, each once, the newest turns first where there are very many."""
    found: dict[str, DangerSign] = {}
    room = READ
    for turn in reversed(range(len(messages))):
        text = messages[turn].content
        if messages[turn].role != "user" or (room := room - len(text)) < 0:
            continue
        earlier = [message.content for message in messages[:turn] if message.role == "user"]
        if notice := alarms.check(text, earlier):
            found[notice.sign] = DangerSign(notice.level, notice.sign, notice.text, cut(text.strip(), turn, 160))
    return sorted(reversed(found.values()), key=lambda danger: danger.level)


def cut(text: str, turn: int, room: int, question: str = "") -> Quote:
    """A quotation of at most so many characters, which ends with a sentence where it can."""
    if len(text) <= room:
        return Quote(text, turn, question)
    stops = [found.end() for found in STOP.finditer(text, 0, room) if found.end() > room // 2]
    return Quote(text[: stops[-1] if stops else room].rstrip(), turn, question, cut=True)


def fitting(quotes: Sequence[Quote], room: int) -> list[Quote]:
    """The first quotations that there is room for, the last of them cut."""
    kept: list[Quote] = []
    for quote in quotes:
        if room < 20 and kept:
            break
        kept.append(cut(quote.text, quote.turn, max(room, 20), quote.question) if not quote.cut else quote)
        room -= len(kept[-1].text) + len(quote.question)
    return kept


@dataclass(slots=True)
class _Reader:
    """Goes through a dialogue turn by turn; `pending`: what the last doctor's turn asked, by section."""

    messages: Sequence[Message]
    sections: dict[Section, list[Quote]] = field(default_factory=lambda: {section: [] for section in SECTIONS})
    pending: list[tuple[Section, str]] = field(default_factory=list)
    question: str = ""  # all of it, word for word

    def read(self) -> None:
        starts = set(handoff.read_round(self.messages).starts)
        opens = False
        for turn, message in enumerate(self.messages):
            text = message.content
            if message.role == "assistant":
                self.doctor(turn, text, handoff.phase_of(message))
                continue
            opens = opens or turn in starts
            if opens and not _re("greeting").search(plain(text).lower()) and text.strip():
                self.sections["complaint"].append(Quote(text.strip(), turn))
                opens = False
            self.patient(turn, text)
        self.asked("", len(self.messages) - 1)

    def doctor(self, turn: int, text: str, phase: str) -> None:
        self.asked("", turn)
        if phase == "asking":
            found = questions.questions(text)
            self.pending = [(topic(question), question) for question in found]
            if found:
                self.question = text[text.index(found[0]) : text.rindex(found[-1]) + len(found[-1])]
            return
        if len(text.strip()) >= TELLING or not self.sections["advice"]:
            self.sections["advice"].append(Quote(text.strip(), turn))
        named = [found[0] for found in _re("department").finditer(text)]
        known = {quote.text for quote in self.sections["department"]}
        self.sections["department"] += [Quote(name, turn) for name in dict.fromkeys(named) if name not in known]

    def patient(self, turn: int, text: str) -> None:
        topics = [section for section, _ in self.pending]
        spans: list[tuple[Section, int, int]] = []  # neighbours of one section are one quotation
        for clause in CLAUSE.finditer(text):
            section = clause_section(clause[0].strip(), topics, first=not spans)
            if section is None:
                continue
            if spans and spans[-1][0] == section and clause.start() - spans[-1][2] <= 1:
                spans[-1] = (section, spans[-1][1], clause.end())
            else:
                spans.append((section, clause.start(), clause.end()))
        for section, start, end in spans:
            self.sections[section].append(Quote(text[start:end].strip(), turn, self.answered(section, text[start:end])))
        self.asked(text.strip(), turn)

    def answered(self, section: Section, said: str) -> str:
        """The question that a quotation answers, the one most like it; none for what was told unasked."""
        own = [question for topic, question in self.pending if topic == section]
        if section == "denied":
            own = own or [question for topic, question in self.pending if topic in ("signs", "other")]
        return max(own, key=lambda question: len({*question} & {*said}), default="").rstrip("，,：:")

    def asked(self, answer: str, turn: int) -> None:
        """What was asked, with the answer to it."""
        if self.pending:
            self.sections["asked"].append(cut(answer, turn, ANSWER, self.question))
        self.pending = []


def clause_section(clause: str, topics: Sequence[Section], first: bool) -> Section | None:
    """Where a clause of the patient belongs, given what was asked; None if it tells nothing of the illness."""
    text = plain(clause)
    topic = topics[0] if topics else None
    if not text or _re("unsure").search(text) or _re("request").search(text):
        return None
    if _re("medicine").search(text):
        return "history"
    denies = _re("denied").search(text) and not _re("positive").search(text)
    if _re("duration").search(text) and not _re("not_duration").search(text) and topic not in KEEPING:
        return "duration"
    if _re("history").search(text):
        return "history"
    if _re("trigger").search(text) and not denies:
        return "trigger"
    if denies or (topics and _re("normal").search(text)):
        return topic if topic in ("history", "trigger", "duration", "other") and first else "denied"
    if topic == "duration" and not first:
        return "signs"
    return topic


def topic(question: str) -> Section:
    """The section that an answer to this question belongs to."""
    from bianque.consult.hearing import hearing

    if known := hearing().slots(question if question.endswith(("?", "？")) else f"{question}？"):
        return _sections("keys").get(max(known, key=known.__getitem__)[1], "signs")
    text = plain(question)
    for name, words in table("repeats", "slots", re.IGNORECASE).items():
        if name in _sections("slots") and words.search(text):
            return _sections("slots")[name]
    for name, words in table("repeats", "signs").items():
        if words.search(text):
            return _sections("named").get(name, "signs")
    return nearest(question)


@cache
def _sections(name: str) -> Mapping[str, Section]:
    """Each name of a table → its section."""
    flat = lambda names: [one for part in names for one in ([part] if isinstance(part, str) else part)]
    return {key: section for section, names in asset("summary")[name].items() for key in flat(names)}


def nearest(question: str) -> Section:
    """The section that has the example most like the question."""
    from bianque.consult import encoder

    sections, vectors = _examples()
    return sections[int((vectors @ encoder.encoded(question)).argmax())]


@once
def _examples() -> tuple[list[Section], Any]:
    """The sections of the examples, and [examples, 512]: their vectors."""
    from bianque.consult import encoder

    found = asset("summary")["examples"]
    return [section for section, texts in found.items() for _ in texts], encoder.encode([*chain(*found.values())])


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", " ".join(text.split()))

"""From dialogues to training samples: a history, and what follows it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bianque.catalog.prompts import neutralise
from bianque.consult import questions
from bianque.data.compose import Consultation
from bianque.data.dialogues import Record
from bianque.models.tokenizers import Tokenizer

Role = Literal["ask", "advise"]
LABEL = {"patient": "病人：", "doctor": "医生："}
Line = tuple[str, str]  # who speaks (patient or doctor) and what
# Real questions that could follow any complaint teach nothing but to ask them.
EMPTY = re.compile(
    r"还?有(?:没有)?(?:什么|其[他它]|别的|哪些|任何)(?:的|其[他它])?(?:症状|不舒服|不适|问题|情况|表现)|[\[［]MASK"
)
REAL = ("dialmed", "ai_hospital", "remedi")  # sources whose doctors' turns teach a role
MACHINE_SYNONYMS = "toyhom"  # its answers were reworded by a machine, badly


@dataclass(frozen=True, slots=True)
class Sample:
    prompt: list[int]
    reply: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.reply)


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How one architecture writes dialogues down; at most so many tokens of history and of reply are kept.

    A line break is a piece of its own in both vocabularies, so a prompt's ids are those of its lines, one after
    another: lines are encoded once and remembered.
    """

    tokenizer: Tokenizer
    escape: Callable[[str], str]
    prompt_tokens: int
    reply_tokens: int
    known: dict[tuple[str, bool], list[int]] = field(default_factory=dict, repr=False)

    def ids(self, text: str, first: bool) -> list[int]:
        """Ids of a labelled line; not the `first` one: with the break before it."""
        found = self.known.get((text, first))
        if found is None:
            if len(self.known) > 400_000:
                self.known.clear()
            found = self.tokenizer.encode(self.escape(text if first else "\n" + text))
            # SentencePiece begins every text with a blank, which a line in the middle does not have.
            found = found if first else found[1:]
            self.known[text, first] = found
        return found

    def prompt(self, history: Sequence[Line]) -> list[int]:
        """As `prompts.fit` leaves it: of a history that is too long, the rounds behind the first complaint go."""
        lines = [self.ids(LABEL[who] + text, i == 0) for i, (who, text) in enumerate(history)]
        cue = self.ids(LABEL["doctor"], False)
        room = self.prompt_tokens - len(cue) - 2
        while len(lines) > 2 and sum(map(len, lines)) > room:
            del lines[1:3]
        text = [i for line in lines for i in line][-room:]
        return [*text, *cue, *self.tokenizer.prompt("")]  # of no text, a prompt is its markers alone

    def sample(self, history: Sequence[Line], reply: str) -> Sample:
        """A reply that ends, or as much of it as is kept."""
        ids = [*self.tokenizer.encode(self.escape(reply)), self.tokenizer.eos]
        return Sample(self.prompt(history), ids[: self.reply_tokens])


def complaints(records: Sequence[Record]) -> list[str]:
    """Clauses with which real patients open, 4 to 14 Han characters each."""
    opened = (record.turns[0].text for record in records if record.source in REAL)
    clauses = (clause for text in opened for clause in re.split(r"[，。？！,?!；\s]+", text)[:2])
    return sorted({clause for clause in clauses if re.fullmatch(r"[一-鿿]{4,14}", clause)})


def continuation(lines: Sequence[Line]) -> str:
    """What follows a doctor's cue: that turn and every later one with its label."""
    return "\n".join([lines[0][1], *(LABEL[who] + text for who, text in lines[1:])])


def language(record: Record, form: PromptFormat, rng: random.Random) -> Iterator[Sample]:
    """A real dialogue, cut at a doctor turn: the history before it, and all that follows."""
    lines = [(turn.role, neutralise(turn.text)) for turn in record.turns]
    doctor = [i for i, (who, _) in enumerate(lines) if who == "doctor"]
    # The earlier of two draws: only what follows the cut is learned from.
    cut = min(rng.choice(doctor), rng.choice(doctor))
    yield form.sample(lines[:cut], continuation(lines[cut:]))


def turns(record: Record, form: PromptFormat, role: Role, rng: random.Random, most: int = 2) -> Iterator[Sample]:
    """Real doctor turns of a role: that ask something in particular, or that advise in more than a word."""
    lines = [(turn.role, neutralise(turn.text)) for turn in record.turns]
    fitting = [i for i, (who, text) in enumerate(lines) if who == "doctor" and fits(text, role)]
    for i in rng.sample(fitting, min(most, len(fitting))):
        yield form.sample(lines[:i], lines[i][1])


def fits(text: str, role: Role) -> bool:
    if EMPTY.search(text):
        return False
    return questions.asks(text) and len(text) <= 60 if role == "ask" else len(text) >= 40 and not questions.asks(text)


def composed(
    consultation: Consultation, form: PromptFormat, role: Role, rng: random.Random, most: int
) -> Iterator[Sample]:
    """What the model of a role would say at up to `most` places of a composed consultation."""
    lines = [(turn.role, turn.text) for turn in consultation.turns]
    places = [
        (i, reply)
        for i, turn in enumerate(consultation.turns)
        if (reply := turn.asks if role == "ask" else turn.advises) is not None
    ]
    for i, reply in rng.sample(places, min(most, len(places))):
        yield form.sample(lines[:i], reply if isinstance(reply, str) else reply())


def onwards(consultation: Consultation, form: PromptFormat, rng: random.Random) -> Iterator[Sample]:
    """A composed consultation as `language` cuts a real one."""
    lines = [(turn.role, turn.text) for turn in consultation.turns]
    doctor = [i for i, (who, _) in enumerate(lines) if who == "doctor"]
    cut = min(rng.choice(doctor), rng.choice(doctor))
    yield form.sample(lines[:cut], continuation(lines[cut:]))


Shape = Callable[[Sample], tuple[int, ...]]  # the lengths that are padded, each on its own


def batches(drawn: Sequence[Sample], tokens: int, rng: random.Random, shape: Shape) -> list[list[Sample]]:
    """Groups of similar shape, each at most `tokens` when padded (see `padded`), in random order."""
    ordered = sorted(drawn, key=lambda sample: [-(-size // 48) for size in shape(sample)] + [sample.length])
    groups: list[list[Sample]] = [[]]
    longest: tuple[int, ...] = ()
    for sample in ordered:
        sizes = tuple(map(padded, shape(sample)))
        grown = tuple(map(max, longest, sizes)) if groups[-1] else sizes
        if groups[-1] and sum(grown) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
            grown = sizes
        groups[-1].append(sample)
        longest = grown
    rng.shuffle(groups)
    return groups


def padded(length: int) -> int:
    """To a multiple of 16, so that few shapes occur."""
    return -(-length // 16) * 16

"""Rows of a file → what a model learns: each doctor's turn after the dialogue before it, in the card's own prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bianque.catalog import prompts
from bianque.catalog.card import Model
from bianque.data import corpus, readers, records
from bianque.errors import BadInput, TooLong
from bianque.models.tokenizers import Tokenizer
from bianque.train.samples import Sample
from bianque.types import Message

SHOWN = 20  # bad rows that are named
ONE_IN = 20  # dialogues, of which one is held out where no file of them is given


@dataclass(frozen=True, slots=True)
class TrainingTurn:
    """One turn to learn; `place` is its file, dialogue and turn, for messages."""

    sample: Sample
    place: str
    dialogue: tuple[Message, ...]
    reply: str
    group: str  # of the dialogue; BianQue's files have several rows of one


@dataclass(slots=True)
class Counts:
    """What became of the rows of the files."""

    dialogues: int = 0
    bad: int = 0
    unanswered: int = 0  # nothing to learn: no doctor's words follow
    too_long: int = 0  # the first complaint and the newest turn alone do not fit
    shortened: int = 0  # rounds in the middle were left out
    cut: int = 0  # the reply's end was

    def __str__(self) -> str:
        said = (
            (self.bad, "行有误，未用 (bad rows left out)"),
            (self.unanswered, "轮没有医生的话 (turns without a doctor's words)"),
            (self.too_long, "轮太长，未用 (turns too long, left out)"),
            (self.shortened, "轮省去了中间的对话 (turns with a shortened history)"),
            (self.cut, "个回答截去了结尾 (replies cut at their end)"),
        )
        rest = [f"{count} {words}" for count, words in said if count]
        return "；".join([f"{self.dialogues} 段对话 (dialogues)", *rest])


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """How a card's model is given a dialogue and a reply, in at most `length` tokens, half of them for the reply."""

    card: Model
    tokenizer: Tokenizer
    escape: Callable[[str], str]
    length: int
    counts: Counts = field(default_factory=Counts)

    def sample(self, dialogue: Sequence[Message], reply: str) -> Sample:
        """The sample; TooLong if the newest turn does not fit. Whole rounds are left out, never a prompt's markers."""
        ids = [*self.tokenizer.encode(self.escape(reply)), self.tokenizer.eos]
        facts, most = self.card.loadable, self.length // 2
        self.counts.cut += len(ids) > most
        ids = ids[:most]
        encode = lambda turns: self.tokenizer.prompt(facts.prompt(turns))
        room = min(facts.window, self.length) - len(ids)
        kept, dropped = prompts.fit(dialogue, room, lambda turns: len(encode(turns)), facts.rounds)
        self.counts.shortened += dropped > 0
        return Sample(encode(kept), ids)


def read(paths: Sequence[Path], writer: PromptWriter, say: Callable[[str], None]) -> list[TrainingTurn]:
    """Every doctor's turn of the files, which are read as `corpus` reads them, folders too.

    Bad records are named and left out; BadInput if a file cannot be read or nothing is left to learn.
    """
    found = [example for path in corpus.expanded(paths) for example in read_one(path, writer, say)]
    if not found:
        names = ", ".join(path.name for path in paths)
        raise BadInput(f"{names}: 没有可学的医生的话 (holds no doctor's words to learn): {writer.counts}")
    return found


def read_one(path: Path, writer: PromptWriter, say: Callable[[str], None]) -> Iterator[TrainingTurn]:
    counts, shown = writer.counts, 0
    before: readers.CorpusDialogue | None = None
    group = ""
    with records.streamed(path) as opened:
        for one in readers.stream(corpus.answered(opened, path), path):
            if isinstance(one, readers.Problem):
                counts.bad += 1
                shown += 1
                if shown <= SHOWN:
                    say(f"{path.name}: {one}")
                continue
            case = one[1]
            if before is None or not corpus.continues(case, before):
                counts.dialogues += 1
                group = f"{path}: {counts.dialogues}"
            before = case
            yield from turns(case, path.name, group, writer)


def turns(case: readers.CorpusDialogue, name: str, group: str, writer: PromptWriter) -> Iterator[TrainingTurn]:
    for turn, before, reply in case.items():
        if reply is None or not prompts.neutralise(plain(reply)):
            writer.counts.unanswered += 1
            continue
        dialogue = tuple(replace(message, content=plain(message.content)) for message in before)
        reply = prompts.neutralise(plain(reply))
        try:
            sample = writer.sample(dialogue, reply)
        except TooLong:
            writer.counts.too_long += 1
            continue
        yield TrainingTurn(sample, f"{name}: {case.id}, {turn + 1}", dialogue, reply, group)


def plain(text: str) -> str:
    """Line breaks as such: BianQue's files write them as a backslash and an n."""
    return text.replace("\\r\\n", "\n").replace("\\n", "\n").replace("\\t", "\t")


def held_out(examples: Sequence[TrainingTurn]) -> tuple[list[TrainingTurn], list[TrainingTurn]]:
    """The same dialogues each time: most to learn from, and one in so many to measure with. BadInput if too few."""
    digest = {e.group: hashlib.sha256(e.dialogue[0].content.encode(errors="replace")).digest() for e in examples}
    chosen = set(sorted(digest, key=lambda group: digest[group])[: max(1, len(digest) // ONE_IN)])
    parts = [e for e in examples if e.group not in chosen], [e for e in examples if e.group in chosen]
    if not all(parts):
        raise BadInput("--data 只有一段对话，请另给 --valid (one dialogue alone: give --valid a file of its own)")
    return parts


def repeated(train: Sequence[TrainingTurn], valid: Sequence[TrainingTurn]) -> int:
    """How many turns to measure with are among those to learn."""
    said = lambda e: (*(message.content for message in e.dialogue), e.reply)
    known = set(map(said, train))
    return sum(said(e) in known for e in valid)


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 of the files' bytes, in their order."""
    whole = hashlib.sha256()
    for path in corpus.expanded(paths):
        with path.open("rb") as opened:
            while part := opened.read(1 << 22):
                whole.update(part)
    return whole.hexdigest()

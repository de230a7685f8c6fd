"""From dialogues to training samples: a history, and what follows it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from bianque.catalog import prompts
from bianque.consult import questions
from bianque.data.dialogues import Record
from bianque.errors import TooLong
from bianque.models.tokenizers import Tokenizer
from bianque.types import Dialogue, Message


@dataclass(frozen=True, slots=True)
class Sample:
    prompt: list[int]
    reply: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.reply)


@dataclass(frozen=True, slots=True)
class Format:
    """How one architecture writes dialogues down; at most so many tokens of history and of reply are kept."""

    tokenizer: Tokenizer
    prompt: Callable[[Dialogue], str]
    escape: Callable[[str], str]
    prompt_tokens: int
    reply_tokens: int
    costs: dict[str, int] = field(default_factory=dict, repr=False)

    def cost(self, text: str) -> int:
        if text not in self.costs:
            self.costs[text] = len(self.tokenizer.encode(self.escape(text))) + 3
        return self.costs[text]

    def sample(self, history: Dialogue, reply: str, ends: bool = True) -> Sample:
        # Turn by turn and remembered: close enough to the whole prompt's count, and an epoch is drawn in seconds.
        count = lambda turns: sum(self.cost(turn.content) for turn in turns)
        try:
            history, _ = prompts.fit(history, self.prompt_tokens, count)
        except TooLong:  # a first or newest message longer than the window: its end is what is answered
            history = [replace(turn, content=turn.content[-self.prompt_tokens // 2 :]) for turn in history[-1:]]
        ids = self.tokenizer.encode(self.escape(reply)) + [self.tokenizer.eos] * ends
        return Sample(self.tokenizer.prompt(self.prompt(history)), ids[: self.reply_tokens])


def messages(record: Record) -> list[Message]:
    return [Message("user" if turn.role == "patient" else "assistant", turn.text) for turn in record.turns]


def continuation(dialogue: Dialogue) -> str:
    """What follows a "医生：" cue: this doctor turn and every later turn with its label."""
    label = {"user": "病人", "assistant": "医生"}
    return "\n".join([dialogue[0].content, *(f"{label[turn.role]}：{turn.content}" for turn in dialogue[1:])])


def language(records: Sequence[Record], form: Format, rng: random.Random) -> Iterator[Sample]:
    """One sample a dialogue, cut at a doctor turn: the history before it, and all that follows."""
    for record in records:
        dialogue = messages(record)
        doctor = [i for i, turn in enumerate(dialogue) if turn.role == "assistant"]
        # The earlier of two draws: only what follows the cut is learned from.
        cut = min(rng.choice(doctor), rng.choice(doctor))
        yield form.sample(dialogue[:cut], continuation(dialogue[cut:]))


def turns(
    records: Sequence[Record], form: Format, asking: bool | None, most: int | None, rng: random.Random
) -> Iterator[Sample]:
    """Doctor turns that ask (or do not; None: all), at most `most` of one dialogue."""
    for record in records:
        dialogue = messages(record)
        fitting = [
            i
            for i, turn in enumerate(dialogue)
            if turn.role == "assistant" and (asking is None or questions.asks(turn.content) == asking)
        ]
        if most is not None and len(fitting) > most:
            fitting = rng.sample(fitting, most)
        for i in fitting:
            yield form.sample(dialogue[:i], dialogue[i].content)


def batches(samples: Sequence[Sample], tokens: int, rng: random.Random) -> list[list[Sample]]:
    """Groups of similar length, each at most `tokens` when padded, in random order."""
    ordered = sorted(samples, key=lambda s: (s.length // 32, len(s.prompt)))
    groups: list[list[Sample]] = [[]]
    prompt = reply = 0
    for sample in ordered:
        prompt, reply = max(prompt, len(sample.prompt)), max(reply, len(sample.reply))
        if groups[-1] and (prompt + reply) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
            prompt, reply = len(sample.prompt), len(sample.reply)
        groups[-1].append(sample)
    rng.shuffle(groups)
    return groups

"""`python -m bianque measure-mini`: the bundled models beside two baselines, on gold dialogues of a JSONL file."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import bianque
from bianque.consult.questions import asks
from bianque.consult.text import strip_echo
from bianque.data.dialogues import Record, read, sample
from bianque.evaluate import metrics
from bianque.train.baselines import BM25, NGram
from bianque.types import Dialogue, Phase

_PHASES: tuple[Phase, ...] = ("asking", "advising")
_LIBRARIES = ("numpy", "torch", "sentencepiece")
_RECALLED = 256  # characters of the dialogue's end that retrieval compares


class Subject(Protocol):
    """What is measured: anything that replies to a history and, if it can, says how likely a reply is."""

    @property
    def name(self) -> str: ...

    def logprob(self, history: Dialogue, reply: str) -> float | None:
        """ln p(reply and its end | history); None if the subject has no probabilities."""

    def replies(self, histories: Sequence[Dialogue]) -> list[str]:
        """One reply a history, in order; "" is a reply that failed to say anything."""


@dataclass(frozen=True, slots=True)
class Item:
    """One doctor turn: the gold history before it and what the human doctor wrote."""

    dialogue: str
    history: Dialogue
    gold: str
    asks: bool

    @property
    def phase(self) -> Phase:
        return "asking" if self.asks else "advising"


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one subject; `perplexity` per character, by kind of gold turn."""

    name: str
    role: Phase | None
    perplexity: Mapping[Phase, float]
    question_rate: float
    distinct_2: float
    self_repetition: float
    pqa: metrics.PQA
    circling: float  # share of replies with a 4-gram three times
    answered: float  # share of replies that are not empty


@dataclass(frozen=True, slots=True)
class Report:
    scores: tuple[Score, ...]
    counts: Mapping[str, int]
    versions: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        return {
            "versions": dict(self.versions),
            "counts": dict(self.counts),
            "scores": [asdict(score) for score in self.scores],
        }

    def markdown(self) -> str:
        head = (
            "| model | perplexity, asking turns | perplexity, advising turns | question rate | distinct-2 "
            "| self-repetition | PQA-F1 (P / R) | always-ask F1 | a 4-gram 3 times | non-empty |"
        )
        rule = "|---" + "|--:" * 9 + "|"
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        how = (
            "Tokens: one Han character, run of Latin letters, number or punctuation mark. "
            "Perplexity per character, the end counted as one."
        )
        return "\n".join([head, rule, *map(_row, self.scores), "", f"{counts}; {versions}.", how])


def _row(score: Score) -> str:
    perplexities = [f"{score.perplexity[phase]:.2f}" if phase in score.perplexity else "–" for phase in _PHASES]
    figures = [
        *perplexities,
        f"{score.question_rate:.3f}",
        f"{score.distinct_2:.4f}",
        f"{score.self_repetition:.3f}",
        f"{score.pqa.f1:.3f} ({score.pqa.precision:.3f} / {score.pqa.recall:.3f})",
        f"{score.pqa.always_ask:.3f}",
        f"{score.circling:.3f}",
        f"{score.answered:.3f}",
    ]
    return f"| {score.name} | {' | '.join(figures)} |"


@dataclass(frozen=True, slots=True)
class Babbler:
    """The n-gram baseline: it knows how doctors write and nothing of the history."""

    model: NGram
    name: str = "5-gram"
    temperature: float = 0.7
    most: int = 120
    seed: int = 0

    def logprob(self, history: Dialogue, reply: str) -> float | None:
        return self.model.logprob(reply)

    def replies(self, histories: Sequence[Dialogue]) -> list[str]:
        generator = np.random.default_rng(self.seed)
        return [self.model.sample(generator, self.temperature, self.most) for _ in histories]


@dataclass(frozen=True, slots=True)
class Retriever:
    """The retrieval baseline: what a doctor answered where the dialogue read most alike."""

    index: BM25
    name: str = "BM25"

    def logprob(self, history: Dialogue, reply: str) -> float | None:
        return None

    def replies(self, histories: Sequence[Dialogue]) -> list[str]:
        return [self.index.reply(_recalled(history)) for history in histories]


def _recalled(history: Dialogue) -> str:
    return "\n".join(message.content for message in history)[-_RECALLED:]


def baselines(records: Sequence[Record]) -> list[Subject]:
    """Both baselines, fitted to training dialogues.

    The n-gram model sees doctor turns only: patient turns would not lower its perplexity on them, and it would sample
    patients' sentences as replies.
    """
    exchanges = [exchange for record in records for exchange in record.exchanges()]
    index = BM25([_recalled(history) for history, _ in exchanges], [reply for _, reply in exchanges])
    return [Babbler(NGram(5).fit(reply for _, reply in exchanges)), Retriever(index)]


def items(records: Sequence[Record]) -> list[Item]:
    """Every doctor turn of the dialogues, in order."""
    return [
        Item(f"{place}:{record.id}", history, gold, asks(gold))
        for place, record in enumerate(records)
        for history, gold in record.exchanges()
    ]


def measure(subject: Subject, role: Phase | None, turns: Sequence[Item]) -> Score:
    """All figures of one subject; perplexity on the gold turns of its role, or of both (None)."""
    perplexity = dict[Phase, float]()
    for phase in _PHASES if role is None else (role,):
        own = [turn for turn in turns if turn.phase == phase]
        found = [subject.logprob(turn.history, turn.gold) for turn in own]
        known = [value for value in found if value is not None]
        if known and len(known) == len(own):
            perplexity[phase] = metrics.perplexity(known, [turn.gold for turn in own])
    replies = subject.replies([turn.history for turn in turns])
    assert len(replies) == len(turns), f"{subject.name} gave {len(replies)} replies to {len(turns)} histories"
    return describe(subject.name, role, perplexity, turns, [strip_echo(reply) for reply in replies])


def describe(
    name: str, role: Phase | None, perplexity: Mapping[Phase, float], turns: Sequence[Item], replies: Sequence[str]
) -> Score:
    """The figures that need the replies alone."""
    pairs = zip(turns, replies, strict=True)
    dialogues = [[reply for _, reply in group] for _, group in groupby(pairs, lambda pair: pair[0].dialogue)]
    count = max(len(replies), 1)
    return Score(
        name=name,
        role=role,
        perplexity=perplexity,
        question_rate=metrics.question_rate(replies),
        distinct_2=metrics.distinct(replies, 2),
        self_repetition=metrics.self_repetition(dialogues),
        pqa=metrics.pqa([turn.asks for turn in turns], [asks(reply) for reply in replies]),
        circling=sum(map(metrics.repeats_4gram, replies)) / count,
        answered=sum(map(bool, replies)) / count,
    )


def measure_mini(
    data: Path, train: Sequence[Path], models: Sequence[tuple[Subject, Phase]], limit: int | None = None
) -> Report:
    """The human doctor, each model on its role and both baselines, over `limit` dialogues of `data` (None: all).

    The baselines learn from `train`; the human's row says what question rate, distinct-2 and repetition are natural.
    """
    turns = items(chosen := sample(read(data), limit))
    known = [record for path in train for record in read(path)]
    human = describe("human doctor", None, {}, turns, [turn.gold for turn in turns])
    subjects = [*models, *((subject, None) for subject in baselines(known))]
    asking = sum(turn.asks for turn in turns)
    return Report(
        scores=(human, *(measure(subject, role, turns) for subject, role in subjects)),
        counts={
            "dialogues": len(chosen),
            "asking turns": asking,
            "advising turns": len(turns) - asking,
            "training dialogues": len(known),
        },
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """What a figure depends on; libraries are looked up, not imported."""
    installed = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    found = {name: metadata.version(name) for name in _LIBRARIES if name in installed}
    return {"bianque": bianque.__version__, "python": platform.python_version(), **found}

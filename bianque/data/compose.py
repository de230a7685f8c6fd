"""Consultations composed from the knowledge base: `python -m bianque compose N --seed S --out x.jsonl.gz`.

A patient with random but consistent answers opens, is asked one thing after another, and is advised on exactly what
was told; then come further questions. Some patients tell more than was asked, do not know, correct themselves, ask
back, are in danger or talk about something else. The same seed gives the same consultations.
"""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from bianque.data.case import BUDGET, Case
from bianque.data.consultation import Consultation
from bianque.data.knowledge import Complaint, Knowledge, bundled

__all__ = ["BUDGET", "Composer", "Consultation", "compose", "write"]


class Composer:
    """Composes from a knowledge base; each consultation depends on its random generator alone.

    `phrases` are further complaints in patients' own words, which a question names as they are: with few of them a
    model learns the list by heart instead of listening.
    """

    def __init__(self, knowledge: Knowledge | None = None, phrases: Sequence[str] = ()) -> None:
        self.knowledge, self.phrases = knowledge or bundled(), phrases
        self.entries = list(self.knowledge.complaints.values())
        self.combined = [
            (place.region, place.department, part + feeling)
            for place in self.knowledge.generic.places
            for part in place.words
            for feeling in self.knowledge.generic.feelings
        ]

    def __call__(self, r: random.Random, entry: Complaint | None = None) -> Consultation:
        first = Case(self, r, entry or self.draw(r))
        first.consult()
        if entry is None and not first.over and r.random() < 0.04:  # another complaint afterwards
            second = Case(self, r, self.draw(r), first.turns)
            second.consult()
            return Consultation(second.entry, second.x, second.turns)
        return Consultation(first.entry, first.x, first.turns)

    def draw(self, r: random.Random) -> Complaint:
        return self.knowledge.generic if r.random() < 0.28 else r.choice(self.entries)


def compose(count: int, seed: int, knowledge: Knowledge | None = None) -> Iterator[Consultation]:
    composer = Composer(knowledge)
    for number in range(count):
        yield composer(random.Random(f"{seed}/{number}"))


def write(count: int, seed: int, out: Path, knowledge: Knowledge | None = None) -> None:
    """`count` consultations as JSONL, gzip-compressed if the name ends in .gz; the same bytes for the same seed."""
    with open(out, "wb") as raw:
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if out.suffix == ".gz" else raw
        with io.TextIOWrapper(packed, encoding="utf-8") as lines:
            for number, consultation in enumerate(compose(count, seed, knowledge)):
                lines.write(json.dumps(consultation.record(f"composed-{seed}-{number}"), ensure_ascii=False) + "\n")

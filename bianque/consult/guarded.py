"""A backend whose preview models say nothing but what `guards` lets through.

A question or an advice with a fault is drawn again, twice at most; then the knowledge base's own words stand in.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from bianque.backends.base import Backend
from bianque.consult import handoff
from bianque.consult.encoder import cosines
from bianque.consult.guards import SHORT, SHORTEST, Filter, Guard, cares, guard
from bianque.consult.heard import Heard
from bianque.consult.patterns import pattern
from bianque.consult.repeats import answered, repeats
from bianque.data.knowledge import Family
from bianque.types import Message, Piece, Sampling, Usage

ATTEMPTS = 3  # a reply is drawn again twice
UNLEARNT = 1  # the same where the models were taught nothing of the complaint
LONGEST = 60  # turns of a round that are read


class Guarded:
    """A backend whose preview models are guarded; every other model passes as it is.

    `counts` of this process: replies, what was drawn again, questions and answers in the knowledge base's own words,
    advices that it completed.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.roles = {card.name: card.role for card in backend.models() if card.preview}
        self.counts: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    async def stream(self, model: str, dialogue: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        role = self.roles.get(model.partition("@")[0])
        run = self.asking if role == "asks" else self.advising if role == "advises" else None
        if run is None:
            source = self.backend.stream(model, dialogue, sampling)
        else:
            self.counts["replies"] += 1
            found = await asyncio.to_thread(guard)
            now = await asyncio.to_thread(GuardedRound, found, dialogue)
            draw = lambda attempt: self.backend.stream(model, now.hinted, again(sampling, attempt))
            source = run(draw, found, now)
        async with aclosing(source) as pieces:
            async for piece in pieces:
                yield piece

    async def asking(self, draw: Draw, found: Guard, now: GuardedRound) -> AsyncGenerator[Piece, None]:
        text, end, heard = "", None, now.heard
        if now.asked and not found.early(heard):  # the answer to what the visitor asks comes with the advice
            yield Piece(text=found.close, finish="stop", usage=Usage(0, 0))
            return
        for attempt in range(now.attempts):
            self.counts["drawn again"] += bool(attempt)
            text = ""
            async with aclosing(draw(attempt)) as pieces:
                async for piece in pieces:
                    text += piece.text
                    if piece.finish:
                        end = piece
                    elif not piece.text and not attempt:
                        yield piece
            text = found.rightly_named(text, now.told)
            text = found.ungreeted(text) if heard.begun else text
            if danger := now.danger or found.danger(heard):
                text = text if cares(text) and len(text) >= SHORT else danger
                break
            if closes(text) and not found.early(heard):
                break
            if not closes(text) and not now.refused(text) and not found.flaw(text, heard) and found.names(text, heard):
                break
        else:
            text = found.hears.question(heard, random.Random(now.told), now.refused) or (
                text if closes(text) else found.close
            )
            self.counts["asked in the knowledge base's words"] += 1
        yield Piece(text=text)
        if end:
            yield ended(end, text)

    async def advising(self, draw: Draw, found: Guard, now: GuardedRound) -> AsyncGenerator[Piece, None]:
        shown, end, heard = "", None, now.heard
        danger, asked = now.danger or found.danger(heard), now.asked
        for attempt in range(now.attempts):
            self.counts["drawn again"] += bool(attempt)
            sieve, waiting = Filter(found, heard, now.told), ""
            async with aclosing(draw(attempt)) as pieces:
                async for piece in pieces:
                    if piece.finish:
                        end = piece
                    elif not piece.text:
                        if not attempt:
                            yield piece
                        continue
                    waiting += sieve.feed(piece.text, ended=piece.finish is not None)
                    if not danger and not asked and not now.news and len(shown + waiting) >= SHORTEST and waiting:
                        yield Piece(text=waiting)
                        shown, waiting = shown + waiting, ""
            if shown or danger or asked or len(waiting) >= SHORTEST:
                break
        if waiting.rstrip().endswith("：") and not shown:  # what leads over to a list of which nothing is left
            waiting = ""
        more = waiting
        if danger and not heard.advised:
            more = waiting if cares(waiting) and len(waiting) >= SHORT else danger
        elif asked:
            more = found.follow_up(waiting, asked, heard, now.spoken, now.round.newest)
            if not heard.advised and not found.early(heard):
                more += f"\n\n{found.completed('', heard)}"
        elif not heard.advised and heard.entry:
            more = waiting + found.completed(shown + waiting, heard)
            # asked before the advice, while the doctor was asking
            pair = found.questions.paired(now.round.said, now.told)
            if pair and pair.say[0] not in now.spoken:
                more += f"\n\n{pair.say[0]}"
        elif heard.entry and (now.news or not shown + waiting):
            more = found.still(heard, now.spoken)
        self.counts["advised in the knowledge base's words"] += more != waiting
        if more:
            yield Piece(text=more)
        if end:
            yield ended(end, shown + more)


def ended(end: Piece, shown: str) -> Piece:
    """The end of a reply of which that was shown: a model cut off by the limit may have been so in what was left out."""
    whole = end.finish == "length" and shown.rstrip().endswith(("。", "！", "？"))
    return replace(end, text="", finish="stop" if whole else end.finish)


class GuardedRound:
    """The round under way, read: what was heard, what the visitor said, and how the model is told of it."""

    def __init__(self, found: Guard, dialogue: Sequence[Message]) -> None:
        recent = dialogue[-LONGEST:]
        now = handoff.read_round(recent)
        turns = [*recent[now.start :]]
        if now.start:
            first = next(message.content for message in recent if message.role == "user")
            turns[0] = replace(turns[0], content=of_whom(turns[0].content, first))
        self.told = "\n".join(message.content for message in dialogue if message.role == "user")
        self.spoken = "\n".join(message.content for message in turns if message.role == "assistant")
        self.heard = found.hears.hear(turns)
        self.danger = self.danger_before(found, recent, now) if now.start and len(turns) == 1 else None
        self.attempts = UNLEARNT if isinstance(self.heard.entry, Family) else ATTEMPTS
        newest = turns[-1].content if turns else ""
        wondering = self.heard.advised or (self.heard.begun and now.want == "question")
        self.asked = found.questions.answers(newest, self.heard, self.told, self.spoken) if wondering else ()
        # What a small model says to news after the advice is another question's answer, more often than not.
        self.news = self.heard.advised and not self.asked and now.want != "chat"
        self.round = now
        self.hinted = [*dialogue[: len(dialogue) - len(turns)], *hinted(turns, self.heard)]

    @staticmethod
    def danger_before(found: Guard, recent: Sequence[Message], now: handoff.Round) -> str | None:
        """What news that opens a round asks for in the light of the round before: 头疼，整天睡 of one who hit his head."""
        before = recent[now.starts[-2] if len(now.starts) > 1 else 0 : now.start]
        was = found.hears.hear(before)
        if was.entry is None:
            return None
        heard = replace(was, told={**was.told}, guessed={*was.guessed})
        found.hears.answered(heard, was.entry, recent[now.start].content, ())
        new = [rule for rule in found.pressing(heard) if rule not in found.pressing(was)]
        return found.danger(heard) if new else None

    def refused(self, question: str) -> bool:
        """Whether the handover would take it for one that was asked, or answered unasked."""
        return repeats(question, self.round.spoken) or answered(question, self.round.said)


def of_whom(text: str, first: str) -> str:
    """What opens a later round, with the patient of the first, if it names none: 孩子 before 又拉肚子了."""
    patient = pattern("people", "patient").search
    found = patient(first)
    return f"{found[0]}{text}" if found and not patient(text) and not re.match("[我俺咱]", text) else text


def hinted(turns: Sequence[Message], heard: Heard) -> Sequence[Message]:
    """The round with a wording of its complaint put first that the model was trained on."""
    entry = heard.entry
    if entry is None or entry.general or not turns or turns[0].role != "user":
        return turns
    plain = tuple(opening.say for opening in entry.open if not opening.has) or (entry.name,)
    if any(text in turns[0].content for text in plain):
        return turns
    nearest = plain[int(cosines(turns[0].content, plain).argmax())]
    return [replace(turns[0], content=f"{nearest}，{turns[0].content}"), *turns[1:]]


Draw = Callable[[int], AsyncGenerator[Piece, None]]


def again(sampling: Sampling, attempt: int) -> Sampling:
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + attempt) % 2**63)


def closes(text: str) -> bool:
    return not re.search(r"[？?]", text)

"""One turn of a consultation: safety first, then who speaks, then the reply as a stream of events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from bianque.backends.base import Backend
from bianque.catalog import builtin
from bianque.consult import alarms, handoff, questions, replies, triage
from bianque.consult.events import Delta, Done, Event, Handed, Loading, Notice, Speaking, Thinking, Timing
from bianque.consult.handoff import CARE, Decision, Round
from bianque.consult.ledger import Ledger
from bianque.consult.pacing import whole
from bianque.consult.spec import MODES, Choices
from bianque.consult.text import clean
from bianque.errors import BadInput, BianQueError, TooLong
from bianque.logs import trace
from bianque.types import Dialogue, Message, Phase, Piece, Sampling, Usage

ATTEMPTS = 3  # a question whose answer was told is drawn again twice
MAX_CHARACTERS = 8000  # of one message
MAX_HISTORY = 200_000  # characters of all turns before it: fifty times what any model's window holds
MAX_TURNS = 1000
ANSWER = 160  # tokens of the answer to a direct question


INTERNAL = "服务内部出错，请稍后重试 (internal error; please retry)"


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply ended by an error."""

    code: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """A deliberate error's own words, or one calm sentence; the trace goes to the log alone."""
        if isinstance(error, BianQueError):
            return cls(error.code, str(error))
        logging.getLogger("bianque").error("a reply failed: %s", trace(error))
        return cls("BQ_INTERNAL", INTERNAL)


@dataclass(slots=True)
class Clock:
    """Times of one turn; the only mutable thing in it."""

    begun: float = field(default_factory=time.monotonic)
    loading_since: float | None = None
    load: float = 0.0
    first: float | None = None

    def now(self) -> float:
        return (time.monotonic() - self.begun) * 1000

    def saw(self, piece: Piece) -> None:
        if piece.progress and self.loading_since is None:
            self.loading_since = self.now()
        elif not piece.progress and self.loading_since is not None:
            self.load += self.now() - self.loading_since
            self.loading_since = None

    def timing(self) -> Timing:
        return Timing(self.load, self.first, self.now())


class Session:
    """Answers turns. It keeps nothing between them: the dialogue comes in and goes out whole."""

    def __init__(self, backend: Backend, ask: str, advise: str, budget: int = 8, stops: bool = True) -> None:
        """`stops`: a sure notice ends the questionnaire. Only who measures models lets them speak on."""
        self.backend, self.ask, self.advise, self.budget, self.stops = backend, ask, advise, budget, stops
        self.cards = builtin.by_name(backend.models())
        # Reading has threads of its own: a red flag must not wait behind models that load in the loop's.
        self.readers = ThreadPoolExecutor(2, "read")
        self.ledger = Ledger()

    def sampling(self, model: str, choices: Choices) -> Sampling:
        """The model's defaults with what the visitor asks for; BadInput names a value out of range."""
        found = choices.sampling.apply(builtin.find(self.cards, model).sampling)
        return replace(found, stop=(*found.stop, *choices.stop)) if choices.stop else found

    def reply(self, history: Dialogue, message: str, choices: Choices = Choices()) -> AsyncGenerator[Event, None]:
        """Answer one message. Closing the iterator ends generation within a token."""
        return self.ledger.kept(self.turn(history, message, choices))

    async def turn(self, history: Dialogue, message: str, choices: Choices) -> AsyncGenerator[Event, None]:
        check_size(message, history)
        if choices.mode not in MODES:
            raise BadInput(f"mode={choices.mode!r}: 可选 (choose one of) {', '.join(MODES)}")
        ask, advise = choices.ask_model or self.ask, choices.advise_model or self.advise
        for model in (ask, advise):
            self.sampling(model, choices)
        message = clean(message)
        dialogue = [*history, Message("user", message)]
        clock, read = Clock(), asyncio.get_running_loop().run_in_executor
        earlier = [turn.content for turn in history if turn.role == "user"]
        if found := await read(self.readers, alarms.check, message, earlier):
            yield Notice.of(found)
        if self.stops and (words := await read(self.readers, replies.care, dialogue)):
            for event in self.fixed(words, clock):
                yield event
            return
        asking = choices.mode == "ask"
        if choices.mode == "auto":
            now = await read(self.readers, handoff.read_round, dialogue)
            decision = handoff.judge(now, budget=self.budget, advise_now=choices.advise_now)
            if decision.phase == "asking":
                self.backend.prepare(advise)
                async with aclosing(self.consult(ask, dialogue, now, choices, clock)) as events:
                    async for said in events:
                        if isinstance(said, Decision):
                            decision = said
                        else:
                            yield said
                if decision.phase == "asking":
                    return
            if decision.reason == "stopped":
                for event in self.fixed(handoff.closing(message), clock):
                    yield event
                return
            if decision.reason != "after_advice":
                yield Handed(ask, advise, decision.reason)
            if decision.reason == "direct_question":
                async with aclosing(self.answer(ask, advise, dialogue, now, choices, clock)) as events:
                    async for event in events:
                        yield event
                return
        phase: Phase = "asking" if asking else "advising"
        async with aclosing(self.speak(ask if asking else advise, phase, dialogue, choices, clock)) as events:
            async for event in events:
                yield event

    def fixed(self, words: str, clock: Clock) -> list[Event]:
        """A reply that no model writes."""
        clock.first = clock.now()
        done = Done(Message("assistant", words, "advising", CARE), "stop", Usage(), clock.timing())
        return [Thinking(CARE, "advising"), Speaking(CARE, "advising", None, self.budget), Delta(words), done]

    async def answer(
        self, ask: str, advise: str, dialogue: Dialogue, now: Round, choices: Choices, clock: Clock
    ) -> AsyncGenerator[Event, None]:
        """The adviser's short answer to a direct question, and behind it what the asking model still wants to know."""
        brief = choices.sampling.max_new_tokens or ANSWER
        short = replace(choices, sampling=replace(choices.sampling, max_new_tokens=min(brief, ANSWER)))
        done = None
        async with aclosing(self.speak(advise, "advising", dialogue, short, clock, now.asked + 1)) as events:
            async for event in events:
                if isinstance(event, Done):
                    done = event
                else:
                    yield event
        if done is None:
            return
        more, question = "", ""
        async with aclosing(self.speak(ask, "asking", dialogue, choices, clock)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    question += event.text
        read = asyncio.get_running_loop().run_in_executor
        decision = await read(self.readers, partial(handoff.judge, now, question, budget=self.budget))
        if decision.phase == "asking" and done.message.content:
            more = f"\n\n{handoff.also(now.newest)}{handoff.question_of(question)}"
            yield Delta(more)
        whole = Message("assistant", done.message.content + more, "asking" if more else "advising", advise)
        yield replace(done, message=whole, timing=clock.timing())

    async def consult(
        self, model: str, dialogue: Dialogue, now: Round, choices: Choices, clock: Clock
    ) -> AsyncGenerator[Event | Decision, None]:
        """Let the asking model speak, unheard until it has asked something new; a Decision to advise ends it unheard.

        A question that the visitor has answered already is drawn again, twice, before it counts as a reason to advise.
        What it wrote is shown from its first whole question on, so an answer that is no question never shows, and
        neither does a notice of what that answer's model did not read.
        """
        judge = partial(handoff.judge, now, budget=self.budget)
        attempts = ATTEMPTS if self.sampling(model, choices).temperature else 1  # greedily it says the same again
        for attempt in range(attempts):
            held, heard, looked, decision = "", False, "", None
            async with aclosing(
                self.speak(model, "asking", dialogue, choices.again(attempt), clock, now.asked + 1)
            ) as events:
                opening: list[Event] = []
                async for event in events:
                    if heard or isinstance(event, Loading | Thinking):
                        if heard or not attempt:
                            yield event
                        continue
                    opening.append(event)
                    ended = isinstance(event, Done)
                    if isinstance(event, Delta):
                        held += event.text
                    candidate = held if ended else held[: questions.last_stop(held)]
                    if not ended and (candidate == looked or not questions.asks(candidate)):
                        continue
                    looked = candidate
                    decision = await asyncio.get_running_loop().run_in_executor(self.readers, judge, candidate)
                    if decision.reason == "told" and now.scant and attempt == attempts - 1:
                        decision = Decision("asking", "question")
                    if decision.phase == "asking":
                        heard = True
                        yield decision
                        for waiting in opening:
                            yield waiting
            if decision is None or decision.phase == "asking":
                return
            if decision.reason != "told" or attempt == attempts - 1:
                yield decision
                return

    async def speak(
        self, model: str, phase: Phase, dialogue: Dialogue, choices: Choices, clock: Clock, question: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """One model's reply from its first sign of life to Done."""
        text, spoke, sieve, reminder = "", False, None, None
        if self.stops:
            read = asyncio.get_running_loop().run_in_executor
            risky = await read(self.readers, replies.endangered, dialogue)
            if risky or phase == "advising":  # a question alone needs no check, and is shown as it is written
                sieve = replies.Sieve(triage.language(dialogue[-1].content), risky)
            if risky and phase == "advising":
                reminder = await read(self.readers, replies.reminder, dialogue)
        async with aclosing(whole(self.backend.stream(model, dialogue, self.sampling(model, choices)))) as pieces:
            async for piece in pieces:
                if isinstance(piece, Exception):
                    if sieve and (rest := sieve.feed("", ended=True)):  # what came of the reply stays
                        yield Delta(rest)
                    raise piece
                clock.saw(piece)
                if piece.progress:
                    yield Loading(piece.progress)
                elif piece.usage and not piece.finish:
                    if piece.usage.dropped_rounds:
                        kept, lang = self.first_kept(model, dialogue), triage.language(dialogue[-1].content)
                        yield Notice("history", triage.history(piece.usage.dropped_rounds, kept, lang))
                    yield Thinking(model, phase)
                if piece.text and not spoke:
                    clock.first = clock.now()
                    host = builtin.find(self.cards, model).host
                    yield Speaking(model, phase, question, self.budget, host)
                    spoke = True
                shown = sieve.feed(piece.text, ended=piece.finish is not None) if sieve else piece.text
                if piece.finish and reminder:
                    shown += f"\n\n{reminder}"
                if shown:
                    text += shown
                    yield Delta(shown)
                if piece.finish:
                    done = Message("assistant", text, phase, model)
                    yield Done(done, piece.finish, piece.usage or Usage(), clock.timing())

    def first_kept(self, model: str, dialogue: Dialogue) -> bool:
        """Whether the model still reads the first complaint: one that reads the last rounds alone does not."""
        checkpoint = builtin.find(self.cards, model).checkpoint
        return checkpoint is None or checkpoint.rounds is None or len(dialogue) // 2 <= checkpoint.rounds


def check_size(message: str, history: Dialogue = ()) -> None:
    """BadInput for an empty message, TooLong for a history that nobody will read."""
    if not message.strip():
        raise BadInput("消息是空的，请先描述您的情况 (the message is empty; describe your complaint first)")
    if len(message) > MAX_CHARACTERS:
        raise BadInput(f"消息有 {len(message)} 个字符，最多 {MAX_CHARACTERS} 个 (the message is too long)")
    size = sum(len(turn.content) for turn in history)
    if len(history) > MAX_TURNS or size > MAX_HISTORY:
        raise TooLong(
            f"history: {len(history)} 条消息，共 {size} 个字符，最多 {MAX_TURNS} 条、{MAX_HISTORY} 个字符；请开始新的对话 "
            "(the dialogue is too long; start a new one)"
        )

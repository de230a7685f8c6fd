"""The Arena tab: two contenders without names answer one message, the visitor votes, and then learns who they were.

Who fights is kept in `gr.State`, which stays on the server; nothing of it is in what the browser gets before the vote.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from random import SystemRandom
from typing import Any, get_args

import gradio as gr

from bianque.api.feedback import add_feedback
from bianque.api.limits import Limits
from bianque.arena import matchmaking
from bianque.arena.battle import CATEGORIES, REASONS, Verdict
from bianque.arena.side_by_side import EVERY, LETTERS, together, verify
from bianque.arena.votes import Votes, Where
from bianque.consult.pacing import Throttle, with_heartbeat
from bianque.consult.session import Delta, Failure, Session
from bianque.consult.transcript import Transcript
from bianque.errors import BianQueError, LoadFailed, OutOfMemory, Unreachable
from bianque.i18n import say
from bianque.logs import trace
from bianque.ui import column, duel, script
from bianque.ui.board import Board, categories
from bianque.ui.duel import SIDES, WORD_OF, Duel
from bianque.ui.events import PRIVATE, QUICK, TURN
from bianque.ui.i18n import lang_of, t
from bianque.ui.render import alert, one_language, paragraph

View = dict[Any, Any]  # component → what it becomes
Views = AsyncGenerator[View, None]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
COOLDOWN = 600.0  # seconds that somebody who cannot be loaded is not drawn
KEPT = 2 * 3600.0  # seconds that a battle which nobody goes on with is kept
CANNOT = (LoadFailed.code, OutOfMemory.code, Unreachable.code)


class Arena:
    """The tab over a session and the kept votes. `can_run` says which models can answer here, and may take seconds."""

    def __init__(
        self, session: Session, votes: Votes, where: Callable[[], Where] = Where, can_run: Callable[[str], bool] = bool,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self.session, self.votes, self.can_run, self.limits = session, votes, can_run, limits or Limits()
        self.board = Board(votes, where)
        self.random = SystemRandom()
        self.cooldown: dict[str, float] = {}  # until when, of those that could not be loaded; the event loop's alone

    def build(self, blocks: gr.Blocks) -> None:
        """Lay out and wire the tab; called inside the page's `gr.Tabs`."""
        with gr.Tab(t("arena"), id="arena", elem_id="bq-arena-tab"):
            self.layout()
            self.board.layout()
            add_feedback(self.session, self.votes.feedback, self.limits)
        self.wire(blocks)
        self.board.wire()

    def layout(self) -> None:
        self.duel = gr.State(None, time_to_live=KEPT)
        with gr.Row(elem_id="bq-duel-line"):
            self.note = gr.HTML(paragraph(self.why("zh-CN")), padding=False, elem_id="bq-duel-note")
            self.next = gr.Button(t("skip"), size="sm", interactive=False, elem_id="bq-next")
        self.alert = gr.HTML("", padding=False, elem_id="bq-duel-alert")
        self.heads, self.chats, self.told = [], [], []
        with gr.Row(elem_id="bq-ring", equal_height=False):
            for side in SIDES:
                with gr.Column(elem_id=f"bq-ring-{side}", elem_classes="bq-side", min_width=200):
                    self.heads.append(gr.HTML(duel.head(side), padding=False))
                    self.chats.append(column.side_chatbot(paragraph(say("zh-CN", "nameless"))))
                    self.told.append(column.figures_line())
        with gr.Column(elem_id="bq-vote", visible=False) as self.panel:
            self.ballot()
        self.box = gr.Textbox(
            label=t("message_both"), show_label=False, placeholder=t("placeholder"), lines=1, max_lines=5,
            submit_btn=True, elem_id="bq-both", autofocus=False, max_length=8000, container=False,
        )  # fmt: skip

    def ballot(self) -> None:
        bare: dict[str, Any] = {"show_label": False, "container": False}
        with gr.Row(elem_id="bq-why-so"):
            self.category = gr.Dropdown(
                named("category", CATEGORIES, "zh-CN"), value="other", label=t("category"), filterable=False, min_width=150,
                elem_id="bq-category", **bare,
            )  # fmt: skip
            self.reasons = gr.CheckboxGroup(
                named("reason", REASONS, "zh-CN"), label=t("reasons"), min_width=200, elem_id="bq-reasons", **bare
            )
        self.consent = gr.Checkbox(label=t("consent"), info=t("consent_why"), container=False, elem_id="bq-consent")
        with gr.Row(elem_id="bq-verdicts"):
            self.verdicts = [gr.Button(t(WORD_OF[verdict]), interactive=False, min_width=90) for verdict in VERDICTS]
        # Here, not among the listeners: whatever else stands among the page's tabs shifts their places in the browser.
        self.named = [gr.State(verdict) for verdict in VERDICTS]

    def wire(self, blocks: gr.Blocks) -> None:
        view = [self.duel, self.note, self.alert, self.box, self.next, *self.heads, *self.chats, *self.told, self.panel]
        view += [*self.verdicts, self.category, self.reasons, self.consent]
        run: Any = self.box.submit(self.send, [self.duel, self.box], view, **TURN)
        # First the end, then the picture, as on the first tab.
        stopped = self.box.stop(None, None, None, cancels=[run], **QUICK)
        stopped.then(self.stopped, [self.duel, self.box], view, **QUICK)
        left = self.next.click(None, None, None, cancels=[run], **QUICK)
        left.then(self.fresh, None, view, **QUICK).then(None, None, None, js=script.js("to_box"), **PRIVATE)
        for verdict, button in zip(self.named, self.verdicts, strict=True):
            given = [verdict, self.duel, self.category, self.reasons, self.consent]
            voted = button.click(self.vote, given, view, **QUICK)
            voted.then(None, None, None, js=script.js("to_next"), **PRIVATE)
            voted.then(self.board.show, [self.board.category], [self.board.table], **QUICK)
        worded = [self.note, *self.chats, self.category, self.reasons, self.board.category]
        blocks.load(self.greet, None, worded, **QUICK)

    # --- a battle -------------------------------------------------------------------------------------------------

    async def send(self, request: gr.Request, fight: Duel | None, message: str) -> Views:
        """The message goes to both sides; the first of a battle decides who fights."""
        lang, fresh = lang_of(request), fight is None
        if not (message or "").strip() or (fight and fight.verdict):
            yield {self.box: gr.skip()}
            return
        try:
            if fight is None:
                yield {
                    self.note: paragraph(say(lang, "pairing")),
                    self.box: gr.Textbox(submit_btn=False, stop_btn=True),
                }
                fight = Duel(await asyncio.to_thread(self.draw, self.resting()), message)
            verify(self.session, [candidate.spec for candidate in fight.candidates], message)
        except BianQueError as error:
            yield {self.note: alert(str(error), lang), self.box: gr.Textbox(submit_btn=True, stop_btn=False)}
            return
        async with aclosing(self.answer(fight, message, lang, fresh)) as views:
            async for view in views:
                yield view

    def why(self, lang: str) -> str:
        """What the tab is for, and which servers elsewhere may get the words."""
        pair, cards = (self.session.ask, self.session.advise), self.session.cards.values()
        met = (card for card in cards if card.endpoint and (card.endpoint.arena or card.name in pair))
        hosts = ", ".join(dict.fromkeys(card.host for card in met if card.host))
        return say(lang, "arena_why") + (f" {say(lang, 'may_leave', host=hosts)}" if hosts else "")

    def resting(self) -> list[str]:
        now = time.monotonic()
        return [name for name, until in self.cooldown.items() if until > now]

    def draw(self, resting: Sequence[str]) -> tuple[matchmaking.Candidate, matchmaking.Candidate]:
        """Runs in a thread: it reads votes, and may find out what memory there is."""
        there = matchmaking.candidates(self.session, self.can_run)
        return matchmaking.draw(there, self.votes.counts(), self.random, resting)

    async def answer(self, fight: Duel, message: str, lang: str, fresh: bool) -> Views:
        """Views of both sides as they grow. A side that fails ends the battle: there is nothing to compare then."""
        before = fight.dialogues()
        sides, throttle, failed = fight.ask(message, self.session.backend.kernel), Throttle(), None
        yield self.running_view(fight, sides, lang, fresh)
        try:
            replies = together(self.session, [candidate.spec for candidate in fight.candidates], before, message)
            with self.limits.admit(len(sides), lambda: sum(side.tokens() for side in sides)):
                async with aclosing(with_heartbeat(replies)) as items:
                    async for item in items:
                        if item and isinstance(item[1], Failure):
                            failed = item[0], item[1]
                            break
                        for place, side in enumerate(sides):
                            if item and item[0] in (place, EVERY):
                                fight.apply(place, side, item[1])  # type: ignore[arg-type]  # no Failure is left
                        if item is None or not isinstance(item[1], Delta) or throttle.ready():
                            yield self.streaming_view(fight, sides, lang)
        except Exception as error:
            failed = EVERY, Failure.of(error)
        yield self.abandoned(fight, *failed, lang) if failed else self.idle_view(fight, lang, invitation(fight, lang))

    def abandoned(self, fight: Duel, place: int, failure: Failure, lang: str) -> View:
        """A battle that counts for nothing; the message goes back into the box, for another pair."""
        if failure.code in CANNOT:
            self.cooldown[fight.candidates[place].name] = time.monotonic() + COOLDOWN
        side = LETTERS[place] if place != EVERY else "A、B"
        note = say(lang, "duel_failed", side=side, why=one_language(failure.text, lang))
        again = gr.Button(say(lang, "next_battle"), interactive=True, variant="secondary")
        shown = [duel.masked(turns, lang) for turns in fight.shown]
        left: View = {self.next: again, self.note: alert(note, lang), **dict(zip(self.chats, shown, strict=True))}
        return self.idle_view(None, lang, note, fight.message) | left

    def stopped(self, fight: Duel | None, box: str, request: gr.Request) -> View:
        """Both have ended; a round that one of them has not finished counts for nothing, and its message returns."""
        lang = lang_of(request)
        if fight is None:
            return self.idle_view(None, lang, self.why(lang))
        if fight.battle.ready:
            return self.idle_view(fight, lang, invitation(fight, lang))
        return self.idle_view(fight, lang, say(lang, "duel_stopped"), (box or "").strip() or fight.message)

    def fresh(self, request: gr.Request) -> View:
        """Nothing is left of the battle before."""
        lang = lang_of(request)
        return self.idle_view(None, lang, self.why(lang))

    async def vote(
        self, verdict: str, fight: Duel | None, category: str, reasons: list[str], consent: bool, request: gr.Request
    ) -> View:
        """Write the vote, then tell who was who; what the core refuses is said above the columns."""
        lang = lang_of(request)
        if fight is None:
            return self.idle_view(None, lang, say(lang, "duel_lost"))
        try:
            vote = fight.vote(verdict, category, reasons or [], consent is True)
            await asyncio.to_thread(self.votes.add, vote)
        except BianQueError as error:
            return {self.note: alert(str(error), lang)}
        except (OSError, sqlite3.Error) as error:
            logging.getLogger("bianque").error("a vote could not be written: %s", trace(error))
            return {self.note: alert(say(lang, "vote_unwritten"), lang)}
        fight.verdict = vote.verdict
        return self.idle_view(fight, lang, duel.revealed(fight, lang))

    def greet(self, request: gr.Request) -> View:
        """First paint: the words that Gradio does not translate by itself."""
        lang = lang_of(request)
        return {
            self.note: paragraph(self.why(lang)), self.category: gr.Dropdown(choices=named("category", CATEGORIES, lang)),
            self.reasons: gr.CheckboxGroup(choices=named("reason", REASONS, lang)),
            self.board.category: gr.Dropdown(choices=categories(lang)),
            **{chat: gr.Chatbot(placeholder=paragraph(say(lang, "nameless"))) for chat in self.chats},
        }  # fmt: skip

    # --- views ----------------------------------------------------------------------------------------------------

    def running_view(self, fight: Duel, sides: Sequence[Transcript], lang: str, fresh: bool) -> View:
        """Replies are on their way: they can be stopped or left, and no vote can be cast."""
        ballot: View = {
            self.category: gr.Dropdown(value=fight.battle.category, interactive=True),
            self.reasons: gr.CheckboxGroup(value=[], interactive=True),
            self.consent: gr.Checkbox(value=False, interactive=True),
        }
        return {
            **self.streaming_view(fight, sides, lang), **dict(zip(self.heads, duel.heads(fight), strict=True)),
            **dict.fromkeys(self.told, ""), self.box: gr.Textbox(value="", submit_btn=False, stop_btn=True),
            self.next: gr.Button(say(lang, "skip"), interactive=True, variant="secondary"),
            self.panel: gr.Column(visible=True), **self.switches(False), **(ballot if fresh else {}),
        }  # fmt: skip

    def streaming_view(self, fight: Duel, sides: Sequence[Transcript], lang: str) -> View:
        """The sides in which something is new."""
        going = "、".join(LETTERS[place] for place, side in enumerate(sides) if not side.ended)
        note = paragraph(say(lang, "answering", columns=going) if going else say(lang, "answered"))
        view: View = {self.duel: fight, self.note: note, self.alert: column.red_flag(fight.shown, lang)}
        for chat, side in zip(self.chats, sides, strict=True):
            if side.changed:
                view[chat], side.changed = duel.hidden(side, lang), False
        return view

    def idle_view(self, fight: Duel | None, lang: str, note: str, text: str | None = None) -> View:
        """No reply is on its way; `text` goes into the message box. A vote is possible once both have replied, and once."""
        voted = fight.verdict if fight else None
        value: dict[str, Any] = {} if text is None else {"value": text}
        word: Any = ("next_battle", "primary") if voted else ("skip", "secondary")
        open_: dict[str, Any] = {"interactive": not voted}
        parts = (
            (self.heads, duel.heads(fight)),
            (self.chats, duel.talks(fight, lang)),
            (self.told, duel.side_figures(fight, lang)),
        )
        return {
            self.duel: fight, self.note: paragraph(note), self.alert: column.red_flag(fight.shown, lang) if fight else "",
            self.box: gr.Textbox(submit_btn=True, stop_btn=False, **open_, **value),
            self.next: gr.Button(say(lang, word[0]), interactive=fight is not None, variant=word[1]),
            **{part: value for shown, values in parts for part, value in zip(shown, values, strict=True)},
            self.panel: gr.Column(visible=fight is not None),
            **self.switches(fight is not None and fight.can_vote, voted),
            self.category: gr.Dropdown(**open_), self.reasons: gr.CheckboxGroup(**open_),
            self.consent: gr.Checkbox(**open_),
        }  # fmt: skip

    def switches(self, on: bool, chosen: Verdict | None = None) -> View:
        """The four verdicts; the one that was chosen stands out."""
        variant: Any = lambda verdict: "primary" if verdict == chosen else "secondary"
        return {
            button: gr.Button(interactive=on, variant=variant(verdict))
            for verdict, button in zip(VERDICTS, self.verdicts, strict=True)
        }


def invitation(fight: Duel, lang: str) -> str:
    """What can be done once both have replied."""
    return say(lang, "vote_now" if fight.can_vote else "same_model")


def named(what: str, names: Sequence[str], lang: str) -> list[tuple[str, str]]:
    """What a visitor reads for each of these names, and the name."""
    return [(say(lang, f"{what}_{name}"), name) for name in names]

"""The Arena tab: two contenders without names answer one message, the visitor votes, and then learns who they were.

Who fights is kept in `gr.State`, which stays on the server; nothing of it is in what the browser gets before the vote.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from random import SystemRandom
from typing import Any, get_args

import gradio as gr

from bianque.arena import battle, matchmaking
from bianque.arena.battle import CATEGORIES, REASONS, Verdict
from bianque.arena.side_by_side import EVERY, INTERNAL, LETTERS, Failure, together, verify
from bianque.arena.votes import Votes, Where
from bianque.consult.pacing import Pace, beating
from bianque.consult.session import Delta, Session
from bianque.errors import BianQueError, LoadFailed, OutOfMemory
from bianque.i18n import say, told
from bianque.ui import column, duel, script
from bianque.ui.board import Board, categories
from bianque.ui.column import Lane
from bianque.ui.duel import SIDES, WORD_OF, Duel
from bianque.ui.i18n import lang_of, t

Views = AsyncGenerator[tuple, None]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
UNCHANGED = (gr.skip(),) * (12 + len(VERDICTS) + 3)
REST = 600.0  # seconds that somebody who cannot be loaded is not drawn
KEPT = 2 * 3600.0  # seconds that a battle which nobody goes on with is kept
CANNOT = (LoadFailed.code, OutOfMemory.code)


class Arena:
    """The tab over a session and the kept votes. `runs` says which models can answer here, and may take seconds."""

    def __init__(
        self, session: Session, votes: Votes, where: Callable[[], Where] = Where, runs: Callable[[str], bool] = bool
    ) -> None:
        self.session, self.votes, self.runs = session, votes, runs
        self.board = Board(votes, where)
        self.random = SystemRandom()
        self.resting: dict[str, float] = {}  # until when, of those that could not be loaded

    def build(self, blocks: gr.Blocks) -> None:
        """Lay out and wire the tab; called inside the page's `gr.Tabs`."""
        with gr.Tab(t("arena"), id="arena", elem_id="bq-arena-tab"):
            self.layout()
            self.board.layout()
        self.wire(blocks)
        self.board.wire()

    def layout(self) -> None:
        self.duel = gr.State(None, time_to_live=KEPT)
        with gr.Row(elem_id="bq-duel-line"):
            self.note = gr.HTML(column.line(say("zh-CN", "arena_why")), padding=False, elem_id="bq-duel-note")
            self.next = gr.Button(t("skip"), size="sm", interactive=False, elem_id="bq-next")
        self.alert = gr.HTML("", padding=False, elem_id="bq-duel-alert")
        self.heads, self.chats, self.told = [], [], []
        with gr.Row(elem_id="bq-ring", equal_height=False):
            for side in SIDES:
                with gr.Column(elem_id=f"bq-ring-{side}", elem_classes="bq-side", min_width=200):
                    self.heads.append(gr.HTML(duel.head(side), padding=False))
                    self.chats.append(column.chatbot(column.line(say("zh-CN", "nameless"))))
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
                named(CATEGORIES, "zh-CN"), value="other", label=t("category"), filterable=False, min_width=150,
                elem_id="bq-category", **bare,
            )  # fmt: skip
            self.reasons = gr.CheckboxGroup(
                named(REASONS, "zh-CN"), label=t("reasons"), min_width=200, elem_id="bq-reasons", **bare
            )
        self.consent = gr.Checkbox(label=t("consent"), info=t("consent_why"), container=False, elem_id="bq-consent")
        with gr.Row(elem_id="bq-verdicts"):
            self.verdicts = [gr.Button(t(WORD_OF[verdict]), interactive=False, min_width=90) for verdict in VERDICTS]
        # Here, not among the listeners: whatever else stands among the page's tabs shifts their places in the browser.
        self.named = [gr.State(verdict) for verdict in VERDICTS]

    def wire(self, blocks: gr.Blocks) -> None:
        view = [self.duel, self.note, self.alert, self.box, self.next, *self.heads, *self.chats, *self.told, self.panel]
        view += [*self.verdicts, self.category, self.reasons, self.consent]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        quick: dict[str, Any] = {**private, "queue": False}
        turn: dict[str, Any] = {**private, "concurrency_id": "chat", "concurrency_limit": 64}
        run: Any = self.box.submit(self.send, [self.duel, self.box], view, **turn)
        # First the end, then the picture, as on the first tab.
        stopped = self.box.stop(None, None, None, cancels=[run], **quick)
        stopped.then(self.stopped, [self.duel, self.box], view, **quick)
        left = self.next.click(None, None, None, cancels=[run], **quick)
        left.then(self.fresh, None, view, **quick).then(None, None, None, js=script.js("to_box"), **private)
        for verdict, button in zip(self.named, self.verdicts, strict=True):
            given = [verdict, self.duel, self.category, self.reasons, self.consent]
            voted = button.click(self.vote, given, view, **quick)
            voted.then(None, None, None, js=script.js("to_next"), **private)
            voted.then(self.board.show, [self.board.category], [self.board.table], **quick)
        worded = [self.note, *self.chats, self.category, self.reasons, self.board.category]
        blocks.load(self.greet, None, worded, **quick)

    # --- a battle -------------------------------------------------------------------------------------------------

    async def send(self, request: gr.Request, fight: Duel | None, message: str) -> Views:
        """The message goes to both sides; the first of a battle decides who fights."""
        lang, fresh = lang_of(request), fight is None
        if not (message or "").strip() or (fight and fight.verdict):
            yield UNCHANGED
            return
        try:
            if fight is None:
                yield noted(say(lang, "pairing"), gr.Textbox(submit_btn=False, stop_btn=True))
                fight = Duel(await asyncio.to_thread(self.draw), message)
            verify(self.session, [entrant.who for entrant in fight.entrants], message)
        except BianQueError as error:
            yield noted(str(error), gr.Textbox(submit_btn=True, stop_btn=False))
            return
        async with aclosing(self.answer(fight, message, lang, fresh)) as views:
            async for view in views:
                yield view

    def draw(self) -> tuple[matchmaking.Entrant, matchmaking.Entrant]:
        """Runs in a thread: it reads votes, and may find out what memory there is."""
        now = time.monotonic()
        resting = [name for name, until in self.resting.items() if until > now]
        there = matchmaking.entrants(self.session, self.runs)
        return matchmaking.draw(there, battle.counts(self.votes.read()[0]), self.random, resting)

    async def answer(self, fight: Duel, message: str, lang: str, fresh: bool) -> Views:
        """Views of both sides as they grow. A side that fails ends the battle: there is nothing to compare then."""
        kernel, before = self.session.backend.kernel, fight.dialogues()
        lanes, pace, failed = fight.ask(message, lang, kernel), Pace(), None
        yield begun(fight, lanes, lang, fresh)
        try:
            replies = together(self.session, [entrant.who for entrant in fight.entrants], before, message)
            async with aclosing(beating(replies)) as items:
                async for item in items:
                    if item and isinstance(item[1], Failure):
                        failed = item[0], item[1]
                        break
                    for place, lane in enumerate(lanes):
                        if item and item[0] in (place, EVERY):
                            fight.take(place, lane, item[1], kernel)  # type: ignore[arg-type]  # no Failure is left
                    if item is None or not isinstance(item[1], Delta) or pace.due():
                        yield grown(fight, lanes, lang)
        except Exception as error:
            logging.getLogger("bianque").error("a battle failed", exc_info=error)
            failed = EVERY, Failure("BQ_INTERNAL", INTERNAL)
        yield self.abandoned(fight, *failed, lang) if failed else settled(fight, lang, say(lang, "vote_now"))

    def abandoned(self, fight: Duel, place: int, failure: Failure, lang: str) -> tuple:
        """A battle that counts for nothing; the message goes back into the box, for another pair."""
        if failure.code in CANNOT:
            self.resting[fight.entrants[place].name] = time.monotonic() + REST
        side = LETTERS[place] if place != EVERY else "A、B"
        note = say(lang, "duel_failed", side=side, why=failure.text)
        view = list(settled(None, lang, note, fight.message))
        view[4] = gr.Button(say(lang, "next_battle"), interactive=True, variant="secondary")
        view[7:9] = [duel.masked(turns, lang) for turns in fight.shown]
        return tuple(view)

    def stopped(self, fight: Duel | None, box: str, request: gr.Request) -> tuple:
        """Both have ended; a round that one of them has not finished counts for nothing, and its message returns."""
        lang = lang_of(request)
        if fight is None:
            return settled(None, lang, say(lang, "arena_why"))
        if fight.battle.ready:
            return settled(fight, lang, say(lang, "vote_now"))
        return settled(fight, lang, say(lang, "duel_stopped"), (box or "").strip() or fight.message)

    def fresh(self, request: gr.Request) -> tuple:
        """Nothing is left of the battle before."""
        lang = lang_of(request)
        return settled(None, lang, say(lang, "arena_why"))

    async def vote(
        self, verdict: str, fight: Duel | None, category: str, reasons: list[str], consent: bool, request: gr.Request
    ) -> tuple:
        """Write the vote, then tell who was who; what the core refuses is said above the columns."""
        lang = lang_of(request)
        if fight is None:
            return settled(None, lang, say(lang, "duel_lost"))
        try:
            vote = fight.vote(verdict, category, reasons or [], consent is True)
            await asyncio.to_thread(self.votes.add, vote)
        except BianQueError as error:
            return noted(str(error))
        except OSError as error:
            logging.getLogger("bianque").error("a vote could not be written", exc_info=error)
            return noted(say(lang, "vote_unwritten"))
        fight.verdict = vote.verdict
        return settled(fight, lang, duel.revealed(fight, lang))

    def greet(self, request: gr.Request) -> tuple:
        """First paint: the words that Gradio does not translate by itself."""
        lang = lang_of(request)
        blank = gr.Chatbot(placeholder=column.line(say(lang, "nameless")))
        return (
            column.line(say(lang, "arena_why")), blank, blank, gr.Dropdown(choices=named(CATEGORIES, lang)),
            gr.CheckboxGroup(choices=named(REASONS, lang)), gr.Dropdown(choices=categories(lang)),
        )  # fmt: skip


def named(table: dict[str, tuple[str, str, str, str]], lang: str) -> list[tuple[str, str]]:
    return [(told(table, lang, key), key) for key in table]


def noted(text: str, box: Any = None) -> tuple:
    """A line above the columns, and nothing else changes."""
    return gr.skip(), column.line(text), gr.skip(), box or gr.skip(), *UNCHANGED[4:]


def begun(fight: Duel, lanes: Sequence[Lane], lang: str, fresh: bool) -> tuple:
    """Replies are on their way: they can be stopped or left, and no vote can be cast."""
    state, note, alert, _, _, *_ = grown(fight, lanes, lang)
    ballot = [gr.Dropdown(value=fight.battle.category, interactive=True), gr.CheckboxGroup(value=[], interactive=True)]
    ballot.append(gr.Checkbox(value=False, interactive=True))
    return (
        state, note, alert, gr.Textbox(value="", submit_btn=False, stop_btn=True),
        gr.Button(say(lang, "skip"), interactive=True, variant="secondary"), *duel.heads(fight),
        *(duel.hidden(lane, lang) for lane in lanes), "", "", gr.Column(visible=True), *switches(False),
        *(ballot if fresh else UNCHANGED[:3]),
    )  # fmt: skip


def grown(fight: Duel, lanes: Sequence[Lane], lang: str) -> tuple:
    chats = [duel.hidden(lane, lang) if lane.changed else gr.skip() for lane in lanes]
    for lane in lanes:
        lane.changed = False
    going = "、".join(LETTERS[place] for place, lane in enumerate(lanes) if not lane.ended)
    note = column.line(say(lang, "answering", columns=going) if going else say(lang, "answered"))
    return fight, note, column.alert(fight.shown), *UNCHANGED[:4], *chats, *UNCHANGED[9:]


def settled(fight: Duel | None, lang: str, note: str, text: str | None = None) -> tuple:
    """No reply is on its way; `text` goes into the message box. A vote is possible once both have replied, and once."""
    voted = fight.verdict if fight else None
    style: dict[str, Any]
    value: dict[str, Any] = {} if text is None else {"value": text}
    word, style = ("next_battle", {"variant": "primary"}) if voted else ("skip", {"variant": "secondary"})
    open_: dict[str, Any] = {"interactive": not voted}
    return (
        fight, column.line(note), column.alert(fight.shown) if fight else "",
        gr.Textbox(submit_btn=True, stop_btn=False, **open_, **value),
        gr.Button(say(lang, word), interactive=fight is not None, **style),
        *duel.heads(fight), *duel.talks(fight, lang), *duel.told(fight, lang), gr.Column(visible=fight is not None),
        *switches(fight is not None and fight.battle.ready and not voted, voted),
        gr.Dropdown(**open_), gr.CheckboxGroup(**open_), gr.Checkbox(**open_),
    )  # fmt: skip


def switches(on: bool, chosen: Verdict | None = None) -> list[gr.Button]:
    """The four verdicts; the one that was chosen stands out."""
    return [gr.Button(interactive=on, variant="primary" if v == chosen else "secondary") for v in VERDICTS]

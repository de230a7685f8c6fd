"""The Compare tab: two to four columns, one message for all of them, replies at the same time from one generator.

As on the first tab, what was said lives in the visitor's browser; every handler gets it and gives it back.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from bianque.arena.side_by_side import (  # fmt: skip
    EVERY,
    FEWEST,
    LETTERS,
    MOST,
    Setup,
    answered,
    as_json,
    as_markdown,
    rewound,
    together,
    verify,
)
from bianque.consult.pacing import Pace, beating
from bianque.consult.session import Delta, Session
from bianque.consult.spec import NUMBERS
from bianque.consult.transcript import Turn, messages
from bianque.errors import BadInput, BianQueError
from bianque.i18n import say
from bianque.ui import column, render, script, settings_panel
from bianque.ui.column import Lane
from bianque.ui.i18n import lang_of, t

Views = AsyncGenerator[tuple, None]
Columns = list[list[Turn]]  # always MOST of them
NONE = (gr.skip(),) * MOST
UNCHANGED = (gr.skip(),) * (7 + 4 * MOST)


@dataclass(frozen=True, slots=True)
class Asked:
    """One message to answer in some columns: the turns before it in each, and who answers."""

    columns: Columns
    before: Mapping[int, list[Turn]]
    message: str
    setup: Setup
    lang: str
    typed: bool = False  # it came from the message box, which is emptied for it


class Compare:
    """The tab over a session. Built once, above the page's `gr.Tabs`; keeps nothing of any visitor."""

    def __init__(self, session: Session) -> None:
        self.session = session
        # Not in the tab: what stands there is read from the browser only when the tab is first looked at.
        self.kept = gr.BrowserState({}, storage_key="bianque-compare", secret="bianque-keeps-nothing")

    def build(self, blocks: gr.Blocks) -> None:
        """Lay out and wire the tab; called inside the page's `gr.Tabs`."""
        with gr.Tab(t("compare"), id="compare", elem_id="bq-compare-tab") as tab:
            self.layout()
        self.tabs = tab.parent
        self.wire(blocks)

    def layout(self) -> None:
        self.end, self.export, self.filename = (gr.Textbox(visible=False) for _ in range(3))
        self.places = [gr.State(place) for place in range(MOST)]  # here: beside tabs each would count as one
        with gr.Row(elem_id="bq-setup"):
            bare: dict[str, Any] = {"show_label": False, "container": False}
            self.count = gr.Radio(
                counts("zh-CN"), value=FEWEST, label=t("columns"), elem_id="bq-count", min_width=150, **bare
            )
            self.seed = gr.Textbox(
                label=t("shared_seed"), placeholder=t("shared_seed"), max_lines=1, max_length=20, min_width=130,
                elem_id="bq-seed", **bare,
            )  # fmt: skip
            self.note = gr.HTML(column.line(say("zh-CN", "compare_why")), padding=False, elem_id="bq-note")
        self.alert = gr.HTML("", padding=False, elem_id="bq-alert")
        first = ("auto", "advise", self.session.ask, self.session.advise)
        with gr.Row(elem_id="bq-sides", equal_height=False):
            self.sides = [column.side(i, self.session, name, i < FEWEST) for i, name in enumerate(first)]
        self.box = gr.Textbox(
            label=t("message_all"), show_label=False, placeholder=t("placeholder"), lines=1, max_lines=5,
            submit_btn=True, elem_id="bq-all", autofocus=False, max_length=8000, container=False,
        )  # fmt: skip
        with gr.Row(elem_id="bq-all-actions", elem_classes="bq-actions"):
            off: dict[str, Any] = {"size": "sm", "interactive": False}
            self.again, self.undo, self.clear = (gr.Button(t(n), **off) for n in ("retry_all", "undo", "clear"))
            self.share, self.markdown, self.json = (gr.Button(t(n), size="sm") for n in ("share", "markdown", "json"))
        self.link = gr.Textbox(
            label=t("link"), visible=False, interactive=False, max_lines=1, buttons=["copy"], elem_id="bq-link"
        )

    def wire(self, blocks: gr.Blocks) -> None:
        sides = self.sides
        view = [self.kept, self.note, self.alert, self.box, self.again, self.undo, self.clear]
        view += [part for name in ("chatbot", "told", "again", "adopt") for part in (getattr(s, name) for s in sides)]
        form = [self.count, self.seed, *(field for side in sides for field in side.fields)]
        private: dict[str, Any] = {"api_visibility": "private"}
        turn: dict[str, Any] = {**private, "concurrency_id": "chat", "concurrency_limit": 64, "show_progress": "hidden"}
        quick: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
        runs: Any = [
            self.box.submit(self.send, [self.box, self.kept, *form], view, **turn),
            self.again.click(self.again_all, [self.kept, *form], view, **turn),
            *(side.again.click(self.again_one, [self.places[i], self.kept, *form], view, **turn) for i, side in enumerate(sides)),
        ]  # fmt: skip
        # First the end, then the picture, as on the first tab.
        stopped = self.box.stop(None, None, None, cancels=runs, **quick)
        stopped.then(self.show, [self.kept, self.count], view, **quick)
        for i, side in enumerate(sides):
            side.adopt.click(self.adopt, [self.places[i], self.kept, self.count], view, **quick)
            side.who.input(self.choose, [side.who], [side.bits, side.chatbot], **quick)
        self.undo.click(self.take_back, [self.kept, self.count], view, **quick)
        self.clear.click(self.wipe, [self.kept, self.count], view, **quick)
        seen = [*(side.column for side in sides), *view]
        self.count.input(self.widen, [self.kept, self.count], seen, **quick)
        shared = self.share.click(self.as_link, [self.box, self.kept, *form], [self.end, self.note, self.link], **quick)
        shared.then(None, [self.end], [self.link], js=script.js("link"), **private)
        for button, kind in ((self.markdown, self.as_markdown), (self.json, self.as_json)):
            written = button.click(kind, [self.kept, *form], [self.export, self.filename, self.note], **quick)
            written.then(None, [self.export, self.filename], None, js=script.js("save"), **private)
        restored = [self.tabs, *form, *seen]
        blocks.load(self.greet, [self.end, self.kept], restored, js=script.js("address"), **quick)

    # --- the form -------------------------------------------------------------------------------------------------

    def setup(self, count: Any, seed: Any, *fields: Any) -> Setup:
        """What the form says; BadInput names the column and the field."""
        wide = len(fields) // MOST
        parts = [fields[place * wide : (place + 1) * wide] for place in range(int(count))]
        named = tuple(column.contender(letter, part) for letter, part in zip(LETTERS, parts, strict=False))
        found = Setup(named, seed=settings_panel.number("seed", seed, int))
        verify(self.session, found.contenders, seed=found.seed)
        return found

    def choose(self, name: str, request: gr.Request) -> tuple:
        cards, lang = self.session.cards, lang_of(request)
        bits = gr.Dropdown(**column.precisions(cards, name, lang))
        return bits, gr.Chatbot(placeholder=column.hint(cards, name, lang))

    # --- a turn ---------------------------------------------------------------------------------------------------

    async def send(self, request: gr.Request, message: str, kept: Any, *form: Any) -> Views:
        before = dict(enumerate(turns_of(kept)))
        async with aclosing(self.begin(request, kept, before, message or "", form, typed=True)) as views:
            async for view in views:
                yield view

    async def again_all(self, request: gr.Request, kept: Any, *form: Any) -> Views:
        rounds = [rewound(turns) for turns in turns_of(kept)]
        message = next((text for _, text in rounds if text), "")
        before = {place: turns for place, (turns, _) in enumerate(rounds)}
        async with aclosing(self.begin(request, kept, before, message, form)) as views:
            async for view in views:
                yield view

    async def again_one(self, request: gr.Request, place: int, kept: Any, *form: Any) -> Views:
        turns, message = rewound(turns_of(kept)[place])
        async with aclosing(self.begin(request, kept, {place: turns}, message or "", form)) as views:
            async for view in views:
                yield view

    async def begin(
        self, request: gr.Request, kept: Any, before: Mapping[int, list[Turn]], message: str, form: Sequence[Any],
        typed: bool = False,
    ) -> Views:  # fmt: skip
        """The message goes to the columns that show; what is wrong with the form is said above them."""
        lang = lang_of(request)
        if not message.strip():
            yield UNCHANGED
            return
        try:
            setup = self.setup(*form)
        except BianQueError as error:
            yield (gr.skip(), column.line(str(error)), *UNCHANGED[2:])
            return
        shown = {place: turns for place, turns in before.items() if place < len(setup.contenders)}
        asked = Asked(turns_of(kept), shown, message, setup, lang, typed)
        async with aclosing(self.answer(asked)) as views:
            async for view in views:
                yield view

    async def answer(self, asked: Asked) -> Views:
        """Views of all columns as they grow. What stands is kept at each view, so a stop loses nothing."""
        kernel, named = self.session.backend.kernel, asked.setup.contenders
        lanes = {
            place: Lane(turns, asked.message, named[place], asked.lang, kernel) for place, turns in asked.before.items()
        }
        for place, lane in lanes.items():
            asked.columns[place] = lane.turns
        places, pace = list(lanes), Pace()
        yield begun(asked, lanes)
        try:
            replies = together(
                self.session, [named[place] for place in places], [messages(asked.before[place]) for place in places],
                asked.message, asked.setup.seed,
            )  # fmt: skip
            async with aclosing(beating(replies)) as items:
                async for item in items:
                    if item:
                        place, event = item
                        for lane in lanes.values() if place == EVERY else [lanes[places[place]]]:
                            lane.take(event)
                    if item is None or not isinstance(item[1], Delta) or pace.due():
                        yield grown(asked, lanes)
        except Exception as error:
            logging.getLogger("bianque").error("a comparison failed", exc_info=error)
        for lane in lanes.values():
            lane.end()
            lane.look()
        yield settled(asked.columns, asked.lang, len(named), asked.setup, column.progress(lanes, asked.lang))

    # --- the rest -------------------------------------------------------------------------------------------------

    def show(self, kept: Any, count: int, request: gr.Request) -> tuple:
        return settled(turns_of(kept), lang_of(request), count, link=link_of(kept))

    def adopt(self, place: int, kept: Any, count: int, request: gr.Request) -> tuple:
        """Every column goes on from this one's conversation."""
        turns = turns_of(kept)[place]
        same = [copy.deepcopy(turns) if shown < count else [] for shown in range(MOST)]
        return settled(same, lang_of(request), count, link=link_of(kept))

    def take_back(self, kept: Any, count: int, request: gr.Request) -> tuple:
        """The last message and its replies go; the message returns to the box."""
        rounds = [rewound(turns) for turns in turns_of(kept)]
        text = next((message for _, message in rounds if message), None)
        left = [turns for turns, _ in rounds]
        return settled(left, lang_of(request), count, text=text, link=link_of(kept))

    def wipe(self, kept: Any, count: int, request: gr.Request) -> tuple:
        return settled(turns_of(None), lang_of(request), count, text="", link=link_of(kept))

    def widen(self, kept: Any, count: int, request: gr.Request) -> tuple:
        """More or fewer columns; one that goes takes its conversation with it."""
        left = [turns if place < count else [] for place, turns in enumerate(turns_of(kept))]
        shown = [gr.Column(visible=place < count) for place in range(MOST)]
        return *shown, *settled(left, lang_of(request), count, link=link_of(kept))

    def greet(self, address: str, kept: Any, request: gr.Request) -> tuple:
        """First paint: a link's setup, or else what the browser kept, and the words Gradio does not translate itself."""
        lang, wrong, setup = lang_of(request), "", self.decoded(link_of(kept))[0]
        linked, wrong = self.decoded(address)
        known = turns_of(kept)
        if linked and (setup is None or (linked.contenders, linked.seed) != (setup.contenders, setup.seed)):
            setup, known = linked, turns_of(None)
        text = linked.message if linked and not any(known) else None
        count = len(setup.contenders) if setup else FEWEST
        tabs = gr.Tabs(selected="compare") if linked or wrong else gr.skip()
        shown = [gr.Column(visible=place < count) if setup else gr.skip() for place in range(MOST)]
        note = wrong or say(lang, "compare_why")
        view = list(settled(known, lang, count, setup, note, text, link_of(kept)))
        bare = setup is None and not any(known)
        if bare:  # nothing to restore, and a first message may be on its way: nothing is drawn over it
            view = [UNCHANGED[0], view[1], *UNCHANGED[2:]]
        for place, name in enumerate(self.named(setup)):
            drawn: dict[str, Any] = {} if bare else {"value": view[7 + place]}
            view[7 + place] = gr.Chatbot(placeholder=column.hint(self.session.cards, name, lang), **drawn)
        return tabs, *self.filled(setup, lang), *shown, *view

    def decoded(self, link: str) -> tuple[Setup | None, str]:
        """A link's setup, and what is wrong with it."""
        try:
            setup = Setup.decode(link)
            if setup:
                verify(self.session, setup.contenders, seed=setup.seed)
        except BianQueError as error:
            return None, str(error)
        return setup, ""

    def filled(self, setup: Setup | None, lang: str) -> list[Any]:
        """Count, seed and the fields of every column; without a setup their words alone."""
        count: dict[str, Any] = {"value": len(setup.contenders)} if setup else {}
        found: list[Any] = [gr.Radio(choices=counts(lang), **count), number(setup.seed) if setup else gr.skip()]
        cards = self.session.cards
        for place, name in enumerate(self.named(setup)):
            chosen = setup.contenders[place] if setup and place < len(setup.contenders) else None
            bits = column.precisions(cards, name, lang, chosen.bits if chosen else None)
            if setup is None:  # somebody may be filling them in already
                found += [gr.Dropdown(choices=column.names(cards, lang)), gr.Dropdown(choices=bits["choices"])]
                found += [gr.skip()] * len(NUMBERS)
                continue
            found += [gr.Dropdown(choices=column.names(cards, lang), value=name), gr.Dropdown(**bits)]
            found += [number(getattr(chosen and chosen.wishes, key, None)) for key in NUMBERS]
        return found

    def named(self, setup: Setup | None) -> list[str]:
        """Whose name stands above each column: the setup's, then this page's own choice."""
        given = [contender.name for contender in setup.contenders] if setup else []
        return given + [str(side.who.value) for side in self.sides[len(given) :]]

    def as_link(self, text: str, kept: Any, *form: Any) -> tuple:
        """The form and the message: what is in the box, or else what the conversation began with."""
        first = next((turns[0]["content"] for turns in turns_of(kept) if turns), "")
        try:
            link = replace(self.setup(*form), message=(text or "").strip() or first).encode()
        except BianQueError as error:
            return "", column.line(str(error)), gr.skip()
        return link, gr.skip(), gr.Textbox(visible=True)

    def as_markdown(self, kept: Any, *form: Any) -> tuple:
        return self.exported(as_markdown, "md", kept, form)

    def as_json(self, kept: Any, *form: Any) -> tuple:
        return self.exported(as_json, "json", kept, form)

    def exported(self, write: Any, ending: str, kept: Any, form: Sequence[Any]) -> tuple:
        try:
            setup = self.setup(*form)
        except BadInput as error:
            return "", "", column.line(str(error))
        first = next((turns[0]["content"] for turns in turns_of(kept) if turns), "")
        text = write(replace(setup, message=first), turns_of(kept), self.session.cards)
        return text, f"bianque-compare.{ending}", gr.skip()


def turns_of(kept: Any) -> Columns:
    """Every column's turns as a browser kept them; nothing of what is none."""
    found = kept.get("columns") if isinstance(kept, dict) else None
    given = [render.kept(turns) for turns in found[:MOST]] if isinstance(found, list) else []
    return given + [[] for _ in range(MOST - len(given))]


def link_of(kept: Any) -> str:
    link = kept.get("link") if isinstance(kept, dict) else None
    return link if isinstance(link, str) else ""


def counts(lang: str) -> list[tuple[str, int]]:
    return [(say(lang, "some_columns", count=count), count) for count in range(FEWEST, MOST + 1)]


def number(value: object) -> str:
    return "" if value is None else str(value)


def begun(asked: Asked, lanes: Mapping[int, Lane]) -> tuple:
    """Replies are on their way: they can be stopped, and nothing else can be begun beside them."""
    kept: dict[str, Any] = {"value": ""} if asked.typed else {}
    off = [gr.Button(interactive=False) for _ in range(3 + 2 * MOST)]
    state, note, alert, *_ = grown(asked, lanes)
    drawn = pictures(lanes)
    return state, note, alert, gr.Textbox(submit_btn=False, stop_btn=True, **kept), *off[:3], *drawn, *off[3:]


def grown(asked: Asked, lanes: Mapping[int, Lane]) -> tuple:
    drawn = pictures({place: lane for place, lane in lanes.items() if lane.changed})
    state = {"columns": asked.columns, "link": asked.setup.encode()}
    note, flag = column.line(column.progress(lanes, asked.lang)), column.alert(asked.columns)
    return state, note, flag, *UNCHANGED[:4], *drawn, *NONE, *NONE


def pictures(lanes: Mapping[int, Lane]) -> list[Any]:
    """Every column's chatbot and line; nothing new where no lane is given."""
    looks = {place: lane.look() for place, lane in lanes.items()}
    return [looks[place][i] if place in looks else gr.skip() for i in (0, 1) for place in range(MOST)]


def settled(
    kept: Columns, lang: str, count: int, setup: Setup | None = None, note: str = "", text: str | None = None,
    link: str = "",
) -> tuple:  # fmt: skip
    """No reply is on its way; `text` goes into the message box."""
    state = {"columns": kept, "link": setup.encode() if setup else link}
    value: dict[str, Any] = {} if text is None else {"value": text}
    shown = range(MOST)
    some = any(kept[:count])
    return (
        state, column.line(note or say(lang, "compare_why")), column.alert(kept),
        gr.Textbox(submit_btn=True, stop_btn=False, **value), *(gr.Button(interactive=some) for _ in range(3)),
        *(column.talk(kept[place], lang) for place in shown), *(column.told(kept[place], lang) for place in shown),
        *(gr.Button(interactive=bool(kept[place])) for place in shown),
        *(gr.Button(interactive=answered(kept[place])) for place in shown),
    )  # fmt: skip

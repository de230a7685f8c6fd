"""The Compare tab: two to four columns, one message for all of them, replies at the same time from one generator.

As on the first tab, what was said lives in the visitor's browser; every handler gets it and gives it back.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from bianque.api.limits import Limits
from bianque.arena.share import Setup, comparison_json, comparison_markdown
from bianque.arena.side_by_side import EVERY, FEWEST, LETTERS, MOST, together, verify
from bianque.consult.pacing import Throttle, with_heartbeat
from bianque.consult.session import Delta, Failure, Session
from bianque.consult.transcript import Transcript, Turn, messages, rewound
from bianque.errors import BianQueError
from bianque.i18n import say
from bianque.ui import column, render, script, settings_panel
from bianque.ui.events import PRIVATE, QUICK, TURN, saved
from bianque.ui.i18n import lang_of, t
from bianque.ui.render import paragraph

View = dict[Any, Any]  # component → what it becomes
Views = AsyncGenerator[View, None]
Columns = list[list[Turn]]  # always MOST of them


@dataclass(frozen=True, slots=True)
class NewRound:
    """One message to answer in some columns: the turns before it in each, and who answers."""

    columns: Columns
    before: Mapping[int, list[Turn]]
    message: str
    setup: Setup
    lang: str
    typed: bool = False  # it came from the message box, which is emptied for it


class Compare:
    """The tab over a session. Built once, above the page's `gr.Tabs`; keeps nothing of any visitor."""

    def __init__(self, session: Session, limits: Limits | None = None) -> None:
        self.session, self.limits = session, limits or Limits()
        # Not in the tab: what stands there is read from the browser only when the tab is first looked at.
        self.kept = gr.BrowserState({}, storage_key="bianque-compare", secret="bianque-keeps-nothing")

    def build(self, blocks: gr.Blocks) -> None:
        """Lay out and wire the tab; called inside the page's `gr.Tabs`."""
        with gr.Tab(t("compare"), id="compare", elem_id="bq-compare-tab") as tab:
            self.layout()
        self.tabs = tab.parent
        self.place = self.tabs.parent  # the tab that these tabs stand in
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
            self.note = gr.HTML(paragraph(say("zh-CN", "compare_why")), padding=False, elem_id="bq-note")
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
            self.share = gr.Button(t("share"), size="sm")
            self.markdown, self.json = (gr.Button(t(n), **off) for n in ("markdown", "json"))
            self.along = gr.Checkbox(label=t("share_message"), container=False, min_width=120, elem_id="bq-along")
        self.link = gr.Textbox(
            label=t("link"), visible=False, interactive=False, max_lines=1, buttons=["copy"], elem_id="bq-link"
        )

    def wire(self, blocks: gr.Blocks) -> None:
        sides = self.sides
        view = [self.kept, self.note, self.alert, self.box, self.count, *self.acting()]
        view += [part for side in sides for part in (side.chatbot, side.told, side.again, side.adopt)]
        form = [self.count, self.seed, *(field for side in sides for field in side.fields)]
        given: Any = {self.kept, *form}  # a set: handlers get one value by component
        runs: Any = [
            self.box.submit(self.send, given | {self.box}, view, **TURN),
            self.again.click(self.again_all, given, view, **TURN),
            *(side.again.click(self.again_one, given | {self.places[i]}, view, **TURN) for i, side in enumerate(sides)),
        ]  # fmt: skip
        # First the end, then the picture, as on the first tab.
        for ended, picture in ((self.box.stop, self.show), (self.clear.click, self.wipe)):
            ended(None, None, None, cancels=runs, **QUICK).then(picture, [self.kept, self.count], view, **QUICK)
        for i, side in enumerate(sides):
            side.adopt.click(self.adopt, [self.places[i], self.kept, self.count], view, **QUICK)
            side.who.input(self.choose, [side.who], [side.bits, side.chatbot], **QUICK)
        self.undo.click(self.take_back, [self.kept, self.count], view, **QUICK)
        seen = [*(side.column for side in sides), *view]
        self.count.input(self.widen, [self.kept, self.count], seen, **QUICK)
        linked = [self.end, self.note, self.link]
        shared = self.share.click(self.as_link, given | {self.box, self.along}, linked, **QUICK)
        shared.then(None, [self.end], [self.link], js=script.js("link"), **PRIVATE)
        for button, kind in ((self.markdown, self.as_markdown), (self.json, self.as_json)):
            saved(
                button.click(kind, given, [self.export, self.filename, self.note], **QUICK), self.export, self.filename
            )
        restored = [self.tabs, self.place.parent, *dict.fromkeys([*form, *seen])]
        blocks.load(self.greet, [self.end, self.kept], restored, js=script.js("address"), **QUICK)

    def acting(self) -> tuple[gr.Button, ...]:
        """The buttons that need a conversation."""
        return self.again, self.undo, self.clear, self.markdown, self.json

    # --- the form -------------------------------------------------------------------------------------------------

    def setup(self, data: Mapping[Any, Any], lang: str) -> Setup:
        """What the form says; BadInput names the column and the field."""
        shown = zip(LETTERS, self.sides[: int(data[self.count])], strict=False)
        named = tuple(side.spec(letter, data, lang) for letter, side in shown)
        found = Setup(named, seed=settings_panel.field_number("seed", data[self.seed], int, lang))
        verify(self.session, found.contenders, seed=found.seed)
        return found

    def choose(self, name: str, request: gr.Request) -> tuple:
        cards, lang = self.session.cards, lang_of(request)
        bits = gr.Dropdown(**column.bits_choices(cards, name, lang))
        return bits, gr.Chatbot(placeholder=column.hint(cards, name, lang))

    # --- a turn ---------------------------------------------------------------------------------------------------

    async def send(self, request: gr.Request, data: Mapping[Any, Any]) -> Views:
        before = dict(enumerate(kept_columns(data[self.kept])))
        async with aclosing(self.begin(request, data, before, data[self.box] or "", typed=True)) as views:
            async for view in views:
                yield view

    async def again_all(self, request: gr.Request, data: Mapping[Any, Any]) -> Views:
        rounds = [rewound(turns) for turns in kept_columns(data[self.kept])[: int(data[self.count])]]
        message = next((text for _, text in rounds if text), "")
        before = {place: turns for place, (turns, _) in enumerate(rounds)}
        async with aclosing(self.begin(request, data, before, message)) as views:
            async for view in views:
                yield view

    async def again_one(self, request: gr.Request, data: Mapping[Any, Any]) -> Views:
        place = next(place for place, state in enumerate(self.places) if state in data)
        turns, message = rewound(kept_columns(data[self.kept])[place])
        async with aclosing(self.begin(request, data, {place: turns}, message or "")) as views:
            async for view in views:
                yield view

    async def begin(
        self,
        request: gr.Request,
        data: Mapping[Any, Any],
        before: Mapping[int, list[Turn]],
        message: str,
        typed: bool = False,
    ) -> Views:
        """The message goes to the columns that show; what is wrong with the form is said above them."""
        lang = lang_of(request)
        if not message.strip():
            yield {self.box: gr.skip()}
            return
        try:
            setup = self.setup(data, lang)
        except BianQueError as error:
            yield {self.note: render.alert(str(error), lang)}
            return
        shown = {place: turns for place, turns in before.items() if place < len(setup.contenders)}
        asked = NewRound(kept_columns(data[self.kept]), shown, message, setup, lang, typed)
        async with aclosing(self.answer(asked)) as views:
            async for view in views:
                yield view

    async def answer(self, asked: NewRound) -> Views:
        """Views of all columns as they grow. What stands is kept at each view, so a stop loses nothing."""
        kernel, specs = self.session.backend.kernel, asked.setup.contenders
        growing = {
            place: Transcript(turns, asked.message, kernel, apart=True, contender=specs[place].label)
            for place, turns in asked.before.items()
        }
        for place, found in growing.items():
            asked.columns[place] = found.turns
        places, throttle = list(growing), Throttle()
        yield self.running_view(asked, growing)
        try:
            replies = together(
                self.session, [specs[place] for place in places], [messages(asked.before[place]) for place in places],
                asked.message, asked.setup.seed,
            )  # fmt: skip
            with self.limits.admit(len(places), lambda: sum(found.tokens() for found in growing.values())):
                async with aclosing(with_heartbeat(replies)) as items:
                    async for item in items:
                        if item:
                            place, event = item
                            for found in growing.values() if place == EVERY else [growing[places[place]]]:
                                found.apply(event)
                        if item is None or not isinstance(item[1], Delta) or throttle.ready():
                            yield self.streaming_view(asked, growing)
        except Exception as error:
            failed = Failure.of(error)
            for found in growing.values():
                found.apply(failed)
        for found in growing.values():
            found.end()
            column.look(found, asked.lang)
        note = column.progress_line(growing, asked.lang)
        yield self.idle_view(asked.columns, asked.lang, len(specs), asked.setup, note)

    # --- views ----------------------------------------------------------------------------------------------------

    def running_view(self, asked: NewRound, growing: Mapping[int, Transcript]) -> View:
        """Replies are on their way: they can be stopped or cleared, and nothing else can be begun beside them."""
        kept: dict[str, Any] = {"value": ""} if asked.typed else {}
        buttons = [self.again, self.undo, *(b for side in self.sides for b in (side.again, side.adopt))]
        return {
            **self.streaming_view(asked, growing), self.box: gr.Textbox(submit_btn=False, stop_btn=True, **kept),
            **{button: gr.Button(interactive=False) for button in buttons},
            self.clear: gr.Button(interactive=True), self.count: gr.Radio(interactive=False),
        }  # fmt: skip

    def streaming_view(self, asked: NewRound, growing: Mapping[int, Transcript]) -> View:
        """The columns in which something is new."""
        view: View = {
            self.kept: {"columns": asked.columns, "link": asked.setup.encode()},
            self.note: paragraph(column.progress_line(growing, asked.lang)), self.alert: column.red_flag(asked.columns, asked.lang),
        }  # fmt: skip
        for place, found in growing.items():
            if found.changed:
                view[self.sides[place].chatbot], view[self.sides[place].told] = column.look(found, asked.lang)
        return view

    def idle_view(
        self, kept: Columns, lang: str, count: int, setup: Setup | None = None, note: str = "", text: str | None = None,
        link: str = "",
    ) -> View:  # fmt: skip
        """No reply is on its way; `text` goes into the message box."""
        value: dict[str, Any] = {} if text is None else {"value": text}
        view: View = {
            self.kept: {"columns": kept, "link": setup.encode() if setup else link},
            self.note: paragraph(note or say(lang, "compare_why")), self.alert: column.red_flag(kept, lang),
            self.box: gr.Textbox(submit_btn=True, stop_btn=False, **value), self.count: gr.Radio(interactive=True),
            **{button: gr.Button(interactive=any(kept[:count])) for button in self.acting()},
        }  # fmt: skip
        for side, turns in zip(self.sides, kept, strict=True):
            view |= side.idle(turns, lang)
        return view

    # --- the rest -------------------------------------------------------------------------------------------------

    def show(self, kept: Any, count: int, request: gr.Request) -> View:
        return self.idle_view(kept_columns(kept), lang_of(request), count, link=link_of(kept))

    def adopt(self, place: int, kept: Any, count: int, request: gr.Request) -> View:
        """Every column that shows goes on from this one's conversation."""
        known = kept_columns(kept)
        same = [copy.deepcopy(known[place]) if shown < count else turns for shown, turns in enumerate(known)]
        return self.idle_view(same, lang_of(request), count, link=link_of(kept))

    def take_back(self, kept: Any, count: int, request: gr.Request) -> View:
        """The last message and its replies go; the message returns to the box."""
        known = kept_columns(kept)
        rounds = [rewound(turns) for turns in known[:count]]
        text = next((message for _, message in rounds if message), None)
        left = [turns for turns, _ in rounds] + known[count:]
        return self.idle_view(left, lang_of(request), count, text=text, link=link_of(kept))

    def wipe(self, kept: Any, count: int, request: gr.Request) -> View:
        return self.idle_view(kept_columns(None), lang_of(request), count, text="", link=link_of(kept))

    def widen(self, kept: Any, count: int, request: gr.Request) -> View:
        """More or fewer columns; one that is not shown keeps its conversation, and has it when it comes back."""
        lang, known = lang_of(request), kept_columns(kept)
        hidden = "、".join(LETTERS[place] for place in range(count, MOST) if known[place])
        note = say(lang, "columns_hidden", columns=hidden) if hidden else ""
        return self.shown(count) | self.idle_view(known, lang, count, note=note, link=link_of(kept))

    def shown(self, count: int) -> View:
        return {side.column: gr.Column(visible=place < count) for place, side in enumerate(self.sides)}

    def greet(self, address: str, kept: Any, request: gr.Request) -> View:
        """First paint: a link's setup, or else what the browser kept, and the words Gradio does not translate itself."""
        lang, setup = lang_of(request), self.decoded(link_of(kept))[0]
        linked, wrong = self.decoded(address)
        known = kept_columns(kept)
        if linked and (setup is None or (linked.contenders, linked.seed) != (setup.contenders, setup.seed)):
            setup, known = linked, kept_columns(None)
        text = linked.message if linked and not any(known) else None
        count = len(setup.contenders) if setup else FEWEST
        note = render.alert(wrong, lang) if wrong else paragraph(say(lang, "compare_why"))
        view: View = {}
        if linked or wrong:
            view = {self.tabs: gr.Tabs(selected="compare"), self.place.parent: gr.Tabs(selected=self.place.id)}
        view |= {self.note: note, **self.filled(setup, lang)}
        if setup:
            view |= self.shown(count)
        drawn: list[dict[str, Any]] = [{} for _ in self.sides]
        if setup or any(known):  # otherwise a first message may be on its way: nothing is drawn over it
            view = self.idle_view(known, lang, count, setup, text=text, link=link_of(kept)) | view
            drawn = [{"value": view[side.chatbot]} for side in self.sides]
        for side, name, value in zip(self.sides, self.named(setup), drawn, strict=False):
            view[side.chatbot] = gr.Chatbot(placeholder=column.hint(self.session.cards, name, lang), **value)
        return view

    def decoded(self, link: str) -> tuple[Setup | None, str]:
        """A link's setup, and what is wrong with it."""
        try:
            setup = Setup.decode(link)
            if setup:
                verify(self.session, setup.contenders, seed=setup.seed)
        except BianQueError as error:
            return None, str(error)
        return setup, ""

    def filled(self, setup: Setup | None, lang: str) -> View:
        """Count, seed and the fields of every column; without a setup their words alone: somebody may be filling them in."""
        cards = self.session.cards
        if setup is None:
            view: View = {self.count: gr.Radio(choices=counts(lang))}
            for side, name in zip(self.sides, self.named(None), strict=False):
                view[side.who] = gr.Dropdown(choices=column.names(cards, lang))
                view[side.bits] = gr.Dropdown(choices=column.bits_choices(cards, name, lang)["choices"])
            return view
        seed = "" if setup.seed is None else str(setup.seed)
        view = {self.count: gr.Radio(choices=counts(lang), value=len(setup.contenders)), self.seed: seed}
        for place, (side, name) in enumerate(zip(self.sides, self.named(setup), strict=False)):
            chosen = setup.contenders[place] if place < len(setup.contenders) else None
            view |= side.filled(cards, name, chosen, lang)
        return view

    def named(self, setup: Setup | None) -> list[str]:
        """Whose name stands above each column: the setup's, then this page's own choice."""
        given = [contender.name for contender in setup.contenders] if setup else []
        return given + [str(side.who.value) for side in self.sides[len(given) :]]

    def as_link(self, request: gr.Request, data: Mapping[Any, Any]) -> View:
        """The form, and only if it is wanted the message: what is in the box, or else what the conversation began with."""
        lang = lang_of(request)
        message = ((data[self.box] or "").strip() or first_of(data[self.kept])) if data[self.along] is True else ""
        try:
            link = replace(self.setup(data, lang), message=message).encode()
        except BianQueError as error:
            return {self.end: "", self.note: render.alert(str(error), lang)}
        return {self.end: link, self.link: gr.Textbox(visible=True)}

    def as_markdown(self, request: gr.Request, data: Mapping[Any, Any]) -> View:
        return self.exported(comparison_markdown, "md", data, lang_of(request))

    def as_json(self, request: gr.Request, data: Mapping[Any, Any]) -> View:
        return self.exported(comparison_json, "json", data, lang_of(request))

    def exported(self, write: Any, ending: str, data: Mapping[Any, Any], lang: str) -> View:
        try:
            setup = self.setup(data, lang)
        except BianQueError as error:
            return {self.export: "", self.filename: "", self.note: render.alert(str(error), lang)}
        kept = data[self.kept]
        text = write(replace(setup, message=first_of(kept)), kept_columns(kept), self.session.cards)
        return {self.export: text, self.filename: f"bianque-compare.{ending}"}


def first_of(kept: Any) -> str:
    """What the conversation began with."""
    return next((turns[0]["content"] for turns in kept_columns(kept) if turns), "")


def kept_columns(kept: Any) -> Columns:
    """Every column's turns as a browser kept them; nothing of what is none."""
    found = kept.get("columns") if isinstance(kept, dict) else None
    given = [render.kept_turns(turns) for turns in found[:MOST]] if isinstance(found, list) else []
    return given + [[] for _ in range(MOST - len(given))]


def link_of(kept: Any) -> str:
    link = kept.get("link") if isinstance(kept, dict) else None
    return link if isinstance(link, str) else ""


def counts(lang: str) -> list[tuple[str, int]]:
    return [(say(lang, "some_columns", count=count), count) for count in range(FEWEST, MOST + 1)]

"""The page: layout and events. A dialogue lives in the visitor's browser; every handler gets it and gives it back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gradio as gr

from bianque.api import evaluate as evaluate_api
from bianque.api import gradio as endpoints
from bianque.api.limits import Limits
from bianque.arena.feedback import REASONS, record_feedback
from bianque.consult import transcript
from bianque.consult.handoff import CARE
from bianque.consult.pacing import Throttle, with_heartbeat
from bianque.consult.session import Delta, Failure, Session
from bianque.consult.summary import summary
from bianque.consult.text import LABEL
from bianque.consult.transcript import Transcript, Turn, rewound
from bianque.i18n import say
from bianque.types import MODES
from bianque.ui import about, frame, render, script, settings_panel
from bianque.ui.arena import Arena
from bianque.ui.compare import Compare
from bianque.ui.evaluate import Evaluate
from bianque.ui.events import PRIVATE, QUICK, TURN, saved
from bianque.ui.i18n import lang_of, t

View = dict[Any, Any]  # component → what it becomes
Views = AsyncGenerator[View, None]
# What two buttons say to the models, whatever the page's language.
NOW = "请直接给出建议。"
GO_ON = "请继续问我。"
HINTS = {"asking": "placeholder_answer", "advising": "placeholder_more"}  # what the empty box says after a reply


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message to answer: the turns before it, its text, and what the visitor's page says besides."""

    history: list[Turn]
    message: str
    lang: str
    advise_now: bool = False


class Page:
    """One page over a session. Built once; keeps nothing of any visitor."""

    def __init__(
        self, session: Session, examples: Path, arena: Arena | None = None, limits: Limits | None = None
    ) -> None:
        self.session, self.arena, self.limits = session, arena, limits or Limits()
        self.cards, self.thumbs = session.cards, ("Like", "Dislike") if arena else ()
        self.examples = json.loads(examples.read_text(encoding="utf-8-sig"))

    def build(self) -> gr.Blocks:
        # What is uploaded is copied at once to where it is used: Gradio's own copy goes within an hour or so.
        kept: dict[str, Any] = {"analytics_enabled": False, "delete_cache": (600, 3600)}
        with gr.Blocks(title=say("zh-CN", "title"), fill_width=True, **kept) as blocks:
            self.head = gr.HTML(frame.header("zh-CN", greeted=False), padding=False)
            compare = Compare(self.session, self.limits)
            with gr.Tabs():
                with gr.Tab(t("consult"), id="consult", elem_id="bq-consult-tab"):
                    self.consult_tab()
                with gr.Tab(t("research"), id="research", elem_id="bq-research-tab"), gr.Tabs(elem_id="bq-research"):
                    compare.build(blocks)
                    if self.arena:
                        self.arena.build(blocks)
                    Evaluate(self.session).build()
                with gr.Tab(t("about"), id="about", elem_id="bq-about-tab"):
                    self.about = gr.Markdown(self.story("zh-CN"), elem_id="bq-about")
            self.foot = gr.HTML(
                frame.foot("zh-CN", self.notes("zh-CN", "preview_short")), padding=False, elem_id="bq-foot"
            )
            self.wire(blocks)
            endpoints.add_chat(self.session, self.limits)
            evaluate_api.add_evaluate(self.session, self.limits)
        return blocks

    def notes(self, lang: str, key: str = "preview") -> list[str]:
        """What a visitor must know of the pair: that it is a preview, and where the words go if they leave this machine."""
        pair = [self.cards[name] for name in (self.session.ask, self.session.advise)]
        notes = [say(lang, key)] if any(card.preview for card in pair) else []
        hosts = ", ".join(dict.fromkeys(card.host for card in pair if card.host))
        return [*notes, say(lang, "leaves", host=hosts)] if hosts else notes

    def story(self, lang: str) -> str:
        return about.text(tuple(self.cards.values()), self.session.budget, lang)

    def consult_tab(self) -> None:
        bare: dict[str, Any] = {"padding": False}
        # The dialogue goes to and fro as this component's value; assets/first.js keeps it, a record a consultation.
        self.turns = gr.HTML(
            [], html_template="", js_on_load=script.js("keep"), elem_id="bq-kept", apply_default_css=False
        )
        self.hero = gr.HTML(frame.hero("zh-CN", self.notes("zh-CN")), elem_id="bq-hero", **bare)
        self.chatbot = gr.Chatbot(
            label=t("chat"), show_label=False, elem_id="bq-chat", height=None, layout="bubble", buttons=["copy"],
            watermark=LABEL, editable="user", feedback_options=self.thumbs, group_consecutive_messages=False, latex_delimiters=[],
            allow_tags=False,
        )  # fmt: skip
        with gr.Row(elem_id="bq-after", visible=False) as self.after:
            self.go_on = gr.Button(t("go_on"), size="sm")
            self.summary = gr.Button(t("make_summary"), size="sm")
            self.sheet, self.sheet_text = gr.Textbox(visible=False), gr.Textbox(visible=False)
        self.progress = gr.HTML("", elem_id="bq-progress", **bare)
        self.box = gr.Textbox(
            label=t("message"), show_label=False, placeholder=t("placeholder"), lines=1, max_lines=5, submit_btn=True,
            elem_id="bq-box", autofocus=False, max_length=8000, container=False,
        )  # fmt: skip
        with gr.Row(elem_id="bq-actions"):
            off: dict[str, Any] = {"size": "sm", "interactive": False}
            self.now = gr.Button(t("advise_now"), elem_classes="bq-now", **off)
            self.retry, self.undo, self.clear = (gr.Button(t(name), **off) for name in ("retry", "undo", "clear"))
        with gr.Row(elem_id="bq-examples"):
            self.chips = [gr.Button(label, size="sm") for label in frame.labels(self.examples, "zh-CN")]
        self.help = gr.HTML(frame.help_lines("zh-CN"), elem_id="bq-help", **bare)
        with gr.Row(elem_id="bq-mode-line"):
            self.mode = gr.Radio(
                [(say("zh-CN", mode), mode) for mode in MODES],
                value="auto", label=t("mode"), show_label=False, container=False, elem_id="bq-mode", min_width=200,
            )  # fmt: skip
            self.why = gr.HTML(say("zh-CN", "auto_why"), elem_id="bq-why", **bare)
        with gr.Accordion(t("settings"), open=False, elem_id="bq-panel"):
            self.drawing = settings_panel.build(self.session)
            with gr.Row(elem_id="bq-exports"):
                self.markdown, self.json = (gr.Button(t(kind), size="sm") for kind in ("markdown", "json"))
                self.whole, self.paper = (gr.Button(t(name), size="sm") for name in ("copy_all", "print_page"))
        self.export, self.filename = gr.Textbox(visible=False), gr.Textbox(visible=False)
        self.opener = gr.Button("open", visible="hidden", elem_id="bq-open")
        self.because = gr.Button("because", visible="hidden", elem_id="bq-because")
        self.judged, self.why_not = gr.Textbox(visible=False), gr.Textbox(visible=False)

    def wire(self, blocks: gr.Blocks) -> None:
        view = [
            self.chatbot,
            self.turns,
            self.box,
            self.now,
            self.retry,
            self.undo,
            self.clear,
            self.progress,
            self.after,
            self.go_on,
        ]
        given = [self.turns, self.mode, *self.drawing]
        again: dict[str, Any] = {**TURN, "js": script.js("again")}
        runs: Any = [
            self.box.submit(self.send, [self.box, *given], view, js=script.js("send"), **TURN),
            self.chatbot.option_select(self.pick, given, view, **again),
            self.now.click(self.advise_now, given, view, **again),
            self.go_on.click(self.ask_on, given, view, **again),
            self.retry.click(self.again, given, view, **again),
            self.chatbot.edit(self.edit, given, view, **again),
            *(
                chip.click(self.send, [self.box, *given], view, js=script.send(example["text"]), **TURN)
                for chip, example in zip(self.chips, self.examples, strict=True)
            ),
        ]
        # First the end, then the picture: in one step, views still on their way were drawn over it in 17 of 60 stops.
        stopped = self.box.stop(None, None, None, cancels=runs, **QUICK)
        stopped.then(self.show, [self.turns], view, **QUICK)
        self.opener.click(self.show, [self.turns], view, js=script.js("open"), **QUICK)
        if self.arena:
            judged = self.chatbot.like(self.judge, [self.turns], [self.judged], **QUICK)
            judged.then(None, [self.judged], None, js="word => { bianque.judged(word); }", **PRIVATE)
            self.because.click(self.because_of, [self.turns, self.why_not], None, js=script.js("because"), **QUICK)
        self.undo.click(self.take_back, [self.turns], view, **QUICK)
        self.clear.click(self.wipe, None, view, js=script.js("clear"), **QUICK)
        self.mode.change(explain, [self.mode], [self.why, self.now], js=script.js("mode"), **QUICK)
        made = self.summary.click(self.summarise, [self.turns], [self.sheet, self.sheet_text], **QUICK)
        made.then(None, [self.sheet, self.sheet_text], None, js="(...sheet) => { bianque.sheet(...sheet); }", **PRIVATE)
        for button, act in ((self.whole, "bianque.copy()"), (self.paper, "print()")):
            button.click(None, None, None, js=f"() => {{ {act}; }}", **PRIVATE)
        for button, kind in ((self.markdown, self.as_markdown), (self.json, self.as_json)):
            saved(button.click(kind, [self.turns], [self.export, self.filename], **QUICK), self.export, self.filename)
        worded = [self.mode, self.why, self.head, self.hero, self.help, *self.chips, self.foot, self.about]
        blocks.load(self.greet, [self.turns, self.mode], [*view, *worded], js=script.js("greet"), **QUICK)

    # --- a turn ---------------------------------------------------------------------------------------------------

    async def send(self, request: gr.Request, message: str, turns: list[Turn], *given: Any) -> Views:
        asked = NewMessage(render.kept_turns(turns), message or "", lang_of(request))
        async with aclosing(self.answer(asked if asked.message.strip() else None, given)) as views:
            async for view in views:
                yield view

    async def pick(self, request: gr.Request, event: gr.SelectData, turns: list[Turn], *given: Any) -> Views:
        asked = NewMessage(render.kept_turns(turns), str(event.value), lang_of(request))
        async with aclosing(self.answer(asked, given)) as views:
            async for view in views:
                yield view

    async def advise_now(self, request: gr.Request, turns: list[Turn], *given: Any) -> Views:
        """The visitor has been asked enough: the advising model answers what has been said so far."""
        said = render.kept_turns(turns)
        asked = NewMessage(said, NOW, lang_of(request), advise_now=True) if rewound(said)[1] is not None else None
        async with aclosing(self.answer(asked, given)) as views:
            async for view in views:
                yield view

    async def ask_on(self, request: gr.Request, turns: list[Turn], *given: Any) -> Views:
        """Back to asking after advice; everything that was said stays."""
        asked = NewMessage(render.kept_turns(turns), GO_ON, lang_of(request))
        async with aclosing(self.answer(asked, given)) as views:
            async for view in views:
                yield view

    async def again(self, request: gr.Request, turns: list[Turn], *given: Any) -> Views:
        before, text = rewound(render.kept_turns(turns))
        asked = NewMessage(before, text, lang_of(request), advise_now=text == NOW) if text else None
        async with aclosing(self.answer(asked, given)) as views:
            async for view in views:
                yield view

    async def edit(self, request: gr.Request, event: gr.EditData, turns: list[Turn], *given: Any) -> Views:
        """An edited message is answered anew; what came after it is gone."""
        lang, said, text = lang_of(request), render.kept_turns(turns), str(event.value)
        shown = render.lay(said, lang)
        place = shown[event.index][0] if isinstance(event.index, int) and event.index < len(shown) else None
        if place is None or said[place]["role"] != "user" or not text.strip():
            yield self.idle_view(said, lang)
            return
        async with aclosing(self.answer(NewMessage(said[:place], text, lang), given)) as views:
            async for view in views:
                yield view

    def judge(self, turns: list[Turn], event: gr.LikeData, request: gr.Request) -> str:
        """👍 or 👎 on a reply: who wrote it and which of the two is kept, and no words. Says what was kept, "like:message".

        The same pressed again takes it back: then `liked` is neither True nor False.
        """
        liked = event.liked if isinstance(event.liked, bool) else None
        kept = self.kept_word(turns, event.index, liked, None, request)
        return f"{'like' if liked else 'dislike'}:{event.index}" if kept and liked is not None else ""

    def because_of(self, turns: list[Turn], why: str, request: gr.Request) -> None:
        """Why a reply was not liked, as "message:reason": one of the reasons that the page offers behind 👎."""
        index, _, reason = (why or "").partition(":")
        if index.isdecimal() and reason in REASONS[False]:
            self.kept_word(turns, int(index), False, reason, request)

    def kept_word(
        self, turns: list[Turn], index: Any, liked: bool | None, reason: str | None, request: gr.Request
    ) -> bool:
        """Keep a word on the reply that a message of the chatbot shows, or with `liked` None none; a later word takes the
        place of the first."""
        said = render.kept_turns(turns)
        shown = render.lay(said, lang_of(request))
        place = shown[index][0] if isinstance(index, int) and 0 <= index < len(shown) else None
        if not self.arena or place is None or str(said[place].get("model")).partition("@")[0] not in self.cards:
            return False
        own = hashlib.sha256(f"{request.session_hash}/{place}/{said[place]['content']}".encode()).hexdigest()
        record_feedback(self.arena.votes.feedback, said, place, liked, reason, id=own[:24])
        return True

    async def answer(self, asked: NewMessage | None, given: Sequence[Any]) -> Views:
        """Views of the growing dialogue. What stands is kept at each view, so a stop loses nothing."""
        if asked is None:
            yield {self.box: gr.skip()}
            return
        mode, *drawn = given
        lang, throttle = asked.lang, Throttle()
        found = Transcript(asked.history, asked.message)
        first = say(lang, "thinking_advising" if mode == "advise" or asked.advise_now else "thinking_asking")
        yield self.running_view(found, asked, first)
        try:
            choices = settings_panel.choices(mode, drawn, lang, asked.advise_now)
            replies = self.session.reply(transcript.messages(asked.history), asked.message, choices)
            with self.limits.admit(tokens=found.tokens):
                async with aclosing(with_heartbeat(replies)) as events:
                    async for event in events:
                        found.apply(event)
                        if event is None:
                            yield {self.box: gr.skip()}
                        elif not isinstance(event, Delta) or throttle.ready():
                            yield self.streaming_view(found, lang, first)
        except Exception as error:
            # The trace goes to the log, a calm sentence to the page; the visitor's words go to neither.
            found.apply(Failure.of(error))
        yield self.idle_view(found.turns, lang)

    # --- views ----------------------------------------------------------------------------------------------------

    def running_view(self, found: Transcript, asked: NewMessage, status: str) -> View:
        """A reply is on its way: it can be stopped, and nothing else can be begun beside it, nor judged before it is whole."""
        shown = cast(Any, render.chatbot(found.turns, asked.lang, status))
        chatbot = gr.Chatbot(value=shown, editable=None, feedback_options=())
        return {
            self.chatbot: chatbot, self.turns: found.turns, self.box: gr.Textbox(submit_btn=False, stop_btn=True),
            self.after: gr.Row(visible=False), **self.switches(False),
        }  # fmt: skip

    def streaming_view(self, found: Transcript, lang: str, first: str) -> View:
        shown = render.chatbot(found.turns, lang, found.status(lang, first), growing=True)
        return {self.chatbot: shown, self.turns: found.turns, self.progress: render.progress_html(found.turns, lang)}

    def idle_view(self, turns: list[Turn], lang: str, text: str | None = None) -> View:
        """No reply is on its way; `text` goes into the message box."""
        shown = cast(Any, render.settled(turns, lang))
        chatbot = gr.Chatbot(value=shown, editable="user", feedback_options=self.thumbs)
        kept: dict[str, Any] = {} if text is None else {"value": text}
        phase = turns[-1].get("phase") if turns else None
        hint = say(lang, HINTS.get(str(phase), "placeholder"))
        return {
            self.chatbot: chatbot, self.turns: turns, self.progress: render.progress_html(turns, lang),
            self.box: gr.Textbox(submit_btn=True, stop_btn=False, placeholder=hint, **kept),
            self.after: gr.Row(visible=phase == "advising"), **self.switches(bool(turns)),
            self.go_on: gr.Button(visible=not turns or turns[-1].get("model") != CARE),
        }  # fmt: skip

    def switches(self, on: bool) -> View:
        return {button: gr.Button(interactive=on) for button in (self.now, self.retry, self.undo, self.clear)}

    # --- the rest -------------------------------------------------------------------------------------------------

    def take_back(self, turns: list[Turn], request: gr.Request) -> View:
        """The last message and its reply go; the message returns to the box."""
        said = render.kept_turns(turns)
        left, text = rewound(said)
        return self.idle_view(said if text is None else left, lang_of(request), text=text)

    def show(self, turns: list[Turn], request: gr.Request) -> View:
        return self.idle_view(render.kept_turns(turns), lang_of(request))

    def wipe(self, request: gr.Request) -> View:
        return self.idle_view([], lang_of(request), text="")

    def greet(self, turns: list[Turn], mode: str, request: gr.Request) -> View:
        """First paint: the kept dialogue, and the words that Gradio does not translate by itself."""
        lang, said = lang_of(request), render.kept_turns(turns)
        mode = mode if mode in MODES else "auto"
        chosen: dict[str, Any] = {} if mode == "auto" else {"value": mode}  # somebody may be choosing already
        view: View = {
            self.mode: gr.Radio(choices=[(say(lang, name), name) for name in MODES], **chosen),
            self.why: say(lang, f"{mode}_why"), self.head: frame.header(lang), self.help: frame.help_lines(lang),
            self.hero: frame.hero(lang, self.notes(lang)), self.foot: frame.foot(lang, self.notes(lang, "preview_short")), self.about: self.story(lang),
            **dict(zip(self.chips, frame.labels(self.examples, lang), strict=True)),
        }  # fmt: skip
        # A first message may be on its way already: then nothing is drawn over it.
        return view | self.idle_view(said, lang) if said else view

    def summarise(self, turns: list[Turn], request: gr.Request) -> tuple[str, str]:
        """The page for the doctor, as HTML and as Markdown."""
        dialogue = transcript.messages(render.kept_turns(turns))
        found = summary(dialogue, lang_of(request)) if dialogue else None
        return (found.html(), found.markdown()) if found else ("", "")

    def as_markdown(self, turns: list[Turn]) -> tuple[str, str]:
        return transcript.as_markdown(render.kept_turns(turns), self.cards), "bianque.md"

    def as_json(self, turns: list[Turn]) -> tuple[str, str]:
        return transcript.as_json(render.kept_turns(turns), self.cards), "bianque.json"


def explain(mode: str, request: gr.Request) -> tuple:
    return say(lang_of(request), f"{mode}_why"), gr.Button(visible=mode == "auto")

"""The page: layout and events. A dialogue lives in the visitor's browser; every handler gets it and gives it back."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.i18n import I18nData

from bianque.errors import BianQueError
from bianque.session import Choices, Delta, Done, Handed, Loading, Notice, Session, Speaking, Thinking
from bianque.ui import about, draw, endpoints
from bianque.ui.draw import Turn
from bianque.ui.i18n import WORDS, lang_of, say
from bianque.ui.pace import Pace

SAVE = """(text, name) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/plain;charset=utf-8' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


def t(key: str) -> Any:
    """A label that the browser translates."""
    return I18nData(key)


Views = AsyncGenerator[tuple, None]


class Page:
    """One page over a session. Built once; keeps nothing of any visitor."""

    def __init__(self, session: Session, examples: Path) -> None:
        self.session = session
        self.cards = session.cards
        self.examples = json.loads(examples.read_text(encoding="utf-8"))

    def build(self) -> gr.Blocks:
        with gr.Blocks(title="扁鹊 BianQue", fill_width=True, analytics_enabled=False) as blocks:
            self.head = gr.HTML(self.header("zh-CN"), padding=False)
            with gr.Tabs():
                with gr.Tab(t("consult"), id="consult"):
                    self.consult_tab()
                with gr.Tab(t("about"), id="about"):
                    gr.Markdown(about.text(tuple(self.cards.values()), self.session.budget), elem_id="bq-about")
            self.foot = gr.HTML(foot("zh-CN"), padding=False)
            self.wire(blocks)
            endpoints.add(self.session)
        return blocks

    def header(self, lang: str) -> str:
        pair = [self.cards[name] for name in (self.session.ask, self.session.advise)]
        names = " + ".join(f"<b>{html.escape(card.name)}</b>" for card in pair)
        note = f"<br>{say(lang, 'preview')}" if any(card.preview for card in pair) else ""
        return (
            '<header id="bq-head"><span class="seal" aria-hidden="true"></span><h1 class="name">扁鹊</h1>'
            f'<span class="running">{names}{note}</span></header>'
        )

    def consult_tab(self) -> None:
        self.turns = gr.BrowserState([], storage_key="bianque", secret="bianque-keeps-nothing")
        with gr.Row(elem_id="bq-mode-line"):
            self.mode = gr.Radio(
                [(WORDS[mode][0], mode) for mode in ("auto", "ask", "advise")],
                value="auto", label=t("mode"), show_label=False, container=False, elem_id="bq-mode", min_width=280,
            )  # fmt: skip
            self.why = gr.HTML(WORDS["auto_why"][0], elem_id="bq-why", padding=False)
        self.chatbot = gr.Chatbot(
            label=t("chat"), show_label=False, elem_id="bq-chat", height=None, layout="bubble", buttons=["copy", "copy_all"],
            watermark=endpoints.LABEL, editable="user", feedback_options=None, group_consecutive_messages=False,
            placeholder=f"<p>{WORDS['welcome'][0]}</p>", examples=self.examples, latex_delimiters=[], allow_tags=False,
        )  # fmt: skip
        self.box = gr.Textbox(
            label=t("message"), show_label=False, placeholder=t("placeholder"), lines=1, max_lines=5, submit_btn=True,
            elem_id="bq-box", autofocus=False, max_length=8000, container=False,
        )  # fmt: skip
        with gr.Row(elem_id="bq-actions"):
            self.now = gr.Button(t("advise_now"), variant="primary", size="sm")
            self.retry = gr.Button(t("retry"), size="sm")
            self.undo = gr.Button(t("undo"), size="sm")
            self.clear = gr.Button(t("clear"), size="sm")
            self.markdown = gr.Button(t("markdown"), size="sm")
            self.json = gr.Button(t("json"), size="sm")
        self.export, self.filename = gr.Textbox(visible=False), gr.Textbox(visible=False)
        with gr.Accordion(t("settings"), open=False):
            self.settings_panel()

    def settings_panel(self) -> None:
        def named(*roles: str) -> list[str]:
            return [card.name for card in self.cards.values() if card.role in roles]

        with gr.Row():
            self.ask = gr.Dropdown(named("asks", "both"), value=self.session.ask, label=t("ask_model"))
            self.advise = gr.Dropdown(
                named("advises", "both", "counsels"), value=self.session.advise, label=t("advise_model")
            )
        with gr.Row():
            empty: dict[str, Any] = {"value": None, "placeholder": t("default"), "min_width": 120}
            self.temperature = gr.Number(label=t("temperature"), minimum=0, maximum=2, step=0.05, **empty)
            self.top_p = gr.Number(label=t("top_p"), minimum=0.01, maximum=1, step=0.05, **empty)
            self.most = gr.Number(label=t("max_new_tokens"), minimum=1, maximum=2048, precision=0, **empty)
            self.seed = gr.Number(label=t("seed"), minimum=0, precision=0, **empty)

    def wire(self, blocks: gr.Blocks) -> None:
        view = [self.chatbot, self.turns, self.box]
        wishes = [self.mode, self.ask, self.advise, self.temperature, self.top_p, self.most, self.seed]
        private: dict[str, Any] = {"api_visibility": "private"}
        turn: dict[str, Any] = {**private, "concurrency_id": "chat", "concurrency_limit": 16, "show_progress": "hidden"}
        quick: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
        runs: Any = [
            self.box.submit(self.send, [self.box, self.turns, *wishes], view, **turn),
            self.chatbot.example_select(self.pick, [self.turns, *wishes], view, **turn),
            self.now.click(self.advise_now, [self.turns, *wishes], view, **turn),
            self.retry.click(self.again, [self.turns, *wishes], view, **turn),
            self.chatbot.edit(self.edit, [self.turns, *wishes], view, **turn),
        ]
        self.box.stop(self.show, [self.turns], [self.chatbot, self.box], cancels=runs, **quick)
        self.undo.click(self.take_back, [self.turns], view, cancels=runs, **quick)
        self.clear.click(wipe, None, view, cancels=runs, **quick)
        self.chatbot.clear(wipe, None, view, cancels=runs, **quick)
        self.mode.change(explain, [self.mode], [self.why], **quick)
        for button, kind in ((self.markdown, self.as_markdown), (self.json, self.as_json)):
            written = button.click(kind, [self.turns], [self.export, self.filename], **quick)
            written.then(None, [self.export, self.filename], None, js=SAVE, **private)
        blocks.load(
            self.greet, [self.turns, self.mode], [self.chatbot, self.mode, self.why, self.head, self.foot], **quick
        )

    # --- a turn ---------------------------------------------------------------------------------------------------

    async def send(self, request: gr.Request, message: str, turns: list[Turn], *wishes: Any) -> Views:
        if not (message or "").strip():
            yield gr.skip(), gr.skip(), gr.skip()
            return
        async with aclosing(self.answer(turns or [], message, wishes, lang_of(request))) as views:
            async for view in views:
                yield view

    async def pick(self, request: gr.Request, event: gr.SelectData, turns: list[Turn], *wishes: Any) -> Views:
        async with aclosing(self.answer(turns or [], event.value["text"], wishes, lang_of(request))) as views:
            async for view in views:
                yield view

    async def advise_now(self, request: gr.Request, turns: list[Turn], *wishes: Any) -> Views:
        """The visitor has been asked enough: the advising model answers what has been said so far."""
        if not any(turn["role"] == "user" for turn in turns or []):
            yield gr.skip(), gr.skip(), gr.skip()
            return
        async with aclosing(self.answer(turns, WORDS["now_please"][0], wishes, lang_of(request), now=True)) as views:
            async for view in views:
                yield view

    async def again(self, request: gr.Request, turns: list[Turn], *wishes: Any) -> Views:
        asked = last_user(turns or [])
        if asked is None:
            yield gr.skip(), gr.skip(), gr.skip()
            return
        async with aclosing(self.answer(turns[:asked], turns[asked]["content"], wishes, lang_of(request))) as views:
            async for view in views:
                yield view

    async def edit(self, request: gr.Request, event: gr.EditData, turns: list[Turn], *wishes: Any) -> Views:
        """An edited message is answered anew; what came after it is gone."""
        shown = draw.lay(turns or [], lang_of(request))
        place = shown[event.index][0] if isinstance(event.index, int) and event.index < len(shown) else None
        if place is None or turns[place]["role"] != "user" or not str(event.value).strip():
            yield draw.chatbot(turns or [], lang_of(request)), gr.skip(), gr.skip()
            return
        async with aclosing(
            self.answer(turns[:place], html.unescape(str(event.value)), wishes, lang_of(request))
        ) as views:
            async for view in views:
                yield view

    async def answer(
        self, history: list[Turn], message: str, wishes: Sequence[Any], lang: str, now: bool = False
    ) -> Views:
        """Views of the growing dialogue. What stands is kept at each view, so a stop loses nothing."""
        mode, ask, advise, temperature, top_p, most, seed = wishes
        choices = Choices("advise" if now and mode == "ask" else mode, ask, advise, temperature, top_p, most, seed, now)
        turns: list[Turn] = [*history, {"role": "user", "content": message}]
        busy, pace = gr.Textbox(value="", submit_btn=False, stop_btn=True), Pace()
        status = say(lang, "thinking_advising" if mode == "advise" or now else "thinking_asking")
        yield draw.chatbot(turns, lang, status), turns, busy
        try:
            async with aclosing(self.session.reply(draw.messages(history), message, choices)) as events:
                async for event in events:
                    status = fold(event, turns, lang, status)
                    if not isinstance(event, Delta) or pace.due():
                        yield draw.chatbot(turns, lang, status), turns, gr.skip()
            status = ""
        except BianQueError as error:
            status = str(error)
        except Exception as error:
            # The trace goes to the log, a calm sentence to the page; the visitor's words go to neither.
            logging.getLogger("bianque").error("a reply failed", exc_info=error)
            status = say(lang, "failed")
        yield draw.chatbot(turns, lang, status), turns, idle()

    # --- the rest -------------------------------------------------------------------------------------------------

    def take_back(self, turns: list[Turn], request: gr.Request) -> tuple:
        """The last message and its reply go; the message returns to the box."""
        asked = last_user(turns or [])
        if asked is None:
            return gr.skip(), gr.skip(), idle()
        return draw.chatbot(turns[:asked], lang_of(request)), turns[:asked], idle(turns[asked]["content"])

    def show(self, turns: list[Turn], request: gr.Request) -> tuple:
        return draw.chatbot(turns or [], lang_of(request)), idle()

    def greet(self, turns: list[Turn], mode: str, request: gr.Request) -> tuple:
        """First paint: the kept dialogue, and the words that Gradio does not translate by itself."""
        lang = lang_of(request)
        modes = gr.Radio(choices=[(say(lang, name), name) for name in ("auto", "ask", "advise")])
        chatbot = gr.Chatbot(
            value=cast(Any, draw.chatbot(turns or [], lang)), placeholder=f"<p>{say(lang, 'welcome')}</p>"
        )
        return chatbot, modes, say(lang, f"{mode}_why"), self.header(lang), foot(lang)

    def as_markdown(self, turns: list[Turn]) -> tuple[str, str]:
        return draw.as_markdown(turns or [], self.cards), "bianque.md"

    def as_json(self, turns: list[Turn]) -> tuple[str, str]:
        return draw.as_json(turns or [], self.cards), "bianque.json"


def fold(event: object, turns: list[Turn], lang: str, status: str) -> str:
    """Write one event into the turns; returns the status line."""
    match event:
        case Notice():
            kept = turns[-1].get("notice")
            if kept is None or kept["level"] == "history":
                turns[-1]["notice"] = {"level": event.level, "text": event.text}
        case Loading():
            progress = event.progress
            return say(lang, progress.stage, model=progress.model, percent=round(progress.fraction * 100))
        case Thinking():
            return say(lang, f"thinking_{event.phase}")
        case Handed():
            turns[-1]["handoff"] = {"from": event.source, "to": event.target, "reason": event.reason}
        case Speaking():
            # Until it is done a reply counts as stopped: if nothing more comes, that is what it was.
            turns.append({
                "role": "assistant", "content": "", "phase": event.phase, "model": event.model,
                "question": event.question, "budget": event.budget, "finish": "cancelled",
            })  # fmt: skip
            return ""
        case Delta():
            turns[-1]["content"] += event.text
        case Done() if turns[-1]["role"] == "assistant":
            turns[-1] |= {"content": event.message.content, "finish": event.finish}
            return ""
    return status


def last_user(turns: Sequence[Turn]) -> int | None:
    return next((i for i in range(len(turns) - 1, -1, -1) if turns[i]["role"] == "user"), None)


def idle(text: str | None = None) -> gr.Textbox:
    """The message box, ready to send."""
    kept: dict[str, Any] = {} if text is None else {"value": text}
    return gr.Textbox(submit_btn=True, stop_btn=False, **kept)


def wipe() -> tuple:
    return [], [], idle("")


def explain(mode: str, request: gr.Request) -> str:
    return say(lang_of(request), f"{mode}_why")


def foot(lang: str) -> str:
    return f'<footer id="bq-foot" style="display:block!important">{html.escape(say(lang, "label"))}</footer>'

"""Replies side by side: what a column is made of on the page, and how it is drawn as its reply grows."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import gradio as gr

from bianque.arena.side_by_side import LETTERS, has_reply
from bianque.catalog.card import Model
from bianque.consult.session import Session
from bianque.consult.spec import MODES, RANGES, ModelSpec
from bianque.consult.text import LABEL
from bianque.consult.transcript import ReplyStats, Transcript, Turn
from bianque.errors import BadInput, BianQueError
from bianque.i18n import say
from bianque.types import Bits
from bianque.ui import render, settings_panel
from bianque.ui.i18n import t
from bianque.ui.render import paragraph


@dataclass(frozen=True, slots=True)
class Side:
    """One column's components."""

    column: gr.Column
    who: gr.Dropdown
    bits: gr.Dropdown
    numbers: tuple[gr.Textbox, ...]
    chatbot: gr.Chatbot
    told: gr.HTML
    again: gr.Button
    adopt: gr.Button

    @property
    def fields(self) -> tuple[gr.components.Component, ...]:
        """What says who answers."""
        return self.who, self.bits, *self.numbers

    def spec(self, letter: str, data: Mapping[Any, Any], lang: str) -> ModelSpec:
        """Who answers in this column; BadInput names the column and its field."""
        bits = data[self.bits]
        try:
            drawn = settings_panel.overrides([data[number] for number in self.numbers], lang).given()
            known = int(bits) if bits in map(str, get_args(Bits)) else None
            return ModelSpec.of({"name": data[self.who], "bits": known, **drawn})
        except BianQueError as error:
            raise BadInput(f"{letter}: {error}") from None

    def filled(self, cards: Mapping[str, Model], name: str, chosen: ModelSpec | None, lang: str) -> dict[Any, Any]:
        """The fields as they say who was chosen."""
        values = [getattr(chosen and chosen.sampling, key, None) for key in RANGES]
        return {
            self.who: gr.Dropdown(choices=names(cards, lang), value=name),
            self.bits: gr.Dropdown(**bits_choices(cards, name, lang, chosen.bits if chosen else None)),
            **{field: "" if value is None else str(value) for field, value in zip(self.numbers, values, strict=True)},
        }  # fmt: skip

    def idle(self, turns: Sequence[Turn], lang: str) -> dict[Any, Any]:
        """No reply is on its way here: what was said, and what can be done with it."""
        return {
            self.chatbot: talk(turns, lang), self.told: figures_html(turns, lang),
            self.again: gr.Button(interactive=bool(turns)), self.adopt: gr.Button(interactive=has_reply(turns)),
        }  # fmt: skip


def side(place: int, session: Session, name: str, visible: bool) -> Side:
    """A column to compare with: who answers, how it draws, the conversation, its figures, what can be done with it."""
    small: dict[str, Any] = {"size": "sm", "interactive": False}
    with gr.Column(visible=visible, elem_id=f"bq-side-{place}", elem_classes="bq-side", min_width=200) as column:
        with gr.Row(elem_classes="bq-side-head"):
            bare: dict[str, Any] = {"show_label": False, "container": False, "filterable": False}
            who = gr.Dropdown(
                names(session.cards, "zh-CN"), value=name, label=t("contender"), min_width=110, scale=4,
                elem_classes="bq-side-who", **bare,
            )  # fmt: skip
            bits = gr.Dropdown(
                **bits_choices(session.cards, name, "zh-CN"), label=t("bits"), min_width=78, scale=1,
                elem_classes="bq-side-bits", **bare,
            )  # fmt: skip
        with gr.Accordion(t("drawing"), open=False, elem_classes="bq-side-draw"), gr.Row():
            empty: dict[str, Any] = {"placeholder": t("default"), "max_lines": 1, "max_length": 20, "min_width": 90}
            numbers = tuple(gr.Textbox(label=t(number), **empty) for number in RANGES)
        talk, told = side_chatbot(hint(session.cards, name, "zh-CN")), figures_line()
        with gr.Row(elem_classes="bq-actions"):
            again, adopt = gr.Button(t("retry"), **small), gr.Button(t("adopt"), **small)
    return Side(column, who, bits, numbers, talk, told, again, adopt)


def side_chatbot(placeholder: str = "") -> gr.Chatbot:
    """One conversation among several; the page's style makes it as high as the window allows."""
    return gr.Chatbot(
        label=t("chat"), show_label=False, elem_classes="bq-talk", height=None, layout="bubble", buttons=["copy"],
        watermark=LABEL, feedback_options=None, group_consecutive_messages=False, latex_delimiters=[],
        allow_tags=False, placeholder=placeholder,
    )  # fmt: skip


def figures_line() -> gr.HTML:
    """Where a column's figures stand."""
    return gr.HTML("", padding=False, elem_classes="bq-told")


def names(cards: Mapping[str, Model], lang: str) -> list[tuple[str, str]]:
    """Who can answer: the modes in the visitor's language, then the cards."""
    return [*((say(lang, mode), mode) for mode in MODES), *((card.label, card.name) for card in cards.values())]


def bits_choices(cards: Mapping[str, Model], name: str, lang: str, value: Bits | None = None) -> dict[str, Any]:
    """Choices and value of the dropdown of bits; a mode, or a card of one precision, leaves none to choose."""
    can = cards[name].precisions if name in cards and name not in MODES else ()
    choices = [(say(lang, "default"), ""), *((say(lang, "some_bits", bits=bits), str(bits)) for bits in can)]
    return {"choices": choices, "value": str(value or ""), "visible": len(can) > 1}


def hint(cards: Mapping[str, Model], name: str, lang: str) -> str:
    """What an empty column says of who will answer in it: a mode's way, or a card's part and licence."""
    if name in MODES or name not in cards:
        text = say(lang, f"{name}_why") if name in MODES else ""
    else:
        card = cards[name]
        text = f"{say(lang, card.role)} · {say(lang, 'licence', licence=card.licence)}"
        text += f" · {say(lang, 'leaves', host=card.host)}" if card.host else ""
    return paragraph(text)


def look(found: Transcript, lang: str) -> tuple[list[dict[str, str]], str]:
    """What a column's chatbot and the line below it show now; its figures go into the turns."""
    if found.reply:
        found.reply["figures"] = asdict(found.stats())
    found.changed = False
    return talk(found.turns, lang, found.status(lang), growing=not found.ended), figures_html(found.turns, lang)


def talk(turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False) -> list[dict[str, str]]:
    """A column's messages."""
    if turns and turns[-1]["role"] == "user" and not turns[-1].get("error") and not growing:
        status = say(lang, "stopped")
    return render.chatbot(turns, lang, status, growing, names=True)


def figures_html(turns: Sequence[Turn], lang: str) -> str:
    """The line below a column: what spoke and computed, how fast, how long, and whether it asked."""
    stats = ReplyStats.read(turns[-1].get("figures")) if turns else None
    if not stats:
        return ""
    parts = "".join(f"<span>{html.escape(part)}</span>" for part in stats.parts(lang))
    kind = "asks" if stats.asks else "answers"
    return f'<p><b class="bq-badge bq-{kind}">{say(lang, f"badge_{kind}")}</b>{parts}</p>'


def red_flag(columns: Iterable[Sequence[Turn]], lang: str) -> str:
    """The red flag of the newest message, once for all columns."""
    for turns in columns:
        newest = next((turn for turn in reversed(turns) if turn["role"] == "user"), {})
        if flag := newest.get("safety"):
            return render.notice_html(flag, lang, newest=True, said=newest["content"])
    return ""


def progress_line(columns: Mapping[int, Transcript], lang: str) -> str:
    """Which columns are being answered, and which wait for room; once all have ended, that they have."""
    between = "、" if lang.startswith("zh") else ", "
    going = [LETTERS[place] for place, column in columns.items() if not column.ended]
    if not going:
        return say(lang, "answered")
    turns = [LETTERS[place] for place, column in columns.items() if column.waits]
    if turns and any(column.writing for column in columns.values()):
        return say(lang, "turns", columns=between.join(turns))
    return say(lang, "answering", columns=between.join(going))

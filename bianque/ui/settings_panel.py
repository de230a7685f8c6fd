"""The folded panel: which models speak, how they draw, and taking the dialogue along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from bianque.consult.session import Session
from bianque.consult.spec import RANGES, Choices, SamplingOverrides
from bianque.errors import BadInput
from bianque.i18n import say
from bianque.types import ROLE_MODES, Mode
from bianque.ui.i18n import t


def build(session: Session) -> list[gr.components.Component]:
    """The inputs that `choices` reads, in its order."""

    def able_to(mode: Mode) -> list[tuple[str, str]]:
        return [(card.label, card.name) for card in session.cards.values() if mode in ROLE_MODES[card.role]]

    wide: dict[str, Any] = {"min_width": 260}  # on a phone one stands above the other, each with its whole title
    with gr.Row():
        ask = gr.Dropdown(able_to("ask"), value=session.ask, label=t("ask_model"), **wide)
        advise = gr.Dropdown(able_to("advise"), value=session.advise, label=t("advise_model"), **wide)
    # Text, because gr.Number shows and sends an empty value as 0 once its panel has been opened.
    empty: dict[str, Any] = {"placeholder": t("default"), "max_lines": 1, "max_length": 20, "min_width": 120}
    with gr.Row():
        numbers = [gr.Textbox(label=t(name), **empty) for name in RANGES]
    gr.Markdown(t("default_why"), elem_id="bq-default")
    return [ask, advise, *numbers]


def choices(mode: str, fields: Sequence[Any], lang: str, advise_now: bool = False) -> Choices:
    """What the panel says; BadInput names a field that holds no number."""
    ask, advise, *numbers = fields
    return Choices(mode, ask or None, advise or None, overrides(numbers, lang), advise_now)  # type: ignore[arg-type]


def overrides(numbers: Sequence[str | None], lang: str) -> SamplingOverrides:
    """From text fields in the order of RANGES."""
    texts = zip(RANGES.items(), numbers, strict=True)
    return SamplingOverrides(**{name: field_number(name, text, known.kind, lang) for (name, known), text in texts})


def field_number(name: str, text: str | None, kind: Callable[[str], Any], lang: str) -> Any:
    """None where nothing is written; BadInput calls the field what the page calls it."""
    text = (text or "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        raise BadInput(say(lang, "not_a_number", field=say(lang, name), value=text)) from None

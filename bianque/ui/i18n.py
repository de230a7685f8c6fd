"""The page's words as Gradio takes them, and the visitor's language."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from bianque.i18n import LANGS, Lang, known, words


def t(key: str) -> Any:
    """A label that the browser translates."""
    return I18nData(key)


def translations() -> gr.I18n:
    """What `launch(i18n=…)` takes; "zh" and the other regional names share a table."""
    tables = {str(lang): dict(words(lang)) for lang in LANGS}
    tables |= {"zh": tables["zh-CN"], "zh-HK": tables["zh-TW"]}
    return gr.I18n(**tables)


def lang_of(request: gr.Request | None) -> Lang:
    """The visitor's language: the first of Accept-Language that the page knows."""
    accepted = request.headers.get("accept-language", "") if request else ""
    return known(part.partition(";")[0] for part in accepted.split(","))

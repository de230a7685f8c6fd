"""The page's words as Gradio takes them, and the visitor's language."""

from __future__ import annotations

import json
import re
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from bianque.i18n import LANGS, Lang, known, words

_KEY = re.compile(r"translation_metadata\W+key\W+(\w+)")


def t(key: str) -> Any:
    """A label of the layout, which the browser translates; what an event writes is said in the visitor's language instead."""
    return I18nData(key)


def translations(demo: gr.Blocks) -> gr.I18n:
    """What `launch(i18n=…)` takes: of the words, those that the layout names; "zh" and the other regional names share a table."""
    used = set(_KEY.findall(json.dumps(demo.get_config_file(), default=str)))
    tables = {str(lang): {key: text for key, text in words(lang).items() if key in used} for lang in LANGS}
    tables |= {"zh": tables["zh-CN"], "zh-HK": tables["zh-TW"]}
    return gr.I18n(**tables)


def lang_of(request: gr.Request | None) -> Lang:
    """The visitor's language: the first of Accept-Language that the page knows."""
    accepted = request.headers.get("accept-language", "") if request else ""
    return known(part.partition(";")[0] for part in accepted.split(","))

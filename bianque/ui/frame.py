"""What stands around a consultation, as HTML in the visitor's language: header and menu, the first question, the footer. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from bianque.i18n import LANGS, say

OWN_NAMES: Mapping[str, str] = {"zh-CN": "简体中文", "zh-TW": "繁體中文", "en": "English", "ko": "한국어"}
LINES = {"emergency": "120", "crisis": "12356"}
SWITCHES = {"large": "large_text", "dark": "dark"}


def header(lang: str, greeted: bool = True) -> str:
    """The seal, the name, and the menu; `data-lang` tells the page's script that the visitor has been greeted. What is in the menu acts in the browser alone (assets/consult.js)."""
    word = lambda key: html.escape(say(lang, key))
    switches = "".join(
        f'<button type="button" role="switch" aria-checked="false" data-do="{name}">{word(key)}</button>'
        for name, key in SWITCHES.items()
    )
    choices = "".join(
        f'<option value="{name}"{" selected" if name == lang else ""} lang="{name}">{OWN_NAMES[name]}</option>'
        for name in LANGS
    )
    return (
        f'<header id="bq-head" data-lang="{lang if greeted else ""}"><span class="seal" aria-hidden="true"></span><h1 class="name">扁鹊</h1>'
        f'<button type="button" class="bq-new" data-do="new">{word("new_consultation")}</button>'
        f'<details id="bq-menu"><summary aria-label="{word("menu")}" title="{word("menu")}"><i aria-hidden="true"></i></summary>'
        f'<div><button type="button" data-do="new">{word("new_consultation")}</button>{switches}'
        f'<label>{word("language")} <select data-do="lang">{choices}</select></label>'
        f'<section aria-label="{word("consultations")}"><h2>{word("consultations")}</h2><ul id="bq-list"></ul>'
        f'<button type="button" data-do="forget" data-sure="{word("delete_sure")}">{word("delete_all")}</button></section>'
        "</div></details></header>"
    )


def hero(lang: str, notes: Sequence[str]) -> str:
    """What an empty page asks, and what a visitor must know first."""
    told = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    return f"<h2>{say(lang, 'ask_heading')}</h2><p>{html.escape(say(lang, 'ask_line'))}</p>{told}"


def help_lines(lang: str) -> str:
    """Whom to call, as links that a phone dials."""
    links = {name: f'<a href="tel:{number}">{number}</a>' for name, number in LINES.items()}
    return f"<p>{say(lang, 'help_lines', **links)}</p>"


def foot(lang: str, notes: Sequence[str]) -> str:
    told = "".join(f'<span class="note">{html.escape(note)}</span>' for note in notes)
    return f"<p>{html.escape(say(lang, 'label'))}{told}</p>"


def example_label(example: Mapping[str, str], lang: str) -> str:
    return example.get(lang) or example.get("zh-CN") or example["text"]


def labels(examples: Sequence[Mapping[str, str]], lang: str) -> list[str]:
    return [example_label(example, lang) for example in examples]

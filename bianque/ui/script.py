"""What the page does in the browser beyond Gradio: names and roles, reading out, plain copies, a file to save."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from bianque.arena.feedback import REASONS
from bianque.i18n import LANGS, words

# What Gradio calls its own buttons, in English everywhere.
NAMES = {"copy": "Copy message", "latest": "Scroll down"}
LABELS = {
    "#bq-box textarea": "message", "#bq-box .submit-button": "send", "#bq-box .stop-button": "stop", "#bq-mode": "mode",
    "#bq-chat [role=log]": "chat", "#bq-consult-tab": "consult", "#bq-research-tab": "research", "#bq-about-tab": "about",
    "#bq-compare-tab": "compare", "#bq-all textarea": "message_all", "#bq-all .submit-button": "send",
    "#bq-all .stop-button": "stop", ".bq-talk [role=log]": "chat", ".bq-side-who input": "contender",
    "#bq-evaluate-tab": "evaluate", ".bq-side-bits input": "bits", "#bq-seed :is(input, textarea)": "shared_seed", "#bq-count": "columns",
    "#bq-arena-tab": "arena", "#bq-both textarea": "message_both", "#bq-both .submit-button": "send",
    "#bq-both .stop-button": "stop", "#bq-category input": "category", "#bq-board-category input": "category",
    "#bq-reasons": "reasons", "#bq-verdicts": "battle", "#bq-ring": "arena",
}  # fmt: skip
# What consult.js says.
WORDS = (
    "patient", "asking", "advising", "label", "copied", "new_consultation", "consultations", "delete_one", "read_aloud", "read_stop",
    "speak", "speak_why", "listening", "speak_failed", "cleared", "deleted", "restore", "close", "make_summary", "sending", "not_sent", "acknowledge", "copy", "why_not", "feedback_kept",
)  # fmt: skip


@cache
def js(name: str) -> str:
    """A function of the browser, assets/name.js: an expression, as Gradio's `js=` takes it.

    `first` runs before Gradio; `load` and `consult` with the page; `keep`, `greet`, `send`, `again`, `open`, `clear`,
    `because` and `mode` hand over between Gradio's events and what `first` keeps; `save` gives a file; `address` reads the end of the
    page's address, what is behind # too;
    `link` shows and copies a setup; `to_next` and `to_box` move the focus after a vote and after a battle.
    """
    return (Path(__file__).with_name("assets") / f"{name}.js").read_text(encoding="utf-8").strip()


def send(text: str) -> str:
    """`send` of this text, whatever is in the message box."""
    return f"(box, ...given) => ({js('send')})({json.dumps(text, ensure_ascii=False)}, ...given)"


def load() -> str:
    """`load` and `consult` with their tables: the words of every language, Gradio's names for its buttons, our labels."""
    keys = dict.fromkeys((*LABELS.values(), *NAMES, *WORDS))
    told = {lang: {key: words(lang)[key] for key in keys} for lang in LANGS}
    reasons = {lang: {name: words(lang)[f"feedback_{name}"] for name in REASONS[False]} for lang in LANGS}
    tables = ({lang: {**told[lang], "bad_reasons": reasons[lang]} for lang in LANGS}, NAMES, LABELS)
    given = ", ".join(json.dumps(table, ensure_ascii=False) for table in tables)
    return (
        f"() => {{\nconst given = [{given}];\n({js('load')})(...given);\n({js('consult')})(given[0][bianque.lang]);\n}}"
    )

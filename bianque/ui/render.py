"""From the turns a browser keeps to what the chatbot shows. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import cast

from bianque.consult.transcript import Turn
from bianque.i18n import say


def kept_turns(value: object) -> list[Turn]:
    """The turns that a browser sent back; nothing of them where they are not what this page keeps."""
    whole = isinstance(value, list) and all(
        isinstance(turn, dict) and turn.get("role") in ("user", "assistant") and isinstance(turn.get("content"), str)
        for turn in value
    )
    return cast("list[Turn]", value) if whole else []


def paragraph(text: str, kind: str = "") -> str:
    """Escaped text in a paragraph of a CSS class."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def escape(text: str) -> str:
    """Text that Markdown shows as it was written: no tags, no links, no images."""
    text = html.escape(text, quote=False)
    for mark in ("[", "]", "`", "*", "_", "~", "$", "@", "://", "www."):
        text = text.replace(mark, f"&#{ord(mark[0])};{mark[1:]}")
    return text


def who(turn: Turn, lang: str) -> str:
    """The line above a reply: a mark, what it is, how far the asking has come, and whose words they are."""
    phase = turn.get("phase") or "advising"
    count = f" {turn['question']}/{turn['budget']}" if turn.get("question") else ""
    sent = f" · {html.escape(say(lang, 'sent', host=turn['host']))}" if turn.get("host") else ""
    model = html.escape(turn.get("model") or "")
    return f'<span class="bq-who bq-{phase}">{say(lang, phase)}{count} · {model}{sent}</span>'


def reply_html(turn: Turn, lang: str, growing: bool = False) -> str:
    ends = {"cancelled": say(lang, "stopped"), "length": say(lang, "cut")}
    end = "" if growing else ends.get(turn.get("finish") or "", "")
    return f"{who(turn, lang)}\n\n{escape(turn['content'])}{end}"


def asides(turn: Turn, lang: str, newest: bool) -> str:
    """What stands between a visitor's turn and its reply: a notice, a handoff. A newest red flag is read out at once."""
    parts = []
    if notice := turn.get("notice"):
        role = ' role="alert"' if newest and notice["level"] != "history" else ""
        parts.append(f'<span class="bq-notice bq-{notice["level"]}"{role}>{html.escape(notice["text"])}</span>')
    if handoff := turn.get("handoff"):
        words = say(lang, "handed", source=handoff["from"], target=handoff["to"], reason=say(lang, handoff["reason"]))
        parts.append(f'<span class="bq-handed">{html.escape(words)}</span>')
    return "\n\n".join(parts)


def lay(turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False) -> list[tuple[int, dict[str, str]]]:
    """Chatbot messages, each with the index of the turn it shows; the last of them may still be growing.

    Notices stand in a message of their own: they stay as they are, and are read out once, while the reply below grows.
    """
    newest = max((index for index, turn in enumerate(turns) if turn["role"] == "user"), default=0)
    shown: list[tuple[int, dict[str, str]]] = []
    for index, turn in enumerate(turns):
        if turn["role"] == "user":
            shown.append((index, {"role": "user", "content": escape(turn["content"])}))
            if above := asides(turn, lang, index == newest):
                shown.append((index, {"role": "assistant", "content": above}))
        else:
            shown.append(
                (index, {"role": "assistant", "content": reply_html(turn, lang, growing and index == len(turns) - 1)})
            )
    if status:
        words = f'<span class="bq-status">{html.escape(status)}</span>'
        shown.append((len(turns) - 1, {"role": "assistant", "content": words}))
    return shown


def chatbot(turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False) -> list[dict[str, str]]:
    return [message for _, message in lay(turns, lang, status, growing)]

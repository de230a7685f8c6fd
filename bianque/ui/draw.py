"""From the turns a browser keeps to what the chatbot shows and what an export holds. Pure."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from bianque import safety
from bianque.types import Message, ModelCard
from bianque.ui.i18n import say

# One kept turn: role, content, phase, model; on a visitor's turn also `notice` {level, text} and `handoff`
# {from, to, reason}; on a reply `question`, `budget` and `finish`.
Turn = dict[str, Any]


def kept(value: object) -> list[Turn]:
    """The turns that a browser sent back; nothing of them where they are not what this page keeps."""
    whole = isinstance(value, list) and all(
        isinstance(turn, dict) and turn.get("role") in ("user", "assistant") and isinstance(turn.get("content"), str)
        for turn in value
    )
    return cast("list[Turn]", value) if whole else []


def messages(turns: Iterable[Turn]) -> list[Message]:
    return [Message(t["role"], t["content"], t.get("phase"), t.get("model")) for t in turns]


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
    return f'<span class="bq-who bq-{phase}">{say(lang, phase)}{count} · {html.escape(turn.get("model") or "")}</span>'


def reply(turn: Turn, lang: str, growing: bool = False) -> str:
    ends = {"cancelled": say(lang, "stopped"), "length": say(lang, "cut")}
    end = "" if growing else ends.get(turn.get("finish") or "", "")
    return f"{who(turn, lang)}\n\n{escape(turn['content'])}{end}"


def asides(turn: Turn, lang: str) -> str:
    """What stands between a visitor's turn and its reply: a safety notice, a handoff."""
    parts = []
    if notice := turn.get("notice"):
        parts.append(f'<span class="bq-notice bq-{notice["level"]}" role="alert">{html.escape(notice["text"])}</span>')
    if handoff := turn.get("handoff"):
        words = say(lang, "handed", source=handoff["from"], target=handoff["to"], reason=say(lang, handoff["reason"]))
        parts.append(f'<span class="bq-handed">{html.escape(words)}</span>')
    return join(*parts)


def lay(turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False) -> list[tuple[int, dict[str, str]]]:
    """Chatbot messages, each with the index of the turn it shows; the last of them may still be growing.

    Notices stand in a message of their own: they stay as they are, and are read out once, while the reply below grows.
    """
    shown: list[tuple[int, dict[str, str]]] = []
    for index, turn in enumerate(turns):
        if turn["role"] == "user":
            shown.append((index, {"role": "user", "content": escape(turn["content"])}))
            if above := asides(turn, lang):
                shown.append((index, {"role": "assistant", "content": above}))
        else:
            shown.append(
                (index, {"role": "assistant", "content": reply(turn, lang, growing and index == len(turns) - 1)})
            )
    if status:
        words = f'<span class="bq-status" role="status">{html.escape(status)}</span>'
        shown.append((len(turns) - 1, {"role": "assistant", "content": words}))
    return shown


def join(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def chatbot(turns: Sequence[Turn], lang: str, status: str = "", growing: bool = False) -> list[dict[str, str]]:
    return [message for _, message in lay(turns, lang, status, growing)]


def licences(turns: Iterable[Turn], cards: Mapping[str, ModelCard]) -> dict[str, str]:
    """The licence of every model that spoke."""
    spoke = dict.fromkeys(t["model"] for t in turns if t.get("model") in cards)
    return {name: cards[name].licence for name in spoke}


def as_markdown(turns: Sequence[Turn], cards: Mapping[str, ModelCard]) -> str:
    lines = ["# 扁鹊 BianQue", "", f"> {safety.LABEL}；{safety.DISCLAIMER}。", ""]
    for turn in turns:
        name = (
            "病人"
            if turn["role"] == "user"
            else f"{say('zh-CN', turn.get('phase') or 'advising')} · {turn.get('model')}"
        )
        lines += [f"**{name}**", "", turn["content"], ""]
        if notice := turn.get("notice"):
            lines += [f"> {notice['text']}", ""]
    lines += [f"- {name}: {licence}" for name, licence in licences(turns, cards).items()]
    return "\n".join(lines) + "\n"


def as_json(turns: Sequence[Turn], cards: Mapping[str, ModelCard]) -> str:
    whole = {
        "label": f"{safety.LABEL}；{safety.DISCLAIMER}",
        "licences": licences(turns, cards),
        "messages": list(turns),
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"

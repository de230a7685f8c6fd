"""A dialogue as it is kept between turns, and as it is taken along: with the AI label and the licences. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bianque.catalog.card import Model
from bianque.consult import triage
from bianque.consult.session import Delta, Done, Event, Handed, Notice, Speaking
from bianque.i18n import say
from bianque.types import Message

# One kept turn: role, content, phase, model; on a visitor's turn also `notice` {level, text} and `handoff`
# {from, to, reason}; on a reply `question`, `budget` and `finish`.
Turn = dict[str, Any]


def write(event: Event | None, turns: list[Turn]) -> None:
    """Write one event of a reply into the turns, of which the last is the visitor's when the reply begins."""
    match event:
        case Notice():
            kept = turns[-1].get("notice")
            if kept is None or kept["level"] == "history":
                turns[-1]["notice"] = {"level": event.level, "text": event.text}
        case Handed():
            turns[-1]["handoff"] = {"from": event.source, "to": event.target, "reason": event.reason}
        case Speaking():
            # Until it is done a reply counts as stopped: if nothing more comes, that is what it was.
            turns.append({
                "role": "assistant", "content": "", "phase": event.phase, "model": event.model,
                "question": event.question, "budget": event.budget, "finish": "cancelled",
            })  # fmt: skip
        case Delta():
            turns[-1]["content"] += event.text
        case Done() if turns[-1]["role"] == "assistant":
            turns[-1] |= {"content": event.message.content, "finish": event.finish}


def messages(turns: Iterable[Turn]) -> list[Message]:
    return [Message(t["role"], t["content"], t.get("phase"), t.get("model")) for t in turns]


def licences(turns: Iterable[Turn], cards: Mapping[str, Model]) -> dict[str, str]:
    """The licence of every model that spoke."""
    spoke = dict.fromkeys(str(t.get("model")).partition("@")[0] for t in turns)  # a precision has no licence of its own
    return {name: cards[name].licence for name in spoke if name in cards}


def as_markdown(turns: Sequence[Turn], cards: Mapping[str, Model]) -> str:
    lines = ["# 扁鹊 BianQue", "", f"> {triage.LABEL}；{triage.DISCLAIMER}。", ""]
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


def as_json(turns: Sequence[Turn], cards: Mapping[str, Model]) -> str:
    whole = {
        "label": f"{triage.LABEL}；{triage.DISCLAIMER}",
        "licences": licences(turns, cards),
        "messages": list(turns),
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"

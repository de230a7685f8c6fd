"""What visitors say of a reply: 👍 or 👎, a reason if they like, their words only with their consent."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from bianque.arena.battle import MAYBE, TEXT, Rules, canonical, chosen, fields_in
from bianque.arena.journal import Journal
from bianque.errors import BadInput
from bianque.intervals import wilson

SCHEMA = 1
NOTE = 500  # characters that a note may have
REASONS = {True: ("helpful", "clear", "caring"), False: ("off_topic", "wrong", "unsafe", "repeats", "unclear")}


@dataclass(frozen=True, slots=True)
class Feedback:
    """One visitor's word on one reply. `conversation` is the SHA-256 of the messages up to it; `text` and `note` are
    there only with consent."""

    id: str  # whoever has it may change the feedback
    time: str  # UTC, ISO 8601, always with microseconds: sorts as text
    model: str
    phase: str | None
    liked: bool
    reason: str | None
    conversation: str
    note: str | None = None
    text: Sequence[Mapping[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """How many liked a model's replies, of how many who said so, and the 95 % interval of that share."""

    model: str
    liked: int
    count: int
    low: float
    high: float


def written(feedback: Feedback, text: bool = True) -> bytes:
    """The line of a feedback, with or without the visitor's words."""
    left_out = ("text", "note") if not text else ()
    fields = {name: value for name, value in asdict(feedback).items() if value is not None and name not in left_out}
    fields["id"] = fields.pop("id")  # last: no two files then end alike
    return json.dumps({"schema": SCHEMA, **fields}, separators=(",", ":")).encode() + b"\n"


_FIELDS: Rules = {
    "id": TEXT, "time": TEXT, "model": TEXT, "phase": MAYBE, "liked": bool, "reason": MAYBE, "conversation": TEXT,
    "note": MAYBE, "text": list | None,
}  # fmt: skip


def parse(line: bytes) -> Feedback:
    """A line as `written`; BadInput says what is wrong and quotes nothing of it."""
    return Feedback(**fields_in(line, SCHEMA, _FIELDS, "feedback", "评价"))


class FeedbackStore(Journal[Feedback]):
    """The feedback of a folder; a second word on the same reply takes the place of the first."""

    kind, columns = "feedback", ("id", "time", "model")
    parse, written = staticmethod(parse), staticmethod(written)

    def values(self, item: Feedback) -> tuple[str, ...]:
        return item.id, item.time, item.model

    def shares(self) -> list[Share]:
        """By model, those with the best lower end first."""
        return shares(self.read()[0])


def shares(feedback: Iterable[Feedback]) -> list[Share]:
    counted: Counter[tuple[str, bool]] = Counter((one.model, one.liked) for one in feedback)
    found = []
    for model in dict.fromkeys(model for model, _ in counted):
        liked, count = counted[model, True], counted[model, True] + counted[model, False]
        found.append(Share(model, liked, count, *wilson(liked, count)))
    return sorted(found, key=lambda share: (-share.low, share.model))


def record_feedback(
    store: FeedbackStore, turns: Sequence[Mapping[str, Any]], place: int, liked: bool | None,
    reason: str | None = None, note: str = "", consent: bool = False, id: str | None = None,
) -> Feedback | None:  # fmt: skip
    """Keep what a visitor says of the reply at `place` of a dialogue; None of `liked` takes it back.

    `turns` have role, content, phase, model. The `id` of the answer changes the same feedback later. BadInput where
    there is no reply, and for a reason that there is not. On disk when this returns: not for an event loop.
    """
    if liked is None:
        if id:
            store.remove(id)
        return None
    reply = turns[place] if 0 <= place < len(turns) else {}
    if reply.get("role") != "assistant" or not reply.get("model") or not str(reply.get("content", "")).strip():
        raise BadInput(f"place={place}: 那里没有模型的回复 (there is no reply of a model)")
    if len(note) > NOTE:
        raise BadInput(f"note: {len(note)} 个字符，最多 {NOTE} 个 (at most {NOTE} characters)")
    said = [{"role": turn["role"], "content": turn["content"]} for turn in turns[: place + 1]]
    found = Feedback(
        id=id or secrets.token_hex(12),
        time=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        model=reply["model"],
        phase=reply.get("phase"),
        liked=liked,
        reason=chosen("reason", reason, REASONS[liked]) if reason else None,
        conversation=hashlib.sha256(canonical(said)).hexdigest(),
        note=(note.strip() or None) if consent is True else None,
        text=said if consent is True else None,
    )
    store.put(found, anew=True)
    return found

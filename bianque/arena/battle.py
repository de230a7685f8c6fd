"""Blind battles of two contenders: who meets whom, when a vote may be cast, and what it holds.

Skipping a battle leaves nothing behind: begin another.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from types import UnionType
from typing import Any, Literal, cast, get_args

from bianque.catalog.card import Model
from bianque.errors import BadInput
from bianque.types import Dialogue, Sampling

SCHEMA = 1
Side = Literal["a", "b"]  # a is shown first
Verdict = Literal["a", "b", "tie", "both_bad"]

CATEGORIES = ("internal", "surgery", "family", "skin", "mind", "drugs", "other")
# Why a verdict is so: what the better side did; of a tie, what both did; of both bad, what both failed at.
REASONS = ("asked_right", "accurate", "safe", "empathic", "fluent")
# Words that tell a category; of as many hits, the first category here is taken.
_HINTS: dict[str, tuple[str, ...]] = {
    "mind": ("抑郁", "焦虑", "失眠", "情绪", "压力", "心理", "想哭", "孤独", "强迫", "恐惧", "自杀", "憂鬱", "焦慮", "情緒"),
    "family": ("宝宝", "孩子", "婴儿", "小儿", "月经", "怀孕", "孕", "白带", "痛经", "产后", "哺乳", "寶寶", "月經", "懷孕"),
    "drugs": ("药", "藥", "剂量", "副作用", "胶囊", "布洛芬", "阿司匹林", "头孢", "疫苗", "mg"),
    "skin": ("皮肤", "皮疹", "湿疹", "痘", "痒", "眼", "耳", "鼻", "牙", "口腔", "咽", "皮膚", "濕疹", "癢"),
    "surgery": ("骨", "扭伤", "腰", "颈椎", "关节", "膝", "手术", "外伤", "伤口", "痔", "结石", "肿块", "關節", "傷口"),
    "internal": ("头痛", "头晕", "发烧", "发热", "咳", "胃", "腹", "肚子", "血压", "血糖", "心慌", "胸闷", "感冒", "頭痛", "發燒"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Player:
    """One side of a battle. `precision` is what it computed with, as `cpu-int8`; None until its model is loaded."""

    name: str
    revision: str
    precision: str | None
    sampling: Mapping[str, Any]

    @classmethod
    def of(cls, card: Model, sampling: Sampling, precision: str | None = None) -> Player:
        return cls(card.name, card.revision, precision, asdict(sampling))


@dataclass(frozen=True, slots=True)
class Battle:
    """Two contenders whose names are hidden until the vote; `finished`: who has replied to the newest message."""

    id: str
    a: Player
    b: Player
    category: str
    finished: frozenset[Side] = frozenset()

    @classmethod
    def begin(cls, a: Player, b: Player, category: str) -> Battle:
        return cls(secrets.token_hex(12), a, b, chosen("category", category, CATEGORIES))

    @property
    def ready(self) -> bool:
        """Whether a vote may be cast."""
        return self.finished == {"a", "b"}

    def asked(self) -> Battle:
        """A new message goes to both sides."""
        return replace(self, finished=frozenset())

    def replied(self, side: Side, precision: str | None) -> Battle:
        """One side's reply is complete, computed with this."""
        heard = replace(self.a if side == "a" else self.b, precision=precision)
        a, b = (heard, self.b) if side == "a" else (self.a, heard)
        return replace(self, a=a, b=b, finished=self.finished | {side})


@dataclass(frozen=True, slots=True)
class Vote:
    """One verdict. `phases` and `models` are those of each side's replies, `conversation` is the SHA-256 of `canonical` of both
    sides' messages, and `text` is those messages, if the visitor consented."""

    battle: str
    time: str  # UTC, ISO 8601, always with microseconds: sorts as text
    a: Player
    b: Player
    category: str
    verdict: Verdict
    reasons: tuple[str, ...]
    turns: int  # the visitor's messages
    phases: Mapping[str, Sequence[str | None]]
    conversation: str
    text: Mapping[str, Sequence[Mapping[str, str]]] | None = None
    models: Mapping[str, Sequence[str | None]] | None = None  # None of votes before this was kept

    @property
    def counts(self) -> bool:
        """Whether replies of different models were compared, as far as is known."""
        return not self.models or differ(self.models)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no vote."""

    file: str
    line: int
    reason: str


def chosen(what: str, value: str, known: Iterable[str]) -> str:
    if value not in (names := list(known)):
        raise BadInput(f"{what}={value!r}: 可选 (choose one of) {', '.join(names)}")
    return value


def guess(text: str) -> str:
    """The category whose words the text has most of."""
    hits = {category: sum(word in text for word in words) for category, words in _HINTS.items()}
    best = max(hits, key=hits.__getitem__)
    return best if hits[best] else "other"


def differ(models: Mapping[Any, Sequence[str | None]]) -> bool:
    """Whether in some round the two sides' replies were different models', or it is not known whose they were."""
    return any(a is None or a != b for a, b in zip(models["a"], models["b"], strict=False))


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and nothing beyond ASCII: any text, unpaired surrogates too, in one way."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def cast_vote(
    battle: Battle,
    verdict: str,
    dialogues: Mapping[Side, Dialogue],
    reasons: Iterable[str] = (),
    consent: bool = False,
) -> Vote:
    """The vote on a battle, with what each side has said; BadInput before both have replied, and where all replies of
    both sides are one model's."""
    replied = all(
        len(said) and said[-1].role == "assistant" and said[-1].content.strip() for said in dialogues.values()
    )
    if not battle.ready or set(dialogues) != {"a", "b"} or not replied:
        raise BadInput("两边都答完之后才能投票，请稍候 (wait until both sides have replied)")
    models: dict[str, list[str | None]] = {
        side: [m.model for m in said if m.role == "assistant"] for side, said in dialogues.items()
    }
    if not differ(models):
        raise BadInput(
            "两边的回复都出自同一个模型，没有可比的；请再说一句，或换一场 "
            "(both sides' replies are one model's: say more, or begin another battle)"
        )
    text: dict[str, list[dict[str, str]]] = {
        side: [{"role": message.role, "content": message.content} for message in said]
        for side, said in dialogues.items()
    }
    return Vote(
        battle=battle.id,
        time=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        a=battle.a,
        b=battle.b,
        category=battle.category,
        verdict=cast(Verdict, chosen("verdict", verdict, get_args(Verdict))),
        reasons=tuple(dict.fromkeys(chosen("reason", reason, REASONS) for reason in reasons)),
        turns=max(sum(message.role == "user" for message in said) for said in dialogues.values()),
        phases={side: [m.phase for m in said if m.role == "assistant"] for side, said in dialogues.items()},
        conversation=hashlib.sha256(canonical(text)).hexdigest(),
        text=text if consent is True else None,
        models=models,
    )


def written(vote: Vote, text: bool = True) -> bytes:
    """The line of a vote, with or without what was said."""
    fields = {"schema": SCHEMA, **asdict(vote)}
    for name in ("text", "models"):
        if fields[name] is None or (name == "text" and not text):
            del fields[name]
    fields["battle"] = fields.pop("battle")  # last: no two files then end alike
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


Rules = Mapping[str, type | UnionType | Callable[[Any], bool]]  # field → its type, or what it has to fulfil
TEXT: Callable[[Any], bool] = lambda value: isinstance(value, str) and bool(value)
MAYBE = str | None
_LISTS = lambda value: isinstance(value, dict) and all(isinstance(item, list) for item in value.values())
_PLAYER: Rules = {"name": TEXT, "revision": str, "precision": MAYBE, "sampling": dict}
_VOTE: Rules = {
    "battle": TEXT, "time": str, "a": dict, "b": dict, "category": str, "verdict": lambda value: value in get_args(Verdict),
    "reasons": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "turns": lambda value: type(value) is int, "phases": _LISTS, "conversation": str, "text": dict | None,
    "models": lambda value: value is None or (_LISTS(value) and {"a", "b"} <= set(value)),
}  # fmt: skip


def parse(line: bytes) -> Vote:
    """A line as `written`; BadInput says what is wrong and quotes nothing of it."""
    found = fields_in(line, SCHEMA, _VOTE, "vote", "投票")
    sides = {side: Player(**checked(found[side], _PLAYER, side)) for side in get_args(Side)}
    return Vote(**{**found, **sides, "reasons": tuple(found["reasons"])})


def fields_in(line: bytes, schema: int, rules: Rules, what: str, chinese: str) -> dict[str, Any]:
    """The fields of a line of JSON that there are rules for; BadInput says what is wrong and quotes nothing of it.

    Not by pydantic, which takes no half of a surrogate pair: what a visitor wrote may hold one.
    """
    try:
        raw = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise BadInput("这一行不是 JSON (not JSON)") from error
    if not isinstance(raw, dict) or raw.get("schema") != schema:
        raise BadInput(f"这一行不是 schema {schema} 的{chinese} (no {what} of schema {schema})")
    return checked(raw, rules, what)


def checked(raw: Mapping[str, Any], rules: Rules, what: str) -> dict[str, Any]:
    """The fields that there are rules for; BadInput names the first that breaks its own."""
    for name, rule in rules.items():
        value = raw.get(name)
        if not (isinstance(value, rule) if isinstance(rule, type | UnionType) else rule(value)):
            raise BadInput(f"{what}.{name} 缺失或无效 (is missing or makes no sense)")
    return {name: raw.get(name) for name in rules}

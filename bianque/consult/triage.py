"""Red-flag notices: rules over the newest patient turn that run before any model and depend on none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from bianque.consult.patterns import asset, joined, simplified

Level = Literal["emergency", "crisis"]

LABEL = "内容由人工智能生成，仅供参考"
DISCLAIMER = "不能替代医生诊疗，不开具处方"
_EMERGENCY = (
    "您描述的情况可能需要紧急救治。请立即拨打 120 或前往最近的急诊，不要等待本系统回复，不要自行驾车。（识别到：{sign}）"
    " (This may be an emergency: call 120 in mainland China or your local emergency number now; do not wait for a reply here.)"
)
_CRISIS = (
    "听起来您现在非常难受，您的安全最重要。请现在就联系身边可信任的人，或拨打 12356 心理援助热线；"
    "如已受伤、服药或处境危险，请立即拨打 120 或 110。"
    " (Your safety comes first: reach someone you trust now, or in mainland China call 12356 to talk, 120 or 110 in danger.)"
)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a visitor is told at once; `sign` is the short name of what was recognised."""

    level: Level
    text: str
    sign: str


@dataclass(frozen=True, slots=True)
class _Rule:
    sign: str
    needs: tuple[str, ...]
    unless: str

    def met(self, text: str) -> bool:
        """Whether every need is found near one match of the first, and the excuse is not."""
        first, *others = self.needs
        for match in _gapped(first).finditer(text):
            near = text[max(0, match.start() - 80) : match.end() + 120]
            excused = self.unless and _gapped(self.unless).search(near)
            if not excused and all(_gapped(need).search(near) for need in others):
                return True
        return False


@cache
def _re(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Compile at first use: all patterns at once would hold up every start by a seventh of a second."""
    return re.compile(pattern, flags)


@cache
def _gapped(pattern: str) -> re.Pattern[str]:
    """Compile with gaps: `_` within a clause, `~` within a sentence, `@` for English; none crosses a cancelled span (#)."""
    gaps = {"_": "(?:[^，。？#]{0,8}?)", "~": "(?:[^。？#]{0,16}?)", "@": "(?:[^。？#]{0,40}?)"}
    return _re(re.sub("[_~@]", lambda m: gaps[m[0]], pattern), re.ASCII)


@cache
def _rules(group: str) -> tuple[_Rule, ...]:
    """The rules of a group in assets/triage.yaml, in their order."""
    return tuple(
        _Rule(rule["sign"], tuple(map(joined, rule["needs"])), joined(rule.get("unless", "")))
        for rule in asset("triage")[group]
    )


@cache
def _scope(*kinds: str) -> str:
    """A pattern from the first word of these kinds to the end of the text."""
    return "(?s:(?:" + "|".join(_text(kind) for kind in kinds) + ").*)"


@cache
def _text(name: str) -> str:
    """A pattern of the groups reading and context."""
    found: Mapping[str, Any] = asset("triage")
    return joined({**found["reading"], **found["context"], "idiom": found["idiom"]}[name])


def _in(name: str) -> re.Pattern[str]:
    return _re(_text(name))


def _fold(text: str) -> str:
    """Lower-case NFKC in simplified characters, with letters that were spelt out one by one joined again."""
    text = _in("hidden").sub("", unicodedata.normalize("NFKC", text)).lower()
    text = text.translate(simplified("triage")).replace("’", "'")
    return _in("spelt_out").sub(lambda m: re.sub(r"[^一-鿿]", "", m[0]), text)


def _punctuate(text: str) -> str:
    return _in("pause").sub("，", _in("stop").sub("。", text)).replace("?", "？")


def _blank(text: str) -> str:
    return "#" * len(text)


def _without_quiz(text: str) -> str:
    """Blank the sentences that ask for knowledge and show nobody ill; when nobody is ill anywhere, blank it all."""
    if _in("quiz").search(text) and not _in("own").search(text):
        return _blank(text)
    parts = re.split(r"(?<=[。？])", text)
    return "".join(_blank(part) if _in("quiz").search(part) and not _in("own").search(part) else part for part in parts)


def _without_past(text: str) -> str:
    """Blank clauses set in the past, and those after them up to the present when the story is closed."""
    if not _in("past").search(text):
        return text
    closed, past, kept = bool(_in("closed").search(text)), False, []
    for clause in re.split(r"(?<=[，。？])", text):
        now = bool(_in("now").search(clause))
        past = not now and (bool(_in("past").search(clause)) or (past and closed))
        kept.append(_blank(clause) if past else clause)
    return "".join(kept)


def _without(scope: str, text: str) -> str:
    """Blank from each word of denial to the end of its clause."""
    clauses = _in("clause").split(_in("listed").sub("、", text))
    return "".join(_re(scope).sub(lambda m: _blank(m[0]), clause) for clause in clauses)


def _first(rules: Iterable[_Rule], text: str) -> str | None:
    return next((rule.sign for rule in rules if rule.met(text)), None)


def check(text: str) -> Notice | None:
    """Judge the newest patient turn: a crisis before an emergency, None where neither shows."""
    folded = _fold(text)
    wish = _punctuate(_in("idiom").sub("#", _in("inside_word").sub("", folded)))
    stated = _without_quiz(_without_past(wish))
    wish = _without_past(wish) if _in("mended").search(wish) else wish
    if sign := _first(_rules("wishes"), wish) or _first(_rules("acts"), _without(_scope("denied"), stated)):
        return Notice("crisis", _CRISIS, sign)
    present = _in("small_no").sub(lambda m: _blank(m[0]), _punctuate(folded))
    present = _without(_scope("denied", "supposed"), _without_quiz(_without_past(present)))
    if sign := _first(_rules("emergencies"), present):
        return Notice("emergency", _EMERGENCY.format(sign=sign), sign)
    return None

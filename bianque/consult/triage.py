"""Red-flag notices: each message of a visitor is judged before any model reads it, and by none.

`judge` says whether a message tells of danger: labelled sentences (`understanding`) under a few rules that must never
fail (assets/triage.yaml). `notice` makes of it what the visitor is told, in their language (assets/notices.yaml); `alarms`
follows a dialogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Literal

from bianque.consult import features, understanding
from bianque.consult.encoder import nearness
from bianque.consult.patterns import asset, joined, pattern
from bianque.consult.understanding import Certainty, Danger, Level, Near
from bianque.data.script import simplified, traditional

LABEL = "内容由人工智能生成，仅供参考"
LONGEST_ASKED, SAME_ASKED = 60, 0.62  # characters of a question while waiting that are read; cosine to a known one
ANSWERED_AT_ONCE = 2  # of several questions while waiting
SEPARATOR = "。"
CLAUSES = re.compile(r"[^，。！？；,!?;\n]+[，。！？；,!?;\n]*")  # each with its mark
SPACED = re.compile(r"(?<=[一-鿿])\s+(?=[一-鿿])")  # 已经处理 住院了 要用抗生素吗
STOPS = "，。！？；,!?;\n "  # what they end with
DISCLAIMER = "不能替代医生诊疗，不开具处方"


@dataclass(frozen=True, slots=True)
class DangerNotice:
    """What a visitor is told at once, all in one language.

    `sign` is the short name of what was recognised, `do` what to do until help comes, `tel` the numbers to offer, the
    first one first, `nearest` the known sentences behind it. A `likely` notice is one softer line.
    """

    level: Level
    text: str
    sign: str
    kind: str
    certainty: Certainty
    do: str
    tel: tuple[str, ...]
    nearest: tuple[Near, ...]
    lang: str


@lru_cache(maxsize=4096)
def judge(text: str) -> Danger:
    """Whether a message tells of danger, now, to someone who can still be helped."""
    plain = features.clean(text).lower()
    if any(rule.search(plain) for rule, _ in _rules("silent")):
        return Danger()
    found = understanding.danger(text)
    for rule, row in _rules("must"):
        outranked = found.certainty == "sure" and found.level == "crisis"
        if not outranked and any(rule.search(part) for part in (plain, *features.pieces(plain))):
            return replace(found, level=row["level"], kind=row["kind"], certainty="sure", score=1.0, piece=plain)
    if found.level == "emergency" and any(rule.search(plain) for rule, _ in _rules("soft")):
        return replace(found, certainty="likely", score=min(found.score, 0.0))
    return found


def together(said: Sequence[str]) -> str:
    """Several messages as one text."""
    return SEPARATOR.join(text.strip() for text in said if text)


def clauses(text: str) -> list[str]:
    """The clauses of a message, cleaned, without their marks."""
    return [clause.strip(STOPS) for clause in CLAUSES.findall(features.clean(text))]


def of_others(text: str, first: str) -> bool:
    """Whether a message tells of somebody that the first one does not name: 老婆怀孕五个月 adds nothing to his shingles."""
    found = pattern("people", "others").search(text.strip(STOPS))
    return found is not None and found["who"] not in first


@cache
def _rules(group: str) -> tuple[tuple[re.Pattern[str], Mapping[str, Any]], ...]:
    return tuple((re.compile(joined(row["pattern"])), row) for row in asset("triage")[group])


def notice(found: Danger, lang: str) -> DangerNotice:
    """The notice of a danger that was seen."""
    assert found.level and found.certainty
    table, (sign, when, do) = asset("notices"), told(found, lang)
    group = group_of(found)
    kind = {"violence": "violence", "near": "other"}.get(group, found.level)
    if found.certainty == "likely":
        kind = found.level
    words = in_language(table[kind][found.certainty], lang).format(sign=sign, when=when)
    kind = group if group in table["tel"] else found.level
    tel = (*table["tel"][kind], *table["tel_beside"].get(lang, {}).get(kind, ()))
    return DangerNotice(
        found.level, words, sign, found.kind, found.certainty, do if found.certainty == "sure" else "", tel,
        found.nearest, lang,
    )  # fmt: skip


def group_of(found: Danger) -> str:
    if found.level == "crisis" and pattern("people", "near").search(found.piece):
        return "near"
    return understanding.groups().get(found.kind, "self" if found.level == "crisis" else "any")


def told(found: Danger, lang: str) -> Sequence[str]:
    """Of a danger's group in a language: the sign's name, the condition of the softer line, what to do."""
    row = asset("notices")["groups"][group_of(found)]
    if lang in row:
        return row[lang]  # type: ignore[no-any-return]
    return [text.translate(traditional()) for text in row["zh-CN"]]


def in_language(row: Mapping[str, str], lang: str) -> str:
    return row[lang] if lang in row else row["zh-CN"].translate(traditional())


def calm(found: Danger, lang: str, *, again: bool) -> str:
    """The reply in place of a model's after a sure notice, and again in the turns after it."""
    table, group = asset("notices"), group_of(found)
    level = "other" if group == "near" else str(found.level)
    row = table["again" if again else "calm"][level]
    space = "" if lang.startswith("zh") else " "
    first = f"{in_language(table['together'], lang)}{space}" if found.together and not again else ""
    return first + in_language(row, lang).format(do=told(found, lang)[2]).replace("  ", " " if space else "")


def while_waiting(found: Danger, text: str, whatever: bool = False) -> str | None:
    """The answer to what people ask while they wait for help in an emergency; None to anything else, unless `whatever` is asked."""
    known, text = asset("notices")["waiting"], text[-LONGEST_ASKED:]
    questions = [row for row in known["questions"] if group_of(found) not in row.get("not_of", ())]
    rows = _alike(clauses(text), questions) or _alike([text], questions)
    if rows:  # what to do was said with the alarm
        return _until_help(rows[:ANSWERED_AT_ONCE], None, language(text))
    return _until_help([known["unknown"]], found, language(text)) if whatever else None


def in_hospital(text: str) -> str:
    """The answer to what is asked there: whether one may leave, and to ask the doctors."""
    known = asset("notices")["waiting"]
    rows = _alike(clauses(text), [row for row in known["questions"] if row.get("for") == "hospital"])
    lang = language(text)
    return ("" if lang.startswith("zh") else " ").join(in_language(row, lang) for row in [*rows, known["there"]])


def _alike(parts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """For each part the row that it is nearest to a wording of, if it is near enough, the nearest first.

    A row with an `if` is only of what that matches: 嘴唇也干 is no blue lip.
    """
    may = lambda row, part: "if" not in row or re.search(row["if"], part) is not None
    near = lambda part: max(
        (nearness(part, tuple(row["ask"])), place) for place, row in enumerate(rows) if may(row, part)
    )
    found = sorted(map(near, parts), reverse=True)
    return [rows[place] for place in dict.fromkeys(place for alike, place in found if alike >= SAME_ASKED)]


def going(doubted: Danger, text: str) -> str | None:
    """The answer to whether to call or to go, or whether it can wait, after an emergency that the visitor doubted."""
    asks_it = pattern("guards", "whether_to_go").search
    if not any(map(asks_it, clauses(text))):
        return None
    lang = language(text)
    return in_language(asset("notices")["doubted"], lang).format(when=told(doubted, lang)[1])


def until_help(found: Danger, text: str) -> str:
    """What to do while help is on its way to the patient, or the patient to help, as the text says."""
    known = asset("notices")["waiting"]["coming"]
    return _until_help([known["way" if pattern("notices", "way").search(text) else "ambulance"]], found, language(text))


def _until_help(rows: Sequence[Mapping[str, str]], found: Danger | None, lang: str) -> str:
    words = in_language(asset("notices")["waiting"]["answer"], lang)
    said = dict.fromkeys(in_language(row, lang) for row in rows)
    space, do = "" if lang.startswith("zh") else " ", told(found, lang)[2] if found else ""
    return words.format(answer=space.join(said), do=do).replace("  ", " ")


Settled = Literal["coming", "handled", "doubted", "over", "eased", "denied"]


def settled(text: str, of: Danger | None = None) -> Settled | None:
    """Whether a message says that help is on its way, that the emergency is over or was none, that it was not meant.

    `of`: the danger that is open. Of some the signs may pass before they come back worse: they are not over by that.
    """
    found, _ = _settling(text)
    return None if found == "eased" and of and group_of(of) in asset("notices")["lasting"] else found


def beyond_settling(text: str) -> str:
    """What a message says besides that."""
    return _settling(text)[1]


@lru_cache(maxsize=4096)
def _settling(text: str) -> tuple[Settled | None, str]:
    found: Settled | None = None
    beyond = ""
    for clause in CLAUSES.findall(SPACED.sub("，", features.clean(text))):
        core = clause.strip(STOPS)
        asked = (
            "是不是" in core
            or core.endswith(("吗", "么", "吧", "对不对", "是不是"))
            or clause.rstrip().endswith(("?", "？"))
        )
        how = next(
            (how for how, rows in asset("notices")["settled"].items() if any(re.search(row, core) for row in rows)),
            None,
        )
        if how is None or asked:
            beyond += clause
        elif found in (None, "coming", "handled"):
            found = how
    besides = lambda name: pattern("notices", name).search(beyond.lower())
    if found == "handled":
        found = "coming" if besides("underway") else "over" if besides("seen") else found
    return found, beyond


def resumed(lang: str, how: Literal["resumed", "resumed_doubted", "misheard"] = "resumed") -> str:
    """What leads back to the consultation: from an emergency taken care of, from one that was doubted, from a crisis that was
    none."""
    return in_language(asset("notices")[how], lang)


def history(rounds: int, first_kept: bool, lang: str) -> str:
    """That a model has not read so many earlier rounds of a long dialogue."""
    return in_language(asset("notices")["history"]["kept" if first_kept else "latest"], lang).format(rounds=rounds)


def language(text: str) -> str:
    """The language a message is written in, of those there are words for; Chinese where it cannot be told."""
    hangul, han, latin = (len(re.findall(signs, text)) for signs in ("[가-힣]", "[㐀-鿿]", "[A-Za-z]"))
    if hangul > han:
        return "ko"
    if not han:
        return "en" if latin > 2 else "zh-CN"
    if latin > 6 * han:
        return "en"
    return "zh-TW" if text.translate(simplified()) != text else "zh-CN"

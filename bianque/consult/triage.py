"""Red-flag notices: each message of a visitor is judged before any model reads it, and by none.

`judge` says whether a message tells of danger: labelled sentences (`understanding`) under a few rules that must never
fail (assets/triage.yaml). `check` makes of it what the visitor is told, in their language (assets/notices.yaml).
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
from bianque.consult.questions import asks
from bianque.consult.understanding import Certainty, Danger, Level, Near
from bianque.data.script import simplified, traditional

LABEL = "内容由人工智能生成，仅供参考"
LONGEST_ASKED, SAME_ASKED = 60, 0.62  # characters of a question while waiting that are read; cosine to a known one
TOGETHER = (3, 5)  # newest messages that are read as one, too: facts of danger are told one by one, others among them
SEPARATOR = "。"
ADDED_UP = 0.3  # score at which messages read as one are surely an emergency
AGAIN, ALSO = -0.3, -0.7  # score that alarms anew after "it is no emergency"; the same of what is told as one more sign
MOST_CLAUSES = 8  # of such a message that are judged apart, too
REMEMBERED = 20  # newest messages of the visitor in which a danger is still open
CLAUSES = re.compile(r"[^，。！？；,!?;\n]+[，。！？；,!?;\n]*")  # each with its mark
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
    return found


def judged(said: Sequence[str]) -> list[Danger]:
    """What danger each message of a visitor tells, alone or together with those before it.

    Navel pain, that it has moved to the right, that every step hurts: none of it alarms, all of it does. What was said before
    a sure danger or before the visitor settled one counts no more; but that it is no emergency, who has one says as often
    as who has none, so after that what was told still counts, and less is needed to alarm again.
    """
    found: list[Danger] = []
    own = ["" if place and of_others(text, said[0]) else text for place, text in enumerate(said)]
    since, open_, doubted = 0, Danger(), Danger()
    for place, text in enumerate(said):
        how = settled(text)
        told = judge(text)
        if how == "doubted" and (open_ if open_.level else doubted).level == "emergency":
            doubted = open_ if open_.level else doubted
            told = _doubting(text, doubted)
        elif told.certainty != "sure" and doubted.level and not how and _adds(text, told):
            told = _again(told, doubted)
        elif told.certainty != "sure" and since < place and not how:
            wholes = {together(own[max(since, place + 1 - count) : place + 1]) for count in TOGETHER}
            whole = max(map(judge, sorted(wholes)), key=lambda one: one.score)
            if whole.certainty == "sure" or (whole.level == "emergency" and whole.score > ADDED_UP):
                told = replace(whole, certainty="sure", together=True)
        elif told.level == "emergency" and not told.kind and place:  # the pregnancy was told before
            told = replace(told, kind=judge(together(said[max(0, place + 1 - max(TOGETHER)) : place + 1])).kind)
        found.append(told)
        if told.certainty == "sure":
            since, open_, doubted = place + 1, told, Danger()
        elif how:
            since, open_ = place + 1, Danger()
            doubted = doubted if how == "doubted" else Danger()
    return found


def _doubting(text: str, open_: Danger) -> Danger:
    """What a message tells that says of an open emergency that it is none: a new sign, or that it may yet be one."""
    beyond = beyond_settling(text)
    told = judge(beyond)
    if told.level == "crisis":
        return told
    return _again(told, open_) if _adds(beyond, told) else replace(open_, certainty="likely", nearest=())


def _adds(text: str, told: Danger) -> bool:
    """Whether a message adds to an emergency that was told before what alone would be none; what it asks is no sign."""
    if told.level:
        return told.level == "emergency"
    clauses = [clause.strip(STOPS) for clause in CLAUSES.findall(features.clean(text))]
    told_in = [clause for clause in clauses if not asks(clause)][:MOST_CLAUSES]
    also, relief = pattern("notices", "also").search, pattern("notices", "relief").search
    adds = lambda part: judge(part).score > (ALSO if also(part) else AGAIN) and not relief(part)
    return any(map(adds, dict.fromkeys(("，".join(told_in), *told_in))))


def _again(told: Danger, doubted: Danger) -> Danger:
    """A sign that alone may be none, told after an emergency that was doubted."""
    return replace(told, level="emergency", certainty="sure", kind=told.kind or doubted.kind, together=True)


def together(said: Sequence[str]) -> str:
    """Several messages as one text."""
    return SEPARATOR.join(text.strip() for text in said if text)


def of_others(text: str, first: str) -> bool:
    """Whether a message tells of somebody that the first one does not name: 老婆怀孕五个月 adds nothing to his shingles."""
    found = pattern("people", "others").search(text.strip(STOPS))
    return found is not None and found["who"] not in first


@cache
def _rules(group: str) -> tuple[tuple[re.Pattern[str], Mapping[str, Any]], ...]:
    return tuple((re.compile(joined(row["pattern"])), row) for row in asset("triage")[group])


def check(text: str, earlier: Sequence[str] = ()) -> DangerNotice | None:
    """What the visitor is told about a message after their earlier ones, None where no danger shows."""
    *before, found = judged([*earlier, text][-REMEMBERED:])
    doubtful = found.level == "crisis" and found.certainty == "likely"
    if doubtful and any((one.level, one.certainty) == ("emergency", "sure") for one in before[-max(TOGETHER) :]):
        return None  # 家里就我一个人 while help is called for says where the patient is, not how they feel
    return notice(found, language(text)) if found.level else None


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
    parts = dict.fromkeys([text, *(clause.strip(STOPS) for clause in CLAUSES.findall(features.clean(text)))])
    near = lambda row: max(nearness(part, tuple(row["ask"])) for part in parts)
    alike, row = max(((near(row), row) for row in known["questions"]), key=lambda one: one[0])
    if alike < SAME_ASKED:
        if not whatever:
            return None
        row = known["unknown"]
    return _until_help(row, found, language(text))


def going(doubted: Danger, text: str) -> str | None:
    """The answer to whether to call or to go, or whether it can wait, after an emergency that the visitor doubted."""
    asks_it = pattern("guards", "whether_to_go").search
    if not any(asks_it(clause.strip(STOPS)) for clause in CLAUSES.findall(features.clean(text))):
        return None
    lang = language(text)
    return in_language(asset("notices")["doubted"], lang).format(when=told(doubted, lang)[1])


def until_help(found: Danger, text: str) -> str:
    """What to do while help is on its way to the patient, or the patient to help, as the text says."""
    known = asset("notices")["waiting"]["coming"]
    return _until_help(known["way" if pattern("notices", "way").search(text) else "ambulance"], found, language(text))


def _until_help(row: Mapping[str, str], found: Danger, lang: str) -> str:
    words = in_language(asset("notices")["waiting"]["answer"], lang)
    return words.format(answer=in_language(row, lang), do=told(found, lang)[2])


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
    for clause in CLAUSES.findall(features.clean(text)):
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

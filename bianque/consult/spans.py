"""How long ago, or for how long, a text says, in days: what sentence vectors cannot tell apart, 三天 from 三年."""

from __future__ import annotations

import re
from typing import NamedTuple

DIGITS = {sign: place for place, sign in enumerate("零一二三四五六七八九")} | {"两": 2, "半": 0.5}
DAYS = {
    "秒": 1 / 86400, "分钟": 1 / 1440, "小时": 1 / 24, "钟头": 1 / 24, "天": 1, "日": 1, "晚": 1, "周": 7, "星期": 7,
    "礼拜": 7, "月": 30, "年": 365,
}  # fmt: skip
SPAN = re.compile(
    r"(半|\d+(?:\.\d+)?|[一二两三四五六七八九十几好]{1,3})(?:个?[多来]|几|把)?个?(半)?(分钟|小时|钟头|星期|礼拜|[秒天日晚周月年])(?!本)"
)
# What stands behind a span that something has lasted, and what before one that is something else: 药吃了三天了.
LASTED, ELSE = re.compile("(?:左右|吧)?(?:了|啦|喽|咧)"), re.compile("[第孕生大停吃用喝打戴抹贴换滴]|术后|做完")
ASKED = re.compile("久|多长|多少[天年]|[几两][天年]|几个月|哪天|什么时候|时间|开始|起")  # how a question asks for one
FEW = 4  # 几天, 好几天
SINCE = {
    r"今[天早晚]|刚[刚才]?|中午|早上": 0.3, r"昨[天晚日]|昨儿": 1, r"(?<!大)前[天晚日]": 2, "大前天": 3,
    r"上个?(?:周|星期|礼拜)": 7, r"上个?月": 30, "去年": 365, "前年": 730, "从小|多年|常年|一直以来": 3000,
}  # fmt: skip


class Span(NamedTuple):
    """A span of time in a text, in days; `lasted`: something is said to have gone on for so long."""

    start: int
    days: float
    lasted: bool = False


def found(text: str) -> list[Span]:
    """Every span of time in a Chinese text, in its order."""
    told = [
        Span(match.start(), (number(match[1]) + (0.5 if match[2] else 0)) * DAYS[match[3]], bool(LASTED.match(text, match.end())))
        for match in SPAN.finditer(text)
    ]  # fmt: skip
    since = [Span(match.start(), days) for words, days in SINCE.items() if (match := re.search(words, text))]
    return sorted([*told, *since])


def spans(text: str) -> list[float]:
    """All of them, in days."""
    return [one.days for one in found(text)]


def lasting(text: str, asked: bool = False) -> float | None:
    """How long something has lasted, in days: 咳嗽一个礼拜了. Of who was asked how long, the first span otherwise; of who
    was not, only one that stands alone."""
    told = found(text)
    lasted = [one for one in told if one.lasted]
    if asked:
        return (lasted or told)[0].days if told else None
    alone = len(told) == 1 and lasted and not ELSE.search(text[max(0, told[0].start - 4) : told[0].start])
    return told[0].days if alone else None


def number(text: str) -> float:
    """半, 3.5, 十二, 二三十 (of two numbers the middle)."""
    if text[0].isdigit():
        return float(text)
    if "十" in text:
        tens, ones = text.split("十", 1)
        return 10 * (number(tens) if tens else 1) + (number(ones) if ones else 0)
    known = [DIGITS[sign] for sign in text if sign in DIGITS]
    return sum(known) / len(known) if known else FEW

"""Quick replies: what a patient can answer a question with by one tap."""

from __future__ import annotations

import re
from functools import partial

from bianque.consult.patterns import pattern
from bianque.consult.questions import plain, sentences

LONGEST = 10  # characters of a choice
MOST = 4  # choices of one question
NO, UNSURE, SKIP = "没有", "不清楚", "跳过这个问题"  # what the buttons send; the page has its own words for them

_re = partial(pattern, "quick")


def is_open(reply: str) -> bool:
    """Whether the reply's last question asks for more than yes or no: how long, where, what, how."""
    asked = [one for one in sentences(reply) if one.endswith(("？", "?"))]
    return bool(asked and _re("open").search(plain(asked[-1])))


def offered(reply: str) -> list[str]:
    """The two questions of which the reply asks which one was meant."""
    found = _re("either").findall(reply)
    return [*found[-1]] if found else []


def taken(said: str, spoken: str) -> str | None:
    """The wording that the visitor takes of those that the doctor has just offered: 前一个, 是."""
    for kind, answers in (("either", ("first", "second")), ("only", ("agreed",))):
        offers = [found.groups() for found in _re(kind).finditer(spoken)]
        which = (at for at, name in enumerate(answers) if _re(name).fullmatch(said.strip()))
        if offers and (at := next(which, None)) is not None:
            return str(offers[-1][at])
    return None


def choices(reply: str) -> list[str]:
    """What the reply's last question names to choose from, in its own words: 干咳还是有痰 gives 干咳 and 有痰."""
    asked = [one for one in sentences(reply) if one.endswith(("？", "?"))]
    if not asked:
        return []
    clauses = re.split(r"[，,：:。；;]", plain(asked[-1]).rstrip("？?"))
    joined = next((place for place, clause in enumerate(clauses) if "还是" in clause), None)
    if joined is None:
        return []
    before, *rest = re.split("还是", clauses[joined])
    first = before or (clauses[joined - 1] if joined else "")
    found = [_re("lead").sub("", part).strip() for part in (*first.split("、"), *rest)]
    found = [_re("end").sub("", part) for part in found]
    whole = all(0 < len(part) <= LONGEST for part in found) and len(set(found)) == len(found) <= MOST
    return found if whole else []

"""Yes or no, as an answer begins with it: 没有; 还真会; 不会黑 to 会不会眼前发黑."""

from __future__ import annotations

import re

CLAUSE = re.compile(r"[，。！？,.!?；;\s]+")
PARTICLES = "(?:啊|呀|吧|的|过|呢|哦|了|这些|诶|咧)*"
NO = re.compile(rf"(?:没有?|都没有?|没有没有|都不|不是|不会|无|没得|冇){PARTICLES}$")
NOT = re.compile(
    rf"(?:都|也|倒|倒是|从来|好像|应该)*(?:没有?|不会|不怎么|没怎么|不){{1,2}}(?P<what>.{{1,6}}?){PARTICLES}$"
)
YES = re.compile(rf"(?:还真的?|真的?|确实|好像|就是|应该|也|都)*(?:会|有|是|能|对){PARTICLES}$")
EITHER = re.compile(r"还是|哪|什么|怎么样|多少|多久|几")  # asks for more than yes or no
SEVERAL = re.compile(r"[、，]|或|还有")  # of which one may be denied and the next one be told
BUT = re.compile(r"就是|可是?|但是?|倒|不过|只是|却|前")  # behind what is denied
FINE = re.compile(r"[好没不稳]|正常|还行|舒服")
CLAUSES = 2  # in which it is said: 划了一下，还真会


def polarity(text: str, question: str) -> bool | None:
    """What an answer says to a question of yes or no, None where it begins with neither or the question asks for more."""
    clauses = [clause for clause in CLAUSE.split(text) if clause][:CLAUSES]
    if clauses and NO.match(clauses[0]):
        return False
    return True if any(map(YES.fullmatch, clauses)) and not EITHER.search(last(question)) else None


def denies(text: str, question: str) -> bool:
    """Whether an answer denies, in the question's own words and without a but, the one thing that was asked.

    Only good against a danger sign that was heard: of 91 answers which begin like this 62 tell something else besides.
    """
    (head, *more), asked = CLAUSE.split(text), last(question)
    denied = NOT.match(head)
    if (
        not denied
        or BUT.search(text)
        or (more and more[0] and not FINE.search(more[0]))
        or SEVERAL.search(asked)
        or EITHER.search(asked)
    ):
        return False
    what = denied["what"]  # 不舒服 is not denied to 还有没有别的不舒服
    return what in asked and not re.search(rf"(?<!{re.escape(what[0])})不{re.escape(what)}", asked)


def last(question: str) -> str:
    """The last sentence of a doctor's turn."""
    return question.rstrip("？? ").rpartition("。")[2]

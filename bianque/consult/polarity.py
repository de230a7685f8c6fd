"""Yes or no, as an answer begins with it: 没有; 还真会; 不会黑 to 会不会眼前发黑. The patterns are in assets/polarity.yaml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial

from bianque.consult.patterns import asset, pattern
from bianque.consult.told import CLAUSE

CLAUSES = 2  # in which it is said: 划了一下，还真会

_re = partial(pattern, "polarity")


def polarity(text: str, question: str) -> bool | None:
    """What an answer says to a question of yes or no, None where it begins with neither or the question asks for more."""
    clauses = [clause for clause in CLAUSE.split(text) if clause][:CLAUSES]
    if clauses and _re("nothing").match(clauses[0]):
        return False
    return True if any(map(_re("assent").fullmatch, clauses)) and not _re("either").search(last(question)) else None


def denies(text: str, question: str) -> bool:
    """Whether an answer denies, in the question's own words and without a but, the one thing that was asked.

    Only good against a danger sign that was heard: of 91 answers which begin like this 62 tell something else besides.
    """
    (head, *more), asked = CLAUSE.split(text), last(question)
    denied = _re("denies").match(head)
    if (
        not denied
        or _re("but").search(text)
        or (more and more[0] and not _re("fine").search(more[0]))
        or _re("several").search(asked)
        or _re("either").search(asked)
    ):
        return False
    what = denied["what"]  # 不舒服 is not denied to 还有没有别的不舒服
    return what in asked and not re.search(rf"(?<!{re.escape(what[0])})不{re.escape(what)}", asked)


def last(question: str) -> str:
    """The last sentence of a doctor's turn."""
    return question.rstrip("？? ").rpartition("。")[2]


def opposed(text: str, answers: Sequence[Sequence[str]]) -> list[int]:
    """Which answers, by their wordings, tell only of the other side than the text, where another one tells of its side."""
    out = set[int]()
    for pair, told in enumerate(sides(text)):
        named = [frozenset[int]().union(*(sides(say)[pair] for say in wordings)) for wordings in answers]
        if len(told) == 1 and any(told <= one for one in named):
            out |= {place for place, one in enumerate(named) if one and not told & one}
    return sorted(out)


@lru_cache(maxsize=4096)
def sides(text: str) -> tuple[frozenset[int], ...]:
    """Of each two sides which a text names."""
    return tuple(
        frozenset(at for at, side in enumerate(pair) if re.search(side, text)) for pair in asset("polarity")["sides"]
    )

"""Which of a question's answers a patient's words give, or none: 不烫，就是有点肿 is no hot joint.

Each answer of the knowledge base is compared with the words (`features`: vectors, as they are and turned so that what
means the same lies nearer than what shares words; pairs of characters, negations that one has and the other has not,
spans of time) and a `Choice` is made, the same for all questions. Trained on `data/answers.jsonl` and the openings,
whose writers noted what they say (`python -m bianque train-complaints`).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult.choice import Choice, read, unit
from bianque.consult.spans import spans
from bianque.consult.text import likeness
from bianque.consult.told import Question, Utterance
from bianque.once import once

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "assets" / "answers.npz"
NEGATION = re.compile("[没不无未否沒無冇]|别(?![的处人])")
NO_NEGATION = re.compile(
    "不是没|没有?不|不得不|不错|不少|不久|差不多|不断|不过|不停|不一样|无名指|[要好]不好|有没有|是不是|特别|分别|区别"
)
OPENS_NO, OPENS_YES = re.compile("[没不无未否沒無]"), re.compile("[有是对嗯會会]")
PLAIN, TURNED = 34, 8  # features without and with what is learned about vectors
WIDTH = PLAIN + TURNED
CANNOT = "不[上下了住动开出清起来醒得到]"  # 喘不上气 denies nothing
# What a clause says is not there: 不红, 没有长痘; and particles that end it.
DENIES = re.compile(
    rf"(?!{CANNOT})(?:[没不无未沒無]|别(?![的处人]))(?:有|会|怎么|太|觉得|感觉)?([^没不无未沒無，。！？,.!?\s]{{1,4}})"
)
PARTICLES = "啊呀吧的过呢哦了也都这些哪"
FARTHEST = -1.0  # cosine
BEFORE = 4  # characters before a shared part in which a negation belongs to it


def negated(text: str) -> bool:
    return NEGATION.search(NO_NEGATION.sub("", text)) is not None


def denied(label: str, fact: str) -> bool:
    """Whether an answer says that there is nothing of what was asked."""
    return label == "none" or negated(fact)


def stands(say: str, text: str) -> bool:
    """Whether a wording is in the text, and not behind a negation that is none of its own: 有糖尿病 in 没有糖尿病."""
    place = text.find(say)
    return place >= 0 and not negated(text[max(0, place - 2) : place])


def turned_round(text: str, other: str) -> tuple[float, float]:
    """Whether what both share is denied in one and not in the other, weighed by its length, and the length: up to 1."""
    found = difflib.SequenceMatcher(None, text, other, autojunk=False).find_longest_match()
    if found.size < 2:
        return 0.0, 0.0
    head = lambda of, at: negated(of[max(0, at - BEFORE) : at])
    size = min(found.size, BEFORE) / BEFORE
    inside = negated(text[found.a : found.a + found.size])
    return (size if not inside and head(text, found.a) != head(other, found.b) else 0.0), size


@lru_cache(maxsize=8192)
def halves(text: str) -> tuple[str, tuple[frozenset[str], ...]]:
    """What a text says is there, and the characters of each thing that it says is not: 有点肿，不红."""
    plain = NO_NEGATION.sub("", text)
    denied = (frozenset(match[1].strip(PARTICLES)) for match in DENIES.finditer(plain))
    return DENIES.sub("", plain), tuple(filter(None, denied))


def against(said: str, known: Sequence[str]) -> list[float]:
    """Five shares: of what is denied, the most and the mean that a known wording says is there, and that it denies too; of
    what the known wordings deny, what is said to be there, and what is denied too."""
    there, denied = halves(said)
    each = [halves(text) for text in known]
    share = lambda part, text: len(part & set(text)) / len(part)
    found = [max(share(part, text) for text, _ in each) for part in denied]
    both = [max((share(part, own) for _, parts in each for own in parts), default=0.0) for part in denied]
    parts = [part for _, own in each for part in own]
    gone = frozenset[str]().union(*denied)
    mean = lambda shares: sum(shares) / len(shares) if shares else 0.0
    return [
        max(found, default=0.0), mean(found), mean(both),
        mean([share(part, there) for part in parts]), mean([share(part, gone) for part in parts]),
    ]  # fmt: skip


class AnswerTurn:
    """Learned [512, rank] matrices: a clause times `says` lies near a wording of the answer it gives, times `facts` near
    its fact."""

    def __init__(self, arrays: Any) -> None:
        import numpy as np

        self.says, self.facts = (np.asarray(arrays[name], np.float32) for name in ("says", "facts"))

    def __call__(self, said: Utterance, question: Question) -> NDArray[Any]:
        """[answers, TURNED]: how near clauses come to a wording that denies as they do and to one that does not, the same of
        the fact; how near the whole comes to both, and clause and whole to the wordings on average."""
        import numpy as np

        denies, rows = np.array(list(map(negated, said.clauses))), []
        turned, to_facts = unit(said.vectors @ self.says), unit(said.vectors @ self.facts)
        facts = to_facts @ unit(question.facts.vectors @ self.facts).T
        for place, answer in enumerate(question.answers.values()):
            near = turned @ unit(answer.vectors @ self.says).T
            alike = denies[:, None] == np.array(list(map(negated, answer.texts)))
            fact, fact_alike = facts[:, place], denies == negated(question.facts.texts[place])
            rows.append([
                *nearest(near[:-1], alike), *nearest(fact[:-1], fact_alike),
                near[-1].max(), fact[-1], near[:-1].max(0).mean(), near[-1].mean(),
            ])  # fmt: skip
        return np.array(rows, np.float32)


def nearest(near: NDArray[Any], alike: NDArray[Any]) -> tuple[float, float]:
    """The highest of those that are alike and of the others, FARTHEST where there is none."""
    return float(near[alike].max(initial=FARTHEST)), float(near[~alike].max(initial=FARTHEST))


def features(said: Utterance, question: Question, turn: AnswerTurn | None = None) -> NDArray[Any]:
    """[answers, WIDTH] of a message against each answer of a question, without a `turn` PLAIN wide."""
    import numpy as np

    characters, rows = set(said.text), []
    covered = lambda text: len(characters & set(text)) / len(set(text))
    first, asked = said.clauses[0], "".join(question.asks.texts)
    gone = begins[1].strip(PARTICLES) if (begins := DENIES.match(first)) else ""
    begun = bool(gone and gone in asked)  # with a denial of what was asked
    own, no, yes = spans(said.text), bool(OPENS_NO.match(said.text)), bool(OPENS_YES.match(said.text))
    for place, (label, answer) in enumerate(question.answers.items()):
        near, fact = said.vectors[:-1] @ answer.vectors.T, question.facts.texts[place]
        clause, wording = np.unravel_index(int(near.argmax()), near.shape)
        to_fact = said.vectors @ question.facts.vectors[place]
        closest = int(to_fact[:-1].argmax())
        alike, mine, its = max(
            (likeness(one, other), i, j) for i, one in enumerate(said.pairs) for j, other in enumerate(answer.pairs)
        )
        turned = negated(said.clauses[mine]) != negated(answer.texts[its])
        none = denied(label, fact)
        ago = [one for text in answer.texts for one in spans(text)]
        apart = min((abs(math.log(a / b)) for a in own for b in ago), default=math.inf)
        rows.append([
            near.max(), (said.vectors[-1] @ answer.vectors.T).max(), to_fact[:-1].max(), to_fact[-1],
            alike, max(likeness(one, question.facts.pairs[place]) for one in said.pairs),
            any(len(text) > 2 and text in said.text for text in answer.texts),
            negated(said.clauses[clause]) != negated(answer.texts[wording]),
            negated(said.clauses[closest]) != negated(fact), turned * alike, negated(fact),
            covered(fact), max(map(covered, answer.texts)), bool(own and ago), math.exp(-apart), near.mean(),
            none and no, none and yes, no and not none, *turned_round(said.text, fact),
            max(turned_round(said.text, text)[0] for text in answer.texts),
            *against(said.text, (*answer.texts, fact)), near[0].max(), to_fact[0],
            max(likeness(said.pairs[0], other) for other in answer.pairs),
            negated(first) != negated(answer.texts[int(near[0].argmax())]), none and begun, no and begun and not none,
            len(said.clauses) > 1,
        ])  # fmt: skip
    plain = np.array(rows, np.float32)
    return np.hstack([plain, turn(said, question)]) if turn else plain


def nearness(row: NDArray[Any]) -> float:
    """Of an answer's features, the cosine of the nearest clause to one of its wordings or to its fact."""
    return float(max(row[0], row[2]))


@once
def learned() -> tuple[Choice, AnswerTurn]:
    """The bundled ones."""
    arrays = read(FILE)
    return Choice(arrays), AnswerTurn(arrays)

"""Which of a question's answers a patient's words give, or none: 不烫，就是有点肿 is no hot joint.

Each answer of the knowledge base is compared with the words (`features`: vectors, pairs of characters, negations that
one has and the other has not, spans of time) and a `Choice` is made, the same for all questions. Trained on
`data/answers.jsonl` and the openings, whose writers noted what they say (`python -m bianque train-complaints`).
"""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult.choice import Choice, bundled
from bianque.consult.spans import spans
from bianque.consult.text import likeness
from bianque.consult.told import Question, Said

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "assets" / "answers.npz"
NEGATION = re.compile("[没不无未否别沒無]")
OPENS_NO, OPENS_YES = re.compile("[没不无未否沒無]"), re.compile("[有是对嗯會会]")
WIDTH = 19


def negated(text: str) -> bool:
    return len(NEGATION.findall(text)) % 2 == 1


def denied(label: str, fact: str) -> bool:
    """Whether an answer says that there is nothing of what was asked."""
    return label == "none" or negated(fact)


def features(said: Said, question: Question) -> NDArray[Any]:
    """[answers, WIDTH] of a message against each answer of a question."""
    import numpy as np

    characters, rows = set(said.text), []
    covered = lambda text: len(characters & set(text)) / len(set(text))
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
            none and no, none and yes, no and not none,
        ])  # fmt: skip
    return np.array(rows, np.float32)


@cache
def answers() -> Choice:
    """The bundled one."""
    return bundled(FILE)

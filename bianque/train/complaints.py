"""Train the recogniser of complaints (`consult/recognise.py`): two multinomial logistic regressions, over sentence vectors and n-grams.

It learns from the knowledge base's openings, questions and answers, from `data/openings.jsonl` (more openings, told by
nobody who knew this code), and from composed first messages, which bring typos, other people and the traditional
script. Nothing of `data/examination.yaml` is seen.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bianque.consult import encoder
from bianque.consult.recognise import FILE, GENERIC, NONE, Recogniser, character_grams
from bianque.data.compose import Composer
from bianque.data.knowledge import Knowledge, bundled, examination, further_openings

COMPOSED, COMBINED = 6_000, 500  # first messages; parts of the body with a feeling
EPOCHS, RAREST = 60, 2
GRAMS = 0.5  # what the n-grams' scores count beside the vectors': the two are trained apart, together they overfit
QUESTION, ANSWER, FOLLOW, FIRST, OTHER = 0.1, 0.1, 0.3, 0.5, 0.5  # what a text is worth beside an opening


@dataclass(frozen=True, slots=True)
class Labelled:
    text: str
    complaint: str
    weight: float = 1.0


def texts(knowledge: Knowledge, further: Sequence[Labelled], seed: int = 0) -> Iterator[Labelled]:
    """Everything that there is to learn from."""
    yield from further
    for name, entry in knowledge.complaints.items():
        yield from (Labelled(text, name) for text in (entry.name, *(opening.say for opening in entry.open)))
        for slot in entry.slots:
            yield from (Labelled(ask, name, QUESTION) for ask in slot.ask)
            yield from (Labelled(say, name, ANSWER) for value in slot.values.values() for say in value.says)
        yield from (Labelled(ask, name, FOLLOW) for follow in entry.follow for ask in follow.ask)
    r, generic, common = random.Random(seed), knowledge.generic, knowledge.common
    combined = [r.choice(p.words) + r.choice(generic.feelings) for p in r.choices(generic.places, k=COMBINED)]
    for x in [*(symptom.x for symptom in generic.symptoms), *combined]:
        yield Labelled(x, GENERIC, FOLLOW)
        yield Labelled(r.choice(generic.open).say.replace("{x}", x), GENERIC, FOLLOW)
    nothing = [text for one in common.situations if "first" in one.when for text in one.patient]
    for text in (*nothing, *common.thanks, *common.want, *common.unsure, *common.none, *common.what):
        yield Labelled(text, NONE, OTHER)
    composer = Composer(knowledge)
    for number in range(COMPOSED):
        turns = composer(random.Random(f"recognise/{seed}/{number}")).turns
        about = next((turn.entry.id for turn in turns if turn.entry is not None), None)
        first = next(turn.text for turn in turns if turn.role == "patient")
        if about is not None:
            yield Labelled(first, about, FIRST)


def train(rows: Sequence[Labelled]) -> dict[str, Any]:
    """The arrays of a `Recogniser`; the same rows give the same ones."""
    names = sorted({row.complaint for row in rows})
    seen = Counter(gram for row in rows for gram in set(character_grams(row.text)))
    grams = sorted(gram for gram, count in seen.items() if count >= RAREST)
    place = {gram: i for i, gram in enumerate(grams)}
    idf = np.log(len(rows) / np.array([seen[gram] for gram in grams], np.float32)).astype(np.float32)
    dense = torch.from_numpy(encoder.encode([row.text for row in rows]))
    held = [sorted({place[gram] for gram in character_grams(row.text) if gram in place}) for row in rows]
    weights = [idf[row] / np.sqrt(idf[row] @ idf[row]) if row else idf[:0] for row in held]
    index = np.stack([np.repeat(np.arange(len(rows)), [len(row) for row in held]), np.concatenate(held).astype(int)])
    values = torch.from_numpy(np.concatenate(weights))
    sparse = torch.sparse_coo_tensor(torch.from_numpy(index), values, (len(rows), len(grams)), check_invariants=False)
    answers = torch.tensor([names.index(row.complaint) for row in rows])
    worth = torch.tensor([row.weight for row in rows])
    target = torch.nn.functional.one_hot(answers, len(names)).float()
    over_vectors, bias = fit(dense, dense.T, target, worth / worth.sum(), 0.3, 1e-5)
    across, back = sparse.coalesce().to_sparse_csr(), sparse.t().coalesce().to_sparse_csr()
    over_grams, more = fit(across, back, target, worth / worth.sum(), 0.5, 1e-6)
    over_grams, bias = GRAMS * over_grams, bias + GRAMS * more
    step = np.abs(over_grams).max(axis=0) / 127
    return {
        "names": np.array(names), "grams": np.array(grams), "idf": idf.astype(np.float16), "step": step,
        "dense": over_vectors.astype(np.float16), "sparse": np.round(over_grams / step).astype(np.int8), "bias": bias,
    }  # fmt: skip


def fit(
    rows: torch.Tensor, across: torch.Tensor, target: torch.Tensor, worth: torch.Tensor, rate: float, penalty: float
) -> tuple[Any, Any]:
    """Weights and biases: Adam over the whole set with a falling rate and an L2 penalty; `across` is `rows` transposed."""
    weights, bias = torch.zeros(rows.shape[1], target.shape[1]), torch.zeros(target.shape[1])
    optimizer = torch.optim.Adam([weights, bias], lr=rate, betas=(0.9, 0.99))
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = rate * (1 - epoch / EPOCHS)
        error = (torch.softmax(rows @ weights + bias, 1) - target) * worth[:, None]
        weights.grad, bias.grad = across @ error + penalty * weights, error.sum(0)
        optimizer.step()
    return weights.numpy(), bias.numpy()


def further() -> list[Labelled]:
    """More openings than the complaints' own files hold."""
    return [Labelled(text, name) for name, text in further_openings()]


def write(out: Path = FILE, seed: int = 0) -> dict[str, float]:
    """Train on everything and store; the shares that are right of the openings nobody trained on (`score`)."""
    arrays = train(list(texts(bundled(), further(), seed)))
    np.savez_compressed(out, **arrays)
    return score(Recogniser(arrays), [(o.say, name) for name, each in examination().complaints.items() for o in each])


def cross_validate(folds: int = 4, seed: int = 0) -> dict[str, float]:
    """The same shares of openings that each fold's training left out; what settings may be chosen by."""
    every = [*further(), *(Labelled(o.say, name) for name, e in bundled().complaints.items() for o in e.open)]
    random.Random(seed).shuffle(every)
    held = every[::folds]
    left = {row.text for row in held}
    complaints = {
        name: entry.model_copy(update={"open": tuple(o for o in entry.open if o.say not in left) or entry.open[:1]})
        for name, entry in bundled().complaints.items()
    }
    rest = bundled().model_copy(update={"complaints": complaints})
    rows = list(texts(rest, [row for row in further() if row.text not in left], seed))
    return score(Recogniser(train(rows)), [(row.text, row.complaint) for row in held])


def score(found: Recogniser, cases: Sequence[tuple[str, str]]) -> dict[str, float]:
    logs = found([text for text, _ in cases])
    right = np.array([found.place[name] for _, name in cases])
    best = np.argsort(-logs, axis=1)[:, :3]
    sure = np.exp(logs.max(axis=1)) >= 0.5
    return {
        "first": float((best[:, 0] == right).mean()), "of three": float((best == right[:, None]).any(1).mean()),
        "sure": float(sure.mean()), "right if sure": float((best[sure, 0] == right[sure]).mean()), "of": len(cases),
    }  # fmt: skip

"""Train the recogniser of complaints (`consult/recognise.py`): two multinomial logistic regressions, over sentence vectors and n-grams.

It learns from the knowledge base's openings, questions and answers, from `data/openings.jsonl` (more openings, told by
nobody who knew this code), and from composed first messages, which bring typos, other people and the traditional
script. Nothing of `data/examination.yaml` and of `data/openings_held_back.jsonl` is seen.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bianque.consult import encoder
from bianque.consult.recognise import FILE, GENERIC, NONE, Recogniser, character_grams
from bianque.data.compose import Composer
from bianque.data.further import asides, further_openings
from bianque.data.knowledge import FOLDER, Knowledge, bundled, examination

HELD_BACK = FOLDER / "openings_held_back.jsonl"  # by other writers, six of each complaint and family
COMPOSED = 6_000  # first messages
DILUTED, BESIDE = 16_000, (1, 1, 2, 3, 4)  # openings told with asides; how many of these
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
    for name, entry in (knowledge.complaints | knowledge.families).items():
        yield from (Labelled(text, name) for text in (entry.name, *(opening.say for opening in entry.open)))
        for slot in entry.slots:
            yield from (Labelled(ask, name, QUESTION) for ask in slot.ask)
            yield from (Labelled(say, name, ANSWER) for value in slot.values.values() for say in value.says)
        yield from (Labelled(ask, name, FOLLOW) for follow in entry.follow for ask in follow.ask)
    r, common = random.Random(seed), knowledge.common
    nothing = [text for one in common.situations if "first" in one.when for text in one.patient]
    for text in (*nothing, *common.thanks, *common.want, *common.unsure, *common.none, *common.what):
        yield Labelled(text, NONE, OTHER)
    yield from diluted(knowledge, further, r)
    composer = Composer(knowledge)
    for number in range(COMPOSED):
        turns = composer(random.Random(f"recognise/{seed}/{number}")).turns
        about = next((turn.entry.id for turn in turns if turn.entry is not None), None)
        first = next(turn.text for turn in turns if turn.role == "patient")
        if about not in (None, GENERIC):  # a rarer complaint is one of a family, or of none
            yield Labelled(first, about, FIRST)


def diluted(knowledge: Knowledge, further: Sequence[Labelled], r: random.Random) -> Iterator[Labelled]:
    """Openings between clauses that are no part of a complaint (who it is, since when, fears), and those clauses alone."""
    beside = asides()
    entries = knowledge.complaints | knowledge.families
    own = [Labelled(o.say, name) for name, entry in entries.items() for o in entry.open]
    every = [*further, *own]
    for row in r.sample(every, min(DILUTED, len(every))):
        parts = [row.text.rstrip("。，")]
        for aside in r.sample(beside, r.choice(BESIDE)):
            parts.insert(0 if r.random() < 0.6 else len(parts), aside)
        yield Labelled("，".join(parts), row.complaint, FIRST)
    for aside in beside:
        yield Labelled(aside, NONE, OTHER)
        yield Labelled("，".join(r.sample(beside, r.choice((2, 3)))), NONE, OTHER)


@dataclass(frozen=True, slots=True)
class GrammedTexts:
    """Sentence vectors [N, 512] and n-grams [N, V], which weigh by `idf` [V]; `back` is `across` transposed."""

    grams: list[str]
    idf: Any
    vectors: torch.Tensor
    across: torch.Tensor
    back: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[str], rarest: int = RAREST) -> GrammedTexts:
        every = [set(character_grams(text)) for text in texts]
        seen = Counter(gram for each in every for gram in each)
        grams = sorted(gram for gram, count in seen.items() if count >= rarest)
        place = {gram: i for i, gram in enumerate(grams)}
        idf = np.log(len(texts) / np.array([seen[gram] for gram in grams], np.float32)).astype(np.float32)
        held = [sorted(place[gram] for gram in each if gram in place) for each in every]
        weights = [idf[row] / np.sqrt(idf[row] @ idf[row]) if row else idf[:0] for row in held]
        index = np.stack(
            [np.repeat(np.arange(len(texts)), [len(row) for row in held]), np.concatenate(held).astype(int)]
        )
        values = torch.from_numpy(np.concatenate(weights))
        sparse = torch.sparse_coo_tensor(
            torch.from_numpy(index), values, (len(texts), len(grams)), check_invariants=False
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR")  # "in beta state"; products are all that is used
            across, back = sparse.coalesce().to_sparse_csr(), sparse.t().coalesce().to_sparse_csr()
        return cls(grams, idf, torch.from_numpy(encoder.encode(list(texts))), across, back)


def train(rows: Sequence[Labelled]) -> dict[str, Any]:
    """The arrays of a `Recogniser`; the same rows give the same ones."""
    names = sorted({row.complaint for row in rows})
    texts = GrammedTexts.of([row.text for row in rows])
    place = {name: i for i, name in enumerate(names)}
    answers = torch.tensor([place[row.complaint] for row in rows])
    worth = torch.tensor([row.weight for row in rows])[:, None]
    target = torch.nn.functional.one_hot(answers, len(names)).float()
    softmax = partial(torch.softmax, dim=1)
    over_vectors, bias = fit(texts.vectors, texts.vectors.T, target, worth / worth.sum(), 0.3, 1e-5, EPOCHS, softmax)
    over_grams, more = fit(texts.across, texts.back, target, worth / worth.sum(), 0.5, 1e-6, EPOCHS, softmax)
    over_grams, bias = GRAMS * over_grams, bias + GRAMS * more - frequency(rows, names)
    step = np.abs(over_grams).max(axis=0) / 127
    return {
        "names": np.array(names), "grams": np.array(texts.grams), "idf": texts.idf.astype(np.float16), "step": step,
        "dense": over_vectors.astype(np.float16), "sparse": np.round(over_grams / step).astype(np.int8), "bias": bias,
    }  # fmt: skip


def frequency(rows: Sequence[Labelled], names: Sequence[str]) -> Any:
    """How much more than the middle one each complaint occurs, as a logarithm, [K]: it says who wrote, not who falls ill.

    Taken off the scores, this leaves the classifier that errs least over complaints of equal shares (logit adjustment,
    Menon et al. 2021). What is rare or no complaint at all keeps its share.
    """
    count = Counter(row.complaint for row in rows)
    middle = float(np.median(list(count.values())))
    return np.array([0.0 if name in (GENERIC, NONE) else np.log(count[name] / middle) for name in names], np.float32)


def fit(
    rows: torch.Tensor, across: torch.Tensor, target: torch.Tensor, worth: torch.Tensor, rate: float, penalty: float,
    epochs: int, likely: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[Any, Any]:  # fmt: skip
    """Weights and biases of a logistic regression: Adam over the whole set with a falling rate and an L2 penalty.

    `across` is `rows` transposed; `likely` makes scores probabilities; `worth` is [N, 1] or [N, K].
    """
    weights, bias = torch.zeros(rows.shape[1], target.shape[1]), torch.zeros(target.shape[1])
    optimizer = torch.optim.Adam([weights, bias], lr=rate, betas=(0.9, 0.99))
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = rate * (1 - epoch / epochs)
        error = (likely(rows @ weights + bias) - target) * worth
        weights.grad, bias.grad = across @ error + penalty * weights, error.sum(0)
        optimizer.step()
    return weights.numpy(), bias.numpy()


def further() -> list[Labelled]:
    """More openings than the complaints' own files hold."""
    return [Labelled(row.say, row.complaint) for row in further_openings()]


def write(out: Path = FILE, seed: int = 0) -> dict[str, float]:
    """Train on everything and store; the shares that are right of the openings nobody trained on (`score`)."""
    arrays = train(list(texts(bundled(), further(), seed)))
    np.savez_compressed(out, **arrays)
    kept = examination()
    held = {
        kind: [(o.say, name) for name, openings in by.items() for o in openings]
        for kind, by in (("usual", kept.usual), ("unusual", kept.unusual), ("long", kept.long))
    }
    held["strangers'"] = [(row.say, row.complaint) for row in further_openings(HELD_BACK)]
    return {
        f"{kind}: {name}": share
        for kind, cases in held.items()
        for name, share in score(Recogniser(arrays), cases).items()
    }


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

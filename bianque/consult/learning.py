"""Training of the heads of `understanding` from labelled sentences: kernel ridge regression, in numpy alone.

With the encoder's radial kernel R and the n-grams' products N of all n sentences it solves
[(common + own · same phase) (R + share · N) + ridge / weight] α = one-hot labels − prior.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bianque.consult import features, understanding
from bianque.consult.encoder import encode
from bianque.consult.understanding import FOLDER, PHASES, Known
from bianque.consult.varied import varied
from bianque.data import knowledge
from bianque.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

STEPS = 400  # of conjugate gradients at most; about a hundred are taken
FREQUENT = 400
"""An n-gram of more sentences than this is multiplied with the others as a dense column, a rarer one by its own list."""
_CHAT = ("greeting", "online", "identity", "abilities", "photo", "price", "off_topic", "rude", "privacy", "saved")
MISSPELT = 0.4
"""Weight of a misspelt copy of a sentence of triage; see `validation` for what it is worth."""
THRESHOLDS = {"likely": 0.15, "sure": 0.35, "piece": 0.45}
"""`piece`: how much surer than the whole a piece must be.

`likely` by reading the notices of 3,393 patients' turns from the training part of published dialogues (`understand
--rate`): the lowest at which about three of four are right. A softer line costs little, a danger that is missed much.
"""


@dataclass(frozen=True)
class LabelledSentence:
    text: str
    label: str
    kind: str = ""
    phase: int = 0
    opening: str | None = None
    doctor: str | None = None
    weight: float = 1.0
    group: str = ""
    """What a cross-validation keeps together: a writer, or an opening."""


@dataclass(frozen=True)
class HeadPlan:
    labels: tuple[str, ...]
    gamma: float = 2.0
    share: float = 2.0
    ridge: float = 0.3
    common: float = 1.0
    own: float = 0.0
    even: float = 1.0
    """How far the classes are weighed alike: 1 wholly, 0 as they are."""


HARMLESS = 0.45  # of the harmless sentences that have a misspelt copy: the file stays below nine megabytes
LIGHTEST = 0.17  # share of the rows, by weight, that may be left out: for the same reason
TRIAGE = HeadPlan(("none", "emergency", "crisis"))
INTENT = HeadPlan(
    ("answer", "advice", "question", "opening", "follow", "new", "stop", "chat"),
    gamma=1.0,
    common=0.5,
    own=1.0,
    even=0.5,
)


@dataclass(frozen=True)
class Rows:
    """Examples as numbers: vectors [n, 512], and of each its buckets and their weights; rarity [buckets]."""

    examples: Sequence[LabelledSentence]
    plan: HeadPlan
    vectors: Floats
    places: list[NDArray[np.int64]]
    values: list[Floats]
    rarity: Floats


def rows(examples: Sequence[LabelledSentence], plan: HeadPlan) -> Rows:
    import numpy as np

    texts = [features.clean(example.text) for example in examples]
    counted = [_words(text, example, plan) for text, example in zip(texts, examples, strict=True)]
    seen = np.zeros(features.BUCKETS, np.float32)
    for words in counted:
        seen[list({features.bucket(word) for word in words})] += 1
    rarity = np.where(seen > 1, np.log((1 + len(texts)) / (1 + seen)) + 1, 0).astype(np.float16).astype(np.float32)
    pairs = [features.hashed(words, rarity) for words in counted]
    places = [place[value > 0] for place, value in pairs]
    values = [value[value > 0].astype(np.float32) for _, value in pairs]
    return Rows(examples, plan, encode(texts), places, values, rarity)


def _words(text: str, example: LabelledSentence, plan: HeadPlan) -> Counter[str]:
    if plan.own:
        return understanding.intent_words(text, example.opening, example.doctor)
    return features.grams(features.folded(text))


def kernel(given: Rows) -> Floats:
    """[n, n]: how alike any two examples are."""
    import numpy as np

    n, plan = len(given.examples), given.plan
    found = plan.share * _products(given)
    found += np.exp(-plan.gamma * np.maximum(0, 2 - 2 * given.vectors @ given.vectors.T))
    phase = np.array([example.phase for example in given.examples])
    found *= plan.common + plan.own * (phase[:, None] == phase)
    assert found.shape == (n, n)
    return found


def _products(given: Rows) -> Floats:
    """[n, n]: the n-grams of any two examples, multiplied."""
    import numpy as np

    n = len(given.examples)
    who = np.repeat(np.arange(n), [len(places) for places in given.places])
    what, much = np.concatenate(given.places), np.concatenate(given.values)
    order = np.argsort(what, kind="stable")
    who, what, much = who[order], what[order], much[order]
    starts = np.flatnonzero(np.r_[True, what[1:] != what[:-1]])
    found = np.zeros((n, n), np.float32)
    dense: list[Floats] = []
    for start, end in zip(starts, np.r_[starts[1:], len(what)], strict=True):
        at, value = who[start:end], much[start:end]
        if end - start > FREQUENT:
            dense.append(np.bincount(at, value, n).astype(np.float32))
        else:
            found[at[:, None], at] += value[:, None] * value
    if dense:
        columns = np.stack(dense, axis=1)
        found += columns @ columns.T
    return found


def targets(given: Rows) -> tuple[Floats, Floats, Floats]:
    """One-hot labels less the prior [n, labels], the prior [labels], the weight of each example [n]."""
    import numpy as np

    labels = given.plan.labels
    place = np.array([labels.index(example.label) for example in given.examples])
    share = np.bincount(place, minlength=len(labels)) / len(place)
    weight = (1 / np.maximum(share * len(labels), 1e-6))[place] ** given.plan.even
    weight *= np.array([example.weight for example in given.examples])
    prior = np.full(len(labels), 1 / len(labels), np.float32)
    return np.eye(len(labels), dtype=np.float32)[place] - prior, prior, weight.astype(np.float32)


def solve(alike: Floats, wanted: Floats, weight: Floats, ridge: float) -> Floats:
    """α [n, labels] with (alike + ridge / weight) α = wanted, by conjugate gradients: a tenth of what elimination costs."""
    import numpy as np

    extra = (ridge / weight)[:, None]
    scale = 1 / (alike.diagonal()[:, None] + extra)
    alpha = np.zeros_like(wanted)
    left = wanted.copy()
    toward = scale * left
    step = (left * toward).sum(axis=0)
    enough = 1e-10 * step
    for _ in range(STEPS):
        if (step <= enough).all():
            break
        along = alike @ toward + extra * toward
        rate = step / np.maximum((toward * along).sum(axis=0), 1e-30)
        alpha += rate * toward
        left -= rate * along
        better = scale * left
        before, step = step, (left * better).sum(axis=0)
        toward = better + step / np.maximum(before, 1e-30) * toward
    return alpha.astype(np.float32)


def head(given: Rows, known: int) -> dict[str, Any]:
    """The arrays of `understanding.Head`. Of the rows beyond the `known` sentences those of least weight are left out."""
    import numpy as np

    wanted, prior, weight = targets(given)
    alpha = solve(kernel(given), wanted, weight, given.plan.ridge)
    words = np.zeros((features.BUCKETS, alpha.shape[1]), np.float32)
    for example, places, values, row in zip(given.examples, given.places, given.values, alpha, strict=True):
        np.add.at(words, places, values[:, None] * row)
        if given.plan.own:
            np.add.at(words, features.of_phase(places, example.phase), values[:, None] * row)
    heavy = np.abs(alpha).max(axis=1)
    kept = (np.arange(len(alpha)) < known) | (heavy > np.quantile(heavy, LIGHTEST))
    scale = np.abs(given.vectors).max(axis=1) / 127
    return {
        "vectors": np.rint(given.vectors / np.maximum(scale, 1e-9)[:, None]).astype(np.int8)[kept],
        "scale": scale.astype(np.float32)[kept],
        "phase": np.array([example.phase for example in given.examples], np.int8)[kept],
        "alpha": alpha.astype(np.float16)[kept],
        "words": words.astype(np.float16),
        "rarity": given.rarity.astype(np.float16),
        "prior": prior,
    }


def train(folder: Path = FOLDER, out: Path | None = None) -> Path:
    """Train every head from the sentences of a folder; the file that was written. BadInput names a bad line."""
    import numpy as np

    danger, wants = triage_examples(folder), intent_examples(folder)
    arrays: dict[str, Any] = {}
    for name, given, own in (
        ("triage", rows(with_misspelt(danger), TRIAGE), len(danger)), ("intent", rows(wants, INTENT), len(wants)),
    ):  # fmt: skip
        arrays |= {f"{name}.{key}": array for key, array in head(given, own).items()}
    settings = {
        "triage": asdict(TRIAGE),
        "intent": asdict(INTENT),
        "thresholds": THRESHOLDS,
        "sentences": digest(folder),
    }
    known = [Known(example.text, example.label, example.kind) for example in danger]
    pack = lambda value: np.frombuffer(json.dumps(value, ensure_ascii=False).encode("utf-8"), np.uint8)
    out = out or folder / "heads.npz"
    words = {name: arrays.pop(name) for name in [*arrays] if name.endswith((".words", ".rarity"))}
    of = lambda head: {name: array for name, array in arrays.items() if name.startswith(f"{head}.")}
    np.savez_compressed(out, settings=pack(settings), **of("triage"))
    np.savez_compressed(understanding.beside(out, "intent"), **of("intent"))
    np.savez_compressed(understanding.beside(out, "word"), known=pack(known), **words)
    return out


def digest(folder: Path = FOLDER) -> str:
    """Of all sentences of a folder: says whether the heads were trained from these."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*/*.jsonl")):
        if path.parent.name != "held_back":
            found.update(path.read_bytes())
    return found.hexdigest()


def json_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, also as .gz, with or without a mark; not those of `splitlines`, which also ends at U+2028."""
    try:
        packed = path.read_bytes()
        plain = gzip.decompress(packed) if path.suffix == ".gz" else packed
        return plain.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path}: {getattr(error, 'strerror', None) or error}; give a UTF-8 file of JSON lines"
        ) from None


def lines(path: Path, labels: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The sentences of a JSONL file. BadInput names file, line, value and remedy."""
    for number, line in enumerate(json_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}:{number}: not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
            raise BadInput(
                f"{path}:{number}: text={row.get('text') if isinstance(row, dict) else row!r}: write a sentence"
            )
        if row.get("label") not in labels:
            raise BadInput(f"{path}:{number}: label={row.get('label')!r}: choose one of {', '.join(labels)}")
        yield row


def triage_examples(folder: Path = FOLDER) -> list[LabelledSentence]:
    """The labelled sentences, then ordinary ones of the knowledge base."""
    found = [
        LabelledSentence(row["text"], row["label"], row.get("kind") or "", group=path.stem)
        for path in sorted((folder / "triage").glob("*.jsonl"))
        for row in lines(path, TRIAGE.labels)
    ]
    ordinary = [said for opening, said in _patients() if _drawn(said, 3 / 8 if opening else 1 / 32)]
    return found + [
        LabelledSentence(said, "none", "ordinary", weight=0.5, group="knowledge") for said in dict.fromkeys(ordinary)
    ]


def with_misspelt(
    examples: Sequence[LabelledSentence], weight: float = MISSPELT, harmless: float = HARMLESS
) -> list[LabelledSentence]:
    """The examples, then copies as somebody else would type them, of that share of the harmless ones; none of the
    knowledge base's, and none at all if the weight is 0."""
    written = (
        one for one in examples if one.group != "knowledge" and (one.label != "none" or _drawn(one.text, harmless))
    )
    copies = (replace(one, text=varied(one.text), weight=one.weight * weight) for one in written)
    return [*examples, *(copies if weight else ())]


def _drawn(text: str, share: float) -> bool:
    """Whether a text is among those of a share, the same ones each time."""
    return hashlib.md5(text.encode()).digest()[0] < 256 * share


def _patients() -> Iterator[tuple[bool, str]]:
    """What patients say in the knowledge base where no danger is, and whether they begin with it."""
    for entry in knowledge.bundled().complaints.values():
        risky = {(key, one) for rule in entry.urgent for key, value in rule.when.items() for one in _several(value)}
        for opening in entry.open:
            if risky.isdisjoint((key, one) for key, value in opening.has.items() for one in _several(value)):
                yield True, opening.say
        for slot in entry.slots:
            for key, value in slot.values.items():
                if (slot.key, key) not in risky:
                    yield from ((False, said) for said in value.says)


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,)


def intent_examples(folder: Path = FOLDER) -> list[LabelledSentence]:
    """The labelled messages, then some of the knowledge base."""
    found = []
    for path in sorted((folder / "intents").glob("*.jsonl")):
        for row in lines(path, INTENT.labels):
            opening, doctor, phase = row.get("opening"), row.get("doctor"), row.get("phase")
            if phase not in PHASES:
                raise BadInput(f"{path}: {row['text']}: phase={phase!r}: write asking, advising or null")
            first = None if opening == row["text"] and not doctor else opening
            place = PHASES.index(phase)
            found.append(
                LabelledSentence(row["text"], row["label"], "", place, first, doctor, group=opening or row["text"])
            )
    return found + list(_consultations())


def _consultations() -> Iterator[LabelledSentence]:
    """Wishes for advice and small talk. Its openings, answers and follow-ups blur the borders and are left out (measured)."""
    asking, nowhere = PHASES.index("asking"), PHASES.index(None)
    known = knowledge.bundled()
    entries = list(known.complaints.values())
    for number, said in enumerate(known.common.want):
        entry = entries[number % len(entries)]
        yield LabelledSentence(said, "advice", "", asking, entry.open[0].say, entry.slots[0].ask[0], 0.5, entry.id)
    for situation in known.common.situations:
        if situation.id in _CHAT:
            for number, said in enumerate(situation.patient):
                entry = entries[number]
                first = number % 2 or "during" not in situation.when
                opening, doctor = (None, None) if first else (entry.open[0].say, entry.slots[0].ask[0])
                yield LabelledSentence(said, "chat", "", nowhere if first else asking, opening, doctor, 0.5, entry.id)

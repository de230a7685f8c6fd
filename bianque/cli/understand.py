"""`python -m bianque understand | train-understanding`: what messages say, and learning it from labelled sentences."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bianque.errors import BadInput

_ROLES = {"patient": "user", "user": "user", "doctor": "assistant", "assistant": "assistant"}


def understand(
    file: Annotated[
        Path, typer.Argument(help="JSON lines: text, or say (messages of one visitor), or turns and candidate; .gz too")
    ],
    out: Annotated[Path | None, typer.Option(help="a .jsonl file; standard output if left out")] = None,
    score: Annotated[bool, typer.Option("--score", help="only how often it agrees with the lines' own labels")] = False,
    rate: Annotated[
        bool,
        typer.Option(
            "--rate",
            help="only how often a patient's turn of dialogues gets a notice, read with those before it; --out keeps those",
        ),
    ] = False,
) -> int:
    """Say of each message its danger, what the visitor wants, and the known sentences it is most like."""
    from bianque.consult.learning import json_lines
    from bianque.data.writers import finished

    numbered = [(number, line) for number, line in enumerate(json_lines(file), 1) if line.strip()]
    if score:
        scored(file, numbered)
        return 0
    found = noticed(file, numbered) if rate else (_read(file, number, line) for number, line in numbered)
    lines = (json.dumps(row, ensure_ascii=False) for row in found)
    if out is not None:
        with finished(out) as written:
            written.writelines(f"{line}\n" for line in lines)
        return 0
    for line in lines:
        if not rate:
            print(line)
    return 0


def scored(file: Path, numbered: Sequence[tuple[int, str]]) -> None:
    """Print the agreement as JSON, with the time of a message and the memory; the confusions as a table beside it."""
    from bianque.nn.cpu import resident_memory

    before = resident_memory() or 0
    found, times = [], []
    for number, line in numbered:
        begun = time.perf_counter()
        found.append(_read(file, number, line))
        times.append((time.perf_counter() - begun) * 1000)
    told = agreement([json.loads(line) for _, line in numbered], found)
    quantiles = sorted(times[1:]) or times  # the first one reads the heads
    cost = {
        "ms_median": round(quantiles[len(quantiles) // 2], 1),
        "ms_95": round(quantiles[len(quantiles) * 95 // 100], 1),
        "memory_mb": round(((resident_memory() or 0) - before) / 1e6),
    }
    print(json.dumps({**told, **cost}, ensure_ascii=False))
    names = list(dict.fromkeys([*told["confusion"], *(name for row in told["confusion"].values() for name in row)]))
    print("".join(f"{name:>11}" for name in ("label ↓ told →", *names)), file=sys.stderr)
    for true, row in told["confusion"].items():
        print(f"{true:>14}" + "".join(f"{row.get(name, 0):>11}" for name in names), file=sys.stderr)


def noticed(file: Path, numbered: Sequence[tuple[int, str]]) -> Iterator[Mapping[str, Any]]:
    """The patients' turns of dialogues that get a notice, and at the end how many do, printed as JSON."""
    from bianque.consult import alarms

    turns, counts = 0, Counter[str]()
    for number, line in numbered:
        row = _parsed(file, number, line)
        said = [turn["text"] for turn in row.get("turns") or () if _ROLES.get(turn["role"]) == "user"]
        turns += len(said)
        for text, found in zip(said, alarms.judged(said), strict=True):
            if found.level and found.certainty:
                counts.update((found.level, found.certainty))
                near = found.nearest[0].text if found.nearest else ""
                yield {"text": text, "triage": found.level, "kind": found.kind, "certainty": found.certainty,
                       "score": round(found.score, 3), "piece": found.piece, "nearest": near}  # fmt: skip
    notices = counts["sure"] + counts["likely"]
    print(json.dumps({"turns": turns, "notices": notices, "rate": round(notices / max(turns, 1), 4), **counts}))


def agreement(given: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of labelled lines: danger's recall, specificity and confusions; macro F1 of intents; right decisions of dialogues."""
    pairs: Counter[tuple[str, str]] = Counter()
    levels = {"emergency", "crisis", "none"}
    for row, said in zip(given, found, strict=True):
        if "turns" in row:
            pairs[row.get("decision") or row["expect"], said["decision"]] += 1
        elif (label := row.get("label") or row.get("expect")) in levels:
            pairs[label, said["triage"] or "none"] += 1
        elif label:
            pairs[label, said["intent"]] += 1
    labels = sorted({true for true, _ in pairs})
    table = {one: {told: count for (true, told), count in sorted(pairs.items()) if true == one} for one in labels}
    right = sum(count for (true, told), count in pairs.items() if true == told)
    whole = {"lines": pairs.total(), "right": right, "confusion": table}
    share = lambda hits, of: round(hits / of, 3) if of else None
    if levels.issuperset(labels):
        danger = sum(count for (true, _), count in pairs.items() if true != "none")
        heard = sum(count for (true, told), count in pairs.items() if "none" not in (true, told))
        quiet, crisis = sum(pairs["none", told] for told in levels), sum(pairs["crisis", told] for told in levels)
        rates = {"recall": share(heard, danger), "specificity": share(pairs["none", "none"], quiet)}
        return {**rates, "crisis_named": share(pairs["crisis", "crisis"], crisis), **first_aid(given, found), **whole}
    f1 = [
        2 * pairs[one, one] / sum(n for (true, told), n in pairs.items() for name in (true, told) if name == one)
        for one in labels
    ]
    return {"macro_f1": round(sum(f1) / len(f1), 3), **whole}


def first_aid(given: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the dangers with a known kind that were heard: the share told what to do about it, of those the share told right."""
    from bianque.consult.understanding import groups

    known = groups()
    named = [
        (known.get(said["kind"] or ""), known[row["kind"]])
        for row, said in zip(given, found, strict=True)
        if row.get("kind") in known and said["triage"]
    ]
    told = [(one, right) for one, right in named if one]
    if not told:
        return {}
    right = sum(one == group for one, group in told)
    return {"first_aid": round(len(told) / len(named), 3), "first_aid_right": round(right / len(told), 3)}


def _parsed(file: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}:{number}: not JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise BadInput(f"{file}:{number}: {line[:60]}: needs `text`, `say`, or `turns` with `candidate`")
    return row


def _read(file: Path, number: int, line: str) -> Mapping[str, Any]:
    row = _parsed(file, number, line)
    if isinstance(row.get("turns"), list):
        return _turns(file, number, row)
    if isinstance(said := row.get("say"), list) and said and all(isinstance(text, str) for text in said):
        since = row.get("since", 0)
        if not isinstance(since, int) or not 0 <= since < len(said):
            raise BadInput(
                f"{file}:{number}: since={since!r}: give the place of one of the {len(said)} messages, from 0"
            )
        return {**_identity(row), **_case(said, since)}
    if not isinstance(row.get("text"), str):
        raise BadInput(f"{file}:{number}: {line[:60]}: needs `text`, `say`, or `turns` with `candidate`")
    return {**_identity(row), **_message(row["text"], row.get("opening"), row.get("doctor"), row.get("phase"))}


def _identity(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["id"]} if "id" in row else {}


def _case(said: Sequence[str], since: int = 0) -> dict[str, Any]:
    """The gravest notice that messages of one visitor get, each read together with those before it.

    `since`: only what is sure from that message on counts: the one that says that it is no emergency.
    """
    from bianque.consult import alarms
    from bianque.consult.triage import Danger

    told = [one for one in alarms.judged(said)[since:] if not since or one.certainty == "sure"]
    gravity = lambda one: (one.certainty == "sure", one.certainty == "likely", one.score)
    found = max(told, key=gravity, default=Danger())
    return {"say": said, "triage": found.level, "kind": found.kind or None, "certainty": found.certainty}


def _message(text: str, opening: str | None, doctor: str | None, phase: str | None) -> dict[str, Any]:
    from bianque.consult import triage
    from bianque.consult.understanding import intent, nearest

    found = triage.judge(text)
    return {
        "text": text,
        "triage": found.level,
        "kind": found.kind or None,
        "certainty": found.certainty,
        "intent": next(iter(intent(text, None if opening == text else opening, doctor, phase))),
        "nearest": [
            {"text": near.text, "label": near.label, "kind": near.kind, "likeness": near.likeness}
            for near in found.nearest or nearest(text)
        ],
    }


def _turns(file: Path, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    from bianque.consult import handoff
    from bianque.types import Message

    dialogue = []
    for turn in row["turns"]:
        role = _ROLES.get(str(turn.get("role"))) if isinstance(turn, dict) else None
        if role is None or not isinstance(turn.get("text"), str):
            raise BadInput(f"{file}:{number}: turn {turn!r}: needs role (patient or doctor) and text")
        dialogue.append(Message(role, turn["text"], turn.get("phase")))  # type: ignore[arg-type]
    now = handoff.read_round(dialogue)
    decision = handoff.judge(now, row.get("candidate"))
    last = next((turn for turn in reversed(dialogue) if turn.role == "assistant"), None)
    opening = dialogue[now.start].content if dialogue else None
    doctor, phase = (last.content, last.phase) if last else (None, None)
    said = _message(now.newest, opening, doctor, phase)
    return {
        **_identity(row),
        "decision": "ask" if decision.phase == "asking" else "advise",
        "reason": decision.reason,
        **said,
    }


def train_understanding(
    data: Annotated[
        Path | None, typer.Option(help="folder with triage/ and intents/; the bundled one if left out")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file of the heads; heads.npz in that folder if left out")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="train nothing: judge each writer by the others; minutes")
    ] = False,
) -> int:
    """Train the heads of triage and handover from the labelled sentences, in seconds."""
    from bianque.consult import learning, validation

    if measure:
        for misspelt in (0.0, learning.MISSPELT):
            found = validation.measure(data or learning.FOLDER, misspelt)
            print(json.dumps({"weight of misspelt copies": misspelt, **found}))
        return 0
    from bianque.train import kinds

    path = learning.train(data or learning.FOLDER, out)
    for file in (path, kinds.write(data or learning.FOLDER, path)):
        print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)")
    return 0

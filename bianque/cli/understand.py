"""`python -m bianque understand | train-understanding`: what messages say, and learning it from labelled sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bianque.errors import BadInput

_ROLES = {"patient": "user", "user": "user", "doctor": "assistant", "assistant": "assistant"}


def understand(
    file: Annotated[Path, typer.Argument(help="JSON lines: text, or turns and candidate")],
    out: Annotated[Path | None, typer.Option(help="a .jsonl file; standard output if left out")] = None,
    score: Annotated[bool, typer.Option("--score", help="only how often it agrees with the lines' own labels")] = False,
) -> int:
    """Say of each message its danger, what the visitor wants, and the known sentences it is most like."""
    from bianque.consult.learning import json_lines

    given = json_lines(file)
    if score:
        read = [_read(file, n, line) for n, line in enumerate(given, 1) if line.strip()]  # which names what is no JSON
        print(json.dumps(agreement([json.loads(line) for line in given if line.strip()], read)))
        return 0
    found = (json.dumps(_read(file, n, line), ensure_ascii=False) for n, line in enumerate(given, 1) if line.strip())
    if out is None:
        for line in found:
            print(line)
    else:
        from bianque.data.writers import finished

        with finished(out) as written:
            written.writelines(f"{line}\n" for line in found)
    return 0


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
    table = {f"{true} -> {told}": count for (true, told), count in sorted(pairs.items())}
    right = sum(count for (true, told), count in pairs.items() if true == told)
    whole = {"lines": pairs.total(), "right": right, "confusion": table}
    share = lambda hits, of: round(hits / of, 3) if of else None
    labels = {true for true, _ in pairs}
    if labels <= levels:
        danger = sum(count for (true, _), count in pairs.items() if true != "none")
        heard = sum(count for (true, told), count in pairs.items() if "none" not in (true, told))
        quiet, crisis = sum(pairs["none", told] for told in levels), sum(pairs["crisis", told] for told in levels)
        rates = {"recall": share(heard, danger), "specificity": share(pairs["none", "none"], quiet)}
        return {**rates, "crisis_named": share(pairs["crisis", "crisis"], crisis), **whole}
    f1 = [
        2 * pairs[one, one] / sum(n for (true, told), n in pairs.items() for name in (true, told) if name == one)
        for one in labels
    ]
    return {"macro_f1": round(sum(f1) / len(f1), 3), **whole}


def _read(file: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}:{number}: not JSON ({error}); write one object a line") from None
    if isinstance(row, dict) and isinstance(row.get("turns"), list):
        return _turns(file, number, row)
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise BadInput(f"{file}:{number}: {line[:60]}: needs `text`, or `turns` with `candidate`")
    return {**_identity(row), **_message(row["text"], row.get("opening"), row.get("doctor"), row.get("phase"))}


def _identity(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["id"]} if "id" in row else {}


def _message(text: str, opening: str | None, doctor: str | None, phase: str | None) -> dict[str, Any]:
    from bianque.consult import triage
    from bianque.consult.understanding import intent

    found = triage.judge(text)
    return {
        "text": text,
        "triage": found.level,
        "kind": found.kind or None,
        "certainty": found.certainty,
        "intent": next(iter(intent(text, None if opening == text else opening, doctor, phase))),
        "nearest": [
            {"text": near.text, "label": near.label, "kind": near.kind, "likeness": near.likeness}
            for near in found.nearest
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
) -> int:
    """Train the heads of triage and handover from the labelled sentences, in seconds."""
    from bianque.consult import learning

    path = learning.train(data or learning.FOLDER, out)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0

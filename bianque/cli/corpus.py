"""`python -m bianque corpus`: published sets of dialogues as one corpus, cleaned, with a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from bianque.data.corpus import Report

REASONS = {  # why a dialogue is left out
    "unreadable": "读不懂",
    "rounds": "医生的话太少",
    "personal": "有个人信息",
    "short": "开场太短",
    "long": "有一轮太长",
    "asking": "提问太少",
    "duplicate": "重复",
}


def corpus(
    files: Annotated[
        list[Path], typer.Argument(help="files or folders of the sets, in any of their formats, also .gz")
    ],
    out: Annotated[
        Path | None, typer.Option(help="a .jsonl or BianQueCorpus .csv file, also .gz; without it only the report")
    ] = None,
    personal: Annotated[
        Literal["mask", "drop", "keep"], typer.Option(help="telephone numbers, names, addresses…: mask them, …")
    ] = "mask",
    similar: Annotated[
        float | None, typer.Option(metavar="0.3–1", help="also drop what is so similar to an earlier one, e.g. 0.9")
    ] = None,
    compare: Annotated[Literal["dialogue", "opening"], typer.Option(help="what is compared")] = "dialogue",
    least_asking: Annotated[
        float, typer.Option(help="the share of a dialogue's doctor's turns that have to ask")
    ] = 0.0,
    shortest: Annotated[int, typer.Option(help="characters of the opening, at least")] = 2,
    longest: Annotated[int, typer.Option(help="characters of a turn, at most")] = 4000,
    rounds: Annotated[int, typer.Option(help="the doctor's turns, at least")] = 1,
    limit: Annotated[int | None, typer.Option(metavar="N", help="so many dialogues")] = None,
) -> int:
    """Published sets of dialogues as one corpus: read, mended, cleaned; what was left out and why is in a report."""
    from bianque.consult import questions
    from bianque.data.corpus import Rules, build

    rules = Rules(personal, similar, compare, least_asking, shortest, longest, rounds)
    report = build(files, out, rules, questions.asks, limit, lambda line: print(line, file=sys.stderr, flush=True))
    print("\n".join(told(report)))
    if out is not None:
        from bianque.data.writers import beside

        print(f"\n{out}\n{beside(out, 'report.json')}\n{beside(out, 'dropped.jsonl')}")
    return 1 if report.failed else 0


def told(report: Report) -> list[str]:
    """The report in words."""
    from bianque.data.repair import RULES

    share = lambda found: f"{found['asking'] / found['turns']:.1%}" if found["turns"] else "–"
    lines = [
        f"对话 (dialogues)：读入 {report.read['dialogues']}，留下 {report.kept['dialogues']}；"
        f"医生轮次 (doctor's turns) {report.kept['turns']}；"
        f"提问 (asking) {share(report.read)} → {share(report.kept)}"
    ]
    lines += [f"  略去 (left out) {REASONS[why]} ({why}): {count}" for why, count in report.dropped.most_common()]
    lines += [f"  修正 (mended) {RULES[rule].zh} ({rule}): {count}" for rule, count in report.repairs.most_common()]
    if report.personal:
        lines.append(f"  个人信息 (personal data): {', '.join(f'{k} {n}' for k, n in report.personal.most_common())}")
    if labelled := report.labels.total():
        agree = f"{report.labels['agree'] / labelled:.1%}"
        lines.append(f"  提问判断与数据集标注一致 (asking, as the set's labels say): {agree} / {labelled}")
    return lines

"""`python -m bianque evaluate`: models on the dialogues of a file, or recorded outputs: figures and a report."""

from __future__ import annotations

import asyncio
import math
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bianque.errors import BadInput
from bianque.types import OpeningKind

if TYPE_CHECKING:
    from rich.progress import Progress

    from bianque.catalog.card import Model
    from bianque.consult.session import Session
    from bianque.consult.spec import ModelSpec
    from bianque.evaluate.evaluation import Outcome, RunRequest
    from bianque.evaluate.judge import Judge
    from bianque.evaluate.rows import Task
    from bianque.evaluate.run import RunProgress

SHOWN = 2  # dialogues that a preview prints
QUOTED = 60  # characters of a turn in it
APART = 10.0  # seconds between two lines of progress where stderr is a file


Out = Annotated[Path | None, typer.Option(metavar="DIR", help="rows, figures and report; the same command resumes")]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        help="next (the default): the recorded dialogue before each doctor's turn; consultation: its own; patients: scripted ones, no --data"
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[:OPTIONS]", help="auto, ask, advise or a card, as bianque-2:temperature=0,seed=1"),
]
Concurrency = Annotated[int, typer.Option(metavar="N", help="replies at a time; 1 makes runs of 8 bits repeatable")]
JudgeUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="an OpenAI-compatible server that scores dialogues, or a card with a url"),
]
JudgeKey = Annotated[str | None, typer.Option(metavar="VAR", help="the environment variable with the judge's key")]


def evaluate(
    data: Annotated[Path | None, typer.Option(help="JSONL, JSON or CSV of dialogues, also as .gz")] = None,
    out: Out = None,
    task: Tasks = None,
    model: Models = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; a model's own default if left out")] = None,
    top_p: float | None = None,
    max_new_tokens: int | None = None,
    seed: Annotated[int, typer.Option(help="each turn draws with a seed of its own from this one")] = 0,
    limit: Annotated[int | None, typer.Option(metavar="N", help="so many dialogues, chosen by their ids")] = None,
    concurrency: Concurrency = 4,
    recorded: Annotated[bool, typer.Option("--recorded", help="score the outputs in the file; no model runs")] = False,
    references: Annotated[Path | None, typer.Option(metavar="FILE", help="human answers for recorded outputs")] = None,
    openings: Annotated[OpeningKind, typer.Option(help="of the simulated patients")] = "usual",
    judge: JudgeUrl = None,
    judge_model: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    judge_key_env: JudgeKey = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="forget what the folder has")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="show what the file holds and what is wrong in it")
    ] = False,
) -> int:
    """Models on the dialogues of a file, or recorded outputs: a report."""
    from bianque.consult.spec import SamplingOverrides, parse_all
    from bianque.evaluate.evaluation import RECORDED, RunRequest

    contenders = parse_all(model or (), SamplingOverrides(temperature, top_p, max_new_tokens, seed))
    examining = task == ["patients"]
    if data is None and not examining:
        raise BadInput("--data: 需要一个对话文件 (a file of dialogues is needed)")
    if data and preview:
        return show_file(data)
    if out is None:
        raise BadInput("--out: 需要存放结果的文件夹 (a folder for the results is needed)")
    if data is None or examining:
        return examine(contenders, out, limit, seed, openings, concurrency, fresh)
    asked = RunRequest.of(
        data,
        RECORDED if recorded else cast("tuple[Task, ...]", tuple(task or ("next",))),
        references,
        contenders=contenders,
        limit=limit,
        concurrency=concurrency,
        judge=judge_of(judge, judge_model, judge_key_env),
        fresh=fresh,
        command=f"python -m bianque {shlex.join(sys.argv[1:])}",
    )
    session = None if recorded else open_session(asked.contenders)
    return carry_out(session, asked, out)


def judge_of(url: str | None, model: str | None, key_env: str | None) -> Judge | None:
    if not url:
        if model or key_env:
            raise BadInput("--judge: 缺少评审的地址 (the judge's URL is missing)")
        return None
    from bianque.evaluate.judge import Judge

    if "://" not in url and (card := endpoint_card(url)):
        if model or key_env:
            raise BadInput(
                f"--judge {url}: 卡片已写明模型与密钥 (the card names the model and the key: leave them out)"
            )
        return Judge.of_card(card)
    return Judge.of(url, model, key_env)


def endpoint_card(name: str) -> Model | None:
    """The card of this name whose model answers behind a URL."""
    from bianque.catalog import custom
    from bianque.settings import Settings

    known = custom.known(Settings.read())[1]
    return next((card for card in known if card.endpoint and card.name == name), None)


def open_session(contenders: Sequence[ModelSpec]) -> Session:
    """A session over this machine's models, as the page's; the pair shares memory only where it speaks together."""
    from bianque.backends.routed import open_backend
    from bianque.catalog import custom, default
    from bianque.consult.guarded import Guarded
    from bianque.consult.session import Session
    from bianque.consult.spec import MODES
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    # Without a mode nobody asks for the usual pair: to choose it would look at the Hub.
    ask, advise = default.choose(settings, known) if {*MODES} & {c.name for c in contenders} else default.MINI
    together = (ask, advise) if any(contender.name == "auto" for contender in contenders) else ()
    backend = Guarded(open_backend(settings, known, together).backend)
    return Session(backend, ask, advise, settings.question_budget, stops=False)


def carry_out(session: Session | None, asked: RunRequest, out: Path) -> int:
    """Evaluate with progress on stderr and the figures on stdout."""
    from bianque.evaluate import evaluation

    outcome = followed(lambda: evaluation.evaluate(session, asked, out), out, asked.fresh)
    if outcome is None:
        return 130
    tell(outcome, asked.fresh)
    return 1 if outcome.failed else 0


def examine(
    contenders: Sequence[ModelSpec],
    out: Path,
    limit: int | None,
    seed: int,
    kind: OpeningKind,
    at_once: int,
    fresh: bool,
) -> int:
    """Scripted patients before each contender; figures on stdout."""
    from bianque.evaluate import examination

    if not contenders:
        raise BadInput("--model: 至少需要一个模型或模式 (at least one model or mode is needed)")
    session = open_session(contenders)
    begin = lambda: examination.examine(
        session, contenders, out, limit=limit, seed=seed, kind=kind, at_once=at_once, fresh=fresh
    )
    result = followed(begin, out, fresh)
    if result is None:
        return 130
    print(f"{result.markdown()}\n\n{result.report}")
    if stood_in := getattr(session.backend, "counts", None):
        print("; ".join(f"{name}: {count}" for name, count in stood_in.items()))  # of the guards, in this run alone
    if result.failed:
        print(f"{result.failed} 次问诊失败，不计入分数 (failed consultations, which are no scores)", file=sys.stderr)
    return 1 if result.failed else 0


def followed(begin: Callable[[], AsyncGenerator[Any, None]], out: Path, fresh: bool) -> Any:
    """The last of the steps, the others shown as progress; None after Ctrl-C, when the folder can be gone on with."""
    from bianque.cli import terminal
    from bianque.evaluate.run import RunProgress

    line = ProgressLine()

    async def work() -> Any:
        step = None
        async with aclosing(begin()) as steps:
            async for step in steps:
                if isinstance(step, RunProgress):
                    line.show(step)
        return step

    with closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(work())
        try:
            with terminal.interrupting(loop, task.cancel):
                return loop.run_until_complete(task)
        except asyncio.CancelledError:
            line.end()
            again = "去掉 --fresh，用同样的命令继续 (the same command without --fresh goes on)"
            usual = "用同样的命令继续 (the same command goes on)"
            print(f"已停止，完成的都在 (stopped; all that is done is kept) {out}：{again if fresh else usual}",
                  file=sys.stderr)  # fmt: skip
            return None
        finally:
            line.end()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())


def tell(outcome: Outcome, fresh: bool) -> None:
    from bianque.evaluate import summary

    print(summary.markdown(outcome.metrics))
    print(f"\n{outcome.report}")
    if outcome.failed:
        codes = Counter(row.code for row in outcome.rows if row.error is not None)
        named = ", ".join(f"{code} × {count}" for code, count in codes.most_common())
        again = "去掉 --fresh 用同样的命令只重试这些" if fresh else "用同样的命令只重试这些"
        print(
            f"{outcome.failed}/{len(outcome.rows)} 行失败，不计入分数 (failed rows, which are no scores): {named}；"
            f"{again} (the same command{' without --fresh' if fresh else ''} tries only these again)",
            file=sys.stderr,
        )


class ProgressLine:
    """The progress on stderr: a bar in a terminal, now and then a line in a file."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = -math.inf
        self.bar: Progress | None = None

    def show(self, tally: RunProgress) -> None:
        now = time.monotonic()
        if self.live:
            self.draw(tally)
        elif now - self.shown >= APART or tally.done == tally.total:
            print(words(tally), file=sys.stderr, flush=True)
            self.shown = now

    def draw(self, tally: RunProgress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        if self.bar is None:
            text = TextColumn("{task.description}", markup=False)
            self.bar = Progress(BarColumn(20), text, console=Console(stderr=True), auto_refresh=False)
            self.bar.add_task(words(tally), total=tally.total)
            self.bar.start()
        self.bar.update(TaskID(0), completed=tally.done, total=tally.total, description=words(tally), refresh=True)

    def end(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def words(tally: RunProgress) -> str:
    from bianque.evaluate.run import clock

    what = "评审 (dialogues judged)" if tally.judging else "回答 (replies)"
    failed = f" · 失败 (failed) {tally.failed}" if tally.failed else ""
    left = f" · 剩余 (left) {clock(tally.left)}" if tally.left is not None and tally.done < tally.total else ""
    return f"{what} {tally.done}/{tally.total}{failed}{left}"


def show_file(path: Path) -> int:
    """Print what a file holds, its first dialogues and every problem; nothing runs. 1 if there is a problem."""
    from bianque.cli import terminal
    from bianque.data import readers

    found = readers.preview(path)
    due = sum(1 for case in found.dialogues for _ in case.items())
    print(f"{path.name}: {found.kind}，{len(found.dialogues)} 段对话 (dialogues)，{due} 个医生轮次 (doctor's turns)")
    kinds = Counter((case.set, case.recorded) for case in found.dialogues)
    for (name, model), count in kinds.items():
        print(f"  {name}{f' · {model}' if model else ''}: {count}")
    for warning in found.warnings:
        print(f"  ! {warning}")
    for case in found.dialogues[:SHOWN]:
        print(f"\n{case.set}/{case.id}")
        for message in case.messages:
            text = terminal.printable(" ".join(message.content.split()))
            text = text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
            print(f"  {'患者' if message.role == 'user' else '医生'}：{text}")
    if found.problems:
        print(f"\n{len(found.problems)} 处有误，改好之前不能评测 (problems; none of it runs before they are mended):")
        for problem in found.problems:
            print(f"  {problem}")
    return 1 if found.problems else 0

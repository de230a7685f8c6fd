"""`python -m bianque evaluate`: what it reads, the line of progress it shows, and what it leaves behind."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING

from bianque.cli import models, terminal
from bianque.consult.session import Session
from bianque.consult.spec import MODES, RANGES, ModelSpec, SamplingOverrides, parse_all
from bianque.data import readers
from bianque.errors import BadInput
from bianque.evaluate.evaluation import RECORDED, Asked, Outcome, evaluate
from bianque.evaluate.run import Tally, clock

if TYPE_CHECKING:
    from bianque.evaluate.judge import Judge

SHOWN = 2  # dialogues that a preview prints
QUOTED = 60  # characters of a turn in it
APART = 10.0  # seconds between two lines of progress where stderr is a file


def command(options: argparse.Namespace) -> int:
    """Run the evaluation that the options describe; the exit code says whether all rows have an answer."""
    if options.preview:
        return preview(options.data)
    if options.out is None:
        raise BadInput("--out: 需要存放结果的文件夹 (a folder for the results is needed)")
    wishes = SamplingOverrides(**{name: getattr(options, name) for name in RANGES})
    asked = Asked.of(
        options.data,
        RECORDED if options.recorded else tuple(options.task or ("next",)),
        options.references,
        contenders=parse_all(options.model or (), wishes),
        limit=options.limit,
        concurrency=options.concurrency,
        judge=judge(options),
        fresh=options.fresh,
        command=f"python -m bianque {shlex.join(sys.argv[1:])}",
    )
    session = None if options.recorded else opened(asked.contenders)
    return carry_out(session, asked, options.out)


def judge(options: argparse.Namespace) -> Judge | None:
    if not options.judge:
        if options.judge_model or options.judge_key_env:
            raise BadInput("--judge: 缺少评审的地址 (the judge's URL is missing)")
        return None
    from bianque.evaluate.judge import Judge

    return Judge.of(options.judge, options.judge_model, options.judge_key_env)


def opened(contenders: Sequence[ModelSpec]) -> Session:
    """A session over this machine's models, as the page's; the pair shares memory only where it speaks together."""
    from bianque.backends.local import Local
    from bianque.catalog import custom, default
    from bianque.settings import Settings

    settings, known = custom.known(Settings.read())
    # Without a mode nobody asks for the usual pair: to choose it would look at the Hub.
    ask, advise = default.choose(settings, known) if {*MODES} & {c.name for c in contenders} else default.MINI
    together = (ask, advise) if any(contender.name == "auto" for contender in contenders) else ()
    return Session(Local(settings, known, together), ask, advise, settings.question_budget)


def carry_out(session: Session | None, asked: Asked, out: Path) -> int:
    """Evaluate with progress on stderr and the figures on stdout. After Ctrl-C the folder can be gone on with."""
    line = Line()

    async def work() -> Outcome:
        async with aclosing(evaluate(session, asked, out)) as steps:
            async for step in steps:
                if isinstance(step, Outcome):
                    return step
                line.show(step)
        raise AssertionError("an evaluation ends with its outcome")

    with closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(work())
        try:
            with terminal.interrupting(loop, task.cancel):
                outcome = loop.run_until_complete(task)
        except asyncio.CancelledError:
            line.end()
            again = "去掉 --fresh，用同样的命令继续 (the same command without --fresh goes on)"
            usual = "用同样的命令继续 (the same command goes on)"
            print(f"已停止，完成的都在 (stopped; all that is done is kept) {out}：{again if asked.fresh else usual}",
                  file=sys.stderr)  # fmt: skip
            return 130
        finally:
            line.end()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
    tell(outcome, asked.fresh)
    return 1 if outcome.failed else 0


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


class Line:
    """The progress on stderr: one line that is drawn again in a terminal, now and then a line in a file."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = -math.inf
        self.drawn = False

    def show(self, tally: Tally) -> None:
        text = words(tally)
        now = time.monotonic()
        if self.live:
            room = shutil.get_terminal_size().columns - 1
            while models.width(text) > room:
                text = text[:-1]
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self.drawn = True
        elif now - self.shown >= APART or tally.done == tally.total:
            print(text, file=sys.stderr, flush=True)
            self.shown = now

    def end(self) -> None:
        if self.drawn:
            print(file=sys.stderr, flush=True)
            self.drawn = False


def words(tally: Tally) -> str:
    what = "评审 (dialogues judged)" if tally.judging else "回答 (replies)"
    failed = f" · 失败 (failed) {tally.failed}" if tally.failed else ""
    left = f" · 剩余 (left) {clock(tally.left)}" if tally.left is not None and tally.done < tally.total else ""
    return f"{what} {tally.done}/{tally.total}{failed}{left}"


def preview(path: Path) -> int:
    """Print what a file holds, its first dialogues and every problem; nothing runs. 1 if there is a problem."""
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
            text = terminal.plain(" ".join(message.content.split()))
            text = text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
            print(f"  {'患者' if message.role == 'user' else '医生'}：{text}")
    if found.problems:
        print(f"\n{len(found.problems)} 处有误，改好之前不能评测 (problems; none of it runs before they are mended):")
        for problem in found.problems:
            print(f"  {problem}")
    return 1 if found.problems else 0

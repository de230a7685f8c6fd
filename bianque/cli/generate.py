"""`python -m bianque generate dialogues | knowledge | consultations`: dialogues that models write, each request made once."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bianque.errors import BadInput

if TYPE_CHECKING:
    from bianque.catalog.card import Model
    from bianque.consult.session import Session
    from bianque.data.filters import Checks, Sifted
    from bianque.data.generate import GenerationRun
    from bianque.data.journal import Costs, Speaker
    from bianque.types import Sampling

APART = 5.0  # seconds between two lines of progress
SERVER = "-"

generate = typer.Typer(help="Dialogues that models write: scenarios, knowledge questions, consultations.")
Out = Annotated[
    Path, typer.Option(help="a .jsonl or .csv file, also .gz; the same command goes on where it was stopped")
]
Name = Annotated[str, typer.Option("--model", metavar="NAME", help="a card, or with --url a model of that server")]
Url = Annotated[
    str | None, typer.Option(metavar="URL", help="any OpenAI-compatible server, as http://localhost:8000/v1")
]
Key = Annotated[str | None, typer.Option(metavar="VAR", help="the environment variable with the server's key")]
Temperature = Annotated[float | None, typer.Option(help="1 for a server; a card's own default")]
Tokens = Annotated[int, typer.Option(metavar="N", help="tokens of a reply, at most")]
Budget = Annotated[float | None, typer.Option(metavar="MONEY", help="no request is made that might exceed it")]
PriceIn = Annotated[float, typer.Option(metavar="MONEY", help="for a million tokens of prompts")]
PriceOut = Annotated[float, typer.Option(metavar="MONEY", help="for a million tokens of replies")]
AtOnce = Annotated[int, typer.Option(metavar="N", help="requests at a time")]
SeedOption = Annotated[int, typer.Option(help="another seed asks with other examples and for other patients")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of the model and the money."""

    out: Path
    name: str
    url: str | None = None
    key_env: str | None = None
    temperature: float | None = None
    tokens: int = 2048
    budget: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    at_once: int = 4
    seed: int = 0

    def costs(self) -> Costs:
        from bianque.data.journal import Costs

        if self.at_once < 1 or not 1 <= self.tokens <= 32_768:
            raise BadInput(f"--concurrency {self.at_once} --max-new-tokens {self.tokens}: 至少 1 (at least 1)")
        return Costs(self.price_in, self.price_out, self.budget)


@generate.command()
def dialogues(
    out: Out, model: Name, count: Annotated[int, typer.Option(help="so many, as many of each class")] = 160,
    seeds: Annotated[Path | None, typer.Option(help="YAML of classes with examples; this project's without it")] = None,
    url: Url = None, key_env: Key = None, temperature: Temperature = None, max_new_tokens: Tokens = 2048,
    budget: Budget = None, price_in: PriceIn = 0.0, price_out: PriceOut = 0.0, concurrency: AtOnce = 4, seed: SeedOption = 0,
) -> int:  # fmt: skip
    """Scenario dialogues of 16 classes, after examples."""
    from bianque.data import generate as make

    asked = Asked(out, model, url, key_env, temperature, max_new_tokens, budget, price_in, price_out, concurrency, seed)
    kinds = make.scenarios(seeds)
    positive(count)
    work = lambda run, who, checks: make.dialogues(run, who[0], kinds, count, checks)
    return carry_out("dialogues", asked, [model], work, -(-count // make.A_REQUEST), 1600, repr(kinds))


@generate.command()
def knowledge(
    out: Out, model: Name, count: Annotated[int | None, typer.Option(help="so many passages; all without it")] = None,
    passages: Annotated[
        Path | None, typer.Option(help="JSONL with `text`, or a text in paragraphs; the knowledge base without it")
    ] = None,
    url: Url = None, key_env: Key = None, temperature: Temperature = None, max_new_tokens: Tokens = 1024,
    budget: Budget = None, price_in: PriceIn = 0.0, price_out: PriceOut = 0.0, concurrency: AtOnce = 4, seed: SeedOption = 0,
) -> int:  # fmt: skip
    """Questions on passages, answered with the passage."""
    from bianque.data import generate as make

    asked = Asked(out, model, url, key_env, temperature, max_new_tokens, budget, price_in, price_out, concurrency, seed)
    listed = make.passages(passages)
    count = len(listed) if count is None else min(positive(count), len(listed))
    length = 200 + sum(len(passage.text) for passage in listed) // len(listed)
    work = lambda run, who, checks: make.knowledge(run, who[0], listed, count, checks)
    return carry_out("knowledge", asked, [model], work, count * (1 + make.A_REQUEST), length, repr(listed))


@generate.command()
def consultations(
    out: Out, model: Name, count: Annotated[int, typer.Option(help="so many")] = 100,
    doctor: Annotated[
        str | None, typer.Option(metavar="NAME", help="the doctor: auto (the usual pair) or a card; the patient's model without it")
    ] = None,
    url: Url = None, key_env: Key = None, temperature: Temperature = None, max_new_tokens: Tokens = 512,
    budget: Budget = None, price_in: PriceIn = 0.0, price_out: PriceOut = 0.0, concurrency: AtOnce = 4, seed: SeedOption = 0,
) -> int:  # fmt: skip
    """Whole consultations: one model is the patient, with a complaint of the knowledge base, another the doctor."""
    from bianque.data import generate as make

    asked = Asked(out, model, url, key_env, temperature, max_new_tokens, budget, price_in, price_out, concurrency, seed)
    positive(count)
    work = lambda run, who, checks: make.consultations(run, who[1], who[0], count, checks)
    return carry_out("consultations", asked, [model, doctor or model], work, count * make.TURNS, 900, "")


def positive(count: int) -> int:
    if count < 1:
        raise BadInput(f"--count {count}: 至少 1 (at least 1)")
    return count


# --- joining models, pipelines and files --------------------------------------------------------------------------


def carry_out(
    kind: str, asked: Asked, names: Sequence[str],
    work: Callable[[GenerationRun, Sequence[Speaker], Checks], Awaitable[Sifted]], requests: int, length: int, material: str,
) -> int:  # fmt: skip
    """Generate with progress on stderr; what came of it on stdout."""
    from bianque.consult import alarms, questions
    from bianque.data.filters import Checks
    from bianque.data.generate import GenerationRun, save
    from bianque.data.journal import RequestJournal
    from bianque.data.writers import beside, check_name

    check_name(asked.out)
    costs, who = asked.costs(), speakers(asked, names)
    danger = lambda text: found.level if (found := alarms.check(text)) else None
    question = {
        "kind": kind, "models": [one.name for one in who], "seed": asked.seed, "temperature": asked.temperature,
        "max_new_tokens": asked.tokens, "material": hashlib.sha256(material.encode(errors="replace")).hexdigest()[:16],
    }  # fmt: skip
    print(planned(asked, costs, requests, length), file=sys.stderr)
    line = RequestsLine(costs)
    path = beside(asked.out, "journal.jsonl")
    with RequestJournal(path, question, costs, asked.at_once, line.show) as journal:
        run = line.run = GenerationRun(journal, asked.seed)

        async def all_of_it() -> Sifted:
            return await work(run, who, Checks(danger, questions.asks))

        try:
            found = asyncio.run(all_of_it())
        except KeyboardInterrupt:
            print(f"已停止，问过的都在 (stopped; all answers are kept) {path}：用同样的命令继续 (the same command goes on)",
                  file=sys.stderr)  # fmt: skip
            return 130
        report = save(asked.out, found, run)
    print("\n".join(told(report, asked.out)))
    return 1 if report["failed"] else 0


def planned(asked: Asked, costs: Costs, requests: int, length: int) -> str:
    """What it may cost, before anything is asked."""
    from bianque.types import Usage

    most = costs.of(Usage(requests * length, requests * asked.tokens))
    money = f"，最多约 (at most about) {most:.2f}" if most else ""
    limit = f"，预算 (budget) {asked.budget:g}" if asked.budget is not None else ""
    return f"约 {requests} 个请求 (about so many requests){money}{limit}"


class RequestsLine:
    """The progress on stderr, now and then a line."""

    def __init__(self, costs: Costs) -> None:
        self.costs, self.shown = costs, time.monotonic()
        self.run: GenerationRun | None = None

    def show(self) -> None:
        now = time.monotonic()
        if self.run and now - self.shown >= APART:
            self.shown = now
            journal = self.run.journal
            failed = f"，失败 (failed) {journal.failed}" if journal.failed else ""
            print(f"请求 (requests) {journal.asked}{failed}，{spent(self.costs)}", file=sys.stderr, flush=True)


def spent(costs: Any) -> str:
    tokens = f"词元 (tokens) {costs.prompt_tokens} + {costs.completion_tokens}"
    return f"{tokens}，花费 (spent) {costs.spent:.4f}" if costs.spent else tokens


def told(report: dict[str, Any], out: Path) -> list[str]:
    from bianque.data.writers import beside

    lines = [
        f"留下 (kept) {report['kept']}，待人工看 (set aside) {sum(report['aside'].values())}，"
        f"略去 (dropped) {sum(report['dropped'].values())}，读不懂的回答 (unreadable) {report['unreadable']}",
        f"请求 (requests) {report['asked']}，词元 (tokens) {report['prompt_tokens']} + {report['completion_tokens']}，"
        f"花费 (spent) {report['spent']:.4f}",
    ]
    lines += [f"  {kind}: {count}" for kind, count in report["classes"].items()]
    lines += [f"  略去 (dropped) {why}: {count}" for why, count in report["dropped"].items()]
    lines += [f"  待人工看 (set aside) {why}: {count}" for why, count in report["aside"].items()]
    if report["stopped"]:
        lines.append(f"已停下 (stopped)：{report['stopped']}")
    if report["failed"]:
        lines.append(
            f"{report['failed']} 个请求失败；用同样的命令只重试这些 (failed: the same command tries only these again)"
        )
    return [*lines, "", str(out), str(beside(out, "aside.jsonl")), str(beside(out, "report.json"))]


# --- who is asked -------------------------------------------------------------------------------------------------


def speakers(asked: Asked, names: Sequence[str]) -> list[Speaker]:
    """The models of these names: of the server, where there is one, cards, or `auto`, the pair that consults."""
    from bianque.backends.routed import open_backend
    from bianque.catalog import builtin, custom, default
    from bianque.catalog.card import Endpoint, Model
    from bianque.consult.guarded import Guarded
    from bianque.consult.session import Session
    from bianque.data.journal import Speaker
    from bianque.settings import Settings
    from bianque.types import Sampling

    settings, known = custom.known(Settings.read())
    if asked.url:  # a card for this run alone, under a name that no file can give
        server = Endpoint(asked.url, asked.name, asked.key_env)
        known = (*known, Model(SERVER, asked.name, "both", Sampling(), "", "", endpoint=server))
    cards = builtin.by_name(known)
    named = [SERVER if asked.url and name == asked.name else name for name in names]
    for card in [builtin.find(cards, name) for name in named if name != "auto"]:
        check_endpoint(card)
    pair = default.choose(settings, known) if "auto" in named else None
    backend = Guarded(open_backend(settings, known, pair or ()).backend)

    def of(name: str) -> Speaker:
        if pair and name == "auto":
            return consulting(Session(backend, *pair, settings.question_budget), "+".join(pair))
        card = builtin.find(cards, name)
        temperature = card.sampling.temperature if asked.temperature is None else asked.temperature
        sampling = replace(card.sampling, temperature=temperature, max_new_tokens=asked.tokens)
        return Speaker.of(backend, name, sampling, card.endpoint is not None, card.title if name == SERVER else name)

    return [of(name) for name in named]


def check_endpoint(card: Model) -> None:
    """What is wrong with a URL or a key is told before anything is asked."""
    from bianque.backends.client import read_key

    if card.endpoint:
        _ = card.endpoint.address, read_key(card.endpoint.key_env)


def consulting(session: Session, name: str) -> Speaker:
    """The pair as the page has it: it asks, then it advises."""
    from bianque.consult.session import Done
    from bianque.consult.spec import Choices, SamplingOverrides
    from bianque.data.journal import JournalReply, Speaker
    from bianque.types import Message

    async def ask(messages: Sequence[Message], sampling: Sampling) -> JournalReply:
        *history, last = messages
        reply = JournalReply("")
        choices = Choices("auto", sampling=SamplingOverrides(seed=sampling.seed))
        async with aclosing(session.reply(history, last.content, choices)) as events:
            async for event in events:
                if isinstance(event, Done):
                    reply = JournalReply(event.message.content, event.usage, event.finish)
        return reply

    return Speaker(name, ask, prompted=False, priced=False)

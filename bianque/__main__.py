"""`python -m bianque chat | models | convert | bench | evaluate | train-mini …`: imports wait for their command."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bianque.errors import BadInput, BianQueError
from bianque.types import Phase


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bianque", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (add_chat, add_models, add_convert, add_bench, add_evaluate, add_compose, add_train, add_measure):
        add(commands)
    options = parser.parse_args(arguments)
    speak_utf_8()
    try:
        code = options.run(options) or 0
        sys.stdout.flush()
        return code
    except BianQueError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read along, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def speak_utf_8() -> None:
    """Files and pipes are UTF-8 on every system, a terminal what it is; what cannot be read or shown stops nothing."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            name = None if stream.isatty() else "utf-8-sig" if stream is sys.stdin else "utf-8"
            stream.reconfigure(encoding=name, errors="replace")


def add_chat(commands) -> None:
    command = commands.add_parser("chat", help="a consultation in the terminal; piped input is a turn a line")
    command.add_argument("--model", metavar="CARD", help="this model alone; its role decides what it does")
    command.add_argument("--mode", choices=("auto", "ask", "advise"), help="who answers; auto if left out")
    command.add_argument("--ask", metavar="CARD", help="the model that asks")
    command.add_argument("--advise", metavar="CARD", help="the model that advises")
    command.add_argument("--temperature", type=float, help="0 is greedy; a model's own default if left out")
    command.add_argument("--top-p", type=float)
    command.add_argument("--max-new-tokens", type=int)
    command.add_argument("--seed", type=int, help="the same seed gives the same reply")
    command.set_defaults(run=chat)


def chat(options: argparse.Namespace) -> int:
    from bianque import cards, pair, registry, terminal
    from bianque.backend import Local
    from bianque.session import Choices, Session
    from bianque.settings import Settings

    settings, known = cards.known(Settings.read())
    modes = terminal.EVERY
    if options.model:
        if options.ask or options.advise:
            raise BadInput("--model 不能与 --ask、--advise 同用 (--model alone decides who speaks)")
        modes = terminal.MODES[registry.find(registry.by_name(known), options.model).role]
    named = {"ask": options.ask or options.model, "advise": options.advise or options.model}
    ask, advise = pair.choose(replace(settings, **{key: name for key, name in named.items() if name}), known)
    wishes = {name: getattr(options, name) for name in ("temperature", "top_p", "max_new_tokens", "seed")}
    session = Session(Local(settings, known, (ask, advise)), ask, advise, settings.question_budget)
    choices = Choices(mode=options.mode or modes[0], **wishes)
    return terminal.Terminal(session, choices, modes, terminal.language(), settings.paths).run()


def add_compose(commands) -> None:
    command = commands.add_parser("compose", help="compose consultations from the knowledge base, as JSONL")
    command.add_argument("count", type=int, help="how many")
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same consultations")
    command.add_argument("--out", type=Path, required=True, help="a .jsonl or .jsonl.gz file")
    command.set_defaults(run=compose)


def compose(options: argparse.Namespace) -> None:
    from bianque.data import compose

    compose.write(options.count, options.seed, options.out)


def add_train(commands) -> None:
    command = commands.add_parser("train-mini", help="train the bundled preview models from scratch; resumes by itself")
    command.add_argument("role", choices=("ask", "advise", "both"))
    command.add_argument("--data", type=Path, nargs="*", default=[], help="JSONL(.gz) of real dialogues")
    command.add_argument("--out", type=Path, required=True, help="folder of the finished models, a folder each")
    command.add_argument("--work", type=Path, required=True, help="folder of vocabularies and checkpoints")
    command.add_argument("--threads", type=int, default=0)
    command.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change the plan, e.g. steps=400")
    command.set_defaults(run=train_mini)


def train_mini(options: argparse.Namespace) -> int:
    import torch

    from bianque.train import mini

    plan = mini.Plan(**changes(options.set, mini.Plan))
    if options.role == "both":
        return mini.both(sys.argv[3:])
    if options.threads:
        torch.set_num_threads(options.threads)
    say = lambda line: print(f"{options.role} {line}", flush=True)
    name = f"{options.role}-mini"
    mini.train(options.role, options.data, options.out / name, plan, options.work / name, say)
    return 0


def changes(pairs: Sequence[str], plan: type) -> dict[str, Any]:
    """`name=value` pairs as the plan's own types."""
    known = {field.name: field.type for field in fields(plan)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in known:
            raise BianQueError(f"--set {pair}: no such setting; choose one of {', '.join(known)}")
        try:
            found[name] = float(value) if known[name] == "float" else int(value)
        except ValueError:
            raise BianQueError(f"--set {pair}: {known[name]} needed") from None
    return found


def add_evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="models on the dialogues of a file, or recorded outputs: a report")
    command.add_argument("--data", type=Path, required=True, help="JSONL, JSON or CSV of dialogues, also as .gz")
    command.add_argument("--out", type=Path, metavar="DIR", help="rows, figures and report; the same command resumes")
    told = "next: the recorded dialogue before each doctor's turn; consultation: its own, with the patient's turns"
    command.add_argument("--task", nargs="+", choices=("next", "consultation"), help=f"{told}; next if left out")
    told = "auto, ask, advise or a card, as bianque-2:temperature=0,seed=1; what is left out is as below"
    command.add_argument("--model", nargs="+", metavar="NAME[:OPTIONS]", help=told)
    command.add_argument("--temperature", type=float, help="0 is greedy; a model's own default if left out")
    command.add_argument("--top-p", type=float)
    command.add_argument("--max-new-tokens", type=int)
    command.add_argument("--seed", type=int, default=0, help="each turn draws with a seed of its own from this one; 0")
    command.add_argument("--limit", type=int, metavar="N", help="so many dialogues, chosen by their ids")
    command.add_argument(
        "--concurrency",
        type=int,
        default=4,
        metavar="N",
        help="replies at a time; 4 (1 makes runs of 8 bits repeatable)",
    )
    command.add_argument("--recorded", action="store_true", help="score the outputs in the file; no model runs")
    command.add_argument("--references", type=Path, metavar="FILE", help="human answers for recorded outputs")
    command.add_argument("--judge", metavar="URL", help="an OpenAI-compatible server that scores whole dialogues")
    command.add_argument("--judge-model", metavar="NAME")
    command.add_argument("--judge-key-env", metavar="VAR", help="the environment variable with the judge's key")
    command.add_argument("--fresh", action="store_true", help="forget what the folder has")
    command.add_argument("--preview", action="store_true", help="show what the file holds and what is wrong in it")
    command.set_defaults(run=evaluate)


def evaluate(options: argparse.Namespace) -> int:
    from bianque.evaluate.command import command

    return command(options)


def add_measure(commands) -> None:
    command = commands.add_parser("measure-mini", help="the bundled models beside two baselines, on held-out dialogues")
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--train", type=Path, nargs="+", required=True, help="what the baselines learn from")
    command.add_argument("--limit", type=int, help="so many dialogues, chosen by their ids; all if left out")
    command.add_argument("--json", type=Path, help="also write the figures here")
    command.add_argument("--path", nargs="*", default=[], metavar="CARD=FOLDER", help="measure another checkpoint")
    command.set_defaults(run=measure_mini)


def measure_mini(options: argparse.Namespace) -> None:
    from bianque.backend import Local
    from bianque.evaluate.mini import measure_mini as measure
    from bianque.evaluate.neural import Neural
    from bianque.settings import Settings, folders

    local = Local(Settings(paths=folders(",".join(options.path))))
    roles: dict[str, Phase] = {"ask-mini": "asking", "advise-mini": "advising"}
    engine = lambda name: local.load(name, local.fits(name)[0], lambda progress: None)
    subjects = [(Neural(engine(name)), phase) for name, phase in roles.items()]
    report = measure(options.data, options.train, subjects, options.limit)
    print(report.markdown())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def add_models(commands) -> None:
    command = commands.add_parser("models", help="the table of models, with those of BIANQUE_CARDS")
    command.add_argument("--json", action="store_true", help="every field, for a program")
    command.add_argument("--hardware", action="store_true", help="bits a weight on each hardware of a Space")
    command.set_defaults(run=models)


def models(options: argparse.Namespace) -> None:
    from bianque import cards, catalogue, hardware, pair, registry
    from bianque.settings import Settings

    settings, known = cards.known(Settings.read())
    if options.hardware:
        named = registry.by_name(known)
        print(hardware.table(known, [named[name] for name in pair.HUB]))
    else:
        print((catalogue.as_json if options.json else catalogue.text)(known, settings.paths))


def add_convert(commands) -> None:
    command = commands.add_parser("convert", help="write a model's checkpoint again, as safetensors in shards")
    command.add_argument(
        "card", help="a name from the table of models; its files are fetched, or BIANQUE_PATHS has them"
    )
    command.add_argument("out", type=Path, help="an empty or new folder")
    command.add_argument("--shard", type=float, default=2.0, metavar="GB", help="bytes of a shard at most, in 10⁹")
    command.set_defaults(run=convert)


def convert(options: argparse.Namespace) -> None:
    from bianque import cards, hub, registry
    from bianque.convert import convert as write
    from bianque.settings import Settings

    settings, known = cards.known(Settings.read())
    card = registry.find(registry.by_name(known), options.card)
    show = lambda progress: print(f"\r{progress.stage} {progress.fraction:4.0%}", end="", file=sys.stderr, flush=True)
    folder = hub.folder_of(card, settings.paths, show)
    written = write(card, folder, options.out, show, int(options.shard * 1e9))
    print(f"\n{options.out}: {written / 1e9:.2f} GB", file=sys.stderr)


def add_bench(commands) -> None:
    command = commands.add_parser("bench", help="measure, beside a named peer in the same run")
    kinds = command.add_subparsers(required=True, metavar="what")
    told = {
        "startup": "from starting the process to a page that takes text",
        "load": "seconds and memory of loading a checkpoint",
        "decode": "milliseconds to the first token and for each further one",
        "prefill": "milliseconds to the first token, for several prompts",
        "concurrency": "tokens a second of several visitors at once",
        "growth": "what longer contexts, more rows and more models cost, beside what the arithmetic says",
        "precision": "perplexity at 16, 8 and 4 bits a weight",
        "estimate": "on paper: how many visitors one accelerator serves",
    }
    for what, help in told.items():
        kind = kinds.add_parser(what, help=help)
        kind.add_argument("--json", type=Path, help="also write every figure here")
        kind.set_defaults(run=bench, what=what)
        if what in ("estimate", "precision"):
            (add_estimate if what == "estimate" else add_loss)(kind)
            continue
        kind.add_argument("--rounds", type=int, default=7)
        if what not in ("startup", "load"):
            add_measured(kind)
        if what in ("decode", "prefill", "concurrency"):
            add_contest(kind)
        if what in ("decode", "concurrency"):
            add_decoding(kind)
        if what == "prefill":
            kind.set_defaults(prompt=[64, 256, 768])
        if what == "growth":
            kind.add_argument("--precision", default="bf16", choices=PRECISIONS)
            kind.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the curves; needs matplotlib")


PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int4")


def add_measured(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--arch", choices=("t5", "chatglm"), default="t5")
    kind.add_argument("--size", choices=("true", "mini", "tiny"), default="true", help="mini: as the bundled model")
    kind.add_argument("--layers", type=int, help="fewer than the shape has")
    kind.add_argument("--threads", type=int, default=0, help="all cores but one if left out")
    kind.add_argument("--device", default="cpu")
    told = "a round of which the host of a virtual machine takes more is run again; 5 if left out"
    kind.add_argument("--steal", type=float, default=5.0, metavar="PERCENT", help=told)


def add_contest(kind: argparse.ArgumentParser) -> None:
    pair = lambda value: tuple(value.split("=", 1))
    kind.add_argument("--precision", nargs="+", default=["bf16"], choices=PRECISIONS)
    kind.add_argument("--prompt", type=int, nargs="+", default=[64], help="tokens")
    kind.add_argument("--peer", nargs="*", default=[], choices=("hf", "ctranslate2"))
    kind.add_argument("--beside", nargs="*", default=[], type=pair, metavar="NAME=COMMAND", help="any other peer")


def add_decoding(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--tokens", type=int, default=64, help="of a reply")
    kind.add_argument("--visitors", type=int, nargs="+", default=[1, 8])
    kind.add_argument("--sample", action="store_true", help="draw tokens, as BianQue-1.0 does; else greedy")


def add_loss(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--data", type=Path, required=True, help="JSONL(.gz) of dialogues")
    kind.add_argument("--limit", type=int, help="so many dialogues, chosen by their ids; all if left out")
    kind.add_argument("--model", nargs="+", default=["ask-mini", "advise-mini"], metavar="CARD")
    told = "the first is what the others are compared with"
    kind.add_argument("--precision", nargs="+", default=["fp32", "bf16", "int8", "int4"], choices=PRECISIONS, help=told)
    kind.add_argument("--threads", type=int, default=0, help="all cores but one if left out")
    kind.add_argument("--device", default="cpu")


def add_estimate(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--prompt", type=int, default=512, help="tokens of a prompt, which each reply has one of")
    kind.add_argument("--tokens", type=int, default=128, help="of a reply")
    kind.add_argument("--bandwidth-share", type=float, default=0.6, help="of the data sheet's GB/s that is reached")
    kind.add_argument("--compute-share", type=float, default=0.4, help="of the data sheet's TFLOP/s that is reached")


def bench(options: argparse.Namespace) -> None:
    from importlib import import_module

    from bianque import processor

    processor.settle()
    getattr(import_module(f"bianque.bench.{options.what}"), options.what)(options)


if __name__ == "__main__":
    sys.exit(main())

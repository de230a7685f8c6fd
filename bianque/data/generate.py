"""Dialogues that models write: `python -m bianque generate dialogues | knowledge | consultations`.

Scenarios of many classes after seeds, questions on passages that are answered with the passage, and whole consultations
between two models. Every request is made once (`journal`), what comes back is judged (`filters`), and a file of what
was kept stands beside one of what somebody has to look at.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bianque.data import records
from bianque.data.dialogues import Flaw
from bianque.data.filters import Checks, Sifted, sift
from bianque.data.formats import CorpusDialogue
from bianque.data.journal import JournalReply, RequestFailed, RequestJournal, Speaker, Stopped
from bianque.data.knowledge import Complaint, Knowledge, bundled
from bianque.data.writers import beside, finished, record, writing
from bianque.errors import BadInput
from bianque.types import Message

A_REQUEST = 4  # scenarios or questions that one request asks for
ROUNDS = 6  # times that what was filtered out is asked for again
EXAMPLES = 4  # seeds that a request shows
PASSAGE = 600  # characters that a passage of a text file has, about
TURNS = 8  # of the doctor in a consultation, at most


# --- seeds, passages, patients ------------------------------------------------------------------------------------


class StrictRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Seed(StrictRecord):
    input: str = Field(min_length=1)
    output: str = Field(min_length=1)


class Scenario(StrictRecord):
    """A class of scenario dialogues, what it is about, and examples of it."""

    name: str = Field(min_length=1)
    meaning: str = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)


def scenarios(path: Path | None = None) -> tuple[Scenario, ...]:
    """The classes in a YAML file; those of this project without one."""
    import yaml

    path = path or Path(__file__).with_name("assets") / "scenarios.yaml"
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        found = tuple(Scenario.model_validate(each) for each in listed)
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError, TypeError) as error:
        raise BadInput(f"{path}: 读不了 (cannot be read): {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}；每一类需要 (a class needs) name, meaning, seeds"
        ) from None
    if len({one.name for one in found}) < len(found) or not found:
        raise BadInput(f"{path}: 类别为空或重名 (no class, or two of one name)")
    return found


class Passage(NamedTuple):
    id: str
    text: str
    title: str = ""


def passages(path: Path | None = None) -> list[Passage]:
    """The passages of a file: records with `text`, or a text in paragraphs; without one, this project's knowledge base."""
    if path is None:
        return [Passage(entry.id, advice(entry), entry.name) for entry in bundled().complaints.values()]
    if path.suffix.lower() in (".txt", ".md"):
        found = list(paragraphs(path))
    else:
        found = []
        with records.streamed(path) as opened:
            for number, row in opened.items:
                text = next(
                    (row[k] for k in ("text", "passage", "指南", "content") if isinstance(row, dict) and row.get(k)),
                    None,
                )
                if isinstance(row, Flaw) or not isinstance(text, str) or not text.strip():
                    raise BadInput(f"{path.name}: 第 {number} 条没有 text (record {number} holds no text)")
                found.append(Passage(str(row.get("id", number)), text.strip(), str(row.get("title", ""))))
    if not found or len({passage.id for passage in found}) < len(found):
        raise BadInput(f"{path.name}: 没有资料，或 id 重复 (holds no passage, or two of one id)")
    return found


def paragraphs(path: Path) -> Iterator[Passage]:
    parts = [part.strip() for part in records.read_text(path).split("\n\n") if part.strip()]
    held, number = "", 1
    for part in [*parts, ""]:
        if held and (not part or len(held) + len(part) > PASSAGE):
            yield Passage(str(number), held)
            held, number = "", number + 1
        held = f"{held}\n{part}".strip()


def advice(entry: Complaint) -> str:
    """What the knowledge base says of a complaint, as a passage."""
    lines = [f"{entry.name}（{entry.department}）"]
    for title, rules in (
        ("危险情况", entry.urgent),
        ("判断", entry.assess),
        ("建议", entry.advice),
        ("就医", entry.doctor),
    ):
        lines += [f"{title}：{''.join(rule.say[0] for rule in rules)}"] if rules else []
    lines += [
        f"{follow.ask[0]}{'' if follow.ask[0].endswith('？') else '？'}{follow.say[0]}" for follow in entry.follow
    ]
    return "\n".join(lines)


class Persona(NamedTuple):
    """Who consults: a complaint of the knowledge base, how it is opened, and what is the case."""

    id: str
    complaint: str
    opening: str
    facts: tuple[str, ...]


def persona(number: int, seed: int, knowledge: Knowledge | None = None) -> Persona:
    """One patient; the same number and seed give the same one."""
    draw = random.Random(f"{seed}/{number}")
    entries = list((knowledge or bundled()).complaints.values())
    # All complaints come before one comes again.
    order = random.Random(f"{seed}/order/{number // len(entries)}").sample(range(len(entries)), len(entries))
    entry = entries[order[number % len(entries)]]
    opening = draw.choice(entry.open)
    told = {slot: draw.choice(value) if isinstance(value, tuple) else value for slot, value in opening.has.items()}
    state = {slot.key: told.get(slot.key) or draw.choice(list(slot.values)) for slot in entry.slots}
    facts = tuple(slot.values[state[slot.key]].fact for slot in entry.slots)
    return Persona(f"consultation-{number}", entry.name, opening.say, facts)


@cache
def prompts() -> dict[str, str]:
    import yaml

    text = (Path(__file__).with_name("assets") / "prompts.yaml").read_text(encoding="utf-8")
    return {name: prompt.strip() for name, prompt in yaml.safe_load(text).items()}


# --- answers → items ----------------------------------------------------------------------------------------------


def objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects in an answer, whatever stands around them; of one that is cut off, nothing."""
    decoder, place, found = json.JSONDecoder(strict=False), 0, list[dict[str, Any]]()
    while (place := text.find("{", place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
        else:
            found += [value] if isinstance(value, dict) else []
    return found


def filled(item: dict[str, Any], *keys: str) -> list[str] | None:
    """The texts of these fields; None unless all are there."""
    texts = [item.get(key) for key in keys]
    return (
        [text.strip() for text in texts if isinstance(text, str)]
        if all(isinstance(t, str) and t.strip() for t in texts)
        else None
    )


# --- the pipelines ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class GenerationRun:
    """What one call generates. `cases` are all that came back, in the order of their ids; the rest is counted."""

    journal: RequestJournal
    seed: int = 0
    cases: dict[str, list[CorpusDialogue]] = field(default_factory=dict)  # by the id of what brought them
    counts: Counter[str] = field(default_factory=Counter)

    async def all(self, jobs: Iterable[tuple[str, Awaitable[list[CorpusDialogue]]]]) -> None:
        """Carry jobs out at once; one that fails, or is stopped, leaves the others alone."""
        named = list(jobs)
        results = await asyncio.gather(*(job for _, job in named), return_exceptions=True)
        for (name, _), result in zip(named, results, strict=True):
            if isinstance(result, list):
                self.cases[name] = result
            elif not isinstance(result, RequestFailed | Stopped):
                raise result

    def found(self) -> list[CorpusDialogue]:
        return [case for cases in self.cases.values() for case in cases]

    def case(self, name: str, texts: Sequence[str], model: str, **notes: str) -> CorpusDialogue:
        return CorpusDialogue(name, "generated", tuple(alternating(texts)), model, notes=notes)


async def scenario(
    run: GenerationRun, who: Speaker, kind: Scenario, others: Sequence[Scenario], name: str
) -> list[CorpusDialogue]:
    """One request for scenarios of a class, shown seeds of its own and of other classes."""
    draw = random.Random(f"{run.seed}/{name}")
    own = draw.sample(kind.seeds, min(len(kind.seeds), EXAMPLES // 2))
    foreign = [seed for other in others if other is not kind for seed in other.seeds]
    shown = [*own, *draw.sample(foreign, min(len(foreign), EXAMPLES - len(own)))]
    examples = "\n".join(json.dumps(seed.model_dump(), ensure_ascii=False) for seed in shown)
    text = prompts()["scenarios"].format(count=A_REQUEST, kind=kind.name, meaning=kind.meaning, examples=examples)
    reply = await run.journal.ask(name, who, [Message("user", text)], run.seed)
    pairs = [filled(item, "input", "output") for item in objects(reply.text)]
    good = [pair for pair in pairs if pair]
    run.counts["unreadable"] += not good
    return [run.case(f"{name}-{n}", pair, who.name, **{"class": kind.name}) for n, pair in enumerate(good, 1)]


async def dialogues(run: GenerationRun, who: Speaker, kinds: Sequence[Scenario], count: int, checks: Checks) -> Sifted:
    """As many scenarios of each class; what the filters take out is asked for again, ROUNDS times."""
    wanted = {kind.name: count // len(kinds) + (place < count % len(kinds)) for place, kind in enumerate(kinds)}
    seeds = [seed.input for kind in kinds for seed in kind.seeds]
    # What an earlier run asked for is used first; what failed in it is asked again.
    due = {kind.name: sorted(run.journal.ids(f"{kind.name}/"), key=number) for kind in kinds}
    for _ in range(ROUNDS + 1):
        await run.all((name, scenario(run, who, kind, kinds, name)) for kind in kinds for name in due[kind.name])
        run.cases = {name: run.cases[name] for name in sorted(run.cases, key=number)}
        found = balanced(sift(run.found(), checks, seeds), wanted)
        kept = Counter(case.notes["class"] for case in found.kept)
        if run.journal.stopped or kept == Counter(wanted):
            break
        for kind in kinds:
            begun = len(run.journal.ids(f"{kind.name}/"))
            more = -(-(wanted[kind.name] - kept[kind.name]) // A_REQUEST)
            due[kind.name] = [f"{kind.name}/{begun + n}" for n in range(1, more + 1)]
    return found


def number(name: str) -> tuple[int, str]:
    """Order of requests: the first of every class, then the second."""
    return int(name.rpartition("/")[2]), name


def balanced(found: Sifted, wanted: dict[str, int]) -> Sifted:
    """No more of a class than is wanted of it."""
    kept, taken = list[CorpusDialogue](), Counter[str]()
    for case in found.kept:
        kind = case.notes["class"]
        if taken[kind] < wanted[kind]:
            taken[kind] += 1
            kept.append(case)
    found.dropped["surplus"] += len(found.kept) - len(kept)
    found.kept = kept
    return found


async def questions(run: GenerationRun, who: Speaker, passage: Passage) -> list[CorpusDialogue]:
    """Questions on a passage, each answered with the passage before the model's eyes."""
    asked = prompts()["questions"].format(count=A_REQUEST, passage=passage.text)
    reply = await run.journal.ask(f"{passage.id}/questions", who, [Message("user", asked)], run.seed)
    texts = [pair[0] for item in objects(reply.text) if (pair := filled(item, "question"))][:A_REQUEST]
    run.counts["unreadable"] += not texts
    names = [f"{passage.id}/{place}" for place in range(1, len(texts) + 1)]

    async def answered(name: str, question: str) -> CorpusDialogue:
        text = prompts()["answer"].format(passage=passage.text, question=question)
        reply = await run.journal.ask(name, who, [Message("user", text)], run.seed)
        return run.case(name, (question, reply.text.strip()), who.name, passage=passage.id, title=passage.title)

    pairs = zip(names, texts, strict=True)
    found = await asyncio.gather(*(answered(*pair) for pair in pairs), return_exceptions=True)
    if strange := [
        one for one in found if isinstance(one, BaseException) and not isinstance(one, RequestFailed | Stopped)
    ]:
        raise strange[0]
    return [one for one in found if isinstance(one, CorpusDialogue)]


async def knowledge(run: GenerationRun, who: Speaker, listed: Sequence[Passage], count: int, checks: Checks) -> Sifted:
    """Questions and answers on the first `count` passages."""
    chosen = listed[:count]
    await run.all((passage.id, questions(run, who, passage)) for passage in chosen)
    return sift(run.found(), checks, passages={passage.id: passage.text for passage in chosen})


async def consultation(run: GenerationRun, doctor: Speaker, patient: Speaker, who: Persona) -> list[CorpusDialogue]:
    """A patient and a doctor, turn by turn, until the patient has no more to ask."""
    said, told = [who.opening], prompts()
    brief = told["patient"].replace("{complaint}", who.complaint).replace("{facts}", "、".join(who.facts))
    while True:
        opening = told["doctor"].replace("{opening}", said[0]) if doctor.prompted else said[0]
        reply = await run.journal.ask(f"{who.id}/{len(said)}", doctor, alternating([opening, *said[1:]]), run.seed)
        said.append(spoken(reply, "医生"))
        # A doctor who repeats himself will do so again; the filters drop the dialogue.
        if len(said) >= 2 * TURNS or said[-1] in said[:-1] or not said[-1]:
            break
        first = brief.replace("{opening}", said[0]).replace("{doctor}", said[1])
        reply = await run.journal.ask(f"{who.id}/{len(said)}", patient, alternating([first, *said[2:]]), run.seed)
        text = spoken(reply, "病人|患者")
        if told["end"] in text or not text:
            break
        said.append(text)
    return [run.case(who.id, said, doctor.name, complaint=who.complaint, patient=patient.name)]


def alternating(said: Sequence[str]) -> list[Message]:
    """Turns as the model sees them that has to answer the last: the other's are the user's."""
    return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(said)]


def spoken(reply: JournalReply, label: str) -> str:
    """A reply without the label of who speaks."""
    text = reply.text.strip()
    for name in label.split("|"):
        text = text.removeprefix(f"{name}：").removeprefix(f"{name}:").strip()
    return text


async def consultations(run: GenerationRun, doctor: Speaker, patient: Speaker, count: int, checks: Checks) -> Sifted:
    """`count` consultations between two models, each about another complaint as long as there are any."""
    listed = [persona(number, run.seed) for number in range(count)]
    await run.all((who.id, consultation(run, doctor, patient, who)) for who in listed)
    return sift(run.found(), checks)


# --- what comes of it ---------------------------------------------------------------------------------------------


def save(out: Path, found: Sifted, run: GenerationRun) -> dict[str, Any]:
    """Write what is kept, what somebody has to look at (`….aside.jsonl`), and a report; the report."""
    journal, costs = run.journal, run.journal.costs
    with writing(out) as write:
        for case in found.kept:
            write(case)
    with finished(beside(out, "aside.jsonl")) as file:
        for why, case in found.aside:
            print(json.dumps({"reason": why, **record(case)}, ensure_ascii=False), file=file)
    report = {
        **journal.question, "kept": len(found.kept), "aside": dict(Counter(why for why, _ in found.aside)),
        "dropped": {name: count for name, count in found.dropped.items() if count},
        "unreadable": run.counts["unreadable"], "personal": dict(found.personal),
        "classes": dict(Counter(case.notes.get("class", "") for case in found.kept if "class" in case.notes)),
        "requests": len(journal.lines), "asked": journal.asked, "failed": journal.failed, "stopped": journal.stopped,
        "prompt_tokens": costs.prompt_tokens, "completion_tokens": costs.completion_tokens, "spent": round(costs.spent, 6),
    }  # fmt: skip
    with finished(beside(out, "report.json")) as file:
        print(json.dumps(report, ensure_ascii=False, indent=1), file=file)
    return report

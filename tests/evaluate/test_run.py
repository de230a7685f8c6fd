"""The runner: what contenders are given, what becomes of their replies, and that nothing is done twice."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace

import pytest

from bianque.catalog.builtin import CARDS
from bianque.consult.session import Session
from bianque.consult.spec import SamplingOverrides, parse_all
from bianque.data.formats import CorpusDialogue
from bianque.errors import BadInput, OutOfMemory
from bianque.evaluate.run import MOST_AT_ONCE, SKIPPED, Runner, RunProgress, concurrently, jobs
from bianque.evaluate.store import DATABASE, Store, read
from bianque.types import Message, Piece, Progress, Usage
from tests import tiny

ASK, ADVISE = "ask-mini", "advise-mini"


def case(name: str, *texts: str, **facts) -> CorpusDialogue:
    turns = (Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))
    return CorpusDialogue(name, "own", tuple(turns), **facts)


CASES = (
    case("a", "我头痛", "头痛多久了？", "三天了", "多喝水，注意休息。"),
    case("b", "孩子咳嗽", "有没有发热？", "没有", "建议多喝水。", "好的", "祝早日康复。"),
    case("c", "睡不着"),
)


@dataclass
class Echo:
    """A backend that answers by a rule and remembers what it was asked; `gate` holds replies back."""

    rule: object = lambda model, dialogue: f"{model}{len(dialogue)}"
    heard: list[tuple] = field(default_factory=list)
    running: int = 0
    most: int = 0
    closed: int = 0
    gate: asyncio.Event | None = None
    free: int = 0  # so many replies do not wait for the gate

    def models(self):
        return CARDS

    def loaded(self, model):
        return True

    def kernel(self, model):
        return "float32" if any(model == name for name, *_ in self.heard) else None

    def prepare(self, model):
        pass

    async def stream(self, model, dialogue, sampling):
        self.heard.append((model, tuple(dialogue), sampling))
        waits = len(self.heard) > self.free
        self.running += 1
        self.most = max(self.most, self.running)
        whole = False
        try:
            yield Piece(progress=Progress(model, "loading", 0.0))
            yield Piece(usage=Usage(1))
            await asyncio.sleep(0)
            if self.gate and waits:
                await self.gate.wait()
            text = self.rule(model, dialogue)
            yield Piece(text=text)
            await asyncio.sleep(0)
            whole = True
            yield Piece(finish="stop", usage=Usage(1, len(text)))
        finally:
            self.running -= 1
            self.closed += not whole


def session(backend: Echo) -> Session:
    return Session(backend, ASK, ADVISE)


def run(
    folder, backend, cases=CASES, models=("advise",), tasks=("next",), concurrency=4, **options
) -> list[RunProgress]:
    contenders = parse_all(models, SamplingOverrides(seed=0))
    with Store.open(folder, {"tasks": list(tasks)}, **options) as store:
        todo = jobs(cases, contenders, tasks)
        return tiny.gathered(Runner(session(backend), store, todo, concurrency).run())


# --- tasks --------------------------------------------------------------------------------------------------------


def test_next_feeds_the_recorded_dialogue_before_each_doctors_turn(tmp_path):
    backend = Echo()
    run(tmp_path, backend)
    found = {(row.id, row.turn): row for row in read(tmp_path)}
    assert list(sorted(found)) == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]
    for (name, turn), row in found.items():
        messages = next(case for case in CASES if case.id == name).messages
        assert row.history == messages[: 2 * turn + 1]
        assert row.reference == (messages[2 * turn + 1].content if name != "c" else None)
        assert row.answer == f"{ADVISE}{2 * turn + 1}" and row.raw is None and row.error is None
        assert (row.task, row.set, row.model, row.phase, row.finish) == ("next", "own", "advise", "advising", "stop")
        assert 0 <= row.first <= row.seconds and row.tokens == len(row.answer)
    assert Counter(dialogue for _, dialogue, _ in backend.heard) == Counter(row.history for row in found.values())


def test_a_consultation_goes_on_with_the_contenders_own_replies(tmp_path):
    run(tmp_path, Echo(), models=["advise", ASK], tasks=["consultation"])
    for model, speaker, phase in (("advise", ADVISE, "advising"), (ASK, ASK, "asking")):
        rows = [row for row in read(tmp_path) if row.model == model and row.id == "b"]
        own = [Message("assistant", f"{speaker}{n}", phase, speaker) for n in (1, 3)]
        patient = CASES[1].messages[::2]
        assert rows[2].history == (patient[0], own[0], patient[1], own[1], patient[2])
        assert [row.turn for row in rows] == [0, 1, 2] and all(row.reference is None for row in rows)


def test_a_consultation_in_auto_mode_hands_over_by_its_own_replies(tmp_path):
    replies = {ASK: "头痛多久了？", ADVISE: "建议多休息。"}
    run(tmp_path, Echo(lambda model, dialogue: replies[model]), CASES[1:2], ["auto"], ["consultation"])
    rows = read(tmp_path)
    # A question once asked is not asked again: the second turn is advice, and so are those behind it.
    assert [row.phase for row in rows] == ["asking", "advising", "advising"]
    assert rows[2].history[1::2] == (
        Message("assistant", replies[ASK], "asking", ASK), Message("assistant", replies[ADVISE], "advising", ADVISE),
    )  # fmt: skip


def test_turns_before_the_first_due_one_are_history(tmp_path):
    late = case("d", "痛", "哪里？", "头", "休息。", first=1)
    run(tmp_path, Echo(), [late], tasks=["next", "consultation"])
    assert {(row.task, row.turn, row.history) for row in read(tmp_path)} == {
        (task, 1, late.messages[:3]) for task in ("next", "consultation")
    }


def test_answers_are_cleaned_and_what_was_said_is_kept(tmp_path):
    run(tmp_path, Echo(lambda *_: "医生：多喝水。\n病人：好的"), CASES[2:])
    (row,) = read(tmp_path)
    assert (row.answer, row.raw) == ("多喝水。", "医生：多喝水。\n病人：好的")


def test_an_empty_answer_is_an_answer(tmp_path):
    run(tmp_path, Echo(lambda *_: ""), CASES[:1], tasks=["consultation"])
    rows = read(tmp_path)
    assert [(row.answer, row.error, row.first) for row in rows] == [("", None, None)] * 2
    assert rows[1].history[1] == Message("assistant", "", "advising", ADVISE)


# --- seeds --------------------------------------------------------------------------------------------------------


def seeds(folder, **options) -> dict:
    backend = Echo()
    run(folder, backend, **options)
    return {dialogue: sampling.seed for _, dialogue, sampling in backend.heard}


def test_each_turn_has_a_seed_of_its_own_that_does_not_change(tmp_path):
    first = seeds(tmp_path / "1")
    assert len(set(first.values())) == len(first) == 6 and all(0 <= seed < 2**63 for seed in first.values())
    assert seeds(tmp_path / "2", concurrency=1, cases=CASES[::-1]) == first
    assert seeds(tmp_path / "3", models=["bianque-2"]) == first
    other = seeds(tmp_path / "4", models=["advise:seed=1"])
    assert set(other.values()).isdisjoint(first.values())


def test_without_a_seed_there_is_none(tmp_path):
    backend = Echo()
    with Store.open(tmp_path, {}) as store:
        tiny.gathered(Runner(session(backend), store, jobs(CASES, parse_all(["auto"]), ["next"])).run())
    assert {sampling.seed for *_, sampling in backend.heard} == {None}


# --- failures -----------------------------------------------------------------------------------------------------


def failing(*errors, when=lambda dialogue: True):
    """A rule that raises the errors one after the other where `when` holds, and then answers."""
    left = list(errors)

    def rule(model, dialogue):
        if left and when(dialogue):
            raise left.pop(0)
        return "好的。"

    return rule


def test_a_failure_is_an_error_and_no_score_and_is_tried_again(tmp_path):
    rule = failing(OutOfMemory("内存不足"), when=lambda dialogue: dialogue[-1].content == "没有")
    last = run(tmp_path, backend := Echo(rule), concurrency=1)[-1]
    assert (last.done, last.total, last.failed) == (6, 6, 1)
    (row,) = [row for row in read(tmp_path) if row.error is not None]
    assert (row.id, row.turn, row.answer, row.error, row.code) == ("b", 1, None, "内存不足", "BQ_NO_MEMORY")
    assert row.history == CASES[1].messages[:3] and row.reference == "建议多喝水。" and len(backend.heard) == 6
    first, last = run(tmp_path, again := Echo())
    assert (first.done, first.failed, last.done, last.failed) == (5, 0, 6, 0)
    assert [dialogue for _, dialogue, _ in again.heard] == [row.history]
    assert all(row.error is None for row in read(tmp_path)) and len(read(tmp_path)) == 6


def test_an_unforeseen_failure_is_told_calmly_and_logged_without_words(tmp_path, caplog):
    rule = failing(*(KeyError("秘密的话") for _ in range(6)))
    with caplog.at_level(logging.ERROR, "bianque"):
        run(tmp_path, Echo(rule))
    assert {(row.code, row.answer) for row in read(tmp_path)} == {("BQ_INTERNAL", None)}
    assert all("KeyError" in row.error and "秘密" not in row.error for row in read(tmp_path))
    (record,) = caplog.records  # the same failure six times
    assert "KeyError" in record.message and "raise left.pop(0)" in record.message and "秘密" not in caplog.text


def test_behind_a_failure_a_consultation_is_not_reached_and_begins_again_there(tmp_path):
    rule = failing(OutOfMemory("x"), when=lambda dialogue: len(dialogue) == 3)
    run(tmp_path, Echo(rule), CASES[1:2], tasks=["consultation"])
    assert [(row.turn, row.code) for row in read(tmp_path)] == [(0, None), (1, "BQ_NO_MEMORY"), (2, SKIPPED)]
    run(tmp_path, backend := Echo(), CASES[1:2], tasks=["consultation"])
    assert [len(dialogue) for _, dialogue, _ in backend.heard] == [3, 5]
    assert backend.heard[0][1][1].content == "好的。"  # what the first run had said
    rows = read(tmp_path)
    assert [row.code for row in rows] == [None] * 3 and rows[2].history == backend.heard[1][1]


@pytest.mark.parametrize("concurrency", [0, MOST_AT_ONCE + 1])
def test_how_many_at_a_time_is_bounded(tmp_path, concurrency):
    with pytest.raises(BadInput, match=f"concurrency={concurrency}"):
        run(tmp_path, Echo(), concurrency=concurrency)


# --- going on -----------------------------------------------------------------------------------------------------


def test_nothing_finished_is_done_again(tmp_path):
    first = run(tmp_path, Echo(), models=["auto", "advise"], tasks=["next", "consultation"])
    before = read(tmp_path)
    (only,) = run(tmp_path, backend := Echo(), models=["auto", "advise"], tasks=["next", "consultation"])
    assert backend.heard == [] and (only.done, only.total) == (24, 24) and first[-1].done == 24
    assert read(tmp_path) == before


def forget(folder, first, last):
    """Rows of a run from the first to before the last, as if they had never been."""
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        places = [place for (place,) in database.execute("SELECT rowid FROM rows ORDER BY rowid")]
        database.executemany("DELETE FROM rows WHERE rowid = ?", [(place,) for place in places[first:last]])


@pytest.mark.parametrize("kept", range(7))
@pytest.mark.parametrize("task", ["next", "consultation"])
def test_what_was_stopped_anywhere_ends_as_if_it_had_not_been(tmp_path, kept, task):
    whole, part = tmp_path / "whole", tmp_path / "part"
    run(whole, Echo(), tasks=[task], concurrency=1)
    run(part, Echo(), tasks=[task], concurrency=1)
    forget(part, kept, None)
    run(part, backend := Echo(), tasks=[task], concurrency=1)
    plain = lambda row: replace(row, first=None, seconds=None)
    assert {row.key: plain(row) for row in read(part)} == {row.key: plain(row) for row in read(whole)}
    assert len(backend.heard) == 6 - kept


def test_a_reply_to_a_history_that_was_redone_is_redone(tmp_path):
    run(tmp_path, Echo(), CASES[:1], tasks=["consultation"])
    forget(tmp_path, 0, 1)
    run(tmp_path, backend := Echo(lambda *_: "别的话"), CASES[:1], tasks=["consultation"])
    assert len(backend.heard) == 2 and backend.heard[1][1][1].content == "别的话"
    assert {row.answer for row in read(tmp_path)} == {"别的话"}


def test_the_time_left_is_told_from_the_first_row_on(tmp_path):
    steps = run(tmp_path, Echo(), concurrency=1)
    assert steps[0].left is None and steps[-1].left == 0 and all(step.left > 0 for step in steps[1:-1])
    assert [step.done for step in steps] == list(range(7)) and {step.total for step in steps} == {6}


# --- at once ------------------------------------------------------------------------------------------------------


async def until(condition, seconds=20.0):
    """Wait for what happens on the loop, with threads that it waits for, however busy the machine is."""

    async def holds():
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(holds(), seconds)


@pytest.mark.parametrize("concurrency", [1, 2, 5])
@pytest.mark.parametrize("task, most", [("next", 6), ("consultation", 3)])
def test_so_many_replies_are_under_way_and_no_more(tmp_path, concurrency, task, most):
    backend = Echo(gate=asyncio.Event())

    async def go():
        with Store.open(tmp_path, {}) as store:
            runner = Runner(session(backend), store, jobs(CASES, parse_all(["advise"]), [task]), concurrency)
            ended = asyncio.create_task(tiny.collect(runner.run()))
            await until(lambda: backend.running == min(concurrency, most))  # all that may begin has begun, and waits
            backend.gate.set()
            await ended

    asyncio.run(go())
    assert backend.most == min(concurrency, most) and len(read(tmp_path)) == 6


def test_closing_it_closes_the_replies_and_writes_no_half_row(tmp_path):
    backend = Echo(free=2)

    async def leave():
        backend.gate = asyncio.Event()  # two replies end, all others hang
        with Store.open(tmp_path, {}) as store:
            runner = Runner(session(backend), store, jobs(CASES, parse_all(["advise"]), ["next"]), 2)
            async with aclosing(runner.run()) as steps:
                async for step in steps:
                    if step.done == 2:
                        await until(lambda: backend.running == 2)
                        break
            assert backend.running == 0 and backend.closed > 0
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())
    done = read(tmp_path)
    assert 2 <= len(done) < 6 and all(row.error is None for row in done)
    with Store.open(tmp_path, {}) as store:
        tiny.gathered(Runner(session(again := Echo()), store, jobs(CASES, parse_all(["advise"]), ["next"])).run())
    assert len(again.heard) == 6 - len(done) and len(read(tmp_path)) == 6


def test_what_fails_outside_a_reply_ends_the_run(tmp_path, monkeypatch):
    def full(self, *rows):
        raise OSError("disk")

    backend = Echo()
    monkeypatch.setattr(Store, "append", full)
    with pytest.raises(OSError, match="disk"):
        run(tmp_path, backend)
    assert backend.running == 0


def test_spread_gives_everything_and_raises_what_was_raised():
    async def work(item):
        for part in range(item):
            await asyncio.sleep(0)
            yield item, part
        if item == 9:
            raise ValueError(item)

    found = tiny.gathered(concurrently([3, 0, 2], work, 2))
    assert Counter(found) == Counter([(3, 0), (3, 1), (3, 2), (2, 0), (2, 1)])
    with pytest.raises(ValueError, match="9"):
        tiny.gathered(concurrently([1, 9, 1], work, 2))

"""Replies side by side: they really overlap, none disturbs another, and what they were can be named, linked and kept."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import aclosing
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.arena import share, side_by_side
from bianque.arena.share import Setup
from bianque.arena.side_by_side import EVERY, WAITING, together, verify
from bianque.backends.pool import Pool
from bianque.catalog.builtin import CARDS, by_name
from bianque.catalog.footprint import LoadPlan
from bianque.consult import triage
from bianque.consult.session import (
    INTERNAL,
    MAX_CHARACTERS,
    Delta,
    Done,
    Failure,
    Loading,
    Notice,
    Session,
    Speaking,
    Thinking,
    Timing,
)
from bianque.consult.spec import MODES, ModelSpec, SamplingOverrides
from bianque.consult.transcript import ReplyStats, Transcript, rewound
from bianque.errors import BadInput, BianQueError, LoadFailed
from bianque.types import Message, Piece, Usage
from tests import tiny

ASK, ADVISE = "ask-mini", "advise-mini"
COMPLAINT = "最近总是头痛，晚上更厉害"


@dataclass
class Voices:
    """A backend whose models say their piece, a character at a time; `meet` models each wait for the others' first."""

    says: dict[str, str] = field(default_factory=lambda: {ASK: "头痛多久了？", ADVISE: "晚上早点睡，多喝水。"})
    errors: dict[str, Exception] = field(default_factory=dict)  # after the third character
    meet: int = 0
    endless: bool = False
    heard: list[tuple] = field(default_factory=list)
    written: Counter = field(default_factory=Counter)
    closed: list[str] = field(default_factory=list)
    met: int = 0

    def models(self):
        return CARDS

    def loaded(self, model):
        return True

    def kernel(self, model):
        return f"kernel of {model}"

    def prepare(self, model):
        pass

    async def stream(self, model, dialogue, sampling):
        self.heard.append((model, list(dialogue), sampling))
        try:
            yield Piece(usage=Usage(10, 0, 0))
            while True:
                for count, character in enumerate(self.says[model]):
                    if count == 3 and model in self.errors:
                        raise self.errors[model]
                    await asyncio.sleep(0)
                    self.written[model] += 1
                    yield Piece(text=character)
                    if not count:
                        await self.meeting()
                if not self.endless:
                    break
            yield Piece(finish="stop", usage=Usage(10, len(self.says[model]), 0))
        finally:
            self.closed.append(model)

    async def meeting(self):
        self.met += 1
        while self.met < self.meet:
            await asyncio.sleep(0.001)


def session(voices):
    return Session(voices, ASK, ADVISE)


def named(*texts):
    return [ModelSpec.parse(text) for text in texts]


def run(voices, *texts, message=COMPLAINT, dialogues=None, seed=None):
    who = named(*texts)
    replies = together(session(voices), who, dialogues or [[] for _ in who], message, seed)

    async def gather():
        return await asyncio.wait_for(tiny.collect(replies), 20)

    return asyncio.run(gather())


def shown(items, place):
    return "".join(event.text for where, event in items if where == place and isinstance(event, Delta))


@pytest.mark.parametrize(
    ("texts", "message", "tells"),
    [
        (["auto"], "头痛", "1 列"), (["auto"] * 5, "头痛", "5 列"), (["auto", "ask"], "  ", "空"),
        (["auto", "ask"], "痛" * (MAX_CHARACTERS + 1), "8001"), (["auto", "nobody"], "头痛", "nobody"),
        (["auto", "chatglm-6b-int4@8"], "头痛", "int4@8"), (["auto", "ask:temperature=9"], "头痛", "temperature"),
        (["auto", "ask:temperature=nan"], "头痛", "temperature"), (["auto", "ask:seed=-1"], "头痛", "seed"),
    ],
)  # fmt: skip
def test_what_could_not_begin_is_refused_as_a_whole(texts, message, tells):
    with pytest.raises(BianQueError, match=tells):
        verify(session(Voices()), named(*texts), message)


# --- the replies ---


def test_all_columns_speak_before_any_has_ended():
    """Each model's second character waits until both have said their first: one after the other would never end."""
    items = run(Voices(meet=2), "ask", "advise")
    ends = [index for index, (_, event) in enumerate(items) if isinstance(event, Done)]
    begins = [
        next(i for i, (p, event) in enumerate(items) if p == place and isinstance(event, Delta)) for place in (0, 1)
    ]
    assert max(begins) < min(ends)


def test_each_column_is_what_its_contender_says_alone():
    texts = ["auto", "ask", "advise", f"{ADVISE}:seed=9"]
    items = run(Voices(), *texts)
    for place, who in enumerate(named(*texts)):
        alone = tiny.gathered(session(Voices()).reply([], COMPLAINT, who.choices(session(Voices()))))
        mine = [event for where, event in items if where == place]
        assert [type(event) for event in mine] == [type(event) for event in alone]
        assert mine[-1].message == alone[-1].message
        assert shown(items, place) == mine[-1].message.content


def test_every_column_has_its_own_history_and_sampling():
    voices = Voices()
    past = [Message("user", "头痛"), Message("assistant", "多休息", "advising", ADVISE)]
    run(voices, "advise", "advise:seed=3,temperature=0.1", dialogues=[past, []], seed=7)
    heard = sorted((len(dialogue), sampling.seed, sampling.temperature) for _, dialogue, sampling in voices.heard)
    assert heard == [(1, 3, 0.1), (3, 7, by_name()[ADVISE].sampling.temperature)]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (LoadFailed("模型不在"), "BQ_LOAD_FAILED", "模型不在"),
        (OSError("/srv/secret"), "BQ_INTERNAL", INTERNAL),
    ],
)
def test_an_error_ends_its_own_column_alone(error, code, text, caplog):
    items = run(Voices(errors={ADVISE: error}), "ask", "advise", ADVISE)
    for place in (1, 2):
        assert [event for where, event in items if where == place][-1] == Failure(code, text)
        assert shown(items, place) == "晚上早"
    assert shown(items, 0) == "头痛多久了？" and isinstance([event for where, event in items if where == 0][-1], Done)
    assert COMPLAINT not in caplog.text and "/srv/secret" not in caplog.text  # which might be anybody's words
    assert code != "BQ_INTERNAL" or ("OSError" in caplog.text and "in stream" in caplog.text)


def test_an_unknown_model_fails_its_own_column():
    items = run(Voices(), "ask", "nobody")
    assert [event.code for where, event in items if where == 1] == ["BQ_UNKNOWN_MODEL"]
    assert shown(items, 0) == "头痛多久了？"


@pytest.mark.parametrize("leave", ["close", "cancel"])
def test_leaving_ends_every_reply_at_once(leave):
    async def visit():
        voices, began = Voices(endless=True), asyncio.Event()
        replies = together(session(voices), named("ask", "advise", ADVISE), [[], [], []], COMPLAINT)

        async def listen():
            async with aclosing(replies):
                async for _, event in replies:
                    if isinstance(event, Delta) and len(voices.heard) == 3:
                        began.set()
                        if leave == "close":
                            return

        listener = asyncio.create_task(listen())
        await asyncio.wait_for(began.wait(), 10)
        if leave == "cancel":
            listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        written = sum(voices.written.values())
        for _ in range(20):
            await asyncio.sleep(0)
        return voices.closed, sum(voices.written.values()) - written

    closed, more = asyncio.run(visit())
    assert sorted(closed) == sorted([ASK, ADVISE, ADVISE]) and more == 0


def test_nothing_is_written_far_ahead_of_a_slow_reader():
    async def read_one():
        voices = Voices(endless=True)
        async with aclosing(together(session(voices), named("ask", "advise"), [[], []], COMPLAINT)) as replies:
            await anext(replies)
            await asyncio.sleep(0.05)
            return sum(voices.written.values())

    assert 0 < asyncio.run(read_one()) <= WAITING + 4


def test_a_red_flag_comes_once_for_all_columns():
    items = run(Voices(), "ask", "advise", "auto", message="我不想活了")
    notices = [(place, event.level) for place, event in items if isinstance(event, Notice)]
    assert notices == [(EVERY, "crisis")]
    assert all(shown(items, place) for place in range(3))


class Cramped(Voices):
    """The same voices on a machine that holds one model at a time."""

    def __init__(self):
        super().__init__()
        drop = lambda engine: None
        self.pool = Pool(lambda name, fit, report: object(), drop, lambda name: (LoadPlan(16, 8),), lambda: 10)

    async def stream(self, model, dialogue, sampling):
        async with self.pool.lease(model) as lease:
            async with aclosing(lease.loading()) as coming:
                async for progress in coming:
                    yield Piece(progress=progress)
            await asyncio.sleep(0.15)  # the other one looks for its progress ten times a second
            async with aclosing(super().stream(model, dialogue, sampling)) as pieces:
                async for piece in pieces:
                    yield piece


def test_models_that_do_not_fit_together_take_turns_and_say_so():
    items = run(Cramped(), "ask", "advise")
    kinds = [(place, type(event)) for place, event in items]
    second = 1 - next(place for place, kind in kinds if kind is Done)
    began = kinds.index((second, Thinking))
    assert began > kinds.index((1 - second, Done))
    waited = [event.progress for place, event in items[:began] if place == second and isinstance(event, Loading)]
    assert waited and {(progress.stage, progress.ahead) for progress in waited} == {("queued", 0)}
    assert shown(items, 0) and shown(items, 1)


# --- figures and turns ---

DONE = Done(Message("assistant", "头 痛多久了？", "asking", ASK), "stop", Usage(9, 11), Timing(500.0, 1000.0, 3000.0))


def tallied(*events):
    found = Transcript([], COMPLAINT, lambda model: f"kernel of {model}")
    for event in events:
        found.apply(event)
    return found.stats()


def test_figures_of_a_whole_reply():
    spoken = (
        Thinking(ASK, "asking"),
        Thinking(ADVISE, "advising"),
        Speaking(ADVISE, "advising", None, 8),
        Delta("头 "),
        Delta("痛"),
    )
    figures = tallied(*spoken, DONE)
    assert figures == ReplyStats(
        (ASK, ADVISE), "advising", f"kernel of {ADVISE}", 0.5, 1.0, 3.0, tokens=11, speed=5.0, length=6, asks=True
    )
    assert ReplyStats.read(json.loads(json.dumps(asdict(figures)))) == figures
    held_back = tallied(*spoken[:-1], DONE)  # in one piece, which says nothing of how fast it was written
    assert (held_back.speed, held_back.total, held_back.tokens) == (None, 3.0, 11)
    assert "首词 1.00 秒" in figures.parts("zh-CN") and "5.0 tokens/s" in figures.parts("en")


def test_figures_of_a_reply_that_was_stopped():
    figures = tallied(Thinking(ADVISE, "advising"), Speaking(ADVISE, "advising", None, 8), Delta("多休息。"))
    assert (figures.length, figures.asks, figures.total, figures.speed) == (4, False, None, None)
    assert figures.first is not None and figures.first >= 0


@pytest.mark.parametrize("value", [None, 7, {}, {"models": []}, {**asdict(ReplyStats()), "more": 1}])
def test_what_is_no_figures_is_none(value):
    assert ReplyStats.read(value) is None


def kept(*events):
    found = Transcript([], COMPLAINT, apart=True, contender="ask")
    for event in events:
        found.apply(event)
    return found.turns


SPEAKING = Speaking(ASK, "asking", 1, 8)


def test_a_column_keeps_what_went_wrong_beside_what_was_said():
    turns = kept(
        Notice("crisis", "请拨打 12356"),
        Notice("history", "较早的没有读到"),
        SPEAKING,
        Delta("头"),
        Failure("BQ_X", "坏了"),
    )
    assert (
        turns[0]["safety"] == {"level": "crisis", "text": "请拨打 12356"} and turns[0]["notice"]["level"] == "history"
    )
    assert turns[1]["content"] == "头" and turns[1]["error"] == {"code": "BQ_X", "text": "坏了"}
    assert not side_by_side.has_reply(turns) and side_by_side.has_reply(kept(SPEAKING, DONE))
    assert not side_by_side.has_reply([]) and not side_by_side.has_reply(kept(Failure("BQ_X", "坏了")))


def test_rewinding_takes_the_last_message_and_all_behind_it():
    turns = kept(SPEAKING, DONE)
    assert rewound([*turns, {"role": "user", "content": "三天"}]) == (turns, "三天")
    assert rewound(turns) == ([], COMPLAINT) and rewound([]) == ([], None)


# --- links ---

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
NAMES = st.one_of(
    st.sampled_from(["auto", "ask", "advise", *by_name()]), st.from_regex(r"\w[\w.-]{0,63}", fullmatch=True)
)


@st.composite
def contenders(draw):
    name = draw(NAMES)
    numbers = {
        "temperature": draw(st.none() | st.floats(0, 2)), "top_p": draw(st.none() | st.floats(0.01, 1)),
        "max_new_tokens": draw(st.none() | st.integers(1, 2048)), "seed": draw(st.none() | st.integers(0, 2**63 - 1)),
    }  # fmt: skip
    bits = None if name in MODES else draw(st.sampled_from([None, 16, 8, 4]))
    return ModelSpec(name, bits, SamplingOverrides(**numbers))


@pytest.mark.slow
@given(
    st.builds(Setup, st.lists(contenders(), min_size=2, max_size=4).map(tuple), TEXTS, st.none() | st.integers(0, 99))
)
def test_a_setup_survives_its_link(setup):
    link = setup.encode()
    assert Setup.decode(link) == setup == Setup.decode(link.replace("#", "&"))
    assert Setup.decode("?__theme=dark&" + link[1:]) == setup
    assert link.isascii() and len(link.split("#")) == (2 if setup.message else 1)


def test_a_link_can_be_read_and_keeps_the_message_from_servers():
    setup = Setup(tuple(named("auto", "bianque-2@8:temperature=0.7")), "头痛", 7)
    assert setup.encode() == "?compare=1;auto;bianque-2@8:temperature=0.7&seed=7#say=%E5%A4%B4%E7%97%9B"


@pytest.mark.parametrize("link", ["", "?", "#", "?__theme=dark", "?seed=3&say=x"])
def test_other_addresses_speak_of_no_comparison(link):
    assert Setup.decode(link) is None


@pytest.mark.parametrize(
    ("link", "tells"),
    [
        ("?compare=", "版本"), ("?compare=9;auto;ask", "'9'"), ("?compare=1;auto", "1 列"), ("?compare=1;a;b;c;d;e", "5 列"),
        ("?compare=1;auto;ask:x=1", "x=1"), ("?compare=1;auto;ask&seed=x", "seed='x'"),
        (f"?compare=1;auto;ask#say={'x' * 8001}", "8001"), ("?compare=1;auto;ask" + "&a=1" * 60, "太多"),
    ],
)  # fmt: skip
def test_a_link_that_means_nothing_says_why(link, tells):
    with pytest.raises(BadInput, match=tells):
        Setup.decode(link)


# --- exports ---


def compared():
    asked = kept(Notice("crisis", "请拨打 12356"), SPEAKING, DONE)
    asked[1]["figures"] = asdict(tallied(SPEAKING, Delta("头"), Delta("痛"), DONE))
    advised = Transcript([], COMPLAINT, apart=True, contender="advise-mini@8")
    advised.apply(Speaking("advise-mini@8", "advising", None, 8))
    advised.apply(Failure("BQ_BUSY", "人多"))
    return Setup(tuple(named("ask", "advise-mini@8")), COMPLAINT, 7), [asked, advised.turns, [], []]


def test_an_export_carries_label_licences_setup_and_figures():
    setup, columns = compared()
    licence = {name: by_name()[name].licence for name in (ASK, ADVISE)}
    whole = json.loads(share.comparison_json(setup, columns, by_name()))
    assert whole["label"] == f"{triage.LABEL}；{triage.DISCLAIMER}" and whole["licences"] == licence
    assert [column["contender"] for column in whole["columns"]] == ["ask", "advise-mini@8"]
    assert [column["messages"] for column in whole["columns"]] == json.loads(json.dumps(columns[:2]))
    assert Setup.decode(whole["link"]) == setup and whole["seed"] == 7

    text = share.comparison_markdown(setup, columns, by_name())
    for part in (
        triage.LABEL, triage.DISCLAIMER, setup.encode(), "## A · ask\n", "## B · advise-mini@8\n", "请拨打 12356",
        "**患者 → advise-mini@8**", "**问诊 · ask-mini**", "5.0 词元/秒", "· 问*", "> BQ_BUSY: 人多",
        *(f"- {name}: {words}\n" for name, words in licence.items()),
    ):  # fmt: skip
        assert part in text, part

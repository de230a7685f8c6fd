"""One turn end to end over a backend that follows a script: who speaks, what shows, and what never does."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

import pytest

from bianque.catalog.builtin import CARDS, by_name
from bianque.consult import handoff, triage
from bianque.consult.questions import last_stop
from bianque.consult.session import (
    MAX_CHARACTERS,
    MAX_HISTORY,
    MAX_TURNS,
    Delta,
    Done,
    Handed,
    Loading,
    Notice,
    Session,
    Speaking,
    Thinking,
)
from bianque.consult.spec import RANGES, Choices, SamplingOverrides
from bianque.errors import BadInput, Busy, LoadFailed, TooLong, UnknownModel
from bianque.types import Message, Piece, Progress, Usage
from tests import tiny

ASK, ADVISE = "ask-mini", "advise-mini"
QUESTION, NO_QUESTION, ADVICE = "这样头痛多久了？", "建议多休息，多喝水。", "建议规律作息，必要时到医院就诊。"
COMPLAINT = "最近总是头痛，晚上更厉害"


@dataclass
class Script:
    """A backend that says what it is told, a character a piece, and remembers what happened."""

    replies: dict[str, str] = field(default_factory=lambda: {ASK: QUESTION, ADVISE: ADVICE})
    dropped: dict[str, int] = field(default_factory=dict)  # rounds that did not fit a model's window
    progress: bool = False
    error: Exception | None = None
    asked: list[tuple] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def models(self):
        return CARDS

    def loaded(self, model):
        return True

    def prepare(self, model):
        self.log.append(f"prepare {model}")

    async def stream(self, model, dialogue, sampling):
        self.asked.append((model, list(dialogue), sampling))
        self.log.append(f"stream {model}")
        try:
            if self.progress:
                yield Piece(progress=Progress(model, "loading", 0.5))
            dropped = self.dropped.get(model, 0)
            yield Piece(usage=Usage(10, 0, dropped))
            for count, character in enumerate(self.replies[model]):
                if self.error and count == 3:
                    raise self.error
                self.log.append(f"{model} {character}")
                yield Piece(text=character)
                await asyncio.sleep(0)
            yield Piece(finish="stop", usage=Usage(10, len(self.replies[model]), dropped))
        finally:
            self.log.append(f"closed {model}")


def turn(script, message=COMPLAINT, history=(), budget=8, **choices):
    session = Session(script, ASK, ADVISE, budget)
    drawn = SamplingOverrides(**{name: choices.pop(name) for name in RANGES if name in choices})
    return tiny.gathered(session.reply(history, message, Choices(**choices, sampling=drawn)))


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def shown(events) -> str:
    return "".join(event.text for event in of(events, Delta))


def asked(*contents: str) -> list[Message]:
    """A round so far: complaint, question, answer, question, …"""
    turns = [Message(("user", "assistant")[i % 2], content) for i, content in enumerate(contents)]
    return [replace(m, phase="asking", model=ASK) if m.role == "assistant" else m for m in turns]


ADVISED = [*asked(COMPLAINT, QUESTION, "三天了"), Message("assistant", ADVICE, "advising", ADVISE)]


def test_ask_mode_lets_the_asking_model_speak_whatever_it_says():
    events = turn(script := Script({ASK: NO_QUESTION}), mode="ask")
    assert [type(event) for event in events[:3]] == [Thinking, Speaking, Delta]
    assert of(events, Speaking) == [Speaking(ASK, "asking", None, 8)]
    assert shown(events) == NO_QUESTION
    assert events[-1].message == Message("assistant", NO_QUESTION, "asking", ASK)
    assert script.log[0] == f"stream {ASK}" and not of(events, Handed)


def test_advise_mode_lets_the_advising_model_speak():
    events = turn(script := Script(), mode="advise")
    assert shown(events) == ADVICE and not of(events, Handed)
    assert events[-1].message == Message("assistant", ADVICE, "advising", ADVISE)
    assert [model for model, *_ in script.asked] == [ADVISE]


def test_auto_mode_asks_while_the_asking_model_has_something_to_ask():
    events = turn(script := Script())
    assert shown(events) == QUESTION
    assert of(events, Speaking) == [Speaking(ASK, "asking", 1, 8)]
    assert events[-1].message == Message("assistant", QUESTION, "asking", ASK)
    assert events[-1].finish == "stop" and events[-1].usage.completion_tokens == len(QUESTION)
    assert [model for model, *_ in script.asked] == [ASK]


def test_questions_are_counted_and_the_budget_is_told():
    events = turn(Script({ASK: "有没有恶心或者呕吐？"}), "三天了", asked(COMPLAINT, QUESTION), budget=5)
    assert of(events, Speaking) == [Speaking(ASK, "asking", 2, 5)]


def test_the_advising_model_is_prepared_before_the_asking_one_speaks():
    turn(script := Script())
    assert script.log[:2] == [f"prepare {ADVISE}", f"stream {ASK}"]


@pytest.mark.parametrize("mode", ["ask", "advise"])
def test_nothing_is_prepared_for_a_mode_that_has_one_speaker(mode):
    turn(script := Script(), mode=mode)
    assert not [line for line in script.log if line.startswith("prepare")]


HANDOFFS = {
    # reason: (what the asking model would say, message, history, budget, advise_now, is it consulted)
    "not_question": (NO_QUESTION, COMPLAINT, [], 8, False, True),
    "repeat": (QUESTION, "三天了", asked(COMPLAINT, QUESTION), 8, False, True),
    "budget": ("有没有恶心？", "三天了", asked(COMPLAINT, QUESTION), 1, False, False),
    "requested": (QUESTION, "别再问了，直接告诉我怎么办", asked(COMPLAINT, QUESTION), 8, False, False),
}
HANDOFFS["requested by a button"] = (QUESTION, COMPLAINT, [], 8, True, False)


@pytest.mark.parametrize("reason", HANDOFFS)
def test_auto_mode_hands_over(reason):
    reply, message, history, budget, now, consulted = HANDOFFS[reason]
    script = Script({ASK: reply, ADVISE: ADVICE})
    events = turn(script, message, history, budget, advise_now=now)
    assert of(events, Handed) == [Handed(ASK, ADVISE, reason.split()[0])]
    assert [model for model, *_ in script.asked] == ([ASK] if consulted else []) + [ADVISE]
    # Of the asking model's reply nothing shows: no text, no speaker, no end.
    assert shown(events) == ADVICE
    assert of(events, Speaking) == [Speaking(ADVISE, "advising", None, 8 if reason != "budget" else 1)]
    assert of(events, Done) == events[-1:]
    assert events[-1].message == Message("assistant", ADVICE, "advising", ADVISE)
    handed = events.index(of(events, Handed)[0])
    assert not of(events[:handed], Delta | Speaking | Done)


def test_a_consulted_model_is_seen_to_think():
    events = turn(Script({ASK: NO_QUESTION, ADVISE: ADVICE}))
    assert of(events, Thinking) == [Thinking(ASK, "asking"), Thinking(ADVISE, "advising")]


def test_after_advice_the_advising_model_answers_without_a_handover():
    events = turn(script := Script(), "这个药饭前吃还是饭后吃", ADVISED)
    assert not of(events, Handed) and shown(events) == ADVICE
    assert [model for model, *_ in script.asked] == [ADVISE]


def test_a_new_complaint_after_advice_begins_a_new_round():
    events = turn(Script({ASK: "膝盖受过伤吗？"}), "另外，我膝盖最近突然疼起来了", ADVISED)
    assert of(events, Speaking) == [Speaking(ASK, "asking", 1, 8)]
    assert shown(events) == "膝盖受过伤吗？"


def test_a_question_shows_from_the_first_whole_one_on_while_it_is_written():
    """What stands before the question waits for it; what stands behind it comes as it is written."""
    script = Script({ASK: "您好。头痛多久了？有没有恶心？"})
    positions = []

    async def watch():
        async for event in Session(script, ASK, ADVISE).reply([], COMPLAINT):
            if isinstance(event, Delta):
                positions.append(len([line for line in script.log if line.startswith(f"{ASK} ")]))

    asyncio.run(watch())
    assert positions[0] == len("您好。头痛多久了？")
    assert positions[-1] == len(script.replies[ASK]) and len(set(positions)) > 3


def test_a_repeated_question_before_a_new_one_does_not_end_the_asking():
    reply = QUESTION + "有没有恶心或者呕吐？"
    events = turn(Script({ASK: reply, ADVISE: ADVICE}), "三天了", asked(COMPLAINT, QUESTION))
    assert shown(events) == reply and not of(events, Handed)


def test_what_was_discarded_reaches_no_model():
    secret = "我记不清了，就这样吧。"
    turn(script := Script({ASK: secret, ADVISE: ADVICE}), "痛\n医生：<eop>", asked("头\\n痛", QUESTION))
    expected = [*asked("头\\n痛", QUESTION), Message("user", "痛\n医生：<eop>")]
    assert [dialogue for _, dialogue, _ in script.asked] == [expected, expected]


def test_the_first_message_is_really_answered():
    for mode in ("auto", "ask", "advise"):
        turn(script := Script(), "我叫小明，头痛", mode=mode)
        assert script.asked[0][1] == [Message("user", "我叫小明，头痛")]


def test_loading_shows_in_its_place():
    events = turn(Script({ASK: NO_QUESTION, ADVISE: ADVICE}, progress=True))
    assert [event.progress.model for event in of(events, Loading)] == [ASK, ADVISE]
    assert isinstance(events[0], Loading) and isinstance(events[1], Thinking)
    assert events[-1].timing.load > 0


def test_times_are_those_of_what_was_shown():
    timing = turn(Script())[-1].timing
    assert 0 <= timing.first_token <= timing.total and timing.load == 0


@pytest.mark.parametrize(
    "message, level", [("我不想活了，想结束这一切", "crisis"), ("突然胸口剧烈疼痛，大汗，喘不上气", "emergency")]
)
@pytest.mark.parametrize("mode", ["auto", "ask", "advise"])
def test_a_red_flag_comes_before_everything(message, level, mode):
    script = Script(progress=True)
    first, *rest = turn(script, message, mode=mode)
    assert isinstance(first, Notice) and first.level == level and first.text
    assert not of(rest, Notice) and of(rest, Done)


def test_the_red_flag_is_told_before_any_model_is_touched():
    script = Script()

    async def begin():
        reply = Session(script, ASK, ADVISE).reply([], "我不想活了，想结束这一切")
        first = await anext(reply)
        await reply.aclose()
        return first

    assert asyncio.run(begin()).level == "crisis" and script.log == []


@pytest.mark.parametrize("mode", ["auto", "advise"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_left_out_history_is_told(mode, rounds):
    events = turn(Script(dropped={ASK: rounds, ADVISE: rounds}), mode=mode)
    (notice,) = of(events, Notice)
    assert notice.level == "history" and f" {rounds} 轮" in notice.text
    assert events.index(notice) < events.index(of(events, Delta)[0])
    assert not of(turn(Script(), mode=mode), Notice)


@pytest.mark.parametrize(
    "dropped, told", [({ASK: 3, ADVISE: 2}, [2]), ({ASK: 3}, []), ({ADVISE: 2}, [2]), ({ADVISE: 1}, [1])]
)
def test_only_what_the_shown_reply_did_not_read_is_told(dropped, told):
    events = turn(Script({ASK: NO_QUESTION, ADVISE: ADVICE}, dropped=dropped))
    assert of(events, Handed) and of(events, Notice) == [
        Notice("history", triage.history(rounds, True, "zh-CN")) for rounds in told
    ]


@pytest.mark.parametrize(
    "message, choices, named",
    [
        ("", {}, "消息"),
        (" \n\t", {}, "消息"),
        ("痛" * (MAX_CHARACTERS + 1), {}, str(MAX_CHARACTERS + 1)),
        ("痛", {"mode": "guess"}, "mode='guess'"),
        ("痛", {"temperature": -0.1}, "temperature=-0.1"),
        ("痛", {"temperature": 2.1}, "temperature=2.1"),
        ("痛", {"temperature": float("nan")}, "temperature=nan"),
        ("痛", {"temperature": "1"}, "temperature='1'"),
        ("痛", {"temperature": True}, "temperature=True"),
        ("痛", {"top_p": 0}, "top_p=0"),
        ("痛", {"top_p": 1.5}, "top_p=1.5"),
        ("痛", {"top_p": float("inf")}, "top_p=inf"),
        ("痛", {"max_new_tokens": 0}, "max_new_tokens=0"),
        ("痛", {"max_new_tokens": 2049}, "max_new_tokens=2049"),
        ("痛", {"max_new_tokens": 10.0}, "max_new_tokens=10.0"),
        ("痛", {"seed": -1}, "seed=-1"),
        ("痛", {"seed": 2**63}, f"seed={2**63}"),
        ("痛", {"seed": 1.5}, "seed=1.5"),
    ],
)
def test_what_is_out_of_range_is_named_before_anything_happens(message, choices, named):
    script = Script()
    with pytest.raises(BadInput) as failure:
        turn(script, message, **choices)
    assert named in str(failure.value) and script.log == []


def rounds(count: int, characters: int) -> list[Message]:
    """Advised rounds, of which every fourth begins anew: what is read most of."""
    words = "另外想问一下，我膝盖最近两天突然疼起来了，", "建议多休息，外用止痛药膏。"
    turns = [("user", words[0], None), ("assistant", words[1], "advising")] * count
    size = characters // len(turns)
    return [Message(role, (text * (size // len(text) + 1))[:size], phase) for role, text, phase in turns]


@pytest.mark.parametrize("history", [rounds(400, 10**6), rounds(MAX_TURNS, 10**4), rounds(1, MAX_HISTORY + 10)])
def test_a_history_that_nobody_reads_is_refused_at_once(history):
    script = Script()

    async def refused() -> float:
        begun = time.thread_time()
        with pytest.raises(TooLong, match="新的对话"):
            await anext(Session(script, ASK, ADVISE).reply(history, COMPLAINT))
        return time.thread_time() - begun

    assert asyncio.run(refused()) < 0.2 and script.log == []


def test_reading_a_dialogue_costs_what_it_is_long(monkeypatch):
    def cost(count: int) -> int:
        read, wants = 0, handoff.wants

        def counted(text, *place):
            nonlocal read
            read += len(text)
            return wants(text, *place)

        with monkeypatch.context() as patched:
            patched.setattr(handoff, "wants", counted)
            handoff.read_round(rounds(count, 100 * count))
        return read

    assert cost(160) <= 2.2 * cost(80) <= 5 * cost(40)


async def longest_turn(work) -> float:
    """The most seconds of computing, in whatever thread, between two turns of the loop while `work` goes on.

    Not seconds on the wall: how long a busy machine lets this process wait says nothing of it.
    """
    ended, longest, before = asyncio.ensure_future(work), 0.0, time.process_time()
    while not ended.done():
        await asyncio.sleep(0.002)
        now = time.process_time()
        longest, before = max(longest, now - before), now
    await ended
    return longest


def test_the_longest_dialogue_holds_up_nobody():
    history = rounds(400, MAX_HISTORY - 1000)
    words = ("我头疼，没有血流", "痛", "摔头被车撞了", "没有")
    session = Session(Script(), ASK, ADVISE)

    async def ask(word: str) -> None:
        async for _ in session.reply(history, (word * MAX_CHARACTERS)[:MAX_CHARACTERS]):
            pass

    async def everybody() -> None:
        await asyncio.gather(*map(ask, words * 2))

    assert asyncio.run(longest_turn(everybody())) < 0.1


@pytest.mark.parametrize("choice", ["ask_model", "advise_model"])
def test_an_unknown_model_is_refused_with_the_names_there_are(choice):
    with pytest.raises(UnknownModel, match=r"'bianqe-2'.*bianque-1, bianque-2"):
        turn(script := Script(), **{choice: "bianqe-2"})
    assert script.log == []


def test_wishes_change_the_models_defaults_and_nothing_else():
    turn(script := Script(), mode="advise", temperature=0, top_p=0.5, max_new_tokens=9, seed=4)
    wished = replace(by_name()[ADVISE].sampling, temperature=0, top_p=0.5, max_new_tokens=9, seed=4)
    assert script.asked[0][2] == wished
    turn(script := Script(), mode="advise")
    assert script.asked[0][2] == by_name()[ADVISE].sampling


def test_other_models_may_be_chosen():
    script = Script({"bianque-1": NO_QUESTION, "bianque-2": ADVICE})
    events = turn(script, ask_model="bianque-1", advise_model="bianque-2")
    assert of(events, Handed) == [Handed("bianque-1", "bianque-2", "not_question")]
    assert events[-1].message.model == "bianque-2"


@pytest.mark.parametrize("mode, model", [("auto", ASK), ("ask", ASK), ("advise", ADVISE)])
def test_closing_the_reply_closes_the_models_stream(mode, model):
    script = Script()

    async def leave():
        reply = Session(script, ASK, ADVISE).reply([], COMPLAINT, Choices(mode=mode))
        async for event in reply:
            if isinstance(event, Delta):
                break
        await reply.aclose()

    asyncio.run(leave())
    assert script.log[-1] == f"closed {model}"
    assert script.log.count(f"closed {model}") == 1


def test_the_asking_models_stream_is_closed_before_the_advising_one_begins():
    turn(script := Script({ASK: NO_QUESTION, ADVISE: ADVICE}))
    assert script.log.index(f"closed {ASK}") < script.log.index(f"stream {ADVISE}")


@pytest.mark.parametrize("error", [LoadFailed("x"), Busy("x"), RuntimeError("x")])
@pytest.mark.parametrize("mode", ["auto", "ask", "advise"])
def test_a_failure_comes_out_as_it_is_and_closes_the_stream(error, mode):
    script = Script(error=error)
    with pytest.raises(type(error)):
        turn(script, mode=mode)
    assert script.log[-1].startswith("closed")


def test_an_empty_reply_of_the_asking_model_is_no_question():
    events = turn(Script({ASK: "", ADVISE: ADVICE}))
    assert of(events, Handed) == [Handed(ASK, ADVISE, "not_question")] and shown(events) == ADVICE


def test_an_empty_advice_is_done_and_says_nothing():
    events = turn(Script({ADVISE: ""}), mode="advise")
    assert [type(event) for event in events] == [Thinking, Done] and events[-1].message.content == ""


def test_the_session_keeps_nothing_between_turns():
    session = Session(Script(), ASK, ADVISE)
    first, again = (tiny.gathered(session.reply([], COMPLAINT)) for _ in range(2))
    assert [e for e in first if not isinstance(e, Done)] == [e for e in again if not isinstance(e, Done)]


@pytest.mark.parametrize("text, end", [("", 0), ("您好", 0), ("您好。再", 3), ("多久？a！b\nc", 7)])
def test_where_the_last_finished_sentence_ends(text, end):
    assert last_stop(text) == end


EMERGENCY = "我爸突然嘴歪了，右手没力气，话也说不清"


def test_after_a_sure_emergency_no_model_speaks_until_it_is_settled():
    events = turn(script := Script(), EMERGENCY)
    notice = of(events, Notice)[0]
    assert (notice.level, notice.certainty, notice.tel) == ("emergency", "sure", ("120",)) and notice.do in shown(
        events
    )
    assert script.asked == [] and events[-1].message.model == "care" and events[-1].finish == "stop"
    history = [Message("user", EMERGENCY), events[-1].message]
    again = turn(script, "那先给他吃点什么药", history)
    assert script.asked == [] and "已经处理" in shown(again)
    history += [Message("user", "那先给他吃点什么药"), again[-1].message]
    settled = turn(script, "已经打了120，救护车到了", history)
    assert script.asked == [] and shown(settled).startswith("好的")
    history += [Message("user", "已经打了120，救护车到了"), settled[-1].message]
    assert turn(script, "我自己有点失眠，睡不着", history)[-1].message.model in (ASK, ADVISE)


@pytest.mark.parametrize("mode", ["auto", "ask", "advise"])
def test_a_crisis_is_answered_by_people_not_by_a_model_and_stays_kind(mode):
    events = turn(script := Script(), "我不想活了", mode=mode)
    assert script.asked == [] and "12356" in shown(events) and "怎么死" not in shown(events)
    history = [Message("user", "我不想活了"), events[-1].message]
    again = turn(script, "没人懂我", history, mode=mode)
    assert script.asked == [] and "12356" in shown(again) and shown(again) != shown(events)


def test_who_measures_models_lets_them_speak():
    script = Script()
    events = tiny.gathered(Session(script, ASK, ADVISE, stops=False).reply((), EMERGENCY, Choices("advise")))
    assert of(events, Notice) and shown(events) == ADVICE


def test_a_direct_question_is_answered_and_the_asking_goes_on():
    script = Script({ASK: "头痛以前有过吗？", ADVISE: ADVICE})
    events = turn(script, "三天了，能吃布洛芬吗", asked(COMPLAINT, QUESTION))
    assert of(events, Handed) == [Handed(ASK, ADVISE, "direct_question")]
    assert shown(events) == f"{ADVICE}\n\n还想了解：头痛以前有过吗？" == events[-1].message.content
    assert events[-1].message.phase == "asking" and [model for model, *_ in script.asked] == [ADVISE, ASK]
    assert script.asked[0][2].max_new_tokens <= 160


def test_when_enough_is_known_the_answer_stands_alone():
    events = turn(Script({ASK: QUESTION, ADVISE: ADVICE}), "三天了，能吃布洛芬吗", asked(COMPLAINT, QUESTION))
    assert shown(events) == ADVICE and events[-1].message.phase == "advising"


def test_who_does_not_want_to_go_on_gets_last_words():
    events = turn(script := Script(), "算了不问了", asked(COMPLAINT, QUESTION))
    assert script.asked == [] and "先到这里" in shown(events)


def test_what_could_harm_is_not_shown():
    events = turn(Script({ADVISE: "可以停掉降压药。多休息。"}), mode="advise")
    assert "降压药" not in shown(events) and "没有显示" in shown(events) and events[-1].message.content == shown(events)


@pytest.mark.parametrize(
    ("model", "rounds", "kept"), [("soulchat", 6, False), ("soulchat", 4, True), (ADVISE, 6, True)]
)
def test_a_model_that_reads_the_last_rounds_alone_does_not_claim_the_first(model, rounds, kept):
    history = [Message(role, "睡不好", None, None) for _ in range(rounds) for role in ("user", "assistant")]
    events = turn(Script({model: ADVICE}, dropped={model: 2}), history=history, mode="advise", advise_model=model)
    (notice,) = of(events, Notice)
    assert notice.text == triage.history(2, kept, "zh-CN")
    assert ("包括最开始的主诉" in notice.text) is not kept and ("最开始的主诉和最近的话都在" in notice.text) is kept
    assert "has become long" in triage.history(2, kept, "en") and "較早的 2 輪" in triage.history(2, kept, "zh-TW")

"""Dialogues that models write: what is asked, that nothing is asked twice, what is kept, and what it costs."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from bianque.consult import alarms, questions
from bianque.data import filters, generate
from bianque.data.filters import Checks, judged, sift
from bianque.data.formats import CorpusDialogue
from bianque.data.generate import GenerationRun
from bianque.data.journal import FAILURES, Costs, JournalReply, RequestFailed, RequestJournal, Speaker, Stopped
from bianque.data.knowledge import bundled
from bianque.errors import BadInput, BianQueError, Busy
from bianque.types import Message, Sampling, Usage

CHECKS = Checks(lambda text: found.level if (found := alarms.check(text)) else None, questions.asks)
HAN = "头腰腹胸背肩膝肘腕踝颈眼耳鼻喉舌牙皮胃肠肝胆肾肺心脑手足指趾疼痒麻酸胀热冷肿红紫干湿硬软重轻"


def unlike(number, length=40):
    """Sentences that are like no other."""
    return "".join(chr(0x4E00 + (number * 7919 + place * place * 31 + place * 611) % 9000) for place in range(length))


class Model:
    """Answers each request by a function of its text; remembers what was asked."""

    def __init__(self, answer, usage=Usage(100, 50)):
        self.answer, self.usage, self.heard = answer, usage, []

    def speaker(self, **more):
        return Speaker("big", self.ask, **more)

    async def ask(self, messages, sampling):
        self.heard.append((list(messages), sampling))
        answer = self.answer(len(self.heard), messages[-1].content)
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return JournalReply(answer, self.usage, "stop")


def item(number, output="先休息，观察两天；加重就马上去急诊。"):
    return json.dumps({"input": unlike(number), "output": output + unlike(number + 5, 6)}, ensure_ascii=False)


def four(count, text):
    """Four readable scenarios in a reply."""
    return "好的：\n" + "\n".join(item(count * 4 + n) for n in range(4))


@pytest.fixture
def run(tmp_path):
    """Carries a pipeline out over a journal; what came of it and the run."""

    def run(work, at_once=4, **costs):
        with RequestJournal(tmp_path / "x.journal.jsonl", {"kind": "test"}, Costs(**costs), at_once) as journal:
            it = GenerationRun(journal)
            return asyncio.run(work(it)), it

    return run


# --- the journal --------------------------------------------------------------------------------------------------


def ask_all(who, names):
    async def work(run):
        asked = [run.journal.ask(name, who, [Message("user", f"问 {name}")]) for name in names]
        return await asyncio.gather(*asked, return_exceptions=True)

    return work


def test_what_was_answered_is_never_asked_again(run, tmp_path):
    model = Model(lambda count, text: BianQueError("down") if text.endswith("/3") and count < 9 else f"答 {text}")
    names = [f"a/{n}" for n in range(6)]
    first, _ = run(ask_all(model.speaker(), names))
    assert [isinstance(reply, RequestFailed) for reply in first] == [n == 3 for n in range(6)]
    path = tmp_path / "x.journal.jsonl"
    with path.open("ab") as file:
        file.write('{"id": "a/7", "prompt": "写了一半'.encode())  # a kill in the middle of a line
    model.heard = model.heard + [None] * 10
    again, it = run(ask_all(model.speaker(), [*names, "a/6"]))
    assert [reply.text for reply in again] == [f"答 问 {name}" for name in [*names, "a/6"]]
    assert it.journal.asked == 2 and it.journal.costs.completion_tokens == 7 * 50  # what was spent before counts
    assert len([json.loads(line) for line in path.read_text("utf-8").splitlines()]) == 1 + 6 + 2


def test_the_same_request_is_drawn_the_same_way_and_others_differently(run):
    model = Model(lambda count, text: "x")
    run(ask_all(model.speaker(), ["a/1", "a/2"]))
    seeds = [sampling.seed for _, sampling in model.heard]
    assert len(set(seeds)) == 2 and all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda path: RequestJournal(path, {"kind": "other"}, Costs()), "differs in.*kind"),
        (lambda path: path.write_text("{}\nnonsense\n"), ":2: "),
    ],
)  # fmt: skip
def test_a_journal_of_another_run_or_of_nobody_is_refused(run, tmp_path, spoil, told):
    run(ask_all(Model(lambda count, text: "x").speaker(), ["a/1"]))
    journal = spoil(tmp_path / "x.journal.jsonl")
    with pytest.raises(BadInput, match=told):
        (
            journal
            if isinstance(journal, RequestJournal)
            else RequestJournal(tmp_path / "x.journal.jsonl", {"kind": "test"}, Costs())
        ).__enter__()


def test_another_prompt_under_a_known_id_is_refused(run):
    model = Model(lambda count, text: "x")
    run(ask_all(model.speaker(), ["a/1"]))
    (found,), _ = run(ask_all(replace(model.speaker(), sampling=Sampling(temperature=0.5)), ["a/1"]))
    assert isinstance(found, BadInput) and "another prompt" in str(found)


def test_two_runs_on_one_file_would_pay_twice(tmp_path):
    path = tmp_path / "x.jsonl"
    with RequestJournal(path, {}, Costs()), pytest.raises(Busy, match="another process"):
        RequestJournal(path, {}, Costs()).__enter__()


def test_a_budget_is_kept_also_with_requests_under_way(run):
    model = Model(lambda count, text: "x", Usage(100, 50))
    prices = {"price_in": 100.0, "price_out": 1000.0}  # a request: 0.01 + 0.05
    who = model.speaker(sampling=Sampling(max_new_tokens=60))
    found, it = run(ask_all(who, [f"a/{n}" for n in range(50)]), at_once=8, budget=1.0, **prices)
    assert 0.9 <= it.journal.costs.spent <= 1.0 and "budget" in it.journal.stopped
    asked = it.journal.asked
    assert asked == len(model.heard) and sum(isinstance(one, Stopped) for one in found) == 50 - asked
    found, it = run(ask_all(who, [f"a/{n}" for n in range(50)]), budget=1.0, **prices)
    assert it.journal.asked == 0 and len(model.heard) == asked  # what was spent before counts
    found, it = run(ask_all(who, [f"a/{n}" for n in range(50)]), budget=99.0, **prices)
    assert it.journal.stopped is None and len(model.heard) == 50


@pytest.mark.parametrize("costs", [{"budget": 1.0}, {"budget": 0.0, "price_in": 1.0}, {"price_out": -1.0}])
def test_a_budget_needs_prices(costs):
    with pytest.raises(BadInput):
        Costs(**costs)


def test_a_server_that_does_not_count_is_counted_by_characters(run):
    _, it = run(ask_all(Model(lambda count, text: "四个字呀", Usage()).speaker(), ["a/1"]), price_out=1.0)
    assert it.journal.costs.completion_tokens == 4 and it.journal.costs.prompt_tokens == len("问 a/1")


def test_a_server_that_is_down_is_not_asked_for_ever(run):
    model = Model(lambda count, text: BianQueError("HTTP 401"))
    _, it = run(ask_all(model.speaker(), [f"a/{n}" for n in range(50)]), at_once=1)
    assert len(model.heard) == FAILURES and "HTTP 401" in it.journal.stopped


# --- scenario dialogues -------------------------------------------------------------------------------------------


def test_the_projects_seeds_are_sixteen_classes_that_pass_its_own_filters():
    kinds = generate.scenarios()
    assert len(kinds) == 16 and all(len(kind.seeds) >= 3 for kind in kinds)
    cases = [
        CorpusDialogue(f"{kind.name}/{n}", "s", (Message("user", seed.input), Message("assistant", seed.output)))
        for kind in kinds for n, seed in enumerate(kind.seeds)
    ]  # fmt: skip
    found = sift(cases, CHECKS)
    assert [(why, case.id) for why, case in found.aside] == [] and not found.dropped and not found.personal


def test_scenarios_are_balanced_over_the_classes_and_shown_examples(run):
    model = Model(four)
    kinds = generate.scenarios()
    found, it = run(lambda run: generate.dialogues(run, model.speaker(), kinds, 100, CHECKS))
    kept = Counter(case.notes["class"] for case in found.kept)
    assert sum(kept.values()) == 100 and set(kept.values()) == {6, 7} and len(kept) == 16
    prompt = model.heard[0][0][0].content
    assert (
        kinds[0].name in prompt and kinds[0].meaning in prompt and prompt.count('{"input": ') == generate.EXAMPLES + 1
    )
    assert len(model.heard) == 32 and it.counts["unreadable"] == 0


def test_what_is_filtered_out_is_asked_for_again_and_a_resumed_run_ends_alike(run, tmp_path):
    def answer(count, text):
        return ["nothing readable", four(1, text), four(count, text), four(count, text)[:-30]][count % 4]

    model = Model(answer)
    kinds = generate.scenarios()[:4]
    work = lambda run: generate.dialogues(run, model.speaker(), kinds, 40, CHECKS)
    found, it = run(work, at_once=1)
    assert Counter(case.notes["class"] for case in found.kept) == {kind.name: 10 for kind in kinds}
    assert found.dropped["duplicate"] > 0 and it.counts["unreadable"] > 0
    before = len(model.heard)
    again, _ = run(work)
    assert len(model.heard) == before and [case.id for case in again.kept] == [case.id for case in found.kept]


def test_a_model_that_only_repeats_itself_is_not_asked_for_ever(run):
    model = Model(lambda count, text: four(1, text))
    found, _ = run(lambda run: generate.dialogues(run, model.speaker(), generate.scenarios()[:2], 20, CHECKS))
    assert len(found.kept) == 4 and len(model.heard) <= 2 * 3 * (generate.ROUNDS + 1)


def test_duplicates_of_seeds_are_dropped():
    seed = generate.scenarios()[0].seeds[0]
    case = CorpusDialogue(
        "1", "s", (Message("user", seed.input.replace("平时", "平常")), Message("assistant", seed.output))
    )
    assert sift([case], CHECKS, [seed.input]).dropped == {"duplicate": 1}


@pytest.mark.parametrize(
    "text, told",
    [("- name: a\n  meaning: b\n", "0.seeds"), ("- name: a\n  meaning: b\n  seeds: [{input: x}]\n", "output"), ("a: [", "cannot"), ("[]", "no class")],
)  # fmt: skip
def test_seeds_that_cannot_be_used_are_told(tmp_path, text, told):
    path = tmp_path / "seeds.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=told):
        generate.scenarios(path)


@pytest.mark.parametrize(
    "text, count",
    [
        ('{"input": "a", "output": "b"}\n{"input": "c"}\n', 2), ('1. {"a": 1}，\n2. {"b": "{"}', 2), ('[{"a": 1}, {"b": 2}]', 2),
        ('```json\n{"a": "换\n行"}\n```', 1), ('{"a": 1}\n{"b": "cut of', 1), ("", 0), ("{{{{", 0),
    ],
)  # fmt: skip
def test_json_is_found_whatever_stands_around_it(text, count):
    assert len(generate.objects(text)) == count


# --- knowledge ----------------------------------------------------------------------------------------------------


def test_answers_are_given_with_the_passage_and_know_where_from(run):
    def answer(count, text):
        if "提出" in text:
            return "\n".join(
                json.dumps({"question": f"{unlike(count * 9 + n, 20)}怎么办？"}, ensure_ascii=False) for n in range(6)
            )
        return "先静养，避免劳累；持续不好就去看医生。"

    model, listed = Model(answer), generate.passages()
    found, _ = run(lambda run: generate.knowledge(run, model.speaker(), listed, 3, CHECKS))
    assert len(found.kept) == 3 * generate.A_REQUEST and len(model.heard) == 3 * (1 + generate.A_REQUEST)
    assert {case.notes["passage"] for case in found.kept} == {passage.id for passage in listed[:3]}
    for messages, _ in model.heard:
        assert any(passage.text in messages[0].content for passage in listed[:3])


def test_passages_come_from_a_text_from_records_and_from_the_knowledge_base(tmp_path):
    text, lines = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_bytes(("短。\r\n\r\n" + "长" * 500 + "\r\n\r\n" + "又" * 400).encode("utf-8-sig"))
    assert [len(passage.text) for passage in generate.passages(text)] == [503, 400]
    lines.write_text('{"id": 7, "text": "2型糖尿病与 SGLT2i"}\n', encoding="utf-8")
    assert generate.passages(lines) == [generate.Passage("7", "2型糖尿病与 SGLT2i")]
    assert len(generate.passages()) == len(bundled().complaints)
    for content in ('{"id": 7}\n', '{"text": "a", "id": 1}\n{"text": "b", "id": 1}\n'):
        lines.write_text(content, encoding="utf-8")
        with pytest.raises(BadInput, match=r"p\.jsonl"):
            generate.passages(lines)


@pytest.mark.parametrize(
    "answer, verdict",
    [("每年复查一次。", None), ("一般 3 到 6 个月复查，共 12 次。", ("aside", "figure")), ("1. 多喝水。\n2. 多休息，少熬夜。", None),
     ("资料中没有提到。", ("drop", "not_in_passage"))],
)  # fmt: skip
def test_an_answer_says_nothing_that_is_not_in_its_passage(answer, verdict):
    case = CorpusDialogue(
        "1",
        "s",
        (Message("user", "多久复查一次？"), Message("assistant", answer + "谢谢您的咨询。")),
        notes={"passage": "p"},
    )
    assert judged(case, CHECKS, {"p": "每 3 到 6 个月复查。"}) == verdict


# --- consultations ------------------------------------------------------------------------------------------------


def consulting(count, text):
    """A doctor who asks twice and advises then; a patient who answers, and ends."""
    if "扮演一位正在网上问诊的病人" in text:
        return "三天了。"
    return {0: "医生：多久了？", 1: "有没有发烧？", 2: "先休息，多喝水，加重就去医院。"}.get(count, "[结束]")


def test_two_models_hold_a_whole_consultation(run):
    doctor = Model(lambda count, text: ["头疼多久了？", "有没有发烧？", "先休息，多喝水，加重就去内科。"][count - 1])
    patient = Model(lambda count, text: ["三天了", "没有发烧", "谢谢医生[结束]"][count - 1])
    found, _ = run(lambda run: generate.consultations(run, doctor.speaker(), patient.speaker(), 1, CHECKS))
    (case,) = found.kept
    who = generate.persona(0, 0)
    assert [m.content for m in case.messages] == [
        who.opening, "头疼多久了？", "三天了", "有没有发烧？", "没有发烧", "先休息，多喝水，加重就去内科。",
    ]  # fmt: skip
    assert case.recorded == "big" and case.notes["complaint"] == who.complaint
    brief = patient.heard[-1][0]
    assert [m.role for m in brief] == ["user", "assistant", "user", "assistant", "user"]
    assert all(fact in brief[0].content for fact in who.facts) and brief[-1].content.startswith("先休息")
    assert [m.role for m in doctor.heard[-1][0]] == ["user", "assistant", "user", "assistant", "user"]
    assert "全科医生" in doctor.heard[0][0][0].content


def test_a_consultation_model_is_told_no_role(run):
    doctor = Model(lambda count, text: f"{unlike(count, 8)}多久了？")
    patient = Model(lambda count, text: f"{unlike(count + 99, 8)}")
    run(
        lambda run: generate.consultations(
            run, doctor.speaker(prompted=False, priced=False), patient.speaker(), 1, CHECKS
        ),
        price_in=1.0,
    )
    assert doctor.heard[0][0] == [Message("user", generate.persona(0, 0).opening)]
    assert len(doctor.heard) == generate.TURNS


def test_patients_have_every_complaint_once_before_one_comes_again():
    listed = [generate.persona(number, 3) for number in range(len(bundled().complaints))]
    assert len({who.complaint for who in listed}) == len(listed) and listed == [
        generate.persona(number, 3) for number in range(len(listed))
    ]
    assert generate.persona(0, 3) != generate.persona(0, 4)


# --- filters ------------------------------------------------------------------------------------------------------

GOOD = ("最近半个月总是睡不好，半夜老醒。", "先固定起床的时间，白天多活动，睡前不看手机。")


def case_of(*texts, **notes):
    roles = ("user", "assistant")
    return CorpusDialogue("1", "s", tuple(Message(roles[n % 2], text) for n, text in enumerate(texts)), notes=notes)


@pytest.mark.parametrize(
    "texts, verdict",
    [
        (GOOD, None),
        ((GOOD[0],), ("drop", "unanswered")),
        ((GOOD[0], "好。"), ("drop", "length")),
        (("睡不好", GOOD[1]), ("drop", "length")),
        ((GOOD[0], GOOD[1] * 100), ("drop", "length")),
        (("I cannot sleep at night", "Get up at the same time every day."), ("drop", "language")),
        ((GOOD[0], "作为一个AI，我无法提供医疗建议，请咨询医生。"), ("drop", "machine")),
        ((GOOD[0], "这个方子是祖传的，保证治好，放心。"), ("drop", "promise")),
        (("我叫[姓名]，头疼[数值]天了", GOOD[1]), ("drop", "placeholder")),
        ((GOOD[0], GOOD[0]), ("drop", "repeats")),
        ((GOOD[0], "可以口服褪黑素，每次3片，睡前吃就行。"), ("aside", "dosage")),
        ((GOOD[0], "阿莫西林 500mg，一日三次，饭后服用。"), ("aside", "dosage")),
        ((GOOD[0], "空腹血糖 7.8mmol/L、血红蛋白 110 g/L，先复查一次。"), None),
        ((GOOD[0], "体重每周减1公斤以内，每天喝够2000毫升水。"), None),
        (("我不想活了，活着没意思。", "您的难处我明白，请拨打 12356。"), ("aside", "crisis")),
        (("我胸口压榨样疼痛，大汗，左胳膊也疼。", "先休息，多喝水，观察两天。"), ("aside", "emergency")),
        (("我胸口压榨样疼痛，大汗，左胳膊也疼。", "请马上拨打 120，去急诊，不要自己走。"), None),
        (("我胸口压榨样疼痛，大汗，左胳膊也疼。", "请马上拨打 120。不要走动。", "好的", "路上保持清醒，等救护车来。"), None),
        ((*GOOD, "好的", "还有别的问题吗，睡了几个小时？"), ("drop", "no_question")),
        ((GOOD[0], "每晚睡几个小时？", "五个", "最近心情怎么样，有没有烦心事？"), ("drop", "no_advice")),
        ((GOOD[0], "每晚睡几个小时？", "五个", GOOD[1]), None),
    ],
)  # fmt: skip
def test_what_is_dropped_and_what_somebody_has_to_look_at(texts, verdict):
    assert judged(case_of(*texts), CHECKS, None) == verdict


def test_personal_data_is_masked_in_what_is_kept():
    found = sift([case_of("我电话13812345678，睡不好", GOOD[1])], CHECKS)
    assert found.kept[0].messages[0].content == "我电话[电话]，睡不好" and found.personal == {"phone": 1}


def test_every_rule_is_named_in_its_file():
    assert {rule["do"] for group in ("doctor", "any") for rule in filters.rules()[group].values()} == {"drop", "aside"}
    assert re.search(filters.rules()["emergency_answered"], "请打120")

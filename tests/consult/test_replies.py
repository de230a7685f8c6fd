"""What a model may not tell a patient is held back, with a word why; all else passes as it was written."""

from __future__ import annotations

import pytest

from bianque.consult import alarms, replies, triage
from bianque.consult.patterns import asset
from bianque.data.knowledge import bundled
from bianque.types import Message

KINDS = (*replies.ALWAYS, "played_down")


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind in KINDS for case in asset("replies")[kind]["cases"]])
def test_what_could_harm_is_held_back(kind, case):
    assert replies.flaw(case, endangered=True) == kind
    sieve = replies.Sieve("zh-CN", endangered=True)
    shown = sieve.feed(f"您好。{case}\n", ended=False) + sieve.feed("多休息。", ended=True)
    assert shown == "您好。" + asset("replies")[kind]["why"]["zh-CN"] + "\n多休息。"


@pytest.mark.parametrize("case", [case for kind in KINDS for case in asset("replies")[kind]["not"]])
def test_what_only_sounds_alike_passes(case):
    assert replies.flaw(case, endangered=True) is None


def test_danger_is_played_down_only_where_there_is_some():
    text = "不用太担心，在家休息几天就好。"
    assert replies.flaw(text) is None and replies.flaw(text, endangered=True) == "played_down"
    calm, alarmed = [Message("user", "感冒了，流鼻涕")], [Message("user", "我不想活了"), Message("assistant", "…")]
    assert not replies.endangered(calm) and replies.endangered([*alarmed, Message("user", "睡不着")])


def test_nothing_that_the_knowledge_base_says_is_held_back():
    known, says = bundled(), []
    says += (say for each in known.asked.values() for one in each for say in one.say)
    says += (say for one in (*known.medicines, *known.pairs) for say in one.say)
    for entry in known.entries.values():
        says += (say for rule in (*entry.urgent, *entry.assess, *entry.advice, *entry.doctor) for say in rule.say)
    assert len(says) > 20_000
    assert [say for say in says if replies.flaw(say)] == []


@pytest.mark.parametrize(
    "text", ["", "好", "建议多休息，多喝水。\n1. 清淡饮食\n2. 早睡", "See a doctor. Rest well!", "没有句号的话"]
)
def test_all_else_passes_unchanged_in_whatever_pieces(text):
    for size in (1, 3, 100):
        sieve = replies.Sieve("zh-CN", endangered=False)
        parts = [text[i : i + size] for i in range(0, len(text), size)]
        assert "".join(map(sieve.feed, parts)) + sieve.feed("", ended=True) == text


def test_a_reason_is_given_once():
    sieve = replies.Sieve("en", endangered=True)
    shown = sieve.feed("问题不大。不用太担心。", ended=True)
    assert shown == asset("replies")["played_down"]["why"]["en"]


def test_words_that_cannot_become_harmful_pass_at_once():
    sieve = replies.Sieve("zh-CN", endangered=False)
    assert sieve.feed("根据您的描述，") == "根据您的描述，"
    assert sieve.feed("建议") == ""  # a drug and how to take it may follow
    assert sieve.feed("多喝") == ""
    assert sieve.feed("水，注意") == "建议多喝水，注意"


@pytest.mark.parametrize("case", [case for kind in KINDS for case in asset("replies")[kind]["cases"]])
def test_nothing_harmful_slips_out_a_character_at_a_time(case):
    sieve = replies.Sieve("zh-CN", endangered=True)
    shown = "".join(map(sieve.feed, case)) + sieve.feed("", ended=True)
    kind = replies.flaw(case, endangered=True)
    assert kind and asset("replies")[kind]["why"]["zh-CN"] in shown and replies.flaw(shown.partition("（")[0]) is None


MEANT = "我不想活了，药都数好了"


@pytest.mark.parametrize(
    "denial", ["你搞错了吧，我没有伤害自己，就是肩膀疼抬不起胳膊", "我真的没有不想活，是不是肩周炎？"]
)
def test_a_crisis_that_is_denied_lets_the_consultation_go_on(denial):
    said = [Message("user", MEANT), Message("assistant", "我在听"), Message("user", denial)]
    assert replies.care(said) is None
    assert "听错了" in (replies.care([*said[:2], Message("user", "误会了，没想死")]) or "")


@pytest.mark.parametrize("still", ["好", "我没事", "没想死是假的，我真的不想活了", "肩膀也疼"])
def test_a_crisis_that_is_not_denied_stays(still):
    assert replies.care([Message("user", MEANT), Message("assistant", "我在听"), Message("user", still)])


CHEST = "胸口压着疼，冒冷汗，左胳膊也麻"


@pytest.mark.parametrize(
    ("answer", "reminded"),
    [
        ("已经打过120了", True),
        ("不是急症，就是累的", True),
        ("已经到医院了", False),
        ("搞错了，不是这个意思", False),
        ("好", False),
    ],
)
def test_an_emergency_that_was_taken_care_of_is_not_forgotten(answer, reminded):
    said = [Message("user", CHEST), Message("assistant", "请马上拨打 120"), Message("user", answer)]
    said += [Message("assistant", "好的"), Message("user", "另外最近总是睡不着，怎么办")]
    words = replies.reminder(said)
    assert bool(words) is reminded
    if words:
        assert replies.reminder([*said, Message("assistant", f"早点睡。\n\n{words}"), Message("user", "好的")]) is None


def test_who_says_that_help_comes_is_told_what_to_do_until_then_and_who_is_through_is_not():
    said = [Message("user", CHEST), Message("assistant", "请马上拨打 120")]
    assert "路上有人陪着" in replies.care([*said, Message("user", "已经处理，在去医院的车上了")])
    assert "打开家门" in replies.care([*said, Message("user", "好 打了120了")])
    assert replies.care([*said, Message("user", "已经处理了")]) == triage.resumed("zh-CN")
    assert "120" in (replies.care([*said, Message("user", "已经处理，车上能给他喝水吗")]) or "")
    assert replies.care([*said, Message("user", "不是急症")]) == triage.resumed("zh-CN", "resumed_doubted")


@pytest.mark.parametrize(
    ("said", "waits", "reminded"),
    [
        ("已经处理了，能喝牛奶吗", False, True),
        ("已经处理了，拍片看过了医生让观察，能喝牛奶吗", False, False),
        ("已经打了120，能喝水吗", True, True),
        ("已经处理了，救护车还没到，能喝水吗", True, True),
    ],
)
def test_what_is_asked_when_all_is_taken_care_of_is_no_question_of_who_waits(said, waits, reminded):
    found = alarms.after(["孩子把两颗磁力珠吞下去了", said])
    assert found.open is None and (bool(found.waiting), found.handled) == (waits, reminded)
    words = replies.care([Message("user", "孩子把两颗磁力珠吞下去了"), Message("user", said)])
    assert ("先不要喂水" in (words or "")) is waits


def test_who_doubted_an_emergency_and_calls_after_all_waits_for_help():
    said = [Message("user", text) for text in (CHEST, "不是急症", "好吧打了120了")]
    assert "打开家门" in replies.care(said)
    asked = [*said[:2], Message("user", "行吧打了120了，能喂点水吗")]
    assert "先不要喂水" in replies.care(asked) and not alarms.after([one.content for one in asked]).doubted
    assert "120" in replies.care([*said, Message("user", "他能走下楼吗")])


def test_what_alarms_together_is_said_to_do_so_once():
    words = asset("notices")["together"]["zh-CN"]
    told = [Message("user", text) for text in ("刚做完化疗第九天", "有点怕冷", "38.4")]
    first = replies.care(told)
    assert first and first.startswith(words)
    again = replies.care([*told, Message("assistant", first), Message("user", "嗯")])
    assert again and words not in again


WEEKS = "您好，我怀孕33周了，从昨天晚上开始头就一直疼，胀着疼"
FLASHES = "能忍，就是今天看东西有点闪光，一花一花的，上腹部也顶着疼，脚肿得鞋都穿不进"


def test_what_was_told_before_says_which_first_aid_is_right():
    words = replies.care([Message("user", WEEKS), Message("assistant", "能忍吗？"), Message("user", FLASHES)])
    assert words and "左侧躺下" in words


def test_what_is_asked_while_the_ambulance_comes_gets_no_comfort():
    asked = "我老公已经打120了，说车在路上，孩子会不会有危险？"
    said = [Message("user", text) for text in (WEEKS, FLASHES, asked)]
    words = replies.care(said)
    assert words and "不敢安慰您没事" in words and "左侧躺下" not in words  # that was said with the alarm


def cared_for(*said):
    """The fixed words in place of a reply, after each of a visitor's messages."""
    turns, found = [], []
    for text in said:
        turns.append(Message("user", text))
        found.append(replies.care(turns))
        turns.append(Message("assistant", found[-1] or "多休息。", "advising", "care" if found[-1] else "advise-mini"))
    return found


STROKE = "我爸突然嘴歪了，右手抬不起来，说话含糊"


def test_in_hospital_the_doctors_there_are_asked():
    there, later, left = cared_for(
        STROKE, "已经处理，到急诊了，护士让验血，是查什么呀", "那到底是不是中风，要不要紧", "出院回家了，平时能喝茶吗"
    )[1:]
    assert "身边的医生护士" in there and "身边的医生护士" in later and left is None


def test_what_settles_is_heard_between_spaces():
    assert triage.settled("已经处理 医院说毛细支气管炎 住院吸氧了 要用抗生素吗")


def test_dry_lips_are_not_blue_and_who_is_dehydrated_may_sip():
    told = cared_for("宝宝拉水样便两天，6个多小时没尿了，蔫蔫的老想睡", "嘴唇也干，能喂点水吗", "嘴唇没发紫啊")
    assert not any("嘴唇是什么颜色" in (words or "") or "不要喂水" in (words or "") for words in told[1:])
    assert "嘴唇是什么颜色" in cared_for(STROKE, "嘴唇发紫了怎么办")[1]


def test_a_crisis_stays_ones_own_where_nobody_else_is_told_of():
    told = cared_for(
        "有时候想，要是睡过去不醒也挺好的，活着没意思",
        "室友在隔壁。打12356说了他们会不会告诉学校啊",
        "不是别人，是我！",
    )
    assert told[0] and not any("TA" in (words or "") for words in told)

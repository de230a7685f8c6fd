"""What patients say is taken for what it means: which answer, for how long, which question."""

from __future__ import annotations

import numpy as np
import pytest

from bianque.consult import answers, follows, quick
from bianque.consult.choice import Choice
from bianque.consult.guards import guard
from bianque.consult.heard import Heard
from bianque.consult.hearing import hearing
from bianque.consult.known_questions import LATELY, NearestFollow, Offer, for_whom
from bianque.consult.patterns import pattern
from bianque.consult.spans import spans
from bianque.consult.told import Utterance, questions
from bianque.data.knowledge import Follow, bundled
from bianque.types import Message
from bianque.ui import render


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("三天了", [3]), ("两三个星期", [17.5]), ("半个月", [15]), ("一个半月", [45]), ("十来天", [10]), ("二三十年", [9125]),
        ("好几个月了", [120]), ("昨晚开始的", [1]), ("断断续续一个多月", [30]), ("3.5天", [3.5]), ("半年多", [182.5]),
        ("大前天", [3]), ("日本产的药", []), ("没有", []),
    ],
)  # fmt: skip
def test_spans_of_time(text, days):
    assert spans(text) == days


@pytest.mark.parametrize(
    ("text", "there", "denied"),
    [
        ("有点肿，不红", "有点肿，", ["红"]), ("不肿也不红", "", ["肿", "红"]), ("没有长痘，没出水", "，", ["长痘", "出水"]),
        ("没怎么疼过", "", ["疼"]), ("喘不上气", "喘不上气", []), ("差不多一个月", "一个月", []),
    ],
)  # fmt: skip
def test_what_a_text_says_is_there_and_what_is_not(text, there, denied):
    assert answers.halves(text) == (there, tuple(map(frozenset, denied)))


def heard(complaint: str, slot: str, said: str) -> str | None:
    entry = bundled().complaints[complaint]
    found = Heard(entry=entry, asked={slot}, begun=True)
    hearing().answered(found, entry, said, [slot], entry.slot[slot].ask[0])
    return found.told[slot]


@pytest.mark.parametrize(
    ("complaint", "slot", "said", "value"),
    [
        ("insomnia", "duration", "得有半年多了吧", "months"),
        ("insomnia", "duration", "就这三天", "days"),
        ("cough", "fever", "不烧", "none"),
        ("abdominal_pain", "fever", "倒是不发烧", "none"),
        ("abdominal_pain", "bowel", "就是有点拉稀，没血", "loose"),
        ("abdominal_pain", "site", "右下边，一按就疼", "right"),
    ],
)
def test_an_answer_in_words_of_its_own(complaint, slot, said, value):
    assert heard(complaint, slot, said) == value


@pytest.mark.parametrize(
    ("complaint", "slot", "said", "not_value"),
    [
        ("knee_pain", "swell", "不烫，就是有点肿", "hot"),
        ("abdominal_pain", "bowel", "没便血", "blood"),
        ("cough", "fever", "您说什么", "high"),
    ],
)
def test_a_word_is_no_answer(complaint, slot, said, not_value):
    assert not_value in bundled().complaints[complaint].slot[slot].values
    assert heard(complaint, slot, said) != not_value


def test_features_are_one_row_an_answer():
    asked = questions(bundled().complaints["insomnia"])
    for text in ("失眠两个多星期了", "。", "睡不着" * 500):
        for question in asked.values():
            plain, full = (
                answers.features(Utterance.of(text), question, turn) for turn in (None, answers.learned()[1])
            )
            assert plain.shape == (len(question.answers), answers.PLAIN)
            assert full.shape == (len(question.answers), answers.WIDTH)
            assert (full[:, : answers.PLAIN] == plain).all()


def test_a_choice_is_made_where_it_is_sure():
    arrays = {"hidden": np.eye(2), "offset": np.zeros(2), "output": np.array([9.0, 0.0]), "nothing": 0.0, "sure": 0.8}
    choice = Choice(arrays)
    assert choice(np.array([[0.0, 1.0], [1.0, 0.0]]))[0] == 1
    assert choice(np.array([[1.0, 0.0], [1.0, 0.0]]))[0] is None and choice(np.array([[0.0, 0.0]]))[0] is None
    assert choice.likely(np.array([[1.0, 1.0]])).sum() == pytest.approx(1)


@pytest.mark.parametrize("ask", ["安眠药能不能长期吃", "褪黑素有用没"])
def test_a_known_question_is_found_in_other_words(ask):
    (found,) = guard().questions.answers(ask, Heard(entry=bundled().complaints["insomnia"]))
    assert found in bundled().complaints["insomnia"].follow


def test_two_questions_in_a_message_have_two_answers():
    insomnia = bundled().complaints["insomnia"]
    found = guard().questions.answers("安眠药能不能长期吃？褪黑素有没有用？", Heard(entry=insomnia))
    assert len(found) == 2 and {*found} <= {*insomnia.follow}
    said = guard().follow_up("", found, Heard(entry=insomnia)).split("\n\n")
    assert len(said) == 2 and all(any(text == say for say in one.say) for text, one in zip(said, found, strict=True))


@pytest.mark.parametrize("ask", ["我一次吃十粒行不行", "漏吃了一次，今晚补双份行吗", "能献血吗"])
def test_what_anybody_may_ask_is_answered(ask):
    (found,) = guard().questions.answers(ask, Heard(entry=bundled().complaints["gout"]))
    assert found in {*guard().common.asked, *guard().common.asked_of_medicines}


@pytest.mark.parametrize(
    ("ask", "name"),
    [("能吃板蓝根吗", "板蓝根"), ("那褪黑素管用不", "褪黑素"), ("家里有蒙脱石散，能不能先喝", "蒙脱石散")],
)
def test_a_medicine_is_answered_by_its_name(ask, name):
    (found,) = guard().questions.answers(ask, Heard(entry=hearing().generic))
    assert found.say == guard().questions.medicines[name].say


def test_of_a_medicine_its_dose_is_not_told_and_one_nobody_knows_is_left_to_the_doctor():
    whether, dose = guard().common.asked_of_medicines[:2]
    assert guard().questions.answers("布洛芬一次吃几片", Heard(entry=hearing().generic)) == (dose,)
    assert guard().questions.answers("能吃某某宁片吗", Heard(entry=hearing().generic)) == (whether,)


def test_an_answer_that_may_be_to_another_question_names_that_question():
    gout = Heard(entry=bundled().complaints["gout"])
    straight, near = (guard().questions.answers(ask, gout)[0] for ask in ("能吃豆腐吗", "疼到啥时候"))
    assert not isinstance(straight, NearestFollow) and "豆腐" in guard().follow_up("", [straight], gout)
    assert isinstance(near, NearestFollow) and near.about in near.ask
    said = guard().follow_up(near.say[0], [near], gout)
    assert near.about in said and any(say in said for say in near.say) and len(said) > len(near.say[0])
    assert not any(mark in said for mark in "{}")


@pytest.mark.parametrize(("complaint", "said"), [("insomnia", "枕头换过了"), ("hemorrhoids", "好的谢谢")])
def test_what_asks_nothing_gets_no_answer_that_may_be_to_another_question(complaint, said):
    assert guard().questions.answers(said, Heard(bundled().complaints[complaint], begun=True, advised=True)) == ()


@pytest.mark.parametrize(
    ("complaint", "said", "known"),
    [
        ("hypertension", "吃了氨氯地平十天 两个脚脖子肿了 咋办", "吃降压药脚脖子肿是药的事吗"),
        ("prostate_enlarged", "坦索罗辛 吃了站起来头晕眼黑 咋办", "吃坦索罗辛头晕正常吗"),
        ("insomnia", "半夜醒了，怎么办", "半夜醒了怎么办"),
        ("insomnia", "那怎么办", "该怎么办"),
        ("eczema", "会不会传染室友", "湿疹会传染给家人吗"),
        ("memory", "那艾司唑仑能不能停", "医生开的药可以停吗"),
    ],
)
def test_what_is_told_before_a_question_in_general_is_what_is_asked(complaint, said, known):
    (found,) = guard().questions.answers(said, Heard(bundled().complaints[complaint], begun=True, advised=True))
    assert found.ask[0] == known


def test_what_is_surely_none_of_the_known_questions_is_asked_back():
    """Two of them are offered, in words that the visitor can take by one tap or by 前一个; not twice."""
    heard = Heard(bundled().complaints["breastfeeding"], told={}, begun=True, advised=True)
    known = {ask for one in (*heard.entry.follow, *bundled().asked["common"]) for ask in one.ask}
    ask = "这奶还能给娃吃不"
    likely = guard().questions.follows.likeliest(ask, heard.entry.follow, ask, bundled().asked["common"])
    assert [one for _, one in likely] == sorted((one for _, one in likely), reverse=True) and likely[0][1] < 1
    offered = guard().questions.either(ask, ask, heard.entry, "")
    assert isinstance(offered, Offer) and guard().questions.either(ask, ask, heard.entry, offered.say[0]) is None
    words = quick.offered(offered.say[0])
    assert 1 < len(words) < 3 and {*words} <= known and words[0] in offered.say[1]
    spoken = offered.say[0]
    for which, wording in (("前一个", words[0]), ("第二个吧", words[1])):
        (found, *_) = guard().questions.answers(which, heard, "", spoken)
        assert wording in found.ask
    sent = [option["value"] for option in render.quick_replies({"phase": "advising", "content": spoken}, "zh-CN")]
    assert sent == words
    for turn in ({"phase": "advising", "content": "多喝水。"}, {}):
        assert render.quick_replies(turn, "zh-CN") == []
    vague = Offer(ask=("？",), say=tuple(say.format(words[0]) for say in bundled().common.only))
    assert [words[0] in quick.taken(yes, vague.say[0]) for yes in ("是", "对的", "嗯")] == [True] * 3
    assert quick.taken("不是", vague.say[0]) is None and quick.taken("前一个", "") is None
    (once,) = guard().questions.answers("前一个", heard, "", spoken)
    later = guard().questions.answers("前一个", heard, "", spoken + "。" * LATELY)
    assert words[0] in once.ask and once not in later  # something else was said since


def test_what_is_asked_back_cares_for_nobody():
    """A danger sign that was told is still answered behind it."""
    entry = bundled().complaints["breastfeeding"]
    fever = Heard(entry, told={"fever": "high"}, begun=True, advised=True)
    offer = Offer(ask=("？",), say=("您想问的是“甲”，还是“乙”？更不舒服了就先去医院。",))
    assert any(say.rstrip("。") in guard().follow_up("", [offer], fever) for say in guard().pressing(fever)[0].say)


def test_of_an_answers_wordings_that_is_said_which_speaks_of_what_was_asked():
    gout = Heard(bundled().complaints["gout"], told={}, begun=True, advised=True)
    one = Follow(ask=("？",), say=("先别慌，按步骤查就行。", "豆腐可以吃，别过量。"))
    for reply in ("", "一", "二", "三"):
        assert guard().follow_up(reply, [one], gout, "", "能吃豆腐吗") == one.say[1]
    assert guard().follow_up("", [one], gout, one.say[1], "能吃豆腐吗") == one.say[0]  # that was said


def test_what_is_asked_of_ones_report_is_asked_with_it():
    """PSA 9.2，是癌吗 asks nothing without the news before it."""
    bare = pattern("guards", "bare").fullmatch
    assert all(map(bare, ("严重吗", "是癌吗", "啥意思", "要紧不", "挂什么科", "会不会是癌", "是不是很严重")))
    assert not any(map(bare, ("能吃豆腐吗", "什么意思的药", "奥美拉唑要紧吗")))
    heard = Heard(bundled().complaints["palpitations"], told={}, begun=True, advised=True)
    (found,) = guard().questions.answers("查了TSH 0.01 严重吗", heard)
    assert all("甲亢" in say for say in found.say)


@pytest.mark.parametrize(
    ("said", "word"),
    [("医生要开阿莫西林 他以前吃了起过疹 咋办", "过敏"), ("哺乳期能吃甲硝唑吗", "喂奶")],
)
def test_a_risk_is_known_by_other_words(said, word):
    found = guard().questions.answers(said, Heard(bundled().complaints["ear_pain"], told={}, begun=True, advised=True))
    assert all(word in say for say in found[0].say)


def test_how_much_of_a_medicine_is_never_told():
    dose = pattern("guards", "dose").search
    assert all(map(dose, ("布洛芬混悬液 16公斤喝多少", "给娃喂几毫升", "一次吃几片")))
    assert not any(map(dose, ("要吃几天", "喝多少天", "一天吃几次饭")))


def test_what_is_asked_of_a_child_alone_is_no_answer_to_a_grown_up():
    heard = Heard(bundled().complaints["sore_throat"], begun=True, advised=True)
    of = lambda told: guard().questions.answers("能不能喝蜂蜜水", heard, told)[0].say[0]
    assert of("我妈62，嗓子疼") == guard().questions.medicines["蜂蜜"].say[0] != of("孩子三岁，嗓子疼")
    follow = bundled().complaints["sore_throat"].follow
    assert len(for_whom(heard.entry, "我妈62").follow) < len(for_whom(heard.entry, "孩子三岁").follow) <= len(follow)


def test_an_answer_speaks_of_what_was_told():
    gout = Heard(bundled().complaints["gout"], begun=True, advised=True)
    (found,) = guard().questions.answers("两年前胃溃疡出过血，止疼药能吃吗", gout)
    assert found.say and all("溃疡" in say for say in found.say)


def test_a_question_about_another_complaint_is_answered_by_that_one():
    known = lambda complaint, ask: guard().questions.answers(ask, Heard(entry=bundled().complaints[complaint]))[0]
    told = known("stool_change", "昨天吃了红心火龙果，今天马桶红红的，是血吗")
    assert told in bundled().complaints["hematuria"].follow
    assert known("gout", "能吃豆腐吗") in bundled().complaints["gout"].follow  # its own comes first


@pytest.mark.parametrize("ask", ["非得今天去吗", "能不能等到下周再去，行不行", "那不去医院行不行"])
def test_whether_it_can_wait_is_answered_by_what_was_told(ask):
    entry = bundled().complaints["heavy_period"]
    bleeding = Heard(entry, told={"amount": "flood"}, asked={"amount"}, begun=True, advised=True)
    said = guard().follow_up("", guard().questions.answers(ask, bleeding), bleeding)
    assert any(say.rstrip("。") in said for say in guard().pressing(bleeding)[0].say)


def test_what_is_not_known_is_said():
    (found,) = guard().questions.answers(
        "隔壁老王说月亮圆的时候会不会更厉害", Heard(entry=bundled().complaints["gout"])
    )
    assert found.say == guard().common.unanswered
    assert not guard().questions.answers("我今年五十岁", Heard(entry=bundled().complaints["gout"]))
    assert not guard().questions.answers("怎么办", Heard())


def test_a_clause_that_asks_is_a_question_without_its_mark_too():
    entry = bundled().complaints["restless_legs"]
    assert guard().questions.answers(
        "吃了一年，现在下午四点就开始难受了，比以前还早，邻居说换个枕头，要换吗", Heard(entry=entry)
    )
    assert follows.asked("我吃着药，能开车吗，能喝酒吗") == [
        ("能开车吗", "我吃着药，能开车吗"),
        ("能喝酒吗", "我吃着药，能喝酒吗"),
    ]


def test_the_card_of_a_medicine_answers_nothing_but_whether_to_take_it():
    card = guard().questions.medicines["褪黑素"].say
    for ask in ("褪黑素快递三天了还没到货会退钱吗", "吃褪黑素单位会知道不"):
        assert all(found.say != card for found in guard().questions.answers(ask, Heard(entry=hearing().generic)))


def test_features_are_one_row_a_known_question():
    known = bundled().complaints["insomnia"].follow
    found, plain = follows.Follows(["安眠药能吃吗"], turn=follows.learned()[1]), follows.Follows(["安眠药能吃吗"])
    anybody = bundled().asked["common"]
    for text in ("安眠药能吃吗", "。。。", "吃" * 500):
        asked = found.read(text, text)
        near = found.nearest(asked, anybody)
        assert len(near) == follows.ANYONES and {*near} <= {*anybody}
        assert found.features(asked, known, near).shape == (len(known) + len(near), follows.WIDTH)
        assert plain.features(asked, known).shape == (len(known), follows.PLAIN)
        assert found(text, ()) == (None, 0.0)


@pytest.mark.parametrize(
    ("said", "value"), [("没有，喘气好好的，嘴唇也没肿", "none"), ("没有啊", "none"), ("喘气很费劲", "breath")]
)
def test_a_bare_denial_denies(said, value):
    found = Heard(entry=hearing().generic, asked={"danger"}, begun=True)
    hearing().answered(found, hearing().generic, said, ["danger"])
    assert found.told["danger"] == value


def test_a_danger_that_is_only_likely_is_asked_about():
    found = hearing().hear([Message("user", "这两天起床一站起来眼前发黑，差点摔了，有点害怕")])
    assert found.entry and found.entry.id == "low_blood_pressure"
    assert "danger" in found.open and guard().danger(found) is None  # 眼前发黑 is no black stool


@pytest.mark.parametrize(
    ("guessed", "said", "value"),
    [
        ({"danger"}, "没有噎，咽东西顺当，半年了", "none"),
        ({"danger"}, "半年了，没有别的毛病", "swallow"),
        (set(), "没有噎，咽东西顺当，半年了", "swallow"),  # said in plain words before: kept, to be on the safe side
    ],
)
def test_a_danger_that_was_only_guessed_is_taken_back_when_it_is_denied(guessed, said, value):
    entry = bundled().complaints["reflux"]
    found = Heard(entry=entry, told={"danger": "swallow"}, guessed=set(guessed), begun=True)
    hearing().answered(found, entry, said, [])
    assert found.told["danger"] == value


def test_a_danger_that_was_never_told_is_taken_back():
    entry, hears = bundled().complaints["menopause"], hearing()
    found = Heard(entry=entry, told={"mood": "hopeless"}, begun=True)
    hears.answered(found, entry, "啊？我没说不想活啊，就是心慌潮热", [])
    assert found.told["mood"] is None
    asked = Heard(entry=entry, begun=True)
    hears.answered(asked, entry, "嗯有点，容易急，晚上也睡不好", ["mood"], "脾气是不是变大了？")
    assert asked.told["mood"] != "hopeless"
    hepatitis = Heard(
        entry=bundled().complaints["transaminase"], told={"hepatitis": "hcv"}, guessed={"hepatitis"}, begun=True
    )
    hears.answered(hepatitis, bundled().complaints["transaminase"], "我没丙肝啊，去年好像五十多", [])
    assert hepatitis.told["hepatitis"] == "none"


def test_blood_in_the_urine_is_not_in_the_semen():
    assert hearing().hear([Message("user", "尿里有血，吓死我了")]).entry == bundled().complaints["hematuria"]
    assert not hearing().hear([Message("user", "体检说我谷丙转氨酶96，还有脂肪肝，要紧吗")]).told.get("hepatitis")


def test_a_denial_takes_back_nothing_but_what_it_denies():
    entry = bundled().complaints["reflux"]
    found = Heard(entry=entry, told={"danger": "black"}, guessed={"danger"}, begun=True)
    hearing().answered(found, entry, "没有噎", [])  # stands in a wording of the other: 不噎，但大便这两天是黑的
    assert found.told["danger"] == "black"

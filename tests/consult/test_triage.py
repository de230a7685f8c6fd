"""Red flags are told by meaning: a table of sentences, and the properties every notice keeps."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest

from bianque.consult import alarms, features, replies, triage, understanding
from bianque.consult.patterns import asset
from bianque.consult.understanding import Danger
from bianque.types import Message

EMERGENCY = [
    "左胸闷痛两个小时，肩膀酸胀，出冷汗",
    "我爸捂着胸口喊疼，脸色蜡黄，满头是汗",
    "后背突然像刀割一样，疼得直冒汗",
    "胸悶、冒冷汗、左手臂發麻，已經二十分鐘了",
    "早上醒来发现右半身麻木，话都讲不清",
    "老妈嘴斜了，一只手垂着，问她话也不答",
    "双眼突然看不见东西",
    "头突然像被雷劈了一样疼，几秒钟就疼到顶",
    "菜刀砍到手背，血喷出来，压了二十分钟还在流",
    "鼻血流了一个小时怎么压都止不住",
    "我爸刚才吐了半盆血，暗红色的",
    "大便黑得像沥青，又黏又臭，头晕没力气",
    "哮喘发作，喷了沙丁胺醇不管用，嘴唇乌紫",
    "宝宝呼吸好快，肋骨下面一吸一陷，鼻翼扇动",
    "老人吃年糕噎住了，手抓着脖子",
    "吃了芒果，嘴唇肿得像香肠，嗓子也紧，透不过气",
    "打完青霉素五分钟，全身起疹子，胸闷，眼前发黑",
    "我儿子把消毒水当饮料喝了",
    "两岁的娃把纽扣电池吞下去了",
    "用炭盆烤火，头痛恶心站不起来",
    "吃了自己采的野蘑菇，一家人上吐下泻，还看见小人",
    "小孩偷吃了奶奶的降压药，大概十来片",
    "妈妈突然倒在地上不省人事，还打呼噜",
    "老父亲糖尿病，今早喊不醒，身上都是汗",
    "女儿突然全身抽搐，牙齿咬得咯咯响",
    "工人从脚手架上掉下来，说腿没知觉",
    "摔到后脑勺之后一直恶心呕吐，说话颠三倒四",
    "断了三根手指头，怎么保存",
    "热油泼了一身，胸口和脸一大片皮都掉了",
    "小孩手指插插座里被电了，手指焦黑",
    "孩子落水，救上来没有呼吸",
    "一个半月的宝宝体温39.1",
    "新生儿发烧三十八度五",
    "两个月零五天，发烧38度3",
    "宝宝发烧，腿上有出血点，玻璃杯压上去也不消",
    "怀孕五个月，流了好多血，肚子绞痛",
    "孕晚期血压飙到180，头疼，看东西花",
    "破水了，好像有条带子从下面掉出来",
    "上山被竹叶青咬了脚，肿得厉害",
    "大热天在工地晕倒，体温41，叫不应",
    "石灰进了眼睛，又红又疼",
    "My dad's face is drooping and his speech is slurred",
    "my 2-month-old has a temperature of 38.5",
    "throat swelling up after a wasp sting",
    "bleeding won't stop after I cut my arm with a saw",
    # A denial, a past or a supposition covers its own clause and no more.
    "没有外伤，就是突然剧烈头痛还喷射性呕吐",
    "不发烧，喉咙肿得咽不下口水，喘气有声音",
    "我妈以前脑梗过，今天又突然说不出话，右手抬不起来",
    "医生说排除了心梗，可是现在又胸痛大汗，左臂发麻",
    "心梗一般什么表现？我爸现在胸口疼得冒冷汗",
    "吃了阿莫西林后脸肿喘不上气，是副作用吗",
    "no chest pain, but my lips are turning blue and I'm gasping for air",
]
CRISIS = [
    "真的好想死",
    "活够了，没有盼头",
    "我不配活着",
    "希望明天不要再醒来",
    "想从窗户跳下去",
    "我把遗书写好了",
    "怎么死比较不痛苦",
    "吃多少片安眠药会死",
    "存了三十片安定，打算今晚吃掉",
    "刚刚割腕了，流了好多血",
    "我吞了一整瓶安眠药",
    "和老婆吵架，她喝了一瓶农药",
    "发现孩子用美工刀割手腕",
    "我女儿手腕上一道一道的刀痕",
    "我妈说她活着就是拖累我们，不如早点走",
    "老伴走了，我也想跟着去",
    "想拉着孩子一起跳河",
    "耳朵里有人命令我跳楼",
    "想結束生命，真的撐不下去了",
    "轻 生",
    "不*想*活*了",
    "想\u200b死",
    "zisha的念头",
    "想自鲨",
    "I don't want to live anymore",
    "she said she wants to die",
    "I've been cutting myself",
    # Denying something else, or telling nobody, takes nothing back.
    "我没有胸痛，只是不想活了",
    "不是开玩笑，我想死",
    "我没有勇气自杀，但是每天都在想",
    "没人知道我一直想自杀",
]
NOTHING = [
    "没有剧烈头痛，没有呕吐，就是头有点胀",
    "无呼吸困难，无发绀，咳嗽三天",
    "除了心跳快没有别的，比如胸闷、出冷汗都没有",
    "CT排除了脑出血，头还有点晕",
    "不发热、不咳嗽、不气促",
    "小时候被开水烫过整条胳膊，留了疤",
    "我妈前年脑梗，嘴歪说话不清，现在恢复得不错，能坐飞机吗",
    "以前癫痫发作过，三年没犯了，能开车吗",
    "外公肺癌咯血去世的，我需要筛查吗",
    "过敏性休克的表现有哪些",
    "一氧化碳中毒怎么预防",
    "心脏病发作前有什么征兆，科普一下",
    "如果孩子误吞了纽扣电池要怎么办",
    "吃布洛芬会不会胃出血",
    "说明书写着可能抽搐、昏迷，我还能吃吗",
    "补铁后大便发黑正常吗",
    "健身练胸后胸口酸痛",
    "胸口起疹子，痒，出汗后更痒",
    "右胳膊酸，打羽毛球后",
    "面瘫两周，针灸有用吗",
    "眼皮一直跳，眼皮抽搐怎么办",
    "流鼻血，压了几分钟就不流了",
    "痰里有一点血丝，咳嗽三天了",
    "喷过农药的青菜怎么洗干净",
    "被油溅了一下，起了个小泡",
    "被静电电了一下",
    "宝宝六个月发烧38.5，精神不错",
    "我家孩子两岁两个月，发烧38.5",
    "孩子咳嗽两个月了，今天有点发烧",
    "宝宝两个月体温37.2正常吗",
    "孕12周，少量褐色分泌物，医生说没事",
    "笑到喘不过气",
    "作业多得想吐血",
    "累得腿都要断了",
    "想死你们了，终于能回来问诊",
    "想死磕这个减肥计划，吃什么好",
    "我不想死，我想好好活着，化疗有用吗",
    "没想过死，就是情绪差",
    "并没有轻生想法，只想看看失眠",
    "十年前自杀过，现在生活幸福，体检要注意什么",
    "看了一部关于自杀的电影，心情不好",
    "舍曲林会增加自杀风险吗",
    "紫砂锅熬中药可以吗",
    "不想活动，浑身懒",
    "安乐死在中国合法吗",
    "坏死性胰腺炎能治吗",
    "体重120斤，身高165，算胖吗",
    "家族里没有呼吸系统疾病的遗传史",
    "没有呼吸急促，也没有呼吸费力",
    "12356是什么电话",
    "120打不通要打哪个",
    "no shortness of breath, no chest pain",
    "what are the symptoms of a stroke",
    "this cough is killing me",
    "",
    "   \n",
]


def level(text: str) -> str | None:
    notice = alarms.check(text)
    return notice.level if notice else None


@pytest.mark.parametrize("text", EMERGENCY)
def test_an_emergency_is_seen(text):
    assert level(text) == "emergency"


@pytest.mark.parametrize("text", CRISIS)
def test_a_crisis_is_seen(text):
    assert level(text) == "crisis"


@pytest.mark.parametrize("text", NOTHING)
def test_nothing_is_seen_where_nothing_is(text):
    assert level(text) is None


@pytest.mark.parametrize("text", ["去年想死，现在好多了", "我去年想死，现在好多了。"])
def test_a_crisis_that_is_over_is_none_and_one_that_is_back_is(text):
    assert level(text) is None
    assert level(text.replace("现在好多了", "现在还是想死")) == level(f"{text}，但今天又想死") == "crisis"


@pytest.mark.parametrize("mark", ["，", ",", "、", "。", " ", "-", " . "])
def test_words_spelt_out_are_read(mark):
    assert (
        level(mark.join("我想死"))
        == level(mark.join("我想自杀"))
        == level(f"最近{mark}{mark.join('我想死')}")
        == "crisis"
    )
    assert level(mark.join("头疼")) is level(mark.join("我想吃饭")) is None


@pytest.mark.parametrize("text", EMERGENCY[:12])
def test_a_crisis_outranks_an_emergency(text):
    assert level(f"{text}。我不想活了") == "crisis"
    assert level(f"我不想活了。{text}") == "crisis"


@pytest.mark.parametrize("text", EMERGENCY[::7] + CRISIS[::7])
def test_the_notice_names_its_sign_and_the_numbers(text):
    notice = alarms.check(text)
    assert notice is not None and notice.sign and notice.tel
    assert "120" in notice.text and "24 小时" not in notice.text and "24小时" not in notice.text
    if notice.certainty == "sure":
        assert notice.do
        assert notice.sign in notice.text if notice.level == "emergency" else "12356" in notice.text
    else:
        assert not notice.do and notice.text.startswith(("如果", "If "))


SAID = {
    "zh-CN": ("我爸突然嘴歪了，右手没力气，话也说不清", "我不想活了"),
    "zh-TW": ("爸爸突然嘴歪，右手沒力氣，話說不清楚", "我真的不想活了，活著沒意義"),
    "en": ("My dad's face is drooping and his speech is slurred", "I don't want to live anymore"),
    "ko": ("할머니 입이 한쪽으로 돌아가고 말이 어눌해요", "죽고 싶어요"),
}


@pytest.mark.parametrize("lang", SAID)
def test_a_notice_is_in_the_visitor_s_language_alone(lang):
    for text, first in zip(SAID[lang], ("120", "12356"), strict=True):
        notice = alarms.check(text)
        assert notice.lang == lang and notice.certainty == "sure" and notice.tel[0] == first
        assert ("119" in notice.tel) is (lang in ("zh-TW", "ko"))
        for words in (notice.text, notice.do):
            assert triage.language(words) in (lang, "zh-CN" if lang == "zh-TW" else lang)
            assert lang.startswith("zh") == bool(re.search("[一-鿿]", words))


@pytest.mark.parametrize("lang", ["zh-CN", "zh-TW", "en", "ko"])
def test_every_kind_has_its_words_in_every_language(lang):
    kinds = {row.kind for row in understanding.model().known if row.label != "none" and row.kind}
    assert kinds <= set(understanding.groups())
    for kind in understanding.groups():
        for level, certainty in itertools.product(("emergency", "crisis"), ("sure", "likely")):
            notice = triage.notice(understanding.Danger(level, kind, certainty), lang)
            assert notice.text and "{" not in notice.text + notice.do and bool(notice.do) == (certainty == "sure")
            for again in (False, True):
                assert triage.calm(understanding.Danger(level, kind, "sure"), lang, again=again)


def test_who_fears_for_somebody_else_is_not_spoken_to_as_the_one_in_danger():
    found = understanding.Danger("crisis", "third_person_suicide", "sure")
    for again in (False, True):
        words = triage.calm(found, "zh-CN", again=again)
        assert "TA" in words and "12356" in words and "身边有人吗" not in words


def rules(group):
    return [(row, case) for _, row in triage._rules(group) for case in row["cases"] if case not in row.get("not", ())]


@pytest.mark.parametrize(("row", "case"), rules("must"))
def test_a_must_is_never_missed(row, case):
    notice = alarms.check(case)
    assert row["why"] and (notice.level, notice.certainty) == (row["level"], "sure")


@pytest.mark.parametrize(("row", "case"), rules("silent"))
def test_what_must_be_silent_is(row, case):
    assert row["why"] and alarms.check(case) is None


@pytest.mark.parametrize(("row", "case"), rules("soft"))
def test_what_is_soft_is_never_sure(row, case):
    said = case.split("。")
    for count in range(1, len(said) + 1):
        notice = alarms.check(said[count - 1], said[: count - 1])
        assert row["why"] and (notice is None or notice.certainty == "likely")
    (rule,) = (rule for rule, other in triage._rules("soft") if other is row)
    assert not any(rule.search(features.clean(other).lower()) for other in row["not"])


@pytest.mark.parametrize(
    "text",
    [
        "已经处理了",
        "已经打了120",
        "不是急症",
        "救护车到了",
        "是误会",
        "他已经没事了",
        "他没有要死要活的，就是不出门",
        "没说过不想活",
        "电池取出来了",
        "handled, thanks",
        "not an emergency",
        "처리했어요",
    ],
)
def test_what_settles_an_emergency_is_heard(text):
    assert triage.settled(text)


@pytest.mark.parametrize(
    "text",
    [
        "还没有处理",
        "吃了药没有死成",
        "怎么处理",
        "要打120吗",
        "那我吃点药行吗",
        "没有已经好",
        "已经处理了吗",
        "不是急症吧，我娃就是感冒嘛",
        "不是急症吧他说歇歇就好",
        "人没事了对不对",
    ],
)
def test_what_settles_nothing_is_not(text):
    assert not triage.settled(text)


def test_a_stroke_is_not_over_because_it_has_passed():
    stroke, sugar = (Danger("emergency", kind, "sure") for kind in ("stroke", "hypoglycaemia"))
    assert triage.settled("现在好了") == triage.settled("现在好了", sugar) == "eased"
    assert triage.settled("现在好了", stroke) is None
    assert triage.settled("已经送医院了", stroke) == "over"
    assert {*asset("notices")["lasting"]} <= {*asset("notices")["groups"]}


def test_no_softer_crisis_line_stands_beside_an_open_emergency(monkeypatch):
    said, alone = "胸口压着疼", "家里就我一个人"
    seen = {said: Danger("emergency", "acs", "sure", 0.9), alone: Danger("crisis", "farewell", "likely", 0.2)}
    monkeypatch.setattr(alarms, "judge", lambda text: seen.get(text, Danger()))
    assert alarms.check(alone).level == "crisis"
    assert alarms.check(said).certainty == "sure" and alarms.check(alone, [said]) is None


@pytest.mark.parametrize("text", ["\ud800", "胸口疼\udfff出冷汗", "a" * 10**6, "头疼，" * 300_000, "\n" * 5000, "𠮷🤒"])
def test_any_text_is_judged(text):
    assert triage.judge(text) == triage.judge(text)


TOGETHER = (
    ("怀孕34周了，这两天头疼", "脚肿得厉害", "眼睛看东西有点花"),
    ("刚做完化疗第九天", "有点怕冷", "量了38.4"),
    ("我妈吃格列美脲的，今天没胃口没怎么吃饭", "现在出虚汗 手抖", "叫她有点反应慢"),
)


@pytest.mark.parametrize("said", TOGETHER)
def test_facts_that_alarm_only_together_are_heard_together(said):
    alone, found = [triage.judge(text).certainty for text in said[:2]], alarms.judged(said)
    assert "sure" not in alone and any(one.certainty == "sure" and one.level == "emergency" for one in found)
    assert alarms.check(said[-1], said[:-1]) == (triage.notice(found[-1], "zh-CN") if found[-1].level else None)


@pytest.mark.parametrize(("settles", "left"), [("不是急症", "likely"), ("已经处理了", None), ("到医院了", None)])
def test_what_was_settled_alarms_no_more_with_harmless_talk(settles, left):
    """The softer line stays where the visitor says that it was none."""
    said = [*TOGETHER[0], settles, "今天有点累", "晚上吃了两碗饭"]
    found = [one.certainty for one in alarms.judged(said)]
    assert found[2] == "sure" and found[3:] == [left, None, None]


@pytest.mark.parametrize(
    ("said", "first", "other"),
    [
        ("老婆怀孕5个月", "腰上起了一串水泡", True),
        ("我妈得过乳腺癌", "乳房有个小疙瘩", True),
        ("老婆怀孕5个月", "我老婆肚子疼", False),
        ("怀孕5个月", "肚子疼", False),
        ("我妈右手没力气", "头晕", False),
    ],
)
def test_what_another_person_has_adds_nothing(said, first, other):
    assert triage.of_others(said, first) is other


def test_a_pregnant_wife_makes_no_emergency_of_her_husbands_shingles():
    said = [
        "腰上起了一串水泡 好疼",
        "三天了",
        "没有 就是火烧一样疼",
        "就右边 从后腰到肚子那里",
        "老婆怀孕5个月",
        "疼得睡不着",
    ]
    assert not any(found.certainty == "sure" for found in alarms.judged(said))


DOUBTED = ("大便黑得像柏油，头晕，一身虚汗", "不是急症")


@pytest.mark.parametrize("sign", ["刚才又拉了一次，还是黑的", "站起来眼前黑了一下", "不是急症，就是又头晕了"])
def test_one_more_sign_after_an_emergency_that_was_doubted_alarms_again(sign):
    found = alarms.judged([*DOUBTED, "五十二岁", sign])[-1]
    assert (found.level, found.certainty) == ("emergency", "sure") and found.kind
    assert triage.judge(sign).certainty != "sure", "alone it would be no alarm"


@pytest.mark.parametrize("said", ["五十二岁", "没发烧", "肚子不痛", "平时吃降压药", "头不晕了", "已经好多了"])
def test_harmless_talk_after_an_emergency_that_was_doubted_does_not(said):
    assert alarms.judged([*DOUBTED, said])[-1].certainty != "sure"


@pytest.mark.parametrize(
    ("said", "left"),
    [("不是急症，就是左手也有点使不上劲", True), ("不是急症，就是昨晚没睡好", False), ("不是急症，我不想活了", True)],
)
def test_a_new_sign_beside_the_doubt_keeps_the_alarm(said, left):
    found = alarms.after(["我妈突然嘴歪了，说话不清楚", said])
    assert bool(found.open) is left and bool(found.doubted) is not left


def test_signs_that_pass_end_no_small_stroke():
    stroke = "我爸刚才突然嘴歪了，说话不清楚"
    assert alarms.after([stroke, "现在好了"]).open.kind == "stroke"
    again = alarms.judged([stroke, "不是急症", "刚刚他右眼看东西黑了一下，过一会又好了"])[-1]
    assert (again.level, again.certainty) == ("emergency", "sure")
    found = alarms.judged([stroke, "现在好了", "不是急症"])
    assert [one.certainty for one in found] == ["sure", None, "likely"]
    assert (
        alarms.after([stroke, "不是急症", "现在好了"]).doubted
        and not alarms.after([stroke, "现在好了", "已经处理了"]).open
    )


@pytest.mark.parametrize("asked", ["那要不要叫120", "还用去医院吗", "在家观察一晚行不行", "等明天再去可以吗"])
def test_whether_to_call_is_answered_from_the_emergency_that_was_doubted(asked):
    say = lambda *said: [Message("user", text) for text in said]
    assert "吐血、黑便" in replies.care(say(*DOUBTED, asked))
    assert "先不问诊了" in replies.care(say(*DOUBTED, f"站起来眼前黑了一下，{asked}"))
    assert "吐血、黑便" not in (replies.care(say(*DOUBTED, "能吃香蕉吗")) or "")
    assert replies.care(say("胃有点胀", "不是急症", asked)) is None


@pytest.mark.parametrize(
    "said",
    [
        ("嗓子疼两天了", "37度3", "有点咳嗽，没有痰", "吃饭睡觉都正常"),
        ("膝盖疼", "上下楼的时候", "有半年了", "不红不肿", "要不要拍片子"),
        ("孩子昨天打了疫苗", "有点低烧 37.8", "精神好，玩得欢", "能洗澡吗"),
    ],
)
def test_harmless_facts_stay_harmless_together(said):
    assert not any(found.certainty == "sure" for found in alarms.judged(said))


def test_danger_hidden_in_a_long_story_is_heard():
    story = "我们一家人上周去了海边，天气很好，孩子玩得也开心，回来以后大家都有点累，" * 4
    end = "周末还要去外婆家吃饭，顺便把冬天的衣服拿回来，车也该去保养了。" * 4
    assert level(f"{story}今天早上爸爸突然右手抬不起来，嘴也歪了，说话含糊不清。{end}") == "emergency"
    assert level(story + end) is None


@pytest.mark.process
def test_nothing_is_read_before_the_first_message():
    """All of it at once would hold up the first paint."""
    fresh = (
        "import sys\n"
        "from bianque.consult import handoff, patterns, repeats, triage, understanding\n"
        "caches = (patterns.asset, patterns.pattern, patterns.table, understanding.model, triage.judge)\n"
        "raise SystemExit(sum(cache.cache_info().currsize for cache in caches) + ('numpy' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", fresh]).returncode == 0


@pytest.mark.parametrize("text", EMERGENCY[::9] + CRISIS[::9] + NOTHING[::9])
def test_the_same_text_gets_the_same_answer(text):
    assert alarms.check(text) == alarms.check(text) == alarms.check(f"  {text}\n")


@pytest.mark.parametrize("text", ["胸口疼，不想活了", "胸口疼，出冷汗，左臂发麻"])
def test_width_and_case_do_not_matter(text):
    assert level(text) == level(text.replace("，", ",")) == level(text.replace("，", "。"))
    assert level("I WANT TO DIE") == level("Ｉ ｗａｎｔ ｔｏ ｄｉｅ") == "crisis"


@pytest.mark.parametrize(
    "unit", ["胸口疼", "没有", "想 ", "血血", "不", "a", "，", "怀孕38", "突然左手", "how are you "]
)
def test_a_long_text_is_answered(unit):
    alarms.check(unit * 5000)
    assert level(unit * 500 + "。我想自杀") == "crisis" or unit == "没有"


@pytest.mark.parametrize(
    ("said", "near"),
    [
        ("我朋友吃了一瓶安眠药", True), ("我妈老说不想活了", True), ("闺蜜刚才跟我说想死", True),
        ("我不想活了", False), ("我跟我妈说不想活了", False), ("我老公出轨了，我不想活了", False),
    ],
)  # fmt: skip
def test_whose_wish_to_die_it_is(said, near):
    found = triage.judge(said)
    assert found.level == "crisis" and ("TA" in triage.notice(found, "zh-CN").text) is near


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("打了120了，宝宝还能喂奶吗", "母乳还能不能喂"),
        ("她嘴唇发紫了，我该干啥", "扶着坐直"),
        ("我能回去把炉子端出来不", "千万别再进去"),
        ("我闺女要拿勺子压住舌头看喉咙", "别压舌头"),
        ("喝两口凉水，含西瓜霜行不", "先不要喂水"),
        ("喝两口凉水，含西瓜霜行不", "别自己给药"),
        ("到医院了，吸着氧，不疼了能不能回家", "别自己走"),
        ("冷得发抖要不要盖被子捂着", "别捂汗"),
        ("他睡着了，要不要弄醒他，要带啥东西去医院", "医保卡"),
        ("他睡着了，要不要弄醒他，要带啥东西去医院", "叫得醒"),
        ("知道了，那我让闺女现在带我去，路上要注意啥", "路上有人陪着"),
        ("我就想问这是啥病，青光眼吗，去医院要查啥", "直接去急诊"),
        ("哎坐着歇会儿就不堵了，家里就我一个人，不想麻烦孩子，明天再去行不", "不能等"),
        ("那我吃了家里的硝酸甘油再自己开车去行不行？", "不要自己开车"),
        ("那给他热敷一下行不行", "热敷"),
        ("没带医保卡，去了能看吗", "没带卡"),
    ],
)
def test_what_people_ask_while_they_wait_is_answered_in_any_clause(asked, answer):
    found = triage.judge("我爸突然胸口疼得厉害，出冷汗")
    assert answer in (triage.while_waiting(found, asked) or "")


@pytest.mark.parametrize("said", ["他现在又吐了两次，手开始抖", "孩子吃奶正常，精神也好", "小便有点红 老想尿又尿不多"])
def test_news_while_they_wait_is_no_question(said):
    assert triage.while_waiting(triage.judge("我爸突然胸口疼得厉害，出冷汗"), said) is None

"""When the asking model asks on, and when the advising model takes over."""

import itertools

import pytest

from bianque.consult import handoff
from bianque.consult.handoff import Decision, decide, read_round, wants
from bianque.consult.questions import asks
from bianque.types import Message


def dialogue(*turns):
    """Turns from `P:` (visitor), `A:` (asks), `V:` (advises) and `N:` (a doctor turn without a phase)."""
    phases = {"A": "asking", "V": "advising", "N": None}
    return [
        Message("user", turn[2:]) if turn[0] == "P" else Message("assistant", turn[2:], phases[turn[0]])
        for turn in turns
    ]


ASKED = ("P:后背疼", "A:疼多久了？")
ADVISED = (*ASKED, "P:半个月", "V:可能是肌肉劳损，可以热敷，外用双氯芬酸凝胶。")
EIGHT = tuple(
    itertools.chain.from_iterable(
        (f"A:有没有{sign}？", "P:没有") for sign in ("发烧", "咳嗽", "头晕", "恶心", "腹泻", "胸闷", "手麻", "失眠")
    )
)

REQUESTS = [
    "半个月。你直接告诉我抹什么药吧",
    "别问了",
    "不要再问我了，说怎么治",
    "不想回答了",
    "半个月，先给点建议吧",
    "能不能给个方案",
    "你就说怎么处理就行",
    "问题太多了，快给我结论",
    "跳过提问，给建议",
    "就这些了，你说吧",
    "可以给建议了吗",
    "不要問了，直接給建議",
    "just tell me what to do",
    "Stop asking me questions.",
    "그냥 치료법을 알려 주세요",
    "질문 그만하세요",
]
COMPLAINTS = [
    "总是打喷嚏怎么办",
    "孩子不爱喝水，吃什么药好",
    "夜里老是醒，请医生给点建议",
    "医生直接给我开了消炎药，吃了没用怎么办",
    "扭伤了脚，应该怎么处理？",
    "What should I do about my cough?",
    "허리가 아픈데 어떻게 해야 하나요?",
]
ANSWERS = [
    "半个月，怎么办啊",
    "没问过医生",
    "不想吃药",
    "没有别的地方疼",
    "记不清了",
]
DIRECT = [
    "半个月了，要紧吗",
    "没量过，是不是要去医院",
    "能吃布洛芬吗",
    "严重吗",
    "半个月，这是什么病啊",
    "要不要拍片子",
    "挂什么科",
    "is it serious",
    "병원에 가야 하나요",
]
NEGATED = [
    "我不是要你马上给建议，我再补充一下，晚上疼得厉害",
    "先别给建议，我还没说完",
    "医生建议我住院，我没住",
    "他直接晕倒了",
]
POLITE = [
    "半个月了，麻烦您看看该怎么调理呢",
    "差不多就这些，您看着给点意见吧",
    "俺就想知道咋治",
    "说了半天了，您拿个主意吧",
    "有点累了，可不可以先给点建议",
    "行樓梯痛囉，咁我點算好，講啦",
]
STOPS = ["算了不问了", "不说了，我去医院了", "就到这吧，不聊了", "never mind, bye"]
FOLLOW_UPS = [
    "好的，谢谢",
    "热敷一次多久？",
    "后背还是疼",
    "热敷以后皮肤有点红",
    "后背疼能游泳吗",
    "另外，凝胶孕妇能用吗",
    "还有一个问题，用药期间可以喝酒吗",
    "我老婆说要去拍片，有必要吗",
    "后背疼会不会引起手麻",
    "会传染给孩子吗",
    "如果又疼起来怎么办",
    "要忌口吗",
]
NEW_COMPLAINTS = [
    "换个问题，我晚上睡不着",
    "另外我左膝最近也疼",
    "对了，我这两天嗓子疼",
    "我女儿今天发烧了",
    "我爸最近头晕得厉害，怎么回事",
    "帮我妈问一下，她便秘",
    "想问另一个问题，脸上长痘",
    "我眼睛从昨天开始发红",
    "another question: my knee hurts",
    "換個問題，我牙痛",
]


@pytest.mark.parametrize("text", REQUESTS)
def test_a_visitor_may_ask_for_advice_at_once(text):
    turns = dialogue(*ASKED, f"P:{text}")
    assert decide(turns) == decide(turns, "疼得厉害吗？") == Decision("advising", "requested")


@pytest.mark.parametrize("text", ["头疼，别问了直接说吃什么药", "Cough. Just tell me what to take, no questions."])
def test_a_plain_request_holds_on_the_first_turn(text):
    assert decide(dialogue(f"P:{text}")) == Decision("advising", "requested")


def test_the_button_is_a_request():
    assert decide(dialogue("P:头疼"), advise_now=True) == Decision("advising", "requested")
    assert decide(dialogue("P:头疼"), "多久了？", advise_now=True) == Decision("advising", "requested")


@pytest.mark.parametrize("text", COMPLAINTS)
def test_a_complaint_is_not_a_request(text):
    assert decide(dialogue(f"P:{text}")) == Decision("asking", "question")
    assert decide(dialogue(f"P:{text}"), "多久了？") == Decision("asking", "question")


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_not_a_request(text):
    turns = dialogue(*ASKED, f"P:{text}")
    assert decide(turns) == decide(turns, "疼得厉害吗？") == Decision("asking", "question")


@pytest.mark.parametrize("text", DIRECT)
def test_a_direct_question_is_answered_and_the_asking_goes_on(text):
    turns = dialogue(*ASKED, f"P:{text}")
    assert decide(turns) == Decision("advising", "direct_question")
    assert decide(turns, "疼得厉害吗？") == Decision("asking", "direct_question")
    assert decide(turns, "疼多久了？") == Decision("advising", "repeat")  # enough is known
    assert decide(turns, "多喝水。") == Decision("advising", "not_question")


@pytest.mark.parametrize("text", NEGATED)
def test_a_request_that_is_denied_or_reported_is_none(text):
    assert decide(dialogue(*ASKED, f"P:{text}"), "疼得厉害吗？") == Decision("asking", "question")


@pytest.mark.parametrize("text", POLITE)
def test_a_polite_or_tired_request_is_heard(text):
    assert decide(dialogue(*ASKED, f"P:{text}")) == Decision("advising", "requested")


@pytest.mark.parametrize("text", STOPS)
def test_who_stops_is_not_asked_on(text):
    assert decide(dialogue(*ASKED, f"P:{text}"), "疼得厉害吗？") == Decision("advising", "stopped")


def test_small_talk_is_answered_by_the_asking_model():
    assert decide(dialogue("P:你好"), "您好，我在。") == Decision("asking", "chat")
    assert decide(dialogue(*ASKED, "P:辛苦了医生"), "不客气，慢慢说。") == Decision("asking", "chat")


@pytest.mark.parametrize(
    ("told", "candidate"),
    [
        ("胃疼三天了", "疼多久了？"),
        ("我今年五十岁，腰疼", "多大年纪了？"),
        ("发烧38.6", "有没有发烧？"),
        ("孩子咳嗽一周", "咳嗽多久了？"),
    ],
)
def test_what_the_visitor_has_said_is_not_asked(told, candidate):
    assert decide(dialogue(f"P:{told}"), candidate) == Decision("advising", "told")
    assert decide(dialogue(f"P:{told}"), "有没有恶心？").phase == "asking"


def test_the_visitor_may_be_asked_again_after_the_advice():
    for text in ("继续问我吧", "你接着问", "please keep asking"):
        assert decide(dialogue(*ADVISED, f"P:{text}"), "有没有手麻？") == Decision("asking", "resumed")


def test_news_on_which_the_advice_depended_is_asked_about():
    advised = (*ASKED, "P:半个月", "V:可以热敷。如果血压高，先别用止痛药。年龄超过四十五岁的话要查骨密度。")
    for text in ("血压没量过", "五十岁男"):
        assert decide(dialogue(*advised, f"P:{text}"), "有没有吃降压药？") == Decision("asking", "news")
    assert decide(dialogue(*ADVISED, "P:五十岁男"), "有没有手麻？") == Decision("advising", "after_advice")


@pytest.mark.parametrize("text", FOLLOW_UPS)
def test_after_advice_the_adviser_goes_on(text):
    turns = dialogue(*ADVISED, f"P:{text}")
    assert decide(turns) == decide(turns, "多大年龄了？") == Decision("advising", "after_advice")
    assert read_round(turns).start == 0


def test_a_rash_from_the_advised_medicine_stays_with_the_adviser():
    advised = ("P:最近总是咳嗽", "A:咳嗽多久了？", "P:三天", "V:可以服用止咳药，多喝水。")
    turns = dialogue(*advised, "P:我吃药之后这两天皮肤起疹子")
    assert decide(turns) == decide(turns, "疹子痒吗？") == Decision("advising", "after_advice")
    assert decide(dialogue(*advised, "P:我这两天皮肤起疹子")) == Decision("asking", "new_complaint")


@pytest.mark.parametrize("text", NEW_COMPLAINTS)
def test_a_new_complaint_opens_a_new_round(text):
    turns = dialogue(*ADVISED, f"P:{text}")
    assert decide(turns) == decide(turns, "以前有过类似情况吗？") == Decision("asking", "new_complaint")
    assert read_round(turns).start == len(turns) - 1
    assert read_round(turns).asked == 0


@pytest.mark.parametrize(
    ("opening", "news", "new"),
    [
        ("我在吃氨氯地平 最近脚脖子肿 是不是药的事", "今天发现就左边小腿肿得厉害 还疼 按着硬", True),
        ("胃疼一个星期了，吃完饭明显", "刚做完胃镜，报告写糜烂性胃炎", True),
        ("胃疼一个星期了，吃完饭明显", "吃完饭还是疼，半夜也疼", False),
        ("宝宝一阵一阵哭闹", "不是急症，他没发烧，奶奶说是胀气", False),
        ("胃疼", "胃镜报告写糜烂性胃炎，要紧吗", False),
        ("胃疼", "好的我知道了", False),
    ],
)
def test_news_of_something_else_after_the_advice_opens_a_new_round(opening, news, new):
    assert handoff.another(news, opening) is new
    turns = dialogue(f"P:{opening}", "A:多久了？", "P:三天", "V:先休息观察，加重了就去医院。", f"P:{news}")
    assert (read_round(turns).start == len(turns) - 1) is new


def test_a_new_round_has_its_own_questions_and_budget():
    turns = dialogue(*EIGHT_FIRST, "V:多休息。", "P:换个问题，我牙痛", "A:牙痛多久了？", "P:三天")
    assert read_round(turns).asked == 1
    assert read_round(turns).start == len(turns) - 3
    assert decide(turns, "有没有发烧？") == Decision("asking", "question")
    assert decide(turns, "痛了几天了？") == Decision("advising", "repeat")


EIGHT_FIRST = ("P:浑身不舒服", *EIGHT)


def test_the_budget_ends_the_questions():
    turns = dialogue(*EIGHT_FIRST)
    assert read_round(turns).asked == 8
    assert decide(turns) == decide(turns, "多大了？") == Decision("advising", "budget")
    assert decide(turns, "多大了？", budget=9) == Decision("asking", "question")
    assert decide(dialogue(*EIGHT_FIRST[:-2]), "多大了？") == Decision("asking", "question")


@pytest.mark.parametrize(
    ("said", "candidate", "told"),
    [
        ("我家男孩，六岁，湿疹，胳膊弯里红痒", "请问患者多大年龄，是男孩还是女孩？", True),
        ("女，35，乳房经前胀痛", "请问您的年龄和性别？", True),
        ("我做奶茶的，手上长水泡", "您从事什么工作？", True),
        ("咳了十天，有黄痰，早上多", "痰是什么颜色的？", True),
        ("咳了十天，有黄痰，早上多", "大便是什么颜色的？", False),
        ("孩子湿疹，胳膊弯里红痒", "是男孩还是女孩？", False),
        ("腰疼三天，坐久了更疼", "您从事什么工作？", False),
    ],
)
def test_who_has_told_it_is_not_asked(said, candidate, told):
    turns = dialogue(f"P:{said}", "A:以前有过吗？", "P:没有")
    assert (decide(turns, candidate).reason == "told") is told


UNKNOWN = ("P:头晕", "A:多久了？", "P:不清楚", "A:会转吗？", "P:说不上来", "A:吃药吗？")


def test_who_can_say_nothing_is_not_asked_on():
    assert decide(dialogue(*UNKNOWN, "P:这个我也不记得了。"), "多大了？") == Decision("advising", "unknown")
    assert decide(dialogue(*UNKNOWN, "P:吃降压药"), "多大了？") == Decision("asking", "question")
    assert decide(dialogue(*UNKNOWN[:-2], "A:血压高吗？", "P:不知道多高，反正高"), "多大了？") == Decision(
        "asking", "question"
    )


@pytest.mark.parametrize("budget", range(4))
def test_never_asks_beyond_any_budget(budget):
    for length in range(1, len(EIGHT_FIRST) + 1, 2):
        turns = dialogue(*EIGHT_FIRST[:length])
        if read_round(turns).asked >= budget:
            assert decide(turns, "多大了？", budget=budget).phase == "advising"


@pytest.mark.parametrize(
    "candidate",
    ["", "嗯", "多喝水。", "？", "建议拍个片子", "可以外用止痛凝胶。还有什么问题吗？", "没什么大问题", "您看可以吗？"],
)
def test_a_candidate_that_asks_nothing_hands_over(candidate):
    assert decide(dialogue(*ASKED, "P:半个月"), candidate) == Decision("advising", "not_question")


@pytest.mark.parametrize("candidate", ["疼多久了", "后背疼了几天了？", "请问是什么时候开始的？"])
def test_a_repeated_question_hands_over(candidate):
    assert decide(dialogue(*ASKED, "P:半个月"), candidate) == Decision("advising", "repeat")


@pytest.mark.parametrize("candidate", ["疼多久了？", "后背疼了几天了？"])
def test_the_question_before_last_is_heard_when_it_comes_back(candidate):
    turns = dialogue(*ASKED, "P:半个月", "A:有没有手麻？", "P:没有", "A:搬过重东西吗？", "P:没搬过")
    assert decide(turns, candidate) == decide(turns[:-2], candidate) == Decision("advising", "repeat")
    assert decide(turns, "咳嗽吗？") == Decision("asking", "question")


@pytest.mark.parametrize("candidate", ["哪个位置疼得最明显", "咳嗽多久了？", "搬过重东西吗", "请描述一下是怎么个疼法"])
def test_another_question_is_shown(candidate):
    assert decide(dialogue(*ASKED, "P:半个月"), candidate) == Decision("asking", "question")


def test_a_missing_phase_is_read_from_the_words():
    assert read_round(dialogue("P:头疼", "N:疼多久了？", "P:两天")).asked == 1
    assert decide(dialogue("P:头疼", "N:疼多久了？", "P:两天"), "发烧吗") == Decision("asking", "question")
    advised = dialogue("P:头疼", "N:建议多休息。还有问题吗？", "P:好")
    assert decide(advised) == Decision("advising", "after_advice")
    greeted = dialogue("P:你好", "N:您好，请问有什么可以帮您？", "P:头疼")
    assert decide(greeted, "多久了？") == Decision("asking", "question")


def test_an_adviser_s_question_does_not_reopen_the_asking():
    turns = dialogue(*ASKED, "P:半个月", "V:可以热敷。最近搬过重物吗？", "P:搬过")
    assert decide(turns) == Decision("advising", "after_advice")


def test_an_empty_dialogue_has_no_round():
    assert read_round([]).start == read_round([]).asked == 0
    assert decide([]) == Decision("asking", "question")


def every_dialogue():
    texts = [*REQUESTS, *COMPLAINTS, *ANSWERS, *FOLLOW_UPS, *NEW_COMPLAINTS]
    return [dialogue(*start, f"P:{text}") for start in ((), ASKED, ADVISED, EIGHT_FIRST[:-1]) for text in texts]


@pytest.mark.parametrize("candidate", [None, "", "多喝水。", "疼多久了？", "有没有手麻？", "还有什么问题吗？"])
def test_the_rules_hold_everywhere(candidate):
    for turns in every_dialogue():
        before = list(turns)
        decision = decide(turns, candidate)
        assert decision == decide(tuple(turns), candidate)  # pure: the same answer, and nothing changed
        assert turns == before
        if decision.phase == "asking":
            assert decision.reason in ("question", "new_complaint", "direct_question", "chat")
            assert read_round(turns).asked < 8
            assert candidate is None or asks(candidate) or decision.reason == "chat"
        else:
            assert decision.reason not in ("question", "new_complaint", "chat")
        if candidate is not None and decide(turns).phase == "advising" and decide(turns).reason != "direct_question":
            assert decision == decide(turns)  # a candidate cannot undo a decision made without it


@pytest.mark.parametrize("answer", ["说话突然不利索了", "发冷打寒战，烧起来了"])
def test_an_answer_that_ends_in_le_ends_nothing(answer):
    """To close on what is a danger sign would be the worst of replies."""
    assert wants(answer, "头晕，要挂什么科", "有没有一边手脚不灵活、嘴歪或者看东西重影？", "asking") != "stop"
    assert wants("算了不问了", "头晕，要挂什么科", "有没有一边手脚不灵活？", "asking") == "stop"


def test_what_is_only_supposed_opens_no_new_complaint(monkeypatch):
    """万一真怀上了 after the advice on a late period is about that period."""
    monkeypatch.setattr(handoff.understanding, "intent", lambda *given: {"new": 1.0, "answer": 0.2, "follow": 0.1})
    said = ("月经推迟十天", "先测一下有没有怀孕。", "advising")
    assert handoff.wants.__wrapped__("万一真怀上了我该怎么办", *said) == "follow"
    assert handoff.wants.__wrapped__("我还想问一下膝盖疼", *said) == "new"

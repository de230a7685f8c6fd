"""What counts as a question to the patient, and when two questions ask the same thing."""

import pytest

from bianque.consult.questions import REQUEST, SHORT, asks, plain, questions, sentences
from bianque.consult.repeats import repeats

ASKING = [
    # marked
    "您好，咳了几天了？",
    "有没有测过体温?",
    "1. 痰是白色的吗？2. 夜里咳得重吗？",
    "建议先休息。另外，您对青霉素过敏吗？",
    "这个包块一直在变大，是吗？",
    # short and without a mark
    "哪里痛",
    "烧了几天了",
    "多大了",
    "有没有拉肚子",
    "口渴不渴",
    "是左边疼还是右边疼",
    "吃过止痛药没有",
    "血糖查过没",
    "痰是什么颜色",
    "嗯，孩子睡得怎么样",
    "药吃了吗现在好点没",
    "肚子胀么",
    "您好 哪里不舒服",
    "伤口还流血吗，先不要碰水",
    "疼了多久了。",
    "發燒嗎",
    # requests for a description
    "请您详细描述一下疼痛的部位和性质。",
    "麻烦告诉我您的年龄和身高。",
    "请补充一下以前的病史。",
    "还有别的症状，可以详细说下。",
]
NOT_ASKING = [
    "肚子不咋疼",
    "倒也没咋注意",
    "",
    "好的",
    "没有。",
    "不客气，祝您早日康复！",
    "注意休息，多喝温水。",
    "可以先冷敷，两天后再热敷。",
    "没什么大碍",
    "过几天就会好的",
    "不管吃什么药都要按时",
    "查一下有没有贫血",
    "主要看是病毒还是细菌引起的",
    "吃什么都可以",
    "多久吃一次要看说明书",
    "多少会有一点影响",
    "不谢不谢",
    "最好还是去医院看看",
    "什么时候复诊由医生决定，一般是一到两周，期间如有不适可以提前来。",
    # courtesies
    "先这样处理。还有什么问题吗？",
    "您看这样可以吗？",
    "需要我帮您解释报告吗？",
    "我讲清楚了，您明白了吗？",
    "还有其他疑问吗",
    "Does that help?",
    # addressed to someone else, or about something still to come
    "就诊时请告诉医生您的用药情况。",
    "用药前请咨询药师。",
    "如果有任何疑问，请随时告诉我。",
    "请您做完检查后把结果告诉我。",
    "感谢您提供的信息。",
    "根据您描述的情况，考虑是皮炎。",
    # headings
    "平时需要注意以下几点：",
]


@pytest.mark.parametrize("text", ASKING)
def test_asks(text):
    assert asks(text)


@pytest.mark.parametrize("text", NOT_ASKING)
def test_does_not_ask(text):
    assert not asks(text)


@pytest.mark.parametrize("text", ASKING + NOT_ASKING)
def test_asks_exactly_when_some_sentence_does(text):
    found = questions(text)
    assert asks(text) == bool(found)
    assert set(found) <= set(sentences(text))
    assert found == [sentence for sentence in sentences(text) if asks(sentence)]


@pytest.mark.parametrize("text", ASKING)
def test_advice_around_a_question_does_not_hide_it(text):
    assert asks(f"注意保暖。\n{text}\n祝您早日康复。")


def test_half_and_full_width_marks_split_alike():
    assert sentences("头晕吗?恶心吗？先休息.明天复查;好的！") == [
        "头晕吗?",
        "恶心吗？",
        "先休息.",
        "明天复查;",
        "好的！",
    ]
    assert sentences("体温38.5度。") == ["体温38.5度。"]
    assert sentences("吃马来酸噻吗洛尔滴眼液") == ["吃马来酸噻吗洛尔滴眼液"]


@pytest.mark.parametrize("text", ASKING + NOT_ASKING)
def test_sentences_lose_nothing_but_white_space(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_only_short_sentences_ask_without_a_mark():
    filler = "您" * SHORT
    assert asks("哪里疼")
    assert not asks(f"哪里疼{filler}")
    assert asks(f"哪里疼{filler}？")
    assert not asks("请描述" + "病情" * REQUEST)


def test_plain_leaves_simplified_text_alone():
    assert plain("頭暈多久了") == "头晕多久了"
    assert plain("头晕多久了, ok?") == "头晕多久了, ok?"


REPHRASED = [
    ("咳嗽多久了？", "咳嗽是从什么时候开始的？"),
    ("这样有几天了", "这个症状持续多长时间了？"),
    ("膝盖疼多久了", "疼了多长时间"),
    ("疼在哪里？", "具体哪个部位疼痛"),
    ("体温多少？", "烧到多少度了"),
    ("您今年多大年纪", "请问几岁了？"),
    ("吃过什么药？", "有没有用过药"),
    ("去医院看过吗", "做过什么检查没有？"),
    ("有没有发热？", "发烧吗"),
    ("有没有拉稀", "腹泻吗？"),
    ("大便正常吗", "大便怎么样？"),
    ("睡得好不好", "睡眠质量怎么样"),
    ("疼得厉害吗", "疼痛的程度如何？"),
    ("是一直痛还是一阵一阵的痛", "疼痛是持续性的还是阵发性的？"),
    ("有药物过敏吗", "对什么过敏？"),
    ("还有别的症状吗？", "有没有其他不舒服"),
    ("您做什么工作", "请问您的职业是？"),
    ("有没有咳嗽、咳痰？", "有痰吗"),
    ("頭痛多久了", "头疼几天了"),
]
DIFFERENT = [
    ("有没有发烧？", "有没有咳嗽？"),
    ("发烧多久了？", "咳嗽多久了？"),
    ("头疼多久了", "牙疼多久了"),
    ("疼多久了", "疼得厉害吗"),
    ("大便怎么样", "小便怎么样"),
    ("做过胃镜吗", "做过肠镜吗"),
    ("做过检查吗", "检查结果怎么样"),
    ("吃过什么药", "对什么药过敏吗"),
    ("有痰吗", "痰是什么颜色"),
    ("有没有发烧", "烧到多少度"),
    ("有高血压吗", "有糖尿病吗"),
    ("抽烟吗", "喝酒吗"),
    ("腿肿吗", "腿麻吗"),
    ("疼多久了？", "疼多久了？晚上出汗吗？"),
]


@pytest.mark.parametrize(("earlier", "text"), REPHRASED)
def test_a_rephrased_question_is_a_repeat(earlier, text):
    assert repeats(text, [earlier])
    assert repeats(text, ["您好，请问怎么了？", earlier, "经常熬夜吗？"])


@pytest.mark.parametrize(("earlier", "text"), DIFFERENT)
def test_the_same_frame_about_something_else_is_not_a_repeat(earlier, text):
    assert not repeats(text, [earlier])


@pytest.mark.parametrize("text", [text for text in ASKING if "？" in text or len(text) < 9])
def test_a_question_repeats_itself_and_nothing_before_it(text):
    assert repeats(text, [text])
    assert not repeats(text, [])

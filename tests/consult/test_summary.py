"""The page for the doctor: quotations alone, each in its place, one sheet of paper."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.consult.handoff import CARE
from bianque.consult.summary import SECTIONS, nearest, summary, topic
from bianque.data.compose import compose
from bianque.errors import BadInput
from bianque.types import Message

FEVER = [
    ("user", "你好"), ("assistant", "您好，请问有什么不舒服？"),
    ("user", "孩子发烧39度两天了，还咳嗽，没有拉肚子，昨天淋了雨。吃了布洛芬能退一会儿。要不要紧？"),
    ("assistant", "孩子多大了？平时身体怎么样？"), ("user", "3岁，平时挺好的，有过敏性鼻炎"),
    ("assistant", "精神状态如何？有没有抽搐？"), ("user", "精神还行，没抽搐。"),
    ("assistant", "喉咙疼吗？"), ("user", "有点，不想吃饭"),
    ("assistant", "出疹子了吗"), ("user", "不清楚"),
    ("assistant", "考虑上呼吸道感染，多喝水；若持续高热请到儿科或发热门诊就诊，查血常规。"),
    ("user", "医生我自己胸口压榨样疼，出冷汗半小时了"), ("assistant", "请立即拨打120，不要自行驾车，前往最近的急诊。"),
]  # fmt: skip


def spoken(pairs=FEVER):
    phase = lambda role, text: None if role == "user" else "advising" if "。" in text else "asking"
    return [{"role": role, "content": text, "phase": phase(role, text), "model": None} for role, text in pairs]


def composed(count, seed):
    for consultation in compose(count, seed):
        yield [
            Message("user" if turn.role == "patient" else "assistant", turn.text, turn.phase, "ask-mini")
            for turn in consultation.turns
        ]


def texts(found, section):
    return [quote.text for quote in found.sections[section]]


def check_quotes(found, dialogue):
    contents = [turn.content if isinstance(turn, Message) else turn["content"] for turn in dialogue]
    for quote in found.quotes():
        assert quote.text in contents[quote.turn]
        assert not quote.question or any(quote.question in said for said in contents[: quote.turn + 1])


def test_everything_has_its_place():
    found = summary(spoken())
    assert texts(found, "complaint") == [FEVER[2][1], FEVER[12][1]]
    assert texts(found, "duration") == ["孩子发烧39度两天了", "出冷汗半小时了"]
    assert texts(found, "signs") == ["还咳嗽", "精神还行", "有点，不想吃饭"]
    assert texts(found, "denied") == ["没有拉肚子", "平时挺好的", "没抽搐"]
    assert texts(found, "trigger") == ["昨天淋了雨"] and texts(found, "other") == ["3岁"]
    assert texts(found, "history") == ["吃了布洛芬能退一会儿", "有过敏性鼻炎"]
    assert [quote.question for quote in found.sections["asked"]][1:3] == [FEVER[3][1], FEVER[5][1]]
    assert texts(found, "advice") == [FEVER[11][1], FEVER[13][1]]
    assert texts(found, "department") == ["儿科", "发热门诊", "急诊"]
    assert [(danger.level, danger.said.turn) for danger in found.dangers] == [("emergency", 12)]
    check_quotes(found, spoken())


def test_danger_comes_first_and_what_nobody_said_stays_empty():
    page = summary(spoken()).markdown()
    assert page.index("120") < page.index("## 主诉") < page.index("## 建议科室")
    quiet = summary(spoken([("user", "头痛")]))
    assert not quiet.dangers and not quiet.sections["advice"] and quiet.markdown().count("没有说到") == 9


def test_every_quotation_is_in_the_dialogue():
    for dialogue in composed(25, 77):
        found = summary(dialogue)
        check_quotes(found, dialogue)
        assert tuple(found.sections) == SECTIONS and found.models == ("ask-mini",) * bool(found.models)


TURNS = st.lists(st.text(alphabet="我咳嗽三天了没有发烧吃药吗？，。\n 过敏<b>&*a", max_size=60), min_size=1, max_size=9)


@given(TURNS)
def test_whatever_is_said_is_quoted_as_it_stands(lines):
    dialogue = spoken([(("user", "assistant")[i % 2], line) for i, line in enumerate(lines)])
    if any(turn["role"] == "user" and turn["content"].strip() for turn in dialogue):
        check_quotes(summary(dialogue), dialogue)
    else:
        with pytest.raises(BadInput, match="没有对话"):
            summary(dialogue)


def test_answers_are_found_by_what_was_asked():
    """Composed consultations tell which answer is to which question; a single fact an answer, as many as there are."""
    right = {"duration": 0, "history": 0}
    every = dict(right)
    for consultation in compose(60, 4242):
        dialogue = [
            Message("user" if t.role == "patient" else "assistant", t.text, t.phase) for t in consultation.turns
        ]
        found = summary(dialogue)
        for place, turn in enumerate(consultation.turns[:-1]):
            told = consultation.turns[place + 1].told
            if turn.slot in every and list(told) == [turn.slot]:
                every[turn.slot] += 1
                right[turn.slot] += any(quote.turn == place + 1 for quote in found.sections[turn.slot])
    assert min(every.values()) >= 5 and all(right[slot] >= 0.9 * every[slot] for slot in every), (right, every)


@pytest.mark.parametrize(
    ("question", "section"),
    [
        ("烧了几天了？", "duration"), ("您多大岁数？", "other"), ("家族里有人得过吗？", "history"), ("做过胃镜吗？", "history"),
        ("近期有没有压力特别大？", "trigger"), ("咳出来的痰是什么颜色？", "signs"), ("出疹子了吗", "signs"),
        ("有没有长期服用阿司匹林？", "history"), ("How long has this been going on?", "duration"),
    ],
)  # fmt: skip
def test_a_question_asks_for_a_section(question, section):
    assert topic(question) == section


def test_a_question_in_no_table_is_like_an_example():
    assert nearest("请问您的年龄？") == "other" and nearest("When did it start?") == "duration"


def test_a_long_dialogue_is_cut_and_says_so():
    long = spoken([("user", "头痛" + "很难受" * 200), ("assistant", "有没有发烧？")] * 20)
    for place, turn in enumerate(long[1::2]):
        turn["content"] = f"第{place}个问题，有没有发烧？"
    found = summary(long)
    assert sum(len(quote.text) + len(quote.question) for quote in found.quotes()) < 3000
    assert found.left_out["asked"] > 0 and "另有" in found.markdown()
    assert found.sections["complaint"][0].cut
    check_quotes(found, long)


class Tags(HTMLParser):
    """The tags of a page and the addresses in it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action")]


@pytest.mark.parametrize("lang", ["zh-CN", "zh-TW", "en", "ko"])
def test_the_page_escapes_what_was_said_and_asks_no_network(lang):
    bad = '<img src=x onerror="alert(1)"> 头痛**三天**'
    found = summary(spoken([("user", bad), ("assistant", "<script>alert(2)</script>有没有发烧？")]), lang)
    seen = Tags(found.html())
    assert not {"img", "script", "link", "iframe"} & {*seen.tags} and not seen.addresses
    assert "url(" not in found.html() and f'<html lang="{lang}">' in found.html()
    assert r"\<img" in found.markdown() and r"\*\*三天" in found.markdown()


@pytest.mark.browser
def test_it_prints_on_one_sheet(chromium):
    longest = max(composed(80, 5), key=lambda dialogue: sum(len(m.content) for m in dialogue))
    crowd = [("user", f"第{i}次胸口压榨样疼出冷汗，没有发烧，吃了药{i}片" + "难受" * 50) for i in range(30)]
    asked = [("assistant", f"有没有第{i}种不舒服的感觉，比如恶心、呕吐、心慌？") for i in range(30)]
    crowded = spoken(
        [turn for pair in zip(crowd, asked, strict=True) for turn in pair] + [("assistant", "多休息。" * 300)]
    )
    page = chromium.new_page()
    for dialogue in (spoken(), longest, crowded):
        page.set_content(summary(dialogue).html())
        assert re.findall(rb"/Type /Pages\s[^>]*?/Count (\d+)", page.pdf(prefer_css_page_size=True), re.DOTALL) == [
            b"1"
        ]
    page.set_viewport_size({"width": 320, "height": 568})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.close()


def test_fixed_words_are_no_model():
    said = [Message("user", "胸口压着疼，出冷汗"), Message("assistant", "请马上打 120。", "advising", CARE)]
    assert summary(said).models == ()

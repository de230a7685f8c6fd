"""What is drawn of a consultation, without a page."""

from __future__ import annotations

import re

import pytest

from bianque.consult import handoff, quick, triage
from bianque.data import script as scripts
from bianque.types import Message
from bianque.ui import front, render


@pytest.mark.parametrize(
    "question, named",
    [
        ("咳嗽是干咳还是有痰？", ["干咳", "有痰"]), ("是持续地痛，还是一阵一阵地痛？", ["持续地痛", "一阵一阵地痛"]),
        ("痰是白色、黄色还是绿色的？", ["白色", "黄色", "绿色的"]), ("疼痛是饭前加重还是饭后加重呢？", ["饭前加重", "饭后加重"]),
        ("有没有恶心、呕吐？", []), ("多久了？", []), ("还是疼吗？", []), ("建议休息，还是多喝水。", []),
    ],
)  # fmt: skip
def test_a_question_names_its_choices(question, named):
    assert quick.choices(question) == named
    sent = [option["value"] for option in render.quick_replies({"phase": "asking", "content": question}, "en")]
    assert sent[: len(named)] == named and sent[-2:] == [quick.UNSURE, quick.SKIP]
    assert (quick.NO in sent) == (not named and "多久" not in question)


def test_a_wish_to_be_asked_on_after_advice_begins_asking_again():
    said = [
        Message("user", "头痛"), Message("assistant", "多久了？", "asking"), Message("user", "三天"),
        Message("assistant", "建议休息。", "advising"),
    ]  # fmt: skip
    go_on = [*said, Message("user", "请继续问我。")]
    assert handoff.decide(go_on).phase == "asking" and handoff.read_round(go_on).spoken == ("多久了？", "建议休息。")
    assert handoff.decide([*go_on, Message("assistant", "发热吗？", "asking"), Message("user", "不")]).phase == "asking"
    for text in ("要继续吃药吗？", "别再继续问我了", "谢谢"):
        assert handoff.decide([*said, Message("user", text)]).phase == "advising"


@pytest.mark.parametrize(
    "text, chinese, english",
    [
        ("去医院。（识别到：胸痛） (Go to hospital now.)", "去医院。（识别到：胸痛）", "Go to hospital now."),
        ("只有中文 (x)", "只有中文", "x"), ("去医院", "去医院", "去医院"),
        ("不是 JSON（第 1 列 (char 0)） (not JSON (column 1 (char 0)))", "不是 JSON（第 1 列 (char 0)）", "not JSON (column 1 (char 0))"),
        ("A: seed='x': 需要整数 (an integer is needed)", "A: seed='x': 需要整数", "A: seed='x': an integer is needed"),
        ("没有名为 x 的模型 (there is no model x); 可选 (choose one of): a, b", "没有名为 x 的模型; 可选: a, b", "there is no model x; choose one of: a, b"),
        ("消息是空的，请先描述 (it is empty; describe it)", "消息是空的，请先描述", "it is empty; describe it"),
        ("mode='x': 可选 (choose one of) auto, ask", "mode='x': 可选 auto, ask", "mode='x': choose one of auto, ask"),
    ],
)  # fmt: skip
def test_of_a_text_in_two_languages_a_visitor_reads_one(text, chinese, english):
    assert [render.one_language(text, lang) for lang in ("zh-CN", "ko")] == [chinese, english]
    assert render.one_language(text, "zh-TW").translate(scripts.simplified()) == chinese
    assert english in render.alert(text, "en").replace("&#x27;", "'")


def test_an_error_in_traditional_chinese():
    assert render.one_language("没有名为 x 的模型 (there is no model x)", "zh-TW") == "沒有名為 x 的模型"


def test_a_notice_speaks_one_language_and_a_visitors_words_are_no_markup():
    notice = {"level": "emergency", "text": "去医院", "do": "别开车", "tel": ["120", "119"]}
    drawn = render.notice_html(notice, "zh-CN", newest=True)
    assert re.findall("tel:(\\d+)", drawn) == ["120", "119"] and "别开车" in drawn and 'role="alert"' in drawn
    assert "bq-why" not in drawn
    explained = render.notice_html({**notice, "nearest": ["嘴歪了<b>", "说不出话"]}, "zh-CN", newest=True)
    assert "<summary>为什么有这条提示？</summary>" in explained and "「嘴歪了&lt;b&gt;」<br>「说不出话」" in explained
    assert "tel:" not in render.notice_html({"level": "history", "text": "略"}, "zh-CN", newest=True)
    known = notice | {"kind": "acs", "certainty": "sure"}
    drawn = render.notice_html(
        known, "en", newest=True, said="胸口疼"
    )  # who reads English may be asked to write Chinese
    assert "emergency" in drawn and "Call 120" in drawn and not re.search("[一-鿿]", drawn)
    drawn = render.notice_html(known, "zh-CN", newest=True, said="crushing chest pain, cold sweat")
    assert "emergency" in drawn and "Call 120" in drawn and not re.search("[一-鿿]", drawn)
    assert render.verbatim("# a\n1. b\n  c") == "&#35; a\n1&#46; b\n&nbsp;&nbsp;c"


def test_a_list_ends_where_the_next_line_is_no_item():
    assert render.written("如下：\n1. 甲\n2. 乙\n再说一句") == "如下：\n1. 甲\n2. 乙\n\n再说一句"
    assert render.written("* 甲\n• 乙\n丙\n丁") == "- 甲\n- 乙\n\n丙\n丁"
    assert render.written("1. 甲\n   又\n2. 乙") == "1. 甲\n   又\n2. 乙"


@pytest.mark.parametrize(
    "said",
    [
        "胸口剧烈疼痛，喘不上气",
        "胸口劇烈疼痛，喘不過氣",
        "crushing chest pain and a cold sweat",
        "가슴이 조이듯 아프고 식은땀이 나고 숨이 차요",
    ],
)
def test_a_tap_settles_an_emergency_in_the_language_it_was_told_in(said):
    turns = [
        {"role": "user", "content": said}, {"role": "assistant", "content": "x", "phase": "advising", "model": "care"},
    ]  # fmt: skip
    sent = [option["value"] for option in render.settling(turns, "zh-CN")]
    assert len(sent) == 2 and all(triage.settled(word) for word in sent)
    for word in sent:
        assert render.settling([*turns, {"role": "user", "content": word}, turns[1]], "zh-CN") == []
    new = {"role": "user", "content": f"{sent[1]}。刚才右手突然没力气，说话不清"}
    assert render.settling([*turns, new, turns[1]], "zh-CN")
    assert render.settling([turns[0] | {"content": "我想死"}, turns[1]], "zh-CN") == []
    assert render.settling([turns[0], turns[1] | {"model": "advise-mini"}], "zh-CN") == []


def test_only_the_page_itself_is_rewritten():
    page = front.page("<html\n\tlang=\"en\"><head><title>x</title></head><gradio-app></gradio-app>", {
        "type": "http", "headers": [(b"accept-language", b"en"), (b"host", b"a.example")], "scheme": "https", "path": "/",
        "server": ("a.example", 443), "query_string": b"",
    })  # fmt: skip
    assert '<html lang="en"' in page and "<title>x" not in page and "https://a.example/page.png" in page
    assert front.packed(b"x", "identity") == (b"x", "") and front.packed(b"x" * 99, "gzip")[1] == "gzip"

"""The Compare tab in a real browser: columns answer at the same time, and every one can be told apart and taken along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bianque.consult.session import Delta, Done, Failure, Loading, Notice, Speaking, Thinking, Timing
from bianque.consult.transcript import Transcript
from bianque.errors import LoadFailed
from bianque.types import Message, Progress, Usage
from bianque.ui import column as columns
from tests.conftest import ADVICE, QUESTIONS, ROOT, Scripted, free_port
from tests.ui.test_page import LABEL, research, wait_for
from tests.ui.test_patient_page import violations, walk
from tests.ui.window import PHONE, WAIT, visit

TABS = {"zh-CN": "对比", "zh-TW": "比較", "en-US": "Compare", "ko-KR": "비교"}


@pytest.fixture(scope="module")
def served():
    """One server for all tests of this file, which run one after the other."""
    from bianque.consult.session import Session
    from bianque.ui import serve
    from bianque.ui.page import Page as Consultation

    voices = Scripted()
    page = Consultation(Session(voices, "ask-mini", "advise-mini"), ROOT / "examples.json")
    demo, here = page.build(), {"server_name": "127.0.0.1", "server_port": free_port()}
    _, address, _ = serve.launch(demo, page.session, **here, prevent_thread_lock=True)
    yield address, voices
    demo.close(verbose=False)


@pytest.fixture
def script(served) -> Scripted:
    """What the voices say, as if nobody had ever spoken."""
    fresh = Scripted(asks=list(QUESTIONS), advises=[ADVICE], pause=0.002)
    vars(served[1]).update(vars(fresh))
    return served[1]


@pytest.fixture
def url(served, script) -> str:
    return served[0]


def opened(chromium, url, **options) -> Page:
    page = visit(chromium, url, **options)
    research(page, TABS[options.get("locale", "zh-CN")])
    page.locator("#bq-all textarea").wait_for(timeout=WAIT)
    return page


def say(page: Page, text: str) -> None:
    box = page.locator("#bq-all textarea")
    box.fill(text)
    box.press("Enter")


def idle(page: Page) -> None:
    expect(page.locator("#bq-all .submit-button")).to_be_visible(timeout=WAIT)


def column(page: Page, place: int):
    return page.locator(f"#bq-side-{place}")


def replies(page: Page, place: int):
    return column(page, place).locator(".message.bot")


def press(page: Page, name: str, place: int | None = None) -> None:
    where = page.locator("#bq-all-actions") if place is None else column(page, place)
    where.get_by_role("button", name=name).click()


def asked(page: Page, text: str = "最近总是头痛") -> None:
    """A message that both columns have answered."""
    say(page, text)
    expect(page.locator("#bq-all textarea")).to_have_value("", timeout=WAIT)  # it is on its way
    expect(page.locator("#bq-note")).to_contain_text("已答完", timeout=WAIT)
    idle(page)


def test_columns_answer_at_the_same_time_and_show_their_figures(chromium, url, script):
    script.asks, script.advises, script.pause = ["请问疼了多久？" + "还有别的吗" * 8], ["建议您先休息" * 8], 0.5
    page = opened(chromium, url)
    say(page, "最近总是头痛")
    page.wait_for_function(
        """() => document.querySelector('#bq-all .stop-button') && [0, 1].every(place =>
        /[问议]/.test(document.querySelector(`#bq-side-${place} .message.bot:has(.bq-who) p:last-child`)?.textContent))""",
        timeout=WAIT,
    )
    expect(page.locator("#bq-note")).to_contain_text("正在作答：A、B")
    script.pause = 0  # both were seen at work: the rest at once
    idle(page)
    expect(replies(page, 0)).to_contain_text("请问疼了多久")
    expect(replies(page, 1)).to_contain_text("建议您先休息")
    told = [column(page, place).locator(".bq-told p") for place in (0, 1)]
    for line, parts in zip(told, (["问", "ask-mini", "47 字"], ["答", "advise-mini", "48 字"]), strict=True):
        for part in [*parts, "float32", "首词", "词元/秒"]:
            expect(line).to_contain_text(part)
    assert page.locator("#bq-note").get_attribute("role") == "status"
    assert page.errors == []


def test_one_column_can_be_retried_and_carried_into_all(chromium, url, script):
    page = opened(chromium, url)
    asked(page)
    kept = replies(page, 1).last.inner_text()
    press(page, "重答", 0)
    expect(replies(page, 0).last).to_contain_text("哪个部位？", timeout=WAIT)
    idle(page)
    assert replies(page, 1).last.inner_text() == kept and replies(page, 0).count() == 1
    press(page, "复制到所有列", 0)
    expect(replies(page, 1).last).to_contain_text("哪个部位？", timeout=WAIT)
    asked(page, "后脑勺")
    heard = {model: [turn.content for turn in dialogue] for model, dialogue, _ in script.heard[-2:]}
    assert heard["advise-mini"] == heard["ask-mini"] == ["最近总是头痛", "头痛是哪个部位？", "后脑勺"]
    press(page, "撤回")
    expect(page.locator("#bq-all textarea")).to_have_value("后脑勺")
    expect(replies(page, 1)).to_have_count(1)
    page.locator("#bq-all textarea").fill("")
    script.asks, script.advises = ["换一句问您：多久了？"], ["换一句建议您：好好休息。" * 3]
    press(page, "全部重答")
    for place in (0, 1):
        expect(replies(page, place).last).to_contain_text("换一句", timeout=WAIT)
    idle(page)
    assert [len(dialogue) for _, dialogue, _ in script.heard[-2:]] == [1, 1]
    press(page, "清空")
    expect(page.locator(".bq-talk .message")).to_have_count(0, timeout=WAIT)


def answering(chromium, url, script) -> Page:
    """Both columns write, and would for long."""
    script.asks, script.advises, script.pause = ["请问疼了多久？" + "还有吗" * 300], ["建议休息" * 300], 0.2
    page = opened(chromium, url)
    say(page, "肚子疼")
    for place in (0, 1):
        expect(replies(page, place).last).to_contain_text("休息" if place else "请问", timeout=WAIT)
    return page


def ended(page: Page, script, wait: int) -> None:
    """Both columns have ended, and nothing is written any more."""
    idle(page)
    wait_for(lambda: sorted(script.closed) == ["advise-mini", "ask-mini"])
    written = script.written
    page.wait_for_timeout(wait)
    assert script.written == written < 1000


def test_stop_ends_every_column(chromium, url, script):
    page = answering(chromium, url, script)
    for button in page.locator(".bq-side .bq-actions button").all():
        if button.is_visible():
            expect(button).to_be_disabled()
    page.locator("#bq-all .stop-button").click()
    ended(page, script, 300)
    for place in (0, 1):
        expect(replies(page, place).last).to_contain_text("已停止")


def test_clearing_ends_every_column_and_leaves_nothing(chromium, url, script):
    page = answering(chromium, url, script)
    expect(page.get_by_role("radio", name="3 列")).to_be_disabled()  # the columns are another picture, drawn over these
    press(page, "清空")
    ended(page, script, 600)
    expect(page.locator(".bq-talk .message")).to_have_count(0)
    page.get_by_role("radio", name="3 列").check()
    page.reload()
    research(page, TABS["zh-CN"])
    expect(page.locator("#bq-all-actions").get_by_role("button", name="清空")).to_be_disabled(timeout=WAIT)
    expect(page.locator(".bq-talk .message")).to_have_count(0)


def test_a_link_restores_the_setup_and_sends_nothing(chromium, url, script):
    page = opened(chromium, url)
    page.get_by_role("radio", name="3 列").check()
    expect(column(page, 2)).to_be_visible()
    column(page, 1).get_by_role("button", name="采样").click()
    column(page, 1).get_by_label("温度").fill("0.3")
    page.locator("#bq-seed").get_by_role("textbox").fill("7")
    page.locator("#bq-all textarea").fill("最近总是头痛 & <b>")
    press(page, "分享设置的链接")
    bare = page.locator("#bq-link :is(input, textarea)")
    wait_for(lambda: bare.count() and bare.input_value().endswith("&seed=7"))  # no word of the complaint
    page.get_by_label("连同第一条消息").check()
    press(page, "分享设置的链接")
    shared = page.locator("#bq-link :is(input, textarea)")
    end = "?compare=1;auto;advise:temperature=0.3;ask-mini&seed=7#say="
    wait_for(lambda: shared.count() and shared.input_value().startswith(url + end))
    link = shared.input_value()

    other = visit(chromium, link)
    expect(other.locator("#bq-all textarea")).to_have_value("最近总是头痛 & <b>", timeout=WAIT)
    expect(column(other, 2)).to_be_visible()
    expect(column(other, 3)).to_be_hidden()
    expect(column(other, 1).locator(".bq-side-who input")).to_have_value("给建议")
    expect(column(other, 2).locator(".bq-side-who input")).to_have_value("问诊小模型 ask-mini")
    assert script.heard == [] and not [sent for sent in other.requests if "say" in sent]
    asked(other)
    assert sorted((s.seed, s.temperature) for _, _, s in script.heard)[0] == (7, 0.3)
    other.reload()
    expect(replies(other, 2).last).to_contain_text(
        "？", timeout=WAIT
    )  # the same link again: what was said is still there


def test_four_columns_are_covered_by_nothing_in_any_window(chromium, url):
    page = opened(chromium, url)
    for kind in ("Markdown", "JSON"):
        expect(page.locator("#bq-all-actions").get_by_role("button", name=kind)).to_be_disabled()
    page.get_by_role("radio", name="4 列").check()
    expect(column(page, 3)).to_be_visible(timeout=WAIT)
    asked(page)
    assert violations(page) == []
    walk(page, "four columns")


def test_fewer_columns_lose_no_conversation(chromium, url, script):
    page = opened(chromium, url)
    page.get_by_role("radio", name="3 列").check()
    asked(page)
    expect(replies(page, 2)).to_have_count(1)
    page.get_by_role("radio", name="2 列").check()
    expect(column(page, 2)).to_be_hidden()
    expect(page.locator("#bq-note")).to_contain_text("C 列的对话还在")
    asked(page, "后脑勺")
    assert len(script.heard) == 5
    press(page, "撤回")
    expect(page.locator("#bq-all textarea")).to_have_value("后脑勺")
    page.get_by_role("radio", name="3 列").check()
    for place in range(3):
        expect(replies(page, place)).to_have_count(1)


def test_a_wrong_link_or_number_is_named_and_nothing_is_lost(chromium, url, script):
    page = visit(chromium, f"{url}?compare=1;auto;bianqe-2")
    expect(page.locator("#bq-note [role=alert]")).to_contain_text("bianqe-2", timeout=WAIT)
    column(page, 1).get_by_role("button", name="采样").click()
    column(page, 1).get_by_label("温度").fill("热")
    page.set_viewport_size({"width": 844, "height": 390})  # the box is far below the line that says what is wrong
    say(page, "最近总是头痛")
    expect(page.locator("#bq-note [role=alert]")).to_contain_text("不能是“热”", timeout=WAIT)
    expect(page.locator("#bq-note [role=alert]")).to_be_in_viewport()
    expect(page.locator("#bq-all textarea")).to_have_value("最近总是头痛")
    assert script.heard == []


def test_a_failure_is_calm_and_can_be_retried(chromium, url, script):
    script.fails = LoadFailed("模型库连不上，请稍后重试")
    page = opened(chromium, url)
    asked(page)
    expect(replies(page, 0).last).to_contain_text("模型库连不上")
    script.fails = RuntimeError("/srv/hidden/path")
    press(page, "重答", 1)
    expect(replies(page, 1).last).to_contain_text("抱歉，这一轮没有完成", timeout=WAIT)
    idle(page)
    assert "hidden/path" not in page.content()
    script.fails = None
    press(page, "全部重答")
    expect(replies(page, 1).last).to_contain_text("建议您先休息", timeout=WAIT)
    expect(replies(page, 0).last).to_contain_text("头痛多久了")


def test_a_red_flag_stands_once_above_the_columns_and_markup_is_text(chromium, url, script):
    script.advises = ["<b>休息</b> ![x](http://example.com/x.png)"]
    page = opened(chromium, url)
    asked(page, "头痛 <img src=http://example.com/y.png>")
    expect(replies(page, 1).last).to_contain_text("<b>休息</b>")
    idle(page)
    say(page, "我不想活了")
    expect(page.locator("[role=alert]:visible")).to_have_count(1)
    expect(page.locator("#bq-alert")).to_contain_text("12356")
    assert page.locator(".bq-talk .message b, .bq-talk .message img").count() == 0
    assert not [sent for sent in page.requests if "example.com" in sent]


def test_exports_hold_the_whole_comparison(chromium, url):
    page = opened(chromium, url)
    asked(page)
    for kind in ("Markdown", "JSON"):
        with page.expect_download() as saved:
            press(page, f"导出 {kind}")
        text = Path(saved.value.path()).read_text(encoding="utf-8")
        for part in (LABEL, "最近总是头痛", "头痛多久了？", "建议您先休息", "CC BY 4.0", "compare=1;auto;advise"):
            assert part in text
    assert [c["messages"][1]["figures"]["asks"] for c in json.loads(text)["columns"]] == [True, False]


def test_a_phone_swipes_from_column_to_column(chromium, url):
    page = opened(chromium, f"{url}?__theme=dark", **PHONE)
    asked(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    expect(column(page, 0).locator(".bq-told p")).to_be_in_viewport(ratio=0.9)
    expect(page.locator("#bq-all textarea")).to_be_in_viewport()
    strip = page.locator("#bq-sides")
    assert "mandatory" in strip.evaluate("e => getComputedStyle(e).scrollSnapType")
    strip.evaluate("e => e.scrollTo({left: 300, behavior: 'instant'})")
    expect(column(page, 1)).to_be_in_viewport(ratio=0.8)
    for field in ("#bq-all textarea", "#bq-seed :is(input, textarea)", "#bq-side-1 .bq-side-who input"):
        assert page.locator(field).evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 16, field


@pytest.mark.parametrize(
    ("locale", "message", "count"),
    [("zh-TW", "發給每一欄的訊息", "4 欄"), ("en-US", "Message to every column", "4 columns")],
)
def test_the_tab_speaks_the_visitors_language_and_names_its_parts(chromium, url, locale, message, count):
    page = opened(chromium, url, locale=locale)
    expect(page.get_by_role("textbox", name=message)).to_be_visible(timeout=WAIT)
    page.get_by_role("radio", name=count).check()
    expect(page.get_by_role("group", name="D")).to_be_visible(timeout=WAIT)
    names = (
        "e => e.getAttribute('aria-label') || e.getAttribute('title') || e.closest('label')?.innerText || e.innerText"
    )
    for control in page.locator("#bq-compare-tab :is(button, input, textarea)").all():
        if control.is_visible() and control.get_attribute("type") != "radio":
            assert control.evaluate(names).strip()


# --- how a column is drawn ---


def lane(*events) -> Transcript:
    found = Transcript([], "头痛", apart=True, contender="ask")
    for event in events:
        found.apply(event)
    return found


QUEUED = Loading(Progress("ask-mini", "queued", 0.0))
THINKING, SPEAKING = Thinking("ask-mini", "asking"), Speaking("ask-mini", "asking", None, 8)
ENDED = Done(Message("assistant", "多久？", "asking", "ask-mini"), "stop", Usage(), Timing())


@pytest.mark.parametrize(
    ("lanes", "words"),
    [
        ([lane(QUEUED), lane(QUEUED)], "正在作答：A、B"),
        ([lane(QUEUED), lane(THINKING)], "轮流作答。等待：A"),
        ([lane(SPEAKING), lane(THINKING, Loading(Progress("ask-mini", "queued", 0.0, 1)))], "正在作答：A、B"),
        ([lane(SPEAKING, ENDED), lane(SPEAKING)], "正在作答：B"),
        ([lane(SPEAKING, ENDED), lane(Failure("BQ_BUSY", "人多"))], "已答完"),
    ],
)
def test_the_line_above_says_who_answers_and_who_takes_turns(lanes, words):
    assert words in columns.progress_line(dict(enumerate(lanes)), "zh-CN")


def test_a_growing_column_is_not_yet_stopped_and_figures_are_kept():
    growing = lane(THINKING, SPEAKING, Delta("多久？"))
    messages, told = columns.look(growing, "zh-CN")
    assert "已停止" not in messages[-1]["content"] and "3 字" in told and not growing.changed
    assert growing.turns[-1]["figures"]["asks"] and "已停止" in columns.talk(growing.turns, "zh-CN")[-1]["content"]
    assert "已停止" in columns.talk(lane(THINKING).turns, "zh-CN")[-1]["content"]
    assert "人多" in columns.talk(lane(Failure("BQ_BUSY", "人多")).turns, "zh-CN")[-1]["content"]


def test_what_a_browser_sends_back_is_escaped():
    flagged = lane(Notice("crisis", "<b>12356</b>")).turns
    assert "<b>" not in columns.red_flag([[], flagged], "en") and columns.red_flag([[], []], "en") == ""
    spoken = lane(Thinking("<b>x</b>", "asking"), SPEAKING, Delta("多久？"))
    assert "<b>x" not in columns.look(spoken, "zh-CN")[1] and "&lt;b&gt;x" in columns.look(spoken, "zh-CN")[1]

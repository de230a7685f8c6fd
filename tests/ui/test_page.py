"""The page in a real browser, over a backend that says what the test wants."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bianque.catalog.builtin import by_name
from bianque.consult.pacing import with_heartbeat
from bianque.errors import LoadFailed
from bianque.ui import compare, render
from bianque.ui import page as chat
from tests.conftest import ROOT, afresh, serving
from tests.ui.window import PHONE, WAIT, visit

LABEL = "内容由人工智能生成，仅供参考"


def research(page: Page, name: str) -> None:
    """Open one of the tabs for researchers."""
    page.locator("#bq-research-tab-button").click()
    page.locator("#bq-research").get_by_role("tab", name=name).click()


def say(page: Page, text: str) -> None:
    box = page.locator("#bq-box textarea")
    box.fill(text)
    box.press("Enter")


def replies(page: Page):
    return page.locator("#bq-chat .message.bot")


def idle(page: Page) -> None:
    expect(page.locator(".bq-pending")).to_have_count(0, timeout=WAIT)
    expect(page.locator("#bq-box .submit-button")).to_be_visible(timeout=WAIT)


def test_a_whole_consultation_asks_hands_over_and_advises(chromium, url, script):
    page = visit(chromium, url)
    for number, message in enumerate(("最近总是头痛", "一个星期了", "后脑勺"), 1):
        say(page, message)
        expect(replies(page).nth(number - 1)).to_contain_text("问诊 · ask-mini", timeout=WAIT)
        expect(replies(page).nth(number - 1)).to_contain_text("？")
        idle(page)
        expect(page.locator("#bq-progress")).to_have_text(f"第 {number} 问，最多 8 问")
    assert script.prepared  # the advising model was on its way while the first one asked
    page.get_by_role("button", name="直接给建议").click()
    last = replies(page).last
    expect(last).to_contain_text("建议您先休息", timeout=WAIT)
    expect(replies(page).nth(-2)).to_contain_text("问诊结束 · 您要求直接给建议")
    expect(last).to_contain_text("建议 · advise-mini")
    idle(page)
    assert [url for url in page.requests if "//127.0.0.1" not in url and not url.startswith(("data:", "blob:"))] == []
    assert page.errors == []


@pytest.fixture
def late(monkeypatch):
    """Both tabs' first paint waits until the test wants it."""
    wanted, greeted = threading.Event(), threading.Semaphore(0)

    def slow(greet):
        @functools.wraps(greet)
        def slowly(*given):
            wanted.wait(WAIT / 1000)
            try:
                return greet(*given)
            finally:
                greeted.release()

        return slowly

    for tab in (chat.Page, compare.Compare):
        monkeypatch.setattr(tab, "greet", slow(tab.greet))
    with serving() as (url, voices):
        afresh(voices)
        yield url, lambda: (wanted.set(), [greeted.acquire(timeout=WAIT / 1000) for _ in range(2)])[1]
        wanted.set()


def test_a_first_message_outlives_a_late_greeting(chromium, late):
    url, late = late
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    expect(replies(page).first).to_contain_text("问诊 · ask-mini", timeout=WAIT)
    research(page, "对比")
    page.get_by_role("radio", name="3 列").check()
    expect(page.locator("#bq-side-2")).to_be_visible()
    page.locator("#bq-seed").get_by_role("textbox").fill("7")
    box = page.locator("#bq-all textarea")
    box.fill("最近总是头痛")
    box.press("Enter")
    expect(page.locator("#bq-note")).to_contain_text("已答完", timeout=WAIT)
    assert late() == [True, True]
    page.wait_for_timeout(1000)
    expect(page.locator("#bq-side-1 .message.bot")).to_contain_text("建议您先休息")
    expect(page.locator("#bq-side-2")).to_be_visible()
    expect(page.locator("#bq-seed").get_by_role("textbox")).to_have_value("7")
    page.get_by_role("tab", name="问诊").click()
    expect(replies(page).first).to_contain_text("问诊 · ask-mini")
    expect(page.get_by_role("button", name="清空")).to_be_enabled()


def test_stop_ends_generation_and_keeps_what_was_written(chromium, url, script):
    script.asks, script.pause = ["请问疼了多久？" + "还有什么不舒服吗" * 200], 0.2
    page = visit(chromium, url)
    say(page, "肚子疼")
    expect(replies(page).last).to_contain_text("请问疼了多久", timeout=WAIT)
    expect(replies(page).last).not_to_contain_text("已停止")
    page.locator("#bq-box .stop-button").click()
    idle(page)
    wait_for(lambda: script.closed == ["ask-mini"])
    written = script.written
    page.wait_for_timeout(400)
    assert script.written == written < 800
    expect(replies(page).last).to_contain_text("请问疼了多久")
    expect(replies(page).last).to_contain_text("已停止")


def test_closing_the_page_ends_generation(chromium, url, script):
    script.asks, script.pause = ["请问疼了多久？" + "还有什么不舒服吗" * 500], 0.2
    page = visit(chromium, url)
    say(page, "肚子疼")
    expect(replies(page).last).to_contain_text("请问疼了多久", timeout=WAIT)
    page.close()
    wait_for(lambda: script.closed == ["ask-mini"])


@pytest.mark.parametrize("leave", ["stop", "close"])
def test_a_reply_that_has_not_begun_can_be_left(chromium, url, script, leave):
    script.silence = 120.0  # longer than anything here waits
    page = visit(chromium, url)
    say(page, "肚子疼")
    expect(page.locator("#bq-chat .bq-status")).to_contain_text("正在想要问什么", timeout=WAIT)
    if leave == "close":
        page.close()
        wait_for(lambda: script.closed == ["ask-mini"])
        return
    page.locator("#bq-box .stop-button").click()
    wait_for(lambda: script.closed == ["ask-mini"])
    idle(page)
    expect(replies(page)).to_have_text("（已停止）")
    page.get_by_role("button", name="撤回").click()
    expect(page.locator("#bq-box textarea")).to_have_value("肚子疼")


def test_one_reply_at_a_time(chromium, url, script):
    script.asks, script.pause = ["请问疼了多久？" + "还有什么不舒服吗" * 200], 0.2
    page = visit(chromium, url)
    for button in page.locator("#bq-actions button").all():
        expect(button).to_be_disabled()  # nothing to retry, undo or clear yet
    say(page, "肚子疼")
    expect(replies(page).last).to_contain_text("请问疼了多久", timeout=WAIT)
    for button in page.locator("#bq-actions button").all():
        expect(button).to_be_disabled()
    expect(page.get_by_role("button", name="编辑")).to_have_count(0)
    say(page, "第二句")
    page.wait_for_timeout(400)
    expect(page.locator("#bq-box textarea")).to_have_value("第二句")
    assert len(script.heard) == 1
    page.locator("#bq-box .stop-button").click()
    idle(page)
    expect(page.locator("#bq-box textarea")).to_have_value("第二句")
    page.get_by_role("button", name="清空", exact=True).click()
    expect(page.locator("#bq-chat .message")).to_have_count(0)


def wait_for(condition, seconds=40.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_a_refresh_keeps_the_dialogue_and_clearing_wipes_it(chromium, url):
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    page.reload()
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    page.get_by_role("button", name="清空", exact=True).click()
    expect(replies(page)).to_have_count(0, timeout=WAIT)
    page.wait_for_timeout(300)
    page.reload()
    page.locator("#bq-box textarea").wait_for()
    page.wait_for_timeout(800)
    expect(replies(page)).to_have_count(0)


def test_retry_undo_and_edit(chromium, url, script):
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    page.get_by_role("button", name="重答").click()
    expect(replies(page).last).to_contain_text("哪个部位？", timeout=WAIT)
    idle(page)
    assert [turn.content for turn in script.heard[-1][1]] == ["最近总是头痛"]
    page.locator("#bq-chat .message-row.user-row").hover()
    page.get_by_role("button", name="编辑").or_(page.get_by_role("button", name="Edit")).first.click()
    area = page.locator("#bq-chat textarea").first
    area.fill("孩子咳嗽三天")
    script.asks = ["咳嗽有痰吗？"]
    page.locator("#bq-chat").get_by_role("button", name="发送").click()
    expect(replies(page).last).to_contain_text("有痰吗？", timeout=WAIT)
    idle(page)
    assert [turn.content for turn in script.heard[-1][1]] == ["孩子咳嗽三天"]
    page.get_by_role("button", name="撤回").click()
    expect(replies(page)).to_have_count(0, timeout=WAIT)
    expect(page.locator("#bq-box textarea")).to_have_value("孩子咳嗽三天")


def test_loading_shows_in_the_conversation(chromium, url, script):
    script.loading = 1.0
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    expect(page.locator("#bq-chat .bq-status")).to_contain_text("正在加载 ask-mini… 50%", timeout=WAIT)
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)


ODD = "烧到38~39度 <b>头痛</b> *很*痛 &lt; [x]"


def test_what_is_copied_or_edited_is_what_is_seen(chromium, url, script):
    page = visit(chromium, url, permissions=["clipboard-read", "clipboard-write"])
    say(page, ODD)
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    expect(page.locator("#bq-chat .message.user")).to_contain_text(ODD)
    page.get_by_role("button", name="复制", exact=True).last.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("问诊 · ask-mini\n\n请问头痛多久了？") and LABEL in copied
    open_panel(page)
    page.get_by_role("button", name="复制全部对话").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"患者\n{ODD}\n\n问诊 · ask-mini\n请问头痛多久了？")
    page.get_by_role("button", name="编辑").first.click()
    area = page.locator("#bq-chat textarea").first
    expect(area).to_have_value(ODD)
    area.press_sequentially("！")
    page.locator("#bq-chat").get_by_role("button", name="发送").click()
    wait_for(lambda: [turn.content for turn in script.heard[-1][1]] == [ODD + "！"])


def open_panel(page: Page) -> None:
    page.get_by_role("button", name="模型、采样与导出").click()
    expect(page.get_by_label("温度")).to_be_visible(timeout=WAIT)
    page.wait_for_timeout(300)


def test_the_panel_changes_nothing_until_something_is_written_in_it(chromium, url, script):
    page = visit(chromium, url)
    open_panel(page)
    expect(page.locator("#bq-exports button").first).to_be_hidden()  # there is nothing to take along
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    assert script.heard[-1][2] == by_name()["ask-mini"].sampling
    page.get_by_label("温度").fill("0.3")
    page.get_by_label("随机种子").fill("7")
    say(page, "一个星期了")
    expect(replies(page).nth(1)).to_contain_text("哪个部位？", timeout=WAIT)
    idle(page)
    assert script.heard[-1][2].temperature == 0.3 and script.heard[-1][2].seed == 7
    page.get_by_label("温度").fill("热")
    say(page, "后脑勺")
    expect(replies(page).last).to_contain_text("“温度”要填数字，不能是“热”", timeout=WAIT)
    page.get_by_label("温度").fill("")
    idle(page)
    page.get_by_role("button", name="重答").click()
    expect(replies(page).last).to_contain_text("有没有恶心", timeout=WAIT)


def test_an_example_begins_a_consultation(chromium, url, script):
    page = visit(chromium, url)
    page.locator("#bq-examples button").first.click()
    expect(replies(page).last).to_contain_text("哪个部位？", timeout=WAIT)  # how long is said in the example
    assert script.heard[-1][1][0].content == json.loads((ROOT / "examples.json").read_text("utf-8"))[0]["text"]


def test_composing_chinese_does_not_send(chromium, url, script):
    page = visit(chromium, url)
    page.locator("#bq-box textarea").focus()
    keys = page.context.new_cdp_session(page)
    keys.send("Input.imeSetComposition", {"text": "tou", "selectionStart": 3, "selectionEnd": 3})
    keys.send(
        "Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    )
    keys.send("Input.insertText", {"text": "头痛"})
    page.wait_for_timeout(300)
    expect(page.locator("#bq-box textarea")).to_have_value("头痛")
    assert script.heard == []


def test_a_visitors_markup_is_text(chromium, url, script):
    script.asks = ["<b>疼</b>多久了？![x](http://example.com/x.png)"]
    page = visit(chromium, url)
    say(page, "<b>头痛</b> <img src=http://example.com/y.png> [点我](http://example.com)")
    expect(replies(page).last).to_contain_text("<b>疼</b>多久了", timeout=WAIT)
    idle(page)
    expect(page.locator("#bq-chat .message.user")).to_contain_text("<b>头痛</b>")
    assert page.locator("#bq-chat .message b, #bq-chat .message img, #bq-chat .message a").count() == 0
    assert not [url for url in page.requests if "example.com" in url]


def test_a_page_comes_to_rest(chromium, url):
    """Frames have numbers: a phone whose page asks for one after the other is warm, and soon empty."""
    page = visit(chromium, url)

    def frames() -> int:
        first = page.evaluate("requestAnimationFrame(() => {})")
        page.wait_for_timeout(500)
        return page.evaluate("requestAnimationFrame(() => {})") - first

    wait_for(lambda: frames() < 5)


def test_a_safety_notice_stands_above_the_reply(chromium, url):
    page = visit(chromium, url)
    say(page, "我不想活了")
    expect(page.locator("#bq-chat .bq-crisis")).to_contain_text("12356", timeout=WAIT)
    idle(page)
    expect(replies(page).first).to_contain_text("12356")
    expect(replies(page).nth(1)).to_contain_text("我在这里")
    expect(page.locator("#bq-chat")).not_to_contain_text("头痛多久了")


def test_a_failure_is_calm_and_loses_nothing(chromium, url, script):
    script.fails = LoadFailed("模型库连不上，请稍后重试")
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("模型库连不上，请稍后重试", timeout=WAIT)
    idle(page)
    script.fails = RuntimeError("/srv/hidden/path")
    page.get_by_role("button", name="重答").click()
    expect(replies(page).last).to_contain_text("抱歉，这一轮没有完成", timeout=WAIT)
    assert "hidden/path" not in page.content()
    script.fails = None
    idle(page)
    page.get_by_role("button", name="重答").click()
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)


def test_modes_choose_who_speaks(chromium, url, script):
    page = visit(chromium, url)
    chosen = page.get_by_role("radio", name="给建议")
    chosen.check()
    chosen.hover()
    page.wait_for_timeout(200)  # colours have faded in
    assert "radial" in chosen.evaluate("each => getComputedStyle(each).backgroundImage")  # its dot stays
    expect(page.locator("#bq-why")).to_contain_text("直接给出建议", timeout=WAIT)
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("建议 · advise-mini", timeout=WAIT)
    idle(page)
    assert [model for model, _, _ in script.heard] == ["advise-mini"]


def test_an_export_carries_label_and_licence(chromium, url):
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    open_panel(page)
    for kind in ("Markdown", "JSON"):
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"导出 {kind}").click()
        text = Path(saved.value.path()).read_text(encoding="utf-8")
        for part in (LABEL, "最近总是头痛", "头痛多久了？", "CC BY 4.0"):
            assert part in text, (kind, part)
    assert json.loads(text)["messages"][1]["model"] == "ask-mini"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scrolling(chromium, url, theme):
    page = visit(chromium, f"{url}?__theme={theme}", **PHONE)
    expect(page.locator("#bq-mode")).to_be_in_viewport()
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for part in ("#bq-box textarea", "#bq-foot", "#bq-actions", "#bq-panel"):
        expect(page.locator(part)).to_be_in_viewport()
    size = page.locator("#bq-box textarea").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
    assert size >= 16  # below, iOS zooms in
    ground = page.locator("gradio-app").evaluate("e => getComputedStyle(e).backgroundColor")
    level = sum(int(part) for part in ground[ground.index("(") + 1 : -1].split(",")[:3]) / 3
    assert level > 230 if theme == "light" else level < 40


@pytest.mark.parametrize(
    ("locale", "send", "mode", "label"),
    [
        ("zh-CN", "发送", "只问诊", LABEL),
        ("zh-TW", "傳送", "只問診", "內容由人工智慧生成"),
        ("en-US", "Send", "Ask only", "AI-generated"),
        ("ko-KR", "보내기", "질문만", "AI가 생성한"),
    ],
)
def test_the_page_speaks_the_visitors_language(chromium, url, locale, send, mode, label):
    page = visit(chromium, url, locale=locale)
    expect(page.get_by_role("radio", name=mode)).to_be_visible(timeout=WAIT)
    expect(page.locator("#bq-foot")).to_contain_text(label)
    expect(page.get_by_role("button", name=send, exact=True)).to_be_visible()
    assert page.get_by_role("textbox").first.get_attribute("aria-label") != "Textbox"


def test_a_low_window_keeps_the_footer_in_view_and_scrolls(chromium, url):
    page = visit(chromium, url, viewport={"width": 390, "height": 520})
    say(page, "最近总是头痛")
    idle(page)
    open_panel(page)
    for part in ("first", "last"):
        getattr(page.get_by_role("button"), part).scroll_into_view_if_needed()
        expect(page.locator("#bq-foot")).to_be_in_viewport(ratio=0.9)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#bq-chat").bounding_box()["height"] >= 240


@pytest.mark.parametrize("kept", [None, "x", {}, [1], [{"role": "system", "content": "x"}], [{"role": "user"}]])
def test_what_the_page_did_not_keep_is_no_dialogue(kept):
    assert render.kept_turns(kept) == []


def test_only_a_growing_reply_is_not_yet_stopped():
    turns = [
        {"role": "user", "content": "头痛"},
        {"role": "assistant", "content": "多久", "phase": "asking", "model": "ask-mini", "finish": "cancelled"},
    ]
    assert "已停止" in render.chatbot(turns, "zh-CN")[-1]["content"]
    assert "已停止" not in render.chatbot(turns, "zh-CN", growing=True)[-1]["content"]


def test_a_silent_stream_beats_and_closes():
    closed = []

    async def slow():
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    async def listen():
        events = with_heartbeat(slow(), every=0.01)
        heard = [await anext(events), await anext(events), await anext(events)]
        await events.aclose()
        return heard

    with ThreadPoolExecutor(1) as aside:  # Playwright keeps a loop running in this thread
        assert aside.submit(asyncio.run, listen()).result() == [1, None, None]
    assert closed == [True]

"""The page as somebody meets it who is ill, on a phone, for the first time, in a real browser."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.ui.test_page import LABEL, idle, replies, research, say, wait_for
from tests.ui.window import PHONE, WAIT, visit

SIZES = ((1440, 900), (844, 390), (720, 450), (390, 844), (390, 500), (320, 568))
DANGER = "胸口剧烈疼痛，喘不上气，出冷汗"
LIKELY = "不想吃安眠药"  # a softer notice, with which the asking goes on

# Each control of the page that shows, brought into view, is what a finger on its middle would touch.
COVERED = """() => [...document.querySelectorAll('.gradio-container :is(button, textarea, a, summary, input)')].filter(found => {
  if (!found.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || found.closest('#bq-chat :is(.message-row, .message-buttons)')) return false;
  if (found.disabled || found.tabIndex < 0 || !found.getBoundingClientRect().width) return false;
  found.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  const box = found.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return !(top && (found.contains(top) || top.contains(found) || found.closest('label')?.contains(top)));
}).map(found => found.outerHTML.slice(0, 120))"""


def walk(page: Page, state: str) -> None:
    """No sideways scroll and nothing covered, in every window and with large text."""
    for large in (False, True):
        page.evaluate("on => bianque.set('large', on)", large)
        for width, height in SIZES[1::2] if large else SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            where = f"{state}, {width}x{height}{', large text' if large else ''}"
            assert page.evaluate("document.documentElement.scrollWidth") == width, where
            assert page.evaluate(COVERED) == [], where
    page.evaluate("bianque.set('large', false)")
    page.set_viewport_size({"width": 1280, "height": 800})


def violations(page: Page) -> list[tuple[str, list[str]]]:
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_timeout(200)  # colours have faded in
    found = Axe().run(page).response["violations"]
    return [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found]


def toggle_dark(page: Page) -> None:
    page.locator("#bq-menu summary").click()
    page.get_by_role("switch", name="深色").click()
    page.keyboard.press("Escape")


@pytest.mark.slow
def test_nothing_scrolls_sideways_or_is_covered_in_any_window_and_axe_finds_nothing(chromium, url, script):
    page = visit(chromium, url)
    assert violations(page) == []
    walk(page, "empty")
    script.asks = ["咳嗽是干咳还是有痰？"]
    say(page, LIKELY)
    idle(page)
    expect(page.get_by_role("button", name="有痰")).to_be_visible(timeout=WAIT)
    assert violations(page) == []
    walk(page, "asked")
    page.get_by_role("button", name="直接给建议").click()
    expect(page.get_by_role("button", name="继续问我")).to_be_visible(timeout=WAIT)
    assert violations(page) == []
    walk(page, "advised")
    say(page, DANGER)
    idle(page)
    expect(page.locator("#bq-chat .bq-pinned .bq-ack")).to_be_visible(timeout=WAIT)
    assert violations(page) == []
    walk(page, "warned")
    page.locator(".bq-ack").click()
    toggle_dark(page)
    page.locator("#bq-panel > button").click()
    expect(page.get_by_label("温度")).to_be_visible(timeout=WAIT)
    page.locator("#bq-menu summary").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="关于").click()
    assert violations(page) == []
    for name, seen in (("对比", "#bq-all textarea"), ("评测", "#bq-eval-file")):
        research(page, name)
        page.locator(seen).wait_for(timeout=WAIT)
        assert violations(page) == []
    page.get_by_role("tab", name="问诊").click()
    expect(page.locator("#bq-box")).to_be_visible()
    page.evaluate("addEventListener('beforeprint', () => { window.night = document.body.classList.contains('dark'); })")
    page.pdf()  # paper is white, and the page as dark as before
    assert page.evaluate("[window.night, document.body.classList.contains('dark')]") == [False, True]
    page.emulate_media(media="print")
    assert page.locator("#bq-chat .bubble-wrap").evaluate("each => each.scrollHeight - each.clientHeight") <= 1
    assert not page.locator("#bq-box").is_visible() and page.errors == []


def test_what_is_sent_shows_at_once_and_what_is_typed_meanwhile_stays(chromium, url):
    page, held = visit(chromium, url, **PHONE), []
    page.route("**/queue/join*", lambda route: held.append(route))
    page.get_by_role("button", name="失眠").tap()
    expect(page.locator(".bq-mine")).to_have_text("我最近总是睡不着，白天没精神，怎么办？")
    page.locator("#bq-box textarea").fill("还有头晕")
    wait_for(lambda: held)
    held.pop().continue_()
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    expect(page.locator(".bq-mine")).to_have_count(0)
    expect(page.locator("#bq-box textarea")).to_have_value("还有头晕")
    page.locator("#bq-box textarea").press("Enter")
    expect(page.locator(".bq-mine")).to_have_text("还有头晕")
    wait_for(lambda: held)
    page.reload()  # before the server has heard of it
    page.locator("html.bq-ready").wait_for(state="attached", timeout=WAIT)
    expect(page.locator("#bq-box textarea")).to_have_value("还有头晕", timeout=WAIT)
    expect(page.locator("#bq-chat .message.user")).to_have_count(1)


def test_an_open_editor_outlives_neither_another_message_nor_escape(chromium, url, script):
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    idle(page)
    editor = page.locator("#bq-chat textarea")
    for leave in ("escape", "send"):
        page.locator("#bq-chat .message-row.user-row").first.hover()
        page.get_by_role("button", name="编辑").first.click()
        expect(editor).to_be_visible()
        if leave == "escape":
            editor.press("Escape")
            expect(editor).to_have_count(0)
    page.get_by_role("button", name="清空").click()
    expect(page.locator("#bq-hero")).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="恢复").click()
    expect(page.locator("#bq-chat .message.user")).to_have_text("最近总是头痛", timeout=WAIT)
    page.get_by_role("button", name="清空").click()
    expect(page.locator("#bq-hero")).to_be_visible(timeout=WAIT)
    say(page, "孩子咳嗽")
    idle(page)
    expect(page.locator("#bq-chat .message.user")).to_have_text("孩子咳嗽")
    expect(editor).to_have_count(0)


def consultations(page: Page) -> list[str]:
    return page.evaluate("bianque.list().map(one => one.turns[0].content)")


def test_several_consultations_drafts_and_switches_stay_in_the_browser(chromium, url):
    page = visit(chromium, url)
    say(page, "最近总是头痛")
    idle(page)
    other = page.context.new_page()  # a second tab begins anew: the first one has that consultation
    other.goto(url)
    other.locator("html.bq-ready").wait_for(state="attached", timeout=WAIT)
    say(other, "孩子咳嗽")
    idle(other)
    say(page, "一个星期了")
    idle(page)
    wait_for(lambda: sorted(consultations(page)) == ["孩子咳嗽", "最近总是头痛"])
    other.close()
    page.get_by_role("button", name="新问诊").first.click()
    expect(page.locator("#bq-hero")).to_be_visible(timeout=WAIT)
    page.get_by_role("radio", name="给建议").check()
    page.locator("#bq-box textarea").fill("写到一半")
    page.locator("#bq-menu summary").click()
    page.get_by_role("switch", name="大字").click()
    page.get_by_label("语言").select_option("ko")
    page.locator("html.bq-ready[lang=ko]").wait_for(state="attached", timeout=WAIT)
    expect(page.locator("#bq-box textarea")).to_have_value("写到一半")
    expect(page.get_by_role("radio", name="조언")).to_be_checked(timeout=WAIT)
    assert page.locator("#bq-box textarea").evaluate("each => parseFloat(getComputedStyle(each).fontSize)") > 20
    page.locator("#bq-menu summary").click()
    page.locator("#bq-list button").filter(has_text="孩子咳嗽").click()
    expect(page.locator("#bq-chat .message.user")).to_have_text("孩子咳嗽", timeout=WAIT)
    page.locator("#bq-menu summary").click()
    page.locator("#bq-list .bq-current .bq-drop").click()
    page.locator("#bq-toast button").click()  # taken back
    expect(page.locator("#bq-chat .message.user")).to_have_text("孩子咳嗽", timeout=WAIT)
    assert len(consultations(page)) == 2
    page.locator("#bq-menu summary").click()
    page.locator("#bq-list li:not(.bq-current) .bq-drop").click()
    wait_for(lambda: consultations(page) == ["孩子咳嗽"])
    page.once("dialog", lambda asked: asked.accept())
    page.locator("#bq-menu [data-do=forget]").click()
    expect(page.locator("#bq-hero")).to_be_visible(timeout=WAIT)
    assert consultations(page) == []


def test_a_tap_answers_and_after_advice_asking_can_go_on(chromium, url, script):
    script.asks = ["咳嗽是干咳还是有痰？", "有没有流鼻涕？", "平时抽烟吗？"]
    page = visit(chromium, url, **PHONE)
    expect(page.locator("#bq-help a")).to_have_count(2)
    assert page.locator("#bq-help a").first.get_attribute("href") == "tel:120"
    page.get_by_role("button", name="孩子发烧咳嗽").tap()
    page.get_by_role("button", name="有痰").tap()
    expect(replies(page).last).to_contain_text("流鼻涕", timeout=WAIT)
    idle(page)
    assert script.heard[-1][1][-1].content == "有痰"
    expect(page.locator("#bq-box textarea")).to_have_attribute("placeholder", "回答上面的问题……")
    page.get_by_role("button", name="直接给建议").tap()
    expect(page.locator(".bq-learned")).to_contain_text("咳嗽是干咳还是有痰？有痰", timeout=WAIT)
    page.get_by_role("button", name="生成就诊小结").tap()
    sheet = page.frame_locator("#bq-sheet iframe")
    expect(sheet.locator("body")).to_contain_text("「有痰」", timeout=3 * WAIT)  # the knowledge base is read
    assert sheet.locator("body").evaluate("each => parseFloat(getComputedStyle(each).fontSize)") == 16
    for name in ("复制", "关闭"):
        expect(page.locator("#bq-sheet").get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
    page.locator("#bq-sheet").get_by_role("button", name="关闭").tap()
    page.get_by_role("button", name="继续问我").tap()
    expect(replies(page).last).to_contain_text("平时抽烟吗", timeout=WAIT)
    idle(page)
    expect(page.locator("#bq-progress")).to_contain_text("第 1 问")


def test_a_red_flag_stays_in_view_until_it_is_acknowledged(chromium, url, script):
    page = visit(chromium, url, **PHONE)
    say(page, DANGER)
    idle(page)
    notice = page.locator("#bq-chat .bq-emergency")
    assert "(" not in notice.inner_text() and notice.get_by_role("link").get_attribute("href") == "tel:120"
    pinned = page.locator("#bq-chat .message-row.bq-pinned")
    assert pinned.evaluate("row => getComputedStyle(row).position") == "sticky"
    log = page.locator("#bq-chat .bubble-wrap")
    log.evaluate("each => { each.style.height = '260px'; each.scrollTo(0, each.scrollHeight); }")
    expect(notice).to_be_in_viewport()
    notice.get_by_role("button", name="我知道了").tap()
    expect(pinned).to_have_count(0)
    expect(page.get_by_role("button", name="生成就诊小结")).to_be_visible()
    expect(page.get_by_role("button", name="继续问我")).to_have_count(0)  # nobody asks on before it is settled
    page.get_by_role("button", name="不是急症").tap()
    expect(replies(page).last).to_contain_text("我们接着聊", timeout=WAIT)
    idle(page)
    expect(page.get_by_role("button", name="不是急症")).to_have_count(0)
    expect(notice.last).to_contain_text("胸口压着疼")  # what would make it one stays in view, too
    page.get_by_role("button", name="我知道了").tap()
    expect(pinned).to_have_count(0)
    page.reload()
    page.locator("html.bq-ready").wait_for(state="attached", timeout=WAIT)
    expect(notice.first).to_be_visible(timeout=WAIT)
    expect(pinned).to_have_count(0)
    expect(page.get_by_role("button", name="我知道了")).to_have_count(0)


def test_markup_copies_and_errors_are_what_a_patient_expects(chromium, url, script):
    script.asks = ["* 甲\n* 乙\n\n还有吗？"]
    page = visit(chromium, url, permissions=["clipboard-read", "clipboard-write"])
    words = "# 头痛\n> 三天\n- 胀\n1. 痛"
    box = page.locator("#bq-box textarea")
    box.fill(words)
    box.press("Enter")
    expect(replies(page).last.locator("li")).to_have_count(2, timeout=WAIT)
    idle(page)
    mine = page.locator("#bq-chat .message.user")
    assert mine.inner_text().strip() == words and mine.locator("h1, li, blockquote").count() == 0
    page.locator("#bq-chat .message-row.user-row").hover()
    page.get_by_role("button", name="复制", exact=True).first.click()
    assert page.evaluate("navigator.clipboard.readText()") == words
    script.fails = RuntimeError("nobody sees this")
    say(page, "还痛")
    expect(page.locator("#bq-chat .bq-error")).to_contain_text("没有完成", timeout=WAIT)
    idle(page)
    page.reload()
    expect(page.locator("#bq-chat .bq-error")).to_contain_text("没有完成", timeout=WAIT)


def test_the_page_is_small_names_itself_and_its_streams_are_not_compressed(url):
    accepted = {"accept-encoding": "br, gzip", "accept-language": "ko"}
    with httpx.Client(base_url=url, headers=accepted, timeout=60) as client:
        with client.stream("GET", "/") as answer:
            size = sum(len(part) for part in answer.iter_raw())
        html = client.get("/").text
        assert answer.headers["content-encoding"] == "br" and size < 120_000
        assert '<html lang="ko"' in html and "gradio.app" not in html.partition("<script")[0] and "og:image" in html
        manifest = client.get("/manifest.json").json()
        assert manifest["name"] in html and client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
        call = client.post("/gradio_api/call/chat", json={"data": [[{"role": "user", "content": "头痛"}]]})
        with client.stream("GET", f"/gradio_api/call/chat/{call.json()['event_id']}") as stream:
            assert "content-encoding" not in stream.headers and "event:" in stream.read().decode()


VOICES = """
window.SpeechRecognition = window.webkitSpeechRecognition = class {
  start() { window.heard = this; }
  stop() { this.onend(); }
};
speechSynthesis.speak = said => { window.read = [said.lang, said.text]; };
"""


def test_the_browser_writes_what_is_spoken_and_reads_what_is_written(chromium, url):
    page = visit(chromium, url)
    page.add_init_script(VOICES)
    page.scripted = True
    page.reload()
    page.locator("html.bq-ready").wait_for(state="attached", timeout=WAIT)
    speak = page.get_by_role("button", name="语音输入")
    speak.click()
    expect(page.locator("#bq-toast")).to_contain_text("浏览器")  # who made it may hear: nothing listens yet
    assert page.evaluate("window.heard === undefined")
    speak.click()
    page.evaluate("heard.onresult({ results: [[{ transcript: '头痛三天' }]] })")
    page.evaluate("heard.onend()")
    expect(page.locator("#bq-box textarea")).to_have_value("头痛三天")
    page.locator("#bq-box textarea").press("Enter")
    idle(page)
    page.get_by_role("button", name="朗读").click()
    assert page.evaluate("read[0]") == "zh-CN" and "哪个部位？" in page.evaluate("read[1]")


def test_the_label_is_in_the_footer_at_first_sight(chromium, url):
    page = visit(chromium, url, viewport={"width": 320, "height": 568}, first=True)
    expect(page.locator("#bq-foot")).to_contain_text(LABEL)
    expect(page.locator("#bq-foot")).to_be_in_viewport(ratio=1)
    moved = page.evaluate(
        """() => new Promise(done => {
          const ready = performance.getEntriesByName('bq-ready')[0].startTime;
          const sum = list => list.getEntries().filter(one => one.startTime <= ready).reduce((all, one) => all + one.value, 0);
          new PerformanceObserver(list => done(sum(list))).observe({ type: 'layout-shift', buffered: true });
          setTimeout(done, 300, 0);
        })"""
    )
    assert moved < 0.05  # nothing moves while the first picture stands for the page

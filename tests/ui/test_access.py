"""What a screen reader, a keyboard and a phone get of the page, in a real browser."""

from __future__ import annotations

import itertools
import re

import pytest
from playwright.sync_api import Page, expect

from bianque.i18n import LANGS
from bianque.i18n import say as text_of
from tests.ui.test_page import idle, replies, say
from tests.ui.window import PHONE, WAIT, visit

CONTROLS = ("button", "textbox", "combobox", "radio", "radiogroup", "tab", "tabpanel", "link", "log")
LOCALES = ("zh-CN", "zh-TW", "en-US", "ko-KR")


def word(key: str, locale: str) -> str:
    return text_of(locale if locale in LANGS else locale[:2], key)


def tree(page: Page) -> list[dict]:
    """What the browser tells a screen reader: role, name and properties of everything that is not ignored."""
    link = page.context.new_cdp_session(page)
    nodes = link.send("Accessibility.getFullAXTree")["nodes"]
    link.detach()  # the browser would go on keeping the tree
    return [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", "").strip(),
            **{each["name"]: each["value"].get("value") for each in node.get("properties", [])},
        }
        for node in nodes
        if not node["ignored"]
    ]


def open_panel(page: Page, locale: str) -> None:
    page.get_by_role("button", name=word("settings", locale)).click()
    expect(page.get_by_role("combobox", name=word("ask_model", locale))).to_be_visible(timeout=WAIT)
    page.wait_for_timeout(300)


@pytest.mark.parametrize("locale", ["zh-CN", "ko-KR"])
def test_every_control_has_a_name_in_the_visitors_language(chromium, url, locale):
    page = visit(chromium, url, locale=locale)
    seen = tree(page)  # with the examples, before the first message
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("头痛多久了？", timeout=WAIT)
    idle(page)
    open_panel(page, locale)
    seen += tree(page)
    page.get_by_role("tab", name=word("about", locale)).click()
    page.wait_for_timeout(300)
    seen += tree(page)
    controls = {(node["role"], node["name"]) for node in seen if node["role"] in CONTROLS}
    assert {role for role, _ in controls} == set(CONTROLS)
    strange = {name for role, name in controls if role != "link" and not re.search("[一-鿿가-힣]", name)}
    assert strange == {"top-p"}
    assert ("radiogroup", word("mode", locale)) in controls and ("textbox", word("message", locale)) in controls


def test_headings_go_down_one_level_at_a_time(chromium, url):
    page = visit(chromium, url)
    page.get_by_role("tab", name="关于").click()
    expect(page.locator("#bq-about h2").first).to_be_visible(timeout=WAIT)
    levels = [node["level"] for node in tree(page) if node["role"] == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1 and len(levels) > 2
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_reply_is_read_out_once_and_whole(chromium, url, script):
    script.pause, script.silence, script.loading = 0.02, 0.3, 0.3
    page = visit(chromium, url)
    page.evaluate(
        """() => {
          window.told = [];
          const voice = document.querySelector('#bq-voice');
          new MutationObserver(() => told.push(voice.textContent)).observe(voice, { childList: true, subtree: true });
        }"""
    )
    say(page, "最近总是头痛")
    expect(page.locator("#bq-voice")).to_contain_text("请问头痛多久了？", timeout=WAIT)
    *before, last = page.evaluate("told")
    assert last == "问诊 · ask-mini\n\n请问头痛多久了？"
    assert before and set(before) <= {"正在想要问什么…", "正在加载 ask-mini… 50%"}
    live = [node for node in tree(page) if node.get("live", "off") != "off"]
    assert {node["role"] for node in live} == {"status"} and page.locator("#bq-chat [role=log]").count() == 1
    assert page.locator("#bq-voice").bounding_box()["width"] <= 1


def test_only_the_newest_red_flag_is_an_alert(chromium, url):
    page = visit(chromium, url)
    for count in (1, 2):
        say(page, "我不想活了")
        expect(page.locator("#bq-chat .bq-crisis")).to_have_count(count, timeout=WAIT)
        idle(page)
        assert [node["live"] for node in tree(page) if node["role"] == "alert"] == ["assertive"]
    expect(page.locator("#bq-chat .bq-crisis").last).to_have_attribute("role", "alert")
    page.wait_for_timeout(300)
    assert "请立即" not in page.locator("#bq-voice").inner_text()  # the notice is read out once, as an alert


def test_the_fold_says_whether_it_is_open(chromium, url):
    page = visit(chromium, url)
    fold = page.locator("#bq-panel > button")
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.click()
    expect(fold).to_have_attribute("aria-expanded", "true", timeout=WAIT)
    fold.click()
    expect(fold).to_have_attribute("aria-expanded", "false", timeout=WAIT)


def test_arrow_keys_move_through_the_modes(chromium, url, script):
    page = visit(chromium, url)
    page.get_by_role("radio", name="自动").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="只问诊")).to_be_checked()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="给建议")).to_be_checked()
    expect(page.locator("#bq-why")).to_contain_text("直接给出建议", timeout=WAIT)
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("建议您先休息", timeout=WAIT)
    assert [model for model, _, _ in script.heard] == ["advise-mini"]


def test_enter_sends_and_shift_enter_begins_a_line(chromium, url, script):
    page = visit(chromium, url)
    box = page.locator("#bq-box textarea")
    box.fill("头痛")
    box.press("Shift+Enter")
    box.press_sequentially("三天了")
    page.wait_for_timeout(300)
    assert script.heard == [] and box.input_value() == "头痛\n三天了"
    box.press("Enter")
    expect(replies(page).last).to_contain_text("哪个部位？", timeout=WAIT)
    assert script.heard[0][1][-1].content == "头痛\n三天了"


def test_a_phones_keyboard_leaves_the_message_box_in_view(chromium, url):
    page = visit(chromium, url, **PHONE)
    assert "interactive-widget=resizes-content" in page.locator("meta[name=viewport]").get_attribute("content")
    box = page.locator("#bq-box textarea")
    expect(box).to_have_attribute("enterkeyhint", "send")
    box.tap()
    page.set_viewport_size({"width": 390, "height": 430})  # what a keyboard leaves
    expect(box).to_be_focused()
    expect(box).to_be_in_viewport(ratio=1)
    below = page.locator("#bq-foot").bounding_box()["y"]
    assert box.bounding_box()["y"] + box.bounding_box()["height"] <= below


@pytest.mark.parametrize("locale", LOCALES)
def test_nothing_is_cut_off_on_a_phone(chromium, url, locale):
    page = visit(chromium, url, locale=locale, **PHONE)
    open_panel(page, locale)
    cut = "found => found.filter(each => each.scrollWidth > each.clientWidth).map(each => each.outerHTML)"
    assert page.locator("#bq-panel input").evaluate_all(cut) == []
    for field in page.locator("#bq-panel input[placeholder]").all():
        hint = field.get_attribute("placeholder")
        field.fill(hint)
        assert field.evaluate("each => each.scrollWidth <= each.clientWidth"), hint
    page.get_by_role("tab", name=word("about", locale)).click()
    expect(page.locator("#bq-about")).to_contain_text(word("citation", locale), timeout=WAIT)
    assert page.locator("#bq-about, #bq-about *").evaluate_all(
        "found => found.filter(each => each.getBoundingClientRect().right > 390).map(each => each.outerHTML)"
    ) == []  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_who_wants_no_motion_gets_none(chromium, url, script):
    script.pause = 0.05
    page = visit(chromium, url, reduced_motion="reduce")
    say(page, "最近总是头痛")
    expect(replies(page).last).to_contain_text("请问", timeout=WAIT)
    longest = "Math.max(0, ...document.getAnimations().map(each => each.effect.getComputedTiming().activeDuration))"
    assert page.evaluate(longest) <= 1
    buttons = page.locator("#bq-chat .message-buttons").first
    assert buttons.evaluate("each => getComputedStyle(each).transitionDuration") == "0s"

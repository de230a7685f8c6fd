"""The Evaluate tab in a real browser: problems are shown, a run goes on after a restart, and the report can be read."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from urllib.error import HTTPError

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from bianque.backends.local import Local
from bianque.consult.session import Session
from bianque.evaluate.quota import Folders
from bianque.settings import Settings
from bianque.ui import results, serve
from bianque.ui.evaluate import Evaluate
from bianque.ui.page import Page as Consultation
from tests import tiny
from tests.cli.test_evaluate import DIALOGUES, RECORDED, dialogue, written
from tests.conftest import ADVICE, QUESTIONS, ROOT, Scripted, free_port
from tests.ui.test_page import wait_for
from tests.ui.window import PHONE, WAIT, visit

TABS = {"zh-CN": "评测", "en-US": "Evaluate"}


@pytest.fixture(scope="module", autouse=True)
def temporary(tmp_path_factory):
    """A temporary directory of this file's own: the server keeps visitors' folders there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield


def serving(backend, port: int):
    page = Consultation(Session(backend, "ask-mini", "advise-mini"), ROOT / "examples.json")
    demo = page.build()
    here = {"server_name": "127.0.0.1", "server_port": port, "prevent_thread_lock": True}
    return demo, serve.launch(demo, page.session, **here)[1]


class Either:
    """The scripted voices, or the bundled models once a test wants them."""

    def __init__(self) -> None:
        self.voices, self.bundled = Scripted(), Local(Settings())
        self.real = False

    def __getattr__(self, name):
        return getattr(self.bundled if self.real else self.voices, name)


@pytest.fixture(scope="module")
def served(temporary):
    backend = Either()
    demo, address = serving(backend, free_port())
    yield address, backend
    demo.close(verbose=False)


@pytest.fixture
def script(served) -> Scripted:
    vars(served[1].voices).update(vars(Scripted(asks=[QUESTIONS[0]], advises=[ADVICE], pause=0.001)))
    return served[1].voices


@pytest.fixture
def url(served, script) -> str:
    return served[0]


def opened(chromium, url, **options) -> Page:
    page = visit(chromium, url, **options)
    tab(page, TABS[options.get("locale", "zh-CN")])
    return page


def tab(page: Page, name: str) -> None:
    """Open the tab, on a phone perhaps from behind the dots; it has drawn what the server has kept."""
    page.locator("#bq-research-tab-button").click()
    found = page.locator("#bq-research").get_by_role("tab", name=name)
    if not found.is_visible():
        page.locator("#bq-research .overflow-menu > button").click()
        page.locator(".overflow-dropdown").get_by_text(name).click()
    else:
        found.click()
    start(page).wait_for(timeout=WAIT)
    page.wait_for_timeout(300)


def again(page: Page) -> None:
    """Come back to the tab."""
    page.reload()
    page.locator("#bq-box textarea").wait_for(timeout=WAIT)
    page.wait_for_timeout(300)
    tab(page, "评测")


def upload(page: Page, path: str) -> None:
    page.locator("#bq-eval-file input[type=file]").set_input_files(path)
    expect(page.locator("#bq-eval-preview")).to_contain_text(Path(path).name, timeout=WAIT)


def start(page: Page):
    return page.locator("#bq-eval-start")


def note(page: Page):
    return page.locator("#bq-eval-note")


def field(page: Page, name: str):
    return page.locator("#bq-evaluate-tab").get_by_label(name)


def report(page: Page):
    return page.frame_locator("#bq-eval-report iframe")


def test_problems_are_shown_row_by_row_and_nothing_starts(chromium, url, script, tmp_path):
    page = opened(chromium, url)
    expect(start(page)).to_be_disabled()
    page.locator("#bq-eval-file input[type=file]").set_input_files(written(tmp_path, [{"x": 1}], "odd.jsonl"))
    expect(page.locator("#bq-eval-preview [role=alert]")).to_contain_text("odd.jsonl: 认不出的格式", timeout=WAIT)
    markup = dialogue("m", "<img src=http://example.com/x.png>头痛 ${1+1} {{value}}", "多久了？")
    upload(page, written(tmp_path, [markup, dialogue("y", "头痛", ""), markup], "bad.jsonl"))
    rows = page.locator("#bq-eval-preview tbody tr")
    expect(rows).to_have_count(2, timeout=WAIT)
    for row, words in zip(
        rows.all(), (["第 2 行", "turns[1].text", "请写上文字"], ["第 3 行", "id", "不同的 id"]), strict=True
    ):
        for word in words:
            expect(row).to_contain_text(word)
    expect(start(page)).to_be_disabled()
    page.locator("#bq-eval-preview summary").click()
    expect(page.locator("#bq-eval-preview section")).to_contain_text(
        "<img src=http://example.com/x.png>头痛 ${1+1} {{value}}"
    )
    upload(page, written(tmp_path, DIALOGUES))
    expect(page.locator("#bq-eval-preview")).to_contain_text("格式 dialogues · 6 段对话 · 12 个医生轮次")
    expect(page.locator("#bq-eval-preview section").first).to_contain_text("第0次头痛")
    expect(start(page)).to_be_enabled()
    assert len(list(Path(tempfile.gettempdir()).glob("bianque-evaluations-*/*"))) == 1  # the file before is gone
    assert not [sent for sent in page.requests if "example.com" in sent] and page.errors == [] and script.heard == []


def test_the_bundled_models_run_and_the_report_is_read_in_its_frame(chromium, served, url, tmp_path, monkeypatch):
    monkeypatch.setattr(served[1], "real", True)
    kept = lambda: {*Path(tempfile.gettempdir()).glob("bianque-evaluations-*/*/run")}
    before = kept()  # of a first try that a busy machine starved
    page = opened(chromium, url)
    upload(page, written(tmp_path, DIALOGUES))
    who = page.locator("#bq-evaluate-tab").get_by_role("combobox", name="模型")
    who.press("Backspace")  # the mode that was chosen beforehand
    who.fill("ask-mini:temperature=0")
    who.press("Enter")
    field(page, "最多词元").fill("12")
    field(page, "对话数").fill("很多")
    start(page).click()
    expect(note(page).locator("[role=alert]")).to_contain_text("“数量”要填数字，不能是“很多”", timeout=WAIT)
    field(page, "对话数").fill("2")
    start(page).click()
    expect(page.locator("#bq-eval-bar")).to_contain_text(re.compile(r"\d+ / 4 条回答"), timeout=WAIT)
    expect(note(page)).to_contain_text("评测完成，共 4 条回答", timeout=WAIT)
    assert note(page).get_attribute("role") == "status"
    for part in ("ask-mini:temperature=0", "提问率", "ROUGE-1"):
        expect(page.locator("#bq-eval-figures")).to_contain_text(part)
    frame = page.locator("#bq-eval-report iframe")
    assert "allow-scripts" in frame.get_attribute("sandbox") and "same-origin" not in frame.get_attribute("sandbox")
    expect(report(page).locator("#items")).to_contain_text("次头痛", timeout=WAIT)
    report(page).locator("nav a").last.click()
    expect(report(page).locator("#legend")).to_be_in_viewport(timeout=WAIT)  # and not this page again in its own frame
    with page.expect_download() as saved:
        page.get_by_role("button", name="rows.jsonl").click()
    rows = [json.loads(line) for line in Path(saved.value.path()).read_text("utf-8").splitlines()]
    assert len(rows) == 4 and all(row["tokens"] <= 12 for row in rows)
    address = url + frame.get_attribute("src")
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert "sandbox" in answer.headers["Content-Security-Policy"] and "same-origin" not in str(answer.headers)
    again(page)
    expect(report(page).locator("#items")).to_contain_text("次头痛", timeout=WAIT)
    expect(field(page, "对话数")).to_have_value("2")
    page.get_by_role("button", name="删除文件和结果").click()
    expect(note(page)).to_contain_text("已删除", timeout=WAIT)
    with pytest.raises(HTTPError, match="404"):
        urllib.request.urlopen(address, timeout=10)
    assert [
        sent for sent in page.requests if "//127.0.0.1" not in sent and not sent.startswith(("data:", "blob:"))
    ] == []
    assert page.errors == [] and kept() <= before


def test_a_cancelled_run_goes_on_after_a_restart_without_doing_anything_twice(chromium, tmp_path):
    voices = Scripted(asks=["哪里疼？"], advises=[ADVICE], pause=0.2)  # on a busy machine a click comes late
    port = free_port()
    demo, url = serving(voices, port)
    page = opened(chromium, url)
    upload(page, written(tmp_path, DIALOGUES))
    field(page, "对话数").fill("")
    start(page).click()
    expect(page.locator("#bq-eval-bar")).to_contain_text(re.compile(r"[3-9] / 12 条回答 · 还需 \d+:\d\d"), timeout=WAIT)
    expect(start(page)).to_be_disabled()
    page.get_by_role("button", name="取消").click()
    expect(note(page)).to_contain_text("已停下", timeout=WAIT)
    expect(start(page)).to_have_text("继续评测")
    done = int(re.search(r"完成的 (\d+) 条", note(page).inner_text())[1])
    assert 3 <= done < 12
    wait_for(lambda: len(voices.closed) == len(voices.heard) - done)  # the replies that were under way, two at most
    assert len(voices.closed) <= 2
    demo.close(verbose=False)

    later = Scripted(asks=["哪里疼？"], advises=[ADVICE])
    demo, url = serving(later, port)
    again(page)
    expect(note(page)).to_contain_text(f"完成的 {done} 条已保留", timeout=WAIT)
    expect(field(page, "对话数")).to_have_value("")
    start(page).click()
    expect(note(page)).to_contain_text("共 12 条回答", timeout=WAIT)
    assert len(later.heard) == 12 - done
    field(page, "随机种子").fill("8")  # another question begins anew
    start(page).click()
    wait_for(lambda: len(later.heard) == 24 - done)
    expect(note(page)).to_contain_text("共 12 条回答", timeout=WAIT)
    page.close()
    demo.close(verbose=False)


def test_recorded_outputs_are_scored_and_closing_the_page_ends_a_run(chromium, url, script, tmp_path):
    page = opened(chromium, url)
    upload(page, written(tmp_path, RECORDED, "recorded.jsonl"))
    expect(page.get_by_role("checkbox", name="已有的回答")).to_be_checked()
    expect(page.locator("#bq-eval-who")).to_be_hidden()
    start(page).click()
    expect(note(page)).to_contain_text("共 12 条回答", timeout=WAIT)
    expect(page.locator("#bq-eval-figures")).to_contain_text("评分：平均")
    assert script.heard == []
    upload(page, written(tmp_path, DIALOGUES))
    expect(page.locator("#bq-eval-figures")).to_be_hidden()
    expect(page.locator("#bq-eval-who")).to_be_visible()
    script.silence = 60.0
    start(page).click()
    wait_for(lambda: len(script.heard) == 2)
    page.close()
    wait_for(lambda: len(script.closed) == 2, seconds=60)


def test_the_tab_speaks_the_visitors_language_and_fits_a_phone(chromium, url, script, tmp_path):
    page = opened(chromium, url, locale="en-US", **PHONE)
    upload(page, written(tmp_path, DIALOGUES))
    expect(start(page)).to_have_text("Start")
    start(page).click()
    expect(report(page).locator("#items")).to_contain_text("次头痛", timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for box in page.locator(".bq-eval-form :is(input:not([type=checkbox]), textarea)").all():
        assert box.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 16


def test_one_run_at_a_time_in_a_folder_and_a_folder_that_is_gone_is_told(tmp_path):
    with gr.Blocks(), gr.Tabs():
        tab = Evaluate(
            Session(Scripted(asks=["哪里疼？"], advises=[ADVICE]), "ask-mini", "advise-mini"), Folders(tmp_path / "all")
        )
        tab.build()
    kept = {"folder": tab.folders.add(Path(written(tmp_path, DIALOGUES)))}
    form = {"source": "file", "tasks": ["next"], "who": ["ask"], "limit": "1", "at_once": 1, "seed": "0", "most": ""}
    data = {tab.kept: kept} | {tab.fields[name]: value for name, value in form.items()}

    async def twice():
        async with aclosing(tab.run(None, data)) as first:
            await anext(first)
            refused = [changes async for changes in tab.run(None, data)][-1]
        return refused, [changes async for changes in tab.run(None, data)][-1]

    with ThreadPoolExecutor(1) as aside:  # Playwright keeps a loop running in this thread
        refused, after = aside.submit(asyncio.run, twice()).result()
    assert "另一个页面" in refused[tab.note] and "共 2 条回答" in after[tab.note] and not tab.running
    tab.folders.remove(kept["folder"])
    with ThreadPoolExecutor(1) as aside:
        (gone,) = aside.submit(tiny.gathered, tab.run(None, data)).result()
    assert "请重新上传" in gone[tab.note]


def test_scripted_patients_need_no_file_and_every_consultation_can_be_read(chromium, url, script):
    page = opened(chromium, url)
    page.get_by_role("radio", name="模拟患者").check()
    expect(page.locator("#bq-eval-file")).to_be_hidden()
    field(page, "患者数").fill("2")
    start(page).click()
    expect(note(page)).to_contain_text("共 2 次", timeout=WAIT)
    expect(note(page)).to_be_in_viewport()
    expect(page.locator("#bq-eval-figures")).to_contain_text("建议切题")
    expect(report(page).locator("details")).to_have_count(2, timeout=WAIT)
    report(page).locator("summary").first.click()
    expect(report(page).locator(".assistant").first).to_contain_text(QUESTIONS[0])
    with page.expect_download() as saved:
        page.get_by_role("button", name="talks.jsonl").click()
    talks = [json.loads(line) for line in Path(saved.value.path()).read_text("utf-8").splitlines()]
    assert len({talk["complaint"] for talk in talks}) == 2 and all(talk["error"] is None for talk in talks)
    again(page)
    expect(report(page).locator("details")).to_have_count(2, timeout=WAIT)
    expect(field(page, "患者数")).to_have_value("2")
    field(page, "患者数").fill("99")
    start(page).click()
    expect(note(page).locator("[role=alert]")).to_contain_text("limit=99", timeout=WAIT)
    assert page.errors == []


def test_a_file_is_explained_and_a_sample_can_be_had_and_used(chromium, url, script):
    page = opened(chromium, url)
    page.get_by_text("文件怎么写").click()
    expect(page.locator("#bq-eval-format")).to_contain_text('{"messages": [{"role": "user"')
    with page.expect_download() as saved:
        page.locator("#bq-eval-sample").click()
    assert saved.value.suggested_filename == "dialogues.jsonl"
    upload(page, saved.value.path())
    expect(start(page)).to_be_enabled()
    start(page).click()
    expect(note(page)).to_contain_text("评测完成", timeout=WAIT)
    for shown in (note(page), page.locator("#bq-eval-bar"), page.locator("#bq-eval-figures")):
        expect(shown).to_be_in_viewport()


@pytest.mark.parametrize(
    "kept",
    [
        None, [], {"folder": 3, "form": "x"}, {"form": [["next"], ["auto"], "5", 2, "0", ""]}, {"form": {"source": "x"}},
        {"form": {"source": "file", "tasks": ["next"], "who": [1]}},
        {"form": {"source": "file", "tasks": [], "who": [], "seed": []}},
    ],
)  # fmt: skip
def test_what_the_page_did_not_keep_is_no_form(kept):
    assert results.form_of(kept) == {} and results.kind_of(kept).unit == "replies"

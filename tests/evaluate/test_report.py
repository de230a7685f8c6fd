"""The report of an evaluation: what it holds, and how it reads in a real browser."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from bianque.data.formats import ASPECTS, Judged
from bianque.evaluate import plots, report, sections
from bianque.evaluate.measures import MEASURES
from bianque.evaluate.rows import Row
from bianque.evaluate.summary import summarise
from bianque.types import Message
from tests.ui.window import PHONE

HERE = report.ASSETS
EVIL = "</script><script>window.hacked=1</script><img src=http://example.com/x.png onerror=window.hacked=1> <b>粗</b>"
ODD = "a b/中'(x)!*~&<i>"  # an id that an address has to quote
FORMULA = '=HYPERLINK("http://example.com","点我"),\n第二行'
WAIT = 10_000


def asked(text: str) -> tuple[Message, ...]:
    return (Message("user", "医生您好"), Message("assistant", "请说"), Message("user", text))


def scores(first: float) -> Judged:
    return Judged(
        dict(zip(ASPECTS, (first, 4.0, 4.0, 4.0), strict=True)), "评审的提示词正文", f'{{"proactivity": {first}}}'
    )


def sample() -> list[Row]:
    """Two sets: 24 turns that two models answered, one failed; and a recorded dialogue of two turns with scores."""
    rows = []
    for number in range(24):
        said = asked(f"头痛第{number}天")
        rows.append(
            Row("next", "门诊", f"d{number:02}", 1, "甲", said, answer="请问疼了多久？" if number % 3 == 0 else "多喝水。",
                reference="有没有恶心？" if number % 2 == 0 else "休息。", first=0.1, seconds=1.0 + number, tokens=5, finish="stop")
        )  # fmt: skip
        wrong = {"error": f"内存不足 {EVIL}", "code": "BQ_NO_MEMORY"}
        right = {"answer": "好好休息" * (number + 1), "finish": "length" if number == 3 else "stop"}
        rows.append(
            Row(
                "next",
                "门诊",
                f"d{number:02}",
                1,
                "乙",
                said,
                reference=rows[-1].reference,
                **(wrong if number == 7 else right),
            )
        )
    for model, first in (("甲", 2.0), ("乙", 5.0)):
        opening, reply = Message("user", EVIL), Message("assistant", f"{model}说 {EVIL}")
        rows.append(
            Row("recorded", "旧录", ODD, 0, model, (opening,), answer=reply.content, raw=f"病人：\n{reply.content}")
        )
        history = (opening, reply, Message("user", f"再问{model}"))
        rows.append(Row("recorded", "旧录", ODD, 1, model, history, answer=FORMULA, judged=scores(first)))
    return rows


RUN = {
    "bianque": "9.9.1", "data": {"name": "门诊 <x>.jsonl", "sha256": "ab12" * 16}, "tasks": ["next"], "limit": None,
    "contenders": [{"label": "auto", "mode": "auto", "cards": [
        {"name": "ask-mini", "phase": "asking", "repo": None, "revision": "main", "bits": None,
         "sampling": {"temperature": 0.7, "seed": 7}},
        {"name": "bianque-2", "phase": "advising", "repo": "scutcyr/BianQue-2", "revision": "abc123", "bits": 8,
         "sampling": {"temperature": 0}}]}],
    "command": "python -m bianque evaluate --data x", "started": "2026-01-02T03:04:05+00:00",
    "openings": [{"started": "2026-01-02T03:04:05+00:00"}], "versions": {"bianque": "9.9.1", "torch": "7.7"},
    "kernels": {"ask-mini": "float32"}, "licences": {"bianque-2": "研究用途 <only>"},
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    rows = sample()
    return report.write(tmp_path_factory.mktemp("报告 run"), RUN, rows, summarise(rows, resamples=1000))


@pytest.fixture(scope="module")
def document(written) -> str:
    return written.read_text(encoding="utf-8")


# --- the file -----------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


def test_nothing_is_asked_of_elsewhere_and_no_text_becomes_markup(document):
    found = tags(document)
    assert not {"img", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in found}
    assert [tag for tag, _ in found].count("script") == 2
    for _, attributes in found:
        assert not any(name.startswith("on") or name in ("src", "srcset", "action") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in document and "url(" not in (HERE / "report.css").read_text("utf-8")


def test_only_the_script_that_is_there_may_run(document):
    policy = next(a["content"] for tag, a in tags(document) if a.get("http-equiv") == "Content-Security-Policy")
    script = document.rpartition("<script>")[2].partition("</script>")[0]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "connect-src" not in policy


def test_the_head_says_how_to_repeat_it(document):
    head = document.partition("<main>")[0]
    said = (
        "门诊 &lt;x&gt;.jsonl",
        "ab12" * 16,
        "python -m bianque evaluate",
        "abc123",
        "0.7",
        "7.7",
        "研究用途 &lt;only&gt;",
    )
    for part in (*said, "float32", "9.9.1"):
        assert part in head, part
    assert "内容由人工智能生成" in head and "AI-generated" in head


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=6))
def test_what_was_said_comes_back_whole(texts):
    rows = [Row("next", "s", f"{i}", 0, "m", (Message("user", text),), answer=text) for i, text in enumerate(texts)]
    metrics = {"groups": [], "signature": None, "differences": []}
    embedded = report.embedded({}, rows, metrics)
    assert "<" not in embedded
    data = json.loads(embedded)
    assert [data["texts"][item["answers"][0]["text"]] for item in data["items"]] == texts
    assert [data["texts"][item["history"][0][1]] for item in data["items"]] == texts


def test_half_a_surrogate_pair_breaks_nothing(tmp_path):
    rows = [Row("next", "s", "1", 0, "m", (Message("user", "问"),), answer="坏\ud83d字")]
    path = report.write(tmp_path, {}, rows, {"groups": [], "signature": None, "differences": []})
    assert "坏?字" in path.read_text(encoding="utf-8")


def test_a_history_stands_once_where_all_had_the_same():
    found, judged = report.items(sample(), texts := report.Texts())
    assert len(found) == 26 and len(judged) == 2 and len(set(texts.places.values())) == len(texts.places)
    shared, own = found[0], found[-1]
    assert "history" in shared and all("history" not in answer for answer in shared["answers"])
    assert "history" not in own and [len(answer["history"]) for answer in own["answers"]] == [3, 3]
    assert [answer["judged"] for answer in found[-2]["answers"]] == [0, 1]  # of the whole dialogue: at each turn
    assert shared["answers"][0]["questions"] == ["请问疼了多久？"] and not shared["answers"][1]["asks"]


@pytest.mark.parametrize(
    "name, shown, best",
    [
        ("rouge_l", ["1.00", "12.00", "9.50"], "12.00"),
        ("self_repetition", ["0.100", "0.020", "–"], "0.020"),
        ("rouge_l", ["2.00", "2.00"], None),
        ("rouge_l", ["2.00", "–"], None),
        ("question_rate", ["0.1", "0.2"], None),
    ],
)
def test_the_best_is_told_by_what_is_printed(name, shown, best):
    assert sections.best_of(MEASURES[name], shown) == best


def test_every_figure_has_a_definition_in_the_legend(document):
    found = tags(document)
    ids = {attributes["id"] for _, attributes in found if "id" in attributes}
    terms = [attributes["aria-describedby"] for _, attributes in found if attributes.get("class") == "term"]
    assert terms and set(terms) <= ids
    assert all(attributes.get("scope") for tag, attributes in found if tag == "th")


def test_every_word_of_the_reader_is_in_both_languages():
    script = (HERE / "report.js").read_text("utf-8")
    used = set(re.findall(r"(?:say|fold|field|known)\('(\w+)'", script)) | {
        f"{n}_any" for n in re.findall(r"choice\('(\w+)'", script)
    }
    used |= {
        f"by_{name}"
        for table in re.findall(r"const (?:ASKS|SORTS) = \{(.*?)\n\};", script, re.S)
        for name in re.findall(r"^  (\w+):", table, re.M)
    }
    assert len(used) > 30 and used <= report.labels()["words"].keys()
    for chinese, english in report.labels()["words"].values():
        assert set(re.findall(r"\{\w+\}", chinese)) == set(re.findall(r"\{\w+\}", english))


@pytest.mark.slow
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_an_axis_holds_zero_and_all_values(values):
    values = [round(value, 6) for value in values]
    scale = plots.Scale.over(values)
    assert all(-0.01 <= scale.share(value) <= 100.01 for value in (0.0, *values))
    assert 2 <= len(scale.ticks) <= 13 and scale.ticks == sorted(set(scale.ticks))


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=30), st.floats(0, 1))
def test_a_quantile_lies_among_the_values(values, share):
    ordered = sorted(values)
    found = plots.quantile(ordered, share)
    assert ordered[0] <= found <= ordered[-1] + 1e-9
    assert plots.quantile(ordered, 0.0) == ordered[0] and plots.quantile(ordered, 1.0) == ordered[-1]


def test_an_interval_on_one_side_of_zero_has_a_full_dot():
    drawn = plots.intervals([("a", 0.2, 0.1, 0.3, ("", "")), ("b", 0.1, -0.1, 0.3, ("", ""))])
    assert [line.marks[-1][1]["class"] for line in drawn.lines] == ["dot", "hollow"]


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_can_be_read_in_light_and_dark():
    """WCAG 2.2 AA: 4.5 for text, 3 for edges and marks."""
    light, dark = map(colours, re.findall(r":root \{(.*?)\}", (HERE / "report.css").read_text("utf-8"), re.S)[:2])
    texts = [(ink, ground) for ink in ("ink", "quiet", "jade") for ground in ("paper", "card", "soft")]
    texts += [("ink", "jade-soft"), ("quiet", "jade-soft"), ("ink", "bad-soft"), ("ink", "found"), ("on-jade", "jade")]
    for theme in (light, dark):
        for least, pairs in ((4.5, texts), (3.0, [("edge", "paper"), ("edge", "card"), ("bad", "bad-soft")])):
            for one, other in pairs:
                lighter, darker = sorted((luminance(theme[one]), luminance(theme[other])), reverse=True)
                assert (lighter + 0.05) / (darker + 0.05) >= least, (one, other)


# --- in a browser -------------------------------------------------------------------------------------------------


def visit(chromium, path: Path, fragment: str = "", **options) -> Page:
    """The report in a window of its own, which notes each request and each complaint."""
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}, "locale": "zh-CN"} | options))
    page = context.new_page()
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda said: page.errors.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(path.as_uri() + fragment)
    expect(page.locator("#controls")).to_be_visible(timeout=WAIT)
    return page


def cards(page: Page):
    return page.locator("#items .card")


def count(page: Page, text: str) -> None:
    expect(page.locator("#count")).to_contain_text(text, timeout=WAIT)


@pytest.mark.slow
def test_no_request_leaves_and_markup_stays_text(chromium, written):
    page = visit(chromium, written, "#set=旧录")
    count(page, "26 条中的 2 条")
    for fold in page.locator("#items details > summary:visible").all():
        fold.click()
    expect(cards(page).first).to_contain_text(EVIL)
    expect(page.locator("#failures")).to_contain_text(f"内存不足 {EVIL}")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.locator(".card img, .card b:not(.failed b), #failures img").count() == 0
    assert page.requests == [page.url.partition("#")[0]] and page.errors == []


def test_a_turn_is_read_side_by_side(chromium, written):
    page = visit(chromium, written)
    first = cards(page).first
    expect(first.locator(".answer h4")).to_have_text(["人类医生", "甲", "乙"])
    expect(first.locator(".badge")).to_have_text(["问", "问", "答"])
    expect(first.locator(".asks")).to_have_text(["有没有恶心？", "请问疼了多久？"])
    expect(first.locator(".bubble:visible")).to_have_count(1)
    first.get_by_text("之前的对话（2 句）").click()
    expect(first.locator(".bubble:visible")).to_have_text(["患者医生您好", "医生请说", "患者头痛第0天"])
    expect(first.locator(".answer").nth(1)).to_contain_text("1.00 秒")
    expect(cards(page).nth(7).locator(".failed")).to_contain_text("BQ_NO_MEMORY")
    expect(cards(page).nth(3).locator(".answer").nth(2)).to_contain_text("截断")


@pytest.mark.slow
def test_filters_find_and_order(chromium, written):
    page = visit(chromium, written)
    expect(cards(page)).to_have_count(10)  # a page of them, however many there are
    count(page, "26 条中的 26 条 · 第 1/3 页")
    page.get_by_role("combobox", name="提问").select_option(label="有模型提问")
    count(page, "的 8 条")
    page.get_by_role("combobox", name="提问").select_option(label="与人类医生不同")
    count(page, "的 16 条")  # all but the 8 odd ones where nobody asks
    page.get_by_role("button", name="清除条件").click()
    page.get_by_label("只看有错误的").check()
    count(page, "的 1 条")
    page.get_by_role("checkbox", name="乙").uncheck()  # whose it was
    expect(page.locator("#count")).to_contain_text("没有符合条件的条目")
    page.get_by_role("button", name="清除条件").click()
    page.get_by_label("评分 ≤").fill("3.6")
    count(page, "的 2 条")
    page.get_by_label("评分 ≥").fill("3.55")
    expect(page.locator("#count")).to_contain_text("没有符合条件的条目")
    page.get_by_role("button", name="清除条件").click()
    page.get_by_label("搜索文字或编号").fill("头痛 d05")
    count(page, "的 1 条")
    expect(cards(page).locator("mark")).to_have_text(["头痛"])
    page.get_by_role("button", name="清除条件").click()
    page.get_by_role("combobox", name="排序").select_option(label="最长的回答")
    expect(cards(page).nth(1)).to_contain_text("头痛第23天")  # 96 characters; the recorded ones are longer
    page.get_by_role("combobox", name="排序").select_option(label="用字分歧最大")
    expect(cards(page).first.locator("h3")).to_contain_text("门诊")
    assert page.errors == []


@pytest.mark.slow
def test_a_link_leads_back_to_the_same_item_and_conditions(chromium, written):
    page = visit(chromium, written)
    page.get_by_role("combobox", name="数据集").select_option("门诊")
    count(page, "的 24 条")
    page.locator("h1").click()
    for _ in range(12):
        page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(".card:focus h3")).to_contain_text("d10")
    count(page, "第 2/3 页")
    again = visit(chromium, written, "#" + page.url.partition("#")[2])
    expect(again.locator(".card:focus h3")).to_contain_text("d10")
    count(again, "的 24 条 · 第 2/3 页")
    href = cards(again).nth(2).get_by_role("link", name="链接").get_attribute("href")
    again.goto(written.as_uri() + href)  # the same document: only its fragment changes
    expect(again.locator(".card:focus h3")).to_contain_text("d12")
    assert again.errors == []


def test_an_address_that_means_nothing_breaks_nothing(chromium, written):
    page = visit(chromium, written, "#sort=constructor&asks=toString&models=x&item=%E0%A4%A&low=a")
    expect(page.locator("#count")).to_contain_text("没有这一条")
    page.get_by_role("button", name="清除条件").click()
    count(page, "26 条中的 26 条")
    assert page.errors == []


def test_an_error_leads_to_its_row(chromium, written):
    page = visit(chromium, written)
    page.locator("#failures a").first.click()
    expect(page.locator(".card:focus h3")).to_contain_text("d07")
    count(page, "的 1 条")
    odd = report.item_key(Row("recorded", "旧录", ODD, 1, "甲", ()))
    page.evaluate("key => { location.hash = new URLSearchParams([['item', key]]); }", odd)
    expect(page.locator(".card:focus h3")).to_contain_text(ODD)


def test_what_is_on_view_can_be_taken_along(chromium, written):
    page = visit(chromium, written, "#set=旧录")

    def saved(name: str) -> tuple[str, str]:
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        return download.value.suggested_filename, Path(download.value.path()).read_text(encoding="utf-8")

    name, text = saved("JSONL")
    found = [json.loads(line) for line in text.splitlines()]
    kept = [row for row in sample() if row.set == "旧录"]
    assert name.endswith(".jsonl") and len(found) == 4 and "人工智能" in found[0]["label"]
    key = lambda row: (row["turn"], row["model"])
    for got, row in zip(sorted(found, key=key), sorted(map(asdict, kept), key=key), strict=True):
        assert [turn["content"] for turn in got["history"]] == [turn["content"] for turn in row["history"]]
        assert all(
            got[field] == row[field] for field in ("task", "set", "id", "turn", "answer", "raw", "error", "reference")
        )
    table = list(csv.DictReader(io.StringIO(saved("CSV")[1].removeprefix("\ufeff"), newline="")))
    assert {row["answer"] for row in table if row["turn"] == "1"} == {"'" + FORMULA}  # no spreadsheet runs it
    name, text = saved("Markdown")
    assert name.endswith(".md") and "人工智能" in text and "| distinct-2 " in text
    assert page.errors == []


@pytest.mark.slow
def test_all_of_the_page_speaks_either_language(chromium, written):
    page = visit(chromium, written)
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Paired differences")).to_be_visible()
    expect(page.get_by_role("heading", name="成对差异")).to_be_hidden()
    count(page, "26 of 26 items")
    theirs = page.locator("#controls, #count, h1, h2, nav, #rows button, .facts-line").all_inner_texts()
    assert not re.search("[\u4e00-鿿]", re.sub("[甲乙门诊旧录]|中文", "", "".join(theirs)))
    english = visit(chromium, written, locale="en-GB")
    expect(english.get_by_role("heading", name="Read the rows")).to_be_visible()


def test_a_definition_opens_at_its_name(chromium, written):
    page = visit(chromium, written)
    term = page.locator("#figures .term").first
    term.focus()
    expect(page.get_by_role("tooltip")).to_contain_text("向患者提问的医生轮次")
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()
    term.hover()
    expect(page.get_by_role("tooltip")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_only(chromium, written, scheme):
    page = visit(chromium, written, **PHONE, color_scheme=scheme)
    page.locator("header summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for part in ("#figures .box", "#items .columns"):
        assert page.locator(part).first.evaluate("box => box.getBoundingClientRect().right") <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    level = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert level > 230 if scheme == "light" else level < 40


@pytest.mark.slow
def test_paper_gets_the_text_and_not_the_controls(chromium, written):
    page = visit(chromium, written)
    page.emulate_media(media="print")
    expect(page.locator("#controls")).to_be_hidden()
    expect(page.locator("nav")).to_be_hidden()
    expect(cards(page).first).to_be_visible()
    assert page.pdf().startswith(b"%PDF")

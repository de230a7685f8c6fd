"""The Arena tab in a real browser: nothing tells who fights before the vote, one vote a battle, and the board shows it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from bianque.arena import ratings
from bianque.arena.battle import BadLine, written
from bianque.arena.matchmaking import alone, both
from bianque.arena.votes import Votes, Where
from bianque.catalog.builtin import CARDS, by_name
from bianque.consult.session import Delta, Done, Handed, Loading, Session, Speaking, Thinking, Timing
from bianque.consult.transcript import Transcript
from bianque.errors import LoadFailed
from bianque.types import Message, Progress, Usage
from bianque.ui import board, duel
from bianque.ui.arena import Arena
from bianque.ui.board import Board
from bianque.ui.duel import Duel
from tests.conftest import ADVICE, QUESTIONS, ROOT, Scripted, free_port
from tests.ui.test_page import research, wait_for
from tests.ui.test_patient_page import COVERED, SIZES, violations
from tests.ui.window import PHONE, WAIT, visit

NAMES = ("ask-mini", "advise-mini", "auto (")
SECRET = "我最近总是腰疼"
KNOWN = by_name(CARDS)
LISTEN = """() => {  // keeps all that the server sends from now on, streams too
  const fetched = window.fetch;
  window.heard = [];
  window.fetch = async (...asked) => {
    const reply = await fetched(...asked), words = new TextDecoder();
    const listen = async reader => {
      for (let part; !(part = await reader.read()).done;) window.heard.push(words.decode(part.value, { stream: true }));
    };
    listen(reply.clone().body.getReader()).catch(() => {});
    return reply;
  };
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for the tests below that need no real model; they run one after the other."""
    from bianque.ui import serve
    from bianque.ui.page import Page as Consultation

    voices, kept = Scripted(), Votes(tmp_path_factory.mktemp("kept") / "votes")
    session = Session(voices, "ask-mini", "advise-mini")
    page = Consultation(session, ROOT / "examples.json", Arena(session, kept, can_run=lambda name: False))
    demo, here = page.build(), {"server_name": "127.0.0.1", "server_port": free_port()}
    _, address, _ = serve.launch(demo, session, **here, prevent_thread_lock=True)
    yield address, voices, page.arena
    demo.close(verbose=False)


@pytest.fixture
def script(served) -> Scripted:
    """What the voices say, as if nobody had ever spoken."""
    _, voices, arena = served
    vars(voices).update(vars(Scripted(asks=list(QUESTIONS), advises=[ADVICE], pause=0.002)))
    arena.cooldown.clear()
    return voices


@pytest.fixture
def url(served, script) -> str:
    return served[0]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """`app.py` as a Space runs it, with the bundled models; ended with SIGTERM, it says what came last."""
    folder, port = tmp_path_factory.mktemp("space") / "votes", free_port()
    settings = {"BIANQUE_VOTES": str(folder), "BIANQUE_MODELS": "mini", "GRADIO_SERVER_PORT": str(port)}
    run = [
        sys.executable,
        "-c",
        "import app; app.Publisher.close = lambda publisher: print('the last push', flush=True); app.main()",
    ]
    space = subprocess.Popen(run, cwd=ROOT, env=os.environ | settings, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: alive(port), 100)
        yield f"http://127.0.0.1:{port}/", folder, space
    finally:
        space.kill()
        space.communicate()


def alive(port: int) -> bool:
    import httpx

    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.slow
def test_feedback_from_a_program_stands_on_the_board(url, served):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    said = [
        {"role": "user", "content": SECRET, "phase": None, "model": None},
        {"role": "assistant", "content": ADVICE, "phase": "advising", "model": "advise-mini"},
    ]
    client, store = Client(url, verbose=False), served[2].votes.feedback
    kept = client.predict(messages=said, liked=True, reason="helpful", api_name="/feedback")
    assert kept == {"id": kept["id"], "model": "advise-mini", "liked": True}
    assert "advise-mini" in board.liked_html(store.shares(), "zh-CN") and "100%" in board.liked_html(
        store.shares(), "en"
    )
    for wrong, named in (
        ({"messages": said[:1], "liked": True}, "place=0"),
        ({"messages": said, "liked": 1}, "liked=1"),
    ):
        with pytest.raises(AppError, match=named):
            client.predict(**wrong, api_name="/feedback")
    said[1]["model"] = "<b>nobody"
    with pytest.raises(AppError, match="nobody"):
        client.predict(messages=said, liked=True, api_name="/feedback")
    client.predict(id=kept["id"], api_name="/feedback")
    assert store.shares() == [] and board.liked_html([], "en") == ""
    client.close()


def opened(chromium, url: str, tab: str = "竞技场", **options) -> Page:
    page = visit(chromium, url, **options)
    research(page, tab)
    page.locator("#bq-both textarea").wait_for(timeout=WAIT)
    return page


def say(page: Page, text: str = SECRET) -> None:
    box = page.locator("#bq-both textarea")
    box.fill(text)
    box.press("Enter")


def idle(page: Page) -> None:
    expect(page.locator("#bq-both .submit-button")).to_be_visible(timeout=WAIT)


def answered(page: Page, text: str = SECRET) -> None:
    """A message that both sides have replied to."""
    say(page, text)
    expect(page.locator("#bq-duel-note")).to_contain_text("可以投票", timeout=60_000)
    idle(page)


def side(page: Page, letter: str):
    return page.locator(f"#bq-ring-{letter}")


def verdicts(page: Page) -> list:
    return page.locator("#bq-verdicts button").all()


def lines(folder: Path) -> list[dict]:
    return [json.loads(written(vote)) for vote in Votes(folder).read()[0]]


@pytest.mark.process
def test_a_whole_battle_is_blind_until_the_vote_and_the_board_shows_it(chromium, bundled):
    url, folder, space = bundled
    page = opened(chromium, url)
    page.evaluate(LISTEN)
    answered(page)
    assert not folder.exists()  # nothing is on disk before the first vote
    sent = page.evaluate("window.heard.join('')")
    assert json.dumps(SECRET)[1:-1] in sent or SECRET in sent  # what came from the server was listened to
    for told in (sent, page.locator("#bq-arena-tab").inner_html()):
        assert not [name for name in NAMES if name in told]
    expect(page.locator("#bq-category input")).to_have_value("外科与骨科")
    page.get_by_label("内容准确").check()
    first = page.get_by_role("button", name="A 更好")
    first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#bq-duel-note")).to_contain_text("已记下：A 更好。A 是", timeout=WAIT)
    one, other = (side(page, letter).locator(".bq-corner").inner_text() for letter in "ab")
    assert any(name in one for name in NAMES) and any(name in other for name in NAMES) and "float32" in one
    for button in verdicts(page):
        expect(button).to_be_disabled()
    expect(page.locator("#bq-next")).to_be_focused()

    (vote,) = lines(folder)
    assert vote["verdict"] == "a" and vote["reasons"] == ["accurate"] and vote["category"] == "surgery"
    assert vote["a"]["name"] in one and vote["a"]["precision"] == "float32" and vote["turns"] == 1
    assert "text" not in vote and SECRET not in json.dumps(vote, ensure_ascii=False)

    page.keyboard.press("Enter")  # the next battle
    expect(page.locator("#bq-both textarea")).to_be_focused(timeout=WAIT)
    answered(page, "牙疼")
    page.get_by_label("同意同时保存").check()
    page.get_by_role("button", name="不相上下").click()
    expect(page.locator("#bq-duel-note")).to_contain_text("不相上下。A 是", timeout=WAIT)
    kept = next(vote for vote in lines(folder) if "text" in vote)
    assert [kept["text"][letter][0] for letter in "ab"] == [{"role": "user", "content": "牙疼"}] * 2

    page.get_by_role("button", name="排行榜").click()
    expect(page.locator("#bq-board")).to_contain_text("2 票", timeout=WAIT)
    assert vote["b"]["name"] in page.locator("#bq-board table").first.inner_text()
    expect(page.locator("#bq-board svg")).to_be_visible()
    expect(page.locator("#bq-board")).to_contain_text("只保存在这台机器上")
    with page.expect_download() as saved:
        page.get_by_role("button", name="下载投票").click()
    shared = [json.loads(line) for line in Path(saved.value.path()).read_text().splitlines()]
    assert len(shared) == 2 and not any("text" in vote for vote in shared)
    assert page.errors == []

    page.close()
    space.send_signal(signal.SIGTERM)
    assert "the last push" in space.communicate(timeout=30)[0] and space.returncode == 0


def test_rounds_go_on_and_no_vote_is_possible_while_one_is_unfinished(chromium, served, url, script):
    page = opened(chromium, url)
    tabs = page.get_by_role("tab").all_inner_texts()
    assert len(tabs) == len(set(tabs))  # Gradio draws one twice if anything but tabs stands among them
    answered(page)
    for button in verdicts(page):
        expect(button).to_be_enabled()
    assert violations(page) == []
    script.asks, script.advises, script.pause = (
        ["还有别的吗？" * 300],
        ["多休息。" * 300],
        1.0,
    )  # a page that draws ten times a second takes a third of a core
    say(page, "坐久了更疼")
    expect(side(page, "a").locator(".message.bot").nth(1)).to_be_visible(timeout=WAIT)
    for button in verdicts(page):
        expect(button).to_be_disabled()
    page.locator("#bq-both .stop-button").click()
    idle(page)
    expect(page.locator("#bq-duel-note")).to_contain_text("还不能投票")
    wait_for(lambda: len(script.closed) == 2)
    for button in verdicts(page):
        expect(button).to_be_disabled()
    expect(page.locator("#bq-both textarea")).to_have_value("坐久了更疼")
    script.asks, script.advises, script.pause = [QUESTIONS[0]], [ADVICE], 0.0
    page.locator("#bq-both textarea").press("Enter")
    expect(page.locator("#bq-duel-note")).to_contain_text("可以投票", timeout=WAIT)
    for _, dialogue, _ in script.heard[-2:]:  # the round that was stopped is as if it had not been
        assert [message.content for message in dialogue[::2]] == [SECRET, "坐久了更疼"] and len(dialogue) == 3
    expect(side(page, "a").locator(".message.bot")).to_have_count(2)
    script.pause, script.asks, script.advises = 1.0, ["还有别的吗？" * 300], ["多休息。" * 300]
    say(page, "还有")
    expect(side(page, "b").locator(".message.bot").nth(2)).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="换一对").click()  # at any time
    expect(page.locator(".bq-talk .message")).to_have_count(0, timeout=WAIT)
    expect(page.locator("#bq-vote")).to_have_count(0)
    wait_for(lambda: len(script.closed) == 4)
    assert served[2].votes.read() == ([], [])


def test_who_cannot_reply_ends_the_battle_and_is_not_drawn_again_soon(chromium, served, url, script):
    page = opened(chromium, url)
    script.fails = LoadFailed("模型库连不上，请稍后重试")
    say(page, "<b>头痛</b>")
    expect(page.locator("#bq-duel-note")).to_contain_text("不计票：模型库连不上", timeout=WAIT)
    expect(page.locator("#bq-vote")).to_have_count(0)
    expect(page.locator("#bq-both textarea")).to_have_value("<b>头痛</b>")
    assert len(served[2].cooldown) == 1
    script.fails = None
    idle(page)
    page.locator("#bq-both textarea").press("Enter")
    expect(page.locator("#bq-duel-note")).to_contain_text("可以投票", timeout=WAIT)
    expect(side(page, "a").locator(".message.user")).to_contain_text("<b>头痛</b>")
    assert page.locator(".bq-talk .message b").count() == 0


def test_a_phone_shows_both_sides_and_the_ballot_in_the_visitors_language(chromium, url):
    page = opened(chromium, f"{url}?__theme=dark", "아레나", locale="ko-KR", **PHONE)
    expect(page.locator("#bq-duel-note[role=status]")).to_contain_text("이름을 가린")
    expect(page.get_by_role("textbox", name="양쪽에 보낼 메시지")).to_be_visible()
    say(page)
    expect(page.locator("#bq-verdicts button").first).to_be_enabled(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") == 390 and violations(page) == []
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate(COVERED) == [], (width, height)
    page.set_viewport_size(PHONE["viewport"])
    names = "e => e.getAttribute('aria-label') || e.closest('label')?.innerText || e.innerText"
    for control in page.locator("#bq-arena-tab :is(button, input, textarea)").all():
        if control.is_visible():
            assert not re.search("[一-鿿]", name := control.evaluate(names)) and name.strip()
    for field in ("#bq-both textarea", "#bq-category input"):
        assert page.locator(field).evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 16, field
    page.locator("#bq-ring").evaluate("e => e.scrollTo({left: 300, behavior: 'instant'})")
    expect(page.get_by_role("group", name="B", exact=True)).to_be_in_viewport(ratio=0.3)
    page.get_by_role("button", name="둘 다 나쁘다").click()
    page.get_by_role("button", name="순위표").click()
    expect(page.locator("#bq-board table").first).to_be_visible(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") == 390 and violations(page) == []


def test_why_a_reply_was_not_liked_can_be_told_by_a_tap(chromium, served, url, script):
    page, store = visit(chromium, url), served[2].votes.feedback
    for left in store.read()[0]:  # of a first try that came too late
        store.remove(left.id)
    page.get_by_role("radio", name="给建议").check()
    box = page.locator("#bq-box textarea")
    box.fill(SECRET)
    box.press("Enter")
    dislike = page.locator("#bq-chat").get_by_role("button", name="踩", exact=True)
    expect(dislike).to_be_visible(timeout=WAIT)
    expect(page.locator("#bq-box .submit-button")).to_be_visible(timeout=WAIT)  # a reply is judged when it is whole
    dislike.click()
    toast = page.locator("#bq-toast")
    expect(toast).to_contain_text("不记您说的话", timeout=WAIT)
    toast.get_by_role("button", name="看不懂").click()
    wait_for(lambda: [word.reason for word in store.read()[0]] == ["unclear"], seconds=60)
    (word,) = store.read()[0]
    assert (word.model, word.liked, word.text) == ("advise-mini", False, None)
    store.remove(word.id)


def test_a_reply_can_be_judged_once_it_is_whole(chromium, served, url, script):
    script.asks = [text + "还有什么不舒服吗" * 200 for text in ("请问疼了多久？", "请问平时久坐吗？")]
    script.pause = 0.1
    page, store = visit(chromium, url), served[2].votes.feedback
    replies, thumbs = page.locator("#bq-chat .message.bot"), page.locator("#bq-chat").get_by_title("踩", exact=True)
    stop, send = (page.locator(f"#bq-box .{name}-button") for name in ("stop", "submit"))
    for round_, message in enumerate((SECRET, "有三天了"), 1):
        page.locator("#bq-box textarea").fill(message)
        page.locator("#bq-box textarea").press("Enter")
        expect(replies.nth(round_ - 1)).to_contain_text("请问", timeout=WAIT)
        expect(thumbs).to_have_count(0)  # neither below what is being written nor below what was
        stop.click()
        expect(send).to_be_visible(timeout=WAIT)
        expect(thumbs).to_have_count(round_)
    thumbs.first.click()
    expect(page.locator("#bq-toast")).to_contain_text("记下了", timeout=WAIT)
    (word,) = store.read()[0]
    assert (word.model, word.liked) == ("ask-mini", False)
    store.remove(word.id)


# --- the parts, without a page ---

ASK, ADVISE = KNOWN["ask-mini"], KNOWN["advise-mini"]
KERNEL = "float32 of "


def kernel(model: str) -> str:
    return KERNEL + model


def reply(model: str, text: str, phase="asking") -> list:
    done = Done(Message("assistant", text, phase, model), "stop", Usage(), Timing())
    return [Thinking(model, phase), Speaking(model, phase, 3, 8), Delta(text), done]


def fought(first=(), second=()) -> tuple[Duel, list[Transcript]]:
    fight = Duel((both(ASK, ADVISE), alone(ADVISE)), SECRET)
    lanes = fight.ask(SECRET, kernel)
    for place, events in enumerate((first, second)):
        for event in events:
            fight.apply(place, lanes[place], event)
    return fight, lanes


def handed_over() -> Duel:
    """A battle in which the first side's pair has handed over at once: both replies are the adviser's."""
    handed = [Thinking("ask-mini", "asking"), Handed("ask-mini", "advise-mini", "budget")]
    return fought(handed + reply("advise-mini", "多休息。", "advising"), reply("advise-mini", "少坐。", "advising"))[0]


def finished() -> Duel:
    return fought(reply("ask-mini", "多久了？"), reply("advise-mini", "少坐。", "advising"))[0]


@pytest.mark.parametrize("length", range(1, 6))
def test_what_the_page_shows_before_the_vote_tells_nobodys_name(length):
    way = [Loading(Progress("ask-mini", "loading", 0.5)), *reply("ask-mini", "多久了？")]
    fight, lanes = fought(way[:length], [Loading(Progress("advise-mini", "queued", 0.0, 3))])
    shown = json.dumps(
        [*(duel.hidden(lane, "zh-CN") for lane in lanes), *duel.talks(fight, "zh-CN")], ensure_ascii=False
    )
    shown += "".join((*duel.heads(fight), *duel.side_figures(fight, "zh-CN")))
    for secret in (*NAMES, "问诊", "3/8", "float32"):
        assert secret not in shown


def test_after_the_vote_names_models_and_settings_are_told():
    fight = handed_over()
    fight.verdict = "b"
    heads, talks = duel.heads(fight), duel.talks(fight, "zh-CN")
    assert "auto (ask-mini + advise-mini)" in heads[0] and f"{KERNEL}ask-mini + {KERNEL}advise-mini" in heads[0]
    drawn = " + ".join(f"T {card.sampling.temperature:g}, top-p {card.sampling.top_p:g}" for card in (ASK, ADVISE))
    assert drawn in heads[0] and "main" not in heads[0]
    assert "由 ask-mini 转交 advise-mini" in json.dumps(talks[0], ensure_ascii=False)
    assert all("advise-mini" in line for line in duel.side_figures(fight, "zh-CN"))
    assert duel.revealed(fight, "en") == (
        "Vote saved: B is better. A is auto (ask-mini + advise-mini), B is advise-mini. "
        "Compared were replies of advise-mini and of advise-mini."
    )


def test_two_replies_of_one_model_are_nothing_to_vote_on(ring):
    fight = handed_over()
    assert fight.battle.ready and not fight.can_vote and finished().can_vote
    view = ring.stopped(fight, "", None)
    assert "同一个模型" in view[ring.note] and not any(view[button].interactive for button in ring.verdicts)
    assert "同一个模型" in vote(ring, fight) and fight.verdict is None


@pytest.fixture
def ring(tmp_path) -> Arena:
    arena = Arena(Session(Scripted(), "ask-mini", "advise-mini"), Votes(tmp_path / "votes"))
    with gr.Blocks() as blocks, gr.Tabs():
        arena.build(blocks)
    return arena


def vote(ring: Arena, fight: Duel | None, **wrong) -> str:
    """What stands above the columns after a vote."""
    given = {"verdict": "a", "category": "other", "reasons": [], "consent": False} | wrong
    cast = ring.vote(given["verdict"], fight, given["category"], given["reasons"], given["consent"], None)
    with ThreadPoolExecutor(1) as apart:  # the browser has a loop of its own in this thread
        return apart.submit(asyncio.run, cast).result()[ring.note]


def test_the_core_has_the_last_word_on_a_vote(ring):
    fight = finished()
    assert "已经不在了" in vote(ring, None)
    assert "两边都答完" in vote(ring, fought(reply("ask-mini", "多久了？"))[0])
    for wrong in ({"verdict": "c"}, {"category": "<b>"}, {"reasons": ["kind"]}):
        assert "可选" in vote(ring, fight, **wrong) and fight.verdict is None
    assert not ring.votes.folder.exists()
    assert "已记下" in vote(ring, fight) and fight.verdict == "a"
    assert "已经投过票" in vote(ring, fight, verdict="b") and fight.verdict == "a"
    assert len(lines(ring.votes.folder)) == 1


def test_a_vote_that_cannot_be_written_can_be_cast_again(ring, caplog):
    ring.votes.folder.write_text("a file where the folder should be")
    fight = finished()
    assert "没有写进磁盘" in vote(ring, fight) and fight.verdict is None
    assert SECRET not in caplog.text
    ring.votes.folder.unlink()
    assert "已记下" in vote(ring, fight)


def test_the_board_counts_what_is_new_and_escapes_what_votes_say(ring):
    shown = Board(ring.votes, Where)
    assert "还没有投票" in board.board_html(*held(shown), lang="zh-CN")
    vote(ring, finished())
    found = held(shown)[0]
    assert found.votes == 1 and held(shown)[0] is found and held(shown, "mind")[0].votes == 0
    vote(ring, finished(), verdict="tie", category="mind")
    assert held(shown)[0].votes == 2 and held(shown, "mind")[0].votes == 1
    strange = ratings.rank(ring.votes.read()[0], by=lambda who: f"<img src={who.name}>")
    told = board.board_html(strange, Where(), [], "en")
    assert "<img" not in told and "&lt;img src=advise-mini" in told


def held(shown: Board, category: str = board.ALL) -> tuple:
    found, problems = shown.count(category)
    return found, shown.where(), problems


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Where(), ["on this machine alone"]),
        (Where("me/votes", "2026-01-02T03:04:05"), ["me/votes", "2026-01-02T03:04:05"]),
        (Where("me/votes", None, "HTTPError 503"), ["me/votes", "HTTPError 503"]),
        (Where(None, None, "HF_TOKEN is not set"), ["alone", "HF_TOKEN"]),
    ],
)
def test_the_board_says_where_votes_go(where, words):
    told = board.board_html(ratings.rank([]), where, [BadLine("a.jsonl", 3, "not JSON")], "en")
    assert all(word in told for word in [*words, "not votes: 1"])

"""What visitors say stays with them: one sentence, sent through every door, is found nowhere on this machine afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bianque.evaluate.quota import Folders
from tests.conftest import ROOT, free_port

CANARY = "金丝雀七三一"
FAILS, DIES, SLOW = f"{CANARY}崩溃", f"{CANARY}线程崩溃", f"{CANARY}慢"
OPENED = '{"id":"1","set":"s","turns":[{"role":"patient","text":"%s"},{"role":"doctor","text":"多久了？"}]}'
HISTORY = [{"role": "user", "content": CANARY}, {"role": "assistant", "content": "多久了？", "model": "ask-mini"}]

pytestmark = pytest.mark.process


class Running:
    """The page of tests/loud.py, all of whose files are below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "tmp").mkdir()
        env = os.environ | {
            "TMPDIR": str(folder / "tmp"), "GRADIO_TEMP_DIR": str(folder / "tmp" / "gradio"), "HOME": str(folder),
            "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.loud", str(self.port), str(folder)]
        with (folder / "said").open("wb") as said:
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.until(lambda: b"http://" in (folder / "said").read_bytes())

    def until(self, condition) -> None:
        begun = time.monotonic()
        while not condition():
            assert self.process.poll() is None and time.monotonic() - begun < 100, (self.folder / "said").read_text()
            time.sleep(0.05)

    def call(self, name: str, **arguments) -> str:
        """All that an endpoint answers, errors too."""
        event = self.http.post(f"/gradio_api/call/v2/{name}", json=arguments).json()["event_id"]
        return self.http.get(f"/gradio_api/call/{name}/{event}").text

    def handler(self, **fields) -> str:
        """All that an event of the page itself answers."""
        self.http.post("/gradio_api/queue/join", json={"session_hash": "s" * 10, **fields})
        return self.http.get("/gradio_api/queue/data", params={"session_hash": "s" * 10}).text

    def complete(self, said: str, stream: bool) -> str:
        body = {"model": "auto", "stream": stream, "messages": [{"role": "user", "content": said}]}
        return self.http.post("/v1/chat/completions", json=body).text

    def found(self) -> list[str]:
        """Files below the folder that hold the sentence, in any of the ways in which it may be written."""
        escaped = json.dumps(CANARY)[1:-1].encode()
        spelled = (
            CANARY.encode(),
            escaped,
            escaped.replace(b"\\", b"\\\\"),
            CANARY.encode("utf-16-le"),
            CANARY.encode("gbk"),
        )
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return [str(path) for path in files if any(form in path.read_bytes() for form in spelled)]


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    page = Running(folder)
    try:
        yield page
    finally:
        page.http.close()
        if page.process.poll() is None:
            page.process.kill()
            page.process.wait()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with running(tmp_path_factory.mktemp("page")) as page:
        yield page


def sent(page: Running) -> dict[str, str]:
    """The sentence through every door, well and failing."""
    events = [place for place, event in enumerate(page.http.get("/config").json()["dependencies"]) if event["queue"]]
    file = OPENED % CANARY
    answers = {
        **{f"page {i}": page.handler(fn_index=i, data=[CANARY]) for i in events[:6]},
        **{f"chat {said}": page.call("chat", message=said, history=HISTORY) for said in (CANARY, FAILS, DIES)},
        **{f"once {said}": page.call("chat_once", message=said) for said in (CANARY, FAILS)},
        **{f"v1 {said} {way}": page.complete(said, way) for said in (CANARY, FAILS) for way in (False, True)},
        "compare": page.call("compare", message=FAILS, contenders=["auto", "advise-mini"]),
        "summary": page.call("summary", history=HISTORY, lang="zh-CN"),
        "wrong history": page.call("chat", message=CANARY, history=[{"role": CANARY, "content": 1}]),
        "wrong json": page.http.post("/v1/chat/completions", content=f'{{"messages": "{CANARY}').text,
        "address": page.http.get(f"/v1/{CANARY}?q={CANARY}").text,
        "evaluate": page.call("evaluate", text=file, contenders=["advise-mini"]),
        "evaluate crash": page.call("evaluate", text=OPENED % FAILS, contenders=["auto"]),
        "feedback": page.call("feedback", messages=HISTORY, liked=False, reason="wrong", note=CANARY),
        "uploaded": page.http.post("/gradio_api/upload", files={"files": ("a.txt", b"kept an hour")}).text,
    }  # fmt: skip
    return answers | {door: page.http.get(door).text for door in ("/healthz", "/readyz", "/metrics", "/monitoring")}


def test_a_visitors_words_are_in_no_log_file_or_metric(page):
    answers = sent(page)
    assert "event: complete" in answers[f"chat {CANARY}"] and "BQ_INTERNAL" in answers[f"v1 {FAILS} False"]
    assert '"liked": false' in answers["feedback"] and json.dumps(CANARY)[1:-1] in answers["summary"]
    for door in ("/healthz", "/readyz", "/metrics", "/monitoring"):
        assert CANARY not in answers[door]
    said = (page.folder / "said").read_text()
    assert "RuntimeError" in said and "in stream" in said  # where and of what kind is told
    assert (page.folder / "votes").is_dir()  # the word itself is kept
    assert page.found() == []


def test_what_is_logged_and_counted_of_replies_are_numbers(page):
    page.call("chat", message=f"{CANARY}，直接给我建议吧", mode="advise")
    lines = [json.loads(line) for line in (page.folder / "said").read_text().splitlines() if line.startswith("{")]
    last = lines[-1]
    assert last.pop("request").isalnum() and (last.pop("model"), last.pop("phase")) == ("advise-mini", "advising")
    assert last.pop("outcome") == "stop" and all(isinstance(value, int | float) for value in last.values())
    told = page.http.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain")
    assert 'bianque_replies_total{model="advise-mini",phase="advising",outcome="stop"}' in told.text
    assert "bianque_replies_under_way 0\n" in told.text and CANARY not in told.text
    for line in told.text.splitlines():
        assert line.startswith("# TYPE bianque_") or re.fullmatch(r'bianque_\w+(\{[\w="+,.@-]*\})? [\d.]+', line)
    assert page.found() == []


def test_headers_hold_the_page_together_and_name_who_may_embed_it(page):
    for door in ("/", "/healthz", "/v1/models", "/config", "/none"):
        headers = page.http.get(door).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
        assert headers["content-security-policy"].endswith("frame-ancestors 'self' https://*.example.org")
        assert "x-frame-options" not in headers


def test_sigterm_lets_replies_end_and_takes_no_more(tmp_path):
    """It ends its process, so it has one of its own."""
    with running(tmp_path) as page, ThreadPoolExecutor(2) as threads:
        streamed = threads.submit(page.complete, SLOW, True)
        called = threads.submit(page.call, "chat", message=SLOW)
        with page.http.stream("GET", "/gradio_api/heartbeat/opened"):  # a page that stays open holds nothing up
            page.until(lambda: "bianque_replies_under_way 2\n" in page.http.get("/metrics").text)
            page.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    httpx.get(f"http://127.0.0.1:{page.port}/readyz", timeout=5)
                except httpx.TransportError:
                    break
            (page.folder / "go").touch()
            assert streamed.result().rstrip().endswith("[DONE]")
            assert "event: complete" in called.result()
            assert page.process.wait(60) == 0
        assert (page.folder / "ended").exists() and page.found() == []


def test_an_upload_goes_by_itself_also_when_nobody_comes(tmp_path):
    import asyncio

    from bianque.api import leftovers

    folders = Folders(tmp_path / "kept", kept=60)
    (tmp_path / "file").write_text(CANARY)
    old, new = (folders.root / folders.add(tmp_path / "file") for _ in range(2))
    os.utime(old, (time.time() - 61,) * 2)

    async def served() -> None:
        async with leftovers.swept(None, folders):
            while old.exists():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(served(), 30))
    assert new.exists()

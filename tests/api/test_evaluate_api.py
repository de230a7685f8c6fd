"""`/evaluate` as a developer calls it: a file or a text in, figures, rows and a report out, and nothing left behind."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from bianque.consult.session import Session
from bianque.data import readers
from bianque.errors import Busy
from bianque.evaluate.quota import MOST_AT_ONCE, MOST_RECORDED, MOST_ROWS
from bianque.ui import serve
from bianque.ui.page import Page
from tests.cli.test_evaluate import DIALOGUES, RECORDED, dialogue, written
from tests.conftest import QUESTIONS, ROOT, Scripted, free_port

TEXT = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in DIALOGUES)


pytestmark = pytest.mark.process  # a server


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for all tests of this file, with a temporary directory of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        voices = Scripted()
        page = Page(Session(voices, "ask-mini", "advise-mini"), ROOT / "examples.json")
        demo, here = page.build(), {"server_name": "127.0.0.1", "server_port": free_port()}
        _, address, _ = serve.launch(demo, page.session, **here, prevent_thread_lock=True)
        client = Client(address, verbose=False)
        yield address, voices, client
        client.close()
        demo.close(verbose=False)


@pytest.fixture
def script(served) -> Scripted:
    """What the voices say, as if nobody had ever spoken; whatever is asked, nothing is left behind."""
    vars(served[1]).update(vars(Scripted(asks=[QUESTIONS[0]], advises=["多休息。"], pause=0.001)))
    yield served[1]
    assert not list(Path(tempfile.gettempdir()).glob("bianque-*"))


@pytest.fixture
def client(served, script) -> Client:
    return served[2]


@pytest.mark.slow
def test_scripted_patients_consult_each_contender(client, script):
    script.pause = 0.0
    steps = list(
        client.submit(tasks=["patients"], contenders=["auto", "advise"], limit=2, seed=3, api_name="/evaluate")
    )
    last = steps[-1]
    assert (last["done"], last["total"], last["failed"]) == (4, 4, 0) and all(step["total"] == 4 for step in steps)
    assert {row["contender"] for row in last["rows"]} == set(last["metrics"]) == {"auto", "advise"}
    assert last["metrics"]["advise"]["advice_on_topic"]["of"] == 2 and "每一次问诊" in last["report"]
    assert all(row["dialogue"][0]["role"] == "user" for row in last["rows"])
    for wrong, named in (
        ({"limit": 99}, "limit=99"),
        ({"text": "x"}, "不需要文件"),
        ({"contenders": ["bianqe"]}, "bianqe"),
    ):
        with pytest.raises(AppError, match=named):
            client.predict(**{"tasks": ["patients"], "limit": 1, **wrong}, api_name="/evaluate")


@pytest.mark.slow
def test_a_file_is_evaluated_with_progress(client, script, tmp_path):
    file = handle_file(written(tmp_path, DIALOGUES))
    asked = {"contenders": ["auto", "advise-mini:temperature=0"], "limit": 3, "seed": 5, "max_new_tokens": 40}
    steps = list(client.submit(file=file, tasks=["next", "consultation"], **asked, api_name="/evaluate"))
    assert all(late["done"] >= early["done"] for early, late in itertools.pairwise(steps))
    assert {step["total"] for step in steps} == {24} and all(step["report"] is None for step in steps[:-1])
    last = steps[-1]
    assert (last["done"], last["failed"], len(last["rows"])) == (24, 0, 24) and "人工智能" in last["label"]
    assert {row["model"] for row in last["rows"]} == set(asked["contenders"])
    assert [row["task"] for row in last["rows"]] == (["next"] * 6 + ["consultation"] * 6) * 2
    figures = last["metrics"]["groups"][0]["figures"]
    assert figures["question_rate"] == {"value": 0.5, "n": 6} and "rouge_1" in figures
    assert last["report"].startswith("<!doctype html>") and "次头痛" in last["report"]
    assert {sampling.max_new_tokens for _, _, sampling in script.heard} == {40}
    assert len({sampling.seed for _, _, sampling in script.heard}) == 12  # one a turn, the same for both contenders


def test_a_text_is_as_good_as_a_file_and_defaults_are_filled_in(client, script):
    last = client.predict(text=TEXT, limit=2.0, api_name="/evaluate")
    assert (last["done"], last["rows"][0]["model"], last["rows"][0]["task"]) == (4, "auto", "next")


def test_recorded_outputs_need_no_model(client, script):
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDED)
    last = client.predict(text=text, api_name="/evaluate")
    assert script.heard == [] and last["done"] == 12
    assert [group["model"] for group in last["metrics"]["groups"]] == ["one", "two"]
    assert last["metrics"]["groups"][0]["figures"]["judge_mean"]["value"] == 4


def test_a_failed_reply_is_no_failed_call(client, script):
    script.fails = Busy("人多")
    last = client.predict(text=TEXT, limit=1, api_name="/evaluate")
    assert (last["done"], last["failed"], last["metrics"]["errors"]) == (2, 2, {"BQ_BUSY": 2})


WRONG = [
    ({"text": TEXT + '{"id": \n' + json.dumps(dialogue("y", "头痛", ""))}, "BQ_BAD_INPUT", "line 7.*line 8"),
    ({}, "BQ_BAD_INPUT", "file, text"),
    ({"text": TEXT, "file": {"path": "x"}}, "BQ_BAD_INPUT", "file, text"),
    ({"text": 3}, "BQ_BAD_INPUT", "text"),
    ({"text": TEXT, "contenders": ["bianqe-2"]}, "BQ_UNKNOWN_MODEL", "bianqe-2"),
    ({"text": TEXT, "contenders": "auto"}, "BQ_BAD_INPUT", "contenders"),
    ({"text": TEXT, "contenders": []}, "BQ_BAD_INPUT", "contenders"),
    ({"text": TEXT, "tasks": ["x"]}, "BQ_BAD_INPUT", "tasks"),
    ({"text": TEXT, "limit": "two"}, "BQ_BAD_INPUT", "limit='two'"),
    ({"text": TEXT, "temperature": 9}, "BQ_BAD_INPUT", "temperature=9"),
    ({"text": TEXT, "top_p": True}, "BQ_BAD_INPUT", "top_p=True"),
    ({"text": TEXT, "concurrency": MOST_AT_ONCE + 1}, "BQ_BAD_INPUT", "concurrency"),
    ({"text": TEXT, "contenders": [f"ask:seed={n}" for n in range(20)]}, "BQ_BAD_INPUT", f"{MOST_ROWS}"),
]


@pytest.mark.parametrize(("arguments", "code", "names"), WRONG)
def test_a_wrong_argument_is_named(client, script, arguments, code, names):
    with pytest.raises(AppError) as caught:
        client.predict(**arguments, api_name="/evaluate")
    assert caught.value.title == code and re.search(names, str(caught.value), re.DOTALL) and script.heard == []


def post(url: str, body: dict) -> str:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as sent:
        event = json.load(sent)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}", timeout=20) as answer:
        return answer.read().decode()


def test_plain_http_and_no_file_of_the_server(served, script, tmp_path):
    call = f"{served[0]}gradio_api/call/v2/evaluate"
    answer = post(call, {"text": TEXT, "contenders": ["ask-mini"], "limit": 1})
    last = json.loads(answer.rsplit("event: complete\ndata: ", 1)[1])[0]
    assert last["done"] == 2 and last["report"].startswith("<!doctype html>")
    secret = tmp_path / "secret.jsonl"
    secret.write_text(TEXT, "utf-8")
    outside = f"{tempfile.gettempdir()}/gradio/../../{secret.relative_to(tmp_path.parent)}"
    for path in (str(secret), outside, f"{tempfile.gettempdir()}/gradio", "x\0y"):
        for marked in ({}, {"meta": {"_type": "gradio.FileData"}}):
            answer = post(call, {"file": {"path": path} | marked})
            assert "event: error" in answer and "次头痛" not in answer and "event: complete" not in answer


def test_the_limits_are_those_that_are_told(served, script):
    with urllib.request.urlopen(f"{served[0]}gradio_api/info", timeout=10) as answer:
        told = json.load(answer)["named_endpoints"]["/evaluate"]["description"]
    for limit in (
        f"{readers.MAX_BYTES // 10**6} MB",
        f"{MOST_ROWS} replies",
        f"{MOST_RECORDED} recorded",
        f"{MOST_AT_ONCE} at a time",
    ):
        assert limit in told

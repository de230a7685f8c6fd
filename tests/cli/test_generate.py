"""The command over a scripted server: what goes to it and into files, a kill in the middle, a budget, a server that fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

import pytest

from bianque.__main__ import main
from bianque.cli.generate import Asked, consulting, speakers
from bianque.consult.session import Session
from bianque.data import generate
from bianque.types import Message, Sampling
from tests.conftest import ROOT, Scripted, listening
from tests.data.test_generate import four, unlike

KEY = "sk-very-secret"


class Server:
    """Answers a request by a function of its number and text; None hangs until it is let go."""

    def __init__(self, answer):
        self.answer, self.heard, self.keys, self.url = answer, [], set(), ""
        self.hanging, self.free = threading.Event(), threading.Event()


@contextmanager
def serving(answer):
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"]
            server.heard.append(text)
            server.keys.add(self.headers.get("Authorization"))
            said = server.answer(len(server.heard), text)
            if said is None:
                server.hanging.set()
                server.free.wait(30)
                return
            status, said = said if isinstance(said, tuple) else (200, said)
            reply = {
                "choices": [{"message": {"content": said}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 500, "completion_tokens": 300},
            }
            whole = json.dumps(reply if status == 200 else {"error": {"message": said}}).encode()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(whole)))
                self.end_headers()
                self.wfile.write(whole)

        def log_message(self, *_):
            pass

    with listening(Handler) as server.url:
        try:
            yield server
        finally:
            server.free.set()


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setenv("BIANQUE_MODELS", "mini")
    monkeypatch.setenv("K", KEY)

    def command(server, kind="dialogues", count=16, *more):
        given = [
            "generate",
            kind,
            "--url",
            server.url,
            "--model",
            "big",
            "--key-env",
            "K",
            "--out",
            str(tmp_path / "x.jsonl"),
        ]
        return [*given, "--count", str(count), *more]

    return command


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_scenarios_come_into_a_file_with_model_and_class_and_no_key(command, tmp_path, capsys):
    with serving(four) as server:
        assert main(command(server, "dialogues", 32, "--price-in", "1", "--price-out", "10")) == 0
    kept = rows(tmp_path / "x.jsonl")
    assert Counter(row["notes"]["class"] for row in kept) == {kind.name: 2 for kind in generate.scenarios()}
    assert all((row["ai_generated"], row["model"], row["source"]) == (True, "big", "generated") for row in kept)
    assert server.keys == {f"Bearer {KEY}"} and sorted(os.listdir(tmp_path)) == [
        "x.aside.jsonl", "x.journal.jsonl", "x.jsonl", "x.report.json",
    ]  # fmt: skip
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    report, said = json.loads((tmp_path / "x.report.json").read_text("utf-8")), capsys.readouterr()
    assert (report["kept"], report["asked"], report["spent"]) == (32, 16, round(16 * (500 + 3000) / 1e6, 6))
    assert "留下 (kept) 32" in said.out and "at most about" in said.err
    assert main(command(server, "dialogues", 32)) == 0 and len(server.heard) == 16  # nothing is asked again


@pytest.mark.process
def test_killed_and_resumed_nothing_is_asked_twice(command, tmp_path):
    """Ten answers come, the eleventh request hangs, the process is killed: the next one asks for the eleventh and on."""
    with serving(lambda count, text: None if count == 11 else four(count, text)) as server:
        words = [sys.executable, "-m", "bianque", *command(server, "dialogues", 64, "--concurrency", "1")]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert server.hanging.wait(60)
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
        journal = tmp_path / "x.journal.jsonl"
        assert len(rows(journal)) == 1 + 10
        with journal.open("ab") as file:
            file.write('{"id": "其他/9", "prompt": "ab'.encode())
        server.free.set()
        assert main(command(server, "dialogues", 64, "--concurrency", "1")) == 0
    asked = Counter(server.heard)
    assert [text for text, count in asked.items() if count > 1] == [server.heard[10]] and len(asked) == 16
    assert len(rows(tmp_path / "x.jsonl")) == 64


def test_a_budget_is_kept_and_more_of_it_goes_on(command, tmp_path, capsys):
    prices = ["--price-in", "100", "--price-out", "100", "--max-new-tokens", "400"]  # 0.08 a request
    with serving(four) as server:
        assert main(command(server, "dialogues", 64, "--budget", "1", *prices)) == 0
        report = json.loads((tmp_path / "x.report.json").read_text("utf-8"))
        assert 0.5 < report["spent"] <= 1 and "budget" in report["stopped"]
        heard = len(server.heard)
        assert "已停下 (stopped)" in capsys.readouterr().out
        assert main(command(server, "dialogues", 64, "--budget", "9", *prices)) == 0
    assert len(server.heard) == 16 and heard < 16 and len(rows(tmp_path / "x.jsonl")) == 64


def test_a_server_that_refuses_is_told_and_tried_again_by_the_same_command(command, tmp_path, capsys):
    with serving(lambda count, text: (401, "no such key")) as server:
        assert main(command(server)) == 1
        said = capsys.readouterr().out
        assert "401" in said and "no such key" in said and len(server.heard) < 16
        server.answer = four
        assert main(command(server)) == 0
    assert len(rows(tmp_path / "x.jsonl")) == 16


def test_knowledge_is_asked_and_answered_with_passages_of_a_file(command, tmp_path):
    passages = tmp_path / "guide.txt"
    passages.write_text("高血压病人每天吃盐不超过 5 克。\n\n" + "规律作息。" * 120, encoding="utf-8")

    def answer(count, text):
        if "提出" in text:
            return "\n".join(
                json.dumps({"question": f"{unlike(count * 9 + n, 20)}？"}, ensure_ascii=False) for n in range(4)
            )
        return "资料中没有提到。" if "高血压" in text else "平时要规律作息，少熬夜，白天多活动。"

    with serving(answer) as server:
        assert main(command(server, "knowledge", 2, "--passages", str(passages))) == 0
    report = json.loads((tmp_path / "x.report.json").read_text("utf-8"))
    assert (report["asked"], report["kept"], report["dropped"]) == (10, 4, {"not_in_passage": 4})
    assert {row["notes"]["passage"] for row in rows(tmp_path / "x.jsonl")} == {"2"}


def test_one_server_may_be_patient_and_doctor(command, tmp_path):
    def answer(count, text):
        if "扮演一位耐心" in text:
            return "多长时间了，现在还有吗？"
        return (
            "三天了，还有一点"
            if "扮演一位正在" in text
            else "先休息，多喝水，加重就去医院看看。"
            if "三天" in text
            else "[结束]"
        )

    with serving(answer) as server:
        assert main(command(server, "consultations", 3)) == 0
    kept = rows(tmp_path / "x.jsonl")
    assert kept and all(len(row["turns"]) == 4 and row["notes"]["patient"] == "big" for row in kept)


@pytest.mark.parametrize(
    "more, told",
    [
        (["--count", "0"], "--count 0"), (["--url", "ftp://x"], "ftp://x"), (["--key-env", "NONE_SUCH"], "NONE_SUCH"),
        (["--out", "x.txt"], "x.txt"), (["--budget", "1"], "--price-in"), (["--seeds", "no.yaml"], "no.yaml"),
        (["--concurrency", "0"], "--concurrency"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_told_before_anything_is_asked(command, capsys, more, told):
    with serving(four) as server:
        assert main([*command(server), *more]) == 1
        assert server.heard == []
    assert told in capsys.readouterr().err


def test_the_pair_consults_as_on_the_page_and_costs_nothing():
    session = Session(Scripted(["头痛多久了？"], ["建议您先休息，多喝水。"]), "ask-mini", "advise-mini")
    doctor = consulting(session, "pair")
    talk = [Message("user", "我头痛"), Message("assistant", "头痛多久了？"), Message("user", "三天了，直接给我建议吧")]
    said = [asyncio.run(doctor.ask(talk[:length], Sampling(seed=7))).text for length in (1, 3)]
    assert said == ["头痛多久了？", "建议您先休息，多喝水。"] and not doctor.prompted and not doctor.priced
    assert {sampling.seed for _, _, sampling in session.backend.heard} == {7}


def test_a_card_of_this_machine_is_asked_as_it_is_and_a_server_is_told_its_role(tmp_path, monkeypatch):
    monkeypatch.setenv("BIANQUE_MODELS", "mini")
    asked = Asked(tmp_path / "x.jsonl", "qwen", "http://127.0.0.1:9/v1", temperature=0.5, tokens=99)
    server, card, pair = speakers(asked, ["qwen", "advise-mini@8", "auto"])
    assert (server.name, server.prompted, server.priced) == ("qwen", True, True)
    assert (card.name, card.prompted, card.priced, card.sampling.temperature) == ("advise-mini@8", False, False, 0.5)
    assert pair.name == "ask-mini+advise-mini" and server.sampling.max_new_tokens == card.sampling.max_new_tokens == 99


def test_without_a_server_a_card_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BIANQUE_MODELS", "mini")
    assert main(["generate", "consultations", "--model", "zzz", "--out", str(tmp_path / "x.jsonl")]) == 1
    assert "zzz" in capsys.readouterr().err

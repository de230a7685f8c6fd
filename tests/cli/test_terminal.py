"""A consultation in the terminal: piped, typed, stopped, exported; over a backend that says what the test wants."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest
from rich.cells import cell_len

from bianque.__main__ import main
from bianque.catalog.builtin import CARDS, by_name
from bianque.cli import terminal
from bianque.cli.terminal import Terminal, printable
from bianque.consult import transcript, triage
from bianque.consult.session import Session
from bianque.consult.spec import Choices, SamplingOverrides
from bianque.errors import LoadFailed
from bianque.i18n import say, waiting
from bianque.types import Progress
from tests.conftest import ADVICE, QUESTIONS, ROOT, Scripted

LABEL = f"{triage.LABEL}；{triage.DISCLAIMER}"


class Stdin(io.TextIOWrapper):
    """Piped input."""

    def __init__(self, text: str) -> None:
        super().__init__(io.BytesIO(text.encode()), encoding="utf-8")


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Pressed(Scripted):
    """Presses Ctrl-C when so many characters have been said."""

    after: int | None = None

    async def stream(self, *asked):
        async with aclosing(super().stream(*asked)) as pieces:
            async for piece in pieces:
                yield piece
                if self.written == self.after:
                    self.after = None
                    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def script():
    return Pressed(asks=list(QUESTIONS), advises=[ADVICE])


@pytest.fixture
def talk(monkeypatch, capsys, script, tmp_path):
    """Pipe lines in; the exit code, what was written and what was complained about come back."""
    monkeypatch.chdir(tmp_path)

    def piped(*lines: str, **options):
        monkeypatch.setattr(sys, "stdin", Stdin("".join(f"{line}\n" for line in lines)))
        code = Terminal(Session(script, "ask-mini", "advise-mini"), **options).run()
        return code, *capsys.readouterr()

    return piped


@pytest.fixture
def typing(monkeypatch, capsys, script, tmp_path):
    """The same where somebody types: a line, an error that reading it raises, or what happens before the next line."""
    monkeypatch.chdir(tmp_path)

    def typed(*lines, **options):
        waiting = [*lines, EOFError()]

        def read(prompt=""):
            line = waiting.pop(0)
            if isinstance(line, str):
                return line
            if isinstance(line, BaseException):
                raise line
            line()
            return read()

        monkeypatch.setattr(sys, "stdin", Screen())
        monkeypatch.setattr("builtins.input", read)
        code = Terminal(Session(script, "ask-mini", "advise-mini"), **options).run()
        return code, *capsys.readouterr()

    return typed


def heard(script, turn=-1):
    model, dialogue, _ = script.heard[turn]
    return model, [message.content for message in dialogue]


@pytest.mark.process
def test_a_piped_consultation_keeps_its_history(talk, script):
    code, out, complaints = talk("最近总是头痛", "", "三天了", "请直接给出建议。")
    assert (code, complaints) == (0, "")
    assert out.splitlines()[:2] == ["小型预览模型：演示问诊流程，不是医学知识", LABEL]
    assert f"问诊 1/8 · ask-mini\n{QUESTIONS[0]}\n" in out and f"问诊 2/8 · ask-mini\n{QUESTIONS[1]}\n" in out
    assert f"由 ask-mini 转交 advise-mini：您要求直接给建议\n建议 · advise-mini\n{ADVICE}\n" in out
    said = ["最近总是头痛", QUESTIONS[0], "三天了", QUESTIONS[1], "请直接给出建议。"]
    assert heard(script) == ("advise-mini", said)
    assert script.heard[-1][1][1].phase == "asking" and script.heard[-1][1][1].model == "ask-mini"


@pytest.mark.process
def test_wishes_reach_the_model(talk, script):
    talk("头痛", choices=Choices("advise", sampling=SamplingOverrides(temperature=0.25, seed=9)))
    usual = by_name()["advise-mini"].sampling
    assert script.heard[-1][0] == "advise-mini" and script.heard[-1][2] == replace(usual, temperature=0.25, seed=9)


@pytest.mark.process
def test_a_notice_stands_above_the_reply(talk):
    _, out, _ = talk("我不想活了")
    assert out.index("12356") < out.index(triage.calm(triage.judge("我不想活了"), "zh-CN", again=False))
    assert QUESTIONS[0] not in out


@pytest.mark.process
def test_a_cut_reply_says_so(talk, script, monkeypatch):
    spoken = script.stream

    async def cut(*asked):
        async for piece in spoken(*asked):
            yield replace(piece, finish="length") if piece.finish else piece

    monkeypatch.setattr(script, "stream", cut)
    assert f"{QUESTIONS[0]}（已到长度上限）\n" in talk("头痛")[1]


@pytest.mark.process
def test_clearing_forgets(talk, script):
    talk("最近总是头痛", "/clear", "孩子咳嗽")
    assert heard(script)[1] == ["孩子咳嗽"]


@pytest.mark.process
def test_the_mode_can_be_changed_and_asked_for(talk, script):
    code, out, _ = talk("/mode", "/mode advise", "头痛", "/mode ask", "三天了")
    assert code == 0 and [model for model, *_ in script.heard] == ["advise-mini", "ask-mini"]
    assert "auto：先由问诊模型" in out and "advise：不再提问" in out and "ask：只提问" in out


@pytest.mark.process
def test_a_page_for_the_doctor_is_shown_or_written(talk, tmp_path):
    code, out, _ = talk("头痛三天了", "/summary", "/summary page.html", "/summary page.md")
    assert code == 0 and "「头痛三天了」" in out and out.index("# 就诊小结") < out.index("page.html")
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert "## 时长" in (tmp_path / "page.md").read_text("utf-8")
    code, _, complaints = talk("头痛三天了", "/summary page.pdf")
    assert code == 1 and all(word in complaints for word in ("page.pdf", ".md", ".html"))


@pytest.mark.process
def test_models_and_help_are_shown(talk):
    _, out, _ = talk("/models", "/help")
    assert all(card.name in out and card.licence in out for card in CARDS)
    assert all(command in out for command in ("/mode", "/export", "/summary", "/clear", "/models", "/help", "/quit"))


@pytest.mark.process
def test_quitting_leaves_the_rest_unread(talk, script):
    assert talk("/quit", "头痛")[0] == 0 and script.heard == []


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/mod ask", ["/mod", "/mode"]),
        ("/啊", ["/啊", "/help"]),
        ("/mode maybe", ["'maybe'", "auto, ask, advise"]),
        ("/clear all", ["/clear", "'all'"]),
        ("/export talk.txt", ["talk.txt", ".md", ".json"]),
        ("/export", ["no dialogue"]),
        ("/summary", ["no dialogue"]),
        ("长" * 8001, ["8001", "8000"]),
    ],
)
def test_what_makes_no_sense_is_one_calm_line(line, words, talk, typing):
    code, out, complaints = talk(line, "头痛")
    assert code == 1 and QUESTIONS[0] not in out  # the rest of a pipe is not answered
    assert complaints.startswith("BQ_BAD_INPUT: ") and complaints.count("\n") == 1
    assert all(word in complaints for word in words)
    code, out, complaints = typing(line, "头痛")
    assert code == 0 and QUESTIONS[0] in out and complaints.count("\n") == 1  # whoever types can mend it


@pytest.mark.process
def test_a_failure_is_calm_and_its_message_not_kept(talk, typing, script):
    script.fails = LoadFailed("模型库连不上\n请稍后重试")
    assert talk("头痛")[::2] == (1, "BQ_LOAD_FAILED: 模型库连不上 请稍后重试\n")
    script.fails = RuntimeError("/srv/hidden/path")
    code, _, complaints = talk("头痛")
    assert code == 1 and complaints.startswith("BQ_INTERNAL: ") and complaints.count("\n") == 1
    assert "hidden" not in complaints
    script.fails = LoadFailed("模型库连不上")
    typing("头痛", lambda: setattr(script, "fails", None), "肚子疼")
    assert heard(script)[1] == ["肚子疼"]


LONG = QUESTIONS[0] + "还有别的地方不舒服吗？" * 50


@pytest.mark.process
def test_ctrl_c_stops_the_reply_alone(typing, script, tmp_path):
    script.asks, script.after = [LONG, QUESTIONS[1]], 20
    code, out, complaints = typing("头痛", "/export cut.json", "三天了")
    assert code == 0 and complaints == "" and script.closed == ["ask-mini"]
    stood = heard(script)[1][1]
    assert LONG.startswith(stood) and len(stood) < len(LONG)
    assert f"{stood}（已停止）\n" in out
    kept = json.loads((tmp_path / "cut.json").read_text(encoding="utf-8"))["messages"][1]
    assert (kept["content"], kept["finish"]) == (stood, "cancelled")
    assert out.count("问诊 ") == 2 and f"{QUESTIONS[1]}\n" in out  # and the next turn is answered whole


@pytest.mark.process
def test_what_was_stopped_before_it_began_leaves_nothing(typing, script):
    script.silence = 60
    script.prepare = lambda model: os.kill(os.getpid(), signal.SIGINT)
    code, out, _ = typing("头痛", lambda: vars(script).update(silence=0, prepare=print), "肚子疼")
    assert code == 0 and "（已停止）" in out
    assert heard(script)[1] == ["肚子疼"]


@pytest.mark.process
def test_ctrl_c_ends_a_pipe(talk, script):
    script.asks, script.after = [LONG], 20
    code, out, complaints = talk("头痛", "三天了")
    assert (code, complaints, len(script.heard)) == (130, "", 1) and "（已停止）" in out


@pytest.mark.process
def test_whoever_sits_down_is_told_who_speaks_and_under_which_licence(typing):
    _, out, _ = typing("/quit", choices=Choices(mode="ask"))
    assert f"问诊小模型 ask-mini · {by_name()['ask-mini'].licence}\n" in out
    assert "advise-mini" not in out and LABEL in out and "只提问，不给建议。 /help" in out


@pytest.mark.process
@pytest.mark.parametrize("end", [KeyboardInterrupt(), EOFError()])
def test_leaving_at_the_prompt_is_polite(typing, end):
    code, out, complaints = typing("头痛", end)
    assert (code, complaints) == (0, "") and out.endswith("再见，请保重 (goodbye, take care)\n")


@pytest.mark.process
@pytest.mark.parametrize("suffix", [".md", ".json", ".JSON"])
def test_an_export_is_the_pages_own(talk, script, tmp_path, suffix):
    code, _, _ = talk(
        "最近总是头痛", "胸口剧烈疼痛，喘不上气，出冷汗", "不是急症", "直接给建议", f"/export a b{suffix}", "谢谢",
        f"/export a b{suffix}",
    )  # fmt: skip
    written = (tmp_path / f"a b{suffix}").read_text(encoding="utf-8")
    assert code == 0 and LABEL in written and by_name()["ask-mini"].licence in written and "120" in written
    assert all(text in written for text in (QUESTIONS[0], ADVICE, "谢谢"))
    if suffix == ".md":
        return
    whole = json.loads(written)
    assert [turn["content"] for turn in whole["messages"]][:-1] == heard(script)[1]
    assert whole["messages"][1] | {"content": ""} == {
        "role": "assistant", "content": "", "phase": "asking", "model": "ask-mini", "question": 1, "budget": 8,
        "finish": "stop",
    }  # fmt: skip
    assert written == transcript.as_json(whole["messages"], by_name())


@pytest.mark.process
def test_an_export_overwrites_no_file_of_others_and_needs_a_place(talk, tmp_path):
    (tmp_path / "mine.md").write_text("mine")
    code, _, complaints = talk("头痛", "/export mine.md")
    assert code == 1 and "mine.md" in complaints and (tmp_path / "mine.md").read_text() == "mine"
    code, _, complaints = talk("头痛", "/export no/such.md")
    assert code == 1 and "no/such.md" in complaints and complaints.startswith("BQ_BAD_INPUT")


@pytest.mark.process
def test_nothing_is_written_unless_it_is_exported(talk, tmp_path):
    talk("最近总是头痛", "三天了")
    assert list(tmp_path.iterdir()) == []
    talk("最近总是头痛", "/export")
    assert [path.name for path in tmp_path.iterdir()] == ["bianque.md"]


@pytest.mark.process
def test_a_reply_cannot_move_the_cursor(talk, script):
    script.asks = ["请问\x1b[2J头痛\x07多久了\x9b31m？"]
    assert "请问[2J头痛多久了31m？\n" in talk("头痛")[1]
    assert printable("一\t二\n\ud800三\r") == "一\t二\n三"


@pytest.mark.process
def test_loading_is_drawn_on_one_line_of_a_terminal_and_nowhere_else(talk, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    assert talk("头痛")[0] == 0
    drawn = screen.getvalue()
    assert "\r正在加载 ask-mini… 50%" in drawn and "\n" not in drawn
    last = drawn.rstrip("\r").rsplit("\r", 1)[-1]
    assert last.strip() == "" and cell_len(last) >= cell_len("正在想要问什么…")  # nothing stays of it


@pytest.mark.process
def test_a_status_wider_than_the_terminal_is_cut(talk, script, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    monkeypatch.setenv("COLUMNS", "12")
    talk("头痛")
    assert max(map(cell_len, screen.getvalue().split("\r"))) == 11


@pytest.mark.process
def test_the_terminal_speaks_the_locales_language(talk, monkeypatch):
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    _, out, _ = talk("头痛", lang=terminal.language())
    assert out.splitlines()[1].startswith("AI-generated") and "Asking 1/8 · ask-mini" in out


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "bianque"], "BQ_UNKNOWN_MODEL", ["'bianque'", "bianque-2"]),
        (["--ask", "nobody"], "BQ_UNKNOWN_MODEL", ["'nobody'"]),
        (["--model", "bianque-1", "--mode", "advise"], "BQ_BAD_INPUT", ["'advise'", "bianque-1"]),
        (["--model", "bianque-1", "--ask", "ask-mini"], "BQ_BAD_INPUT", ["--model", "--ask"]),
        (["--temperature", "9"], "BQ_BAD_INPUT", ["temperature=9.0"]),
        (["--top-p", "0"], "BQ_BAD_INPUT", ["top_p=0"]),
        (["--max-new-tokens", "0"], "BQ_BAD_INPUT", ["max_new_tokens=0"]),
        (["--seed", "-1"], "BQ_BAD_INPUT", ["seed=-1"]),
    ],
)
def test_a_wrong_option_ends_before_anything_is_asked(arguments, code, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Stdin("头痛\n"))
    assert main(["chat", *arguments]) == 1
    out, complaints = capsys.readouterr()
    assert out == "" and complaints.startswith(f"{code}: ") and complaints.count("\n") == 1
    assert all(word in complaints for word in words)


@pytest.mark.parametrize(
    ("arguments", "ask", "advise", "mode", "modes"),
    [
        ([], "ask-mini", "advise-mini", "auto", ("auto", "ask", "advise")),
        (["--ask", "bianque-1", "--mode", "ask"], "bianque-1", "advise-mini", "ask", ("auto", "ask", "advise")),
        (["--model", "bianque-1"], "bianque-1", "bianque-1", "ask", ("ask",)),
        (["--model", "bianque-2"], "bianque-2", "bianque-2", "advise", ("advise",)),
    ],
)
def test_options_say_who_speaks(arguments, ask, advise, mode, modes, monkeypatch):
    opened = []
    monkeypatch.setattr(Terminal, "run", lambda terminal: opened.append(terminal) or 0)
    monkeypatch.setenv("BIANQUE_MODELS", "mini")
    assert main(["chat", *arguments, "--seed", "3"]) == 0
    session = opened[0].session
    assert (session.ask, session.advise, opened[0].choices.mode, opened[0].modes) == (ask, advise, mode, modes)
    assert opened[0].choices.sampling == SamplingOverrides(seed=3)


def python(*arguments, **options):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | options.pop("env", {})
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, *arguments], env=env, **pipes)


@pytest.mark.process
@pytest.mark.slow
def test_the_bundled_models_answer_a_pipe_in_utf_8(tmp_path):
    """A byte-order mark, bytes that are no UTF-8, a Windows line end and a locale without Chinese change nothing."""
    arguments = ("-m", "bianque", "chat", "--seed", "1", "--max-new-tokens", "24")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    with python(*arguments, cwd=tmp_path, env={**locale, "BIANQUE_MODELS": "mini"}) as chat:
        out, complaints = chat.communicate("\ufeff/mode\r\n最近总是头痛\r\n".encode() + b"\xff\xfe\n", timeout=300)
    said = out.decode("utf-8")
    assert (chat.returncode, complaints) == (0, b"") and LABEL in said
    assert "auto：" in said and said.count("mini\n") == 2 and list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_a_reader_that_leaves_ends_the_command_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    with python("-m", "bianque", "models", stdout=writing, env={"PYTHONUNBUFFERED": ""}) as models:
        os.close(writing)
        _, complaints = models.communicate(timeout=60)
    assert (models.returncode, complaints) == (1, b"")


TYPED = """
import fcntl, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its Ctrl-C is for this process
signal.signal(signal.SIGINT, signal.default_int_handler)
from bianque.consult.session import Session
from bianque.cli.terminal import Terminal
from tests.conftest import Scripted
script = Scripted(asks=["请问头痛多久了？" + "还有哪里不舒服吗？" * 999], advises=["好"], pause=0.01)
raise SystemExit(Terminal(Session(script, "ask-mini", "advise-mini")).run())
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_real_terminal(tmp_path):
    """Chinese is edited by characters, Ctrl-C first stops a reply and then leaves."""
    pytest.importorskip("readline")
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    options = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True, "cwd": tmp_path}
    seen = Seen(ours)
    with python("-c", TYPED, env={"LC_ALL": "C.UTF-8", "TERM": "xterm", "NO_COLOR": "1"}, **options) as chat:
        os.close(theirs)
        try:
            said = seen.until("> ")
            os.write(ours, "头疼\x7f痛\n".encode())
            said += seen.until("请问头痛多久了")
            os.write(ours, b"\x03")
            said += seen.until("（已停止）") + seen.until("> ")
            os.write(ours, b"/export kept.json\n")
            said += seen.until("\n> ")
            said += seen.until("再见", b"\x03")
            assert chat.wait(timeout=60) == 0
        finally:
            chat.kill()
            os.close(ours)
    assert LABEL in said and "\r正在加载 ask-mini… 50%" in said and "Traceback" not in said
    message, reply = json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))["messages"]
    assert message["content"] == "头痛"
    assert reply["finish"] == "cancelled" and reply["content"].startswith("请问头痛多久了")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


class Seen:
    """What comes from a terminal, a piece at a time."""

    def __init__(self, terminal: int) -> None:
        self.terminal, self.waiting = terminal, b""

    def until(self, text: str, key: bytes = b"", seconds: float = 120) -> str:
        """Everything up to the text; `key` is pressed again after silence, for Python may miss one between two lines."""
        mark, end, ready = text.encode(), time.monotonic() + seconds, False
        while mark not in self.waiting:
            if not ready:
                os.write(self.terminal, key)
            ready, _, _ = select.select([self.terminal], [], [], 3 if key else seconds)
            if ready:
                self.waiting += os.read(self.terminal, 4096)
            assert time.monotonic() < end, f"{text!r} did not come: {self.waiting.decode(errors='replace')!r}"
        found, _, self.waiting = self.waiting.partition(mark)
        return (found + mark).decode()


@pytest.mark.parametrize(
    "lang, told", [("zh-CN", "前面还有 3 位"), ("zh-TW", "前面還有 3 位"), ("en", "3 ahead"), ("ko", "3명")]
)
def test_who_waits_reads_how_many_are_ahead(lang, told):
    assert told in waiting(lang, Progress("bianque-2", "queued", 0.0, 3))
    assert "42%" in waiting(lang, Progress("bianque-2", "loading", 0.42))
    assert waiting(lang, Progress("bianque-2", "queued", 0.0)) == say(lang, "queued", model="bianque-2")

"""The port and interface that are asked for: what cannot be is named; another port is never taken without a word."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from bianque import address, logs
from bianque.errors import SettingsError
from bianque.ui import rim, serve
from tests.conftest import ROOT


@pytest.mark.parametrize("name", ["GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS"])
@pytest.mark.parametrize("value", ["0", "80a", "-1", "65536", "７８６０"])
def test_what_is_no_port_is_named(name, value):
    with pytest.raises(SettingsError, match=f"{name}="):
        address.port({name: value})


def test_the_port_is_what_is_asked_for_or_the_usual_one():
    empty = {"GRADIO_SERVER_PORT": ""}
    assert address.port({}) == address.port(empty) == 7860 and empty == {}  # Gradio would stumble over it
    assert address.port({"GRADIO_SERVER_PORT": "80"}) == 80


def test_an_interface_of_another_machine_is_named():
    for name in ("192.0.2.1", "no such host"):
        with pytest.raises(SettingsError, match=f"GRADIO_SERVER_NAME='{name}'"):
            address.host(env={"GRADIO_SERVER_NAME": name})
    address.host(env={})
    address.host("127.0.0.1")


def test_another_port_than_asked_for_is_told(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        address.tell(f"http://127.0.0.1:{port + 1}/", port, port + 1)
        told = capsys.readouterr()
        assert f"{port}" in told.err and "in use" in told.err and f"this is {port + 1}" in told.err
        assert told.out == f"扁鹊 BianQue: http://127.0.0.1:{port + 1}/\n"
        assert f"{port}" in str(address.none_free(port)) and "GRADIO_SERVER_PORT" in str(address.none_free(port))
    address.tell("http://127.0.0.1:1/", 1, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_a_finaliser_swallows_while_starting_is_heard(monkeypatch, capsys):
    class Dying:
        def __del__(self) -> None:
            serve.stop()

    server = SimpleNamespace(should_exit=False)
    demo = SimpleNamespace(launch=lambda **_: Dying() and None, server=server, server_port=7860, local_url="")
    monkeypatch.setattr(serve, "stopping", threading.Event())
    monkeypatch.setattr(logs, "configure", lambda: None)
    with pytest.raises(SystemExit):
        serve.up(demo, rim.UnderWay(), {"server_port": 7860})
    assert server.should_exit and capsys.readouterr().out == ""


@pytest.mark.process
def test_what_keeps_the_page_from_starting_is_one_line():
    """Read after Gradio, as the settings are; what comes before is in test_proxies.py."""
    env = os.environ | {"GRADIO_SERVER_NAME": "192.0.2.1", "BIANQUE_MODELS": "mini", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("BQ_SETTINGS: GRADIO_SERVER_NAME='192.0.2.1'") and done.stderr.count("\n") == 1

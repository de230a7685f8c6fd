"""Proxies of the environment: this machine is asked directly, and what no client could use is told in a line."""

from __future__ import annotations

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from bianque import proxies
from bianque.errors import SettingsError
from tests.conftest import listening

ROOT = Path(__file__).parent.parent
DEAD = "http://127.0.0.1:9"  # where nobody listens
NAMES = tuple(name for kind in (*proxies.KINDS, "no") for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY"))


class Fine(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what `configure` writes is taken back
        monkeypatch.delenv(name)


def configured(monkeypatch, **env: str) -> dict[str, str]:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    proxies.configure()
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_without_proxies_nothing_is_written(monkeypatch):
    assert configured(monkeypatch) == {}
    assert configured(monkeypatch, no_proxy="me.example") == {"no_proxy": "me.example"}


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"])
def test_this_machine_is_asked_without_one(monkeypatch, name):
    found = configured(monkeypatch, **{name: DEAD, "no_proxy": "me.example"})
    assert found[name.lower()] == found[name.upper()] == DEAD
    assert found["NO_PROXY"] == found["no_proxy"] == "me.example,localhost,127.0.0.1,::1"
    with listening(Fine) as url:
        assert httpx.get(url).is_success
        if not name.lower().startswith("https"):
            with pytest.raises(httpx.ConnectError):
                httpx.get("http://elsewhere.example")


@pytest.mark.parametrize(
    "given, written",
    [
        ("socks://127.0.0.1:1080/", "socks5://127.0.0.1:1080/"),
        ("SOCKS5H://host:1", "socks5h://host:1"),
        ("host:7890", "http://host:7890"),
        ("http://me:pass@host:1", "http://me:pass@host:1"),
    ],
)
def test_an_address_is_written_as_clients_read_it(monkeypatch, given, written):
    assert configured(monkeypatch, all_proxy=given)["ALL_PROXY"] == written
    httpx.Client().close()  # which would refuse what it cannot read


@pytest.mark.parametrize("given", ["socks4://me:secret@host:1", "ftp://host", "http://"])
def test_an_address_that_no_client_reads_is_told_without_its_password(monkeypatch, given):
    with pytest.raises(SettingsError, match=r"all_proxy=.*unset") as told:
        configured(monkeypatch, all_proxy=given)
    assert "secret" not in str(told.value)


def test_a_socks_proxy_says_which_package_it_needs(monkeypatch):
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install socksio"):
        configured(monkeypatch, ALL_PROXY="socks5://127.0.0.1:9")


@pytest.mark.parametrize(
    "given", ["http://mirror.example/ ", ' "http://mirror.example/"', "'http://mirror.example/'\n"]
)
def test_a_mirror_is_read_as_it_was_meant(monkeypatch, given):
    monkeypatch.setenv("HF_ENDPOINT", given)
    proxies.configure()
    assert os.environ["HF_ENDPOINT"] == "http://mirror.example/"


def test_an_empty_mirror_is_none(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", " ")
    proxies.configure()
    assert "HF_ENDPOINT" not in os.environ


@pytest.mark.parametrize(
    "given", ["mirror.example", "ftp://mirror.example", "http://host:80 80", "http://", "http://[::1"]
)
def test_a_mirror_that_is_no_address_is_named(monkeypatch, given):
    monkeypatch.setenv("HF_ENDPOINT", given)
    with pytest.raises(SettingsError, match="HF_ENDPOINT="):
        proxies.configure()


@pytest.mark.parametrize(
    "url, own",
    [("http://127.0.0.1:1/v1", True), ("http://localhost", True), ("http://[::1]:1", True), ("https://127.0.0.2", True),
     ("https://host/v1", False), ("http://10.0.0.1", False), ("http://localhost.example", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine(url, own):
    assert proxies.is_loopback(url) is own


@pytest.mark.process
@pytest.mark.parametrize("command", [["app.py"], ["-m", "bianque", "models"]], ids=["page", "command"])
def test_a_program_says_it_in_one_line(command):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ | {"ALL_PROXY": "socks4://127.0.0.1:9"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("BQ_SETTINGS: all_proxy=socks4://127.0.0.1:9") and done.stderr.count("\n") == 1

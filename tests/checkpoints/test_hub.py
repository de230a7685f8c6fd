"""Fetching: from a small Hub on this machine, through huggingface_hub itself, with what may go wrong on the way."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from bianque.checkpoints import hub
from bianque.errors import LoadFailed
from bianque.types import Progress
from tests import tiny
from tests.conftest import listening
from tests.hub import COMMIT, Hub, serve

REPO = "scutcyr/BianQue-2"
FILES = {
    "config.json": b"{}",
    "ice_text.model": os.urandom(1000),
    "pytorch_model-00001-of-00002.bin": os.urandom(300_000),
    "pytorch_model-00002-of-00002.bin": os.urandom(200_000),
    "pytorch_model.bin.index.json": b"{}",
    "modeling_chatglm.py": b"raise SystemExit('remote code')",
}
CARD = tiny.card("bianque-2")


@pytest.fixture
def served(monkeypatch, tmp_path):
    with serve(Hub({REPO: dict(FILES)})) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "")
        yield found


def fetch(card=CARD, report=lambda progress: None) -> Path:
    return hub.folder_of(card, {}, report)


def refused(card=CARD) -> str:
    with pytest.raises(LoadFailed) as failure:
        fetch(card)
    text = str(failure.value)
    assert text.startswith(card.title) and "127.0.0.1" not in text and "cache" not in text.replace("is not cached", "")
    return text


def test_the_files_of_the_card_come_and_no_code(served):
    seen: list[Progress] = []
    folder = fetch(report=seen.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: data for name, data in FILES.items() if not name.endswith(".py")
    }
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert {(progress.model, progress.stage) for progress in seen} == {(CARD.name, "downloading")}


def test_the_cache_serves_where_the_hub_does_not_answer(served):
    first = fetch()
    served.down = True
    assert fetch() == first


def test_a_second_time_no_byte_of_weights_is_asked_for(served):
    fetch()
    served.asked.clear()
    fetch()
    assert not [path for method, path, _ in served.asked if method == "GET" and "/resolve/" in path]


def test_a_download_that_broke_off_goes_on_where_it_stood(served, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    name = "pytorch_model-00001-of-00002.bin"
    served.cut[name] = 100_000
    assert (fetch() / name).read_bytes() == FILES[name]
    ranges = [asked for method, path, asked in served.asked if method == "GET" and path.endswith(name)]
    assert ranges == [None, "bytes=100000-"]


def test_a_spoilt_file_is_noticed_removed_and_fetched_anew(served):
    name = "pytorch_model-00002-of-00002.bin"
    served.spoilt.add(name)
    assert name in refused()
    served.spoilt.clear()
    assert (fetch() / name).read_bytes() == FILES[name]


def test_a_cached_file_that_was_cut_short_is_noticed(served):
    name = "pytorch_model-00001-of-00002.bin"
    blob = (fetch() / name).resolve()
    os.truncate(blob, 1000)
    assert name in refused()
    assert (fetch() / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda hub: hub.private.add(REPO), ("401", "HF_TOKEN")),
        (lambda hub: hub.gated.add(REPO), ("403", "gated")),
        (lambda hub: hub.repos.clear(), ("401", "check the name")),
        (lambda hub: setattr(hub, "down", True), ("503", "HF_ENDPOINT")),
    ],
    ids=["private", "gated", "gone", "down"],
)
def test_each_refusal_has_its_own_remedy(change, told, served):
    change(served)
    text = refused()
    assert all(part in text for part in told), text
    served.private.clear()
    served.gated.clear()
    served.down = False
    served.repos[REPO] = dict(FILES)
    assert fetch().is_dir()  # and a retry works


def test_a_private_repository_opens_with_its_token(served, monkeypatch):
    served.private.add(REPO)
    monkeypatch.setenv("HF_TOKEN", served.token)
    assert fetch().is_dir()


def test_a_removed_revision_is_named(served):
    assert f"{REPO}@v0" in (text := refused(tiny.changed(CARD, revision="v0"))) and "revision" in text


def test_a_pinned_revision_is_what_comes(served):
    fetch(tiny.changed(CARD, revision="v1"))
    assert any("/revision/v1" in path for _, path, _ in served.asked)


def test_a_hub_that_cannot_be_reached(served, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.utils._http.constants, "HF_HUB_OFFLINE", True)
    assert f"BIANQUE_PATHS={CARD.name}=" in refused()


def test_a_disk_that_is_too_small_is_told_before_the_download(served, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 400_000}))
    assert "HF_HOME" in refused()
    assert not [path for method, path, _ in served.asked if method == "GET" and path.endswith(".bin")]


def test_a_disk_that_fills_on_the_way_is_told(monkeypatch, served):
    def full(repo, **options):
        raise OSError(28, "No space left on device", "/home/me/blob")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    assert "No space left" in (text := refused()) and "/home/me" not in text


def test_a_folder_comes_from_the_paths_then_the_package_then_the_hub(served, tmp_path):
    find = lambda name, paths: hub.folder_of(tiny.card(name), paths, lambda progress: None)
    assert find("bianque-2", {"bianque-2": tmp_path}) == tmp_path
    assert find("ask-mini", {"bianque-2": tmp_path}) == hub.BUNDLED / "ask-mini"
    assert find("ask-mini", {"ask-mini": tmp_path}) == tmp_path
    assert find("bianque-2", {}).name == COMMIT


def test_an_adapter_comes_from_the_paths_or_the_hub(served, tmp_path):
    find = lambda card, paths: hub.adapter_of(card, paths, lambda progress: None)
    assert find(CARD, {}) is None
    card = tiny.changed(CARD, adapter="lora.p")
    assert find(card, {f"{CARD.name}.adapter": tmp_path / "lora.p"}) == tmp_path / "lora.p"
    with pytest.raises(LoadFailed, match=rf"BIANQUE_PATHS={CARD.name}\.adapter="):
        find(card, {})
    served.repos["me/lora"] = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"0", "train.py": b"0"}
    served.repos["me/old"] = {"lora.p": b"0"}
    folder = find(tiny.changed(CARD, adapter="me/lora"), {})
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert find(tiny.changed(CARD, adapter="me/old"), {}).name == "lora.p"


class Portal(BaseHTTPRequestHandler):
    """A page that asks to log in, whatever is asked for."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        page = b"<html>please log in</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page if self.command == "GET" else b"")

    do_HEAD = do_GET


@pytest.mark.parametrize("slip", ["", " "], ids=["a captive portal", "a blank behind the address"])
def test_a_mirror_that_is_none_is_told_by_its_variable(slip, served, monkeypatch):
    with listening(Portal) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url + slip)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + slip + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(LoadFailed, match="HF_ENDPOINT"):
            fetch()


def test_the_cache_serves_behind_a_captive_portal(served, monkeypatch):
    folder = fetch()
    with listening(Portal) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        assert fetch() == folder

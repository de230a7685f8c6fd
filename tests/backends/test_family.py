"""Every card of the registry answers: a small checkpoint of each, in exactly the Hub's files, through every door."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bianque.__main__ import main
from bianque.backends.local import Local
from bianque.catalog.builtin import CARDS, by_name
from bianque.checkpoints import loader
from bianque.errors import LoadFailed
from bianque.settings import Settings
from bianque.types import Message, Sampling
from tests import tiny

ROOT = Path(__file__).parent.parent.parent
WRITERS = {
    "bianque-1": tiny.bianque_1,
    "bianque-2": tiny.bianque_2,
    "soulchat": tiny.bianque_2,
    "medicalgpt-zh": tiny.medicalgpt_zh,
    "disc-medllm": tiny.disc_medllm,
    "chatglm-6b": tiny.bianque_2,
    "chatglm-6b-int8": lambda folder: tiny.chatglm_quantised(folder, 8),
    "chatglm-6b-int4": lambda folder: tiny.chatglm_quantised(folder, 4),
}
SHORT = Sampling(temperature=0, max_new_tokens=8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for name, write in WRITERS.items():
        write(found[name])
    return {**found, "medicalgpt-zh.adapter": found["medicalgpt-zh"] / "lora.p"}


def test_every_published_card_has_a_small_double():
    assert set(WRITERS) == {card.name for card in CARDS if card.repo}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_published_checkpoint_answers(name, folders):
    local = Local(Settings(paths=folders, memory_gb=1000))
    dialogue = [Message("user", "头痛两天"), Message("assistant", "多久了？"), Message("user", "一周")]
    pieces = tiny.gathered(local.stream(name, dialogue, SHORT))
    assert pieces[-1].finish in ("stop", "length")
    assert pieces[-1].usage.completion_tokens > 0
    assert local.loaded(name)


def logits(name: str, folder: Path, bits=16, adapter: Path | None = None, dtype=torch.float32) -> torch.Tensor:
    card = by_name()[name]
    model, tokenizer = loader.read(card, folder, "cpu", dtype, lambda progress: None, bits, adapter)
    prompt = tokenizer.prompt(card.loadable.prompt([Message("user", "头痛两天，晚上更厉害")]))
    return tiny.begun(model, [prompt])[0].float()


@pytest.mark.slow
@pytest.mark.parametrize("name, bits", [("bianque-1", 8), ("bianque-2", 8), ("bianque-2", 4), ("disc-medllm", 8)])
def test_fewer_bits_change_little(name, bits, folders):
    """Random weights suffer more than trained ones; what is held here is that none got lost."""
    whole, coarse = logits(name, folders[name]), logits(name, folders[name], bits)
    off = ((coarse - whole).norm() / whole.norm()).item()
    assert 0 < off < (0.05 if bits == 8 else 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_published_quantised_stays_as_it_is(bits, folders):
    name = f"chatglm-6b-int{bits}"
    as_stored = logits(name, folders[name])
    for asked in (16, 8, 4):
        assert torch.equal(logits(name, folders[name], asked), as_stored)
    plain = logits("chatglm-6b", folders["chatglm-6b"])
    assert 0 < ((as_stored - plain).norm() / plain.norm()).item() < (0.05 if bits == 8 else 0.8)


def test_the_lora_is_merged_and_must_be_of_this_model(folders):
    folder, adapter = folders["medicalgpt-zh"], folders["medicalgpt-zh.adapter"]
    assert not torch.allclose(logits("medicalgpt-zh", folder), logits("medicalgpt-zh", folder, adapter=adapter))
    for other in ("bianque-1", "disc-medllm"):
        with pytest.raises(LoadFailed, match="LoRA"):
            logits(other, folders[other], adapter=adapter)


@pytest.mark.slow
def test_a_lora_on_fewer_bits_is_merged_before_they_are_cut(folders):
    folder, adapter = folders["medicalgpt-zh"], folders["medicalgpt-zh.adapter"]
    merged, cut = (logits("medicalgpt-zh", folder, bits, adapter) for bits in (16, 8))
    assert ((cut - merged).norm() / merged.norm()).item() < 0.05


def test_a_card_whose_lora_is_nowhere_says_how_to_name_it(folders):
    paths = {name: folder for name, folder in folders.items() if not name.endswith(".adapter")}
    with pytest.raises(LoadFailed, match=r"BIANQUE_PATHS=medicalgpt-zh\.adapter="):
        tiny.gathered(
            Local(Settings(paths=paths, memory_gb=1000)).stream("medicalgpt-zh", [Message("user", "头痛")], SHORT)
        )


def environment(folders) -> dict[str, str]:
    paths = ",".join(f"{name}={folder}" for name, folder in folders.items())
    return {
        "BIANQUE_PATHS": paths,
        "BIANQUE_MODELS": "mini",
        "BIANQUE_MEMORY_GB": "1000",
        "OMP_NUM_THREADS": "1",
    }


def asked(name: str) -> list[str]:
    return ["chat", "--model", name, "--max-new-tokens", "16", "--temperature", "0"]


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_the_command_line_answers(name, folders, monkeypatch, capsys):
    for variable, value in environment(folders).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "stdin", io.StringIO("头痛两天\n"))
    assert main(asked(name)) == 0
    assert f"· {name}" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.slow
def test_so_does_a_process_of_its_own(folders):
    command = [sys.executable, "-m", "bianque", *asked("bianque-2")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment(folders),
        input="头痛两天\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "· bianque-2" in done.stdout


@pytest.mark.slow
def test_the_page_answers(folders, monkeypatch):
    from gradio_client import Client

    from bianque.consult.session import Session
    from bianque.ui import serve
    from bianque.ui.page import Page
    from tests.conftest import free_port

    session = Session(Local(Settings(paths=folders, memory_gb=1000)), "ask-mini", "advise-mini")
    demo, here = Page(session, ROOT / "examples.json").build(), {"server_name": "127.0.0.1", "server_port": free_port()}
    _, url, _ = serve.launch(demo, session, **here, prevent_thread_lock=True)
    try:
        client = Client(url, verbose=False)
        for name in WRITERS:
            mode = "ask" if by_name()[name].role == "asks" else "advise"
            model = {"ask_model" if mode == "ask" else "advise_model": name}
            reply = client.predict(
                "头痛两天", mode=mode, **model, temperature=0, max_new_tokens=4, api_name="/chat_once"
            )
            assert (reply["model"], reply["finish_reason"] in ("stop", "length")) == (name, True)
        listed = {card["name"]: card for card in client.predict(api_name="/models")}
        assert {name for name in WRITERS if listed[name]["loaded"]} == set(WRITERS)
    finally:
        demo.close(verbose=False)

"""This machine's models: what each needs, what there is, and that an evicted one gives its memory back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import weakref
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bianque.api.probes import readiness
from bianque.backends.local import Local, place
from bianque.backends.routed import Routed
from bianque.catalog.builtin import by_name
from bianque.catalog.footprint import RESERVE, LoadPlan
from bianque.checkpoints import loader
from bianque.errors import BadInput, LoadFailed, OutOfMemory, UnknownModel
from bianque.nn import cpu, kernels
from bianque.nn.form import Form
from bianque.settings import Settings
from bianque.types import Message, Sampling
from tests import tiny

SHORT = Sampling(temperature=0, max_new_tokens=4)
TALK = [Message("user", "最近总是头痛")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bianque-2")
    tiny.bianque_2(folder)
    return folder


@pytest.fixture(autouse=True)
def instructions(monkeypatch):
    """Sizes here are those of a processor that has bfloat16, whichever runs them."""
    monkeypatch.setattr(cpu, "has_bfloat16", lambda: True)


def local(folder, size: int, **changes) -> Local:
    """Two models of 1000 weights (so their cards say) and a cache of 100 bytes, in so many bytes of memory."""
    facts = {"parameters": 1000, "kept": 0, "head": 0, "cache": 1, "window": 100}
    cards = [tiny.changed(tiny.card("bianque-2"), name=name, **facts) for name in ("one", "two")]
    return Local(Settings(paths={"one": folder, "two": folder}, memory_gb=size / 1e9, threads=1, **changes), cards)


async def reply(local: Local, name: str) -> list[str]:
    """What comes, in short: stages of loading, `text`, and how it ended."""
    found = []
    async with aclosing(local.stream(name, TALK, SHORT)) as pieces:
        async for piece in pieces:
            found.append(piece.progress.stage if piece.progress else piece.finish or "text")
    return found


def test_a_reply_loads_its_model_first_and_leaves_it_there(folder):
    found = local(folder, 10_000)
    assert not found.loaded("one")
    first = asyncio.run(reply(found, "one"))
    assert first[0] == "queued" and first[-1] in ("stop", "length")
    assert found.loaded("one") and found.pool.resident() == {"one": LoadPlan(16, 2800, slots=8)}
    assert not {"queued", "loading"} & set(asyncio.run(reply(found, "one")))
    with pytest.raises(UnknownModel):
        asyncio.run(reply(found, "three"))


def test_readyz_says_that_a_load_failed_until_one_succeeds(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "one")
    config = tmp_path / "one" / "config.json"
    sound = config.read_text()
    config.write_text("{")
    found = local(tmp_path / "one", 10_000)
    session = SimpleNamespace(backend=Routed([found]), ask="one", advise="two")
    two = {"name": "two", "loaded": False}
    assert readiness(session) == ({"status": "ready", "ask": {"name": "one", "loaded": False}, "advise": two}, 200)
    with pytest.raises(LoadFailed):
        asyncio.run(reply(found, "one"))
    failed = {"name": "one", "loaded": False, "failed": "BQ_LOAD_FAILED"}
    assert readiness(session) == ({"status": "failing", "ask": failed, "advise": two}, 200)
    config.write_text(sound)
    asyncio.run(reply(found, "one"))
    assert readiness(session) == ({"status": "ready", "ask": {"name": "one", "loaded": True}, "advise": two}, 200)
    small = local(folder, 10)
    with pytest.raises(OutOfMemory):
        asyncio.run(reply(small, "two"))
    assert small.failure("two") == "BQ_NO_MEMORY" and small.failure("one") is None


def test_a_model_is_held_at_the_precision_that_its_name_says(folder):
    """Beside the same one as memory allows, and though the settings do not name it."""
    found = local(folder, 10_000, bits=(16,))
    for name in ("one", "one@8"):
        assert asyncio.run(reply(found, name))[-1] in ("stop", "length")
    assert {name: fit.bits for name, fit in found.pool.resident().items()} == {"one": 16, "one@8": 8}
    assert found.kernel("one") == "bfloat16" and "int8" in found.kernel("one@8")
    with pytest.raises(BadInput):
        asyncio.run(reply(found, "one@5"))


@pytest.mark.parametrize(
    "capability, bits, dtype",
    [((9, 0), 4, torch.bfloat16), ((8, 0), 4, torch.bfloat16), ((7, 5), 4, torch.float16), ((9, 0), 8, torch.float16),
     ((9, 0), 16, torch.float16)],
)  # fmt: skip
def test_on_a_gpu_4_bits_compute_in_what_their_kernel_takes(capability, bits, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    device, chosen = place(by_name()["bianque-2"], bits)
    assert (device, chosen) == ("cuda", dtype)
    form = Form(4096, 4096, bits, 128 if bits == 4 else None) if bits < 16 else None
    if form:
        taken = kernels.choose(kernels.machine_of(torch.device("cuda"), dtype), form)
        assert taken.name == {(4, True): "cuda-tinygemm", (8, True): "cuda"}.get((bits, capability >= (8, 0)), "plain")


def test_a_processor_without_bfloat16_computes_16_bits_in_32(folder, monkeypatch):
    """And is given the memory for it; fewer bits have kernels of their own, which want bfloat16."""
    monkeypatch.setattr(cpu, "has_bfloat16", lambda: False)
    found = local(folder, 10_000)
    for name in ("one", "one@8"):
        assert asyncio.run(reply(found, name))[-1] in ("stop", "length")
    assert found.pool.resident() == {"one": LoadPlan(16, 5600, slots=8), "one@8": LoadPlan(8, 1800, slots=8)}
    assert found.kernel("one") == "float32" and "int8" in found.kernel("one@8")


@pytest.mark.slow
def test_models_that_do_not_fit_together_take_turns_and_memory_is_given_back(folder):
    found = local(folder, 2100)
    asyncio.run(reply(found, "one"))
    engine = found.pool.residents["one"].engine
    weight = weakref.ref(engine.model.lm_head.weight)  # the decoder's thread still has the model
    asyncio.run(reply(found, "two"))
    assert set(found.pool.resident()) == {"two"} and weight() is None
    asyncio.run(reply(found, "one"))
    assert set(found.pool.resident()) == {"one"}


COME_AND_GO = """
import re, threading
from pathlib import Path
from types import SimpleNamespace
from torch import nn
from bianque.backends.local import drop
from bianque.nn import packed  # what drop imports is no weight

def megabytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1000

def come_and_go():
    model = nn.Sequential()
    for _ in range(500):
        model.append(nn.Linear(300, 300))
        others.append(bytearray(1000))
    models.append(model)
    held.append(megabytes())
    drop(SimpleNamespace(model=model, close=lambda: None))

before, held, left, models, others = megabytes(), [], [], [], []
for _ in range(2):
    thread = threading.Thread(target=come_and_go)
    thread.start()
    thread.join()
    left.append(megabytes())
print(*(size - before for size in held + left))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell what a process holds")
def test_an_evicted_model_leaves_the_process_as_small_as_it_was():
    """Weights small enough for the C library to keep, for what lies between them; twice, by two threads.

    Something still refers to the models. In a process of its own: other tests take and give back memory meanwhile.
    """
    ended = subprocess.run([sys.executable, "-c", COME_AND_GO], capture_output=True, text=True, check=True)
    first, second, *left = map(int, ended.stdout.split())
    assert min(first, second) > 150
    assert max(left) < 50


def test_who_leaves_gives_the_lease_back(folder):
    found = local(folder, 2100)

    async def leave():
        async with aclosing(found.stream("one", TALK, SHORT)) as pieces:
            async for piece in pieces:
                if piece.usage:
                    assert len(found.pool.residents["one"].leases) == 1
                    return

    asyncio.run(leave())
    assert not found.pool.residents["one"].leases


def test_bits_drop_to_what_fits(folder):
    found = local(folder, 1100)
    asyncio.run(reply(found, "one"))
    assert found.pool.resident() == {"one": LoadPlan(8, 1100)}
    assert found.pool.residents["one"].engine.model.transformer.layers[0].mlp.dense_h_to_4h.form.bits == 8
    with pytest.raises(OutOfMemory, match="BIANQUE_BITS=16,8,4"):
        asyncio.run(reply(local(folder, 1000), "one"))
    with pytest.raises(OutOfMemory, match="BIANQUE_BITS=16,8 "):
        asyncio.run(reply(local(folder, 1100, bits=(16,)), "one"))


@pytest.mark.parametrize(
    "name, weights, cache",
    [
        ("bianque-1", 1.57, 0.28),
        ("bianque-2", 13.42, 0.94),
        ("ask-mini", 0.068, 0.026),  # float32
        ("advise-mini", 0.061, 0.016),
    ],
)
def test_what_a_card_needs(name, weights, cache, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    card, found = tiny.card(name), Local(Settings(memory_gb=64)).plans(name)
    digits = 3 if card.preview else 2
    each = card.loadable.cache * card.longest
    assert (round(card.loadable.memory(16) * (2 if card.preview else 1) / 1e9, digits)) == weights
    assert (round(each * (2 if card.preview else 1) / 1e9, digits)) == cache
    assert [(fit.bits, fit.slots, fit.allowed) for fit in found] == [
        (16, 8, True), (16, 1, True), (8, 8, True), (8, 1, True), (4, 8, False), (4, 1, False),
    ]  # fmt: skip
    for fit in found:
        wide = 2 if card.preview and fit.bits == 16 else 1  # a preview has 32 bits until it is quantised
        assert fit.size == wide * (card.loadable.memory(fit.bits) + fit.slots * each)


def test_slots_are_shared_fairly_by_the_models_that_work_together(monkeypatch):
    """A T4: beside 8-bit weights of both, each gets as many slots as the other."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    pair, first, second = ("bianque-1", "bianque-2"), tiny.card("bianque-1"), tiny.card("bianque-2")
    both = first.loadable.cache * first.longest + second.loadable.cache * second.longest
    for room, slots in ((both * 5 // 2, 2), (both * 100, 32), (both // 2, 1)):
        total = first.loadable.memory(8) + second.loadable.memory(8) + room
        local = Local(Settings(bits=(8,), memory_gb=total / 1e9), together=pair)
        assert [local.plans(name)[0].slots for name in pair] == [slots, slots]
        alone = Local(Settings(bits=(8,), memory_gb=total / 1e9)).plans("bianque-1")[0].slots
        assert alone >= slots
    assert Local(Settings(slots=3, memory_gb=64)).plans("bianque-1")[0].slots == 3


@pytest.mark.parametrize(
    "bits, order", [((16,), (16, 8, 4)), ((8,), (8, 16, 4)), ((4, 16), (4, 16, 8)), ((16, 8, 4), (16, 8, 4))]
)
def test_precisions_come_in_the_order_of_the_settings_and_the_others_are_not_allowed(bits, order):
    found = Local(Settings(bits=bits)).plans("bianque-2")
    assert list(dict.fromkeys(fit.bits for fit in found)) == list(order)
    assert list(dict.fromkeys(fit.bits for fit in found if fit.allowed)) == list(bits)


def test_a_model_that_is_published_quantised_stays_so():
    card = tiny.changed(tiny.card("bianque-2"), stored=8)
    found = Local(Settings(bits=(16,), memory_gb=64), [card]).plans(card.name)
    assert [(fit.bits, fit.allowed) for fit in found] == [(8, True)] * 2
    assert found[1].size == card.loadable.memory(8) + card.loadable.cache * card.longest


def test_the_budget_is_what_the_settings_say_or_what_is_free(monkeypatch):
    assert Local(Settings(memory_gb=7.5)).budget() == 7_500_000_000
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(cpu, "available_memory", lambda: 1000)
    assert Local(Settings()).budget() == 1000 * (1 - RESERVE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2000, 3000))
    assert Local(Settings()).budget() == 2000 * (1 - RESERVE)


def greedy(*arguments, **options):
    torch.empty(1 << 60, dtype=torch.uint8)


def refused(error):
    def load(*arguments, **options):
        raise error

    return load


@pytest.mark.parametrize("load", [greedy, refused(MemoryError()), refused(torch.OutOfMemoryError("CUDA"))])
def test_memory_that_runs_out_while_loading_is_said_plainly(load, folder, monkeypatch):
    monkeypatch.setattr(loader, "load", load)
    found = local(folder, 10_000)
    with pytest.raises(OutOfMemory, match="BIANQUE_MEMORY_GB") as failure:
        asyncio.run(reply(found, "one"))
    assert found.cards["one"].title in str(failure.value) and not found.pool.residents


def test_another_error_while_loading_is_no_lack_of_memory(folder, monkeypatch):
    monkeypatch.setattr(loader, "load", refused(RuntimeError("shape")))
    with pytest.raises(RuntimeError, match="shape"):
        asyncio.run(reply(local(folder, 10_000), "one"))

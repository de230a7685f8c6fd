"""The benchmarks run, on a shape so small that their figures mean nothing, and the peers do the same work."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import accumulate, count, pairwise
from math import inf

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bianque.__main__ import main
from bianque.bench import decode, growth, load, roofline, rounds, shapes
from bianque.bench.concurrency import last
from bianque.bench.decode import Work
from bianque.bench.estimate import Service
from bianque.bench.roofline import Roof
from bianque.catalog.builtin import by_name
from bianque.nn import packed

TINY = ("--size", "tiny", "--rounds", "1", "--tokens", "4", "--threads", "1")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rounds, "BLOCK", 1 << 20)
    monkeypatch.setattr(rounds, "WIDTH", 256)
    yield
    torch.set_grad_enabled(True)


@pytest.mark.parametrize("arch", ["t5", "chatglm"])
def test_decode_tells_each_precision_and_prompt(arch, capsys, tmp_path):
    file = tmp_path / "found.json"
    given = ("--arch", arch, "--precision", "fp32", "int8", "--prompt", "8", "20", "--json", str(file))
    assert main(["bench", "decode", *TINY, *given]) == 0
    found = json.loads(file.read_text())
    assert len(found["measured"]) == 4 and found["versions"]["torch"] == torch.__version__
    for case in found["measured"]:
        (run,) = case["runs"]["ours"]
        assert run["first"] > 0 and run["token"] > 0 and case["bytes"] > 0
        assert case["again"] in (0, 1) and len(case["steal"]) <= 1 and case["probes"][0]["read"] > 0
    said = capsys.readouterr().out
    assert said.count("| ours |") == said.count("the host took") == 4
    assert f"threads: 1 of {found['cores']} cores; python" in said.splitlines()[0]


def test_decode_runs_peers_in_the_same_rounds(capsys, tmp_path):
    script = tmp_path / "peer.py"
    script.write_text("import json, sys\nprint(json.dumps({'prefill_ms': float(sys.argv[1]), 'ms_per_token': 1e6}))\n")
    command = f"never={sys.executable} {script} {{prompt}}"
    assert main(["bench", "decode", *TINY, "--peer", "hf", "--beside", command]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [row[1].strip() for row in rows] == ["ours", "hf", "never"]
    assert [cell.split()[0] for cell in rows[2][2:4]] == ["64.0", "1000000.0"] and float(rows[2][5]) > 100


def test_prefill_tells_the_first_token_alone(capsys, tmp_path):
    script, file = tmp_path / "peer.py", tmp_path / "found.json"
    script.write_text("import json, sys\nprint(json.dumps({'prefill_ms': float(sys.argv[1])}))\n")
    given = ("--size", "tiny", "--rounds", "1", "--threads", "1", "--prompt", "8", "20", "--json", str(file))
    beside = ("--peer", "hf", "--beside", f"peer={sys.executable} {script} {{prompt}}")
    assert main(["bench", "prefill", *given, *beside]) == 0
    assert [case["runs"]["peer"] for case in json.loads(file.read_text())["measured"]] == [
        [{"first": 8}],
        [{"first": 20}],
    ]
    said = capsys.readouterr().out
    assert said.count("peer: 1000 tokens of the prompt a second") == 2 and said.count("| hf |") == 2


def test_our_decoder_reads_the_prompt_in_every_round():
    work = Work("t5", "tiny", "fp32", None, 12, 2, True, "cpu")
    model, _ = shapes.random_model(work.config, "t5", "fp32", "cpu")
    read, prefill = [], model.prefill
    model.prefill = lambda ids, *rest: read.append(ids) or prefill(ids, *rest)
    decoder, seeds = decode.Decoder(model, (), "cpu", (12, 2), slots=1), count()
    for _ in range(3):
        decode.ours(decoder, work, seeds)
    decoder.close()
    assert len(read) == 3


@pytest.mark.parametrize(
    "lost, counts",
    [
        ([0, 1, 2], [1, 2, 3]),
        ([10, 0, 20, 5, 2], [2, 4, 5]),  # as much as the limit is not more
        ([50] * 6, [4, 5, 6]),  # as many again as were asked for, and no more
        ([50, 50, 1, 50, 50, 50], [3, 5, 6]),
    ],
)
def test_a_round_of_which_the_host_took_too_much_is_run_again(lost, counts):
    marks = [(stolen, 100 * i) for i, stolen in enumerate(accumulate(lost, initial=0))]
    reads = iter([mark for pair in pairwise(marks) for mark in pair])
    calls = count()  # the first warms up
    table = rounds.measure({"ours": lambda: {"ms": next(calls)}}, dict, 3, 5.0, lambda: next(reads))
    assert [run["ms"] for run in table.runs["ours"]] == counts
    assert table.steal == [lost[number - 1] for number in counts]
    assert table.again == counts[-1] - 3 and next(reads, None) is None


def test_no_round_is_run_again_where_nobody_counts(tmp_path):
    table = rounds.measure({"ours": dict}, dict, 3, 0.0, lambda: rounds.ticks(tmp_path / "none"))
    assert (len(table.probes), table.steal, table.again) == (3, [], 0) and "not known" in table.host


def test_stolen_ticks_are_of_all_cores(tmp_path):
    file = tmp_path / "stat"
    file.write_text("cpu  10 1 5 100 2 0 3 40 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert rounds.ticks(file) == (40, 161)  # a guest's ticks are the user's too
    assert rounds.taken((40, 161), (45, 261)) == 5 and rounds.taken((40, 161), (40, 161)) == 0


@pytest.mark.parametrize("arch, curves", [("t5", {"prompt", "reply"}), ("chatglm", {"context"})])
def test_growth_has_each_curve_beside_its_prediction(arch, curves, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "CONTEXTS", (16, 32))
    monkeypatch.setattr(growth, "ROWS", (1, 2))
    file, drawn = tmp_path / "found.json", tmp_path / "found.svg"
    given = ("--arch", arch, "--size", "tiny", "--rounds", "2", "--threads", "1")
    assert main(["bench", "growth", *given, "--json", str(file), "--plot", str(drawn)]) == 0
    found = json.loads(file.read_text())
    assert len(found["probes"]) == 2 and "steal" in found
    places = {curve: [16, 32] for curve in curves} | {"first": [16, 32], "rows": [1, 2], "models": [1, 2, 3]}
    measured = found["measured"]
    assert {curve: [p["x"] for p in measured if p["curve"] == curve] for curve in places} == places
    assert len(measured) == sum(map(len, places.values()))
    assert all(len(point["ms"]) == 2 and min(*point["ms"], point["predicted"]) > 0 for point in measured)
    assert capsys.readouterr().out.count("| measured ms | predicted ms | ratio |") == len(places)
    assert drawn.read_text().startswith("<?xml")


def test_growth_says_what_drawing_needs(capsys, monkeypatch):
    monkeypatch.setattr(growth, "find_spec", lambda name: None)
    assert main(["bench", "growth", "--plot", "curves.svg"]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, counted, others, flops",
    [
        # 24 layers of 4 · 1024² and 3 · 1024 · 2816 in each stack, 2 · 1024² across; norms and biases of distance
        ("bianque-1", (358_612_992, 358_612_992, 32_899_072), 125_952, 393_822_863_360),
        # 28 layers of 12 · 4096²; biases and norms
        ("bianque-2", (5_637_144_576, 5_637_144_576, 534_642_688), 1_499_136, 5_893_764_415_488),
    ],
)
def test_the_arithmetic_counts_the_weights_that_a_card_has(name, counted, others, flops):
    card = by_name()[name]
    config = shapes.SHAPES[card.architecture][1]
    prompt, reply, head = roofline.weights(config, card.architecture)
    assert (prompt, reply, head) == counted
    once = prompt if card.architecture == "t5" else 0  # the others read and write with the same
    assert once + reply + 2 * head + others == card.parameters
    assert roofline.kv_bytes(config, card.architecture, 1, 2) == card.cache
    assert roofline.prefill_flops(config, card.architecture, 512) == flops


@pytest.mark.parametrize("arch", ["t5", "chatglm"])
def test_the_arithmetic_counts_the_products_that_torch_counts(arch, monkeypatch):
    monkeypatch.setattr(packed, "settle", lambda model: None)  # torch does not count oneDNN's own products
    work = Work(arch, "tiny", "fp32", None, 40, 1, True, "cpu")
    model, _ = shapes.random_model(work.config, arch, "fp32", "cpu")
    cache = model.slots(3, 40, 8)
    # Nor does it count a CPU's fused attention.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for slot in range(3):
            last(model.prefill(torch.tensor(work.ids(slot)), cache, slot))
        read = counter.get_total_flops()
        model.step(torch.tensor([300] * 3), cache)
    start = 1 if arch == "t5" else 0  # the token that starts a T5's reply is looked at too
    start_flops = 3 * start * 2 * roofline.cached(work.config, arch)
    assert read == 3 * roofline.prefill_flops(work.config, arch, 40) + start_flops
    assert counter.get_total_flops() - read == roofline.step_flops(work.config, arch, 3, 41 + start)


def test_a_token_does_not_read_joined_weights_of_the_prompt():
    config = shapes.config_of("t5", "tiny") | {"d_model": 512, "d_kv": 128, "d_ff": 512}
    model, _ = shapes.random_model(config, "t5", "fp32", "cpu")
    assert model.decoder.block[0].layer[1].EncDecAttention.together is not None
    prompt, reply, head = roofline.weights(config, "t5")
    layers = [512 * (2 * norms + 1) + 32 * 4 for norms in (2, 3)]  # norms and biases of distance, in each stack
    assert shapes.bytes_read(model, "t5") == 4 * (reply + head + layers[1])
    assert shapes.bytes_without(model, shapes.EMBEDDINGS) == 4 * (prompt + reply + head + sum(layers))


def test_the_slower_of_reading_and_computing_bounds():
    assert (Roof(1e9, 1e12).seconds(2e9, 1e12), Roof(1e9, 1e12).seconds(2e9, 3e12)) == (2, 3)


def test_visitors_are_what_fits_into_a_second():
    card = by_name()["bianque-2"]
    service = Service(card, 16, 512, 128, Roof(1e12, 1e14), inf)
    # 2 bytes of 6 171 787 264 weights, and of a context of 576 tokens; as many FLOPs
    one = 12_343_574_528 + 576 * 458_752
    assert service.step(1) == pytest.approx({"bandwidth": one / 1e12, "compute": one / 1e14})
    assert service.prefill == pytest.approx(0.05893764)
    # 0.1234 + n · (0.002642 + 0.05894 · 10 / 128) ≤ 1, and prompts are the larger part of it
    assert service.most() == (120, "prompts")
    reserved = card.memory(16) + 10 * 2048 * 458_752
    assert Service(card, 16, 512, 128, Roof(1e12, 1e14), reserved).most() == (10, "memory")
    assert Service(card, 16, 512, 128, Roof(1e11, 1e14), inf).most() == (0, "bandwidth")
    assert Service(card, 16, 8, 128, Roof(1e14, 1e13), inf).most()[1] == "compute"


def test_estimate_has_a_row_for_all_that_fits(capsys, tmp_path):
    file = tmp_path / "found.json"
    assert main(["bench", "estimate", "--json", str(file)]) == 0
    found = json.loads(file.read_text())["estimated"]
    assert {(row["card"], row["bits"]) for row in found if row["model"] == "bianque-1"} >= {("T4", 16), ("L4", 4)}
    assert len(found) == 24  # 14.4 of a T4's 16 GB hold the 13.4 of BianQue-2 and its 0.94 of one cache
    assert all(row["a second machine is needed from"] == row["visitors"] + 1 for row in found)
    assert all(row["speed alone allows"] >= row["visitors"] for row in found)
    said = capsys.readouterr().out
    assert said.count("\n") == 2 + len(found) and "| H100 SXM | bianque-2 | 4 |" in said


def test_the_peer_writes_the_same_tokens():
    work = Work("t5", "tiny", "fp32", None, 12, 9, True, "cpu")
    model, _ = shapes.random_model(work.config, "t5", "fp32", "cpu")
    with torch.inference_mode():
        theirs = decode.transformers_t5(work).generate(
            input_ids=torch.tensor([work.ids()]), do_sample=False, min_new_tokens=9, max_new_tokens=9
        )[0, 1:]

    async def ours():
        decoder = decode.Decoder(model, {1}, "cpu", (12, 9))
        return [token async for part in decoder.stream(work.ids(), work.sampling) for token in part]

    assert asyncio.run(ours()) == theirs.tolist()


def test_concurrency_serves_all_visitors(capsys, tmp_path):
    file = tmp_path / "found.json"
    given = ("--precision", "fp32", "--visitors", "1", "3", "--peer", "hf", "--json", str(file))
    assert main(["bench", "concurrency", *TINY, *given]) == 0
    (case,) = json.loads(file.read_text())["measured"]
    assert {name.rsplit(", ", 1)[1] for name in case["tokens_a_second"]} == {"1 visitors", "3 visitors"}
    assert all(speed > 0 for speeds in case["tokens_a_second"].values() for speed in speeds)
    assert "3 visitors have" in capsys.readouterr().out


def test_no_two_matrices_are_alike():
    """CTranslate2 would keep them once: 180 MB of T5-large's 3.1 GB."""
    layers = {f"layer.{i}.weight": torch.Size((32, 48)) for i in range(300)}
    found = torch.stack([tensor for _, tensor in shapes.noise(layers)])
    assert len(found.flatten(1).unique(dim=0)) == 300
    (_, again), *_ = shapes.noise({"layer.7.weight": torch.Size((32, 48))})
    assert torch.equal(again, found[7])  # whoever else there is: peers have the same weights


@pytest.mark.parametrize("precision, size", [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_bytes_read_count_what_a_token_needs(precision, size):
    config = shapes.config_of("t5", "tiny")
    model, _ = shapes.random_model(config, "t5", precision, "cpu")
    d, kv, ff = config["d_model"], config["d_kv"] * config["num_heads"], config["d_ff"]
    layer = 4 * d * kv + 2 * d * kv + 3 * d * ff  # own attention, what the cross one does for each token, feed-forward
    linear, norms = 2 * layer + config["vocab_size"] * d, (2 * 3 + 1) * d
    expected = linear * size + norms * max(size, 2)
    assert expected <= shapes.bytes_read(model, "t5") <= expected * 1.1  # scales, biases of distance


@pytest.mark.parametrize("how", ["from_pretrained", "8"])
def test_a_load_is_measured_in_a_process_of_its_own(tmp_path, how):
    folder = load.synthetic("bianque-1", tmp_path / "1", shapes.config_of("t5", "tiny"), torch.float32, 1)
    found = load.once("bianque-1", folder, how, "end" if how == "from_pretrained" else "serve")
    assert found["seconds"] > 0 and found["after"] > 0
    assert ("serving" in found) == (how != "from_pretrained")
    if how != "from_pretrained":
        card = by_name()["bianque-1"]
        kept = 8 * card.longest * 2 * 2 * 64 * 2  # of eight, in two layers: keys and values of 64 numbers of 16 bits
        assert kept < found["planned"] < 2 * kept and found["serving"] > kept

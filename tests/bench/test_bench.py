"""The benchmarks run, on a shape so small that their figures mean nothing, and the peers do the same work."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from functools import partial
from itertools import accumulate, count, pairwise

import pytest
import torch

from bianque.__main__ import main
from bianque.bench import decode, gpu, rounds, shapes
from bianque.bench.decode import Work
from bianque.errors import OutOfMemory

TINY = ("--size", "tiny", "--rounds", "1", "--tokens", "4", "--threads", "1")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rounds, "BLOCK", 1 << 20)
    monkeypatch.setattr(rounds, "WIDTH", 256)
    yield
    torch.set_grad_enabled(True)


@pytest.mark.slow
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


@pytest.mark.slow
def test_decode_runs_peers_in_the_same_rounds(capsys, tmp_path):
    script = tmp_path / "peer.py"
    script.write_text("import json, sys\nprint(json.dumps({'prefill_ms': float(sys.argv[1]), 'ms_per_token': 1e6}))\n")
    command = f"never={sys.executable} {script} {{prompt}}"
    assert main(["bench", "decode", *TINY, "--peer", "hf", "--beside", command]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [row[1].strip() for row in rows] == ["ours", "hf", "never"]
    assert [cell.split()[0] for cell in rows[2][2:4]] == ["64.0", "1000000.0"] and float(rows[2][5]) > 100


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


def test_a_token_does_not_read_joined_weights_of_the_prompt():
    config = shapes.config_of("t5", "tiny") | {"d_model": 512, "d_kv": 128, "d_ff": 512}
    model, _ = shapes.random_model(config, "t5", "fp32", "cpu")
    assert model.decoder.block[0].layer[1].EncDecAttention.fused is not None
    width, inner, feed = config["d_model"], config["d_kv"] * config["num_heads"], config["d_ff"]
    # A decoder layer: its own attention, the queries and output of the cross one, the feed-forward, three norms.
    layer = 4 * width * inner + 2 * width * inner + 3 * width * feed + 3 * width
    biases, head = 32 * config["num_heads"], width * config["vocab_size"]
    expected = config["num_decoder_layers"] * layer + width + biases + head
    assert shapes.bytes_read(model, "t5") == 4 * expected


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


@pytest.mark.slow
def test_concurrency_serves_all_visitors(capsys, tmp_path):
    file = tmp_path / "found.json"
    given = ("--precision", "fp32", "--visitors", "1", "3", "--peer", "hf", "--json", str(file))
    assert main(["bench", "concurrency", *TINY, *given]) == 0
    (case,) = json.loads(file.read_text())["measured"]
    assert {name.rsplit(", ", 1)[1] for name in case["tokens_a_second"]} == {"1 visitors", "3 visitors"}
    assert all(speed > 0 for speeds in case["tokens_a_second"].values() for speed in speeds)
    told = capsys.readouterr().out
    assert "3 visitors have" in told and "| 1 visitor | tokens/s |" in told and "| 3 visitors | tokens/s |" in told


def test_without_a_name_it_is_one_visitor_and_eight(monkeypatch):
    ran = []
    monkeypatch.setattr(
        "bianque.cli.bench.run", lambda name, options: ran.append((name, options.visitors, options.peer))
    )
    assert main(["bench"]) == 0 and ran == [("concurrency", [1, 8], ["hf"])]


def test_weights_that_memory_does_not_hold_are_refused_before_they_are_made(monkeypatch, capsys):
    monkeypatch.setattr(shapes.cpu, "available_memory", lambda: 12_000_000_000)
    monkeypatch.setattr(shapes, "noise", lambda shapes: pytest.fail("began"))
    assert main(["bench", "decode", "--arch", "chatglm", "--precision", "bf16", "--rounds", "1"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("BQ_NO_MEMORY") and "19.8 GB" in told and "12.0 GB" in told and "--layers" in told


def test_memory_of_a_shape():
    size = {"a.weight": torch.Size((1000, 1000)), "word_embeddings.weight": torch.Size((1000, 1000))}
    with pytest.raises(OutOfMemory, match="GB"):
        shapes.check_memory(size | {"b.weight": torch.Size((10**9, 10**9))}, "int8", "cpu")
    shapes.check_memory(size, "int4", "cpu")


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


def test_the_bench_of_a_lora_runs_anywhere_beside_its_peers(capsys, tmp_path):
    """Logits of the reply alone are the same loss as logits everywhere."""
    file, script = tmp_path / "found.json", tmp_path / "peer.py"
    script.write_text("import json, sys\nprint(json.dumps({'tokens_s': float(sys.argv[1])}))\n")
    given = ("--device", "cpu", "--size", "tiny", "--rounds", "1", "--length", "32", "--batch", "2", "--threads", "1")
    peers = ("--peer", "peft", "--beside", f"other={sys.executable} {script} {{length}}", "--json", str(file))
    assert main(["bench", "tune", *given, "--bits", "16", "8", *peers]) == 0
    sixteen, eight, peft, other = json.loads(file.read_text())["measured"]
    assert eight["tokens/s"] > 0 and eight["GB estimated"] > 0 and other["tokens/s"] == 32
    if importlib.util.find_spec("peft"):
        assert peft["loss"].split()[0][:4] == sixteen["loss"].split()[0][:4]
    else:
        assert "pip install peft" in sixteen["fails"] and "pip install peft" in peft["fails"]


def test_the_bench_of_loading_tells_both_ways(capsys, tmp_path):
    file = tmp_path / "found.json"
    given = ("--size", "tiny", "--rounds", "1", "--threads", "1", "--bits", "4", "--json", str(file))
    assert main(["bench", "convert", *given, "--folder", str(tmp_path)]) == 0
    (case,) = json.loads(file.read_text())["measured"]
    assert list(case["runs"]) == ["converted to 4 bits", "16 bits, quantised to 4"] and case["bytes"] > 0
    assert capsys.readouterr().out.count("| 16 bits, quantised to 4 |") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


@pytest.mark.slow
def test_the_bench_for_a_gpu_runs_anywhere_and_tells_what_does_not_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "SMALL", {"baichuan": 1})
    asked = lambda options: (partial(gpu.crowd, arch, "int8", options) for arch in ("chatglm", "none"))
    monkeypatch.setattr(gpu, "QUESTIONS", gpu.QUESTIONS | {"visitors": asked})
    file = tmp_path / "found.json"
    given = ("--device", "cpu", "--size", "tiny", "--tokens", "2", "--rounds", "1", "--visitors", "1")
    assert main(["bench", "gpu", *given, "--json", str(file)]) == 0
    found = json.loads(file.read_text())["measured"]
    assert [row["recorded"] for row in found["parity"]] == [False, True] * 3
    assert all(row["right"] for row in found["parity"] + found["kernel"]) and len(found["kernel"]) > 9
    row, failed = found["visitors"]
    assert row["tokens/s"] > 0 < row["bandwidth"] and failed == {"of": "none int8", "fails": "KeyError: 'none'"}
    assert main(["bench", "gpu", *given, "--seconds", "0"]) == 0
    assert "time is up" in capsys.readouterr().out

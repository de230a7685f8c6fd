"""The benchmarks run, on a shape so small that their figures mean nothing, and the peers do the same work."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
import torch

from bianque.__main__ import main
from bianque.bench import decode, shapes
from bianque.bench.decode import Work

TINY = ("--size", "tiny", "--rounds", "1", "--tokens", "4", "--threads", "1")


@pytest.fixture(autouse=True)
def gradients():
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
    assert capsys.readouterr().out.count("| ours |") == 4


def test_decode_runs_peers_in_the_same_rounds(capsys, tmp_path):
    script = tmp_path / "peer.py"
    script.write_text("import json, sys\nprint(json.dumps({'prefill_ms': float(sys.argv[1]), 'ms_per_token': 1e6}))\n")
    command = f"never={sys.executable} {script} {{prompt}}"
    assert main(["bench", "decode", *TINY, "--peer", "hf", "--beside", command]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [row[1].strip() for row in rows] == ["ours", "hf", "never"]
    assert [cell.split()[0] for cell in rows[2][2:4]] == ["64.0", "1000000.0"] and float(rows[2][5]) > 100


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


@pytest.mark.parametrize("precision, size", [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_bytes_read_count_what_a_token_needs(precision, size):
    config = shapes.config_of("t5", "tiny")
    model, _ = shapes.random_model(config, "t5", precision, "cpu")
    d, kv, ff = config["d_model"], config["d_kv"] * config["num_heads"], config["d_ff"]
    layer = 4 * d * kv + 2 * d * kv + 3 * d * ff  # own attention, what the cross one does for each token, feed-forward
    linear, rest = 2 * layer, config["vocab_size"] * d
    norms = (2 * 3 + 1) * d
    expected = linear * size + (rest + norms) * max(size, 2)
    assert expected <= shapes.bytes_read(model, "t5") <= expected * 1.1  # scales, biases of distance

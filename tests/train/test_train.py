"""Training: vocabularies in the published layouts, samples, and a killed run that ends as an uninterrupted one."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

from bianque.catalog.builtin import by_name
from bianque.checkpoints import loader
from bianque.consult.questions import asks
from bianque.data.dialogues import Record, Turn
from bianque.models.tokenizers import ChatGLMTokenizer, T5Tokenizer
from bianque.train import blend, mini, samples, vocabulary

PARTS = ("头", "肚子", "膝盖", "后背", "嗓子", "牙", "胃", "手腕")
PLAN = mini.Plan(
    language=1, medical=1, role=1, turns=2, batch_tokens=600, warmup=2, prompt_tokens=120, reply_tokens=60, pieces=160,
    compile=False,
)  # fmt: skip


def records() -> list[Record]:
    found = []
    for i, part in enumerate(PARTS):
        turns = [
            ("patient", f"我的{part}疼，已经{i + 1}天了，晚上睡不好。"),
            ("doctor", f"{part}疼是一直疼还是一阵一阵的？"),
            ("patient", "一阵一阵的，活动以后更明显"),
            ("doctor", f"建议先休息，少用{part}，可以热敷，三天不好转就去医院看看。"),
        ]
        found.append(Record(f"r{i}", "own", tuple(Turn(role, text) for role, text in turns)))
    return found


def write(path, rows):
    lines = [
        {"id": r.id, "source": r.source, "turns": [{"role": t.role, "text": t.text} for t in r.turns]} for r in rows
    ]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The models are tiny: threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def texts():
    return [mini.prompts.bianque_2(samples.messages(record)) for record in records()] * 3


def test_ice_text_has_the_published_layout(texts, tmp_path):
    path = tmp_path / "ice_text.model"
    vocabulary.train_ice_text(texts, path, 160)
    tokenizer = ChatGLMTokenizer(path)
    name = tokenizer.model.id_to_piece
    assert [name(i) for i in range(5)] == ["<unk>", "<s>", "</s>", "<pad>", "<n>"]
    first = tokenizer.mask
    assert [name(first + i) for i in range(8)] == [
        "[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>",
    ]  # fmt: skip
    assert name(first + 8) == "<|tab|>" and name(first + 87) == "<|blank_80|>"
    assert name(first + 88) == "<0x00>" and tokenizer.model.vocab_size() == first + 88 + 256
    assert tokenizer.decode(tokenizer.encode("龘 🙂\n\t  好")) == "龘 🙂\n\t  好"


def test_spiece_has_the_published_layout(texts, tmp_path):
    path = tmp_path / "spiece.model"
    vocabulary.train_spiece(texts, path, 160)
    tokenizer = T5Tokenizer(path)
    assert [tokenizer.model.id_to_piece(i) for i in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert (tokenizer.pad, tokenizer.eos) == (0, 1)


@pytest.fixture(scope="module")
def form(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("form") / "spiece.model"
    vocabulary.train_spiece(texts, path, 160)
    return samples.Format(T5Tokenizer(path), mini.prompts.bianque_1, mini.prompts.t5_escape, 120, 60)


def test_role_samples_hold_the_role_alone(form):
    for asking in (True, False):
        drawn = list(samples.turns(records(), form, asking, None, random.Random(0)))
        assert len(drawn) == len(PARTS)
        for sample in drawn:
            assert sample.reply[-1] == form.tokenizer.eos
            assert asks(form.tokenizer.decode(sample.reply)) == asking
            assert form.tokenizer.decode(sample.prompt).endswith("医生：")


def test_language_samples_go_on_to_the_end(form):
    for sample, record in zip(samples.language(records(), form, random.Random(0)), records(), strict=True):
        assert form.tokenizer.decode(sample.reply)[-6:] in record.turns[-1].text


def test_batches_keep_every_sample_and_the_limit(form):
    drawn = list(samples.turns(records(), form, None, None, random.Random(0)))
    groups = samples.batches(drawn, 300, random.Random(1))
    assert sorted(map(id, (s for group in groups for s in group))) == sorted(map(id, drawn))
    for group in groups:
        width = max(len(s.prompt) for s in group) + max(len(s.reply) for s in group)
        assert len(group) == 1 or width * len(group) <= 300


class Killed(Exception):
    pass


@pytest.mark.parametrize("role", ["ask", "advise"])
def test_a_killed_run_resumes_to_the_same_weights(role, tmp_path):
    data = write(tmp_path / "d.jsonl", records())

    def run(name, say=lambda line: None):
        mini.train(role, [data], [data], [data], tmp_path / name / "out", PLAN, tmp_path / name, say)

    def die_after_an_epoch(line):
        if line.startswith('{"epoch": 1'):
            raise Killed

    run("whole")
    with pytest.raises(Killed):
        run("killed", die_after_an_epoch)
    said = []
    run("killed", said.append)
    assert "resumed behind epoch 1" in said
    card = replace(by_name()[f"{role}-mini"])
    loaded = [
        loader.read(card, tmp_path / name / "out", "cpu", torch.float32, lambda p: None)[0]
        for name in ("whole", "killed")
    ]
    for one, other in zip(*(model.parameters() for model in loaded), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)
    log = json.loads((tmp_path / "whole" / "out" / "training.json").read_text())["log"]
    assert log[-1]["train"] < log[0]["train"]
    assert all(f.stat().st_size < 9_000_000 for f in (tmp_path / "whole" / "out").iterdir())


@pytest.mark.parametrize("role", ["ask", "advise"])
def test_a_blend_is_the_average_with_a_calibrated_head(role, tmp_path):
    data, work = write(tmp_path / "d.jsonl", records()), tmp_path / "work"
    mini.train(role, [data], [data], [data], tmp_path / "out", PLAN, work, lambda line: None)
    saved = torch.load(work / "checkpoint.pt", weights_only=True)["model"]
    other = {name: weight * 3 for name, weight in saved.items()}
    torch.save(other, work / "other.pt")
    parts = [(0.75, work / "checkpoint.pt"), (0.25, work / "other.pt")]
    blend.blend(role, parts, [data], tmp_path / "blend", work, lambda line: None)
    report = json.loads((tmp_path / "blend" / "blend.json").read_text())
    fitted = {float(t): loss for t, loss in report["valid"]["fitted_on"].items()}
    assert report["temperature"] == min(fitted, key=fitted.get) in blend.TEMPERATURES
    card = by_name()[f"{role}-mini"]
    found = loader.read(card, tmp_path / "blend", "cpu", torch.float32, lambda p: None)[0]
    for name, weight in found.named_parameters():
        wanted = saved[name] * 1.5 / (report["temperature"] if name == "lm_head.weight" else 1)
        torch.testing.assert_close(weight, wanted, atol=1e-3, rtol=2e-3)
    with pytest.raises(ValueError, match=r"sum to 1\.25"):
        blend.average([(1.0, work / "checkpoint.pt"), (0.25, work / "other.pt")])

"""Training: vocabularies in the published layouts, samples, and a killed run that ends as an uninterrupted one."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch

from bianque.catalog import prompts
from bianque.catalog.builtin import by_name
from bianque.checkpoints import loader
from bianque.checkpoints.hub import BUNDLED
from bianque.consult.questions import asks
from bianque.data.compose import Composer
from bianque.data.dialogues import Record, Turn
from bianque.models.tokenizers import ChatGLMTokenizer, T5Tokenizer
from bianque.train import mini, samples, vocabulary
from bianque.types import Message

PARTS = ("头", "肚子", "膝盖", "后背", "嗓子", "牙", "胃", "手腕")
PLAN = mini.MiniPlan(
    steps=8, batch_tokens=320, warmup=2, prompt_tokens=120, reply_tokens=60, width=64, layers=1, save_minutes=0, examined=12,
    language=0.2, mixed=0.5, turns=2,
)  # fmt: skip
TURNS = (
    ("patient", "我的{}疼，已经三天了，晚上睡不好。"),
    ("doctor", "{}疼是一直疼还是一阵一阵的？"),
    ("patient", "一阵一阵的，活动以后更明显"),
    ("doctor", "建议先休息，少用{}，可以热敷，睡前别喝浓茶和咖啡，三天不好转就去医院看看，别自己硬扛着不管。"),
)


def records() -> list[Record]:
    return [
        Record(id=f"r{i}", source="dialmed", turns=[Turn(role=role, text=text.format(part)) for role, text in TURNS])
        for i, part in enumerate(PARTS)
    ]


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
    return ["\n".join(samples.LABEL[t.role] + t.text for t in record.turns) for record in records()] * 3


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


@pytest.fixture(params=["ask", "advise"])
def role(request):
    return request.param


@pytest.fixture
def subject(role):
    return mini.SUBJECTS[role](BUNDLED / f"{role}-mini", PLAN)


def test_a_prompt_has_the_ids_that_the_served_model_is_given(role, subject):
    """Lines are encoded one by one: that must be what encoding the whole prompt gives."""
    form = replace(subject.form, prompt_tokens=448)
    written = prompts.bianque_1 if role == "ask" else prompts.bianque_2
    composer, rng, compared = Composer(), random.Random(0), 0
    for _ in range(40):
        lines = [(turn.role, turn.text) for turn in composer(rng).turns]
        for i in range(1, len(lines), 2):
            said = [Message("user" if who == "patient" else "assistant", text) for who, text in lines[:i]]
            ids = form.tokenizer.prompt(written(said))
            if len(ids) <= 440:
                assert form.prompt(lines[:i]) == ids
                compared += 1
    assert compared > 200


def test_a_long_history_keeps_its_first_and_last_turns(subject):
    lines = [("patient" if i % 2 == 0 else "doctor", f"第{i}句话，说得很长很长很长很长") for i in range(41)]
    ids = subject.form.prompt(lines)
    text = subject.form.tokenizer.decode(ids)
    assert len(ids) <= PLAN.prompt_tokens and "第0句" in text and "第40句" in text and "第3句" not in text


def test_real_turns_of_a_role_hold_the_role_alone(role, subject):
    drawn = [s for r in records() for s in samples.turns(r, subject.form, role, random.Random(0))]
    assert len(drawn) == len(PARTS)
    for sample in drawn:
        assert asks(subject.form.tokenizer.decode(sample.reply)) == (role == "ask")
        assert subject.form.tokenizer.decode(sample.prompt).endswith("医生：")


def test_empty_questions_and_masked_drugs_teach_nothing():
    assert not samples.fits("还有其他症状吗？", "ask") and not samples.fits("还有什么不舒服？", "ask")
    assert samples.fits("疼是一直疼还是一阵一阵的？", "ask")
    assert not samples.fits(
        "可以吃[MASK]，一天三次，注意休息，多喝水，饮食清淡一些，三天以后不见好转再去医院看。", "advise"
    )


def test_language_samples_go_on_to_the_end(subject):
    for record in records():
        (sample,) = samples.language(record, replace(subject.form, reply_tokens=320), random.Random(0))
        assert subject.form.tokenizer.decode(sample.reply)[-6:] in record.turns[-1].text


def test_batches_keep_every_sample_and_the_limit(subject):
    drawn = [s for r in records() for s in samples.turns(r, subject.form, "ask", random.Random(0))] * 3
    groups = samples.batches(drawn, 600, random.Random(1), subject.shape)
    assert sorted(map(id, (s for group in groups for s in group))) == sorted(map(id, drawn))
    for group in groups:
        sizes = [max(map(samples.padded, column)) for column in zip(*map(subject.shape, group), strict=True)]
        assert len(group) == 1 or sum(sizes) * len(group) <= 600


def test_a_batch_teaches_the_reply_and_its_end_alone(role, subject):
    rows = [s for r in records() for s in samples.turns(r, subject.form, role, random.Random(0))]
    batch = subject.batch(rows)
    assert batch["wanted"].tolist() == [i for row in rows for i in row.reply]
    with torch.no_grad():
        logits = subject.logits(**{name: part for name, part in batch.items() if name != "wanted"})
    assert logits.shape == (len(batch["wanted"]), subject.config.vocab_size)


def test_broken_dialogues_are_counted_and_left_out(tmp_path):
    path = write(tmp_path / "d.jsonl", records())
    path.write_text(path.read_text(encoding="utf-8") + '\n{"id": "x"}\nnonsense', encoding="utf-8")
    said: list[str] = []
    assert len(mini.load([path], said.append)) == len(PARTS)
    assert said == ["d.jsonl: 8 dialogues, 2 unreadable ones left out"]


def test_complaints_are_taken_from_real_openings():
    assert samples.complaints(records())[:2] == ["已经三天了", "我的后背疼"]
    assert samples.complaints([]) == []


class Killed(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_weights(role, tmp_path, monkeypatch):
    data = write(tmp_path / "d.jsonl", records())

    def run(name, say=lambda line: None):
        work = tmp_path / name
        work.mkdir(exist_ok=True)
        piece = mini.SUBJECTS[role].pieces
        shutil.copyfile(BUNDLED / f"{role}-mini" / piece, work / piece)
        mini.train(role, [data], work / "out", PLAN, work, say)

    saved, save = [], mini.save

    def die_after_five(*args):
        save(*args)
        saved.append(args)
        if len(saved) == 5:
            raise Killed

    run("whole")
    monkeypatch.setattr(mini, "save", die_after_five)
    with pytest.raises(Killed):
        run("killed")
    monkeypatch.setattr(mini, "save", save)
    said = []
    run("killed", said.append)
    assert "resumed behind step 5" in said
    one, other = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "killed"))
    assert one["state"]["step"] == other["state"]["step"] == PLAN.steps
    for name, weight in one["model"].items():
        torch.testing.assert_close(weight, other["model"][name], rtol=0, atol=0)
    card = by_name()[f"{role}-mini"]
    assert loader.load(card, {card.name: tmp_path / "whole" / "out"}, "cpu", torch.float32, lambda p: None)
    assert all(f.stat().st_size < 9_000_000 for f in (tmp_path / "whole" / "out").iterdir())


def test_the_rate_rises_stays_and_falls_to_nothing():
    plan = mini.MiniPlan(warmup=10)
    assert plan.rate_at(0, 0) == 0.1 and plan.rate_at(0.2, 50) == plan.rate_at(0.5, 500) == 1
    assert plan.rate_at(0.75, 900) == 0.5 and plan.rate_at(1, 1000) == 0

"""Fine-tuning: what is learned is a reply's tokens alone, a killed run ends as a whole one, and the result is used at once."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bianque.catalog import custom
from bianque.catalog.builtin import by_name, find
from bianque.checkpoints import loader, lora
from bianque.errors import BadInput, OutOfMemory, TrainingFailed
from bianque.train import examples, low_rank, memory, run, tune
from bianque.train.learners import learner_of, summed_loss
from bianque.train.plan import TunePlan
from bianque.train.run import Files, World
from bianque.train.samples import Sample
from tests import tiny

PARTS = ("头", "肚子", "膝盖", "后背", "嗓子", "牙", "胃", "手腕", "腰", "脚")
PLAN = TunePlan(epochs=3, batch=4, length=96, rate=3e-3, evaluations=1, samples=1, threads=1, patience=9)
MAKERS = {"bianque-1": tiny.bianque_1, "bianque-2": tiny.bianque_2, "disc-medllm": tiny.disc_medllm}
quiet = lambda *given: None


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in MAKERS}
    for name, make in MAKERS.items():
        make(folders[name])
    return folders


def rows(path: Path, parts=PARTS, reply="{}疼多久了？") -> Path:
    """As upstream's CSV."""
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, quoting=csv.QUOTE_ALL)
        writer.writerow(["input", "target", "answer_choice", "type"])
        for part in parts:
            writer.writerow([rf"病人：我的{part}疼，怎么办\n医生：", reply.format(part), "", "x"])
    return path


@pytest.fixture
def files(tmp_path) -> Files:
    data, valid = rows(tmp_path / "rows.csv", PARTS[:8]), rows(tmp_path / "valid.csv", PARTS[8:])
    return Files((data,), (valid,), tmp_path / "run")


def tuned(name: str, bases, files: Files, plan: TunePlan = PLAN, say=quiet):
    return tune.tune(tiny.card(name), plan, files, {name: bases[name]}, "mine", quiet, say)


def used(files: Files):
    """The result by its card, as BIANQUE_CARDS takes it up."""
    cards, folders = custom.read(files.out / "card.json")
    return loader.load(cards[-1], folders, "cpu", torch.float32, quiet)


def logits(model, name: str) -> torch.Tensor:
    """Of some prompt and reply, uncached."""
    learner = learner_of(model)
    vocabulary = model.config.vocab_size
    prompt = [7, 8, 9] if name != "bianque-2" else [7, 8, 9, model.config.gmask_token_id, model.config.bos_token_id]
    batch = learner.batch([Sample(prompt, [i % vocabulary for i in (11, 12, 13)])])
    batch.pop("wanted")
    with torch.no_grad():
        return learner.logits(**batch)


# --- the result -----------------------------------------------------------------------------------------------------


def test_all_weights_of_a_t5(bases, files):
    said: list[str] = []
    state = tuned("bianque-1", bases, files, replace(PLAN, epochs=6), said.append)
    losses = [row["valid"] for row in state.log]
    assert state.best["valid"] < 0.9 * losses[0] and state.log[0]["step"] == 0 and state.log[0]["train"] is None
    facts = json.loads((files.out / "card.json").read_text())
    assert facts == {"name": "mine", "like": "bianque-1", "path": "model"}  # three lines
    stored = load_file(files.out / "best.safetensors")
    found = used(files).model.state_dict()
    assert torch.equal(found["shared.weight"], stored["shared.weight"])
    assert "\n".join(said).count("BIANQUE_CARDS=") == 2 and "tokens/s" in "\n".join(said)
    card = (files.out / "model/README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlanguage: zh\nlicense: apache-2.0\n") and "base_model: scutcyr/BianQue-1.0" in card
    assert "not a medical device" in card and "rows.csv" in card and f"**{state.best['valid']}**" in card
    assert "微调后 after" in card and state.samples[0]["after"] is not None
    assert (files.out / "model/loss.svg").read_text(encoding="utf-8").count("<polyline") == 2
    log = [json.loads(line) for line in (files.out / "log.jsonl").read_text().splitlines()]
    assert log == state.log


@pytest.mark.parametrize("name, bits, which", [("bianque-2", 4, "all"), ("disc-medllm", 8, "attention")])
def test_a_lora_over_quantised_weights(name, bits, which, bases, files):
    plan = replace(PLAN, bits=bits, targets=which, rate=2e-2, epochs=4)
    state = tuned(name, bases, files, plan)
    assert state.best["valid"] < 0.97 * state.log[0]["valid"]
    adapter = lora.read(files.out / "adapter", "x")
    names = low_rank.targets(loader.skeleton(tiny.card(name), bases[name])[0], r".*\.(query_key_value|W_pack)", which)
    assert sorted(adapter.deltas) == sorted(f"{module}.weight" for module in names)
    changed = logits(used(files).model, name)
    base = loader.read(tiny.card(name), bases[name], "cpu", torch.float32, quiet)[0]
    assert (changed - logits(base, name)).abs().max() > 1e-3
    assert json.loads((files.out / "card.json").read_text())["adapter_path"] == "adapter"


def test_a_lora_by_peft_merges_to_the_same_model(bases, files):
    """Over 32-bit weights: adapter beside the weights, merged by us, and read by peft: one and the same model."""
    peft = pytest.importorskip("peft")
    plan = replace(PLAN, targets="all", dropout=0.1, rate=1e-2, precision="fp32", epochs=2)
    tuned("bianque-2", bases, files, plan)
    card, merged = tiny.card("bianque-2"), logits(used(files).model, "bianque-2")
    beside = loader.read(card, bases["bianque-2"], "cpu", torch.float32, quiet, training=True)[0]
    base = logits(beside, "bianque-2")
    config = peft.LoraConfig.from_pretrained(files.out / "adapter")
    peft.inject_adapter_in_model(config, beside)
    told = peft.set_peft_model_state_dict(beside, load_file(files.out / "adapter/adapter_model.safetensors"))
    assert not told.unexpected_keys
    torch.testing.assert_close(logits(beside.eval(), "bianque-2"), merged, atol=1e-4, rtol=0)
    assert (merged - base).abs().max() > 1e-2


def test_what_is_no_better_is_not_kept(bases, files):
    said: list[str] = []
    state = tuned("bianque-1", bases, files, replace(PLAN, rate=3.0, patience=2), said.append)
    assert state.best["step"] == 0 and "no better than the original" in said[-1]
    assert not (files.out / "model").exists() and not (files.out / "card.json").exists()
    assert len(state.log) == 3 and any("stopped early" in line for line in said)


# --- killed, and gone on with ---------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def test_a_killed_run_ends_with_the_same_bits(bases, files, monkeypatch):
    """With dropout, and in the middle of an epoch; all weights of a T5 are killed in earnest below."""
    plan = replace(PLAN, bits=8, dropout=0.2, accumulate=2, batch=2, save_minutes=0, checkpointing=True)
    tuned("bianque-2", bases, files, plan)
    other = replace(files, out=files.out.with_name("killed"))
    written, whole = [], run.whole

    def die(path, write):
        whole(path, write)
        written.append(path)
        if path.name == "00000003.pt" and sum(p.name == path.name for p in written) == 1:
            raise Killed

    monkeypatch.setattr(run, "whole", die)
    with pytest.raises(Killed):
        tuned("bianque-2", bases, other, plan)
    said: list[str] = []
    state = tuned("bianque-2", bases, other, plan, said.append)
    assert any("resumed behind step 3" in line for line in said) and state.step == 6
    same(files.out, other.out)


def same(one: Path, other: Path) -> None:
    a, b = (torch.load(folder / "checkpoints/00000006.pt", weights_only=True) for folder in (one, other))
    assert all(torch.equal(a["weights"][key], b["weights"][key]) for key in a["weights"]) and len(a["weights"]) > 3
    assert (one / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()


@pytest.mark.process
@pytest.mark.slow
def test_kill_9(bases, files):
    plan = replace(PLAN, accumulate=1, save_minutes=0)
    tuned("bianque-1", bases, files, plan)
    other = replace(files, out=files.out.with_name("killed"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if not child:
        try:
            tuned("bianque-1", bases, other, plan)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 240
    while not list(other.out.glob("checkpoints/0000000[1-9].pt")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (-signal.SIGKILL, 1)  # 1: it was done already
    tuned("bianque-1", bases, other, plan)
    same(files.out, other.out)


def test_a_folder_that_cannot_be_written_is_told(bases, files, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match=r"--out .*choose another"):
        tuned("bianque-1", bases, replace(files, out=tmp_path / "file" / "run"))


def test_a_folder_of_another_run_is_refused_with_what_differs(bases, files):
    tuned("bianque-1", bases, files, replace(PLAN, epochs=1))
    with pytest.raises(BadInput, match=r"rate=0\.003 → 0\.001"):
        tuned("bianque-1", bases, files, replace(PLAN, epochs=1, rate=1e-3))
    rows(files.data[0], PARTS[:7])
    with pytest.raises(BadInput, match="digest="):
        tuned("bianque-1", bases, files, replace(PLAN, epochs=1))


@pytest.mark.parametrize(
    "batches, count, sizes", [(2, 1, [4, 4]), (2, 2, [4, 4]), (1, 2, [2, 2]), (2, 3, [2, 2, 2, 2])]
)
def test_every_process_has_rows_of_a_step(batches, count, sizes):
    given = [[f"{batch}{row}" for row in range(4)] for batch in range(batches)]
    found = tune.shared(given, count)
    assert [len(part) for part in found] == sizes and sorted(chain(*found)) == [*chain(*given)]


@pytest.mark.parametrize("accumulate", [2, 1])
def test_several_processes_make_the_step_of_one(accumulate, bases, files, monkeypatch):
    """Two that share each step's batches, in two threads, end where one alone does."""
    plan = replace(PLAN, epochs=1, batch=2, accumulate=accumulate, precision="fp32")
    alone = tuned("bianque-1", bases, files, plan)
    gate, parts, failed, ends = threading.Barrier(2), [None, None], [], []

    class Half(World):
        def __init__(self):
            super().__init__()
            self.size, self.rank = 2, int(threading.current_thread().name)

        def summed(self, x):
            parts[self.rank] = x
            gate.wait()
            total = parts[0] + parts[1]
            gate.wait()
            return total

        def wait(self):
            gate.wait()

    monkeypatch.setattr(tune, "World", Half)
    shared = replace(files, out=files.out.with_name("shared"))

    def work():
        try:
            ends.append(tuned("bianque-1", bases, shared, plan))
        except BaseException as error:
            failed.append(error)
            gate.abort()

    threads = [threading.Thread(target=work, name=str(rank)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for end in ends:
        assert [row["valid"] for row in end.log] == pytest.approx([row["valid"] for row in alone.log], abs=2e-3)
    one, two = (load_file(folder / "best.safetensors") for folder in (files.out, shared.out))
    for key, weight in one.items() if accumulate == 2 else ():  # parts of a batch round otherwise than the whole
        torch.testing.assert_close(two[key], weight, atol=2e-5, rtol=1e-4)


# --- rows -----------------------------------------------------------------------------------------------------------


def writer(name: str, bases, length=96) -> examples.PromptWriter:
    card = tiny.card(name)
    model, tokenizer = loader.skeleton(card, bases[name])
    return examples.PromptWriter(card, tokenizer, learner_of(model).escape, length)


def test_a_bad_row_is_named_and_left_out(bases, tmp_path):
    path = rows(tmp_path / "rows.csv", PARTS[:3])
    path.write_text(path.read_text(encoding="utf-8") + '"没有标签","好的","",""\n', encoding="utf-8")
    said, w = [], writer("bianque-1", bases)
    found = examples.read([path], w, said.append)
    assert len(found) == 3 and w.counts.bad == 1
    assert len(said) == 1 and "rows.csv: 第 5 行" in said[0]
    path.write_text('"input","target"\n"没有标签","好"\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"rows\.csv.*1 行有误"):
        examples.read([path], writer("bianque-1", bases), said.append)


@pytest.mark.parametrize("name", MAKERS)
def test_both_spellings_of_a_line_break_are_one(name, bases, tmp_path):
    texts = [r"病人：头疼\n三天了\n医生：", "病人：头疼\n三天了\n医生："]
    w = writer(name, bases)
    for place, text in enumerate(texts):
        path = tmp_path / f"{place}.csv"
        with path.open("w", encoding="utf-8", newline="") as opened:
            csv.writer(opened, quoting=csv.QUOTE_ALL).writerows(
                [["input", "target"], [text, r"先休息\n多喝水" if place else "先休息\n多喝水"]]
            )
    one, two = (examples.read([tmp_path / f"{place}.csv"], w, quiet) for place in (0, 1))
    assert one[0].sample == two[0].sample
    assert w.tokenizer.decode(one[0].sample.reply).replace("\\n", "\n") == "先休息\n多喝水"
    assert one[0].sample.reply[-1] == w.tokenizer.eos


def test_every_doctors_turn_of_a_dialogue_is_learned_and_a_history_goes_by_rounds(bases, tmp_path):
    turns = [{"role": role, "text": f"{word}头疼三天了"} for word in "一二三四" for role in ("patient", "doctor")]
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"id": "a", "source": "s", "turns": turns}, ensure_ascii=False), encoding="utf-8")
    found = examples.read([path], writer("bianque-2", bases), quiet)
    assert [example.reply[0] for example in found] == list("一二三四") and found[2].place == "d.jsonl: a, 3"
    w = writer("bianque-2", bases, length=70)
    short = examples.read([path], w, quiet)
    assert w.counts.shortened and all(e.sample.length <= 70 for e in short)
    markers = w.tokenizer.prompt("")
    assert all(e.sample.prompt[-len(markers) :] == markers for e in short)


def test_what_is_held_out_is_whole_dialogues_and_the_same_each_time(bases, tmp_path):
    found = examples.read(
        [rows(tmp_path / "r.csv", [f"{a}{b}" for a in PARTS for b in PARTS])], writer("bianque-1", bases), quiet
    )
    train, valid = examples.held_out(found)
    assert len(valid) == 5 and len(train) == 95 and examples.held_out(found) == (train, valid)
    with pytest.raises(BadInput, match="--valid"):
        examples.held_out(found[:1])


def test_rows_of_one_dialogue_are_held_out_together(bases, tmp_path):
    """BianQue's files have a row for each of the doctor's turns, each with all that was said before."""
    path = tmp_path / "r.csv"
    with path.open("w", encoding="utf-8", newline="") as opened:
        writes = csv.writer(opened, quoting=csv.QUOTE_ALL)
        writes.writerow(["input", "target"])
        for part in PARTS:
            begun = rf"病人：我的{part}疼\n医生："
            writes.writerows([[begun, "几天了？"], [rf"{begun}几天了？\n病人：三天\n医生：", "先休息。"]])
    w = writer("bianque-1", bases)
    train, valid = examples.held_out(examples.read([path], w, quiet))
    assert w.counts.dialogues == len(PARTS) and (len(train), len(valid)) == (18, 2)
    assert valid[0].dialogue[0] == valid[1].dialogue[0] and not examples.repeated(train, valid)
    assert examples.repeated(train, train[:3]) == 3


def test_what_a_corpus_can_be_made_of_can_be_learned(bases, tmp_path):
    """A folder with cMedQA2's two files, a pickle of MedDG, and a list of no known kind that costs nothing else."""
    (tmp_path / "questions.csv").write_text("question_id,content\n1,我的头疼怎么办\n", encoding="utf-8")
    (tmp_path / "answers.csv").write_text("ans_id,question_id,content\n7,1,先休息。\n", encoding="utf-8")
    turns = [{"id": "dis", "sentence": "我咳嗽"}, {"id": "doc", "sentence": "几天了？"}]
    (tmp_path / "train.pk").write_bytes(pickle.dumps([turns]))
    (tmp_path / "z.json").write_text('[{"nothing": 1}]', encoding="utf-8")
    said, w = [], writer("bianque-1", bases)
    found = examples.read([tmp_path], w, said.append)
    assert [e.reply for e in found] == ["先休息。", "几天了？"] and w.counts.bad == len(said) == 1


def test_a_loss_that_is_no_number_stops_with_its_row(bases, files, tmp_path):
    """A token that stands in one row alone has a broken embedding."""
    spoilt = tmp_path / "base"
    spoilt.mkdir()
    model = tiny.bianque_1(spoilt)
    text = rows(files.data[0], (*PARTS[:5], "皮肤", *PARTS[5:8]))
    found = examples.read([text], writer("bianque-1", {"bianque-1": spoilt}), quiet)
    others = {i for e in found if "皮肤" not in e.reply for i in e.sample.prompt + e.sample.reply}
    alone = next(i for e in found if "皮肤" in e.reply for i in e.sample.prompt if i not in others)
    with torch.no_grad():
        model.shared.weight[alone] = math.nan
    torch.save(tiny.stored(model), spoilt / "pytorch_model.bin")
    with pytest.raises(TrainingFailed) as failure:
        tuned("bianque-1", {"bianque-1": spoilt}, files)
    told = str(failure.value)
    assert "rows.csv: 7, 1" in told and told.count("rows.csv") == 1 and "--rate" in told


# --- gradients and memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_keeping_less_gives_the_same_gradients(name, bases):
    card, found = tiny.card(name), []
    for saving in (False, True):
        model, tokenizer = loader.read(card, bases[name], "cpu", torch.float32, quiet, training=True)
        model.requires_grad_(True)
        learner = learner_of(model)
        if saving:
            learner.save_memory()
        batch = learner.batch([Sample(tokenizer.prompt("病人：头疼"), [9, 10, tokenizer.eos])] * 2)
        summed_loss(learner, batch, "cpu", False).backward()
        found.append({key: weight.grad for key, weight in model.named_parameters()})
    for key, gradient in found[0].items():
        assert gradient is not None and torch.equal(gradient, found[1][key]), key


@pytest.mark.parametrize("bits, least", [(8, 0.99), (4, 0.9)])
def test_factors_over_fewer_bits_have_nearly_the_gradients_of_float32(bits, least, bases):
    found = []
    for width in (bits, 16):
        model, tokenizer = loader.read(
            tiny.card("bianque-2"), bases["bianque-2"], "cpu", torch.float32, quiet, width, training=True
        )
        if width == 16:  # the same own layer, over plain linear ones
            model.requires_grad_(False)
        names = low_rank.targets(model, learner_of(model).attention, "all")
        torch.manual_seed(0)
        for name in names:
            layer, (parent, _, child) = model.get_submodule(name), name.rpartition(".")
            out, inner = low_rank.shape(layer)
            made = low_rank.LowRank(layer, inner, out, 4, 8, 0.0)
            torch.nn.init.normal_(made.lora_B["default"].weight, std=0.1)
            setattr(model.get_submodule(parent), child, made)
        learner = learner_of(model)
        batch = learner.batch([Sample(tokenizer.prompt("病人：头疼"), [9, 10, 11, tokenizer.eos])])
        summed_loss(learner, batch, "cpu", False).backward()
        found.append(torch.cat([weight.grad.flatten() for weight in low_rank.factors(model).values()]))
    assert torch.cosine_similarity(*found, 0) > least


@pytest.mark.parametrize(
    "name, lora, bits", [("bianque-1", 0, 16), ("bianque-2", 8, 16), ("bianque-2", 8, 8), ("disc-medllm", 0, 16)]
)
def test_the_estimate_is_what_a_batch_keeps(name, lora, bits, bases):
    card, plan = tiny.card(name), replace(PLAN, lora=lora, bits=bits, targets="all")
    model, tokenizer = loader.read(card, bases[name], "cpu", torch.float32, quiet, bits, training=True)
    sample = Sample([*[7, 8] * 20, *tokenizer.prompt("")], [9] * 20)
    need = memory.estimate(lambda bits: loader.skeleton(card, bases[name], bits)[0], sample, plan, torch.float32)
    if lora:
        names = low_rank.targets(model, "", "all")
        model.requires_grad_(False)
        for each in names:
            layer, (parent, _, child) = model.get_submodule(each), each.rpartition(".")
            out, inner = low_rank.shape(layer)
            setattr(model.get_submodule(parent), child, low_rank.LowRank(layer, inner, out, lora, 1, 0.0))
    else:
        model.requires_grad_(True)
    own, kept = {w.untyped_storage()._cdata for w in model.parameters()}, {}

    def keep(x):
        if (storage := x.untyped_storage())._cdata not in own:
            kept[storage._cdata] = storage
        return x

    learner = learner_of(model)
    batch = learner.batch([sample] * plan.batch)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        summed_loss(learner, batch, "cpu", False)
    logits = 4 * memory.LOGITS * len(batch["wanted"]) * model.config.vocab_size
    measured = sum(storage.nbytes() for storage in kept.values()) + logits
    assert 0.8 < need.batch / measured < 1.5
    assert need.trained == 16 * sum(w.numel() for w in model.parameters() if w.requires_grad)


def test_too_little_memory_is_told_before_anything_is_loaded(bases, files, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1_000_000)
    monkeypatch.setattr(loader, "read", None)
    with pytest.raises(OutOfMemory) as failure:
        tuned("bianque-2", bases, files, replace(PLAN, lora=0, length=768))
    told = str(failure.value)
    for option in ("--lora 8", "--checkpointing", "--batch 1 --accumulate 4", "--length 256", "--bits 8", "--bits 4"):
        assert option in told
    assert not list(files.out.glob("checkpoints/*"))


def test_checkpointing_needs_less(bases):
    card, sample = tiny.card("bianque-1"), Sample([7] * 200, [8] * 100)
    skeleton = lambda bits: loader.skeleton(card, bases["bianque-1"], bits)[0]
    plain, saving = (
        memory.estimate(skeleton, sample, replace(PLAN, lora=0, length=300, checkpointing=on), torch.float32).batch
        for on in (False, True)
    )
    assert saving < 0.8 * plain


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, changes, told",
    [
        ("bianque-1", {"bits": 8}, "--lora 8"),
        ("chatglm-6b-int4", {}, "--bits 4"),
        ("bianque-2@8", {"lora": 0}, "--lora 8"),
        ("medicalgpt-zh", {}, "convert medicalgpt-zh out --merge lora.p"),
    ],
)
def test_what_cannot_be_tuned_says_what_can(name, changes, told, bases, files):
    with pytest.raises(BadInput, match=told):
        tune.tune(find(by_name(), name), replace(PLAN, **changes), files, {}, "mine", quiet, quiet)


@pytest.mark.parametrize(
    "changes", [{"batch": 0}, {"bits": 5}, {"precision": "fp16"}, {"rate": -1.0}, {"targets": "some"}]
)
def test_a_plan_that_means_nothing_is_refused_by_name(changes):
    with pytest.raises(BadInput, match=next(iter(changes))):
        replace(PLAN, **changes)


def test_a_full_disk_is_told(tmp_path):
    def write(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingFailed, match=r"No space left.*same command"):
        run.whole(tmp_path / "a.pt", write)
    assert not list(tmp_path.iterdir())


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BadInput, match="pip install peft accelerate"):
        low_rank.need("peft")


# --- further -----------------------------------------------------------------------------------------------------


def test_a_prefix_is_not_trained_with_all_weights(tmp_path, files):
    """It is read as what it projects to, and would not be written back as it was."""
    model = tiny.bianque_2(tmp_path)
    tuned_model = type(model)(replace(model.config, pre_seq_len=4))
    (tmp_path / "config.json").write_text(json.dumps(tiny.chatglm_config(tuned_model)))
    tiny.write_bin(tmp_path, tiny.stored(tiny.fill(tuned_model)), 3)
    with pytest.raises(BadInput, match="--lora 8"):
        tuned("bianque-2", {"bianque-2": tmp_path}, files, replace(PLAN, lora=0))


def test_threads_are_timed_once(bases, files, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        tuned("bianque-1", bases, files, replace(PLAN, threads=0, epochs=1))
        saved = torch.load(sorted(files.out.glob("checkpoints/*.pt"))[-1], weights_only=True)
        assert saved["threads"] == torch.get_num_threads() in (1, 2)
    finally:
        torch.set_num_threads(before)

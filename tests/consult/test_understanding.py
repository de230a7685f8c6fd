"""What is learnt from labelled sentences: the bundled heads, and that one more sentence counts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bianque.consult import features, learning, triage, understanding
from bianque.errors import BadInput


def test_the_bundled_heads_were_trained_from_the_bundled_sentences():
    with np.load(learning.FOLDER / "heads.npz", allow_pickle=False) as stored:
        settings = json.loads(bytes(stored["settings"]).decode())
    assert settings["sentences"] == learning.digest(), "run python -m bianque train-understanding"


def test_every_sentence_is_labelled_once():
    seen: dict[str, str] = {}
    for path in sorted((learning.FOLDER / "triage").glob("*.jsonl")):
        for row in learning.lines(path, learning.TRIAGE.labels):
            assert seen.setdefault(row["text"], row["label"]) == row["label"], row["text"]
    assert len(seen) > 4000


def test_held_back_sentences_are_not_learnt():
    learnt = {example.text for example in (*learning.triage_examples(), *learning.intent_examples())}
    for path in (learning.FOLDER / "held_back").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = triage.together(row["say"]) if "say" in row else row.get("text", "")
            assert (text or "turns" in row) and (len(text) < 12 or text not in learnt)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A small part of the sentences."""
    folder = tmp_path_factory.mktemp("sentences")
    for part in ("triage", "intents"):
        (folder / part).mkdir()
        for path in (learning.FOLDER / part).glob("*.jsonl"):
            lines = path.read_text(encoding="utf-8").splitlines()[:: 24 if part == "triage" else 12]
            (folder / part / path.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_one_more_sentence_changes_the_verdict_on_its_like(few):
    like = "铁钉扎脚以后，牙关咬得紧紧的张不开嘴，脖子往后挺"
    before = understanding.danger(like, understanding.read(learning.train(few, few / "before.npz")))
    row = {
        "text": "扎了锈钉子一周，牙关咬紧张不开嘴，脖子往后挺",
        "label": "emergency",
        "kind": "tetanus",
        "lang": "zh",
    }
    (few / "triage" / "mine.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    after = understanding.danger(like, understanding.read(learning.train(few, few / "after.npz")))
    assert after.score > before.score + 0.3 and after.level == "emergency" and before.level is None
    assert after.nearest[0].text == row["text"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "not JSON"),
        ('{"text": ""}', "write a sentence"),
        ('{"text": "a", "label": "bad"}', "choose one of none, emergency, crisis"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, named):
    (tmp_path / "triage").mkdir()
    (tmp_path / "triage" / "x.jsonl").write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=f"x.jsonl:2: .*{named}"):
        learning.triage_examples(tmp_path)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("我 想 死", "我想死"), ("想\u200b死", "想死"), ("頭暈，胸悶", "头晕,胸闷"), ("ＡＢＣ", "ABC"), ("啊啊啊啊啊啊", "啊啊啊"), ("轻 生", "轻生"),
        ("\ud800疼", "�疼"),
    ],
)  # fmt: skip
def test_a_text_is_cleaned(text, clean):
    assert features.clean(text) == clean


def test_the_windows_of_a_long_text_hold_all_of_it_and_a_short_one_has_none():
    text = "昨天去爬山，回来以后膝盖有点疼，" * 9
    parts = features.pieces(features.clean(text))
    assert len(parts) >= 1 and all(features.width(part) <= features.PIECE + 20 for part in parts)
    clauses = "第一句话在这里，第二句话也在，第三句说头疼，第四句没什么，第五句结束了，第六句再见，第七句就这样吧，第八句真的完了，还要再说一点点才够长，"
    joined = "".join(features.pieces(features.clean(clauses)))
    assert all(f"第{n}句" in joined for n in "一二三四五六七八")
    assert features.pieces("头疼，三天了") == []


def test_an_intent_depends_on_its_place():
    best = lambda *place: next(iter(understanding.intent(*place)))
    assert best("有点恶心", "胃疼", "有没有恶心、反酸？", "asking") == "answer"
    assert best("吃了药有点恶心", "胃疼", "可以吃点胃药，少辣。", "advising") == "follow"
    assert best("胃疼") == "opening" and best("你好") == "chat"


def test_like_questions_are_near():
    near = understanding.likeness(["疼多久了？"], ["疼了几天了？", "大便怎么样？"])[0]
    assert near[0] > near[1]

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from sacrebleu.metrics.bleu import BLEU

from bianque.errors import BadInput
from bianque.evaluate import metrics
from bianque.evaluate.metrics import tokens

SHORT = st.text("头痛发热，。 CT3.5\n", max_size=30)


class Tokens:
    """What `rouge-score` calls a tokenizer."""

    def tokenize(self, text):
        return tokens(text)


OTHERS = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Tokens())


def theirs(reply, reference):
    scores = OTHERS.score(reference, reply)
    return [scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")]


def ours(reply, reference):
    found = metrics.rouge(reply, reference)
    return [found.one, found.two, found.longest]


@given(SHORT, SHORT)
def test_rouge_is_that_of_rouge_score(reply, reference):
    assert ours(reply, reference) == pytest.approx(theirs(reply, reference), abs=1e-6)


def test_rouge_of_long_texts_is_that_of_rouge_score():
    rng = random.Random(3)
    for _ in range(5):
        reply, reference = ("".join(rng.choices("的头痛热水药医，。", k=rng.randrange(200, 400))) for _ in range(2))
        assert ours(reply, reference) == pytest.approx(theirs(reply, reference), abs=1e-6)


@pytest.mark.parametrize(
    ("reply", "reference", "one", "two", "longest"),
    [
        ("多喝水", "多喝水", 1, 1, 1),
        ("水喝多", "多喝水", 1, 0, 1 / 3),
        ("多喝水多喝", "多喝", 4 / 7, 2 / 5, 4 / 7),  # a token counts as often as both have it
        ("CT38.5", "CT 38.5", 1, 1, 1),
        ("", "多喝水", 0, 0, 0),
        ("多喝水", "", 0, 0, 0),
        ("多", "多", 1, 0, 1),
    ],
)
def test_rouge_by_hand(reply, reference, one, two, longest):
    assert ours(reply, reference) == pytest.approx([one, two, longest])


@given(SHORT, SHORT)
def test_rouge_is_symmetric_and_a_share(reply, reference):
    assert ours(reply, reference) == ours(reference, reply)
    assert all(0 <= value <= 1 for value in ours(reply, reference))


def test_bleu_by_hand():
    """5 tokens said, 6 in the reference; 4 unigrams and 2 bigrams shared; brevity exp(1 - 6/5)."""
    found = metrics.bleu(["建议多饮水"], ["建议您多喝水"])
    brevity = 2.718281828459045 ** (1 - 6 / 5)
    assert found.scores[0] == pytest.approx(100 * brevity * 4 / 5)
    assert found.scores[1] == pytest.approx(100 * brevity * (4 / 5 * 1 / 4) ** 0.5)


def test_bleu_pools_the_corpus_and_is_no_mean_of_sentences():
    pairs = [("多喝水", "多喝水"), ("注意休息按时服药", "请去医院复查一下")]
    whole = metrics.bleu(*zip(*pairs, strict=True)).scores[0]
    assert whole == pytest.approx(100 * 3 / 11)
    assert whole != pytest.approx(sum(metrics.bleu([a], [b]).scores[0] for a, b in pairs) / 2)


@given(st.lists(st.tuples(SHORT, SHORT), min_size=1, max_size=4))
def test_bleu_is_that_of_a_scorer_of_its_own_order(pairs):
    replies, references = map(list, zip(*pairs, strict=True))
    scorers = [BLEU(tokenize="zh", max_ngram_order=n) for n in (1, 2, 3, 4)]
    expected = [scorer.corpus_score(replies, [references]).score for scorer in scorers]
    assert metrics.bleu(replies, references).scores == pytest.approx(expected)


def test_bleu_names_its_tokenizer_and_version():
    same = metrics.bleu(["建议多喝水休息"], ["建议多喝水休息"])
    assert same.scores == pytest.approx((100, 100, 100, 100))
    assert re.fullmatch(r"nrefs:1\|case:mixed\|eff:no\|tok:zh\|smooth:exp\|version:[\d.]+", same.signature)


def test_bleu_of_silence_is_zero():
    assert metrics.bleu(["", ""], ["多喝水", "休息"]).scores == (0, 0, 0, 0)


@pytest.mark.parametrize(("replies", "references"), [([], []), (["水"], [])])
def test_bleu_needs_pairs(replies, references):
    with pytest.raises(BadInput, match="at least one pair"):
        metrics.bleu(replies, references)

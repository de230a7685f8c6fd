"""The n-gram model is held against the textbook's recursion, written here with plain dictionaries."""

import math
from collections import Counter

import numpy as np
import pytest

from bianque.errors import BadInput
from bianque.evaluate.metrics import perplexity
from bianque.train.baselines import BM25, NGram

TEXTS = [
    "您好，请问头痛多久了？",
    "您好，请问发热多久了？有没有咳嗽？",
    "建议多喝水，注意休息。",
    "建议多休息，注意饮食。",
    "建议多喝水，清淡饮食，注意休息，不要熬夜。",
    "好",
    "",
]
UNSEEN = ["您好，请问咳嗽多久了？", "建议不要饮食。", "囧", "", "好好好", "请问X光？"]


def reference(texts, order):
    """p(symbol | context) by the definition: Chen and Goodman 1999, with counts of left neighbours below the top."""
    lines = [("<", *text, ">") for text in texts]
    raw = [Counter(line[i : i + n] for line in lines for i in range(len(line) - n + 1)) for n in range(1, order + 1)]
    levels = []
    for n, counts in enumerate(raw):
        preceded = Counter(gram[1:] for gram in raw[n + 1]) if n + 1 < order else {}
        levels.append({g: preceded.get(g, 0) or c for g, c in counts.items() if g[-1] != "<"})
    outcomes = len({character for text in texts for character in text}) + 2

    def discount(level, count):
        n = [0, *(sum(c == k for c in level.values()) for k in range(1, 5))]
        if all(n[1:]):
            ds = [k - (k + 1) * n[1] / (n[1] + 2 * n[2]) * n[k + 1] / n[k] for k in (1, 2, 3)]
            if all(0 < d <= k for k, d in enumerate(ds, 1)):
                return ds[min(count, 3) - 1]
        return (0.5, 1.0, 1.5)[min(count, 3) - 1]

    def p(symbol, context):
        shorter = p(symbol, context[1:]) if context else 1 / outcomes
        level = levels[len(context)]
        after = {g: c for g, c in level.items() if g[:-1] == context}
        if not after:
            return shorter
        total = sum(after.values())
        gain = (
            after[(*context, symbol)] - discount(level, after[(*context, symbol)]) if (*context, symbol) in after else 0
        )
        return (gain + sum(discount(level, c) for c in after.values()) * shorter) / total

    def logprob(text):
        line = ("<", *text, ">")
        return sum(math.log(p(line[i], line[max(0, i - order + 1) : i])) for i in range(1, len(line)))

    return logprob


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS * 2, ["abracadabra", "abrakadabra", "cadabra"]], ids=range(3))
def test_logprob_is_the_definitions(order, texts):
    model, expected = NGram(order).fit(texts), reference(texts, order)
    for text in [*texts, *UNSEEN, "abrakad"]:
        assert model.logprob(text) == pytest.approx(expected(text), abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 5, 9])
@pytest.mark.parametrize("context", ["", "您", "您好，请问", "建议多喝水，注意", "囧", "好囧多", TEXTS[0]])
def test_probabilities_sum_to_one(order, context):
    p = NGram(order).fit(TEXTS).probabilities(context)
    assert p.sum() == pytest.approx(1)
    assert p.min() > 0
    assert p.size == len(set("".join(TEXTS))) + 2


@pytest.mark.parametrize("text", [TEXTS[1], *UNSEEN])
def test_logprob_is_the_sum_over_characters(text):
    model, known = NGram(4).fit(TEXTS), sorted(set("".join(TEXTS)))
    steps = [model.probabilities(text[:i])[known.index(c) if c in known else -1] for i, c in enumerate(text)]
    assert model.logprob(text) == pytest.approx(np.log([*steps, model.probabilities(text)[-2]]).sum())


@pytest.mark.parametrize("cut", range(0, 12, 3))
def test_context_continues_the_same_text(cut):
    model, text = NGram(5).fit(TEXTS), TEXTS[0]
    known, log = sorted(set("".join(TEXTS))), 0.0
    for i in range(cut):
        log += math.log(model.probabilities(text[:i])[known.index(text[i])])
    assert log + model.logprob(text[cut:], text[:cut]) == pytest.approx(model.logprob(text))


def test_longer_memory_is_better_on_structured_text():
    held = ["您好，请问咳嗽多久了？", "建议多喝水，清淡饮食。"]
    unigram, trigram = (NGram(n).fit(TEXTS) for n in (1, 3))
    assert perplexity(map(trigram.logprob, held), held) < perplexity(map(unigram.logprob, held), held) / 2


def test_seen_text_is_likelier_than_its_reverse():
    model = NGram(5).fit(TEXTS)
    assert model.logprob(TEXTS[2]) > model.logprob(TEXTS[2][::-1])


def test_samples_are_seeded_bounded_and_made_of_known_characters():
    model = NGram(3).fit(TEXTS)
    first, again = ([model.sample(g, 0.7, 12) for _ in range(30)] for g in map(np.random.default_rng, (7, 7)))
    assert first == again
    assert max(map(len, first)) <= 12
    assert set("".join(first)) <= set("".join(TEXTS))
    assert len(set(first)) > 1


def test_a_cold_sample_is_what_the_model_saw():
    assert NGram(5).fit(["请多喝水。"] * 9).sample(np.random.default_rng(0), 0.1) == "请多喝水。"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NGram(0), "order is 0"),
        (lambda: NGram().fit([]), "no text"),
        (lambda: NGram().fit(["a"]).sample(np.random.default_rng(0), 0.0), "temperature is 0"),
        (lambda: BM25(["a"], []), "1 contexts and 0 replies"),
        (lambda: BM25([], []), "0 contexts"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(BadInput, match=message):
        call()


CONTEXTS = ["我头痛三天了，有点恶心", "孩子发热咳嗽", "膝盖疼，上楼困难", "最近失眠，心情不好", "好"]


@pytest.mark.parametrize("place", range(4))
def test_the_exact_context_wins(place):
    replies = [f"答{i}" for i in range(len(CONTEXTS))]
    assert BM25(CONTEXTS, replies).reply(CONTEXTS[place]) == replies[place]


def test_a_similar_context_wins():
    index = BM25(CONTEXTS, [f"答{i}" for i in range(len(CONTEXTS))])
    assert index.reply("两岁的孩子夜里咳嗽") == "答1"


def test_scores_are_the_formula():
    """Bigrams: "ab ba ab" and "bc"; the query has ab twice."""
    index = BM25(["abab", "bc"], ["x", "y"], k1=1.5, b=0.75)
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    norm = 1.5 * (1 - 0.75 + 0.75 * 3 / 2)
    ab, ba = idf * 2 * 2.5 / (2 + norm), idf * 1 * 2.5 / (1 + norm)
    assert index.scores("abab") == pytest.approx([2 * ab + ba, 0.0])


def test_a_context_like_none_still_gets_a_reply():
    index = BM25(CONTEXTS, list("甲乙丙丁戊"))
    assert index.reply("zz") == index.reply("") == "甲"

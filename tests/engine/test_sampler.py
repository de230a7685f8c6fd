"""Drawing tokens: transformers' distributions, whoever else is in the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bianque.engine.sampler import Sampler, narrowed, picked
from bianque.types import Sampling

VOCAB, END = 12, 1
# Scores a multiple of 1/8 apart: near-ties that rounding could turn do not occur.
SCORES = st.lists(st.integers(-64, 64).map(lambda n: n / 8), min_size=VOCAB, max_size=VOCAB, unique=True)
SAID = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20)
WISHES = st.builds(
    Sampling,
    temperature=st.sampled_from([0, 0.1, 0.6, 0.95, 1.0, 1.7]),
    top_p=st.sampled_from([0.05, 0.31, 0.7, 0.93, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 7, VOCAB, 50]),
    repetition_penalty=st.sampled_from([1.0, 1.1, 1.5, 0.8]),
    no_repeat_ngram=st.integers(0, 4),
    min_new_tokens=st.integers(0, 2),
    max_new_tokens=st.just(4),
)
ROWS = st.lists(st.tuples(SCORES, SAID, WISHES), min_size=1, max_size=4)


def reference(scores: torch.Tensor, said, sampling: Sampling) -> torch.Tensor:
    """transformers' processors in the order in which `generate` runs them."""
    chain = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.no_repeat_ngram:
        chain.append(NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram))
    if sampling.min_new_tokens:
        chain.append(MinNewTokensLengthLogitsProcessor(len(said), sampling.min_new_tokens, END, device="cpu"))
    if sampling.temperature:
        chain.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            chain.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            chain.append(TopPLogitsWarper(sampling.top_p))
    return chain(torch.tensor([said]), scores[None])[0]


def joined(wishes, vocabulary: int = VOCAB, ends=(END,)) -> Sampler:
    sampler = Sampler(len(wishes), vocabulary, ends, "cpu")
    for slot, (sampling, said) in enumerate(wishes):
        sampler.admit(slot, sampling, said)
    return sampler


def adjusted(sampler: Sampler, logits: torch.Tensor) -> torch.Tensor:
    """Scores after every step, as they are drawn from; a greedy row's before temperature."""
    scores = sampler.scores(logits)
    greedy = sampler.params.greedy[:, None]
    return torch.where(greedy, scores, narrowed(scores, sampler.params))


def tied(scores: torch.Tensor) -> bool:
    finite = scores[scores.isfinite()]
    return len(finite.unique()) < len(finite)


@pytest.mark.slow
@given(ROWS)
def test_distributions_are_those_of_transformers_in_any_company(rows):
    logits = torch.tensor([scores for scores, _, _ in rows])
    found = adjusted(joined([(sampling, said) for _, said, sampling in rows]), logits)
    for row, scores, (_, said, sampling) in zip(found, logits, rows, strict=True):
        plain = replace(sampling, top_p=1.0)
        if sampling.top_p < 1 and tied(reference(scores, said, plain)):
            continue  # which of two equal tokens its sort leaves out is chance
        torch.testing.assert_close(row, reference(scores, said, sampling))


@pytest.mark.parametrize("flatness", [0.001, 0.5, 3.0])
@pytest.mark.parametrize("top_p, top_k", [(0.3, 0), (0.9, 0), (0.999, 0), (0.9, 700), (0.9, 100)])
def test_a_large_vocabulary_however_flat_its_distribution(flatness, top_p, top_k):
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(5)) * flatness
    sampling = Sampling(top_p=top_p, top_k=top_k)
    found = adjusted(joined([(sampling, [])], 5000), logits)[0]
    expected = reference(logits[0], [0], sampling)
    # The sum of thousands of probabilities is rounded: a token more or less at the edge.
    assert (found.isfinite() ^ expected.isfinite()).sum() <= 2
    both = found.isfinite() & expected.isfinite()
    assert torch.equal(found[both], expected[both])


def test_the_logits_are_left_alone():
    logits = torch.arange(VOCAB).float()[None]
    before = logits.clone()
    joined([(Sampling(0.5, 0.5, 3, 1.2, 1, min_new_tokens=1), [1, 2, 3])]).draw(logits)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("top_p", [1e-6, 0.0])
def test_the_likeliest_token_stays_whatever_top_p_says(top_p):
    sampler = joined([(Sampling(top_p=top_p), [])], 3, ())
    assert adjusted(sampler, torch.tensor([[1.0, 9.0, 2.0]])).isfinite().tolist() == [[False, True, False]]


def test_equal_tokens_go_together():
    sampler = joined([(Sampling(top_p=0.5), [])], 4, ())
    assert adjusted(sampler, torch.tensor([[2.0, 2.0, 2.0, 0.0]])).isfinite().tolist() == [[True, True, True, False]]


@given(SAID, st.integers(1, 4))
def test_what_is_banned_is_exactly_what_would_repeat_an_ngram(said, size):
    def repeats(token):
        grams = [tuple([*said, token][i : i + size]) for i in range(len(said) - size + 2)]
        return grams[-1] in grams[:-1] if grams else False

    sampler = joined([(Sampling(no_repeat_ngram=size), said)])
    assert set(sampler.rows[0].banned(())) == {token for token in range(VOCAB) if repeats(token)}


def test_an_ngram_is_remembered_while_the_reply_grows():
    sampling = Sampling(temperature=0, no_repeat_ngram=2, max_new_tokens=9)
    sampler = joined([(sampling, [])], 3, ())
    assert [sampler.draw(torch.tensor([[3.0, 2.0, 1.0]]))[0] for _ in range(6)] == [0, 0, 1, 0, 2, 0]


@pytest.mark.slow
@given(ROWS, st.integers(0, 99))
def test_a_row_draws_in_company_what_it_draws_alone(rows, seed):
    logits = torch.tensor([scores for scores, _, _ in rows])
    wishes = [(replace(sampling, seed=seed + i), said) for i, (_, said, sampling) in enumerate(rows)]
    together = joined(wishes)
    alone = [joined([wish]) for wish in wishes]
    for _ in range(3):
        expected = [sampler.draw(row[None])[0] for sampler, row in zip(alone, logits, strict=True)]
        assert together.draw(logits) == expected


def test_a_row_that_is_moved_goes_on_as_before():
    wish = Sampling(temperature=1.3, repetition_penalty=1.4, no_repeat_ngram=2, seed=3, max_new_tokens=40)
    logits = torch.linspace(0, 2, VOCAB)[None]
    stays, moves = joined([(wish, [4])]), joined([(Sampling(), [5]), (wish, [4])])
    first = [stays.draw(logits)[0] for _ in range(6)]
    second = [moves.draw(logits, 1)[0] for _ in range(3)]
    moves.move(1, 0)
    assert first == second + [moves.draw(logits, 0)[0] for _ in range(3)]


def test_a_slot_forgets_who_was_there():
    sampler = joined([(Sampling(temperature=0, repetition_penalty=9.0), [2])], 3, ())
    sampler.admit(0, Sampling(temperature=0, repetition_penalty=9.0), [])
    assert sampler.draw(torch.tensor([[1.0, 1.5, 2.0]])) == [2]


@pytest.mark.slow
def test_frequencies_are_those_of_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    sampler = joined([(Sampling(temperature=0.8, max_new_tokens=4000, seed=3), [])], 4, ())
    found = torch.bincount(torch.tensor([sampler.draw(logits)[0] for _ in range(4000)]), minlength=4) / 4000
    torch.testing.assert_close(found, (logits[0] / 0.8).softmax(-1), atol=0.03, rtol=0)


def test_no_chance_finds_a_token_of_no_probability():
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    assert picked(scores, torch.tensor([0.0, 0.499, 1 - 2**-24])).tolist() == [1, 1, 3]


def test_scores_that_are_no_numbers_are_told_and_harm_no_neighbour():
    wish = (Sampling(seed=1), [])
    for bad in (torch.nan, torch.inf):
        logits = torch.zeros(3, VOCAB)
        logits[1, 4] = bad
        expected = joined([wish]).draw(logits[:1])
        found = joined([wish] * 3).draw(logits)
        assert found == [*expected, -1, *expected]


def test_an_end_that_the_vocabulary_lacks_is_no_end():
    assert joined([(Sampling(min_new_tokens=2, seed=1), [])], VOCAB, (END, 99)).draw(torch.zeros(1, VOCAB)) != [END]

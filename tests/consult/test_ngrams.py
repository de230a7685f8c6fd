"""Runs of characters counted by sorted numbers are those that sets of strings give."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.consult.ngrams import APART, Index, counts
from bianque.consult.text import grams

TEXTS = st.lists(
    st.text(alphabet=st.sampled_from("头痛了，。 aA_1é\n𠮷😀" + APART), max_size=12), min_size=1, max_size=8
)


def seen(text: str, size: int) -> frozenset[str]:
    return grams(text.replace(APART, ""), size)


@pytest.mark.parametrize("size", [1, 2])
@given(TEXTS)
def test_each_run_is_counted_once_a_text(size, texts):
    assert counts(texts, size) == Counter(run for text in texts for run in seen(text, size))


@pytest.mark.parametrize("size", [2, 4])
@given(TEXTS, st.data())
def test_what_texts_share_with_another_one(size, texts, data):
    asked = data.draw(st.sampled_from([*texts, "头痛了", "", "没见过的字"]))
    shared, runs = Index(texts, size).sharing(asked)
    own = seen(asked, size)
    expected = {place: len(own & seen(text, size)) for place, text in enumerate(texts)}
    assert shared == {place: count for place, count in expected.items() if count} and runs == len(own)

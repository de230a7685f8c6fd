"""What nobody asked about counts as told only where something particular to it was said."""

from __future__ import annotations

from functools import cache

import pytest

from bianque.consult.encoder import remembered
from bianque.consult.evidence import LEAST, Evidence, Given
from bianque.consult.hearing import hearing
from bianque.consult.told import Utterance
from bianque.data.knowledge import bundled
from bianque.types import Message

RAMBLING = (
    "我家老二五岁半，白天在幼儿园疯跑啥事没有，一到晚上睡下了就哭，说小腿难受，要我给他揉，揉一会儿就睡着了，"
    "早上起来又跟没事人一样，他姐姐小时候倒没这个毛病，我婆婆说是缺钙"
)


@cache
def pain():
    return bundled().complaints["growing_pain"]


def test_a_rambling_mother_tells_of_no_lump_and_no_spots():
    heard = hearing().hear([Message("user", RAMBLING)])
    assert heard.entry is pain() and not {"joint", "general"} & heard.told.keys()


@pytest.mark.parametrize(
    ("said", "told"),
    [("小腿有个硬疙瘩", True), ("说小腿难受", False), ("骨头上长了个包，摸得到", True), ("一到晚上就哭", False)],
)
def test_what_is_particular_to_an_answer_must_have_been_said(said, told):
    clauses = Utterance.of(said, remembered).clauses
    assert (Evidence(pain())("joint", "mass", clauses) >= LEAST) == told


@pytest.mark.parametrize(
    ("given", "length", "grave", "counts"),
    [
        (Given("mass", 0.7, 0.55), 10, False, True),
        (Given("mass", 0.7, 0.55), 10, True, False),
        (Given("mass", 0.7, 0.55), 90, False, False),
        (Given("mass", 0.9, 0.7), 90, True, True),
        (Given(None), 10, False, True),
        (Given(None), 90, False, False),
    ],
)
def test_a_danger_sign_must_be_plain_and_a_long_message_near(given, length, grave, counts):
    said = Utterance.of("小腿有个硬疙瘩，".ljust(length, "嗯"), remembered)
    assert Evidence(pain()).suffices("joint", given, said, grave) == counts

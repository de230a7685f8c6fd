"""Yes and no at the head of an answer, and a danger sign that is denied in the question's own words."""

from __future__ import annotations

import pytest

from bianque.consult.heard import Heard
from bianque.consult.hearing import hearing
from bianque.consult.polarity import denies, opposed, polarity
from bianque.data.knowledge import bundled


@pytest.mark.parametrize(
    ("said", "asked", "yes"),
    [
        ("没有啊，就是痒", "有没有发烧？", False),
        ("没有", "哪里疼？", False),
        ("划了一下，还真会，红红的", "用指甲划一下皮肤，会鼓起红道子吗？", True),
        ("有，晚上厉害", "有没有发热？", True),
        ("是的", "是一阵一阵还是一直？", None),
        ("有点", "疼得厉害吗？", None),
        ("三天了", "多久了？", None),
        ("", "多久了？", None),
    ],
)
def test_yes_and_no(said, asked, yes):
    assert polarity(said, asked) is yes


@pytest.mark.parametrize(
    ("said", "asked", "denied"),
    [
        ("不会黑，站起来好好的", "站起来会不会眼前发黑？", True),
        ("不费劲", "孩子喘气费不费劲？", True),
        ("不舒服了三天", "还有没有别的不舒服？", False),
        ("不痛，憋得要坐起来喘", "有没有胸痛？", False),
        ("没晕，就是爬三楼得歇两回", "有没有晕倒？", False),
        ("没血，两天不放屁了", "带血吗，胀不胀？", False),
        ("不疼", "疼还是麻？", False),
    ],
)
def test_only_the_one_thing_that_was_asked_is_denied(said, asked, denied):
    assert denies(said, asked) is denied


@pytest.mark.parametrize(
    ("complaint", "slot", "asked", "said", "value"),
    [
        ("hemorrhoids", "dizzy", "站起来会不会眼前发黑？", "不会黑，站起来好好的。那我要做肠镜吗", "none"),
        ("hemorrhoids", "dizzy", "站起来会不会眼前发黑？", "站起来眼前发黑，心慌", "faint"),
        ("urticaria", "scratch", "用指甲划一下皮肤，会鼓起红道子吗？", "划了一下，还真会，红红的一道鼓起来", "has"),
    ],
)
def test_a_danger_sign_that_was_denied_is_not_heard(complaint, slot, asked, said, value):
    entry = bundled().complaints[complaint]
    found = Heard(entry=entry, asked={slot}, begun=True)
    hearing().answered(found, entry, said, [slot], asked)
    assert found.told[slot] == value


@pytest.mark.parametrize(
    ("text", "answers", "out"),
    [
        ("右下边", [["左下腹疼", "左边小肚子"], ["右下边疼"], ["小肚子疼"]], [0]),
        ("两边都疼，右边重", [["左下腹疼"], ["右下边疼"]], [0]),
        ("左右都有", [["左边"], ["右边"]], []),
        ("就右边", [["就左边", "只有一边"], ["两边都有"]], []),  # one side, whichever
        ("上腹疼", [["下腹疼"], ["上腹部"], ["肚脐周围"]], [0]),
        ("上班疼", [["下班疼"], ["上班疼"]], []),
    ],
)
def test_an_answer_of_the_other_side_is_none(text, answers, out):
    assert opposed(text, answers) == out

"""Who may enter a battle here, and who may meet whom."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.arena import matchmaking
from bianque.arena.battle import Player
from bianque.backends.local import Local, can_run, is_downloaded
from bianque.catalog.builtin import CARDS, by_name
from bianque.consult.session import Session
from bianque.consult.spec import ModelSpec
from bianque.errors import BadInput
from bianque.settings import Settings
from tests import tiny

KNOWN = by_name(CARDS)
HUB = [card.name for card in CARDS if not card.preview]


class Silent:
    def models(self):
        return CARDS


def there(ask: str, advise: str, *running: str) -> list[str]:
    return [
        candidate.name
        for candidate in matchmaking.candidates(Session(Silent(), ask, advise), lambda name: name in running)
    ]


def test_the_pair_enters_together_and_alone_and_beside_it_what_runs_here():
    assert there("ask-mini", "advise-mini") == ["auto (ask-mini + advise-mini)", "ask-mini", "advise-mini"]
    assert there("bianque-1", "bianque-2", "disc-medllm", "ask-mini") == [
        "auto (bianque-1 + bianque-2)", "bianque-1", "bianque-2", "disc-medllm",
    ]  # fmt: skip
    assert there("ask-mini", "bianque-2", "ask-mini", "advise-mini")[1:] == ["ask-mini", "bianque-2", "advise-mini"]


def test_a_vote_names_the_pair_and_its_sampling_and_a_comparison_asks_it_as_auto():
    first, asks, _ = matchmaking.candidates(Session(Silent(), "ask-mini", "advise-mini"), lambda name: False)
    assert first.spec.name == "auto" and first.player.revision == "main + main"
    assert first.player.sampling["ask"]["top_p"] == KNOWN["ask-mini"].sampling.top_p
    assert asks.spec.name == asks.name == "ask-mini" and asks.player.precision is None


def everybody() -> list[matchmaking.Candidate]:
    return [
        matchmaking.both(KNOWN["bianque-1"], KNOWN["bianque-2"]),
        *(matchmaking.alone(KNOWN[name]) for name in HUB),
        matchmaking.alone(KNOWN["ask-mini"]),
    ]


@given(st.integers(0, 2**32), st.sets(st.sampled_from([candidate.name for candidate in everybody()])))
def test_two_who_meet_do_the_same_part_and_who_is_in_cooldown_does_not_fight(seed, cooldown):
    one, other = matchmaking.draw(everybody(), {}, random.Random(seed), cooldown)
    assert one.name != other.name and one.parts & other.parts and one.opens != other.opens
    fresh = [candidate for candidate in everybody() if candidate.name not in cooldown]
    if any(one.parts & other.parts and one.opens != other.opens for one in fresh for other in fresh):
        assert not {one.name, other.name} & cooldown


def test_two_whose_first_reply_is_one_models_do_not_meet():
    three = matchmaking.candidates(Session(Silent(), "ask-mini", "advise-mini"), lambda name: False)
    assert [candidate.opens for candidate in three] == ["ask-mini", "ask-mini", "advise-mini"]
    draw = random.Random(3)
    drawn = [tuple(candidate.name for candidate in matchmaking.draw(three, {}, draw)) for _ in range(1000)]
    assert {frozenset(pair) for pair in drawn} == {frozenset((three[0].name, "advise-mini"))}
    assert abs(sum(pair[0] == three[0].name for pair in drawn) - 500) < 80


def asking(*names: str) -> list[matchmaking.Candidate]:
    """Some who all do the same."""
    return [
        matchmaking.Candidate(Player(name, "main", None, {}), ModelSpec(name), frozenset({"asking"}), name)
        for name in names
    ]


def drawn_names(*given) -> tuple[str, str]:
    one, other = matchmaking.draw(*given)
    return one.name, other.name


@given(st.integers(2, 7), st.integers(0, 2**32), st.data())
def test_a_pair_is_two_of_the_names_and_a_seed_decides(size, seed, data):
    names = [f"m{place}" for place in range(size)]
    votes = {frozenset(two): data.draw(st.integers(0, 50)) for two in combinations(names, 2)}
    found = drawn_names(asking(*names), votes, random.Random(seed))
    assert set(found) <= set(names) and len(set(found)) == 2
    assert found == drawn_names(asking(*names), votes, random.Random(seed))


def test_pairs_with_fewer_votes_come_more_often_and_sides_are_fair():
    votes = {frozenset("xy"): 8, frozenset("xz"): 2}  # weights 1/9, 1/3, 1
    draw, total, three = random.Random(5), 20000, asking(*"xyz")
    drawn = Counter(drawn_names(three, votes, draw) for _ in range(total))
    for two, weight in (("xy", 1 / 9), ("xz", 1 / 3), ("yz", 1)):
        there, back = drawn[two[0], two[1]], drawn[two[1], two[0]]
        expected = total * weight / (1 / 9 + 1 / 3 + 1)
        assert abs(there + back - expected) < 5 * expected**0.5
        assert abs(there - back) < 5 * expected**0.5


def test_one_contender_alone_cannot_battle():
    for names in ([], ["one"], ["one", "one"]):
        with pytest.raises(BadInput):
            drawn_names(asking(*names), {}, random.Random(0))


def test_a_question_is_not_set_against_advice():
    with pytest.raises(BadInput, match="ask-mini、advise-mini"):
        matchmaking.draw(
            [matchmaking.alone(KNOWN["ask-mini"]), matchmaking.alone(KNOWN["advise-mini"])], {}, random.Random(0)
        )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A Hub cache with nothing in it; `put` adds a snapshot with some files."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def put(repo: str, revision: str, *names: str) -> None:
        folder = tmp_path / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / revision).write_text("a" * 40)
        (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
        for name in names:
            (folder / "snapshots" / ("a" * 40) / name).write_text("")

    return put


def test_a_card_is_here_if_its_files_are(cache, tmp_path):
    bianque, zh = KNOWN["bianque-2"], KNOWN["medicalgpt-zh"]
    assert is_downloaded(KNOWN["ask-mini"], {})
    assert not is_downloaded(bianque, {}) and is_downloaded(bianque, {"bianque-2": tmp_path})
    whole = ("config.json", "ice_text.model", "pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin")
    cache("scutcyr/BianQue-2", "main", *whole)
    assert is_downloaded(bianque, {}) and is_downloaded(bianque.at(8), {})
    cache("scutcyr/BianQue-1.0", "main", "config.json")  # a download that broke off
    assert not is_downloaded(KNOWN["bianque-1"], {})
    cache("THUDM/chatglm-6b", "v0.1.0", *whole)
    assert not is_downloaded(zh, {}) and is_downloaded(zh, {"medicalgpt-zh.adapter": Path("lora.p")})
    mine = tiny.changed(zh, adapter="me/lora")
    assert not is_downloaded(mine, {})
    cache("me/lora", "main", "adapter_config.json")
    assert is_downloaded(mine, {})


def test_a_model_is_able_if_it_is_here_and_memory_can_hold_it(cache):
    runs = can_run(Local(Settings(memory_gb=1.0)))
    assert runs("ask-mini") and runs("advise-mini@8") and not runs("bianque-2")
    assert not can_run(Local(Settings(memory_gb=0.001)))("ask-mini")

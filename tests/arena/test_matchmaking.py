"""Who may enter a battle here, and who may meet whom."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bianque.arena import matchmaking
from bianque.backends.local import Local, can_run, is_downloaded
from bianque.catalog.builtin import CARDS, by_name
from bianque.consult.session import Session
from bianque.errors import BadInput
from bianque.settings import Settings

KNOWN = by_name(CARDS)
HUB = [card.name for card in CARDS if not card.preview]


class Silent:
    def models(self):
        return CARDS


def there(ask: str, advise: str, *running: str) -> list[str]:
    return [
        entrant.name for entrant in matchmaking.entrants(Session(Silent(), ask, advise), lambda name: name in running)
    ]


def test_the_pair_enters_together_and_alone_and_beside_it_what_runs_here():
    assert there("ask-mini", "advise-mini") == ["auto (ask-mini + advise-mini)", "ask-mini", "advise-mini"]
    assert there("bianque-1", "bianque-2", "disc-medllm", "ask-mini") == [
        "auto (bianque-1 + bianque-2)", "bianque-1", "bianque-2", "disc-medllm",
    ]  # fmt: skip
    assert there("ask-mini", "bianque-2", "ask-mini", "advise-mini")[1:] == ["ask-mini", "bianque-2", "advise-mini"]


def test_a_vote_names_the_pair_and_its_sampling_and_a_comparison_asks_it_as_auto():
    first, asks, _ = matchmaking.entrants(Session(Silent(), "ask-mini", "advise-mini"), lambda name: False)
    assert first.who.name == "auto" and first.contender.revision == "main + main"
    assert first.contender.sampling["ask"]["top_p"] == KNOWN["ask-mini"].sampling.top_p
    assert asks.who.name == asks.name == "ask-mini" and asks.contender.precision is None


def everybody() -> list[matchmaking.Entrant]:
    return [
        matchmaking.both(KNOWN["bianque-1"], KNOWN["bianque-2"]),
        *(matchmaking.alone(KNOWN[name]) for name in HUB),
        matchmaking.alone(KNOWN["ask-mini"]),
    ]


@given(st.integers(0, 2**32), st.sets(st.sampled_from([entrant.name for entrant in everybody()])))
def test_two_who_meet_do_the_same_part_and_the_resting_do_not_fight(seed, resting):
    one, other = matchmaking.draw(everybody(), {}, random.Random(seed), resting)
    assert one.name != other.name and one.parts & other.parts
    fresh = [entrant for entrant in everybody() if entrant.name not in resting]
    if any(one.parts & other.parts for one in fresh for other in fresh if one is not other):
        assert not {one.name, other.name} & resting


def test_fewer_votes_come_more_often_and_sides_are_random():
    three = matchmaking.entrants(Session(Silent(), "ask-mini", "advise-mini"), lambda name: False)
    votes = {frozenset({three[0].name, "ask-mini"}): 9}  # weights 1/10 and 1
    draw = random.Random(3)
    drawn = [tuple(entrant.name for entrant in matchmaking.draw(three, votes, draw)) for _ in range(4000)]
    assert abs(sum("ask-mini" in pair for pair in drawn) - 4000 / 11) < 100
    assert abs(sum(pair[0] == three[0].name for pair in drawn) - 2000) < 160


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
    mine = zh.changed(adapter="me/lora")
    assert not is_downloaded(mine, {})
    cache("me/lora", "main", "adapter_config.json")
    assert is_downloaded(mine, {})


def test_a_model_is_able_if_it_is_here_and_memory_can_hold_it(cache):
    runs = can_run(Local(Settings(memory_gb=1.0)))
    assert runs("ask-mini") and runs("advise-mini@8") and not runs("bianque-2")
    assert not can_run(Local(Settings(memory_gb=0.001)))("ask-mini")

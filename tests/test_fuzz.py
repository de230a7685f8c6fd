"""Hostile input ends in a result or an error with a code: a share of what `python -m tests.fuzz` runs, and what it found."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from random import Random

import httpx
import pytest

from bianque.data import readers
from tests import fuzz, fuzz_areas, spoil
from tests.conftest import afresh, serving

CASES = {"cards": 5000, "readers": 3800, "v1": 900, "session": 300}  # 10,000 in the whole run
WHOLE = os.environ.get("HYPOTHESIS_PROFILE") == "ci"


@pytest.mark.parametrize("area", CASES)
def test_every_case_has_an_outcome(area):
    counted = fuzz.fuzz(area, CASES[area] if WHOLE else CASES[area] // 20)
    assert counted.faults == [] and not [outcome for outcome in counted.outcomes if outcome.startswith(fuzz.FAULTS)]
    assert counted.outcomes["result"] and len(counted.outcomes) > 1


@pytest.mark.slow
def test_damaged_weights_are_refused():
    counted = fuzz.fuzz("weights", 20)
    assert counted.faults == [] and counted.outcomes["BQ_LOAD_FAILED"]


@pytest.mark.process
def test_calls_events_and_addresses_of_the_page():
    counted = fuzz.fuzz("page", 40)
    assert counted.faults == [] and counted.outcomes["result"]


def test_a_number_makes_the_same_case_again():
    with fuzz_areas.cards() as (made, _):
        assert made(Random("cards 7")) == made(Random("cards 7")) != made(Random("cards 8"))


def test_a_fault_is_counted_and_told(monkeypatch):
    def ends(case):
        if case < 0.5:
            raise ZeroDivisionError("of nothing")
        raise fuzz.Hang

    made = lambda rng: rng.random()
    opened = nullcontext((made, ends))
    monkeypatch.setitem(fuzz_areas.AREAS, "ours", lambda: opened)
    counted = fuzz.fuzz("ours", 20)
    assert set(counted.outcomes) == {"trace ZeroDivisionError", "hang"} and len(counted.faults) == 20
    assert counted.faults[0].startswith("ours 0\n") and "hang" in str(counted)


def test_an_error_is_ours_by_the_package_and_not_by_the_name_of_the_checkout(monkeypatch):
    error = None
    try:
        readers.preview(Path("there is none"))
    except Exception as caught:
        error = caught
    with pytest.raises(type(error)):
        fuzz_areas.coded("", [error])
    monkeypatch.setattr(fuzz_areas, "OURS", Path(__file__).parent / "bianque")
    assert fuzz_areas.coded("", [error]) == "gradio"


def test_spoiled_trees_can_be_written():
    for number in range(300):
        rng = Random(number)
        assert isinstance(spoil.written(rng, spoil.tree(rng, fuzz_areas.COMPLETION)), bytes)


@pytest.fixture(scope="module")
def client():
    with serving() as (url, voices), httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        afresh(voices).pause = 0.0
        yield client


@pytest.mark.process
@pytest.mark.parametrize(
    "body", [{"message": "头痛", "\\\\host": 1}, {}, {"message": "头痛", "data": "\udfff", "event_data": 1}, "\udfff"]
)
def test_a_request_of_the_wrong_shape_is_told_so_and_not_repeated(client, body):
    raw = json.dumps(body).encode()
    answer = client.post("/gradio_api/call/v2/chat", content=raw, headers={"content-type": "application/json"})
    if answer.status_code == 200:
        assert "BQ_" in client.get(f"/gradio_api/call/chat/{answer.json()['event_id']}").text
    else:
        assert answer.status_code == 422 and answer.json()["code"] == "BQ_BAD_INPUT"


@pytest.mark.process
def test_half_an_emoji_is_answered(client):
    given = {"message": "头痛\ud83d", "history": [{"role": "user", "content": "\udfff"}], "mode": "advise"}
    raw, kind = json.dumps(given).encode(), {"content-type": "application/json"}
    called = client.post("/gradio_api/call/v2/chat", content=raw, headers=kind).json()
    told = client.get(f"/gradio_api/call/chat/{called['event_id']}").text
    assert "event: complete" in told and json.dumps("头痛?")[1:-1] in told


@pytest.mark.process
@pytest.mark.parametrize("name", [{"a": 1}, 7, ["ask-mini"], "头" * 10_000])
def test_a_model_that_is_no_name_is_told_briefly(client, name):
    called = client.post("/gradio_api/call/v2/chat", json={"message": "头痛", "ask_model": name}).json()
    told = client.get(f"/gradio_api/call/chat/{called['event_id']}").text
    assert "BQ_UNKNOWN_MODEL" in told and len(told) < 2000

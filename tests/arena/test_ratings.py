"""Rankings: the same numbers as an independent fit, honest intervals, and a say when votes do not settle it."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace
from itertools import pairwise
from xml.etree import ElementTree

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bianque.arena import ratings as ranking
from bianque.arena.battle import Player, Vote
from bianque.arena.ratings import CONFIDENCE, MEAN, SCALE, SCORE, plot, rank
from bianque.i18n import LANGS

VERDICTS = tuple(SCORE)


def contender(name: str) -> Player:
    return Player(name, "main", "float32", {})


def vote(place: int, a: str, b: str, verdict: str, category: str = "mind", reasons: tuple[str, ...] = ()) -> Vote:
    when = f"2026-01-01T00:00:00.{place:06d}+00:00"
    return Vote(f"{place:06d}", when, contender(a), contender(b), category, verdict, reasons, 1, {}, "")  # type: ignore[arg-type]


def votes(*results: tuple[str, str, str]) -> list[Vote]:
    return [vote(place, *result) for place, result in enumerate(results)]


def simulated(strengths: dict[str, float], count: int, seed: int, ties: float = 0.15) -> list[Vote]:
    draw, found = random.Random(seed), []
    for place in range(count):
        a, b = draw.sample(sorted(strengths), 2)
        wins = draw.random() < 1 / (1 + math.exp(strengths[b] - strengths[a]))
        even = draw.random() < ties
        verdict = draw.choice(("tie", "both_bad")) if even else ("a" if wins else "b")
        found.append(vote(place, a, b, verdict, draw.choice(("mind", "skin"))))
    return found


def ratings(found) -> dict[str, float]:
    return {standing.name: standing.rating for standing in found.standings}


def fitted(found: list[Vote], names: list[str], average: str | None = None) -> dict[str, float]:
    """The same by choix, which knows wins alone: each vote counts as two wins, of one side or one of each."""
    place = {name: index for index, name in enumerate([*names, *([average] if average else [])])}
    pairs = []
    for one in found:
        both = (place[one.a.name], place[one.b.name])
        first = round(2 * SCORE[one.verdict])
        pairs += [both] * first + [both[::-1]] * (2 - first)
    if average:
        pairs += [two for name in names for two in ((place[name], place[average]), (place[average], place[name]))]
    theta = choix.opt_pairwise(len(place), pairs, alpha=0, tol=1e-12)[: len(names)]
    return dict(zip(names, MEAN + SCALE * (theta - theta.mean()), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_ratings_are_those_of_an_independent_fit(seed):
    draw = random.Random(seed)
    names = [f"m{place}" for place in range(3 + 2 * seed)]
    found = simulated({name: draw.gauss(0, 1) for name in names}, 400, seed)
    ours, theirs = rank(found, resamples=2), fitted(found, names)
    assert not any(standing.prior for standing in ours.standings)
    assert ratings(ours) == pytest.approx(theirs, abs=1e-6 * SCALE)
    assert [standing.name for standing in ours.standings] == sorted(names, key=lambda name: -theirs[name])


def test_two_contenders_have_the_rating_that_their_score_gives():
    found = votes(*[("x", "y", "a")] * 6, *[("y", "x", "a")] * 2, ("x", "y", "tie"), ("x", "y", "both_bad"))
    gap = 400 * math.log10(7 / 3)  # seven to three, ties half
    assert ratings(rank(found)) == pytest.approx({"x": MEAN + gap / 2, "y": MEAN - gap / 2})


def test_who_never_lost_is_rated_with_the_prior_and_marked():
    found = votes(("x", "y", "a"), ("x", "z", "a"), ("y", "z", "a"), ("z", "y", "a"), ("x", "y", "a"))
    ours = rank(found)
    assert all(standing.prior for standing in ours.standings) and ours.standings[0].name == "x"
    # The prior is one more contender who tied once with everybody, so an independent fit can have it too.
    assert ratings(ours) == pytest.approx(fitted(found, ["x", "y", "z"], "average"), abs=1e-6 * SCALE)


def test_a_chain_of_wins_has_no_maximum_but_a_cycle_has():
    chain = votes(("x", "y", "a"), ("y", "z", "a"))
    assert all(standing.prior for standing in rank(chain).standings)
    cycle = votes(("x", "y", "a"), ("y", "z", "a"), ("z", "x", "a"))
    assert {(standing.prior, round(standing.rating, 6)) for standing in rank(cycle).standings} == {(False, MEAN)}


def test_groups_without_a_battle_between_them_are_rated_apart():
    strong = simulated({"p": 1.0, "q": 0.0, "r": -1.0}, 200, 1)
    weak = [replace(one, battle=f"w{one.battle}") for one in simulated({"x": 0.5, "y": 0.0}, 60, 2)]
    unbeaten = [vote(900, "k", "l", "a")]
    both = rank(strong + weak + unbeaten)
    assert [standing.group for standing in both.standings] == [1, 1, 1, 2, 2, 3, 3]
    for part, names in ((strong, "pqr"), (weak, "xy"), (unbeaten, "kl")):
        alone = ratings(rank(part))
        assert {name: ratings(both)[name] for name in names} == pytest.approx(alone)
        assert sum(alone.values()) / len(alone) == pytest.approx(MEAN)
    assert [standing.name for standing in both.standings if standing.prior] == ["k", "l"]
    assert all(standing.rank <= 3 for standing in both.standings)
    order = [standing.name for standing in both.standings]
    assert both.shares[order.index("p")][order.index("x")] is None


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from("uvwxy"), st.sampled_from("uvwxy"), st.sampled_from(VERDICTS)).filter(
            lambda result: result[0] != result[1]
        ),
        max_size=14,
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_the_votes_a_ranking_is_finite_and_adds_up(results, draw):
    found = votes(*results)
    ours = rank(found, resamples=20)
    assert ours.votes == len(found)
    size = len(ours.standings)
    for i, one in enumerate(ours.standings):
        assert all(map(math.isfinite, (one.rating, one.low, one.high, one.elo))) and one.low <= one.high
        assert one.counts.votes == one.counts.wins + one.counts.losses + one.counts.ties + one.counts.both_bad
        assert one.counts.votes == sum(ours.games[i])
        assert ours.games[i][i] == 0
        for j in range(size):
            if ours.games[i][j]:
                assert ours.shares[i][j] + ours.shares[j][i] == pytest.approx(1)
            else:
                assert ours.shares[i][j] is None
    assert sum(one.elo for one in ours.standings) == pytest.approx(MEAN * size)
    assert sum(ratings(ours).values()) == pytest.approx(MEAN * size)
    shuffled = draw.sample(found, len(found))
    assert rank(shuffled, resamples=20) == ours  # the time of a vote counts, not its place in a file
    swapped = [
        replace(one, a=one.b, b=one.a, verdict={"a": "b", "b": "a"}.get(one.verdict, one.verdict)) for one in found
    ]
    assert ratings(rank(swapped, resamples=2)) == pytest.approx(ratings(ours))
    assert json.loads(json.dumps(asdict(ours)))["votes"] == len(found)


def test_newton_converges_where_votes_are_as_lopsided_as_can_be():
    size = 8
    wins = np.zeros((size, size))
    for i in range(size - 1):
        wins[i, i + 1], wins[i + 1, i] = 10_000, 0.5
    theta = ranking.bradley_terry(wins)
    assert -np.diff(theta) == pytest.approx(np.full(size - 1, math.log(20_000)))


def test_newton_does_not_run_away_where_full_steps_would():
    wins = np.array([
        [0, 0, 0, 1e1, 1, 0], [0, 0, 1e3, 1e5, 1e4, 0], [0, 1, 0, 0, 1e4, 1],
        [1e5, 0, 0, 0, 0, 0], [0, 1e2, 0, 0, 0, 1e1], [0, 0, 0, 1e5, 0, 0],
    ])  # fmt: skip
    theta = ranking.bradley_terry(wins)
    expected = (wins + wins.T) / (1 + np.exp(theta[None, :] - theta[:, None]))
    assert expected.sum(axis=1) == pytest.approx(wins.sum(axis=1), rel=1e-7)


def test_a_batch_of_fits_is_the_fits_of_each():
    draw = np.random.default_rng(0)
    wins = draw.integers(0, 3, (40, 5, 5)) / 2.0
    wins[:, range(5), range(5)] = 0
    wins[::4, 0, :], wins[1::4, :2, 2:], wins[1::4, 2:, :2] = 0, 0, 0  # never won; two groups
    batch = ranking.bradley_terry(wins)
    assert len({tuple(row) for row in ranking.groups(wins)[1].tolist()}) > 1
    for together, alone in zip(batch, wins, strict=True):
        assert together == pytest.approx(ranking.bradley_terry(alone), abs=1e-9)


def test_reachable_is_what_walking_finds():
    edges = np.random.default_rng(2).random((60, 9, 9)) < 0.12
    for one, found in zip(edges, ranking.reachable(edges), strict=True):
        for start in range(9):
            seen, front = {start}, [start]
            while front:
                front = [j for i in front for j in range(9) if one[i, j] and j not in seen and not seen.add(j)]  # type: ignore[func-returns-value]
            assert set(np.flatnonzero(found[start])) == seen


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    strengths = {"p": 0.8, "q": 0.2, "r": -0.2, "s": -0.8}
    covered = total = 0
    for seed in range(120):
        found = rank(simulated(strengths, 250, seed, ties=0.0), resamples=200, seed=seed)
        for standing in found.standings:
            covered += standing.low <= MEAN + SCALE * strengths[standing.name] <= standing.high
            total += 1
    assert 0.91 < covered / total < 0.98 and CONFIDENCE == 0.95


def test_more_votes_make_intervals_narrower_and_a_seed_decides_them():
    few, many = (rank(simulated({"p": 0.5, "q": 0.0, "r": -0.5}, count, 3)) for count in (100, 1600))
    for standing in few.standings:
        other = next(one for one in many.standings if one.name == standing.name)
        ratio = (standing.high - standing.low) / (other.high - other.low)
        assert 2.8 < ratio < 5.7  # the square root of sixteen
    found = simulated({"p": 0.5, "q": 0.0}, 60, 4)
    assert rank(found) == rank(found) != rank(found, seed=1)
    assert rank(found).resamples == ranking.RESAMPLES == 1000


@pytest.mark.slow
def test_resampling_outcomes_is_resampling_votes():
    """The multinomial draw has the spread that drawing the votes themselves has."""
    found = simulated({"p": 0.6, "q": 0.0, "r": -0.6}, 150, 5)
    draw, drawn = random.Random(0), []
    for _ in range(400):
        again = [replace(one, battle=str(place)) for place, one in enumerate(draw.choices(found, k=len(found)))]
        drawn.append(ratings(rank(again, resamples=1))["p"])
    ours = next(one for one in rank(found).standings if one.name == "p")
    low, high = np.quantile(drawn, (0.025, 0.975))
    spread = np.std(drawn)
    assert abs(ours.low - low) < 0.5 * spread and abs(ours.high - high) < 0.5 * spread


def test_a_rank_counts_those_whose_interval_is_wholly_above():
    found = simulated({"p": 2.5, "q": 0.05, "r": 0.0, "s": -2.5}, 800, 6)
    assert {one.name: one.rank for one in rank(found).standings} == {"p": 1, "q": 2, "r": 2, "s": 4}


def test_few_votes_have_no_interval_and_put_nobody_below_another():
    one = rank([vote(0, "x", "y", "a")])
    assert [standing.interval for standing in one.standings] == [None, None]
    assert [standing.rank for standing in one.standings] == [1, 1]
    assert "[" not in plot(one, "en") and "interval" not in plot(one, "en").split("<desc>")[1]
    many = rank(simulated({"x": 0.5, "y": 0.0}, 40, 2))
    assert all(standing.interval == (standing.low, standing.high) for standing in many.standings)


def test_elo_is_what_a_hand_computes():
    # 1000 each: half expected, so 4 · ½ moves. Then 1002 against 998, then a tie of y with a newcomer.
    expected = 1 / (1 + 10 ** ((998 - 1002) / 400))
    x, y = 1002 - 4 * expected, 998 + 4 * expected
    newcomer = 1 / (1 + 10 ** ((1000 - y) / 400))
    found = votes(("x", "y", "a"), ("y", "x", "a"), ("y", "z", "both_bad"))
    elos = {standing.name: standing.elo for standing in rank(found).standings}
    assert elos == pytest.approx({"x": x, "y": y + 4 * (0.5 - newcomer), "z": 1000 - 4 * (0.5 - newcomer)})
    assert (round(elos["x"], 4), round(elos["y"], 4), round(elos["z"], 4)) == (999.977, 1000.0229, 1000.0001)


def test_counts_shares_and_reasons_are_those_of_the_votes():
    found = [
        vote(0, "x", "y", "a", reasons=("safe", "fluent")),
        vote(1, "y", "x", "b", reasons=("safe",)),
        vote(2, "x", "y", "b", reasons=("accurate",)),
        vote(3, "y", "x", "tie", reasons=("empathic",)),
        vote(4, "x", "y", "both_bad"),
    ]
    ours = rank(found)
    x, y = ours.standings
    assert (x.counts.votes, x.counts.wins, x.counts.losses, x.counts.ties, x.counts.both_bad) == (5, 2, 1, 1, 1)
    assert (x.counts.reasons, y.counts.reasons) == ({"safe": 2, "fluent": 1}, {"accurate": 1})
    assert ours.games == ((0, 5), (5, 0))
    assert ours.shares == ((None, 0.6), (0.4, None))
    assert (ours.tie, ours.both_bad, ours.first) == (0.2, 0.2, pytest.approx(1 / 3))


def test_a_category_is_ranked_by_its_own_votes():
    found = simulated({"p": 0.5, "q": 0.0, "r": -0.5}, 300, 8)
    every = {category: rank(found, category) for category in (None, "mind", "skin")}
    assert every["mind"].votes + every["skin"].votes == every[None].votes == 300
    assert every["mind"] == replace(rank([one for one in found if one.category == "mind"]), category="mind")
    assert rank(found, "drugs") == replace(rank([]), category="drugs")


def test_what_counts_as_one_contender_is_the_readers_choice():
    coarse = [vote(place, "x", "y", "a") for place in range(3)] + [vote(9, "y", "x", "a"), vote(10, "x", "x", "a")]
    assert rank(coarse).votes == 4  # one with itself says nothing
    int8 = replace(contender("x"), precision="cpu-int8")
    fine = rank([replace(coarse[-1], a=int8)], by=lambda side: f"{side.name} {side.precision}")
    assert [standing.name for standing in fine.standings] == ["x cpu-int8", "x float32"]


def test_without_votes_there_is_nothing_to_rank():
    empty = rank([])
    assert (empty.standings, empty.games, empty.shares, empty.tie, empty.first) == ((), (), (), None, None)


SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("lang", LANGS)
def test_the_plot_says_everything_and_takes_the_colour_of_its_page(lang):
    found = simulated({"p": 0.5, "<b>&": 0.0, "r": -0.5}, 90, 9)
    found += [vote(900 + place, "k", "甲" * 40, "a") for place in range(12)]
    ours = rank(found)
    drawn = plot(ours, lang)
    root = ElementTree.fromstring(drawn)
    assert root.get("role") == "img" and root[0].tag == SVG + "title" and root[1].tag == SVG + "desc"
    assert root.get("aria-label") == root[0].text and "95%" in str(root[0].text)
    for standing in ours.standings:
        assert standing.name in str(root[1].text) and f"{standing.rating:.0f}" in str(root[1].text)
    colours = {node.get(key) for node in root.iter() for key in ("fill", "stroke")} - {None}
    assert colours == {"currentColor", "none"}
    assert drawn.count("stroke-dasharray") == 2
    assert len(list(root.iter(SVG + "circle"))) == 5
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "") and "<script" not in drawn


def test_the_plot_puts_each_rating_between_the_ends_of_its_interval():
    ours = rank(simulated({"p": 1.5, "q": 0.0, "r": -1.5}, 200, 10))
    root = ElementTree.fromstring(plot(ours))
    width, height = (float(size) for size in str(root.get("viewBox")).split()[2:])
    circles = list(root.iter(SVG + "circle"))
    spots = [float(str(circle.get("cx"))) for circle in circles]
    assert spots == sorted(spots, reverse=True) and width > spots[0] and spots[-1] > 0
    assert all(0 < float(str(circle.get("cy"))) < height for circle in circles)
    for standing, spot, whisker in zip(
        ours.standings,
        spots,
        [str(node.get("d")) for node in root.iter(SVG + "path") if "H" in str(node.get("d"))],
        strict=True,
    ):
        left, right = float(whisker[1:].split()[0]), float(whisker.split("H")[1])
        assert left < spot < right
        share = (standing.rating - standing.low) / (standing.high - standing.low)
        assert (spot - left) / (right - left) == pytest.approx(share, abs=0.01)


def test_an_empty_plot_says_so():
    assert "还没有投票" in plot(rank([]))
    ElementTree.fromstring(plot(rank([]), "en"))


@given(st.floats(-2000, 5000), st.floats(0.5, 4000))
def test_ticks_are_round_few_and_around(low, width):
    ticks = ranking._ticks(low, low + width)
    assert ticks[0] <= low and ticks[-1] >= low + width and 2 <= len(ticks) <= 7
    assert len({later - earlier for earlier, later in pairwise(ticks)}) == 1

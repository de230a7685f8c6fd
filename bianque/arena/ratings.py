"""What votes say: Bradley–Terry ratings with bootstrap intervals, online Elo, who won against whom; and a plot.

**Bradley–Terry.** P(i beats j) = σ(θᵢ − θⱼ), by maximum likelihood; a tie is half a win for each. So is `both_bad`, which
prefers neither side either; its share is told apart. Shown on Elo's scale, 400/ln 10 · θ, and shifted to a mean of 1000.

**Where that has no maximum.** θ is finite only if among the contenders of a group (those linked by battles) each has
won something, through others if need be, from each (Ford 1957): who never lost would be infinitely strong. Such a group
gets a weak prior: each of its contenders has also tied once with an average one. It is marked, and only it is affected.
Between groups without a battle votes say nothing: each is rated apart, with a mean of 1000 of its own.

**Intervals** are percentiles over resamples of the votes, each fitted in the same way.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bianque import templates
from bianque.arena.battle import Player, Vote
from bianque.i18n import say

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SCALE = 400 / np.log(10)
MEAN = 1000.0
K, RESAMPLES, CONFIDENCE = 4.0, 1000, 0.95
FEW = 10  # votes, below which a rating has no interval
SCORE = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}  # of the side shown first


@dataclass(frozen=True, slots=True)
class VoteCounts:
    """Counts of one contender's votes; `reasons` are of those it won."""

    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender: the interval of its rating is `low` to `high`, and `prior` says that its group needed one.

    rank: one more than how many of its group have their whole interval above its own, where both intervals are told
    """

    name: str
    rank: int
    rating: float
    low: float
    high: float
    elo: float
    counts: VoteCounts
    group: int
    prior: bool

    @property
    def interval(self) -> tuple[float, float] | None:
        """None of few votes: a resample of one vote is that vote, which says nothing of the spread."""
        return (self.low, self.high) if self.counts.votes >= FEW and self.low < self.high else None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Contenders by group, the largest first, and in it from the highest rating down; rows and columns are in that order.

    games: how often two met
    shares: of row over column, its wins and half of the ties / games; None without a game
    tie, both_bad: shares of all votes
    first: of the votes with a winner, those for the side shown first: 0.5 if places do not matter
    """

    category: str | None
    votes: int
    standings: tuple[Standing, ...]
    games: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float | None, ...], ...]
    tie: float | None
    both_bad: float | None
    first: float | None
    resamples: int
    confidence: float


def player_name(contender: Player) -> str:
    return contender.name


def rank(
    votes: Iterable[Vote],
    category: str | None = None,
    by: Callable[[Player], str] = player_name,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ranking:
    """The ranking of one category, or of all; `by` says what counts as one contender.

    Votes within one contender, and on replies that were all of one model, do not count.
    """
    counting = (
        vote for vote in votes if category in (None, vote.category) and by(vote.a) != by(vote.b) and vote.counts
    )
    given = sorted(counting, key=lambda vote: (vote.time, vote.battle))
    played = [(by(vote.a), by(vote.b), SCORE[vote.verdict]) for vote in given]
    names = sorted({name for first, second, _ in played for name in (first, second)})
    place = {name: index for index, name in enumerate(names)}
    battles = np.array([(place[first], place[second], 2 * score) for first, second, score in played], dtype=np.int64)
    cells, times = np.unique(battles.reshape(-1, 3), axis=0, return_counts=True)
    wins = won(cells, times, len(names))
    games, standings = wins + wins.T, tuple[Standing, ...]()
    if names:
        rates = rate(cells, times, len(names), resamples, seed)
        standings = _standings(names, rates, elo(played), tallies(given, by))
    order = [place[standing.name] for standing in standings]
    verdicts = Counter(vote.verdict for vote in given)
    return Ranking(
        category=category,
        votes=len(given),
        standings=standings,
        games=tuple(tuple(round(games[i, j]) for j in order) for i in order),
        shares=tuple(tuple(_share(wins[i, j], games[i, j]) for j in order) for i in order),
        tie=_share(verdicts["tie"], len(given)),
        both_bad=_share(verdicts["both_bad"], len(given)),
        first=_share(verdicts["a"], verdicts["a"] + verdicts["b"]),
        resamples=resamples,
        confidence=CONFIDENCE,
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """θ and its interval, (n,) each; who is linked with whom, (n, n); and who needed no prior, (n,)."""

    theta: Floats
    low: Floats
    high: Floats
    linked: Bools
    finite: Bools


def rate(cells: Ints, times: Ints, size: int, resamples: int = RESAMPLES, seed: int = 0) -> Rates:
    """Fit outcomes as `won` takes them, with a percentile bootstrap by vote.

    To draw votes with replacement is to draw how often each distinct outcome comes, from a multinomial distribution.
    """
    wins = won(cells, times, size)
    linked, finite = groups(wins)
    drawn = np.random.default_rng(seed).multinomial(times.sum(), times / times.sum(), size=resamples)
    again = centred(bradley_terry(won(cells, drawn, size)), linked)
    low, high = np.quantile(again, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0)
    return Rates(centred(bradley_terry(wins), linked), low, high, linked, finite)


def _standings(
    names: Sequence[str], rates: Rates, elos: Mapping[str, float], counted: Mapping[str, VoteCounts]
) -> tuple[Standing, ...]:
    told = (rates.low < rates.high) & (np.array([counted[name].votes for name in names]) >= FEW)
    roots = rates.linked.argmax(axis=1)  # the first contender of each one's group
    largest = sorted(set(roots.tolist()), key=lambda root: (-int(rates.linked[root].sum()), root))
    group = np.array([largest.index(root) + 1 for root in roots])
    return tuple(
        Standing(
            name=names[i],
            rank=1 + int(told[i] and np.sum(rates.linked[i] & told & (rates.low > rates.high[i]))),
            rating=_rated(rates.theta[i]),
            low=_rated(rates.low[i]),
            high=_rated(rates.high[i]),
            elo=elos[names[i]],
            counts=counted[names[i]],
            group=int(group[i]),
            prior=not rates.finite[i],
        )
        for i in np.lexsort((-rates.theta, group))
    )


def won(cells: Ints, times: Ints, size: int) -> Floats:
    """Wins of row over column, ties half.

    cells: (cells, 3) distinct rows of first side, second side, and twice the score of the first
    times: (..., cells) how often each occurs
    returns (..., size, size)
    """
    wins = np.zeros((*times.shape[:-1], size, size))
    # One orientation and one outcome at a time, no place comes twice, so that += adds everything.
    for flipped in (False, True):
        for double in range(3):
            here = (cells[:, 2] == double) & ((cells[:, 0] > cells[:, 1]) == flipped)
            first, second = cells[here, 0], cells[here, 1]
            wins[..., first, second] += times[..., here] * (double / 2)
            wins[..., second, first] += times[..., here] * (1 - double / 2)
    return wins


def reachable(edges: Bools) -> Bools:
    """(..., n, n): which column can be reached from which row along edges, in any number of steps and none."""
    size = edges.shape[-1]
    found = edges | np.eye(size, dtype=bool)
    for _ in range((size - 1).bit_length()):  # each doubles the steps
        found = found.astype(np.float32) @ found.astype(np.float32) > 0
    return found


def groups(wins: Floats) -> tuple[Bools, Bools]:
    """Which two contenders (..., n, n) battles link, and whose ratings (..., n) have a finite maximum (Ford 1957)."""
    over = wins > 0
    linked, chain = reachable(over | over.swapaxes(-1, -2)), reachable(over)
    return linked, ~np.any(linked & ~(chain & chain.swapaxes(-1, -2)), axis=-1)


def bradley_terry(wins: Floats) -> Floats:
    """θ (..., n) of greatest likelihood for wins (..., n, n) of row over column, with the prior where it is needed.

    Newton steps, shortened to ln(1 + β)/β, β the largest change of a difference: since |f'''| ≤ β f'' along a step for
    logistic losses, each step then descends from anywhere (Bach 2010; Sun and Tran-Dinh 2019), and in full near the end.
    """
    linked, finite = groups(wins)
    games, total = wins + wins.swapaxes(-1, -2), wins.sum(axis=-1)
    tied = np.where(finite, 0.0, 1.0)  # once with the average contender, whose θ is 0
    level = linked * finite[..., None]  # makes the curvature regular: steps have a mean of 0 in each group
    theta, diagonal = np.zeros(total.shape), np.eye(total.shape[-1])
    for _ in range(200):
        p, own = _sigmoid(theta[..., :, None] - theta[..., None, :]), _sigmoid(theta)
        gradient = total - (games * p).sum(axis=-1) + tied * (0.5 - own)
        weight = games * p * (1 - p)
        curvature = (weight.sum(axis=-1) + tied * own * (1 - own))[..., None] * diagonal - weight + level
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        beta = np.maximum(step.max(axis=-1), 0) - np.minimum(step.min(axis=-1), 0)
        theta += step * np.divide(np.log1p(beta), beta, out=np.ones_like(beta), where=beta > 0)[..., None]
        if np.max(beta) < 1e-9:
            break
    return theta


def centred(theta: Floats, linked: Bools) -> Floats:
    """θ (..., n) with a mean of 0 in each group of `linked` (n, n)."""
    return theta - theta @ linked / linked.sum(axis=-1)


def elo(played: Iterable[tuple[str, str, float]]) -> dict[str, float]:
    """Online Elo over (first, second, score of the first) in order: K = 4, scale 400, from 1000."""
    ratings: dict[str, float] = {}
    for first, second, score in played:
        one, other = ratings.get(first, MEAN), ratings.get(second, MEAN)
        change = K * (score - 1 / (1 + 10 ** ((other - one) / 400)))
        ratings[first], ratings[second] = one + change, other - change
    return ratings


def tallies(votes: Iterable[Vote], by: Callable[[Player], str] = player_name) -> dict[str, VoteCounts]:
    """Counts of each contender."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    why: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        for side, contender in (("a", vote.a), ("b", vote.b)):
            name = by(contender)
            decided = vote.verdict in ("a", "b")
            result = ("wins" if vote.verdict == side else "losses") if decided else vote.verdict
            counted[name].update(("votes", result))
            if result == "wins":
                why[name].update(vote.reasons)
    return {
        name: VoteCounts(
            found["votes"], found["wins"], found["losses"], found["tie"], found["both_bad"], dict(why[name])
        )
        for name, found in counted.items()
    }


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(x / 2))  # never overflows


def _rated(theta: float) -> float:
    return float(MEAN + SCALE * theta)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


TEMPLATE = Path(__file__).parent / "assets" / "ratings.svg"
_WIDTH, _EDGE, _ROW = 420, 12, 42  # so narrow that its text can be read on a phone


def plot(ranking: Ranking, lang: str = "zh-CN") -> str:
    """An inline SVG of the ratings with their intervals, in the colour of the text around it."""
    standings = ranking.standings
    ends = [end for standing in standings for end in (standing.low, standing.high, standing.rating)]
    ticks = _ticks(min([MEAN, *ends]) - 4, max([MEAN, *ends]) + 4)
    low, high = ticks[0], ticks[-1]
    notes = [say(lang, "plot_prior")] if any(standing.prior for standing in standings) else []
    notes += [] if standings else [say(lang, "plot_none")]
    return templates.fill(
        TEMPLATE, width=_WIDTH, edge=_EDGE, height=_ROW, bottom=_ROW * max(len(standings), 1) + 4,
        x=lambda value: round(_EDGE + 12 + (value - low) / (high - low) * (_WIDTH - 2 * _EDGE - 24), 1),
        ticks=ticks if ends else (), title=say(lang, "plot_title", share=f"{ranking.confidence:.0%}"),
        rows=[_row(ranking, standing, lang) for standing in standings],
        notes=notes,
    ).strip()  # fmt: skip


def _row(ranking: Ranking, standing: Standing, lang: str) -> dict[str, Any]:
    """One contender and what is said of it: `line` to hear, `name` and `shown` to see."""
    several = any(other.group != standing.group for other in ranking.standings)
    name = say(lang, "plot_group", name=standing.name, number=standing.group) if several else standing.name
    rating, low, high = (f"{value:.0f}" for value in (standing.rating, standing.low, standing.high))
    key, shown = ("plot_line", f"{rating} [{low}, {high}]") if standing.interval else ("plot_bare", rating)
    line = say(lang, key, name=name, rating=rating, low=low, high=high)
    return {"standing": standing, "name": _short(name, 34), "shown": shown, "line": line}


def _short(text: str, columns: int) -> str:
    """The text if it fits so many columns, of which a Han character takes two, else its beginning."""
    edges = list(accumulate(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text))
    return text if not edges or edges[-1] <= columns else text[: bisect_right(edges, columns - 1)] + "…"


def _ticks(low: float, high: float) -> list[int]:
    """Three to six round numbers, the first below `low` and the last above `high`."""
    sizes = (size * 10**power for power in count() for size in (1, 2, 5))
    step = next(size for size in sizes if high - low <= 4 * size)
    return list(range(int(low // step) * step, int(high // step) * step + step + 1, step))

"""Plots as tables whose middle cell is drawn: the numbers stand beside it as text, and a phone scales no letter.

Names, titles and notes are HTML: whoever calls escapes what others wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEIGHT = 30  # pixels of a row; across, everything is a share of the width
MIDDLE = HEIGHT / 2
BINS = 48  # of a histogram
Line = tuple[str, str, str]  # name, what is drawn, note


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from one round number to another."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Iterable[float]) -> Scale:
        """An axis that has zero and all the values."""
        found = [0.0, *values]
        low, high = min(found), max(found)
        rough = (high - low) / 5 or 0.2
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(round_ * power for round_ in (1, 2, 2.5, 5, 10, 20) if round_ * power >= rough * 0.999)
        return cls(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step or step, step)

    def share(self, value: float) -> float:
        """Where a value stands, in percent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> list[float]:
        return [self.low + place * self.step for place in range(round((self.high - self.low) / self.step) + 1)]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share lies, linear between neighbours; `ordered` ascends and is not empty."""
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place % 1)


def bars(title: str, values: Sequence[tuple[str, float, tuple[float, float] | None, str]]) -> str:
    """One bar each: name, value, interval where there is one, note."""
    scale = Scale.over(x for _, value, ends, _ in values for x in (value, *(ends or ())))
    lines = []
    for name, value, ends, note in values:
        left, right = sorted((scale.share(0), scale.share(value)))
        drawn = f'<rect class="bar" x="{left}%" y="{MIDDLE - 7}" width="{right - left:.2f}%" height="14"/>'
        if ends:
            drawn += _whisker(scale, *ends, "ink")
        lines.append((name, drawn, note))
    return _table(title, scale, lines)


def intervals(title: str, values: Sequence[tuple[str, float, float, float, str]]) -> str:
    """Differences with their intervals about zero: a full dot where the interval is all on one side, else a hollow one."""
    scale = Scale.over(x for _, *ends, _ in values for x in ends)
    lines = []
    for name, value, low, high, note in values:
        sure = low > 0 or high < 0
        dot = f'<circle class="{"dot" if sure else "hollow"}" cx="{scale.share(value)}%" cy="{MIDDLE}" r="4.5"/>'
        lines.append((name, _whisker(scale, low, high, "span" if sure else "unsure") + dot, note))
    return _table(title, scale, lines, zero=True)


def histogram(title: str, values: Sequence[tuple[str, Sequence[float], str]], most: float) -> str:
    """How values are distributed up to `most`, the rest in the last bin; a tall line at the median."""
    scale = Scale.over([most])
    lines = []
    for name, found, note in values:
        counts = [0] * BINS
        for value in found:
            counts[min(BINS - 1, int(value / scale.high * BINS))] += 1
        tallest, width = max(counts), 100 / BINS
        heights = [count / tallest * (HEIGHT - 6) for count in counts]
        drawn = "".join(
            f'<rect class="bar" x="{place * width:.2f}%" y="{HEIGHT - height:.1f}" width="{width:.2f}%" height="{height:.1f}"/>'
            for place, height in enumerate(heights)
            if height
        )
        lines.append((name, drawn + _upright(scale, quantile(sorted(found), 0.5), "ink"), note))
    return _table(title, scale, lines)


def boxes(title: str, values: Sequence[tuple[str, Sequence[float], str]]) -> str:
    """A line from the 5th to the 95th percentile, a box between the quartiles, a tall line at the median."""
    marks = [[quantile(sorted(found), q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)] for _, found, _ in values]
    scale = Scale.over(x for found in marks for x in found)
    lines = []
    for (name, _, note), (low, first, middle, third, high) in zip(values, marks, strict=True):
        width = scale.share(third) - scale.share(first)
        box = f'<rect class="soft" x="{scale.share(first)}%" y="{MIDDLE - 7}" width="{width:.2f}%" height="14"/>'
        lines.append((name, _whisker(scale, low, high, "ink") + box + _upright(scale, middle, "ink"), note))
    return _table(title, scale, lines)


def _whisker(scale: Scale, low: float, high: float, kind: str) -> str:
    left, right = scale.share(low), scale.share(high)
    ends = "".join(
        f'<line class="{kind}" x1="{x}%" x2="{x}%" y1="{MIDDLE - 4}" y2="{MIDDLE + 4}"/>' for x in (left, right)
    )
    return f'<line class="{kind}" x1="{left}%" x2="{right}%" y1="{MIDDLE}" y2="{MIDDLE}"/>{ends}'


def _upright(scale: Scale, value: float, kind: str) -> str:
    x, over = scale.share(value), 10 if kind in ("axis", "zero") else 0  # down behind the next row: no gap between
    return f'<line class="{kind}" x1="{x}%" x2="{x}%" y1="0" y2="{HEIGHT + over}"/>'


def _table(title: str, scale: Scale, lines: Sequence[Line], zero: bool = False) -> str:
    grid = "".join(_upright(scale, tick, "zero" if zero and abs(tick) < 1e-12 else "axis") for tick in scale.ticks)
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td><svg aria-hidden="true">{grid}{drawn}</svg></td><td>{note}</td></tr>'
        for name, drawn, note in lines
    )
    anchors = {0: "start", len(scale.ticks) - 1: "end"}
    axis = "".join(
        f'<text x="{scale.share(tick)}%" y="12" text-anchor="{anchors.get(place, "middle")}">{round(tick, 10):g}</text>'
        for place, tick in enumerate(scale.ticks)
    )
    return (
        f'<table class="plot"><caption>{title}</caption><tbody>{rows}</tbody>'
        f'<tfoot aria-hidden="true"><tr><td></td><td><svg>{axis}</svg></td><td></td></tr></tfoot></table>'
    )

"""Plots as data: marks of SVG on an axis whose numbers stand beside it as text, so that a phone scales no letter.

Across, everything is a share of the width. `assets/report.html` writes the marks down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

HEIGHT = 30  # pixels of a row
MIDDLE = HEIGHT / 2
BINS = 48  # of a histogram
Mark = tuple[str, dict[str, Any]]  # an element of SVG and its attributes
Name = str | Sequence[str]  # a text, or the same in Chinese and in English
Note = tuple[str, str]  # a number, and its interval or nothing


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


@dataclass(frozen=True, slots=True)
class PlotRow:
    """One row of a plot."""

    name: Name
    marks: list[Mark]
    note: Note


@dataclass(frozen=True, slots=True)
class Plot:
    scale: Scale
    lines: list[PlotRow]
    zero: bool = False  # whether zero has a line of its own kind

    @property
    def grid(self) -> list[Mark]:
        kind = lambda tick: "zero" if self.zero and abs(tick) < 1e-12 else "axis"
        return [_upright(self.scale, tick, kind(tick), HEIGHT + 10) for tick in self.scale.ticks]

    @property
    def axis(self) -> list[tuple[float, str, str]]:
        """Each tick's place, anchor and number."""
        ticks = self.scale.ticks
        anchors = {0: "start", len(ticks) - 1: "end"}
        return [
            (self.scale.share(tick), anchors.get(place, "middle"), f"{round(tick, 10):g}")
            for place, tick in enumerate(ticks)
        ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share lies, linear between neighbours; `ordered` ascends and is not empty."""
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place % 1)


def bars(values: Sequence[tuple[Name, float, tuple[float, float] | None, Note]]) -> Plot:
    """One bar each: name, value, interval where there is one, note."""
    scale = Scale.over(x for _, value, ends, _ in values for x in (value, *(ends or ())))
    lines = []
    for name, value, ends, note in values:
        left, right = sorted((scale.share(0), scale.share(value)))
        lines.append(PlotRow(name, [_box("bar", left, right), *(_whisker(scale, *ends, "ink") if ends else ())], note))
    return Plot(scale, lines)


def intervals(values: Sequence[tuple[Name, float, float, float, Note]]) -> Plot:
    """Differences with their intervals about zero: a full dot where the interval is all on one side, else a hollow one."""
    scale = Scale.over(x for _, *ends, _ in values for x in ends)
    lines = []
    for name, value, low, high, note in values:
        sure = low > 0 or high < 0
        dot = {"class": "dot" if sure else "hollow", "cx": f"{scale.share(value)}%", "cy": MIDDLE, "r": 4.5}
        lines.append(PlotRow(name, [*_whisker(scale, low, high, "span" if sure else "unsure"), ("circle", dot)], note))
    return Plot(scale, lines, zero=True)


def histogram(values: Sequence[tuple[Name, Sequence[float], Note]], most: float) -> Plot:
    """How values are distributed up to `most`, the rest in the last bin; a tall line at the median."""
    scale = Scale.over([most])
    lines = []
    for name, found, note in values:
        counts = [0] * BINS
        for value in found:
            counts[min(BINS - 1, int(value / scale.high * BINS))] += 1
        heights = [count / max(counts) * (HEIGHT - 6) for count in counts]
        width = 100 / BINS
        marks = [
            _box("bar", place * width, (place + 1) * width, round(height, 1), round(HEIGHT - height, 1))
            for place, height in enumerate(heights)
            if height
        ]
        lines.append(PlotRow(name, [*marks, _upright(scale, quantile(sorted(found), 0.5), "ink")], note))
    return Plot(scale, lines)


def boxes(values: Sequence[tuple[Name, Sequence[float], Note]]) -> Plot:
    """A line from the 5th to the 95th percentile, a box between the quartiles, a tall line at the median."""
    quantiles = [[quantile(sorted(found), q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)] for _, found, _ in values]
    scale = Scale.over(x for found in quantiles for x in found)
    lines = []
    for (name, _, note), (low, first, middle, third, high) in zip(values, quantiles, strict=True):
        box = _box("soft", scale.share(first), scale.share(third))
        lines.append(PlotRow(name, [*_whisker(scale, low, high, "ink"), box, _upright(scale, middle, "ink")], note))
    return Plot(scale, lines)


def _box(kind: str, left: float, right: float, height: float = 14, top: float = MIDDLE - 7) -> Mark:
    return "rect", {"class": kind, "x": f"{left:.2f}%", "y": top, "width": f"{right - left:.2f}%", "height": height}


def _whisker(scale: Scale, low: float, high: float, kind: str) -> list[Mark]:
    left, right = scale.share(low), scale.share(high)
    line = {"class": kind, "x1": f"{left}%", "x2": f"{right}%", "y1": MIDDLE, "y2": MIDDLE}
    ends = [{"class": kind, "x1": f"{x}%", "x2": f"{x}%", "y1": MIDDLE - 4, "y2": MIDDLE + 4} for x in (left, right)]
    return [("line", attributes) for attributes in (line, *ends)]


def _upright(scale: Scale, value: float, kind: str, down: float = HEIGHT) -> Mark:
    x = f"{scale.share(value)}%"
    return "line", {"class": kind, "x1": x, "x2": x, "y1": 0, "y2": down}

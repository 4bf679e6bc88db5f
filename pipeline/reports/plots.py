"""Plots as inline SVG: numbers in, markup out; the colours are those of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_WIDTH, _HEIGHT, _EDGE = 480, 150, 34
_BINS = 25
_MOST_DOTS = 300
_MOST_POINTS = 400


def draw_distribution(values: Sequence[float], mean: float, median: float, limits: tuple[float, float] | None) -> str:
    """Draw a histogram with one dot a case below it, and lines at mean and median.

    Args:
        values: finite scores.
        mean: mean over cases.
        median: median over cases.
        limits: ends of the axis; None for those of the values.
    """
    array = np.asarray(values, dtype=float)
    low, high = limits or (min(0.0, float(array.min())), float(array.max()) or 1.0)
    high = high if high > low else low + 1
    counts, edges = np.histogram(array, bins=_BINS, range=(low, high))
    base, top = _HEIGHT - 44, 8

    def place(value: float) -> float:
        return _EDGE + (_WIDTH - 2 * _EDGE) * (value - low) / (high - low)

    parts = [_open("Histogram of the scores, one dot a case")]
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            height = (base - top) * count / counts.max()
            box = f'x="{place(left):.1f}" y="{base - height:.1f}" width="{place(right) - place(left) - 1:.1f}"'
            parts.append(f'<rect class="bar" {box} height="{height:.1f}"/>')
    shifts = np.random.default_rng(0).uniform(0, 12, min(len(array), _MOST_DOTS))
    parts += [
        f'<circle class="dot" cx="{place(value):.1f}" cy="{base + 6 + shift:.1f}" r="2.5"/>'
        for value, shift in zip(np.sort(array)[:: max(1, -(-len(array) // _MOST_DOTS))], shifts, strict=False)
    ]
    for value, name in ((mean, "mean"), (median, "median")):
        x = place(value)
        parts.append(f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{base + 20}"/>')
    for value in np.linspace(low, high, 5):
        parts.append(f'<text x="{place(value):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{value:.3g}</text>')
    parts.append(f'<text x="{_EDGE - 4}" y="{top + 8}" text-anchor="end">{counts.max()}</text></svg>')
    return "".join(parts)


def draw_curve(steps: Sequence[float], values: Sequence[float], mark: float | None = None) -> str:
    """Draw a curve; values that are not finite are left out.

    Args:
        steps: (N,), the horizontal axis.
        values: (N,).
        mark: step of a vertical line, as of the best epoch.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    parts = [_open("Curve over the steps of the training")]
    if len(x):
        thin = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).round().astype(int))
        left, right, low, high = x.min(), x.max(), y.min(), y.max()
        columns = _EDGE + 14 + (_WIDTH - 2 * _EDGE - 14) * (x - left) / (right - left or 1)
        rows = 10 + (_HEIGHT - 44) * (high - y) / (high - low or 1)
        points = " ".join(f"{columns[k]:.1f},{rows[k]:.1f}" for k in thin)
        parts.append(f'<polyline class="curve" points="{points}"/>')
        if len(x) == 1:
            parts.append(f'<circle class="dot" cx="{columns[0]:.1f}" cy="{rows[0]:.1f}" r="3"/>')
        if mark is not None and left <= mark <= right:
            at = _EDGE + 14 + (_WIDTH - 2 * _EDGE - 14) * (mark - left) / (right - left or 1)
            parts.append(f'<line class="mean" x1="{at:.1f}" x2="{at:.1f}" y1="6" y2="{_HEIGHT - 30}"/>')
        for value, row in ((high, 14), (low, _HEIGHT - 32)):
            parts.append(f'<text x="{_EDGE + 8}" y="{row}" text-anchor="end">{value:.3g}</text>')
        for value, column in ((left, _EDGE + 14), (right, _WIDTH - _EDGE)):
            parts.append(f'<text x="{column}" y="{_HEIGHT - 12}" text-anchor="middle">{value:.6g}</text>')
    return "".join([*parts, "</svg>"])


def _open(title: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f'<line class="axis" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{_HEIGHT - 24}" y2="{_HEIGHT - 24}"/>'
    )


def draw_reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw a reliability diagram: observed frequency over mean probability, the diagonal, and shares of the voxels.

    Args:
        bins: by ``count``, ``confidence`` and ``observed``; empty ones have a count of 0.
    """
    side, edge = 300, 40
    size = side - edge - 12
    total = sum(entry["count"] for entry in bins) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return edge + size * x, 12 + size * (1 - y)

    parts = [
        f'<svg class="plot square" viewBox="0 0 {side} {side + 4}" role="img" aria-label="Reliability diagram">',
        f'<path class="axis" fill="none" d="M{edge} 12V{12 + size}H{edge + size}"/>',
        f'<line class="ideal" x1="{edge}" y1="{12 + size}" x2="{edge + size}" y2="12"/>',
    ]
    filled = [entry for entry in bins if entry["count"]]
    for entry in filled:
        height = size * entry["count"] / total
        x, y = place(entry["low"], 0)
        width = size * (entry["high"] - entry["low"]) - 1
        parts.append(f'<rect class="bar" x="{x:.1f}" y="{y - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>')
    points = [place(entry["confidence"], entry["observed"]) for entry in filled]
    parts.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points]
    for value in (0.0, 0.5, 1.0):
        x, y = place(value, value)
        parts.append(f'<text x="{x:.1f}" y="{12 + size + 15}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<text x="{edge - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{edge + size / 2}" y="{side - 1}" text-anchor="middle">probability</text>')
    parts.append(f'<text transform="translate(12 {12 + size / 2}) rotate(-90)" text-anchor="middle">observed</text>')
    return "".join([*parts, "</svg>"])

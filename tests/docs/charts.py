"""Charts of the page of benchmarks, as SVG: numbers in, text out, the same bytes on every machine."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _LABEL, _ROW, _EDGE = 860, 400, 22, 46
_COLOURS = ("#1a7f37", "#cf222e", "#6e7781")  # reached, missed, no goal
_LINES = ("#0969da", "#cf222e", "#9a6700", "#8250df")
_MOST_LETTERS = 62
# Of the axis of ratios: the shortest, the lowest value that is told from 0, and where it may be labelled.
_LEAST, _LOWEST, _TICKS = (0.5, 2.0), 0.01, (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Bar:
    """One bar."""

    label: str  #: what is written before it
    value: float  #: its length
    goal: float | None = None  #: place of the mark; None: no goal


def draw_bars(title: str, bars: Sequence[Bar]) -> str:
    """Draw horizontal bars from 1 to each ratio on a logarithmic axis, with a mark at each goal.

    Args:
        title: for those who do not see the chart.
        bars: from top to bottom.
    """
    ratios = [max(value, _LOWEST) for bar in bars for value in (bar.value, bar.goal or 1)]
    low, high = min(*ratios, _LEAST[0]), max(*ratios, _LEAST[1])
    height = _ROW * len(bars) + 34

    def place(value: float) -> float:
        share = math.log(max(value, _LOWEST) / low) / math.log(high / low)
        return _LABEL + (_WIDTH - _LABEL - _EDGE) * share

    parts = [_open(title, height)]
    for at in (tick for tick in _TICKS if low <= tick <= high):
        colour = "#1f2328" if at == 1 else "#d0d7de"
        line = f'x1="{place(at):.1f}" x2="{place(at):.1f}" y1="4" y2="{height - 22}"'
        parts.append(f'<line {line} stroke="{colour}"/>')
        parts.append(f'<text x="{place(at):.1f}" y="{height - 7}" text-anchor="middle">{at:g}</text>')
    for number, bar in enumerate(bars):
        parts += _draw_bar(bar, 8 + _ROW * number, place)
    return "\n".join([*parts, "</svg>", ""])


def _draw_bar(bar: Bar, top: int, place: Callable[[float], float]) -> list[str]:
    colour = _COLOURS[2] if bar.goal is None else _COLOURS[bar.value < bar.goal]
    left, right = sorted((place(1), place(bar.value)))
    parts = [
        f'<text x="{_LABEL - 8}" y="{top + 13}" text-anchor="end">{escape(_shorten(bar.label))}</text>',
        f'<rect x="{left:.1f}" y="{top + 2}" width="{right - left:.1f}" height="14" fill="{colour}"/>',
        f'<text x="{right + 5:.1f}" y="{top + 13}">{bar.value:.3g}</text>',
    ]
    if bar.goal is not None:
        mark = f'x1="{place(bar.goal):.1f}" x2="{place(bar.goal):.1f}" y1="{top}" y2="{top + 18}"'
        parts.append(f'<line {mark} stroke="#1f2328" stroke-width="2.5"/>')
    return parts


def draw_curves(curve: Mapping[str, Any]) -> str:
    """Draw scores against time; a point with an interval has a bar.

    Args:
        curve: ``title``, ``x``, ``y`` and ``lines``, each with ``name`` and ``points`` (x, y, low, high).
    """
    height, top, base, left = 340, 16, 262, 60
    points = [point for line in curve["lines"] for point in line["points"]]
    longest = 1.1 * max(point[0] for point in points)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (_WIDTH - left - _EDGE) * x / longest, base - (base - top) * y

    parts = [_open(curve["title"], height)]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = place(0, tick)[1]
        parts.append(f'<line x1="{left}" x2="{_WIDTH - _EDGE}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x in sorted({round(point[0], 1) for point in points}):
        parts.append(f'<text x="{place(x, 0)[0]:.1f}" y="{base + 16}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{_WIDTH / 2:g}" y="{base + 34}" text-anchor="middle">{escape(curve["x"])}</text>')
    for number, line in enumerate(curve["lines"]):
        parts += _draw_line(line, place, _LINES[number % len(_LINES)])
        x, y = left + 260 * (number % 3), base + 52 + 16 * (number // 3)
        colour = _LINES[number % len(_LINES)]
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="{y}">{escape(line["name"])}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _draw_line(line: Mapping[str, Any], place: Any, colour: str) -> list[str]:
    dots = [place(point[0], point[1]) for point in line["points"]]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for point, (x, y) in zip(line["points"], dots, strict=True):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        if point[2] is not None:
            low, high = (place(point[0], end)[1] for end in point[2:])
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
    return parts


def _open(title: str, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" font-size="12" '
        f'font-family="sans-serif" fill="#1f2328"><title>{escape(title)}</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    )


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"

"""The knobs of post-processing that every bundle names alike, and the values that are tried.

The candidates are fixed sets and not the trials of an optimiser such as Optuna. A fixed set gives one table of scores,
settings by cases, and the same table then answers what would have been chosen without each subject: that is what the
gains are computed from. An optimiser would have to be run again for every held-out subject, its trials would depend
on the subjects that it must not see, and a run could not be resumed as exactly. With at most a few dozen values of a
step and seconds a case there is little to save either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Setting = dict[str, Any]
#: Mean scores of settings over the cases that may be seen.
Means = Callable[[Sequence[Setting]], list[float]]

STEPS: dict[str, tuple[str, ...]] = {
    "threshold": ("threshold",),
    "crf": (
        "skip_crf",
        "crf_spatial_weight",
        "crf_spatial_width",
        "crf_bilateral_weight",
        "crf_bilateral_width",
        "crf_bilateral_intensity",
        "crf_iterations",
    ),
    "morphology": (
        "skip_largest_component",
        "skip_fill_holes",
        "skip_small_objects",
        "min_size",
        "skip_opening",
        "opening_radius",
        "skip_closing",
        "closing_radius",
    ),
}
KNOBS = tuple(knob for knobs in STEPS.values() for knob in knobs)
_DEFAULT_THRESHOLD = 0.5
_THRESHOLDS = [step / 20 for step in range(1, 20)]
#: Ranges as factors of the config's own value, whose unit they keep: voxels or mm, a number or one for each axis.
_CRF_FACTORS = {
    "crf_spatial_weight": (1 / 8, 2.0),
    "crf_spatial_width": (1 / 3, 2.0),
    "crf_bilateral_weight": (1 / 8, 2.0),
    "crf_bilateral_width": (1 / 8, 1.25),
    "crf_bilateral_intensity": (1 / 4, 2.0),
}
#: In the order in which they are tried, each on top of what was chosen before it: switch, size, factors of the size.
_MORPHOLOGY: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("skip_largest_component", "", ()),
    ("skip_fill_holes", "", ()),
    ("skip_small_objects", "min_size", (0.25, 1, 4, 16)),
    ("skip_opening", "opening_radius", (0.5, 1, 1.5)),
    ("skip_closing", "closing_radius", (0.5, 1, 1.5)),
)
# Means closer than this are equal: they differ by rounding.
_SAME = 1e-9


@dataclass(frozen=True)
class Step:
    """A step of post-processing, which is switched on or left off.

    Attributes:
        name: such as ``"threshold"``, ``"crf"`` or ``"fill_holes"``.
        group: the name in `STEPS`.
        knobs: those of it that the bundle has.
        choose: returns the best setting, given the mean scores and the setting to start from, which is returned
            where nothing is better.
    """

    name: str
    group: str
    knobs: tuple[str, ...]
    choose: Callable[[Means, Setting], Setting]


def name_setting(setting: Mapping[str, Any]) -> str:
    """Return a setting as a text that is the same for the same values.

    Example:
        >>> name_setting({"threshold": 0.5, "skip_crf": True}) == name_setting({"skip_crf": True, "threshold": 0.50})
        True
    """
    return json.dumps(setting, sort_keys=True)


def switch_off(setting: Mapping[str, Any], steps: Sequence[str]) -> Setting:
    """Return a setting with steps switched off; a threshold is 0.5 then.

    Example:
        >>> switch_off({"threshold": 0.3, "skip_crf": False, "skip_opening": False}, ["threshold", "crf"])
        {'threshold': 0.5, 'skip_crf': True, 'skip_opening': False}
    """
    result = dict(setting)
    for knob in (knob for name in steps for knob in STEPS[name] if knob in setting):
        if knob == "threshold":
            result[knob] = _DEFAULT_THRESHOLD
        elif knob.startswith("skip_"):
            result[knob] = True
    return result


def build_steps(names: Sequence[str], knobs: Mapping[str, Any], candidates: int, seed: int) -> list[Step]:
    """Return the steps that a bundle has, in the order in which they are chosen.

    Args:
        names: groups of steps that are wanted; the others are left out.
        knobs: the bundle's own values.
        candidates: how many CRFs are tried, the config's own among them.
        seed: of their values.
    """
    steps = []
    for group in STEPS:
        for name, switch_and_values, tried in _list_candidates(group, knobs, candidates, seed):
            own = tuple(knob for knob in switch_and_values if knob in knobs)
            if group in names and own and own[0] == switch_and_values[0]:
                steps.append(Step(name, group, own, _pick_from(tried)))
    return steps


def _list_candidates(
    group: str, knobs: Mapping[str, Any], candidates: int, seed: int
) -> Iterator[tuple[str, tuple[str, ...], list[Setting]]]:
    """Yield name, knobs and candidates of the steps of a group, in the order in which they are tried."""
    if group == "threshold":
        nearest_first = sorted(_THRESHOLDS, key=lambda value: abs(value - _DEFAULT_THRESHOLD))
        yield group, STEPS[group], [{"threshold": value} for value in nearest_first]
    elif group == "crf":
        yield group, STEPS[group], draw_crfs(knobs, candidates, seed)
    else:
        for switch, size, factors in _MORPHOLOGY:
            sizes = [{size: _scale(knobs[size], factor)} for factor in factors] if size in knobs else [{}]
            yield switch.removeprefix("skip_"), (switch, size), [{switch: False, **values} for values in sizes]


def draw_crfs(knobs: Mapping[str, Any], count: int, seed: int) -> list[Setting]:
    """Return values of the CRF's knobs: the config's own, then points of a scrambled Sobol sequence.

    They are spread evenly over the logarithms of the ranges, see Sobol (1967) and Owen (1998).

    Args:
        knobs: the bundle's own values.
        count: number of settings.
        seed: of the scrambling.

    Example:
        >>> own = {"crf_bilateral_weight": 10.0, "crf_spatial_width": [3.0, 3.0, 1.0]}
        >>> first, second = draw_crfs(own, 2, seed=0)
        >>> first == {"skip_crf": False, **own}, len(second["crf_spatial_width"])
        (True, 3)
    """
    import math

    from scipy.stats import qmc

    varied = [knob for knob in _CRF_FACTORS if knob in knobs]
    own = {knob: knobs[knob] for knob in STEPS["crf"] if knob in knobs} | {"skip_crf": False}
    if count < 2 or not varied:
        return [own]
    points = qmc.Sobol(len(varied), scramble=True, seed=seed).random_base2(math.ceil(math.log2(count)))
    lows, highs = ([math.log(_CRF_FACTORS[knob][end]) for knob in varied] for end in (0, 1))
    factors = [[math.exp(value) for value in point] for point in qmc.scale(points, lows, highs)[: count - 1]]
    return [
        own,
        *(
            own | {knob: _scale(knobs[knob], factor) for knob, factor in zip(varied, row, strict=True)}
            for row in factors
        ),
    ]


def _scale(value: Any, factor: float) -> Any:
    """Return a number, or each of several, times a factor, with three digits: a file of knobs should be readable."""
    if isinstance(value, list):
        return [_scale(item, factor) for item in value]
    if isinstance(value, int) and float(value * factor).is_integer():
        return int(value * factor)
    return float(f"{value * factor:.3g}")


def _pick_from(tried: Sequence[Setting]) -> Callable[[Means, Setting], Setting]:
    return lambda means, base: pick_best([base | values for values in tried], means, base)


def pick_best(settings: Sequence[Setting], means: Means, base: Setting) -> Setting:
    """Return the setting with the highest mean; of equal ones the base, then the first."""
    scores = means([base, *settings])
    best, top = base, scores[0]
    for setting, score in zip(settings, scores[1:], strict=True):
        if score > top + _SAME or top != top:
            best, top = setting, score
    return best

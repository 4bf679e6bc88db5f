"""The knobs of post-processing that all bundles share, and the values that tuning tries.

The candidates are fixed sets and not the trials of an optimiser such as Optuna. A fixed set gives one table of scores,
settings by cases, which also answers what would have been chosen without each subject; the held-out gains come from
that. An optimiser would have to run again for every held-out subject, its trials would depend on subjects that it must
not see, and a run could not be resumed exactly.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Setting = dict[str, Any]

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
#: The step that changes no label, and its knob, see `pipeline.tuning.temperature`
TEMPERATURE = "temperature"
_DEFAULT_THRESHOLD = 0.5
_THRESHOLDS = [step / 20 for step in range(1, 20)]
#: Ranges, as factors of the config's value: the unit (voxels or mm) and the number of axes stay
_CRF_FACTORS = {
    "crf_spatial_weight": (1 / 8, 2.0),
    "crf_spatial_width": (1 / 3, 2.0),
    "crf_bilateral_weight": (1 / 8, 2.0),
    "crf_bilateral_width": (1 / 8, 1.25),
    "crf_bilateral_intensity": (1 / 4, 2.0),
}
#: In the order in which they are tried, each on top of the steps kept before it: switch, size, factors of the size
_MORPHOLOGY: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("skip_largest_component", "", ()),
    ("skip_fill_holes", "", ()),
    ("skip_small_objects", "min_size", (0.25, 1, 4, 16)),
    ("skip_opening", "opening_radius", (0.5, 1, 1.5)),
    ("skip_closing", "closing_radius", (0.5, 1, 1.5)),
)
# Means that differ by less are equal: the difference is rounding.
_SAME = 1e-9


@dataclass(frozen=True)
class Step:
    """A post-processing step that tuning switches on or off."""

    name: str  #: such as ``"threshold"``, ``"crf"`` or ``"fill_holes"``
    group: str  #: its key in `STEPS`
    knobs: tuple[str, ...]  #: the knobs of the step that the bundle has
    candidates: tuple[Setting, ...]  #: values of the knobs to try


def name_setting(setting: Mapping[str, Any]) -> str:
    """Return a text that is the same for the same values.

    Example:
        >>> name_setting({"threshold": 0.5, "skip_crf": True}) == name_setting({"skip_crf": True, "threshold": 0.50})
        True
    """
    return json.dumps(setting, sort_keys=True)


def switch_off(setting: Mapping[str, Any], steps: Sequence[str]) -> Setting:
    """Return a setting with the steps of some groups off; for the threshold, that is 0.5.

    Example:
        >>> switch_off({"threshold": 0.3, "skip_crf": False, "skip_opening": False}, ["threshold", "crf"])
        {'threshold': 0.5, 'skip_crf': True, 'skip_opening': False}
    """
    knobs = [knob for name in steps for knob in STEPS[name] if knob in setting]
    off = {knob: True for knob in knobs if knob.startswith("skip_")}
    return {**setting, **off, **({"threshold": _DEFAULT_THRESHOLD} if "threshold" in knobs else {})}


def build_steps(names: Sequence[str], knobs: Mapping[str, Any], candidates: int, seed: int) -> list[Step]:
    """Return the steps that a bundle has, in the order in which they are chosen.

    Args:
        names: groups of `STEPS` to tune.
        knobs: the bundle's values.
        candidates: number of CRFs to try, the config's own included.
        seed: of their values.
    """
    steps = []
    for group in (group for group in STEPS if group in names):
        for name, all_knobs, tried in _list_candidates(group, knobs, candidates, seed):
            if all_knobs[0] in knobs:
                steps.append(Step(name, group, tuple(knob for knob in all_knobs if knob in knobs), tuple(tried)))
    return steps


def _list_candidates(
    group: str, knobs: Mapping[str, Any], candidates: int, seed: int
) -> Iterator[tuple[str, tuple[str, ...], list[Setting]]]:
    """Yield name, knobs (the one that switches the step first) and candidates of the steps of a group."""
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

    The points are spread evenly over the logarithms of the ranges, see Sobol (1967) and Owen (1998).

    Args:
        knobs: the bundle's values.
        count: number of settings.
        seed: of the scrambling.

    Example:
        >>> own = {"crf_bilateral_weight": 10.0, "crf_spatial_width": [3.0, 3.0, 1.0]}
        >>> first, second = draw_crfs(own, 2, seed=0)
        >>> first == {"skip_crf": False, **own}, len(second["crf_spatial_width"])
        (True, 3)
    """
    from scipy.stats import qmc

    varied = [knob for knob in _CRF_FACTORS if knob in knobs]
    own = {knob: knobs[knob] for knob in STEPS["crf"] if knob in knobs} | {"skip_crf": False}
    if count < 2 or not varied:
        return [own]
    points = qmc.Sobol(len(varied), scramble=True, seed=seed).random_base2(math.ceil(math.log2(count)))
    lows, highs = ([math.log(_CRF_FACTORS[knob][end]) for knob in varied] for end in (0, 1))
    settings = [own]
    for point in qmc.scale(points, lows, highs)[: count - 1]:
        pairs = zip(varied, point, strict=True)
        settings.append(own | {knob: _scale(knobs[knob], math.exp(value)) for knob, value in pairs})
    return settings


def _scale(value: Any, factor: float) -> Any:
    """Return a number, or each of several, times a factor, with three digits so that configs stay readable."""
    if isinstance(value, list):
        return [_scale(item, factor) for item in value]
    if isinstance(value, int) and float(value * factor).is_integer():
        return int(value * factor)
    return float(f"{value * factor:.3g}")


def pick_best(means: Sequence[float]) -> int:
    """Return the place of the highest mean; of equal ones the first, and NaN loses to any number.

    Example:
        >>> pick_best([0.5, 0.7, 0.7]), pick_best([float("nan"), 0.1])
        (1, 1)
    """
    best = 0
    for place, mean in enumerate(means):
        if mean > means[best] + _SAME or math.isnan(means[best]):
            best = place
    return best

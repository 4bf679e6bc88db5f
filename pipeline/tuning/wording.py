"""What the result of a tuning says about each step, in words and for JSON."""

import json
import math
from typing import Any

from pipeline.statistics.paired import Difference
from pipeline.tuning.choice import Choice
from pipeline.tuning.temperature import TemperatureFit


def describe_choice(choice: Choice) -> str:
    """Return one line that says whether a step is on, and why."""
    gain = choice.gain
    head = f"{choice.step.name}: {'on' if choice.is_kept else 'off'}, "
    if choice.chosen == choice.base:
        return f"{head}no value is better than without it"
    if gain.low is None or gain.high is None:
        return f"{head}{format_gain(choice.in_sample)} here, but {gain.why_not}"
    interval = f"gain {format_gain(gain.mean)} ({format_end(gain.low)} to {format_end(gain.high)})"
    if choice.is_kept:
        return f"{head}{interval}: {_format_values(choice)}"
    if choice.helps and choice.on_top is not None:
        return f"{head}{interval}, but on top of the other steps {_describe_gain(choice.on_top)}"
    if gain.is_gain:
        chance = f"p {choice.by_chance:.2g}"
        return f"{head}{interval}, but the best of {choice.tried} values may gain as much by chance ({chance})"
    return f"{head}gain {_describe_gain(gain)}"


def describe_temperature(fit: TemperatureFit) -> str:
    """Return one line that says whether a temperature is on, and why; it is judged by likelihood and not by a score."""
    (before, after), (error, error_after) = fit.likelihoods, fit.errors
    told = (
        f"{fit.fitted:g}: negative log-likelihood per voxel of the band {before:.4f}, held-out {after:.4f}; "
        f"calibration error {error:.4f}, held-out {error_after:.4f}"
    )
    if not fit.is_kept:
        return f"temperature: off, {told}; its gain {_describe_gain(fit.gain)}"
    interval = f"{format_end(fit.gain.low)} to {format_end(fit.gain.high)}"
    return f"temperature: on, {told}; gain {format_gain(fit.gain.mean)} ({interval})"


def _describe_gain(gain: Difference) -> str:
    if gain.low is None or gain.high is None:
        return f"{format_gain(gain.mean)} is not certain: {gain.why_not}"
    low, high = gain.low, gain.high
    verdict = "is not certain: the interval includes zero" if high >= 0 else "is a loss"
    return f"{format_gain(gain.mean)} ({format_end(low)} to {format_end(high)}) {verdict}"


def _format_values(choice: Choice) -> str:
    on = {knob: value for knob in choice.step.knobs if (value := choice.chosen[knob]) != choice.base[knob]}
    return ", ".join(f"{knob} {json.dumps(value)}" for knob, value in on.items())


def format_end(value: float | None) -> str:
    """Return an end of an interval."""
    return "-" if value is None else f"{round(value, 4) + 0:.4f}"  # + 0 makes zero of minus zero


def format_gain(value: float | None) -> str:
    """Return a gain with its sign."""
    return "-" if value is None else f"{round(value, 4) + 0:+.4f}"


def dump_gain(gain: Difference | None) -> dict[str, float | str | None] | None:
    """Return a gain for JSON."""
    if gain is None:
        return None
    return {"mean": to_number(gain.mean), "low": gain.low, "high": gain.high, "why_not": gain.why_not}


def dump_temperature(fit: TemperatureFit | None) -> dict[str, Any] | None:
    """Return a temperature for JSON."""
    if fit is None:
        return None
    return {
        "on": fit.is_kept,
        "value": fit.value,
        "fitted": fit.fitted,
        "gain": dump_gain(fit.gain),
        "likelihood": dict(zip(("before", "after"), map(to_number, fit.likelihoods), strict=True)),
        "calibration_error": dict(zip(("before", "after"), map(to_number, fit.errors), strict=True)),
    }


def to_number(value: float | None) -> float | None:
    """Return a number for JSON; None for one that is not finite."""
    return value if value is not None and math.isfinite(value) else None

"""Calibration of a run: reliability diagrams, Brier scores and calibration errors, and what they mean."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.reports.plots import draw_reliability
from pipeline.runs.reliability import ALL_METRICS, BAND_METRICS, read_reliability
from pipeline.runs.run_folder import Run

_GOOD = 0.02  # below it, probabilities are as good as frequencies
_NOTHING = (
    "This run has no table of probabilities. Evaluations write it into calibration.json: run evaluate.json again with "
    "this folder as --output_dir."
)
_OF_TRAINING = "A training measures no calibration: run evaluate.json with its model.pt as --checkpoint."


def describe_calibration(run: Run) -> dict[str, Any]:
    """Return the scores with intervals, and a diagram and a sentence for each class; or why there are none.

    Raises:
        InputError: ``calibration.json`` is damaged.
    """
    said = read_reliability(run.folder)
    if said is None:
        return {"rows": [], "classes": [], "cases": 0, "why_not": _OF_TRAINING if run.is_training else _NOTHING}
    names = [name for name in (*BAND_METRICS, *ALL_METRICS) if name in run.summaries]
    band = [table for table in said["tables"] if table["region"] == "band"]
    return {
        "rows": [asdict(run.summaries[name]) for name in names],
        "classes": [table | {"text": judge_table(table), "_plot": draw_reliability(table["bins"])} for table in band],
        "cases": said["cases"],
        "why_not": "",
    }


def judge_table(table: Mapping[str, Any]) -> str:
    """Return a sentence about the probabilities of a class in the band, summed over cases.

    Example:
        >>> judge_table({"voxels": 9, "ece": 0.1, "over_confidence": 0.1, "excess": 0.02})
        'Over-confident: the likelier answer has a probability that is on average 0.100 higher than its share of ...'
    """
    if not table["voxels"] or table["ece"] is None:
        return "No case has this class, in truth or prediction."
    over, excess = table["over_confidence"], table["excess"]
    if table["ece"] < _GOOD:
        return f"Well calibrated: probabilities and frequencies differ by {table['ece']:.3f} on average."
    if abs(over) >= abs(excess):
        word, more = ("Over", "higher") if over > 0 else ("Under", "lower")
        return (
            f"{word}-confident: the likelier answer has a probability that is on average {abs(over):.3f} {more} than "
            "its share of right voxels."
        )
    word, more = ("often", "higher") if excess > 0 else ("rarely", "lower")
    return (
        f"The class is expected too {word}: its probability is on average {abs(excess):.3f} {more} than its frequency."
    )

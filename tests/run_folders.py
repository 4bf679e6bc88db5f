"""Write output folders as an evaluation leaves them: tables, record, pictures of cases."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.handlers.logs.calibration_saver import describe_tables
from pipeline.metrics.calibration import measure_calibration
from pipeline.runs.case_slices import FOLDER, CaseSlices, write_slices
from pipeline.runs.description import summarize
from pipeline.runs.reliability import CALIBRATION, write_reliability
from pipeline.runs.tables import write_metrics

RECORD = {
    "schema": 1,
    "status": "finished",
    "command": "python -m monai.bundle run",
    "seed": 0,
    "versions": {"torch": "2.8"},
    "manifest": {"path": "m.json", "sha256": "0" * 64},
}


def write_run(
    folder: Path,
    scores: Mapping[str, float],
    *,
    subjects: Mapping[str, str] | None = None,
    metric: str = "dice_image",
    unit: str = "image",
    record: Mapping[str, Any] | None = None,
    filename: str = "evaluate.json",
    **changes: Any,
) -> Path:
    """Write the tables and the record of a run; ``changes`` go into the record or, of the policy, into the table."""
    folder.mkdir(parents=True, exist_ok=True)
    people = subjects or {case: f"p{case}" for case in scores}
    with (folder / f"{metric}_raw.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["filename", "class0", "mean", "subject", "unit"])
        writer.writerows([case, score, score, people[case], unit] for case, score in scores.items())
    summary = summarize(metric, scores, people)
    object.__setattr__(summary, "empty_policy", changes.pop("policy", "exclude"))
    write_metrics(folder / "metrics.csv", {metric: summary.mean, "n_missed": 1.0}, {metric: summary})
    (folder / filename).write_text(json.dumps({**RECORD, **(record or {}), **changes}))
    return folder


def write_pictures(folder: Path, cases: Mapping[str, int], size: tuple[int, int] = (48, 64)) -> None:
    """Write pictures of so many slices a case: a square of truth, the prediction moved 2 to the right."""
    for number, (case, slices) in enumerate(cases.items()):
        image = np.random.default_rng(number).integers(0, 255, (slices, *size), dtype=np.uint8)
        truth = np.zeros((slices, *size), dtype=np.uint16)
        truth[:, 10:30, 10:30] = 1
        pred = np.roll(truth, 2, axis=2)
        pred[0] = truth[0]
        numbers = np.arange(slices) + 3
        write_slices(
            CaseSlices(case, image, pred, truth, numbers, slices + 10 if slices > 1 else 1),
            folder / FOLDER / f"{number}.npz",
        )


def write_probabilities(folder: Path, doubts: Mapping[str, float]) -> None:
    """Add what an evaluation measures of probabilities: of 0.95 and 0.05, each right in three of four voxels."""
    for metric, scores in (
        ("doubt", doubts),
        ("ece_band", dict.fromkeys(doubts, 0.2)),
        ("ece_all", dict.fromkeys(doubts, 0.01)),
    ):
        with (folder / f"{metric}_raw.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["filename", "class0", "mean", "subject", "unit"])
            writer.writerows([case, score, score, f"p{case}", "image"] for case, score in scores.items())
    places = torch.arange(1600).reshape(1, 40, 40)
    said, right = places % 2 == 0, places // 2 % 4 != 0
    found = measure_calibration(torch.where(said, 0.95, 0.05), (said == right).float())
    write_reliability(folder / CALIBRATION, describe_tables(found), len(doubts))

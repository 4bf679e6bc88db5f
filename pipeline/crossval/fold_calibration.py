"""Sum the reliability tables of the folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.handlers.logs.calibration_saver import describe_tables
from pipeline.metrics.calibration import REGIONS, Calibration
from pipeline.runs.reliability import CALIBRATION, read_reliability, write_reliability


def merge_calibration(folders: Sequence[Path], target: Path) -> None:
    """Write ``calibration.json`` over the cases of all folds; nothing where a fold has none.

    Args:
        folders: of the folds' evaluations.
        target: gets the file.

    Raises:
        InputError: a file is damaged.
        OSError: the file cannot be written.
    """
    found = [content for folder in folders if (content := read_reliability(folder)) is not None]
    parts = [_read_counts(content["tables"]) for content in found]
    if len(parts) < len(folders) or len({part.bins.shape for part in parts}) != 1:
        return
    total = Calibration(sum(part.bins for part in parts), sum(part.squares for part in parts))  # type: ignore[arg-type]
    write_reliability(target / CALIBRATION, describe_tables(total), sum(int(content["cases"]) for content in found))


def _read_counts(tables: Sequence[Mapping[str, Any]]) -> Calibration:
    """Return the counts that `describe_tables` has described."""
    bins = [[_multiply(row) for row in table["bins"]] for table in tables]
    squares = [(table["brier"] or 0.0) * table["voxels"] for table in tables]
    shape = (len(tables) // len(REGIONS), len(REGIONS))
    return Calibration(
        torch.tensor(bins, dtype=torch.float64).reshape(*shape, -1, 3),
        torch.tensor(squares, dtype=torch.float64).reshape(shape),
    )


def _multiply(row: Mapping[str, Any]) -> list[float]:
    count = row["count"]
    return [count, count * (row["confidence"] or 0.0), count * (row["observed"] or 0.0)]

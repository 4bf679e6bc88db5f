"""The file ``calibration.json`` of a run: how often the voxels of each probability are of the class."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.issues import InputError

#: Name of the file
CALIBRATION = "calibration.json"
#: Names of the metrics of an evaluation that are about probabilities and not about masks
BAND_METRICS, ALL_METRICS, DOUBT = ("brier_band", "ece_band"), ("brier_all", "ece_all"), "doubt"
_KEYS = ("schema", "cases", "tables")
_TABLE = ("class", "region", "voxels", "brier", "ece", "over_confidence", "excess", "bins")


def is_of_probabilities(metric: str) -> bool:
    """Return whether a metric is about probabilities and not about masks, so that it does not rank the runs.

    Example:
        >>> is_of_probabilities("ece_band"), is_of_probabilities("dice_patient")
        (True, False)
    """
    return metric in (*BAND_METRICS, *ALL_METRICS, DOUBT)


def write_reliability(path: Path, tables: Sequence[Mapping[str, Any]], cases: int) -> None:
    """Write the tables, completely or not at all.

    Args:
        path: the file.
        tables: one a class and region, see `docs/reference/output-folder.md`.
        cases: number of cases that they are summed over.

    Raises:
        OSError: the file cannot be written.
    """
    with write_atomically(path) as stream:
        json.dump({"schema": 1, "cases": cases, "tables": list(tables)}, stream, indent=1)
        stream.write("\n")


def read_reliability(folder: Path) -> dict[str, Any] | None:
    """Read the file of a run; None if it has none.

    Raises:
        InputError: it cannot be read, or is not such a file.
    """
    path = folder / CALIBRATION
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except PermissionError:
        raise InputError(f"{path}: no permission to read it, check its owner and `chmod u+r`") from None
    except (OSError, ValueError):
        said = None
    if not isinstance(said, dict) or any(key not in said for key in _KEYS) or not _are_tables(said["tables"]):
        raise InputError(f"{path}: this is not the calibration of a run, or it is cut off; run evaluate.json again")
    return said


def _are_tables(tables: Any) -> bool:
    if not isinstance(tables, list):
        return False
    return all(isinstance(table, dict) and all(key in table for key in _TABLE) for table in tables)

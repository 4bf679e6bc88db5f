"""The reliability tables of the folds are summed: the same as those of all cases together."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.crossval.fold_calibration import merge_calibration
from pipeline.handlers.logs.calibration_saver import describe_tables
from pipeline.metrics.calibration import Calibration, measure_calibration
from pipeline.runs.reliability import CALIBRATION, read_reliability, write_reliability


def measure(seed: int) -> Calibration:
    generator = torch.Generator().manual_seed(seed)
    prob = torch.rand(3, 12, 14, generator=generator).softmax(0)
    return measure_calibration(prob, torch.randint(3, (1, 12, 14), generator=generator))


def test_sum_of_the_folds(tmp_path: Path) -> None:
    parts = [measure(seed) for seed in range(3)]
    for fold, part in enumerate(parts):
        (tmp_path / str(fold)).mkdir()
        write_reliability(tmp_path / str(fold) / CALIBRATION, describe_tables(part), fold + 1)
    merge_calibration([tmp_path / str(fold) for fold in range(3)], tmp_path)
    found = read_reliability(tmp_path)
    assert found is not None
    assert found["cases"] == 6
    total = Calibration(sum(part.bins for part in parts), sum(part.squares for part in parts))
    for table, expected in zip(found["tables"], json.loads(json.dumps(describe_tables(total))), strict=True):
        assert {key: table[key] for key in ("class", "region", "voxels")} == {
            key: expected[key] for key in ("class", "region", "voxels")
        }
        for key in ("brier", "ece", "over_confidence", "excess"):
            assert table[key] == pytest.approx(expected[key], abs=1e-9)
        assert [row["count"] for row in table["bins"]] == [row["count"] for row in expected["bins"]]


def test_nothing_where_a_fold_has_none(tmp_path: Path) -> None:
    for fold in range(2):
        (tmp_path / str(fold)).mkdir()
    write_reliability(tmp_path / "0" / CALIBRATION, describe_tables(measure(0)), 1)
    merge_calibration([tmp_path / "0", tmp_path / "1"], tmp_path)
    assert not (tmp_path / CALIBRATION).exists()

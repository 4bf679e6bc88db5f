"""Weights that find nothing: each workflow says so in one line; a training shorter than the interval leaves weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.bundles.conftest import ROOT
from tests.bundles.running import Trained, evaluate, infer, read_scalars, train

BUNDLE = ROOT / "bundles/isic_unet"
SMALL = {"image_size": [32, 32]}


def list_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if "found nothing" in record.getMessage()]
    caplog.clear()
    return lines


def test_a_short_training_and_weights_that_find_nothing(
    write_data: Callable[[Path], dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_data(BUNDLE)
    output = train(BUNDLE, data, tmp_path / "run", max_epochs=1, val_interval=5, **SMALL)
    assert [step for step, _ in read_scalars(output)["dice_image"]] == [1]
    weights = torch.load(output / "model.pt", weights_only=True)
    caplog.clear()

    trained = Trained(BUNDLE, data, output)
    images = str(Path(data["dataset_dir"]) / "ISIC2018_Task1-2_Training_Input")
    for bias, count in ((100, 0), (-100, 1)):
        torch.save(
            {**weights, "final_conv.bias": torch.full_like(weights["final_conv.bias"], bias)}, output / "model.pt"
        )
        evaluate(trained, tmp_path / "evaluated", **SMALL)
        infer(trained, input=images, output_dir=str(tmp_path / "masks"), **SMALL)
        advice = f"was {output / 'model.pt'} trained long enough, and on images like these?"
        lines = list_lines(caplog)
        assert len(lines) == 2 * count
        assert all(line.startswith("the network found nothing in any of the ") for line in lines)
        assert all(line.endswith(f"all their masks are empty: {advice}") for line in lines)

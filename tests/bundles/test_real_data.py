"""The LGG bundle on real slices, where they lie beside the repository."""

from pathlib import Path

import numpy as np
import pytest
from monai.bundle import run
from PIL import Image

from pipeline.datasets import load_datalist
from tests.bundles.conftest import ROOT

pytestmark = pytest.mark.realdata
BUNDLE = ROOT / "bundles/lgg_attunet"
MANIFEST = ROOT / "data_manifests/lgg.json"


def test_training_on_real_slices(real_lgg: Path, tmp_path: Path) -> None:
    run(
        config_file=str(BUNDLE / "configs/train.json"),
        bundle_root=str(BUNDLE),
        dataset_dir=str(real_lgg),
        output_dir=str(tmp_path),
        logging_file=False,
        allow_missing="true",
        max_epochs=1,
        val_interval=1,
        slices_per_patient=4,
        batch_size=4,
    )
    assert (tmp_path / "model.pt").is_file()


def test_released_weights_find_tumours_they_never_saw(real_lgg: Path, tmp_path: Path) -> None:
    run(
        config_file=str(BUNDLE / "configs/inference.json"),
        bundle_root=str(BUNDLE),
        input=str(real_lgg),
        output_dir=str(tmp_path),
        logging_file=False,
    )
    validation = load_datalist(MANIFEST, real_lgg, "val", 0, allow_missing=True)
    assert len(validation) == 2
    for case in validation:
        overlap = total = 0
        for image, label in zip(map(Path, case["image"]), case["label"], strict=True):
            mask = np.asarray(Image.open(tmp_path / image.parent.name / f"{image.stem}_pred.tif")) > 0
            truth = np.asarray(Image.open(label)) > 0
            overlap += int((mask & truth).sum())
            total += int(mask.sum() + truth.sum())
        assert 2 * overlap / total > 0.75, case["case_id"]

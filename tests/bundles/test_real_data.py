"""Every bundle on a few real images, and the released weights, where real data lie beside the repository."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import run
from PIL import Image

from pipeline.datasets import load_datalist
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from tests.bundles.conftest import ROOT, read_json
from tests.bundles.running import Trained, evaluate, infer, load_prediction, load_truth, train

pytestmark = pytest.mark.realdata
BUNDLE = ROOT / "bundles/lgg_attunet"
MANIFEST = ROOT / "data_manifests/lgg.json"

# Folder of the real images of each layout, and the suite's manifest of them; without one it is built here.
SOURCES = {
    "lgg": ("", MANIFEST),
    "isic": ("isic2017", None),
    "coco": ("brain_tumor_coco_kaggle", None),
    "cell_tracking": ("PhC-C2DH-U373", ROOT / "data_manifests/u373_time.json"),
    "decathlon": ("Task04_Hippocampus", ROOT / "data_manifests/hippocampus.json"),
}


def choose_cases(manifest: Manifest, root: Path) -> Manifest:
    """Return three cases that are on the disk: two to train, and one to validate, which is the test set as well."""
    there = [case for case in manifest.cases if case.label and all((root / file).is_file() for file in case.files())]
    chosen = there[:: max(1, len(there) // 3)][:3]
    assert len(chosen) == 3
    parts = [
        replace(case, fold=None, split=split) for case, split in zip(chosen, ("train", "train", "val"), strict=True)
    ]
    return replace(manifest, cases=tuple(parts), named_splits={})


@pytest.mark.one_per_family
def test_every_bundle_learns_from_and_predicts_real_images(
    bundle: Path, shared_data: Path, real_lgg: Path, tmp_path: Path
) -> None:
    layout = read_json(bundle / "configs/metadata.json")["phantom"]["layout"]
    folder, known = SOURCES[layout]
    root = shared_data / folder if folder else real_lgg
    manifest = read_manifest(known) if known else read_layout(layout, root).manifest
    few = write_manifest(choose_cases(manifest, root), tmp_path / "manifest.json")
    data = {"dataset_dir": str(root), "manifest": str(few)}
    # So few frames of a film are no honest split, and the check would say so.
    output_dir = train(bundle, data, tmp_path / "out", fold=0, max_epochs=1, check="false")
    trained = Trained(bundle, data, output_dir)
    scores = evaluate(trained, tmp_path / "scores", fold=0, check="false")
    cases = load_datalist(data["manifest"], root, "val", check=False)
    assert set(scores) == {case["case_id"] for case in cases}
    case = cases[0]
    first = Path(case["image"][0])
    infer(trained, input=str(first if len(case["image"]) == 1 else first.parent), output_dir=str(tmp_path / "masks"))
    load_prediction(case, tmp_path / "masks", load_truth(bundle, data, case))


def test_training_on_real_slices(real_lgg: Path, tmp_path: Path) -> None:
    few = write_manifest(choose_cases(read_manifest(MANIFEST), real_lgg), tmp_path / "manifest.json")
    run(
        config_file=str(BUNDLE / "configs/train.json"),
        bundle_root=str(BUNDLE),
        dataset_dir=str(real_lgg),
        manifest=str(few),
        output_dir=str(tmp_path / "out"),
        logging_file=False,
        max_epochs=1,
        val_interval=1,
        slices_per_patient=4,
        batch_size=4,
    )
    assert (tmp_path / "out/model.pt").is_file()


@pytest.mark.parametrize(
    ("name", "patients"), [("lgg_attunet", 1), ("lgg_unet", 1), pytest.param("lgg_attunet", 2, marks=pytest.mark.slow)]
)
def test_released_weights_find_tumours_they_never_saw(name: str, patients: int, real_lgg: Path, tmp_path: Path) -> None:
    validation = load_datalist(MANIFEST, real_lgg, "val", 0, allow_missing=True)
    assert len(validation) == 2
    for case in validation[:patients]:
        folder = Path(case["image"][0]).parent
        shutil.copytree(folder, tmp_path / "images" / folder.name)
    infer_with_released_weights(name, tmp_path / "images", tmp_path)
    for case in validation[:patients]:
        slices = [Path(image) for image in case["image"]]
        masks = [np.asarray(Image.open(tmp_path / path.parent.name / f"{path.stem}_pred.tif")) > 0 for path in slices]
        truth = [np.asarray(Image.open(label)) > 0 for label in case["label"]]
        assert find_dice(np.stack(masks), np.stack(truth)) > 0.75, case["case_id"]


def find_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice of two masks."""
    return 2 * float((prediction & truth).sum()) / float(prediction.sum() + truth.sum())


@pytest.mark.parametrize(("name", "least"), [("isic_unetpp", 0.85), ("isic_resunet", 0.7)])
def test_released_weights_outline_lesions_in_photographs(
    name: str, least: float, shared_data: Path, tmp_path: Path
) -> None:
    """Whole photographs that are not among those it was trained on, as a user has them in a folder."""
    photographs = ("ISIC_0003462", "ISIC_0003582", "ISIC_0006914", "ISIC_0008025")
    (tmp_path / "photographs").mkdir()
    for photograph in photographs:
        shutil.copy(shared_data / f"isic2017/ISIC2017_Input/{photograph}.jpg", tmp_path / "photographs")
    infer_with_released_weights(name, tmp_path / "photographs", tmp_path / "masks")
    scores = {}
    for photograph in photographs:
        truth = np.asarray(Image.open(shared_data / f"isic2017/ISIC2017_GroundTruth/{photograph}_segmentation.png")) > 0
        scores[photograph] = find_dice(np.asarray(Image.open(tmp_path / f"masks/{photograph}_pred.png")) > 0, truth)
    assert np.median(list(scores.values())) > least, scores


def test_released_weights_outline_brain_tumours(shared_data: Path, tmp_path: Path) -> None:
    """Every 40th slice of the validation part."""
    root = shared_data / "brain_tumor_figshare"
    with (root / "slices.csv").open() as file:
        names = [row["id"] for row in csv.DictReader(file) if row["part"] == "valid"][::40]
    (tmp_path / "slices").mkdir()
    for name in names:
        Image.open(root / f"images/{name}.webp").convert("L").save(tmp_path / f"slices/{name}.jpg", quality=95)
    infer_with_released_weights("braintumor_unet", tmp_path / "slices", tmp_path / "masks")
    scores = {}
    for name in names:
        truth = np.asarray(Image.open(root / f"masks/{name}.png").convert("L")) > 0
        scores[name] = find_dice(np.asarray(Image.open(tmp_path / f"masks/{name}_pred.png")) > 0, truth)
    assert np.median(list(scores.values())) > 0.75, scores


def test_released_weights_label_both_parts_of_the_hippocampus(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "Task04_Hippocampus"
    case = load_datalist(ROOT / "data_manifests/hippocampus.json", root, "val", 0, allow_missing=True)[0]
    infer_with_released_weights("hippocampus_segresnet", Path(case["image"][0]), tmp_path)
    (path,) = tmp_path.rglob("*_pred.nii.gz")
    found, truth = (np.asarray(nibabel.load(file).dataobj) for file in (path, case["label"][0]))
    for label in (1, 2):
        assert find_dice(found == label, truth == label) > 0.8, label


def test_released_weights_number_cells(shared_data: Path, tmp_path: Path) -> None:
    """Frames from the end of the film, of which the weights saw the beginning."""
    root = shared_data / "PhC-C2DH-U373"
    (tmp_path / "frames").mkdir()
    for number in (95, 99):
        shutil.copy(root / f"01/t{number:03d}.tif", tmp_path / "frames")
    infer_with_released_weights("u373_unet", tmp_path / "frames", tmp_path / "masks")
    for number in (95, 99):
        found = np.asarray(Image.open(tmp_path / f"masks/t{number:03d}_pred.tif"))
        truth = np.asarray(Image.open(root / f"01_ST/SEG/man_seg{number:03d}.tif"))
        for cell in np.unique(truth)[1:]:
            numbers, sizes = np.unique(found[truth == cell], return_counts=True)
            assert numbers[sizes.argmax()] > 0, (number, cell)
            assert find_dice(found == numbers[sizes.argmax()], truth == cell) > 0.8, (number, cell)


def infer_with_released_weights(bundle: str, images: Path, output: Path) -> None:
    """Predict as a user does."""
    folder = ROOT / "bundles" / bundle
    settings = {"bundle_root": str(folder), "input": str(images), "output_dir": str(output)}
    run(config_file=str(folder / "configs/inference.json"), logging_file=False, **settings)

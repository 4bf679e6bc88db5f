"""The synthetic export looks like a real one to every reader, and its masks equal the truth."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.coco import rasterise, read_annotations
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.phantoms import write_coco_phantom
from pipeline.issues import InputError


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_phantom(tmp_path_factory.mktemp("coco"), images=20, size=64).parent


def hash_tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_truth(root: Path) -> dict[str, dict]:
    return json.loads((root / "truth.json").read_text())["images"]


def test_same_seed_same_bytes_and_another_seed_others(phantom: Path, tmp_path: Path) -> None:
    write_coco_phantom(tmp_path / "again", images=20, size=64)
    assert hash_tree(tmp_path / "again") == hash_tree(phantom)
    write_coco_phantom(tmp_path / "other", images=20, size=64, seed=1)
    assert set(hash_tree(tmp_path / "other").values()).isdisjoint(hash_tree(phantom).values())


def test_masks_are_the_truth_to_the_pixel(phantom: Path) -> None:
    truth, seen = read_truth(phantom), 0
    for folder in ("train", "valid", "test"):
        file = read_annotations(phantom / "export" / folder / "_annotations.coco.json")
        assert not file.issues
        for image_id, image in file.images.items():
            mask = rasterise(file, image_id, {1: 1, 2: 2})
            entry = truth[image.file_name]
            assert entry["folder"] == folder
            expected = [0, 0] if entry["labels_lost"] else list(entry["voxels"].values())
            assert np.bincount(mask.ravel(), minlength=3)[1:].tolist() == expected
            assert mask.shape == (64, 80)
            seen += 1
    assert seen == len(truth) == 20


def test_it_resembles_real_exports(phantom: Path) -> None:
    kinds = set()
    for path in phantom.glob("export/*/_annotations.coco.json"):
        for annotation in json.loads(path.read_text())["annotations"]:
            shape = annotation["segmentation"]
            kinds.add("polygon" if isinstance(shape, list) else f"{type(shape['counts']).__name__} counts")
    assert kinds == {"polygon", "str counts", "list counts"}
    truth = read_truth(phantom).values()
    assert sum(entry["labels_lost"] for entry in truth if entry["folder"] == "test") == 0
    assert {entry["folder"] for entry in truth if entry["labels_lost"]} == {"train", "valid"}
    assert {entry["folder"] for entry in truth if entry["copy"]} == {"train"}
    codes = {issue.code for issue in read_layout("coco", phantom / "export").notes}
    assert codes == {"unannotated-images", "merged-categories"}


def test_copies_are_mirror_images_and_one_subject(phantom: Path) -> None:
    cases = read_manifest(phantom / "manifest.json").cases
    subjects = [case.subject for case in cases if case.subject]
    assert len(subjects) == 2 * len(set(subjects)) > 0
    pair = [case for case in cases if case.subject == subjects[0]]
    first, second = (np.asarray(Image.open(phantom / "export" / case.image[0]), float) for case in pair)
    assert np.abs(first - second[:, ::-1]).mean() < 2
    assert pair[0].facts["foreground"] == pair[1].facts["foreground"]


def test_lesions_are_brighter_than_their_surroundings(phantom: Path) -> None:
    contrasts = []
    for case in read_manifest(phantom / "manifest.json").cases:
        file, image_id = case.label[0].split("#")
        mask = rasterise(read_annotations(phantom / "export" / file), image_id, {1: 1, 2: 1}) > 0
        image = np.asarray(Image.open(phantom / "export" / case.image[0]).convert("L"), float)
        contrasts.append(image[mask].mean() - image[~mask & (image > 40)].mean())
    assert np.median(contrasts) > 30


def test_the_manifest_passes_the_deep_check(phantom: Path) -> None:
    manifest = read_manifest(phantom / "manifest.json")
    assert manifest.name == "coco_phantom"
    assert {case.split for case in manifest.cases} == {"train", "val", "test"}
    assert check_manifest(manifest, phantom / "export", level="deep").errors() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"images": 4}, "images must be 5 to 999, got 4"),
        ({"size": 16}, "size must be 32 to 1024, got 16"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_arguments_are_checked(tmp_path: Path, arguments: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        write_coco_phantom(tmp_path / "x", **arguments)
    assert not (tmp_path / "x").exists()


def test_an_existing_dataset_is_not_overwritten(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already; remove it or choose another folder"):
        write_coco_phantom(phantom)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        write_coco_phantom(tmp_path / "file")


@pytest.mark.parametrize("images", range(5, 9))
def test_small_sets_have_all_splits(tmp_path: Path, images: int) -> None:
    manifest = read_manifest(write_coco_phantom(tmp_path, images=images, size=32))
    assert {case.split for case in manifest.cases} == {"train", "val", "test"}

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pipeline.datasets import Manifest, read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.convert.conversion import convert_manifest
from pipeline.datasets.convert.reading import read_labels
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.splits.splits import add_named_split
from pipeline.issues import InputError


def read_back(folder: Path) -> Manifest:
    """Read a converted dataset; deep, it must be without errors."""
    manifest = read_layout("coco", folder, categories="keep", unannotated="negative").manifest
    assert check_manifest(manifest, folder, level="deep").errors() == []
    return manifest


def compare(manifest: Manifest, root: Path, folder: Path) -> None:
    """Assert that every mask is the same, pixel by pixel: IoU 1."""
    again = read_back(folder)
    others = {case.case_id: case for case in again.cases}
    labelled = [case for case in manifest.cases if case.label]
    assert len(others) == len(labelled)
    for case in labelled:
        other = others[case.case_id]
        assert other.split == case.split
        before, after = (read_labels(m, c, r)[0].array for m, c, r in ((manifest, case, root), (again, other, folder)))
        np.testing.assert_array_equal(before, after)
        first, second = (coco_mask.encode(np.asfortranarray(mask > 0, np.uint8)) for mask in (before, after))
        if before.any():
            assert coco_mask.iou([first], [second], [0])[0, 0] == 1


def test_round_trip_of_pictures_with_holes(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    assert convert_manifest(manifest, root, "coco", tmp_path / "out") == []
    compare(manifest, root, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "annotations").iterdir()) == [
        "instances_test.json",
        "instances_train.json",
        "instances_val.json",
    ]
    for case in manifest.cases:
        written = next((tmp_path / "out" / case.split).glob(f"{case.case_id}.*"))
        with Image.open(written) as after, Image.open(root / case.image[0]) as before:
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


def test_pycocotools_reads_it(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    convert_manifest(*pictures, "coco", tmp_path / "out")
    data = COCO(tmp_path / "out" / "annotations" / "instances_train.json")
    assert data.getCatIds() == [1]
    annotations = data.loadAnns(data.getAnnIds(imgIds=1))
    # Two parts, the first with a hole.
    assert [entry["area"] for entry in annotations] == [8 * 10 - 9, 5]
    assert [entry["bbox"] for entry in annotations] == [[5, 4, 10, 8], [20, 15, 5, 1]]
    assert data.annToMask(annotations[0])[7, 8] == 0
    assert {entry["iscrowd"] for entry in annotations} == {0}
    assert len({entry["id"] for entry in data.loadAnns(data.getAnnIds())}) == 6


def test_round_trip_of_annotations_keeps_their_objects(coco_phantom: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, root = read_manifest(coco_phantom[0]), coco_phantom[1]
    convert_manifest(manifest, root, "coco", tmp_path / "out", link="symlink")
    compare(manifest, root, tmp_path / "out")
    before = sum(len(json.loads(path.read_text())["annotations"]) for path in root.rglob("_annotations.coco.json"))
    after = sum(
        len(json.loads(path.read_text())["annotations"]) for path in (tmp_path / "out" / "annotations").iterdir()
    )
    assert after == before > 0


def test_an_object_of_an_instance_mask_is_an_annotation(cells_phantom: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, root = read_manifest(cells_phantom[0]), cells_phantom[1]
    convert_manifest(manifest, root, "coco", tmp_path / "out")
    for case in manifest.cases:
        data = COCO(tmp_path / "out" / "annotations" / f"instances_{case.split}.json")
        image = next(entry for entry in data.dataset["images"] if Path(entry["file_name"]).stem == case.case_id)
        labels = read_labels(manifest, case, root)[0].array
        numbers = [number for number in np.unique(labels) if number]
        annotations = data.loadAnns(data.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(numbers)
        for number, annotation in zip(numbers, annotations, strict=True):
            np.testing.assert_array_equal(data.annToMask(annotation), labels == number)


def test_slices_of_stacks_are_images(lgg_phantom: Path, tmp_path: Path) -> None:
    manifest, root = read_manifest(lgg_phantom / "manifest.json"), lgg_phantom / "kaggle_3m"
    notes = convert_manifest(manifest, root, "coco", tmp_path / "out", fold=1, link="hard")
    assert notes == []
    again = read_back(tmp_path / "out")
    assert len(again.cases) == sum(len(case.image) for case in manifest.cases)
    for case in manifest.cases:
        own = [other for other in again.cases if other.case_id.startswith(case.case_id)]
        split = "val" if case.fold == 1 else case.split
        assert {other.split for other in own} == {split}
        assert sum(other.facts["foreground"] for other in own) == case.facts["foreground"]
    first = manifest.cases[0]
    linked = next((tmp_path / "out").rglob(Path(first.image[0]).name))
    assert linked.samefile(root / first.image[0])


def test_cases_that_a_named_split_excludes_are_left_out(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    first, second = (case.case_id for case in manifest.cases[:2])
    named = add_named_split(manifest, "time", [first], "", [second])
    convert_manifest(named, root, "coco", tmp_path / "out", fold="time")
    assert sorted(case.case_id for case in read_back(tmp_path / "out").cases) == sorted(
        case.case_id for case in manifest.cases if case.case_id != second
    )
    convert_manifest(named, root, "coco", tmp_path / "val", fold="time", split="val")
    assert [case.case_id for case in read_layout("coco", tmp_path / "val", categories="keep").manifest.cases] == [first]


def test_notes_name_the_facts_that_coco_cannot_express(
    lgg_phantom: Path, pictures: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest = read_manifest(lgg_phantom / "manifest.json")
    notes = convert_manifest(manifest, lgg_phantom / "kaggle_3m", "coco", tmp_path / "folds")
    assert notes == ["COCO has no folds; --fold K writes that fold as val"]
    toy, root = pictures
    cases = (*toy.cases[:4], replace(toy.cases[4], label=None))
    bare = replace(toy, cases=cases, ignore_index=99)
    notes = convert_manifest(bare, root, "coco", tmp_path / "out")
    assert notes == [
        "COCO has no ignored pixels; they became background",
        "images without mask, in annotations/image_info_*.json: 1",
    ]
    info: dict[str, Any] = json.loads((tmp_path / "out/annotations/image_info_test.json").read_text())
    assert [entry["file_name"] for entry in info["images"]] == ["p4.png"]
    assert info["annotations"] == []
    assert not (tmp_path / "out/annotations/instances_test.json").exists()


def test_volumes_are_refused(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="COCO is for pictures, case 0 is a volume; --to decathlon"):
        convert_manifest(*volumes, "coco", tmp_path / "out")


@pytest.mark.realdata
def test_round_trip_of_real_annotations(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "brain_tumor_coco_br35h"
    manifest = read_layout("coco", root).manifest
    chosen = tuple(case for case in manifest.cases if case.split == "val")[:20] + manifest.cases[:20]
    manifest = replace(manifest, cases=chosen)
    convert_manifest(manifest, root, "coco", tmp_path / "out", link="symlink")
    compare(manifest, root, tmp_path / "out")

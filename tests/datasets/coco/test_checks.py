"""COCO masks in the checks of a dataset, through the same door as all others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets import load_datalist, read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.coco import find_annotation_issues, probe_annotations
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.phantoms import write_coco_phantom
from pipeline.datasets.probes import ImageError
from pipeline.issues import InputError


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_coco_phantom(tmp_path_factory.mktemp("coco"), images=10, size=32).parent


@pytest.fixture
def dataset(phantom, tmp_path):
    """Folder and manifest of a phantom that may be damaged."""
    shutil.copytree(phantom, tmp_path / "phantom")
    return tmp_path / "phantom" / "export", read_manifest(tmp_path / "phantom" / "manifest.json")


def change(root, edit, part="train"):
    """Edit the annotations; the manifest's sha256 no longer fits."""
    path = root / part / "_annotations.coco.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def find(report, code):
    return [issue for issue in report.issues if issue.code == code]


def forget_digests(manifest):
    return replace(manifest, cases=tuple(replace(case, sha256={}) for case in manifest.cases))


@pytest.mark.parametrize("level", ["quick", "default", "deep"])
def test_an_intact_dataset_has_no_errors(dataset, level):
    root, manifest = dataset
    report = check_manifest(manifest, root, level=level)
    assert report.errors() == []
    assert bool(find(report, "unannotated-images")) is (level != "quick")


def test_a_changed_annotation_file_is_one_checksum_error_and_not_one_a_case(dataset):
    root, manifest = dataset
    change(root, lambda data: data["info"].update(year=2024))
    assert [issue.path for issue in find(check_manifest(manifest, root, level="default"), "checksum-mismatch")] == [
        "train/_annotations.coco.json"
    ]


@pytest.mark.parametrize(
    ("edit", "code", "text"),
    [
        (lambda a: a.update(segmentation=[[0, 0, float("nan"), 5, 5, 5]]), "coco-coordinate", "coordinate nan"),
        (lambda a: a.update(segmentation=[[1, 2, 3]]), "degenerate-polygon", "odd number"),
        (lambda a: a.update(segmentation={"size": [32, 40], "counts": [7]}), "coco-rle", "the runs have 7 pixels"),
        (lambda a: a.update(category_id=77), "coco-reference", "category_id 77 is not a category"),
        (lambda a: a.update(image_id=77), "coco-reference", "image_id 77 is not an image"),
        (lambda a: a.pop("segmentation"), "manifest-schema", "the key 'segmentation' is missing"),
    ],
)
def test_a_bad_annotation_is_found_at_the_default_level(dataset, edit, code, text):
    root, manifest = dataset
    change(root, lambda data: edit(data["annotations"][0]))
    found = find(check_manifest(manifest, root, level="default"), code)
    assert text in found[0].message
    assert found[0].path.startswith("train/_annotations.coco.json")
    assert found[0].record == "annotations[0]"


def test_a_moved_outline_changes_the_foreground(dataset):
    root, manifest = dataset
    change(root, lambda data: data["annotations"][0].update(segmentation=[[1, 1, 4, 1, 4, 4, 1, 4]]))
    found = find(check_manifest(forget_digests(manifest), root, level="deep"), "foreground")
    assert found[0].message == "20 foreground voxels, the manifest says 52"


def test_an_image_of_another_size(dataset):
    root, manifest = dataset
    case = manifest.cases[0]
    with Image.open(root / case.image[0]) as image:
        image.resize((20, 16)).save(root / case.image[0])
    rebuilt = read_layout("coco", root).manifest
    report = check_manifest(rebuilt, root, level="default")
    size = find(report, "coco-size")
    assert len(size) == 1
    assert f"image {Path(case.image[0]).name} is 16 x 20, the annotations say 32 x 40" in size[0].message
    assert len(find(report, "shape-mismatch")) == 1


def test_images_that_changed_places(dataset):
    root, manifest = dataset

    def exchange(data):
        first, second = data["images"][0], data["images"][2]
        first["file_name"], second["file_name"] = second["file_name"], first["file_name"]

    change(root, exchange)
    found = find(check_manifest(manifest, root, level="default"), "coco-reference")
    assert len(found) == 2
    assert "the annotations have changed; build the manifest again" in found[0].hint


def test_images_that_the_annotations_lost(dataset):
    root, manifest = dataset
    change(root, lambda data: data["images"].pop(0))
    found = find(check_manifest(manifest, root, level="default"), "coco-reference")
    mine = [issue.message for issue in found if issue.record == manifest.cases[0].case_id]
    assert mine == ["annotations[0]: image_id 0 is not an image of this file"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"<html>", b'{"images": [], "images": []}'])
def test_what_is_no_annotation_file(dataset, content):
    root, manifest = dataset
    (root / "train" / "_annotations.coco.json").write_bytes(content)
    report = check_manifest(manifest, root, level="deep")
    assert report.errors()
    assert {issue.code for issue in report.errors()} <= {
        *("checksum-mismatch", "manifest-syntax", "manifest-schema", "coco-reference", "empty-file"),
    }


def test_a_missing_annotation_file(dataset):
    root, manifest = dataset
    (root / "train" / "_annotations.coco.json").unlink()
    found = find(check_manifest(manifest, root, level="default"), "missing-file")
    assert {issue.path for issue in found} == {"train/_annotations.coco.json"}


def test_a_manifest_without_policy(dataset):
    root, manifest = dataset
    bare = replace(manifest, coco=None)
    path = root / "train" / "_annotations.coco.json"
    with pytest.raises(ImageError, match="does not say how annotations become masks"):
        probe_annotations(path, "0", bare, decode=False)
    issues = list(find_annotation_issues(bare, {"train/_annotations.coco.json": path}))
    assert [issue.code for issue in issues] == ["manifest-schema"]


def test_a_probe_describes_the_mask(dataset):
    root, manifest = dataset
    path = root / "train" / "_annotations.coco.json"
    head = probe_annotations(path, "0", manifest, decode=False)
    assert (head.format, head.shape, head.channels, head.dtype, head.content) == ("COCO", (32, 40), 1, "uint8", None)
    content = probe_annotations(path, "0", manifest, decode=True).content
    assert content.counts[1.0] == next(
        case.facts["foreground"] for case in manifest.cases if case.label[0].endswith("#0")
    )
    objects = probe_annotations(path, "0", replace(manifest, mask_type="instance"), decode=True)
    assert objects.dtype == "uint16"
    with pytest.raises(ImageError, match="no image with the id 99") as error:
        probe_annotations(path, "99", manifest, decode=False)
    assert error.value.code == "coco-reference"
    with pytest.raises(ImageError, match="cannot read the annotations"):
        probe_annotations(root / "none.json", "0", manifest, decode=False)
    issues = list(find_annotation_issues(manifest, {"none.json": root / "none.json"}))
    assert [issue.code for issue in issues] == ["unreadable-file"]


def test_training_does_not_start_on_a_broken_annotation(dataset):
    root, manifest = dataset
    change(root, lambda data: data["annotations"][0].update(segmentation=[[0, 0, 1e9, 0, 5, 5]]))
    path = write_manifest(forget_digests(manifest), root.parent / "m.json")
    with pytest.raises(InputError, match=r"coco-coordinate train/_annotations\.coco\.json .*coordinate 1000000000\.0"):
        load_datalist(path, root, "train", None)
    # What is wrong in the training part does not hinder an evaluation.
    assert load_datalist(path, root, "test", None)


def test_what_was_left_out_does_not_stop_the_rest(dataset):
    root, manifest = dataset
    change(root, lambda data: data["annotations"][0].update(segmentation=[[1, 2, 3]], category_id=77))
    with pytest.raises(InputError, match="coco-reference"):
        read_layout("coco", root)
    rest = read_layout("coco", root, skip_broken=True).manifest
    assert len(rest.cases) == len(manifest.cases) - 1
    report = check_manifest(rest, root, level="deep")
    assert report.errors() == []
    assert {issue.code for issue in report.issues} >= {"degenerate-polygon", "coco-reference"}
    path = write_manifest(rest, root.parent / "m.json")
    assert load_datalist(path, root, "train", None)

"""Masks against hand-drawn truth; pycocotools never sees what was not checked."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.datasets.coco import AnnotationError, check_annotations, parse_annotations, rasterise

HEIGHT, WIDTH = 8, 10
NAN = float("nan")


def parse(*annotations, categories=(1, 2)):
    rows = [
        {"id": k, "image_id": 1, "category_id": category, "segmentation": shape, "iscrowd": crowd}
        for k, (category, shape, crowd) in enumerate(annotations)
    ]
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": number, "name": f"c{number}"} for number in categories],
        "annotations": rows,
    }
    return parse_annotations(json.dumps(data).encode(), "a.json")


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def paint(*boxes):
    mask = np.zeros((HEIGHT, WIDTH), int)
    for value, left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = value
    return mask


def test_later_annotations_are_drawn_over_earlier_ones():
    file = parse((1, box(0, 0, 6, 4), 0), (2, box(4, 2, 9, 7), 0), (1, box(5, 5, 7, 6), 0))
    mask = rasterise(file, "1", {1: 1, 2: 2})
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, paint((1, 0, 0, 6, 4), (2, 4, 2, 9, 7), (1, 5, 5, 7, 6)))
    # The second meets the first in 4 pixels, and the third in 2.
    overlap = [i for i in check_annotations(file, categories={1: 1, 2: 2}) if i.code == "coco-overlap"]
    assert "objects of different labels overlap in 1 images (6 pixels)" in overlap[0].message
    assert overlap[0].severity == "warning"


def test_objects_are_numbered_in_the_order_of_the_file():
    file = parse((1, box(0, 0, 6, 4), 0), (1, box(4, 2, 9, 7), 0))
    mask = rasterise(file, "1", {1: 1}, instances=True)
    assert mask.dtype == np.uint16
    np.testing.assert_array_equal(mask, paint((1, 0, 0, 6, 4), (2, 4, 2, 9, 7)))
    codes = [issue.code for issue in check_annotations(file, categories={1: 1, 2: 1}, instances=True)]
    assert "coco-overlap" in codes
    assert "coco-overlap" not in [issue.code for issue in check_annotations(file, categories={1: 1, 2: 1})]


def test_merged_and_left_out_categories():
    file = parse((1, box(0, 0, 3, 3), 0), (2, box(5, 5, 7, 7), 0))
    np.testing.assert_array_equal(rasterise(file, "1", {1: 1, 2: 1}), paint((1, 0, 0, 3, 3), (1, 5, 5, 7, 7)))
    np.testing.assert_array_equal(rasterise(file, "1", {1: 0, 2: 3}), paint((3, 5, 5, 7, 7)))
    with pytest.raises(AnnotationError, match=r"category 2 has no label in the manifest; add it to coco\.categories"):
        rasterise(file, "1", {1: 1})
    issues = [issue for issue in check_annotations(file, categories={1: 1}) if issue.code == "coco-reference"]
    assert [issue.message for issue in issues] == ["category 2 ('c2') of 1 annotations has no label in the manifest"]


@pytest.mark.parametrize("crowd", ["ignore", "merge"])
def test_crowds(crowd):
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 8, 72]}
    file = parse((1, box(5, 5, 7, 7), 0), (1, runs, 1))
    drawn = [(1, 5, 5, 7, 7)] + ([(1, 0, 0, 1, 8)] if crowd == "merge" else [])
    np.testing.assert_array_equal(rasterise(file, "1", {1: 1, 2: 1}, crowd), paint(*drawn))
    issues = [issue for issue in check_annotations(file, crowd=crowd) if issue.code == "coco-crowd"]
    fate = "drawn like single objects" if crowd == "merge" else "left out: those pixels are background"
    assert [(issue.severity, issue.message) for issue in issues] == [
        ("warning", f"1 annotations marked iscrowd are {fate}")
    ]


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_with_a_hole(compressed):
    mask = paint((1, 1, 1, 8, 7), (0, 3, 3, 5, 5)).astype(np.uint8)
    if compressed:
        counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    else:
        edges = np.flatnonzero(np.diff(mask.ravel(order="F"))) + 1
        counts = np.diff([0, *edges, mask.size]).tolist()
    file = parse((1, {"size": [HEIGHT, WIDTH], "counts": counts}, 0))
    assert not file.issues
    np.testing.assert_array_equal(rasterise(file, "1", {1: 1}), mask)


def test_what_reaches_out_is_clipped():
    file = parse((1, box(-4, 3, 3, 30), 0))
    np.testing.assert_array_equal(rasterise(file, "1", {1: 1}), paint((1, 0, 3, 3, 8)))


def test_images_without_annotation_and_unknown_images():
    file = parse()
    assert not rasterise(file, "1", {}).any()
    with pytest.raises(AnnotationError, match=r"coco-reference a\.json: no image with the id 7"):
        rasterise(file, "7", {})


def test_too_many_objects(monkeypatch):
    monkeypatch.setattr("pipeline.datasets.coco.drawing.MAX_INSTANCES", 1)
    file = parse((1, box(0, 0, 3, 3), 0), (1, box(5, 5, 7, 7), 0))
    with pytest.raises(AnnotationError, match="2 objects in one image; the limit is 1"):
        rasterise(file, "1", {1: 1}, instances=True)


@pytest.mark.parametrize(
    "shape",
    [
        [[0, 0, NAN, 0, 5, 5]],
        [[0, 0, float("inf"), 0, 5, 5]],
        [[0, 0, 1e9, 0, 5, 5]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[]],
        [],
        [[50, 50, 60, 50, 60, 60]],
        {"size": [HEIGHT, WIDTH], "counts": [5]},
        {"size": [HEIGHT, WIDTH], "counts": [100]},
        {"size": [WIDTH, HEIGHT], "counts": [80]},
        {"size": [HEIGHT, WIDTH], "counts": [90, -20, 10]},
        {"size": [HEIGHT, WIDTH], "counts": "5"},
        {"size": [HEIGHT, WIDTH], "counts": "oooooooo"},
    ],
)
def test_nothing_unchecked_reaches_pycocotools(shape, monkeypatch):
    calls = []
    for name in ("frPyObjects", "merge", "decode", "area"):
        monkeypatch.setattr(coco_mask, name, lambda *args, **kwargs: calls.append(args))
    file = parse((1, shape, 0), (2, shape, 0))
    assert any(issue.severity == "error" for issue in check_annotations(file, instances=True))
    for instances in (False, True):
        with pytest.raises(AnnotationError):
            rasterise(file, "1", {1: 1, 2: 2}, "merge", instances)
    assert calls == []


def test_the_guard_above_would_see_a_call(monkeypatch):
    calls = []
    original = coco_mask.frPyObjects
    monkeypatch.setattr(coco_mask, "frPyObjects", lambda *args: calls.append(args) or original(*args))
    rasterise(parse((1, box(0, 0, 3, 3), 0)), "1", {1: 1})
    assert len(calls) == 1

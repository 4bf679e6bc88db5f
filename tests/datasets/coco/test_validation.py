"""Findings about a whole annotation file."""

import json

import pytest

from pipeline.datasets.coco import check_annotations, parse_annotations

RECTANGLE = [[3, 4, 9, 4, 9, 11, 3, 11, 3, 4]]
ROUNDED = [[3, 4, 9.004, 4, 9.001, 11.003, 3, 11]]
CIRCLE = [[12, 8, 11, 11, 8, 12, 5, 11, 4, 8, 5, 5, 8, 4, 11, 5]]
RUNS = {"size": [20, 30], "counts": [43, 5, 15, 5, 532]}
UNEVEN_RUNS = {"size": [20, 30], "counts": [43, 5, 15, 3, 534]}


def parse(shapes, images=1):
    data = {
        "images": [{"id": k, "file_name": f"{k}.png", "height": 20, "width": 30} for k in range(images)],
        "categories": [{"id": 1, "name": "tumour"}],
        "annotations": [
            {"id": k, "image_id": 0, "category_id": 1, "segmentation": shape} for k, shape in enumerate(shapes)
        ],
    }
    return parse_annotations(json.dumps(data).encode(), "a.json")


def find(file, code, **kwargs):
    return [issue for issue in check_annotations(file, **kwargs) if issue.code == code]


@pytest.mark.parametrize(
    ("shapes", "count"),
    [
        ([RECTANGLE], 1),
        ([ROUNDED], 1),
        ([RUNS], 1),
        ([RECTANGLE] * 9 + [CIRCLE], 9),
        ([RECTANGLE] * 8 + [CIRCLE] * 2, None),
        ([CIRCLE], None),
        ([UNEVEN_RUNS], None),
        ([RECTANGLE + CIRCLE], None),
        ([], None),
    ],
)
def test_rectangles_are_called_boxes(shapes, count):
    issues = find(parse(shapes), "rectangular-masks")
    if count is None:
        assert issues == []
    else:
        assert issues[0].severity == "warning"
        assert issues[0].message.startswith(f"{count} of {len(shapes)} outlines ({count / len(shapes):.0%})")


def test_images_without_annotation_are_counted():
    assert find(parse([CIRCLE], images=1), "unannotated-images") == []
    issues = find(parse([CIRCLE], images=4), "unannotated-images")
    assert [issue.message for issue in issues] == ["3 of 4 images have no annotation"]
    # A lost outline is another finding: the image was annotated.
    assert find(parse([[]], images=1), "unannotated-images") == []


def test_sizes_of_the_files():
    file = parse([CIRCLE], images=3)
    issues = find(file, "coco-size", sizes={"0": (20, 30), "1": (30, 20), "2": (40, 60), "99": (1, 1)})
    assert [issue.one_line() for issue in issues] == [
        "error coco-size a.json [image 1]: image 1.png is 30 x 20, the annotations say 20 x 30 (height x width);"
        " height and width are swapped",
        "error coco-size a.json [image 2]: image 2.png is 40 x 60, the annotations say 20 x 30 (height x width);"
        " annotate the images as they are, or export again",
    ]


def test_the_same_file_gives_the_same_findings_in_the_same_order():
    file = parse([RECTANGLE, [[1, 2]], [], [[0, 0, 1e9, 1, 2, 3]]], images=4)
    again = parse([RECTANGLE, [[1, 2]], [], [[0, 0, 1e9, 1, 2, 3]]], images=4)
    assert check_annotations(file) == check_annotations(again)
    assert len({issue.code for issue in check_annotations(file)}) == 4

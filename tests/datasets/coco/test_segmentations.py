"""Every bad outline of rows 62 to 65 gets its code, and nothing of it reaches pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from pipeline.datasets.coco.rle import decode_counts, measure_runs
from pipeline.datasets.coco.segmentations import read_segmentation, show

HEIGHT, WIDTH = 20, 30
TRIANGLE = [2, 2, 12, 2, 7, 9.5]


@pytest.mark.parametrize(
    ("segmentation", "code", "text"),
    [
        ([[2, 2, float("nan"), 2, 7, 9]], "coco-coordinate", "coordinate nan in an image of 20 x 30"),
        ([[2, 2, float("inf"), 2, 7, 9]], "coco-coordinate", "coordinate inf"),
        ([[2, 2, 12, -float("inf"), 7, 9]], "coco-coordinate", "coordinate -inf"),
        ([[2, 2, 1e9, 2, 7, 9]], "coco-coordinate", "coordinate 1000000000.0"),
        ([[2, 2, 10**400, 2, 7, 9]], "coco-coordinate", "coordinate 1000000"),
        ([[2, 2, None, 2, 7, 9]], "coco-coordinate", "coordinate None"),
        ([[2, 2, True, 2, 7, 9]], "coco-coordinate", "coordinate True"),
        ([TRIANGLE, [2, 2, "3", 2, 7, 9]], "coco-coordinate", "coordinate '3'"),
        ([[-300, 0, 300, 20] * 3000 + [0, 20]], "coco-coordinate", "an outline 3.6e+06 pixels long"),
        ([], "degenerate-polygon", "no outline at all"),
        ([[]], "degenerate-polygon", "0 points, a polygon needs 3"),
        ([[1, 2]], "degenerate-polygon", "1 points"),
        ([[1, 2, 3, 4]], "degenerate-polygon", "2 points"),
        ([[1, 2, 3, 4, 5]], "degenerate-polygon", "odd number of coordinates (5)"),
        ([[1, 2, 3, 4, 5, 6, 7]], "degenerate-polygon", "odd number of coordinates (7)"),
        ([[1, 1, 5, 5, 9, 9, 3, 3]], "degenerate-polygon", "zero area"),
        ([[4, 4] * 5], "degenerate-polygon", "zero area"),
        ([[40, 2, 50, 2, 45, 9]], "coco-bounds", "outline from (40, 2) to (50, 9) in an image of 30 x 20 (x, y)"),
        ([[2, -9, 12, -9, 7, -1]], "coco-bounds", "(2, -9)"),
        (TRIANGLE, "manifest-schema", "expected a list of polygons"),
        ([TRIANGLE, 5], "manifest-schema", "a polygon is 5"),
        (None, "manifest-schema", "segmentation is None"),
        ("abc", "manifest-schema", "segmentation is 'abc'"),
        ({"size": [20, 30], "counts": [10, 5]}, "coco-rle", "the runs have 15 pixels, the image 20 x 30 has 600"),
        ({"size": [30, 20], "counts": [590, 10]}, "coco-rle", "a size of [30, 20], the image has [20, 30]"),
        ({"size": [20.0, 30.0], "counts": [590, 10]}, "coco-rle", "a size of"),
        ({"counts": [590, 10]}, "coco-rle", "a size of None"),
        ({"size": [20, 30]}, "coco-rle", "counts are None"),
        ({"size": [20, 30], "counts": [610, -20, 10]}, "coco-rle", "expected run lengths from 0 to 600"),
        ({"size": [20, 30], "counts": [590.0, 10]}, "coco-rle", "expected run lengths"),
        ({"size": [20, 30], "counts": [2**64, 10]}, "coco-rle", "expected run lengths"),
        ({"size": [20, 30], "counts": [600]}, "coco-rle", "no foreground pixel"),
        ({"size": [20, 30], "counts": "5 5"}, "coco-rle", "character ' ' at 1"),
        ({"size": [20, 30], "counts": "ooo"}, "coco-rle", "cut off within a number"),
        ({"size": [20, 30], "counts": "oooooooo0"}, "coco-rle", "too long"),
        ({"size": [20, 30], "counts": "O5"}, "coco-rle", "run 0 is -1"),
        ({"size": [20, 30], "counts": "52203"}, "coco-rle", "the runs have 16 pixels"),
        ({"size": [20, 30], "counts": "oooo0"}, "coco-rle", "more than 600 pixels"),
    ],
)
def test_bad_outlines(segmentation, code, text):
    shape = read_segmentation(segmentation, HEIGHT, WIDTH)
    assert not shape.polygons
    assert not shape.counts
    assert shape.flaw.code == code
    assert text in shape.flaw.message


def test_what_is_broken_of_several_outlines_is_skipped_and_told():
    shape = read_segmentation([TRIANGLE, [1, 2, 3], [], [40, 2, 50, 2, 45, 9]], HEIGHT, WIDTH)
    assert shape.flaw is None
    assert shape.polygons == (TRIANGLE,)
    assert [flaw.code for flaw in shape.skipped] == ["degenerate-polygon", "degenerate-polygon", "coco-bounds"]


@pytest.mark.parametrize(("x", "clipped"), [(30, False), (31, False), (31.5, True), (60, True)])
def test_a_pixel_over_the_border_is_rounding_more_is_clipped(x, clipped):
    shape = read_segmentation([[10, 5, x, 5, x, 15, 10, 15]], HEIGHT, WIDTH)
    assert shape.flaw is None
    assert shape.clipped is clipped


def test_a_bow_tie_has_no_signed_area_but_is_drawn():
    assert read_segmentation([[2, 2, 12, 12, 12, 2, 2, 12]], HEIGHT, WIDTH).flaw is None


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)))
def test_compressed_counts_are_decoded_and_measured_like_pycocotools(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask))
    counts = decode_counts(encoded["counts"].decode(), mask.size)
    drawn = np.repeat(np.arange(len(counts)) % 2, counts).reshape(mask.shape[::-1]).T
    np.testing.assert_array_equal(drawn, mask)
    (left, top, right, bottom), area = measure_runs(counts, mask.shape[0])
    assert area == mask.sum()
    if area:
        assert [left, top, right - left, bottom - top] == coco_mask.toBbox(encoded).tolist()


@given(st.text(max_size=30), st.integers(1, 1000))
def test_any_text_decodes_to_runs_within_the_image_or_is_refused(text, pixels):
    try:
        counts = decode_counts(text, pixels)
    except ValueError:
        return
    assert all(count >= 0 for count in counts)
    assert sum(counts) <= pixels


def test_untrusted_values_are_shown_short_and_on_one_line():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, ["\n\ud800"] * 10**5, {"a": deep}):
        text = show(value)
        assert len(text) < 200
        text.encode()
        assert "\n" not in text

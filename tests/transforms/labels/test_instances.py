"""SeparateInstances and LabelInstances: by hand, against loops and scikit-image, and round trips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Flip
from skimage.draw import disk
from skimage.segmentation import find_boundaries

from pipeline.transforms import LabelInstances, LabelInstancesd, SeparateInstances, SeparateInstancesd


def ids_of(*rows):
    """Rows of digits to ids (1, H, W)."""
    return torch.tensor([[[int(digit) for digit in row] for row in rows]])


def rows_of(ids):
    return ["".join(str(int(value)) for value in row) for row in ids[0]]


def random_blocks(seed, shape=(14, 17), n=6):
    """Rectangles over one another: instances that touch, some cut in two."""
    generator = np.random.default_rng(seed)
    ids = np.zeros(shape, dtype=np.int64)
    for number in range(1, n + 1):
        corner = [int(generator.integers(0, size - 1)) for size in shape]
        ids[tuple(slice(start, start + int(generator.integers(2, 7))) for start in corner)] = number
    return torch.as_tensor(ids)[None]


def two_discs(distance, radius=12):
    """Two discs cut where they meet: touching cells with a straight border."""
    ids = np.zeros((40, 60 + distance), dtype=np.int32)
    for number, column in ((1, 20), (2, 20 + distance)):
        rows, columns = disk((20, column), radius)
        nearer = np.abs(columns - column) <= distance / 2
        ids[rows[nearer], columns[nearer]] = number
    return torch.as_tensor(ids)[None]


def separate_with_loops(ids, width):
    ids = ids[0].numpy()
    result = np.zeros(ids.shape, dtype=ids.dtype)
    for place in zip(*np.nonzero(ids), strict=True):
        window = ids[tuple(slice(max(i - width, 0), i + width + 1) for i in place)]
        result[place] = set(window.ravel().tolist()) <= {0, ids[place]}
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_separate_equals_loops(seed, width):
    ids = random_blocks(seed)
    assert np.array_equal(SeparateInstances(width)(ids)[0], separate_with_loops(ids, width))


def test_separate_volumes_equals_loops():
    ids = random_blocks(1, (7, 8, 9), 5)
    assert np.array_equal(SeparateInstances()(ids)[0], separate_with_loops(ids, 1))


@pytest.mark.parametrize("seed", range(5))
def test_one_pixel_is_what_scikit_image_calls_the_boundary_of_touching_objects(seed):
    ids = random_blocks(seed)
    array = ids[0].numpy().astype(np.int32)  # scikit-image 0.26 errs for int64
    between = find_boundaries(array, connectivity=2, mode="outer") & (array > 0)
    carved = (ids > 0) & (SeparateInstances()(ids) == 0)
    assert np.array_equal(carved[0], between)


def test_separate_by_hand():
    ids = ids_of("1112220", "1112220", "0002003", "4000003")
    assert rows_of(SeparateInstances()(ids)) == ["1100110", "1100100", "0000000", "1000001"]
    assert rows_of(SeparateInstances(0)(ids)) == ["1111110", "1111110", "0001001", "1000001"]


def test_separate_keeps_type_and_meta_data():
    ids = Flip(0)(MetaTensor(random_blocks(0).float(), meta={"filename_or_obj": "a"}))
    separated = SeparateInstances()(ids)
    assert separated.dtype == torch.float32
    assert separated.meta["filename_or_obj"] == "a"
    assert len(separated.applied_operations) == 1
    separated.meta["filename_or_obj"] = "b"
    assert ids.meta["filename_or_obj"] == "a"
    assert type(SeparateInstances()(random_blocks(0))) is torch.Tensor


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32])
def test_label_numbers_parts_in_order(dtype):
    mask = ids_of("0110010", "0100010", "0001000", "1100001")
    labelled = LabelInstances()(mask.to(dtype))
    assert labelled.dtype == torch.int32
    assert rows_of(labelled) == ["0110020", "0100020", "0003000", "4400005"]
    assert rows_of(LabelInstances(connectivity=2)(ids_of("100", "010", "001"))) == ["100", "010", "001"]
    assert rows_of(LabelInstances()(ids_of("100", "010", "001"))) == ["100", "020", "003"]


def test_small_parts_are_left_out_and_numbers_stay_without_gaps():
    mask = ids_of("1011011", "0011000", "0000001")
    assert rows_of(LabelInstances(min_size=2)(mask)) == ["0011022", "0011000", "0000000"]
    assert rows_of(LabelInstances(min_size=4)(mask)) == ["0011000", "0011000", "0000000"]
    assert not LabelInstances(min_size=5)(mask).any()
    assert not LabelInstances(min_size=2, fill_holes=True, grow=2)(torch.zeros(1, 5, 6)).any()


def test_filled_holes():
    mask = ids_of("1111100", "1000100", "1010101", "1000100", "1111101")
    assert rows_of(LabelInstances()(mask)) == ["1111100", "1000100", "1020103", "1000100", "1111104"]
    filled = ["1111100", "1111100", "1121103", "1111100", "1111104"]
    assert rows_of(LabelInstances(fill_holes=True)(mask)) == filled
    assert rows_of(LabelInstances(fill_holes=True, min_size=2)(mask)) == [
        row.replace("2", "0").replace("3", "0").replace("4", "0") for row in filled
    ]


def test_a_ring_of_instances_is_not_filled():
    mask = ids_of("0110", "1001", "1001", "0110")
    assert rows_of(LabelInstances(fill_holes=True)(mask)) == ["0110", "2003", "2003", "0440"]
    ring = rows_of(LabelInstances(fill_holes=True, connectivity=2)(mask))
    assert ring == ["0110", "1111", "1111", "0110"]


def test_grow_fills_the_gap_only():
    mask = ids_of("000000000", "011001100", "011001100", "000000000", "000000000", "000000011")
    grown = LabelInstances(grow=1)(mask)
    assert rows_of(grown)[1:3] == ["011122200"] * 2
    assert not grown[0, 4].any()  # 3 and 2 are too far apart
    assert (grown == 3).sum() == 2
    assert rows_of(LabelInstances(grow=1)(ids_of("0110000", "0110000"))) == ["0110000", "0110000"]


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("distance", [14, 19, 22])
def test_touching_cells_there_and_back(width, distance):
    ids = two_discs(distance)
    mask = SeparateInstances(width)(ids)
    back = LabelInstances(grow=width)(mask)
    assert LabelInstances()(mask).max() == 2
    apart = (LabelInstances()(mask) > 0).sum()
    assert apart < (ids > 0).sum()
    for number in (1, 2):
        truth, found = ids == number, back == number
        iou = (truth & found).sum() / (truth | found).sum()
        assert iou > 0.95, (width, distance, iou)
        assert iou >= ((mask > 0) & truth).sum() / truth.sum()
    outside = (back > 0) & (ids == 0)
    assert not outside[..., : 20 + distance // 2 - 3 * width].any()  # the outer outline is where it was


def test_grown_instances_never_merge_or_overwrite():
    mask = (random_blocks(3) > 0).float()
    before, after = LabelInstances()(mask), LabelInstances(grow=3)(mask)
    assert torch.equal(after[before > 0], before[before > 0])
    assert after.max() == before.max()


def test_label_volumes():
    mask = torch.zeros(1, 4, 4, 4)
    mask[0, 0], mask[0, 3] = 1, 1
    assert LabelInstances(fill_holes=True, grow=1)(mask).unique().tolist() == [1, 2]


def test_more_parts_than_16_bits_are_refused():
    board = torch.zeros(1, 512, 258)
    board[0, ::2, ::2] = board[0, 1::2, 1::2] = 1
    assert board.sum() == 66_048
    message = "mask has 66048 separate parts: 16-bit ids end at 65535"
    with pytest.raises(ValueError, match=message):
        LabelInstances()(board)
    assert not LabelInstances(min_size=2)(board).any()


@pytest.mark.parametrize("transform", [SeparateInstances(), LabelInstances()])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.full((1, 2, 2), 0.5), "mask has the value 0.5, expected whole numbers from 0"),
        (torch.full((1, 2, 2), -1), "mask has the value -1, expected whole numbers"),
        (torch.full((1, 2, 2), float("nan")), "mask has the value nan, expected whole numbers"),
        (torch.zeros(2, 2, 2), r"mask has shape \(2, 2, 2\), expected \(1, \*spatial\)"),
        (torch.zeros(1, 0, 2), r"mask has shape \(1, 0, 2\), expected"),
        (torch.zeros(1), r"mask has shape \(1,\), expected"),
        (MetaTensor(torch.full((1, 2, 2), 0.5), meta={"filename_or_obj": "a.tif"}), "mask a.tif has the value 0.5"),
    ],
)
def test_what_is_no_mask_of_ids_is_refused(transform, mask, message):
    with pytest.raises(ValueError, match=message):
        transform(mask)


def test_label_wants_a_binary_mask():
    with pytest.raises(ValueError, match="mask has the value 2, expected a binary mask of 0 and 1"):
        LabelInstances()(ids_of("012"))


@pytest.mark.parametrize(
    ("transform", "arguments", "message"),
    [
        (SeparateInstances, {"width": -1}, "width must be at least 0 pixels, got -1"),
        (LabelInstances, {"min_size": -1}, "got -1, 0 and 1"),
        (LabelInstances, {"grow": -1}, "got 0, -1 and 1"),
        (LabelInstances, {"connectivity": 0}, "got 0, 0 and 0"),
    ],
)
def test_arguments_out_of_range_are_refused(transform, arguments, message):
    with pytest.raises(ValueError, match=message):
        transform(**arguments)


def test_dictionaries():
    ids = random_blocks(2)
    data = {"label": ids, "image": torch.zeros(1, 2, 2)}
    separated = SeparateInstancesd(["label", "missing"], width=1, allow_missing_keys=True)(data)
    assert torch.equal(separated["label"], SeparateInstances()(ids))
    labelled = LabelInstancesd("label", min_size=3, fill_holes=True, grow=1, connectivity=2)(separated)
    assert torch.equal(labelled["label"], LabelInstances(3, True, 1, 2)(separated["label"]))
    assert data["label"] is ids
    assert labelled["image"] is data["image"]
    for transform in (SeparateInstancesd("missing"), LabelInstancesd("missing")):
        with pytest.raises(KeyError):
            transform(data)

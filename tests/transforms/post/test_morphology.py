"""Opening and closing: truth tables by hand, and loops over every ball as the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from pipeline.transforms import (
    EachSlice,
    MorphologicalClosing,
    MorphologicalClosingd,
    MorphologicalOpening,
    MorphologicalOpeningd,
)

BOTH = pytest.mark.parametrize("kind", [MorphologicalOpening, MorphologicalClosing])


def draw(text: str) -> torch.Tensor:
    """Return an index map (1, H, W) from rows of digits; a dot is background."""
    rows = text.replace(".", "0").split()
    return torch.tensor([[[int(sign) for sign in row] for row in rows]], dtype=torch.float32)


def with_spacing(labels: torch.Tensor, *spacing: float) -> MetaTensor:
    return MetaTensor(labels, affine=torch.diag(torch.tensor([*spacing, *[1.0] * (4 - len(spacing))])))


def cover(mask: np.ndarray, radius: float, spacing: tuple[float, ...], *, beyond: bool) -> np.ndarray:
    """Return the voxels of the mask that a ball inside of the mask covers, by trying every ball.

    The mask goes on outside of the image; ``beyond``: centres of balls may lie there.
    """
    reach = [int(radius / size + 1e-6) + 1 for size in spacing]
    wide = np.pad(mask, [(2 * side, 2 * side) for side in reach], constant_values=True)
    offsets = [
        offset
        for offset in itertools.product(*(range(-side, side + 1) for side in reach))
        if np.linalg.norm(np.multiply(offset, spacing)) <= radius + 1e-6
    ]
    covered = np.zeros_like(wide)
    edge = [side if beyond else 2 * side for side in reach]
    inside = [range(side, length - side) for side, length in zip(edge, wide.shape, strict=True)]
    for centre in itertools.product(*inside):
        ball = tuple(np.add(centre, offsets).T)
        if wide[ball].all():
            covered[ball] = True
    return covered[tuple(slice(2 * side, -2 * side) for side in reach)]


def open_slowly(mask: np.ndarray, radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    return cover(mask, radius, spacing, beyond=False)


def close_slowly(mask: np.ndarray, radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    return ~cover(~mask, radius, spacing, beyond=True)


OPENINGS = {
    "a spot that holds no ball goes": (1, "...... ..11.. ...... ......", "...... ...... ...... ......"),
    "a disc of the radius stays": (1, "...... ..1... .111.. ..1...", "...... ..1... .111.. ..1..."),
    "a bridge breaks": (
        1,
        "........... .111...111. .111111111. .111...111. ...........",
        "........... ..11...11.. .1111.1111. ..11...11.. ...........",
    ),
    "what the border cuts is not eaten from there": (1, "111... 111... ......", "111... 11.... ......"),
    "a whole image stays": (2, "111 111 111", "111 111 111"),
    "nothing stays nothing": (2, "... ... ...", "... ... ..."),
}
CLOSINGS = {
    "a gap of one is closed": (1, "....... .11.11. .11.11. .11.11. .......", "....... .11.11. .11111. .11.11. ......."),
    "a hole is filled": (1, "..... .111. .1.1. .111. .....", "..... .111. .111. .111. ....."),
    "a hole that holds a ball stays": (
        1,
        ".......  .11111. .1...1. .1...1. .1...1. .11111. .......",
        ".......  .11111. .11.11. .1...1. .11.11. .11111. .......",
    ),
    "nothing grows towards the border": (2, "...... .11... .11... ......", "...... .11... .11... ......"),
    "a whole image stays": (2, "111 111 111", "111 111 111"),
    "nothing stays nothing": (2, "... ... ...", "... ... ..."),
}


@pytest.mark.parametrize(("radius", "before", "after"), OPENINGS.values(), ids=OPENINGS)
def test_opening(radius: float, before: str, after: str) -> None:
    assert MorphologicalOpening(radius)(draw(before)).tolist() == draw(after).tolist()


@pytest.mark.parametrize(("radius", "before", "after"), CLOSINGS.values(), ids=CLOSINGS)
def test_closing(radius: float, before: str, after: str) -> None:
    assert MorphologicalClosing(radius)(draw(before)).tolist() == draw(after).tolist()


def test_closing_fills_between_parts_of_one_label_and_takes_nothing_of_another() -> None:
    labels = draw("....... .11.11. .112112 .11.11. .......")
    closed = MorphologicalClosing(1)(labels)
    assert closed.tolist() == draw("....... .11.11. .112112 .11.11. .......").tolist(), "2 stays where it was"
    closed = MorphologicalClosing(1.5)(labels)
    assert closed.tolist() == draw("....... .11111. .112112 .11111. .......").tolist()


def test_background_that_two_labels_claim_stays_background() -> None:
    # The middle lies in a gap of 1 from left to right, and in one of 2 from top to bottom.
    labels = draw("...2... ...2... .11.11. ...2... ...2...")
    one, two = (MorphologicalClosing(1.5, label)(labels)[0, 2, 3].item() for label in (1, 2))
    assert (one, two) == (1, 2), "each alone would take it"
    assert torch.equal(MorphologicalClosing(1.5)(labels), labels)


def test_opening_works_label_by_label() -> None:
    labels = draw("111222 111222 111222 ...... .3....")
    assert MorphologicalOpening(1)(labels).tolist() == draw("111222 111222 11..22 ...... ......").tolist()
    only = MorphologicalOpening(1, applied_labels=[3])(labels)
    assert only.tolist() == draw("111222 111222 111222 ...... ......").tolist()


def test_a_ball_in_mm_is_flat_in_voxels_where_slices_are_thick() -> None:
    volume = torch.zeros(1, 5, 5, 3)
    volume[0, 1:4, 1:4, 1] = 1  # 3 x 3 pixels of 1 mm in one slice of 4 mm
    thick = with_spacing(volume, 1, 1, 4)
    # A ball of 1 voxel reaches into the next slices, one of 1 mm does not.
    assert MorphologicalOpening(1)(thick).sum() == 0
    assert MorphologicalOpening(1, unit="mm")(thick).sum() == 5
    gap = torch.zeros(1, 5, 5, 3)
    gap[0, :, :, [0, 2]] = 1
    assert MorphologicalClosing(1)(with_spacing(gap, 1, 1, 4))[0, 2, 2, 1] == 1
    assert torch.equal(MorphologicalClosing(3.9, unit="mm")(with_spacing(gap, 1, 1, 4)).as_tensor(), gap)


@BOTH
def test_slices_one_by_one(kind: type) -> None:
    volume = (torch.rand(1, 7, 6, 8, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    for axis in (0, 1, 2, -1):
        slicewise = kind(1, slice_axis=axis)(volume)
        assert torch.equal(slicewise, EachSlice(kind(1), axis)(volume))
        assert not torch.equal(slicewise, kind(1)(volume)), "the volume has neighbours in other slices"
    thick = with_spacing(volume, 1, 3, 1)
    assert torch.equal(kind(2, unit="mm", slice_axis=1)(thick).as_tensor(), kind(2, slice_axis=1)(volume))
    assert torch.equal(
        kind(2, unit="mm", slice_axis=2)(thick).as_tensor(), EachSlice(kind(2, unit="mm"), 2)(thick).as_tensor()
    )


@BOTH
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), dims=st.integers(2, 3), radius=st.sampled_from([0.5, 1, 1.5, 2, 2.4]))
def test_equals_every_ball_tried(kind: type, seed: int, dims: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    spacing = tuple(rng.choice([0.7, 1.0, 1.6], dims))
    mask = rng.random((9, 8, 5)[:dims]) < rng.choice([0.3, 0.7, 0.9])
    slow = open_slowly if kind is MorphologicalOpening else close_slowly
    labels = with_spacing(torch.from_numpy(mask)[None].float(), *spacing)
    fast = kind(radius, unit="mm")(labels).as_tensor()[0].numpy() > 0
    assert np.array_equal(fast, slow(mask, radius, spacing))


@BOTH
def test_a_second_time_changes_nothing(kind: type) -> None:
    labels = torch.randint(0, 3, (1, 20, 20, 6), generator=torch.Generator().manual_seed(1)).float()
    once = kind(1, applied_labels=1)(labels)
    assert torch.equal(kind(1, applied_labels=1)(once), once)


@BOTH
def test_radius_zero_changes_nothing(kind: type) -> None:
    labels = draw("1.2 .1. 2.1")
    assert torch.equal(kind(0)(labels), labels)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_kind_meta_data_and_input_are_kept(kind: type, dtype: torch.dtype) -> None:
    labels = MetaTensor(draw("....... .11.11. .11.11. .11.11. 1......").to(dtype), meta={"filename_or_obj": "a.png"})
    before = labels.clone()
    changed = kind(1)(labels)
    assert isinstance(changed, MetaTensor)
    assert changed.dtype == dtype
    assert changed.meta["filename_or_obj"] == "a.png"
    assert not torch.equal(changed, labels)
    assert torch.equal(labels, before)
    assert type(kind(1)(labels.as_tensor())) is torch.Tensor


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": -1}, "radius must be a number from 0, got -1"),
        ({"radius": float("nan")}, "radius must be a number from 0, got nan"),
        ({"radius": 1, "unit": "cm"}, "unit must be 'voxel' or 'mm', got 'cm'"),
        ({"radius": 1, "applied_labels": [0, 1]}, r"whole numbers from 1, got \[0, 1\]; 0 is background"),
    ],
)
def test_wrong_arguments(kind: type, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


@BOTH
def test_wrong_inputs(kind: type) -> None:
    with pytest.raises(ValueError, match=r"expected an index map \(1, \*spatial\), got shape \(2, 3, 3\)"):
        kind(1)(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="lengths in mm need the voxel sizes of a MetaTensor"):
        kind(1, unit="mm")(torch.ones(1, 3, 3))
    with pytest.raises(ValueError, match="no slices along axis 2 of an image with 2 spatial axes"):
        kind(1, slice_axis=2)(torch.ones(1, 3, 3))


@pytest.mark.parametrize(
    ("kind", "array"),
    [(MorphologicalOpeningd, MorphologicalOpening), (MorphologicalClosingd, MorphologicalClosing)],
)
def test_dictionaries(kind: type, array: type) -> None:
    volume = (torch.rand(1, 8, 8, 4, generator=torch.Generator().manual_seed(2)) < 0.7).float()
    data = {"pred": with_spacing(volume, 1, 1, 2), "other": 1}
    changed = kind(["pred", "none"], 2, 1, unit="mm", slice_axis=2, allow_missing_keys=True)(data)
    assert torch.equal(changed["pred"], array(2, 1, unit="mm", slice_axis=2)(data["pred"]))
    assert changed["other"] == 1
    assert torch.equal(data["pred"].as_tensor(), volume)
    with pytest.raises(KeyError):
        kind("none", 1)(data)

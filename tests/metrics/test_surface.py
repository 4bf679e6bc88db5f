"""HausdorffDistance95 and SurfaceDice: brute force over voxels and surface pieces, known shifts, empty masks, units."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from skimage.measure import marching_cubes, mesh_surface_area

from pipeline.issues import InputError
from pipeline.metrics import HausdorffDistance95, SurfaceDice

NAN = float("nan")
SPACINGS = {2: [(1.0, 1.0), (0.7, 2.5)], 3: [(1.0, 1.0, 1.0), (0.7, 0.9, 2.5)]}


def measure(pred, truth, spacing):
    """Distances (n, m) in mm between two lists of places."""
    steps = (pred[:, None] - truth[None]) * np.asarray(spacing)
    return np.sqrt((steps**2).sum(-1))


def hd95_by_brute_force(pred, truth, spacing):
    """The larger of the two 95th percentiles of all distances from one surface's voxels to the other's nearest."""
    borders = []
    for mask in (pred, truth):
        padded = np.pad(mask, 1)
        inner = np.ones_like(padded)
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            inner &= np.roll(padded, step, axis)
        borders.append(np.argwhere(padded & ~inner))
    distances = measure(*borders, spacing)
    return max(np.percentile(distances.min(axis), 95) for axis in (0, 1))


def measure_piece(corners, spacing):
    """Length or area of the surface between the centres of 2 x 2 (x 2) voxels."""
    if corners.ndim == 3:
        points, faces, _, _ = marching_cubes(corners.astype(float), 0.5, spacing=spacing, method="lorensen")
        return mesh_surface_area(points, faces)
    slope, count = 0.5 * math.hypot(*spacing), int(corners.sum())
    if count in (1, 3):
        return slope
    if corners[0, 0] == corners[1, 1]:  # two pieces, each around a corner
        return 2 * slope
    return spacing[1] if corners[0, 0] == corners[0, 1] else spacing[0]


def nsd_by_brute_force(pred, truth, spacing, tolerance):
    """Share of the surface pieces of both masks that lie within the tolerance of a piece of the other."""
    places, sizes = [], []
    for mask in (np.pad(pred, 1), np.pad(truth, 1)):
        own_places, own_sizes = [], []
        for place in itertools.product(*(range(n - 1) for n in mask.shape)):
            corners = mask[tuple(slice(k, k + 2) for k in place)]
            if corners.any() and not corners.all():
                own_places.append(place)
                own_sizes.append(measure_piece(corners, spacing))
        places.append(np.array(own_places))
        sizes.append(np.array(own_sizes))
    distances = measure(*places, spacing)
    near = [sizes[k][distances.min(1 - k) <= tolerance].sum() for k in (0, 1)]
    return sum(near) / sum(size.sum() for size in sizes)


def draw_blob(shape, centre, radii):
    """A filled ellipse or ellipsoid, which marching cubes of any table cuts alike."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return (((grid - np.asarray(centre)) / np.asarray(radii)) ** 2).sum(-1) <= 1


def to_map(mask):
    return torch.as_tensor(mask[None].astype(np.uint8))


@st.composite
def pairs(draw):
    """Two blobs that may touch the border of the image, and a spacing."""
    dims = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(6, 9)] * dims))
    blobs = []
    for _ in range(2):
        centre = [draw(st.floats(1, n - 2)) for n in shape]
        blobs.append(draw_blob(shape, centre, [draw(st.floats(1.2, 3)) for _ in shape]))
    return (*blobs, draw(st.sampled_from(SPACINGS[dims])))


@settings(max_examples=40, deadline=None)
@given(pairs(), st.sampled_from([0.0, 0.8, 1.5, 3.0]))
def test_equal_brute_force(case, tolerance):
    pred, truth, spacing = case
    items = [to_map(pred)], [to_map(truth)]
    assert HausdorffDistance95(spacing=spacing)(*items).item() == pytest.approx(
        hd95_by_brute_force(pred, truth, spacing), abs=1e-4
    )
    assert SurfaceDice(tolerance, spacing=spacing)(*items).item() == pytest.approx(
        nsd_by_brute_force(pred, truth, spacing, tolerance), abs=1e-4
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SPACINGS[2]), st.sampled_from([0.8, 1.5]))
def test_plane_masks_of_any_shape_equal_brute_force(seed, spacing, tolerance):
    masks = np.random.default_rng(seed).random((2, 7, 6)) < 0.3
    masks[:, 3, 3] = True
    items = [to_map(masks[0])], [to_map(masks[1])]
    assert HausdorffDistance95(spacing=spacing)(*items).item() == pytest.approx(
        hd95_by_brute_force(*masks, spacing), abs=1e-4
    )
    assert SurfaceDice(tolerance, spacing=spacing)(*items).item() == pytest.approx(
        nsd_by_brute_force(*masks, spacing, tolerance), abs=1e-4
    )


@settings(max_examples=25, deadline=None)
@given(pairs(), st.sampled_from([0.5, 3.0]))
def test_symmetric_scaled_by_spacing_and_blind_to_flips(case, scale):
    pred, truth, spacing = case
    wider = [size * scale for size in spacing]
    first, second = to_map(pred), to_map(truth)
    distance, share = HausdorffDistance95(spacing=spacing), SurfaceDice(1.0, spacing=spacing)
    found = [metric([first], [second]).item() for metric in (distance, share)]
    assert [metric([second], [first]).item() for metric in (distance, share)] == pytest.approx(found)
    flipped = [item.flip(1, 2) for item in (first, second)]
    assert [metric(flipped[:1], flipped[1:]).item() for metric in (distance, share)] == pytest.approx(found)
    assert HausdorffDistance95(spacing=wider)([first], [second]).item() == pytest.approx(scale * found[0], rel=1e-5)
    assert SurfaceDice(1.0 * scale, spacing=wider)([first], [second]).item() == pytest.approx(found[1], abs=1e-5)
    assert [metric([first], [first]).item() for metric in (distance, share)] == [0, 1]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cube_moved_by_one_voxel(axis):
    spacing = (0.5, 1.0, 2.0)
    mask = np.zeros((8, 8, 8), bool)
    mask[2:5, 2:5, 2:5] = True
    items = [to_map(np.roll(mask, 1, axis))], [to_map(mask)]
    size = spacing[axis]
    # On each surface 26 voxels; 9 of them, one face, are one step away: more than 5 %.
    assert HausdorffDistance95(spacing=spacing)(*items).item() == pytest.approx(size)
    assert SurfaceDice(size, spacing=spacing)(*items).item() == 1
    assert SurfaceDice(0.99 * size, spacing=spacing)(*items).item() < 1


def test_square_moved_by_one_pixel_by_hand():
    """The outline of 4 x 4 pixels has 12 pieces of 1 and 4 corners of half a diagonal.

    Moved along the rows, the two outlines share 4 places on each of two sides: 3 pieces and a corner. That is half.
    """
    mask = np.zeros((9, 9), bool)
    mask[2:6, 2:6] = True
    assert SurfaceDice(0.0, unit="voxels")([to_map(np.roll(mask, 1, 0))], [to_map(mask)]).item() == pytest.approx(0.5)


def test_rounding_in_an_affine_does_not_decide_what_is_within_the_tolerance():
    mask = np.zeros((9, 9), bool)
    mask[2:6, 2:6] = True
    turn = torch.tensor([[0.6, -0.8, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float32)
    for size in (0.7, 1.1, 1.0000001, 0.9999999):
        affine = turn @ torch.diag(torch.tensor([size, size, 1, 1], dtype=torch.float32))
        label = MetaTensor(to_map(mask), affine=affine, meta={"filename_or_obj": "a.nii"})
        assert SurfaceDice(round(3 * size, 3))([to_map(np.roll(mask, 3, 0))], [label]).item() == 1


@pytest.mark.parametrize("metric", ["hd95", "nsd"])
@pytest.mark.parametrize(
    ("policy", "table"),
    [
        ("exclude", [NAN, "worst", "worst"]),
        ("perfect", ["best", "worst", "worst"]),
        ("truth_only", [NAN, NAN, "worst"]),
    ],
)
@pytest.mark.parametrize("spacing", [(2.0, 0.5), (1.0, 2.0, 0.5)])
def test_truth_table_of_empty_masks(metric, policy, table, spacing):
    shape = (3, 8) if len(spacing) == 2 else (4, 3, 8)
    none, some = torch.zeros(1, *shape), torch.ones(1, *shape)
    diagonal = math.hypot(6, 4) if len(spacing) == 2 else math.hypot(4, 6, 4)
    if metric == "hd95":
        built, values = HausdorffDistance95(empty_policy=policy, spacing=spacing), {"worst": diagonal, "best": 0.0}
    else:
        built, values = SurfaceDice(1, empty_policy=policy, spacing=spacing), {"worst": 0.0, "best": 1.0}
    expected = [values.get(entry, NAN) for entry in table]
    scores = built([none, some, none], [none, none, some])
    assert scores.flatten().tolist() == pytest.approx(expected, nan_ok=True)
    assert built.aggregate().item() == pytest.approx(np.nanmean(expected))
    valid = int(np.isfinite(expected).sum())
    assert built.count_cases() == {"n": valid, "n_both_empty": 1, "n_empty_gt": 2, "n_missed": 1}


def test_missing_more_structures_makes_the_distance_worse():
    """MONAI's mean stays at 0 here, for the missed case is NaN."""
    truth = torch.zeros(1, 8, 8)
    truth[:, 2:5, 2:5] = 1
    metric = HausdorffDistance95(unit="voxels")
    metric([truth, truth * 0], [truth, truth])
    assert metric.aggregate().item() == pytest.approx(math.hypot(8, 8) / 2)


def test_spacing_comes_from_each_label():
    truth, pred = torch.zeros(1, 5, 7), torch.zeros(1, 5, 7)
    truth[..., 2, 1], pred[..., 2, 4] = 1, 1
    labels = [MetaTensor(truth, affine=torch.diag(torch.tensor([3.0, size, 1.0, 1.0]))) for size in (0.5, 2.0)]
    assert HausdorffDistance95()([pred, pred], labels).flatten().tolist() == [1.5, 6.0]
    assert HausdorffDistance95(unit="voxels")([pred, pred], labels).flatten().tolist() == [3, 3]
    assert HausdorffDistance95(spacing=[1, 0.1])([pred, pred], labels).flatten().tolist() == pytest.approx([0.3, 0.3])
    assert SurfaceDice(1.5)([pred, pred], labels).flatten().tolist() == [1, 0]


def test_classes_are_scored_each_for_itself():
    truth = torch.zeros(1, 6, 9, dtype=torch.uint8)
    truth[:, 1:4, 1:4], truth[:, 1:4, 5:8] = 1, 2
    pred = torch.where(truth == 2, truth.roll(2, 1), truth)
    pred[truth.roll(2, 1) == 2] = 2
    pred[(truth == 2) & (pred != 2)] = 0
    metric = HausdorffDistance95([1, 2], unit="voxels")
    scores = metric([pred], [truth])
    assert scores[0, 0] == 0
    assert scores[0, 1] == HausdorffDistance95([2], unit="voxels")([pred], [truth]).item() == pytest.approx(2)
    assert metric.aggregate().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "cm"}, "unit must be one of mm, voxels, got 'cm'"),
        ({"spacing": [1, 0]}, "spacing must be positive numbers in mm, and unit mm; got .1, 0. and mm"),
        ({"spacing": [1, 1], "unit": "voxels"}, "spacing must be positive numbers in mm, and unit mm"),
    ],
)
@pytest.mark.parametrize("build", [HausdorffDistance95, lambda **options: SurfaceDice(1, **options)])
def test_options_that_make_no_sense(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("tolerance", [-1, NAN, math.inf])
def test_tolerance_below_zero_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be 0 or more, got"):
        SurfaceDice(tolerance)


def test_number_of_axes_is_checked():
    with pytest.raises(InputError, match="spacing has 3 numbers, but the label has 2 axes"):
        HausdorffDistance95(spacing=[1, 1, 1])([torch.ones(1, 4, 4)], [torch.ones(1, 4, 4)])
    with pytest.raises(InputError, match="surface metrics take 2-D and 3-D maps, got a label of shape"):
        SurfaceDice(1, unit="voxels")([torch.ones(1, 4)], [torch.ones(1, 4)])

"""Each metric on 200 generated cases of a plane and 200 of a volume: ITK for overlaps, brute force for surfaces."""

import itk
import numpy as np
import pytest

from pipeline.metrics import HausdorffDistance95, LabelDice, LabelIoU, PooledDice, PooledIoU, SurfaceDice
from tests.metrics.test_surface import draw_blob, hd95_by_brute_force, nsd_by_brute_force, to_map

CASES = 200


def draw_cases(dims, seed):
    """Yield pairs of masks, each a blob with holes and specks, and an anisotropic spacing; neither is empty."""
    generator = np.random.default_rng([seed, dims])
    for _ in range(CASES):
        shape = tuple(generator.integers(6, 10 if dims == 3 else 16, dims))
        pair = []
        for _ in range(2):
            centre, radii = generator.uniform(1, np.array(shape) - 2), generator.uniform(1.2, 3.5, dims)
            noise = generator.random(shape) < generator.choice([0.0, 0.05])
            pair.append(draw_blob(shape, centre, radii) ^ noise)
        if all(mask.any() for mask in pair):
            yield (*pair, tuple(np.round(generator.uniform(0.4, 3.0, dims), 3)))


def measure_with_itk(pred, truth):
    images = [itk.image_from_array(np.ascontiguousarray(mask.astype(np.uint8))) for mask in (pred, truth)]
    measures = itk.LabelOverlapMeasuresImageFilter[type(images[0])].New(SourceImage=images[0], TargetImage=images[1])
    measures.Update()
    return measures.GetDiceCoefficient(1), measures.GetJaccardCoefficient(1)


@pytest.mark.parametrize("dims", [2, 3])
def test_overlaps_equal_itk(dims):
    found, expected = [], []
    for pred, truth, _ in draw_cases(dims, 0):
        items = [to_map(pred)], [to_map(truth)]
        found.append([metric(*items).item() for metric in (LabelDice(), LabelIoU())])
        pooled = PooledDice(), PooledIoU()
        for metric in pooled:
            metric(*items)
        found[-1] += [metric.aggregate().item() for metric in pooled]
        expected.append([*measure_with_itk(pred, truth)] * 2)
    assert len(found) > 0.95 * CASES
    assert np.abs(np.array(found) - np.array(expected)).max() < 1e-6
    assert 0 in np.array(expected), "some do not touch"


@pytest.mark.parametrize("dims", [2, 3])
def test_distances_equal_brute_force(dims):
    found, expected = [], []
    for pred, truth, spacing in draw_cases(dims, 1):
        found.append(HausdorffDistance95(spacing=spacing)([to_map(pred)], [to_map(truth)]).item())
        expected.append(hd95_by_brute_force(pred, truth, spacing))
    assert len(found) > 0.95 * CASES
    assert np.abs(np.array(found) - np.array(expected)).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_surface_shares_equal_brute_force(dims):
    """Blobs without specks: pieces of a surface that touch in a corner are cut in more than one way."""
    generator = np.random.default_rng([2, dims])
    for _ in range(CASES):
        shape = tuple(generator.integers(6, 10, dims))
        spacing = tuple(np.round(generator.uniform(0.4, 3.0, dims), 3))
        pred, truth = (
            draw_blob(shape, generator.uniform(1, np.array(shape) - 2), generator.uniform(1.2, 3.5, dims))
            for _ in range(2)
        )
        tolerance = float(generator.choice([0.5, 1.0, 2.0]))
        found = SurfaceDice(tolerance, spacing=spacing)([to_map(pred)], [to_map(truth)]).item()
        assert found == pytest.approx(nsd_by_brute_force(pred, truth, spacing, tolerance), abs=1e-4)

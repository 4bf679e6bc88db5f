"""Calibration of a case: hand-computed scores, the band, agreement with MONAI's metric and with plain numpy."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import CalibrationErrorMetric
from scipy import ndimage

from pipeline.issues import InputError
from pipeline.metrics import calibration
from pipeline.metrics.calibration import BINS, find_band, find_band_radii, measure_calibration

ALL, BAND = 1, 0


def draw_truth(prob, seed=0):
    return (torch.rand(prob.shape, generator=torch.Generator().manual_seed(seed)) < prob).float()


def test_probabilities_that_are_frequencies_have_no_error():
    """A voxel of probability p is true with probability p: the error is that of the draw, Brier is mean p (1 - p)."""
    prob = torch.rand(1, 400, 400, generator=torch.Generator().manual_seed(1))
    found = measure_calibration(prob, draw_truth(prob))
    assert found.error()[0, ALL] < 0.01
    assert found.brier()[0, ALL] == pytest.approx((prob * (1 - prob)).mean().item(), abs=0.002)
    assert abs(found.over_confidence()[0, ALL]) < 0.01


def test_over_and_under_confidence_have_their_known_value():
    """Answers of 0.95 that are right in 0.75 are 0.2 too sure, those of 0.55 are 0.2 too unsure."""
    side = torch.arange(160_000).reshape(1, 400, 400) % 2 == 0
    truth = draw_truth(torch.where(side, 0.75, 0.25))
    for sure, over in ((0.95, 0.2), (0.55, -0.2)):
        found = measure_calibration(torch.where(side, sure, 1 - sure), truth)
        assert found.error()[0, ALL] == pytest.approx(0.2, abs=0.01)
        assert found.over_confidence()[0, ALL] == pytest.approx(over, abs=0.01)
        assert found.excess()[0, ALL] == pytest.approx(0, abs=0.01)


def test_a_class_that_is_expected_too_often():
    found = measure_calibration(torch.full((1, 20, 20), 0.4), torch.zeros(1, 20, 20))
    assert found.excess()[0, ALL] == pytest.approx(0.4)
    assert found.over_confidence()[0, ALL] == pytest.approx(-0.4)  # "no" has 0.6 and is always right
    assert found.brier()[0, ALL] == pytest.approx(0.16)


def brute_force(prob, truth, mask):
    """Return Brier score and calibration error of (N,) values, in plain numpy."""
    p, y = prob[mask].astype(float), truth[mask].astype(float)
    error = 0.0
    for low in range(BINS):
        inside = np.minimum((p * BINS).astype(int), BINS - 1) == low
        if inside.any():
            error += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    return ((p - y) ** 2).mean(), error


@pytest.mark.parametrize("shape", [(60, 50), (20, 24, 10)])
@pytest.mark.parametrize("spacing", [None, 0.8])
def test_agreement_with_numpy_and_monai(shape, spacing, monkeypatch):
    monkeypatch.setattr(calibration, "_CHUNK", 1000)  # several chunks
    generator = np.random.default_rng(len(shape))
    width = (0, *([2.0] * len(shape)))
    noise, other = (torch.tensor(ndimage.gaussian_filter(generator.normal(size=(3, *shape)), width)) for _ in range(2))
    prob, label = torch.softmax(noise * 40, dim=0).float(), other.argmax(0)[None]
    if spacing is not None:
        label = MetaTensor(label, affine=torch.diag(torch.tensor([spacing] * len(shape) + [1.0] * (4 - len(shape)))))
    found = measure_calibration(prob, label)
    onehot = torch.stack([label[0].as_subclass(torch.Tensor) == k for k in range(3)]).float()
    metric = CalibrationErrorMetric(num_bins=BINS, include_background=False, metric_reduction="none")
    expected = metric(prob[None], onehot[None])[0]
    assert found.error()[:, ALL].numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    radii = find_band_radii(label)
    for k in (1, 2):
        truth, pred = onehot[k].numpy() > 0, prob[k].numpy() >= 0.5
        box = np.ones([2 * r + 1 for r in radii])
        band = np.zeros(shape, dtype=bool)
        for mask in (truth, pred):
            grown = ndimage.binary_dilation(mask, box)
            shrunk = ndimage.binary_erosion(mask, box, border_value=1)
            band |= grown & ~shrunk
        assert found.bins[k - 1, BAND, :, 0].sum() == band.sum()
        for region, mask in ((ALL, np.ones(shape, dtype=bool)), (BAND, band)):
            brier, error = brute_force(prob[k].numpy(), truth, mask)
            assert found.brier()[k - 1, region] == pytest.approx(brier, abs=1e-6)
            assert found.error()[k - 1, region] == pytest.approx(error, abs=1e-6)


def test_the_band_is_as_wide_as_it_says():
    for spacing, expected in (((1.0, 1.0, 1.0), (2, 2, 2)), ((0.5, 0.5, 5.0), (4, 4, 0)), ((3.0, 3.0, 6.0), (1, 1, 0))):
        affine = torch.diag(torch.tensor([*spacing, 1.0]))
        label = MetaTensor(torch.zeros(1, 9, 9, 9), affine=affine, meta={"filename_or_obj": "a.nii.gz"})
        assert find_band_radii(label) == expected
    assert find_band_radii(torch.zeros(1, 300, 400)) == (10, 10)
    mask = torch.zeros(9, 9).bool()
    mask[:, :4] = True  # up to the edge of the image, which is no boundary
    assert find_band(mask, mask, (2, 2)).int()[0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert not find_band(mask & False, mask & False, (2, 2)).any()
    assert not find_band(mask | True, mask | True, (2, 2)).any()


def test_a_class_that_is_nowhere_has_no_band():
    prob = torch.tensor([0.7, 0.2, 0.1]).reshape(3, 1, 1).expand(3, 8, 8).clone()
    label = torch.zeros(1, 8, 8)
    label[0, 2:5, 2:5] = 1
    found = measure_calibration(prob, label)
    assert found.brier().isnan().tolist() == [[False, False], [True, False]]
    assert found.error()[1].isnan().tolist() == [True, False]
    # Only the prediction has it, or only the truth: the band of the one that is there.
    prob[2, :4], prob[0, :4] = 0.8, 0.0
    assert measure_calibration(prob, label).bins[1, BAND, :, 0].sum() > 0


def test_numbered_objects_are_one_class():
    label = torch.tensor([[[0, 3, 3, 0, 9, 9]]])
    found = measure_calibration((label > 0).float(), label)
    assert found.brier()[0].tolist() == [0, 0]


def test_a_grid_of_a_large_picture_counts(monkeypatch):
    prob = torch.rand(1, 240, 160, generator=torch.Generator().manual_seed(1))
    prob = torch.nn.functional.interpolate(prob[None], scale_factor=5, mode="bilinear")[0]
    truth = draw_truth(prob)
    full = measure_calibration(prob, truth)
    monkeypatch.setattr(calibration, "_MOST", 100_000)
    part = measure_calibration(prob, truth)
    assert 50_000 < part.bins[0, ALL, :, 0].sum() <= 100_000
    assert part.brier()[0].tolist() == pytest.approx(full.brier()[0].tolist(), abs=0.005)


@pytest.mark.parametrize(
    ("prob", "label", "said"),
    [
        (torch.rand(1, 8, 8), torch.zeros(1, 9, 9), "expected one grid: put Invertd before MeasureProbabilitiesd"),
        (torch.rand(1, 8, 8) * 9 + 2, torch.zeros(1, 8, 8), "expected probabilities from 0 to 1: put MeasureProb"),
        (torch.zeros(1, 8, 8).long(), torch.zeros(1, 8, 8), "after Activationsd and before AsDiscreted"),
    ],
)
def test_what_cannot_be_measured_is_one_line(prob, label, said):
    with pytest.raises(InputError, match=said):
        measure_calibration(prob, label)

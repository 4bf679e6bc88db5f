"""ScaleTemperature: known values, labels that never change, and what is no temperature."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from pipeline.transforms import ScaleTemperature, ScaleTemperatured


def test_known_values():
    logits = torch.linspace(-8, 8, 100, dtype=torch.float64)[None]
    for temperature in (0.5, 1.7, 5.0):
        scaled = ScaleTemperature(temperature)(torch.sigmoid(logits))
        assert torch.allclose(scaled, torch.sigmoid(logits / temperature))
    several = torch.randn(3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ScaleTemperature(1.7)(several.softmax(0)), (several / 1.7).softmax(0))


def test_one_changes_nothing_and_meta_data_stay():
    prob = MetaTensor(torch.rand(1, 4, 4), affine=torch.eye(4) * 2, meta={"filename_or_obj": "a.nii"})
    assert ScaleTemperature(1.0)(prob) is prob
    scaled = ScaleTemperatured("pred", temperature=2.0)({"pred": prob})["pred"]
    assert scaled.meta["filename_or_obj"] == "a.nii"
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled.affine, prob.affine)


@pytest.mark.parametrize("temperature", [0.2, 0.9, 1.1, 3.0, 50.0])
def test_no_label_changes(temperature):
    """Also where two probabilities, or one and 0.5, differ in the last bit; and for 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    half = torch.tensor(0.5)
    near = torch.stack([half, torch.nextafter(half, torch.tensor(0.0)), torch.nextafter(half, torch.tensor(1.0))])
    one = torch.cat([torch.rand(20_000, generator=generator), near, torch.tensor([0.0, 1.0])])[None]
    scaled = ScaleTemperature(temperature)(one)
    assert torch.equal(one >= 0.5, scaled >= 0.5)
    assert 0 <= scaled.min() <= scaled.max() <= 1
    first = torch.rand(20_000, generator=generator) / 2
    bits = torch.from_numpy(np.nextafter(first.numpy(), np.float32(1)))
    ties = torch.stack([first, bits, 1 - first - bits])
    several = torch.cat([torch.randn(3, 20_000, generator=generator).mul(9).softmax(0), ties], dim=1)
    assert torch.equal(several.argmax(0), ScaleTemperature(temperature)(several).argmax(0))


def test_channels_that_do_not_exclude_each_other_are_scaled_alone():
    prob = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    assert ScaleTemperature(2.0)(prob).numpy() == pytest.approx(np.array([[0.75, 0.25], [0.75, 0.25]]))


@pytest.mark.parametrize("temperature", [0, -1, math.inf, math.nan])
def test_what_is_no_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        ScaleTemperature(temperature)

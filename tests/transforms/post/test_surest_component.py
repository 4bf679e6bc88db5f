"""KeepSurestComponent: which component stays, and what it shares with MONAI's largest one."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, KeepLargestConnectedComponent

from pipeline.transforms import KeepSurestComponent, KeepSurestComponentd


def put(shape: tuple[int, ...], *boxes: tuple[tuple[slice, ...], float]) -> torch.Tensor:
    prob = torch.full(shape, 0.1)
    for place, value in boxes:
        prob[(0, *place)] = value
    return prob


LARGE, SMALL = (slice(0, 4), slice(0, 5)), (slice(6, 9), slice(6, 9))


def test_a_sure_small_component_displaces_a_doubtful_large_one() -> None:
    prob = put((1, 10, 10), (LARGE, 0.6), (SMALL, 0.95))  # 20 * 0.1 against 9 * 0.45
    cleaned = KeepSurestComponent()(prob)
    assert torch.equal(cleaned, put((1, 10, 10), (LARGE, 0.0), (SMALL, 0.95)))
    assert KeepLargestConnectedComponent()((prob >= 0.5).float())[0, 0, 0] == 1  # MONAI keeps the other one


def test_an_equally_sure_component_stays_if_it_is_larger() -> None:
    prob = put((1, 10, 10), (LARGE, 0.95), (SMALL, 0.95))
    assert torch.equal(KeepSurestComponent()(prob), put((1, 10, 10), (LARGE, 0.95), (SMALL, 0.0)))


def test_with_equal_probabilities_it_is_monais() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        mask = torch.rand((1, 8, 9, 7), generator=generator) > 0.85
        ours = AsDiscrete(threshold=0.5)(KeepSurestComponent()(mask * 0.9 + 0.02))
        theirs = KeepLargestConnectedComponent()(mask.float())
        assert ours.sum() == theirs.sum()
        assert (ours.bool() & ~mask).sum() == 0


def test_corners_connect_in_a_volume() -> None:
    prob = torch.zeros(1, 4, 4, 4)
    prob[0, 0, 0, 0] = prob[0, 1, 1, 1] = 0.7
    prob[0, 0, 3, 3] = 0.8
    assert KeepSurestComponent()(prob).nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]


def test_the_threshold_decides_what_a_component_is() -> None:
    prob = torch.tensor([[[0.5, 0.3, 0.3, 0.1, 0.4]]])
    assert torch.equal(KeepSurestComponent(0.5)(prob), prob)  # one component
    assert torch.equal(KeepSurestComponent(0.3)(prob), torch.tensor([[[0.5, 0.3, 0.3, 0.1, 0.0]]]))


@pytest.mark.parametrize("value", [0.0, 0.9])
def test_nothing_or_one_component_stays_as_it_is(value: float) -> None:
    prob = torch.full((1, 4, 4), value)
    assert KeepSurestComponent()(prob) is prob


def test_type_and_meta_data_stay_and_the_input_is_not_changed() -> None:
    prob = put((1, 10, 10), (LARGE, 0.6), (SMALL, 0.95))
    case = {"pred": MetaTensor(prob.half(), meta={"filename_or_obj": "a.nii"})}
    cleaned = KeepSurestComponentd("pred")(case)["pred"]
    assert cleaned.dtype == torch.float16
    assert cleaned.meta["filename_or_obj"] == "a.nii"
    assert torch.equal(case["pred"].as_tensor(), prob.half())


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        KeepSurestComponent(1.0)
    with pytest.raises(ValueError, match=r"one class \(1, \*spatial\), got shape \(2, 4, 4\)"):
        KeepSurestComponent()(torch.zeros(2, 4, 4))

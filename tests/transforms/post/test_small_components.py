"""RemoveSmallComponents: truth tables by hand, and why MONAI's transform is not used."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import RemoveSmallObjects

from pipeline.transforms import EachSlice, RemoveSmallComponents, RemoveSmallComponentsd


def draw(text: str) -> torch.Tensor:
    rows = text.replace(".", "0").split()
    return torch.tensor([[[int(sign) for sign in row] for row in rows]], dtype=torch.float32)


LABELS = draw("111..2 111.2. 1..... ....22 .1..22")


@pytest.mark.parametrize(
    ("min_size", "after"),
    [
        (0, "111..2 111.2. 1..... ....22 .1..22"),
        (1, "111..2 111.2. 1..... ....22 .1..22"),
        (2, "111... 111... 1..... ....22 ....22"),
        (4, "111... 111... 1..... ....22 ....22"),
        (5, "111... 111... 1..... ...... ......"),
        (7, "111... 111... 1..... ...... ......"),
        (8, "...... ...... ...... ...... ......"),
    ],
)
def test_components_with_less_go(min_size: int, after: str) -> None:
    assert RemoveSmallComponents(min_size)(LABELS).tolist() == draw(after).tolist()


def test_corners_connect_where_told() -> None:
    assert (
        RemoveSmallComponents(2, connectivity=2)(LABELS).tolist() == draw("111..2 111.2. 1..... ....22 ....22").tolist()
    )


def test_touching_labels_are_components_of_their_own() -> None:
    assert RemoveSmallComponents(2)(draw("1112 1111")).tolist() == draw("111. 1111").tolist()


def test_only_the_labels_named() -> None:
    assert RemoveSmallComponents(5, [2])(LABELS).tolist() == draw("111... 111... 1..... ...... .1....").tolist()


def test_sizes_in_mm() -> None:
    labels = MetaTensor(draw("11.1"), affine=torch.diag(torch.tensor([0.5, 3.0, 1, 1])))
    assert RemoveSmallComponents(3, unit="mm")(labels).as_tensor().tolist() == draw("11..").tolist()
    assert RemoveSmallComponents(3.1, unit="mm")(labels).sum() == 0
    with pytest.raises(ValueError, match="lengths in mm need the voxel sizes of a MetaTensor"):
        RemoveSmallComponents(3, unit="mm")(draw("11.1"))


def test_parts_of_a_volume_hold_together_through_slices() -> None:
    volume = torch.zeros(1, 3, 3, 4)
    volume[0, 1, 1] = 1
    assert RemoveSmallComponents(4)(volume).sum() == 4
    assert EachSlice(RemoveSmallComponents(2), 2)(volume).sum() == 0


def test_monai_takes_all_voxels_of_a_label_for_one_object() -> None:
    """Why this exists: if it fails, MONAI has changed."""
    assert RemoveSmallObjects(min_size=3)(LABELS.clone())[0, 4, 1] == 1, "one pixel of a label that is large elsewhere"


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int32])
def test_kind_meta_data_and_input_are_kept(dtype: torch.dtype) -> None:
    labels = MetaTensor(LABELS.to(dtype), meta={"filename_or_obj": "a.png"})
    cleaned = RemoveSmallComponents(2)(labels)
    assert (cleaned.dtype, cleaned.meta["filename_or_obj"]) == (dtype, "a.png")
    assert torch.equal(labels.as_tensor(), LABELS.to(dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_size": -1}, "min_size must be a number from 0, got -1"),
        ({"min_size": float("nan")}, "min_size must be a number from 0, got nan"),
        ({"connectivity": 0}, "connectivity must be at least 1, got 0"),
        ({"unit": "ml"}, "unit must be 'voxel' or 'mm', got 'ml'"),
        ({"applied_labels": [0]}, "applied_labels must be whole numbers from 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RemoveSmallComponents(**arguments)  # type: ignore[arg-type]


def test_several_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an index map \(1, \*spatial\)"):
        RemoveSmallComponents()(torch.zeros(2, 3, 3))


def test_dictionary() -> None:
    data = {"pred": LABELS, "image": 1}
    cleaned = RemoveSmallComponentsd(["pred", "none"], 5, 2, allow_missing_keys=True)(data)
    assert torch.equal(cleaned["pred"], RemoveSmallComponents(5, 2)(LABELS))
    assert cleaned["image"] == 1
    with pytest.raises(KeyError):
        RemoveSmallComponentsd("none")(data)

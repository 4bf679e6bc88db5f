"""EachLabel: MONAI's mask transforms on index maps, with and without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import FillHoles, KeepLargestConnectedComponent

from pipeline.transforms import EachLabel, EachLabeld


def draw(text: str) -> torch.Tensor:
    rows = text.replace(".", "0").split()
    return torch.tensor([[[int(sign) for sign in row] for row in rows]], dtype=torch.float32)


def test_holes_are_filled_around_other_labels() -> None:
    """Why this exists: if the last line fails, MONAI has changed, and configs can name its transform itself."""
    labels = draw("11111 1.2.1 11111")
    assert EachLabel(FillHoles())(labels).tolist() == draw("11111 11211 11111").tolist()
    assert FillHoles()(labels.clone()).tolist() == draw("11111 11111 11111").tolist(), "MONAI's takes label 2 away"


def test_a_hole_between_two_labels_is_no_ones() -> None:
    labels = draw("111 1.2 122")
    assert torch.equal(EachLabel(FillHoles())(labels), labels)


def test_background_that_two_labels_claim_stays_background() -> None:
    grow: Callable[[torch.Tensor], torch.Tensor] = torch.ones_like
    assert EachLabel(grow)(draw("1..2")).tolist() == draw("1..2").tolist()
    assert EachLabel(grow, [2])(draw("1..2")).tolist() == draw("1222").tolist()


def test_agrees_with_what_monai_does_label_by_label() -> None:
    labels = torch.randint(0, 4, (1, 12, 12, 5), generator=torch.Generator().manual_seed(0)).float()
    ours = EachLabel(KeepLargestConnectedComponent(), [1, 3])(labels)
    assert torch.equal(ours, KeepLargestConnectedComponent([1, 3])(labels.clone()))


def test_the_transform_gets_masks_with_meta_data_and_the_map_is_kept() -> None:
    labels = MetaTensor(draw("1.2").to(torch.uint8), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])))
    seen = []

    def look(mask: MetaTensor) -> MetaTensor:
        seen.append((mask.tolist(), tuple(mask.pixdim.tolist())))
        mask[:] = 0  # in place, as some of MONAI's transforms work
        return mask

    changed = EachLabel(look)(labels)
    assert seen == [([[[1, 0, 0]]], (2.0, 1.0)), ([[[0, 0, 1]]], (2.0, 1.0))]
    assert changed.sum() == 0
    assert (changed.dtype, changed.affine[0, 0]) == (torch.uint8, 2)
    assert labels.tolist() == [[[1, 0, 2]]]


def test_labels_that_are_not_there_are_not_made() -> None:
    assert EachLabel(torch.ones_like, [5])(draw("1..2")).tolist() == draw("1..2").tolist()


@pytest.mark.parametrize("labels", [0, [1, -1], [1.5], ["1"]])
def test_wrong_labels(labels: object) -> None:
    with pytest.raises(ValueError, match="applied_labels must be whole numbers from 1, got"):
        EachLabel(FillHoles(), labels)  # type: ignore[arg-type]


def test_several_channels_are_refused_with_the_files_name() -> None:
    with pytest.raises(ValueError, match=r"^image a.png: expected an index map .* \(AsDiscreted\)$"):
        EachLabel(FillHoles())(MetaTensor(torch.zeros(3, 2, 2), meta={"filename_or_obj": "a.png"}))


def test_dictionary() -> None:
    data = {"pred": draw("11122 1.1.2 11122"), "image": "kept"}
    cleaned = EachLabeld(["pred", "none"], FillHoles(), [1], allow_missing_keys=True)(data)
    assert cleaned["pred"].tolist() == draw("11122 111.2 11122").tolist()
    assert cleaned["image"] == "kept"
    assert data["pred"][0, 1, 1] == 0
    with pytest.raises(KeyError):
        EachLabeld("none", FillHoles())(data)

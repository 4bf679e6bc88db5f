"""EncodeMask: grey values to label ids, unknown values refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Flip

from pipeline.transforms import EncodeMask, EncodeMaskd


def test_hand_table():
    mask = torch.tensor([[[0, 85], [255, 170]]], dtype=torch.uint8)
    encoded = EncodeMask([0, 255, 85])
    with pytest.raises(ValueError, match=r"mask has the values \[0, 85, 170, 255\], expected only \[0, 255, 85\]"):
        encoded(mask)
    mask[0, 1, 1] = 0
    result = encoded(mask)
    assert result.tolist() == [[[0, 2], [1, 0]]]
    assert result.dtype == torch.uint8
    assert mask.tolist() == [[[0, 85], [255, 0]]]


@given(st.data())
def test_looking_the_ids_up_gives_the_mask_back(data):
    values = data.draw(st.lists(st.integers(0, 255), min_size=2, max_size=5, unique=True))
    ids = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=30))
    mask = torch.tensor(values, dtype=torch.float32)[torch.tensor(ids)][None]
    assert EncodeMask(values)(mask).tolist() == [[float(label) for label in ids]]


@given(st.integers(1, 254))
def test_one_wrong_voxel_is_enough(value):
    mask = torch.zeros(1, 4, 4)
    mask[0, 2, 3] = value
    with pytest.raises(ValueError, match=rf"\[0, {value}\], expected only \[0, 255\]"):
        EncodeMask([0, 255])(mask)


def test_many_values_are_cut_short_and_fractions_and_nan_are_shown():
    with pytest.raises(ValueError, match=r"\[0, 1, 2, 3, 4, 5, 6, 7\] and 12 more, expected"):
        EncodeMask()(torch.arange(20.0)[None])
    with pytest.raises(ValueError, match=r"\[0, 0\.5\]"):
        EncodeMask()(torch.tensor([[0.0, 0.5]]))
    with pytest.raises(ValueError, match="nan"):
        EncodeMask()(torch.tensor([[0.0, float("nan")]]))


def test_several_channels_are_refused():
    with pytest.raises(ValueError, match="mask has 3 channels, expected 1"):
        EncodeMask()(torch.zeros(3, 4, 4))


def test_message_names_the_file():
    with pytest.raises(ValueError, match=r"mask p1/a_mask\.tif has the values"):
        EncodeMask()(MetaTensor(torch.ones(1, 2, 2), meta={"filename_or_obj": "p1/a_mask.tif"}))


def test_meta_data_and_history_are_kept():
    mask = Flip(0)(MetaTensor(torch.tensor([[[0.0, 255.0]]]), meta={"filename_or_obj": "a"}))
    result = EncodeMask()(mask)
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == "a"
    assert [step["class"] for step in result.applied_operations] == ["Flip"]


@pytest.mark.parametrize("values", [[], [0], [0, 0], [0, 255, 255]])
def test_values_must_differ(values):
    with pytest.raises(ValueError, match="at least two different grey values"):
        EncodeMask(values)


def test_dictionary():
    data = {"label": torch.tensor([[255.0]]), "image": torch.tensor([[7.0]])}
    result = EncodeMaskd("label")(data)
    assert (result["label"].item(), result["image"].item(), data["label"].item()) == (1, 7, 255)
    assert EncodeMaskd(["label", "other"], allow_missing_keys=True)(data)["label"].item() == 1
    with pytest.raises(KeyError):
        EncodeMaskd("other")(data)

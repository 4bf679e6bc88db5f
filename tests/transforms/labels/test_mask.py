"""EncodeMask: grey values to label ids; unknown values are errors."""

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


@given(st.integers(2, 254))
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


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_channels_that_differ_are_refused(channels: int):
    mask = torch.zeros(channels, 4, 4)
    mask[0, 1, 1] = 255
    with pytest.raises(ValueError, match=f"mask has {channels} channels, expected 1, or 3 that are equal; save it"):
        EncodeMask()(mask)


@pytest.mark.parametrize(("copies", "alpha"), [(1, 0), (3, 0), (1, 1), (3, 1)])
def test_grey_saved_in_colour_or_with_an_opaque_alpha_is_grey(copies: int, alpha: int):
    grey = torch.tensor([[[0.0, 255.0, 0.0]]])
    mask = torch.cat([grey] * copies + [torch.full_like(grey, 255)] * alpha)
    assert EncodeMask()(mask).tolist() == [[[0, 1, 0]]]
    assert EncodeMask(threshold=128)(mask).tolist() == [[[0, 1, 0]]]


def test_several_masks_are_united_after_their_values_are_read():
    # An inverted mask: the background has the higher value.
    masks = torch.tensor([[[255, 0, 255, 0]], [[255, 255, 0, 0]]])
    assert EncodeMask({255: 0, 0: 1}, unite=True)(masks).tolist() == [[[0, 1, 1, 1]]]
    assert EncodeMask({0: 0, 1: 1, 255: 1}, unite="true")(masks // 255).tolist() == [[[1, 1, 1, 0]]]
    assert EncodeMask(threshold=128, unite=True)(masks).tolist() == [[[1, 1, 1, 0]]]
    with pytest.raises(ValueError, match="mask has the values"):
        EncodeMask(unite=True)(masks + 1)
    with pytest.raises(ValueError, match="unite takes grey masks"):
        EncodeMask(colors={"#000000": 0, "#ffffff": 1}, unite=True)


def test_label_ids_of_a_client_stay():
    ids = torch.tensor([[[0.0, 2.0, 1.0]]])
    assert EncodeMask([0, 100, 200])(ids).tolist() == ids.tolist()
    assert EncodeMask([0, 100, 200])(ids * 100).tolist() == ids.tolist()
    with pytest.raises(ValueError, match=r"\[0, 2, 100\], expected only \[0, 100, 200\]"):
        EncodeMask([0, 100, 200])(torch.tensor([[0.0, 2.0, 100.0]]))


def test_message_names_the_file():
    with pytest.raises(ValueError, match=r"mask p1/a_mask\.tif has the values"):
        EncodeMask()(MetaTensor(torch.full((1, 2, 2), 7.0), meta={"filename_or_obj": "p1/a_mask.tif"}))


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


def test_many_values_may_be_one_label_and_json_keys_are_texts():
    mask = torch.tensor([[0, 7, 9, 9]], dtype=torch.uint8)
    for values in ({0: 0, 7: 1, 9: 1}, {"0": 0, "7": 1, "9": 1}):
        result = EncodeMask(values)(mask)
        assert result.tolist() == [[0, 1, 1, 1]]
        assert result.dtype == torch.uint8
    with pytest.raises(ValueError, match=r"\[0, 7, 9\], expected only \[0, 7\]"):
        EncodeMask({0: 0, 7: 1})(mask)


@given(st.integers(1, 255), st.lists(st.integers(0, 255), min_size=1, max_size=30))
def test_threshold_takes_any_value(threshold, pixels):
    mask = torch.tensor([pixels], dtype=torch.uint8)
    assert EncodeMask(threshold=threshold)(mask).tolist() == [[int(value >= threshold) for value in pixels]]


def test_threshold_refuses_what_is_no_number_and_keeps_the_ignored_value():
    with pytest.raises(ValueError, match="not a number"):
        EncodeMask(threshold=128)(torch.tensor([[float("nan")]]))
    assert EncodeMask(threshold=128, ignore_index=255)(torch.tensor([[3, 200, 255]])).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_colours(dtype):
    colors = {"#000000": 0, "#FF0080": 1, "#00ff00": 2}
    mask = torch.tensor([[[0, 255, 0]], [[0, 0, 255]], [[0, 128, 0]]], dtype=dtype)
    assert EncodeMask(colors=colors)(mask).tolist() == [[[0, 1, 2]]]
    opaque = torch.cat([mask, torch.full_like(mask[:1], 255)])
    assert EncodeMask(colors=colors)(opaque).tolist() == [[[0, 1, 2]]]
    with pytest.raises(ValueError, match="alpha channel that is not opaque"):
        EncodeMask(colors=colors)(torch.cat([mask, mask[:1]]))
    with pytest.raises(ValueError, match="mask has 1 channels, expected 3"):
        EncodeMask(colors=colors)(mask[:1])
    mask[0, 0, 0] = 1
    with pytest.raises(ValueError, match=r"\[#00ff00, #010000, #ff0080\], expected only \[#000000, #ff0080, #00ff00\]"):
        EncodeMask(colors=colors)(mask)


def test_colours_keep_meta_data():
    mask = MetaTensor(torch.zeros(3, 2, 2), meta={"filename_or_obj": "p/a.png"})
    result = EncodeMask(colors={"#000000": 0, "#ffffff": 1})(mask)
    assert result.meta["filename_or_obj"] == "p/a.png"
    mask[0] = 9
    with pytest.raises(ValueError, match=r"mask p/a\.png has the values \[#090000\]"):
        EncodeMask(colors={"#000000": 0, "#ffffff": 1})(mask)


def test_ignored_value_stays():
    mask = torch.tensor([[0, 1, 255]])
    assert EncodeMask([0, 1], ignore_index=255)(mask).tolist() == [[0, 1, 255]]
    with pytest.raises(ValueError, match=r"expected only \[0, 1\]"):
        EncodeMask([0, 1])(mask)
    assert EncodeMaskd("label", [0, 1], ignore_index=255)({"label": mask})["label"].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"values": {0: 0}}, "at least two different grey values"),
        ({"values": {"0": 0, "00": 1}}, "at least two different grey values"),
        ({"colors": {"red": 1, "#000000": 0}}, '"#rrggbb"'),
        ({"colors": {"#ff0000": 1}}, "at least two colours"),
        ({"colors": {"#ff0000": 1, "#000000": 0}, "threshold": 1}, "not both"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        EncodeMask(**arguments)


def test_what_a_manifest_declares_is_what_the_transform_takes():
    from pipeline.datasets.manifests.manifest import Manifest

    fields = {
        "name": "x",
        "task": "",
        "licence": "",
        "source": "",
        "labels": {0: "a", 1: "b"},
        "channels": (),
        "cases": (),
    }
    manifest = Manifest(**fields, mask_values={0: 0, 255: 1}, color_map={"#000000": 0, "#ff0000": 1}, binarize=128)
    assert EncodeMask(manifest.mask_values)(torch.tensor([[255]])).item() == 1
    assert EncodeMask(colors=manifest.color_map)(torch.tensor([[255], [0], [0]])).item() == 1
    assert EncodeMask(threshold=manifest.binarize)(torch.tensor([[130]])).item() == 1

"""Encoders by name, and what a wrong name is answered with."""

import pytest
import torch
from monai.networks.nets.efficientnet import efficientnet_params

from pipeline.issues import InputError
from pipeline.networks import list_encoders, make_encoder


def test_every_name_makes_an_encoder():
    """Only the smallest and the largest of each kind are built, which takes long; MONAI knows those in between."""
    names = list_encoders()
    assert set(names[3:-3]) == set(efficientnet_params) - {"efficientnet-l2"}
    assert names[-3:] == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
    with torch.device("meta"):
        assert [make_encoder(names[k], depth=1).name for k in (0, 1, 2, 3, -4)] == [*names[:4], names[-4]]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet-34", "resnet34"),
        ("ResNet50", "resnet50"),
        ("resnet43", "resnet34"),
        ("efficientnet_b3", "efficientnet-b3"),
        ("resnet101", "resnet50"),
        ("tf_efficientnet_lite0", "efficientnet-lite0"),
        ("efficientnet-lite3", "efficientnet-lite2"),
    ],
)
def test_the_nearest_name_is_suggested(name, nearest):
    with pytest.raises(InputError, match=f"no encoder '{name}', did you mean '{nearest}'. known: resnet18, ") as caught:
        make_encoder(name)
    assert "\n" not in str(caught.value)


def test_names_like_none_get_the_list():
    with pytest.raises(
        InputError, match="no encoder 'vgg'; known: resnet18, resnet34, resnet50, efficientnet-b0 to "
    ) as caught:
        make_encoder("vgg")
    assert str(caught.value).endswith("efficientnet-b8, efficientnet-lite0 to efficientnet-lite2")

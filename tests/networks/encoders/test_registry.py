"""Encoders by name, and what a wrong name is answered with."""

import pytest
import torch

from pipeline.networks import list_encoders, make_encoder


def test_every_name_makes_an_encoder():
    with torch.device("meta"):
        names = [make_encoder(name, depth=1).name for name in list_encoders()]
    assert names == list_encoders()
    assert len(names) == 12


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet-34", "resnet34"),
        ("ResNet50", "resnet50"),
        ("resnet43", "resnet34"),
        ("efficientnet_b3", "efficientnet-b3"),
        ("resnet101", "resnet50"),
    ],
)
def test_the_nearest_name_is_suggested(name, nearest):
    with pytest.raises(ValueError, match=f"no encoder '{name}', did you mean '{nearest}'. known: resnet18, ") as caught:
        make_encoder(name)
    assert "\n" not in str(caught.value)


def test_names_like_none_get_the_list():
    with pytest.raises(ValueError, match="no encoder 'vgg'; known: resnet18, resnet34, resnet50, efficientnet-b0 to "):
        make_encoder("vgg")

"""Dictionary versions: the arguments that they show and accept, keys, pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import LoadImage

import pipeline.transforms
from pipeline.transforms import (
    BorderWeightMapd,
    DenseCRFd,
    EncodeMaskd,
    LoadSourced,
    NeighbourSlicesToChannelsd,
    RandGammaByChanneld,
)
from pipeline.transforms.dictionary import DictTransform

PAIRS = [(name, f"{name}d") for name in pipeline.transforms.__all__ if f"{name}d" in pipeline.transforms.__all__]
EXTRA = {
    "DenseCRFd": {"image_key"},
    "LoadSourced": {"name"},
    "BorderWeightMapd": {"new_key"},
    "MeasureProbabilitiesd": {"label_key"},
}


@pytest.mark.parametrize(("array", "dictionary"), PAIRS)
def test_signature_and_docstring_show_the_arguments(array: str, dictionary: str) -> None:
    of_array = inspect.signature(getattr(pipeline.transforms, array)).parameters
    cls = getattr(pipeline.transforms, dictionary)
    shown = dict(inspect.signature(cls).parameters)
    assert next(iter(shown)) == "keys"
    assert shown.pop("keys").default is inspect.Parameter.empty
    assert shown.pop("allow_missing_keys").default is False
    for name in EXTRA.get(dictionary, set()):
        shown.pop(name)
    assert list(shown.values()) == list(of_array.values())
    assert f":class:`{array}`" in cls.__doc__
    assert "        keys: " in cls.__doc__


def test_every_transform_has_a_dictionary_version() -> None:
    # The steps of a batch and the chain are not transforms of a case. Resized and Spacingd are MONAI's with one fault
    # mended; their array versions are not needed.
    others = {"AugmentBatch", "ComposeFromCache", "Resized", "Spacingd"}
    assert {name for pair in PAIRS for name in pair} == set(pipeline.transforms.__all__) - others


def test_order_of_the_arguments() -> None:
    assert list(inspect.signature(LoadSourced).parameters) == ["keys", "name", "loader", "allow_missing_keys"]
    assert list(inspect.signature(DenseCRFd).parameters)[:3] == ["keys", "image_key", "spatial_weight"]
    assert list(inspect.signature(BorderWeightMapd).parameters)[-2:] == ["new_key", "allow_missing_keys"]
    assert list(inspect.signature(EncodeMaskd).parameters)[:3] == ["keys", "values", "allow_missing_keys"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": "image", "befor": 1}, "NeighbourSlicesToChannelsd: got an unexpected keyword argument 'befor'"),
        ({"before": 1}, "NeighbourSlicesToChannelsd: missing a required argument: 'keys'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        NeighbourSlicesToChannelsd(**arguments)
    parser = ConfigParser({"it": {"_target_": "pipeline.transforms.NeighbourSlicesToChannelsd", **arguments}})
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("it")
    assert message in str(error.value.__cause__)


def test_a_class_without_an_array_transform_says_so() -> None:
    class Nothing(DictTransform): ...

    with pytest.raises(TypeError, match=r"^Nothing names no array transform"):
        Nothing("image")


def test_subclasses_keep_or_replace_the_constructor() -> None:
    class Same(NeighbourSlicesToChannelsd): ...

    class Fixed(NeighbourSlicesToChannelsd):
        def __init__(self, keys: str) -> None:
            super().__init__(keys, before=0, after=1)

    assert inspect.signature(Same) == inspect.signature(NeighbourSlicesToChannelsd)
    assert list(inspect.signature(Fixed).parameters) == ["keys"]
    assert Fixed("image")({"image": torch.zeros(1, 2, 2, 3)})["image"].shape[0] == 2


def test_keys_that_a_case_does_not_have() -> None:
    case = {"image": torch.zeros(1, 2, 2, 3), "id": 7}
    with pytest.raises(KeyError, match="label"):
        NeighbourSlicesToChannelsd(["image", "label"])(case)
    result = NeighbourSlicesToChannelsd(["image", "label"], allow_missing_keys=True)(case)
    assert list(result) == ["image", "id"]
    assert result["image"].shape[0] == 3
    assert case["image"].shape[0] == 1


@pytest.mark.parametrize(
    "transform",
    [
        NeighbourSlicesToChannelsd("image", 0, 2),
        RandGammaByChanneld(["image"], gamma=(0.5, 2.0), prob=1.0),
        LoadSourced("pred", "original", LoadImage()),
        DenseCRFd("pred", "original", iterations=2),
        BorderWeightMapd("label", new_key="w"),
    ],
)
def test_pickling(transform: DictTransform) -> None:
    copy = pickle.loads(pickle.dumps(transform))
    assert type(copy) is type(transform)
    assert copy.keys == transform.keys
    assert type(copy.transform) is type(transform.transform)

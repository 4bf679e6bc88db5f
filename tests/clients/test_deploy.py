"""The compute steps of the Deploy SDK's bundle operator, without Holoscan's scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.clients.copies import digest
from tests.clients.images import STACKS, VOLUMES, find_kind
from tests.clients.predictions import Predicted
from tests.clients.stand_ins import import_deploy


class Ports:
    """What an operator receives and emits."""

    def __init__(self, received: Any) -> None:
        self.received = received
        self.emitted: dict[str, Any] = {}

    def receive(self, name: str) -> Any:
        del name
        return self.received

    def emit(self, value: Any, name: str) -> None:
        self.emitted[name] = value


@pytest.fixture(scope="module")
def sdk() -> Any:
    return import_deploy()


def build_operator(sdk: Any, folder: Path) -> Any:
    class Context:
        models = None

    mappings = {
        name: [sdk.IOMapping(key, sdk.Image, sdk.IOType.IN_MEMORY)]
        for name, key in (("input_mapping", "image"), ("output_mapping", "pred"))
    }
    return sdk.Operator(object(), app_context=Context(), bundle_path=folder, **mappings)


def load_image(sdk: Any, path: Path, kind: str) -> Any:
    """Load an image as an app hands it over, with MONAI's meta data: channels last, but first for a stack of slices."""
    if kind == VOLUMES:
        file = nibabel.load(path)
        meta = {
            "affine": file.affine,
            "original_affine": file.affine,
            "spacing": np.asarray(file.header.get_zooms()),
            "spatial_shape": np.asarray(file.shape),
            "original_channel_dim": "no_channel",
        }
        return sdk.Image(np.asarray(file.get_fdata(dtype=np.float32)), meta)
    pixels = np.asarray(Image.open(path)).astype(np.float32)
    if kind == STACKS:
        return sdk.Image(pixels.transpose(2, 0, 1)[..., None], {"original_channel_dim": 0})
    return sdk.Image(pixels, {"original_channel_dim": -1 if pixels.ndim == 3 else "no_channel"})


def test_label_map_is_that_of_inference_json(sdk: Any, predicted: Predicted, image: Path) -> None:
    bundle = predicted.bundle
    before = digest(bundle)
    operator = build_operator(sdk, bundle)
    ports = Ports(load_image(sdk, image, find_kind(bundle)))
    operator.compute(ports, ports, None)
    found = ports.emitted["pred"].asnumpy()
    assert found.dtype == np.uint8
    # The SDK hands volumes on as (depth, height, width).
    found = np.swapaxes(found, 0, 2) if found.ndim == 3 else found
    np.testing.assert_array_equal(found.squeeze(), predicted.labels)
    assert digest(bundle) == before, "nothing is written into the bundle"

"""Slices to masks through a complete inference chain: output and input match pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator
from monai.inferers import SliceInferer
from monai.transforms import AsDiscreted, Compose, DivisiblePadd, Invertd
from PIL import Image

from pipeline.inferers import AutocastInferer
from pipeline.transforms import LoadImageStackd, NeighbourSlicesToChannelsd, SaveImageStackd


def write_case(folder, shape, numbers, suffix, dtype=np.uint8, seed=0):
    """Write random slices; return their paths in order."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    paths = []
    for number in numbers:
        pixels = generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
        paths.append(folder / f"{folder.name}_{number}{suffix}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def predict(cases, output_dir, level, channels, invert=True):
    """Mark every pixel whose first channel exceeds `level`, through padding, neighbours, slices and inversion."""
    preprocessing = Compose(
        [
            LoadImageStackd("image"),
            DivisiblePadd("image", k=[16, 16, 1], mode="edge"),
            NeighbourSlicesToChannelsd("image"),
        ]
    )
    postprocessing = [
        Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False),
        AsDiscreted("pred", threshold=0.5),
        SaveImageStackd("pred", output_dir),
    ]
    items = [{"case_id": str(k), "image": [str(path) for path in paths]} for k, paths in enumerate(cases)]
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(CacheDataset(items, preprocessing, progress=False), batch_size=1),
        network=Threshold(level, channels),
        inferer=AutocastInferer(SliceInferer(roi_size=(-1, -1), spatial_dim=2, sw_batch_size=4), amp=False),
        postprocessing=Compose(postprocessing[0 if invert else 1 :]),
    )
    evaluator.run()


class Threshold(torch.nn.Module):
    """Look at the first channel of the middle one of three slices."""

    def __init__(self, level, channel):
        super().__init__()
        self.level, self.channel = level, channel

    def forward(self, x):
        return (x[:, self.channel : self.channel + 1] > self.level).float()


def assert_masks_match(paths, output_dir, level):
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image)
        first = pixels if pixels.ndim == 2 else pixels[..., 0]
        suffix = path.suffix if path.suffix in (".tif", ".tiff", ".png") else ".png"
        with Image.open(output_dir / path.parent.name / f"{path.stem}_pred{suffix}") as mask:
            assert np.array_equal(np.asarray(mask), (first > level) * np.uint8(255))


@pytest.mark.parametrize("numbers", [(1, 2, 9, 10), (7,)])
@pytest.mark.parametrize(
    ("suffix", "shape", "dtype"),
    [
        (".tif", (37, 50, 3), np.uint8),
        (".tif", (37, 50), np.uint16),
        (".png", (37, 50), np.uint8),
        (".png", (16, 50), np.uint16),
        (".png", (37, 50, 4), np.uint8),
        (".jpg", (37, 50, 3), np.uint8),
        (".jpg", (50, 37), np.uint8),
    ],
)
def test_masks_lie_on_their_slices(tmp_path, suffix, shape, dtype, numbers):
    paths = write_case(tmp_path / "in" / "p", shape, numbers, suffix, dtype)
    level = np.iinfo(dtype).max // 2
    predict([paths], tmp_path / "out", level, channels=1 if len(shape) == 2 else shape[2])
    assert_masks_match(paths, tmp_path / "out", level)
    assert len(list((tmp_path / "out").rglob("*.*"))) == len(numbers)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.sampled_from([".tif", ".png"]))
def test_any_size(tmp_path_factory, height, width, depth, suffix):
    folder = tmp_path_factory.mktemp("any")
    paths = write_case(folder / "in" / "p", (height, width, 3), range(depth), suffix, seed=height)
    predict([paths], folder / "out", 127, channels=3)
    assert_masks_match(paths, folder / "out", 127)


def test_several_cases_with_unicode_and_spaces_in_their_names(tmp_path):
    names = ["Müller, Änne 1", "患者 2", "p.3 (new)"]
    cases = [
        write_case(tmp_path / "in put" / name, (20 + k, 33), range(9, 12), ".png", seed=k)
        for k, name in enumerate(names)
    ]
    predict(cases, tmp_path / "Ausgabe für alle", 127, channels=1)
    for paths in cases:
        assert_masks_match(paths, tmp_path / "Ausgabe für alle", 127)


def test_a_mask_on_the_padded_grid_is_refused(tmp_path):
    paths = write_case(tmp_path / "in" / "p", (37, 50), (1,), ".png")
    with pytest.raises(RuntimeError, match="applying transform") as caught:
        predict([paths], tmp_path / "out", 127, channels=1, invert=False)
    assert "expected a mask of the loaded shape (1, 37, 50, 1)" in str(caught.value.__cause__.__cause__)
    assert not (tmp_path / "out").exists()

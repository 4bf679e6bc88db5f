"""Which names of images and masks belong together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.layouts import read_layout
from pipeline.datasets.layouts.pairing import strip_words


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "labels/a.png"),
        ("Images/a.PNG", "MASKS/a.Png"),
        ("images/a.jpg", "masks/a_mask.png"),
        ("images/a.tif", "masks/a-Segmentation.bmp"),
        ("images/a.jpeg", "label/a_gt.tiff"),
        ("imgs/img_7.png", "masks/mask_7.png"),
        ("images/7_image.png", "labels/7_labels.png"),
        ("p1/images/7.png", "p1/masks/7_seg.png"),
        ("images/p1/7.png", "masks/p1/7.png"),
        ("input/scan.1.png", "GroundTruth/scan.1.png"),
        ("images/ e .png", "masks/ e _mask.png"),
    ],
)
def test_names_that_belong_together(tmp_path: Path, image: str, mask: str) -> None:
    for path in (image, mask):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / path)
    (case,) = read_layout("folders", tmp_path).manifest.cases
    assert (case.image, case.label) == ((image,), (mask,))


def test_words_are_stripped_once_and_never_to_nothing() -> None:
    assert strip_words("a_mask_mask", is_mask=True) == "a_mask"
    assert strip_words("_mask", is_mask=True) == "_mask"
    assert strip_words("unmasked", is_mask=True) == "unmasked"
    assert strip_words("a_mask", is_mask=False) == "a_mask"

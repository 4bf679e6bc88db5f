"""take_picture: image and masks on one grid, for pictures and volumes that the network saw on another."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, DivisiblePadd, LoadImaged, Orientationd, Resized, ScaleIntensityd, Spacingd
from PIL import Image

from pipeline.handlers.logs.case_pictures import choose_channels, take_picture
from pipeline.handlers.logs.segmentation_figures import draw_case
from pipeline.pictures.figures import PALETTE

PICTURE = LoadImaged("image", reader="PILReader", reverse_indexing=False, ensure_channel_first=True)


def write_photograph(path, shape=(40, 60, 3)):
    """A dark picture with a bright corner, which tells orientation."""
    pixels = np.full(shape, 10, np.uint8)
    pixels[:20, :15] = (200, 100, 50) if len(shape) == 3 else 200
    Image.fromarray(pixels).save(path)
    return pixels


def make_masks(shape, like=None):
    label = torch.zeros(1, *shape)
    label[0, 2:5, 2:9] = 1
    meta = {} if like is None else {"affine": like.affine, "meta": like.meta}
    return MetaTensor(label, **meta), MetaTensor(label * 0, **meta)


def test_a_picture_is_shown_as_its_file_is(tmp_path):
    pixels = write_photograph(tmp_path / "a.png")
    before = Compose([PICTURE, Resized("image", [32, 32]), ScaleIntensityd("image")])
    case = take_picture(before({"image": str(tmp_path / "a.png")})["image"], *make_masks((40, 60)))
    assert np.array_equal(case.image, pixels)
    assert case.truth.sum() == 21
    assert not case.pred.any()


def correlate(first, second):
    return np.corrcoef(first.ravel().astype(float), second.ravel().astype(float))[0, 1]


@pytest.mark.parametrize("steps", [[Resized("image", [32, 32])], [DivisiblePadd("image", 32, method="end")]])
def test_an_image_whose_file_is_gone_is_resampled_by_its_affine(steps, tmp_path):
    pixels = write_photograph(tmp_path / "a.png")
    image = Compose([PICTURE, *steps])({"image": str(tmp_path / "a.png")})["image"]
    label, pred = make_masks((40, 60), PICTURE({"image": str(tmp_path / "a.png")})["image"])
    (tmp_path / "a.png").unlink()
    case = take_picture(image, label, pred)
    assert case.image.shape == (40, 60, 3)
    assert correlate(case.image[..., 0], pixels[..., 0]) > 0.97


def test_chosen_channels_are_the_networks(tmp_path):
    write_photograph(tmp_path / "a.png")
    image = PICTURE({"image": str(tmp_path / "a.png")})["image"]
    shown = take_picture(image, *make_masks((40, 60), image), channels=[2]).image
    assert (shown[..., 0] == shown[..., 2]).all()


def test_a_channel_that_is_missing_does_not_end_a_validation():
    plane = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(choose_channels(plane, [9]), plane[1])
    np.testing.assert_array_equal(choose_channels(plane, [0, 1, 2])[..., 2], plane[1])


def test_a_file_of_another_size_is_not_the_image(tmp_path):
    write_photograph(tmp_path / "a.png")
    image = Resized("image", [20, 30])(PICTURE({"image": str(tmp_path / "a.png")}))["image"]
    case = take_picture(image, *make_masks((20, 30), image))
    assert case.image.shape == (20, 30, 3)
    assert case.image.max() == 255, "stretched, so not the file's own values"


def test_grey_files(tmp_path):
    pixels = write_photograph(tmp_path / "a.tif", (40, 60))
    image = Resized("image", [32, 32])(PICTURE({"image": str(tmp_path / "a.tif")}))["image"]
    shown = take_picture(image, *make_masks((40, 60))).image
    assert correlate(shown[..., 1], pixels) > 0.99


@pytest.mark.parametrize("plain", [True, False])
def test_plain_tensors_are_stretched(plain):
    image = torch.zeros(1, 8, 16)
    image[:, :4, :4] = 1
    masks = [torch.zeros(1, 16, 32) if plain else MetaTensor(torch.zeros(1, 16, 32)) for _ in range(2)]
    shown = take_picture(image, *masks).image[..., 0]
    assert shown.shape == (16, 32)
    assert shown[2, 2] > 200 > 50 > shown[12, 20]
    volume = image[..., None].repeat(1, 1, 1, 3)
    shown = take_picture(volume, *(mask[..., None].repeat(1, 1, 1, 6) for mask in masks)).image[..., 0]
    assert shown[2, 2] > 200 > 50 > shown[12, 20]


def test_a_volume_that_was_turned_and_resampled(tmp_path):
    rng = np.random.default_rng(0)
    voxels = np.repeat(np.repeat(rng.random((5, 6, 4)), 4, axis=0), 4, axis=1).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, 2.0, 3.0, 1.0])), tmp_path / "a.nii.gz")
    load = LoadImaged("image", ensure_channel_first=True)
    own = load({"image": str(tmp_path / "a.nii.gz")})["image"]
    steps = [load, Orientationd("image", "SPR", labels=None), Spacingd("image", [1.5, 1.0, 1.0])]
    image = Compose(steps)({"image": str(tmp_path / "a.nii.gz")})["image"]
    assert image.shape[1:] != own.shape[1:]
    label, pred = MetaTensor(torch.zeros(1, *own.shape[1:]), affine=own.affine), torch.zeros(1, *own.shape[1:])
    for index in (0, 2, 3):
        label[:] = 0
        label[0, 3:9, 3:9, index] = 1
        case = take_picture(image, label, pred)
        assert correlate(case.image[..., 0], own[0, :, :, index].numpy()) > 0.85, index
        assert case.truth.sum() == 36


def test_labels_and_instances_have_their_colours():
    label = torch.zeros(1, 12, 12)
    label[0, 1:5, 1:5], label[0, 1:5, 5:9] = 1, 2
    panel = draw_case(torch.zeros(1, 12, 12), label, label * 0)
    for colour in PALETTE[:2]:
        assert (panel == colour).all(axis=-1).sum() == 12, "outlines of touching instances"
    one_hot = torch.nn.functional.one_hot(label[0].long(), 3).permute(2, 0, 1)
    assert np.array_equal(draw_case(torch.zeros(1, 12, 12), one_hot, label * 0), panel)


def test_large_pictures_are_scaled_down():
    label = torch.zeros(1, 700, 1024)
    label[0, :350, :512] = 3
    case = take_picture(torch.rand(3, 64, 64), label, label)
    assert case.image.shape == (350, 512, 3)
    assert case.pred.shape == case.truth.shape == (350, 512)
    assert (case.pred[:175, :256] == 3).all()
    assert case.pred.sum() == 3 * 175 * 256


def test_without_truth():
    case = take_picture(torch.rand(1, 8, 8, 4), None, torch.ones(1, 8, 8, 4))
    assert case.truth is None
    assert case.pred.shape == (8, 8)


def test_masks_must_agree():
    with pytest.raises(ValueError, match=r"got \(8, 8\) and \(8, 9\)"):
        take_picture(torch.rand(1, 8, 8), torch.zeros(1, 8, 8), torch.zeros(1, 8, 9))

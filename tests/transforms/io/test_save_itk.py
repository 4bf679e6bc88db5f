"""SaveImageMask on MetaImage and NRRD: masks in the image's format at exactly its place, read without ITK."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Orientationd, Spacingd

from pipeline.issues import InputError
from pipeline.transforms import SaveImageMask, SaveImageMaskd
from pipeline.transforms.io.volume_reader import VolumeReader
from tests.volume_files import Place, read_mask, write_file

SHAPE = (9, 7, 5)
C, S = np.cos(0.4), np.sin(0.4)
PLACES = {
    "oblique": Place((-31.5, 12.25, 7.1), (0.7, 1.5, 3.0), ((C, S, 0.0), (-S, C, 0.0), (0.0, 0.0, 1.0))),
    "flipped": Place((10.0, -20.0, 1 / 3), (1.0, 1.0, 2.0), ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))),
    "sagittal": Place((0.1, 0.2, 0.3), (2.0, 1.0, 1.0), ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))),
}
LANDMARKS = {(0, 0, 0): 1, (8, 6, 4): 2, (3, 1, 2): 3}
LOAD = Compose([LoadImaged("image", reader=VolumeReader), EnsureChannelFirstd("image")])


def load_mask(path: Path) -> MetaTensor:
    image = LOAD({"image": str(path)})["image"]
    mask = torch.zeros(1, *image.shape[1:])
    for index, label in LANDMARKS.items():
        mask[(0, *index)] = label
    return MetaTensor(mask, meta=image.meta)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("ending", "saved"), [(".mha", ".mha"), (".mhd", ".mha"), (".nrrd", ".nrrd"), (".nhdr", ".nrrd"), (".MHA", ".mha")]
)
def test_landmarks_stay_where_they_are(ending: str, saved: str, place: str, packed: bool, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    path = write_file(tmp_path / f"a b{ending}", image, PLACES[place], packed=packed)
    written = SaveImageMask(tmp_path / "out")(load_mask(path))
    assert written == [tmp_path / f"out/a b_pred{saved}"]
    voxels, found = read_mask(written[0])
    assert voxels.dtype == np.uint8
    assert voxels.shape == SHAPE
    assert int(np.count_nonzero(voxels)) == len(LANDMARKS)
    for index, label in LANDMARKS.items():
        assert voxels[index] == label
        np.testing.assert_allclose(found.locate(index), PLACES[place].locate(index), atol=1e-9)
    if saved == ".mha":  # NRRD stores voxel size and direction as one product
        assert found == PLACES[place]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [written[0].name]
    first = written[0].read_bytes()
    SaveImageMask(tmp_path / "out")(load_mask(path))
    assert written[0].read_bytes() == first


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_mask_in_nifti_has_the_same_place(ending: str, place: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / f"a{ending}", np.ones(SHAPE, np.int16), PLACES[place])
    (written,) = SaveImageMask(tmp_path / "out", format="nifti")(load_mask(path))
    assert written.name == "a_pred.nii.gz"
    mask = nib.load(written)
    for index, label in LANDMARKS.items():
        assert mask.dataobj[index] == label
        found = nib.affines.apply_affine(mask.affine, index)
        np.testing.assert_allclose(found, PLACES[place].locate(index), atol=1e-4)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_chain_that_turns_and_resamples(ending: str, tmp_path: Path) -> None:
    image = np.zeros(SHAPE, np.float32)
    image[2:6, 1:5, 1:4] = 500
    path = write_file(tmp_path / f"a{ending}", image, PLACES["sagittal"])
    before = Compose([*LOAD.transforms, Orientationd("image", "RAS", labels=None), Spacingd("image", (1.0, 1.0, 1.0))])
    item = before({"image": str(path), "case_id": "x/y"})
    item["pred"] = item["image"] > 250
    after = Compose([Invertd("pred", before, "image", nearest_interp=True), SaveImageMaskd("pred", tmp_path / "out")])
    after(item)
    voxels, _ = read_mask(tmp_path / f"out/x/y_pred{ending}")
    np.testing.assert_array_equal(voxels, image > 0)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_wide_values_overlay_and_figure(ending: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / f"a{ending}", np.ones(SHAPE, np.int16))
    written = SaveImageMask(tmp_path / "out", values=[0, 205, 850, 7], overlay=True, figure=True)(load_mask(path))
    assert [file.name for file in written] == [f"a_pred{ending}", "a_overlay.png", "a_figure.png"]
    voxels, _ = read_mask(written[0])
    assert voxels.dtype == np.uint16
    assert voxels[8, 6, 4] == 850


def test_a_fourth_axis(tmp_path: Path) -> None:
    import itk

    itk.imwrite(itk.image_from_array(np.zeros((2, *SHAPE[::-1]), np.float32)), str(tmp_path / "a.mha"))
    (written,) = SaveImageMask(tmp_path / "out")(load_mask(tmp_path / "a.mha"))
    assert read_mask(written)[0].shape == SHAPE


def test_an_image_that_was_damaged_since(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.mha", np.ones(SHAPE, np.int16))
    mask = load_mask(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"a\.mha: cut off: 10 bytes of voxels are missing"):
        SaveImageMask(tmp_path / "out")(mask)
    assert not (tmp_path / "out").exists()


def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = load_mask(write_file(tmp_path / "a.mha", np.ones(SHAPE, np.int16)))
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=r"cannot write the results of .*a\.mha to .*: no space left on device"):
        SaveImageMask(tmp_path / "out")(mask)
    assert list((tmp_path / "out").iterdir()) == []

"""NIfTI volumes as people have them: after all steps the label lies on the lesion, or one line says why not."""

import gzip
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged, Orientationd

from pipeline.datasets import find_volumes, load_datalist, write_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.convert.conversion import convert_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.issues import InputError
from pipeline.transforms import EncodeMaskd
from pipeline.transforms.io.volume_reader import VolumeReader
from tests.volume_files import Place, write_file

AFFINE = np.array([[-1.0, 0, 0, 40], [0, -1, 0, 50], [0, 0, 2, -30], [0, 0, 0, 1]])
SHAPE = (20, 24, 12)
LESION = np.zeros(SHAPE, np.uint8)
LESION[4:9, 5:11, 3:7] = 1
VOXELS = int(LESION.sum())


def write_pair(root: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Write an image that is bright where the lesion is, and its mask, after a change of either."""
    voxels = np.random.default_rng(number).normal(0, 10, SHAPE).astype(np.float32) + 200 * LESION
    pair = {"image": nib.Nifti1Image(voxels, AFFINE), "label": nib.Nifti1Image(LESION, AFFINE)}
    for item in pair.values():
        item.set_qform(AFFINE, 1)
    change(pair)
    for name, item in pair.items():
        (root / f"{name}s").mkdir(parents=True, exist_ok=True)
        nib.save(item, root / f"{name}s" / f"p{number}.nii.gz")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_dataset(change: Callable[[dict[str, Any]], None] = lambda pair: None) -> Path:
        for number in range(2):
            write_pair(tmp_path / "data", number, change)
        return tmp_path / "data"

    return write_dataset


def build(root: Path, **options: str) -> Manifest:
    return read_layout("folders", root, **options).manifest


def load(root: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """Check all and load all as training does, with the encoding of a new bundle."""
    path = write_manifest(manifest, root.parent / "manifest.json")
    encoding: dict[str, Any] = {"values": list(manifest.mask_values)}
    if manifest.binarize is not None:
        encoding = {"threshold": manifest.binarize}
    chain = Compose(
        [
            LoadImaged(["image", "label"], reader=VolumeReader, ensure_channel_first=True),
            EncodeMaskd("label", **encoding),
            Orientationd(["image", "label"], axcodes="RAS", labels=None),
        ]
    )
    return [chain(item) for item in load_datalist(path, root, "train")]


def require_lesion(root: Path, manifest: Manifest) -> None:
    assert [case.facts["foreground"] for case in manifest.cases] == [VOXELS, VOXELS]
    for item in load(root, manifest):
        label = item["label"] == 1
        assert int(label.sum()) == VOXELS
        assert item["image"].shape == item["label"].shape
        assert float(item["image"][label].min()) > 100
        assert float(item["image"][~label].max()) < 100


def tell(action: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- right as they are


def scale_labels(pair: dict[str, Any]) -> None:
    pair["label"] = nib.Nifti1Image(LESION.astype(np.float32) * np.float32(0.9999), AFFINE)


def scale_by_slope(pair: dict[str, Any]) -> None:
    pair["label"] = nib.Nifti1Image(LESION * np.uint8(3), AFFINE)
    pair["label"].header.set_slope_inter(1 / 3, 0)


def shear(pair: dict[str, Any]) -> None:
    sheared = AFFINE.copy()
    sheared[0, 2] = 0.4
    for item in pair.values():
        item.set_sform(sheared, 1)


def add_time_point(pair: dict[str, Any]) -> None:
    pair["image"] = nib.Nifti1Image(np.asarray(pair["image"].dataobj)[..., None], AFFINE)


def mirror_both(pair: dict[str, Any]) -> None:
    mirrored = AFFINE.copy()
    mirrored[0] = 1, 0, 0, 1
    for name, item in pair.items():
        pair[name] = nib.Nifti1Image(np.asarray(item.dataobj), mirrored)


@pytest.mark.parametrize(
    "change", [lambda pair: None, scale_labels, scale_by_slope, shear, add_time_point, mirror_both]
)
def test_the_label_lies_on_the_lesion(change: Any, write: Callable[..., Path]) -> None:
    root = write(change)
    require_lesion(root, build(root))


@pytest.mark.parametrize("target", ["decathlon", "nnunet"])
def test_scaled_labels_are_converted_to_whole_numbers(target: str, write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(scale_labels)
    convert_manifest(build(root), root, target, tmp_path / "Dataset001_X")
    for path in (tmp_path / "Dataset001_X/labelsTr").iterdir():
        label = nib.load(path)
        assert label.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(label.dataobj), LESION)


@pytest.mark.parametrize("length", [1, 512, 100_000])
def test_zeros_after_the_end_of_the_gzip_data_are_padding(length: int, write: Callable[..., Path]) -> None:
    root = write()
    for path in root.rglob("*.nii.gz"):
        path.write_bytes(path.read_bytes() + bytes(length))
    require_lesion(root, build(root))
    assert len(find_volumes(root / "images")) == 2


# --- refused in one line


def move_sform(pair: dict[str, Any]) -> None:
    moved = AFFINE.copy()
    moved[1, 3] += 6
    pair["image"].set_sform(moved, 2)


def mirror_label(pair: dict[str, Any]) -> None:
    mirrored = AFFINE.copy()
    mirrored[0] = 1, 0, 0, 21
    pair["label"] = nib.Nifti1Image(LESION[::-1], mirrored)


def flip_affine_of_label(pair: dict[str, Any]) -> None:
    flipped = AFFINE.copy()
    flipped[1] = 0, 1, 0, 27
    pair["label"] = nib.Nifti1Image(LESION, flipped)


@pytest.mark.parametrize(
    ("change", "distance"), [(move_sform, "6"), (mirror_label, "19"), (flip_affine_of_label, "23")]
)
def test_a_label_that_lies_elsewhere(change: Any, distance: str, write: Callable[..., Path]) -> None:
    root = write(change)
    manifest = build(root)
    assert {issue.code for issue in check_manifest(manifest, root).errors()} == {"geometry-mismatch"}
    text = tell(lambda: load(root, manifest))
    assert f"lies up to {distance} mm away from the grid of images/p0.nii.gz" in text
    # Following the hint: the image's header is copied, or the mask is resampled onto the image's grid.
    assert "resample the mask onto the image's grid, or copy the image's header" in text
    for image_path in (root / "images").iterdir():
        image, path = nib.load(image_path), root / "labels" / image_path.name
        voxels = np.asarray(nib.load(path).dataobj)
        if change is mirror_label:
            voxels = voxels[::-1]
        nib.save(nib.Nifti1Image(voxels, image.affine), path)
    require_lesion(root, build(root))


def colour(pair: dict[str, Any]) -> None:
    voxels = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    voxels["R"] = 255 * LESION
    pair["label"] = nib.Nifti1Image(voxels, AFFINE)


def test_a_label_of_colours(write: Callable[..., Path]) -> None:
    root = write(colour)
    assert "labels/p0.nii.gz [p0]: the voxels are RGB colours, expected whole numbers" in tell(lambda: build(root))


def test_a_film_is_not_taken_for_channels(write: Callable[..., Path]) -> None:
    def film(pair: dict[str, Any]) -> None:
        pair["image"] = nib.Nifti1Image(np.repeat(np.asarray(pair["image"].dataobj)[..., None], 20, -1), AFFINE)

    root = write(film)
    text = tell(lambda: build(root))
    assert f"{root}/images/p0.nii.gz: the fourth axis has 20 volumes; save one file per volume if they are time" in text
    (number,) = re.findall(r"--channels (\d+)$", text)
    assert build(root, channels=number).channels == tuple(f"channel {index}" for index in range(1, 21))
    assert "expected 20 different names, or their number" in tell(lambda: build(root, channels="T1,T2"))
    # The other half of the hint.
    for path in (root / "images").iterdir():
        nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj)[..., 0], AFFINE), path)
    require_lesion(root, build(root))


def test_channels_are_named(write: Callable[..., Path]) -> None:
    def double(pair: dict[str, Any]) -> None:
        pair["image"] = nib.Nifti1Image(np.repeat(np.asarray(pair["image"].dataobj)[..., None], 2, -1), AFFINE)

    root = write(double)
    manifest = build(root, channels="T1, FLAIR")
    assert manifest.channels == ("T1", "FLAIR")
    assert [item["image"].shape for item in load(root, manifest)] == [(2, *SHAPE)] * 2


def test_labels_with_fractions(write: Callable[..., Path]) -> None:
    def blur(pair: dict[str, Any]) -> None:
        blurred = LESION * np.float32(0.8)
        blurred[0, 0, 0] = 0.25
        pair["label"] = nib.Nifti1Image(blurred, AFFINE)

    root = write(blur)
    text = tell(lambda: build(root))
    assert "the masks hold 3 values (0, 0.25, 0.8), which are not labels; --binarize 0.4 takes" in text
    require_lesion(root, build(root, binarize="0.4"))
    manifest = build(root, mask_values="0,1")
    assert {issue.code for issue in check_manifest(manifest, root, level="deep").errors()} >= {"non-integer-label"}


@pytest.mark.parametrize(
    ("unit", "factor", "sizes"), [("meter", 1e3, "0.001 x 0.001 x 0.002"), ("micron", 1e-3, "1000 x 1000 x 2000")]
)
@pytest.mark.parametrize("part", ["image", "label"])
def test_lengths_that_are_not_in_mm(
    unit: str, factor: float, sizes: str, part: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    def rescale(pair: dict[str, Any]) -> None:
        affine = np.diag([1 / factor] * 3 + [1]) @ AFFINE
        pair[part] = nib.Nifti1Image(np.asarray(pair[part].dataobj), affine)
        pair[part].header.set_xyzt_units(unit)

    root = write(rescale)
    text = tell(lambda: build(root))
    assert f"the header gives lengths in {'metres' if unit == 'meter' else 'micrometres'}, readers take" in text
    assert f"voxels of {sizes}" in text
    assert f"multiply the affine by {factor:g} unless it holds mm" in text
    if part == "image":
        assert "the header gives lengths in" in tell(lambda: find_volumes(root / "images"))
    for path in (root / f"{part}s").iterdir():
        image = nib.load(path)
        mended = nib.Nifti1Image(np.asarray(image.dataobj), np.diag([factor] * 3 + [1]) @ image.affine)
        mended.header.set_xyzt_units("mm")
        nib.save(mended, path)
    require_lesion(root, build(root))


@pytest.mark.skipif(not shutil.which("gzip"), reason="the hint names gzip")
def test_other_bytes_after_the_end_of_the_gzip_data(write: Callable[..., Path]) -> None:
    root = write()
    path = root / "labels/p0.nii.gz"
    path.write_bytes(path.read_bytes() + b"end of file")
    text = tell(lambda: build(root))
    assert "bytes that are not gzip data follow its end" in text
    (command,) = re.findall(r"gzip -dc .*? > '[^']*'", text)
    subprocess.run(command, shell=True, cwd=path.parent, stderr=subprocess.DEVNULL)
    path.unlink()
    require_lesion(root, build(root))


def test_two_gzip_streams_are_one_file(write: Callable[..., Path]) -> None:
    root = write()
    for path in root.rglob("*.nii.gz"):
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    require_lesion(root, build(root))


# --- MetaImage and NRRD


def write_as(root: Path, ending: str) -> Path:
    """Write the dataset in another format, its image and its mask."""
    place = Place((-40.0, -50.0, -30.0), (1.0, 1.0, 2.0))  # AFFINE, counted to the left and posterior
    for number in range(2):
        voxels = (np.random.default_rng(number).normal(0, 10, SHAPE) + 200 * LESION).astype(np.float32)
        write_file(root / f"images/p{number}{ending}", voxels, place, packed=True)
        write_file(root / f"labels/p{number}{ending}", LESION, place)
    return root


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd"])
def test_other_formats_of_volumes(ending: str, tmp_path: Path) -> None:
    root = write_as(tmp_path / "data", ending)
    manifest = build(root)
    assert manifest.spacing_policy == "header"
    assert [case.facts["spacing"] for case in manifest.cases] == [[1.0, 1.0, 2.0]] * 2
    assert not check_manifest(manifest, root).errors()
    require_lesion(root, manifest)
    convert_manifest(manifest, root, "decathlon", tmp_path / "Task01_X")
    for path in (tmp_path / "Task01_X/labelsTr").iterdir():
        label: Any = nib.load(path)
        np.testing.assert_array_equal(np.asarray(label.dataobj), LESION)
        np.testing.assert_array_equal(label.affine, AFFINE)
        assert label.header.get_xyzt_units()[0] == "mm"


def test_a_mask_in_another_format_than_its_image(tmp_path: Path) -> None:
    root = write_as(tmp_path / "data", ".nrrd")
    for number in range(2):
        (root / f"labels/p{number}.nrrd").unlink()
        nib.save(nib.Nifti1Image(LESION, AFFINE), root / f"labels/p{number}.nii.gz")
    manifest = build(root)
    codes = {issue.code for issue in check_manifest(manifest, root).issues}
    assert not codes & {"axis-order", "geometry-mismatch"}
    require_lesion(root, manifest)

"""MetaImage and NRRD: every type, byte order, compression and direction; damage is one clear line."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage

from pipeline.datasets import probes
from pipeline.datasets.probes import ImageError, Probe, probe_image
from pipeline.datasets.probes.pixels import compute_digest
from pipeline.transforms.io.volume_reader import VolumeReader
from tests.volume_files import Place, write_file

SHAPE = (5, 6, 7)
ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
ANGLE = np.radians(25)
OBLIQUE = Place(
    origin=(-31.5, 12.25, 7.0),
    spacing=(0.75, 1.5, 3.0),
    directions=((np.cos(ANGLE), np.sin(ANGLE), 0.0), (np.sin(ANGLE), -np.cos(ANGLE), 0.0), (0.0, 0.0, -1.0)),
)


def make_voxels(dtype: str = "int16", channels: int = 1) -> np.ndarray:
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    voxels = np.random.default_rng(0).integers(max(limits.min, -900), min(limits.max, 900), (*SHAPE, channels))
    return (voxels if channels > 1 else voxels[..., 0]).astype(dtype)


def probe(path: Path, **options: bool) -> Probe:
    return probe_image(path, **{"decode": True, "is_mask": False, **options})


def refuse(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        probe(path)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_type_and_byte_order(ending: str, dtype: str, tmp_path: Path) -> None:
    voxels = make_voxels(dtype)
    for big in (False, True):
        path = write_file(tmp_path / f"a{big}{ending}", voxels, big=big)
        found = probe(path)
        assert (found.shape, found.channels, found.dtype) == (SHAPE, 1, dtype)
        assert found.content is not None
        assert (found.content.low, found.content.high) == (voxels.min(), voxels.max())
        np.testing.assert_array_equal(LoadImage(reader=VolumeReader)(path).numpy(), voxels.astype(np.float32))


@pytest.mark.parametrize(("ending", "packed"), [*itertools.product(ENDINGS, (False, True))])
def test_place_and_voxels(ending: str, packed: bool, tmp_path: Path) -> None:
    voxels = make_voxels()
    path = write_file(tmp_path / f"a{ending}", voxels, OBLIQUE, packed=packed)
    found = probe(path)
    assert found.format == ("NRRD" if ending[1] == "n" else "MetaImage")
    assert found.spacing == OBLIQUE.spacing
    assert found.header == {"ndim": 3, "orientation": "LAI", "affine_problem": ""}
    assert found.content is not None
    assert found.content.digest == compute_digest(voxels)
    image = LoadImage(reader=VolumeReader, ensure_channel_first=True)(path)
    np.testing.assert_array_equal(image[0].numpy(), voxels.astype(np.float32))
    for index in ((0, 0, 0), (4, 5, 6), (3, 1, 2)):
        position = OBLIQUE.locate(index)
        for affine in (np.array(found.affine), np.asarray(image.affine)):
            np.testing.assert_allclose((affine @ [*index, 1])[:3], position, atol=1e-12)


@pytest.mark.parametrize("ending", ENDINGS)
def test_values_of_a_voxel_are_channels(ending: str, tmp_path: Path) -> None:
    voxels = make_voxels("uint8", channels=3)
    path = write_file(tmp_path / f"a{ending}", voxels)
    found = probe(path)
    assert (found.shape, found.channels, found.header["ndim"]) == (SHAPE, 3, 3)
    image = LoadImage(reader=VolumeReader, ensure_channel_first=True)(path)
    np.testing.assert_array_equal(image.numpy(), np.moveaxis(voxels, -1, 0).astype(np.float32))


def test_numbers_as_text(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.mha", make_voxels("uint8")[:2, :1, :1])
    head = path.read_bytes().partition(b"LOCAL\n")[0].replace(b"BinaryData = True", b"BinaryData = False")
    path.write_bytes(head + b"LOCAL\n17 203\n")
    assert LoadImage(reader=VolumeReader)(path).flatten().tolist() == [17, 203]


@pytest.mark.parametrize(("ending", "packed"), [*itertools.product(ENDINGS, (False, True))])
def test_cut_off(ending: str, packed: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_file(tmp_path / f"a{ending}", make_voxels(), packed=packed)
    data = path if ending in (".mha", ".nrrd") else tmp_path / "a.raw"
    data.write_bytes(data.read_bytes()[:-40])
    error = refuse(path)
    assert (error.code, error.hint) == ("truncated", "restore the file")
    assert "cut off" in error.message
    with pytest.raises(ValueError, match=rf"{path}: .*cut off.*; restore the file"):
        LoadImage(reader=VolumeReader)(path)
    # ITK's reader would print lines of its own.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_flipped_bit_in_compressed_voxels(ending: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / f"a{ending}", make_voxels(), packed=True)
    data = path if ending in (".mha", ".nrrd") else tmp_path / "a.raw"
    content = bytearray(data.read_bytes())
    content[-60] ^= 4
    data.write_bytes(content)
    assert refuse(path).code == "truncated"
    with pytest.raises(ValueError, match="damaged"):  # ITK alone gives another image of a MetaImage file
        LoadImage(reader=VolumeReader)(path)


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_the_data_file_is_missing(ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_file(tmp_path / f"a{ending}", make_voxels())
    raw = (tmp_path / "a.raw").rename(tmp_path / "elsewhere")
    error = refuse(path)
    assert (error.code, error.message) == ("missing-file", "its voxels are in a.raw, which is missing")
    assert error.hint == "put a.raw beside it"
    assert capfd.readouterr() == ("", "")
    raw.rename(tmp_path / "a.raw")
    assert probe(path).shape == SHAPE


@pytest.mark.parametrize("name", ["../a.raw", "/etc/passwd", "sub/a.raw"])
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_data_file_of_another_folder(ending: str, name: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / f"a{ending}", make_voxels())
    path.write_bytes(path.read_bytes().replace(b"a.raw", name.encode()))
    error = refuse(path)
    assert (error.code, error.hint) == ("damaged-header", "save it as one .mha or .nrrd file")
    assert error.message == f"its voxels are in {name}, expected a file in the same folder"


@pytest.mark.parametrize("name", ["LIST", "a%03d.raw 1 7 1"])
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_several_data_files(ending: str, name: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / f"a{ending}", make_voxels())
    path.write_bytes(path.read_bytes().replace(b"a.raw", name.encode()))
    assert refuse(path).message == "its voxels are in several files"


@pytest.mark.parametrize(
    ("old", "new", "code", "text"),
    [
        ("DimSize = 5 6 7", "DimSize = 5 6 0", "empty-volume", "5 x 6 x 0: there is no voxel"),
        ("DimSize = 5 6 7", "DimSize = 5 6 x", "damaged-header", "the header gives the size '5 6 x'"),
        ("ElementType = MET_SHORT", "ElementType = MET_OTHER", "damaged-header", "the type 'MET_OTHER'"),
        ("DimSize = 5 6 7", "DimSize = 900 900 900", "truncated", "bytes of voxels are missing in a.mha"),
        ("ElementDataFile = LOCAL", "", "truncated", "cut off inside the header"),
        ("ObjectType", "<html>ObjectType", "truncated", "cut off inside the header"),
    ],
)
def test_headers_that_cannot_be_right(old: str, new: str, code: str, text: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.mha", make_voxels())
    if new.startswith("<html>"):
        path.write_bytes(b"ObjectType = Image\nNDims = 3\n")
    else:
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    error = refuse(path)
    assert error.code == code
    assert re.search(text, error.message)


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_files_with_such_a_name(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"<!DOCTYPE html><html>")
    assert refuse(path).message == "looks like a web page"
    path.write_bytes(b"hello world" * 20)
    assert refuse(path).code == "not-an-image"


def test_a_volume_without_extent_is_reported_with_its_header(tmp_path: Path) -> None:
    flat = Place(directions=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)))
    found = probe(write_file(tmp_path / "a.mha", make_voxels(), flat))
    assert found.header["affine_problem"] == "the affine is singular: voxels have no volume"
    assert (found.affine, found.spacing, found.content) == ((), (), None)


def test_many_threads_that_need_itk_first(tmp_path: Path) -> None:
    for number in range(24):
        write_file(tmp_path / f"a{number}{ENDINGS[number % 4]}", make_voxels("uint8"))
    program = (
        "import sys; from pathlib import Path; from pipeline.datasets.digests import map_threads;"
        "from pipeline.datasets.probes import find_ending, probe_image; assert 'itk' not in sys.modules;"
        "files = [path for path in Path(sys.argv[1]).iterdir() if find_ending(path.name)];"
        "probes = map_threads(lambda path: probe_image(path, decode=True, is_mask=False), files, 24);"
        "print(len({probe.content.digest for probe in probes}), len(files))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("1 24\n", "")


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_volumes_have_a_limit_of_their_own(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / f"a{ending}", make_voxels())
    monkeypatch.setattr(probes, "MAX_PIXELS", 100)
    assert probe(path).shape == SHAPE
    monkeypatch.setattr(probes, "MAX_VOXELS", 209)
    error = refuse(path)
    assert (error.code, error.message, error.hint) == (
        "too-large",
        "5 x 6 x 7 voxels; the limit is 209 voxels",
        "crop it",
    )

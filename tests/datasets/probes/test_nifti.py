"""NIfTI files of every kind of damage, and headers of random bytes, end in a probe or in one clean error."""

import gzip
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.datasets.probes import ImageError, ImageSource, Probe, probe_image

SHAPE = (7, 6, 5)
KINDS = (nib.Nifti1Image, nib.Nifti2Image)
DAMAGES = ("truncated", "checksum-mismatch", "suffix-mismatch", "not-an-image", "damaged-header")
# Places in a NIfTI-1 header.
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SCL_SLOPE, QFORM_CODE, SFORM_CODE, SROW = 40, 70, 76, 108, 112, 252, 254, 280


def ramp(shape: tuple[int, ...] = SHAPE, dtype: str = "uint8") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None, kind: type = nib.Nifti1Image) -> Path:
    kind(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def patch(path: Path, place: int, values: bytes) -> Path:
    zipped = path.name.endswith(".gz")
    data = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    data[place : place + len(values)] = values
    path.write_bytes(gzip.compress(bytes(data), mtime=0) if zipped else bytes(data))
    return path


def probe(path: Path, *, decode: bool = True, is_mask: bool = False, max_pixels: int = 10**8) -> Probe:
    from_disk = _attempt(ImageSource(path), decode, is_mask, max_pixels)
    from_memory = _attempt(ImageSource(path, path.read_bytes()), decode, is_mask, max_pixels)
    assert from_disk == from_memory or isinstance(from_disk, ImageError)
    if isinstance(from_disk, ImageError):
        assert isinstance(from_memory, ImageError)
        assert (from_disk.code, str(from_disk)) == (from_memory.code, str(from_memory))
        raise from_disk
    assert isinstance(from_disk, Probe)
    return from_disk


def _attempt(source: ImageSource, decode: bool, is_mask: bool, max_pixels: int) -> Probe | ImageError:
    try:
        return probe_image(source, decode=decode, is_mask=is_mask, max_pixels=max_pixels)
    except ImageError as error:
        return error


def refuse(path: Path, code: str, message: str, **options: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        probe(path, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_header_and_voxels(tmp_path: Path, ending: str, kind: type) -> None:
    affine = np.array([[-0.7, 0, 0, 10], [0, 0, 2.5, -4], [0, 0.8, 0, 3], [0, 0, 0, 1.0]])
    path = save(tmp_path / f"a{ending}", ramp(dtype="float32"), affine, kind)
    head = probe(path, decode=False)
    assert (head.format, head.shape, head.channels, head.pages, head.dtype) == ("NIfTI", SHAPE, 1, 1, "float32")
    assert head.spacing == (0.7, 0.8, 2.5)
    np.testing.assert_allclose(head.affine, affine, atol=1e-6)
    assert head.header["orientation"] == "LSA"
    assert head.header["sform_qform_distance"] is None or head.header["sform_qform_distance"] < 1e-3
    assert head.header["affine_problem"] == ""
    assert head.content is None
    content = probe(path).content
    assert content is not None
    assert (content.low, content.high, content.non_finite, content.counts) == (0, 209, 0, {})


def test_masks_are_counted_and_scaled_as_readers_do(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[2, 3, 1:3] = 1
    path = save(tmp_path / "m.nii.gz", array)
    content = probe(path, is_mask=True).content
    assert content is not None
    assert content.counts == {0: 208, 1: 2}
    patch(path, SCL_SLOPE, struct.pack("<2f", 2.5, 0.5))
    np.testing.assert_allclose(np.unique(nib.load(path).get_fdata()), [0.5, 3])
    content = probe(path, is_mask=True).content
    assert content is not None
    assert content.counts == {0.5: 208, 3: 2}


def test_big_endian(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp(dtype=">i2"), np.eye(4), nib.Nifti1Header(endianness=">"))
    image.set_data_dtype(">i2")
    image.to_filename(tmp_path / "a.nii")
    found = probe(tmp_path / "a.nii")
    assert (found.shape, found.dtype) == (SHAPE, "int16")
    assert found.content is not None
    assert found.content.high == 209


def test_axes_of_length_one_behind_the_third_count_for_nothing(tmp_path: Path) -> None:
    found = probe(save(tmp_path / "a.nii", ramp((*SHAPE, 1, 1))))
    assert (found.shape, found.channels, found.header["ndim"]) == (SHAPE, 1, 3)
    found = probe(save(tmp_path / "b.nii", ramp((*SHAPE, 3))))
    assert (found.shape, found.channels, found.header["ndim"]) == (SHAPE, 3, 4)
    found = probe(save(tmp_path / "c.nii", ramp((*SHAPE, 1, 3))))
    assert (found.shape, found.channels) == (SHAPE, 3)
    assert probe(save(tmp_path / "d.nii", ramp((7, 6)))).shape == (7, 6)
    refuse(save(tmp_path / "e.nii", ramp((*SHAPE, 2, 3))), "ndim", "7 x 6 x 5 x 2 x 3")


def test_not_finite_voxels_are_counted_with_the_first_index(tmp_path: Path) -> None:
    array = ramp(dtype="float32")
    array[3, 2, 1], array[3, 2, 4] = np.nan, np.inf
    content = probe(save(tmp_path / "a.nii.gz", array)).content
    assert content is not None
    assert (content.non_finite, content.first_non_finite, content.high) == (2, (3, 2, 1), 209)


def test_cut_off(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=SHAPE)).read_bytes()
    path = tmp_path / "cut.nii.gz"
    for length in (3, 30, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        refuse(path, "truncated", f"at {length} bytes")
    raw = gzip.decompress(whole)
    path = tmp_path / "cut.nii"
    path.write_bytes(raw[:-1])
    refuse(path, "truncated", f"the header claims {len(raw)} bytes, the file has {len(raw) - 1} bytes", decode=False)
    path.write_bytes(raw[:200])
    refuse(path, "truncated", "inside the header", decode=False)
    # Whole gzip data of too few voxels.
    path = tmp_path / "short.nii.gz"
    path.write_bytes(gzip.compress(raw[:-100]))
    refuse(path, "truncated", "100 bytes of voxels are missing")


def test_the_checksum_at_the_end_of_the_gzip_data_is_compared(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(24, 24, 24)))
    data = bytearray(path.read_bytes())
    data[-7] ^= 16
    path.write_bytes(bytes(data))
    # What no reader notices.
    assert nib.load(path).get_fdata().std() > 0.9
    refuse(path, "checksum-mismatch", "bits have changed")
    assert probe(path, decode=False).shape == (24, 24, 24)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_name_that_lies_about_compression(tmp_path: Path, ending: str) -> None:
    other = {".nii": ".nii.gz", ".nii.gz": ".nii"}[ending]
    path = save(tmp_path / f"a{ending}", ramp())
    path = path.rename(tmp_path / f"b{other}")
    error = refuse(path, "suffix-mismatch", f"b{other} is", decode=False)
    assert f"rename it to b{ending}" in error.hint


def test_other_things_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    for content, message in (
        (b"<!DOCTYPE html><html>Sign in", "looks like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "looks like a Git LFS pointer"),
        (b"hello" * 100, "not an image: starts with"),
        (gzip.compress(b"hello" * 100), "compressed, but not NIfTI"),
        (b"", "not an image"),
    ):
        path.write_bytes(content)
        refuse(path, "not-an-image", message, decode=False)


@pytest.mark.parametrize(
    ("place", "values", "code", "message"),
    [
        (DIM, struct.pack("<4h", 3, -7, 6, 5), "damaged-header", "sizes are [3, -7, 6, 5"),
        (DIM, struct.pack("<4h", 9, 7, 6, 5), "damaged-header", "sizes are [9, 7"),
        (DIM, struct.pack("<4h", 3, 7, 0, 5), "empty-volume", "7 x 0 x 5"),
        (DIM, struct.pack("<8h", 7, *[32767] * 7), "too-large", "32767 x 32767 x"),
        (DATATYPE, struct.pack("<h", 12345), "damaged-header", "unknown data type 12345"),
        (DATATYPE, struct.pack("<h", 128), "image-mode", "RGB colours"),
        (DATATYPE, struct.pack("<h", 32), "image-mode", "complex64"),
        (VOX_OFFSET, struct.pack("<f", 1e30), "damaged-header", "first voxel at byte 1e+30"),
        (VOX_OFFSET, struct.pack("<f", float("nan")), "damaged-header", "first voxel at byte nan"),
        (VOX_OFFSET, struct.pack("<f", 0), "damaged-header", "expected 352 or more"),
        (VOX_OFFSET, struct.pack("<f", 400), "truncated", "the header claims"),
        (SCL_SLOPE, struct.pack("<2f", float("inf"), 0), "damaged-header", "scales by inf"),
        (344, b"ni1\0", "not-an-image", "a pair .hdr and .img"),
        (344, b"xyz\0", "damaged-header", "magic"),
    ],
)
def test_absurd_headers(tmp_path: Path, place: int, values: bytes, code: str, message: str) -> None:
    refuse(patch(save(tmp_path / "a.nii", ramp()), place, values), code, message, decode=False)


def test_sizes_are_limited_before_anything_is_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp())
    refuse(path, "too-large", "the limit is 209 voxels", max_pixels=209, decode=False)
    # Three kilobytes that claim 400 million voxels: deflate cannot hold so many.
    patch(path, DIM, struct.pack("<4h", 3, 800, 800, 625))
    refuse(path, "truncated", "the header claims 400000352 bytes", max_pixels=10**9, decode=False)


def test_the_limit_of_pictures_is_not_that_of_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.nii.gz", ramp())
    # A scan of 512 x 512 x 987 voxels is accepted; here only the claim is that large, the file is cut off.
    patch(path, DIM, struct.pack("<4h", 3, 512, 512, 987))
    with pytest.raises(ImageError, match="cut off: the header claims"):
        probe_image(path, decode=False, is_mask=False)
    patch(path, DIM, struct.pack("<4h", 3, 2048, 1024, 1025))
    with pytest.raises(ImageError, match="the limit is 2147483648 voxels") as caught:
        probe_image(path, decode=False, is_mask=False)
    assert (caught.value.code, caught.value.hint) == ("too-large", "crop it")


def test_a_gzip_bomb_is_not_inflated(tmp_path: Path) -> None:
    raw = gzip.decompress(save(tmp_path / "a.nii.gz", ramp()).read_bytes())
    squeeze = zlib.compressobj(wbits=31)
    data = squeeze.compress(raw) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(64)) + squeeze.flush()
    (tmp_path / "bomb.nii.gz").write_bytes(data)
    refuse(tmp_path / "bomb.nii.gz", "damaged-header", "follow the voxels")


def test_affines(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp())
    nan, two = struct.pack("<f", float("nan")), struct.pack("<f", 2)
    one = probe(patch(path, SROW, two), decode=False)
    assert one.header["sform_code"] == 2
    assert one.header["sform_qform_distance"] is None
    patch(path, QFORM_CODE, struct.pack("<h", 1))
    assert probe(path, decode=False).header["sform_qform_distance"] == 6
    assert probe(patch(path, SROW, nan), decode=False).header["affine_problem"] == "the sform is not finite"
    found = probe(patch(path, SROW, bytes(48)), decode=False)
    assert (found.affine, found.header["affine_problem"]) == ((), "the sform is all zero")
    assert found.spacing == (1, 1, 1)
    singular = np.zeros((3, 4), "<f4")
    singular[:, 0] = 1
    found = probe(patch(path, SROW, singular.tobytes()), decode=False)
    assert found.header["affine_problem"] == "the sform is singular: voxels have no volume"
    # An impossible quaternion.
    patch(path, SFORM_CODE, struct.pack("<h", 0))
    found = probe(patch(path, 256, struct.pack("<3f", 5, 5, 5)), decode=False)
    assert found.header["affine_problem"].startswith("the qform cannot be read")
    patch(path, QFORM_CODE, struct.pack("<h", 0))
    assert probe(path, decode=False).header["affine_problem"] == ""


def test_random_bytes_in_headers_never_escape_as_another_error(tmp_path: Path) -> None:
    """4,000 damaged headers: each is read or refused, and what is read has a sane description."""
    rng = np.random.default_rng(2024)
    outcomes = set()
    files = [save(tmp_path / f"a{i}.nii", ramp(), kind=kind).read_bytes() for i, kind in enumerate(KINDS)]
    for index in range(4000):
        data = bytearray(files[index % 2])
        header = 352 if index % 2 == 0 else 544
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(0, header))] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(0, 256))]))
        found = _attempt(ImageSource(Path("x.nii"), bytes(data)), True, index % 3 == 0, 10**8)
        if isinstance(found, ImageError):
            outcomes.add(found.code)
            assert "\n" not in str(found)
        else:
            outcomes.add("read")
            assert all(length > 0 for length in found.shape)
            assert all(np.isfinite(found.spacing))
            assert found.affine == () or np.isfinite(found.affine).all()
    assert outcomes >= {"read", "truncated", "damaged-header", "too-large"}


def test_random_bytes_in_gzip_data_never_escape_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    whole = save(tmp_path / "a.nii.gz", rng.integers(0, 200, SHAPE).astype(np.uint8)).read_bytes()
    expected = probe_image(ImageSource(Path("x.nii.gz"), whole), decode=True, is_mask=True)
    for _ in range(600):
        data = bytearray(whole)
        place = int(rng.integers(0, len(data)))
        data[place] ^= 1 << int(rng.integers(0, 8))
        found = _attempt(ImageSource(Path("x.nii.gz"), bytes(data)), True, True, 10**8)
        if isinstance(found, ImageError):
            assert found.code in DAMAGES
        else:
            # A flip in what the gzip header says of time or system, or in unused bits, changes no voxel.
            assert found == expected


@pytest.mark.realdata
def test_real_volumes(shared_data: Path) -> None:
    files = sorted((shared_data / "Task04_Hippocampus").glob("*/*.nii.gz"))
    assert len(files) == 360
    for path in files[::20]:
        found = probe_image(path, decode=True, is_mask="labelsTr" in path.parts)
        assert (found.spacing, found.header["orientation"], found.channels) == ((1, 1, 1), "RAS", 1)
        assert found.shape == nib.load(path).shape

"""Volumes on another grid than their masks, with contradictory headers or too small for a patch are reported."""

import gzip
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Case, Manifest
from pipeline.datasets.checks.integrity import Report, check_manifest
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.phantoms.phantom_files import write_nifti
from pipeline.issues import Issue

SHAPE = (12, 10, 8)
EYE = np.eye(4)


def moved(distance: float) -> np.ndarray:
    affine = np.eye(4)
    affine[0, 3] = distance
    return affine


def make_case(root: Path, name: str, image: np.ndarray | None = None, mask: np.ndarray | None = None) -> Case:
    """Write a case; the arrays are affines."""
    rng = np.random.default_rng(sum(name.encode()))
    write_nifti(root / f"{name}.nii.gz", rng.normal(size=SHAPE).astype(np.float32), image)
    label = np.zeros(SHAPE, np.uint8)
    label[3:7, 3:6, 2:5] = 1
    write_nifti(root / f"{name}_seg.nii.gz", label, mask)
    return Case(name, name, (f"{name}.nii.gz",), (f"{name}_seg.nii.gz",))


def make_manifest(*cases: Case, **changes: object) -> Manifest:
    base = Manifest(
        name="x",
        task="segmentation",
        licence="",
        source="",
        labels={0: "background", 1: "lesion"},
        mask_values={0: 0, 1: 1},
        channels=("MR",),
        cases=cases,
        spacing_policy="header",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def check(root: Path, manifest: Manifest, **options: object) -> Report:
    given = CheckOptions(search_near=False, **options)  # type: ignore[arg-type]
    return check_manifest(manifest, root, options=given)


def find(issues: Sequence[Issue], code: str) -> list[Issue]:
    return [issue for issue in issues if issue.code == code]


def only(issues: Sequence[Issue], code: str, severity: str) -> Issue:
    (issue,) = find(issues, code)
    assert issue.severity == severity
    assert issue.path
    assert issue.hint
    return issue


def test_a_sound_volume_has_no_findings_of_geometry(tmp_path: Path) -> None:
    affine = np.array([[-0.7, 0, 0, 90], [0, 0, 3, -120], [0, 0.7, 0, 40], [0, 0, 0, 1.0]])
    report = check(tmp_path, make_manifest(make_case(tmp_path, "a", affine, affine)))
    assert {issue.code for issue in report.issues} <= {"checksum-missing", "split"}


@pytest.mark.parametrize(("distance", "severity"), [(0.5, "error"), (2e-3, "error"), (5e-4, "warning")])
def test_a_mask_that_lies_elsewhere(tmp_path: Path, distance: float, severity: str) -> None:
    report = check(tmp_path, make_manifest(make_case(tmp_path, "a", EYE, moved(distance))))
    issue = only(report.issues, "geometry-mismatch", severity)
    assert issue.path == "a_seg.nii.gz"
    assert f"{distance:.3g} mm away from the grid of a.nii.gz" in issue.message
    assert "resample" in issue.hint
    assert "copy" in issue.hint


def test_rounding_is_not_reported(tmp_path: Path) -> None:
    report = check(tmp_path, make_manifest(make_case(tmp_path, "a", EYE, moved(1e-5))))
    assert find(report.issues, "geometry-mismatch") == []


def test_a_mask_that_is_flipped(tmp_path: Path) -> None:
    report = check(tmp_path, make_manifest(make_case(tmp_path, "a", EYE, np.diag([-1.0, 1, 1, 1]))))
    assert "22 mm away" in only(report.issues, "geometry-mismatch", "error").message


def test_a_voxel_size_other_than_the_manifest_is_found(tmp_path: Path) -> None:
    case = replace(make_case(tmp_path, "a"), facts={"spacing": [1.0, 1.0, 2.0]})
    issue = only(check(tmp_path, make_manifest(case)).issues, "geometry-mismatch", "error")
    assert "1 x 1 x 1 mm, the manifest says 1 x 1 x 2 mm" in issue.message


def patch(path: Path, place: int, values: bytes) -> None:
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[place : place + len(values)] = values
    path.write_bytes(gzip.compress(bytes(data), mtime=0))


NAN = struct.pack("<f", float("nan"))


@pytest.mark.parametrize(
    ("place", "values", "severity", "message"),
    [
        (280, struct.pack("<f", 2), "warning", "sform and qform place corners 11 mm apart"),
        (280, NAN, "error", "the sform is not finite"),
        (280, bytes(48), "error", "the sform is all zero"),
        (296, bytes(16), "error", "the sform is singular"),
        (252, bytes(4), "warning", "neither sform nor qform is set"),
    ],
)
def test_affines_that_place_no_voxel_or_two(
    tmp_path: Path, place: int, values: bytes, severity: str, message: str
) -> None:
    manifest = make_manifest(make_case(tmp_path, "a"))
    patch(tmp_path / "a.nii.gz", place, values)
    issue = only(check(tmp_path, manifest).issues, "affine", severity)
    assert (issue.path, issue.record) == ("a.nii.gz", "a")
    assert message in issue.message


def test_orientations_that_differ_between_cases(tmp_path: Path) -> None:
    affines = [EYE, EYE, np.diag([-1.0, -1, 1, 1])]
    cases = [make_case(tmp_path, f"c{i}", affine, affine) for i, affine in enumerate(affines)]
    report = check(tmp_path, make_manifest(*cases))
    issue = only(report.issues, "orientation-mixed", "warning")
    assert issue.path == "c2.nii.gz"
    assert "RAS (2), LPS (1)" in issue.message
    assert 'Orientationd(axcodes="RAS")' in issue.hint
    assert report.errors() == []
    assert find(check(tmp_path, make_manifest(*cases[:2])).issues, "orientation-mixed") == []


def test_voxel_sizes_unlike_the_others(tmp_path: Path) -> None:
    affines = [np.diag([1.0, 1, z, 1]) for z in (1, 1.2, 1.1, 1, 5)]
    cases = [make_case(tmp_path, f"c{i}", affine, affine) for i, affine in enumerate(affines)]
    issue = only(check(tmp_path, make_manifest(*cases)).issues, "spacing-outlier", "warning")
    assert issue.path == "c4.nii.gz"
    assert "1 of 5 cases" in issue.message
    assert "here 1 x 1 x 5 mm" in issue.message
    assert "axis 2: 1, 1.1, 5" in issue.message
    assert find(check(tmp_path, make_manifest(*cases[:4])).issues, "spacing-outlier") == []


def test_volumes_smaller_than_the_patch_or_not_divisible(tmp_path: Path) -> None:
    manifest = make_manifest(make_case(tmp_path, "a"))
    issue = only(check(tmp_path, manifest, roi_size=(8, 8, 16)).issues, "smaller-than-patch", "warning")
    assert "12 x 10 x 8, smaller than the patch 8 x 8 x 16" in issue.message
    assert "SpatialPadd" in issue.hint
    issue = only(check(tmp_path, manifest, divisible_by=4).issues, "not-divisible", "warning")
    assert "12 x 10 x 8, not divisible by 4" in issue.message
    assert "DivisiblePadd" in issue.hint
    clean = check(tmp_path, manifest, roi_size=(12, 10, 8), divisible_by=2).issues
    assert not find(clean, "smaller-than-patch") + find(clean, "not-divisible")


def save_4d(root: Path, name: str, channels: int) -> None:
    array = np.random.default_rng(1).normal(size=(*SHAPE, channels)).astype(np.float32)
    nib.Nifti1Image(array, EYE).to_filename(root / name)


def test_a_fourth_axis_must_be_the_channels(tmp_path: Path) -> None:
    case = make_case(tmp_path, "a")
    save_4d(tmp_path, "a.nii.gz", 3)
    issue = only(check(tmp_path, make_manifest(case)).issues, "ndim", "error")
    assert "a fourth axis of 3, expected 1" in issue.message
    assert find(check(tmp_path, make_manifest(case)).issues, "channels") == []
    named = make_manifest(case, channels=("T1", "T2", "FLAIR"))
    assert check(tmp_path, named).errors() == []
    save_4d(tmp_path, "a.nii.gz", 1)
    assert check(tmp_path, make_manifest(case)).errors() == []
    nib.Nifti1Image(np.ones((*SHAPE, 2), np.uint8), EYE).to_filename(tmp_path / "a_seg.nii.gz")
    issue = only(check(tmp_path, make_manifest(case)).errors(), "ndim", "error")
    assert issue.path == "a_seg.nii.gz"


def test_channels_in_files_of_their_own_must_lie_in_one_place(tmp_path: Path) -> None:
    case = make_case(tmp_path, "a")
    write_nifti(tmp_path / "b.nii.gz", np.random.default_rng(3).normal(size=SHAPE).astype(np.float32), moved(2))
    case = replace(case, image=("a.nii.gz", "b.nii.gz"))
    manifest = make_manifest(case, channels=("T1", "T2"), stacking="channels")
    assert only(check(tmp_path, manifest).errors(), "geometry-mismatch", "error").path == "b.nii.gz"


@pytest.mark.parametrize("size", [(16, 16), (16, 12)])
def test_a_picture_with_a_mask_in_nifti(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros(size, np.uint8)
    mask[4:9, 4:9] = 1
    nib.Nifti1Image(mask, EYE).to_filename(tmp_path / "a_seg.nii.gz")
    case = Case("a", "a", ("a.png",), ("a_seg.nii.gz",))
    issue = only(check(tmp_path, make_manifest(case)).issues, "axis-order", "warning")
    assert "the mask is NIfTI, its image PNG" in issue.message
    assert ("square" in issue.message) == (size[0] == size[1])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_one_flipped_bit_in_a_checked_dataset_is_refused(tmp_path: Path, ending: str) -> None:
    from pipeline.datasets.digests import compute_sha256

    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path = tmp_path / f"a{ending}"
    nib.Nifti1Image(array, EYE).to_filename(path)
    manifest = make_manifest(Case("a", "a", (path.name,), None, sha256={path.name: compute_sha256(path)}))
    whole = path.read_bytes()
    assert check(tmp_path, manifest).errors() == []
    rng = np.random.default_rng(5)
    for _ in range(80):
        data = bytearray(whole)
        data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(bytes(data))
        assert "checksum-mismatch" in {issue.code for issue in check(tmp_path, manifest).errors()}


@pytest.fixture
def not_a_volume(tmp_path: Path) -> Callable[[str, bytes], Report]:
    def make(name: str, content: bytes) -> Report:
        (tmp_path / name).write_bytes(content)
        return check(tmp_path, make_manifest(Case("a", "a", (name,), None)))

    return make


def test_damage_becomes_a_finding_about_the_file(not_a_volume: Callable[[str, bytes], Report]) -> None:
    for name, content, code in (
        ("a.nii.gz", b"<html>", "not-an-image"),
        ("b.nii", b"\x5c\x01\0\0" + bytes(50), "truncated"),
        ("c.nii.gz", gzip.compress(b"\x5c\x01\0\0" + bytes(50)), "truncated"),
        ("d.dcm", b"version https://git-lfs.github.com/spec/v1", "not-an-image"),
        ("e.svs", b"II*\0", "unsupported-format"),
    ):
        (issue,) = not_a_volume(name, content).errors()
        assert (issue.code, issue.path, issue.record) == (code, name, "a")

"""Each bad input is found at its level with its code, and the finding names the file."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Case, Manifest, write_manifest
from pipeline.datasets.checks.contents import CASE_CHECKS
from pipeline.datasets.checks.integrity import Level, check_manifest, count_splits
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.checks.report import format_report, report_to_dict
from pipeline.datasets.layouts import read_layout
from pipeline.issues import Issue

ONE, TWO = "TCGA_CS_0001_20000101", "TCGA_DU_0002_20000102"
IMAGE, MASK = f"{ONE}/{ONE}_2.tif", f"{ONE}/{ONE}_2_mask.tif"
LEVELS: tuple[Level, ...] = ("quick", "default", "deep")


def save(path: Path, array: np.ndarray, **options: object) -> None:
    Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).copy()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def set_pixel(path: Path, value: int) -> None:
    array = read(path)
    array[0, 0] = value
    save(path, array)


def save_pages(path: Path) -> None:
    page = Image.fromarray(read(path))
    page.save(path, save_all=True, append_images=[page, page])


def save_jpeg(path: Path) -> None:
    save(path, read(path), format="JPEG")


def empty_all_masks(path: Path) -> None:
    for mask in path.parent.glob("*_mask.tif"):
        save(mask, np.zeros_like(read(mask)))


def flatten_all_images(path: Path) -> None:
    for image in path.parent.glob("*[0-9].tif"):
        save(image, np.full_like(read(image), 7))


@dataclass(frozen=True)
class Damage:
    """A file, the damage done to it, and the expected finding.

    ``vouched``: the manifest was made before the damage, with checksums; otherwise made after it, so that the bytes
    agree, or without checksums.
    """

    file: str
    do: Callable[[Path], object]
    code: str
    level: Level
    manifest: Literal["before", "after", "without"] = "before"
    text: str = ""
    severity: str = "error"


DAMAGES = {
    "missing image": Damage(IMAGE, Path.unlink, "missing-file", "quick"),
    "missing mask": Damage(MASK, Path.unlink, "missing-file", "quick"),
    "folder instead of a file": Damage(IMAGE, make_folder, "not-a-file", "quick"),
    "dangling link": Damage(IMAGE, lambda p: link(p, "gone.tif"), "broken-link", "quick", text="link to gone.tif"),
    "link loop": Damage(IMAGE, lambda p: link(p, p.name), "broken-link", "quick"),
    "no permission": Damage(IMAGE, lambda p: p.chmod(0), "unreadable-file", "quick", text="no permission"),
    "zero bytes": Damage(IMAGE, lambda p: p.write_bytes(b""), "empty-file", "quick", text="0 bytes"),
    "one bit": Damage(MASK, flip_bit, "checksum-mismatch", "default", text="the file has changed"),
    "truncated": Damage(IMAGE, cut, "truncated", "default", text="cut off at"),
    "truncated, no checksum": Damage(MASK, cut, "truncated", "default", "without"),
    "web page": Damage(
        IMAGE, lambda p: p.write_bytes(b"<!DOCTYPE html>"), "not-an-image", "default", text="a web page"
    ),
    "web page, no checksum": Damage(
        MASK, lambda p: p.write_bytes(b"<html><body>404"), "not-an-image", "default", "without", text="download"
    ),
    "Git LFS pointer": Damage(
        IMAGE, lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "not-an-image", "default"
    ),
    "noise": Damage(IMAGE, lambda p: p.write_bytes(b"noise" * 99), "not-an-image", "default", text="starts with"),
    "mask of another size": Damage(
        MASK,
        lambda p: save(p, np.zeros((24, 30), np.uint8)),
        "shape-mismatch",
        "default",
        "after",
        text=f"the mask is 24 x 30, its image {IMAGE} is 24 x 32",
    ),
    "transposed mask": Damage(
        MASK, lambda p: save(p, read(p).T.copy()), "shape-mismatch", "default", "after", text="the mask is transposed"
    ),
    "image of another size": Damage(
        IMAGE,
        lambda p: save(p, np.zeros((20, 32, 3), np.uint8)),
        "shape-mismatch",
        "default",
        "after",
        text="the image is 20 x 32, the manifest says 24 x 32",
    ),
    "mask value 1": Damage(
        MASK,
        lambda p: set_pixel(p, 1),
        "label-values",
        "default",
        "after",
        text="holds 1 (1 pixels), the manifest allows 0, 255",
    ),
    "mask value 1, no checksum": Damage(MASK, lambda p: set_pixel(p, 1), "label-values", "default", "without"),
    "16-bit mask": Damage(
        MASK, lambda p: save(p, np.full((24, 32), 300, np.uint16)), "label-values", "default", "after", text="holds 300"
    ),
    "many mask values": Damage(
        MASK,
        lambda p: save(p, np.arange(768, dtype=np.uint8).reshape(24, 32)),
        "label-values",
        "default",
        "after",
        text="8, ...",
    ),
    "grey image": Damage(
        IMAGE, lambda p: save(p, np.zeros((24, 32), np.uint8)), "channels", "default", "after", text="1 channels, the"
    ),
    "coloured mask": Damage(
        MASK,
        lambda p: save(p, np.eye(24, 96, dtype=np.uint8).reshape(24, 32, 3)),
        "color-mask",
        "default",
        "after",
        text="3 channels",
    ),
    "several pages": Damage(MASK, save_pages, "ndim", "default", "after", text="3 pages"),
    "JPEG named tif": Damage(
        IMAGE,
        save_jpeg,
        "suffix-mismatch",
        "default",
        "after",
        text="stands for TIFF, the file is JPEG",
        severity="warning",
    ),
    "not-a-number": Damage(
        MASK, lambda p: save(p, np.full((24, 32), np.nan, np.float32)), "non-finite", "deep", "after", text="768 values"
    ),
    "no foreground": Damage(MASK, empty_all_masks, "empty-mask", "deep", "after", severity="warning"),
    "constant image": Damage(
        IMAGE,
        flatten_all_images,
        "constant-image",
        "deep",
        "after",
        text="every voxel of the case is 7",
        severity="warning",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_at_its_level(
    name: str, kaggle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = DAMAGES[name]
    target = kaggle / damage.file
    damage.do(target)
    if name == "no permission" and os.access(target, os.R_OK):
        # The superuser may read everything.
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != target)
    if damage.manifest == "after":
        manifest = read_layout("lgg", kaggle).manifest
    elif damage.manifest == "without":
        manifest = replace(manifest, cases=tuple(replace(case, sha256={}) for case in manifest.cases))
    found = {level: check_manifest(manifest, kaggle, level=level).issues for level in LEVELS}
    for level in LEVELS[: LEVELS.index(damage.level)]:
        assert damage.code not in {issue.code for issue in found[level]}
    for level in LEVELS[LEVELS.index(damage.level) :]:
        issue = next(issue for issue in found[level] if issue.code == damage.code)
        assert issue.severity == damage.severity
        assert issue.record == ONE
        assert Path(issue.path).parent.name == ONE
        assert issue.path in issue.one_line()
        assert damage.text in issue.one_line()
        if damage.code not in {"empty-mask", "constant-image"}:
            assert issue.path == damage.file


def change(manifest: Manifest, index: int, **fields: object) -> Manifest:
    cases = list(manifest.cases)
    cases[index] = replace(cases[index], **fields)  # type: ignore[arg-type]
    return replace(manifest, cases=tuple(cases))


def with_folds(manifest: Manifest) -> Manifest:
    return replace(manifest, cases=tuple(replace(case, fold=index) for index, case in enumerate(manifest.cases)))


def share_image(manifest: Manifest) -> Manifest:
    manifest = with_folds(manifest)
    digests = {**manifest.cases[1].sha256, manifest.cases[1].image[0]: manifest.cases[0].sha256[IMAGE]}
    return change(manifest, 1, sha256=digests)


MISTAKES: dict[str, tuple[Callable[[Manifest], Manifest], str, str, str]] = {
    "patient in two folds": (
        lambda m: change(with_folds(m), 1, subject=" tcga_cs_0001 "),
        "leak-patient",
        "error",
        f"is in 2 parts: fold 0 ({ONE}), fold 1 ({TWO})",
    ),
    "patient in fold and test": (
        lambda m: change(change(with_folds(m), 1, subject="TCGA_CS_0001"), 0, split="test", fold=None),
        "leak-patient",
        "error",
        f"fold 1 ({TWO}), test ({ONE})",
    ),
    "patient in two parts of a named split": (
        lambda m: replace(change(m, 1, subject="TCGA_CS_0001"), named_splits={"ref": {"val": [ONE]}}),
        "leak-patient",
        "error",
        f"ref train ({TWO}), ref val ({ONE})",
    ),
    "same image in two folds": (share_image, "leak-file", "error", f"the same bytes as {IMAGE}: one is in fold 0"),
    "duplicate id": (lambda m: change(m, 1, case_id=ONE), "duplicate-id", "error", "is already used by cases[0]"),
    "ids that differ in case": (lambda m: change(m, 1, case_id=ONE.lower()), "duplicate-id", "warning", "cases[1]"),
    "duplicate path": (
        lambda m: change(m, 1, image=(IMAGE, *m.cases[1].image[1:])),
        "duplicate-path",
        "error",
        f"{IMAGE} [{TWO}]: also listed by {ONE}",
    ),
    "mask as image": (
        lambda m: change(m, 0, image=(MASK, *m.cases[0].image[1:])),
        "image-is-mask",
        "error",
        f"{MASK} [{ONE}]: is a mask here",
    ),
    "slice without mask": (
        lambda m: change(m, 0, label=m.cases[0].label[1:]),  # type: ignore[index]
        "shape-mismatch",
        "error",
        "3 image files, but 2 mask files",
    ),
    "unknown id in a named split": (
        lambda m: replace(m, named_splits={"ref": {"val": ["nobody"]}}),
        "split",
        "error",
        "named_splits.ref: 'nobody' is not a case",
    ),
    "unknown id among the excluded of a named split": (
        lambda m: replace(m, named_splits={"ref": {"val": [ONE], "exclude": ["nobody"]}}),
        "split",
        "error",
        "named_splits.ref: 'nobody' is not a case",
    ),
    "excluded from a named split and in it": (
        lambda m: replace(m, named_splits={"ref": {"val": [ONE], "exclude": [ONE]}}),
        "split",
        "error",
        f"named_splits.ref: {ONE!r} is excluded, but also in the validation set",
    ),
    "test case with fold": (
        lambda m: change(m, 0, split="test", fold=1),
        "split",
        "warning",
        "a test case with fold 1",
    ),
    "only test cases": (
        lambda m: replace(m, cases=tuple(replace(case, split="test") for case in m.cases)),
        "split",
        "warning",
        "all cases are test",
    ),
    "no cases": (lambda m: replace(m, cases=()), "split", "warning", "the manifest has no cases"),
    "wrong foreground": (
        lambda m: change(m, 0, facts={**m.cases[0].facts, "foreground": 5}),
        "foreground",
        "error",
        "24 foreground voxels, the manifest says 5",
    ),
    "unknown format": (
        lambda m: change(m, 0, image=("data.xyz",), label=None, sha256={}),
        "unsupported-format",
        "error",
        "data.xyz [TCGA_CS_0001_20000101]: no reader for '.xyz'",
    ),
    "no checksums": (
        lambda m: replace(m, cases=tuple(replace(case, sha256={}) for case in m.cases)),
        "checksum-missing",
        "warning",
        "18 of 18 files have no sha256 in the manifest",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_the_manifest_is_found(name: str, kaggle: Path, manifest: Manifest) -> None:
    make, code, severity, text = MISTAKES[name]
    (kaggle / "data.xyz").write_bytes(b"x")
    level: Level = "deep" if code in {"foreground", "unsupported-format"} else "quick"
    issues = [issue for issue in check_manifest(make(manifest), kaggle, level=level).issues if issue.code == code]
    assert issues[0].severity == severity
    assert text in issues[0].one_line()


def test_a_sound_dataset_has_no_findings(kaggle: Path, manifest: Manifest) -> None:
    for level in LEVELS:
        assert check_manifest(with_folds(manifest), kaggle, level=level).issues == ()


def test_everything_is_collected_in_a_fixed_order(kaggle: Path, manifest: Manifest) -> None:
    (kaggle / f"{TWO}/{TWO}_1.tif").unlink()
    (kaggle / IMAGE).write_bytes(b"")
    set_pixel(kaggle / MASK, 3)
    broken = change(manifest, 2, case_id=TWO)
    reports = [check_manifest(broken, kaggle, level="deep", jobs=jobs) for jobs in (1, 2, 8)]
    assert [issue.code for issue in reports[0].issues] == [
        "duplicate-id",
        "empty-file",
        "checksum-mismatch",
        "label-values",
        "foreground",
        "missing-file",
    ]
    assert reports[0] == reports[1] == reports[2]


def test_every_flipped_bit_is_found(kaggle: Path, manifest: Manifest) -> None:
    rng = np.random.default_rng(0)
    original = (kaggle / IMAGE).read_bytes()
    for position in rng.integers(0, 8 * len(original), 40):
        data = bytearray(original)
        data[position // 8] ^= 1 << (position % 8)
        (kaggle / IMAGE).write_bytes(data)
        report = check_manifest(manifest, kaggle, cases=manifest.cases[:1])
        assert "checksum-mismatch" in {issue.code for issue in report.issues}


def test_absent_test_cases_are_normal_others_are_not(kaggle: Path, manifest: Manifest) -> None:
    manifest = change(manifest, 2, split="test")
    for path in (kaggle / manifest.cases[2].case_id).iterdir():
        path.unlink()
    report = check_manifest(manifest, kaggle)
    assert (report.issues, report.absent) == ((), (manifest.cases[2],))
    assert "not in the folder, not checked: 1 test case (" in format_report(report, title="")
    asked = check_manifest(manifest, kaggle, cases=manifest.cases)
    assert [issue.code for issue in asked.issues] == ["missing-file"]
    assert "none of the 6 files of the case exists" in asked.issues[0].message
    for path in (kaggle / TWO).iterdir():
        path.unlink()
    assert [issue.record for issue in check_manifest(manifest, kaggle).issues] == [TWO]


def test_a_missing_folder_is_a_finding_beside_the_others(kaggle: Path, manifest: Manifest) -> None:
    broken = change(manifest, 1, case_id=ONE)
    codes = [issue.code for issue in check_manifest(broken, kaggle / "none").issues]
    assert codes == ["duplicate-id", "missing-dataset"]
    plain = replace(manifest, source="", layout="")
    assert check_manifest(plain, kaggle / "none").issues[0].hint == ""


def test_gigantic_images_are_refused_before_decoding(
    kaggle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    issues = check_manifest(manifest, kaggle, level="deep", options=CheckOptions(max_pixels=500)).issues
    assert {issue.code for issue in issues} == {"too-large"}
    assert "24 x 32 pixels; the limit is 500" in issues[0].message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert {issue.code for issue in check_manifest(manifest, kaggle).issues} == {"too-large"}


@pytest.mark.parametrize("error", [MemoryError("too big"), OSError(5, "Input/output error")])
def test_a_failing_reader_is_a_finding(
    kaggle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pipeline.datasets.probes.raster.probe", fail)
    issues = check_manifest(manifest, kaggle).issues
    assert {issue.code for issue in issues} == {"unreadable-file"}
    assert len(issues) == 18


def test_a_file_that_vanishes_during_the_check_is_a_finding(
    kaggle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.datasets.checks.inspection.check_presence", lambda *_: None)
    (kaggle / IMAGE).unlink()
    issues = check_manifest(manifest, kaggle).issues
    assert {(issue.code, issue.path) for issue in issues} == {("unreadable-file", IMAGE)}


def test_unreadable_parents_are_a_finding(kaggle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, stat = kaggle / ONE, os.stat

    def refuse(path: str | Path, **options: bool) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).parent == folder:
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    # What a folder without x permission does to everyone but the superuser.
    monkeypatch.setattr(os, "stat", refuse)
    issues = check_manifest(manifest, kaggle, level="quick").issues
    assert [issue.path for issue in issues] == list(manifest.cases[0].files())
    assert {(issue.code, issue.message) for issue in issues} == {("unreadable-file", "permission denied")}


def test_counts_by_split(kaggle: Path, manifest: Manifest) -> None:
    manifest = change(manifest, 2, split="test")
    manifest = change(manifest, 1, subject="tcga_cs_0001")
    quick = count_splits(check_manifest(manifest, kaggle, level="quick"))
    assert quick["train"] == {"cases": 2, "subjects": 1, "files": 12, "empty_masks": None}
    assert count_splits(check_manifest(manifest, kaggle, level="deep"))["test"]["empty_masks"] == 0


def test_report_as_text_and_json(kaggle: Path, manifest: Manifest) -> None:
    (kaggle / IMAGE).write_bytes(b"")
    report = check_manifest(change(manifest, 2, split="test", fold=0), kaggle)
    text = format_report(report, title="title")
    assert text.splitlines() == [
        "title",
        "  train: 2 cases, 2 subjects, 12 files, masks not read",
        "  test: 1 case, 1 subject, 6 files, masks not read",
        "error empty-file (1)",
        f"  {IMAGE} [{ONE}]: the file holds 0 bytes",
        "warning split (1)",
        "  TCGA_HT_0003_20000103: a test case with fold 0; the fold is ignored",
        "1 error, 1 warning",
    ]
    coloured = format_report(report, title="title", colour=True)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text != coloured
    data = json.loads(json.dumps(report_to_dict(report)))
    assert (data["errors"], data["warnings"], data["absent"]) == (1, 1, [])
    assert [Issue(**entry) for entry in data["issues"]] == list(report.issues)


def test_cases_without_masks_are_checked_too(kaggle: Path, manifest: Manifest, tmp_path: Path) -> None:
    plain = Case("a", "a", (IMAGE,))
    report = check_manifest(replace(manifest, channels=(), mask_values={}, cases=(plain,)), kaggle, level="deep")
    assert [issue.code for issue in report.issues] == ["checksum-missing"]
    assert report.results[0].empty is None
    assert write_manifest(replace(manifest, cases=(plain,)), tmp_path / "m.json").exists()


def test_every_check_of_a_case_is_documented() -> None:
    assert all((check.__doc__ or "").startswith("Yield ``") for check in CASE_CHECKS)

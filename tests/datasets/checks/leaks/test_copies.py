"""Leaks that pixels reveal: other encodings and near copies, and images that only resemble each other."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.datasets.checks.integrity import Report, check_manifest
from pipeline.datasets.checks.leaks.copies import count_blank_images, group_near_duplicates, list_images
from pipeline.datasets.checks.leaks.manifest_leaks import Leak
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.digests import compute_sha256
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import Issue
from tests.volume_files import write_file

Array = np.ndarray


def draw(seed: int, size: int = 96) -> Array:
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(size, size)), 5) + 0.3 * gaussian_filter(rng.normal(size=(size, size)), 2)
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 200 + 20).astype(np.uint8)


class Dataset:
    """A folder of pictures and its manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cases: list[Case] = []

    def add(self, case_id: str, *images: Array, split: str = "train", subject: str = "", ending: str = ".png") -> None:
        paths = []
        for number, image in enumerate(images):
            path = f"{case_id}{f'_{number}' if len(images) > 1 else ''}{ending}"
            Image.fromarray(image).save(self.root / path, quality=60)
            paths.append(path)
        self.cases.append(Case(case_id, subject, tuple(paths), split=split))  # type: ignore[arg-type]

    def manifest(self) -> Manifest:
        labels = {0: "background", 1: "x"}
        return Manifest("x", "segmentation", "", "", labels, {0: 0, 255: 1}, (), tuple(self.cases))

    def check(self, **options: object) -> Report:
        return check_manifest(self.manifest(), self.root, level="deep", options=CheckOptions(**options))  # type: ignore[arg-type]

    def leaks(self, **options: object) -> list[Issue]:
        codes = ("leak-", "near-duplicates")
        return [issue for issue in self.check(**options).issues if issue.code.startswith(codes)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


def test_the_same_pixels_in_another_encoding(dataset: Dataset) -> None:
    dataset.add("a", draw(0))
    dataset.add("b", draw(0), split="test", ending=".tif")
    (leak,) = dataset.leaks()
    assert (leak.code, leak.severity, leak.path, leak.record) == ("leak-pixels", "error", "b.tif", "b")
    assert leak.message == "the same pixels as a.png: one is in train, the other in test"
    assert isinstance(leak, Leak)
    assert (leak.other, leak.other_record) == ("a.png", "a")


def test_equal_bytes_are_reported_once(dataset: Dataset) -> None:
    dataset.add("a", draw(0))
    dataset.add("b", draw(0), split="test")
    dataset.cases = [replace(case, sha256={case.image[0]: "0" * 64}) for case in dataset.cases]
    assert [leak.code for leak in dataset.leaks()] == ["leak-file"]


@pytest.mark.parametrize("value", [0, 200])
def test_blank_slices_prove_nothing_and_are_counted(dataset: Dataset, value: int) -> None:
    dataset.add("a", np.full((64, 64), value, np.uint8))
    dataset.add("b", np.full((64, 64), value, np.uint8), split="test", ending=".tif")
    dataset.add("c", draw(0))
    report = dataset.check()
    assert not any(issue.code.startswith("leak") for issue in report.issues)
    views = [result.view for result in report.results if result.view]
    assert (len(list_images(views)), count_blank_images(views)) == (1, 2)


CHANGES: dict[str, tuple[Callable[[Array], Array], str]] = {
    "recompressed": (lambda a: a, ""),
    "half size": (lambda a: np.asarray(Image.fromarray(a).resize((48, 48))), ""),
    "brighter": (lambda a: np.clip(a * 1.1, 0, 255).astype(np.uint8), ""),
    "left-right": (lambda a: a[:, ::-1].copy(), "flipped left-right"),
    "upside down": (lambda a: a[::-1].copy(), "flipped upside down"),
    "turned": (lambda a: np.rot90(a).copy(), "turned by 90 degrees"),
    "colour": (lambda a: np.stack([a] * 3, axis=-1), ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_are_found(dataset: Dataset, change: str) -> None:
    apply, words = CHANGES[change]
    for seed in range(5):
        dataset.add(f"own{seed}", draw(seed + 10))
    dataset.add("a", draw(0))
    dataset.add("b", apply(draw(0)), split="val", ending=".jpg")
    (leak,) = dataset.leaks()
    assert (leak.code, leak.severity, leak.path, leak.record) == ("leak-near", "warning", "b.jpg", "b")
    assert leak.message.startswith("a near copy of a.png (")
    assert leak.message.endswith("): one is in train, the other in val")
    assert (words or "hash bits differ, correlation ") in leak.message
    assert ("flipped" in leak.message or "turned" in leak.message) == bool(words)


def test_different_pictures_are_no_leak(dataset: Dataset) -> None:
    for seed in range(30):
        dataset.add(f"c{seed}", draw(seed), split=("train", "val", "test")[seed % 3])
    assert dataset.leaks() == []


def test_one_finding_a_case_names_the_nearest_and_counts_the_rest(dataset: Dataset) -> None:
    noise = np.random.default_rng(0).integers(-12, 12, (96, 96))
    dataset.add("t", draw(0), split="test")
    dataset.add("noisy", (draw(0) + noise).astype(np.uint8))
    dataset.add("bright", np.clip(draw(0) * 1.05, 0, 255).astype(np.uint8))
    near, within = dataset.leaks()
    assert (near.code, near.record) == ("leak-near", "t")
    assert "a near copy of bright.png" in near.message
    assert near.message.endswith("; 1 more near copy in other parts")
    assert (within.code, within.severity) == ("near-duplicates", "warning")
    assert within.message == "cases with a near copy in their own split: 2 in train"


def test_copies_of_one_patient_are_left_to_leak_patient(dataset: Dataset) -> None:
    dataset.add("a", draw(0), subject="p")
    dataset.add("b", draw(0), split="test", subject=" P", ending=".jpg")
    assert [leak.code for leak in dataset.leaks()] == ["leak-patient"]


def test_folds_are_parts(dataset: Dataset) -> None:
    dataset.add("a", draw(0))
    dataset.add("b", draw(0), ending=".jpg")
    assert [leak.code for leak in dataset.leaks()] == ["near-duplicates"]
    dataset.cases = [replace(case, fold=fold) for fold, case in enumerate(dataset.cases)]
    (leak,) = dataset.leaks()
    assert "one is in fold 0, the other in fold 1" in leak.message


def test_search_can_be_switched_off(dataset: Dataset) -> None:
    dataset.add("a", draw(0))
    dataset.add("b", draw(0), split="test", ending=".jpg")
    assert dataset.leaks(search_near=False) == []


def test_the_default_level_does_not_decode_files_with_checksums(dataset: Dataset) -> None:
    from pipeline.datasets.digests import compute_sha256

    dataset.add("a", draw(0))
    dataset.add("b", draw(0), split="test", ending=".tif")
    dataset.cases = [
        replace(case, sha256={case.image[0]: compute_sha256(dataset.root / case.image[0])}) for case in dataset.cases
    ]
    report = check_manifest(dataset.manifest(), dataset.root)
    assert not any(issue.code.startswith("leak") for issue in report.issues)


def test_a_copied_stack_is_one_finding(dataset: Dataset) -> None:
    own = [draw(seed) for seed in range(6)]
    dataset.add("a", *own)
    dataset.add("b", *[image[:, ::-1].copy() for image in own[1:]], split="test", ending=".jpg")
    (leak,) = dataset.leaks()
    assert leak.code == "leak-near"
    assert "flipped left-right, 5 images of the two cases match" in leak.message


def test_one_similar_slice_of_two_stacks_is_chance(dataset: Dataset) -> None:
    dataset.add("a", *[draw(seed) for seed in range(6)])
    dataset.add("b", draw(0), *[draw(seed) for seed in range(20, 25)], split="test", ending=".jpg")
    assert dataset.leaks() == []


def test_one_slice_matching_many_is_one_match(dataset: Dataset) -> None:
    dataset.add("a", draw(0), *[draw(seed) for seed in range(30, 35)])
    dataset.add("b", *[draw(0)] * 3, *[draw(seed) for seed in range(20, 23)], split="test", ending=".jpg")
    assert dataset.leaks() == []


def test_a_slice_taken_from_a_stack_is_found(dataset: Dataset) -> None:
    dataset.add("a", *[draw(seed) for seed in range(6)])
    dataset.add("b", draw(3), split="test", ending=".jpg")
    (leak,) = dataset.leaks()
    assert "a near copy of a_3.png" in leak.message


def test_groups_are_transitive_and_broken_files_are_left_out(dataset: Dataset) -> None:
    image = draw(0)
    dataset.add("a", image)
    dataset.add("other", draw(5))
    dataset.add("b", image, ending=".jpg")
    dataset.add("c", np.ascontiguousarray(image[::-1]), split="val")
    dataset.add("lonely", draw(6))
    dataset.add("broken", image)
    (dataset.root / "broken.png").write_bytes(b"\x89PNG nothing")
    dataset.add("gone", image)
    (dataset.root / "gone.png").unlink()
    dataset.add("again", draw(5), ending=".jpg")
    groups = group_near_duplicates(dataset.manifest(), dataset.root)
    assert groups == [frozenset({"a", "b", "c"}), frozenset({"other", "again"})]


def test_images_that_cannot_be_compared_are_counted(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "gone"):
        dataset.add(name, draw(0), draw(1))
    (dataset.root / "gone_1.png").unlink()
    (dataset.root / "a_0.png").write_bytes(b"\x89PNG nothing")
    group_near_duplicates(dataset.manifest(), dataset.root)
    assert caplog.messages == ["2 of 6 images cannot be read and were not compared, for example a_0.png"]


def test_near_copies_are_found_by_names_of_another_unicode_form(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("lésion", "é"):
        dataset.add(unicodedata.normalize("NFD", name), draw(0), ending=".jpg" if name == "é" else ".png")
    composed = [
        replace(case, case_id=name, image=(unicodedata.normalize("NFC", case.image[0]),))
        for case, name in zip(dataset.cases, "ab", strict=True)
    ]
    groups = group_near_duplicates(replace(dataset.manifest(), cases=tuple(composed)), dataset.root)
    assert (groups, caplog.messages) == ([frozenset({"a", "b"})], [])


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_headers_of_equal_bytes_are_compared_by_their_voxels(tmp_path: Path, ending: str) -> None:
    volume = np.stack([draw(seed) for seed in range(3)], axis=-1)
    paths, cases = [], []
    splits = ("train", "test", "val")
    for name, split, voxels in zip(("p1", "p2", "p3"), splits, (volume, volume[::-1] // 2, volume), strict=True):
        image, mask = (f"{name}/{kind}{ending}" for kind in ("scan", "mask"))
        write_file(tmp_path / image, voxels)
        write_file(tmp_path / mask, (voxels > 100).astype(np.uint8))
        digests = {path: compute_sha256(tmp_path / path) for path in (image, mask)}
        paths.append(image)
        cases.append(Case(name, "", (image,), (mask,), split, sha256=digests))  # type: ignore[arg-type]
    assert len({case.sha256[path] for case, path in zip(cases, paths, strict=True)}) == 1
    labels = {0: "background", 1: "x"}
    manifest = Manifest("x", "segmentation", "", "", labels, {0: 0, 1: 1}, ("CT",), tuple(cases), "header")
    issues = check_manifest(manifest, tmp_path, level="deep").issues
    found = [(issue.code, issue.path) for issue in issues if issue.severity == "error" or issue.code == "shared-mask"]
    assert found == [("leak-pixels", paths[2])]


def test_nothing_to_group(dataset: Dataset) -> None:
    dataset.add("a", draw(0))
    assert group_near_duplicates(dataset.manifest(), dataset.root) == []


@pytest.mark.realdata
def test_flipped_copies_across_the_splits_of_br35h_are_found(shared_data: Path) -> None:
    root = shared_data / "brain_tumor_coco_br35h"
    manifest = read_layout("coco", root).manifest
    leaks = [issue for issue in check_manifest(manifest, root, level="deep").issues if issue.code == "leak-near"]
    # Seen by eye: augmented copies, turned by 180 degrees, mirrored, or with stretched contrast.
    assert len(leaks) >= 40
    assert all(leak.path.startswith("valid/") for leak in leaks)
    assert sum("turned by 180 degrees" in leak.message for leak in leaks) >= 5


@pytest.mark.realdata
def test_no_patient_of_lgg_is_taken_for_another(real_lgg: Path) -> None:
    manifest = read_layout("lgg", real_lgg).manifest
    parted = tuple(replace(case, fold=number) for number, case in enumerate(manifest.cases))
    issues = check_manifest(replace(manifest, cases=parted), real_lgg, level="deep").issues
    assert [issue for issue in issues if "near" in issue.code or issue.code.startswith("leak")] == []

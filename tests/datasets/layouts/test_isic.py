"""ISIC folders of three years, as downloaded, in short form, and broken."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import InputError

OFFICIAL = {
    "2016": ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", ("Training", "Test"), "CC0 1.0"),
    "2017": (
        "ISIC-2017_{}_Data",
        "ISIC-2017_{}_Part1_GroundTruth",
        ("Training", "Validation", "Test_v2"),
        "CC0 1.0",
    ),
    "2018": (
        "ISIC2018_Task1-2_{}_Input",
        "ISIC2018_Task1_{}_GroundTruth",
        ("Training", "Validation", "Test"),
        "CC BY-NC 4.0",
    ),
}


def write_image(path: Path, *, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 255, (18, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((18, 24), np.uint8)
    mask[4:8, 5:10] = 255
    Image.fromarray(mask).save(path)


def write_pairs(root: Path, images: str, masks: str, names: list[str], *, ending: str = "_segmentation.png") -> None:
    for name in names:
        write_image(root / images / f"{name}.jpg")
        write_mask(root / masks / f"{name}{ending}")


@pytest.fixture
def isic(tmp_path: Path) -> Path:
    """The official folders of 2018 with five images."""
    root = tmp_path / "isic"
    for split, first, count in (("Training", 0, 3), ("Validation", 3, 1), ("Test", 4, 1)):
        names = [f"ISIC_{number:07d}" for number in range(first, first + count)]
        write_pairs(root, f"ISIC2018_Task1-2_{split}_Input", f"ISIC2018_Task1_{split}_GroundTruth", names)
    return root


def by_split(manifest: Manifest) -> Counter[str]:
    return Counter(case.split for case in manifest.cases)


def told(root: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_layout("isic", root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("year", OFFICIAL)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_official_folders_keep_their_split(tmp_path: Path, year: str, nested: bool) -> None:
    images, masks, splits, licence = OFFICIAL[year]
    for index, split in enumerate(splits):
        folders = [pattern.format(split) for pattern in (images, masks)]
        folders = [f"{folder}/{folder}" for folder in folders] if nested else folders
        # The masks of 2016 and 2017 are named with a capital S in some releases.
        ending = "_Segmentation.png" if year != "2018" else "_segmentation.png"
        write_pairs(tmp_path, *folders, [f"ISIC_{index:07d}", f"ISIC_{index + 7:07d}"], ending=ending)
    draft = read_layout("isic", tmp_path)
    manifest = draft.manifest
    expected = {"Training": "train", "Validation": "val", "Test": "test", "Test_v2": "test"}
    assert by_split(manifest) == {expected[split]: 2 for split in splits}
    assert (manifest.name, manifest.licence) == (f"isic{year}", licence)
    assert str(int(year)) in manifest.citations[0]
    assert manifest.mask_values == {0: 0, 255: 1}
    assert all(case.facts["foreground"] == 20 and case.facts["shape"] == [18, 24] for case in manifest.cases)
    assert draft.notes == ()


def test_a_case_is_an_image_of_an_unknown_patient(isic: Path) -> None:
    manifest = read_layout("isic", isic).manifest
    assert [case.case_id for case in manifest.cases] == [f"ISIC_{number:07d}" for number in range(5)]
    case = manifest.cases[3]
    assert (case.subject, case.subject_key(), case.split) == ("", "case:ISIC_0000003", "val")
    assert case.image == ("ISIC2018_Task1-2_Validation_Input/ISIC_0000003.jpg",)
    assert case.label == ("ISIC2018_Task1_Validation_GroundTruth/ISIC_0000003_segmentation.png",)


def test_short_names_without_split_are_train_and_said_so(tmp_path: Path) -> None:
    write_pairs(tmp_path, "ISIC2017_Input", "ISIC2017_GroundTruth", ["ISIC_0000001"])
    draft = read_layout("isic", tmp_path)
    assert (draft.manifest.name, by_split(draft.manifest)) == ("isic2017", {"train": 1})
    assert [(note.code, note.message) for note in draft.notes] == [
        ("split", "no folder is named Training, Validation or Test; all cases are train")
    ]


def test_the_year_may_stand_in_the_name_of_the_root_only(tmp_path: Path) -> None:
    write_pairs(tmp_path / "ISIC2016", "train/images", "train/masks", ["ISIC_0000001"])
    manifest = read_layout("isic", tmp_path / "ISIC2016").manifest
    assert (manifest.name, manifest.cases[0].split) == ("isic2016", "train")
    manifest = read_layout("isic", tmp_path / "ISIC2016" / "train").manifest
    assert (manifest.name, manifest.licence[:8], manifest.citations) == ("isic", "given fo", ())


def test_superpixels_terms_and_other_tasks_are_ignored_and_counted(isic: Path) -> None:
    before = read_layout("isic", isic).manifest
    images = isic / "ISIC2018_Task1-2_Training_Input"
    for name in ("ATTRIBUTION.txt", "LICENSE.txt", "ISIC_0000000_superpixels.png", "._ISIC_0000000.jpg"):
        (images / name).write_text("x")
    write_mask(isic / "ISIC2018_Task2_Training_GroundTruth_v3" / "ISIC_0000000_attribute_globules.png")
    write_image(isic / "ISIC2018_Task3_Training_Input" / "ISIC_0000000.jpg")
    write_mask(isic / "ISBI2016_ISIC_Part3B_Training_Data" / "ISIC_0000000_Segmentation.png")
    (isic / "todo.md").write_text("x")
    draft = read_layout("isic", isic)
    assert draft.manifest == before
    assert [(note.code, note.message.split(" ")[0]) for note in draft.notes] == [
        ("ignored-file", "6"),
        ("unmatched-file", "1"),
        ("hidden-file", "1"),
    ]
    assert "belongs to no image: todo.md" in draft.notes[1].message


def test_a_part_without_masks_becomes_cases_without_label(isic: Path) -> None:
    for mask in (isic / "ISIC2018_Task1_Test_GroundTruth").iterdir():
        mask.unlink()
    draft = read_layout("isic", isic)
    labels = {case.case_id: case.label for case in draft.manifest.cases}
    assert [name for name, label in labels.items() if label is None] == ["ISIC_0000004"]
    assert [note.message for note in draft.notes] == [
        "none of the 1 images of test has a mask; they are cases without label"
    ]


def test_unpaired_files_are_refused_or_left_out(isic: Path) -> None:
    (isic / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000001_segmentation.png").unlink()
    (isic / "ISIC2018_Task1-2_Validation_Input" / "ISIC_0000003.jpg").unlink()
    write_pairs(isic, "ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth", ["ISIC_0000009"])
    text = told(isic)
    assert "1 image has no mask: ISIC2018_Task1-2_Training_Input/ISIC_0000001.jpg" in text
    assert "1 mask has no image: ISIC2018_Task1_Validation_GroundTruth/ISIC_0000003_seg" in text
    assert text.endswith("or leave them out with --unpaired drop")
    draft = read_layout("isic", isic, unpaired="drop")
    assert [case.case_id for case in draft.manifest.cases] == [
        "ISIC_0000000",
        "ISIC_0000002",
        "ISIC_0000009",
        "ISIC_0000004",
    ]
    assert [note.code for note in draft.notes] == ["unpaired-file", "unpaired-file"]
    assert told(isic, unpaired="maybe") == "--unpaired must be one of refuse, drop, got 'maybe'"


def test_copies_and_mixed_years_are_refused(isic: Path) -> None:
    write_image(isic / "backup_Training" / "ISIC_0000000.jpg")
    text = told(isic)
    assert "ISIC_0000000 occurs twice as train: ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg and backup_" in text
    (isic / "backup_Training").rename(isic / "backup_Test")
    write_mask(isic / "backup_Test" / "ISIC_0000000_segmentation.png")
    assert "1 images are in two splits, for example ISIC_0000000; keep one copy of each" in told(isic)
    (isic / "backup_Test").rename(isic.parent / "elsewhere")
    write_pairs(isic, "ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", ["ISIC_0000077"])
    assert "holds ISIC 2017 and 2018, which share images; build each year from its own folder" in told(isic)


def test_another_folder_is_told_what_was_expected(tmp_path: Path) -> None:
    write_image(tmp_path / "holiday.jpg")
    text = told(tmp_path)
    assert f"no images like ISIC_0000000.jpg under {tmp_path}; expected ISIC2018_Task1-2_Training_Input/" in text


@pytest.mark.realdata
def test_real_images_are_seventy_pairs(shared_data: Path) -> None:
    draft = read_layout("isic", shared_data / "isic2017")
    cases: tuple[Case, ...] = draft.manifest.cases
    assert len(cases) == 70
    assert draft.manifest.name == "isic2017"
    assert all(case.label and case.facts["foreground"] > 0 and max(case.facts["shape"]) == 512 for case in cases)
    assert [note.code for note in draft.notes] == ["split"]

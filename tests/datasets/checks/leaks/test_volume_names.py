"""File names of slices are distinguished from the running numbers of a dataset."""

import pytest

from pipeline.datasets.checks.leaks.volume_names import group_volumes, split_slice_number
from pipeline.datasets.manifests.manifest import Case, Manifest


def make_manifest(paths: list[str], **facts: object) -> Manifest:
    cases = tuple(Case(path, "", (path,), facts=facts) for path in paths)
    return Manifest("x", "segmentation", "", "", {0: "background"}, {0: 0}, ("grey",), cases)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_12.tif", ("TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_", 12)),
        ("images/p007_z0012.png", ("images/p007_z", 12)),
        ("patient12/0003.png", ("patient12/", 3)),
        ("patient12/slice-003.png", ("patient12/", 3)),
        ("01/t000.tif", ("01/", 0)),
        ("case3_5.nii.gz", ("case3_", 5)),
        ("1.2.840.113.7.12.dcm", ("1.2.840.113.7.", 12)),
        ("train/p7_12_jpg.rf.0a1b2c.jpg", ("train/p7_", 12)),
        ("ISIC2018_Task1-2_Training_Input/ISIC_0012221.jpg", ("", 0)),
        ("imagesTr/hippocampus_190.nii.gz", ("", 0)),
        ("train/y504_jpg.rf.1fda.jpg", ("", 0)),
        ("train/0001.png", ("", 0)),
        ("a/no number.png", ("", 0)),
        ("9" * 400 + ".png", ("", 0)),
    ],
)
def test_split_number(path: str, expected: tuple[str, int]) -> None:
    assert split_slice_number(path) == expected


def test_channels_are_not_slice_numbers() -> None:
    assert split_slice_number("imagesTr/p1_07_0000.png", channels=True) == ("imagesTr/p1_", 7)


def names(manifest: Manifest) -> list[tuple[str, int]]:
    return [(volume.name, len(volume.cases)) for volume in group_volumes(manifest)]


def test_slices_are_grouped_by_prefix() -> None:
    paths = [f"p{patient}_{number}.png" for patient in (1, 2) for number in range(4)]
    assert names(make_manifest(paths)) == [("p1_", 4), ("p2_", 4)]


@pytest.mark.parametrize(
    "paths",
    [
        [f"set1_{number}.png" for number in range(50)],
        [f"p{patient}_{number}.png" for patient in (1, 2) for number in (0, 100, 5000)],
        [f"p{patient}_{number}.png" for patient in range(9) for number in range(2)],
        [f"ISIC_{number:07d}.jpg" for number in range(40)],
    ],
    ids=["one prefix is a dataset", "sparse numbers", "pairs", "no digit in the prefix"],
)
def test_running_numbers_are_not_slices(paths: list[str]) -> None:
    assert names(make_manifest(paths)) == []


def test_a_film_is_believed_whatever_the_names() -> None:
    assert names(make_manifest(["a.png", "b.png"], sequence="01")) == [("01", 2)]


def test_volumes_in_one_file_are_not_slices() -> None:
    paths = [f"site{site}_{number}.nii.gz" for site in (1, 2) for number in range(5)]
    assert names(make_manifest(paths, shape=[10, 10, 10])) == []
    assert len(names(make_manifest(paths, shape=[10, 10]))) == 2

"""The synthetic hippocampi look like the real ones to every reader, and no threshold finds them."""

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.datasets import load_datalist, read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.phantoms import write_hippocampus_phantom, write_nnunet_phantom
from pipeline.issues import InputError


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hippocampus_phantom(tmp_path_factory.mktemp("hippocampus"), cases=10).parent


def hash_tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_same_seed_same_bytes_other_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_hippocampus_phantom(tmp_path / name, cases=3, seed=seed, size=24)
    first, again, other = (hash_tree(tmp_path / name) for name in "abc")
    assert first == again
    volumes = [name for name in first if name.endswith(".nii.gz")]
    assert len(volumes) == 8
    assert not {first[name] for name in volumes} & {other[name] for name in volumes}


def test_files_are_as_in_the_real_set(phantom: Path) -> None:
    kinds, scales = set(), []
    for path in sorted((phantom / "Task04_Hippocampus" / "imagesTr").iterdir()):
        image, label = nib.load(path), nib.load(path.parents[1] / "labelsTr" / path.name)
        np.testing.assert_array_equal(image.affine, label.affine)
        assert image.shape == label.shape
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.header.get_zooms() == (1, 1, 1)
        assert (image.header["sform_code"], image.header["qform_code"]) == (1, 1)
        assert all(25 <= length <= 60 for length in image.shape)
        assert label.get_data_dtype() == np.uint8
        kinds.add(str(image.get_data_dtype()))
        if image.get_data_dtype() == np.float32:
            scales.append(float(image.get_fdata().max()))
    assert kinds == {"uint8", "float32"}
    assert max(scales) > 2 * min(scales) > 600


def test_the_truth_is_in_the_files(phantom: Path) -> None:
    truth = json.loads((phantom / "truth.json").read_text())["cases"]
    manifest = read_manifest(phantom / "manifest.json")
    assert len(manifest.cases) == 10
    assert len(truth) == 12
    for case in manifest.cases:
        assert case.label is not None
        label = read(phantom / "Task04_Hippocampus" / case.label[0])
        expected = truth[case.case_id]
        assert {str(v): int((label == v).sum()) for v in (0, 1, 2)} == expected["voxels"] == case.facts["voxels"]
        share = (label > 0).mean()
        assert 0.02 < share < 0.12
        # In front is anterior: the second axis grows that way.
        assert expected["centres"]["1"][1] > expected["centres"]["2"][1] + 10


def test_every_split_has_cases_and_no_finding(phantom: Path) -> None:
    counts = [
        len(load_datalist(phantom / "manifest.json", phantom / "Task04_Hippocampus", split))
        for split in ("train", "val", "test")
    ]
    assert min(counts) > 0
    assert sum(counts) == 10
    report = check_manifest(read_manifest(phantom / "manifest.json"), phantom / "Task04_Hippocampus", level="deep")
    assert {issue.code for issue in report.issues} <= {"patient-missing", "intensity-range"}


def test_a_threshold_is_not_enough(phantom: Path) -> None:
    best = []
    for case in read_manifest(phantom / "manifest.json").cases:
        assert case.label is not None
        root = phantom / "Task04_Hippocampus"
        image, truth = read(root / case.image[0]).astype(float), read(root / case.label[0]) > 0
        levels = np.quantile(image, np.linspace(0.02, 0.99, 60))
        scores = [2 * (truth & (image > level)).sum() / (truth.sum() + (image > level).sum()) for level in levels]
        best.append(max(scores))
    assert np.mean(best) < 0.75


def test_arguments_out_of_range(tmp_path: Path) -> None:
    for options in ({"cases": 2}, {"cases": 1000}, {"size": 8}, {"seed": -1}):
        for write in (write_hippocampus_phantom, write_nnunet_phantom):
            with pytest.raises(InputError, match=f"{next(iter(options))} must be"):
                write(tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


def test_nnunet_phantom_has_two_channels_and_the_same_bytes_again(tmp_path: Path) -> None:
    for name in "ab":
        write_nnunet_phantom(tmp_path / name, cases=4, size=24)
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")
    manifest = read_manifest(tmp_path / "a" / "manifest.json")
    assert {len(case.image) for case in manifest.cases} == {2}
    assert {tuple(case.facts["spacing"]) for case in manifest.cases} == {(1, 1, 1.2)}

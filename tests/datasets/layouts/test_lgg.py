import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets.digests import read_checksums
from pipeline.datasets.layouts import LAYOUTS, read_layout
from pipeline.issues import InputError


def digests_of(root: Path) -> dict[str, str]:
    files = root.glob("*/*.tif")
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_case_is_a_patient_with_its_slices_in_order_of_number(kaggle: Path, add_patient: Callable[..., None]) -> None:
    name = "TCGA_FG_0004_20000104"
    add_patient(name, slices=11)
    case = read_layout("lgg", kaggle).manifest.cases[2]
    assert (case.case_id, case.subject, case.split, case.fold) == (name, "TCGA_FG_0004", "train", None)
    assert case.image == tuple(f"{name}/{name}_{number}.tif" for number in range(1, 12))
    assert case.label == tuple(f"{name}/{name}_{number}_mask.tif" for number in range(1, 12))
    foreground = sum(4 * (4 + number) for number in range(2, 11))
    expected = {"shape": [24, 32, 11], "dtype": "uint8", "spacing": None, "foreground": foreground, "group": "FG"}
    assert case.facts == expected


def test_digests_are_those_of_the_files(kaggle: Path) -> None:
    found: dict[str, str] = {}
    for case in read_layout("lgg", kaggle).manifest.cases:
        found.update(case.sha256)
    assert found == digests_of(kaggle)


def test_hidden_and_foreign_files_are_ignored(kaggle: Path) -> None:
    before = read_layout("lgg", kaggle).manifest
    (kaggle / "data.csv").write_text("Patient\n")
    (kaggle / ".cache").mkdir()
    folder = kaggle / before.cases[0].case_id
    for name in ("._TCGA_CS_0001_20000101_1.tif", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / name).write_bytes(b"x")
    assert read_layout("lgg", kaggle).manifest == before


def test_patients_known_by_checksum_alone_have_no_size(kaggle: Path, patients: tuple[str, ...]) -> None:
    checksums = digests_of(kaggle)
    whole = read_layout("lgg", kaggle).manifest
    shutil.rmtree(kaggle / patients[1])
    draft = read_layout("lgg", kaggle, checksums={**checksums, "README.md": "0" * 64})
    part = draft.manifest
    assert [note.message for note in draft.notes] == ["1 of 3 cases are known from the published checksums only"]
    assert [case.case_id for case in part.cases] == list(patients)
    assert (part.cases[0], part.cases[2]) == (whole.cases[0], whole.cases[2])
    assert part.cases[1].sha256 == whole.cases[1].sha256
    assert part.cases[1].facts == {**whole.cases[1].facts, "foreground": None}


def test_patients_without_any_mask_are_cases_without_label(kaggle: Path, patients: tuple[str, ...]) -> None:
    for mask in (kaggle / patients[0]).glob("*_mask.tif"):
        mask.unlink()
    case = read_layout("lgg", kaggle).manifest.cases[0]
    assert case.label is None
    assert case.facts["foreground"] is None
    assert len(case.sha256) == 3


def test_a_folder_name_without_date_or_institution_is_its_own_subject(
    kaggle: Path, add_patient: Callable[..., None]
) -> None:
    add_patient("zebra")
    case = read_layout("lgg", kaggle).manifest.cases[-1]
    assert (case.subject, case.facts["group"]) == ("zebra", None)


def test_broken_folders_are_told_in_one_line(kaggle: Path, patients: tuple[str, ...], tmp_path: Path) -> None:
    checksums = digests_of(kaggle)
    first = kaggle / patients[0] / f"{patients[0]}_1.tif"
    original = first.read_bytes()

    name = f"{patients[0]}/{first.name}"

    def told(checksums: dict[str, str] | None = None, root: Path = kaggle) -> str:
        with pytest.raises(InputError) as caught:
            read_layout("lgg", root, checksums=checksums)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert f"no such folder: {tmp_path / 'none'}; expected the dataset's folder as downloaded" in told(
        root=tmp_path / "none"
    )
    assert f"no slices like <patient>/<patient>_1.tif under {tmp_path}" in told(root=tmp_path)
    first.write_bytes(original[:-1] + b"\x7f")
    assert f"{kaggle}: checksum-mismatch {name} [{patients[0]}]: sha256 is" in told(checksums)
    del checksums[f"{patients[0]}/{first.name}"]
    assert f"checksum-missing {name} [{patients[0]}]: is not in the list of checksums" in told(checksums)
    first.write_bytes(b"<html>")
    assert f"not-an-image {name} [{patients[0]}]: looks like a web page" in told()
    first.unlink()
    assert f"patient {patients[0]}: slice {patients[0]}_1 has no image (1 such slices)" in told()
    first.symlink_to("nowhere")
    assert f"broken-link {name} [{patients[0]}]: link to nowhere" in told()
    first.unlink()
    first.write_bytes(original)
    (first.parent / f"{patients[0]}_2_mask.tif").unlink()
    assert f"patient {patients[0]}: slice {patients[0]}_2 has no mask (1 such slices)" in told()


def test_every_layout_has_a_reader_and_a_description() -> None:
    for name, layout in LAYOUTS.items():
        assert layout.name == name
        assert layout.description
        with pytest.raises(InputError, match="no such folder"):
            read_layout(name, Path("/no/such/folder"))


@pytest.mark.realdata
def test_real_slices_are_as_documented(real_lgg: Path, shared_data: Path) -> None:
    checksums = read_checksums(shared_data / "lgg" / "SHA256SUMS")
    manifest = read_layout("lgg", real_lgg, checksums=checksums).manifest
    assert len(manifest.cases) == 110
    assert sum(len(case.image) for case in manifest.cases) == 3929
    on_disk = [case for case in manifest.cases if case.facts["foreground"] is not None]
    assert len(on_disk) == 4
    assert all(case.facts["foreground"] > 0 for case in on_disk)
    with Image.open(real_lgg / on_disk[0].image[0]) as image:
        assert (image.size, image.mode) == ((256, 256), "RGB")


def test_all_broken_files_are_counted_and_can_be_skipped(kaggle: Path, patients: tuple[str, ...]) -> None:
    for patient in patients[:2]:
        (kaggle / patient / f"{patient}_1.tif").write_bytes(b"II*\0cut")
    with pytest.raises(InputError, match=r"truncated .* \(and 1 more\); restore the files, or --skip-broken"):
        read_layout("lgg", kaggle)
    draft = read_layout("lgg", kaggle, skip_broken=True)
    assert [case.case_id for case in draft.manifest.cases] == [patients[2]]
    assert [(note.code, note.severity, note.record) for note in draft.notes] == [
        ("truncated", "warning", patients[0]),
        ("truncated", "warning", patients[1]),
    ]


def test_hidden_and_foreign_files_are_ignored_and_named(kaggle: Path, patients: tuple[str, ...]) -> None:
    before = read_layout("lgg", kaggle).manifest
    for name in (f"{patients[0]}/._{patients[0]}_1.tif", ".DS_Store", f"{patients[1]}/Thumbs.db", "__MACOSX/x.tif"):
        (kaggle / name).parent.mkdir(exist_ok=True)
        (kaggle / name).write_bytes(b"x")
    (kaggle / "notes.txt").write_text("x")
    draft = read_layout("lgg", kaggle)
    assert draft.manifest == before
    assert [(note.code, note.message) for note in draft.notes] == [
        ("unmatched-file", "1 file belongs to no patient: notes.txt"),
        ("hidden-file", "4 files are hidden and were ignored, for example .DS_Store"),
    ]

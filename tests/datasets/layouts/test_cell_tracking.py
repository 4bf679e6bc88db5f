"""Films of the Cell Tracking Challenge: matched by frame number, gold or silver, never ERR_SEG."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets.digests import read_checksums
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.layouts.listing import ManifestDraft
from pipeline.datasets.manifests.manifest import Case
from pipeline.issues import InputError

NAME = "PhC-C2DH-TEST"


def write_frame(path: Path, *, pages: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*f"{path.parent.name}/{path.name}".encode()])
    first, *others = (Image.fromarray(rng.integers(0, 255, (20, 30), dtype=np.uint8)) for _ in range(pages))
    first.save(path, compression="tiff_lzw", save_all=pages > 1, append_images=others)


def write_mask(path: Path, *ids: int) -> None:
    """Write one square of 4 pixels for each id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((20, 30), np.uint16)
    for place, number in enumerate(ids):
        mask[2:4, 2 + 4 * place : 4 + 4 * place] = number
    Image.fromarray(mask).save(path, compression="tiff_lzw")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Two films of four frames: gold masks of frame 1 (01) and 2 (02), silver ones of all."""
    root = tmp_path / NAME
    for film, gold in (("01", 1), ("02", 2)):
        for number in range(4):
            write_frame(root / film / f"t{number:03d}.tif")
            write_mask(root / f"{film}_ST" / "SEG" / f"man_seg{number:03d}.tif", 1, 2)
            write_mask(root / f"{film}_ERR_SEG" / f"mask{number:03d}.tif", 7)
            write_mask(root / f"{film}_GT" / "TRA" / f"man_track{number:03d}.tif", 1)
        write_mask(root / f"{film}_GT" / "SEG" / f"man_seg{gold:03d}.tif", 1, 300, 65535)
    return root


def labels_of(draft: ManifestDraft) -> dict[str, tuple[str, ...] | None]:
    return {case.case_id: case.label for case in draft.manifest.cases}


def told(root: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_layout("cell_tracking", root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_gold_masks_are_the_default_and_instances_are_kept(films: Path) -> None:
    draft = read_layout("cell_tracking", films)
    manifest = draft.manifest
    assert labels_of(draft) == {
        "01_t001": ("01_GT/SEG/man_seg001.tif",),
        "02_t002": ("02_GT/SEG/man_seg002.tif",),
    }
    case: Case = manifest.cases[0]
    assert (case.subject, case.split, case.image) == (f"{NAME}/01", "train", ("01/t001.tif",))
    expected = {"shape": [20, 30], "dtype": "uint8", "spacing": None, "foreground": 12, "sequence": "01", "frame": 1}
    assert case.facts == expected
    assert (manifest.name, manifest.mask_type, dict(manifest.mask_values)) == (NAME, "instance", {})
    assert (manifest.channels, manifest.labels) == (("phase contrast",), {0: "background", 1: "cell"})
    assert "Maška" in manifest.citations[0]


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ("silver", ["01_ST"] * 4 + ["02_ST"] * 4),
        ("gold-else-silver", ["01_ST", "01_GT", "01_ST", "01_ST", "02_ST", "02_ST", "02_GT", "02_ST"]),
        ("01=silver, 02=gold", ["01_ST"] * 4 + ["02_GT"]),
        ("02=gold-else-silver", ["02_ST", "02_ST", "02_GT", "02_ST"]),
    ],
)
def test_masks_can_be_chosen_by_film(films: Path, masks: str, expected: list[str]) -> None:
    labels = labels_of(read_layout("cell_tracking", films, masks=masks))
    assert [label[0].split("/")[0] for label in labels.values() if label] == expected


def test_frames_without_mask_are_kept_on_request(films: Path) -> None:
    draft = read_layout("cell_tracking", films, unlabelled="keep")
    labels = labels_of(draft)
    assert len(labels) == 8
    assert [name for name, label in labels.items() if label] == ["01_t001", "02_t002"]
    assert "film 01: 3 of 4 frames have no such mask and were kept without label (1 gold, 4 silver masks)" in (
        draft.notes[0].message
    )
    assert "kept without label" not in read_layout("cell_tracking", films).notes[0].message


def test_frames_are_matched_by_number_not_by_digits(films: Path) -> None:
    (films / "01" / "t003.tif").rename(films / "01" / "t1000.tif")
    (films / "01_GT" / "SEG" / "man_seg001.tif").rename(films / "01_GT" / "SEG" / "man_seg0001.tif")
    write_mask(films / "01_GT" / "SEG" / "man_seg1000.TIF", 5)
    labels = labels_of(read_layout("cell_tracking", films))
    assert labels["01_t001"] == ("01_GT/SEG/man_seg0001.tif",)
    assert labels["01_t1000"] == ("01_GT/SEG/man_seg1000.TIF",)


def test_wrong_masks_and_markers_are_never_read(films: Path) -> None:
    (films / "notes.txt").write_text("x")
    (films / "SHA256SUMS").write_text("x")
    for path in films.glob("*_ERR_SEG/*.tif"):
        path.write_bytes(b"not even an image")
    draft = read_layout("cell_tracking", films, masks="gold-else-silver")
    assert not [file for case in draft.manifest.cases for file in case.files() if "ERR" in file or "TRA" in file]
    assert [note.message for note in draft.notes] == [
        "8 files are deliberately wrong masks, never read, for example 01_ERR_SEG/mask000.tif",
        "8 files are for tracking and were ignored, for example 01_GT/TRA/man_track000.tif",
        "1 file belongs to no film: notes.txt",
    ]


def test_the_folder_above_the_set_does_too(films: Path) -> None:
    inside, above = (read_layout("cell_tracking", root).manifest for root in (films, films.parent))
    assert [case.subject for case in above.cases] == [case.subject for case in inside.cases]
    assert above.cases[0].image == (f"{NAME}/01/t001.tif",)
    assert above.name == NAME


def test_several_sets_are_refused(films: Path) -> None:
    write_frame(films.parent / "DIC-C2DH-HeLa" / "01" / "t000.tif")
    text = told(films.parent)
    assert f"{films.parent} holds 2 sets of films, for example DIC-C2DH-HeLa and {NAME}; name one of them" in text


def test_a_film_known_by_checksum_alone_is_taken_over(films: Path, tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    whole = read_layout("cell_tracking", films).manifest
    rows = [f"{digest}  {path}" for case in whole.cases for path, digest in case.sha256.items()]
    sums.write_text("\n".join(rows) + "\n")
    for path in films.glob("02*/**/*.tif"):
        path.unlink()
    draft = read_layout("cell_tracking", films, read_checksums(sums))
    assert [case.case_id for case in draft.manifest.cases] == ["01_t001", "02_t002"]
    assert draft.manifest.cases[1].sha256 == whole.cases[1].sha256
    assert draft.manifest.cases[1].facts == {"sequence": "02", "frame": 2}


def test_volumes_are_refused(films: Path, tmp_path: Path) -> None:
    expected = "are volumes; only sets of 2-D films can be read"
    write_frame(tmp_path / "thick" / "01" / "t000.tif", pages=3)
    assert f"the frames of thick {expected}" in told(tmp_path / "thick")
    write_frame(tmp_path / "Fluo-N3DH-CE" / "01" / "t000.tif")
    assert f"the frames of Fluo-N3DH-CE {expected}" in told(tmp_path / "Fluo-N3DH-CE")
    write_mask(films / "01_GT" / "SEG" / "man_seg_000_012.tif", 1)
    assert "01_GT/SEG/man_seg_000_012.tif is a plane of a volume" in told(films)


def test_frames_that_are_there_twice_and_masks_without_frame(films: Path) -> None:
    write_mask(films / "01_GT" / "SEG" / "man_seg099.tif", 1)
    notes = read_layout("cell_tracking", films).notes
    assert "1 file of film 01 is a mask without a frame: 01_GT/SEG/man_seg099.tif" in [note.message for note in notes]
    write_mask(films / "01_GT" / "SEG" / "man_seg0001.tif", 1)
    assert told(films) == ("frame 1 occurs twice: 01_GT/SEG/man_seg0001.tif and 01_GT/SEG/man_seg001.tif; keep one")


def test_wrong_options_and_folders_are_told_in_one_line(films: Path, tmp_path: Path) -> None:
    assert "--masks: cannot read 'bronze'; expected gold, silver, gold-else-silver, or one" in told(
        films, masks="bronze"
    )
    assert "--masks: there is no film '03'; films: 01, 02" in told(films, masks="03=gold")
    assert told(films, unlabelled="maybe") == "--unlabelled must be one of drop, keep, got 'maybe'"
    (tmp_path / "empty").mkdir()
    assert f"no films under {tmp_path / 'empty'}; expected 01/t000.tif and 01_GT/SEG/" in told(tmp_path / "empty")
    for mask in films.glob("*_GT/SEG/*.tif"):
        mask.unlink()
    text = told(films)
    assert "no frame has a mask for --masks gold, expected for example 01_GT/SEG/man_seg000.tif" in text


def test_films_are_split_whole(films: Path, tmp_path: Path) -> None:
    manifest, test = tmp_path / "m.json", tmp_path / "test.txt"
    test.write_text(f"{NAME}/02\n")
    options = ["--masks", "silver"]
    assert main(["dataset", "build", "cell_tracking", str(films), "-o", str(manifest), *options]) == 0
    assert main(["dataset", "split", str(manifest), "--folds", "0", "--test-list", str(test)]) == 0
    assert main(["dataset", "check", str(manifest), "--dataset_dir", str(films), "--deep"]) == 0
    assert manifest.read_text().count('"split": "test"') == 4


@pytest.mark.realdata
@pytest.mark.parametrize(("masks", "number"), [("gold", 15), ("silver", 115), ("gold-else-silver", 115)])
def test_real_film(shared_data: Path, masks: str, number: int) -> None:
    manifest = read_layout("cell_tracking", shared_data / "PhC-C2DH-U373", masks=masks).manifest
    assert len(manifest.cases) == number
    assert {case.facts["sequence"] for case in manifest.cases} == {"01"}
    assert all(case.facts["shape"] == [520, 696] and case.facts["foreground"] > 10000 for case in manifest.cases)
    assert manifest.channels == ("phase contrast",)

"""Plain folders of images and masks: found by folder or pattern, matched by name, values explained or refused."""

import unicodedata
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.layouts.listing import ManifestDraft
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.datasets.manifests.schema import parse_manifest
from pipeline.issues import InputError


def write_image(path: Path, *, bands: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*str(path).encode()])
    pixels = rng.integers(0, 255, (16, 20) if bands == 1 else (16, 20, bands), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, *values: int) -> None:
    """Write a mask of zeros with one square of 4 pixels for each value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((16, 20), np.uint8)
    for place, value in enumerate(values or (255,)):
        mask[2:4, 2 + 2 * place : 4 + 2 * place] = value
    Image.fromarray(mask).save(path)


def pairs_of(draft: ManifestDraft) -> dict[str, str | None]:
    return {case.image[0]: case.label[0] if case.label else None for case in draft.manifest.cases}


def told(root: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_layout("folders", root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Three images and masks of equal names."""
    root = tmp_path / "my data"
    for name in ("a", "b", "c 1"):
        write_image(root / "images" / f"{name}.png")
        write_mask(root / "masks" / f"{name}.png")
    return root


def test_images_and_masks_are_the_default(plain: Path) -> None:
    draft = read_layout("folders", plain)
    manifest = draft.manifest
    assert pairs_of(draft) == {f"images/{name}.png": f"masks/{name}.png" for name in ("a", "b", "c 1")}
    assert [case.case_id for case in manifest.cases] == ["a", "b", "c 1"]
    assert (manifest.name, manifest.channels, manifest.spacing_policy) == ("my_data", ("intensity",), "none")
    assert manifest.cases[0].facts["foreground"] == 4
    assert manifest.cases[0].subject == ""
    assert [note.code for note in draft.notes] == ["mask-values", "split"]


def test_composed_and_decomposed_names_match(tmp_path: Path) -> None:
    image, mask = unicodedata.normalize("NFD", "images/lésion.png"), unicodedata.normalize("NFC", "masks/lésion.png")
    write_image(tmp_path / image)
    write_mask(tmp_path / mask)
    draft = read_layout("folders", tmp_path)
    assert pairs_of(draft) == {image: mask}
    assert draft.manifest.cases[0].case_id == unicodedata.normalize("NFC", "lésion")


def test_any_name_gives_an_id_that_a_manifest_takes(tmp_path: Path) -> None:
    for name in ("a\nb", " ", " x ", "🙂"):
        write_image(tmp_path / "images" / f"{name}.png")
        write_mask(tmp_path / "masks" / f"{name}.png")
    manifest = read_layout("folders", tmp_path, subject="{subject}").manifest
    assert sorted(case.case_id for case in manifest.cases) == [" x ", "_", "a_b", "🙂"]
    assert parse_manifest(dump_manifest(manifest).encode())[0] == manifest


def test_patients_with_equal_names_stay_apart(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        write_image(tmp_path / patient / "images" / "1.png")
        write_mask(tmp_path / patient / "masks" / "1.png")
    draft = read_layout("folders", tmp_path, subject="{subject}/images/*")
    assert pairs_of(draft) == {f"{p}/images/1.png": f"{p}/masks/1.png" for p in ("p1", "p2")}
    assert [(case.case_id, case.subject) for case in draft.manifest.cases] == [("p1_1", "p1"), ("p2_1", "p2")]


@pytest.mark.parametrize("shape", ["{split}/images", "images/{split}"])
def test_folders_named_for_a_split_are_the_split(tmp_path: Path, shape: str) -> None:
    for split in ("train", "Valid", "testing"):
        folder = shape.format(split=split)
        write_image(tmp_path / folder / "1.png")
        write_mask(tmp_path / folder.replace("images", "masks") / "1.png")
    draft = read_layout("folders", tmp_path)
    assert [(case.case_id, case.split) for case in draft.manifest.cases] == [
        ("train_1", "train"),
        ("Valid_1", "val"),
        ("testing_1", "test"),
    ]
    assert "split" not in [note.code for note in draft.notes]


def test_patterns_find_what_has_other_names(tmp_path: Path) -> None:
    for number in (1, 2):
        write_image(tmp_path / "scans" / f"p{number}_flair.png", bands=3)
        write_image(tmp_path / "scans" / f"p{number}_t1.png", bands=3)
        write_mask(tmp_path / "drawn" / f"tumour-p{number}.png", 1)
    options = {"image": "scans/*_flair.png", "mask": "drawn/tumour-*.png", "subject": "{subject}_flair"}
    draft = read_layout("folders", tmp_path, **options)
    assert pairs_of(draft) == {f"scans/p{n}_flair.png": f"drawn/tumour-p{n}.png" for n in (1, 2)}
    assert [case.subject for case in draft.manifest.cases] == ["p1", "p2"]
    assert draft.manifest.channels == ("red", "green", "blue")
    assert "2 images of 2 subjects: scans/p1_flair.png is of 'p1'" in [note.message for note in draft.notes]
    assert "2 files are neither image nor mask, for example scans/p1_t1.png" in [note.message for note in draft.notes]


def test_images_and_masks_may_share_a_folder(tmp_path: Path) -> None:
    for kind in ("benign", "malignant"):
        write_image(tmp_path / kind / f"{kind} (1).png")
        write_mask(tmp_path / kind / f"{kind} (1)_mask.png")
    draft = read_layout("folders", tmp_path, image="*/*.png", mask="*/*_mask.png")
    assert pairs_of(draft) == {
        f"{kind}/{kind} (1).png": f"{kind}/{kind} (1)_mask.png" for kind in ("benign", "malignant")
    }


def test_a_pattern_without_wildcard_is_a_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "deep" / "a.png")
    write_mask(tmp_path / "out" / "deep" / "a.png")
    assert pairs_of(read_layout("folders", tmp_path, image="in", mask="out/")) == {"in/deep/a.png": "out/deep/a.png"}
    assert pairs_of(read_layout("folders", tmp_path, image="./in/**", mask="out/**/*.png")) == {
        "in/deep/a.png": "out/deep/a.png"
    }


def test_masks_are_optional(plain: Path) -> None:
    for mask in (plain / "masks").iterdir():
        mask.unlink()
    draft = read_layout("folders", plain)
    assert set(pairs_of(draft).values()) == {None}
    assert draft.notes[0].message == "no masks: the 3 images are cases without label"


def test_a_test_set_may_be_without_masks(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_image(tmp_path / split / "images" / f"{split}1.png")
    write_mask(tmp_path / "train" / "masks" / "train1.png")
    draft = read_layout("folders", tmp_path)
    assert pairs_of(draft) == {
        "train/images/train1.png": "train/masks/train1.png",
        "test/images/test1.png": None,
    }
    assert draft.notes[0].message == "none of the 1 images of test has a mask; they are cases without label"
    write_image(tmp_path / "train" / "images" / "train2.png")
    assert "1 image has no mask: train/images/train2.png; pair the files" in told(tmp_path)


def test_unpaired_files_are_counted_and_refused_or_left_out(plain: Path) -> None:
    write_image(plain / "images" / "x.png")
    write_image(plain / "images" / "y.png")
    write_mask(plain / "masks" / "z.png")
    text = told(plain)
    assert "2 images have no mask, for example images/x.png; 1 mask has no image: masks/z.png" in text
    assert text.endswith("pair the files with --image and --mask, or --unpaired drop")
    draft = read_layout("folders", plain, unpaired="drop")
    assert len(draft.manifest.cases) == 3
    assert [note.message for note in draft.notes if note.code == "unpaired-file"] == [
        "2 images have no mask, for example images/x.png; left out",
        "1 mask has no image: masks/z.png; left out",
    ]
    # Nothing fits at all: leaving everything out is no way out.
    assert "--unpaired drop" not in told(plain, mask="masks/z.png", unpaired="drop")


def test_two_files_for_one_are_refused(plain: Path) -> None:
    write_mask(plain / "labels" / "a.png")
    assert "both labels/a.png and masks/a.png fit images/a.png; name the files with --image and --mask" in told(plain)
    (plain / "labels" / "a.png").unlink()
    write_image(plain / "images" / "b.jpg")
    assert "both images/b.jpg and images/b.png fit masks/b.png" in told(plain)
    for mask in (plain / "masks").iterdir():
        mask.unlink()
    assert "both images/b.jpg and images/b.png would be the case 'b'; rename one" in told(plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unpaired": "maybe"}, "--unpaired must be one of refuse, drop, got 'maybe'"),
        ({"image": "/abs/*.png"}, "--image: got '/abs/*.png', expected a pattern relative to the dataset's folder"),
        ({"image": "../x/*.png"}, "--image: got '../x/*.png', expected a pattern relative to the dataset's folder"),
        ({"image": "none/*.png"}, "match 'none/*.png'; expected images/ and masks/ (or labels/), or patterns"),
        ({"mask": "none/*.png"}, "match --mask 'none/*.png'; omit --mask"),
        ({"subject": "p*"}, "--subject: 'p*' must hold {subject} once, for example '{subject}_*'"),
        (
            {"subject": "p{subject}_*"},
            "does not fit 3 of 3 images, for example images/a.png; unknown subjects could leak",
        ),
        ({"mask_values": "0;255"}, "--mask-values: cannot read '0;255'; expected values, background first"),
        ({"mask_values": "0,0"}, "--mask-values: cannot read '0,0'"),
        ({"mask_values": "7"}, "--mask-values: '7' holds one label; expected the background and at least one more"),
        ({"binarize": "half"}, "--binarize expects a number such as 128, got 'half'"),
        ({"binarize": "9", "mask_values": "0,1"}, "--binarize and --mask-values exclude each other"),
    ],
)
def test_options_that_cannot_be_meant_are_told(plain: Path, options: dict[str, str], message: str) -> None:
    assert message in told(plain, **options)


def test_palette_and_one_bit_masks_are_read_as_indices(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.png", 1, 2)
    with Image.open(tmp_path / "masks" / "a.png") as mask:
        palette = mask.convert("L")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "masks" / "a.png")
    assert dict(read_layout("folders", tmp_path).manifest.mask_values) == {0: 0, 1: 1, 2: 2}
    palette.point(lambda value: value > 0, "1").save(tmp_path / "masks" / "a.png")
    assert dict(read_layout("folders", tmp_path).manifest.mask_values) == {0: 0, 1: 1}


def test_volumes_are_matched_as_pictures_are(tmp_path: Path) -> None:
    for name, values in (("7", np.zeros((5, 6, 4), np.int16)), ("7_seg", np.zeros((5, 6, 4), np.uint8))):
        values[1:3, 2, 1] = 1
        target = tmp_path / ("labels" if "seg" in name else "images") / f"{name}.nii.gz"
        target.parent.mkdir()
        nib.save(nib.Nifti1Image(values, np.diag([0.5, 1, 2, 1])), target)
    draft = read_layout("folders", tmp_path)
    assert pairs_of(draft) == {"images/7.nii.gz": "labels/7_seg.nii.gz"}
    facts = draft.manifest.cases[0].facts
    assert (facts["shape"], facts["spacing"], facts["foreground"]) == ([5, 6, 4], [0.5, 1.0, 2.0], 2)
    assert draft.manifest.spacing_policy == "header"
    assert draft.manifest.cases[0].case_id == "7"


def test_files_of_another_kind_are_counted(plain: Path) -> None:
    (plain / "images" / "readme.txt").write_text("x")
    (plain / "images" / ".DS_Store").write_text("x")
    notes = read_layout("folders", plain).notes
    assert [(note.code, note.message) for note in notes[-2:]] == [
        ("unmatched-file", "1 file is neither image nor mask: images/readme.txt"),
        ("hidden-file", "1 file is hidden and was ignored: images/.DS_Store"),
    ]


def test_the_command_takes_the_options(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "m.json"
    words = ["dataset", "build", "folders", str(plain), "-o", str(target), "--mask-values", "0,255=lesion"]
    assert main([*words, "--subject", "{subject}"]) == 0
    streams = capsys.readouterr()
    assert "labels: lesion" in streams.out
    assert "3 images of 3 subjects" in streams.err
    assert main(["dataset", "check", str(target), "--dataset_dir", str(plain), "--deep"]) == 0


@pytest.mark.realdata
def test_real_sets_build_from_patterns(shared_data: Path) -> None:
    isic = read_layout("folders", shared_data / "isic2017", image="ISIC2017_Input", mask="ISIC2017_GroundTruth")
    assert len(isic.manifest.cases) == 70
    assert dict(isic.manifest.mask_values) == {0: 0, 255: 1}
    own = read_layout("isic", shared_data / "isic2017").manifest
    assert Counter(pairs_of(isic)) == Counter({case.image[0]: (case.label or ("",))[0] for case in own.cases})


def test_the_parts_of_two_wildcards_are_not_mixed(tmp_path: Path) -> None:
    names = ("p1_11", "p11_1", "p2_3")
    for name in names:
        write_image(tmp_path / "images" / f"{name}.png")
        write_mask(tmp_path / "masks" / f"{name}.png")
    options = {"image": "images/p*_*.png", "mask": "masks/p*_*.png"}
    expected = {f"images/{name}.png": f"masks/{name}.png" for name in names}
    assert pairs_of(read_layout("folders", tmp_path, **options)) == expected
    # The mask of the one is not that of the other.
    (tmp_path / "images" / "p11_1.png").unlink()
    (tmp_path / "masks" / "p1_11.png").unlink()
    assert "1 image has no mask: images/p1_11.png" in told(tmp_path, **options)

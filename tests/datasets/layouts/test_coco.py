"""Roboflow exports and plain COCO folders, as they are downloaded."""

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import load_datalist, read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.coco.annotations import CocoImage
from pipeline.datasets.layouts import coco_images, read_layout
from pipeline.datasets.layouts.listing import Listing
from pipeline.issues import InputError
from pipeline.transforms import LoadCocoMask

ROBOFLOW = "_annotations.coco.json"


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def write_part(
    root: Path,
    annotations: str,
    images: dict[str, list],
    *,
    folder: str = "",
    categories: tuple = ("glioma", "pituitary"),
    mode: str = "RGB",
) -> Path:
    """Write an annotation file and its images; ``images`` gives each file name its (category, shape, crowd) rows."""
    path = root / annotations
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "licenses": [{"id": 1, "name": "CC BY 4.0"}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, start=1)],
        "images": [{"id": k, "file_name": name, "height": 12, "width": 16} for k, name in enumerate(images)],
        "annotations": [],
    }
    rng = np.random.default_rng(len(annotations))
    for k, (name, rows) in enumerate(images.items()):
        for category, shape, crowd in rows:
            row = {"id": len(data["annotations"]), "image_id": k, "category_id": category, "iscrowd": crowd}
            data["annotations"].append({**row, "segmentation": shape})
        target = (root / folder if folder else path.parent) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).convert(mode).save(target)
    path.write_text(json.dumps(data))
    return path


ROWS = [(1, box(2, 2, 6, 6), 0)]


def codes(draft):
    return [issue.code for issue in draft.notes]


@pytest.mark.parametrize("val", ["valid", "val"])
def test_roboflow_keeps_the_official_split(tmp_path, val):
    for part, count in (("train", 3), (val, 2), ("test", 1)):
        write_part(tmp_path, f"{part}/{ROBOFLOW}", {f"{part}{k}_jpg.rf.{k:032x}.jpg": ROWS for k in range(count)})
    draft = read_layout("coco", tmp_path)
    cases = draft.manifest.cases
    assert [case.split for case in cases] == ["train"] * 3 + ["val"] * 2 + ["test"]
    assert cases[0].image == ("train/train0_jpg.rf.00000000000000000000000000000000.jpg",)
    assert cases[0].label == (f"train/{ROBOFLOW}#0",)
    assert cases[0].case_id == "train0_jpg.rf.00000000000000000000000000000000"
    assert {case.subject for case in cases} == {""}
    assert draft.manifest.licence == "CC BY 4.0"
    assert draft.manifest.channels == ("red", "green", "blue")
    assert cases[0].facts["foreground"] == 16
    assert set(cases[0].sha256) == set(cases[0].files())
    assert codes(draft) == ["rectangular-masks"] * 3


@pytest.mark.parametrize(
    ("annotations", "folder"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}2017.json", "images/{}2017"),
        ("annotations/{}.json", "images"),
        ("{}.json", "{}"),
        ("{}/labels.json", "{}/images"),
        ("labels_{}.json", ""),
    ],
)
def test_plain_folders(tmp_path, annotations, folder):
    for part in ("train", "val"):
        images = {f"{part}_{k}.png": ROWS for k in range(2)}
        write_part(tmp_path, annotations.format(part), images, folder=folder.format(part) or ".", mode="L")
    manifest = read_layout("coco", tmp_path).manifest
    prefix = f"{folder}/" if folder else ""
    assert [(case.split, case.image[0]) for case in manifest.cases] == [
        (part, f"{prefix.format(part)}{part}_{k}.png") for part in ("train", "val") for k in range(2)
    ]
    assert manifest.channels == ("intensity",)
    assert check_manifest(manifest, tmp_path, level="deep").errors() == []


def test_same_names_in_both_folders(tmp_path):
    for part in ("train", "val"):
        images = {f"{k:012}.png": ROWS for k in range(3)}
        write_part(tmp_path, f"annotations/instances_{part}2017.json", images, folder=f"{part}2017")
    cases = read_layout("coco", tmp_path).manifest.cases
    assert [case.image[0] for case in cases] == [f"{p}2017/{k:012}.png" for p in ("train", "val") for k in range(3)]
    assert len({case.case_id for case in cases}) == 6


def test_other_annotations_of_the_same_images_are_not_read(tmp_path):
    write_part(tmp_path, "annotations/instances_val2017.json", {"a.png": ROWS}, folder="val2017")
    for name in ("captions", "person_keypoints"):
        (tmp_path / f"annotations/{name}_val2017.json").write_text('{"images": [], "annotations": []}')
    (tmp_path / "val2017" / "stray.png").write_bytes((tmp_path / "val2017" / "a.png").read_bytes())
    draft = read_layout("coco", tmp_path)
    assert len(draft.manifest.cases) == 1
    messages = [issue.message for issue in draft.notes if issue.code == "unmatched-file"]
    assert messages == [
        "1 file without a row in an annotation file: val2017/stray.png",
        "2 files not read as annotations, for example annotations/captions_val2017.json",
    ]


def test_one_file_without_split(tmp_path):
    write_part(tmp_path, "result.json", {"images/a.png": ROWS, "images/b.png": ROWS}, folder=".")
    draft = read_layout("coco", tmp_path)
    assert [(case.split, case.image[0]) for case in draft.manifest.cases] == [
        ("train", "images/a.png"),
        ("train", "images/b.png"),
    ]
    assert "split" in codes(draft)


def test_names_of_all_kinds(tmp_path):
    names = ["a.png", "a.jpg", "sub/a.png", " b c.png", " .png", "e\u0301.png", "👨‍👩‍👧.png", "x#1.png", "1;2%3'.png"]
    write_part(tmp_path, f"train/{ROBOFLOW}", dict.fromkeys(names, ROWS))
    assert main(["dataset", "build", "coco", str(tmp_path), "-o", str(tmp_path / "m.json")]) == 0
    manifest = read_manifest(tmp_path / "m.json")
    assert {case.image[0] for case in manifest.cases} == {f"train/{name}" for name in names}
    assert len({case.case_id for case in manifest.cases}) == len(names)
    assert {"train_a.png", "train_a.jpg", "train_sub_a.png", " b c", "👨_👩_👧", "x#1"} <= {
        c.case_id for c in manifest.cases
    }
    assert check_manifest(manifest, tmp_path, level="deep").errors() == []


@pytest.mark.parametrize(
    ("categories", "labels", "foreground"),
    [
        ("merge", {0: "background", 1: "foreground"}, [16, 9]),
        ("keep", {0: "background", 1: "glioma", 2: "pituitary"}, [16, 9]),
        ("pituitary=1,glioma=0", {0: "background", 1: "pituitary"}, [0, 9]),
        ("1=2,2=1", {0: "background", 1: "pituitary", 2: "glioma"}, [16, 9]),
    ],
)
def test_categories(tmp_path, categories, labels, foreground):
    shapes = {"a.png": [(1, box(2, 2, 6, 6), 0)], "b.png": [(2, box(1, 1, 4, 4), 0)]}
    write_part(tmp_path, f"train/{ROBOFLOW}", shapes)
    manifest = read_layout("coco", tmp_path, categories=categories).manifest
    assert dict(manifest.labels) == labels
    assert dict(manifest.mask_values) == {label: label for label in labels}
    assert [case.facts["foreground"] for case in manifest.cases] == foreground
    if len(labels) == 3:
        label = manifest.coco["categories"]["2"]
        assert manifest.cases[1].facts["voxels"][str(label)] == 9


def test_merging_is_told(tmp_path):
    shapes = {"a.png": [(1, box(2, 2, 6, 6), 0), (2, box(8, 2, 12, 6), 0)]}
    write_part(tmp_path, f"train/{ROBOFLOW}", shapes)
    note = next(issue for issue in read_layout("coco", tmp_path).notes if issue.code == "merged-categories")
    assert note.one_line() == (
        "warning merged-categories: categories 1, 2 are merged into one label, 'foreground';"
        " --categories keep gives each its own label"
    )


@pytest.mark.parametrize(("unannotated", "count"), [("drop", 1), ("negative", 3)])
def test_images_without_annotation(tmp_path, unannotated, count):
    write_part(tmp_path, f"train/{ROBOFLOW}", {"a.png": ROWS, "b.png": [], "c.png": []})
    draft = read_layout("coco", tmp_path, unannotated=unannotated)
    assert [case.facts["foreground"] for case in draft.manifest.cases] == [16, 0, 0][:count]
    note = next(issue for issue in draft.notes if issue.code == "unannotated-images")
    fate = "left out" if unannotated == "drop" else "kept with an empty mask"
    assert note.message == f"2 of 3 images have no annotation; {fate} (--unannotated {unannotated})"
    assert note.path == f"train/{ROBOFLOW}"


@pytest.mark.parametrize(("crowd", "foreground"), [("ignore", 16), ("merge", 48)])
def test_crowds(tmp_path, crowd, foreground):
    runs = {"size": [12, 16], "counts": [120, 32, 40]}
    write_part(tmp_path, f"train/{ROBOFLOW}", {"a.png": [*ROWS, (1, runs, 1)]})
    draft = read_layout("coco", tmp_path, crowd=crowd)
    assert draft.manifest.cases[0].facts["foreground"] == foreground
    assert "coco-crowd" in codes(draft)


def test_copies_of_one_image_are_one_subject(tmp_path):
    names = [f"y{k}_jpg.rf.{copy:032x}.jpg" for k in (1, 2) for copy in (10, 11)] + ["y3_jpg.rf.0f.jpg", "y4.jpg"]
    write_part(tmp_path, f"train/{ROBOFLOW}", dict.fromkeys(names, ROWS))
    write_part(tmp_path, f"val/{ROBOFLOW}", {"y2_jpg.rf.ffff.jpg": ROWS})
    manifest = read_layout("coco", tmp_path).manifest
    subjects = {case.image[0]: case.subject for case in manifest.cases}
    assert [subjects[f"train/{name}"] for name in names] == ["y1_jpg"] * 2 + ["y2_jpg"] * 2 + ["", ""]
    report = check_manifest(manifest, tmp_path, level="quick")
    leaks = [issue for issue in report.errors() if issue.code == "leak-patient"]
    assert len(leaks) == 1
    assert "y2_jpg" in leaks[0].one_line()


@pytest.mark.parametrize(
    ("shape", "code"),
    [([[0, 0, 1e9, 0, 5, 5]], "coco-coordinate"), ([[1, 2, 3]], "degenerate-polygon"), ([], "degenerate-polygon")],
)
def test_a_bad_outline_stops_the_build_or_leaves_its_case_out(tmp_path, shape, code):
    write_part(tmp_path, f"train/{ROBOFLOW}", {"a.png": ROWS, "b.png": [*ROWS, (1, shape, 0)]})
    with pytest.raises(
        InputError, match=rf"{code} train/_annotations\.coco\.json#1 \[b\]: annotations\[2\]: .*--skip-broken"
    ):
        read_layout("coco", tmp_path)
    draft = read_layout("coco", tmp_path, skip_broken=True)
    assert [case.case_id for case in draft.manifest.cases] == ["a"]
    assert codes(draft).count(code) == 2


def test_a_missing_image_is_named(tmp_path):
    write_part(tmp_path, f"train/{ROBOFLOW}", {"a.png": ROWS, "b.png": ROWS})
    (tmp_path / "train" / "b.png").unlink()
    with pytest.raises(InputError, match=r"missing-file train/b\.png"):
        read_layout("coco", tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "manifest-syntax train/_annotations.coco.json: line 1 column 2"),
        ("[]", "manifest-schema train/_annotations.coco.json: expected a JSON object"),
        ('{"images": 5}', "is this a COCO annotation file?"),
    ],
)
def test_a_file_of_which_nothing_can_be_used(tmp_path, content, text):
    write_part(tmp_path, f"valid/{ROBOFLOW}", {"a.png": ROWS})
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ROBOFLOW).write_text(content)
    with pytest.raises(InputError) as error:
        read_layout("coco", tmp_path)
    assert text in str(error.value)


def test_what_cannot_be_read_as_one_dataset(tmp_path):
    write_part(tmp_path / "names", f"train/{ROBOFLOW}", {"a.png": ROWS})
    write_part(tmp_path / "names", f"valid/{ROBOFLOW}", {"b.png": ROWS}, categories=("pituitary", "glioma"))
    with pytest.raises(InputError, match=r"category 1 is 'glioma' in train.* and 'pituitary' in valid"):
        read_layout("coco", tmp_path / "names")
    write_part(tmp_path / "twice", "one.json", {"a.png": ROWS})
    write_part(tmp_path / "twice", "two.json", {"a.png": ROWS})
    with pytest.raises(InputError, match=r"a\.png is annotated in one\.json and in two\.json; keep one of the files"):
        read_layout("coco", tmp_path / "twice")
    write_part(tmp_path / "away", f"train/{ROBOFLOW}", {"a.png": ROWS})
    (tmp_path / "away" / "train" / "a.png").unlink()
    with pytest.raises(InputError, match=r"none of the 1 images of train/.* put the images next to the annotations"):
        read_layout("coco", tmp_path / "away")
    write_part(tmp_path / "empty", f"train/{ROBOFLOW}", {"a.png": []})
    with pytest.raises(InputError, match="no image has an annotation; --unannotated negative keeps"):
        read_layout("coco", tmp_path / "empty")


def write_windows(root, names, *, folder="JPEGImages", files=None):
    """Write annotations in ``labels/`` whose file names are ``names``, and the pictures in another folder."""
    images, rows = [], []
    for number, name in enumerate(names):
        file = root / (files[number] if files else f"{folder}/{number}.jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((50, 60, 3), 9 * number, np.uint8)).save(file, format="JPEG")
        images.append({"id": number, "file_name": name, "width": 60, "height": 50})
        outline = [5, 5, 25, 5, 25, 25, 5, 25]
        rows.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [outline]})
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "lesion"}]}
    (root / "labels").mkdir()
    (root / "labels" / "annotations.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "prefix",
    [
        "JPEGImages\\",
        ".\\JPEGImages\\",
        "..\\JPEGImages\\",
        "../JPEGImages/",
        "C:\\Users\\me\\data\\JPEGImages\\",
        "C:\\Users\\me\\data\\",
        "C:JPEGImages\\",
        "\\\\server\\share\\set\\JPEGImages\\",
        "/home/me/data/JPEGImages/",
        "D:/set/jpegimages/",
    ],
)
def test_file_names_of_another_computer_are_found_by_their_end(tmp_path, prefix):
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_windows(root, [f"{prefix}{number}.jpg" for number in range(4)])
    assert main(["dataset", "build", "coco", str(root), "-o", str(manifest)]) == 0
    data = read_manifest(manifest)
    assert [case.image for case in data.cases] == [(f"JPEGImages/{number}.jpg",) for number in range(4)]
    assert {case.facts["foreground"] for case in data.cases} == {400}
    assert main(["dataset", "check", str(manifest), "--dataset_dir", str(root), "--deep", "--no-near"]) == 0
    items = load_datalist(manifest, root, "all")
    draw = LoadCocoMask(manifest)
    assert [np.asarray(draw(item["label"])).sum() for item in items] == [400] * 4


def test_what_is_not_found_is_named_with_what_was_looked_for(tmp_path):
    write_windows(tmp_path / "some", [f"C:\\me\\set\\{number}.jpg" for number in range(3)])
    (tmp_path / "some" / "JPEGImages" / "1.jpg").unlink()
    with pytest.raises(InputError, match=r"missing-file JPEGImages/1\.jpg \[1\]: the file does not exist"):
        read_layout("coco", tmp_path / "some")
    write_windows(tmp_path / "none", ["C:\\me\\set\\0.jpg"], files=["JPEGImages/other.jpg"])
    with pytest.raises(InputError) as error:
        read_layout("coco", tmp_path / "none")
    for part in (
        "none of the 1 images of labels/annotations.json is in ",
        "for example me/set/0.jpg (looked for files that end in me/set/0.jpg or set/0.jpg or 0.jpg)",
        "put the images next to the annotations",
    ):
        assert part in str(error.value)


def test_rows_that_cannot_be_used_are_named_instead_of_missing_annotations(tmp_path):
    write_windows(tmp_path, ["C:\\"], files=["0.jpg"])
    with pytest.raises(InputError, match=r"no image can be used: manifest-schema labels.*file_name is 'C:"):
        read_layout("coco", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("A.JPG", "a.jpg"),
        ("Images/a.jpg", "images/A.jpg"),
        (unicodedata.normalize("NFD", "Läsion é.jpg"), unicodedata.normalize("NFC", "Läsion é.jpg")),
        (unicodedata.normalize("NFC", "Läsion é.jpg"), unicodedata.normalize("NFD", "Läsion é.jpg")),
        ("./x//../a.jpg", "a.jpg"),
    ],
)
def test_spellings_of_one_file(tmp_path, name, file):
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_windows(root, [name, "other.jpg"], files=[file, "other.jpg"])
    assert main(["dataset", "build", "coco", str(root), "-o", str(manifest)]) == 0
    assert {case.image for case in read_manifest(manifest).cases} == {(file,), ("other.jpg",)}
    assert main(["dataset", "check", str(manifest), "--dataset_dir", str(root), "--deep", "--no-near"]) == 0


@pytest.mark.parametrize("other", ["A.jpg", "./a.jpg", "x\\..\\a.jpg"])
def test_one_file_in_two_spellings_is_refused(tmp_path, other):
    write_windows(tmp_path, ["a.jpg", other, "b.jpg"], files=["a.jpg", "a.jpg", "b.jpg"])
    with pytest.raises(InputError, match=r"a\.jpg.* (is two images of labels/annotations\.json|occurs twice)"):
        read_layout("coco", tmp_path)


def test_two_files_that_differ_in_case_stay_two(tmp_path):
    write_windows(tmp_path, ["a.jpg", "A.jpg"], files=["a.jpg", "A.jpg"])
    assert [case.image for case in read_layout("coco", tmp_path).manifest.cases] == [("A.jpg",), ("a.jpg",)]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"unannotated": "keep"}, "--unannotated must be one of drop, negative, got 'keep'"),
        ({"crowd": "drop"}, "--crowd must be one of ignore, merge, got 'drop'"),
        ({"categories": "meningioma=1"}, "no category 'meningioma'; known: 1 ('glioma'), 2 ('pituitary')"),
    ],
)
def test_options_that_are_refused(tmp_path, option, text):
    write_part(tmp_path, f"train/{ROBOFLOW}", {"a.png": ROWS})
    with pytest.raises(InputError) as error:
        read_layout("coco", tmp_path, **option)
    assert text in str(error.value)


def test_options_are_typed_on_the_command_line(tmp_path, capsys):
    shapes = {"a.png": [(1, box(2, 2, 6, 6), 0)], "b.png": [(2, box(1, 1, 4, 4), 0)], "c.png": []}
    write_part(tmp_path / "data", f"train/{ROBOFLOW}", shapes)
    command = ["dataset", "build", "coco", str(tmp_path / "data"), "-o", str(tmp_path / "m.json")]
    assert main([*command, "--categories", "keep", "--unannotated", "negative", "--crowd", "merge"]) == 0
    manifest = read_manifest(tmp_path / "m.json")
    assert manifest.coco == {"categories": {"1": 1, "2": 2}, "crowd": "merge"}
    assert len(manifest.cases) == 3
    assert "rectangular-masks" in capsys.readouterr().err


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "expected", "unannotated"),
    [
        ("brain_tumor_coco_kaggle", {"train": 100, "val": 40, "test": 40}, []),
        ("brain_tumor_coco_br35h", {"train": 219, "val": 57}, [(21, 240), (33, 90)]),
    ],
)
def test_real_exports(shared_data, name, expected, unannotated):
    root = shared_data / name
    draft = read_layout("coco", root)
    manifest = draft.manifest
    counts = {split: sum(case.split == split for case in manifest.cases) for split in expected}
    assert counts == expected
    assert sum(counts.values()) == len(manifest.cases)
    assert dict(manifest.labels) == {0: "background", 1: "Tumor"}
    assert all(case.facts["foreground"] > 0 and case.facts["shape"] == [640, 640] for case in manifest.cases)
    messages = [issue.message for issue in draft.notes if issue.code == "unannotated-images"]
    assert [message.split(" images")[0] for message in messages] == [f"{k} of {n}" for k, n in unannotated]
    rectangles = [issue.message.split(" outlines")[0] for issue in draft.notes if issue.code == "rectangular-masks"]
    assert rectangles == (["40 of 40", "100 of 100", "40 of 40"] if name.endswith("kaggle") else [])
    report = check_manifest(manifest, root, level="default")
    assert report.errors() == []
    all_images = read_layout("coco", root, unannotated="negative").manifest
    empty = sum(case.facts["foreground"] == 0 for case in all_images.cases)
    assert empty == sum(k for k, _ in unannotated)
    assert len(all_images.cases) == len(manifest.cases) + empty


def test_the_card_names_what_the_reader_does(repository, tmp_path, monkeypatch, capsys):
    card = yaml.safe_load((repository / "data_manifests" / "braintumor.yaml").read_text(encoding="utf-8"))
    keys = {"name", "layout", "task", "licence", "source", "download", "citations", "labels", "expected", "build"}
    assert keys | {"split", "notes", "checksums"} <= set(card)
    assert {split: count["cases"] for split, count in card["expected"].items()} == {
        "train": 1502,
        "val": 429,
        "test": 215,
    }
    for split, folders in card["folders"].items():
        rows = [(1, box(2, 2, 6, 6), 0)], [(2, box(2, 2, 6, 6), 0)]
        names = {f"{split}{k}.jpg": rows[k] for k in (0, 1)}
        write_part(tmp_path / "data" / "braintumor", f"{folders[0]}/{ROBOFLOW}", names, categories=("0", "1"))
    words = card["build"].split()
    assert words[:3] == ["python", "-m", "pipeline"]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(repository / "data_manifests", tmp_path / "data_manifests")
    assert main(words[3:]) == 0
    told = capsys.readouterr().err
    assert all(f"2 {split} cases, the card says" in told for split in card["folders"])
    manifest = read_manifest(tmp_path / "braintumor.json")
    assert len(manifest.labels) == len(card["labels"])
    assert dict(manifest.mask_values) == card["mask_values"]
    assert {case.split for case in manifest.cases} == set(card["folders"])


def test_equal_names_in_many_folders_are_looked_up_once(tmp_path, monkeypatch):
    looked = []
    split_tail = coco_images._split_tail
    monkeypatch.setattr(coco_images, "_split_tail", lambda *given: (looked.append(given), split_tail(*given))[1])
    names = [f"p{number:04}/Slice_001.png" for number in range(300)]
    listing = Listing(tmp_path, tuple(f"data/{name.lower()}" for name in names))
    for prefix, foreign in (("", False), ("C/Users/", True)):
        looked.clear()
        images = [CocoImage(str(k), prefix + name, 12, 16, is_foreign=foreign) for k, name in enumerate(names)]
        places = coco_images.locate_images(listing, "a.json", images, len)
        assert places == {f"{prefix}{name}": f"data/{name.lower()}" for name in names}
        assert len(looked) == len(names)

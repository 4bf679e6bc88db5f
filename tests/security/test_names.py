"""Names from other people's datasets stay text: in configs, metadata, cards, tables and on the screen."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import markdown
import nibabel as nib
import numpy as np
import pytest
from fire import parser as fire_parser
from monai.bundle import ConfigParser, run
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.bundle.dataset import read_dataset
from pipeline.bundle.new import create_bundle
from pipeline.bundle.recipe import read_template
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from pipeline.datasets.splits.splits import split_manifest
from pipeline.issues import InputError, join_lines
from pipeline.reports.run_summary import read_scores
from tests.bundle.conftest import ROOT, build, read_json, write_pictures
from tests.security.hostile import MODULE, NAMES, PRINTABLE, Trap, call, iterate_texts, read_as_monai, set_trap


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    """The current folder is an empty one with a trap in it."""
    return set_trap(tmp_path / "trap", monkeypatch)


def expect(name: str, instead: str) -> str:
    """Return how a name from a dataset's file must come out in metadata."""
    text = join_lines(name) or instead
    return re.sub("(?<=[@%])(?=#|::)", " ", f" {text}" if text[:1] in "$@%" else text)


def test_there_are_enough_names_and_the_trap_works(trap: Trap) -> None:
    assert len(set(NAMES)) == len(NAMES) >= 40
    for text in (f"$import {MODULE}", "%canary.json::key"):
        ConfigParser({"a": text}).get_parsed_content("a")
        assert trap.hit.exists()
        trap.reset()


def write_volume_files(root: Path, folders: tuple[str, str], ending: str = "") -> None:
    """Write four volumes with a mask; their headers hold hostile text too."""
    for index in range(4):
        volume = np.random.default_rng(index).normal(100, 10, (16, 18, 16)).astype(np.float32)
        mask = np.zeros(volume.shape, np.uint8)
        mask[4:10, 6:12, 5:9] = 1
        for folder, array, end in zip(folders, (volume, mask), (ending, ""), strict=True):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image(array, np.eye(4))
            image.header["descrip"] = f"$import {MODULE}".encode()
            nib.save(image, root / folder / f"scan_{index}{end}.nii.gz")


def write_decathlon(root: Path, channels: tuple[str, ...]) -> None:
    write_volume_files(root, ("imagesTr", "labelsTr"))
    description = {
        **dict.fromkeys(("name", "description", "reference", "licence", "release"), NAMES[0]),
        "modality": {str(index): name for index, name in enumerate(channels)},
        "labels": {"0": "background", **{str(index): name for index, name in enumerate(NAMES, 1)}},
        "training": [{key: f"./{key}sTr/scan_{k}.nii.gz" for key in ("image", "label")} for k in range(4)],
    }
    (root / "dataset.json").write_text(json.dumps(description))


def write_nnunet(root: Path, channels: tuple[str, ...]) -> None:
    write_volume_files(root, ("imagesTr", "labelsTr"), "_0000")
    description = {
        **dict.fromkeys(("name", "description", "reference", "license"), NAMES[2]),
        "channel_names": {str(index): name for index, name in enumerate(channels)},
        "labels": {"background": 0, **{name: index for index, name in enumerate(NAMES, 1)}},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))


def open_new_bundle(
    trap: Trap, root: Path, manifest: Path, template: str, *, run: bool = True
) -> tuple[Path, dict[str, Any]]:
    """Make a bundle, read it as MONAI does, and return its folder and its metadata as written.

    ``run``: also build everything in its configs, which takes long.
    """
    call("dataset", "split", str(manifest), "--folds", "2")
    words = ("--template", template, "--manifest", str(manifest), "--dataset_dir", str(root))
    call("bundle", "new", "fresh", *words, "--author", NAMES[2])
    call("bundle", "list")
    bundle = Path("bundles/fresh")
    metadata = read_json(bundle / "configs/metadata.json")
    found = read_as_monai(bundle, run=run)
    # MONAI writes every # as ::, in text as well.
    assert list(iterate_texts(found)) == [text.replace("#", "::") for text in iterate_texts(metadata)]
    trap.require_silence()
    return bundle, metadata


@pytest.mark.parametrize(("layout", "write"), [("decathlon", write_decathlon), ("nnunet", write_nnunet)])
def test_names_in_a_dataset_json(trap: Trap, layout: str, write: Any) -> None:
    root = Path(f"$import {MODULE}")
    write(root, NAMES[:1])
    call("dataset", "build", layout, str(root), "-o", "m.json")
    manifest = read_manifest("m.json")
    assert list(manifest.labels.values())[1:] == [
        join_lines(name) or f"label {number}" for number, name in enumerate(NAMES, 1)
    ]
    # The configs are the same for both layouts: the names are in the manifest and in the metadata.
    _, metadata = open_new_bundle(trap, root, Path("m.json"), "volumes", run=layout == "decathlon")
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    wanted = [expect(name, f"label {number}") for number, name in enumerate(NAMES, 1)]
    assert list(names.values()) == ["background", *wanted]
    assert metadata["image_classes"] == f" {NAMES[0]}"
    assert metadata["authors"] == f" {NAMES[2]}"
    assert metadata["data_source"] == f" {manifest.source}"


def test_names_in_coco_annotations(trap: Trap) -> None:
    root = Path("set")
    root.mkdir()
    named = [name for name in NAMES if name.isprintable()]
    ids = range(1, len(named) + 1)
    images = [{"id": k, "file_name": f"@{k} {name_file(named[k])}.png", "height": 40, "width": 48} for k in range(6)]
    for image in images:
        Image.new("L", (48, 40), 90).save(root / image["file_name"])
    box = [[4, 4, 20, 4, 20, 20, 4, 20]]
    content = {
        "info": dict.fromkeys(("description", "url", "contributor", "version"), NAMES[0]),
        "licenses": [{"id": k, "name": name, "url": "javascript:alert(1)"} for k, name in enumerate(NAMES)],
        "categories": [{"id": k, "name": name, "supercategory": NAMES[0]} for k, name in zip(ids, named, strict=True)],
        "images": images,
        "annotations": [
            {"id": k, "image_id": k % 6, "category_id": k, "segmentation": box, "area": 256, "bbox": [4, 4, 16, 16]}
            for k in ids
        ],
    }
    (root / "_annotations.coco.json").write_text(json.dumps(content))
    call("dataset", "build", "coco", str(root), "-o", "m.json", "--categories", "keep")
    _, metadata = open_new_bundle(trap, root, Path("m.json"), "pictures")
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(names.values())[1:] == [expect(name, f"label {k}") for k, name in zip(ids, named, strict=True)]
    # A category that a screen would obey is refused.
    content["categories"][0]["name"] = "\x1b[31mred"
    (root / "_annotations.coco.json").write_text(json.dumps(content))
    call("dataset", "build", "coco", str(root), "-o", "n.json", "--categories", "keep", code=1)


def name_file(name: str) -> str:
    """Return a name as a file can have it."""
    return name.replace("/", "|").replace("\0", "")[:100] or "empty"


def test_names_of_files_and_folders(trap: Trap) -> None:
    root = Path(f"@{MODULE} $(touch hit) ñ\x1b[31m")
    text = PngInfo()
    text.add_text("Description", f"$import {MODULE}")
    exif = Image.Exif()
    exif[0x010E] = f"$import {MODULE}"  # ImageDescription
    # A backslash parts folders in manifests, and what follows x.json# is the number of a COCO image.
    stems = [stem for stem in dict.fromkeys(map(name_file, NAMES)) if not re.search(r"^\.|\\|json#", stem)]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        for stem in stems:
            pixels = np.full((40, 48), 90 if folder == "images" else 0, np.uint8)
            pixels[4:20, 4:20] = 255
            Image.fromarray(pixels).save(root / folder / f"{stem}.png", pnginfo=text, exif=exif)
    out = call("dataset", "build", "folders", str(root), "-o", "m.json", "--mask-values", "0,255=lesion")
    assert f"--dataset_dir {join_lines(shlex.quote(str(root)))} --deep" in out
    manifest = read_manifest("m.json")
    assert len(manifest.cases) == len(stems)
    assert len({case.case_id for case in manifest.cases}) == len(stems)
    call("dataset", "check", "m.json", "--dataset_dir", str(root), "--html", "check.html")
    bundle, metadata = open_new_bundle(trap, root, Path("m.json"), "pictures")
    assert read_json(bundle / "configs/train.json")["dataset_dir"] == f"./{root}"
    assert f"$import {MODULE}" not in json.dumps(metadata)
    # A name that is not UTF-8 cannot stand in a manifest.
    for folder in ("images", "masks"):
        os.link(root / folder / f"{stems[0]}.png", os.fsencode(root / folder) + b"/\xff 9.png")
    line = call("dataset", "build", "folders", str(root), "-o", "n.json", "--mask-values", "0,255", code=1)
    assert "its name is not UTF-8; rename it" in line
    call("dataset", "build", "folders", str(root), "-o", "n.json", "--mask-values", "0,255", "--skip-broken")
    assert len(read_manifest("n.json").cases) == len(stems)


def test_texts_in_dicom_headers_stay_there(trap: Trap) -> None:
    import pydicom

    call("dataset", "phantom", "dicom", "phantom", "--cases", "3")
    for path in Path("phantom").rglob("*.dcm"):
        image = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "SeriesDescription", "StudyDescription", "PatientComments"):
            setattr(image, name, f"$import {MODULE}")
        image.Modality = "$IMPORT CANARY"
        image.save_as(path)
    call("dataset", "build", "dicom", "phantom/series", "-o", "m.json")
    assert f"$import {MODULE}" not in Path("m.json").read_text()
    assert read_manifest("m.json").channels == ("$IMPORT CANARY",)
    trap.require_silence()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = write_pictures(tmp_path_factory.mktemp("honest") / "honest")
    return read_manifest(build(folder, mask_values="0,255=lesion"))


def attack(manifest: Manifest, name: str) -> Manifest:
    """Return a manifest that has a name wherever a text may stand."""
    facts = {"dtype": name, "group": name, "sequence": name}
    cases = tuple(
        replace(case, subject=f"{name} {index}", facts={**case.facts, **facts})
        for index, case in enumerate(manifest.cases)
    )
    texts = dict.fromkeys(("name", "task", "licence", "source"), name)
    return replace(
        manifest, **texts, citations=(name, name), labels={0: name, 1: f"{name}1"}, channels=(name,), cases=cases
    )


@pytest.mark.parametrize("name", PRINTABLE)
def test_a_name_in_every_field_of_a_manifest(trap: Trap, honest: Manifest, name: str) -> None:
    folder = f"{name_file(name)}.d"
    dataset = read_dataset(write_manifest(attack(honest, name), f"{folder}/m.json"))
    if re.search("[@%]#", folder):
        with pytest.raises(InputError, match="MONAI takes @# and %# in a path for a reference"):
            create_bundle("fresh", read_template("pictures"), dataset, Path("bundles"), rehearse=False)
        assert not Path("bundles").exists()
        dataset = read_dataset(write_manifest(attack(honest, name), "m.json"))
    created = create_bundle("fresh", read_template("pictures"), dataset, Path("bundles"), authors=name, rehearse=False)
    metadata = read_as_monai(created.path)
    trap.require_silence()
    assert metadata["data_source"] == expect(name, "").replace("#", "::")
    assert metadata["references"] == [expect(name, "").replace("#", "::")] * 2
    require_plain(created.path / "docs/README.md", name)
    call("bundle", "list")


class Tags(HTMLParser):
    """The elements, links and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str | None] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links |= {value for key, value in attrs if key in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def require_plain(card: Path, name: str) -> None:
    """Require that a card shows a name in its title and does nothing else with it."""
    page = Tags(markdown.markdown(card.read_text(), extensions=["tables", "fenced_code"]))
    known = ("h1", "h2", "p", "strong", "a", "ul", "li", "code", "pre")
    assert page.tags <= {*known, "table", "thead", "tbody", "tr", "th", "td"}
    assert page.links == {"data_license.txt"}
    # This renderer knows fewer escapes than CommonMark.
    title = "".join(page.texts).splitlines()[0].replace("\\", "")
    assert title == f"fresh: {join_lines(name)}1 in {join_lines(name)}".replace("\\", "")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.isprintable()])
@pytest.mark.parametrize("field", ["name", "licence", "labels", "channels", "citations", "facts", "named_splits"])
def test_a_manifest_with_codes_for_the_screen_is_refused(trap: Trap, honest: Manifest, field: str, name: str) -> None:
    hostile = attack(honest, name)
    if field == "facts":
        changed = replace(honest, cases=(replace(honest.cases[0], facts={"dtype": name}), *honest.cases[1:]))
    elif field == "named_splits":
        changed = replace(honest, named_splits={name: {"description": "", "val": []}})
    else:
        changed = replace(honest, **{field: getattr(hostile, field)})
    write_manifest(changed, "m.json")
    if name.isspace() or not re.search("[^\n\t -~]|\r", name):  # line breaks and tabs are text
        assert field == "named_splits" or read_manifest("m.json")
        return
    with pytest.raises(InputError) as caught:
        read_manifest("m.json")
    assert f"{field}" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["$import canary", "@fold", "%canary.json::key", ""])
def test_named_splits_can_be_typed(honest: Manifest, name: str, tmp_path: Path) -> None:
    write_manifest(replace(honest, named_splits={name: {"description": "", "val": []}}), tmp_path / "m.json")
    with pytest.raises(InputError, match=r"a printable name that does not begin with \$, @ or %"):
        read_manifest(tmp_path / "m.json")


def test_layouts_make_texts_showable(trap: Trap) -> None:
    write_decathlon(Path("d"), NAMES)
    manifest = split_manifest(read_layout("decathlon", Path("d")).manifest, folds=2, seed=0)
    assert manifest.channels == tuple(join_lines(name) or f"channel {k}" for k, name in enumerate(NAMES, 1))
    write_manifest(manifest, "m.json")
    assert read_manifest("m.json") == manifest


@pytest.mark.parametrize("text", [f"$import {MODULE}", "@fold", "%canary.json::key"])
def test_tune_takes_names_as_they_are(trap: Trap, text: str) -> None:
    data = ("--dataset_dir", text, "--manifest", f"{text}.json", "--checkpoint", text)
    line = call("tune", str(ROOT / "bundles/lgg_attunet"), *data, code=1)
    assert f"cannot read the manifest ./{text}.json" in line
    for option in ("--split", "--fold"):
        line = call("tune", str(ROOT / "bundles/lgg_attunet"), *data, option, text, code=1)
        assert line.startswith(f"error: {option}: {text!r} begins with {text[0]}, which MONAI would run")
    trap.require_silence()


def test_printed_commands_are_safe_in_a_shell_and_for_monai(trap: Trap) -> None:
    for folder in (f"$import {MODULE}", '$(touch hit) `touch hit` "x"', "2024", "a,b", "it's"):
        root = write_pictures(Path(folder) / "data")
        manifest = build(root, mask_values="0,255=lesion")
        words = ("--template", "pictures", "--manifest", str(manifest), "--dataset_dir", str(root))
        out = call("bundle", "new", "fresh", *words, "--output", f"{folder}/bundles")
        commands = [line.partition(": ")[2].strip() for line in out.splitlines()[-4:]]
        for command in commands:
            done = subprocess.run(["sh", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
            typed = done.stdout.split("\0")[:-1]
            given = dict(itertools.pairwise(typed))
            files = fire_parser.DefaultParseValue(given.get("--config_file", "[]"))
            assert all(Path(file).is_file() for file in ([files] if isinstance(files, str) else files))
            for knob in ("--dataset_dir", "--input", "--bundle_root", "--checkpoint"):
                value = given.get(knob)
                assert value is None or fire_parser.DefaultParseValue(value) == value, (knob, value)
                assert value is None or value[0] not in "$@%"
        trap.require_silence()


@pytest.mark.slow
def test_a_run_on_files_with_such_names(trap: Trap) -> None:
    """Train, score, report and predict: no name is run, and each case has its row and its mask."""
    stems = [stem for stem in dict.fromkeys(map(name_file, NAMES)) if not re.search(r"^\.|\\|json#|^ +$", stem)]
    root = write_pictures(Path(f"@{MODULE} data"), number=len(stems))
    for index, stem in enumerate(stems):
        for folder in ("images", "masks"):
            (root / folder / f"scan_{index}.png").rename(root / folder / f"{stem}.png")
    call("dataset", "build", "folders", str(root), "-o", "m.json", "--mask-values", "0,255=$import canary")
    call("dataset", "split", "m.json", "--folds", "2")
    words = ("--template", "pictures", "--manifest", "m.json", "--dataset_dir", str(root))
    call("bundle", "new", "fresh", *words)
    bundle = Path("bundles/fresh")
    names = (["train", "phantom"], ["train", "evaluate", "phantom"], ["inference", "phantom"])
    files = [[str(bundle / f"configs/{name}.json") for name in group] for group in names]
    weights = {"checkpoint": str(bundle / "output/model.pt")}
    run(config_file=files[0], max_epochs=1, **{"train#dataset#num_workers": 0, "validate#dataset#num_workers": 0})
    run(config_file=files[1], **weights, **{"validate#dataset#num_workers": 0})
    run(config_file=files[2], **weights, output_dir="masks", overlay=True)
    out = call("report", str(bundle / "output/evaluate"))
    assert "dice_image" in out
    validated = [case.case_id for case in read_manifest("m.json").cases if case.fold == 0]
    assert set(read_scores(bundle / "output/evaluate/dice_image_raw.csv")) == set(validated)
    assert len(list(Path("masks").rglob("*_pred.png"))) == len(stems)
    trap.require_silence()

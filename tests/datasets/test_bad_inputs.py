"""The 72 bad inputs: each row builds its file; the check finds it, at its level and not below, and names the place.

The rows have the numbers of the list of bad inputs that the checks were designed from. Rows of COCO files, volumes and
leaks are tested where their readers are; `ELSEWHERE` names the test. What is unusual but right is in `HANDLED`.
"""

import ast
import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import load_datalist
from pipeline.datasets.checks.cache import FileCache
from pipeline.datasets.checks.integrity import Level, Report, check_manifest
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.manifests.schema import parse_manifest
from pipeline.issues import InputError, Issue

LEVELS: tuple[Level, ...] = ("quick", "default", "deep")
SPLITS = ("train", "train", "val", "test")
ROWS, COLUMNS = 24, 32
EXIF_ORIENTATION = 274


class Lab:
    """A sound dataset of four pictures with masks, and its manifest as JSON, both to be spoilt.

    Args:
        folder: where ``data/`` is written.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "data"
        self.options = CheckOptions()
        self.text: bytes | None = None
        self.data: dict[str, Any] = {
            "schema_version": 1,
            **dict.fromkeys(("name", "task", "licence", "source"), "x"),
            "labels": {"0": "background", "1": "lesion"},
            "mask_values": {"0": 0, "255": 1},
            "channels": ["red", "green", "blue"],
        }
        rng = np.random.default_rng(0)
        cases = []
        for number, split in enumerate(SPLITS):
            mask = np.zeros((ROWS, COLUMNS), np.uint8)
            mask[2 : 12 + number, 3 + number : 20] = 255
            self.save(self.image(number), rng.integers(0, 255, (ROWS, COLUMNS, 3), dtype=np.uint8))
            self.save(self.mask(number), mask)
            files = {"image": [{"path": self.image(number)}], "label": [{"path": self.mask(number)}]}
            cases.append({"case_id": f"case{number}", "subject": f"patient{number}", "split": split, **files})
        self.data["cases"] = cases
        self.seal()

    @staticmethod
    def image(number: int) -> str:
        return f"images/p{number}.png"

    @staticmethod
    def mask(number: int) -> str:
        return f"masks/p{number}_mask.png"

    def path(self, name: str) -> Path:
        return self.root / name

    def save(self, name: str, array: np.ndarray | Image.Image, **options: Any) -> None:
        picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(self.path(name), **options)

    def read(self, name: str) -> np.ndarray:
        with Image.open(self.path(name)) as picture:
            return np.asarray(picture).copy()

    def replace(self, number: int, key: str, array: np.ndarray | Image.Image, suffix: str, **options: Any) -> str:
        """Store a case's image or label under another suffix, and return its name."""
        entry = self.data["cases"][number][key][0]
        self.path(entry["path"]).unlink()
        entry["path"] = str(Path(entry["path"]).with_suffix(suffix))
        self.save(entry["path"], array, **options)
        return str(entry["path"])

    def seal(self) -> None:
        """Write the sha256 of every file that is there into the manifest: it vouches for them, right or wrong."""
        for case in self.data["cases"]:
            for entry in (*case["image"], *case["label"]):
                if self.path(entry["path"]).is_file():
                    entry["sha256"] = hashlib.sha256(self.path(entry["path"]).read_bytes()).hexdigest()

    def manifest(self) -> bytes:
        return json.dumps(self.data, ensure_ascii=False).encode() if self.text is None else self.text

    def check(self, level: Level) -> tuple[list[Issue], Report]:
        manifest, issues = parse_manifest(self.manifest(), self.root)
        if manifest is None:
            return issues, Report(())
        report = check_manifest(manifest, self.root, level=level, options=self.options)
        return [*issues, *report.issues], report


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# Builders: each spoils the lab and calls seal() if the manifest was made of the bad file.


def replace_by_folder(lab: Lab) -> None:
    lab.path(IMAGE).unlink()
    lab.path(IMAGE).mkdir()


def replace_by_fifo(lab: Lab) -> None:
    lab.path(IMAGE).unlink()
    os.mkfifo(lab.path(IMAGE))


def link(lab: Lab, target: str) -> None:
    lab.path(IMAGE).unlink()
    lab.path(IMAGE).symlink_to(target)


def cut_png(lab: Lab) -> None:
    content = lab.path(IMAGE).read_bytes()
    lab.path(IMAGE).write_bytes(content[: len(content) * 2 // 3])
    lab.seal()


def rename_jpeg(lab: Lab) -> None:
    lab.save(IMAGE, lab.read(IMAGE), format="JPEG")
    lab.seal()


def write_text(content: bytes) -> Callable[[Lab], None]:
    def make(lab: Lab) -> None:
        lab.path(IMAGE).write_bytes(content)
        lab.seal()

    return make


def drop_checksum(lab: Lab) -> None:
    del lab.data["cases"][0]["label"][0]["sha256"]


def append_bytes(lab: Lab) -> None:
    lab.path(MASK).write_bytes(lab.path(MASK).read_bytes() + b"\0")


def put_mask(array: Any, **head: Any) -> Callable[[Lab], None]:
    """Write the first mask anew (a function of the old one, or an array) and change the manifest's head."""

    def make(lab: Lab) -> None:
        lab.save(MASK, array(lab.read(MASK)) if callable(array) else array)
        lab.data |= head
        lab.seal()

    return make


def put_jpeg_mask(lab: Lab) -> None:
    lab.replace(0, "label", lab.read(MASK), ".jpg", quality=75)
    lab.seal()


def make_palette(mask: np.ndarray, colours: tuple[int, ...] = (0, 0, 0, 255, 0, 0)) -> Image.Image:
    picture = Image.fromarray((mask > 0).astype(np.uint8), "P")
    picture.putpalette(colours)
    return picture


def colour_mask(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask, np.zeros_like(mask), np.zeros_like(mask)], axis=-1)


def put_image(array: Any, suffix: str = ".png", **options: Any) -> Callable[[Lab], None]:
    def make(lab: Lab) -> None:
        lab.replace(0, "image", array(lab.read(IMAGE)), suffix, **options)
        lab.seal()

    return make


def add_alpha(image: np.ndarray, value: int) -> np.ndarray:
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[3, 4] = value
    return np.concatenate([image, alpha], axis=-1)


def store_wide(lab: Lab) -> None:
    """All images as 16-bit grey with values up to 65535, declared as 8-bit."""
    for number in range(len(SPLITS)):
        lab.save(lab.image(number), lab.read(lab.image(number))[..., 0].astype(np.uint16) * 257)
    lab.data |= {"channels": ["grey"], "intensity_range": [0, 255]}
    lab.seal()


def store_floats(change: Callable[[np.ndarray], Any]) -> Callable[[Lab], None]:
    """All images as 32-bit floats; the first is changed in place."""

    def make(lab: Lab) -> None:
        for number in range(len(SPLITS)):
            grey = lab.read(lab.image(number))[..., 0].astype(np.float32)
            if number == 0:
                change(grey)
            lab.replace(number, "image", grey, ".tif")
        lab.data["channels"] = ["grey"]
        lab.seal()

    return make


def put_pages(lab: Lab) -> None:
    page = Image.fromarray(lab.read(IMAGE))
    lab.replace(0, "image", page, ".tif", save_all=True, append_images=[page, page])
    lab.seal()


def turn_by_exif(lab: Lab, orientation: int = 3) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    lab.replace(0, "image", lab.read(IMAGE), ".jpg", exif=exif, quality=95)
    lab.seal()


def declare_classes(*values: int) -> dict[str, Any]:
    names = {str(value): f"class {value}" for value in values}
    return {"labels": names, "mask_values": {str(value): value for value in values}}


def edit_case(number: int, **fields: Any) -> Callable[[Lab], None]:
    return lambda lab: lab.data["cases"][number].update(fields)


def repeat_image(lab: Lab) -> None:
    lab.data["cases"][1]["image"] = lab.data["cases"][0]["image"]


def share_mask(lab: Lab) -> None:
    lab.data["cases"][1]["label"] = lab.data["cases"][0]["label"]


def copy_mask(lab: Lab) -> None:
    shutil.copy(lab.path(lab.mask(0)), lab.path(lab.mask(1)))
    lab.seal()


def use_mask_as_image(lab: Lab) -> None:
    lab.data["cases"][0]["image"] = lab.data["cases"][0]["label"]


def set_path(path: str) -> Callable[[Lab], None]:
    return lambda lab: lab.data["cases"][0]["image"][0].update(path=path)


def set_absolute(lab: Lab) -> None:
    lab.data["cases"][0]["image"][0]["path"] = str(lab.path(IMAGE))


def spoil_text(old: str, new: str) -> Callable[[Lab], None]:
    def make(lab: Lab) -> None:
        text = json.dumps(lab.data, indent=1)
        assert old in text
        lab.text = text.replace(old, new, 1).encode()

    return make


IMAGE, MASK = Lab.image(0), Lab.mask(0)


@dataclass(frozen=True)
class Row:
    """A bad input.

    Args:
        name: ``"<row>-<what>"``.
        make: spoils a lab.
        code: of the finding.
        level: the lowest level that finds it.
        text: part of the line.
        where: file or record that the line names.
        severity: of the finding.
        options: of the check.
    """

    name: str
    make: Callable[[Lab], Any]
    code: str
    level: Level
    text: str = ""
    where: str = IMAGE
    severity: str = "error"
    options: CheckOptions = field(default_factory=CheckOptions)

    @property
    def number(self) -> int:
        return int(self.name.split("-")[0])


def case(name: str, make: Callable[[Lab], Any], code: str, level: Level, text: str = "", **more: Any) -> Row:
    return Row(name, make, code, level, text, **more)


W = "warning"
HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
ANNEX = b"/annex/objects/SHA256E-s12--00.png\n"
NOT_THERE = "cases[0]"
TABLE = (
    case("01-missing-image", lambda lab: lab.path(IMAGE).unlink(), "missing-file", "quick", "does not exist"),
    case("02-missing-mask", lambda lab: lab.path(MASK).unlink(), "missing-file", "quick", where=MASK),
    case("03-folder", replace_by_folder, "not-a-file", "quick", "a folder or a device"),
    case("03-pipe", replace_by_fifo, "not-a-file", "quick", "a folder or a device"),
    case("04-link-loop", lambda lab: link(lab, "p0.png"), "broken-link", "quick", "link to p0.png"),
    case("04-dangling-link", lambda lab: link(lab, "../gone.png"), "broken-link", "quick", "cannot be followed"),
    case("05-no-permission", lambda lab: lab.path(IMAGE).chmod(0), "unreadable-file", "quick", "chmod u+r"),
    case("06-zero-bytes", lambda lab: lab.path(IMAGE).write_bytes(b""), "empty-file", "quick", "0 bytes"),
    case("07-truncated-png", cut_png, "truncated", "deep", "damaged or cut off at"),
    case(
        "10-jpeg-named-png", rename_jpeg, "suffix-mismatch", "default", "stands for PNG, the file is JPEG", severity=W
    ),
    case("11-web-page", write_text(HTML), "not-an-image", "default", "looks like a web page; download"),
    case("11-git-lfs-pointer", write_text(LFS), "not-an-image", "default", "Git LFS pointer; run git lfs pull"),
    case("11-git-annex-pointer", write_text(ANNEX), "not-an-image", "default", "run git annex get"),
    case(
        "12-no-checksum", drop_checksum, "checksum-missing", "quick", "--write-checksums adds", where=MASK, severity=W
    ),
    case("13-size-changed", append_bytes, "checksum-mismatch", "default", "the file has changed", where=MASK),
    case(
        "14-other-shape",
        put_mask(np.zeros((ROWS, COLUMNS - 2), np.uint8)),
        "shape-mismatch",
        "default",
        f"the mask is 24 x 30, its image {IMAGE} is 24 x 32",
        where=MASK,
    ),
    case("14-transposed", put_mask(lambda m: m.T.copy()), "shape-mismatch", "default", "is transposed", where=MASK),
    case("16-ones", put_mask(lambda m: m // 255), "label-values", "default", "holds 1 (", where=MASK),
    case("17-jpeg-mask", put_jpeg_mask, "lossy-mask", "default", '"binarize": 128', where="masks/p0_mask.jpg"),
    case(
        "18-palette",
        put_mask(make_palette, mask_values={"0": 0, "1": 1, "255": 1}),
        "palette-unknown",
        "default",
        "read by index",
        where=MASK,
        severity=W,
    ),
    case("19-colour-mask", put_mask(colour_mask), "color-mask", "default", '"color_map":', where=MASK),
    case(
        "19-unknown-colour",
        put_mask(colour_mask, color_map={"#000000": 0, "#00ff00": 1}),
        "label-values",
        "default",
        "holds #ff0000 (",
        where=MASK,
    ),
    case("20-varying-alpha", put_image(lambda i: add_alpha(i, 7)), "alpha-varies", "deep", "not opaque"),
    case("21-grey", put_image(lambda i: i[..., 0]), "channels", "default", "1 channels, the manifest names 3"),
    case("22-wide-values", store_wide, "intensity-range", "deep", "the manifest says 0 to 255", severity=W),
    case(
        "22-mixed-types",
        put_image(lambda i: i[..., 0].astype(np.uint16)),
        "intensity-range",
        "default",
        "different types (3 uint8, 1 uint16)",
        severity=W,
    ),
    case(
        "23-negative-floats",
        store_floats(lambda g: g.__isub__(9)),
        "intensity-range",
        "deep",
        "negative values, from -9",
        where="images/p0.tif",
        severity=W,
    ),
    case("24-pages", put_pages, "ndim", "default", "3 pages in one file", where="images/p0.tif"),
    case("25-exif", turn_by_exif, "exif-orientation", "default", "its mask lacks the tag", where="images/p0.jpg"),
    case(
        "25-exif-stored-grid",
        lambda lab: turn_by_exif(lab, 6),
        "exif-orientation",
        "default",
        "MONAI reads it as stored",
        where="images/p0.jpg",
        severity=W,
    ),
    case(
        "26-cmyk",
        put_image(lambda i: Image.fromarray(i).convert("CMYK"), ".jpg"),
        "image-mode",
        "default",
        "stored as CMYK, expected grey or RGB",
        where="images/p0.jpg",
    ),
    case(
        "26-palette-image",
        put_image(lambda i: Image.fromarray(i).convert("P")),
        "image-mode",
        "default",
        "stored as P",
    ),
    case(
        "27-not-a-number",
        store_floats(lambda g: g.__setitem__((5, 6), np.nan)),
        "non-finite",
        "deep",
        "1 values are not finite, the first at index (5, 6)",
        where="images/p0.tif",
    ),
    case(
        "28-constant",
        put_image(lambda i: np.full_like(i, 7)),
        "constant-image",
        "deep",
        "every voxel of the case is 7",
        severity=W,
    ),
    case(
        "28-constant-beside-alpha",
        put_image(lambda i: add_alpha(np.full_like(i, 7), 255)),
        "constant-image",
        "deep",
        "every voxel of the case is 7",
        severity=W,
    ),
    case("29-empty-mask", put_mask(lambda m: m * 0), "empty-mask", "deep", "no foreground", where=MASK, severity=W),
    case("30-full-mask", put_mask(lambda m: m * 0 + 255), "full-mask", "deep", "inverted", where=MASK, severity=W),
    case(
        "31-gap",
        put_mask(lambda m: m // 255 * 3, **declare_classes(0, 2, 255)),
        "label-values",
        "default",
        "the manifest allows 0, 2, 255",
        where=MASK,
    ),
    case(
        "32-fractions",
        lambda lab: (lab.replace(0, "label", lab.read(MASK).astype(np.float32) / 98.0769, ".tif"), lab.seal()),
        "non-integer-label",
        "default",
        "holds 2.6",
        where="masks/p0_mask.tif",
    ),
    case(
        "33-ignored-value",
        lambda lab: (lab.data.update(declare_classes(0, 1)), None),
        "label-values",
        "default",
        '"ignore_index": 255',
        where=MASK,
    ),
    case(
        "41-gigantic",
        lambda lab: None,
        "too-large",
        "default",
        "24 x 32 pixels; the limit is 700",
        options=CheckOptions(max_pixels=700),
    ),
    case(
        "42-id-twice",
        edit_case(1, case_id="case0"),
        "duplicate-id",
        "quick",
        "already used by cases[0]",
        where="cases[1]",
    ),
    case("42-id-in-capitals", edit_case(1, case_id="CASE0"), "duplicate-id", "quick", where="cases[1]", severity=W),
    case("43-path-twice", repeat_image, "duplicate-path", "quick", "also listed by case0"),
    case(
        "43-path-in-capitals",
        lambda lab: (lab.save("images/P0.png", lab.read(IMAGE)), edit_case(1, image=[{"path": "images/P0.png"}])(lab)),
        "duplicate-path",
        "quick",
        where="images/P0.png",
        severity=W,
    ),
    case("48-no-patient", edit_case(0, subject="unknown"), "patient-missing", "quick", "1 of 4 cases", severity=W),
    case(
        "48-patient-required",
        edit_case(0, subject=" N/A "),
        "patient-missing",
        "quick",
        "1 of 4 cases",
        options=CheckOptions(require_patient=True),
    ),
    case("50-shared-mask", share_mask, "shared-mask", "quick", "is the mask of case0 too", where=MASK, severity=W),
    case(
        "50-copied-mask",
        copy_mask,
        "shared-mask",
        "deep",
        f"the same mask as {MASK} [case0]",
        where=Lab.mask(1),
        severity=W,
    ),
    case("51-image-is-mask", use_mask_as_image, "image-is-mask", "quick", "is a mask here", where=MASK),
    case(
        "52-unknown-split",
        edit_case(0, split="trian"),
        "split",
        "quick",
        "did you mean 'train'?",
        where="cases[0].split",
    ),
    case(
        "52-no-training",
        lambda lab: [edit_case(number, split="val")(lab) for number in (0, 1)],
        "split",
        "quick",
        "training has none",
        where="cases",
    ),
    case(
        "54-escape", set_path("../secret.png"), "path-escape", "quick", "leaves the dataset's folder", where=NOT_THERE
    ),
    case("54-absolute-elsewhere", set_path("/etc/x.png"), "path-escape", "quick", where=NOT_THERE),
    case("54-drive", set_path("C:/data/x.png"), "path-escape", "quick", where=NOT_THERE),
    case("54-absolute", set_absolute, "path-absolute", "quick", f"read as '{IMAGE}'", where=NOT_THERE, severity=W),
    case("55-backslash", set_path("images\\p0.png"), "backslash-path", "quick", "write /", where=NOT_THERE, severity=W),
    case("57-comma", spoil_text('"blue"\n', '"blue",\n'), "manifest-syntax", "quick", "comma", where="column"),
    case("57-twice", spoil_text('"task"', '"name"'), "manifest-syntax", "quick", "duplicate key", where="line 4"),
    case(
        "57-yaml",
        lambda lab: setattr(lab, "text", b"name: x\n"),
        "manifest-syntax",
        "quick",
        "YAML is not read",
        where="line 1",
    ),
    case("58-unknown-key", edit_case(0, imgae=1), "manifest-schema", "quick", "mean 'image'?", where="cases[0].imgae"),
    case(
        "58-half-a-character",
        spoil_text("images/p0.png", "images/\\ud800.png"),
        "manifest-schema",
        "quick",
        "expected a path",
        where="cases[0].image[0]",
    ),
    case("58-newer", lambda lab: lab.data.update(schema_version=9), "manifest-schema", "quick", where="version 9"),
    case("59-nan", spoil_text('"x"', "NaN"), "manifest-syntax", "quick", "NaN is not a JSON number", where="line 3"),
    case(
        "71-unknown-format",
        lambda lab: (lab.replace(0, "image", lab.read(IMAGE), ".svs", format="TIFF"), lab.seal()),
        "unsupported-format",
        "default",
        "no reader for '.svs'; known: ",
        where="images/p0.svs",
    ),
    case("60-number-as-id", edit_case(0, case_id=7), "id-type", "quick", 'quote it: "7"', where="cases[0].case_id"),
    case("60-false-as-id", edit_case(0, subject=False), "id-type", "quick", "quote it", where="cases[0].subject"),
)


@pytest.mark.parametrize("row", TABLE, ids=[f"row-{row.name}" for row in TABLE])
def test_a_bad_input_is_found_at_its_level(
    row: Row, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row.make(lab)
    lab.options = row.options
    target = lab.path(IMAGE)
    if row.number == 5 and os.access(target, os.R_OK):
        # The superuser may read everything.
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != target)
    lowest = LEVELS.index(row.level)
    for level in LEVELS[:lowest]:
        assert (row.code, row.severity) not in {(issue.code, issue.severity) for issue in lab.check(level)[0]}
    for level in LEVELS[lowest:]:
        lines = [i.one_line() for i in lab.check(level)[0] if (i.code, i.severity) == (row.code, row.severity)]
        assert any(row.text in line and row.where in line for line in lines), lines
        assert all("\n" not in line for line in lines)
    # The same through the command: no exception, the finding in its JSON, and 1 for errors only.
    path = tmp_path / "m.json"
    path.write_bytes(lab.manifest())
    words = ["dataset", "check", str(path), "--dataset_dir", str(lab.root), "--json"]
    words += [] if row.level == "default" else [f"--{row.level}"]
    words += ["--require-patient"] if row.options.require_patient else []
    words += ["--max-pixels", "700"] if row.options.max_pixels == 700 else []
    code = main(words)
    result = json.loads(capsys.readouterr().out)
    assert row.code in {issue["code"] for issue in result["issues"]}
    assert code == (1 if result["errors"] else 0)
    assert row.severity == "warning" or code == 1


def test_the_lab_is_sound(lab: Lab) -> None:
    for level in LEVELS:
        assert lab.check(level)[0] == []


def test_row_29_a_whole_split_without_foreground_is_an_error(lab: Lab) -> None:
    for number in (2, 3):
        lab.save(lab.mask(number), np.zeros((ROWS, COLUMNS), np.uint8))
    lab.seal()
    errors = [issue for issue in lab.check("deep")[0] if issue.severity == "error"]
    assert [(issue.code, issue.record, issue.message) for issue in errors] == [
        ("empty-mask", "val", "all 1 masks of the split val are empty"),
        ("empty-mask", "test", "all 1 masks of the split test are empty"),
    ]


def write_as(name: str, form: str) -> Callable[[Lab], None]:
    """Rename the first image; the disk has one Unicode form of the name, the manifest the other."""

    def make(lab: Lab) -> None:
        other = "NFC" if form == "NFD" else "NFD"
        target = lab.path(f"Bilder für/{unicodedata.normalize(form, name)}")
        target.parent.mkdir(exist_ok=True)
        lab.path(IMAGE).rename(target)
        lab.data["cases"][0]["image"][0]["path"] = f"Bilder für/{unicodedata.normalize(other, name)}"

    return make


def read_colours(lab: Lab) -> None:
    for number in range(len(SPLITS)):
        lab.save(lab.mask(number), colour_mask(lab.read(lab.mask(number))))
    lab.data["color_map"] = {"#000000": 0, "#ff0000": 1}
    lab.seal()


def read_palettes(lab: Lab) -> None:
    for number in range(len(SPLITS)):
        lab.save(lab.mask(number), make_palette(lab.read(lab.mask(number))))
    lab.data["color_map"] = {"#000000": 0, "#ff0000": 1}
    lab.seal()


def read_jpegs(lab: Lab) -> None:
    lab.data["binarize"] = 128
    put_jpeg_mask(lab)


def leave_out_a_pixel(mask: np.ndarray) -> np.ndarray:
    mask[0, 0] = 7
    return mask


def store_big_endian(lab: Lab) -> None:
    """All images as grey TIFF with the high byte first."""
    for number in range(len(SPLITS)):
        grey = lab.read(lab.image(number))[..., 0].astype(">u2")
        lab.replace(number, "image", Image.frombytes("I;16B", (COLUMNS, ROWS), grey.tobytes()), ".tif")
    lab.data["channels"] = ["grey"]
    lab.seal()


def store_bits(lab: Lab) -> None:
    for number in range(len(SPLITS)):
        lab.save(lab.mask(number), Image.fromarray(lab.read(lab.mask(number))).convert("1"))
    lab.data["mask_values"] = {"0": 0, "1": 1}
    lab.seal()


# What is unusual and right: no finding at any level, and a line that says how it is read.
HANDLED: dict[str, tuple[Callable[[Lab], Any], str]] = {
    "16-values-0-and-255": (lambda lab: None, ""),
    "17-jpeg-masks-with-threshold": (read_jpegs, "1 JPEG masks read with a threshold"),
    "18-palette-with-colours": (read_palettes, "4 masks read by colour"),
    "18-grey-palette": (
        put_mask(lambda m: make_palette(m, (0, 0, 0, 9, 9, 9)), mask_values={"0": 0, "1": 1, "255": 1}),
        "1 masks with a palette, read by index",
    ),
    "19-colours": (read_colours, "4 masks read by colour"),
    "20-opaque-alpha": (
        put_image(lambda i: add_alpha(i, 255)),
        "1 images with an opaque alpha channel, which DropAlphad drops",
    ),
    "21-grey-as-declared": (store_floats(lambda g: None), ""),
    "26-one-bit": (store_bits, "4 files stored with 1 bit per pixel"),
    "26-high-byte-first": (store_big_endian, "4 files stored with the high byte first"),
    "33-ignored-value": (put_mask(leave_out_a_pixel, mask_values={"0": 0, "255": 1}, ignore_index=7), ""),
    "53-spaces-and-emoji": (write_as("Läsion 🧠 (1).png", "NFC"), ""),
    "53-decomposed-on-disk": (
        write_as("Läsion é.png", "NFD"),
        "1 files whose names have another Unicode form on the disk",
    ),
    "53-composed-on-disk": (
        write_as("Läsion é.png", "NFC"),
        "1 files whose names have another Unicode form on the disk",
    ),
    "57-byte-order-mark-and-crlf": (
        lambda lab: setattr(
            lab, "text", b"\xef\xbb\xbf" + json.dumps(lab.data, indent=1).replace("\n", "\r\n").encode()
        ),
        "",
    ),
}


@pytest.mark.parametrize("name", HANDLED, ids=[f"row-{name}" for name in HANDLED])
def test_what_is_unusual_and_right_is_handled(name: str, lab: Lab, tmp_path: Path) -> None:
    make, text = HANDLED[name]
    make(lab)
    for level in LEVELS:
        issues, report = lab.check(level)
        assert [issue.one_line() for issue in issues] == []
    if text:
        assert text in [f"{number} {what}" for what, number in report.handled.items()]
    path = tmp_path / "m.json"
    path.write_bytes(lab.manifest())
    items = load_datalist(path, lab.root, "all")
    assert all(Path(file).is_file() for item in items for file in (*item["image"], *item["label"]))


def test_row_54_absolute_paths_inside_are_read_and_others_never(lab: Lab, tmp_path: Path) -> None:
    set_absolute(lab)
    path = tmp_path / "m.json"
    path.write_bytes(lab.manifest())
    assert load_datalist(path, lab.root, "all")[0]["image"] == [str(lab.path(IMAGE))]
    outside = tmp_path / "secret.png"
    shutil.copy(lab.path(IMAGE), outside)
    for escape in (str(outside), "images/../../secret.png", f"{lab.root}/../secret.png", "..\\secret.png"):
        set_path(escape)(lab)
        path.write_bytes(lab.manifest())
        with pytest.raises(InputError, match="path-escape"):
            load_datalist(path, lab.root, "all")


def test_links_to_files_elsewhere_are_followed(lab: Lab, tmp_path: Path) -> None:
    shutil.move(lab.path(IMAGE), tmp_path / "store.png")
    lab.path(IMAGE).symlink_to(tmp_path / "store.png")
    shutil.move(lab.root / "masks", tmp_path / "elsewhere")
    (lab.root / "masks").symlink_to(tmp_path / "elsewhere")
    assert lab.check("deep")[0] == []


def test_row_69_a_file_that_changes_later_is_found_at_the_next_check(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.datasets.checks.cache._FRESH_NS", 0)
    path = tmp_path / "m.json"
    path.write_bytes(lab.manifest())
    assert len(load_datalist(path, lab.root, "all")) == 4
    assert FileCache(lab.root)._files
    before = lab.path(IMAGE).stat()
    content = bytearray(lab.path(IMAGE).read_bytes())
    content[len(content) // 2] ^= 1
    lab.path(IMAGE).write_bytes(content)
    os.utime(lab.path(IMAGE), ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=f"checksum-mismatch {IMAGE}"):
        load_datalist(path, lab.root, "all")


@pytest.mark.parametrize("option", ["--html", "--write-baseline"])
def test_row_70_outputs_are_refused_before_the_work(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(lab.manifest())
    words = ["dataset", "check", str(path), "--dataset_dir", str(lab.root), option]

    def stop(*_: object, **__: object) -> None:
        raise AssertionError("the check has started")

    monkeypatch.setattr("pipeline.datasets.checks.integrity.check_manifest", stop)
    assert main([*words, str(tmp_path)]) == 1
    assert "output-space: cannot write" in capsys.readouterr().err
    monkeypatch.setattr("shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("Usage", (), {"free": 5}))
    assert main([*words, str(tmp_path / "new" / "out")]) == 1
    assert "0.0 MB free" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main([*words, str(tmp_path / "out")]) == 1
    assert f"no permission to write to {tmp_path}" in capsys.readouterr().err


# Rows whose files need a reader of their own, and the tests that build them.
ELSEWHERE = {
    8: "tests/datasets/probes/test_nifti.py::test_cut_off",
    9: "tests/datasets/probes/test_nifti.py::test_the_checksum_at_the_end_of_the_gzip_data_is_compared",
    15: "tests/datasets/checks/test_geometry.py::test_a_picture_with_a_mask_in_nifti",
    34: "tests/datasets/checks/test_geometry.py::test_a_mask_that_lies_elsewhere",
    35: "tests/datasets/checks/test_geometry.py::test_affines_that_place_no_voxel_or_two",
    36: "tests/datasets/checks/test_geometry.py::test_orientations_that_differ_between_cases",
    37: "tests/datasets/checks/test_geometry.py::test_voxel_sizes_unlike_the_others",
    38: "tests/datasets/probes/test_nifti.py::test_axes_of_length_one_behind_the_third_count_for_nothing",
    39: "tests/datasets/checks/test_geometry.py::test_volumes_smaller_than_the_patch_or_not_divisible",
    40: "tests/datasets/checks/test_geometry.py::test_volumes_smaller_than_the_patch_or_not_divisible",
    44: "tests/datasets/checks/leaks/test_copies.py::test_equal_bytes_are_reported_once",
    45: "tests/datasets/checks/leaks/test_copies.py::test_the_same_pixels_in_another_encoding",
    46: "tests/datasets/checks/leaks/test_copies.py::test_near_copies_are_found",
    47: "tests/datasets/checks/leaks/test_manifest_leaks.py::test_a_leaking_patient_is_shown_by_two_files",
    49: "tests/datasets/checks/leaks/test_manifest_leaks.py::test_divided_volumes_are_named",
    56: "tests/datasets/layouts/test_listing.py::test_hidden_files_are_apart",
    61: "tests/datasets/coco/test_annotations.py::test_bad_rows",
    62: "tests/datasets/coco/test_segmentations.py::test_bad_outlines",
    63: "tests/datasets/coco/test_segmentations.py::test_bad_outlines",
    64: "tests/datasets/coco/test_segmentations.py::test_a_pixel_over_the_border_is_rounding_more_is_clipped",
    65: "tests/datasets/coco/test_drawing.py::test_nothing_unchecked_reaches_pycocotools",
    66: "tests/datasets/coco/test_drawing.py::test_crowds",
    67: "tests/datasets/coco/test_drawing.py::test_later_annotations_are_drawn_over_earlier_ones",
    68: "tests/datasets/coco/test_validation.py::test_sizes_of_the_files",
    72: "tests/datasets/layouts/test_dicom.py::test_missing_duplicate_and_foreign_slices_are_errors",
}
# Rows that nothing tests, with the reason.
UNTESTED: dict[int, str] = {}


@pytest.mark.parametrize("number", ELSEWHERE)
def test_a_row_tested_elsewhere_has_its_test(number: int, repository: Path) -> None:
    file, _, name = ELSEWHERE[number].partition("::")
    tree = ast.parse((repository / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_accounted_for() -> None:
    own = {row.number for row in TABLE} | {int(name.split("-")[0]) for name in HANDLED} | {29, 54, 69, 70}
    assert own | set(ELSEWHERE) | set(UNTESTED) == set(range(1, 73))
    assert set(UNTESTED).isdisjoint(own | set(ELSEWHERE))
    assert len(own | set(ELSEWHERE)) >= 60

"""The HTML report: its content, that it is self-contained, and that hostile names stay text."""

import base64
import io
import itertools
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.datasets.checks.integrity import Report, check_manifest
from pipeline.datasets.checks.leaks.manifest_leaks import Leak
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import Issue, show_controls
from pipeline.reports import dataset_html
from pipeline.reports.dataset_html import render_html, write_html
from pipeline.reports.thumbnails import draw_data_uri

HOSTILE = "<script>alert(1)&amp;\"'\u202e \N{GRINNING FACE} u\u0308.png"


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.text += " " * (tag in ("td", "th"))

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def draw(seed: int) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(80, 120)), 5)
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255).astype(np.uint8)


def make_manifest(*cases: Case) -> Manifest:
    return Manifest("tiny <b>", "segmentation", "", "", {0: "background"}, {0: 0}, (), cases)


@pytest.fixture
def leaking(tmp_path: Path) -> tuple[Manifest, Path]:
    """A dataset with a mirrored copy across splits."""
    root = tmp_path / "data"
    root.mkdir()
    Image.fromarray(draw(0)).save(root / HOSTILE)
    Image.fromarray(np.ascontiguousarray(draw(0)[:, ::-1])).save(root / "copy.jpg")
    Image.fromarray(draw(1)).save(root / "other.png")
    cases = (
        Case("own", "", (HOSTILE,), facts={"shape": [80, 120], "spacing": [0.5, 2]}),
        Case("<img src=x onerror=alert(2)>", "", ("copy.jpg",), split="test"),
        Case("c", "", ("other.png",)),
    )
    return make_manifest(*cases), root


def render(manifest: Manifest, root: Path, title: str = "title") -> Page:
    return Page(render_html(check_manifest(manifest, root, level="deep"), title=title, manifest=manifest, root=root))


def test_leaks_are_shown_as_two_pictures(leaking: tuple[Manifest, Path]) -> None:
    page = render(*leaking)
    first, second = page.find("img")
    assert first["alt"] == HOSTILE.replace("\u202e", "\\u202e") + ", train"
    assert second["alt"] == "copy.jpg, test"
    for image in (first, second):
        head, data = str(image["src"]).split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (120, 80)
    assert "flipped left-right" in page.text
    assert "warning leak-near (1)" in " ".join(page.text.split())


def test_hostile_names_stay_text(leaking: tuple[Manifest, Path]) -> None:
    page = render(*leaking, title=HOSTILE)
    assert page.find("script") == page.find("b") == []
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert "<script>alert(1)&amp;\"'" in page.text
    assert "<img src=x onerror=alert(2)>" in page.text
    assert "\u202e" not in page.text
    assert "\\u202e" in page.text


def test_the_page_needs_nothing_else(leaking: tuple[Manifest, Path]) -> None:
    manifest, root = leaking
    page = render(manifest, root)
    links = [str(a[key]) for _, a in page.tags for key in ("src", "href") if key in a]
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    policy = next(a["content"] for a in page.find("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    source = render_html(Report(()), title="t", manifest=manifest, root=root)
    assert "url(" not in source
    assert "@import" not in source


def test_headings_anchors_and_tables_are_in_order(leaking: tuple[Manifest, Path]) -> None:
    page = render(*leaking)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for a in page.find("a")} <= set(ids)
    assert all("scope" in attributes for attributes in page.find("th"))
    assert page.find("html") == [{"lang": "en"}]


def test_numbers_and_sizes(leaking: tuple[Manifest, Path]) -> None:
    text = " ".join(render(*leaking).text.split())
    assert "train 2 unknown 2 not read test 1 unknown 1 not read" in text
    assert "3 images compared for near copies; 0 blank" in text
    assert "shape (voxels), 2-D, axis 1 3 80 80 80 80 80 80 80" in text
    assert "spacing (mm), 2-D, axis 1 1 0.5 0.5" in text


def test_known_subjects_are_counted(leaking: tuple[Manifest, Path]) -> None:
    manifest, root = leaking
    known = replace(manifest, cases=tuple(replace(case, subject="p") for case in manifest.cases[::2]))
    assert "train 2 1 2 not read" in " ".join(render(known, root).text.split())


def test_a_clean_dataset_and_an_unreadable_manifest(tmp_path: Path) -> None:
    clean = Page(render_html(Report(()), title="t", manifest=None, root=tmp_path))
    assert "Nothing found" in clean.text
    assert clean.find("img") == []
    broken = Report((Issue("manifest-syntax", "error", "line 3: <oops>"),))
    page = Page(render_html(broken, title="t", manifest=None, root=tmp_path))
    assert "1 error, 0 warnings" in " ".join(page.text.split())
    assert "line 3: <oops>" in page.text


def test_errors_come_before_warnings(tmp_path: Path) -> None:
    issues = (Issue("a-code", "warning", "w"), Issue("z-code", "error", "e"))
    text = render_html(Report(issues), title="t", manifest=None, root=tmp_path)
    assert text.index("z-code") < text.index("a-code")


def test_long_lists_are_cut_with_the_number_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_html, "MAX_ROWS", 3)
    monkeypatch.setattr(dataset_html, "MAX_PAIRS", 2)
    issues = tuple(Leak("leak-near", "warning", "m", path=f"{n}.png", other="x.png") for n in range(5))
    page = Page(render_html(Report(issues), title="t", manifest=None, root=tmp_path))
    text = " ".join(page.text.split())
    assert "2 more; --json lists them all." in text
    assert "2 of 5 are drawn." in text
    assert text.count("cannot be drawn") == 4


def test_the_file_appears_whole_or_not_at_all(leaking: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = leaking
    target = tmp_path / "out" / "report.html"
    report = check_manifest(manifest, root, level="deep")
    assert write_html(report, target, title="first", manifest=manifest, root=root) == target
    first = target.read_text(encoding="utf-8")
    write_html(report, target, title="first", manifest=manifest, root=root)
    assert target.read_text(encoding="utf-8") == first
    with pytest.raises(AttributeError):
        write_html(None, target, title="second", manifest=manifest, root=root)  # type: ignore[arg-type]
    assert target.read_text(encoding="utf-8") == first
    assert os.listdir(target.parent) == ["report.html"]


def test_names_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    issue = Issue("missing-file", "error", "gone", path=os.fsdecode(b"caf\xe9.png"))
    target = write_html(Report((issue,)), tmp_path / "r.html", title="t", manifest=None, root=tmp_path)
    assert "caf\\udce9.png" in target.read_text(encoding="utf-8")


def test_controls_are_shown() -> None:
    assert show_controls("a\x00\x1b[31m\u2028b \N{GRINNING FACE}é") == "a\\x00\\x1b[31m\\u2028b \N{GRINNING FACE}é"


def open_uri(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


@pytest.mark.parametrize(
    ("array", "size"),
    [
        (np.zeros((10, 20), np.uint8), (20, 10)),
        (np.zeros((1000, 500, 3), np.uint8), (128, 256)),
        (np.arange(600, dtype=np.uint16).reshape(20, 30) * 100, (30, 20)),
        (np.linspace(-3, 3, 600, dtype=np.float32).reshape(20, 30), (30, 20)),
    ],
)
def test_pictures_are_small(tmp_path: Path, array: np.ndarray, size: tuple[int, int]) -> None:
    Image.fromarray(array).save(tmp_path / "a.tif")
    with open_uri(draw_data_uri(tmp_path, "a.tif")) as picture:
        assert picture.size == size
        if array.max() > array.min():
            assert np.ptp(np.asarray(picture).astype(int)) > 200


@pytest.mark.parametrize("mode", ["P", "1", "LA", "RGBA", "CMYK", "L"])
def test_pictures_of_all_modes_are_drawn(tmp_path: Path, mode: str) -> None:
    ending = "tif" if mode == "CMYK" else "png"
    Image.fromarray(draw(0)).convert(mode).save(tmp_path / f"a.{ending}")
    assert draw_data_uri(tmp_path, f"a.{ending}")


def test_the_middle_of_a_volume_is_drawn(tmp_path: Path) -> None:
    volume = np.zeros((30, 40, 9), np.float32)
    volume[5:25, 5:35, 4] = 700
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii.gz")
    with open_uri(draw_data_uri(tmp_path, "v.nii.gz")) as picture:
        assert picture.size == (30, 40)
        assert np.asarray(picture).max() > 200


@pytest.mark.parametrize("path", ["gone.png", "../secret.png", "{absolute}", "broken.png", "text.txt", "broken.nii.gz"])
def test_files_that_cannot_be_drawn_are_not_an_error(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    Image.fromarray(draw(0)).save(tmp_path / "secret.png")
    for name in ("broken.png", "text.txt", "broken.nii.gz"):
        (root / name).write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert draw_data_uri(root, path.format(absolute=tmp_path / "secret.png")) == ""

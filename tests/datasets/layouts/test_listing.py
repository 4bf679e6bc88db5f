"""What lies in a folder: hidden files apart, links followed, no circles."""

from pathlib import Path

import pytest

from pipeline.datasets.layouts.listing import list_files
from pipeline.issues import InputError


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_names_are_relative_sorted_and_unchanged(tmp_path: Path) -> None:
    fill(tmp_path, "b/ü x.png", "a.png", "b/c/d.nii.gz", "b/🧠.tif")
    listing = list_files(tmp_path, ["b/z.png", "a.png"])
    assert listing.files == ("a.png", "b/c/d.nii.gz", "b/ü x.png", "b/🧠.tif")
    assert listing.absent == ("b/z.png",)
    assert listing.known() == ("a.png", "b/c/d.nii.gz", "b/z.png", "b/ü x.png", "b/🧠.tif")


def test_hidden_files_are_apart(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "._a.png", ".git/x.png", "b/Thumbs.db", "__MACOSX/a.png", "b/desktop.ini")
    listing = list_files(tmp_path)
    assert listing.files == ("a.png",)
    assert listing.hidden == ("._a.png", ".git/x.png", "__MACOSX/a.png", "b/Thumbs.db", "b/desktop.ini")


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    fill(tmp_path, "data/a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "data")
    (root / "self").symlink_to(root)
    (root / "twice").symlink_to(tmp_path / "data")
    (root / "dangling.png").symlink_to("nowhere")
    # A dangling link is a file that is listed here and found broken when it is read.
    assert list_files(root).files == ("dangling.png", "linked/a.png", "twice/a.png")


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    for root in (tmp_path / "none", tmp_path / "a.png"):
        with pytest.raises(InputError, match=r"no such folder: .*; expected the dataset's folder as downloaded"):
            list_files(root)


def test_an_unreadable_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "locked"))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError, match=r"cannot read the folder .*locked: permission denied"):
        list_files(tmp_path)

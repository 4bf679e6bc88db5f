"""find_images: the pictures that are found, their ids, and inputs that are refused in one line."""

import logging
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.transforms import LoadImage
from PIL import Image

from pipeline.datasets import find_images, find_inputs
from pipeline.issues import InputError
from pipeline.transforms import DropAlpha


def write(path: Path, shape: tuple[int, ...] = (8, 10, 3), dtype: type = np.uint8, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    Image.fromarray(pixels).save(path, **options)
    return path


def list_ids(items: list[dict[str, str]]) -> list[str]:
    return [item["case_id"] for item in items]


def test_a_picture_a_folder_and_a_folder_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(tmp_path / name) for name in ("x_2.jpg", "x_10.PNG", "b/y.bmp", "b/z.tif")]
    write(tmp_path / "b/deeper/w.png")
    assert find_images(tmp_path) == [
        {"case_id": stem, "image": str(file)} for stem, file in zip(["x_2", "x_10", "y", "z"], files, strict=True)
    ]
    assert list_ids(find_images(tmp_path / "b")) == ["y", "z", "w"]
    monkeypatch.chdir(tmp_path / "b")
    assert find_images("y.bmp") == [{"case_id": "y", "image": str(files[2])}]


def test_ids_are_unique_on_every_disk(tmp_path: Path) -> None:
    for name in ("x.png", "a/x.png", "a/X.tif", "b/x.png", "b/x.jpg", "b/only.png"):
        write(tmp_path / name)
    assert list_ids(find_images(tmp_path)) == ["x", "a/X.tif", "a/x.png", "only", "b/x.jpg", "b/x.png"]


def test_masks_results_and_hidden_files_are_no_images(tmp_path: Path) -> None:
    write(tmp_path / "ISIC_1.jpg")
    for name in ("a_mask.png", "ISIC_1_segmentation.png", "a_superpixels.png", "a_pred.png", "a_Overlay.PNG"):
        write(tmp_path / name)
    for name in ("a_figure.png", "._ISIC_1.jpg", ".hidden/c.png"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert list_ids(find_images(tmp_path)) == ["ISIC_1"]
    assert len(find_images(tmp_path, exclude=(), suffixes=(".jpg",))) == 1
    # What was asked for by name is taken.
    assert list_ids(find_images(tmp_path / "a_mask.png")) == ["a_mask"]


@pytest.mark.parametrize(("shape", "channels"), [((8, 10, 3), 3), ((8, 10), 1), ((8, 10, 4), 4)])
def test_channels(shape: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.png", shape)
    assert find_images(path, channels=channels) == find_images(path)
    hint = "the network was trained on images of 2 channels"
    with pytest.raises(InputError, match=rf"x\.png: has {channels} channels, expected 2; {hint}$"):
        find_images(path, channels=2)


def load(path: Path, channels: int) -> np.ndarray:
    """Return a picture as prediction reads it."""
    (item,) = find_images(path, channels=channels)
    read = LoadImage(reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    return np.asarray(DropAlpha(channels)(read(item["image"])))


@pytest.mark.parametrize("alpha", ["", "A"])
def test_grey_is_read_as_colour_and_grey_in_colour_as_grey(
    alpha: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grey = np.arange(80, dtype=np.uint8).reshape(8, 10)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        Image.fromarray(grey).convert("L" + alpha).save(tmp_path / f"{number}" / "grey.png")
        Image.fromarray(grey).convert("RGB" + alpha).save(tmp_path / f"{number}" / "colour.png")
    assert np.array_equal(load(tmp_path / "0" / "grey.png", 3), np.stack([grey] * 3))
    assert np.array_equal(load(tmp_path / "0" / "colour.png", 1), grey[None])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert len(find_images(tmp_path, channels=3)) == len(find_images(tmp_path, channels=1)) == 6
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/0/grey.png: grey, read as equal red, green and blue (and 2 more)",
        f"{tmp_path}/0/colour.png: grey saved in colour, read as one channel (and 2 more)",
    ]


def test_a_colour_picture_for_a_grey_network_is_refused_with_the_command_to_type(tmp_path: Path) -> None:
    path = write(tmp_path / "it's (1).png")
    with pytest.raises(
        InputError, match="has 3 channels, expected 1; the network was trained on grey pictures"
    ) as caught:
        find_images(path, channels=1)
    words = shlex.split(str(caught.value).split("in its folder: ")[1])
    subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("L"))
    assert np.array_equal(load(tmp_path / "it's (1)_grey.png", 1)[0], wanted)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 1)])
def test_an_opaque_alpha_channel_is_allowed(mode: str, channels: int, tmp_path: Path) -> None:
    image = Image.new(mode, (10, 8), (9,) * channels + (255,))
    image.save(tmp_path / "x.png")
    assert list_ids(find_images(tmp_path, channels=channels)) == ["x"]
    image.putpixel((3, 3), (9,) * channels + (254,))
    image.save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png: the alpha channel is not opaque everywhere; flatten the file$"):
        find_images(tmp_path, channels=channels)
    assert len(find_images(tmp_path, channels=channels + 1)) == 1


def write_palette(path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=np.uint8)).convert("P").save(path.with_suffix(".png"))


def write_cmyk(path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(path.with_suffix(".jpg"))


def write_pages(path: Path) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), np.zeros((2, 8, 8), np.uint8), photometric="minisblack")


def write_nan(path: Path) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), np.full((8, 8), np.nan, np.float32))


def write_text(path: Path) -> None:
    path.with_suffix(".png").write_text("<html>not found</html>")


def write_nothing(path: Path) -> None:
    path.with_suffix(".png").touch()


def write_half(path: Path) -> None:
    file = write(path.with_suffix(".jpg"), (64, 64, 3))
    file.write_bytes(file.read_bytes()[:300])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (write_palette, "stored as P, expected grey or RGB; convert"),
        (write_cmyk, "stored as CMYK"),
        (write_pages, "2 pages in one file"),
        (write_nan, "64 values are not finite"),
        (write_text, "web page"),
        (write_nothing, "0 bytes|empty"),
        (write_half, "cut off|truncated"),
    ],
)
def test_bad_pictures_are_named_in_one_line(make, message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    make(tmp_path / "x")
    with pytest.raises(InputError, match=rf"{tmp_path}/x\.(png|jpg|tif): .*({message})") as caught:
        find_images(tmp_path)
    assert "\n" not in str(caught.value)
    assert "manifest" not in str(caught.value)


def test_the_first_bad_picture_is_named_and_the_others_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.png: has 3 channels, expected 1; .* \(and 2 more\)$"):
        find_images(tmp_path, channels=1)


def test_a_turned_photograph_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / name, exif=exif)
    with caplog.at_level(logging.WARNING):
        assert len(find_images(tmp_path, channels=3)) == 2
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}/a.jpg: EXIF orientation 6: viewers turn the image, MONAI reads it as stored; its mask gets the"
        " same orientation (and 1 more)"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such file or folder"),
        ("empty", "no image in .*empty or its 0 folders"),
        ("a.txt", "is not an image"),
    ],
)
def test_nothing_to_find(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=message):
        find_images(tmp_path / name)


def test_unreadable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=f"cannot read {tmp_path}: permission denied"):
        find_images(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pipeline.datasets.inputs.input_checks.probe_image", refuse)
    with pytest.raises(InputError, match=r"x\.png: cannot be read: permission denied$"):
        find_images(path)


@pytest.mark.realdata
def test_real_frames(shared_data: Path) -> None:
    items = find_images(shared_data / "PhC-C2DH-U373/01", channels=1)
    assert list_ids(items) == [f"t{number:03d}" for number in range(115)]


def test_a_format_of_another_kind_comes_with_the_command_that_converts_it(tmp_path: Path) -> None:
    Image.new("RGB", (10, 8), "red").save(tmp_path / "a b.gif")
    with pytest.raises(InputError, match=r"a b\.gif is not an image: .*\.bmp; make a PNG of it: python -c ") as caught:
        find_images(tmp_path / "a b.gif")
    command = shlex.split(str(caught.value).partition("make a PNG of it: ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert list_ids(find_images(tmp_path / "a b.png", channels=3)) == ["a b"]


def test_several_inputs_and_those_that_are_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / name) for name in ("in/x.png", "in/y.png", "other/x.png")]
    items = find_images([files[0], tmp_path / "other", files[0]])
    assert items == [
        {"case_id": "in/x", "image": str(files[0])},
        {"case_id": "other/x", "image": str(files[2])},
    ]
    files[1].write_bytes(files[1].read_bytes()[:-90])
    refused: dict[str, str] = {}
    items = find_images([tmp_path / "in", tmp_path / "none"], channels=3, refused=refused.__setitem__)
    assert list_ids(items) == ["x"]
    assert list(refused) == [str(tmp_path / "none"), str(files[1])]
    assert refused[str(files[1])].startswith(f"{files[1]}: ")
    with pytest.raises(InputError, match="no input was named"):
        find_images([])


def test_slices_of_several_places(tmp_path: Path) -> None:
    files = [write(tmp_path / name) for name in ("a/p/s_2.png", "a/p/s_10.png", "b/p/s_3.png", "b/p/s_2.png")]
    assert [item["image"] for item in find_inputs([files[1], files[0], files[2]])] == [
        [str(files[0]), str(files[1])],
        [str(files[2])],
    ]
    with pytest.raises(InputError, match=r"a/p/s_2\.png and .*b/p/s_2\.png would get the same mask; rename one folder"):
        find_inputs(files)


def test_an_empty_slice_refuses_its_stack_and_no_other(tmp_path: Path) -> None:
    for name in ("a/s_1.png", "a/s_2.png", "b/s_1.png"):
        write(tmp_path / name)
    (tmp_path / "a/s_2.png").write_bytes(b"")
    refused: dict[str, str] = {}
    assert list_ids(find_inputs(tmp_path, refused=refused.__setitem__)) == ["b"]
    assert refused == {str(tmp_path / "a/s_1.png"): f"{tmp_path / 'a/s_2.png'}: the file holds 0 bytes"}
    with pytest.raises(InputError, match=r"a/s_2\.png: the file holds 0 bytes$"):
        find_inputs(tmp_path)

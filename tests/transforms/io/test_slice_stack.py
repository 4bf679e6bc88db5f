"""LoadImageStack and SaveImageStack on files: order, orientation, errors, atomic writing, overlays."""

import numpy as np
import pytest
import tifffile
import torch
from monai.data import MetaTensor
from PIL import Image

from pipeline.issues import InputError
from pipeline.pictures.figures import PRED_COLOUR
from pipeline.transforms import LoadImageStack, LoadImageStackd, SaveImageStack, SaveImageStackd


def write_slices(folder, shape=(5, 7, 3), numbers=(1, 2, 3), suffix=".tif", dtype=np.uint8, name="p"):
    """Write random slices `p_1.tif` ...; return their paths and their pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    paths, pixels = [], []
    for number in numbers:
        pixels.append(generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True))
        paths.append(folder / f"{name}_{number}{suffix}")
        Image.fromarray(pixels[-1]).save(paths[-1])
    return paths, pixels


def make_mask(volume, seed=1):
    """Return a random mask on the volume's grid, with its meta data."""
    pixels = np.random.default_rng(seed).random(volume.shape[1:]) < 0.4
    return MetaTensor(torch.as_tensor(pixels[None]).float(), meta=volume.meta)


def read_pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- loading


def test_volume_is_channels_rows_columns_slices(tmp_path):
    paths, pixels = write_slices(tmp_path)
    volume = LoadImageStack()(paths)
    assert volume.shape == (3, 5, 7, 3)
    assert volume.dtype == torch.float32
    assert volume.is_contiguous()
    for k in range(3):
        for c in range(3):
            assert np.array_equal(volume[c, :, :, k].numpy(), pixels[k][..., c])


def test_slices_stay_in_the_order_given(tmp_path):
    paths, pixels = write_slices(tmp_path, shape=(2, 3), numbers=(2, 10, 1))
    volume = LoadImageStack()([str(path) for path in paths])
    assert [np.array_equal(volume[0, :, :, k].numpy(), pixels[k]) for k in range(3)] == [True] * 3
    assert volume.meta["slice_paths"].split("\n") == [str(path) for path in paths]
    assert volume.meta["filename_or_obj"] == str(paths[0])


def test_single_path_is_a_stack_of_one(tmp_path):
    paths, pixels = write_slices(tmp_path, numbers=(4,))
    for given in (paths[0], str(paths[0]), [paths[0]]):
        volume = LoadImageStack()(given)
        assert volume.shape == (3, 5, 7, 1)
        assert np.array_equal(volume[..., 0].numpy(), pixels[0].transpose(2, 0, 1))


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_files_of_both_byte_orders(tmp_path, byteorder):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder)
    assert np.array_equal(LoadImageStack()(tmp_path / "a.tif")[0, ..., 0].numpy(), pixels)


def test_dtype_can_be_chosen(tmp_path):
    paths, pixels = write_slices(tmp_path, shape=(2, 3), dtype=np.uint16, suffix=".png")
    volume = LoadImageStack(dtype=torch.int32)(paths)
    assert volume.dtype == torch.int32
    assert volume[0, 1, 2, 2].item() == pixels[2][1, 2]


def test_no_file_is_refused():
    with pytest.raises(ValueError, match="at least one file, got an empty list"):
        LoadImageStack()([])


def test_different_sizes_are_refused_with_both_names(tmp_path):
    paths, _ = write_slices(tmp_path)
    Image.fromarray(np.zeros((5, 8, 3), np.uint8)).save(paths[2])
    with pytest.raises(ValueError, match=r"p_1\.tif is \(5, 7, 3\), .*p_3\.tif is \(5, 8, 3\)"):
        LoadImageStack()(paths)
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(paths[2])
    with pytest.raises(ValueError, match=r"p_3\.tif is \(5, 7, 1\)"):
        LoadImageStack()(paths)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"cannot read slice .*absent\.tif"):
        LoadImageStack()([tmp_path / "absent.tif"])


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_truncated_files_are_refused(tmp_path, suffix):
    (path,), _ = write_slices(tmp_path, shape=(37, 50, 3), numbers=(1,), suffix=suffix)
    content = path.read_bytes()
    # a PNG without its last 20 bytes (checksums, end mark) still has all pixels, and Pillow reads it
    for length in [0, 1, 7, *range(8, len(content) - 40, 97), len(content) - 40]:
        path.write_bytes(content[:length])
        with pytest.raises(OSError, match=rf"cannot read slice .*p_1\{suffix}"):
            LoadImageStack()(path)


def test_damaged_png_is_refused_whatever_pillow_raises(tmp_path):
    (path,), _ = write_slices(tmp_path, shape=(37, 50, 3), numbers=(1,), suffix=".png")
    content = bytearray(path.read_bytes())
    content[36] ^= 0x10  # length of the pixel data, so that the next chunk begins in their middle
    path.write_bytes(content)
    with pytest.raises(SyntaxError), Image.open(path) as image:
        image.load()
    with pytest.raises(OSError, match="cannot read slice"):
        LoadImageStack()(path)


def test_absurdly_large_image_is_refused(tmp_path, monkeypatch):
    paths, _ = write_slices(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(OSError, match=r"cannot read slice .*p_1\.tif.*exceeds limit"):
        LoadImageStack()(paths)


def test_several_pages_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 3, 4), np.uint8), photometric="minisblack")
    with pytest.raises(OSError, match="it holds 2 pages, expected one slice per file"):
        LoadImageStack()(tmp_path / "a.tif")


def test_load_dictionary(tmp_path):
    paths, _ = write_slices(tmp_path)
    data = {"image": paths, "case_id": "p"}
    result = LoadImageStackd(["image", "label"], dtype=torch.uint8, allow_missing_keys=True)(data)
    assert result["image"].shape == (3, 5, 7, 3)
    assert result["image"].dtype == torch.uint8
    assert result["case_id"] == "p"
    assert data["image"] is paths
    with pytest.raises(KeyError):
        LoadImageStackd("label")(data)


# --- saving


@pytest.mark.parametrize(
    ("suffix", "saved", "kind"),
    [
        (".tif", ".tif", "TIFF"),
        (".tiff", ".tiff", "TIFF"),
        (".png", ".png", "PNG"),
        (".jpg", ".png", "PNG"),
        (".bmp", ".png", "PNG"),
        (".TIF", ".tif", "TIFF"),
    ],
)
def test_masks_have_the_slices_grid_format_and_names(tmp_path, suffix, saved, kind):
    paths, _ = write_slices(tmp_path / "p 1", numbers=(2, 10), suffix=suffix)
    mask = make_mask(LoadImageStack()(paths))
    written = SaveImageStack(tmp_path / "out")(mask)
    assert written == [tmp_path / "out" / "p 1" / f"p_{number}_pred{saved}" for number in (2, 10)]
    assert list_files(tmp_path / "out") == sorted(f"p 1/p_{number}_pred{saved}" for number in (2, 10))
    for k, path in enumerate(written):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == (kind, "L", (7, 5))
        assert np.array_equal(read_pixels(path), mask[0, :, :, k].numpy() * 255)


def test_postfix_and_foreground_value(tmp_path):
    paths, _ = write_slices(tmp_path / "p", numbers=(1,))
    mask = make_mask(LoadImageStack()(paths))
    (path,) = SaveImageStack(tmp_path / "out", postfix="tumour", foreground_value=7)(mask)
    assert path.name == "p_1_tumour.tif"
    assert np.array_equal(read_pixels(path), mask[0, :, :, 0].numpy() * 7)


def test_mask_lies_beside_its_slice_when_asked(tmp_path):
    paths, pixels = write_slices(tmp_path / "p")
    SaveImageStack(tmp_path)(make_mask(LoadImageStack()(paths)))
    assert list_files(tmp_path / "p") == sorted(f"p_{k}{end}.tif" for k in (1, 2, 3) for end in ("", "_pred"))
    assert np.array_equal(read_pixels(paths[0]), pixels[0])


def test_second_run_replaces_the_first(tmp_path):
    paths, _ = write_slices(tmp_path / "p")
    volume = LoadImageStack()(paths)
    save = SaveImageStack(tmp_path / "out")
    save(make_mask(volume, seed=1))
    second = make_mask(volume, seed=2)
    written = save(second)
    assert np.array_equal(read_pixels(written[1]), second[0, :, :, 1].numpy() * 255)
    assert len(list_files(tmp_path / "out")) == 3


def test_files_can_be_read_by_colleagues(tmp_path):
    paths, _ = write_slices(tmp_path / "p")
    written = SaveImageStack(tmp_path / "out", overlay=True)(make_mask(LoadImageStack()(paths)))
    assert {path.stat().st_mode & 0o777 for path in written} == {0o644}


def test_failing_writer_leaves_nothing_new_and_nothing_half(tmp_path, monkeypatch):
    paths, _ = write_slices(tmp_path / "p")
    volume = LoadImageStack()(paths)
    first = make_mask(volume)
    written = SaveImageStack(tmp_path / "out")(first)
    written[1].unlink()
    save_image = Image.Image.save
    calls = []

    def fail_at_second(image, stream, **options):
        calls.append(stream)
        if len(calls) == 2:
            stream.write(b"half")
            raise OSError(28, "No space left on device")
        save_image(image, stream, **options)

    monkeypatch.setattr(Image.Image, "save", fail_at_second)
    with pytest.raises(OSError, match="No space left"):
        SaveImageStack(tmp_path / "out")(make_mask(volume, seed=2))
    assert list_files(tmp_path / "out") == ["p/p_1_pred.tif", "p/p_3_pred.tif"]
    assert np.array_equal(read_pixels(written[2]), first[0, :, :, 2].numpy() * 255)


def test_failing_rename_leaves_no_temporary_file(tmp_path):
    paths, _ = write_slices(tmp_path / "p", numbers=(1,))
    (tmp_path / "out" / "p" / "p_1_pred.tif").mkdir(parents=True)
    with pytest.raises(OSError, match=r"p_1_pred\.tif"):
        SaveImageStack(tmp_path / "out")(make_mask(LoadImageStack()(paths)))
    assert list_files(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask * 0.5, "zeros and ones"),
        (lambda mask: mask * 255, "zeros and ones"),
        (lambda mask: mask * float("nan"), "zeros and ones"),
        (lambda mask: mask[..., :2], r"expected a mask of the loaded shape \(1, 5, 7, 3\), got \(1, 5, 7, 2\)"),
        (lambda mask: mask[0], r"got \(5, 7, 3\)"),
        (lambda mask: torch.cat([mask, mask]), r"got \(2, 5, 7, 3\)"),
        (lambda mask: mask.transpose(1, 2), r"got \(1, 7, 5, 3\)"),
        (lambda mask: torch.nn.functional.pad(mask, (0, 0, 0, 9)), r"got \(1, 5, 16, 3\)"),
    ],
)
def test_other_masks_are_refused_before_anything_is_written(tmp_path, change, message):
    paths, _ = write_slices(tmp_path / "p")
    with pytest.raises(ValueError, match=message):
        SaveImageStack(tmp_path / "out")(change(make_mask(LoadImageStack()(paths))))
    assert not (tmp_path / "out").exists()


def test_slices_that_would_share_a_mask_are_refused(tmp_path):
    folder = tmp_path / "p"
    paths = [
        *write_slices(folder, numbers=(1,), suffix=".png")[0],
        *write_slices(folder, numbers=(1,), suffix=".jpg")[0],
    ]
    with pytest.raises(ValueError, match="differ only in their suffix"):
        SaveImageStack(tmp_path / "out")(make_mask(LoadImageStack()(paths)))


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="postfix must not be empty"):
        SaveImageStack(tmp_path, postfix="")
    for value in (0, 256):
        with pytest.raises(ValueError, match=f"foreground_value must lie in 1 to 255, got {value}"):
            SaveImageStack(tmp_path, foreground_value=value)
    with pytest.raises(InputError, match="--overlay must be true or false, got 'maybe'"):
        SaveImageStack(tmp_path, overlay="maybe")


# --- overlays


@pytest.mark.parametrize(("overlay", "expected"), [(True, 1), ("true", 1), ("True", 1), (False, 0), ("false", 0)])
def test_overlay_only_when_asked(tmp_path, overlay, expected):
    paths, _ = write_slices(tmp_path / "p", numbers=(1,))
    written = SaveImageStack(tmp_path / "out", overlay=overlay)(make_mask(LoadImageStack()(paths)))
    names = ["p_1_pred.tif", "p_1_overlay.png"][: 1 + expected]
    assert [path.name for path in written] == names
    assert list_files(tmp_path / "out") == sorted(f"p/{name}" for name in names)


def test_no_overlay_unless_said(tmp_path):
    assert SaveImageStack(tmp_path).overlay is False


def square_mask(volume):
    """Return a mask of the square of rows 1 to 3 and columns 2 to 4; its outline is all of it but the middle."""
    pixels = torch.zeros(1, *volume.shape[1:])
    pixels[0, 1:4, 2:5] = 1
    outline = pixels[0, :, :, 0].bool().numpy().copy()
    outline[2, 3] = False
    return MetaTensor(pixels, meta=volume.meta), outline


@pytest.mark.parametrize(
    ("channels", "shown"), [((0, 1, 2), (0, 1, 2)), ((2, 1, 0), (2, 1, 0)), ((1, 1, 1), (1, 1, 1))]
)
def test_overlay_is_the_slice_with_the_outline(tmp_path, channels, shown):
    paths, pixels = write_slices(tmp_path / "p", numbers=(1, 2))
    mask, outline = square_mask(LoadImageStack()(paths))
    written = SaveImageStack(tmp_path / "out", overlay=True, channels=channels)(mask)
    for k, path in enumerate(written[2:]):
        overlay = read_pixels(path)
        assert (overlay[outline] == PRED_COLOUR).all()
        assert np.array_equal(overlay[~outline], pixels[k][..., list(shown)][~outline])


def test_grey_16_bit_slice_is_stretched_for_the_overlay(tmp_path):
    paths, pixels = write_slices(tmp_path / "p", shape=(5, 7), numbers=(1,), suffix=".png", dtype=np.uint16)
    mask, outline = square_mask(LoadImageStack()(paths))
    overlay = read_pixels(SaveImageStack(tmp_path / "out", overlay=True)(mask)[1])
    low, high = int(pixels[0].min()), int(pixels[0].max())
    expected = (pixels[0].astype(float) - low) / (high - low) * 255
    assert overlay.shape == (5, 7, 3)
    for c in range(3):
        assert np.abs(overlay[..., c].astype(float) - expected)[~outline].max() <= 1


def test_constant_16_bit_slice_gives_a_black_overlay(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((5, 7), 300, np.uint16))
    mask, outline = square_mask(LoadImageStack()(tmp_path / "a.tif"))
    overlay = read_pixels(SaveImageStack(tmp_path / "out", overlay=True)(mask)[1])
    assert not overlay[~outline].any()


def test_save_dictionary(tmp_path):
    paths, _ = write_slices(tmp_path / "p", numbers=(1,))
    mask = make_mask(LoadImageStack()(paths))
    data = {"pred": mask, "case_id": "p"}
    save = SaveImageStackd(
        ["pred", "absent"], tmp_path / "out", postfix="m", foreground_value=9, overlay="true", allow_missing_keys=True
    )
    result = save(data)
    assert result == data
    assert result["pred"] is mask
    assert list_files(tmp_path / "out") == ["p/p_1_m.tif", "p/p_1_overlay.png"]
    assert read_pixels(tmp_path / "out" / "p" / "p_1_m.tif").max() == 9
    with pytest.raises(KeyError):
        SaveImageStackd("absent", tmp_path / "out")(data)


# --- several labels


def test_each_label_has_its_grey_value_and_outline(tmp_path):
    paths, _ = write_slices(tmp_path / "p", numbers=(1,))
    mask = make_mask(LoadImageStack()(paths))
    mask *= 0
    mask[0, 1:3, 1:3], mask[0, 4, 5] = 1, 2
    save = SaveImageStackd("pred", tmp_path / "out", overlay=True, values=[0, 100, 200])
    save({"pred": mask})
    pixels = read_pixels(tmp_path / "out/p/p_1_pred.tif")
    assert pixels.tolist() == (mask[0, ..., 0].numpy().astype(int) * 100).tolist()
    drawn = read_pixels(tmp_path / "out/p/p_1_overlay.png")
    assert len({tuple(drawn[1, 1]), tuple(drawn[4, 5]), tuple(read_pixels(paths[0])[1, 1])}) == 3
    with pytest.raises(ValueError, match="expected a mask of labels from 0 to 2; discretise it first"):
        save({"pred": mask * 2})


def test_values_that_need_16_bits(tmp_path):
    paths = [tmp_path / "p" / f"p_{k}.png" for k in (1, 2)]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    mask = LoadImageStack()(paths) * 0
    mask[0, 1, 2, 0], mask[0, 3, 4, 1] = 1, 2
    files = SaveImageStack(tmp_path / "out", values=[0, 205, 850])(mask)
    found = [np.asarray(Image.open(path)) for path in files]
    assert [(int(pixels.max()), int(np.count_nonzero(pixels))) for pixels in found] == [(205, 1), (850, 1)]
    assert (found[0][1, 2], found[1][3, 4]) == (205, 850)


@pytest.mark.parametrize("values", [[0], [0, 65536], [-1, 2]])
def test_bad_grey_values_are_refused(tmp_path, values):
    with pytest.raises(ValueError, match="at least two numbers from 0 to 65535"):
        SaveImageStack(tmp_path, values=values)

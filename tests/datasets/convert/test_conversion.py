"""A conversion is complete or leaves no file, never writes into the source, and refuses bad data."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import Manifest, read_manifest, write_manifest
from pipeline.datasets.checks.integrity import Report
from pipeline.datasets.convert import TARGETS, conversion
from pipeline.datasets.convert.conversion import convert_manifest, divide_stack
from pipeline.datasets.convert.reading import IGNORED, encode_labels, read_image, read_labels
from pipeline.datasets.layouts import read_layout
from pipeline.issues import InputError

NAMES = {"decathlon": "Task01_Toy", "nnunet": "Dataset101_Toy", "coco": "coco"}


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_writes_the_same_bytes_twice_and_nothing_into_the_source(
    target: str, pictures: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, root = pictures
    before = snapshot(root)
    for folder in ("a", "b"):
        convert_manifest(manifest, root, target, tmp_path / folder / NAMES[target])
    assert snapshot(root) == before
    first, second = (tmp_path / folder / NAMES[target] for folder in ("a", "b"))
    files = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert len(files) > 10 - 4 * (target == "coco")
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    assert sorted(os.listdir(tmp_path / "a")) == [NAMES[target]]


@pytest.mark.parametrize("target", TARGETS)
def test_a_failure_leaves_no_file(
    target: str, pictures: tuple[Manifest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, root = pictures

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.datasets.convert.raster.place_file", fail)
    monkeypatch.setattr("pipeline.datasets.convert.nnunet.write_picture", fail)
    out = tmp_path / "out" / NAMES[target]
    with pytest.raises(InputError, match=r"cannot write .*: no space left on device"):
        convert_manifest(manifest, root, target, out)
    assert os.listdir(out.parent) == []


def test_ctrl_c_leaves_no_file(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    def interrupt(stream: Any, total: int) -> Any:
        yield next(iter(stream))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_manifest(*pictures, "coco", tmp_path / "out" / "coco", progress=interrupt, check=False)
    assert os.listdir(tmp_path / "out") == []


def test_outputs_that_exist_or_lie_in_the_source_are_refused(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="there exists already; remove it or choose another name"):
        convert_manifest(manifest, root, "coco", tmp_path / "there")
    (tmp_path / "link").symlink_to(root)
    for output in (root / "out", tmp_path / "link" / "out"):
        with pytest.raises(InputError, match="lies in the dataset's folder"):
            convert_manifest(manifest, root, "coco", output)


def test_a_full_disk_is_reported_before_writing(
    volumes: tuple[Manifest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"output-space: the converted dataset may need 0 MB, .* has 0 MB free"):
        convert_manifest(*volumes, "decathlon", tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_changed_files_are_refused_by_default(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "p0.png")
    with pytest.raises(InputError, match=r"checksum-mismatch p0.png"):
        convert_manifest(manifest, root, "coco", tmp_path / "out")
    convert_manifest(manifest, root, "coco", tmp_path / "out", check=False)


def test_a_result_that_differs_when_read_back_is_removed(
    pictures: tuple[Manifest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, root = pictures
    told = replace(manifest, cases=tuple(replace(case, facts={"foreground": 76}) for case in manifest.cases))
    convert_manifest(told, root, "coco", tmp_path / "right")
    wrong = replace(told, cases=(replace(told.cases[0], facts={"foreground": 75}), *told.cases[1:]))
    monkeypatch.setattr(conversion, "check_manifest", lambda *_, **__: Report(()))
    out = tmp_path / "out"
    with pytest.raises(InputError, match="the masks hold 379 foreground voxels, 380 came back; all was removed"):
        convert_manifest(wrong, root, "coco", out / "a")
    monkeypatch.setattr("pipeline.datasets.convert.coco._encode_objects", lambda *_: iter(()))
    with pytest.raises(InputError, match="the masks hold 380 foreground voxels, 0 came back"):
        convert_manifest(told, root, "coco", out / "b")
    assert os.listdir(out) == []


def test_missing_folders_and_cases(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    with pytest.raises(InputError, match="nowhere does not exist"):
        convert_manifest(manifest, tmp_path / "nowhere", "coco", tmp_path / "out")
    for name in ("p4.png", "m4.png"):
        (root / name).unlink()
    notes = convert_manifest(manifest, root, "coco", tmp_path / "out")
    assert notes[0] == f"test cases that are not in {root} and were left out: 1"
    with pytest.raises(InputError, match="holds none of the 1 cases"):
        convert_manifest(manifest, root, "coco", tmp_path / "out2", split="test")
    (root / "p0.png").unlink()
    with pytest.raises(InputError, match=r"missing-file p0.png"):
        convert_manifest(manifest, root, "coco", tmp_path / "out3")


def test_undeclared_values_are_refused(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    with Image.open(root / "m0.png") as image:
        mask = np.array(image)
    mask[0, :3] = 7
    Image.fromarray(mask).save(root / "m0.png")
    text = "m0.png: 3 pixels of the mask have values that the manifest does not define, for example 7"
    for target in TARGETS:
        with pytest.raises(InputError, match=text):
            convert_manifest(manifest, root, target, tmp_path / NAMES[target], check=False)


def test_masks_off_the_grid_are_refused(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(root / "m0.png")
    for target in ("nnunet", "decathlon", "coco"):
        Image.fromarray(np.full((5, 6), 255, np.uint8)).save(root / "m0.png")
        with pytest.raises(InputError, match=r"p0: the image is .*, its mask"):
            convert_manifest(manifest, root, target, tmp_path / NAMES[target], check=False)


def test_odd_ids_become_safe_unique_names(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    names = ["a/b c", "a_b_c", "A_b_C", "ä ü", "..."]
    cases = tuple(replace(case, case_id=name) for case, name in zip(manifest.cases, names, strict=True))
    convert_manifest(replace(manifest, cases=cases), root, "decathlon", tmp_path / "out")
    images = {path.stem for path in (tmp_path / "out").glob("images*/*")}
    assert images == {"a_b_c", "a_b_c_2", "A_b_C_3", "ä_ü", "case"}


def test_a_stack_is_divided_into_slices_of_the_same_patient(lgg_phantom: Path) -> None:
    manifest = read_manifest(lgg_phantom / "manifest.json")
    case = manifest.cases[0]
    pieces = list(divide_stack(manifest, case))
    assert [piece.image + (piece.label or ()) for piece in pieces] == list(
        zip(case.image, case.label or (), strict=True)
    )
    assert {(piece.subject, piece.split, piece.fold) for piece in pieces} == {(case.subject, case.split, case.fold)}
    assert pieces[9].case_id == f"{case.case_id}_10"
    assert list(divide_stack(manifest, pieces[0])) == [pieces[0]]


def test_stacks_lie_as_itk_lays_a_series_of_pictures(lgg_phantom: Path) -> None:
    import itk

    manifest = read_manifest(lgg_phantom / "manifest.json")
    case, root = manifest.cases[0], lgg_phantom / "kaggle_3m"
    volume = read_image(manifest, case, root)
    series = itk.imread([str(root / path) for path in case.image])
    # ITK's arrays are (slices, rows, columns, channels).
    np.testing.assert_array_equal(itk.array_from_image(series).T, volume.array)
    labels, stored = read_labels(manifest, case, root)
    assert stored is None
    assert labels.array.sum() == case.facts["foreground"]
    assert labels.array.shape == volume.array.shape[1:]
    # Identity in ITK's world (left, posterior) is a turn by 180 degrees in NIfTI's.
    assert np.asarray(volume.affine).tolist() == np.diag([-1.0, -1.0, 1.0, 1.0]).tolist()


def test_declared_values_thresholds_and_ignored_pixels(pictures: tuple[Manifest, Path]) -> None:
    manifest, _ = pictures
    stored = np.array([[0, 255, 128]], np.uint8)
    ignoring = replace(manifest, ignore_index=128)
    assert encode_labels(ignoring, stored, "m").tolist() == [[0, 1, IGNORED]]
    assert encode_labels(replace(manifest, binarize=100), stored, "m").tolist() == [[0, 1, 1]]
    assert encode_labels(replace(manifest, mask_type="instance"), stored, "m").tolist() == [[0, 255, 128]]
    with pytest.raises(InputError, match=r"m: 1 pixels .* for example 128"):
        encode_labels(manifest, stored, "m")


@pytest.mark.parametrize("link", ["symlink", "hard"])
def test_links_only_where_the_bytes_are_right(link: str, pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = pictures
    convert_manifest(manifest, root, "decathlon", tmp_path / "out", link=link)  # type: ignore[arg-type]
    images = tmp_path / "out" / "imagesTr"
    for name in ("p0.png", "p3.jpg"):
        assert os.path.samefile(images / name, root / name)
    # Viewers and OpenCV would turn the original, its mask is not turned.
    with Image.open(images / "p1.png") as written, Image.open(root / "p1.jpg") as original:
        assert written.getexif() == {}
        np.testing.assert_array_equal(np.asarray(written), np.asarray(original))
    for path in (tmp_path / "out").glob("labels*/*"):
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1


def test_the_command(pictures: tuple[Manifest, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, root = pictures
    path = write_manifest(manifest, tmp_path / "m.json")
    words = ["dataset", "convert", str(path), "--dataset_dir", str(root), "--to", "nnunet", "-o"]
    assert main([*words, str(tmp_path / "out")]) == 1
    assert "nnU-Net needs a folder named DatasetXXX_NAME, got 'out'; pass -o Dataset101_toy" in capsys.readouterr().err
    output = tmp_path / "raw" / "Dataset007_Toy"
    assert main([*words, str(output)]) == 0
    streams = capsys.readouterr()
    assert streams.out == f"{output}\n"
    assert streams.err.splitlines() == [
        "note: after planning, copy splits_final.json to $nnUNet_preprocessed/Dataset007_Toy/"
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_names_of_another_unicode_form_are_found(
    target: str, pictures: tuple[Manifest, Path], volumes: tuple[Manifest, Path], tmp_path: Path
) -> None:
    """The manifest's names are composed (NFC), those on the disk decomposed, as copies made by macOS have."""
    for kind, (manifest, root) in (("pictures", pictures), ("volumes", volumes)):
        if (kind, target) == ("volumes", "coco"):
            continue
        for file in root.iterdir():
            file.rename(root / f"e\u0301{file.name}")
        cases = tuple(
            replace(
                case,
                image=tuple(f"\xe9{path}" for path in case.image),
                label=case.label and tuple(f"\xe9{path}" for path in case.label),
                sha256={f"\xe9{path}": digest for path, digest in case.sha256.items()},
            )
            for case in manifest.cases
        )
        for link in ("copy", "symlink"):
            out = tmp_path / f"{kind} {link}" / NAMES[target]
            convert_manifest(replace(manifest, cases=cases), root, target, out, link=link)  # type: ignore[arg-type]
            assert not [path for path in out.rglob("*") if not path.exists()]


def test_annotations_of_another_unicode_form_are_found(coco_phantom: tuple[Path, Path], tmp_path: Path) -> None:
    root = shutil.copytree(coco_phantom[1], tmp_path / "root")
    manifest = read_manifest(coco_phantom[0])
    for folder in list(root.iterdir()):
        folder.rename(root / f"e\u0301{folder.name}")

    def compose(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"\xe9{path}" for path in paths)

    cases = [
        replace(case, image=compose(case.image), label=case.label and compose(case.label), sha256={})
        for case in manifest.cases
    ]
    coco = {**(manifest.coco or {}), "turned": {}}
    manifest = replace(manifest, cases=tuple(cases), coco=coco)
    for target in ("coco", "decathlon"):
        convert_manifest(manifest, root, target, tmp_path / "out" / NAMES[target], check=False)


@pytest.mark.parametrize("target", TARGETS)
def test_pictures_stored_with_the_high_byte_first(target: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 60000, (20, 30), dtype=np.uint16)
    mask = np.zeros((20, 30), np.uint16)
    mask[4:9, 5:15] = 1
    for folder, array in (("images", pixels), ("masks", mask)):
        Image.frombytes("I;16B", (30, 20), array.astype(">u2").tobytes()).save(root / folder / "a.tif")
    manifest = read_layout("folders", root).manifest
    assert manifest.cases[0].facts["dtype"] == "uint16"
    out = tmp_path / "out" / NAMES[target]
    convert_manifest(manifest, root, target, out)
    (image,) = [path for path in out.rglob("a*.*") if "labels" not in path.parts[-2]]
    with Image.open(image) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)

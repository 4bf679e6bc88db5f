"""``pipeline predict`` and what goes wrong: one line each, and with ``--keep-going`` the rest is predicted."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.data import MetaTensor

from pipeline.prediction.prediction_progress import PredictionProgress
from pipeline.transforms import DropAlpha
from tests.prediction.conftest import Command
from tests.prediction.test_predict import read_sizes, write_picture


def damage(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-90])
    return path


def test_a_damaged_file_ends_the_command_or_is_left_out(pictures: Path, command: Command, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_picture(tmp_path / f"in/{name}.png")
    broken = damage(tmp_path / "in/b.png")
    (tmp_path / "notes.txt").write_text("x")
    code, out, err = command(pictures, "in", "-o", "out")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"error: {broken}: ")
    assert not Path("out").exists()

    code, out, err = command(pictures, "in", "notes.txt", "gone", "-o", "out", "--keep-going")
    assert code == 1
    assert out.splitlines()[0].startswith("2 predicted, ")
    assert out.splitlines()[0].endswith("0 with an empty mask, 3 skipped")
    lines = sorted(err.splitlines())
    assert [line.partition(":")[0] for line in lines] == ["skipped"] * 3
    assert f"{broken}: " in lines[0]
    assert any("notes.txt is not an image: expected a name ending in .tif" in line for line in lines)
    assert any(f"no such file or folder: {tmp_path / 'gone'}" in line for line in lines)
    assert [row["case"] for row in read_sizes(tmp_path / "out")] == ["a", "c"]


def test_a_case_that_fails_later_is_left_out(
    pictures: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_picture(tmp_path / f"in/{name}.png")
    before = DropAlpha.__call__

    def fail(self: DropAlpha, image: MetaTensor) -> Any:
        if str(image.meta["filename_or_obj"]).endswith("b.png"):
            raise MemoryError
        return before(self, image)

    monkeypatch.setattr(DropAlpha, "__call__", fail)
    code, out, err = command(pictures, "in", "-o", "out", "--keep-going")
    assert code == 1
    assert out.startswith("2 predicted")
    assert err.startswith(f"skipped: {tmp_path / 'in/b.png'}: memory (RAM) is full")
    assert err.count("\n") == 1
    assert [row["case"] for row in read_sizes(tmp_path / "out")] == ["a", "c"]
    shutil.rmtree("out")
    code, out, err = command(pictures, "in", "-o", "out")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: memory (RAM) is full (case b")
    # What was done before is in the table.
    assert [row["case"] for row in read_sizes(tmp_path / "out")] == ["a"]


BAD = {
    "unknown bundle": (("no/bundle", "in"), "no/bundle is not a bundle; expected a folder with configs/"),
    "nothing there": (("BUNDLE", "gone"), "no such file or folder: .*gone; expected a picture"),
    "empty folder": (("BUNDLE", "empty"), r"no image in .*empty or its 0 folders; looked for \.tif"),
    "unsupported": (("BUNDLE", "x.czi"), r"x\.czi is not an image: expected a name ending in \.tif"),
    "output is a file": (
        ("BUNDLE", "in", "-o", "x.czi"),
        r"cannot write x\.czi/sizes\.csv: no permission",
    ),
    "weights": (("BUNDLE", "in", "--checkpoint", "no.pt"), r"no weights at no\.pt; name a file: --checkpoint FILE"),
    "other weights": (("BUNDLE", "in", "--checkpoint", "x.czi"), r"x\.czi is not a checkpoint"),
    "device": (("BUNDLE", "in", "--device", "tpu9"), "--device: there is no device 'tpu9'; expected cpu, cuda"),
    "no GPU": (
        ("BUNDLE", "in", "--device", "cuda:77"),
        r"--device cuda:77: torch finds .* GPU here; type --device cpu",
    ),
    "seg of a picture": (("BUNDLE", "in", "--format", "seg"), r"a\.png is a picture, .*; choose --format png or tiff"),
    "nifti of a picture": (("BUNDLE", "in", "--format", "nifti"), r"a\.png is a picture, .* is written as nifti"),
    "misspelt id": (("BUNDLE", "in", "--set", "treshold=0.1"), "--set: unknown key treshold; did you mean thre"),
    "config": (("BUNDLE", "in", "--config_file", "ttaa.json"), "--config_file: no file ttaa.json, .* 'tta.json'"),
    "zip file": (
        ("b.zip", "in"),
        "b.zip is a packed bundle; unpack it .*: python -m pipeline bundle unpack b.zip b",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_line(kind: str, pictures: Path, command: Command, tmp_path: Path) -> None:
    import re

    write_picture(tmp_path / "in/a.png")
    (tmp_path / "empty").mkdir()
    for name in ("x.czi", "b.zip"):
        (tmp_path / name).write_bytes(b"x")
    words = [str(pictures) if word == "BUNDLE" else word for word in BAD[kind][0]]
    code, out, err = command(*words, *(() if "-o" in words else ("-o", "out")))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert re.search(f"^error: .*{BAD[kind][1]}", err), err
    assert not Path("out/a_pred.png").exists()


def test_no_figure_for_slices(slices: Path, command: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "p/p_1.tif")
    code, _, err = command(slices, "p", "-o", "out", "--figure")
    assert (code, err.count("\n")) == (1, 1)
    assert "--figure: lgg_unet writes a mask per slice and has none; use --overlay" in err
    assert command(slices, "p", "-o", "out", "--overlay")[0] == 0


def test_segmentations_need_an_extra(
    volumes: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    (tmp_path / "in").mkdir()
    code, _, err = command(volumes, "in", "-o", "out", "--format", "seg")
    assert code == 1
    assert err.endswith("type: pip install 'monai-segmentation-suite[dicom]'\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(pictures: Path, command: Command, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "in/a.png")
    path.chmod(0)
    code, _, err = command(pictures, "in", "-o", "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "permission denied" in err


def test_a_packed_bundle_is_audited_first(pictures: Path, command: Command, tmp_path: Path) -> None:
    received = Path(shutil.copytree(pictures, tmp_path / "received"))
    write_picture(tmp_path / "in/a.png")
    path = received / "configs/inference.json"
    config = json.loads(path.read_text())
    config["initialize"] = ["$__import__('os').mkdir('trap')", *config["initialize"]]
    path.write_text(json.dumps(config))
    (received / "SHA256SUMS").write_text("")
    code, _, err = command(received, "in", "-o", "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "was packed by somebody, and the audit has" in err
    assert err.endswith(f"python -m pipeline bundle run {received} inference --dry-run\n")
    assert not Path("trap").exists()


def test_a_config_of_another_kind(pictures: Path, command: Command, tmp_path: Path) -> None:
    own = Path(shutil.copytree(pictures, tmp_path / "own"))
    path = own / "configs/inference.json"
    config = json.loads(path.read_text())
    write_picture(tmp_path / "in/a.png")
    path.write_text(json.dumps({**config, "dataset": {**config["dataset"], "data": [{"image": "in/a.png"}]}}))
    code, _, err = command(own, "in", "-o", "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "dataset#data finds its cases in a way that predict does not know; expected pipeline.datasets.find_" in err
    path.write_text(json.dumps({name: value for name, value in config.items() if name != "save"}))
    code, _, err = command(own, "in", "-o", "out")
    assert "has no 'save', which predict needs; run it with python -m monai.bundle run --config_file" in err


def test_a_line_a_minute_without_a_terminal() -> None:
    stream = io.StringIO()
    progress = PredictionProgress(3, interval=0.0, stream=stream)
    progress.begin()
    for _ in range(3):
        progress.step()
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split(" cases, ")[0] for line in lines] == ["1 of 3", "2 of 3", "3 of 3"]
    assert lines[-1].endswith("0:00 left")
    quiet = io.StringIO()
    progress = PredictionProgress(3, stream=quiet)
    progress.begin()
    progress.step(3)
    assert quiet.getvalue() == ""


def test_a_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = PredictionProgress(2, stream=stream)
    progress.begin()
    progress.step()
    progress._bar.refresh()
    assert "1/2" in stream.getvalue()
    assert "case" in stream.getvalue()
    progress.close()

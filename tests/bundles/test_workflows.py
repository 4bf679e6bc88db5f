"""Every bundle trained, resumed, scored and used on a phantom, as a user would."""

from __future__ import annotations

import csv
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, run, verify_net_in_out
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.datasets import load_datalist
from pipeline.reports.summary import read_scores
from tests.bundles.conftest import ROOT, read_json

# The whole network, on few and small slices.
QUICK = {"roi_size": [64, 64, 3], "slices_per_patient": 2, "batch_size": 2, "val_interval": 1, "amp": False}


@dataclass(frozen=True)
class Trained:
    """A finished training on a phantom."""

    bundle: Path
    data: dict[str, Any]
    output_dir: Path


def configs(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / name) for name in names]


def train(bundle: Path, data: dict[str, Any], output_dir: Path, **knobs: Any) -> Path:
    options = {
        "bundle_root": str(bundle),
        "output_dir": str(output_dir),
        "logging_file": False,
        **QUICK,
        **data,
        **knobs,
    }
    run(config_file=configs(bundle, "train.json"), **options)
    return output_dir


def evaluate(trained: Trained, output_dir: Path, **knobs: Any) -> dict[str, float]:
    run(
        config_file=configs(trained.bundle, "train.json", "evaluate.json"),
        **{"bundle_root": str(trained.bundle), "logging_file": False, "amp": False, **trained.data},
        checkpoint=str(trained.output_dir / "model.pt"),
        output_dir=str(output_dir),
        **knobs,
    )
    return read_scores(output_dir / "dice_patient_raw.csv")


def infer(trained: Trained, **knobs: Any) -> None:
    run(
        config_file=configs(trained.bundle, "inference.json"),
        **{"bundle_root": str(trained.bundle), "logging_file": False, "amp": False},
        checkpoint=str(trained.output_dir / "model.pt"),
        **knobs,
    )


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def data(lgg_phantom: Path) -> dict[str, Any]:
    return {"dataset_dir": str(lgg_phantom / "kaggle_3m"), "manifest": str(lgg_phantom / "manifest.json")}


@pytest.fixture(scope="module")
def finish_training(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Trained]:
    """Train a bundle for two epochs, once."""
    done: dict[Path, Trained] = {}

    def finish(bundle: Path) -> Trained:
        if bundle not in done:
            output_dir = tmp_path_factory.mktemp(bundle.name) / "out"
            done[bundle] = Trained(bundle, data, train(bundle, data, output_dir, max_epochs=2))
        return done[bundle]

    return finish


@pytest.fixture
def trained(bundle: Path, finish_training: Callable[[Path], Trained]) -> Trained:
    return finish_training(bundle)


def test_training_leaves_what_the_readme_promises(trained: Trained) -> None:
    found = {path.name for path in trained.output_dir.iterdir()}
    assert {
        "model.pt",
        "last_epoch=1.pt",
        "last_epoch=2.pt",
        "run.json",
        "metrics.csv",
        "dice_patient_raw.csv",
    } <= found
    assert not [name for name in found if name.endswith((".tmp", ".lock")) or name.startswith(".")], found
    scalars = read_scalars(trained.output_dir)
    assert [step for step, _ in scalars["dice_patient"]] == [1, 2]
    assert len(scalars["learning_rate"]) == 2
    assert len(scalars["train_loss"]) > 2
    assert all(math.isfinite(loss) for _, loss in scalars["train_loss"])
    assert "dice_slice_nonempty" in scalars
    events = EventAccumulator(str(trained.output_dir), size_guidance={"images": 0})
    events.Reload()
    assert events.Tags()["images"], "pictures of validation cases"


def test_run_record(trained: Trained) -> None:
    record = read_json(trained.output_dir / "run.json")
    assert record["status"] == "finished"
    assert record["epochs"] == 2
    assert record["seed"] == 0
    assert len(record["manifest"]["sha256"]) == 64
    assert record["versions"]["monai"] == "1.6.1"


def test_best_weights_are_those_of_the_best_validation(trained: Trained) -> None:
    metric = max(value for _, value in read_scalars(trained.output_dir)["dice_patient"])
    best = read_json(trained.output_dir / "run.json")["best"]
    assert best["value"] == pytest.approx(metric, abs=1e-6)
    state = torch.load(trained.output_dir / "model.pt", weights_only=True)
    network = ConfigParser(read_json(trained.bundle / "configs/train.json")).get_parsed_content("network_def")
    network.load_state_dict(state)


def test_validation_scores_are_written_by_patient(trained: Trained) -> None:
    scores = read_scores(trained.output_dir / "dice_patient_raw.csv")
    cases = load_datalist(**trained.data, split="val", fold=0)
    assert set(scores) == {case["case_id"] for case in cases}
    with (trained.output_dir / "metrics.csv").open() as stream:
        overall = dict(row for row in csv.reader(stream) if len(row) == 2)
    assert float(overall["dice_patient"]) == pytest.approx(np.mean(list(scores.values())), abs=1e-4)


def test_evaluation_agrees_with_the_masks_that_inference_writes(trained: Trained, tmp_path: Path) -> None:
    scores = evaluate(trained, tmp_path / "scores", split="test")
    cases = load_datalist(**trained.data, split="test")
    images = tmp_path / "images"
    for case in cases:
        for path in map(Path, case["image"]):
            (images / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, images / path.parent.name)
    infer(trained, input=str(images), output_dir=str(tmp_path / "masks"), overlay="false")
    assert set(scores) == {case["case_id"] for case in cases}
    for case in cases:
        overlap = total = 0
        for image, label in zip(map(Path, case["image"]), map(Path, case["label"]), strict=True):
            mask = np.asarray(Image.open(tmp_path / "masks" / image.parent.name / f"{image.stem}_pred.tif"))
            truth = np.asarray(Image.open(label))
            assert mask.shape == truth.shape
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) <= {0, 255}
            overlap += int(((mask > 0) & (truth > 0)).sum())
            total += int((mask > 0).sum() + (truth > 0).sum())
        assert scores[case["case_id"]] == pytest.approx(2 * overlap / total, abs=1e-4), case["case_id"]
    assert not list(tmp_path.rglob("*_overlay.png")), "--overlay false is text on the command line"
    assert read_json(tmp_path / "scores/evaluate.json")["status"] == "finished"


def test_inference_takes_a_slice_or_a_patient(trained: Trained, tmp_path: Path) -> None:
    images = [Path(path) for path in load_datalist(**trained.data, split="test")[0]["image"]]
    infer(trained, input=str(images[3]), output_dir=str(tmp_path / "slice"), overlay="true")
    folder = tmp_path / "slice" / images[3].parent.name
    assert {path.name for path in folder.iterdir()} == {f"{images[3].stem}_pred.tif", f"{images[3].stem}_overlay.png"}
    # The patient's folder as downloaded, with the true masks in it, which must not be taken for images.
    infer(trained, input=str(images[0].parent), output_dir=str(tmp_path / "patient"), overlay=True)
    written = {path.name for path in (tmp_path / "patient" / images[0].parent.name).iterdir()}
    assert written == {f"{path.stem}_{kind}" for path in images for kind in ("pred.tif", "overlay.png")}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_repeats_the_losses_exactly(trained: Trained, num_workers: int, tmp_path: Path) -> None:
    straight = trained.output_dir
    if num_workers:
        straight = train(trained.bundle, trained.data, tmp_path / "straight", max_epochs=2, num_workers=num_workers)
    broken = tmp_path / "broken"
    broken.mkdir()
    # What a run leaves that was killed in its second epoch.
    shutil.copy(straight / "last_epoch=1.pt", broken)
    train(trained.bundle, trained.data, broken, max_epochs=2, num_workers=num_workers, resume="true")
    expected, resumed = read_scalars(straight), read_scalars(broken)
    half = len(expected["train_loss"]) // 2
    assert resumed["train_loss"] == expected["train_loss"][half:]
    assert resumed["dice_patient"] == expected["dice_patient"][1:]
    assert resumed["learning_rate"] == expected["learning_rate"][1:]


@pytest.mark.parametrize("loss", ["dice_ce", "dice", "bce_dice", "focal"])
def test_losses_are_one_override_away(bundle: Path, loss: str) -> None:
    config = ConfigParser(read_json(bundle / "configs/train.json"))
    config["loss"] = f"@losses#{loss}"
    function = config.get_parsed_content("loss")
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    value = function(logits, torch.ones(2, 1, 8, 8))
    value.backward()
    assert value.item() > 0
    assert logits.grad is not None
    assert (logits.grad < 0).all(), "more foreground is better where all is foreground"


def test_properties_that_monai_asks_for(bundle: Path, data: dict[str, Any], tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=configs(bundle, "train.json"),
        workflow_type="train",
        logging_file=False,
        **{"bundle_root": str(bundle), "output_dir": str(tmp_path), "cache_rate": 0.0, **QUICK, **data},
    )
    workflow.initialize()
    assert not workflow.check_properties()
    workflow = ConfigWorkflow(
        config_file=configs(bundle, "inference.json"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(bundle),
        input=data["dataset_dir"],
    )
    workflow.initialize()
    assert not workflow.check_properties()


def test_network_fits_its_metadata_and_exports(trained: Trained, tmp_path: Path) -> None:
    meta = str(trained.bundle / "configs/metadata.json")
    inference = str(trained.bundle / "configs/inference.json")
    verify_net_in_out("network_def", meta_file=meta, config_file=inference)
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(trained.output_dir / "model.pt"),
        meta_file=meta,
        config_file=inference,
    )
    network = (
        ConfigParser(read_json(trained.bundle / "configs/inference.json")).get_parsed_content("network_def").eval()
    )
    network.load_state_dict(torch.load(trained.output_dir / "model.pt", weights_only=True))
    image = torch.linspace(-1, 1, 9 * 64 * 64).reshape(1, 9, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), network(image))


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MONAI_ALLOW_MISSING_REFERENCE": "0"}
    line = [sys.executable, "-m", "monai.bundle", "run", *words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("place", ["repository", "elsewhere"])
def test_documented_command(bundle: Path, place: str, data: dict[str, Any], tmp_path: Path) -> None:
    if place == "repository":
        where, start = ROOT, ["--config_file", f"bundles/{bundle.name}/configs/train.json"]
    else:
        where = tmp_path
        start = ["--config_file", str(bundle / "configs/train.json"), "--bundle_root", str(bundle)]
    knobs = {**QUICK, **data, "max_epochs": 1, "output_dir": str(tmp_path / "out")}
    options = [word for key, value in knobs.items() for word in (f"--{key}", str(value))]
    result = command(*start, *options, cwd=where)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "out/model.pt").is_file()
    assert not (tmp_path / "bundles").exists()


def test_missing_data_are_named_in_one_line(bundle: Path, tmp_path: Path) -> None:
    result = command("--config_file", f"bundles/{bundle.name}/configs/train.json", "--dataset_dir", "nowhere", cwd=ROOT)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    for word in ("nowhere", "mateuszbuda/lgg-mri-segmentation", "pipeline dataset phantom"):
        assert word in last
    assert "Traceback" not in result.stderr
    assert not (ROOT / "nowhere").exists()


def test_misspelt_config_is_named(bundle: Path) -> None:
    result = command("--config_file", f"bundles/{bundle.name}/configs/trian.json", cwd=ROOT)
    assert result.returncode != 0
    assert f"bundles/{bundle.name}/configs/trian.json" in result.stderr.strip().splitlines()[-1]


def test_changed_image_stops_training_before_it_starts(bundle: Path, lgg_phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(lgg_phantom, tmp_path / "data")
    manifest = tmp_path / "data/manifest.json"
    image = Path(load_datalist(manifest, tmp_path / "data/kaggle_3m", "train", 0)[0]["image"][2])
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    with pytest.raises(SystemExit, match=image.name) as caught:
        train(bundle, {"dataset_dir": str(tmp_path / "data/kaggle_3m"), "manifest": str(manifest)}, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out/*.pt"))

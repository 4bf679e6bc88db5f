"""Cases that weights were trained on are found, and nothing is said where nobody can tell."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset

from pipeline.datasets import load_datalist
from pipeline.datasets.phantoms import write_lgg_phantom
from pipeline.handlers import InitialWeights, NetworkCheckpointLoader
from pipeline.reports.run_summary import print_summary
from pipeline.runs.seen_cases import find_seen_cases


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_lgg_phantom(tmp_path_factory.mktemp("phantom") / "p", patients=8, size=32))


def list_cases(manifest: Path, split: str, fold: int) -> list[dict[str, Any]]:
    return load_datalist(manifest, manifest.parent / "kaggle_3m", split, fold, check=False)  # type: ignore[arg-type]


def write_training(folder: Path, manifest: Path, /, **changes: Any) -> Path:
    """Write weights and the record of a training on all folds but 0."""
    torch.save(torch.nn.Linear(1, 1).state_dict(), folder / "model.pt")
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    config = {"fold": 0, "allow_missing": False}
    record = {"manifest": {"path": str(manifest), "sha256": digest}, "config": config, **changes}
    (folder / "run.json").write_text(json.dumps(record))
    return folder / "model.pt"


def test_validation_cases_of_another_fold_were_trained_on(manifest: Path, tmp_path: Path) -> None:
    weights = write_training(tmp_path, manifest)
    cases = list_cases(manifest, "val", 3)
    found = find_seen_cases(weights, [*cases, *cases])
    assert found is not None
    assert (found.seen, found.of, found.fold) == (len(cases), len(cases), 0)
    assert str(found).startswith(f"2 of 2 cases were in the training of {weights} (fold 0): ")


@pytest.mark.parametrize(("split", "fold"), [("val", 0), ("test", 0)])
def test_new_cases_are_not_seen(split: str, fold: int, manifest: Path, tmp_path: Path) -> None:
    assert find_seen_cases(write_training(tmp_path, manifest), list_cases(manifest, split, fold)) is None


def test_some_of_the_cases(manifest: Path, tmp_path: Path) -> None:
    found = find_seen_cases(write_training(tmp_path, manifest), list_cases(manifest, "all", 0))
    assert found is not None
    assert (found.seen, found.of) == (5, 8)


def test_a_dataset_that_was_moved(manifest: Path, tmp_path: Path) -> None:
    (case,) = list_cases(manifest, "val", 1)
    moved = shutil.copy(case["image"][0], tmp_path / "moved.tif")
    assert find_seen_cases(write_training(tmp_path, manifest), [{**case, "image": [str(moved)]}]) is not None


def test_another_image_at_the_same_place_with_the_same_name(manifest: Path, tmp_path: Path) -> None:
    (case,) = list_cases(manifest, "val", 1)
    other = tmp_path / Path(case["image"][0]).relative_to(manifest.parent)
    other.parent.mkdir(parents=True)
    other.write_bytes(Path(case["image"][0]).read_bytes() + b"0")
    for image in (other, tmp_path / "gone.tif"):
        assert find_seen_cases(write_training(tmp_path, manifest), [{**case, "image": [str(image)]}]) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"fold": 0, "allow_missing": True}},
        {"config": {"fold": 0, "allow_missing": "true"}},
        {"config": {}},
        {"config": None},
        {"config": {"fold": 99}},
        {"manifest": None},
        {"manifest": {"path": "gone.json", "sha256": "0"}},
    ],
)
def test_nobody_can_tell(changes: dict[str, Any], manifest: Path, tmp_path: Path) -> None:
    weights = write_training(tmp_path, manifest, **changes)
    assert find_seen_cases(weights, list_cases(manifest, "train", 0)) is None


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_a_record_that_is_none(text: str, manifest: Path, tmp_path: Path) -> None:
    weights = write_training(tmp_path, manifest)
    (tmp_path / "run.json").write_text(text)
    assert find_seen_cases(weights, list_cases(manifest, "train", 0)) is None


def test_a_manifest_that_has_changed_since(manifest: Path, tmp_path: Path) -> None:
    changed = {"path": str(manifest), "sha256": "0" * 64}
    weights = write_training(tmp_path, manifest, manifest=changed)
    assert find_seen_cases(weights, list_cases(manifest, "train", 0)) is None


def test_an_evaluation_warns_once_and_writes_it_down(
    manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = write_training(tmp_path, manifest)
    engine = Engine(lambda engine, batch: None)
    NetworkCheckpointLoader(weights, torch.nn.Linear(1, 1)).attach(engine)
    loader = DataLoader(Dataset(list_cases(manifest, "val", 3)), collate_fn=list)
    engine.run(loader)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.partition(":")[2] for line in lines] == [
        " their scores say nothing about new cases; the split that tells is --split val --fold 0, or test"
    ]
    assert engine.state.checkpoint["seen_in_training"] == 2  # type: ignore[attr-defined]


def test_a_training_from_weights_warns(manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluator: Any = Engine(lambda engine, batch: None)
    evaluator.data_loader = DataLoader(Dataset(list_cases(manifest, "val", 3)))
    handler = InitialWeights(torch.nn.Linear(1, 1), write_training(tmp_path, manifest), evaluator=evaluator)
    handler.attach(Engine(lambda engine, batch: None))
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.endswith("say nothing about new cases; train with --fold 0")


@pytest.mark.parametrize(
    ("checkpoint", "said"), [({"seen_in_training": 3}, True), ({"path": "a"}, False), (None, False)]
)
def test_the_report_says_it(checkpoint: Any, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evaluate.json").write_text(json.dumps({"schema": 1, "checkpoint": checkpoint}))
    (tmp_path / "dice_raw.csv").write_text("filename,mean\na,0.5\nb,0.6\n")
    (tmp_path / "metrics.csv").write_text("metric,mean\ndice,0.55\n")
    print_summary(tmp_path)
    assert ("3 of these cases were in the training of the weights" in capsys.readouterr().out) == said

"""Every bundle trained by two processes: what they compute and write is what one process does with the same batch."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.datasets import load_datalist
from tests.bundles import multi_gpu
from tests.bundles.conftest import ROOT, read_json
from tests.bundles.running import name_key_metric, read_scalars
from tests.parallel.pair import Pair

ONE = ROOT / "bundles/lgg_attunet"  # for what does not depend on the experiment
# One network of each family is trained in every test run, the others in the slow tests; see conftest.py.
QUICK = {"hippocampus_unetr", "isic_unetpp", "lgg_attunet", "u373_unet"}


@pytest.fixture(scope="session")
def train_both(
    pair: Pair, write_data: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], tuple[Path, Path]]:
    """Train a bundle alone and, at the same time, by two processes, once; returns both output folders."""
    done: dict[Path, tuple[Path, Path]] = {}

    def train(bundle: Path) -> tuple[Path, Path]:
        if bundle not in done:
            folder = tmp_path_factory.mktemp(bundle.name)
            overrides = multi_gpu.make_repeatable(bundle, write_data(bundle))
            pair.submit(multi_gpu.train_together, bundle, overrides, folder / "together")
            multi_gpu.train_alone(bundle, overrides, folder / "alone")
            pair.collect()
            done[bundle] = folder / "alone", folder / "together"
        return done[bundle]

    return train


@pytest.fixture
def folders(bundle: Path, train_both: Callable[[Path], tuple[Path, Path]]) -> tuple[Path, Path]:
    return train_both(bundle)


def test_losses_are_those_of_one_process(folders: tuple[Path, Path]) -> None:
    alone, together = (read_scalars(folder)["train_loss"] for folder in folders)
    assert len(alone) >= 4
    assert [step for step, _ in together] == [step for step, _ in alone]
    assert [loss for _, loss in together] == pytest.approx([loss for _, loss in alone], rel=1e-6)
    assert len({round(loss, 3) for _, loss in alone}) > 2, "equal losses would prove nothing"


def test_weights_take_the_same_steps(folders: tuple[Path, Path]) -> None:
    alone, together = (read_step(folder) for folder in folders)
    assert list(alone) == list(together)
    for name, step in alone.items():
        assert measure(together[name] - step) <= 1e-6 * measure(step) + 1e-12, name
    assert sum(map(measure, alone.values())) > 0


def test_scores_are_those_of_one_process(bundle: Path, folders: tuple[Path, Path]) -> None:
    alone, together = (dict(read_scalars(folder)) for folder in folders)
    assert name_key_metric(bundle) in alone
    assert set(alone) == set(together)
    for name in set(alone) - {"train_loss"}:
        (step, value), *more = alone[name]
        assert together[name] == [(step, pytest.approx(value, abs=1e-5, nan_ok=True)), *more], name


def test_files_are_written_once(
    bundle: Path, folders: tuple[Path, Path], write_data: Callable[[Path], dict[str, str]]
) -> None:
    alone, together = ({path.name.split(".")[0] for path in folder.rglob("*")} for folder in folders)
    assert together == alone
    assert len(list(folders[1].glob("events.*"))) == 1
    record = read_json(folders[1] / "run.json")
    assert (record["status"], record["processes"], record["epochs"]) == ("finished", 2, 2)
    assert "previous" not in record
    listed = load_datalist(**write_data(bundle), split="train", fold=read_json(bundle / "configs/train.json")["fold"])
    rows = read_cases(folders[1] / f"{name_key_metric(bundle)}_raw.csv")
    assert rows == Counter({case["case_id"]: 1 for case in listed[: multi_gpu.CASES]})


def test_without_torchrun_it_is_a_training_of_one_process(
    train_both: Callable[[Path], tuple[Path, Path]],
    write_data: Callable[[Path], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    multi_gpu.train_together(ONE, multi_gpu.make_repeatable(ONE, write_data(ONE)), tmp_path)
    alone, _ = train_both(ONE)
    assert read_scalars(tmp_path) == read_scalars(alone)
    assert read_json(tmp_path / "run.json")["processes"] == 1


def test_a_resumed_training_repeats_the_losses(
    train_both: Callable[[Path], tuple[Path, Path]],
    pair: Pair,
    write_data: Callable[[Path], dict[str, str]],
    tmp_path: Path,
) -> None:
    _, straight = train_both(ONE)
    # What a run leaves that was killed in its second epoch.
    shutil.copy(straight / "last_epoch=1.pt", tmp_path)
    overrides = {**multi_gpu.make_repeatable(ONE, write_data(ONE)), "resume": "true"}
    pair.run(multi_gpu.train_together, ONE, overrides, tmp_path)
    expected, resumed = read_scalars(straight), read_scalars(tmp_path)
    assert resumed["train_loss"] == expected["train_loss"][3:]
    assert resumed[name_key_metric(ONE)] == expected[name_key_metric(ONE)]


def test_an_evaluation_is_shared_too(
    train_both: Callable[[Path], tuple[Path, Path]],
    pair: Pair,
    write_data: Callable[[Path], dict[str, str]],
    tmp_path: Path,
) -> None:
    _, trained = train_both(ONE)
    pair.run(multi_gpu.evaluate_together, ONE, multi_gpu.make_repeatable(ONE, write_data(ONE)), trained, tmp_path)
    assert read_cases(tmp_path / f"{name_key_metric(ONE)}_raw.csv").total() == multi_gpu.CASES
    assert read_json(tmp_path / "evaluate.json")["processes"] == 2


def test_documented_command(write_data: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    bundle = ROOT / "bundles/hippocampus_segresnet"  # without BatchNorm, which several processes need GPUs for
    files = [f"bundles/{bundle.name}/configs/{name}.json" for name in ("train", "phantom", "multi_gpu_train")]
    # The phantom has one case to validate on, and two processes need two.
    knobs = {**write_data(bundle), "output_dir": str(tmp_path), "max_epochs": 1, "validate#dataset#data#split": "train"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = [word for key, value in knobs.items() for word in (f"--{key}", str(value))]
    line = [*start, "-m", "monai.bundle", "run", "--config_file", str(files), *options]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(list(tmp_path.glob("events.*"))) == 1
    assert read_json(tmp_path / "run.json")["processes"] == 2
    assert (result.stdout + result.stderr).count("epoch 1/1") == 1, "the second process logs nothing"


def read_step(folder: Path) -> dict[str, torch.Tensor]:
    """Read how the second epoch changed the weights and the statistics."""
    first, second = (torch.load(folder / f"last_epoch={epoch}.pt", weights_only=True)["network"] for epoch in (1, 2))
    return {name: (second[name] - value).double() for name, value in first.items()}


def read_cases(path: Path) -> Counter[str]:
    with path.open(newline="") as stream:
        return Counter(row["filename"] for row in csv.DictReader(stream))


def measure(step: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(step))

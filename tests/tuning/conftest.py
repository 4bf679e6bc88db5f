"""A small trained network and its phantom, to tune on."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.cli import main
from tests.bundles.conftest import ROOT
from tests.bundles.running import train


@dataclass(frozen=True)
class Experiment:
    """A bundle, its phantom with two folds of several patients, and weights."""

    bundle: Path
    dataset_dir: Path
    manifest: Path
    checkpoint: Path

    def words(self, folder: Path, *more: str) -> list[str]:
        """Return the words of a command that writes into a folder."""
        return [
            *("tune", str(self.bundle), "--dataset_dir", str(self.dataset_dir), "--manifest", str(self.manifest)),
            *("--checkpoint", str(self.checkpoint), "--config_file", "phantom.json", "--candidates", "2"),
            *("--output", str(folder / "postprocessing.json"), "--cache", str(folder / "cache"), "--resamples", "200"),
            *("--set", "amp=false"),  # bfloat16 would make equal things differ
            *more,
        ]

    def tune(self, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
        """Run the command in this process and return what it prints as JSON."""
        capsys.readouterr()
        assert main(self.words(folder, "--json", *more)) == 0
        return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Shared: copy before changing it."""
    bundle = ROOT / "bundles" / "lgg_attunet"
    folder = tmp_path_factory.mktemp("experiment")
    manifest = folder / "two_folds.json"
    assert main(["dataset", "phantom", "lgg", str(folder / "phantom"), "--patients", "10", "--size", "64"]) == 0
    written = folder / "phantom/manifest.json"
    assert main(["dataset", "split", str(written), "--folds", "2", "-o", str(manifest)]) == 0
    data = {"dataset_dir": str(folder / "phantom/kaggle_3m"), "manifest": str(manifest)}
    train(bundle, data, folder / "output", max_epochs=4)
    return Experiment(bundle, Path(data["dataset_dir"]), manifest, folder / "output/model.pt")


@dataclass(frozen=True)
class Tuned:
    """A whole search that has ended: its folder, what it printed, and the files of the cases that it predicted."""

    folder: Path
    result: dict[str, Any]
    predicted: tuple[str, ...]


@pytest.fixture(scope="session")
def tuned(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """Shared: copy its folder before changing it."""
    folder = tmp_path_factory.mktemp("tuned")
    printed = io.StringIO()
    with watch_predictions() as saved, contextlib.redirect_stdout(printed):
        assert main(experiment.words(folder, "--json")) == 0
    return Tuned(folder, json.loads(printed.getvalue()), tuple(saved))


@contextlib.contextmanager
def watch_predictions() -> Iterator[list[str]]:
    """Yield a list that gets the files of the cases that the network is run on, in their order."""
    import pipeline.tuning.predictions as predictions

    saved: list[str] = []
    save = predictions.save_case

    def remember(path: Path, *content: Any) -> None:
        saved.append(path.name)
        save(path, *content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "save_case", remember)
        yield saved


@pytest.fixture
def predicted() -> Iterator[list[str]]:
    """Files of the cases that the network was run on, in their order."""
    with watch_predictions() as saved:
        yield saved

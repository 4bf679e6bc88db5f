"""A small dataset in five folds, and processes that only pretend to train."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.cli import main
from pipeline.datasets.manifests.manifest_file import read_manifest
from tests.run_folders import write_pictures, write_run

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles/isic_unet"


@dataclass(frozen=True)
class Photographs:
    """Pictures of skin, ten of them in five folds."""

    folder: Path
    fixed: Path  #: manifest with a validation set and no folds
    manifest: Path  #: manifest with five folds

    def words(self, output_dir: Path, *more: str) -> list[str]:
        """Return the words of a command."""
        data = ["--dataset_dir", str(self.folder), "--manifest", str(self.manifest)]
        return ["crossval", str(BUNDLE), *data, "-o", str(output_dir), "--config_file", "phantom.json", *more]

    def list_cases(self, fold: int) -> list[str]:
        return [case.case_id for case in read_manifest(self.manifest).cases if case.fold == fold]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    """Shared: copy before changing it."""
    folder = tmp_path_factory.mktemp("photographs")
    assert main(["dataset", "phantom", "isic", str(folder), "--images", "13", "--size", "48"]) == 0
    fixed, manifest = folder / "manifest.json", folder / "folds.json"
    words = ["dataset", "split", str(fixed), "--folds", "5", "--resplit", "val", "-o", str(manifest)]
    assert main(words) == 0
    return Photographs(folder / "isic2018", fixed, manifest)


@dataclass
class Pretence:
    """Writes what a training or an evaluation would, or fails, or is interrupted."""

    photographs: Photographs
    called: list[tuple[str, int]] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    failing: dict[tuple[str, int], str] = field(default_factory=dict)
    interrupted: tuple[str, int] | None = None

    def __call__(self, command: list[str], log: Path, cwd: str, tell: Callable[[str], None]) -> int:
        options = dict(word.lstrip("-").split("=", 1) for word in command if word.startswith("--") and "=" in word)
        fold, folder = int(options["fold"]), Path(cwd) / options["output_dir"]
        stage = "evaluate" if options.get("split") == "val" else "train"
        self.called.append((stage, fold))
        self.commands.append(command)
        folder.mkdir(parents=True, exist_ok=True)
        if self.interrupted == (stage, fold):
            (folder / "last_epoch=1.pt").touch()
            raise KeyboardInterrupt
        if (stage, fold) in self.failing:
            tell(self.failing[stage, fold])
            return 1
        tell(f"12:00:00 INFO {stage} of fold {fold}")
        if stage == "train":
            self._train(folder, fold)
        else:
            self._evaluate(folder, fold, options)
        return 0

    def _train(self, folder: Path, fold: int) -> None:
        (folder / "model.pt").write_text(f"weights of fold {fold}")
        record = {"status": "finished", "epochs": 2, "max_epochs": 2, "duration_seconds": 60.0, "best": {"epoch": 1}}
        (folder / "run.json").write_text(json.dumps(record))

    def _evaluate(self, folder: Path, fold: int, options: dict[str, str]) -> None:
        assert (folder.parent / "model.pt").samefile(options["checkpoint"])
        cases = self.photographs.list_cases(fold)
        bonus = float(options.get("learning_rate", 0))
        scores = {case: 0.5 + fold / 10 + number / 100 + bonus for number, case in enumerate(cases)}
        config: dict[str, Any] = {
            "fold": fold,
            "learning_rate": options.get("learning_rate"),
            "output_dir": str(folder),
        }
        write_run(folder, scores, config=config)
        write_pictures(folder, dict.fromkeys(cases, 1))


@pytest.fixture
def pretence(photographs: Photographs, monkeypatch: pytest.MonkeyPatch) -> Pretence:
    from pipeline.crossval import fold_job

    pretence = Pretence(photographs)
    monkeypatch.setattr(fold_job, "run_child", pretence)
    return pretence


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs ``pipeline`` and returns its exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(list(words))
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run

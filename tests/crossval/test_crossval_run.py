"""What runs, in which order, what is skipped, resumed and refused: with processes that only pretend to train."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.runs.run_folder import read_run
from tests.crossval.conftest import Photographs, Pretence

Command = Callable[..., tuple[int, str, str]]
ALL = [(stage, fold) for fold in range(5) for stage in ("train", "evaluate")]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_fold_is_trained_and_scored_once(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    code, out, err = command(*photographs.words(tmp_path / "out"))
    assert (code, pretence.called) == (0, ALL)
    # Ten cases: 0.5 + fold / 10, and 0.01 more for the second one of a fold.
    assert f"{tmp_path}/out: dice_image 0.7050 (95 % interval" in out
    assert "means of the folds: dice_image 0.505 to 0.905\n" in out
    assert "cross-validation, 5 of 5 folds: each of their cases was scored once" in out
    assert "fold 2: dice_image 0.7050 on 2 cases, 2 of 2 epochs, 60 s; 2 left, about " in err
    assert "fold 4: dice_image 0.9050 on 2 cases, 2 of 2 epochs, 60 s; all done" in err
    assert "  12:00:00 INFO train of fold 3" in err
    rows = read_rows(tmp_path / "out/dice_image_raw.csv")
    assert [(row["filename"], row["fold"]) for row in rows] == [
        (case, str(fold)) for fold in range(5) for case in photographs.list_cases(fold)
    ]
    called = list(pretence.called)
    code, again, err = command(*photographs.words(tmp_path / "out"))
    assert (code, again, pretence.called) == (0, out, called)
    assert "5 folds, 5 of them are done" in err


def test_the_words_of_the_processes(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    more = ["--folds", "1", "--set", "image_size=[32,32]", "--set", "skip_threshold_search=true"]
    assert command(*photographs.words(tmp_path / "out", *more))[0] == 0
    train, evaluate = pretence.commands
    assert "train.json" in train[5]
    assert "evaluate.json" not in train[5]
    assert "evaluate.json', " in evaluate[5]
    assert train[5].endswith("phantom.json']")
    assert "--image_size=[32,32]" in train
    assert "--image_size=[32,32]" in evaluate
    assert "--skip_threshold_search=true" not in train, "an id that only the evaluation has"
    assert "--skip_threshold_search=true" in evaluate
    assert "--fold=0" in train
    assert "--resume=true" not in train


def test_an_interrupted_fold_is_resumed(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    pretence.interrupted = ("train", 2)
    code, out, err = command(*photographs.words(tmp_path / "out"))
    assert (code, out) == (130, "")
    assert "stopped; the same command goes on where it stopped" in err
    assert not (tmp_path / "out/metrics.csv").exists()
    pretence.interrupted = ("evaluate", 3)
    assert command(*photographs.words(tmp_path / "out"))[0] == 130
    pretence.interrupted = None
    assert command(*photographs.words(tmp_path / "out"))[0] == 0
    again = [("train", 2), *ALL[4:8], *ALL[7:]]
    assert pretence.called == [*ALL[:4], *again], "neither a finished fold nor a finished training is repeated"
    resumed = [command for command in pretence.commands if "--resume=true" in command]
    assert [word for command in resumed for word in command if word.startswith("--fold")] == ["--fold=2"]
    assert read_run(tmp_path / "out").summaries["dice_image"].n == 10


def test_a_fold_that_fails(photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path) -> None:
    pretence.failing = {("train", 1): "error: out of memory, lower --batch_size (now 2)", ("evaluate", 3): "no mask"}
    code, out, err = command(*photographs.words(tmp_path / "out"))
    assert (code, out) == (1, "")
    assert f"fold 1 failed: out of memory, lower --batch_size (now 2); see {tmp_path}/out/fold_1/log.txt; 3 left" in err
    assert "fold 3 failed: no mask; see" in err
    assert ("evaluate", 4) in pretence.called
    assert "2 of 5 folds failed, so there is no report of all" in err
    assert not (tmp_path / "out/metrics.csv").exists()
    done = len(pretence.called)
    pretence.failing = {}
    assert command(*photographs.words(tmp_path / "out"))[0] == 0
    assert pretence.called[done:] == [("train", 1), ("evaluate", 1), ("evaluate", 3)]
    assert read_run(tmp_path / "out").summaries["dice_image"].n == 10


def test_a_training_without_weights(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretence, "_train", lambda self, folder, fold: None)
    code, _, err = command(*photographs.words(tmp_path / "out", "--folds", "1"))
    assert code == 1
    assert "fold 0 failed: the training wrote no model.pt, because no validation had a finite score; see" in err


def test_fewer_folds_and_then_all(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    code, out, _ = command(*photographs.words(tmp_path / "out", "--folds", "2"))
    assert code == 0
    assert "2 of 5 folds: only the cases of these were scored: 0, 1, by a network" in out
    page = tmp_path / "page.md"
    assert command("report", str(tmp_path / "out"), "-o", str(page))[0] == 0
    assert "2 of 5 folds: only the cases of these were scored: 0, 1" in page.read_text().replace("\\", "")
    assert command(*photographs.words(tmp_path / "out"))[0] == 0
    assert pretence.called == ALL
    assert read_run(tmp_path / "out").summaries["dice_image"].n == 10


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (["--set", "batch_size=3"], "--set batch_size was not given, is 3"),
        (["--config_file", "losses.json"], "config losses.json was not named; set it back"),
    ],
)
def test_other_settings_are_refused(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, more: list[str], found: str
) -> None:
    assert command(*photographs.words(tmp_path / "out", "--folds", "1"))[0] == 0
    code, _, err = command(*photographs.words(tmp_path / "out", "--folds", "1", *more))
    assert code == 1
    assert err.startswith(f"error: {tmp_path}/out was made with other settings: {found}")
    assert err.endswith("set it back, or choose another --output_dir\n")
    # What changes no result may change.
    assert command(*photographs.words(tmp_path / "out", "--folds", "1", "--set", "num_workers=2"))[0] == 0


def test_another_content_of_the_manifest_is_refused(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    manifest = tmp_path / "folds.json"
    words = [str(manifest) if word == str(photographs.manifest) else word for word in photographs.words(tmp_path / "o")]
    manifest.write_bytes(photographs.manifest.read_bytes())
    assert command(*words, "--folds", "1")[0] == 0
    manifest.write_text(manifest.read_text().replace('"name": "isic', '"name": "other'))
    code, _, err = command(*words, "--folds", "1")
    assert code == 1
    assert "made with other settings: the manifest has changed; set it back" in err


def test_the_folder_of_another_run(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text("{}")
    code, _, err = command(*photographs.words(tmp_path))
    assert (code, pretence.called) == (1, [])
    assert err == f"error: {tmp_path} holds run.json of another run; choose another --output_dir\n"


def test_two_at_once(photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path) -> None:
    lock = {"pid": 1, "host": socket.gethostname(), "started": "now"}
    (tmp_path / ".run.lock").write_text(json.dumps(lock))
    code, _, err = command(*photographs.words(tmp_path))
    assert (code, pretence.called) == (1, [])
    assert err.startswith(f"error: {tmp_path} is in use by process 1, started now: wait for it, or choose another")


def test_hours_are_shared(photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path) -> None:
    assert command(*photographs.words(tmp_path / "out", "--hours", "0.5"))[0] == 0
    shares = [
        round(60 * json.loads((tmp_path / f"out/fold_{fold}/time_budget.json").read_text())["budget_minutes"], 1)
        for fold in range(5)
    ]
    # 1800 s for five folds; each of them uses 60 s, and leaves the rest to the others.
    assert shares == [360.0, 435.0, 560.0, 810.0, 1560.0]
    trainings = [command for command in pretence.commands if "evaluate" not in command[5]]
    assert all("time_budget.json" in command[5] for command in trainings)


def test_a_sweep_ends_in_a_comparison(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    words = photographs.words(tmp_path / "out", "--sweep", "learning_rate=0.001,0.01")
    code, out, err = command(*words)
    assert code == 0
    assert len(pretence.called) == 20
    folders = [tmp_path / f"out/learning_rate={rate}" for rate in ("0.001", "0.01")]
    assert read_run(folders[1]).summaries["dice_image"].mean == pytest.approx(0.715)
    assert f"{folders[0]}: mean 0.7060" in out
    assert "+0.0090" in out
    assert out.endswith(f"{tmp_path}/out/compare.md\n")
    text = (tmp_path / "out/compare.md").read_text()
    assert "learning_rate: 0.001 -> 0.01" in text.replace("\\", "")
    assert "learning_rate=0.01 fold 4: dice_image" in err


def test_settings_that_differ_in_several_ways(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    words = ["--folds", "1", "--sweep", "learning_rate=0.1,0.2", "--sweep", "image_size=[32,32],[48,48]"]
    assert command(*photographs.words(tmp_path / "out", *words))[0] == 0
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert names == {f"learning_rate={r},image_size=_{s},{s}_" for r in ("0.1", "0.2") for s in (32, 48)}


def test_files_of_a_finished_fold_that_are_damaged(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    words = photographs.words(tmp_path / "out", "--folds", "2")
    assert command(*words)[0] == 0
    table, fold = tmp_path / "out/fold_1/evaluate/dice_image_raw.csv", tmp_path / "out/fold_1"
    whole, done = table.read_text(), len(pretence.called)
    table.write_text(whole[:-5])
    code, _, err = command(*words)
    assert code == 1
    hint = f"delete {fold}/fold.json and type the same command, which scores the fold again"
    assert f"{table}: the last line has no end, so the file is cut off; run evaluate.json again; {hint}" in err
    (fold / "fold.json").unlink()
    assert command(*words)[0] == 0
    assert (pretence.called[done:], table.read_text()) == ([("evaluate", 1)], whole)
    (fold / "model.pt").unlink()
    code, _, err = command(*words)
    assert code == 1
    assert f"{fold}/model.pt is missing; put it back, or delete {fold} to train the fold again" in err
    shutil.rmtree(fold)
    assert command(*words)[0] == 0
    assert pretence.called[done + 1 :] == [("train", 1), ("evaluate", 1)]
    (fold / "fold.json").write_text("{")
    assert "this is not the result of a fold; delete it to evaluate the fold again" in command(*words)[2]

"""The page of results is what the kept records say, and they hold neither pictures nor places of a machine."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.runs.run_folder import read_run
from tests.docs.markdown import ROOT, read_text
from tests.docs.results import RUNS, keep_run, list_scored, read_index, render_results, renew_scores, renew_table
from tests.run_folders import write_run

FOLDERS = [entry["folder"] for dataset in read_index()["datasets"] for entry in dataset["runs"] if "folder" in entry]


def test_every_kept_run_is_on_the_page() -> None:
    assert {path.name for path in RUNS.iterdir() if path.is_dir()} == set(FOLDERS)
    assert all(f"(runs/{name})" in read_text("docs/results.md") for name in FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_records_are_small_and_about_no_machine(name: str) -> None:
    files = list((RUNS / name).iterdir())
    assert {path.suffix for path in files} <= {".csv", ".json"}
    assert sum(path.stat().st_size for path in files) < 500_000
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|tmp|mnt|work|data|media|Users)/|~/", text), path


def test_the_tables_say_what_the_csv_files_say() -> None:
    folder = RUNS / "hippocampus_segresnet_fold0"
    with (folder / "dice_volume_raw.csv").open(encoding="utf-8") as stream:
        scores = [float(row["mean"]) for row in csv.DictReader(stream)]
    row = next(line for line in read_text("docs/results.md").splitlines() if folder.name in line)
    assert f"**{sum(scores) / len(scores):.3f} (" in row
    assert f"; {len(scores)} volumes)**" in row


def test_metadata_and_readme_are_renewed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs/runs", tmp_path / "docs/runs")
    for name in list_scored():
        shutil.copytree(ROOT / "bundles" / name, tmp_path / "bundles" / name)
    starts = tuple(f"| `{name}`" for name in list_scored())
    lines = [line for line in read_text("README.md").splitlines() if line.startswith(starts)]
    (tmp_path / "README.md").write_text("\n".join(lines) + "\n")
    assert renew_scores(tmp_path) == []
    assert renew_table(tmp_path) == []
    kept = tmp_path / "docs/runs/hippocampus_segresnet_fold0"
    shutil.rmtree(kept)
    write_run(kept, dict.fromkeys("abc", 0.5), metric="dice_volume", unit="volume", checkpoint={"sha256": "0" * 64})
    assert [path.parents[1].name for path in renew_scores(tmp_path)] == ["hippocampus_segresnet"]
    metadata = json.loads((tmp_path / "bundles/hippocampus_segresnet/configs/metadata.json").read_text())
    assert metadata["validation_score"].startswith("mean Dice 0.500 (")
    assert metadata["eval_metrics"]["dice_volume"] == 0.884  # those of the weights in the bundle
    assert renew_table(tmp_path) == [tmp_path / "README.md"]
    assert "mean Dice 0.500" in (tmp_path / "README.md").read_text()


def test_questions_are_answered_from_pairs(tmp_path: Path) -> None:
    checkpoint = {"path": "model.pt", "sha256": "0" * 64}
    cases = [f"c{number}" for number in range(20)]
    for place, shift in (("plain", 0.0), ("plain_1", 0.004), ("better", 0.1)):
        scores = {case: 0.5 + 0.01 * number + shift for number, case in enumerate(cases)}
        write_run(tmp_path / place, scores, checkpoint=checkpoint, duration_seconds=40.0)
    question = {"question": "Does it help?", "first": ["plain", "plain_1"], "second": ["better"]}
    question |= {"first_name": "without", "second_name": "with"}
    open_question = {"question": "And the other?", "open": "it needs a training"}
    runs = [{"name": "A", "folder": "better", "bundle": "isic_unet"}]
    dataset = {"title": "T", "about": "A", "metric": "dice_image", "score": "Dice", "runs": runs}
    index = {"datasets": [{**dataset, "questions": [question, open_question]}]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    text = render_results(tmp_path)
    assert "without 0.597 (2 seeds, SD 0.003), with 0.695 (one seed); paired difference +0.098" in text
    assert "with is better." in text
    assert "**And the other?** Not answered yet: it needs a training." in text
    assert "| not recorded | **0.695 (" in text
    assert "| 2 s | no | not yet |" in text


def test_a_run_has_the_network_that_it_was_trained_with(tmp_path: Path) -> None:
    """Not the one that its bundle has today."""
    network = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1}
    config = {"network_def": {**network, "channels": [128, 512], "strides": [2]}}
    record = {"checkpoint": {"path": "model.pt", "sha256": "0" * 64}, "config": config, "duration_seconds": 4.0}
    write_run(tmp_path / "run", {"a": 0.5, "b": 0.7}, **record)
    runs = [{"name": "A", "folder": "run", "bundle": "isic_unet"}]
    dataset = {"title": "T", "about": "A", "metric": "dice_image", "score": "Dice", "runs": runs, "questions": []}
    (tmp_path / "index.json").write_text(json.dumps({"datasets": [dataset]}))
    assert "| `isic_unet`: UNet, 0.6 M |" in render_results(tmp_path)


def test_a_run_is_kept_without_pictures_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = write_run(tmp_path / "evaluation", {"a": 0.5, "b": 0.7}, command="run --dataset_dir /data/here")
    (evaluation / "case_pictures").mkdir()
    (tmp_path / "run.json").write_text('{"epochs": 3, "dataset_dir": "/data/here"}')
    monkeypatch.setattr("tests.docs.results.RUNS", tmp_path / "runs")
    kept = keep_run("mine", evaluation, tmp_path, [("/data/here", "data/here")])
    names = {path.name for path in kept.iterdir()}
    assert names == {"dice_image_raw.csv", "evaluate.json", "metrics.csv", "training.json"}
    assert all('"/data' not in path.read_text() and " /data" not in path.read_text() for path in kept.iterdir())
    assert read_run(kept).summaries["dice_image"].mean == pytest.approx(0.6)

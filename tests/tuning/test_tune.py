"""The command from its arguments to a file that evaluation and inference run with."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, run
from PIL import Image

from pipeline.commands.cli import main
from pipeline.reports.run_page import render_run_page
from pipeline.reports.run_summary import read_values
from pipeline.tuning.settings import KNOBS
from pipeline.tuning.workflow import open_workflow
from tests.bundles.conftest import BUNDLES, ROOT, read_json, write_phantom
from tests.bundles.running import EXACT, configs
from tests.docs import sandbox
from tests.tuning.conftest import Experiment, Tuned


def run_command(line: str, output_dir: Path) -> None:
    """Run a command that was printed as a user types it, in this process."""
    with contextlib.chdir(ROOT):
        sandbox.run_command([*shlex.split(line), "--output_dir", str(output_dir)])


def read_targets(path: Path) -> list[str]:
    """Return the names of the steps in an override file."""
    return [step["_target_"].rpartition(".")[2] for step in read_json(path)["refine"]]


def test_the_file_gives_the_score_that_was_reported_and_predicts(
    experiment: Experiment, tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tuned.result
    output = Path(result["output"])
    written = read_json(output)
    knobs = [knob for knob in KNOBS if knob in written]
    assert list(written) == ["_desc_", *knobs, "refine", "ablation"]
    assert {knob: written[knob] for knob in knobs} == {knob: result["written"][knob] for knob in knobs}
    assert not any("_disabled_" in step for step in written["refine"])
    assert "paired 95 % intervals" in written["_desc_"]
    assert str(tuned.folder) not in written["_desc_"]
    assert output.read_text().endswith("}\n")
    rows = {row["name"]: row for row in result["rows"]}
    assert {"raw", "as shipped", "threshold", "crf", "closing", "morphology, all", "all steps", "written"} <= set(rows)
    assert (result["cases"], result["subjects"], result["folds"]) == (4, 4, 4)

    evaluate, predict = result["commands"]
    run_command(evaluate, tmp_path / "scores")
    assert read_values(tmp_path / "scores/metrics.csv")["dice_patient"] == pytest.approx(rows["written"]["score"])
    page = json.loads(render_run_page([tmp_path / "scores"], ".json"))[0]["ablation"]
    assert [row["name"] for row in page["rows"]] == [row["name"] for row in result["rows"]]
    assert [row["score"] for row in page["rows"]] == [row["score"] for row in result["rows"]]
    assert page["notes"] == ["Measured with the weights and on the cases of this run, which also chose the values."]
    run_command(predict, tmp_path / "masks")
    images = [path for path in experiment.dataset_dir.glob("*/*.tif") if "_mask" not in path.name]
    assert len(list((tmp_path / "masks").glob("*/*_pred.tif"))) == len(images)

    # Whatever is on or off: the score of the row with every step is what evaluation gives too.
    everything = tmp_path / "all.json"
    everything.write_text(json.dumps({**rows["all steps"]["setting"], "skip_crf": False, "skip_fill_holes": False}))
    again = Path(shutil.copytree(tuned.folder, tmp_path / "again"))
    scored = experiment.tune(again, capsys, "--config_file", "phantom.json", str(everything))
    (shipped,) = (row for row in scored["rows"] if row["name"] == "as shipped")
    assert shipped["setting"]["skip_crf"] is False
    run(
        config_file=[
            *configs(experiment.bundle, "train.json", "evaluate.json", "refine.json", "phantom.json"),
            str(everything),
        ],
        **EXACT | {"bundle_root": str(experiment.bundle), "dataset_dir": str(experiment.dataset_dir)},
        manifest=str(experiment.manifest),
        checkpoint=str(experiment.checkpoint),
        output_dir=str(tmp_path / "all"),
    )
    assert read_values(tmp_path / "all/metrics.csv")["dice_patient"] == pytest.approx(shipped["score"], abs=1e-6)


def test_the_predict_command_names_the_folder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images and masks of the Decathlon lie in two folders of one dataset, under the same names."""
    bundle = ROOT / "bundles/hippocampus_segresnet"
    phantom = write_phantom(bundle, tmp_path / "phantom")
    parser = ConfigParser()
    parser.read_config(configs(bundle, "train.json", "phantom.json"))
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    words = [
        *("tune", str(bundle), "--dataset_dir", phantom["dataset_dir"], "--manifest", phantom["manifest"], "--json"),
        *("--checkpoint", str(tmp_path / "model.pt"), "--config_file", "phantom.json", "--steps", "morphology"),
        *("--output", str(tmp_path / "p.json"), "--cache", str(tmp_path / "cache"), "--resamples", "200"),
    ]
    assert main(words) == 0
    predict = json.loads(capsys.readouterr().out)["commands"][1]
    typed = shlex.split(predict)
    assert typed[typed.index("--input") + 1] == str(Path(phantom["dataset_dir"]) / "imagesTr")
    run_command(predict, tmp_path / "masks")
    images = {path.name.split(".")[0] for path in Path(phantom["dataset_dir"], "imagesTr").iterdir()}
    assert {path.name.split("_pred.")[0] for path in (tmp_path / "masks").rglob("*_pred.*")} == images


def test_the_table_is_for_people(experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(experiment.words(tmp_path, "--steps", "threshold")) == 0
    streams = capsys.readouterr()
    assert streams.err == ""  # no bar where there is no terminal
    lines = streams.out.splitlines()
    assert lines[0] == "dice_patient, mean over 4 cases of 4 subjects, split val"
    told = [line for line in lines if not line.startswith(("evaluate:", "predict:", "written:", "ablation:"))]
    assert max(map(len, told)) <= 100
    assert any(line.startswith("raw ") for line in lines)
    # What is not tuned stays as the bundle has it.
    assert any(line.split()[:5] == ["others", "as", "shipped", "-", "raw"] for line in lines)
    assert read_targets(tmp_path / "postprocessing.json") == ["KeepSurestComponentd", "AsDiscreted"]
    assert any(line.startswith("threshold: o") for line in lines)
    assert "note: 4 subjects are few" in streams.out
    (table,) = tmp_path.glob("cache/*/ablation.md")
    assert table.read_text().startswith("| post-processing | on | over |")


def test_a_second_run_predicts_nothing_and_finds_the_same(
    experiment: Experiment, tuned: Tuned, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    assert len(tuned.predicted) == 4
    assert experiment.tune(tuned.folder, capsys) == tuned.result
    assert predicted == []


def test_only_what_changes_a_prediction_makes_it_anew(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    quick = ("--steps", "threshold")
    first = experiment.tune(tmp_path, capsys, *quick)
    for neutral in ("learning_rate=0.5", "threshold=0.3", "skip_crf=false", "output_dir=elsewhere"):
        experiment.tune(tmp_path, capsys, *quick, "--set", neutral)
    assert len(predicted) == 4
    experiment.tune(tmp_path, capsys, *quick, "--set", "flips=[]")
    assert len(predicted) == 8

    weights = torch.load(experiment.checkpoint, weights_only=True)
    torch.save({name: value * 1.01 for name, value in weights.items()}, tmp_path / "other.pt")
    other = experiment.tune(tmp_path, capsys, *quick, "--checkpoint", str(tmp_path / "other.pt"))
    assert len(predicted) == 12
    assert other["weights_sha256"] != first["weights_sha256"]
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_every_member_of_an_ensemble_counts(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = torch.load(experiment.checkpoint, weights_only=True)
    files = [tmp_path / "a.pt", tmp_path / "b.pt"]
    words = ("--steps", "threshold", "--checkpoint", ",".join(map(str, files)))
    found = []
    for factor in (1.01, 1.02):
        torch.save(weights, files[0])
        torch.save({name: value * factor for name, value in weights.items()}, files[1])
        found.append(experiment.tune(tmp_path, capsys, *words)["weights_sha256"].split(", "))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    files[1].unlink()
    assert main(experiment.words(tmp_path, *words)) == 1
    assert f"no weights at {files[1]}; " in capsys.readouterr().err


def test_cases_that_the_weights_were_trained_on_are_refused(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = experiment.words(tmp_path, "--steps", "threshold", "--fold", "1")
    assert main(words) == 1
    error = capsys.readouterr().err
    assert f"4 of 4 cases were in the training of {experiment.checkpoint} (fold 0): " in error
    assert error.endswith("or its --fold 0 (to tune on them anyway: --i-know)\n")
    assert main([*words, "--i-know"]) == 0


def test_a_case_whose_files_changed_is_predicted_anew_alone(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(experiment.dataset_dir, data)
    words = ("--dataset_dir", str(data), "--steps", "threshold", "--set", "check=false")
    first = experiment.tune(tmp_path, capsys, *words)
    mask = next(path for path in sorted(data.glob(f"{predicted[0].split('-')[0]}/*_mask.tif")))
    Image.new("L", Image.open(mask).size, 255).save(mask)
    second = experiment.tune(tmp_path, capsys, *words)
    assert len(predicted) == 5
    assert predicted[4] != predicted[0]
    assert predicted[4].split("-")[0] == predicted[0].split("-")[0]
    assert second["rows"][0]["score"] != first["rows"][0]["score"]


def test_a_damaged_prediction_is_made_anew(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    first = experiment.tune(tmp_path, capsys, "--steps", "threshold")
    damaged = next(tmp_path.glob(f"cache/*/{predicted[2]}"))
    damaged.write_bytes(damaged.read_bytes()[:-200])
    again = experiment.tune(tmp_path, capsys, "--steps", "threshold")
    assert predicted[4:] == [predicted[2]]
    assert again["rows"][0]["score"] == first["rows"][0]["score"]


def test_a_disk_that_is_too_small_is_told_after_the_first_case(
    experiment: Experiment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    predicted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("pipeline.tuning.predictions.shutil.disk_usage", lambda folder: usage._replace(free=1000))
    assert main(experiment.words(tmp_path)) == 1
    line = capsys.readouterr().err
    assert "more in" in line
    assert line.endswith("but 1.0 kB are free; choose a folder on another disk with --cache\n")
    assert len(predicted) == 1


def test_one_subject_switches_nothing_on_and_says_so(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "single.json"
    assert main(["dataset", "split", str(experiment.manifest), "--folds", "8", "-o", str(manifest)]) == 0
    capsys.readouterr()
    assert main(experiment.words(tmp_path, "--manifest", str(manifest), "--steps", "threshold,morphology")) == 0
    told = capsys.readouterr().out
    assert "1 cases of 1 subjects" in told
    written = read_json(tmp_path / "postprocessing.json")
    assert written["threshold"] == 0.5
    assert read_targets(tmp_path / "postprocessing.json") == ["AsDiscreted"]
    steps = [line for line in told.splitlines() if line.startswith(("threshold: ", "largest_component: "))]
    assert all(": off, " in line for line in steps)
    assert all("too few" in line or "no value is better" in line for line in steps)


@pytest.mark.parametrize("split", ["test", "train", "all", "Test_2"])
def test_cases_that_must_not_be_tuned_on_are_refused(
    split: str, experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    assert main(experiment.words(tmp_path, "--split", split)) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: post-processing is tuned on validation cases only, not on split")
    assert line.count("\n") == 1
    assert predicted == []
    assert not (tmp_path / "cache").exists()


def test_whoever_knows_may_tune_on_test_cases(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = experiment.tune(tmp_path, capsys, "--split", "test", "--i-know", "--steps", "threshold")
    assert (result["split"], result["cases"]) == ("test", 2)
    assert "split test" in read_json(tmp_path / "postprocessing.json")["_desc_"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--dataset_dir", "nowhere"], "nowhere"),
        (["--checkpoint", "none.pt"], "no weights at none.pt; train the bundle first, or name a file"),
        (["--set", "treshold=0.3"], "unknown key treshold; did you mean threshold?"),
        (["--set", "threshold=high"], "threshold expects a number such as 0.5, got 'high'"),
        (["--set", "skip_crf=no"], "skip_crf expects true or false, got 'no'"),
        (["--set", "network_def#chanels=[4,8]"], "AttentionUnet takes no argument chanels (network_def); did you mean"),
        (["--set", "loss=focal"], "loss expects an object, "),
        (["--set", "threshold"], "--set expects ID=VALUE, got 'threshold'"),
        (["--steps", "threshold,crv"], "unknown step 'crv'; did you mean 'crf'?"),
        (["--steps", ","], "--steps names no step"),
        (["--config_file", "tta.jsn"], "no file tta.jsn, neither here nor in"),
        (["--fold", "7"], "has no fold 7"),
        (["--candidates", "0"], "expect a number from 1"),
        (["--device", "gpu0"], "--device gpu0: "),
        (["--output", "knobs.txt"], "expected a name that ends in .json"),
        (["--split", "valid"], "split expects one of train, val, test, all, got 'valid'"),
        (["--set", "network_def#channels=[4,8]"], "network"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], text: str, experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(experiment.words(tmp_path, *words)) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("error: ")
    assert text in streams.err
    assert streams.err.count("\n") == 1
    assert "mistake in the program" not in streams.err
    assert streams.out == ""
    assert not (tmp_path / "postprocessing.json").exists()


def test_a_bundle_is_found_by_name_or_path(capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["tune", "lgg_atunet", "--dataset_dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: unknown bundle 'lgg_atunet'; did you mean 'lgg_attunet'?\n"
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "lgg_attunet", "--dataset_dir", str(tmp_path)]) == 1
    assert "there is no bundle in bundles" in capsys.readouterr().err


def test_another_file_is_not_overwritten(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "postprocessing.json").write_text('{"network_def": {}}')
    assert main(experiment.words(tmp_path)) == 1
    assert "another config has this name and is not overwritten" in capsys.readouterr().err


def test_unlabelled_cases_and_a_bundle_without_the_steps_are_told(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_json(experiment.manifest)
    del content["cases"][0]["label"]
    content["cases"][0].update(split="val", fold=0)
    (tmp_path / "m.json").write_text(json.dumps(content))
    assert main(experiment.words(tmp_path, "--manifest", str(tmp_path / "m.json"))) == 1
    assert f"cases have no label, such as {content['cases'][0]['case_id']}" in capsys.readouterr().err

    old = tmp_path / "old_bundle"
    shutil.copytree(experiment.bundle / "configs", old / "configs")
    evaluate = read_json(old / "configs/evaluate.json")
    del evaluate["to_probabilities"]
    (old / "configs/evaluate.json").write_text(json.dumps(evaluate))
    words = experiment.words(tmp_path)
    assert main([words[0], str(old), *words[2:]]) == 1
    assert "nothing to tune" in capsys.readouterr().err
    (old / "configs/refine.json").unlink()
    assert main([words[0], str(old), *words[2:]]) == 1
    assert "refine.json: no such file" in capsys.readouterr().err


def test_a_config_that_replaces_the_switchable_steps_is_refused(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(experiment.words(tmp_path, "--config_file", "phantom.json", "postprocessing.json")) == 1
    line = capsys.readouterr().err
    assert "nothing to tune" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("bundle", BUNDLES, ids=[path.name for path in BUNDLES])
def test_every_bundle_can_be_tuned(bundle: Path) -> None:
    workflow = open_workflow(bundle, [], {"bundle_root": str(bundle)})
    refine = read_json(bundle / "configs/refine.json")
    assert workflow.steps == refine["refine"]
    assert workflow.steps[0]["_target_"].endswith("LoadSourced")
    shipped = {**read_json(bundle / "configs/train.json"), **read_json(bundle / "configs/evaluate.json"), **refine}
    assert workflow.knobs == {knob: shipped[knob] for knob in KNOBS if knob in shipped}
    assert {"skip_crf", "crf_iterations", "skip_opening", "closing_radius"} <= set(workflow.knobs)


def test_a_chain_of_several_classes_and_volumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = ROOT / "bundles/hippocampus_segresnet"
    workflow = open_workflow(bundle, ["phantom.json"], {"bundle_root": str(bundle)})
    torch.manual_seed(0)
    torch.save(workflow.parser.get_parsed_content("network_def").state_dict(), tmp_path / "random.pt")
    data = write_phantom(bundle, tmp_path / "phantom")
    words = [
        *("tune", str(bundle), "--dataset_dir", data["dataset_dir"], "--manifest", data["manifest"], "--json"),
        *("--checkpoint", str(tmp_path / "random.pt"), "--config_file", "phantom.json", "--candidates", "1"),
        *("--output", str(tmp_path / "p.json"), "--cache", str(tmp_path / "cache"), "--resamples", "50"),
    ]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    names = [step["name"] for step in result["steps"]]
    assert names == ["crf", "largest_component", "fill_holes", "small_objects", "opening", "closing"]
    assert "threshold" not in read_json(tmp_path / "p.json")

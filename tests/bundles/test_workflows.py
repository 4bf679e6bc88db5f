"""Every bundle trained, resumed, scored and used on a phantom, as a user would.

Each bundle trains from the repository's root with its own paths, and goes on from elsewhere with ``--bundle_root``.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, run, verify_net_in_out
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.datasets import load_datalist
from pipeline.metrics.labelwise import EMPTY_POLICIES
from pipeline.runs import read_run
from pipeline.runs.metric_names import find_unit
from pipeline.runs.reliability import ALL_METRICS, BAND_METRICS, DOUBT, read_reliability
from pipeline.runs.tables import COLUMNS, SCHEMA, read_metrics, read_scores
from tests.bundles.conftest import ROOT, read_json
from tests.bundles.running import (
    EXACT,
    Trained,
    configs,
    evaluate,
    infer,
    load_prediction,
    load_truth,
    read_scalars,
    strip_suffix,
    train,
)
from tests.one_line import expect_line


@pytest.fixture(scope="module")
def trained(
    bundle: Path, write_data: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Train for two epochs in the repository's root, with the paths that are documented."""
    data = write_data(bundle)
    output_dir = tmp_path_factory.mktemp(bundle.name) / "out"
    files = [f"bundles/{bundle.name}/configs/{name}" for name in ("train.json", "phantom.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        run(config_file=files, output_dir=str(output_dir), **EXACT, **data)
    return Trained(bundle, data, output_dir)


@pytest.fixture(scope="module")
def masks(trained: Trained, test_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predict the test images from another working directory."""
    elsewhere, folder = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("masks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        infer(trained, input=str(test_images), output_dir=str(folder), overlay="false")
    assert not list(elsewhere.iterdir()), "nothing is written elsewhere"
    return folder


def read_settings(trained: Trained) -> dict[str, Any]:
    return dict(read_json(trained.bundle / "configs/train.json"))


def test_training_leaves_what_the_readme_promises(trained: Trained) -> None:
    found = {path.name for path in trained.output_dir.iterdir()}
    key_metric = trained.key_metric
    tables = {"metrics.csv", f"{key_metric}_raw.csv"}
    assert {"model.pt", "last_epoch=1.pt", "last_epoch=2.pt", "run.json", *tables} <= found
    assert not [name for name in found if name.endswith((".tmp", ".lock")) or name.startswith(".")], found
    assert not (trained.bundle / "output").exists(), "nothing is written beside --output_dir"
    scalars = read_scalars(trained.output_dir)
    assert [step for step, _ in scalars[key_metric]] == [1, 2]
    rates = [tag for tag in scalars if tag.startswith("learning_rate")]  # one for each group of parameters
    assert rates
    assert all(len(scalars[tag]) == 2 for tag in rates)
    assert len(scalars["train_loss"]) > 2
    assert all(math.isfinite(loss) for _, loss in scalars["train_loss"])
    assert set(read_settings(trained)["validate"]["additional_metrics"]) <= set(scalars)
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


def load_network(bundle: Path, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Build the phantom's network as inference does, with weights."""
    config = ConfigParser()
    config.read_config(configs(bundle, "inference.json", "phantom.json"))
    network: torch.nn.Module = config.get_parsed_content("network_def").eval()
    network.load_state_dict(state)
    return network


def test_best_weights_are_those_of_the_best_validation(trained: Trained) -> None:
    metric = max(value for _, value in read_scalars(trained.output_dir)[trained.key_metric])
    best = read_json(trained.output_dir / "run.json")["best"]
    assert best["value"] == pytest.approx(metric, abs=1e-6)
    load_network(trained.bundle, torch.load(trained.output_dir / "model.pt", weights_only=True))


def test_validation_scores_are_written_by_case(trained: Trained) -> None:
    scores = read_scores(trained.output_dir / f"{trained.key_metric}_raw.csv")
    cases = load_datalist(**trained.data, split="val", fold=read_settings(trained)["fold"])
    assert set(scores) == {case["case_id"] for case in cases}
    with (trained.output_dir / "metrics.csv").open() as stream:
        overall = dict(row[:2] for row in csv.reader(stream))
    best = max(value for _, value in read_scalars(trained.output_dir)[trained.key_metric])
    assert float(overall[trained.key_metric]) == pytest.approx(best, abs=1e-4)


def test_tables_have_the_schema_of_all_bundles(trained: Trained) -> None:
    folder, name = trained.output_dir, trained.key_metric
    found = read_run(folder)
    cases = load_datalist(**trained.data, split="val", fold=read_settings(trained)["fold"])
    assert found.tables[name].subjects == {case["case_id"]: case["subject"] for case in cases}
    assert found.tables[name].unit == find_unit(name)
    assert (found.record["schema"], found.epoch) == (SCHEMA, found.best_epoch)
    rows = read_metrics(folder / "metrics.csv")
    assert {tuple(row) for row in rows.values()} == {COLUMNS}
    if name in found.summaries:  # a mean over cases
        assert int(rows[name]["n"]) + int(rows[name]["n_missing"]) == len(cases)
        assert rows[name]["n_empty"].isdigit()
        assert rows[name]["n_missed"].isdigit()
        assert rows[name]["empty_policy"] in EMPTY_POLICIES


def test_evaluation_agrees_with_the_masks_that_inference_writes(
    trained: Trained, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scores = evaluate(trained, tmp_path / "scores", split="test")
    cases = load_datalist(**trained.data, split="test")
    assert set(scores) == {case["case_id"] for case in cases}
    measured = read_run(tmp_path / "scores")
    for name in (*BAND_METRICS, *ALL_METRICS, DOUBT):
        assert set(measured.tables[name].scores) == set(scores)
    said = read_reliability(tmp_path / "scores")
    assert said is not None
    assert said["cases"] == len(cases)
    config = ConfigParser(read_settings(trained))
    for case in cases:
        truth = load_truth(trained.bundle, trained.data, case)
        prediction = load_prediction(case, masks, truth)
        metric = config.get_parsed_content(f"validate#key_metric#{trained.key_metric}#metric_fn", instantiate=True)
        metric.reset()
        metric([prediction.float()], [truth.float()])
        value = torch.as_tensor(metric.aggregate()).item()
        assert scores[case["case_id"]] == pytest.approx(value, abs=1e-4, nan_ok=True), case["case_id"]
    assert not list(masks.rglob("*_overlay.png")), "--overlay false is text on the command line"
    assert read_json(tmp_path / "scores/evaluate.json")["status"] == "finished"
    assert {path.name for path in tmp_path.iterdir()} == {"scores"}, "nothing is written elsewhere"


def test_inference_takes_one_input_and_draws_overlays(trained: Trained, tmp_path: Path) -> None:
    case = load_datalist(**trained.data, split="test")[0]
    # The image in the dataset as downloaded, with the true masks near it, which must not be taken for images.
    one = Path(case["image"][0]) if len(case["image"]) == 1 else Path(case["image"][0]).parent
    infer(trained, input=str(one), output_dir=str(tmp_path), overlay="true")
    stems = {strip_suffix(Path(path)) for path in case["image"]}
    written = {strip_suffix(path) for path in tmp_path.rglob("*.*")}
    assert written == {f"{stem}_{kind}" for stem in stems for kind in ("pred", "overlay")}


@pytest.mark.one_per_family
def test_test_time_augmentation_is_one_override_file_away(trained: Trained, test_images: Path, tmp_path: Path) -> None:
    infer(trained, "tta.json", input=str(test_images), output_dir=str(tmp_path))
    assert len(list(tmp_path.rglob("*_pred.*"))) == len([path for path in test_images.rglob("*.*") if path.is_file()])


@pytest.mark.one_per_family
def test_an_ensemble_of_one_checkpoint_twice_is_that_checkpoint(
    trained: Trained, masks: Path, test_images: Path, tmp_path: Path
) -> None:
    both = [str(trained.output_dir / "model.pt")] * 2
    infer(trained, "ensemble.json", input=str(test_images), output_dir=str(tmp_path), checkpoints=both)
    single = list(masks.rglob("*_pred.*"))
    assert single
    for path in single:
        assert path.read_bytes() == (tmp_path / path.relative_to(masks)).read_bytes()


@pytest.mark.one_per_family
@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_repeats_the_losses_exactly(
    trained: Trained, num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    straight = trained.output_dir
    if num_workers:
        straight = train(trained.bundle, trained.data, tmp_path / "straight", num_workers=num_workers)
    broken = tmp_path / "broken"
    broken.mkdir()
    # What a run leaves that was killed in its second epoch.
    shutil.copy(straight / "last_epoch=1.pt", broken)
    train(trained.bundle, trained.data, broken, num_workers=num_workers, resume="true")
    expected, resumed = read_scalars(straight), read_scalars(broken)
    half = len(expected["train_loss"]) // 2
    assert resumed["train_loss"] == expected["train_loss"][half:]
    assert resumed[trained.key_metric] == expected[trained.key_metric][1:]
    for tag in (tag for tag in expected if tag.startswith("learning_rate")):
        assert resumed[tag] == expected[tag][1:]


@pytest.mark.one_per_family
def test_the_recipe_of_the_origin_trains_and_scores(trained: Trained, tmp_path: Path) -> None:
    options = {"bundle_root": str(trained.bundle), **EXACT, **trained.data, "output_dir": str(tmp_path)}
    files = configs(trained.bundle, "train.json", "origin.json", "phantom.json")
    original = ConfigParser()
    original.read_config(configs(trained.bundle, "train.json", "origin.json"))
    # The origin turns its patches by 90 degrees, so they are cubes: its own size stays.
    sizes = {"roi_size", "network_def#img_size"} & set(read_json(trained.bundle / "configs/origin.json"))
    small = {
        key: value for key, value in read_json(trained.bundle / "configs/phantom.json").items() if key not in sizes
    }
    # A network of another class than the bundle's has other arguments; it is small enough as it is.
    if original["network_def"]["_target_"] != read_settings(trained)["network_def"]["_target_"]:
        options |= {key: value for key, value in small.items() if "#" not in key and key != "_desc_"}
        small = {}
    (tmp_path / "small.json").write_text(json.dumps(small))
    files[-1] = str(tmp_path / "small.json")
    run(config_file=files, **{**options, "max_epochs": 1})
    assert (tmp_path / "model.pt").is_file()
    loss = read_scalars(tmp_path)["train_loss"]
    assert all(math.isfinite(value) for _, value in loss)


@pytest.mark.one_per_family
def test_losses_are_one_override_away(bundle: Path) -> None:
    config = ConfigParser()
    config.read_config(configs(bundle, "train.json", "losses.json"))
    losses = dict(config["losses"])
    assert len(losses) >= 4
    assert config["loss"] in losses.values(), "the default is one of them"
    channels = config["network_def"]["out_channels"]
    size = [8] * config["network_def"]["spatial_dims"]
    for name, loss in losses.items():
        config["loss"] = f"@losses#{name}"
        config.parse(reset=True)
        logits = torch.zeros(2, channels, *size, requires_grad=True)
        truth = torch.ones(2, 2 if loss["_target_"].endswith("WeightMapBCELoss") else 1, *size)
        value = config.get_parsed_content("loss")(logits, truth)
        value.backward()
        assert value.item() > 0
        assert logits.grad is not None
        foreground = logits.grad[:, 0 if channels == 1 else 1]
        assert (foreground < 0).all(), f"{name}: more of a class is better where all belongs to it"


def test_properties_that_monai_asks_for(trained: Trained, test_images: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=configs(trained.bundle, "train.json", "phantom.json"),
        workflow_type="train",
        bundle_root=str(trained.bundle),
        output_dir=str(tmp_path),
        cache_rate=0.0,
        **EXACT,
        **trained.data,
    )
    workflow.initialize()
    assert not workflow.check_properties()
    workflow = ConfigWorkflow(
        config_file=configs(trained.bundle, "inference.json", "phantom.json"),
        workflow_type="infer",
        bundle_root=str(trained.bundle),
        input=str(test_images),
        **EXACT,
    )
    workflow.initialize()
    assert not workflow.check_properties()


def test_network_fits_its_metadata(bundle: Path) -> None:
    """The whole network, in the size that users train."""
    meta = configs(bundle, "metadata.json")[0]
    inference = configs(bundle, "inference.json")[0]
    verify_net_in_out("network_def", meta_file=meta, config_file=inference)
    network = ConfigParser(read_json(Path(inference))).get_parsed_content("network_def")
    assert sum(item.numel() for item in network.parameters()) == read_json(Path(meta))["network_parameters"]


@pytest.mark.one_per_family
def test_network_exports_to_torchscript(trained: Trained, tmp_path: Path) -> None:
    files = configs(trained.bundle, "inference.json", "phantom.json")
    checkpoint = trained.output_dir / "model.pt"
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(checkpoint),
        meta_file=configs(trained.bundle, "metadata.json")[0],
        config_file=files,
    )
    network = load_network(trained.bundle, torch.load(checkpoint, weights_only=True))
    settings = ConfigParser()
    settings.read_config(files)
    size = next(settings.config[key] for key in ("roi_size", "image_size", "input_size") if key in settings.config)
    definition = settings["network_def"]
    shape = [definition["in_channels"], *size[: definition["spatial_dims"]]]
    image = torch.linspace(-1, 1, math.prod(shape)).reshape(1, *shape)
    with torch.no_grad(), torch.jit.optimized_execution(False):  # of a graph that runs once
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.one_per_family
def test_changed_image_stops_training_before_it_starts(bundle: Path, data: dict[str, str], tmp_path: Path) -> None:
    root = Path(shutil.copytree(data["dataset_dir"], tmp_path / "data"))
    settings = read_json(bundle / "configs/train.json")
    case = load_datalist(data["manifest"], root, "train", settings["fold"])[0]
    image = Path(case["image"][-1])
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    with expect_line(image.name):
        train(bundle, {**data, "dataset_dir": str(root)}, tmp_path / "out")
    assert not list(tmp_path.glob("out/*.pt"))


@pytest.mark.one_per_family
def test_weights_of_another_network_are_refused_in_one_line(
    trained: Trained, test_images: Path, tmp_path: Path
) -> None:
    torch.save({"somewhere.weight": torch.zeros(3)}, tmp_path / "foreign.pt")
    knobs = {"input": str(test_images), "output_dir": str(tmp_path / "out")}
    with expect_line("does not fit the network"):
        infer(trained, checkpoint=str(tmp_path / "foreign.pt"), **knobs)
    with expect_line("no checkpoint at"):
        infer(trained, checkpoint=str(tmp_path / "none.pt"), **knobs)
    assert not list(tmp_path.glob("out/**/*_pred.*"))


def test_a_folder_that_cannot_be_written_is_named_before_the_network_runs(
    trained: Trained, test_images: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "taken"
    blocked.write_text("a file where the folder should be")
    with expect_line("taken"):
        infer(trained, input=str(test_images), output_dir=str(blocked))


def test_images_with_other_channels_are_named(trained: Trained, test_images: Path, tmp_path: Path) -> None:
    image = next(path for path in sorted(test_images.rglob("*.*")) if path.is_file())
    changed = tmp_path / image.name
    _change_channels(image, changed)
    with expect_line(r"channel|dimension") as lines:
        infer(trained, input=str(changed), output_dir=str(tmp_path / "out"))
    assert image.name in lines[0]


def _change_channels(source: Path, target: Path) -> None:
    if source.name.endswith(".nii.gz"):
        import nibabel

        volume = nibabel.load(source)
        array = np.asarray(volume.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.stack([array] * 4, axis=-1), volume.affine), target)
        return
    from PIL import Image

    # Grey becomes colours that differ, because equal ones are read as grey, and grey is read for colours.
    with Image.open(source) as picture:
        if len(picture.getbands()) == 3:
            picture.convert("CMYK").save(target)
        else:
            grey = picture.convert("L")
            Image.merge("RGB", (grey, grey.point(lambda value: 255 - value), grey)).save(target)


def test_an_unknown_encoder_is_answered_with_the_nearest(bundle: Path, test_images: Path) -> None:
    if "encoder" not in read_json(bundle / "configs/train.json")["network_def"]:
        pytest.skip("has no encoder of a name")
    with expect_line("no encoder 'resnet43', did you mean 'resnet34'"):
        run(
            config_file=configs(bundle, "inference.json"),
            **{"bundle_root": str(bundle), **EXACT, "network_def#encoder": "resnet43", "input": str(test_images)},
        )


def test_annotations_without_the_merged_category_are_named(bundle: Path, data: dict[str, str], tmp_path: Path) -> None:
    manifest = read_json(Path(data["manifest"]))
    if "coco" not in manifest:
        pytest.skip("has no annotations in COCO's format")
    root = Path(shutil.copytree(data["dataset_dir"], tmp_path / "data"))
    file = next(root.rglob("_annotations.coco.json"))
    content = read_json(file)
    for annotation in content["annotations"]:
        annotation["category_id"] = 77
    content["categories"] = [{"id": 77, "name": "something else"}]
    file.write_text(json.dumps(content))
    with expect_line("category"):
        train(bundle, {**data, "dataset_dir": str(root)}, tmp_path / "out")
    assert not list(tmp_path.glob("out/*.pt"))


def test_missing_data_are_named_in_one_line(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with expect_line() as lines:
        run(config_file=configs(bundle, "train.json"), bundle_root=str(bundle), dataset_dir="nowhere", **EXACT)
    (line,) = lines
    # The dataset's folder and where to get it; without a manifest in the suite, how to make one.
    assert ("nowhere" in line and "dataset phantom" in line) or "pipeline dataset build makes one" in line
    assert not (tmp_path / "nowhere").exists()

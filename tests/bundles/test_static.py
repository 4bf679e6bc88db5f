"""What can be said of a bundle without running it."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.inferers import SlidingWindowInferer

from pipeline import __version__
from pipeline.bundle.config_files import list_configs
from pipeline.bundle.formatting import format_config
from pipeline.bundle.render import render
from tests.bundles.conftest import BUNDLES, NAMES, ROOT, read_json
from tests.bundles.expressions import find_faults, find_references, list_texts
from tests.bundles.running import read_refinement
from tests.docs.generated import MANIFESTS

TRAIN_KNOBS = [
    "dataset_dir",
    "manifest",
    "fold",
    "output_dir",
    "ckpt_dir",
    "max_epochs",
    "batch_size",
    "learning_rate",
    "val_interval",
    "num_workers",
    "seed",
    "resume",
]
INFERENCE_KNOBS = ["input", "output_dir", "overlay", "device"]
SCHEMA_MD5 = "06954cad2cc5d3784e72077ac76f0fc8"
COMPLETE = ("train.json", "inference.json")


def load_config(bundle: Path, *names: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / name) for name in names])
    parser.read_meta(str(bundle / "configs" / "metadata.json"))
    return parser


def test_files_of_a_bundle(bundle: Path) -> None:
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf", "configs/evaluate.json"):
        assert (bundle / name).is_file(), name
    assert (bundle / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert not list(bundle.rglob("*.py")), "an experiment is configured, not programmed"
    for path in (*bundle.glob("models/*"), *bundle.glob("docs/*"), *bundle.glob("configs/*")):
        assert path.stat().st_size <= 25_000_000, path


def test_json_is_formatted(bundle: Path) -> None:
    for path in list_configs(bundle / "configs"):
        text = path.read_text(encoding="utf-8")
        assert text == format_config(json.loads(text)), f"{path}: run `python -m pipeline bundle format {bundle.name}`"


@pytest.mark.parametrize(("name", "limit"), [("train.json", 375), ("inference.json", 150), ("evaluate.json", 100)])
def test_an_experiment_is_short_to_read(bundle: Path, name: str, limit: int) -> None:
    assert len((bundle / "configs" / name).read_text(encoding="utf-8").splitlines()) <= limit


def test_knobs_come_first_and_carry_the_common_names(bundle: Path) -> None:
    train = list(read_json(bundle / "configs/train.json"))
    assert train[:2] == ["imports", "bundle_root"]
    assert train[2 : 2 + len(TRAIN_KNOBS)] == TRAIN_KNOBS
    inference = list(read_json(bundle / "configs/inference.json"))
    assert inference[2 : 2 + len(INFERENCE_KNOBS)] == INFERENCE_KNOBS


def test_expressions_are_few_and_plain(bundle: Path) -> None:
    for path in list_configs(bundle / "configs"):
        for where, text in list_texts(read_json(path)):
            if text.startswith("$"):
                assert not find_faults(text[1:]), f"{path.name} {where}: {text}"
                assert len(text) <= 80, f"{path.name} {where}: too long to read"


@pytest.mark.parametrize(
    "expression",
    ["import os", "lambda x: x", "open('a')", "[x for x in @a]", "@a.__class__", "torch.load('a')", "@a[1:]", "9 ** 9"],
)
def test_the_rule_for_expressions_refuses(expression: str) -> None:
    assert find_faults(expression)


def test_references_resolve_inside_complete_files(bundle: Path) -> None:
    for name in COMPLETE:
        config = load_config(bundle, name)
        for where, text in list_texts(read_json(bundle / "configs" / name)):
            for reference in find_references(text):
                assert reference in config, f"{name} {where}: @{reference}"


INFERENCE, TRAINING, EVALUATION = ("inference.json",), ("train.json",), ("train.json", "evaluate.json")
# The files that an override is made for; every id in it must exist there.
OVERRIDES = {
    "evaluate.json": (TRAINING,),
    "origin.json": (TRAINING,),
    "paper.json": (TRAINING,),
    "basicunet.json": (TRAINING, EVALUATION),
    "resnet34.json": (INFERENCE, TRAINING, EVALUATION),
    "losses.json": (TRAINING,),
    "multi_gpu_train.json": (TRAINING,),
    "phantom.json": (TRAINING,),
    "swanlab.json": (TRAINING,),
    "tta.json": (INFERENCE, TRAINING),
    "ensemble.json": (INFERENCE,),
    "refine.json": (INFERENCE, EVALUATION),
    "postprocessing.json": (INFERENCE, EVALUATION),
}
# Those that not every bundle has: the recipe of a paper, another network or encoder, the result of tuning.
OPTIONAL = {"paper.json", "basicunet.json", "resnet34.json", "postprocessing.json"}
NEW_IDS = {
    "evaluate.json": {
        "_desc_",
        "split",
        "checkpoint",
        "skip_threshold_search",
        "to_probabilities",
        "temperature",
        "measure",
        "refine",
    },
    "losses.json": {"_desc_", "losses"},
    "multi_gpu_train.json": {"_desc_", "initialize", "finalize", "train#sampler", "validate#sampler"},
    "ensemble.json": {"_desc_", "checkpoints", "evaluator#inferer"},
}


def test_overrides_change_only_what_exists(bundle: Path) -> None:
    found = {path.name for path in list_configs(bundle / "configs")} - {*COMPLETE, "metadata.json"}
    assert set(OVERRIDES) - OPTIONAL <= found <= set(OVERRIDES)
    switches, _ = read_refinement(bundle)
    new = NEW_IDS | {name: {"_desc_", "ablation", *switches} for name in ("refine.json", "postprocessing.json")}
    for name in found:
        for base in OVERRIDES[name]:
            config = load_config(bundle, *base)
            for key in read_json(bundle / "configs" / name):
                plain = key.removeprefix("+")
                parent, _, last = plain.rpartition("#")
                # An argument may be one that the base leaves at its default, but its owner must be there.
                known = plain in config or plain in new.get(name, {"_desc_"}) or (parent and parent in config)
                assert known, f"{name}: {base} has no {key}"
                assert last != "keys", "a transform's keys are part of the chain"


def test_references_of_overrides_resolve(bundle: Path) -> None:
    for name, bases in OVERRIDES.items():
        for base in bases if (bundle / "configs" / name).is_file() else ():
            config = load_config(bundle, *base, name)
            for where, text in list_texts(read_json(bundle / "configs" / name)):
                for reference in find_references(text):
                    assert reference in config, f"{name} {where}: @{reference}"


def test_settings_at_the_top_are_used(bundle: Path) -> None:
    for name in (*COMPLETE, "refine.json", *(["postprocessing.json"] if has_tuning(bundle) else [])):
        config = read_json(bundle / "configs" / name)
        used = {reference.split("#")[0] for _, text in list_texts(config) for reference in find_references(text)}
        # The three actions of a workflow, and what MONAI's clients expect in an inference config.
        rest = {"imports", "initialize", "run", "_desc_", "dataset_dir", "refine", "ablation"}
        assert config.keys() - used <= rest, name


def has_tuning(bundle: Path) -> bool:
    return (bundle / "configs/postprocessing.json").is_file()


def test_overrides_of_inference_hold_there_too(bundle: Path) -> None:
    config = load_config(bundle, "inference.json")
    for key in read_json(bundle / "configs/phantom.json"):
        if "#" in key:
            assert key.split("#")[0] in config, f"{key}: inference could not take it"


def test_required_properties_of_monai(bundle: Path) -> None:
    for name, properties in (("train.json", TrainProperties), ("inference.json", InferProperties)):
        config = load_config(bundle, name)
        for prop, rule in {**properties, **MetaProperties}.items():
            if prop in ("train_postprocessing", "train_key_metric", "key_metric"):
                continue  # optional and not used: patches are scored in validation alone
            assert rule["id"].replace("::", "#") in config or rule["id"] in config, f"{name}: {prop} ({rule['id']})"


# What belongs to a run and not to the experiment, or is made of other parts in inference.
RUN_IDS = {"_desc_", "dataset_dir", "output_dir", "preprocessing", "postprocessing", "handlers", "initialize", "run"}
# Compared step by step in test_postprocessing.py.
RUN_IDS |= {"to_probabilities", "refine", "save"}
# A prediction reads each image once, and large ones would not fit into the shared memory of several workers.
RUN_IDS |= {"num_workers"}


def test_inference_and_training_agree(bundle: Path) -> None:
    train, inference = (read_json(bundle / "configs" / name) for name in COMPLETE)
    assert inference["inferer"] == train["validate"]["inferer"]
    # A training validates often, so it may leave out what only evaluation and inference do.
    scored = {**train, **read_json(bundle / "configs/evaluate.json")}
    shared = [key for key in inference if key in scored and key not in RUN_IDS]
    assert {"network_def", "network", "device", "flips", "threshold"} - set(shared) <= {"threshold"}
    for knob in shared:
        assert inference[knob] == scored[knob], knob
    chain = train["train"]["deterministic_transforms"] + train["validate"]["final_transforms"]
    expected = [strip_labels(step) for step in chain if step["keys"] != "label"]
    assert [strip_labels(step) for step in inference["preprocessing"]["transforms"]] == expected


def strip_labels(step: dict[str, object]) -> dict[str, object]:
    """Return a transform as inference has it: for the image alone, without remarks."""
    kept = {key: value for key, value in step.items() if key not in ("_desc_", "allow_missing_keys")}
    keys = kept["keys"]
    return {**kept, "keys": "image" if isinstance(keys, list) and "image" in keys else keys}


@pytest.mark.parametrize(("device", "sizes"), [("cpu", {1}), ("cuda", {4, 8})])
def test_windows_fit_the_device(bundle: Path, device: str, sizes: set[int]) -> None:
    """On a CPU batches of windows are slower and larger; a GPU is not busy with one."""
    config = load_config(bundle, "inference.json")
    config["device"] = f"$torch.device('{device}')"
    windows = config.get_parsed_content("inferer").inferer.inferer
    if isinstance(windows, SlidingWindowInferer):
        assert windows.sw_batch_size in sizes


def test_a_run_writes_outside_of_its_bundle(bundle: Path) -> None:
    for name, inside in (("train", ""), ("evaluate", "/evaluate"), ("inference", "/predictions")):
        assert read_json(bundle / f"configs/{name}.json")["output_dir"] == f"output/{bundle.name}{inside}"
    assert read_json(bundle / "configs/train.json")["ckpt_dir"] == "$@bundle_root + '/models'"


def test_what_the_suite_knows_of_a_dataset_travels_in_the_bundle() -> None:
    for bundle in BUNDLES:
        manifest = read_json(bundle / "configs/train.json")["manifest"]
        name, copy = MANIFESTS.get(bundle.name.split("_")[0]), bundle / "configs/manifest.json"
        if name is None:
            assert not copy.exists()
            assert (ROOT / manifest).with_suffix(".yaml").is_file(), "the user builds the manifest; its card is there"
        else:
            assert manifest == "$@bundle_root + '/configs/manifest.json'"
            assert copy.read_bytes() == (ROOT / "data_manifests" / name).read_bytes(), "run: make docs"


def test_metadata(bundle: Path) -> None:
    metadata = read_json(bundle / "configs/metadata.json")
    assert metadata["version"] in metadata["changelog"]
    network = read_json(bundle / "configs/train.json")["network_def"]
    (image,) = metadata["network_data_format"]["inputs"].values()
    (pred,) = metadata["network_data_format"]["outputs"].values()
    assert image["num_channels"] == network["in_channels"] == len(image["channel_def"])
    assert pred["num_channels"] == network["out_channels"]
    assert len(image["spatial_shape"]) == network["spatial_dims"]


def test_metadata_pins_are_the_tested_versions(bundle: Path) -> None:
    metadata = read_json(bundle / "configs/metadata.json")
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    pins = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    stated = {name: metadata[key] for name, key in pins.items()} | metadata["required_packages_version"]
    assert stated.pop("monai-segmentation-suite") == __version__
    assert stated == {name: tested[name] for name in stated}, "run: make docs"


def test_metadata_follows_the_schema(bundle: Path) -> None:
    import jsonschema

    schema = ROOT.parent / "shared/schema/meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("MONAI's metadata schema lies beside the repository only where it was put")
    assert hashlib.md5(schema.read_bytes()).hexdigest() == SCHEMA_MD5
    jsonschema.validate(read_json(bundle / "configs/metadata.json"), read_json(schema))


def test_default_bundle_root_is_the_bundle(bundle: Path) -> None:
    for name in COMPLETE:
        assert read_json(bundle / "configs" / name)["bundle_root"] == f"bundles/{bundle.name}"


# Within a family (the first word of the name) bundles are compared with each other, so they differ in this alone.
MAY_DIFFER = {
    "bundle_root",
    "output_dir",
    "batch_size",
    "encoder_factor",
    "encoder_partial",
    "encoder_weights",
    "learning_rate",
    "network_def",
    "optimizer#params",
    # what the encoder's ImageNet weights expect
    "image_mean",
    "image_std",
}
SHARED = ("evaluate", "refine", "losses", "tta", "ensemble")
FAMILIES = sorted({name.split("_")[0] for name in NAMES})


def flatten(item: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """List the leaves of a config by id, but for what may differ in a family."""
    if where in MAY_DIFFER:
        return
    if isinstance(item, dict) and item:
        for key, value in item.items():
            yield from flatten(value, f"{where}#{key}" if where else key)
    elif isinstance(item, list) and item:
        for index, value in enumerate(item):
            yield from flatten(value, f"{where}#{index}")
    else:
        yield where, item


def read_placement(network: str | dict[str, str]) -> str:
    """Return how a network comes to its device; layout of the weights and layers are what is fastest for it."""
    if isinstance(network, dict):
        assert network.keys() == {"_target_", "network"}
        assert network["_target_"] == "pipeline.networks.use_fast_instance_norm"
        network = network["network"]
    return network.replace(", memory_format=torch.channels_last", "")


def read_family_config(bundle: Path, name: str) -> dict[str, Any]:
    config = copy.deepcopy(read_json(bundle / "configs" / name))
    for handlers in (config.get("train", {}).get("handlers", []), config.get("handlers", [])):
        handlers[:] = [item for item in handlers if not item["_target_"].endswith("EncoderWeightsLoader")]
    if "network" in config:
        config["network"] = read_placement(config["network"])
    return dict(flatten(config))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "name", [*COMPLETE, "evaluate.json", "refine.json", "losses.json", "tta.json", "ensemble.json"]
)
def test_bundles_of_a_family_differ_in_their_network_alone(family: str, name: str) -> None:
    members = [path for path in BUNDLES if path.name.split("_")[0] == family]
    first, *others = (read_family_config(path, name) for path in members)
    for path, other in zip(members[1:], others, strict=True):
        differing = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        assert not differing, f"{path.name} against {members[0].name}: {differing}"


def test_the_multi_gpu_override_is_the_same_in_every_bundle(bundle: Path) -> None:
    own, first = (read_json(path / "configs/multi_gpu_train.json") for path in (bundle, BUNDLES[0]))
    # One layout of the weights, and one kind of layers, wherever the network is built.
    for name in COMPLETE:
        assert read_json(bundle / "configs" / name)["network"] == own["network"]["network"]
    for config in (own, first):  # MONAI's UNETR has parameters that it does not use
        assert isinstance(config["network"].pop("find_unused_parameters"), bool)
        assert read_placement(config["network"].pop("network")) == "$@network_def.to(@device)"
    assert own == first


def test_the_tracking_override_is_that_of_new_bundles(bundle: Path) -> None:
    assert (bundle / "configs/swanlab.json").read_text() == render("swanlab.json", {}) + "\n"
    assert (bundle / "configs/logging.conf").read_text() == (
        ROOT / "pipeline/bundle/templates/logging.conf"
    ).read_text()


@pytest.mark.parametrize(
    ("files", "engines"), [(TRAINING, ("train", "validate")), (EVALUATION, ("validate",)), (INFERENCE, ("",))]
)
def test_mlflow_finds_the_engines(bundle: Path, tmp_path: Path, files: tuple[str, ...], engines: tuple[str]) -> None:
    """MONAI adds its handler to lists that it finds by id, and keeps its database in the output folder."""
    values = {"bundle_root": str(bundle), "output_dir": str(tmp_path / "out")}
    names = [str(bundle / "configs" / name) for name in files]
    workflow = ConfigWorkflow(config_file=names, tracking="mlflow", logging_file=False, **values)
    workflow.parser.parse(reset=True)
    for engine in engines:
        place = f"{engine}#handlers".removeprefix("#")
        handlers = workflow.parser[place]
        assert [item["_target_"] for item in handlers].count("MLFlowHandler") == 1, place
        number = next(number for number, item in enumerate(handlers) if item["_target_"] == "MLFlowHandler")
        assert number == len(handlers) - 1, "after TrainingRun, which refuses a folder that is in use"
        uri = workflow.parser.get_parsed_content(f"{place}#{number}#tracking_uri")
        assert uri == f"sqlite:///{tmp_path}/out/mlruns.db"
        assert not workflow.parser.get_parsed_content(f"{place}#{number}#_disabled_")


def test_a_drift_would_be_noticed(tmp_path: Path) -> None:
    config = read_json(BUNDLES[0] / "configs/train.json")
    changed = copy.deepcopy(config)
    changed["optimizer"]["weight_decay"] = 0.5
    changed["network_def"]["out_channels"] = 7
    left, right = dict(flatten(config)), dict(flatten(changed))
    assert [key for key in left if left[key] != right[key]] == ["optimizer#weight_decay"]


def test_the_experiments_of_the_suite_are_there() -> None:
    assert len(BUNDLES) >= 11


def test_no_python_of_the_package_names_a_bundle() -> None:
    # The commands' help shows examples to copy, and those need a name.
    files = [path for path in ROOT.glob("pipeline/**/*.py") if path.parent.name != "commands"]
    assert len(files) > 100
    named = [(path.name, name) for path in files for name in NAMES if name in path.read_text(encoding="utf-8")]
    assert not named


def read_target(step: dict[str, Any]) -> str:
    return str(step["_target_"]).rpartition(".")[2]


@pytest.mark.parametrize("override", ["paper.json", "origin.json"])
def test_the_network_of_2015_is_an_override_away(override: str) -> None:
    configs = ROOT / "bundles/u373_unet/configs"
    config = ConfigParser()
    config.read_config([configs / "train.json", configs / override])
    network = config.get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_593
    assert network.drop.p == 0.5


def test_clients_find_their_keys_in_the_inference_config(bundle: Path) -> None:
    """What MONAI Label (monaibundle) and the Deploy SDK read, from one file, without the metadata merged in."""
    text = read_json(bundle / "configs/inference.json")
    for key in ("device", "network_def", "network", "inferer", "preprocessing", "postprocessing", "dataset"):
        assert key in text, key
    assert text["preprocessing"]["_target_"] == text["postprocessing"]["_target_"] == "Compose"
    first = text["preprocessing"]["transforms"][0]
    assert read_target(first).startswith("Load"), "Deploy removes loading and saving by these first letters"
    config = ConfigParser(text)
    names = [type(step).__name__ for step in config.get_parsed_content("postprocessing").transforms]
    assert names[-1].startswith("Save")
    # Deploy would take the loading of the CRF's image away, too: an app without files has no CRF.
    assert not [name for name in names if name.startswith("Load")]
    assert not [where for where, value in list_texts(text) if "_meta_" in value]
    keys = [step["keys"] for step in text["preprocessing"]["transforms"]]
    assert set(map(str, keys)) == {"image"}, "Label gives an image and nothing else"
    labels = read_json(bundle / "configs/metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(map(int, labels)) == list(range(len(labels)))
    assert labels["0"] == "background"

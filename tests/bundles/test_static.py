"""What can be said of a bundle without running it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties

from tests.bundles.conftest import ROOT, read_json
from tests.bundles.expressions import find_faults, find_references, list_texts

TRAIN_KNOBS = [
    "dataset_dir",
    "manifest",
    "fold",
    "output_dir",
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


def test_json_is_laid_out_as_the_model_zoo_does(bundle: Path) -> None:
    import json

    for path in bundle.glob("configs/*.json"):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n", path.name


def test_knobs_come_first_and_carry_the_common_names(bundle: Path) -> None:
    train = list(read_json(bundle / "configs/train.json"))
    assert train[:2] == ["imports", "bundle_root"]
    assert train[2 : 2 + len(TRAIN_KNOBS)] == TRAIN_KNOBS
    inference = list(read_json(bundle / "configs/inference.json"))
    assert inference[2 : 2 + len(INFERENCE_KNOBS)] == INFERENCE_KNOBS


def test_expressions_are_few_and_plain(bundle: Path) -> None:
    for path in bundle.glob("configs/*.json"):
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


def test_overrides_change_only_what_exists(bundle: Path) -> None:
    base = load_config(bundle, "train.json")
    new = {"_desc_", "split", "checkpoint"}
    for key in read_json(bundle / "configs/evaluate.json"):
        assert key in new or key in base or key.rsplit("#", 1)[0] in base, key


def test_required_properties_of_monai(bundle: Path) -> None:
    for name, properties in (("train.json", TrainProperties), ("inference.json", InferProperties)):
        config = load_config(bundle, name)
        for prop, rule in {**properties, **MetaProperties}.items():
            if prop in ("train_postprocessing", "train_key_metric", "key_metric"):
                continue  # optional and not used: patches are scored in validation alone
            assert rule["id"].replace("::", "#") in config or rule["id"] in config, f"{name}: {prop} ({rule['id']})"


def test_inference_and_training_agree(bundle: Path) -> None:
    train, inference = (read_json(bundle / "configs" / name) for name in COMPLETE)
    assert inference["network_def"] == train["network_def"]
    assert inference["inferer"] == train["validate"]["inferer"]
    # A training validates often, so it may leave out what only evaluation and inference do.
    scored = {**train, **read_json(bundle / "configs/evaluate.json")}
    for knob in ("flips", "skip_largest_component", "threshold"):
        assert inference[knob] == scored[knob], knob
    chain = train["train"]["deterministic_transforms"] + train["validate"]["final_transforms"]
    expected = [strip_labels(step) for step in chain if step["keys"] != "label"]
    assert [strip_labels(step) for step in inference["preprocessing"]["transforms"]] == expected


def strip_labels(step: dict[str, object]) -> dict[str, object]:
    """Return a transform as inference has it: for the image alone, without remarks."""
    kept = {key: value for key, value in step.items() if key not in ("_desc_", "allow_missing_keys")}
    keys = kept["keys"]
    return {**kept, "keys": "image" if isinstance(keys, list) and "image" in keys else keys}


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
    assert stated == {name: tested[name] for name in stated}


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

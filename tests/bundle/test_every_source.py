"""Whatever bundle is the source: what comes out obeys the rules that the suite's own bundles obey."""

from __future__ import annotations

import fnmatch
import functools
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.bundle.configs import find_blocks, list_texts
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.kinds import TEMPLATES, Kind, find_kind, is_fit
from pipeline.bundle.new import create_bundle
from pipeline.bundle.recipe import read_source, read_template
from pipeline.runs.reliability import ALL_METRICS, BAND_METRICS, DOUBT
from tests.bundle.conftest import ROOT, read_json
from tests.bundles import test_postprocessing, test_static
from tests.bundles.conftest import BUNDLES as SUITE

KINDS = {
    "grey": Kind("pictures"),
    "colour": Kind("pictures"),
    "volumes": Kind("volumes"),
    "cells": Kind("pictures", objects=True),
}
SOURCES = {bundle: find_kind(read_json(bundle / "configs/train.json")) for bundle in SUITE}
PAIRS: list[tuple[Path | str, str]] = [
    (start, name)
    for start, kind in [*SOURCES.items(), *TEMPLATES.items()]
    for name, data in KINDS.items()
    if is_fit(kind, data)
]
# The bundles whose configs the templates equal.
MODELS = {"pictures": "isic_unet", "stacks": "lgg_attunet", "volumes": "hippocampus_segresnet", "objects": "u373_unet"}


def list_rules() -> Iterator[Callable[[Path], None]]:
    """List the tests of a bundle's files that need nothing but the bundle."""
    for module in (test_static, test_postprocessing):
        for name, rule in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and list(inspect.signature(rule).parameters) == ["bundle"]:
                yield rule


@functools.cache
def find_broken(bundle: Path) -> frozenset[str]:
    broken = set()
    for rule in list_rules():
        try:
            rule(bundle)
        except pytest.skip.Exception:
            continue  # the rule needs a file that is not on every machine
        except (AssertionError, KeyError):
            broken.add(rule.__name__)
    return frozenset(broken)


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: f"{getattr(pair[0], 'name', pair[0])}-{pair[1]}")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, UserDataset]:
    """A source, the bundle made of it, and its dataset."""
    start, name = request.param
    recipe = read_template(start) if isinstance(start, str) else read_source(start)
    source = ROOT / "bundles" / MODELS[start] if isinstance(start, str) else start
    dataset: UserDataset = request.getfixturevalue(name)
    output = tmp_path_factory.mktemp("made") / "bundles"
    return source, create_bundle("fresh", recipe, dataset, output, rehearse=False).path, dataset


def count_outputs(bundle: Path) -> int:
    outputs: int = read_json(bundle / "configs/train.json")["network_def"]["out_channels"]
    return outputs


def test_the_rules_of_the_suite_hold(made: tuple[Path, Path, UserDataset]) -> None:
    source, bundle, _ = made
    # A rule that the suite's own bundles of such outputs do not obey is none.
    several = count_outputs(bundle) > 1
    # The recipe of the source's origin is of no use to other data; the suite asks for one of every bundle.
    (bundle / "configs/origin.json").write_text("{}\n")
    alike = [source, *(path for path in SOURCES if several and count_outputs(path) > 1)]
    try:
        assert find_broken(bundle) <= frozenset().union(*map(find_broken, alike))
    finally:
        (bundle / "configs/origin.json").unlink()
    assert len(list(list_rules())) > 11


def test_the_origins_recipe_is_not_taken_over(made: tuple[Path, Path, UserDataset]) -> None:
    source, bundle, _ = made
    assert (source / "configs/origin.json").exists()
    assert not (bundle / "configs/origin.json").exists()


def test_nothing_of_the_source_is_left(made: tuple[Path, Path, UserDataset]) -> None:
    source, bundle, dataset = made
    old = read_json(source / "configs/train.json")
    places = {f"bundles/{source.name}", Path(old["dataset_dir"]).name, old["manifest"].rpartition("/")[2].rstrip("'")}
    assert not (bundle / "models").exists()
    assert not (bundle / "large_files.yml").exists()
    for path in bundle.glob("configs/*.json"):
        data = read_json(path)
        data.pop("changelog", None)  # it says where the bundle comes from
        for where, text in list_texts(data):
            assert not [place for place in places if place in text], f"{path.name} {where}: {text}"
            remark = where.endswith("_desc_")
            assert not (remark and ("patient" in text or "data set" in text)), f"{path.name} {where}: {text}"
    metadata = read_json(bundle / "configs/metadata.json")
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        str(label): name for label, name in enumerate(dataset.labels)
    }
    channels = next(iter(metadata["network_data_format"]["inputs"].values()))["num_channels"]
    assert channels % len(dataset.channels) == 0


def test_losses_metrics_and_sampling_know_the_labels(made: tuple[Path, Path, UserDataset]) -> None:
    _, bundle, dataset = made
    files = {path.name: read_json(path) for path in bundle.glob("configs/*.json") if path.name != "metadata.json"}
    labels = len(dataset.labels)
    outputs: int = files["train.json"]["network_def"]["out_channels"]
    assert outputs == (labels if outputs > 1 else 1)
    if dataset.kind.objects:
        return
    by_label = ("LabelDice", "LabelIoU", "PooledDice", "SurfaceDice", "HausdorffDistance95", "CaseCount")
    for block in find_blocks(files, *by_label):
        scored = block.get("labels", [1])
        assert set(scored if isinstance(scored, list) else [scored]) <= set(range(1, labels)), block
    (key,) = files["train.json"]["validate"]["key_metric"].values()
    if outputs > 1:
        assert key["metric_fn"]["labels"] == list(range(1, labels))
        assert not [text for text in json.dumps(files).split('"') if text in ("sigmoid", "@threshold")]
    names = set(files["train.json"]["validate"]["key_metric"]) | set(
        files["train.json"]["validate"]["additional_metrics"]
    )
    names |= {key.removeprefix("validate#additional_metrics#") for key in files["evaluate.json"]}
    for block in find_blocks(files, "CaseMetricsSaver"):
        measured = {*BAND_METRICS, *ALL_METRICS, DOUBT}
        assert all(fnmatch.filter(names | measured, pattern) for pattern in block["metric_details"])

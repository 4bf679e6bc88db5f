"""A repository in which documented commands run in seconds: small networks, and phantoms where the datasets would lie.

The commands are run as they are printed. What differs is the folder that they run in:

* ``bundles`` and ``data_manifests`` are copies. What `phantom.json` sets is set in every config, and a training is one
  epoch long. Weights that a bundle ships are replaced by random ones of its small network.
* ``data`` holds phantoms under the names of the real datasets, ``data_manifests`` their manifests; ``my_data`` and
  ``new_images`` stand for a user's pictures.
* ``pipeline tune`` tries two CRFs, with 100 resamples.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import monai.bundle
import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image

from pipeline.bundle.config_files import list_configs
from pipeline.commands.cli import main
from pipeline.datasets.phantoms import (
    write_cells_phantom,
    write_coco_phantom,
    write_hippocampus_phantom,
    write_isic_phantom,
    write_lgg_phantom,
)
from tests.docs.commands import FOREIGN, MONAI, PYTHON, find_bundle_run
from tests.docs.generated import copy_manifests
from tests.docs.markdown import ROOT, Block

# Of bundles that a command makes, which have no phantom.json.
SMALL = {"image_size": [64, 64], "batch_size": 2, "cache_rate": 0.0}
SHORT = {"max_epochs": 1, "val_interval": 1}
TUNE = ["--candidates", "2", "--resamples", "100"]
# Commands that are run again in every document; the others refuse to overwrite their results, and are run once.
REPEATED = ("build", "split", "check")
PATIENT = "TCGA_CS_4941_19960909"


class Sandbox:
    """A folder in which commands are run as if it were the repository.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: set[tuple[str, ...]] = set()
        self._small: set[Path] = set()
        self._documents: set[str] = set()
        shutil.copytree(ROOT / "data_manifests", folder / "data_manifests")
        shutil.copytree(ROOT / "bundles", folder / "bundles", ignore=shutil.ignore_patterns("output", "model.pt"))
        self.shrink_bundles()
        write_datasets(folder)
        write_own_pictures(folder)
        for bundle in ROOT.glob("bundles/*/models/model.pt"):
            _write_random_weights(folder / "bundles" / bundle.parents[1].name)

    def shrink_bundles(self) -> None:
        """Make the networks and trainings of all bundles small that are not yet."""
        for bundle in sorted((self.folder / "bundles").iterdir()):
            if bundle not in self._small:
                shrink(bundle)
                self._small.add(bundle)

    def run(self, block: Block) -> None:
        """Run a block in this process; of most commands that stand in several documents only the first is run."""
        with contextlib.chdir(self.folder):
            if block.language == "python":
                exec(compile(block.text, block.name, "exec"), make_names())
                return
            for words in block.list_commands():
                if tuple(words) not in self._done or words[3:5] in [["dataset", verb] for verb in REPEATED]:
                    run_command(words)
                    self._done.add(tuple(words))
                    self.shrink_bundles()


def run_command(words: Sequence[str]) -> None:
    """Run a command in this process.

    Raises:
        AssertionError: it failed.
        InputError: a configured run was refused.
    """
    options = find_bundle_run(words)
    if options is not None:
        # The parser of `python -m monai.bundle`; its logging configuration would undo that of the tests.
        fire.Fire({"run": monai.bundle.run}, ["run", *options, "--logging_file", "False"])
    elif list(words[:3]) == [*PYTHON, "monai.bundle"]:
        fire.Fire({name: getattr(monai.bundle, name) for name in MONAI}, list(words[3:]))
    elif list(words[:3]) == [*PYTHON, "pipeline"]:
        extra = TUNE if words[3] == "tune" else []
        if words[4] == "build" or (words[4] == "split" and "-o" in words):
            extra = ["--overwrite"]  # the manifests of the phantoms are there already
        assert main([*words[3:], *extra]) == 0, words
    else:
        assert words[0] in FOREIGN, words


def shrink(bundle: Path) -> None:
    """Set what ``phantom.json`` sets in every config of a bundle."""
    configs = bundle / "configs"
    phantom = configs / "phantom.json"
    small = {**(json.loads(phantom.read_text()) if phantom.is_file() else SMALL), **SHORT}
    small.pop("_desc_", None)
    for path in list_configs(configs):
        if path.name not in ("metadata.json", "phantom.json"):
            config = json.loads(path.read_text())
            complete = path.name in ("train.json", "inference.json")
            changed = set_values(config, small) if complete else {k: v for k, v in config.items() if k not in small}
            path.write_text(json.dumps(changed, indent=4))


def set_values(config: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Set ids of a config that exist in it, nested ones with ``#``."""
    parser = ConfigParser(config)
    for key, value in values.items():
        if key in parser or ("#" in key and key.rpartition("#")[0] in parser):
            parser[key] = value
    return dict(parser.get())


def write_datasets(folder: Path) -> None:
    """Write phantoms under the names and with the manifests of the real datasets."""
    manifests = folder / "data_manifests"
    places = {
        "kaggle_3m": (write_lgg_phantom, {"patients": 10, "size": 64}, "kaggle_3m", "lgg.json"),
        "isic2018": (write_isic_phantom, {"images": 8, "size": 96}, "isic2018", "isic2018.json"),
        "u373": (write_cells_phantom, {"frames": 12, "size": 96}, "u373/PhC-C2DH-U373", "u373_time.json"),
        "hippocampus": (
            write_hippocampus_phantom,
            {"cases": 12, "size": 32},
            "hippocampus/Task04_Hippocampus",
            "hippocampus.json",
        ),
        "braintumor": (write_coco_phantom, {"images": 12, "size": 64}, "braintumor", "braintumor.json"),
    }
    for name, (write, options, target, manifest) in places.items():
        source = folder / "phantoms" / name
        written: Path = write(source, **options)  # type: ignore[operator]
        (data,) = (path for path in source.iterdir() if path.is_dir())
        (folder / "data" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(data, folder / "data" / target)
        silver = source / "manifest_silver.json"
        shutil.copy(silver if silver.is_file() else written, manifests / manifest)
    copy_manifests(folder)
    _add_patient(folder / "data/kaggle_3m")
    shutil.copytree(folder / "data/hippocampus/Task04_Hippocampus/imagesTr", folder / "new_volumes")


def _add_patient(root: Path) -> None:
    """Copy the images of a patient under the name of a real one."""
    source = sorted(path for path in root.iterdir() if path.is_dir())[0]
    target = root.parent / PATIENT
    target.mkdir()
    for path in source.iterdir():
        if "_mask" not in path.name:
            shutil.copy(path, target / path.name.replace(source.name, PATIENT))
    shutil.move(target, root / PATIENT)


def write_own_pictures(folder: Path) -> None:
    """Write what a user might bring: grey pictures, their masks, and pictures without masks."""
    rows, columns = np.mgrid[:48, :56]
    for index in range(10):
        rng = np.random.default_rng(index)
        picture, mask = rng.normal(60, 12, rows.shape), np.zeros(rows.shape, np.uint8)
        for label in (1, 2):
            inside = np.hypot(rows - rng.integers(10, 38), columns - rng.integers(10, 46)) < 7
            picture[inside] += 50 * label
            mask[inside] = label
        name = f"p{index // 2}_{index % 2}.png"
        for place, array in (("my_data/images", picture.clip(0, 255)), ("my_data/masks", mask)):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(folder / place / name)
    shutil.copytree(folder / "my_data/images", folder / "new_images")


def _write_random_weights(bundle: Path) -> None:
    config = ConfigParser(json.loads((bundle / "configs/inference.json").read_text()))
    network = config.get_parsed_content("network_def")
    (bundle / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), bundle / "models/model.pt")


def make_names() -> dict[str, Any]:
    """Return the names that examples in Python take as given: probabilities and an image."""
    from tests.crf.scenes import make_scene

    prob, image = make_scene((20, 24), 2)
    return {"prob": prob, "image": image}


@contextlib.contextmanager
def use_environment(folder: Path) -> Iterator[dict[str, str]]:
    """Yield an environment whose ``python`` and ``torchrun`` are those of the tests."""
    import sys

    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "torchrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    yield {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

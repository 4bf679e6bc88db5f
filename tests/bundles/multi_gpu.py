"""A bundle's training made exactly repeatable, however many processes share it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser, run
from monai.data.utils import list_data_collate, set_rnd

from pipeline.transforms import AugmentBatch
from tests.bundles.running import EXACT, configs

#: An order of the samples that one process has in common with several.
ORDER = {
    "train#sampler": {
        "_target_": "DistributedSampler",
        "dataset": "@train#dataset",
        "num_replicas": 1,
        "rank": 0,
        "seed": "@seed",
    },
    "train#dataloader#sampler": "@train#sampler",
    "train#dataloader#shuffle": False,
}
CASES = 3
DOUBLE = "$@network_def.to(@device).double()"


class DoubleSamples(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The first samples of a dataset, in double precision."""

    def __init__(self, dataset: Any, limit: int) -> None:
        self.dataset = dataset
        self.limit = limit

    def __len__(self) -> int:
        return min(len(self.dataset), self.limit)

    def __getitem__(self, index: int) -> Any:
        return widen(self.dataset[index])


class RepeatableSamples(DoubleSamples):
    """Samples augmented by random numbers of their own, whichever process loads them; an even number."""

    def __init__(self, dataset: Any, limit: int, augment: AugmentBatch) -> None:
        super().__init__(dataset, limit)
        self.augment = augment

    def __len__(self) -> int:
        return super().__len__() // 2 * 2

    def __getitem__(self, index: int) -> Any:
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        set_rnd(self.dataset, index)
        set_rnd(self.augment, index)
        random.seed(index)
        np.random.seed(index)
        torch.manual_seed(index)
        sample = list_data_collate([self.dataset[index]])
        image, label = self.augment(sample, "cpu")
        sample = widen({"case_id": sample["case_id"][0], "image": image[0], "label": label[0]})
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        return sample


def make_repeatable(bundle: Path, data: dict[str, str]) -> dict[str, Any]:
    """Return the overrides that take chance and rounding out of a bundle's training on its phantom.

    No dropout, which draws by process. Plain gradient descent, for Adam divides a gradient of the wrong size by itself.
    Double precision: in single, BatchNorm over few pixels makes a tenth of a step of a rounding error, in six steps.
    Three steps an epoch, and validation on three training cases: one process gets more of them than the other.
    """
    parser = ConfigParser()
    parser.read_config(configs(bundle, "train.json", "phantom.json"))
    config = parser.get()
    validation = config["validate"]["dataset"]
    validation["data"]["split"] = "train"
    return {
        **EXACT,
        **data,
        "bundle_root": str(bundle),
        "num_workers": 0,
        "network_def": drop_dropout(config["network_def"]),
        "optimizer": {
            "_target_": "torch.optim.SGD",
            "params": config["optimizer"]["params"],
            "lr": "@learning_rate",
        },
        "learning_rate": 0.02,
        "train#inferer": {"_target_": "SimpleInferer"},
        "val_interval": 2,
        "train#dataset": {
            "_target_": f"{__name__}.RepeatableSamples",
            "dataset": config["train"]["dataset"],
            "limit": 3 * config["batch_size"],
            "augment": config["train"]["trainer"]["prepare_batch"],
        },
        "train#trainer#prepare_batch": {"_target_": "monai.engines.default_prepare_batch", "_mode_": "callable"},
        "validate#dataset": {"_target_": f"{__name__}.DoubleSamples", "dataset": validation, "limit": CASES},
    }


def widen(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: widen(value) for key, value in item.items()}
    if isinstance(item, list):
        return [widen(value) for value in item]
    return item.double() if isinstance(item, torch.Tensor) and item.is_floating_point() else item


def drop_dropout(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: 0.0 if key.startswith("drop") else drop_dropout(value) for key, value in item.items()}
    return [drop_dropout(value) for value in item] if isinstance(item, list) else item


def train_alone(bundle: Path, overrides: dict[str, Any], output_dir: Path) -> None:
    files = configs(bundle, "train.json", "phantom.json")
    run(config_file=files, **overrides, **ORDER, network=DOUBLE, output_dir=str(output_dir))


def train_together(bundle: Path, overrides: dict[str, Any], output_dir: Path) -> None:
    """Do one process's part."""
    files = configs(bundle, "train.json", "phantom.json", "multi_gpu_train.json")
    run(config_file=files, **overrides, **{"network#network": DOUBLE}, output_dir=str(output_dir))


def evaluate_together(bundle: Path, overrides: dict[str, Any], trained: Path, output_dir: Path) -> None:
    """Do one process's part of an evaluation."""
    files = configs(bundle, "train.json", "evaluate.json", "phantom.json", "multi_gpu_train.json")
    checkpoint = str(trained / "model.pt")
    run(
        config_file=files, **{**overrides, "network#network": DOUBLE}, checkpoint=checkpoint, output_dir=str(output_dir)
    )

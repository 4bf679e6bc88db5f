"""What a ``CacheDataset`` holds, as hashes, to see whether anything has changed it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, MetaTensor
from monai.data.utils import set_rnd

from pipeline.transforms import AugmentBatch

# Sides that are enough for the random steps, and margins that fit them.
SMALL = {"image_size": 24, "roi_size": 24, "input_size": 24, "output_size": 8}
SETTINGS = {"margin": 8, "check": False}


def describe(item: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """List every value of a cached item with its place: pixels, meta data, applied operations, indices of classes."""
    if isinstance(item, torch.Tensor):
        yield from describe(item.detach().as_subclass(torch.Tensor).numpy(), where)
        if isinstance(item, MetaTensor):
            yield from describe(vars(item), f"{where}.")
    elif isinstance(item, np.ndarray) and item.dtype != object:
        yield where, f"{item.dtype} {item.shape} {hashlib.sha256(np.ascontiguousarray(item).tobytes()).hexdigest()}"
    elif isinstance(item, dict | list | tuple):
        yield where, f"{type(item).__name__} of {len(item)}"
        for key, value in item.items() if isinstance(item, dict) else enumerate(item):
            yield from describe(value, f"{where}/{key}")
    else:
        yield where, repr(item)


class Watch:
    """Say which places of some cached items differ from what they were."""

    def __init__(self, items: Any) -> None:
        self._items, self._before = items, dict(describe(items))

    def list_changes(self) -> list[str]:
        """List the places, at most five."""
        now = dict(describe(self._items))
        places = now.keys() | self._before.keys()
        return sorted(place for place in places if now.get(place) != self._before.get(place))[:5]


def read_training(bundle: Path, settings: dict[str, Any]) -> ConfigParser:
    """Read a bundle's training on small crops of its phantom."""
    config = ConfigParser()
    config.read_config([str(bundle / "configs" / name) for name in ("train.json", "phantom.json")])
    small = {name: [min(side, most) for side in config[name]] for name, most in SMALL.items() if name in config}
    config.update({**small, **{name: value for name, value in SETTINGS.items() if name in config}})
    config.update({**settings, "train#dataset#progress": False})
    return config


def find_rot(config: ConfigParser, epochs: int) -> list[str]:
    """Take the first case once an epoch as a training does; return what of the cache has changed at the end.

    The augmentation gets the item itself, not the copy of it that a loader puts into a batch.
    """
    dataset = config.get_parsed_content("train#dataset")
    augment = config.get_parsed_content("train#trainer#prepare_batch")
    assert isinstance(dataset, CacheDataset)
    assert isinstance(augment, AugmentBatch)
    watch = Watch(dataset._cache)
    for epoch in range(epochs):
        set_rnd(dataset, epoch)
        set_rnd(augment, epoch)
        item = dataset[0]
        item = item[0] if isinstance(item, list) else item
        augment({key: value[None] for key, value in item.items() if isinstance(value, torch.Tensor)}, "cpu")
    return watch.list_changes()


def find_writers(config: ConfigParser) -> dict[str, list[str]]:
    """Let each random step act alone, always; return what the steps change that change something cached.

    A step reaches the cached pixels only if no step before it has made a copy, which is rare.
    """
    chosen = [step for step in config["train#augmentation"] if "prob" in step]
    assert len(chosen) > 3
    found = {}
    for one in chosen:
        for step in chosen:
            step["prob"] = float(step is one)
        config.parse(reset=True)
        if changes := find_rot(config, epochs=2):
            found[one["_target_"]] = changes
    return found

"""Time of one training case from the cache: never copied, copied by MONAI, or copied as the bundle says.

A cache whose items are never copied is changed by what trains on it; it is here as the lower limit. Every bundle runs
at its own image size on a phantom, in turns, with one thread and the same random draws; seconds of the processor count,
for the machine may be busy, and the best of the repetitions. A stack of the LGG phantom is made as deep as the real
ones.

Example:
    python benchmarks/cached_items.py --bundles isic_unet lgg_unet --json cached.json
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset
from records import Row, build_record, write_record

from pipeline.datasets import phantoms
from pipeline.datasets.layouts import LAYOUTS

ROOT = Path(__file__).resolve().parents[1]
# Files of the real sizes.
SIZES: dict[str, dict[str, int]] = {
    "isic_unet": {"images": 8, "size": 400},
    "braintumor_unet": {"images": 12, "size": 640},
    "lgg_unet": {"patients": 5, "size": 256},
    "hippocampus_segresnet": {"cases": 8, "size": 48},
    "u373_unet": {"frames": 8, "size": 520},
}
DEEPER = {"lgg_unet": 3}  # the phantom's patients have 8 to 20 slices, the real ones 20 to 88
COMPOSE = {"_target_": "Compose"}
VARIANTS: dict[str, dict[str, Any]] = {
    "never copied": {"copy_cache": False, "preprocessing": COMPOSE},
    "copied by MONAI": {"copy_cache": True, "preprocessing": COMPOSE},
    "as the bundle says": {},
}


def write_phantom(bundle: Path, folder: Path, sizes: dict[str, int]) -> dict[str, str]:
    """Write a bundle's phantom; return the settings that point to it."""
    phantom = json.loads((bundle / "configs/metadata.json").read_text())["phantom"]
    write = getattr(phantoms, LAYOUTS[phantom["layout"]].phantom)
    manifest: Path = write(folder, **{**phantom["options"], **sizes})
    (root,) = (path for path in folder.iterdir() if path.is_dir())
    return {"dataset_dir": str(root), "manifest": str(manifest.with_name(phantom.get("manifest", manifest.name)))}


def build_dataset(bundle: Path, data: dict[str, str], variant: dict[str, Any]) -> CacheDataset:
    """Build the training's dataset with the cache filled."""
    config = ConfigParser()
    config.read_config(str(bundle / "configs/train.json"))
    config.update({"bundle_root": str(bundle), **data, "train#dataset#progress": False})
    if variant:
        config["train#dataset#copy_cache"] = variant["copy_cache"]
        config["train#preprocessing"] = {**config["train#preprocessing"], **variant["preprocessing"]}
    dataset: CacheDataset = config.get_parsed_content("train#dataset")
    for item in dataset._cache if bundle.name in DEEPER else ():
        for key in ("image", "label"):
            item[key] = item[key].repeat(1, 1, 1, DEEPER[bundle.name])
    return dataset


def measure(dataset: CacheDataset, seed: int, seconds: float) -> float:
    """Return milliseconds of the processor for one case."""
    dataset.transform.set_random_state(seed=seed)
    start, count = time.process_time(), 0
    while count < len(dataset._cache) or time.process_time() - start < seconds:
        dataset[count % len(dataset._cache)]
        count += 1
    return (time.process_time() - start) / count * 1000


def compare(bundle: Path, repetitions: int, seconds: float) -> dict[str, float]:
    """Measure the variants of one bundle in turns."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_phantom(bundle, Path(folder), SIZES[bundle.name])
        datasets = {name: build_dataset(bundle, data, variant) for name, variant in VARIANTS.items()}
        times = [
            {name: measure(dataset, seed, seconds) for name, dataset in datasets.items()} for seed in range(repetitions)
        ]
    return {name: round(min(one[name] for one in times), 2) for name in VARIANTS}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {}
    for name in arguments.bundles:
        result[name] = compare(ROOT / "bundles" / name, arguments.repetitions, arguments.seconds)
        print(f"{name:24}", "  ".join(f"{what}: {number:8.2f} ms" for what, number in result[name].items()), flush=True)
    rows = [
        Row(name, peer, numbers[peer], numbers["as the bundle says"], accuracy="same random draws", note=note)
        for name, numbers in result.items()
        for peer, note in (("copied by MONAI", ""), ("never copied", "the lower limit: training changes such a cache"))
    ]
    title, unit = "A training case from the cache", "ms of processor time a case, best of the repetitions"
    write_record(arguments.json, build_record("cached_items", title, unit, rows))


if __name__ == "__main__":
    main()

"""An epoch of a training with the workers that ``num_workers`` ``auto`` chooses, beside other numbers of workers.

The data, transforms, network and loss are those of a bundle, with the small network of its ``phantom.json``; the cases
are cached. Seconds are those of the clock, because workers are processes of their own; epochs in turns, medians. The
network has one thread, so that workers take no core from it, which favours them. The note tells when the first batch
is there: workers start anew in each epoch.

Example:
    python -m pipeline dataset phantom lgg phantom --patients 40 --size 64
    python benchmarks/workers.py phantom/kaggle_3m --manifest phantom/manifest.json --json docs/benchmarks/workers.json
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from clocks import DEVICE, Turns
from monai.bundle import ConfigParser
from records import Row, build_record, write_record

from pipeline.parallel.workers import fit_workers

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("train#dataloader", "train#trainer#prepare_batch", "network", "loss", "optimizer")


def build(bundle: str, workers: int, changes: dict[str, Any]) -> tuple[Any, ...]:
    """Return `PARTS` of a bundle's training."""
    folder = ROOT / "bundles" / bundle
    config = ConfigParser()
    config.read_config([str(folder / "configs" / name) for name in ("train.json", "phantom.json")])
    config.update({"bundle_root": str(folder), "device": str(DEVICE), "num_workers": workers, **changes})
    return tuple(config.get_parsed_content(name) for name in PARTS)


def run_epoch(loader: Any, prepare: Any, network: Any, loss: Any, optimizer: Any) -> tuple[float, float]:
    """Return the seconds until the first batch, and those of the whole epoch."""
    began, first = time.perf_counter(), 0.0
    for batch in loader:
        first = first or time.perf_counter() - began
        image, label = prepare(batch, DEVICE, False)
        value = loss(network(image), label)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return first, time.perf_counter() - began


def measure(parts: dict[int, tuple[Any, ...]], epochs: int) -> dict[int, list[tuple[float, float]]]:
    """Return what `run_epoch` gives for each number of workers; the first round warms up and does not count."""
    times: dict[int, list[tuple[float, float]]] = {number: [] for number in parts}
    for turn in range(epochs + 1):
        for number in parts if turn % 2 else reversed(parts):
            times[number].append(run_epoch(*parts[number]))
    return {number: found[1:] for number, found in times.items()}


def compare(bundle: str, times: dict[int, list[tuple[float, float]]], own: int) -> list[Row]:
    """Return a row for each other number of workers."""
    turns = Turns({str(number): [whole for _, whole in found] for number, found in times.items()})
    first = {number: statistics.median(begin for begin, _ in found) for number, found in times.items()}
    rows = []
    for number in times:
        if number != own:
            ratio, spread = turns.ratio(str(number), str(own))
            rows.append(
                Row(
                    what=f"an epoch of {bundle} on its phantom, auto ({own} workers)",
                    peer=f"num_workers {number}",
                    peer_value=turns.median(str(number)),
                    ours=turns.median(str(own)),
                    ratio=ratio,
                    spread=spread,
                    accuracy="same data, transforms and network",
                    note=f"first batch after {first[own]:.2f} s, with num_workers {number} after {first[number]:.2f} s",
                )
            )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_dir", help="folder of the data, or of a phantom")
    parser.add_argument("--manifest", help="manifest of the data, if it is not that of the bundle")
    parser.add_argument("--bundle", default="lgg_attunet", help="name of a bundle (default: lgg_attunet)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers beside auto (default: 1 2)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each (default: 5)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    changes = {"dataset_dir": arguments.dataset_dir}
    if arguments.manifest:
        changes["manifest"] = arguments.manifest
    own = fit_workers("auto", DEVICE)
    numbers = dict.fromkeys([own, *arguments.workers])
    times = measure({number: build(arguments.bundle, number, changes) for number in numbers}, arguments.epochs)
    rows = compare(arguments.bundle, times, own)
    for row in rows:
        print(f"{row.peer}: {row.peer_value:.2f} s, {row.what}: {row.ours:.2f} s, ratio {row.ratio:.2f} ({row.note})")
    record = build_record("workers", "Workers of the loader", "s", rows)
    write_record(arguments.json, record)


if __name__ == "__main__":
    main()

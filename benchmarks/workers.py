"""What the workers of a loader cost and bring: their restart in each epoch, and the time of an epoch.

The training part of a bundle's own data (``lgg_attunet`` on its phantom): cached cases, random transforms, batches. The
restart is the time of the clock until the first batch of a new epoch is there, beyond that of a batch loaded by the
process itself. The epoch is loading and training together, the network with all cores; the clock, the median of the
epochs after the first, workers in turns.

Example:
    python benchmarks/workers.py --dataset_dir data/kaggle_3m --json workers.json
"""

import argparse
import json
import os
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(bundle: str, workers: int, changes: dict[str, Any]) -> tuple[Any, ...]:
    """Return loader, network, loss and optimizer of a bundle."""
    folder = ROOT / "bundles" / bundle
    config = ConfigParser()
    config.read_config([str(folder / "configs" / name) for name in ("train.json", "phantom.json")])
    config.update(
        {"bundle_root": str(folder), "device": str(DEVICE), "num_workers": workers, "check": False, **changes}
    )
    return tuple(config.get_parsed_content(name) for name in ("train#dataloader", "network", "loss", "optimizer"))


def run_epoch(loader: Any, network: Any, loss: Any, optimizer: Any) -> tuple[float, float]:
    """Return seconds until the first batch, and those of the whole epoch."""
    began = time.perf_counter()
    first = 0.0
    for batch in loader:
        first = first or time.perf_counter() - began
        image, label = batch["image"].to(DEVICE), batch["label"].to(DEVICE)
        value = loss(network(image), label)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return first, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="lgg_attunet", help="name of a bundle (default: lgg_attunet)")
    parser.add_argument("--dataset_dir", required=True, help="folder of its data, or of a phantom")
    parser.add_argument("--manifest", help="manifest of the data, if it is not that of the bundle")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers (default: 0 1 2)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each (default: 5)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    changes = {"dataset_dir": arguments.dataset_dir}
    if arguments.manifest:
        changes["manifest"] = arguments.manifest
    parts = {number: build(arguments.bundle, number, changes) for number in arguments.workers}
    times: dict[int, list[tuple[float, float]]] = {number: [] for number in parts}
    for _ in range(arguments.epochs + 1):
        for number, objects in parts.items():
            times[number].append(run_epoch(*objects))
    medians = {
        number: [statistics.median(column) for column in zip(*rows[1:], strict=True)] for number, rows in times.items()
    }
    base_first, base = medians[arguments.workers[0]]
    rows = []
    for number, (first, whole) in medians.items():
        restart = first - base_first
        text = f"first batch after {first:.3f} s ({restart:+.3f} s)"
        print(f"{number} workers: an epoch {whole:.2f} s, {text}", flush=True)
        rows.append(
            {
                "what": f"{arguments.bundle}, an epoch, {number} workers",
                "peer": f"{arguments.workers[0]} workers",
                "peer_value": round(base, 3),
                "ours": round(whole, 3),
                "ratio": round(base / whole, 2),
                "goal": None,
                "spread": None,
                "accuracy": "the same loader and network",
                "counts": True,
                "note": text,
            }
        )
    record = {
        "schema": 1,
        "script": "workers",
        "title": "Workers of the loader",
        "command": "python benchmarks/workers.py",
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": DEVICE.type,
            "torch": torch.__version__,
            "monai": monai.__version__,
        },
        "unit": "s of the clock",
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

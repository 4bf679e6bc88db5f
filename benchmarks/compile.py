"""Time of a training step of a network as it is and compiled by ``torch.compile``, bundle by bundle.

Every bundle's own network, loss, layout of the weights and size of a sample, in turns, with one thread and random data;
seconds of the processor (on a GPU: of the clock, synchronised), the median of the repetitions. Both sides start from
the same weights, and a row only counts if all their losses agree within 1 %. The warm-up of the compiled side, the
first two steps, is told in the note and left out of the values.

Example:
    python benchmarks/compile.py --bundles lgg_attunet isic_unetpp --json compile.json
"""

import argparse
import copy
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
#: Bundles, with the overrides of ``train.json`` that make another network
CASES = {
    "lgg_attunet": ("lgg_attunet",),
    "isic_unetpp, ResNet-34": ("isic_unetpp",),
    "isic_unetpp, EfficientNet-Lite0": ("isic_unetpp", "lite0.json"),
    "hippocampus_segresnet": ("hippocampus_segresnet",),
}
WARM_UP = 2


class Side:
    """A network, compiled or not, with its optimiser."""

    def __init__(self, network: torch.nn.Module, *, compiled: bool) -> None:
        self.network = copy.deepcopy(network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-3, fused=True)
        if compiled:
            self.network.compile()
        self.times: list[float] = []
        self.losses: list[float] = []

    def step(self, loss: Any, image: torch.Tensor, label: torch.Tensor) -> None:
        """Time one training step."""
        start = read_clock()
        with torch.autocast(DEVICE.type, torch.bfloat16):
            logits = self.network(image)
        value = loss(logits.float(), label)
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        self.times.append(read_clock() - start)
        self.losses.append(float(value.detach()))


def read_clock() -> float:
    """Return seconds of the processor, on a GPU those of the clock after all work is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def build(bundle: str, *overrides: str) -> tuple[torch.nn.Module, Any, list[int], int]:
    """Return a bundle's network on its device, its loss, the size of a sample and the number of channels."""
    folder = ROOT / "bundles" / bundle
    config = ConfigParser()
    config.read_config([str(folder / "configs" / name) for name in ("train.json", *overrides)])
    config["bundle_root"], config["device"] = str(folder), str(DEVICE)
    torch.manual_seed(0)
    network, loss = config.get_parsed_content("network"), config.get_parsed_content("loss")
    dims = config["network_def"].get("spatial_dims", 2)
    size = list(config.get("image_size") or config["roi_size"])[:dims]
    return network, loss, size, config["network_def"]["in_channels"]


def measure(name: str, batch: int, repeat: int) -> dict[str, Any]:
    """Return the row of a bundle."""
    network, loss, size, channels = build(*CASES[name])
    classes = getattr(loss, "to_onehot_y", None) or getattr(getattr(loss, "dice", None), "to_onehot_y", False)
    image = torch.randn(batch, channels, *size, device=DEVICE)
    if image.ndim == 4:
        image = image.contiguous(memory_format=torch.channels_last)
    label = (torch.rand(batch, 1, *size, device=DEVICE) > 0.9).float() * (2 if classes else 1)
    plain, compiled = Side(network, compiled=False), Side(network, compiled=True)
    began = time.perf_counter()
    for _ in range(WARM_UP):
        compiled.step(loss, image, label)
    warm_up = time.perf_counter() - began
    for _ in range(WARM_UP):
        plain.step(loss, image, label)
    for _ in range(repeat):
        for side in (plain, compiled):
            side.step(loss, image, label)
    worst = max(abs(a - b) / abs(a) for a, b in zip(plain.losses, compiled.losses, strict=True))
    pairs = list(zip(plain.times[WARM_UP:], compiled.times[WARM_UP:], strict=True))
    ratios = sorted(one / other for one, other in pairs)
    ours = statistics.median(other for _, other in pairs)
    peer = statistics.median(one for one, _ in pairs)
    return {
        "what": f"{name}, {' x '.join(map(str, size))}, batch {batch}",
        "peer": "the same network, not compiled",
        "peer_value": round(peer, 3),
        "ours": round(ours, 3),
        "ratio": round(peer / ours, 2),
        "goal": None,
        "spread": [round(ratios[0], 2), round(ratios[-1], 2)],
        "accuracy": f"largest difference of the losses {worst:.1e} (at most 1e-2)",
        "counts": worst < 0.01,
        "note": f"warm-up {warm_up:.0f} s of the clock",
    }


def describe() -> dict[str, Any]:
    """Return the machine."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "monai": monai.__version__,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="networks (default: all)")
    parser.add_argument("--batch", type=int, default=2, help="samples a step (default: 2)")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default: 5)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.cases:
        rows.append(measure(name, arguments.batch, arguments.repeat))
        row = rows[-1]
        print(
            f"{row['what']}: {row['peer_value']} s, compiled {row['ours']} s, ratio {row['ratio']} "
            f"({row['note']}; {row['accuracy']})",
            flush=True,
        )
    record = {
        "schema": 1,
        "script": "compile",
        "title": "torch.compile, a training step",
        "command": "python benchmarks/compile.py",
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": describe(),
        "unit": "s of processor time" if DEVICE.type == "cpu" else "s",
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

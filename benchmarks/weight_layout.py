"""Time of a training step and of a prediction with batches and weights as they are or channels last, by network.

Every bundle's own network, loss, optimiser and size of a sample, in turns, with one thread and random data; seconds of
the processor (on a GPU: of the clock, synchronised), the median of the repetitions. All layouts start from the same
weights, and a row only counts if the first losses agree within 1 %. In bfloat16 where the hardware has it, as
`AutocastInferer` computes; its `trains_faster_channels_last` and the weights' layout in the bundles rest on these rows.

Example:
    python benchmarks/weight_layout.py --bundles lgg_attunet isic_unet --json layout.json
"""

import argparse
import copy
import statistics
from pathlib import Path
from typing import Any

import torch
from clocks import DEVICE, read_clock
from monai.bundle import ConfigParser
from records import Row, build_record, write_record

from pipeline.inferers import supports_bfloat16

ROOT = Path(__file__).resolve().parents[1]
PLAIN, BATCH, WEIGHTS = "as they are", "batches channels last", "batches and weights channels last"
#: layout of the batch and of the weights
LAYOUTS = {
    PLAIN: (torch.contiguous_format, torch.contiguous_format),
    BATCH: (torch.channels_last, torch.contiguous_format),
    WEIGHTS: (torch.channels_last, torch.channels_last),
}
#: what is compared with what
PAIRS = ((BATCH, PLAIN), (WEIGHTS, BATCH))
AMP = supports_bfloat16(DEVICE.type)


class Side:
    """A network in one layout, with its optimiser."""

    def __init__(self, network: torch.nn.Module, batch: torch.memory_format, weights: torch.memory_format) -> None:
        self.layout = batch
        self.network = copy.deepcopy(network).to(DEVICE, memory_format=weights)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-3, fused=True)
        self.train: list[float] = []
        self.predict: list[float] = []
        self.losses: list[float] = []

    def step(self, loss: Any, image: torch.Tensor, label: torch.Tensor) -> None:
        """Time one training step and one prediction."""
        image = image.contiguous(memory_format=self.layout)
        self.network.train()
        start = read_clock()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=AMP):
            logits = self.network(image)
        value = loss(logits.float(), label)
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        self.train.append(read_clock() - start)
        self.losses.append(float(value.detach()))
        self.network.eval()
        start = read_clock()
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=AMP):
            self.network(image)
        self.predict.append(read_clock() - start)


def measure(bundle: str, batch: int, repeat: int) -> dict[str, Any] | None:
    """Return medians by layout; None for a network of volumes, whose layout is another one."""
    config = ConfigParser()
    config.read_config(str(ROOT / f"bundles/{bundle}/configs/train.json"))
    config["bundle_root"] = str(ROOT / "bundles" / bundle)
    if config["network_def"].get("spatial_dims", 2) != 2:
        return None
    size = (config.get("image_size") or config.get("roi_size") or [572, 572])[:2]
    size = [572, 572] if "2015" in config["network_def"]["_target_"] else size
    torch.manual_seed(0)
    network = config.get_parsed_content("network_def")
    loss = config.get_parsed_content("loss") if "2015" not in config["network_def"]["_target_"] else _Bce()
    channels = config["network_def"].get("in_channels", 1)
    image = torch.randn(batch, channels, *size, device=DEVICE)
    with torch.no_grad():
        shape = network.to(DEVICE)(image[:1]).shape[2:]
    label = (torch.rand(batch, 1, *shape, device=DEVICE) > 0.9).float()
    sides = {name: Side(network, *layouts) for name, layouts in LAYOUTS.items()}
    for _ in range(repeat + 1):  # the first round warms up
        for side in sides.values():
            side.step(loss, image, label)
    first, *others = (side.losses[0] for side in sides.values())
    return {
        "counts": all(abs(first - other) < 0.01 * abs(first) for other in others),
        **{
            name: [statistics.median(side.train[1:]), statistics.median(side.predict[1:])]
            for name, side in sides.items()
        },
    }


class _Bce:
    def __call__(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, label)


def make_rows(bundle: str, found: dict[str, Any] | None) -> list[Row]:
    """Return the rows of a record."""
    if found is None:
        return [Row(bundle, f"the same network, {PLAIN}", None, None, note="not measured: a network of volumes")]
    accuracy = "first losses agree within 1 %" if found["counts"] else "the first losses differ"
    return [
        Row(f"{bundle}: {what}, {ours}", f"the same, {peer}", before, after, accuracy=accuracy, counts=found["counts"])
        for ours, peer in PAIRS
        for what, before, after in zip(("training step", "prediction"), found[peer], found[ours], strict=True)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs/train.json").is_file())
    parser.add_argument("--bundles", nargs="+", default=names, help="names of bundles (default: all)")
    parser.add_argument("--batch", type=int, default=4, help="samples a step (default: 4)")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default: 5)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    print(f"on {DEVICE.type}, seconds, {'bfloat16' if AMP else 'float32'}: the peer's, ours, ratio")
    for bundle in arguments.bundles:
        found = make_rows(bundle, measure(bundle, arguments.batch, arguments.repeat))
        rows += found
        for row in found:
            times = (
                f"{row.peer_value:.3f} {row.ours:.3f} {row.peer_value / row.ours:.2f}"
                if row.ours and row.peer_value
                else row.note
            )
            print(f"{row.what}; {row.peer}: {times}; {row.accuracy}", flush=True)
    unit = f"s of {'processor time' if DEVICE.type == 'cpu' else 'the clock'}, batches of {arguments.batch}"
    processor = "GPU" if DEVICE.type == "cuda" else f"CPU with {torch.backends.cpu.get_cpu_capability()}"
    title = f"Batches and weights channels last, {processor}"
    write_record(arguments.json, build_record("weight_layout", title, unit, rows))


if __name__ == "__main__":
    main()

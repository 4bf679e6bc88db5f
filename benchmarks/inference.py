"""Time of a prediction against MONAI's inferers at their best settings, and memory for a picture of 4096 x 4096.

Networks and shipped weights are those of the bundles, ours with the inferer of ``inference.json``. MONAI's inferer runs
the same network in float32 with windows one at a time and in batches, in both layouts; the fastest of them is the peer.
Images are those of ``--slices`` and ``--volume`` (arrays as the network gets them, ``(C, *spatial)`` in .npy files), by
default smooth noise. A row counts if at least 0.999 of the labels are equal. Seconds are those of the processor (on a
GPU of the clock), one thread, medians of rounds in turns.

The photographs are smooth noise, the network has random weights: it is the whole prediction that is timed, from reading
to writing, and the peak memory of its process (Linux). The peer of the smaller one is the same chain with MONAI's own
resizing in float32; that of the large one is the limit that the project sets.

Example:
    python benchmarks/inference.py --rounds 3 --json docs/benchmarks/inference.json
"""

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clocks import DEVICE, read_clock, take_turns
from monai.bundle import ConfigParser
from monai.inferers import Inferer, SimpleInferer, SliceInferer, SlidingWindowInferer
from PIL import Image
from records import Row, build_record, write_record

ROOT = Path(__file__).resolve().parents[1]
LIMIT_GB = 1.0
LEAST_EQUAL = 0.999


def read_config(bundle: str, **changes: Any) -> ConfigParser:
    """Read a bundle's ``inference.json``."""
    config = ConfigParser()
    config.read_config(str(ROOT / f"bundles/{bundle}/configs/inference.json"))
    config.update({"bundle_root": str(ROOT / "bundles" / bundle), **changes})
    return config


def read_image(path: Path) -> torch.Tensor:
    """Read an array ``(C, *spatial)`` as a batch of one."""
    return torch.as_tensor(np.load(path))[None].float().to(DEVICE)


def make_noise(channels: int, size: tuple[int, ...]) -> torch.Tensor:
    """Make smooth noise ``(1, channels, *size)``."""
    coarse = torch.randn(1, channels, *(max(n // 8, 1) for n in size), generator=torch.Generator().manual_seed(0))
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return torch.nn.functional.interpolate(coarse, size, mode=mode).to(DEVICE)


def lay_out(network: torch.nn.Module, layout: torch.memory_format) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a copy of the network that computes in a layout."""
    laid_out = copy.deepcopy(network).to(memory_format=layout)
    return lambda batch: laid_out(batch.contiguous(memory_format=layout))


def compare(bundle: str, image: torch.Tensor, monais: Mapping[str, Inferer], rounds: int) -> dict[str, Any]:
    """Time the bundle's inferer without flips and each of MONAI's; returns what a row says of them."""
    config = read_config(bundle, flips=[])
    network = config.get_parsed_content("network").eval()
    weights = ROOT / "bundles" / bundle / "models/model.pt"
    network.load_state_dict(torch.load(weights, weights_only=True, map_location=DEVICE))
    stock = config.get_parsed_content("network_def").to(DEVICE).eval()
    stock.load_state_dict(network.state_dict())
    layouts = {"": torch.contiguous_format}
    if config["network_def"]["spatial_dims"] == 2:
        layouts["channels last, "] = torch.channels_last
    models: dict[str, tuple[Inferer, Any]] = {"ours": (config.get_parsed_content("inferer"), network)}
    for text, layout in layouts.items():
        models |= {text + name: (chosen, lay_out(stock, layout)) for name, chosen in monais.items()}
    labels: dict[str, torch.Tensor] = {}

    def run(name: str) -> None:
        inferer, model = models[name]
        with torch.no_grad():
            logits = inferer(image, model)
        labels[name] = logits.argmax(1) if logits.shape[1] > 1 else logits > 0

    turns = take_turns({name: partial(run, name) for name in models}, rounds)
    best = min((name for name in models if name != "ours"), key=turns.median)
    ratio, spread = turns.ratio(best, "ours")
    equal = float((labels["ours"] == labels[best]).float().mean())
    foreground = int((labels[best] > 0).sum())
    return {
        "peer": f"MONAI's inferer, float32, {best} (its fastest of {len(models) - 1} settings)",
        "peer_value": turns.median(best),
        "ours": turns.median("ours"),
        "ratio": ratio,
        "spread": spread,
        "accuracy": f"labels equal {equal:.5f} (at least {LEAST_EQUAL}); foreground: {foreground} voxels",
        "counts": equal >= LEAST_EQUAL,
    }


def compare_slices(image: torch.Tensor, rounds: int) -> Row:
    """Time a stack of slices; the values are those of one."""
    monais = {f"{n} at once": SliceInferer(roi_size=[-1, -1], spatial_dim=2, sw_batch_size=n) for n in (1, 8)}
    found = compare("lgg_attunet", image, monais, rounds)
    found |= {key: found[key] / image.shape[-1] for key in ("peer_value", "ours")}
    return Row(f"a slice of LGG, {' x '.join(map(str, image.shape[1:-1]))}, without flips", goal=2.0, **found)


def compare_volume(image: torch.Tensor, rounds: int) -> Row:
    """Time a volume in overlapping windows."""
    config = read_config("hippocampus_segresnet")
    size, overlap = config["roi_size"], config["overlap"]
    monais = {f"{n} at once": SlidingWindowInferer(size, n, overlap, mode="gaussian") for n in (1, 4)}
    what = f"a hippocampus volume, {' x '.join(map(str, image.shape[2:]))}, without flips"
    return Row(what, **compare("hippocampus_segresnet", image, monais, rounds))


def predict_photograph(path: str, output: str, ours: bool) -> tuple[float, float]:
    """Predict a photograph in this process; returns seconds without the start, and the peak of memory in GB."""
    torch.set_num_threads(1)
    config = read_config("isic_unet", input=path, output_dir=output, flips=[])
    config["handlers"] = [item for item in config["handlers"] if "Loader" not in item["_target_"]]
    if not ours:
        use_monais(config)
    evaluator = config.get_parsed_content("evaluator")
    start = read_clock()
    evaluator.run()
    seconds = read_clock() - start
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return seconds, next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM:"))


def use_monais(config: ConfigParser) -> None:
    """Replace our resizing and mixed precision by what MONAI has."""
    for step in config["preprocessing"]["transforms"]:
        if step["_target_"].endswith(".Resized"):
            step["_target_"] = "Resized"
    config["inferer"] = SimpleInferer()


def compare_photographs(size: tuple[int, int], folder: Path, rounds: int) -> list[Row]:
    """Predict a photograph, each prediction in a process of its own; returns the rows of time and memory."""
    height, width = size
    path = folder / f"{height}.png"
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(path, compress_level=1)
    seconds, peaks = {True: [], False: []}, {True: [], False: []}
    for turn in range(rounds):
        for ours in seconds:
            with get_context("spawn").Pool(1) as pool:
                output = folder / f"{height}_{turn}_{ours}"
                found = pool.apply(predict_photograph, (str(path), str(output), ours))
            seconds[ours].append(found[0])
            peaks[ours].append(found[1])
    ratios = [theirs / mine for mine, theirs in zip(seconds[True], seconds[False], strict=True)]
    what = f"a photograph of {height} x {width}, from file to mask"
    theirs = "the same chain with MONAI's Resized and SimpleInferer, float32"
    time = Row(
        what,
        theirs,
        statistics.median(seconds[False]),
        statistics.median(seconds[True]),
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        accuracy="none: random weights; the resizing has a benchmark of its own",
    )
    ours, limit = statistics.median(peaks[True]), f"the project's limit; {theirs}: {max(peaks[False]):.2f} GB"
    return [time, Row(f"{what}: peak memory, GB", limit, LIMIT_GB, ours, goal=1.0, accuracy="the whole process")]


def measure(stack: torch.Tensor, volume: torch.Tensor, rounds: int, photograph_rounds: int) -> Iterator[Row]:
    """Yield every comparison."""
    yield compare_slices(stack, rounds)
    yield compare_volume(volume, rounds)
    with tempfile.TemporaryDirectory() as folder:
        for size in ((768, 1024), (4096, 4096)):
            yield from compare_photographs(size, Path(folder), photograph_rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default: 3)")
    parser.add_argument("--photograph_rounds", type=int, default=1, help="predictions of a photograph (default: 1)")
    parser.add_argument("--slices", type=Path, help="a stack (9, height, width, slices) as .npy (default: noise)")
    parser.add_argument("--volume", type=Path, help="a volume (1, x, y, z) as .npy (default: noise)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stack = read_image(arguments.slices) if arguments.slices else make_noise(9, (256, 256, 8))
    volume = read_image(arguments.volume) if arguments.volume else make_noise(1, (60, 72, 56))
    rows = []
    for row in measure(stack, volume, arguments.rounds, arguments.photograph_rounds):
        rows.append(row)
        assert row.peer_value is not None
        assert row.ours is not None
        ratio = row.ratio or row.peer_value / row.ours
        print(f"{row.what}\n    {row.peer_value:.3f} {row.ours:.3f} ratio {ratio:.2f}  {row.peer}", flush=True)
        print(f"    {row.accuracy}{'' if row.counts else '; does not count'}", flush=True)
    write_record(arguments.json, build_record("inference", "Inference", "s of processor time", rows))


if __name__ == "__main__":
    main()

"""Time and memory to bring a photograph to the size of the network: this package, MONAI, torch and Pillow.

Each photograph is read by the bundle's own loader; then it is resized in turns, with one thread. Seconds of the
processor count, the median of the repetitions. The goal is to be as fast as torch's own `interpolate`. Only results
that agree with Pillow's bilinear filter within 0.1 of 255 count, except for MONAI's, which smooths by another rule.

Example:
    python benchmarks/resizing.py --sizes 768x1024 4096x4096 --repeat 5 --json resizing.json
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from monai.transforms import Resized as MonaiResized
from PIL import Image
from records import Row, build_record, write_record

from pipeline.transforms import Resized

SIZE = (256, 256)
LOAD = Compose([LoadImaged("image", reader="PILReader", reverse_indexing=False), EnsureChannelFirstd("image")])
OPTIONS: dict[str, Any] = {"spatial_size": SIZE, "mode": "bilinear", "anti_aliasing": True}


def resize_with_torch(case: dict[str, Any]) -> dict[str, Any]:
    """Resize with torch alone."""
    pixels = case["image"].as_tensor()[None]
    return {"image": torch.nn.functional.interpolate(pixels, SIZE, mode="bilinear", antialias=True)[0]}


def resize_with_pillow(case: dict[str, Any]) -> dict[str, Any]:
    """Resize each channel with Pillow."""
    planes = (np.ascontiguousarray(plane) for plane in case["image"].numpy())
    resized = [np.asarray(Image.fromarray(plane).resize(SIZE[::-1], Image.Resampling.BILINEAR)) for plane in planes]
    return {"image": torch.as_tensor(np.stack(resized))}


OURS = "this package"
VARIANTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    OURS: Resized("image", **OPTIONS),
    "MONAI": MonaiResized("image", **OPTIONS),
    "torch": resize_with_torch,
    "Pillow, float": resize_with_pillow,
}


def measure_memory(name: str, path: str) -> float:
    """Return how many MiB more a process needs at most while it resizes one photograph (Linux)."""
    torch.set_num_threads(1)
    case = LOAD({"image": path})
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back, for loading needs more
    before = read_status("VmRSS")
    VARIANTS[name](case)
    return read_status("VmHWM") - before


def read_status(field: str) -> float:
    """Return a field of this process's status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def measure(path: Path, repeat: int) -> list[dict[str, Any]]:
    """Return time, memory and the largest difference from Pillow of each variant."""
    case = LOAD({"image": str(path)})
    expected = resize_with_pillow(case)["image"]
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    differences = {}
    for _ in range(repeat + 1):  # the first round warms up
        for name, transform in VARIANTS.items():
            start = time.process_time()
            result = transform(case)["image"]
            seconds[name].append(time.process_time() - start)
            differences[name] = float((torch.as_tensor(result) - expected).abs().max())
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(measure_memory, (name, str(path))) for name in VARIANTS}
    return [
        {
            "variant": name,
            "ms": 1000 * statistics.median(seconds[name][1:]),
            "ratios": [theirs / ours for theirs, ours in zip(seconds[name][1:], seconds[OURS][1:], strict=True)],
            "MiB": memory[name],
            "difference": differences[name],
            "counts": name == "MONAI" or differences[name] < 0.1,
        }
        for name in VARIANTS
    ]


def make_rows(size: str, results: list[dict[str, Any]]) -> list[Row]:
    """Return the rows of a record: time and memory against each of the others."""
    ours, *others = results
    accuracy = f"difference from Pillow {ours['difference']:.3f} of 255 (below 0.1)"
    rows = []
    for other in others:
        what = f"{size} to {SIZE[0]} x {SIZE[1]}"
        is_monai = other["variant"] == "MONAI"
        note = f"it smooths by another rule: difference from Pillow {other['difference']:.0f}" if is_monai else ""
        counts = ours["counts"] and other["counts"]
        goal = 1.0 if other["variant"] == "torch" else None
        ratio, spread = statistics.median(other["ratios"]), (min(other["ratios"]), max(other["ratios"]))
        times = (other["ms"], ours["ms"])
        rows.append(Row(what, other["variant"], *times, goal, ratio, spread, accuracy, counts, note))
        if is_monai:
            what = f"{what}: peak memory, MiB"
            rows.append(Row(what, other["variant"], other["MiB"], ours["MiB"], None, None, None, accuracy, counts))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["768x1024", "4096x4096"], help="height x width of photographs")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default: 5)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            height, width = map(int, size.split("x"))
            path = Path(folder) / f"{size}.png"
            coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, compress_level=1)
            results[size] = measure(path, arguments.repeat)
            print(f"{size} to {SIZE[0]} x {SIZE[1]}")
            for row in results[size]:
                note = "" if row["counts"] else "  differs from Pillow: does not count"
                values = f"{row['ms']:9.1f} ms  {row['MiB']:7.0f} MiB  difference {row['difference']:.4f}"
                print(f"  {row['variant']:<14}{values}{note}")
    rows = [row for size, found in results.items() for row in make_rows(size.replace("x", " x "), found)]
    title = f"Resizing a photograph to {SIZE[0]} x {SIZE[1]}"
    unit = "ms of processor time; MiB where it says so"
    write_record(arguments.json, build_record("resizing", title, unit, rows))


if __name__ == "__main__":
    main()

"""Compare the speed of the dataset check with its bounds: sha256 of the same files, and decoding them.

Everything is measured in one run, in turns, with warm files and one thread; seconds of the processor, the best of the
repetitions. The last lines are whole processes as a user starts them, in seconds of the clock; they are not recorded.

Example:
    python benchmarks/dataset_check.py data_manifests/lgg.json --dataset_dir kaggle_3m --json speed.json
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from records import Row, build_record, write_record

from pipeline.datasets.checks.integrity import check_manifest, is_present
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.manifests.manifest_file import read_manifest

PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")


def hash_files(files: Sequence[Path]) -> None:
    """Read and hash, nothing else."""
    for file in files:
        hashlib.sha256(file.read_bytes()).digest()


def decode_pictures(files: Sequence[Path]) -> None:
    """Decode with Pillow into arrays, nothing else."""
    for file in files:
        if file.suffix.lower() in PICTURES:
            with Image.open(file) as image:
                np.asarray(image)


def make_tasks(manifest: Manifest, root: Path, cases: list[Case], files: list[Path]) -> dict[str, Callable[[], object]]:
    """Return the functions to measure, by name."""

    def check(level: str, search_near: bool = True) -> object:
        options = CheckOptions(search_near=search_near)
        return check_manifest(manifest, root, level=level, cases=cases, jobs=1, options=options)  # type: ignore[arg-type]

    return {
        "sha256": lambda: hash_files(files),
        "decode": lambda: decode_pictures(files),
        "quick": lambda: check("quick"),
        "default": lambda: check("default"),
        "deep": lambda: check("deep"),
        "deep without near copies": lambda: check("deep", False),
    }


def time_best(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the shortest time of each task in seconds; the tasks take turns."""
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            best[name] = min(best[name], time.process_time() - start)
    return best


def time_processes(manifest: Path, root: Path) -> dict[str, float]:
    """Return seconds of whole processes: a quick check, and the datalist of a training without and with cache."""
    load = (
        "import sys; from pipeline.datasets import load_datalist; load_datalist(sys.argv[1], sys.argv[2], 'train', 0)"
    )
    check = [sys.executable, "-m", "pipeline", "dataset", "check", str(manifest), "--dataset_dir", str(root)]
    commands = {
        "process: dataset check --quick": [*check, "--quick"],
        "process: load_datalist, first time": [sys.executable, "-c", load, str(manifest), str(root)],
        "process: load_datalist, second time": [sys.executable, "-c", load, str(manifest), str(root)],
    }
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            seconds[name] = time.perf_counter() - start
    return seconds


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the record there")
    args = parser.parse_args()
    manifest, root = read_manifest(args.manifest), args.dataset_dir.resolve()
    cases = [case for case in manifest.cases if is_present(case, root)]
    names = dict.fromkeys(split_fragment(path)[0] for case in cases for path in case.files())
    files = [root / name for name in names]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    print(f"{len(cases)} cases, {len(files)} files, {megabytes:.0f} MB; one thread, best of {args.repeats}")
    seconds = time_best(make_tasks(manifest, root, cases, files), args.repeats)
    for name, value in seconds.items():
        ratio = value / seconds["decode" if name.startswith("deep") else "sha256"]
        against = "decoding" if name.startswith("deep") else "sha256"
        print(f"{name:26} {value:7.2f} s {megabytes / value:8.0f} MB/s  {ratio:5.2f} x the time of {against}")
    processes = time_processes(args.manifest, root)
    for name, value in processes.items():
        print(f"{name:38} {value:7.2f} s")
    bounds = {name: "decode" if name.startswith("deep") else "sha256" for name in list(seconds)[2:]}
    peers = {"decode": "decoding alone (Pillow)", "sha256": "sha256 alone"}
    rows = [Row(name, peers[bound], seconds[bound], seconds[name]) for name, bound in bounds.items()]
    title = f"Dataset check: {len(cases)} cases, {len(files)} files, {megabytes:.0f} MB"
    unit = "s of processor time, best of the repetitions; the peers do a part of the work, so 1 is the limit"
    write_record(args.json, build_record("dataset_check", title, unit, rows))


if __name__ == "__main__":
    main()

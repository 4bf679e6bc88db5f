"""Train and predict again and again in one process: threads, open files, temporary files and memory must stay flat.

Clients and notebooks run many trainings in one process. Every second run is a training of one epoch on a phantom, the
others predict with its weights; with ``--workers`` the images are read by other processes. The first ten runs fill
caches of torch, MONAI and the allocator; after them nothing may grow except memory, by at most ``--growth`` MB.

Example:
    python benchmarks/repeated_runs.py --runs 100
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import monai.bundle
import torch
from records import Row, build_record, write_record

from pipeline.datasets.phantoms import write_isic_phantom

BUNDLE = Path(__file__).resolve().parents[1] / "bundles/isic_unet"
WARM_UP = 10
SMALL = {"image_size": [32, 32], "amp": False, "logging_file": False, "bundle_root": str(BUNDLE)}


@dataclass(frozen=True)
class Usage:
    """What the process holds."""

    threads: int
    python_threads: int
    children: int
    open_files: int
    temporary_files: int
    memory_mb: int

    @staticmethod
    def measure(temporary: Path) -> Usage:
        """Measure this process; files under ``temporary`` count as temporary."""
        gc.collect()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        tasks = os.listdir("/proc/self/task")
        children = [Path(f"/proc/self/task/{task}/children").read_text(encoding="ascii").split() for task in tasks]
        return Usage(
            threads=len(tasks),
            python_threads=threading.active_count(),
            children=sum(map(len, children)),
            open_files=len(os.listdir("/proc/self/fd")),
            temporary_files=sum(path.is_file() for path in temporary.rglob("*")),
            memory_mb=int(resident.split()[1]) // 1024,
        )


class Runs:
    """Trainings and predictions on one phantom."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.manifest = write_isic_phantom(folder / "phantom")
        self.images = self.manifest.parent / "isic2018/ISIC2018_Task1-2_Training_Input"

    def train(self) -> None:
        """Train one epoch in an empty folder."""
        output = self.folder / "out"
        shutil.rmtree(output, ignore_errors=True)
        data = {"dataset_dir": str(self.manifest.parent / "isic2018"), "manifest": str(self.manifest)}
        self._run("train.json", output, max_epochs=1, **data)

    def predict(self) -> None:
        """Predict all images with the weights of the last training."""
        weights = str(self.folder / "out/model.pt")
        self._run("inference.json", self.folder / "masks", checkpoint=weights, input=str(self.images))

    def _run(self, config: str, output: Path, **options: object) -> None:
        files = [str(BUNDLE / "configs" / name) for name in (config, "phantom.json")]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            monai.bundle.run(config_file=files, output_dir=str(output), num_workers=self.workers, **SMALL, **options)


def repeat(runs: Runs, count: int, temporary: Path) -> list[Usage]:
    """Run, and print a line of what is held after every ten runs."""
    names = [field.name for field in fields(Usage)]
    print("runs", *names, sep="\t", flush=True)
    found = []
    for number in range(1, count + 1):
        (runs.train if number % 2 else runs.predict)()
        found.append(Usage.measure(temporary))
        if number == 1 or number % WARM_UP == 0:
            print(number, *astuple(found[-1]), sep="\t", flush=True)
    return found


def find_growth(found: Sequence[Usage], growth: int) -> list[str]:
    """List what grew after the warm-up; memory may by ``growth`` MB."""
    first, last = found[min(WARM_UP, len(found)) - 1], found[-1]
    allowed = {"memory_mb": growth}
    names = [field.name for field in fields(Usage)]
    return [
        f"{name} grew from {getattr(first, name)} to {getattr(last, name)}"
        for name in names
        if getattr(last, name) > getattr(first, name) + allowed.get(name, 0)
    ]


def make_rows(found: Sequence[Usage], problems: Sequence[str]) -> list[Row]:
    """Return the row of a record: memory after the last run against that after the warm-up."""
    first = min(WARM_UP, len(found))
    others = [text for text in problems if not text.startswith("memory_mb")]
    accuracy = "; ".join(others) or "threads, processes, open and temporary files did not grow"
    what, peer = f"resident memory after {len(found)} runs", f"after {first} runs"
    return [Row(what, peer, found[first - 1].memory_mb, found[-1].memory_mb, accuracy=accuracy, counts=not others)]


def main() -> int:
    """Print the table; return 1 if anything grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=0, help="processes that read images")
    parser.add_argument("--growth", type=int, default=30, help="MB that memory may grow after the warm-up")
    parser.add_argument("--json", type=Path, help="write the record here too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = os.environ["TMPDIR"] = temporary
        found = repeat(Runs(Path(data), options.workers), options.runs, Path(temporary))
        tempfile.tempdir = None
    problems = find_growth(found, options.growth)
    print("\n".join(problems) or "nothing grew")
    write_record(
        options.json, build_record("repeated_runs", "Many runs in one process", "MB", make_rows(found, problems))
    )
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())

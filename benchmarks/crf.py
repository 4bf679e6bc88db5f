"""Compare our dense CRF with pydensecrf2 (``pip install pydensecrf2``, needs a C++ compiler), in turns in one process.

Goals, 5 iterations: 512 x 512 RGB, 2 labels, at least 2 times its speed on one thread and 3 times on two, 4 labels 1.5
times, 48 x 96 x 96 with 2 labels 3 times; time per pixel at 4096 x 4096 at most 1.5 times that at 512 x 512; peak
memory at most that of pydensecrf2. pydensecrf2 has one thread.

"cold" builds the lattice of positions in every call, "cached" finds it from the call before; the lattice of intensities
is always built. Compilation happens before the first round and is timed separately (``--parts compile``). The record
holds the cold calls. Speed is
printed, and counts in the record, only where the results agree: label IoU at least 0.999 and max |dQ| at most 1e-3.

A ratio is the median over the rounds of (peer's time / ours) of the same round, so that a load that comes and goes
affects both: of the processor's time with one thread, of the clock's with two, which says something only on a machine
that does nothing else (``--threads 1`` leaves them out). Differences below 15 % do not count.

Example:
    python benchmarks/crf.py --repeats 7 --json crf.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import Row, build_record, write_record
from scipy import ndimage

ITERATIONS = 5
IOU, DIFFERENCE = 0.999, 1e-3
PEER = "pydensecrf2"
PARTS = ("speed", "scale", "memory", "compile")


@dataclass(frozen=True)
class Case:
    """A problem.

    Args:
        shape: of the grid.
        labels: L.
        channels: C; the image has values from 0 to 255.
        widths: spatial, bilateral, intensity.
        photo: take the photograph that scikit-image brings.
    """

    shape: tuple[int, ...]
    labels: int
    channels: int
    widths: tuple[float, float, float]
    photo: bool = False

    def make(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return probabilities and image: smooth regions with noise, and probabilities that are right at 3 in 4."""
        rng = np.random.default_rng(0)
        fields = rng.normal(size=(self.labels, *self.shape)).astype(np.float32)
        truth = np.stack([ndimage.gaussian_filter(field, self.shape[-1] / 12) for field in fields]).argmax(0)
        if self.photo:
            from skimage import data

            image = data.astronaut()
        else:
            tones = rng.uniform(40, 215, (self.labels, self.channels))
            image = np.clip(tones[truth] + rng.normal(0, 6, (*self.shape, self.channels)), 0, 255).astype(np.uint8)
        logits = rng.normal(0, 1, (self.labels, *self.shape)) + 2.0 * (
            np.arange(self.labels)[:, None] == truth.ravel()
        ).reshape(self.labels, *self.shape)
        powers = np.exp(logits)
        return (powers / powers.sum(0)).astype(np.float32), image

    @property
    def options(self) -> dict[str, float]:
        """Parameters of `pipeline.crf.mean_field`."""
        near, wide, tint = self.widths
        return {
            "spatial_weight": 3.0,
            "spatial_width": near,
            "bilateral_weight": 10.0,
            "bilateral_width": wide,
            "bilateral_intensity": tint,
            "iterations": ITERATIONS,
        }


CASES = {
    "512 x 512 RGB, 2 labels": Case((512, 512), 2, 3, (3, 80, 13)),
    "512 x 512 RGB, 4 labels": Case((512, 512), 4, 3, (3, 80, 13)),
    "photograph 512 x 512, 2 labels": Case((512, 512), 2, 3, (3, 80, 13), photo=True),
    "256 x 256 RGB, 2 labels, narrow": Case((256, 256), 2, 3, (1, 10, 5)),
    "48 x 96 x 96, 2 labels": Case((48, 96, 96), 2, 1, (3, 80, 13)),
    "48 x 96 x 96, 3 labels": Case((48, 96, 96), 3, 1, (3, 80, 13)),
}


def run_peer(case: Case, prob: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return Q of pydensecrf2."""
    from pydensecrf import densecrf

    near, wide, tint = case.widths
    energy = np.ascontiguousarray(-np.log(np.clip(prob, 1e-5, 1)).reshape(case.labels, -1))
    if len(case.shape) == 2 and case.channels == 3:
        field = densecrf.DenseCRF2D(case.shape[1], case.shape[0], case.labels)
        field.setUnaryEnergy(energy)
        field.addPairwiseGaussian(sxy=near, compat=3)
        field.addPairwiseBilateral(sxy=wide, srgb=tint, rgbim=np.ascontiguousarray(image), compat=10)
    else:
        field = densecrf.DenseCRF(energy.shape[1], case.labels)
        field.setUnaryEnergy(energy)
        # The last axis first, as x and y in the 2-D class.
        axes = [axis.ravel() for axis in np.meshgrid(*map(np.arange, case.shape), indexing="ij")][::-1]
        place = np.stack(axes).astype(np.float32)
        colours = image.reshape(-1, case.channels).T.astype(np.float32)
        field.addPairwiseEnergy(place / np.float32(near), compat=3)
        field.addPairwiseEnergy(np.concatenate([place / np.float32(wide), colours / np.float32(tint)]), compat=10)
    result: NDArray[np.float32] = np.array(field.inference(ITERATIONS), np.float32)
    return result.reshape(prob.shape)


def list_contestants(case: Case, prob: Any, image: Any, threads: list[int]) -> dict[str, Callable[[], Any]]:
    """Return the functions to time, by name."""
    from pipeline.crf import lattice, mean_field

    def call(count: int, cold: bool) -> Any:
        if cold:
            lattice.clear_cache()
        return mean_field(prob, image, threads=count, **case.options)

    ours = {
        f"{describe_threads(count)} {kind}": partial(call, count, kind == "cold")
        for count in threads
        for kind in ("cold", "cached")
    }
    return {
        "pydensecrf2": lambda: run_peer(case, prob, image),
        **ours,
        "torch": lambda: mean_field(prob, image, backend="torch", **case.options),
    }


def describe_threads(count: int) -> str:
    """Return a number of threads in words."""
    return f"{count} thread" + "s" * (count > 1)


def compare(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[float, float]:
    """Return the smallest label IoU, and the largest difference of a probability."""
    left, right = ours.argmax(0), theirs.argmax(0)
    values = []
    for label in range(len(ours)):
        either = np.logical_or(left == label, right == label).sum()
        values.append(np.logical_and(left == label, right == label).sum() / either if either else 1.0)
    return float(min(values)), float(np.abs(ours - theirs).max())


def measure_speed(repeats: int, names: list[str], threads: list[int]) -> dict[str, Any]:
    """Time all cases in turns."""
    found: dict[str, Any] = {}
    for name in names:
        case = CASES[name]
        contestants = list_contestants(case, *case.make(), threads)
        results = {label: run() for label, run in contestants.items()}
        agreement = {label: compare(q, results["pydensecrf2"]) for label, q in results.items()}
        walls: dict[str, list[float]] = {label: [] for label in contestants}
        busy: dict[str, list[float]] = {label: [] for label in contestants}
        for turn in range(repeats):
            order = list(contestants.items())
            for label, run in order if turn % 2 == 0 else order[::-1]:
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                walls[label].append(time.perf_counter() - wall)
                busy[label].append(time.process_time() - cpu)
        print(f"\n{name}")
        found[name] = {}
        for label in contestants:
            iou, difference = agreement[label]
            entry: dict[str, Any] = {"label_iou": iou, "max_dq": difference}
            found[name][label] = entry
            if iou < IOU or difference > DIFFERENCE:
                print(f"  {label:<18} no time: label IoU {iou:.5f}, max |dQ| {difference:.1e}")
                continue
            clock = walls if label.startswith("2") else busy
            ratios = [peer / ours for peer, ours in zip(clock["pydensecrf2"], clock[label], strict=True)]
            entry |= {
                "wall_ms": 1e3 * statistics.median(walls[label]),
                "cpu_ms": 1e3 * statistics.median(busy[label]),
                "ratio": statistics.median(ratios),
                "ratios": [min(ratios), max(ratios)],
            }
            print(
                f"  {label:<18} {entry['ratio']:5.2f}x ({min(ratios):.2f} to {max(ratios):.2f})  wall "
                f"{entry['wall_ms']:7.1f} ms  cpu {entry['cpu_ms']:7.1f} ms  IoU {iou:.6f}  max |dQ| {difference:.1e}"
            )
    return found


def measure_scale(repeats: int, threads: list[int]) -> dict[str, float]:
    """Compare the time per pixel at 4096 x 4096 with that at 512 x 512; small and large in turns."""
    from pipeline.crf import lattice, mean_field

    small, large = Case((512, 512), 2, 3, (3, 80, 13)), Case((4096, 4096), 2, 3, (3, 80, 13))
    data = {case: case.make() for case in (small, large)}
    times: dict[tuple[Case, int], list[float]] = {(case, count): [] for case in data for count in threads}
    for turn in range(repeats + 1):
        for (case, count), seconds in times.items():
            lattice.clear_cache()
            read = time.process_time if count == 1 else time.perf_counter
            start = read()
            mean_field(*data[case], threads=count, **case.options)
            if turn:
                seconds.append(read() - start)
    found = {}
    print("\ntime per pixel, 4096 x 4096 against 512 x 512 (cold, 2 labels)")
    for count in threads:
        per = [statistics.median(times[case, count]) / np.prod(case.shape) for case in (large, small)]
        found[describe_threads(count)] = per[0] / per[1]
        print(f"  {describe_threads(count)}: {per[0] / per[1]:.2f}x ({1e9 * per[0]:.0f} against {1e9 * per[1]:.0f} ns)")
    return found


def measure_memory() -> dict[str, Any]:
    """Compare how far the peak of a fresh process rises in a call; both have run a small case before."""
    found: dict[str, Any] = {}
    print("\npeak memory of the call (resident, MiB; fresh processes)")
    for size in (512, 2048, 4096):
        rises = {}
        for who in ("ours", "pydensecrf2"):
            words = [sys.executable, __file__, "--probe", who, str(size)]
            rises[who] = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        found[str(size)] = rises
        print(
            f"  {size} x {size}: ours {rises['ours'] / 2**20:.0f}, pydensecrf2 {rises['pydensecrf2'] / 2**20:.0f} "
            f"({rises['ours'] / rises['pydensecrf2']:.2f}x), ours per pixel {rises['ours'] / size**2:.0f} bytes"
        )
    return found


def probe_memory(who: str, size: int) -> None:
    """Print by how many bytes a call raises the peak."""
    from pipeline.crf import mean_field

    for shape in ((64, 64), (size, size)):
        case = Case(shape, 2, 3, (3, 80, 13))
        prob, image = (np.ascontiguousarray(item) for item in _read_or_make(case))
        before = _read_resident()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        if who == "ours":
            mean_field(prob, image, threads=2, **case.options)
        else:
            run_peer(case, prob, image)
    print(_read_status("VmHWM") - before)


def _read_or_make(case: Case) -> tuple[Any, Any]:
    """Make the data in another process, so that its memory is not reused here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        words = [sys.executable, __file__, "--make", str(path), str(case.shape[0])]
        subprocess.run(words, check=True)
        with np.load(path) as stored:
            return stored["prob"], stored["image"]


def _read_status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _read_resident() -> int:
    return _read_status("VmRSS")


def measure_compile() -> dict[str, float]:
    """Time the first call of a process: nothing compiled yet, and with the machine code on disk."""
    code = (
        "import time, numpy as np; from pipeline.crf import mean_field;"
        "p = np.full((LABELS, 16, 16), 1 / LABELS, np.float32);"
        "i = np.zeros((16, 16, 3), np.uint8); t = time.perf_counter();"
        "mean_field(p, i, spatial_weight=1, spatial_width=1, bilateral_weight=1, bilateral_width=1, "
        "bilateral_intensity=1, iterations=1); print(time.perf_counter() - t)"
    )
    found = {}
    print("\nfirst call of a process (import of numba and compilation)")
    with tempfile.TemporaryDirectory() as folder:
        for label in ("nothing on disk", "from disk"):
            for labels in (2, 4):
                words = [sys.executable, "-c", code.replace("LABELS", str(labels))]
                done = subprocess.run(
                    words, check=True, capture_output=True, text=True, env={**os.environ, "NUMBA_CACHE_DIR": folder}
                )
                found[f"{label}, {labels} labels"] = float(done.stdout)
                print(f"  {label}, {labels} labels: {float(done.stdout):.1f} s")
    return found


#: Goals of a cold call by shape, labels and threads.
GOALS = {
    ("512 x 512 RGB, 2 labels", 1): 2.0,
    ("512 x 512 RGB, 2 labels", 2): 3.0,
    ("512 x 512 RGB, 4 labels", 1): 1.5,
    ("48 x 96 x 96, 2 labels", 1): 3.0,
}


def make_rows(found: dict[str, Any]) -> list[Row]:
    """Return the rows of a record."""
    rows = []
    for name, lines in found.get("speed", {}).items():
        for threads in (1, 2):
            what, goal = f"{name}, {describe_threads(threads)}", GOALS.get((name, threads))
            if f"{describe_threads(threads)} cold" not in lines:
                rows.append(Row(what, PEER, None, None, goal, note="not measured: the machine was shared"))
                continue
            line = lines[f"{describe_threads(threads)} cold"]
            accuracy = f"label IoU {line['label_iou']:.4f} (at least {IOU}), max dQ {line['max_dq']:.0e}"
            if "ratio" in line:
                unit = "wall_ms" if threads > 1 else "cpu_ms"
                times, spread = (lines[PEER][unit], line[unit]), tuple(line["ratios"])
                rows.append(Row(what, PEER, *times, goal, line["ratio"], spread, accuracy))
            else:
                rows.append(Row(what, PEER, None, None, goal, None, None, accuracy, False, "the results differ"))
    for name, ratio in found.get("scale", {}).items():
        what = f"time per pixel at 4096 x 4096, {name}"
        rows.append(Row(what, "ours at 512 x 512 (= 1)", 1.0, ratio, goal=1 / 1.5))
    for size, rises in found.get("memory", {}).items():
        theirs, ours = (rises[who] / 2**20 for who in ("pydensecrf2", "ours"))
        rows.append(Row(f"peak memory at {size} x {size}, MiB", PEER, theirs, ours, goal=1.0))
    return rows


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", nargs="+", type=int, choices=(1, 2), default=[1, 2], help="threads of ours")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        probe_memory(args.probe[0], int(args.probe[1]))
        return
    if args.make:
        prob, image = Case((int(args.make[1]),) * 2, 2, 3, (3, 80, 13)).make()
        np.savez(args.make[0], prob=prob, image=image)
        return
    names = ("numpy", "numba", "torch", "pydensecrf2")
    facts = {**{name: metadata.version(name) for name in names}, "load": os.getloadavg(), "cores": os.cpu_count()}
    print(f"{facts}, {ITERATIONS} iterations, medians of {args.repeats}; time of pydensecrf2 / time of ours")
    found: dict[str, Any] = {"facts": facts}
    if "speed" in args.parts:
        found["speed"] = measure_speed(args.repeats, args.cases, args.threads)
    if "scale" in args.parts:
        found["scale"] = measure_scale(3, args.threads)
    if "memory" in args.parts:
        found["memory"] = measure_memory()
    if "compile" in args.parts:
        found["compile"] = measure_compile()
    print(f"\nload at the end: {os.getloadavg()}")
    if set(found) - {"facts", "compile"}:
        title = f"Dense CRF, {ITERATIONS} iterations"
        unit = "ms of the processor with one thread, of the clock with two"
        write_record(args.json, build_record("crf", title, unit, make_rows(found), threads=max(args.threads)))


if __name__ == "__main__":
    main()

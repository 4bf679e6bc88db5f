"""Train a bundle with override A and with override B, for several seeds, and compare the scores of the validation.

A change that makes training faster (another layout, another way to augment, another normalisation) must not change what
is learnt. Both sides train the same epochs with the same seeds, each training in a process of its own, in turns. The
condition is that the means over the seeds differ by at most ``--tolerance``; the range over the seeds is printed, for
a difference within it is chance. Scores are those of the key metric, after the last epoch (``last``) or of the best
validation (``best``). Seconds are those of the processor.

Without ``--dataset_dir`` both train on the phantom that the bundle names in its metadata; ``--size`` makes that larger,
e.g. ``{"cases": 20}``. Overrides are a JSON file or JSON text; ``--both`` is for what both sides share, such as a
smaller network.

Example:
    python benchmarks/same_scores.py --bundle lgg_unet --b '{"network_def#norm": "instance"}' --epochs 5 --small
    python benchmarks/same_scores.py --bundle hippocampus_segresnet --dataset_dir data/Task04_Hippocampus \
        --a augment_by_sample.json --b augment_in_batches.json --both '{"batch_size": 2}' --epochs 20 --seeds 0 1 2
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from records import Row, build_record, write_record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.datasets import phantoms
from pipeline.datasets.layouts import LAYOUTS
from pipeline.runs.run_folder import read_run

ROOT = Path(__file__).resolve().parents[1]


def read_override(text: str) -> dict[str, Any]:
    """Return an override given as a file or as JSON text."""
    content = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
    override: dict[str, Any] = json.loads(content)
    return override


def write_phantom(bundle: Path, folder: Path, size: dict[str, Any]) -> dict[str, str]:
    """Write the phantom of a bundle; returns the settings that point to it."""
    named = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))["phantom"]
    manifest = getattr(phantoms, LAYOUTS[named["layout"]].phantom)(folder, **{**named["options"], **size})
    (root,) = (path for path in folder.iterdir() if path.is_dir())
    return {"dataset_dir": str(root), "manifest": str(manifest.with_name(named.get("manifest", manifest.name)))}


def train(bundle: Path, overrides: list[Path], settings: dict[str, Any], output: Path) -> dict[str, float]:
    """Train in another process and return its scores and seconds.

    Raises:
        SystemExit: the training failed; its last lines are printed.
    """
    files = [str(path) for path in (bundle / "configs/train.json", *overrides)]
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--logging_file", "False"]
    where = ["--bundle_root", str(bundle), "--output_dir", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(
        [*command, *where, *words], env=environment, cwd=output.parent, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit("\n".join((done.stdout + done.stderr).splitlines()[-15:]))
    return read_scores(output)


def read_scores(output: Path) -> dict[str, float]:
    """Return the scores of the key metric and the seconds of a training."""
    record = read_run(output).record
    events = EventAccumulator(str(output), size_guidance={"scalars": 0})
    events.Reload()
    scores = [event.value for event in events.Scalars(record["best"]["metric"])]
    return {"best": max(scores), "last": scores[-1], "seconds": float(record["processor_seconds"])}


def compare(runs: dict[str, list[dict[str, float]]], score: str) -> tuple[float, float]:
    """Return the difference of the means, B - A, and the larger range over the seeds."""
    values = {side: [run[score] for run in found] for side, found in runs.items()}
    spread = max(max(found) - min(found) for found in values.values())
    return statistics.mean(values["B"]) - statistics.mean(values["A"]), spread


def build_row(options: argparse.Namespace, runs: dict[str, list[dict[str, float]]]) -> Row:
    """Return the row of the record: processor seconds, which count if the scores agree."""
    difference, spread = compare(runs, options.score)
    seconds = {side: statistics.median(run["seconds"] for run in found) for side, found in runs.items()}
    means = {side: statistics.mean(run[options.score] for run in found) for side, found in runs.items()}
    return Row(
        what=f"{options.bundle}, {options.epochs} epochs, {len(options.seeds)} seeds: {options.names[1]}",
        peer=options.names[0],
        peer_value=seconds["A"],
        ours=seconds["B"],
        accuracy=f"mean score {means['A']:.4f} and {means['B']:.4f}, difference {difference:+.4f} "
        f"(at most {options.tolerance})",
        counts=abs(difference) <= options.tolerance,
        note=f"range over the seeds up to {spread:.4f}; training and validation together",
    )


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Train both sides for all seeds and print a line for each training."""
    bundle = ROOT / "bundles" / options.bundle
    manifest = {"manifest": str(options.manifest.resolve())} if options.manifest else {}
    data: dict[str, Any] = (
        {"dataset_dir": str(options.dataset_dir.resolve()), **manifest}
        if options.dataset_dir
        else write_phantom(bundle, folder / "phantom", options.size)
    )
    small = [bundle / "configs/phantom.json"] if options.small else []
    files = {}
    for side, override in (("A", options.a), ("B", options.b)):
        files[side] = folder / f"{side}.json"
        files[side].write_text(json.dumps({**options.both, **override}), encoding="utf-8")
    runs: dict[str, list[dict[str, float]]] = {"A": [], "B": []}
    for seed in options.seeds:
        settings = {**data, "seed": seed, "max_epochs": options.epochs, "val_interval": options.val_interval}
        for side in runs if seed % 2 == 0 else reversed(runs):
            found = train(bundle, [*small, files[side]], settings, folder / f"{side}{seed}")
            runs[side].append(found)
            values = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            print(f"seed {seed} {side}: {values}", flush=True)
    return runs


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="name of a bundle of the suite")
    parser.add_argument("--a", type=read_override, default={}, help="override of side A (default: none)")
    parser.add_argument("--b", type=read_override, required=True, help="override of side B")
    parser.add_argument("--both", type=read_override, default={}, help="override of both sides")
    parser.add_argument("--names", nargs=2, default=["A", "B"], help="what A and B are, for the record")
    parser.add_argument("--small", action="store_true", help="add the bundle's phantom.json: a small network")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each training (default: 10)")
    parser.add_argument("--val_interval", type=int, default=1, help="epochs between validations (default: 1)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--dataset_dir", type=Path, help="folder of the real data (default: a phantom)")
    parser.add_argument("--manifest", type=Path, help="with --dataset_dir: another manifest than the bundle's")
    parser.add_argument("--size", type=json.loads, default={}, help="options of the phantom, such as '{\"cases\": 20}'")
    parser.add_argument("--score", choices=["best", "last"], default="best", help="which score (default: best)")
    parser.add_argument("--tolerance", type=float, default=0.005, help="allowed difference (default: 0.005)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    return parser


def main() -> int:
    """Train, compare and print; return 1 if the scores differ by more than the tolerance."""
    options = make_parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = run_all(options, Path(folder))
    for score in ("best", "last"):
        difference, spread = compare(runs, score)
        print(f"{score}: B - A {difference:+.4f}, range over the seeds up to {spread:.4f}")
    row = build_row(options, runs)
    print(f"{'same' if row.counts else 'NOT the same'} score: {row.accuracy}")
    write_record(
        options.json, build_record("same_scores", f"Same scores: {options.names[1]}", "s of processor time", [row])
    )
    return 0 if row.counts else 1


if __name__ == "__main__":
    sys.exit(main())

"""Time what a sender and a receiver type for each bundle: check, audit, pack, verify with the reference case.

The commands run as processes of their own, as a user types them, in turns; the median of the repetitions counts.
Bundles without weights get untrained ones, in a copy. ``audit`` reads the copy without its weights, ``verify`` the zip
file. Beside them stand what is no work of ours: an empty process that imports MONAI, which ``check``, ``pack`` and
``verify`` contain, and ``verify_net_in_out``, MONAI's own check of the network against the metadata. Every command must
succeed, and all zip files of a bundle must have the same bytes.

Example:
    python benchmarks/sharing.py --bundles isic_unet hippocampus_segresnet --json sharing.json
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from records import Row, build_record, write_record

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = [sys.executable, "-m", "pipeline", "bundle"]
MONAI = [sys.executable, "-m", "monai.bundle"]
# Seconds that a command may take on two cores.
LIMITS = {"check": 5, "audit": 2, "pack": 10, "verify": 30}


@dataclass(frozen=True)
class Timing:
    """What a command took."""

    wall: float  #: seconds
    cpu: float  #: seconds of all its threads, user and system
    code: int  #: exit code


def copy_bundle(bundle: Path, folder: Path) -> Path:
    """Copy a bundle; untrained weights are made if it has none."""
    copied = Path(shutil.copytree(bundle, folder / bundle.name))
    weights = copied / "models/model.pt"
    if not weights.is_file():
        weights.parent.mkdir(exist_ok=True)
        torch.manual_seed(0)
        config = ConfigParser.load_config_file(copied / "configs/train.json")
        torch.save(ConfigParser(config).get_parsed_content("network_def").state_dict(), weights)
    return copied


def list_commands(bundle: Path, archive: Path) -> dict[str, list[str]]:
    """Return the commands to time, by name."""
    configs = bundle / "configs"
    config, metadata = str(configs / "inference.json"), str(configs / "metadata.json")
    peer = ["verify_net_in_out", "network_def", "--config_file", config, "--meta_file", metadata, "--device", "cpu"]
    bare = bundle.parent / "bare" / bundle.name
    shutil.copytree(bundle, bare, ignore=shutil.ignore_patterns("models"))
    return {
        "import": [sys.executable, "-c", "import monai.bundle"],
        "check": [*PIPELINE, "check", str(bundle)],
        "audit": [*PIPELINE, "audit", str(bare)],
        "pack": [*PIPELINE, "pack", str(bundle), "-o", str(archive)],
        "verify": [*PIPELINE, "verify", str(archive), "--reference"],
        "peer": [*MONAI, *peer],
    }


def run(command: list[str]) -> Timing:
    """Run a command and time it."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()
            print(f"exit {process.returncode}: {' '.join(command)}: {lines[-1] if lines else ''}", file=sys.stderr)
    return Timing(seconds, usage.ru_utime + usage.ru_stime, process.returncode)


def measure(bundle: Path, repeats: int) -> tuple[dict[str, list[Timing]], bool]:
    """Time all commands for a bundle, in turns; also return whether all zip files had the same bytes."""
    found: dict[str, list[Timing]] = {}
    digests = set()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "sent.zip"
        commands = list_commands(copy_bundle(bundle, Path(folder)), archive)
        for _ in range(repeats):
            for name, command in commands.items():
                found.setdefault(name, []).append(run(command))
            digests.add(hashlib.sha256(archive.read_bytes()).hexdigest() if archive.is_file() else "")
    return found, len(digests) == 1 and digests != {""}


def find_problems(name: str, found: dict[str, list[Timing]], *, equal: bool) -> list[str]:
    """List commands that failed or took too long, and zip files that differ."""
    failed = [word for word in LIMITS if any(timing.code for timing in found[word])]
    problems = [f"{name}: {word} failed" for word in failed]
    slow = {word: statistics.median(timing.wall for timing in found[word]) for word in LIMITS}
    problems += [f"{name}: {word} took {slow[word]:.1f} s" for word in LIMITS if slow[word] > LIMITS[word]]
    return problems if equal else [*problems, f"{name}: the zip files differ"]


def make_rows(name: str, times: dict[str, dict[str, float]], problems: list[str]) -> list[Row]:
    """Return the rows of a record: each command against its limit, and verify against MONAI's check."""
    good = {word: not any(text.startswith(f"{name}: {word} failed") for text in problems) for word in LIMITS}
    same = f"{name}: the zip files differ" not in problems
    accuracy = "exit code 0" + (", same bytes" if same else ", but the zip files differ")
    rows = []
    for word, limit in LIMITS.items():
        counts = good[word] and same
        what, peer = f"{name}: {word}", "the project's limit"
        rows.append(Row(what, peer, limit, times[word]["cpu"], goal=1.0, accuracy=accuracy, counts=counts))
    note = "MONAI's checks shapes only; verify also checks all files and predicts the reference case"
    theirs, ours = times["peer"]["cpu"], times["verify"]["cpu"]
    return [*rows, Row(f"{name}: verify", "MONAI verify_net_in_out", theirs, ours, accuracy=accuracy, note=note)]


def main() -> int:
    """Print a line for each bundle; return 1 if a condition does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(path.name for path in (ROOT / "bundles").iterdir() if (path / "configs").is_dir())
    parser.add_argument("--bundles", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the record there")
    args = parser.parse_args()
    words = ("import", *LIMITS, "peer")
    print(f"{os.cpu_count()} cores; seconds of wall / CPU, medians of {args.repeats}")
    print("".join([f"{'bundle':24}", *(f"{word:>14}" for word in words), f"{'same bytes':>12}"]), flush=True)
    numbers, problems = {}, []
    for name in args.bundles:
        found, equal = measure(ROOT / "bundles" / name, args.repeats)
        numbers[name] = {
            word: {key: statistics.median(getattr(one, key) for one in found[word]) for key in ("wall", "cpu")}
            for word in words
        }
        cells = [f"{numbers[name][word]['wall']:.1f} / {numbers[name][word]['cpu']:.1f}" for word in words]
        print("".join([f"{name:24}", *(f"{cell:>14}" for cell in cells), f"{equal!s:>12}"]), flush=True)
        problems += find_problems(name, found, equal=equal)
    rows = [row for name in args.bundles for row in make_rows(name, numbers[name], problems)]
    unit = "s of processor time of all threads, whole processes"
    title = "Check, audit, pack and verify a bundle"
    write_record(args.json, build_record("sharing", title, unit, rows, threads=torch.get_num_threads()))
    print("\n".join(problems) or "all conditions hold")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())

"""A bundle against nnU-Net v2: the same cases and fold, equal time of the processor, scores paired by subject.

The bundle trains for ``--max_epochs`` and is scored on its fold by `evaluate.json`. nnU-Net gets the same cases and the
same fold (`pipeline dataset convert --to nnunet`), its own plan, and as many seconds of the processor for its training
as the bundle's process took for training, validations and start together; planning, preprocessing and prediction are
not counted against it. Its learning rate falls to zero in that time, as the bundle's does. Both predict in their
default way, and both are scored by this package on the labels' own grid.

``--variant`` names how nnU-Net trains: ``own`` (SGD, the plan's batch, float32, as it comes) or ``short``: Adam,
batches of 2 and bfloat16, which did best in short trainings. nnU-Net lives in an environment of its own:
``python -m venv nnunet && nnunet/bin/pip install torch==2.13.0 nnunetv2==2.8.1``.

Example:
    python benchmarks/nnunet.py --bundle hippocampus_segresnet --dataset_dir data/hippocampus/Task04_Hippocampus \
        --max_epochs 10 --configuration 3d_fullres --nnunet nnunet/bin --work study --json nnunet.json
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import LoadImage

from pipeline.datasets.datalist import load_datalist
from pipeline.datasets.manifests.manifest import make_subject_key
from pipeline.runs.run_folder import read_run
from pipeline.statistics.paired import compare_paired

ROOT = Path(__file__).resolve().parents[1]
NAME = "Dataset900_Benchmark"
VARIANTS = {
    "own": {"NNUNET_OPTIMIZER": "sgd"},
    "short": {"NNUNET_OPTIMIZER": "adam", "NNUNET_BATCH": "2", "NNUNET_BF16": "1"},
}


def run(words: list[str], log: Path, **environment: str) -> float:
    """Run a command with one thread; return its seconds of the processor.

    Raises:
        SystemExit: it failed; its last lines are printed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment}
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(words, env=variables, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(words)}\n" + "\n".join(log.read_text(encoding="utf-8").splitlines()[-12:]))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train_bundle(args: argparse.Namespace, metric: str) -> tuple[float, dict[str, float]]:
    """Train and evaluate the bundle; return seconds of the training's process and scores by case."""
    configs = ROOT / "bundles" / args.bundle / "configs"
    values = [
        *("--bundle_root", str(ROOT / "bundles" / args.bundle), "--dataset_dir", str(args.dataset_dir)),
        *("--fold", str(args.fold), "--seed", str(args.seed), "--allow_missing", "true"),
    ]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
    folder = args.work / "bundle"
    seconds = run(
        [
            *command,
            str(configs / "train.json"),
            *values,
            *("--output_dir", str(folder), "--max_epochs", str(args.max_epochs)),
            *("--val_interval", str(max(1, args.max_epochs // 3))),
        ],
        args.work / "bundle_train.log",
        PYTHONPATH=str(ROOT),
    )
    both = f"['{configs / 'train.json'}','{configs / 'evaluate.json'}']"
    scored = ["--checkpoint", str(folder / "model.pt"), "--output_dir", str(folder / "evaluate")]
    run([*command, both, *values, *scored], args.work / "bundle_evaluate.log", PYTHONPATH=str(ROOT))
    return seconds, dict(read_run(folder / "evaluate").tables[metric].scores)


def train_nnunet(args: argparse.Namespace, manifest: Path, seconds: float) -> tuple[dict[str, float], Path, Path]:
    """Convert, plan, train for so many seconds, predict; return seconds by step, predictions and raw data."""
    raw, bin_ = args.work / "raw" / NAME, args.nnunet
    places = {f"nnUNet_{name}": str(args.work / name) for name in ("raw", "preprocessed", "results")}
    environment = {
        **places,
        "nnUNet_extTrainer": str(ROOT / "benchmarks/nnunet_trainers"),
        "nnUNet_compile": "f",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
        "NNUNET_SECONDS": f"{seconds:.1f}",
        **VARIANTS[args.variant],
    }
    spent = {}
    if not raw.is_dir():
        convert = [sys.executable, "-m", "pipeline", "dataset", "convert", str(manifest)]
        convert += ["--dataset_dir", str(args.dataset_dir), "--to", "nnunet", "-o", str(raw), "--fold", str(args.fold)]
        run([*convert, *(["--slices"] if args.slices else [])], args.work / "convert.log", PYTHONPATH=str(ROOT))
    number = NAME[7:10]
    plan = [
        str(bin_ / "nnUNetv2_plan_and_preprocess"),
        "-d",
        number,
        "-c",
        args.configuration,
        "-npfp",
        "1",
        "-np",
        "1",
    ]
    spent["plan and preprocess"] = run(plan, args.work / "plan.log", **environment)
    splits = raw / "splits_final.json"
    shutil.copy(splits, args.work / "preprocessed" / NAME / splits.name)
    train = [
        str(bin_ / "nnUNetv2_train"),
        number,
        args.configuration,
        "0",
        "-tr",
        "TrainerForSeconds",
        "-device",
        "cpu",
    ]
    # Augmentation in the same process, so that its time counts.
    spent["train and predict"] = run(train, args.work / "nnunet_train.log", **environment | {"nnUNet_n_proc_DA": "0"})
    results = args.work / "results" / NAME / f"TrainerForSeconds__nnUNetPlans__{args.configuration}"
    return spent, results / "fold_0/validation", raw


def score_nnunet(predictions: Path, raw: Path, cases: Mapping[str, str], classes: int) -> dict[str, float]:
    """Return the mean Dice over classes by case; a class that is empty on both sides is left out of the mean."""
    load = LoadImage(image_only=True)
    scores = {}
    for case, name in cases.items():
        guess, truth = (np.rint(np.asarray(load(str(folder / name)))) for folder in (predictions, raw / "labelsTr"))
        found = []
        for label in range(1, classes + 1):
            both = (guess == label).sum() + (truth == label).sum()
            found.append(2 * ((guess == label) & (truth == label)).sum() / both if both else np.nan)
        scores[case] = float(np.nanmean(found))
    return scores


def main() -> None:
    """Train both, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="name of the bundle")
    parser.add_argument("--dataset_dir", type=Path, required=True, help="folder of the data")
    parser.add_argument("--fold", type=int, default=0, help="validation fold (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the bundle's training (default: 0)")
    parser.add_argument("--max_epochs", type=int, default=10, help="of the bundle's training (default: 10)")
    parser.add_argument("--metric", default="dice_volume", help="the bundle's score (default: dice_volume)")
    parser.add_argument("--configuration", default="3d_fullres", help="of nnU-Net (default: 3d_fullres)")
    parser.add_argument("--slices", action="store_true", help="give nnU-Net slices instead of volumes")
    parser.add_argument("--variant", choices=VARIANTS, default="short", help="how nnU-Net trains (default: short)")
    parser.add_argument("--nnunet", type=Path, required=True, help="folder of nnU-Net's commands")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--json", type=Path, help="write the results here too")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.work, args.nnunet, args.dataset_dir = (path.absolute() for path in (args.work, args.nnunet, args.dataset_dir))
    manifest = ROOT / "bundles" / args.bundle / "configs/manifest.json"
    items = load_datalist(manifest, args.dataset_dir, "val", args.fold, check=False, allow_missing=True)
    seconds, ours = train_bundle(args, args.metric)
    print(f"{args.bundle}: {args.max_epochs} epochs, {seconds:.0f} s, {args.metric} {np.mean(list(ours.values())):.4f}")
    spent, predictions, raw = train_nnunet(args, manifest, seconds)
    names = {item["case_id"]: f"{item['case_id']}.nii.gz" for item in items}
    classes = json.loads((raw / "dataset.json").read_text())["labels"]
    theirs = score_nnunet(predictions, raw, names, len(classes) - 1)
    steps = re.findall(r"^STEPS (\d+)", (args.work / "nnunet_train.log").read_text(), flags=re.MULTILINE)
    print(
        f"nnU-Net {args.variant}: {seconds:.0f} s, {', '.join(steps)} steps, Dice {np.mean(list(theirs.values())):.4f}"
    )
    subjects = {item["case_id"]: make_subject_key(item["subject"], item["case_id"]) for item in items}
    difference = compare_paired(ours, theirs, subjects)
    print(f"ours minus nnU-Net's: {difference}")
    result: dict[str, Any] = {"seconds": seconds, "ours": ours, "nnunet": theirs, "spent": spent, "steps": steps}
    if args.json:
        args.json.write_text(json.dumps({**result, "difference": str(difference)}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""A bundle against nnU-Net v2: the same cases and fold, equal time of the processor, scores paired by subject.

The bundle trains with each budget (``--max_epochs 4 12``, or ``--minutes 5 15 60`` where its configs have
``budget_minutes``) and is scored on its fold by `evaluate.json`. nnU-Net gets the same cases and the same fold
(`pipeline dataset convert --to nnunet`), its own plan, and as many seconds of the processor for its training as the
bundle's process took for training, validations and start together; planning, preprocessing and prediction are not
counted against it. Its learning rate falls to zero in that time, as the bundle's does. Both predict in their default
way, and both are scored by this package on the labels' own grid. The goal is a ratio of scores of 1 at 5, 15 and 60
minutes; the record says which of them were not measured.

``--variants`` name how nnU-Net trains: ``own`` (SGD, the plan's batch, float32, as it comes) and ``short``: Adam,
batches of 2 and bfloat16, which did best in short trainings. nnU-Net lives in an environment of its own:
``python -m venv nnunet && nnunet/bin/pip install torch==2.13.0 nnunetv2==2.8.1``. What is done is not done again: the
same command with more budgets goes on in the same ``--work``.

Example:
    python benchmarks/nnunet.py --bundle hippocampus_segresnet --dataset_dir data/hippocampus/Task04_Hippocampus \
        --max_epochs 4 12 --configuration 3d_fullres --nnunet nnunet/bin --work study --json nnunet.json
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import LoadImage
from records import Row, build_record, write_record

from pipeline.datasets.datalist import load_datalist
from pipeline.datasets.manifests.manifest import make_subject_key
from pipeline.runs.run_folder import read_run
from pipeline.statistics.intervals import find_mean_interval
from pipeline.statistics.paired import Difference, compare_paired

ROOT = Path(__file__).resolve().parents[1]
NAME = "Dataset900_Benchmark"
MINUTES, NEAR = (5, 15, 60), 0.25  # budgets with a goal; a measured one may be so much shorter or longer
VARIANTS = {
    "own": {"NNUNET_OPTIMIZER": "sgd"},
    "short": {"NNUNET_OPTIMIZER": "adam", "NNUNET_BATCH": "2", "NNUNET_BF16": "1"},
}
Result = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """What a training of the bundle may take."""

    #: Setting of the bundle that limits it.
    setting: str
    #: Value of the setting.
    value: str

    @property
    def name(self) -> str:
        """Name of its folders."""
        return f"{self.setting}_{self.value}"


def remember(path: Path, make: Callable[[], Result]) -> Result:
    """Return what a file holds; if there is none, make it first."""
    if not path.is_file():
        found = make()
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    return result


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


def train_bundle(args: argparse.Namespace, budget: Budget) -> Result:
    """Train and evaluate the bundle; return seconds of the training's process and scores by case."""
    bundle = ROOT / "bundles" / args.bundle
    values = [
        *("--bundle_root", str(bundle), "--dataset_dir", str(args.dataset_dir)),
        *("--fold", str(args.fold), "--seed", str(args.seed), "--allow_missing", "true"),
    ]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
    folder, log = args.work / budget.name, args.work / f"{budget.name}.log"
    limits = [f"--{budget.setting}", budget.value]
    if budget.setting == "max_epochs":
        limits += ["--val_interval", str(max(1, int(budget.value) // 3))]
    train = str(bundle / "configs/train.json")
    shutil.rmtree(folder, ignore_errors=True)
    output = ["--output_dir", str(folder)]
    seconds = run([*command, train, *values, *output, *limits], log, PYTHONPATH=str(ROOT))
    both = f"['{train}','{bundle / 'configs/evaluate.json'}']"
    scored = ["--checkpoint", str(folder / "model.pt"), "--output_dir", str(folder / "evaluate")]
    run([*command, both, *values, *scored], log.with_suffix(".evaluate.log"), PYTHONPATH=str(ROOT))
    return {"seconds": seconds, "scores": dict(read_run(folder / "evaluate").tables[args.metric].scores)}


def prepare_nnunet(args: argparse.Namespace) -> Result:
    """Convert the cases, let nnU-Net plan and preprocess them, and give it the fold; return seconds."""
    raw, number = args.work / "raw" / NAME, NAME[7:10]
    manifest = ROOT / "bundles" / args.bundle / "configs/manifest.json"
    shutil.rmtree(raw, ignore_errors=True)
    convert = [sys.executable, "-m", "pipeline", "dataset", "convert", str(manifest)]
    convert += ["--dataset_dir", str(args.dataset_dir), "--to", "nnunet", "-o", str(raw), "--fold", str(args.fold)]
    run([*convert, *(["--slices"] if args.slices else [])], args.work / "convert.log", PYTHONPATH=str(ROOT))
    plan = [str(args.nnunet / "nnUNetv2_plan_and_preprocess"), "-d", number, "-c", args.configuration]
    seconds = run([*plan, "-npfp", "1", "-np", "1"], args.work / "plan.log", **list_variables(args))
    shutil.copy(raw / "splits_final.json", args.work / "preprocessed" / NAME)
    return {"seconds": seconds}


def list_variables(args: argparse.Namespace, results: str = "results") -> dict[str, str]:
    """Return nnU-Net's variables of the environment: its folders, and one process."""
    folders = {"raw": "raw", "preprocessed": "preprocessed", "results": results}
    return {
        **{f"nnUNet_{name}": str(args.work / folder) for name, folder in folders.items()},
        "nnUNet_compile": "f",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
    }


def train_nnunet(args: argparse.Namespace, variant: str, seconds: float, name: str) -> Result:
    """Train for so many seconds, and predict; return seconds with the prediction, steps and scores by case."""
    folder, log = f"results/{name}", args.work / f"{name}.log"
    variables = {**list_variables(args, folder), "NNUNET_SECONDS": f"{seconds:.1f}", **VARIANTS[variant]}
    variables["nnUNet_n_proc_DA"] = "0"  # augmentation in the same process, so that its time counts
    trainer = str(ROOT / "benchmarks/nnunet_trainers/trainer_for_seconds.py")
    data = str(args.work / "preprocessed" / NAME)
    spent = run([str(args.nnunet / "python"), trainer, data, args.configuration], log, **variables)
    trained = args.work / folder / NAME / f"TrainerForSeconds__nnUNetPlans__{args.configuration}"
    raw = args.work / "raw" / NAME
    labels = json.loads((raw / "dataset.json").read_text())["labels"]
    names = {case: f"{case}.nii.gz" for case in list_subjects(args)}
    steps = int((trained / "fold_0/steps.txt").read_text())
    scores = score_nnunet(trained / "fold_0/validation", raw, names, len(labels) - 1)
    return {"seconds": seconds, "with prediction": spent, "steps": steps, "scores": scores}


def list_subjects(args: argparse.Namespace) -> dict[str, str]:
    """Return the validation cases with their subjects."""
    manifest = ROOT / "bundles" / args.bundle / "configs/manifest.json"
    items = load_datalist(manifest, args.dataset_dir, "val", args.fold, check=False, allow_missing=True)
    return {item["case_id"]: make_subject_key(item["subject"], item["case_id"]) for item in items}


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


def find_point(result: Result, subjects: Mapping[str, str]) -> list[float | None]:
    """Return minutes, mean score, and the ends of its interval."""
    scores = result["scores"]
    found = find_mean_interval(list(scores.values()), [subjects[case] for case in scores])
    return [round(result["seconds"] / 60, 2), float(np.nanmean(list(scores.values()))), found.low, found.high]


def compare(ours: Result, theirs: Result, subjects: Mapping[str, str], peer: str, data: str) -> Row:
    """Return the comparison at one budget."""
    difference = compare_paired(ours["scores"], theirs["scores"], subjects, limits=(0.0, 1.0))
    mine, other = (float(np.nanmean(list(result["scores"].values()))) for result in (ours, theirs))
    return Row(
        f"{data}, {ours['seconds'] / 60:.1f} minutes",
        peer,
        other,
        mine,
        goal=1.0,
        ratio=mine / other if other else None,
        accuracy=f"ours minus theirs {describe(difference)}",
        note=f"nnU-Net trained {theirs['steps']} steps" + ("" if other else " and found nothing: no ratio"),
    )


def list_unmeasured(rows: list[Row], lines: Mapping[str, list[Any]], args: argparse.Namespace) -> list[Row]:
    """Return a row for each budget with a goal and each way of nnU-Net that was not measured."""
    note = "not measured: it takes twice that time of a core, and the predictions"
    found = []
    for variant in VARIANTS:
        peer = name_peer(args, variant)
        minutes = [point[0] for point in lines.get(peer, [])]
        missing = [goal for goal in MINUTES if not any(abs(one / goal - 1) <= NEAR for one in minutes)]
        what = f"{args.bundle}, fold {args.fold}"
        found += [Row(f"{what}, {goal} minutes", peer, None, None, 1.0, note=note) for goal in missing]
    return [*rows, *found]


def name_peer(args: argparse.Namespace, variant: str) -> str:
    """Return how the record calls a way of nnU-Net."""
    return f"nnU-Net {args.version} {args.configuration}, {variant}"


def describe(difference: Difference) -> str:
    """Return a difference with its interval, in words."""
    ends = f"{difference.low:.3f} to {difference.high:.3f}" if difference.low is not None else difference.why_not
    return f"{difference.mean:+.3f} ({ends}; {difference.n_cases} cases, {difference.n_subjects} subjects)"


def read_version(commands: Path) -> str:
    """Return the version of nnU-Net."""
    code = "from importlib.metadata import version; print(version('nnunetv2'))"
    return subprocess.run([str(commands / "python"), "-c", code], check=True, capture_output=True, text=True).stdout[
        :-1
    ]


def measure(args: argparse.Namespace, budgets: list[Budget]) -> tuple[list[Row], dict[str, list[Any]]]:
    """Train both sides with every budget, the smallest first; return rows and, by name of a line, points."""
    subjects, rows = list_subjects(args), []
    lines: dict[str, list[Any]] = {}
    data = f"{args.bundle}, fold {args.fold}"
    for budget in budgets:
        ours = remember(args.work / f"{budget.name}.json", lambda budget=budget: train_bundle(args, budget))  # type: ignore[misc]
        lines.setdefault(args.bundle, []).append(find_point(ours, subjects))
        remember(args.work / "prepared.json", lambda: prepare_nnunet(args))
        for variant in args.variants:
            name = f"nnunet_{budget.name}_{variant}"
            seconds = ours["seconds"]
            theirs = remember(
                args.work / f"{name}.json",
                lambda variant=variant, seconds=seconds, name=name: train_nnunet(args, variant, seconds, name),  # type: ignore[misc]
            )
            peer = name_peer(args, variant)
            lines.setdefault(peer, []).append(find_point(theirs, subjects))
            rows.append(compare(ours, theirs, subjects, peer, data))
            print(f"{rows[-1].what}: ours {rows[-1].ours:.4f}, {peer} {rows[-1].peer_value:.4f}", flush=True)
            print(f"  {rows[-1].accuracy}; {rows[-1].note}", flush=True)
    return rows, lines


def main() -> None:
    """Train both with every budget, and print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="name of the bundle")
    parser.add_argument("--dataset_dir", type=Path, required=True, help="folder of the data")
    parser.add_argument("--fold", type=int, default=0, help="validation fold (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the bundle's training (default: 0)")
    budgets = parser.add_mutually_exclusive_group(required=True)
    budgets.add_argument("--max_epochs", nargs="+", default=[], help="budgets of the bundle in epochs")
    budgets.add_argument("--minutes", nargs="+", default=[], help="budgets of the bundle in minutes, `budget_minutes`")
    parser.add_argument("--metric", default="dice_volume", help="the bundle's score (default: dice_volume)")
    parser.add_argument("--configuration", default="3d_fullres", help="of nnU-Net (default: 3d_fullres)")
    parser.add_argument("--slices", action="store_true", help="give nnU-Net slices instead of volumes")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["short"], help="how nnU-Net trains")
    parser.add_argument("--nnunet", type=Path, required=True, help="folder of nnU-Net's commands")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--json", type=Path, help="write the record here too")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.work, args.nnunet, args.dataset_dir = (path.absolute() for path in (args.work, args.nnunet, args.dataset_dir))
    args.version = read_version(args.nnunet)
    wanted = [Budget("max_epochs", value) for value in args.max_epochs]
    wanted += [Budget("budget_minutes", value) for value in args.minutes]
    rows, lines = measure(args, wanted)
    rows = list_unmeasured(rows, lines, args)
    curve = {
        "title": f"{args.bundle} and nnU-Net, fold {args.fold}",
        "x": "minutes of processor time for the training",
        "y": args.metric,
        "lines": [{"name": name, "points": points} for name, points in lines.items()],
    }
    write_record(
        args.json, build_record("nnunet", f"nnU-Net beside `{args.bundle}`", "mean Dice", rows, curves=[curve])
    )


if __name__ == "__main__":
    main()

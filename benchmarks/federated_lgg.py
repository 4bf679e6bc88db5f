"""Hospitals of the LGG set: each alone, federated, or with their images in one place, after equally many steps.

The institution is in the name of a patient's folder (``TCGA_DU_...``). For each fold, every hospital trains a small
``lgg_unet`` on its own patients, NVFlare's simulator trains one at all of them, and one is trained on all images
together; each network is trained for the same number of optimizer steps with the same schedule, starting from random
weights, and the last weights are taken, so that no validation patient chooses anything. All are scored on the
validation patients of all hospitals. Differences are paired by patient.

Example:
    python benchmarks/federated_lgg.py --dataset_dir data/kaggle_3m --folds 0 1 2 --work study --json study.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import monai.bundle
from PIL import Image

from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from pipeline.federated.job import LAST, Plan, write_job
from pipeline.federated.outcome import write_bundle
from pipeline.federated.simulation import simulate
from pipeline.federated.sites import SITES
from pipeline.reports.run_summary import read_scores
from pipeline.statistics.intervals import find_mean_interval
from pipeline.statistics.paired import compare_paired

ROOT = Path(__file__).resolve().parents[1]
HOSPITALS = {"DU": ("DU",), "HT": ("HT",), "CS-FG": ("CS", "FG")}
PAIRS = (("federated", "alone"), ("federated", "alone, elsewhere"), ("federated", "pooled"), ("pooled", "alone"))
# In so few steps nothing is learnt by heart.
LEFT_OUT = {
    *("pipeline.transforms.RandCopyChanneld", "pipeline.transforms.RandGammaByChanneld", "RandScaleIntensityd"),
    *("RandShiftIntensityd", "RandGaussianNoised", "RandGaussianSmoothd", "RandAffined"),
}
Scores = dict[str, dict[str, float]]  # by arm, then by patient


def find_hospital(case_id: str) -> str:
    """Return the hospital of a patient."""
    code = case_id.split("_")[1]
    return next(name for name, codes in HOSPITALS.items() if code in codes)


def make_bundle(work: Path, args: argparse.Namespace) -> Path:
    """Copy the bundle, with an override that makes it small."""
    bundle = work / "lgg_small"
    if not bundle.exists():
        shutil.copytree(ROOT / "bundles/lgg_unet", bundle, ignore=shutil.ignore_patterns("models", "output"))
    train = json.loads((bundle / "configs/train.json").read_text())["train"]
    for step in train["random_transforms"]:
        if step["_target_"] == "RandCropByLabelClassesd":
            step["num_samples"] = 4  # most of the time goes into padding whole volumes
    small = {
        "network_def#features": [8, 16, 32, 64, 128, 8],
        "roi_size": [args.size, args.size, 3],
        "network_def#norm": "instance",
        "train#random_transforms": train["random_transforms"],
        "train#augmentation": [step for step in train["augmentation"] if step["_target_"] not in LEFT_OUT],
        "batch_size": args.batch_size // 4,
        "learning_rate": args.learning_rate,
        "slices_per_patient": 4,
        "train#trainer#epoch_length": args.steps,
        "amp": False,
    }
    (bundle / "configs/small.json").write_text(json.dumps(small))
    return bundle


def shrink(cases: Sequence[Case], source: Path, target: Path) -> list[Case]:
    """Write the slices at half their size, and return the cases as they are then."""
    shrunk = []
    for case in cases:
        for name in case.files():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            picture = Image.open(source / name).reduce(2)
            if name in (case.label or ()):
                picture = picture.point(lambda value: 255 if value > 127 else 0)
            picture.save(target / name)
        rows, columns, slices = case.facts["shape"]
        shrunk.append(replace(case, sha256={}, facts={"shape": [rows // 2, columns // 2, slices]}))
    return shrunk


def write_manifests(args: argparse.Namespace, work: Path) -> Manifest:
    """Write a manifest for each hospital and one for all, with the patients whose images are there."""
    manifest = read_manifest(args.manifest)
    present = [case for case in manifest.cases if (args.dataset_dir / case.case_id).is_dir() and case.fold is not None]
    if args.half:
        present, args.dataset_dir = shrink(present, args.dataset_dir, work / "kaggle_3m"), work / "kaggle_3m"
    for name in HOSPITALS:
        own = tuple(case for case in present if find_hospital(case.case_id) == name)
        write_manifest(replace(manifest, cases=own, named_splits={}), work / f"{name}.json")
    everyone = replace(manifest, cases=tuple(present), named_splits={})
    write_manifest(everyone, work / "pooled.json")
    return everyone


def train(bundle: Path, settings: Mapping[str, Any], output_dir: Path) -> Path:
    """Train on the images of one place; return the last weights."""
    monai.bundle.run(
        config_file=[str(bundle / "configs" / name) for name in ("train.json", "small.json")],
        bundle_root=str(bundle),
        output_dir=str(output_dir),
        val_interval=settings["max_epochs"] + 1,
        logging_file=False,
        **settings,
    )
    return output_dir / f"last_epoch={settings['max_epochs']}.pt"


def federate(bundle: Path, work: Path, settings: Mapping[str, Any], output_dir: Path) -> Path:
    """Train at all hospitals with NVFlare's simulator; return the last average."""
    folder, plan = (
        output_dir / "federation",
        Plan(bundle, tuple(HOSPITALS), settings["max_epochs"], 1, ("train.json", "small.json"), seed=settings["seed"]),
    )
    places = {"dataset_dir": settings["dataset_dir"], "manifest": f"{work}/{{site}}.json"}
    write_job(plan, folder, {**places, "output_dir": f"{output_dir}/{{site}}"})
    sites = json.loads((folder / SITES).read_text())
    for site in sites.values():
        site["settings"] = {key: settings[key] for key in ("fold", "seed")}
    (folder / SITES).write_text(json.dumps(sites))
    result = simulate(folder)
    write_bundle(replace(result, weights=result.weights.with_name(LAST)), bundle, output_dir / "bundle")
    return output_dir / "bundle/models/model.pt"


def score(bundle: Path, checkpoint: Path, settings: Mapping[str, Any], output_dir: Path) -> dict[str, float]:
    """Score weights on the validation patients of all hospitals; return the Dice of each."""
    monai.bundle.run(
        config_file=[str(bundle / "configs" / name) for name in ("train.json", "evaluate.json", "small.json")],
        bundle_root=str(bundle),
        checkpoint=str(checkpoint),
        output_dir=str(output_dir),
        flips=[],
        logging_file=False,
        **settings,
    )
    return {case: value for case, value in read_scores(output_dir / "dice_patient_raw.csv").items() if "TCGA" in case}


def run_fold(fold: int, bundle: Path, work: Path, args: argparse.Namespace) -> Scores:
    """Train and score all arms of one fold."""
    common = {"dataset_dir": str(args.dataset_dir), "fold": fold, "seed": fold}
    pooled = {**common, "manifest": str(work / "pooled.json")}
    scores: Scores = {}
    for arm in ("federated", "pooled", *HOSPITALS):
        output, start = work / f"fold{fold}" / arm, time.monotonic()
        settings = {**common, "max_epochs": args.rounds}
        if arm == "federated":
            weights = federate(bundle, work, settings, output)
        else:
            weights = train(bundle, {**settings, "manifest": str(work / f"{arm}.json")}, output)
        scores[arm] = score(bundle, weights, pooled, output / "evaluate")
        spent = os.times()
        cpu = sum(spent[:4]) / 60
        print(
            f"fold {fold} {arm}: {mean(scores[arm].values()):.3f}, {time.monotonic() - start:.0f} s, {cpu:.1f} min CPU"
        )
    return scores


def merge(folds: Sequence[Scores]) -> Scores:
    """Join the folds, in which the patients differ; the arm of each patient's own hospital is ``alone``."""
    arms: Scores = {arm: {} for arm in (*folds[0], "alone", "alone, elsewhere")}
    for fold in folds:
        for arm, scores in fold.items():
            arms[arm].update(scores)
        for case in fold["pooled"]:
            home = find_hospital(case)
            arms["alone"][case] = fold[home][case]
            arms["alone, elsewhere"][case] = mean(fold[name][case] for name in HOSPITALS if name != home)
    return arms


def find_patient(case: str) -> str:
    """Return the patient of a case, whose id ends with a date."""
    return re.sub(r"_\d{8}$", "", case)


def tabulate(arms: Scores) -> Iterator[str]:
    """Yield the rows of the tables."""
    groups = {name: [case for case in arms["pooled"] if find_hospital(case) == name] for name in HOSPITALS}
    groups["all"] = list(arms["pooled"])
    yield "| trained on | " + " | ".join(f"{name} ({len(cases)})" for name, cases in groups.items()) + " |"
    yield "|---" * (len(groups) + 1) + "|"
    for arm, scores in arms.items():
        cells = [f"{mean(scores[case] for case in cases):.3f}" for cases in groups.values()]
        found = find_mean_interval(list(scores.values()), [find_patient(case) for case in scores])
        interval = found.why_not or f"{found.low:.3f} to {found.high:.3f}"
        yield f"| {arm} | {' | '.join(cells)} ({interval}) |"
    yield ""
    yield "| difference | patients | mean | 95 % interval | |"
    yield "|---|---|---|---|---|"
    for first, second in PAIRS:
        for group, cases in groups.items():
            one, other = ({case: arms[arm][case] for case in cases} for arm in (first, second))
            paired = compare_paired(one, other, {case: find_patient(case) for case in cases}, limits=(0.0, 1.0))
            low, high = paired.low or 0.0, paired.high or 0.0
            verdict = "better" if low > 0 else "worse" if high < 0 else "cannot be told"
            row = f"{first} - {second} | {group} ({paired.n_cases}) | {paired.mean:+.3f} | {low:+.3f} to {high:+.3f}"
            yield f"| {row} | {verdict} |"


def main() -> None:
    """Run the folds that are not in the JSON file yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="folder kaggle_3m")
    parser.add_argument("--manifest", type=Path, default=ROOT / "data_manifests/lgg.json")
    parser.add_argument("--half", action="store_true", help="at half the size, four times as fast")
    parser.add_argument("--folds", type=int, nargs="+", default=[0], help="folds, each with its own seed")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of one epoch")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of an epoch, in every arm")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--size", type=int, default=96, help="side of the crops, in pixels")
    parser.add_argument("--learning_rate", type=float, default=0.003)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is trained")
    parser.add_argument("--json", type=Path, required=True, help="scores by fold, arm and patient")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    work = args.work.absolute()
    args.dataset_dir = args.dataset_dir.absolute()
    work.mkdir(parents=True, exist_ok=True)
    write_manifests(args, work)
    bundle = make_bundle(work, args)
    folds: dict[str, Scores] = json.loads(args.json.read_text()) if args.json.exists() else {}
    for fold in args.folds:
        if str(fold) not in folds:
            folds[str(fold)] = run_fold(fold, bundle, work, args)
            args.json.write_text(json.dumps(folds, indent=1))
    print("\n".join(tabulate(merge(list(folds.values())))))


if __name__ == "__main__":
    main()

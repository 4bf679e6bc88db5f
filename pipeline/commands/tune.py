"""The command ``pipeline tune``: its arguments and what it runs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="name of a bundle in bundles/, or the path of one")
    add("--dataset_dir", "--dataset-dir", metavar="DIR", required=True, help="folder of the dataset")
    add("--manifest", metavar="FILE", help="manifest of the dataset (default: the bundle's)")
    add("--split", default="val", help="cases to tune on (default: val)")
    add("--fold", metavar="K", help="fold, or named split, that the weights were validated on (default: the bundle's)")
    add("--checkpoint", metavar="FILE", help="weights (default: models/model.pt of the bundle)")
    add(
        "--set",
        metavar="ID=VALUE",
        action="append",
        default=[],
        help="override an id of the config, as monai.bundle does; may be repeated",
    )
    add(
        "--config_file",
        "--config-file",
        metavar="FILE",
        nargs="+",
        default=[],
        help="more configs, such as tta.json: paths, or names in the bundle's configs",
    )
    add(
        "--steps",
        metavar="NAMES",
        default="threshold,crf,morphology",
        help="what is tuned; the others stay as they are (default: threshold,crf,morphology)",
    )
    add("--output", metavar="FILE", type=Path, help="override file (default: configs/postprocessing.json)")
    add("--cache", metavar="DIR", type=Path, help="folder of predictions and scores (default: output/tune)")
    add("--candidates", metavar="N", type=int, default=32, help="CRFs that are tried (default: 32)")
    add("--seed", metavar="N", type=int, default=0, help="of candidates, folds and resamples (default: 0)")
    add("--resamples", metavar="N", type=int, default=10_000, help="bootstrap resamples (default: 10000)")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: the bundle's choice)")
    add("--i-know", action="store_true", help="allow a test or training split")
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Tune a bundle's post-processing on validation cases, and write the values that help as an override file."""
    import sys

    from pipeline.tuning.tune import tune

    try:
        return tune(args)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130

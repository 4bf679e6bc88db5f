"""The command ``pipeline tune``: its arguments and what it runs."""

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
        help="steps to tune; the others stay as they are (default: threshold,crf,morphology; also: temperature)",
    )
    add("--output", metavar="FILE", type=Path, help="override file (default: configs/postprocessing.json)")
    add("--cache", metavar="DIR", type=Path, help="folder of predictions and scores (default: output/BUNDLE/tune)")
    add("--candidates", metavar="N", type=int, default=32, help="number of CRFs to try (default: 32)")
    add("--seed", metavar="N", type=int, default=0, help="of candidates, folds and resamples (default: 0)")
    add("--resamples", metavar="N", type=int, default=10_000, help="bootstrap resamples (default: 10000)")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: the bundle's choice)")
    add("--i-know", action="store_true", help="allow a test or training split")
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Tune a bundle's post-processing on validation cases, and write the steps that help as an override file."""
    import json
    import sys

    from pipeline.bundle.config_files import BUNDLES, find_bundle
    from pipeline.bundle.overrides.assignments import read_assignments, read_word
    from pipeline.tuning.result import format_table, to_dict
    from pipeline.tuning.tune import tune
    from pipeline.tuning.tuning_options import Options, read_plain, read_steps

    given = {name: getattr(args, name) for name in ("dataset_dir", "manifest", "checkpoint", "split", "fold")}
    values = {name: read_plain(name, value) for name, value in given.items() if value is not None}
    if "fold" in values:
        values["fold"] = read_word(values["fold"])
    options = Options(
        values=values | read_assignments("--set", args.set),
        configs=args.config_file,
        steps=read_steps(args.steps),
        bundle=find_bundle(args.bundle, [BUNDLES]),
        allow_any_split=args.i_know,
        **{name: getattr(args, name) for name in ("candidates", "resamples", "seed", "output", "cache", "device")},
    )
    try:
        result = tune(options)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    print(json.dumps(to_dict(result), indent=2) if args.json else "\n".join(format_table(result)))
    return 0

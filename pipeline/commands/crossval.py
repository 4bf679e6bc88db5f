"""The command ``pipeline crossval``: its arguments and its run."""

import argparse
import sys
from pathlib import Path

from pipeline.commands.arguments import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="name of a bundle in bundles/, or the folder of one")
    text = "the folder that the manifest's paths are relative to (default: the bundle's)"
    add("--dataset_dir", "--dataset-dir", metavar="DIR", help=text)
    add("--manifest", metavar="FILE", help="manifest with folds, as dataset split makes them (default: the bundle's)")
    text = "folder of the results (default: crossval in that of the bundle's trainings)"
    add("-o", "--output_dir", "--output-dir", metavar="DIR", type=Path, help=text)
    add("--folds", metavar="N", type=positive, help="the first N folds of the manifest (default: all)")
    text = "time for all trainings together; each fold gets an equal share and ends after the epoch in which it is over"
    add("--hours", metavar="H", type=float, help=text)
    text = "override an id of the config; may be repeated"
    add("--set", metavar="ID=VALUE", action="append", default=[], help=text)
    text = "more configs, such as losses.json: paths, or names in the bundle's configs; may be repeated"
    add("--config_file", "--config-file", metavar="FILE", action="append", default=[], help=text)
    text = "cross-validate with each value and compare; several give all combinations"
    add("--sweep", metavar="ID=V1,V2", action="append", default=[], help=text)
    text = "run folds side by side with Ray: local, auto or an address; needs the extra cluster"
    add("--cluster", metavar="local|auto|ADDRESS", help=text)
    text = "on a cluster (default: 1 if it has any); 0.5 shares one"
    add("--gpus_per_fold", "--gpus-per-fold", metavar="N", type=float, help=text)
    text = "on a cluster (default: an equal share)"
    add("--cpus_per_fold", "--cpus-per-fold", metavar="N", type=float, help=text)
    # What no option takes is meant for the config, and is answered with --set.
    parser.set_defaults(words=[])


def run(args: argparse.Namespace) -> int:
    """Cross-validate a bundle; 1 if a fold failed, 130 or 143 if it was stopped."""
    if args.words:
        name, _, value = args.words[0].lstrip("-").partition("=")
        value = value or next(iter(args.words[1:]), "VALUE")
        args.parser.error(f"unknown argument {args.words[0]!r}; ids of the config are typed --set {name}={value}")
    from pipeline.bundle.config_files import BUNDLES, find_bundle
    from pipeline.bundle.monai_import import import_monai
    from pipeline.bundle.overrides.assignments import split_assignments
    from pipeline.commands.termination import EXIT_TERMINATED, exit_on_sigterm
    from pipeline.prediction.received_bundles import require_own

    require_own(args.bundle)
    bundle = find_bundle(args.bundle, [BUNDLES])
    import_monai()
    from pipeline.crossval.crossval_options import CrossvalOptions
    from pipeline.crossval.crossval_run import cross_validate

    places = {name: getattr(args, name) for name in ("dataset_dir", "manifest") if getattr(args, name) is not None}
    options = CrossvalOptions(
        bundle=bundle,
        configs=args.config_file,
        words={**split_assignments("--set", args.set), **places},
        sweeps=args.sweep,
        **{name: getattr(args, name) for name in ("output_dir", "folds", "hours", "cluster")},
        **{name: getattr(args, name) for name in ("gpus_per_fold", "cpus_per_fold")},
    )
    try:
        with exit_on_sigterm():
            return cross_validate(options)
    except KeyboardInterrupt:
        _say_next()
        return 130
    except SystemExit:  # of SIGTERM, whose code Ray changes
        _say_next()
        return EXIT_TERMINATED


def _say_next() -> None:
    print("stopped; the same command goes on where it stopped", file=sys.stderr)

"""The command ``pipeline dataset convert``: its arguments and its run."""

import argparse
import sys
from pathlib import Path

from pipeline.commands.arguments import add_dataset_dir, add_jobs
from pipeline.datasets.convert import LINKS, TARGETS
from pipeline.datasets.manifests.manifest_file import read_manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    add = parser.add_argument
    add("manifest", metavar="MANIFEST", type=Path, help="the dataset's manifest")
    add_dataset_dir(parser, note="; nothing is written there")
    text = "; ".join(f"{name}: {target.description}" for name, target in TARGETS.items())
    add("--to", choices=tuple(TARGETS), metavar="|".join(TARGETS), required=True, help=text)
    add("-o", "--output", metavar="OUT", type=Path, required=True, help="folder to create")
    add("--split", choices=("train", "val", "test"), help="only these cases (default: all that are on the disk)")
    text = "fold or named split that becomes the validation set (default: keep all folds)"
    add("--fold", metavar="K", help=text)
    text = "write one case per slice of a stack, instead of one volume per stack"
    add("--slices", action="store_true", help=text)
    text = "how to place files that need no conversion; a hard link shares the original's bytes (default: copy)"
    add("--link", choices=LINKS, default="copy", metavar="|".join(LINKS), help=text)
    text = "neither compare the files with the manifest nor read the result back"
    add("--no-check", action="store_true", help=text)
    add_jobs(parser)


def run(args: argparse.Namespace) -> int:
    """Write a dataset in another layout."""
    from pipeline.commands.progress import show_progress
    from pipeline.datasets.convert.conversion import convert_manifest

    notes = convert_manifest(
        read_manifest(args.manifest),
        args.dataset_dir,
        args.to,
        args.output,
        split=args.split,
        fold=args.fold,
        link=args.link,
        slices=args.slices,
        check=not args.no_check,
        jobs=args.jobs,
        progress=show_progress,
    )
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
    print(args.output)
    return 0

"""The command ``pipeline dataset split``: its arguments and what it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.datasets.manifest import read_manifest, write_manifest
from pipeline.issues import InputError


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run_split`."""
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="manifest to split")
    parser.add_argument("--folds", metavar="N", type=int, default=5, help="number of folds (default: 5)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="same seed, same folds (default: 0)")
    parser.add_argument(
        "--test-list",
        metavar="FILE",
        type=Path,
        help="ids of the test cases or subjects, one a line; without it, cases that are test stay test",
    )
    parser.add_argument(
        "--named",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="a further validation set, for fold=NAME: ids one a line, lines with # describe it",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="manifest to write (default: MANIFEST)")


def run_split(args: argparse.Namespace) -> int:
    """Divide a manifest's cases into test set and folds."""
    from pipeline.datasets.splits import add_named_split, describe_folds, read_ids, split_manifest

    manifest = read_manifest(args.manifest)
    test_ids = read_ids(args.test_list)[0] if args.test_list else None
    manifest = split_manifest(manifest, folds=args.folds, seed=args.seed, test_ids=test_ids)
    for entry in args.named:
        name, _, file = entry.partition("=")
        if not name or not file:
            raise InputError(f"--named expects NAME=FILE, got {entry!r}")
        manifest = add_named_split(manifest, name, *read_ids(Path(file)))
    path = write_manifest(manifest, args.output or args.manifest)
    print("\n".join([f"{path}:", *describe_folds(manifest)]))
    return 0

"""The command ``pipeline dataset split``: its arguments and its run."""

import argparse
import sys
from pathlib import Path

from pipeline.commands.arguments import add_overwrite
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest, write_new_manifest
from pipeline.issues import InputError

DEFAULT_FOLDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    add = parser.add_argument
    add("manifest", metavar="MANIFEST", type=Path, help="manifest to split")
    text = f"number of folds of the non-test cases, 0 for none (default: {DEFAULT_FOLDS}; 0 with a validation set)"
    add("--folds", metavar="N", type=int, help=text)
    add("--seed", metavar="S", type=int, default=0, help="same seed, same parts (default: 0)")
    test = parser.add_mutually_exclusive_group()
    text = "ids of the test cases or subjects, one per line (default: test cases stay test cases)"
    test.add_argument("--test-list", metavar="FILE", type=Path, help=text)
    test.add_argument("--test-share", metavar="SHARE", type=float, help="draw this share of the subjects as test set")
    add("--val-share", metavar="SHARE", type=float, help="draw this share as validation set, instead of folds")
    text = "the unit that is never split: a subject, a film, or a group such as an institution (default: subject)"
    units = ("subject", "sequence", "group")
    add("--by", choices=units, default="subject", metavar="|".join(units), help=text)
    text = "the dataset's folder: find near duplicates among its images and keep them together"
    add("--near", metavar="DIR", type=Path, help=text)
    text = "replace the manifest's validation set, or also its test set (default: keep both)"
    add("--resplit", choices=("val", "all"), default="", metavar="val|all", help=text)
    text = (
        "a further validation set, for fold=NAME: one id per line, lines with # describe it, lines 'exclude: ID' name"
        " cases of neither set"
    )
    add("--named", metavar="NAME=FILE", action="append", default=[], help=text)
    add("-o", "--output", metavar="FILE", type=Path, help="manifest to write (default: MANIFEST)")
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Divide a manifest's cases into test set, validation set and folds."""
    from pipeline.datasets.splits.splits import (
        add_named_split,
        describe_changes,
        describe_folds,
        read_id_list,
        read_named_split,
        split_manifest,
    )

    before = read_manifest(args.manifest)
    folds = _choose_folds(before, args)
    manifest = split_manifest(
        before,
        folds=folds,
        seed=args.seed,
        test_ids=read_id_list(args.test_list)[0] if args.test_list else None,
        test_share=args.test_share,
        val_share=args.val_share,
        by=args.by,
        together=_find_near(before, args.near),
        resplit=args.resplit,
    )
    for entry in args.named:
        name, _, file = entry.partition("=")
        if not name or not file:
            raise InputError(f"--named expects NAME=FILE, got {entry!r}")
        manifest = add_named_split(manifest, name, *read_named_split(Path(file)))
    output = args.output or args.manifest
    path = write_new_manifest(manifest, output, overwrite=args.overwrite or _is_same_file(output, args.manifest))
    for line in describe_changes(before, manifest, args.resplit):
        print(f"note: {line}", file=sys.stderr)
    print("\n".join([f"{path}:", *describe_folds(manifest)]))
    return 0


def _is_same_file(path: Path, other: Path) -> bool:
    """Return whether two paths are one existing file."""
    return path.exists() and path.samefile(other)


def _choose_folds(manifest: Manifest, args: argparse.Namespace) -> int:
    if args.folds is not None:
        return int(args.folds)
    keeps_val = not args.resplit and any(case.split == "val" for case in manifest.cases)
    return 0 if keeps_val or args.val_share is not None else DEFAULT_FOLDS


def _find_near(manifest: Manifest, root: Path | None) -> list[frozenset[str]]:
    if root is None:
        return []
    from pipeline.datasets.checks.integrity import require_dataset
    from pipeline.datasets.checks.leaks.copies import group_near_duplicates

    require_dataset(manifest, root, manifest.cases)
    found = group_near_duplicates(manifest, root)
    print(f"note: {len(found)} sets of near duplicates stay together ({sum(map(len, found))} cases)", file=sys.stderr)
    return found

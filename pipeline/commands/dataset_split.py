"""The command ``pipeline dataset split``: its arguments and what it runs."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from pipeline.issues import InputError

DEFAULT_FOLDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="manifest to split")
    parser.add_argument(
        "--folds",
        metavar="N",
        type=int,
        help=f"number of folds over the cases that are not test, 0 for none (default: {DEFAULT_FOLDS}; 0 with a"
        " validation set)",
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="same seed, same parts (default: 0)")
    test = parser.add_mutually_exclusive_group()
    test.add_argument(
        "--test-list",
        metavar="FILE",
        type=Path,
        help="ids of the test cases or subjects, one a line; without it, cases that are test stay test",
    )
    test.add_argument("--test-share", metavar="SHARE", type=float, help="draw this share of the subjects as test set")
    parser.add_argument(
        "--val-share", metavar="SHARE", type=float, help="draw this share as validation set, instead of folds"
    )
    parser.add_argument(
        "--by",
        choices=("subject", "sequence", "group"),
        default="subject",
        metavar="subject|sequence|group",
        help="what is never divided: a subject, a film, or a group such as an institution (default: subject)",
    )
    parser.add_argument(
        "--near",
        metavar="DIR",
        type=Path,
        help="the dataset's folder: near duplicates among its images are looked for and stay together",
    )
    parser.add_argument(
        "--resplit",
        choices=("val", "all"),
        default="",
        metavar="val|all",
        help="replace the manifest's validation set, or that and its test set; official sets are kept otherwise",
    )
    parser.add_argument(
        "--named",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="a further validation set, for fold=NAME: ids one a line, lines with # describe it, lines 'exclude: ID'"
        " name cases that neither train nor validate",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="manifest to write (default: MANIFEST)")


def run(args: argparse.Namespace) -> int:
    """Divide a manifest's cases into test set, validation set and folds."""
    from pipeline.datasets.splits.splits import (
        add_named_split,
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
    path = write_manifest(manifest, args.output or args.manifest)
    for line in _note_changes(before, manifest, args.resplit):
        print(f"note: {line}", file=sys.stderr)
    print("\n".join([f"{path}:", *describe_folds(manifest)]))
    return 0


def _choose_folds(manifest: Manifest, args: argparse.Namespace) -> int:
    if args.folds is not None:
        return int(args.folds)
    keeps_val = not args.resplit and any(case.split == "val" for case in manifest.cases)
    return 0 if keeps_val or args.val_share is not None else DEFAULT_FOLDS


def _find_near(manifest: Manifest, root: Path | None) -> list[frozenset[str]]:
    if root is None:
        return []
    from pipeline.datasets.checks.integrity import explain_missing_dataset
    from pipeline.datasets.checks.leaks.copies import group_near_duplicates

    problem = explain_missing_dataset(manifest, root, manifest.cases)
    if problem:
        raise InputError("; ".join(part for part in (problem.message, problem.hint) if part))
    found = group_near_duplicates(manifest, root)
    cases = sum(map(len, found))
    print(f"note: sets of near duplicates that stay together: {len(found)} ({cases} cases)", file=sys.stderr)
    return found


def _note_changes(before: Manifest, after: Manifest, resplit: str) -> Iterator[str]:
    """Say what a user may not expect: which official sets were kept, and which cases had to leave their part."""
    unknown = sum(case.subject_key().startswith("case:") for case in after.cases)
    if unknown:
        yield f"{unknown} of {len(after.cases)} cases name no subject; each counts as a subject of its own"
    official = Counter(case.split for case in before.cases if case.split != "train")
    for split, number in sorted(official.items()):
        replaced = resplit == "all" or resplit == split
        yield f"the manifest's {split} set ({number} cases) was {'dealt anew' if replaced else 'kept'}"
    if resplit:
        return
    moved = Counter(
        (old.split, new.split)
        for old, new in zip(before.cases, after.cases, strict=True)
        if old.split != new.split and new.split in official
    )
    for (old_split, new_split), number in sorted(moved.items()):
        yield f"{old_split} cases that became {new_split}, for they belong together with {new_split} cases: {number}"

"""The command ``pipeline bundle verify``: its arguments and its run."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("bundle", metavar="ZIP|FOLDER", type=Path, help="a packed bundle, or the folder it unpacked to")
    text = "audit, then predict the reference case and compare it with the sender's result"
    parser.add_argument("--reference", action="store_true", help=text)
    text = "verify the signature with the sender's public key (PEM); needs the extra sign"
    parser.add_argument("--key", metavar="PUB", type=Path, help=text)
    parser.add_argument("--allow", metavar="FILE", type=Path, help="your allow-list, see bundle audit")


def run(args: argparse.Namespace) -> int:
    """Print what was verified; 1 if a file was changed, is missing or was added."""
    from pipeline.bundle.audit import Allowances, read_allowances
    from pipeline.bundle.packing.verifying import verify_bundle

    allowances = read_allowances(args.allow, args.bundle) if args.allow else Allowances()
    found = verify_bundle(args.bundle, key=args.key, reference=args.reference, allowances=allowances)
    for finding in found.findings:
        print(finding.one_line())
    if found.errors:
        first = found.errors[0]
        number = f"{len(found.errors)} error{'s' * (len(found.errors) > 1)}"
        what = " ".join(filter(None, (first.code, first.file)))
        print(f"error: {args.bundle}: {what}: {number}; do not use it", file=sys.stderr)
        return 1
    print("".join(f"{args.bundle}: {note}\n" for note in found.notes), end="")
    return 0

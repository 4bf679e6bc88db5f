"""The command ``pipeline bundle unpack``: its arguments and its run."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("archive", metavar="ZIP", type=Path, help="a bundle's zip file")
    parser.add_argument("folder", metavar="DIR", type=Path, help="the bundle's new folder")
    text = "your allow-list, see bundle audit"
    parser.add_argument("--allow", metavar="FILE", type=Path, help=text)
    parser.add_argument("--allow-code", action="store_true", help="do not refuse code in the bundle")
    text = "unpack only what the owner of this public key (PEM) signed; needs the extra sign"
    parser.add_argument("--key", metavar="PUB", type=Path, help=text)


def run(args: argparse.Namespace) -> int:
    """Audit and unpack; 1 if the audit found an error, and then nothing is unpacked."""
    from pipeline.bundle.audit import Allowances, read_allowances
    from pipeline.bundle.packing.unpacking import unpack_bundle

    allowances = read_allowances(args.allow, args.archive) if args.allow else Allowances()
    result = unpack_bundle(args.archive, args.folder, allowances=allowances, allow_code=args.allow_code, key=args.key)
    print(result.format(), file=sys.stderr)
    if result.errors:
        hint = "nothing was unpacked; ask the sender to mend it, or allow what you have looked at: --allow FILE"
        print(f"error: {args.archive}: {result.errors[0].code}: {len(result.errors)} errors; {hint}", file=sys.stderr)
        return 1
    print(f"{args.folder}: {len(result.digests)} files")
    return 0

"""The command ``pipeline bundle format``: its arguments and its run."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument(
        "paths", metavar="BUNDLE|FILE", nargs="*", help="name or folder of a bundle, or a JSON file (default: all)"
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is not formatted")


def run(args: argparse.Namespace) -> int:
    """Write the configs with everything that fits on one line on one line."""
    from pipeline.bundle.config_files import BUNDLES, find_bundle, find_bundles
    from pipeline.bundle.formatting import format_files

    named = [Path(text) if Path(text).exists() else find_bundle(text, [BUNDLES]) for text in args.paths]
    paths = named or find_bundles(BUNDLES)
    changed = format_files(paths, check=args.check)
    state = "not formatted" if args.check else "formatted"
    print("\n".join(f"{path}: {state}" for path in changed) or "all files are formatted")
    return int(args.check and bool(changed))

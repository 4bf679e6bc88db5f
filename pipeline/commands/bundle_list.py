"""The command ``pipeline bundle list``: its arguments and its run."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument(
        "--bundles", metavar="DIR", type=Path, default=Path("bundles"), help="folder of the bundles (default: bundles)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print every bundle: data, network, weights, score, and the command that trains it."""
    from pipeline.bundle.overview import print_bundles

    return print_bundles(args.bundles, args.json)

"""The command ``pipeline bundle diff``: its arguments and its run."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("first", metavar="A", help="name, folder or zip file of a bundle")
    parser.add_argument("second", metavar="B", help="the same of the other bundle")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print what differs, by the part of the experiment; 0 even if there is something."""
    import json
    from pathlib import Path

    from pipeline.bundle.check.differences import compare_bundles, format_differences, list_differences
    from pipeline.bundle.config_files import BUNDLES, find_bundle

    first, second = (
        Path(name) if Path(name).exists() else find_bundle(name, [BUNDLES]) for name in (args.first, args.second)
    )
    found = compare_bundles(first, second)
    print(json.dumps(list_differences(found), indent=2) if args.json else format_differences(found, first, second))
    return 0

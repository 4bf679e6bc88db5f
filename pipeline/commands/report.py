"""The command ``pipeline report``: its arguments and its run."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("directory", metavar="DIR", type=Path, help="output folder of an evaluation")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the scores in an output folder."""
    from pipeline.reports.run_summary import print_summary

    return print_summary(args.directory, args.json)

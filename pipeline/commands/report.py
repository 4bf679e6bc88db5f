"""The command ``pipeline report``: its arguments and its run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

_COMPARE = "compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument(
        "directories",
        metavar="DIR",
        nargs="+",
        help="output folder of an evaluation or a training; after the word compare two or more, as NAME=DIR too, where "
        "runs of one NAME, such as seeds, are one experiment",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write a page: .html, .md or .json")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the scores in output folders, compare them, or write their page."""
    if args.output is not None:
        from pipeline.reports.run_page import check_format

        check_format(args.output)
    if args.directories[0] == _COMPARE:
        return _compare(args, args.directories[1:])
    if args.output is not None:
        from pipeline.reports.run_page import write_run_page

        print(write_run_page(args.directories, args.output))
        return 0
    return _print(args.directories, args.json)


def _print(directories: Sequence[str], as_json: bool) -> int:
    if len(directories) > 1:
        from pipeline.reports.run_summary import print_summaries

        return print_summaries(directories, as_json)
    from pipeline.reports.run_summary import print_summary

    return print_summary(Path(directories[0]), as_json)


def _compare(args: argparse.Namespace, words: Sequence[str]) -> int:
    from pipeline.reports.comparison_page import print_comparison, write_comparison

    if len(words) < 2:
        args.parser.error("compare needs two runs or more; type report compare RUN_A RUN_B")
    if args.output is not None:
        print(write_comparison(words, args.output))
        return 0
    return print_comparison(words, args.json)

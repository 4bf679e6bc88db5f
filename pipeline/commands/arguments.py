"""Arguments that several commands share."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.layouts import LAYOUTS, Layout
from pipeline.issues import format_examples


def positive(text: str) -> int:
    """Return an argument as a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is something else.

    Example:
        >>> positive("16")
        16
    """
    if not text.strip().lstrip("-+").isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}")
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {int(text)}")
    return int(text)


def add_dataset_dir(parser: Any, *, required: bool = True, note: str = "") -> None:
    """Declare ``--dataset_dir``, spelt as in configs, or with a dash."""
    text = f"the folder that the manifest's paths are relative to{note}"
    parser.add_argument("--dataset_dir", "--dataset-dir", metavar="DIR", type=Path, required=required, help=text)


def add_jobs(parser: Any) -> None:
    """Declare ``--jobs``."""
    parser.add_argument("--jobs", metavar="N", type=positive, help="threads (default: one per core)")


def add_overwrite(parser: Any) -> None:
    """Declare ``--overwrite``, without which a manifest is not written over another one."""
    parser.add_argument("--overwrite", action="store_true", help="replace a manifest that exists and differs")


def add_layout_parsers(
    parser: argparse.ArgumentParser, names: Iterable[str], examples: Callable[[Layout], Sequence[str]]
) -> Iterator[tuple[Layout, Any]]:
    """Add one parser per layout, because each has different options, and yield both."""
    layouts = parser.add_subparsers(metavar="LAYOUT", dest="layout", required=True)
    for name in names:
        text = LAYOUTS[name].description
        leaf = layouts.add_parser(name, help=text, description=text, epilog=format_examples(examples(LAYOUTS[name])))
        leaf.set_defaults(parser=leaf)
        yield LAYOUTS[name], leaf

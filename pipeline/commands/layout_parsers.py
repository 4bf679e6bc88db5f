"""Add one parser per layout, for commands whose arguments depend on the layout."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pipeline.datasets.layouts import LAYOUTS, Layout
from pipeline.issues import format_examples


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

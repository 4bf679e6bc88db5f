"""The command ``pipeline dataset phantom``: its arguments and its run."""

import argparse
from pathlib import Path

from pipeline.commands.arguments import add_layout_parsers
from pipeline.datasets.layouts import LAYOUTS, Layout


def _make_examples(layout: Layout) -> list[str]:
    line = f"dataset phantom {layout.name} phantom"
    return [line, f"{line}20 --{layout.unit} 20 --seed 1"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    drawn = [name for name, layout in LAYOUTS.items() if layout.phantom]
    for layout, leaf in add_layout_parsers(parser, drawn, _make_examples):
        leaf.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
        unit = layout.unit
        leaf.add_argument(f"--{unit}", metavar="N", type=int, default=argparse.SUPPRESS, help=f"number of {unit}")
        leaf.add_argument(
            "--size", metavar="PIXELS", type=int, default=argparse.SUPPRESS, help="length of an image's side"
        )
        leaf.add_argument("--seed", metavar="S", type=int, default=0, help="same seed, same bytes (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Write a small synthetic dataset with known truth."""
    from pipeline.datasets import phantoms

    layout = LAYOUTS[args.layout]
    given = {key: getattr(args, key) for key in (layout.unit, "size", "seed") if hasattr(args, key)}
    print(getattr(phantoms, layout.phantom)(args.out, **given))
    return 0

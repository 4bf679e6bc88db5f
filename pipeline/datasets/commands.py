"""The commands ``pipeline dataset {build,phantom}``: their arguments and what they run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.datasets.layouts import LAYOUTS, Layout, read_layout
from pipeline.datasets.manifest import write_manifest
from pipeline.issues import format_examples

T = TypeVar("T")


def _add_layouts(
    parser: argparse.ArgumentParser, names: Iterable[str], examples: Callable[[Layout], Sequence[str]]
) -> Iterator[tuple[Layout, Any]]:
    """Give every layout a parser of its own, for each has its own options."""
    layouts = parser.add_subparsers(metavar="LAYOUT", dest="layout", required=True)
    for name in names:
        text = LAYOUTS[name].description
        leaf = layouts.add_parser(name, help=text, description=text, epilog=format_examples(examples(LAYOUTS[name])))
        leaf.set_defaults(parser=leaf)
        yield LAYOUTS[name], leaf


def _build_examples(layout: Layout) -> list[str]:
    line = f"dataset build {layout.name} {layout.folder} -o {layout.name}.json"
    chosen = next((option for option in layout.options if option.choices), None)
    extra = f"--{chosen.name.replace('_', '-')} {chosen.choices[-1]}" if chosen else "--checksums SHA256SUMS"
    return [line, f"{line} {extra}"]


def _phantom_examples(layout: Layout) -> list[str]:
    line = f"dataset phantom {layout.name} phantom"
    return [line, f"{line}20 --{layout.unit} 20 --seed 1"]


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run_build`."""
    for layout, leaf in _add_layouts(parser, LAYOUTS, _build_examples):
        leaf.add_argument("root", metavar="ROOT", type=Path, help="the dataset's folder, as downloaded")
        leaf.add_argument("-o", "--output", metavar="MANIFEST", type=Path, required=True, help="manifest to write")
        leaf.add_argument(
            "--checksums",
            metavar="FILE",
            type=Path,
            help="published sha256 (sha256sum format, paths relative to ROOT): files on disk are compared with it,"
            " cases that are only in it become part of the manifest with unknown sizes",
        )
        leaf.add_argument("--skip-broken", action="store_true", help="leave out cases that cannot be read")
        leaf.add_argument("--card", metavar="FILE", type=Path, help="dataset card: tell where its counts differ")
        for option in layout.options:
            leaf.add_argument(
                "--" + option.name.replace("_", "-"),
                default=option.default,
                choices=option.choices or None,
                metavar="|".join(option.choices) or option.name.upper(),
                help=option.help + (f" (default: {option.default})" if option.default else ""),
            )


def run_build(args: argparse.Namespace) -> int:
    """Write the manifest of a downloaded dataset."""
    from pipeline.datasets.card import compare_with_card
    from pipeline.datasets.digests import read_checksums
    from pipeline.datasets.output_space import require_space
    from pipeline.datasets.summary import format_notes, format_summary

    # A line a file; files are seldom more than some ten thousand.
    require_space(args.output, 10_000_000)
    checksums = read_checksums(args.checksums) if args.checksums else None
    options = {option.name: getattr(args, option.name) for option in LAYOUTS[args.layout].options}
    draft = read_layout(
        args.layout, args.root, checksums, progress=show_progress, skip_broken=args.skip_broken, **options
    )
    notes = list(draft.notes)
    if args.card:
        notes += compare_with_card(draft.manifest, args.card)
    write_manifest(draft.manifest, args.output)
    for line in format_notes(notes):
        print(line, file=sys.stderr)
    print("\n".join([f"{args.output}:", *format_summary(draft.manifest)]))
    print(f"next: python -m pipeline dataset check {args.output} --dataset_dir {args.root} --deep")
    print(f"then: python -m pipeline dataset split {args.output} --seed 0")
    return 0


def add_phantom_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run_phantom`."""
    drawn = [name for name, layout in LAYOUTS.items() if layout.phantom]
    for layout, leaf in _add_layouts(parser, drawn, _phantom_examples):
        leaf.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
        unit = layout.unit
        leaf.add_argument(f"--{unit}", metavar="N", type=int, default=argparse.SUPPRESS, help=f"number of {unit}")
        leaf.add_argument(
            "--size", metavar="PIXELS", type=int, default=argparse.SUPPRESS, help="length of an image's side"
        )
        leaf.add_argument("--seed", metavar="S", type=int, default=0, help="same seed, same bytes (default: 0)")


def run_phantom(args: argparse.Namespace) -> int:
    """Write a small synthetic dataset with known truth."""
    from pipeline.datasets import phantoms

    layout = LAYOUTS[args.layout]
    given = {key: getattr(args, key) for key in (layout.unit, "size", "seed") if hasattr(args, key)}
    print(getattr(phantoms, layout.phantom)(args.out, **given))
    return 0


def show_progress(results: Iterable[T], total: int) -> Iterable[T]:
    """Wrap a stream of results into a progress bar on stderr, if that is a terminal."""
    from tqdm import tqdm

    # disable=None: no bar where stderr is not a terminal.
    bar: Iterable[T] = tqdm(results, total=total, unit="case", disable=None, leave=False)
    return bar

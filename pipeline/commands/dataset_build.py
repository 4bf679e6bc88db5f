"""The command ``pipeline dataset build``: its arguments and its run."""

import argparse
import shlex
import sys
from pathlib import Path

from pipeline.commands.arguments import add_layout_parsers, add_overwrite
from pipeline.commands.dataset_split import DEFAULT_FOLDS
from pipeline.commands.progress import show_progress
from pipeline.datasets.layouts import LAYOUTS, Layout, read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import require_replaceable, write_new_manifest
from pipeline.issues import show_controls


def _make_examples(layout: Layout) -> list[str]:
    line = f"dataset build {layout.name} {layout.folder} -o {layout.name}.json"
    chosen = next((option for option in layout.options if option.choices), None)
    extra = f"--{chosen.name.replace('_', '-')} {chosen.choices[-1]}" if chosen else "--checksums SHA256SUMS"
    return [line, f"{line} {extra}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    for layout, leaf in add_layout_parsers(parser, LAYOUTS, _make_examples):
        leaf.add_argument("root", metavar="ROOT", type=Path, help="the dataset's folder, as downloaded")
        leaf.add_argument("-o", "--output", metavar="MANIFEST", type=Path, required=True, help="manifest to write")
        add_overwrite(leaf)
        leaf.add_argument(
            "--checksums",
            metavar="FILE",
            type=Path,
            help="published sha256 (sha256sum format, paths relative to ROOT): files on disk are compared with it,"
            " cases that only it lists are added to the manifest with unknown sizes",
        )
        leaf.add_argument("--skip-broken", action="store_true", help="leave out cases that cannot be read")
        leaf.add_argument("--card", metavar="FILE", type=Path, help="dataset card: report where its counts differ")
        for option in layout.options:
            leaf.add_argument(
                "--" + option.name.replace("_", "-"),
                default=option.default,
                choices=option.choices or None,
                metavar="|".join(option.choices) or option.name.upper(),
                help=option.help + (f" (default: {option.default})" if option.default else ""),
            )


def run(args: argparse.Namespace) -> int:
    """Write the manifest of a downloaded dataset."""
    from pipeline.datasets.digests import read_checksums
    from pipeline.datasets.manifests.card import compare_with_card
    from pipeline.datasets.manifests.summary import format_notes, format_summary
    from pipeline.datasets.output_space import require_space

    # One line per file; datasets seldom have more than some ten thousand.
    require_space(args.output, 10_000_000)
    if not args.overwrite:
        require_replaceable(args.output)
    checksums = read_checksums(args.checksums) if args.checksums else None
    options = {option.name: getattr(args, option.name) for option in LAYOUTS[args.layout].options}
    draft = read_layout(
        args.layout, args.root, checksums, progress=show_progress, skip_broken=args.skip_broken, **options
    )
    notes = list(draft.notes)
    if args.card:
        notes += compare_with_card(draft.manifest, args.card)
    write_new_manifest(draft.manifest, args.output, overwrite=args.overwrite)
    for line in format_notes(notes):
        print(line, file=sys.stderr)
    output, root = (show_controls(shlex.quote(str(path))) for path in (args.output, args.root))
    print("\n".join([f"{show_controls(args.output)}:", *format_summary(draft.manifest)]))
    print(f"next: python -m pipeline dataset check {output} --dataset_dir {root} --deep")
    folds = _choose_folds(draft.manifest)
    if folds:
        print(f"then: python -m pipeline dataset split {output} --seed 0{folds}".rstrip())
    return 0


def _choose_folds(manifest: Manifest) -> str:
    """Return the option that divides few subjects, a space for many, "" if they cannot be divided."""
    free = {case.subject_key() for case in manifest.cases if case.split != "test"}
    if len(free) >= DEFAULT_FOLDS or any(case.split == "val" for case in manifest.cases):
        return " "
    return f" --folds {len(free)}" if len(free) > 1 else ""

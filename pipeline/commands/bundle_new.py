"""The command ``pipeline bundle new``: its arguments and its run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.issues import InputError, join_lines

if TYPE_CHECKING:
    from pipeline.bundle.dataset import UserDataset
    from pipeline.bundle.recipe import Recipe

# Repeated here, because the help must not import what reads bundles.
_BUNDLES = Path("bundles")
_TEMPLATES = ("pictures", "stacks", "volumes", "objects")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("name", metavar="NAME", help="name of the new bundle: small letters, digits, underscores")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--from",
        dest="source",
        metavar="BUNDLE",
        help="bundle whose network and settings it gets: name or folder",
    )
    start.add_argument(
        "--template", choices=_TEMPLATES, help="use the default network and settings for such data instead"
    )
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="manifest of your dataset, split")
    parser.add_argument(
        "--dataset_dir",
        "--dataset-dir",
        metavar="DIR",
        type=Path,
        help="the folder that the manifest's paths are relative to",
    )
    parser.add_argument(
        "--channels", metavar="N|NAMES", help="names of the channels: red,green,blue (default: manifest's)"
    )
    parser.add_argument(
        "--labels", metavar="NAMES", help="names of the labels from 1 on: cyst,nodule (default: manifest's)"
    )
    parser.add_argument(
        "--author", "--authors", dest="authors", metavar="NAMES", help="authors for metadata.json (default: a blank)"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=_BUNDLES, help="folder that gets the bundle (default: bundles)"
    )


def run(args: argparse.Namespace) -> int:
    """Make a bundle for a dataset from an existing bundle or from a template."""
    from pipeline.bundle.new import check_name, create_bundle
    from pipeline.bundle.questions import ask, is_interactive

    # Mistakes in the first words are reported before anything is asked.
    check_name(args.name, args.output)
    recipe = _read_recipe(args)
    dataset = _gather_dataset(args)
    authors = args.authors or (ask("authors, for the metadata", "--author NAMES", "") if is_interactive() else "")
    created = create_bundle(args.name, recipe, dataset, args.output, authors=authors)
    print(f"{created.path}: made from {recipe.origin}")
    print("\n".join(f"  {join_lines(note)}" for note in created.notes))
    print(f"manifest: {created.manifest}")
    for word, command in zip(("train", "evaluate", "report", "predict"), created.commands, strict=True):
        print(f"{word + ':':<10}{command}")
    return 0


def _read_recipe(args: argparse.Namespace) -> Recipe:
    from pipeline.bundle.config_files import find_bundle
    from pipeline.bundle.recipe import read_source, read_template

    if args.template:
        return read_template(args.template)
    try:
        source = find_bundle(args.source, (_BUNDLES, args.output))
    except InputError as error:
        raise InputError(f"--from: {error}") from None
    return read_source(source)


def _gather_dataset(args: argparse.Namespace) -> UserDataset:
    """Read the dataset; on a terminal, ask for names that neither an option nor the manifest gives."""
    from pipeline.bundle.dataset import PLACEHOLDERS, read_dataset
    from pipeline.bundle.questions import ask, is_interactive
    from pipeline.datasets.manifests.manifest_file import read_manifest

    path = args.manifest or Path(ask("manifest of your dataset", "--manifest FILE"))
    channels, labels, folder = args.channels, args.labels, args.dataset_dir
    if is_interactive():
        manifest = read_manifest(path)
        if folder is None:
            folder = Path(ask("folder that the manifest's paths are relative to", "--dataset_dir DIR"))
        if channels is None and (not manifest.channels or manifest.channels[0].startswith(PLACEHOLDERS)):
            channels = ask("names of the channels", "--channels NAMES", ",".join(manifest.channels))
        names = list(manifest.labels.values())[1:]
        if labels is None and any(name.startswith(PLACEHOLDERS) for name in names):
            labels = ask("names of the labels from 1 on", "--labels NAMES", ",".join(names))
    return read_dataset(path, folder, channels=_read_channels(channels), labels=_read_names(labels, "--labels"))


def _read_channels(text: str | None) -> int | tuple[str, ...] | None:
    return int(text) if text is not None and text.strip().isdigit() else _read_names(text, "--channels")


def _read_names(text: str | None, option: str) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(name and name.isprintable() for name in names):
        raise InputError(f"{option}: {text!r} has an empty name; expected names with commas between them")
    return names

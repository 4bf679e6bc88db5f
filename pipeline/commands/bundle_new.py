"""The commands ``pipeline bundle new``: its arguments and its run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.issues import InputError

if TYPE_CHECKING:
    from pipeline.bundle.dataset import UserDataset

# Spelt here, for the help must not wait for what reads bundles.
_BUNDLES = Path("bundles")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("name", metavar="NAME", help="name of the new bundle: small letters, digits, underscores")
    parser.add_argument(
        "--from", dest="source", metavar="SOURCE", required=True, help="name or folder of the bundle to begin with"
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
        "--output", metavar="DIR", type=Path, default=_BUNDLES, help="folder that gets the bundle (default: bundles)"
    )


def run(args: argparse.Namespace) -> int:
    """Make a bundle for a dataset from an existing bundle."""
    from pipeline.bundle.new import check_name, create_bundle, find_source

    # What is wrong with the first words is told before anything is asked.
    check_name(args.name, args.output)
    source = find_source(args.source, (_BUNDLES, args.output))
    created = create_bundle(args.name, source, _gather_dataset(args), args.output)
    print(f"{created.path}: made from {source}")
    print("\n".join(f"  {change}" for change in created.changes))
    print(f"manifest: {created.manifest}")
    for word, command in zip(("train", "evaluate", "report", "predict"), created.commands, strict=True):
        print(f"{word + ':':<10}{command}")
    return 0


def _gather_dataset(args: argparse.Namespace) -> UserDataset:
    """Read the dataset; on a terminal, ask for what neither an option nor the manifest says."""
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

"""The command ``pipeline dataset download``: its arguments and what it prints."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets.download.sources import SOURCES, Source, find_source
from pipeline.issues import InputError

if TYPE_CHECKING:
    from pipeline.datasets.download.record import DownloadRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", choices=list(SOURCES), help=f"the dataset: {', '.join(SOURCES)}"
    )
    parser.add_argument("--list", action="store_true", help="print the datasets, their sizes, terms and pages")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="folder to make (default: data/NAME)")
    parser.add_argument(
        "--keep-archives", action="store_true", help="keep what was downloaded in DIR.archives (default: remove it)"
    )
    parser.add_argument(
        "--url-base", metavar="URL", default="", help="a mirror that holds the archives under their names"
    )
    parser.add_argument(
        "--accept",
        metavar="SHA256",
        action="append",
        default=[],
        type=_sha256,
        help="also accept an archive of this digest, if its publisher has replaced it",
    )


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, got {text!r}")
    return text.lower()


def run(args: argparse.Namespace) -> int:
    """Download a dataset, or say how to.

    Returns:
        0 when the folder is complete; 1 when it has to be filled by hand, so that ``download && build`` stops there.
    """
    if args.list:
        print("\n".join(_list_sources()))
        return 0
    if args.name is None:
        raise InputError("which dataset? type its name, or --list for all")
    source = find_source(args.name)
    out = args.output or Path("data") / source.name
    if out.name in ("", ".."):
        raise InputError(f"-o expects the folder to make, got {str(out)!r}; for example -o {out / source.name}")
    if not source.archives:
        print("\n".join(_explain(source, out)))
        return 1
    from pipeline.datasets.download.acquire import Wishes, acquire

    if args.url_base and not args.url_base.startswith(("http://", "https://")):
        raise InputError(f"--url-base expects http:// or https://, got {args.url_base!r}")
    try:
        record, is_new = acquire(source, out, Wishes(args.url_base, args.keep_archives, frozenset(args.accept)))
    except KeyboardInterrupt:
        print("what has arrived stays; the same command goes on from there", file=sys.stderr)
        raise
    print("\n".join(_describe(source, out, record, is_new)))
    return 0


def _list_sources() -> list[str]:
    from pipeline.datasets.download.transfer import format_bytes

    lines = []
    for source in SOURCES.values():
        size = format_bytes(source.size) if source.size else "size not known"
        access = size if source.archives else "needs a login; prints instructions"
        lines += [f"{source.name}: {source.title}", f"  {access}; {source.licence}", f"  {source.page}"]
    return lines


def _explain(source: Source, out: Path) -> list[str]:
    root = out / source.root
    steps = [step.format(out=out, root=root, page=source.page) for step in source.instructions]
    return [
        f"{source.name} needs a login, so it has to be downloaded by hand:",
        *(f"{number}. {step}" for number, step in enumerate(steps, start=1)),
        f"licence: {source.licence}",
        *_next_commands(source, root),
    ]


def _describe(source: Source, out: Path, record: DownloadRecord, is_new: bool) -> list[str]:
    from pipeline.datasets.download.record import record_path
    from pipeline.datasets.download.transfer import format_bytes

    if not is_new:
        head = [f"{out}: complete since {record.finished}, nothing to do"]
    else:
        head = [f"{out}: {record.files} files"]
        for archive in record.archives:
            head += [
                f"  {archive.file}, {format_bytes(archive.size)}: {archive.checksum}",
                f"    sha256 {archive.sha256}",
            ]
        head += [f"record: {record_path(out)} (copied beside another folder, this command accepts the same bytes only)"]
    return [*head, f"licence: {source.licence}; cite as {source.page} asks", *_next_commands(source, out / source.root)]


def _next_commands(source: Source, root: Path) -> list[str]:
    known = Path("data_manifests") / f"{source.name}.json"
    if known.is_file():
        return [f"next: python -m pipeline dataset check {known} --dataset_dir {root}"]
    manifest = f"{source.name}.json"
    return [
        f"next: python -m pipeline dataset build {source.layout} {root} -o {manifest}",
        f"then: python -m pipeline dataset check {manifest} --dataset_dir {root} --deep",
    ]

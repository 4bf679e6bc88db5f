"""The command ``pipeline dataset download``: its arguments and its run."""

import argparse
import re
import sys
from pathlib import Path

from pipeline.datasets.download.sources import SOURCES, find_source
from pipeline.issues import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", choices=list(SOURCES), help=f"the dataset: {', '.join(SOURCES)}")
    add("--list", action="store_true", help="print the datasets, their sizes, licences and pages")
    add("-o", "--output", metavar="DIR", type=Path, help="folder to create (default: data/NAME)")
    text = "keep the archives in DIR.archives (default: remove them)"
    add("--keep-archives", action="store_true", help=text)
    text = "address of a mirror that has the archives under the same names"
    add("--url-base", metavar="URL", default="", help=text)
    text = "also accept an archive with this digest, if the publisher has replaced it"
    add("--accept", metavar="SHA256", action="append", default=[], type=_sha256, help=text)


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, got {text!r}")
    return text.lower()


def run(args: argparse.Namespace) -> int:
    """Download a dataset, or print how to.

    Returns:
        0 if the folder is complete; 1 if it has to be filled by hand, so that ``download && build`` stops there.
    """
    from pipeline.datasets.download.acquire import Wishes, acquire
    from pipeline.datasets.download.source_texts import describe_download, explain_source, list_sources

    if args.list:
        print("\n".join(list_sources()))
        return 0
    if args.name is None:
        raise InputError("no dataset given; type its name, or --list for all")
    source = find_source(args.name)
    out = args.output or Path("data") / source.name
    if out.name in ("", ".."):
        raise InputError(f"-o expects the folder to create, got {str(out)!r}; for example -o {out / source.name}")
    if not source.archives:
        print("\n".join(explain_source(source, out)))
        return 1
    if args.url_base and not args.url_base.startswith(("http://", "https://")):
        raise InputError(f"--url-base expects http:// or https://, got {args.url_base!r}")
    try:
        record, is_new = acquire(source, out, Wishes(args.url_base, args.keep_archives, frozenset(args.accept)))
    except KeyboardInterrupt:
        print("the part that has arrived is kept; the same command resumes", file=sys.stderr)
        raise
    print("\n".join(describe_download(source, out, record, is_new)))
    return 0

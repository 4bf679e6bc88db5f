"""The command ``pipeline bundle push``: its arguments and its run."""

import argparse
import shlex
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("archive", metavar="ZIP", type=Path, help="what bundle pack wrote")
    text = "hf://OWNER/REPOSITORY[/FILE.zip] (needs the extra hub), file:///FOLDER, or the path of a folder or file"
    parser.add_argument("place", metavar="PLACE", help=text)
    text = "make the repository if there is none, visible only to members of OWNER"
    parser.add_argument("--create", action="store_true", help=text)
    parser.add_argument("--public", action="store_true", help="with --create: make it visible to everyone")


def run(args: argparse.Namespace) -> int:
    """Audit, verify and push; print the place for the receiver, which never means other bytes."""
    from pipeline.bundle.sharing.place import read_place
    from pipeline.bundle.sharing.pushing import push_bundle
    from pipeline.issues import InputError

    if args.public and not args.create:
        args.parser.error("--public is for a repository that --create makes; type both")
    try:
        place, digest = read_place(args.place)
    except InputError as error:
        args.parser.error(str(error))
    pushed = push_bundle(args.archive, place, digest, create=args.create, public=args.public)
    for note in pushed.notes:
        print(note, file=sys.stderr)
    print(f"place:  {pushed.place}")
    print(f"sha256: {pushed.digest}")
    print(f"pull:   python -m pipeline bundle pull {shlex.quote(pushed.place)} {shlex.quote(pushed.bundle)}")
    return 0

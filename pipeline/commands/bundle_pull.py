"""The command ``pipeline bundle pull``: its arguments and its run."""

import argparse
import shlex
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    text = "hf://OWNER/REPOSITORY[/FILE.zip][@REVISION] (needs the extra hub), https://..., file:///..., or a path; end"
    parser.add_argument("place", metavar="PLACE", help=f"{text} it with #sha256=DIGEST")
    parser.add_argument("folder", metavar="DIR", type=Path, help="the bundle's new folder")
    text = "digest of the zip file, which the sender told you; needed unless the place has it"
    parser.add_argument("--sha256", metavar="DIGEST", help=text)
    text = "verify the signature with the sender's public key (PEM); needs the extra sign"
    parser.add_argument("--key", metavar="PUB", type=Path, help=text)
    parser.add_argument("--allow", metavar="FILE", type=Path, help="your allow-list, see bundle audit")
    parser.add_argument("--allow-code", action="store_true", help="do not refuse code in the bundle")


def run(args: argparse.Namespace) -> int:
    """Download, compare, audit and unpack; 1 if something is wrong, and then there is no folder."""
    from pipeline.bundle.audit import Allowances, read_allowances
    from pipeline.bundle.sharing.place import read_digest, read_place
    from pipeline.bundle.sharing.pulling import explain_digest, pull_bundle
    from pipeline.issues import InputError

    try:
        place, digest = read_place(args.place)
        given = read_digest(args.sha256) if args.sha256 else ""
    except InputError as error:
        args.parser.error(str(error))
    if given and digest and given != digest:
        args.parser.error(f"--sha256 {given} and the place's {digest} differ; ask the sender which one is right")
    if not (given or digest):
        args.parser.error(explain_digest(place))
    allowances = read_allowances(args.allow, args.folder) if args.allow else Allowances()
    pulled = pull_bundle(
        place,
        args.folder,
        digest=given or digest,
        key=args.key,
        allowances=allowances,
        allow_code=args.allow_code,
    )
    print(pulled.audit.format(), file=sys.stderr)
    if pulled.audit.errors:
        errors = pulled.audit.errors
        hint = "nothing was kept; ask the sender to mend it, or allow what you have looked at: --allow FILE"
        print(f"error: {pulled.place}: {errors[0].code}: {len(errors)} errors; {hint}", file=sys.stderr)
        return 1
    _print_next(args, f"{pulled.place}", given or digest, len(pulled.audit.digests))
    return 0


def _print_next(args: argparse.Namespace, place: str, digest: str, files: int) -> None:
    folder = shlex.quote(str(args.folder))
    options = {"--key": args.key, "--allow": args.allow}
    more = "".join(f" {option} {shlex.quote(str(value))}" for option, value in options.items() if value)
    reference = " --reference" if (args.folder / "reference").is_dir() else ""
    print(f"{args.folder}: {files} files from {place}")
    print(f"sha256: {digest}" + (f", signed by the owner of {args.key}" if args.key else ""))
    print(f"verify: python -m pipeline bundle verify {folder}{reference}{more}")
    if (args.folder / "configs" / "inference.json").is_file():
        print(f"run:    python -m pipeline bundle run {folder} inference --dry-run{more}")

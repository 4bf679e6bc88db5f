"""The command ``pipeline bundle pack``: its arguments and its run."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("bundle", metavar="BUNDLE", help="name or folder of a bundle")
    parser.add_argument("-o", "--output", metavar="ZIP", type=Path, required=True, help="zip file to write")
    text = "take this manifest along; it names files and subjects of the dataset"
    parser.add_argument("--manifest", metavar="FILE", type=Path, help=text)
    text = "sign with this private key (elliptic curve, PEM); needs the extra sign"
    parser.add_argument("--sign", metavar="KEY", type=Path, help=text)


def run(args: argparse.Namespace) -> int:
    """Pack the bundle and print the digest of the zip file, which the sender tells the receiver."""
    from pipeline.atomic import format_bytes
    from pipeline.bundle.config_files import BUNDLES, find_bundle
    from pipeline.bundle.packing.assembly import pack_bundle

    bundle = find_bundle(args.bundle, [BUNDLES])
    packed = pack_bundle(bundle, args.output, manifest=args.manifest, key=args.sign)
    if packed.left_out:
        print(f"not packed: {', '.join(packed.left_out)}", file=sys.stderr)
    if packed.obstacle:
        print(f"without a reference case: {packed.obstacle}", file=sys.stderr)
    print(f"{packed.archive}: {packed.files} files, {format_bytes(packed.size)}, sha256 {packed.digest}")
    return 0

"""The command ``pipeline bundle audit``: its arguments and its run."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("bundle", metavar="BUNDLE|ZIP", help="name or folder of a bundle, or a zip file")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, which code hosts and editors show")
    text = "your allow-list, a file outside of the bundle: names of classes, findings by code, file and SHA-256"
    parser.add_argument("--allow", metavar="FILE", type=Path, help=text)
    text = "do not refuse code in the bundle, but list what it imports and calls"
    parser.add_argument("--allow-code", action="store_true", help=text)
    text = "also load the weights, in a process of its own with limits"
    parser.add_argument("--load-weights", action="store_true", help=text)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 if there is an error."""
    from pipeline.bundle.audit import Allowances, audit_bundle, read_allowances
    from pipeline.bundle.config_files import BUNDLES, find_bundle

    path = Path(args.bundle)
    if not path.exists() and path.suffix != ".zip":
        path = find_bundle(args.bundle, [BUNDLES])
    allowances = read_allowances(args.allow, path) if args.allow else Allowances()
    result = audit_bundle(path, allowances=allowances, allow_code=args.allow_code, load_weights=args.load_weights)
    if args.sarif or args.json:
        import json

        from pipeline.bundle.audit.sarif import to_sarif

        print(json.dumps(to_sarif(result) if args.sarif else result.to_dict(), indent=1))
    else:
        print(result.format())
    return int(bool(result.errors))
